"""Reports: a table for the terminal, a page, and JSON with the machine, the disk and every sample.

The first entry of a comparison is embstore. A ratio is the median over the rounds of embstore's
rate divided by the other's rate in the same round. The page and the plots are
made from the JSON, so that an earlier run can be shown again.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Self

from embstore.bench.machine import describe, describe_disk
from embstore.bench.state import STATES
from embstore.bench.timing import Turn, percentiles

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from embstore.bench.settings import Settings
    from embstore.bench.work import Case

RESULTS = "results.json"


@dataclass
class Entry:
    """The turns of one competitor in a comparison, one a round, and a note for the reader."""

    name: str
    rows: int
    note: str = ""
    turns: list[Turn] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Rows in a second of calls, of each turn; 0 if the calls return no rows."""
        return [turn.rows / turn.seconds for turn in self.turns]

    @property
    def rate(self) -> float:
        """The median of the rates."""
        return statistics.median(self.rates)


@dataclass
class Comparison:
    """Competitors that took turns at the same lookups in the same state; embstore is the first."""

    case: Case
    state: str
    entries: list[Entry]
    memory_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return every sample, and the figures computed from them."""
        found: dict[str, Any] = asdict(self)
        for number, (shown, entry) in enumerate(zip(found["entries"], self.entries, strict=True)):
            if entry.turns:
                shown["rows_per_second"] = entry.rate
                shown["rates"] = entry.rates
                shown["microseconds"] = percentiles(entry.turns)
                shown["bytes_per_row"] = bytes_per_row(entry.turns)
                shown["embstore_ratio"] = ratio(self.entries[0], entry) if number else None
        return {**found.pop("case"), **found}


@dataclass
class Report:
    """The comparisons, and the table, machine and disk that they were measured on.

    ``skipped`` says what could not be measured, and why; ``notes``, what was measured, but not as
    its name says; ``settings``, what `embstore bench` was asked for.
    """

    RATIO: ClassVar[str] = "vs array"
    RATIO_MEANING: ClassVar[str] = (
        "vs array: embstore's rate divided by that of matrix[ids] in the same round, the median of "
        "the\nrounds. It differs from the ratio of the rates shown, each a median by itself."
    )

    table: dict[str, Any]
    machine: dict[str, Any]
    disk: dict[str, Any]
    comparisons: list[Comparison] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    settings: Settings | None = None

    @classmethod
    def of(cls, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Self:
        """Return an empty report on a table of this shape at a path."""
        size = math.prod(shape) * dtype.itemsize
        about = {"rows": shape[0], "row_shape": list(shape[1:]), "dtype": dtype.name, "bytes": size}
        return cls(about, describe(), describe_disk(path))

    @property
    def caption(self) -> str:
        """The table, the machine and the disk in one line."""
        table, machine, disk = self.table, self.machine, self.disk
        axes = " x ".join(f"{axis:,}" for axis in [table["rows"], *table["row_shape"]])
        where = f"disk {disk['device']}" if disk["device"] else "no local block device"
        if disk["read_ahead_kb"] is not None:
            where += f" (read-ahead {disk['read_ahead_kb']} KiB)"
        cores = plural(machine["processors"], "core")
        return (
            f"{axes} {table['dtype']}, {size_text(table['bytes'])}; {cores} "
            f"{machine['processor']}, {machine['ram_bytes'] / 2**30:.0f} GiB RAM, "
            f"{machine['system']}, {where}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        settings = self.settings and asdict(self.settings) | {"command": self.settings.command}
        return {
            "caption": self.caption,
            "table": self.table,
            "machine": self.machine,
            "disk": self.disk,
            "settings": settings,
            "skipped": self.skipped,
            "notes": self.notes,
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
        }

    def save(self, directory: Path) -> Path:
        """Write ``results.json`` into a directory; return its path."""
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / RESULTS
        file.write_text(json.dumps(self.to_json(), separators=(",", ":")) + "\n")
        return file

    def text(self) -> str:
        """Return the table for the terminal."""
        sections: dict[tuple[str, str], list[Comparison]] = {}
        for each in sorted(self.comparisons, key=lambda each: STATES.index(each.state)):
            sections.setdefault((each.state, each.case.work), []).append(each)
        lines = [line for chosen in sections.values() for line in self._section(chosen)]
        if any(len(each.entries) > 1 for each in self.comparisons):
            lines += ["", self.RATIO_MEANING]
        lines += [f"not measured: {reason}" for reason in self.skipped]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([self.caption, *lines])

    def lines(self, chosen: list[Comparison]) -> list[tuple[int, Entry, float | None]]:
        """Return (batch, entry, ratio) for each line of the comparisons of one work and state."""
        found: list[tuple[int, Entry, float | None]] = []
        for each in chosen:
            own, *others = each.entries
            found.append((each.case.batch, own, ratio(own, others[0]) if others else None))
            found += [(each.case.batch, other, None) for other in others]
        return found

    def disk_columns(self, turns: list[Turn]) -> dict[str, str]:
        """Return what is shown of turns that read from the disk, by title."""
        size = bytes_per_row(turns)
        return {} if size is None else {"KiB/row": f"{size / 1024:.1f}"}

    def _section(self, chosen: list[Comparison]) -> list[str]:
        """Return the lines of one work in one state."""
        lines = self.lines(chosen)
        size = chosen[0].memory_bytes
        within = f" to {size >> 20} MiB of memory" if size else ""
        from_disk = any(turn.bytes_read for _, entry, _ in lines for turn in entry.turns)
        columns = [self.disk_columns(entry.turns) if from_disk else {} for _, entry, _ in lines]
        titles = ["p50", "p90", "p99"]
        compared = any(len(each.entries) > 1 for each in chosen)
        if compared:
            titles.append(self.RATIO)
        titles += dict.fromkeys(chain(*columns))
        shown = ["", f"{chosen[0].state}{within}, {chosen[0].case.work}"]
        shown.append(" " * 37 + f"{'rows/s':>9}" + "".join(f"{title:>10}" for title in titles))
        before = 0  # Opening has no batch.
        for (batch, entry, times), extra in zip(lines, columns, strict=True):
            label = f"batch {batch}" if batch != before else ""
            before = batch
            values = []
            if entry.turns:
                calls = percentiles(entry.turns).values()
                values = [count(value, ("us", "ms", "s")) for value in calls]
                if compared:
                    values.append("" if times is None else f"{times:.2f}x")
                values += extra.values()
            rate = count(entry.rate) if entry.turns and entry.rate else ""
            line = f"{label:<13}{entry.name:<24}{rate:>9}"
            shown.append((line + "".join(f"{value:>10}" for value in values)).rstrip())
        notes = {entry.name: entry.note for _, entry, _ in lines if entry.note}
        return shown + [f"  {name}: {note}" for name, note in notes.items()]


def bytes_per_row(turns: list[Turn]) -> float | None:
    """Return how many bytes were read from the device for each row; None without rows."""
    rows = sum(turn.rows for turn in turns)
    return sum(turn.bytes_read for turn in turns) / rows if rows else None


def ratio(own: Entry, other: Entry) -> float | None:
    """Return how many times as fast ``own`` is: the median over the rounds."""
    # Opening returns no rows: a round is then one call.
    rates = [
        (a.rows or 1) / a.seconds / ((b.rows or 1) / b.seconds)
        for a, b in zip(own.turns, other.turns, strict=False)
    ]
    return statistics.median(rates) if rates else None


def size_text(size: int) -> str:
    """Return a number of bytes in words.

    >>> size_text(4_800_000_000), size_text(40), size_text(1)
    ('4.8 GB', '40 bytes', '1 byte')
    """
    units = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
    for unit, each in units:
        if size >= 0.9995 * each:
            return f"{size / each:.3g} {unit}"
    return plural(size, "byte")


def plural(number: int, noun: str) -> str:
    """Return a number of things.

    >>> plural(1, "round"), plural(5000, "round")
    ('1 round', '5,000 rounds')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def count(value: float, units: tuple[str, ...] = ("", "k", "M", "G")) -> str:
    """Return a number with three digits and a unit, each 1000 times the one before."""
    power = sum(value >= 0.9995 * 1000**each for each in range(1, len(units)))
    return f"{value / 1000**power:.3g} {units[power]}".rstrip()
