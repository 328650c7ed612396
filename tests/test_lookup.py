"""Lookups by id: both readers, the partitions on disk and ``matrix[ids]`` agree to the bit."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import embstore

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

DTYPES = ["float16", "float32", "float64", "int8", "uint8", "int32"]


def random_table(shape: tuple[int, ...], dtype: DTypeLike, seed: int = 0) -> NDArray[Any]:
    """Return an array of random bits, so of any number, infinity or NaN of the dtype."""
    dtype = np.dtype(dtype)
    size_bytes = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(np.random.default_rng(seed).bytes(size_bytes), dtype).reshape(shape)


def write_store(path: Path, table: NDArray[Any], **settings: Any) -> Path:
    with embstore.StoreWriter(
        path, row_shape=table.shape[1:], dtype=table.dtype, rows=len(table), **settings
    ) as writer:
        writer.write(table)
    return path


def rows_of(table: NDArray[Any], ids: NDArray[Any]) -> NDArray[Any]:
    """Return ``table[ids]`` as an array, also for one id of a table of scalars."""
    return np.asarray(table[ids])


def same_bits(found: Any, expected: NDArray[Any]) -> bool:
    """Return whether two arrays are equal to the bit, NaNs included."""
    return bool(
        type(found) is np.ndarray
        and found.shape == expected.shape
        and found.dtype == expected.dtype
        and found.tobytes() == expected.tobytes()
    )


@st.composite
def tables(draw):
    shape = (draw(st.integers(0, 40)), *draw(st.lists(st.integers(1, 4), max_size=3)))
    return random_table(shape, draw(st.sampled_from(DTYPES)), draw(st.integers(0, 9)))


def ids_of(table: NDArray[Any]) -> st.SearchStrategy[NDArray[np.int64]]:
    """Draw ids of any rank, with repeats; for an empty table, empty arrays of any rank."""
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)
    if not len(table):
        return shapes.map(lambda shape: np.empty((*shape, 0), np.int64))
    numbers = st.integers(0, len(table) - 1)
    return shapes.flatmap(lambda shape: hnp.arrays(np.int64, shape, elements=numbers))


@given(
    table=tables(),
    partitions=st.sampled_from([1, 2, 3, 4, 7, 45]),
    strategy=st.sampled_from(["mod", "div"]),
    chunk_rows=st.sampled_from([None, 1, 2, 8, 64]),
    data=st.data(),
)
@settings(deadline=None, max_examples=40)
def test_readers_and_matrix_agree(table, partitions, strategy, chunk_rows, data):
    folder = Path(tempfile.mkdtemp())
    try:
        path = write_store(
            folder / "t", table, partitions=partitions, strategy=strategy, chunk_rows=chunk_rows
        )
        requests = data.draw(st.lists(ids_of(table), min_size=1, max_size=3))
        with embstore.open(path, reader="mapped") as mapped:
            assert mapped.shape == table.shape
            for ids in requests:
                assert same_bits(mapped.lookup(ids), rows_of(table, ids))
        with embstore.open(path, reader="chunked") as chunked:
            for ids in requests:
                assert same_bits(chunked.lookup(ids), rows_of(table, ids))
        for number in range(min(partitions, len(table) + 1)):
            stored: Any = zarr.open_array(path / "partitions" / str(number), mode="r")[:]
            expected = [
                table[i]
                for i in range(len(table))
                if partition_of(i, len(table), partitions, strategy) == number
            ]
            assert stored.shape == (len(expected), *table.shape[1:])
            assert stored.tobytes() == b"".join(row.tobytes() for row in expected)
    finally:
        shutil.rmtree(folder)


def partition_of(number: int, rows: int, count: int, strategy: str) -> int:
    """Return the partition of an id, by the definition."""
    if strategy == "mod":
        return number % count
    base, extra = divmod(rows, count)
    first = extra * (base + 1)
    return number // (base + 1) if number < first else extra + (number - first) // base


def test_tensorstore_reads_every_partition(tmp_path):
    tensorstore = pytest.importorskip("tensorstore")
    for dtype in DTYPES:
        table = random_table((29, 3, 2), dtype)
        path = write_store(tmp_path / dtype, table, partitions=3, chunk_rows=4)
        for number in range(3):
            where = str(path / "partitions" / str(number))
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": where}}
            stored = tensorstore.open(spec, read=True).result().read().result()
            assert same_bits(np.asarray(stored), np.ascontiguousarray(table[number::3]))


@pytest.fixture(scope="module")
def table():
    return random_table((1000, 3), "float32", 5)


@pytest.fixture(scope="module", params=["mapped", "chunked"])
def store(request, table, tmp_path_factory):
    path = tmp_path_factory.mktemp("lookup") / "t.embstore"
    write_store(path, table, partitions=3, chunk_rows=64)
    with embstore.open(path, reader=request.param) as opened:
        yield opened


@pytest.mark.parametrize("count", [1, 15, 33, 1000, 40_000])
def test_batches_of_every_size(store, table, count):
    ids = np.random.default_rng(count).integers(0, 1000, count)
    assert same_bits(store.lookup(ids), table[ids])


def test_single_id(store, table):
    assert same_bits(store.lookup(5), table[5])
    assert same_bits(store[5], table[5])
    assert same_bits(store[np.int32(999)], table[999])
    assert store.lookup([5]).shape == (1, 3)


def test_rows_that_are_scalars(tmp_path):
    path = write_store(tmp_path / "t", np.arange(10, dtype=np.int32), partitions=2)
    for reader in ("mapped", "chunked"):
        with embstore.open(path, reader=reader) as store:
            assert store.lookup(7).shape == ()
            assert isinstance(store[7], np.int32)
            assert store[7] == 7
            assert store[[[7, 7], [0, 9]]].tolist() == [[7, 7], [0, 9]]


@pytest.mark.parametrize("ids", [[], (), [[], []], np.empty((2, 0, 3), np.uint8)])
def test_empty_ids_give_no_rows(store, ids):
    expected = np.empty((*np.shape(ids), 3), np.float32)
    assert same_bits(store.lookup(ids), expected)


@pytest.mark.parametrize(
    "key",
    [
        *(slice(2, 10), slice(None), slice(990, 2000), slice(-5, None), slice(10, 2)),
        *(slice(None, None, -1), slice(3, 100, 7), slice(np.int64(3), 5)),
    ],
)
def test_slices_are_those_of_a_sequence(store, table, key):
    assert same_bits(store[key], np.ascontiguousarray(table[key]))


def test_store_is_a_sequence_of_rows(tmp_path):
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    with embstore.open(write_store(tmp_path / "t", table, partitions=2)) as store:
        assert len(store) == 4
        sequence: Any = store
        assert np.array_equal(list(sequence), table)  # An IdRangeError is an IndexError: it ends.


@pytest.mark.parametrize("ids", [3, [3, 1, 3], [[3, 1], [0, 999]], []])
def test_out_is_filled_and_returned(store, table, ids):
    out = np.empty((*np.shape(ids), 3), np.float32)
    assert store.lookup(ids, out=out) is out
    assert same_bits(out, rows_of(table, np.array(ids, np.int64)))


def test_out_may_be_a_part_of_an_array(store, table):
    whole = np.zeros((6, 3), np.float32)
    store.lookup([7, 8], out=whole[2:4])
    assert same_bits(whole[2:4], table[7:9])
    assert not whole[[0, 1, 4, 5]].any()


def read_only(shape: tuple[int, ...]) -> NDArray[np.float32]:
    out = np.empty(shape, np.float32)
    out.flags.writeable = False
    return out


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.empty((2, 4), np.float32), ValueError, r"shape \(2, 4\), expected \(2, 3\)"),
        (np.empty((3,), np.float32), ValueError, r"shape \(3,\), expected \(2, 3\)"),
        (np.empty((2, 3), np.float64), TypeError, "dtype float64, expected float32"),
        (np.empty((2, 3), ">f4"), TypeError, "dtype >f4, expected float32"),
        (np.empty((3, 2), np.float32).T, ValueError, "C-contiguous and writeable"),
        (np.empty((4, 3), np.float32)[::2], ValueError, "C-contiguous and writeable"),
        (read_only((2, 3)), ValueError, "C-contiguous and writeable"),
        ([[0.0] * 3] * 2, TypeError, "an ndarray or a torch.Tensor, not list"),
    ],
)
def test_wrong_out_is_refused(store, out, error, message):
    with pytest.raises(error, match=message):
        store.lookup([0, 1], out=out)


def test_out_is_unchanged_after_a_bad_id(store):
    out = np.full((2, 3), 7, np.float32)
    with pytest.raises(embstore.IdRangeError):
        store.lookup([0, 1000], out=out)
    assert (out == 7).all()


def test_rows_are_copies(store, table):
    rows = store.lookup([1, 1])
    rows[:] = 0
    assert same_bits(store.lookup([1, 1]), table[[1, 1]])


def test_properties_of_a_store(tmp_path, table):
    path = write_store(tmp_path / "t", table, partitions=4, strategy="div", chunk_rows=32)
    with embstore.open(path) as store:
        assert (store.shape, store.rows, store.row_shape) == ((1000, 3), 1000, (3,))
        assert (store.partition_count, store.strategy) == (4, "div")
        assert store.dtype == np.float32
        assert (store.path, store.unk, store.has_words, store.chunk_rows) == (path, None, False, 32)
        assert repr(store) == ("<EmbeddingStore 1000 rows of (3,) float32, 4 div partitions>")
        with pytest.raises(IndexError, match="partition must be from 0 to 3, not 4"):
            store.partition(4)
        with pytest.raises(IndexError):
            store.partition(-1)
        with pytest.raises(ValueError, match="read"):
            store.partition(0)[0] = 0


@pytest.mark.parametrize("max_norm", [0, -1.0, float("nan")])
def test_out_is_unchanged_after_a_bad_max_norm(words_store, max_norm):
    with embstore.open(words_store) as store:
        out = np.full((2, *store.row_shape), 7, store.dtype)
        with pytest.raises(ValueError, match="max_norm must be above 0"):
            store.lookup([0, 1], out=out, max_norm=max_norm)
    assert (out == 7).all()
