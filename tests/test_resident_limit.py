"""The resident limit on tables opened in place: a fault may map a folio of up to 2 MiB."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import re
import struct
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.progress import Progress
from embstore.reading.incore import mapped_bytes
from embstore.reading.mapping import AddressSpace
from embstore.reading.memory import free_bytes
from embstore.reading.resident_limit import ResidentLimit
from embstore.reading.slices import SliceGather
from embstore.table.addresses import HUGE_PAGE_BYTES
from tests.helpers.gguf_files import Entry, GgufFile

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps").exists(), reason="this system does not list mappings"
)
WIDTH = 160
SOME = 500  # Rows that are not zeros.


def resident_bytes(*paths: Path) -> int:
    """Return the resident size of the mappings of some files, as the kernel counts it."""
    found, counted = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            counted = any(line.endswith(f" {path}") for path in paths)
        elif counted and line.startswith("Rss:"):
            found += int(line.split()[1]) << 10
    return found


class Sparse:
    """A table of zeros, except for `SOME` rows, in files that take no space."""

    def __init__(self, size_bytes: int) -> None:
        self.rows = size_bytes // WIDTH
        self.ids = np.random.default_rng(0).choice(self.rows, SOME, replace=False)
        self.numbers = np.random.default_rng(1).integers(1, 256, (SOME, WIDTH), np.uint8)

    def write(self, path: Path, start: bytes, first: int, rows: int) -> Path:
        """Write a file of consecutive rows behind a header."""
        path.write_bytes(start)
        try:
            os.truncate(path, len(start) + rows * WIDTH)
        except OSError:
            pytest.skip("this file system has no files of this size")
        with path.open("r+b") as file:
            for row, numbers in zip(self.ids.tolist(), self.numbers, strict=True):
                if first <= row < first + rows:
                    file.seek(len(start) + (row - first) * WIDTH)
                    file.write(numbers.tobytes())
        return path

    def check(self, store: embstore.EmbeddingStore, seed: int, count: int) -> None:
        """Look up random rows, some of which are not zeros."""
        numbers = np.random.default_rng(seed)
        ids = numbers.integers(0, self.rows, count)
        ids[np.isin(ids, self.ids)] = self.ids[0]
        expected = np.zeros((count, WIDTH), np.uint8)
        places, which = numbers.choice(count, count // 5, replace=False), numbers.integers(0, SOME)
        ids[places], expected[places] = self.ids[which], self.numbers[which]
        expected[ids == self.ids[0]] = self.numbers[0]
        assert np.array_equal(store.lookup(ids, raw=True), expected)


def npy(folder: Path, table: Sparse) -> dict[str, Any]:
    header = str({"descr": "|u1", "fortran_order": False, "shape": (table.rows, WIDTH)}).encode()
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n"
    return {"path": table.write(folder / "t.npy", start, 0, table.rows)}


def safetensors_start(rows: int, name: str = "a") -> bytes:
    entry = {"dtype": "U8", "shape": [rows, WIDTH], "data_offsets": [0, rows * WIDTH]}
    header = json.dumps({name: entry}).encode()
    header += b" " * (3 - len(header) % 8)  # So that no row is aligned.
    return struct.pack("<Q", len(header)) + header


def safetensors(folder: Path, table: Sparse) -> dict[str, Any]:
    start = safetensors_start(table.rows)
    return {"path": table.write(folder / "t.safetensors", start, 0, table.rows)}


def parts(folder: Path, table: Sparse) -> dict[str, Any]:
    """A table in three files, at different places in them."""
    bounds = [0, table.rows // 3 + 7, table.rows // 2, table.rows]
    for part, (first, stop) in enumerate(pairwise(bounds)):
        start = safetensors_start(stop - first, f"part_{part}.weight")
        table.write(folder / f"{part}.safetensors", start, first, stop - first)
    return {"path": folder, "tensor": "part_{}.weight"}


def gguf(folder: Path, table: Sparse) -> dict[str, Any]:
    entry = Entry("a", "I8", (table.rows, WIDTH))
    start = GgufFile([entry]).header()
    start += bytes(-len(start) % 32)
    return {"path": table.write(folder / "t.gguf", start, 0, table.rows)}


def open_limited(options: dict[str, Any], limit: str, **more: Any) -> embstore.EmbeddingStore:
    return embstore.open(**options, resident_limit=limit, **more)


MIB = 1 << 20


def highest(store: embstore.EmbeddingStore, paths: list[Path], work: Callable[[], None]) -> int:
    """Return the highest resident size that is seen within and after some work."""
    seen = [resident_bytes(*paths)]
    whole, calls = SliceGather._take, 0

    def take(self: SliceGather, *some: Any, **options: Any) -> None:
        nonlocal calls
        whole(self, *some, **options)
        calls += 1
        if calls % 16 == 0:
            seen.append(resident_bytes(*paths))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SliceGather, "_take", take)
        work()
    seen.append(resident_bytes(*paths))
    assert store.rows
    return max(seen)


@pytest.mark.parametrize("preload", [False, True])
def test_table_of_two_gigabytes(tmp_path, preload):
    """Uniform ids, as in a model that never asks for the same row twice."""
    table = Sparse(2 << 30)
    if preload and (free_bytes() or 0) < 3 * table.rows * WIDTH:
        pytest.skip("little memory is free")
    options = safetensors(tmp_path, table)
    with open_limited(options, "128MiB", preload=preload) as store:
        works = [partial(table.check, store, seed, 300) for seed in range(10)]
        found = [highest(store, [options["path"]], work) for work in works]
        assert MIB < max(found) <= 128 * MIB
        if preload and found[0] > 30 * MIB:  # Otherwise, the system makes no large folios.
            assert min(found[1:]) < max(found)  # Pages were unmapped.


@pytest.mark.parametrize(
    ("write", "how"),
    [
        *((write, "") for write in (npy, safetensors, parts, gguf)),
        *((safetensors, "preload"), (parts, "preload"), (npy, "row_cache"), (parts, "row_cache")),
    ],
)
def test_limit_is_kept(tmp_path, write, how):
    """Preloading makes the largest folios that the system has."""
    table = Sparse(160 * MIB)
    options = write(tmp_path, table)
    more: dict[str, Any] = {"preload": {"preload": True}, "row_cache": {"row_cache": "16MiB"}}
    limit = 80 if how == "row_cache" else 64
    paths = sorted(tmp_path.iterdir())
    with open_limited(options, f"{limit}MiB", **more.get(how, {})) as store:

        def work() -> None:
            for seed in range(2):
                for count in (1, 40, 900):
                    table.check(store, seed, count)
            store.scan(lambda ids, rows: None)

        assert 4 * MIB < highest(store, paths, work) <= 64 * MIB
        if how == "row_cache":
            store.warm(table.ids)
            assert highest(store, paths, work) <= 64 * MIB
            assert store.residency().row_cache_rows >= SOME


def test_limit_is_kept_while_preloading(tmp_path, monkeypatch):
    table = Sparse(192 * MIB)
    options = safetensors(tmp_path, table)
    seen: list[int] = []
    progress: list[Progress] = []
    whole = AddressSpace.advise

    def advise(self: AddressSpace, *given: int) -> int:
        found = whole(self, *given)
        seen.append(resident_bytes(options["path"]))
        return found

    monkeypatch.setattr(AddressSpace, "advise", advise)
    with open_limited(options, "64MiB", preload=True, progress=progress.append) as store:
        assert 4 * MIB < max(seen) <= 64 * MIB
        assert store.residency().page_cache_bytes > 150 * MIB
        assert resident_bytes(options["path"]) <= 8 * MIB
        table.check(store, 0, 500)
    assert progress[-1] == Progress(progress[-1].total_bytes, progress[-1].total_bytes)


def test_each_region_of_a_lookup_is_reserved_once(tmp_path, monkeypatch):
    """Otherwise, pages would be unmapped that the next rows of the lookup need."""
    table = Sparse(192 * MIB)
    counted = []
    whole = ResidentLimit._reserve

    def reserve(self: ResidentLimit, *given: Any) -> Any:
        held = whole(self, *given)
        counted.append(len(held))
        return held

    with open_limited(safetensors(tmp_path, table), "64MiB") as store:
        monkeypatch.setattr(ResidentLimit, "_reserve", reserve)
        table.check(store, 0, 20_000)
    # A slice starts in the region in which the one before it ended.
    assert sum(counted) < 192 * MIB // HUGE_PAGE_BYTES * 3


def test_table_within_the_limit_has_none(tmp_path):
    table = Sparse(32 * MIB)
    with open_limited(npy(tmp_path, table), "64MiB") as store:
        assert store._records._limit is None  # type: ignore[union-attr]
        table.check(store, 0, 900)
        assert store._few is not None  # So it has a short path, too.


def chunks(folder: Path, rows: int) -> Path:
    """Write a store of many chunks, whose row r has the number r % 251 everywhere."""
    path = folder / "chunks.embstore"
    with embstore.StoreWriter(
        path, row_shape=(WIDTH,), dtype="uint8", rows=rows, partitions=3, chunk_rows=1 << 12
    ) as writer:
        for start in range(0, rows, 100_000):
            numbers = np.arange(start, min(start + 100_000, rows)) % 251
            writer.write(np.repeat(numbers[:, None].astype(np.uint8), WIDTH, axis=1))
    return path


@pytest.mark.parametrize("thread_count", [1, 4])
@pytest.mark.parametrize("huge", [False, True])
def test_limit_is_kept_over_many_chunks_and_threads(tmp_path, thread_count, huge, monkeypatch):
    rows = 700_000  # 112 MB, in 172 chunks.
    path = chunks(tmp_path, rows)
    if huge:
        embstore.open(path, preload=True).close()
    failures: list[Exception] = []
    with embstore.open(path, resident_limit="64MiB") as store:
        records: Any = store._records
        seen = [0]
        whole, calls = SliceGather._take, itertools.count(1)

        def take(self: SliceGather, *given: Any, **options: Any) -> None:
            whole(self, *given, **options)
            if next(calls) % 16 == 0:
                seen.append(mapped_bytes(records._space))

        monkeypatch.setattr(SliceGather, "_take", take)

        def look_up(seed: int) -> None:
            rng = np.random.default_rng(seed)
            try:
                for count in (1, 30, 900, 3000):
                    ids = rng.integers(0, rows, count)
                    found = store.lookup(ids)
                    assert np.array_equal(found[:, 0], ids % 251)
                    assert np.array_equal(found[:, 0], found[:, -1])
            except Exception as error:
                failures.append(error)

        threads = [Thread(target=look_up, args=(seed,)) for seed in range(thread_count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen.append(mapped_bytes(records._space))
    assert not failures
    assert MIB < max(seen) <= 64 * MIB


def test_copies_keep_the_limit(tmp_path):
    table = Sparse(192 * MIB)
    options = parts(tmp_path, table)
    paths = sorted(tmp_path.iterdir())
    with open_limited(options, "64MiB") as store, pickle.loads(pickle.dumps(store)) as copy:
        assert highest(copy, paths, lambda: table.check(copy, 0, 2000)) <= 64 * MIB
