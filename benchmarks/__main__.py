"""The command ``python -m benchmarks``: the full comparison, or a part of it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks import goals, plots
from benchmarks.measure import Settings
from benchmarks.orders import WORKS
from benchmarks.peers import ALL
from benchmarks.plan import Plan
from benchmarks.run import Comparing, run
from embstore.bench.plots import missing
from embstore.bench.state import STATES
from embstore.bench.work import BATCHES
from embstore.errors import EmbstoreError
from tools.make_table import as_bytes


def main() -> None:
    """Read the arguments, run, print."""
    given = _parse()
    if given.plots:
        for file in plots.draw(json.loads(given.plots.read_text()), given.output):
            print(file)
        return
    start = time.monotonic()

    def progress(text: str) -> None:
        print(f"{time.monotonic() - start:6.0f} s  {text}", file=sys.stderr, flush=True)

    rows = given.rows if given.bytes is None else given.bytes // (4 * given.dimension)
    try:
        comparing = Comparing(
            directory=given.directory,
            rows=rows,
            dimension=given.dimension,
            word_rows=given.word_rows,
            store=given.store,
            peers=tuple(given.peer or ()),
            plan=Plan(
                works=tuple(given.work or WORKS),
                states=tuple(given.state or STATES),
                batches=tuple(given.batch or BATCHES),
                settings=Settings(given.rounds, given.seconds),
                disk_seconds=given.disk_seconds,
            ),
        )
        report = run(comparing, progress)
        print(report.text())
        print(f"\n{goals.text(report)}")
        print(f"\nwritten: {report.save(given.output)}")
        print(f"written: {report.save_figures(given.output)}")
        package = missing()
        if package is None:
            for file in plots.draw(report.to_json(), given.output):
                print(f"written: {file}")
        else:
            print(f"no plots: {package} is not installed")
    except (EmbstoreError, OSError, ValueError) as error:
        sys.exit(f"benchmarks: {error}")


def _parse() -> argparse.Namespace:
    names = ", ".join(repr(kind.name) for kind in ALL)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare embstore with its peers. --peer, --work, --state and --batch choose "
        "parts of the comparison, and may be given several times.",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--rows", type=int, default=4_000_000)
    size.add_argument("--bytes", type=as_bytes, help="size of all rows, as in 4.8GB")
    parser.add_argument("--dimension", type=int, default=300)
    parser.add_argument("--word-rows", type=int, default=1_000_000, help="rows that have words")
    parser.add_argument("--store", type=Path, help="use this store by tools/make_table")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("data"),
        help="directory of tables and peers' files, on the disk to measure",
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--peer", action="append", help=f"one of {names}")
    parser.add_argument("--work", action="append", choices=WORKS)
    parser.add_argument("--state", action="append", choices=STATES)
    parser.add_argument("--batch", action="append", type=int)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each peer")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a turn")
    parser.add_argument(
        "--disk-seconds",
        type=float,
        default=2.0,
        help="for each queue depth of the limit of the disk; 0 leaves it out",
    )
    parser.add_argument(
        "--plots",
        type=Path,
        metavar="RESULTS.JSON",
        help="only redraw the plots of an earlier run",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
