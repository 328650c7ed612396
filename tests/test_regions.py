"""Regions of a resident limit against a model of the kernel, which maps what is touched."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embstore import syscalls
from embstore.reading import resident_limit
from embstore.reading.resident_limit import ResidentLimit, distinct_regions
from embstore.table.addresses import HUGE_PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

MIB = 1 << 20
# What a fault maps: a huge page, what the kernel maps around small ones, or a page.
FAULTS = {"huge": 2 * MIB, "small": 64 << 10, "page": 4096}


class Kernel:
    """What is mapped of some spaces, in units of what a fault maps, and what was asked."""

    def __init__(self, fault_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fault_bytes, self.others = fault_bytes, 30 * MIB
        self.mapped: set[int] = set()
        self.highest = self.looks = self.unmaps = self.faults = 0
        self.end = 1 << 40
        monkeypatch.setattr(resident_limit, "resident_file_bytes", self.tell)
        monkeypatch.setattr(syscalls, "unmap_pages", self.unmap)

    def space(self, size_bytes: int) -> Any:
        """Return a mapping; nothing of it is ever touched for real."""
        address, self.end = self.end, self.end + (size_bytes // HUGE_PAGE_BYTES + 2) * (2 * MIB)
        return SimpleNamespace(data=range(size_bytes), address=address)

    def touch(self, space: Any, offsets: NDArray[np.int64], size_bytes: int) -> None:
        """Touch records of a space: each fault maps the unit that it is in."""
        first = (space.address + offsets) // self.fault_bytes
        last = (space.address + offsets + size_bytes - 1) // self.fault_bytes
        units = set(np.concatenate([first, last]).tolist())
        self.faults += len(units - self.mapped)
        self.mapped |= units
        self.highest = max(self.highest, self.resident)

    @property
    def resident(self) -> int:
        return len(self.mapped) * self.fault_bytes

    def tell(self) -> int:
        self.looks += 1
        return self.resident + self.others

    def unmap(self, addresses: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        self.unmaps += 1
        for begin, size in zip(addresses.tolist(), sizes.tolist(), strict=True):
            assert begin % HUGE_PAGE_BYTES == 0
            first, stop = begin // self.fault_bytes, -(-(begin + size) // self.fault_bytes)
            self.mapped -= set(range(first, stop))


def visited(
    limit: ResidentLimit,
    kernel: Kernel,
    space: Any,
    offsets: NDArray[np.int64],
    size_bytes: int,
    within: Callable[[], None] | None = None,
) -> None:
    """Touch records as a lookup does, and check that each of them is touched once, in order."""
    places: list[int] = []

    def touch(start: int, stop: int) -> None:
        assert start < stop
        kernel.touch(space, offsets[start:stop], size_bytes)
        if within is not None:
            within()
            kernel.touch(space, offsets[start:stop], size_bytes)  # Unmapped meanwhile.
        places.extend(range(start, stop))

    limit.visit(space, offsets, size_bytes, touch)
    assert places == list(range(len(offsets)))


def random_offsets(rng: Any, space: Any, size_bytes: int, count: int) -> NDArray[np.int64]:
    return np.sort(rng.integers(0, (len(space.data) - 1) // size_bytes, count)) * size_bytes


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("limit_bytes", [64 * MIB, 100 * MIB, 256 * MIB])
@pytest.mark.parametrize("size_bytes", [16, 160, 4096, 5000, MIB + 3, 2 * MIB])
def test_limit_is_kept_in_a_thread(monkeypatch, fault, limit_bytes, size_bytes):
    kernel = Kernel(FAULTS[fault], monkeypatch)
    limit = ResidentLimit(limit_bytes)
    spaces = [kernel.space(size) for size in (700 * MIB + 12345, 90 * MIB)]
    for space in spaces:
        limit.add(space)
    rng = np.random.default_rng(0)
    for _ in range(6):
        for space in spaces:
            for count in (1, 16, 400):
                visited(
                    limit, kernel, space, random_offsets(rng, space, size_bytes, count), size_bytes
                )
        begin = int(rng.integers(0, 600 * MIB))
        with limit.holding(spaces[0], begin, 8 * MIB):
            kernel.touch(spaces[0], np.arange(begin, begin + 8 * MIB, 4096), 1)
    assert 0 < kernel.highest <= limit_bytes


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("limit_bytes", [64 * MIB, 256 * MIB])
@pytest.mark.parametrize("threads", [2, 4, 8])
def test_limit_is_kept_by_several_threads(monkeypatch, fault, limit_bytes, threads):
    """One touches rows while another does, and so on: each may unmap what others touch."""
    kernel = Kernel(FAULTS[fault], monkeypatch)
    limit = ResidentLimit(limit_bytes)
    space = kernel.space(700 * MIB)
    limit.add(space)
    rng = np.random.default_rng(0)

    def one_more(left: int) -> None:
        offsets = random_offsets(rng, space, 160, 40)
        # A few parts of each lookup are interrupted.
        chances = iter([left > 1] * 2)

        def within() -> None:
            if next(chances, False):
                one_more(left - 1)

        visited(limit, kernel, space, offsets, 160, within)

    one_more(threads)
    for _ in range(10):
        visited(limit, kernel, space, random_offsets(rng, space, 160, 400), 160)
    assert 0 < kernel.highest <= limit_bytes
    assert limit._held_count == 0


def test_table_within_the_limit_asks_for_nothing(monkeypatch):
    kernel = Kernel(FAULTS["small"], monkeypatch)
    limit = ResidentLimit(256 * MIB)
    space = kernel.space(200 * MIB)
    limit.add(space)
    looks, rng = kernel.looks, np.random.default_rng(0)
    for _ in range(20):
        visited(limit, kernel, space, random_offsets(rng, space, 160, 4096), 160)
    assert kernel.looks == looks
    assert kernel.unmaps == 0


@pytest.mark.parametrize(("fault", "faults", "looks"), [("huge", 1.1, 0.2), ("small", 1.2, 2)])
def test_little_is_mapped_twice_and_the_kernel_is_seldom_asked(monkeypatch, fault, faults, looks):
    """Of random rows, the fewest faults are those of all rows but for what is still mapped."""
    kernel = Kernel(FAULTS[fault], monkeypatch)
    limit_bytes, size_bytes, calls = 256 * MIB, 640 * MIB, 10
    limit = ResidentLimit(limit_bytes)
    space = kernel.space(size_bytes)
    limit.add(space)
    rng, units = np.random.default_rng(0), 0
    for _ in range(calls):
        offsets = random_offsets(rng, space, 160, 4096)
        units += len(set((offsets // kernel.fault_bytes).tolist()))
        visited(limit, kernel, space, offsets, 160)
    assert kernel.faults <= faults * units
    regions = size_bytes // HUGE_PAGE_BYTES
    assert kernel.looks <= looks * regions // 8 * calls
    assert kernel.unmaps <= 8 * calls


def test_only_what_was_touched_is_unmapped(monkeypatch):
    """Of many chunks, few are touched: the others cost nothing."""
    kernel = Kernel(FAULTS["small"], monkeypatch)
    limit = ResidentLimit(64 * MIB)
    space = kernel.space(60_000 * 2 * MIB)
    limit.add(space)
    unmapped: list[int] = []

    def unmap(addresses: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        unmapped.extend((sizes // HUGE_PAGE_BYTES).tolist())
        Kernel.unmap(kernel, addresses, sizes)

    monkeypatch.setattr(syscalls, "unmap_pages", unmap)
    rng, touched = np.random.default_rng(0), 0
    for _ in range(3):
        offsets = random_offsets(rng, space, 160, 4096)
        touched += len(distinct_regions(offsets // HUGE_PAGE_BYTES, offsets // HUGE_PAGE_BYTES))
        visited(limit, kernel, space, offsets, 160)
    assert 0 < sum(unmapped) <= touched
    assert kernel.highest <= 64 * MIB


def test_other_mappings_that_become_smaller_are_not_ours(monkeypatch):
    kernel = Kernel(FAULTS["page"], monkeypatch)
    kernel.others = 200 * MIB
    limit = ResidentLimit(64 * MIB)
    space = kernel.space(700 * MIB)
    limit.add(space)
    rng = np.random.default_rng(0)
    for others in (200, 150, 60, 0, 90, 300, 10):
        kernel.others = others * MIB
        for _ in range(10):
            visited(limit, kernel, space, random_offsets(rng, space, 160, 3000), 160)
    assert kernel.highest <= 64 * MIB


def test_regions_held_by_another_thread_stay_counted(monkeypatch):
    kernel = Kernel(FAULTS["huge"], monkeypatch)
    limit = ResidentLimit(64 * MIB)
    space = kernel.space(700 * MIB)
    limit.add(space)
    others = limit._others_bytes
    with limit.holding(space, 0, 8 * MIB):
        kernel.touch(space, np.arange(0, 8 * MIB, 4096), 1)
        visited(
            limit, kernel, space, random_offsets(np.random.default_rng(0), space, 160, 900), 160
        )
        assert kernel.unmaps
        kernel.touch(space, np.arange(0, 8 * MIB, 4096), 1)
        assert limit._others_bytes == others  # Not measured while pages are being mapped.
    visited(limit, kernel, space, random_offsets(np.random.default_rng(1), space, 160, 900), 160)
    assert kernel.highest <= 64 * MIB


def test_forked_child_drops_what_threads_have_reserved(monkeypatch):
    kernel = Kernel(FAULTS["huge"], monkeypatch)
    limit = ResidentLimit(64 * MIB)
    space = kernel.space(700 * MIB)
    limit.add(space)
    limit._reserve(space, np.arange(5), 5)
    resident_limit._forget()
    assert limit._held_count == 0
    visited(limit, kernel, space, random_offsets(np.random.default_rng(0), space, 160, 900), 160)
    assert kernel.highest <= 64 * MIB


def test_errors_release_what_was_reserved(monkeypatch):
    kernel = Kernel(FAULTS["huge"], monkeypatch)
    limit = ResidentLimit(64 * MIB)
    space = kernel.space(700 * MIB)
    limit.add(space)

    def fail(start: int, stop: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        limit.visit(space, np.array([0, 5 * MIB]), 160, fail)
    with pytest.raises(ZeroDivisionError), limit.holding(space, 0, 1):
        raise ZeroDivisionError
    assert limit._held_count == 0
