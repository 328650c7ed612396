"""What came out? JSON with every sample, and a table for the terminal.

The first peer of every comparison is embstore; the ratio beside another one is the median over the
rounds of embstore's rate through the other's, both of the same round.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from embstore.bench import device, machine, work
from embstore.bench.orders import Turn, median_rate, percentiles, share_of_limit
from embstore.bench.state import STATES

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.bench.device import DiskLimit
    from embstore.bench.measure import Comparison, Entry
    from embstore.bench.table import Table


@dataclass
class Report:
    """What was measured, on what."""

    table: dict[str, Any]
    machine: dict[str, Any]
    disk: dict[str, Any]
    disk_limit: DiskLimit | None = None
    comparisons: list[Comparison] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, table: Table) -> Report:
        """Return a report on a table, with nothing measured yet."""
        about = {
            "rows": table.rows,
            "row_shape": list(table.row_shape),
            "dtype": table.dtype,
            "bytes": table.total_bytes,
        }
        return cls(about, machine.describe(), device.describe(table.path))

    @property
    def disk_best(self) -> float | None:
        """The most direct reads per second that the disk did, if that was measured."""
        return None if self.disk_limit is None else self.disk_limit.best

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
            "disk_limit": None if self.disk_limit is None else self.disk_limit.to_json(),
            "caption": self.caption,
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "skipped": self.skipped,
        }

    def save(self, directory: Path) -> Path:
        """Write ``results.json``; return its path."""
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "results.json"
        file.write_text(json.dumps(self.to_json(), separators=(",", ":")) + "\n")
        return file

    def text(self) -> str:
        """Return the table for the terminal."""
        lines = [self.caption, *self._limit_lines()]
        for state in STATES:
            for name in work.WORKS:
                lines += self._section(state, name)
        lines += [f"skipped: {reason}" for reason in self.skipped]
        return "\n".join(lines)

    def _limit_lines(self) -> list[str]:
        if self.disk_limit is None:
            return []
        rates = self.disk_limit.reads_per_second.items()
        shown = ", ".join(f"{depth}: {_count(rate)}" for depth, rate in rates)
        return [
            f"the disk's limit, 4 KiB direct random reads per second by {self.disk_limit.tool}: "
            f"{_count(self.disk_limit.best)} (queue depth {shown})"
        ]

    def _section(self, state: str, name: str) -> list[str]:
        """Return the lines of one work in one state."""
        chosen = [c for c in self.comparisons if (c.state, c.case.work) == (state, name)]
        if not chosen:
            return []
        sizes = {c.memory_bytes for c in chosen if c.memory_bytes}
        within = f" to {max(sizes) >> 20} MiB of memory" if sizes else ""
        from_disk = any(turn.bytes_read for c in chosen for e in c.entries for turn in e.turns)
        lines = ["", f"{state}{within}, {name}", _header(from_disk=from_disk)]
        notes = {}
        for batch in sorted({c.case.batch for c in chosen}):
            label = f"batch {batch}" if batch else ""
            for entry, ratio in rows([c for c in chosen if c.case.batch == batch]):
                lines.append(label.ljust(13) + self._line(entry, ratio, from_disk=from_disk))
                label = ""
                if entry.note:
                    notes[entry.name] = entry.note
        return lines + [f"  {peer}: {note}" for peer, note in notes.items()]

    def _line(self, entry: Entry, ratio: float | None, *, from_disk: bool) -> str:
        name = f"{entry.name:<24}"
        if not entry.turns:
            return f"{name}{entry.failure}"
        times = "".join(f"{_time(value):>10}" for value in percentiles(entry.turns).values())
        rate = median_rate(entry.turns)
        line = f"{name}{_count(rate) if rate else '':>9}{times}"
        line += f"{ratio:>9.2f}x" if ratio is not None else " " * 10
        if from_disk and rate:
            line += self._device_columns(entry.turns)
        return line + (f"  then {entry.failure}" if entry.failure else "")

    def _device_columns(self, turns: list[Turn]) -> str:
        seconds = sum(turn.seconds for turn in turns)
        looked_up = sum(turn.rows for turn in turns)
        line = f"{sum(turn.bytes_read for turn in turns) / looked_up / 1024:>10.1f}"
        reads = [turn.device_reads for turn in turns]
        if None in reads:
            return line
        line += f"{_count(sum(read or 0 for read in reads) / seconds):>10}"
        share = share_of_limit(turns, self.disk_best)
        return line if share is None else f"{line}{share:>10.0%}"


def rows(comparisons: list[Comparison]) -> list[tuple[Entry, float | None]]:
    """Return one entry for each peer with all of its turns, and how many times embstore is as fast.

    Parameters
    ----------
    comparisons : list of Comparison
        Of one case in one state.
    """
    first: dict[str, Entry] = {}
    others: list[tuple[Entry, float | None]] = []
    for comparison in comparisons:
        own, *rest = comparison.entries
        if own.name in first:
            first[own.name].turns.extend(own.turns)
        else:
            first[own.name] = _copy(own)
        others += [(entry, ratio(own, entry)) for entry in rest]
    return [(entry, None) for entry in first.values()] + others


def ratio(own: Entry, other: Entry) -> float | None:
    """Return how many times as fast ``own`` is, the median over the rounds."""
    pairs = list(zip(own.turns, other.turns, strict=False))
    if not pairs:
        return None
    if not pairs[0][0].rows:
        return statistics.median(b.seconds / a.seconds for a, b in pairs)
    return statistics.median(a.rows_per_second / b.rows_per_second for a, b in pairs)


def _copy(entry: Entry) -> Entry:
    return type(entry)(
        entry.name, entry.version, entry.rows, entry.note, list(entry.turns), entry.failure
    )


def _header(*, from_disk: bool) -> str:
    names = f"{'rows/s':>9}{'p50':>10}{'p90':>10}{'p99':>10}{'embstore':>10}"
    if from_disk:
        names += f"{'KiB/row':>10}{'reads/s':>10}{'of limit':>10}"
    return " " * 37 + names


def _count(value: float) -> str:
    """Return a rate in three digits."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _time(microseconds: float) -> str:
    """Return a time in three digits."""
    for size, unit in ((1e6, " s"), (1e3, " ms")):
        if microseconds >= 0.9995 * size:
            return f"{microseconds / size:.3g}{unit}"
    return f"{microseconds:.3g} us"
