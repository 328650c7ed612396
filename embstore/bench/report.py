"""Reports: a table for the terminal, and JSON with every sample.

The first entry of a comparison is embstore. The ratio beside another entry is the median over the
rounds of embstore's rate divided by the other's rate in the same round.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from embstore.bench import machine, work
from embstore.bench.machine import PACKAGES
from embstore.bench.state import STATES
from embstore.bench.timing import Turn, median_rate, percentiles

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np


@dataclass
class Entry:
    """The turns of one competitor in a comparison, one a round; ``failure`` is why it stopped."""

    name: str
    rows: int
    note: str = ""
    turns: list[Turn] = field(default_factory=list)
    failure: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return every sample, and the figures computed from them."""
        seconds = sum(turn.seconds for turn in self.turns)
        read = sum(turn.bytes_read for turn in self.turns)
        figures: dict[str, Any] = {}
        if self.turns:
            figures = {
                "rows_per_second": median_rate(self.turns),
                "microseconds": percentiles(self.turns),
                "bytes_read_per_second": read / seconds,
            }
        return asdict(self) | figures


@dataclass
class Comparison:
    """Competitors that took turns at the same lookups in the same state; embstore is the first."""

    case: work.Case
    state: str
    entries: list[Entry]
    memory_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return every sample."""
        entries = [entry.to_json() for entry in self.entries]
        about = {"state": self.state, "memory_bytes": self.memory_bytes}
        return asdict(self.case) | about | {"entries": entries}


@dataclass
class Report:
    """The comparisons, and the table, machine and disk that they were measured on.

    ``skipped`` says what could not be measured, and why.
    """

    table: dict[str, Any]
    machine: dict[str, Any]
    disk: dict[str, Any]
    comparisons: list[Comparison] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    packages: ClassVar[tuple[str, ...]] = PACKAGES
    works: ClassVar[tuple[str, ...]] = work.WORKS
    disk_columns: ClassVar[tuple[str, ...]] = ("KiB/row",)

    @classmethod
    def of(cls, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Self:
        """Return an empty report on the store of these rows."""
        about = {
            "rows": shape[0],
            "row_shape": list(shape[1:]),
            "dtype": dtype.name,
            "bytes": math.prod(shape) * dtype.itemsize,
        }
        return cls(about, machine.describe(cls.packages), machine.describe_disk(path))

    @property
    def caption(self) -> str:
        """The table and the machine in one line."""
        return machine.caption(self.machine, self.table, self.disk)

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        return {
            "table": self.table,
            "machine": self.machine,
            "disk": self.disk,
            "caption": self.caption,
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "skipped": self.skipped,
        }

    def save(self, directory: Path) -> Path:
        """Write ``results.json`` into a directory; return its path."""
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "results.json"
        file.write_text(json.dumps(self.to_json(), separators=(",", ":")) + "\n")
        return file

    def text(self) -> str:
        """Return the table for the terminal."""
        lines = [self.caption, *self.disk_lines()]
        for state in STATES:
            for name in self.works:
                lines += self._section(state, name)
        lines += [f"skipped: {reason}" for reason in self.skipped]
        return "\n".join(lines)

    def disk_lines(self) -> list[str]:
        """Return lines about the disk, below the caption."""
        return []

    def disk_values(self, turns: list[Turn]) -> list[str]:
        """Return the values of ``disk_columns``; those that are unknown are left out."""
        looked_up = sum(turn.rows for turn in turns)
        return [f"{sum(turn.bytes_read for turn in turns) / looked_up / 1024:.1f}"]

    def _section(self, state: str, name: str) -> list[str]:
        """Return the lines of one work in one state."""
        chosen = [c for c in self.comparisons if (c.state, c.case.work) == (state, name)]
        if not chosen:
            return []
        sizes = {c.memory_bytes for c in chosen if c.memory_bytes}
        within = f" to {max(sizes) >> 20} MiB of memory" if sizes else ""
        from_disk = any(turn.bytes_read for c in chosen for e in c.entries for turn in e.turns)
        titles = ["rows/s", "p50", "p90", "p99", "embstore", *self.disk_columns * from_disk]
        header = f"{titles[0]:>9}" + "".join(f"{title:>10}" for title in titles[1:])
        lines = ["", f"{state}{within}, {name}", " " * 37 + header]
        notes = {}
        for batch in sorted({c.case.batch for c in chosen}):
            label = f"batch {batch}" if batch else ""
            for entry, times in rows([c for c in chosen if c.case.batch == batch]):
                lines.append(label.ljust(13) + self._line(entry, times, from_disk=from_disk))
                label = ""
                if entry.note:
                    notes[entry.name] = entry.note
        return lines + [f"  {name}: {note}" for name, note in notes.items()]

    def _line(self, entry: Entry, times: float | None, *, from_disk: bool) -> str:
        name = f"{entry.name:<24}"
        if not entry.turns:
            return f"{name}{entry.failure}"
        calls = "".join(f"{time(value):>10}" for value in percentiles(entry.turns).values())
        rate = median_rate(entry.turns)
        line = f"{name}{count(rate) if rate else '':>9}{calls}"
        line += f"{times:>9.2f}x" if times is not None else " " * 10
        if from_disk and rate:
            line += "".join(f"{value:>10}" for value in self.disk_values(entry.turns))
        return line + (f"  then {entry.failure}" if entry.failure else "")


def rows(comparisons: list[Comparison]) -> list[tuple[Entry, float | None]]:
    """Return each competitor's entry with all its turns, and how many times as fast embstore is.

    Parameters
    ----------
    comparisons : list of Comparison
        Of one case in one state.
    """
    own: dict[str, Entry] = {}
    others: list[tuple[Entry, float | None]] = []
    for comparison in comparisons:
        first, *rest = comparison.entries
        if first.name not in own:
            own[first.name] = Entry(first.name, first.rows, first.note)
        own[first.name].turns += first.turns
        own[first.name].failure = own[first.name].failure or first.failure
        others += [(entry, ratio(first, entry)) for entry in rest]
    return [(entry, None) for entry in own.values()] + others


def ratio(own: Entry, other: Entry) -> float | None:
    """Return how many times as fast ``own`` is: the median over the rounds."""
    pairs = list(zip(own.turns, other.turns, strict=False))
    if not pairs:
        return None
    if not pairs[0][0].rows:
        return statistics.median(b.seconds / a.seconds for a, b in pairs)
    return statistics.median(a.rows_per_second / b.rows_per_second for a, b in pairs)


def count(value: float) -> str:
    """Return a rate with three digits."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def time(microseconds: float) -> str:
    """Return a time with three digits."""
    for size, unit in ((1e6, " s"), (1e3, " ms")):
        if microseconds >= 0.9995 * size:
            return f"{microseconds / size:.3g}{unit}"
    return f"{microseconds:.3g} us"
