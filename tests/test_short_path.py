"""The short path of a few rows: what the general path returns and refuses, warm or cold."""

from __future__ import annotations

from threading import Thread
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.errors import IdRangeError, StoreClosedError
from embstore.reading import short_path
from embstore.reading.gather import GridGather
from embstore.reading.warmth import (
    READS_SECONDS,
    ROWS_PER_READ,
    WARM_IN_A_ROW,
    Warmth,
    have_faulted,
)
from tests.helpers.stores import make_store

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ROWS = 1000


def table_of(row_shape: tuple[int, ...], dtype: str = "float32") -> NDArray[Any]:
    random = np.random.default_rng(5)
    return random.integers(0, ROWS, (ROWS, *row_shape)).astype(dtype)


def store_of(folder: Path, table: NDArray[Any], partitions: int = 1, **options: Any) -> Any:
    return make_store(folder / "t.embstore", table, partitions=partitions, **options)


# Whether rows are expected to be warm, turn out to be cold, or are expected to be cold.
@pytest.fixture(params=["warm", "found cold", "cold"])
def warmth(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "found cold":
        monkeypatch.setattr(short_path, "READ_SECONDS", -1.0)
        monkeypatch.setattr(short_path, "have_faulted", lambda rows: True)
    elif request.param == "cold":
        monkeypatch.setattr(Warmth, "note", lambda self, rows, blocks: True)
    return str(request.param)


def start(store: Any, warmth: str) -> None:
    if warmth == "cold":
        store._records.warmth.cold = True


IDS: dict[str, NDArray[np.int64]] = {
    "one": np.array([7]),
    "few": np.array([5, 999, 0, 5]),
    "matrix": np.array([[3, 1, 2], [999, 0, 0]]),
    "number": np.array(12),
    "strided": np.arange(0, ROWS, 3)[::7],
    "backwards": np.arange(200)[::-1],
    "many": np.random.default_rng(0).integers(0, ROWS, 400),
}


@pytest.mark.parametrize("partitions", [1, 3, 4])
@pytest.mark.parametrize("row_shape", [(), (5,), (2, 3), (300,)])
@pytest.mark.parametrize("chunk_rows", [None, 64])
def test_rows_are_those_of_the_table(tmp_path, partitions, row_shape, chunk_rows, warmth):
    table = table_of(row_shape)
    with store_of(tmp_path, table, partitions, chunk_rows=chunk_rows) as store:
        for name, ids in IDS.items():
            start(store, warmth)
            assert np.array_equal(store.lookup(ids), table[ids]), name
            out = np.full(ids.shape + row_shape, -1, np.float32)
            assert store.lookup(ids, out=out) is out
            assert np.array_equal(out, table[ids]), name
        for number in (0, 7, ROWS - 1):
            assert np.array_equal(store[number], table[number])


def test_preloaded_rows_that_were_dropped_are_expected_cold(tmp_path, monkeypatch):
    table = table_of((5,))
    store_of(tmp_path, table, 4).close()
    with embstore.open(tmp_path / "t.embstore", preload=True) as store:
        records: Any = store._records
        for name, ids in IDS.items():
            assert np.array_equal(store.lookup(ids), table[ids]), name
        assert not records.warmth.cold
        with monkeypatch.context() as patch:  # As if each gather read from the device.
            patch.setattr(short_path, "READS_SECONDS", -1.0)
            patch.setattr(Warmth, "note_slow", lambda self, rows, seconds: self.chill())
            assert np.array_equal(store.lookup(np.array([5])), table[[5]])
        assert records.warmth.cold
        for _ in range(WARM_IN_A_ROW):
            assert np.array_equal(store.lookup(np.array([5])), table[[5]])
        assert not records.warmth.cold


@pytest.mark.parametrize("strategy", ["mod", "div"])
def test_rows_of_a_full_table(tmp_path, strategy):
    # The last row is at the very last place, which the short numbering cannot tell from the first.
    table = np.arange(64, dtype=np.int32)
    with store_of(tmp_path, table, 4, strategy=strategy, chunk_rows=16) as store:
        assert np.array_equal(store.lookup(np.arange(64)), table)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, -1], r"id -1 at position 1 is out of range"),
        ([ROWS], rf"id {ROWS} at position 0 is out of range"),
        ([[0, 1], [2, 1 << 62]], r"at position \(1, 1\) is out of range"),
        ([-(1 << 63), 5], r"id -9223372036854775808 at position 0"),
    ],
)
def test_ids_out_of_range(tmp_path, ids, message, warmth):
    with store_of(tmp_path, table_of((3,)), 4) as store:
        start(store, warmth)
        out = np.full((*np.shape(ids), 3), -1, np.float32)
        with pytest.raises(IdRangeError, match=message):
            store.lookup(np.array(ids), out=out)
        assert (out == -1).all()
        with pytest.raises(IdRangeError, match=message):
            store.lookup(np.array(ids))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.empty((3, 4), np.float32), r"out has shape \(3, 4\), expected \(2, 4\)"),
        (np.empty(8, np.float32), r"out has shape \(8,\), expected \(2, 4\)"),
        (np.empty((4, 2), np.float32), r"out has shape \(4, 2\)"),
        (np.empty((2, 4)), "out has dtype float64, expected float32"),
        (np.empty((2, 4), ">f4"), "out has dtype >f4, expected float32"),
        (np.empty((2, 4), np.float32, "F"), "out must be C-contiguous and writeable"),
        (np.empty((2, 8), np.float32)[:, ::2], "out must be C-contiguous"),
        (np.broadcast_to(np.zeros(4, np.float32), (2, 4)), "out must be C-contiguous"),
        ([[0.0] * 4] * 2, "out must be an ndarray"),
    ],
)
def test_wrong_out(tmp_path, out, message, warmth):
    with store_of(tmp_path, table_of((4,)), 4) as store:
        start(store, warmth)
        with pytest.raises((TypeError, ValueError), match=message):
            store.lookup(np.array([1, 2]), out=out)


class Row(np.ndarray[Any, Any]):
    """A subclass of ndarray."""


@pytest.mark.parametrize(
    "out",
    [
        np.empty((2, 4), np.float32).view(Row),
        np.empty((3, 4), np.float32)[1:],
        np.empty(33, np.uint8)[1:].view(np.float32).reshape(2, 4),  # Not aligned.
        np.empty((2, 4), np.dtype("=f4", metadata={"of": "a caller"})),
    ],
)
def test_unusual_out(tmp_path, out, warmth):
    table = table_of((4,))
    with store_of(tmp_path, table) as store:
        start(store, warmth)
        assert store.lookup(np.array([1, 2]), out=out) is out
        assert np.array_equal(out, table[[1, 2]])


@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize("row_shape", [(), (1,), (3,)])
@pytest.mark.parametrize("shift", [0, 1, 3])
def test_out_over_the_ids(tmp_path, partitions, row_shape, shift, warmth):
    table = table_of(row_shape, "int64")
    memory = np.random.default_rng(1).integers(0, ROWS, 64)
    ids, out = memory[shift : shift + 8], memory[: 8 * int(np.prod(row_shape, dtype=int))]
    expected = table[ids]
    with store_of(tmp_path, table, partitions) as store:
        start(store, warmth)
        store.lookup(ids, out=out.reshape(8, *row_shape))
    assert np.array_equal(out.reshape(8, *row_shape), expected)


def test_out_is_the_ids(tmp_path):
    table = table_of((), "int64")
    ids = np.random.default_rng(1).integers(0, ROWS, 16)
    expected = table[ids]
    with store_of(tmp_path, table) as store:
        assert np.array_equal(store.lookup(ids, out=ids), expected)


def test_closed_store(tmp_path):
    store = store_of(tmp_path, table_of((4,)))
    store.close()
    for call in (lambda: store.lookup(np.array([1])), lambda: store[1]):
        with pytest.raises(StoreClosedError, match="is closed"):
            call()


@pytest.mark.parametrize("calls", [10, 3000])
def test_lookups_are_counted(tmp_path, calls):
    with store_of(tmp_path, table_of((4,)), 4) as store:
        for _ in range(calls):
            _ = store.lookup(np.array([1, 2])), store[1]
        stats = store.stats()
    assert (stats.lookups, stats.rows) == (2 * calls, 3 * calls)
    assert stats.cold_slices + stats.warm_slices == 2 * calls
    assert stats.bytes_needed == 3 * calls * 16
    assert stats.seconds > 0


def test_rows_are_expected_warm_after_some_warm_lookups():
    warmth = Warmth()
    assert not warmth.cold
    assert warmth.note(32, blocks=80)
    for _ in range(WARM_IN_A_ROW - 1):
        assert not warmth.note(32, blocks=0)
        assert warmth.cold
    warmth.note(32, blocks=16)  # Two reads: it starts again.
    for _ in range(WARM_IN_A_ROW):
        assert warmth.cold
        warmth.note(32, blocks=0)
    assert not warmth.cold


def test_a_read_among_many_rows_is_warm():
    warmth = Warmth()
    assert not warmth.note(ROWS_PER_READ, blocks=8)
    assert warmth.note(ROWS_PER_READ - 1, blocks=8)


@pytest.mark.parametrize(
    ("rows", "seconds", "faults", "cold"),
    [
        (10, READS_SECONDS, 10, False),
        (10, 2 * READS_SECONDS, 10, True),
        (10, 2 * READS_SECONDS, 1, True),
        (ROWS_PER_READ, 1.0, 1, False),  # One read among so many rows.
        (10, 1.0, 0, False),  # It waited for a processor, or for the GIL.
    ],
)
def test_a_slow_lookup_with_page_faults_is_cold(monkeypatch, rows, seconds, faults, cold):
    counts = iter([5, 5 + faults])
    usage = SimpleNamespace(getrusage=lambda who: SimpleNamespace(ru_majflt=next(counts)))
    monkeypatch.setattr("embstore.reading.warmth.resource", usage)
    have_faulted(1)
    warmth = Warmth()
    warmth.note_slow(rows, seconds)
    assert warmth.cold == cold


def test_page_faults_are_those_of_the_thread():
    seen = []
    have_faulted(1)
    thread = Thread(target=lambda: seen.extend([have_faulted(1), have_faulted(1)]))
    thread.start()
    thread.join()
    assert seen[1] is False
    assert have_faulted(1) is False


def test_rows_are_touched_first_unless_another_thread_gathers(tmp_path, monkeypatch):
    table = table_of((300,))
    touched = []
    monkeypatch.setattr(GridGather, "touch", lambda self, spots: touched.append(len(spots)))
    with store_of(tmp_path, table) as store:
        for ids in (IDS["many"], IDS["few"]):
            assert np.array_equal(store.lookup(ids), table[ids])
        assert touched == [400]
        short_path.gathering.append(None)
        try:
            assert np.array_equal(store.lookup(IDS["many"]), table[IDS["many"]])
        finally:
            short_path.gathering.pop()
        assert touched == [400]
        with pytest.raises(ValueError, match="out has shape"):
            store.lookup(IDS["few"], out=np.empty((3, 300), np.float32))
    assert not short_path.gathering
