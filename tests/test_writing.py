"""The files of `StoreWriter`, against zarr's own files and a table in RAM."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BytesCodec, Crc32cCodec

import embstore
from embstore.formats.own import spec
from embstore.formats.own.manifest import read_manifest
from embstore.settle import as_size
from embstore.writing.disk import files
from embstore.writing.disk.background import Background
from embstore.writing.memory import MIN_PIECE_BYTES, plan_memory
from tests.campaigns.faults import Failer, Kind, Step, steps

# With so little memory for one partition, a piece has the smallest size.
LITTLE = 64 << 10


def table(rows: int, row_shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    count = rows * int(np.prod(row_shape))
    return (np.arange(count) * 7 % 251).reshape(rows, *row_shape).astype(dtype)


def files_of(path: Path) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("strategy", ["mod", "div"])
@pytest.mark.parametrize(
    ("rows", "row_shape", "dtype", "chunk_rows"),
    [
        (1000, (3,), "float32", 64),
        (1000, (), "int8", 128),
        (77, (2, 5), "float16", 8),
        (300, (700,), "float64", 32),
        (2, (3,), "uint8", 4),
        (0, (3,), "int64", 4),
    ],
)
def test_files_equal_those_of_zarr(tmp_path, strategy, rows, row_shape, dtype, chunk_rows):
    path = tmp_path / "t.embstore"
    data = table(rows, row_shape, dtype)
    words = [f"word {i}" for i in range(rows)] if rows else None
    with embstore.StoreWriter(
        path,
        row_shape=row_shape,
        dtype=dtype,
        rows=rows,
        partitions=3,
        strategy=strategy,
        chunk_rows=chunk_rows,
        memory_limit=3 * LITTLE,
    ) as writer:
        writer.write(data, words)
    for array in read_manifest(path).arrays():
        stored = zarr.open_array(path / array.name, mode="r")
        again = zarr.create_array(
            tmp_path / "again" / array.name,
            shape=stored.shape,
            chunks=stored.chunks,
            dtype=stored.dtype,
            filters=None,
            serializer=BytesCodec(endian="little" if stored.dtype.itemsize > 1 else None),
            compressors=[Crc32cCodec()],
            fill_value=0,
            zarr_format=3,
            config={"write_empty_chunks": True},
            attributes=stored.attrs.asdict(),
        )
        again[...] = stored[...]
        ours, theirs = files_of(path / array.name), files_of(tmp_path / "again" / array.name)
        assert json.loads(ours.pop("zarr.json")) == json.loads(theirs.pop("zarr.json"))
        assert ours == theirs
    assert embstore.verify(path).ok
    for partition, part in zarr.open_group(path / spec.PARTITIONS, mode="r").arrays():
        ids = read_manifest(path).numbering.ids_of(int(partition))
        assert np.array_equal(part[...], data[list(ids)])


@given(
    data=st.data(),
    row_shape=st.sampled_from([(), (3,), (1000,), (1025,), (700, 5)]),
    dtype=st.sampled_from(["int8", "float16", "float64"]),
    partitions=st.integers(1, 4),
    chunk_rows=st.sampled_from([None, 1, 4, 64]),
    known=st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_batches_of_any_size(
    tmp_path_factory, data, row_shape, dtype, partitions, chunk_rows, known
):
    sizes = data.draw(st.lists(st.integers(0, 30), max_size=6))
    rows = table(sum(sizes), row_shape, dtype)
    path = tmp_path_factory.mktemp("batches") / "t.embstore"
    with embstore.StoreWriter(
        path,
        row_shape=row_shape,
        dtype=dtype,
        partitions=partitions,
        rows=len(rows) if known else None,
        chunk_rows=chunk_rows,
        memory_limit=partitions * LITTLE,
    ) as writer:
        start = 0
        for size in sizes:
            batch = rows[start : start + size].copy()
            if data.draw(st.booleans()):
                batch = np.asfortranarray(batch)
            copy = data.draw(st.booleans())
            writer.write(batch, copy=copy)
            if copy:
                batch[...] = 0  # The caller may change it.
            start += size
    with embstore.open(path) as store:
        assert np.array_equal(store[:], rows)
    assert embstore.verify(path).ok


def test_more_partitions_than_open_files(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_OPEN_FILES", 2)
    rows = table(500, (300,), "float64")
    path = tmp_path / "t.embstore"
    with embstore.StoreWriter(
        path,
        row_shape=(300,),
        dtype="float64",
        partitions=7,
        chunk_rows=64,
        memory_limit=7 * LITTLE,
    ) as writer:
        writer.write(rows)
    assert np.array_equal(embstore.open(path)[:], rows)
    assert embstore.verify(path).ok


def test_single_rows(tmp_path):
    rows = table(5000, (100,), "float32")
    words = [f"w{i}" for i in range(len(rows))]
    path = tmp_path / "t.embstore"
    with embstore.StoreWriter(path, row_shape=(100,), dtype="float32") as writer:
        writer.write((row for row in rows[:4000]), (word for word in words[:4000]))
        writer.write(iter(rows[4000:].tolist()), words[4000:])
    store = embstore.open(path)
    assert np.array_equal(store[:], rows)
    assert store.words(np.arange(5000)) == words


@pytest.mark.parametrize("count", [9, 11])
def test_single_rows_and_too_few_or_many_words(tmp_path, count):
    with (
        pytest.raises(ValueError, match=r"words"),
        embstore.StoreWriter(tmp_path / "t.embstore", row_shape=(2,), dtype="int8") as writer,
    ):
        writer.write(iter(np.zeros((10, 2), int)), map(str, range(count)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk_rows": 3}, "chunk_rows must be a power of two, not 3"),
        ({"chunk_rows": 0}, "chunk_rows must be 1 or more, not 0"),
        ({"chunk_rows": 1 << 32}, "chunk_rows must be at most 2147483648 for rows of 8 bytes, so"),
        ({"chunk_rows": 1 << 45}, "chunk has at most 16GiB, not 35184372088832"),
        ({"partitions": 0}, "partitions must be from 1 to 65536, not 0"),
        ({"partitions": 65537}, "partitions must be from 1 to 65536, not 65537"),
        ({"partitions": True}, "partitions must be an integer, not True (bool)"),
        ({"rows": -1}, "rows must be from 0 to 1099511627775, not -1"),
        ({"rows": 1.5}, "rows must be an integer, not 1.5 (float)"),
        ({"estimated_rows": -1}, "estimated_rows must be from 0 to 1099511627775, not -1"),
        ({"row_shape": (3, -1)}, "row_shape[1] must be 0 or more, not -1"),
        ({"row_shape": 3}, "row_shape must be a tuple of integers such as (300,), not 3 (int)"),
        ({"strategy": "hash"}, 'strategy must be "mod" or "div", not \'hash\''),
        ({"strategy": "div"}, 'strategy="div" needs the number of rows in advance; give rows='),
        ({"on_duplicate": "last"}, 'on_duplicate must be "error" or "first", not \'last\''),
        ({"on_overflow": "wrap"}, 'on_overflow must be "error" or "inf", not \'wrap\''),
        ({"memory_limit": "much"}, "memory_limit must be a size such as 2GiB, 500MB or 4096"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path, options, message):
    arguments = {"row_shape": (2,), "dtype": "float32"} | options
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        embstore.StoreWriter(tmp_path / "t.embstore", **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("path", "kind"), [(b"t", TypeError), ("", ValueError), (3, TypeError)])
def test_wrong_paths_are_refused(path, kind):
    with pytest.raises(kind, match=r"^path must be a "):
        embstore.StoreWriter(path, row_shape=(2,), dtype="float32")


@pytest.mark.parametrize("partitions", [20_000, 65_536])
def test_too_small_memory_limit_is_refused_at_once(tmp_path, partitions):
    with pytest.raises(ValueError, match="need a memory_limit of at least") as error:
        embstore.StoreWriter(
            tmp_path / "t.embstore", row_shape=(300,), dtype="float32", partitions=partitions
        )
    assert list(tmp_path.iterdir()) == []
    need = as_size(str(error.value).split("at least ")[1].split(",")[0], "memory_limit")
    assert plan_memory(need, partitions).piece_bytes == MIN_PIECE_BYTES


def test_number_of_partitions_follows_from_the_size(tmp_path, monkeypatch):
    def count(**options: Any) -> int:
        path = tmp_path / "t.embstore"
        with embstore.StoreWriter(
            path, row_shape=(10,), dtype="int8", overwrite=True, **options
        ) as writer:
            writer.write(np.zeros((1000, 10), int))
        return embstore.open(path).partition_count

    assert count() == count(rows=1000) == 1
    monkeypatch.setattr(spec, "MAX_PARTITION_BYTES", 3000)
    assert count(rows=1000) == 4  # 10,000 bytes.
    assert count(estimated_rows=700) == 4
    assert count(rows=1000, partitions=3) == 3
    assert count() == 1


def test_first_rows_are_held_until_partitions_are_chosen(tmp_path):
    # An eighth of the limit is 640 rows of 100 bytes; rows beyond it are written.
    def writes_after(rows: int, estimated: int | None) -> bool:
        with embstore.StoreWriter(
            tmp_path / f"{rows} {estimated}",
            row_shape=(100,),
            dtype="int8",
            estimated_rows=estimated,
            memory_limit=512_000,
        ) as writer:
            writer.write(np.ones((rows, 100), np.int8))
            return any(tmp_path.glob(f".{rows} {estimated}.building/partitions/*"))

    assert not writes_after(640, None)
    assert writes_after(641, None)
    assert not writes_after(1, 640)
    assert writes_after(1, 641)


def write_five_batches(path: Path) -> None:
    with embstore.StoreWriter(
        path, row_shape=(300,), dtype="float32", partitions=2, memory_limit=2 * LITTLE
    ) as writer:
        for batch in range(5):
            writer.write(np.ones((100, 300)), [f"{batch} {i}" for i in range(100)])


KINDS: list[Kind] = ["mkdir", "create", "write", "flush"]


@pytest.mark.parametrize(
    ("kind", "number"), [*((kind, n) for kind in KINDS for n in (1, 2, 5)), ("rename", 1)]
)
def test_failed_step_ends_the_build(tmp_path: Path, kind: Kind, number: int):
    """A failed flush is not tried again, either: a second one may not report the error."""
    seen: list[Step] = []

    def is_picked(step: Step) -> bool:
        seen.extend([step] if step.kind == kind else [])
        return len(seen) == number

    failer = Failer(is_picked)
    with steps(failer), pytest.raises(OSError, match="Input/output error"):
        write_five_batches(tmp_path / "t.embstore")
    assert list(tmp_path.iterdir()) == []
    assert failer.failed is not None
    failed = (failer.failed.kind, failer.failed.path, failer.failed.offset)
    assert failed not in [(step.kind, step.path, step.offset) for step in failer.after]


def test_background_ends_with_the_first_error():
    done = []
    background = Background(100)

    def fail() -> None:
        raise OSError(errno.EIO, "broken")

    background.write(lambda: done.append(1), 50)
    background.write(fail, 10)
    # It does not fit beside the failing work, so it waits, or raises the error at once.
    with pytest.raises(OSError, match="broken"):
        background.write(lambda: done.append(2), 91)
    with pytest.raises(OSError, match="broken"):
        background.finish()
    background.close()
    assert done == [1]
