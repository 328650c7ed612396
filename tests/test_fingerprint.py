"""Fingerprints: equal for equal rows, words and partitions, and different otherwise."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TABLE = np.arange(44, dtype=np.float32).reshape(11, 4)
WORDS = [f"w{number}" for number in range(11)]


def write_store(
    path: Path, table: NDArray[Any] = TABLE, words: list[str] | None = WORDS, **settings: Any
) -> str:
    options: dict[str, Any] = {
        "rows": len(table),
        "row_shape": table.shape[1:],
        "dtype": table.dtype,
    }
    options |= {"partitions": 2, "unk": "w3"} | settings
    with embstore.StoreWriter(path, **options) as writer:
        writer.write(table, words)
    with embstore.open(path) as store:
        return store.fingerprint()


def test_fingerprint_is_stable(tmp_path):
    # Checkpoints of models hold the fingerprint: another value would make them refuse their store.
    assert write_store(tmp_path / "t") == "926480e7f96d8a15b510fa7543aca34b"


def test_copies_have_the_same_fingerprint(tmp_path):
    found = write_store(tmp_path / "a")
    assert write_store(tmp_path / "b") == found
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    (tmp_path / "a").rename(tmp_path / "moved")
    for name in ("copy", "moved"):
        for reader in ("mapped", "chunked"):
            with embstore.open(tmp_path / name, reader=reader) as store:
                assert store.fingerprint() == found


def changed(row: int) -> NDArray[np.float32]:
    table = TABLE.copy()
    table[row, 0] += 1
    return table


@pytest.mark.parametrize(
    "difference",
    [
        *({"table": changed(0)}, {"table": changed(10)}, {"table": TABLE.view(np.int32)}),
        *({"table": TABLE.reshape(11, 2, 2)}, {"words": [*WORDS[:10], "W10"]}, {"unk": "w4"}),
        *({"partitions": 3}, {"strategy": "div"}, {"unk": None, "words": None}),
    ],
)
def test_other_tables_have_other_fingerprints(tmp_path, difference):
    assert write_store(tmp_path / "a", **difference) != write_store(tmp_path / "b")


def test_fingerprint_of_a_replaced_store(tmp_path):
    write_store(tmp_path / "t")
    with embstore.open(tmp_path / "t") as store:
        write_store(tmp_path / "t", changed(0), overwrite=True)
        with pytest.raises(embstore.StoreNotFoundError, match="was replaced or removed since"):
            store.fingerprint()
    with pytest.raises(embstore.StoreClosedError):
        store.fingerprint()
