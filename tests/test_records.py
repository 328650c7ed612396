"""Records of extents at any byte of any file, by both readers, against NumPy."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embstore.encodings.plain import Plain
from embstore.errors import StoreCorruptError
from embstore.reading.files import ForeignFiles
from embstore.reading.mapped import MappedRecords
from embstore.reading.ranged import RangedRecords
from embstore.table.extents import Column, Extent


def cached_records(*some: Any) -> MappedRecords:
    """Return records with a row cache that has learned a little."""
    records = MappedRecords(*some, cache_rows=5)
    assert records.cache is not None
    records.cache.warm(np.arange(0, some[0].rows, 3), None)
    return records


READERS = [MappedRecords, RangedRecords, cached_records]


@st.composite
def columns(draw):
    """Draw a column of 1 to 5 extents in 1 to 3 files, at any byte."""
    record_bytes = draw(st.integers(1, 5000))
    extents: list[Extent] = []
    ends: dict[str, int] = {}
    for _ in range(draw(st.integers(1, 5))):
        name = draw(st.sampled_from("abc"))
        rows = draw(st.integers(0, max(30_000 // record_bytes, 2)))
        offset = ends.get(name, 0) + draw(st.one_of(st.integers(0, 9000), st.just(4096)))
        extents.append(Extent(name, offset, rows))
        ends[name] = offset + rows * record_bytes
    order = draw(st.permutations(extents))
    return Column(tuple(order), record_bytes), ends


@given(drawn=columns(), data=st.data())
@settings(max_examples=300)
@pytest.mark.parametrize("reader", READERS)
def test_records_are_the_bytes_of_the_files(reader, drawn, data):
    column, ends = drawn
    rows, size = column.rows, column.record_bytes
    generator = np.random.default_rng(rows * size)
    files = {name: generator.bytes(end) for name, end in ends.items()}
    expected = np.concatenate(
        [
            np.frombuffer(files[e.file], np.uint8, e.rows * size, e.offset).reshape(e.rows, size)
            for e in column.extents
        ]
    )
    asked = np.array(data.draw(st.lists(st.integers(0, max(rows - 1, 0)), max_size=90)), np.int64)
    asked = asked[: rows * 90]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        records = reader(
            column, ForeignFiles(Path(folder), tuple(files)), np.dtype(np.uint8), (size,)
        )
        out = np.full((len(asked), size), 7, np.uint8)
        records.take(asked, out)
        assert np.array_equal(out, expected[asked])
        for work in records.ahead.fetch(asked):
            work()
        for row in asked[:3].tolist():
            assert np.array_equal(records.take_one(row), expected[row])
        seen = np.zeros(rows, int)

        def visit(some: range, block: np.ndarray) -> None:
            assert np.array_equal(block, expected[some.start : some.stop])
            assert not block.flags.writeable
            seen[some.start : some.stop] += 1

        first = data.draw(st.integers(0, rows))
        stop = data.draw(st.integers(first, rows))
        records.scan(first, stop, visit)
        assert seen[first:stop].all()
        assert seen.sum() == stop - first


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("offset", [0, 1, 2, 3, 4, 6, 8, 12, 4095, 4096, 4097])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "complex128"])
@pytest.mark.parametrize("row_shape", [(), (3,), (2, 5)])
def test_rows_of_any_dtype_at_any_misalignment(tmp_path, reader, offset, dtype, row_shape):
    encoding = Plain(np.dtype(dtype), row_shape)
    data = np.random.default_rng(offset).bytes(offset + 3000 * encoding.record_bytes)
    (tmp_path / "f").write_bytes(data)
    expected = np.frombuffer(data[offset:], dtype).reshape(3000, *row_shape)
    column = Column((Extent("f", offset, 3000),), encoding.record_bytes)
    records = reader(column, ForeignFiles(tmp_path, ("f",)), encoding.dtype, row_shape)
    rows = np.random.default_rng(1).integers(0, 3000, 2000)
    out = np.empty((2000, *row_shape), dtype)
    records.take(rows, out)
    assert out.tobytes() == expected[rows].tobytes()
    assert records.take_one(2999).tobytes() == expected[2999].tobytes()
    blocks: dict[int, bytes] = {}

    def visit(some: range, block: np.ndarray) -> None:
        numbers = encoding.view(block)
        assert numbers.flags.aligned
        blocks[some.start] = numbers.tobytes()

    records.scan(0, 3000, visit)
    assert b"".join(blocks[start] for start in sorted(blocks)) == expected.tobytes()


@pytest.mark.parametrize("reader", READERS)
def test_short_or_missing_file_is_refused(tmp_path, reader):
    (tmp_path / "f").write_bytes(bytes(99))
    column = Column((Extent("f", 4, 10),), 10)
    files = ForeignFiles(tmp_path, ("f",))
    with pytest.raises(StoreCorruptError, match=r"f (has 99 bytes|ends 5 bytes early)"):
        reader(column, files, np.dtype(np.uint8), (10,)).take(
            np.array([9]), np.empty((1, 10), np.uint8)
        )
    (tmp_path / "f").unlink()
    with pytest.raises((StoreCorruptError, FileNotFoundError)):
        reader(column, files, np.dtype(np.uint8), (10,)).take(
            np.array([9]), np.empty((1, 10), np.uint8)
        )
