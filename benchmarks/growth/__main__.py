"""The command ``python -m benchmarks.growth``: all curves, or some of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from benchmarks.growth import __doc__ as description
from benchmarks.growth import (
    calls,
    limited,
    mappings,
    partitions,
    preload,
    ranges,
    threads,
    words,
)
from benchmarks.growth.model import Costs, breaking, needs, text
from benchmarks.growth.sizes import FULL, SMALL, TB, USUAL
from benchmarks.program import parser_of, progress, scratch
from embstore.bench.machine import describe, describe_disk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.growth.curves import Curve
    from benchmarks.growth.sizes import Sizes

    Measure = Callable[[Path, Sizes, Callable[[str], None]], list[Curve]]

WORKS: dict[str, Measure] = {
    "preload": preload.curves,
    "words": words.curves,
    "ranges": ranges.curves,
    "mappings": mappings.curves,
    "partitions": partitions.curves,
    "threads": threads.curves,
    "limited": limited.curves,
    "calls": calls.curves,
}


def main() -> None:
    """Read the arguments, measure, print each curve when it is complete."""
    parser = parser_of("growth", description)
    parser.add_argument("--work", action="append", choices=WORKS, help="by default all")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_true", help="sizes that take seconds")
    size.add_argument("--full", action="store_true", help="the sizes of the recorded results")
    parser.add_argument("--model", action="store_true", help="only the model, by recorded costs")
    given = parser.parse_args()
    if given.model:
        print(on_paper(Costs()))
        return
    sizes = SMALL if given.small else FULL if given.full else USUAL
    found: list[Curve] = []
    with scratch(given.directory, "growth") as place:
        print(json.dumps(describe() | {"disk": describe_disk(place)}), flush=True)
        for work in given.work or WORKS:
            for curve in WORKS[work](place, sizes, progress):
                print("\n" + "\n".join(curve.lines()), flush=True)
                found.append(curve)
    if not given.work:
        print(f"\n{on_paper(Costs.of(found))}")


def on_paper(costs: Costs) -> str:
    """Return what a table of 100 TB needs on one machine and on a hundred."""
    lines = ["on paper: 100 TB of rows of 1,200 bytes", *(f"  {line}" for line in costs.lines())]
    for machines in (1, 100):
        lines += ["", f"machines: {machines}", text(needs(100 * TB, 1200, machines, costs))]
        first = breaking(1200, machines, costs)
        lines += [f"over its limit from {size:,} TB on: {what}" for what, size in first.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
