"""Arrays that are stored in chunks: each chunk is decoded once."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from embstore import sources
from embstore.sources.arrays import chunks
from embstore.sources.arrays.chunks import ChunkedRows
from tests.helpers.sources import assert_same, read

ROWS = np.arange(600, dtype=np.float32).reshape(100, 6)


class Chunked:
    """An array whose slices decode every chunk that they touch; counts these."""

    def __init__(self, array: Any, shape: tuple[Any, ...], attribute: str = "chunks") -> None:
        self.shape, self.dtype = array.shape, array.dtype
        self._array = array
        self._bounds = [
            [0, *itertools.accumulate(size)]
            if isinstance(size, tuple)
            else range(0, n + size, size)
            for size, n in zip(shape, array.shape, strict=True)
        ]
        self.decoded: dict[tuple[int, ...], int] = {}
        self.largest = 0
        setattr(self, attribute, shape)

    def __getitem__(self, rows: slice) -> Any:
        start, stop, step = rows.indices(self.shape[0])
        assert step == 1
        self.largest = max(self.largest, stop - start)
        first, *others = self._bounds
        touched = [at for at in range(len(first) - 1) if first[at] < stop and first[at + 1] > start]
        for chunk in itertools.product(touched, *(range(len(one) - 1) for one in others)):
            self.decoded[chunk] = self.decoded.get(chunk, 0) + 1
        return self._array[rows]

    @property
    def most(self) -> int:
        """How often the chunk was decoded that was decoded most often."""
        return max(self.decoded.values())


@pytest.fixture(params=[1, 100, 240, 4 << 20])
def batch_bytes(request, monkeypatch):
    monkeypatch.setattr(sources, "BATCH_BYTES", request.param)


LAYOUTS: list[tuple[Any, ...]] = [
    (1, 6),
    (7, 6),
    (10, 6),
    (100, 6),
    (1000, 6),
    (7, 1),
    (100, 2),
    ((1, 9, 40, 50), (6,)),
    ((100,), (3, 3)),
    ((30, 0, 70), (6,)),
]


@pytest.mark.usefixtures("batch_bytes")
@pytest.mark.parametrize("shape", LAYOUTS)
def test_each_chunk_is_decoded_once(shape):
    array = Chunked(ROWS, shape)
    assert_same(read(array)[1], ROWS)
    assert array.most == 1
    with_words = Chunked(ROWS, shape)
    words, rows = read(with_words, words=map(str, range(100)))
    assert words == [str(i) for i in range(100)]
    assert_same(rows, ROWS)
    assert with_words.most == 1


@pytest.mark.usefixtures("batch_bytes")
@pytest.mark.parametrize("strategy", ["mod", "div"])
def test_each_chunk_of_partitions_is_decoded_once(strategy):
    parts = [ROWS[::2], ROWS[1::2]] if strategy == "mod" else [ROWS[:50], ROWS[50:]]
    arrays = [Chunked(part, (17, 6)) for part in parts]
    assert_same(read(arrays, partition_strategy=strategy)[1], ROWS)
    assert [array.most for array in arrays] == [1, 1]


@pytest.mark.usefixtures("batch_bytes")
def test_each_chunk_of_arrays_in_a_list_is_decoded_once():
    arrays = [Chunked(ROWS[:40], (17, 6)), Chunked(ROWS[40:], (9, 6))]
    assert_same(read(arrays)[1], ROWS)
    assert [array.most for array in arrays] == [1, 1]


@pytest.mark.parametrize("attribute", ["chunks", "shards", "chunking", "chunk_layout"])
def test_where_libraries_say_their_chunks(monkeypatch, attribute):
    monkeypatch.setattr(sources, "BATCH_BYTES", 100)
    array: Any = Chunked(ROWS, (50, 6), attribute)
    if attribute == "shards":
        array.chunks = (5, 6)
    elif attribute == "chunking":
        array.chunking = lambda: [50, 6]
    elif attribute == "chunk_layout":
        array.chunk_layout = type("Layout", (), {"read_chunk": Chunked(ROWS[:50], (50, 6))})
    assert_same(read(array)[1], ROWS)
    assert array.most == 1


def test_arrays_without_chunks_are_sliced_batch_by_batch(monkeypatch):
    monkeypatch.setattr(sources, "BATCH_BYTES", 240)
    for chunks_ in (None, "contiguous", ()):
        array: Any = Chunked(ROWS, (1, 6))
        array.chunks = chunks_
        assert_same(read(array)[1], ROWS)
        assert array.largest == 10


def test_only_the_chunks_of_a_limit_are_decoded(monkeypatch):
    monkeypatch.setattr(sources, "BATCH_BYTES", 240)
    array = Chunked(ROWS, (25, 6))
    assert_same(read(array, limit=30)[1], ROWS[:30])
    assert list(array.decoded) == [(0, 0), (1, 0)]


def test_narrow_chunks_are_held_up_to_a_limit(monkeypatch):
    """All rows of a column in one chunk would else be all of the table in memory."""
    monkeypatch.setattr(chunks, "MAX_HELD_BYTES", 25 * 24)
    monkeypatch.setattr(sources, "BATCH_BYTES", 24)
    array = Chunked(ROWS, (100, 1))
    assert_same(read(array)[1], ROWS)
    assert (array.largest, array.most) == (25, 4)
    wide = Chunked(ROWS, (100, 6))  # It has to be decoded as a whole in any case.
    assert_same(read(wide)[1], ROWS)
    assert wide.most == 1


@settings(max_examples=200, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    slices=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=9),
)
def test_any_slices_are_those_of_the_array(sizes, slices):
    """Also when rows are not read in order."""
    array = np.arange(sum(sizes))
    rows = ChunkedRows(array, [0, *itertools.accumulate(sizes)])
    for start, stop in slices:
        np.testing.assert_array_equal(rows[start:stop], array[start:stop])


def test_zarr(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BATCH_BYTES", 240)
    layouts: list[Any] = [
        {"chunks": (30, 6)},
        {"chunks": (30, 4)},
        {"chunks": (5, 6), "shards": (50, 6)},
    ]
    for number, options in enumerate(layouts):
        array = zarr.create_array(tmp_path / f"{number}.zarr", data=ROWS, **options)
        assert_same(read(array)[1], ROWS)
    store = embstore.build(array, tmp_path / "s", strategy="div", partitions=3)
    np.testing.assert_array_equal(store[:], ROWS)
    v2 = zarr.create_array(tmp_path / "v2.zarr", data=ROWS, chunks=(30, 6), zarr_format=2)
    assert_same(read(v2)[1], ROWS)


def test_a_zarr_chunk_that_is_damaged_is_named(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", data=ROWS, chunks=(30, 6))
    (tmp_path / "a.zarr/c/1/0").write_bytes(b"damaged")
    with pytest.raises(embstore.errors.SourceError, match="Array cannot be read as numbers"):
        embstore.build(array, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_hdf5(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    monkeypatch.setattr(sources, "BATCH_BYTES", 240)
    with h5py.File(tmp_path / "t.h5", "w") as file:
        for name, options in {"a": {}, "b": {"chunks": (30, 6)}, "c": {"chunks": (7, 2)}}.items():
            assert_same(read(file.create_dataset(name, data=ROWS, **options))[1], ROWS)


def test_dask(monkeypatch):
    array = pytest.importorskip("dask.array")
    monkeypatch.setattr(sources, "BATCH_BYTES", 240)
    computed = []

    def block(piece: Any, block_info: Any = None) -> Any:
        computed.append(block_info[0]["chunk-location"])
        return piece

    for layout in (((30, 30, 40), (6,)), ((10,) * 10, (3, 3)), ((100,), (6,))):
        source = array.from_array(ROWS, layout).map_blocks(block, dtype=ROWS.dtype)
        computed.clear()
        assert_same(read(source)[1], ROWS)
        assert len(computed) == len(set(computed)) == len(layout[0]) * len(layout[1])
    unknown = array.from_array(ROWS, (10, 6))
    unknown = unknown[unknown[:, 0] > 5]
    with pytest.raises(embstore.errors.SourceError, match="number of rows must be known"):
        read(unknown)
