"""Figures of a report for its page: the answer in one sentence, the tiles below it, the tables."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from embstore.bench import work
from embstore.bench.drawing import TIMES
from embstore.bench.markup import Cell, table, text
from embstore.bench.plots import ids_a_call
from embstore.bench.report import count, plural
from embstore.bench.state import COLD, LIMITED, PRELOADED, STATES, WARM

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKS = {
    work.RANDOM: "Uniform ids",
    work.HOT: f"Zipf-distributed ids, exponent {work.ZIPF_EXPONENT}, scattered over the table",
    work.ONE: "One row, store[5]",
    work.SAME: "The same ids in every call, rows in the processor's caches",
    work.OPEN: "Opening, after all imports",
}
PLACES = {
    COLD: "from disk",
    WARM: "from the page cache",
    PRELOADED: "preloaded",
    LIMITED: "in limited memory",
}
STATE_MEANING = {
    PRELOADED: "the store is opened with preload=True.",
    WARM: "the files are in the page cache, and lookups have touched the mapping.",
    COLD: "the files are dropped from the page cache, and the store has just been opened.",
    LIMITED: "the process, page cache included, is in a memory cgroup of an eighth of the table.",
}
HEADINGS = (
    *(Cell("State", kind="text"), Cell("Ids"), Cell("Reader", kind="text")),
    *(Cell("Rows/s"), Cell("Slowest"), Cell("Fastest"), Cell("p50"), Cell("p90"), Cell("p99")),
    *(Cell("Against array"), Cell("KiB a row")),
)
# Kinds of lookup from the most to the least telling.
TELLING = (work.RANDOM, work.HOT, work.ONE, work.SAME)


class Figures:
    """The figures of one kind of lookup and one batch size that say most about a store.

    Parameters
    ----------
    report : dict
        The report, as JSON.
    """

    def __init__(self, report: dict[str, Any]) -> None:
        measured = [c for c in report["comparisons"] if "rates" in c["entries"][0]]
        works = {each["work"] for each in measured}
        self.work = next((name for name in TELLING if name in works), None)
        chosen = [each for each in measured if each["work"] == self.work]
        # The usual batch, otherwise the largest.
        batches = {each["batch"] for each in chosen}
        self.batch = work.HOT_BATCH if work.HOT_BATCH in batches else max(batches, default=0)
        self.by_state = {each["state"]: each for each in chosen if each["batch"] == self.batch}
        self.opening = {
            each["state"]: each["entries"][0] for each in measured if each["work"] == work.OPEN
        }

    def answer(self) -> str:
        """Return the answer in one sentence or two."""
        if self.work is None:
            return self._opening()
        said: list[str] = []
        for state in (COLD, PRELOADED, WARM, LIMITED):
            if state in self.by_state and len(said) < 2:
                each = self.by_state[state]
                rate = spoken(each["entries"][0]["rows_per_second"])
                ratio = _ratio(each)
                what, than = ("", "the array") if said else (" rows a second", "an array in RAM")
                compared = "" if ratio is None else f", {factor(ratio)} {than}"
                said.append(f"{rate}{what} {place(each)}{compared}")
        kind = WORKS[self.work].partition(",")[0]
        measured = f"{kind[0].lower()}{kind[1:]}, {ids_a_call(self.batch)}"
        return f"{'; '.join(said)}. Measured with {measured}."

    def _opening(self) -> str:
        times = [
            f"{count(entry['microseconds']['p50'], TIMES)} {PLACES[state]}"
            for state, entry in self.opening.items()
        ]
        return f"Opening takes {' and '.join(times)}." if times else "Nothing was measured."

    def tiles(self) -> str:
        """Return a tile for each state, with the array in the same rounds."""
        found = [
            _tile(self.by_state[state])
            for state in (COLD, LIMITED, WARM, PRELOADED)
            if state in self.by_state
        ]
        return f'<dl class="tiles">{"".join(found)}</dl>' if found else ""


def place(comparison: dict[str, Any]) -> str:
    """Return where embstore's rows were; a cold lookup may have read nothing from a disk."""
    state = comparison["state"]
    from_disk = state != COLD or comparison["entries"][0]["bytes_per_row"]
    return PLACES[state] if from_disk else "newly opened, not read from a local disk"


def _tile(each: dict[str, Any]) -> str:
    title = place(each).capitalize()
    own, *others = each["entries"]
    rates = own["rates"]
    span = f"{count(min(rates))} to {count(max(rates))} in " if len(rates) > 1 else ""
    lines = [f"{span}{plural(len(rates), 'round')}"]
    if (ratio := _ratio(each)) is not None:
        rate = count(others[0]["rows_per_second"])
        lines.append(f"{factor(ratio)} matrix[ids]: {rate} in the same rounds")
    shown = "".join(f"<dd>{text(line)}</dd>" for line in lines)
    return (
        f'<div><dt>{text(title)}</dt><dd class="value">'
        f"{text(count(own['rows_per_second']))} <small>rows/s</small></dd>{shown}</div>"
    )


def _ratio(comparison: dict[str, Any]) -> float | None:
    """Return how many times as fast as the array embstore was."""
    others = comparison["entries"][1:]
    return others[0].get("embstore_ratio") if others else None


def factor(ratio: float) -> str:
    """Return a ratio in words.

    >>> factor(1.987), factor(0.052)
    ('1.99 times', '1/19 of')
    """
    return f"1/{1 / ratio:.0f} of" if ratio < 0.2 else f"{ratio:.3g} times"


def spoken(value: float) -> str:
    """Return a number of three digits in words.

    >>> spoken(4_178_000), spoken(112_345)
    ('4.18 million', '112,000')
    """
    if value >= 999_500:
        return f"{value / 1e6:.3g} million"
    return f"{float(f'{value:.3g}'):,.10g}"


def tables(report: dict[str, Any]) -> str:
    """Return a table for each kind of lookup."""
    found = []
    for name, title in WORKS.items():
        chosen = [each for each in report["comparisons"] if each["work"] == name]
        chosen.sort(key=lambda each: (STATES.index(each["state"]), each["batch"]))
        if not chosen:
            continue
        notes = {
            f"{entry['name']}, {each['state']}: {entry['note']}"
            for each in chosen
            for entry in each["entries"]
            if entry["note"]
        }
        notes |= {
            f"{each['state']}: {each['memory_bytes'] >> 20:,} MiB of memory"
            for each in chosen
            if each["memory_bytes"]
        }
        shown = "".join(f'<p class="note">{text(note)}.</p>' for note in sorted(notes))
        rows = chain.from_iterable(map(_rows, chosen))
        found.append(
            f"<h3>{text(title)} <code>{name}</code></h3>{table(title, HEADINGS, rows)}{shown}"
        )
    return "".join(found)


def _rows(each: dict[str, Any]) -> Iterator[tuple[str, list[Cell]]]:
    """Yield the class and the cells of a row for each competitor of a comparison."""
    state = each["state"]
    for number, entry in enumerate(each["entries"]):
        if "rates" not in entry:
            continue
        own = number == 0
        rates, rate = entry["rates"], entry["rows_per_second"]
        # Opening returns no rows.
        speeds = (rate, min(rates), max(rates)) if rate else (None, None, None)
        ratio = _ratio(each) if own else None
        size_read = entry["bytes_per_row"] if own and state in (COLD, LIMITED) else None
        cells = [
            Cell(state, STATES.index(state), "text"),
            _number(each["batch"] or None, "{:,}"),
            Cell(entry["name"], number, "text reader"),
            *(Cell() if value is None else Cell(count(value), value) for value in speeds),
            *(Cell(count(value, TIMES), value) for value in entry["microseconds"].values()),
            _number(ratio, "{:.2f}×"),
            _number(None if size_read is None else size_read / 1024, "{:.1f}"),
        ]
        yield "own" if own else "array", cells


def _number(value: float | None, form: str) -> Cell:
    return Cell() if value is None else Cell(form.format(value), value)
