"""Stores of terabytes from sparse files: they open, verify, and give the rows that were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import embstore
from tools.sparse_store import make_sparse_store


@pytest.mark.parametrize("strategy", ["mod", "div"])
@pytest.mark.parametrize(
    ("rows", "row_shape", "dtype", "partitions", "chunk_rows"),
    [
        (100, (3,), "float32", 1, 8),
        (100, (2, 2), "bfloat16", 7, 4),
        (1000, (), "int16", 3, None),
        (5, (4,), "float32", 8, 2),  # Some partitions are empty.
    ],
)
def test_a_sparse_store_is_that_of_a_build(
    tmp_path, strategy, rows, row_shape, dtype, partitions, chunk_rows
):
    dtype = embstore.dtypes.as_dtype(dtype)
    ids = np.array([rows - 1, 0, rows // 2])
    values = np.arange(1, 1 + len(ids) * int(np.prod(row_shape))).astype(dtype)
    values = values.reshape(len(ids), *row_shape)
    expected = np.zeros((rows, *row_shape), dtype)
    expected[ids] = values
    kind = {"partitions": partitions, "strategy": strategy, "chunk_rows": chunk_rows}
    make_sparse_store(tmp_path / "sparse", ids, values, rows=rows, **kind)
    with embstore.StoreWriter(
        tmp_path / "built", row_shape=row_shape, dtype=dtype, rows=rows, **kind
    ) as writer:
        writer.write(expected)
    assert embstore.verify(tmp_path / "sparse").ok
    with embstore.open(tmp_path / "sparse", verify="full") as store:
        np.testing.assert_array_equal(np.asarray(store), expected)
    assert files_of(tmp_path / "sparse") == files_of(tmp_path / "built")


def test_terabytes_take_little_disk(tmp_path):
    rows = 10**12 // 1200
    ids = np.array([0, rows // 3, rows - 1])
    values = np.random.default_rng(0).random((3, 300), np.float32)
    make_sparse_store(tmp_path / "large", ids, values, rows=rows, partitions=4, chunk_rows=1 << 20)
    with embstore.open(tmp_path / "large") as store:
        assert store.nbytes > 9.9e11
        np.testing.assert_array_equal(store[ids], values)
        assert not store[ids[:2] + 1].any()
    files = (tmp_path / "large").rglob("*")
    assert sum(file.stat().st_blocks for file in files) * 512 < 50 << 20


def files_of(store: Path) -> dict[str, bytes]:
    """Return the content of each file of a store but its manifest, by its path inside it."""
    names = (file.relative_to(store).as_posix() for file in store.rglob("*") if file.is_file())
    return {name: (store / name).read_bytes() for name in names if "/" in name}
