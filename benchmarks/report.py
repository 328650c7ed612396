"""The report of a comparison with peers: also how much of the disk's limit they reach."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, ClassVar, Self

from benchmarks.orders import DiskTurn, share_of_limit
from embstore.bench.report import Comparison, Entry, Report, count, ratio

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from benchmarks.device import DiskLimit
    from embstore.bench.timing import Turn

PACKAGES = ("torch", "tensorstore", "h5py", "lmdb", "pylance", "gensim", "matplotlib")


@dataclass
class PeerReport(Report):
    """Comparisons with peers, and the limit of the disk if it was measured."""

    RATIO: ClassVar[str] = "embstore"
    RATIO_MEANING: ClassVar[str] = (
        "embstore: its rate divided by the line's in the same round, the median of the rounds."
    )

    disk_limit: DiskLimit | None = None

    @classmethod
    def of(cls, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Self:
        """Return an empty report, with the versions of the peers' packages."""
        report = super().of(path, shape, dtype)
        for package in PACKAGES:
            with suppress(PackageNotFoundError):
                report.machine["versions"][package] = version(package)
        return report

    @property
    def disk_best(self) -> float | None:
        """The most direct reads per second that the disk did, if that was measured."""
        return None if self.disk_limit is None else self.disk_limit.best

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        limit = None
        if self.disk_limit is not None:
            turns = [t for c in self.comparisons for entry in c.entries for t in entry.turns]
            again = [t.disk_reads_per_second for t in turns if isinstance(t, DiskTurn)]
            limit = self.disk_limit.to_json() | {"again": [rate for rate in again if rate]}
        return super().to_json() | {"disk_limit": limit}

    def save_figures(self, directory: Path) -> Path:
        """Write ``table.json``, which has no samples and is small; return its path.

        The plots can be drawn from it.
        """
        found = rounded(self.to_json())
        comparisons = found.pop("comparisons")
        for each in comparisons:
            for entry in each["entries"]:
                del entry["turns"]
        lines = [f'"{name}":{json.dumps(value)}' for name, value in found.items()]
        each_line = ",\n".join(json.dumps(each, separators=(",", ":")) for each in comparisons)
        lines.append(f'"comparisons":[\n{each_line}\n]')
        file = directory / "table.json"
        file.write_text("{" + ",\n".join(lines) + "}\n")
        return file

    def text(self) -> str:
        """Return the table for the terminal, with the limit of the disk below the caption."""
        if self.disk_limit is None:
            return super().text()
        caption, sections = super().text().split("\n", 1)
        rates = self.disk_limit.reads_per_second.items()
        shown = ", ".join(f"{depth}: {count(rate)}" for depth, rate in rates)
        limit = (
            f"limit of the disk, 4 KiB direct random reads per second by {self.disk_limit.tool}: "
            f"{count(self.disk_limit.best)} (queue depth {shown})"
        )
        return f"{caption}\n{limit}\n{sections}"

    def lines(self, chosen: list[Comparison]) -> list[tuple[int, Entry, float | None]]:
        """Return embstore's entries with the turns of all comparisons of a batch, then the peers'.

        embstore takes turns with one peer after the other, so it is in each comparison.
        """
        found: list[tuple[int, Entry, float | None]] = []
        for batch in sorted({each.case.batch for each in chosen}):
            own: dict[str, Entry] = {}
            peers: list[tuple[int, Entry, float | None]] = []
            for each in chosen:
                if each.case.batch == batch:
                    first, *rest = each.entries
                    merged = own.setdefault(first.name, Entry(first.name, first.rows))
                    merged.turns += first.turns
                    merged.note = merged.note or first.note
                    peers += [(batch, entry, ratio(first, entry)) for entry in rest]
            found += [*((batch, entry, None) for entry in own.values()), *peers]
        return found

    def disk_columns(self, turns: list[Turn]) -> dict[str, str]:
        """Return also the device's reads per second and their share of the limit, if known."""
        columns = super().disk_columns(turns)
        reads = [turn.device_reads for turn in turns if isinstance(turn, DiskTurn)]
        known = [each for each in reads if each is not None]
        if not columns or len(known) < len(turns):
            return columns
        columns["reads/s"] = count(sum(known) / sum(turn.seconds for turn in turns))
        share = share_of_limit(turns, self.disk_best)
        return columns if share is None else columns | {"of limit": f"{share:.0%}"}


def rounded(value: Any) -> Any:
    """Return JSON with four digits of each number that is not whole.

    >>> rounded({"rates": [123456.7, 0.0123456]})
    {'rates': [123500.0, 0.01235]}
    """
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list | tuple) else value
