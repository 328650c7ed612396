"""A model on paper: what a table of float32 rows needs, from the costs that the curves measure.

Each need is a formula of the table's size, and the limit that it meets. Nothing here runs at that
size. What a store chooses (partitions, chunks, metadata) comes from the code that chooses it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from embstore.formats.own import spec
from embstore.formats.own.manifest import Manifest
from embstore.formats.own.sharded import ListedChunks
from embstore.vocabulary.hashing import slot_count_for
from embstore.writing.metadata import array_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.growth.curves import Curve

TB, GB, MIB, HOUR = 1e12, 1e9, 1 << 20, 3600
PAGE_BYTES, HUGE_PAGE_BYTES = 4096, 2 << 20
_LARGE = 100  # Numbers from here on have no decimals.
# What `breaking` looks at: up to 1,000 TB, in steps.
PETABYTE, STEP = 1_000.0, 1.05
# Linux's default.
MAX_MAPPINGS = 65_530
# Of the 128 TiB that a process has, where the program lies at two thirds of them, as Linux places
# those that are position-independent.
MAX_SPACE_BYTES = 2 / 3 * 2**47


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured on one machine, by default the one of the recorded results.

    Attributes
    ----------
    open_us, open_cold_us : float
        Of opening a chunk, with its end in the page cache and without.
    partition_us : float
        Of opening a partition of one chunk.
    chunk_memory_bytes : float
        What an open store keeps of a chunk in memory.
    table_bytes : float
        Page tables of a random row.
    words_per_second : float
        Of a build with a limit on its memory.
    preload_gb_per_second : float
        Of a cold table.
    disk_gb_per_second : float
        Assumed: what a disk writes, and reads, in order.
    word_bytes : float
        Assumed: of a word, as UTF-8.
    """

    open_us: float = 14.3
    open_cold_us: float = 24.0
    partition_us: float = 67.2
    chunk_memory_bytes: float = 267.0
    table_bytes: float = 7_340.0
    words_per_second: float = 2_130_000.0
    preload_gb_per_second: float = 2.63
    disk_gb_per_second: float = 2.0
    word_bytes: float = 10.0

    @classmethod
    def of(cls, curves: Iterable[Curve]) -> Costs:
        """Return the costs at the largest sizes of some curves; the others by default."""
        found = {}
        named = {curve.name: curve for curve in curves}
        for cost, (name, way, factor) in _MEASURED.items():
            if name in named and named[name].ways.get(way):
                found[cost] = factor * named[name].last(way)
        if (curve := named.get("preload, by size")) is not None:
            seconds = curve.ways["cold, s"]
            found["preload_gb_per_second"] = max(seconds) * MIB / GB / curve.last("cold, s")
        return cls(**{cost: float(f"{value:.3g}") for cost, value in found.items()})

    def lines(self) -> list[str]:
        """Return a line for each cost."""
        return [f"{each.name} = {getattr(self, each.name):,.6g}" for each in fields(self)]


# The curve, the way and the factor that a cost comes from.
_MEASURED = {
    "open_us": ("open, by chunks", "warm, us a chunk", 1.0),
    "open_cold_us": ("open, by chunks", "cold, us a chunk", 1.0),
    "chunk_memory_bytes": ("open, by chunks", "memory, bytes a chunk", 1.0),
    "partition_us": ("open, by partitions", "warm, us a chunk", 1.0),
    "table_bytes": ("mappings, sparse files", "page tables, bytes a random row", 1.0),
    "words_per_second": ("words, built beyond the memory share", "million words/s", 1e6),
}


@dataclass(frozen=True, slots=True)
class Need:
    """What a machine needs: an amount, its unit, the formula, and the limit that it meets."""

    what: str
    amount: float
    unit: str
    formula: str
    limit: float | None = None

    @property
    def share(self) -> float:
        """How much of its limit it takes."""
        return 0.0 if self.limit is None else self.amount / self.limit

    def line(self) -> str:
        """Return one line."""
        limit = "" if self.limit is None else f"{_number(self.limit)}"
        broken = "NO" if self.share > 1 else "yes" if self.limit is not None else ""
        start = f"{self.what:<36}{_number(self.amount):>8} {self.unit:<8}{limit:>8} {broken:<4}"
        return f"{start}{self.formula}"


def needs(
    table_bytes: float, row_bytes: int, machines: int = 1, costs: Costs | None = None
) -> list[Need]:
    """Return what each machine needs for its part of a table.

    Parameters
    ----------
    table_bytes : float
        Size of all rows.
    row_bytes : int
        Size of a row.
    machines : int
        Among how many the partitions are divided.
    costs : Costs, optional
        What was measured; by default, what was recorded.
    """
    costs = Costs() if costs is None else costs
    rows = int(table_bytes) // row_bytes
    manifest = manifest_of(rows, row_bytes)
    array = manifest.partition(0)
    partitions = -(-manifest.partition_count // machines)
    chunks = partitions * array.chunk_count
    part_bytes, part_rows = table_bytes / machines, rows / machines
    return [
        Need("partitions", partitions, "", "of all, / machines", spec.MAX_PARTITIONS),
        Need("chunks, and mappings", chunks, "", "partitions * chunks", MAX_MAPPINGS),
        Need(
            "address space",
            chunks * stride_bytes(array.chunk_bytes) / TB,
            "TB",
            "chunks * stride",
            MAX_SPACE_BYTES / TB,
        ),
        Need(
            "metadata, its largest file",
            max(_manifest_bytes(manifest), _array_bytes(manifest)) / MIB,
            "MiB",
            "a line for each partition, or chunk",
            spec.MAX_METADATA_BYTES / MIB,
        ),
        Need(
            "open, warm",
            (chunks * costs.open_us + partitions * costs.partition_us) / 1e6,
            "s",
            "chunks * open_us + partitions * partition_us",
        ),
        Need(
            "open, cold",
            (chunks * costs.open_cold_us + partitions * costs.partition_us) / 1e6,
            "s",
            "chunks * open_cold_us + partitions * partition_us",
        ),
        Need(
            "memory of the open store",
            chunks * costs.chunk_memory_bytes / GB,
            "GB",
            "chunks * chunk_memory_bytes",
        ),
        *_memory(part_bytes, part_rows, row_bytes, costs),
        *_words(rows, costs),
        *_rates(part_bytes, costs),
    ]


def manifest_of(rows: int, row_bytes: int) -> Manifest:
    """Return the manifest of a table as a build would choose it."""
    partitions = spec.choose_partition_count(rows * row_bytes)
    most = spec.choose_chunk_bytes(rows * row_bytes)
    return Manifest(
        rows=rows,
        row_shape=(row_bytes // 4,),
        dtype=np.dtype("<f4"),
        partition_count=partitions,
        strategy="mod",
        chunk_rows=spec.choose_chunk_rows(-(-rows // partitions), row_bytes, most, partitions),
    )


def stride_bytes(chunk_bytes: int) -> int:
    """Return how far chunks are apart in the address space."""
    return -(-chunk_bytes // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES


def _memory(part_bytes: float, part_rows: float, row_bytes: int, costs: Costs) -> list[Need]:
    pages = 1 + (row_bytes - 1) / PAGE_BYTES
    most = part_bytes / HUGE_PAGE_BYTES * PAGE_BYTES / GB
    million = min(1e6 * costs.table_bytes / GB, most)
    return [
        Need("page tables, a million random rows", million, "GB", "table_bytes for each"),
        Need("page tables, at most", most, "GB", "a page for each 2 MiB"),
        Need(
            "page cache of 1 % of the rows",
            part_rows / 100 * pages * PAGE_BYTES / TB,
            "TB",
            "rows / 100 * pages of a row",
        ),
        Need(
            "row cache of 1 % of the rows",
            part_rows / 100 * row_bytes / TB,
            "TB",
            "rows / 100 * row_bytes",
        ),
    ]


def _words(rows: int, costs: Costs) -> list[Need]:
    """Return the needs of words, which are not divided: a machine that looks them up has all."""
    sizes = [(int(rows * costs.word_bytes), 1), (rows + 1, 8), (slot_count_for(rows), 8)]
    size_bytes = sum(count * width for count, width in sizes)
    chunks = sum(-(-count // spec.choose_chunk_rows(count, width)) for count, width in sizes)
    return [
        Need("words", rows / 1e9, "billion", "rows", spec.MAX_ROWS / 1e9),
        Need("words, their files", size_bytes / TB, "TB", "rows * (word_bytes + 8) + slots * 8"),
        Need("words, chunks and mappings", chunks, "", "those of three arrays", MAX_MAPPINGS),
        Need(
            "words, built", rows / costs.words_per_second / HOUR, "hours", "rows / words_per_second"
        ),
    ]


def _rates(part_bytes: float, costs: Costs) -> list[Need]:
    hours = part_bytes / GB / costs.disk_gb_per_second / HOUR
    return [
        Need("rows, built", hours, "hours", "bytes / disk_gb_per_second"),
        Need("verified", hours, "hours", "bytes / disk_gb_per_second"),
        Need(
            "preloaded",
            part_bytes / GB / costs.preload_gb_per_second / HOUR,
            "hours",
            "bytes / preload_gb_per_second",
        ),
    ]


def _manifest_bytes(manifest: Manifest) -> int:
    """Return the bytes of the root metadata, nearly all of which lists the partitions'."""
    entry = len('        "partitions/1000/zarr.json": 1000000000,\n')
    return entry * manifest.partition_count


def _array_bytes(manifest: Manifest) -> int:
    """Return the bytes of a partition's metadata."""
    array = manifest.partition(0)
    checksums = [1 << 31] * array.chunk_count
    return len(array_metadata(array, ListedChunks(checksums, checksums, [])))


def text(found: Iterable[Need]) -> str:
    """Return the needs as a table; a need that is over its limit has NO."""
    head = f"{'a machine needs':<53}{'limit':>8}{'':5}formula"
    return "\n".join([head, *(need.line() for need in found)])


def breaking(row_bytes: int, machines: int = 1, costs: Costs | None = None) -> dict[str, float]:
    """Return what goes over its limit below a petabyte, and from about how many TB on, in order."""
    found: dict[str, float] = {}
    size = 1.0
    while size < PETABYTE:
        for need in needs(size * TB, row_bytes, machines, costs):
            if need.share > 1:
                found.setdefault(need.what, round(size, 1))
        size *= STEP
    return found


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= _LARGE else f"{value:.3g}"
