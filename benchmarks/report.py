"""The report of a comparison with peers: also how much of the disk's limit they reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.orders import WORKS, share_of_limit
from embstore.bench import machine
from embstore.bench.report import Report, count

if TYPE_CHECKING:
    from benchmarks.device import DiskLimit
    from embstore.bench.timing import Turn


@dataclass
class PeerReport(Report):
    """Comparisons with peers, and the limit of the disk if it was measured."""

    disk_limit: DiskLimit | None = None

    packages: ClassVar[tuple[str, ...]] = (
        *machine.PACKAGES,
        *("torch", "tensorstore", "h5py", "lmdb", "pylance", "gensim", "matplotlib"),
    )
    works: ClassVar[tuple[str, ...]] = WORKS
    disk_columns: ClassVar[tuple[str, ...]] = ("KiB/row", "reads/s", "of limit")

    @property
    def disk_best(self) -> float | None:
        """The most direct reads per second that the disk did, if that was measured."""
        return None if self.disk_limit is None else self.disk_limit.best

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        limit = None if self.disk_limit is None else self.disk_limit.to_json()
        return super().to_json() | {"disk_limit": limit}

    def disk_lines(self) -> list[str]:
        """Return a line with the limit of the disk."""
        if self.disk_limit is None:
            return []
        rates = self.disk_limit.reads_per_second.items()
        shown = ", ".join(f"{depth}: {count(rate)}" for depth, rate in rates)
        return [
            f"limit of the disk, 4 KiB direct random reads per second by {self.disk_limit.tool}: "
            f"{count(self.disk_limit.best)} (queue depth {shown})"
        ]

    def disk_values(self, turns: list[Turn]) -> list[str]:
        """Return the values of ``disk_columns``; those that are unknown are left out."""
        values = super().disk_values(turns)
        if any(turn.device_reads is None for turn in turns):
            return values
        reads = sum(turn.device_reads or 0 for turn in turns)
        values.append(count(reads / sum(turn.seconds for turn in turns)))
        share = share_of_limit(turns, self.disk_best)
        return values if share is None else [*values, f"{share:.0%}"]
