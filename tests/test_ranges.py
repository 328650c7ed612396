"""Lookups of neighbouring rows: they are right, and their pages are announced together, once."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.reading import in_order, readers, requests, sharing, workers
from embstore.reading.in_order import read_in_order
from embstore.reading.mapping import AddressSpace
from embstore.reading.requests import (
    ANNOUNCED_BYTES,
    COLD_SLICE_ROWS,
    DENSE_SLICE_PAGES,
    cold_slice_rows,
    requests_for,
)
from embstore.reading.resident_limit import ResidentLimit
from embstore.row_blocks import row_blocks
from embstore.table.addresses import PAGE_BYTES
from embstore.table.plan import runs

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# The rows, their numbers, the rows of a chunk, and the partitions.
TABLES: dict[str, tuple[int, int, int, int, Any]] = {
    "16 bytes": (40_000, 4, 1 << 12, 1, "mod"),
    "64 bytes, mod": (20_001, 16, 1 << 11, 5, "mod"),
    "64 bytes, div": (20_001, 16, 1 << 11, 5, "div"),
    "160 bytes, many partitions": (12_000, 40, 1 << 7, 100, "mod"),
    "one chunk": (50_000, 16, 1 << 16, 1, "mod"),
    "wider than a page": (900, 1250, 1 << 7, 3, "div"),
    "wider than a request": (12, 80_000, 1 << 1, 3, "mod"),
}


def numbers(ids: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """Return the rows of ids: all different, also at their ends."""
    return (ids[:, None] * 7 + np.arange(width) % 5).astype(np.float32)


def build(folder: Path, name: str) -> tuple[Path, NDArray[np.float32]]:
    rows, width, chunk_rows, partitions, strategy = TABLES[name]
    table = numbers(np.arange(rows), width)
    path = folder / "t.embstore"
    with embstore.StoreWriter(
        path,
        row_shape=(width,),
        dtype="float32",
        rows=rows,
        chunk_rows=chunk_rows,
        partitions=partitions,
        strategy=strategy,
    ) as writer:
        writer.write(table)
    return path, table


@pytest.fixture(scope="module", params=TABLES)
def table(request, tmp_path_factory) -> tuple[Path, NDArray[np.float32], int]:
    path, rows = build(tmp_path_factory.mktemp("ranges"), request.param)
    return path, rows, TABLES[request.param][2]


def patterns(rows: int, chunk_rows: int) -> dict[str, NDArray[np.int64]]:
    """Return lookups of many neighbours, and of rows around the ends of chunks and partitions."""
    rng = np.random.default_rng(0)
    everything = np.arange(rows)
    ends = np.arange(0, rows, chunk_rows)
    around = np.unique(np.concatenate([ends - 2, ends - 1, ends, ends + 1]).clip(0, rows - 1))
    half = np.flatnonzero(rng.random(rows) < 0.5)
    return {
        "all": everything,
        "backwards": everything[::-1],
        "some": everything[rows // 7 : -(rows // 9) or None],
        "every third": everything[1::3],
        "half": half,
        "half, twice": np.repeat(half, 2),
        "around the ends of chunks": around,
        "neighbours, then random": np.concatenate([everything[: rows // 2], rng.permutation(half)]),
        "random, then neighbours": np.concatenate([rng.permutation(half), everything]),
        "shuffled": rng.permutation(rows),
    }


def as_if_cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every look at the kernel's count find that blocks were read."""
    counts = itertools.count(0, 1000)
    monkeypatch.setattr(sharing, "blocks_read", lambda: next(counts))


def chilled(store: embstore.EmbeddingStore) -> Any:
    """Have the next lookup expect cold rows; return the records."""
    records: Any = store._records
    records.warmth.chill()
    return records


@pytest.mark.parametrize("limited", [False, True])
def test_rows_are_right(table, limited, monkeypatch):
    path, rows, chunk_rows = table
    if limited:  # Of a table that is larger than its limit.
        monkeypatch.setattr(readers, "_limit_of", lambda *_: ResidentLimit(64 << 20))
    with embstore.open(path, resident_limit="64MiB" if limited else None) as store:
        for name, ids in patterns(len(rows), chunk_rows).items():
            for cold in (True, False):
                if cold:
                    chilled(store)
                assert np.array_equal(store.lookup(ids), rows[ids]), name
            chilled(store)
            assert np.array_equal(store.lookup(ids, raw=True), rows[ids].view(np.uint8)), name
        for piece in (slice(3, -3), slice(None, None, -1), slice(chunk_rows - 1, chunk_rows + 1)):
            chilled(store)
            assert np.array_equal(store[piece], rows[piece])


@pytest.mark.parametrize("encoding", ["int8", "float8_e4m3fn", "float8_e4m3fn:8"])
@pytest.mark.parametrize("partitions", [1, 3])
def test_encoded_rows_are_those_of_single_lookups(tmp_path, encoding, partitions):
    rows = np.random.default_rng(0).standard_normal((9000, 16)).astype(np.float32)
    path = tmp_path / "t.embstore"
    embstore.build(rows, path, encoding=encoding, partitions=partitions).close()
    with embstore.open(path, reader="chunked") as other:
        expected = other.to_numpy()
    with embstore.open(path) as store:
        for name, ids in patterns(len(rows), 1 << 10).items():
            chilled(store)
            assert np.array_equal(store.lookup(ids), expected[ids]), name
        assert np.array_equal(np.array(list(store)), expected)
        assert np.array_equal(np.array(list(reversed(store))), expected[::-1])


class Announced:
    """What is announced to the kernel: a list of (first byte, bytes) for each call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[list[tuple[int, int]]] = []
        whole = AddressSpace.announce

        def announce(
            space: AddressSpace, offsets: NDArray[np.int64], sizes: NDArray[np.int64]
        ) -> None:
            self.calls.append(list(zip(offsets.tolist(), sizes.tolist(), strict=True)))
            whole(space, offsets, sizes)

        monkeypatch.setattr(AddressSpace, "announce", announce)

    @property
    def ranges(self) -> list[tuple[int, int]]:
        return [one for call in self.calls for one in call]

    @property
    def total_bytes(self) -> int:
        return sum(size for _, size in self.ranges)

    @property
    def pages(self) -> set[int]:
        return {
            page
            for first, size in self.ranges
            for page in range(first // PAGE_BYTES, -(-(first + size) // PAGE_BYTES))
        }


def needed_pages(records: Any, rows: NDArray[np.int64]) -> set[int]:
    begins = records.addresses.of(np.unique(rows))
    ends = (begins + records.record_bytes - 1) // PAGE_BYTES
    pages = zip((begins // PAGE_BYTES).tolist(), ends.tolist(), strict=True)
    return {page for first, last in pages for page in range(first, last + 1)}


@pytest.mark.parametrize("pattern", ["all", "backwards", "some", "half", "half, twice"])
def test_pages_of_neighbours_are_announced_once(table, pattern, monkeypatch):
    path, rows, chunk_rows = table
    ids = patterns(len(rows), chunk_rows)[pattern]
    with embstore.open(path) as store:
        records = chilled(store)
        announced = Announced(monkeypatch)
        as_if_cold(monkeypatch)
        assert np.array_equal(store.lookup(ids), rows[ids])
        needed = needed_pages(records, store._rows_of(ids))
    assert announced.pages == needed
    # Slices share the pages at their ends, in each partition.
    assert announced.total_bytes <= 1.5 * len(needed) * PAGE_BYTES + (2 << 20)
    assert max(size for _, size in announced.ranges) <= ANNOUNCED_BYTES


@pytest.mark.parametrize("how", ["slice", "ids"])
def test_neighbours_need_few_calls(tmp_path, how, monkeypatch):
    path, rows = build(tmp_path, "one chunk")
    with embstore.open(path) as store:
        chilled(store)
        announced = Announced(monkeypatch)
        found = store[100:40_000] if how == "slice" else store.lookup(np.arange(100, 40_000))
        assert np.array_equal(found, rows[100:40_000])
    assert len(announced.calls) <= 6
    assert len(announced.ranges) <= 40_000 * 64 // ANNOUNCED_BYTES + 12


def test_random_rows_are_announced_in_small_slices(tmp_path, monkeypatch):
    """So that several threads have reads in flight, and the first rows come soon."""
    path = tmp_path / "t.npy"
    with path.open("wb") as file:  # Of zeros, which take no space.
        header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 16)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + (64 << 20))
    ids = np.random.default_rng(0).integers(0, 1 << 20, 3000)
    with embstore.open(path) as store:
        chilled(store)
        announced = Announced(monkeypatch)
        as_if_cold(monkeypatch)
        assert not store.lookup(ids).any()
    assert len(announced.calls) >= 3000 // COLD_SLICE_ROWS
    assert max(map(len, announced.calls)) <= COLD_SLICE_ROWS


def test_random_rows_after_neighbours_are_announced_in_small_slices(tmp_path, monkeypatch):
    path = tmp_path / "t.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 22, 16)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + (256 << 20))
    random = np.random.default_rng(0).integers(0, 1 << 22, 100_000)
    with embstore.open(path) as store:
        chilled(store)
        announced = Announced(monkeypatch)
        as_if_cold(monkeypatch)
        assert not store.lookup(np.concatenate([np.arange(200_000), random])).any()
    most = max(sum(size for _, size in call) for call in announced.calls)
    assert most <= 2 * DENSE_SLICE_PAGES * PAGE_BYTES


@pytest.mark.parametrize("count", [1, 3, 10])
def test_all_pages_of_long_rows_are_announced(tmp_path, count, monkeypatch):
    """The kernel reads at most 128 KiB of an announced range."""
    path, rows = build(tmp_path, "wider than a request")
    ids = np.arange(count) % 12
    with embstore.open(path) as store:
        records = chilled(store)
        announced = Announced(monkeypatch)
        as_if_cold(monkeypatch)  # A few rows are announced first, and then the others.
        assert np.array_equal(store.lookup(ids), rows[ids])
        assert announced.pages == needed_pages(records, store._rows_of(ids))
    assert max(size for _, size in announced.ranges) <= ANNOUNCED_BYTES


def test_one_read_makes_a_slice_of_narrow_neighbours_cold(tmp_path, monkeypatch):
    """A slice of 4,096 rows of 16 bytes has 16 pages: a few requests announce them."""
    path, rows = build(tmp_path, "16 bytes")
    with embstore.open(path) as store:
        records: Any = store._records
        pages = iter([0, 0, *range(0, 1 << 20, 8)])  # A page for each slice.
        monkeypatch.setattr(sharing, "blocks_read", pages.__next__)
        monkeypatch.setattr(workers, "processor_count", lambda: 1)
        announced = Announced(monkeypatch)
        for _ in range(20):
            assert np.array_equal(store.lookup(np.arange(30_000)), rows[:30_000])
            assert records.warmth.cold
        assert len(announced.calls) >= 20


@pytest.mark.parametrize(
    ("offsets", "record_bytes", "ranges"),
    [
        ([], 16, []),
        ([0], 16, [(0, 1)]),
        ([4090], 16, [(0, 2)]),
        ([0, 16, 32], 16, [(0, 1)]),
        ([8192, 0, 4096], 16, [(0, 3)]),
        ([0, 4096 * 2], 16, [(0, 1), (2, 1)]),
        ([4096 * page for page in range(70)], 4096, [(0, 32), (32, 32), (64, 6)]),
        ([4096], 300_000, [(1, 32), (33, 32), (65, 10)]),
        ([0, 300_000], 300_000, [(0, 32), (32, 32), (64, 32), (96, 32), (128, 19)]),
        # Ends as far apart as those of neighbours.
        ([0, 64, 16, 48], 16, [(0, 1)]),
        ([0, 9 * 4096, 32], 16, [(0, 1), (9, 1)]),
    ],
)
def test_requests(offsets, record_bytes, ranges):
    space: Any = None
    found = requests_for(space, np.array(offsets, np.int64), record_bytes)
    ((_, found_runs),) = found.parts
    assert list(zip(found_runs.firsts, found_runs.counts, strict=True)) == ranges
    assert found.count == len(ranges)
    assert found.page_count == sum(pages for _, pages in ranges)


@pytest.mark.parametrize(
    ("spots", "least", "most"),
    [
        (np.arange(1 << 20), 1 << 15, 1 << 17),
        (np.arange(1 << 20)[::-1], 1 << 15, 1 << 17),
        (np.arange(0, 1 << 21, 2), 1 << 14, 1 << 16),
        (np.arange(1000), COLD_SLICE_ROWS, 500),
        (np.arange(3), COLD_SLICE_ROWS, COLD_SLICE_ROWS),
        (np.arange(0), COLD_SLICE_ROWS, COLD_SLICE_ROWS),
        # In turn from 1,000 places, as under `mod`.
        (np.add.outer(np.arange(200), np.arange(1000) * 100_000).ravel(), 1 << 12, 1 << 15),
        (np.arange(1 << 20) * 64, COLD_SLICE_ROWS, 1 << 10),
        (np.random.default_rng(0).integers(0, 1 << 30, 1 << 16), COLD_SLICE_ROWS, COLD_SLICE_ROWS),
    ],
    ids=["all", "backwards", "half", "few", "three", "none", "in turn", "one a page", "random"],
)
def test_rows_of_cold_slices(spots, least, most):
    """Of 64 bytes, 64 rows are on a page."""
    space: Any = None
    rows = cold_slice_rows(spots, COLD_SLICE_ROWS, lambda some: requests_for(space, some * 64, 64))
    assert least <= rows <= most
    assert requests_for(space, spots[:rows] * 64, 64).page_count <= max(
        DENSE_SLICE_PAGES, COLD_SLICE_ROWS
    )


@pytest.mark.parametrize("cold", ["all", "none", "some"])
@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_blocks_that_follow_are_announced_while_they_are_cold(count, cold, monkeypatch):
    is_cold = {"all": lambda _: True, "none": lambda _: False, "some": lambda at: at % 20 < 9}[cold]
    blocks, cached, events = 0, set(), []

    def load(at: int) -> None:
        nonlocal blocks
        if is_cold(at) and at not in cached:
            blocks += 8
            cached.add(at)

    def read(at: int) -> int:
        load(at)
        events.append(("read", at))
        return at

    def announce(at: int) -> None:
        load(at)
        events.append(("announce", at))

    monkeypatch.setattr(in_order, "blocks_read", lambda: blocks)
    starts = range(count)
    found = list(read_in_order(starts, read, announce, in_order.AHEAD_BYTES // 4))
    assert found == list(starts)
    announced = [at for name, at in events if name == "announce"]
    assert len(announced) == len(set(announced))
    for at in announced:
        assert events.index(("announce", at)) < events.index(("read", at))
        assert events.index(("announce", at)) > events.index(
            ("read", max(at - 4, 0) - 1 if at > 4 else 0)
        )
    if cold == "none":
        assert not announced
    if cold == "all":
        assert announced == list(range(1, count))


@pytest.mark.parametrize("name", ["64 bytes, mod", "64 bytes, div", "one chunk"])
@pytest.mark.parametrize("how", ["rows", "backwards", "blocks", "raw blocks"])
def test_reading_in_order_announces_each_page(tmp_path, name, how, monkeypatch):
    """As if every block came from the device."""
    path, rows = build(tmp_path, name)
    reads = iter(range(0, 1 << 30, 8))
    monkeypatch.setattr(in_order, "blocks_read", reads.__next__)
    with embstore.open(path) as store:
        announced = Announced(monkeypatch)
        found: Any
        if how == "rows":
            found = np.array(list(store))
        elif how == "backwards":
            found = np.array(list(reversed(store)))[::-1]
        else:
            blocks = row_blocks(store, 256 << 10, raw=how == "raw blocks")
            found = np.concatenate([block.rows for block in blocks]).view(np.float32)
        assert np.array_equal(found, rows)
        records: Any = store._records
        later = np.arange(len(rows))
        later = later[:-7000] if how == "backwards" else later[7000:]  # But for the first block.
        assert needed_pages(records, store._rows_of(later)) <= announced.pages
    assert max(size for _, size in announced.ranges) <= requests.ANNOUNCED_BYTES


@pytest.mark.parametrize("unit", [1, 16, 4096])
@pytest.mark.parametrize("max_run", [None, 3])
def test_runs_of_many_records_are_those_of_few(unit, max_run):
    """Units that lie close together are marked instead of sorted."""
    rng = np.random.default_rng(0)
    for span in (3000, 20_000, 1 << 20, 1 << 40):
        for count in (1, unit // 2 + 1, unit, unit + 5):
            offsets = 12345 + rng.integers(0, span, 3000)
            units = {
                one
                for offset in offsets.tolist()
                for one in range(offset // unit, (offset + count - 1) // unit + 1)
            }
            found = runs(offsets, count, unit=unit, max_run=max_run)
            starts, counts = found.firsts.tolist(), found.counts.tolist()
            listed = [
                one for at, n in zip(starts, counts, strict=True) for one in range(at, at + n)
            ]
            assert listed == sorted(units)
            assert max(counts) <= (max_run or len(units))
            if max_run is None:
                ends = found.firsts + found.counts
                assert (ends[:-1] < found.firsts[1:]).all()
