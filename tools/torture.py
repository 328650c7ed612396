"""All campaigns in `tests.campaigns`, one after the other: ``tools/torture``.

1. Each campaign runs at full size, from a seed that repeats it.
2. The first broken promise ends the run with exit status 1.
3. With ``--record``, outcomes are noted in ``tools/torture_results.md``.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import embstore
from tests.campaigns.runs import CAMPAIGNS, run

RESULTS = Path(__file__).with_name("torture_results.md")
_HEAD = """\
# What `tools/torture` found last

Each line is the last full run of one campaign; `tools/torture --record` writes them.

| campaign | date | seed | minutes | with | outcome |
| --- | --- | --- | --- | --- | --- |
"""


def record(name: str, seed: int, minutes: float, outcome: str, results: Path = RESULTS) -> None:
    """Replace a campaign's lines in the file of results by its latest outcome."""
    rows: dict[str, list[str]] = {name: [] for name in CAMPAIGNS}
    if results.exists():
        for line in results.read_text().splitlines():
            # The first word of a line is its campaign; a remark may follow.
            words = line.removeprefix("| ").split()
            if line.startswith("| ") and words[0] in CAMPAIGNS:
                rows[words[0]].append(line)
    versions = f"embstore {embstore.__version__}, Python {platform.python_version()}"
    today = datetime.now(UTC).date().isoformat()
    rows[name] = [f"| {name} | {today} | {seed} | {minutes:.1f} | {versions} | {outcome} |"]
    lines = [line for campaign in rows.values() for line in campaign]
    results.write_text(_HEAD + "\n".join(lines) + "\n")


def main() -> None:
    """Read the arguments, and run campaigns."""
    parser = argparse.ArgumentParser(prog="tools/torture", description=__doc__.splitlines()[0])
    parser.add_argument("campaigns", nargs="*", metavar="CAMPAIGN", help=", ".join(CAMPAIGNS))
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--seed", type=int, help="seed of all random choices (the time)")
    parser.add_argument("--record", action="store_true", help=f"note outcomes in {RESULTS.name}")
    parser.add_argument("--folder", type=Path, help="where to work (the temporary directory)")
    given = parser.parse_args()
    if unknown := sorted(set(given.campaigns) - set(CAMPAIGNS)):
        parser.error(f"unknown campaign {unknown[0]!r}; choose from {', '.join(CAMPAIGNS)}")
    if given.small and given.record:
        parser.error("--record needs full runs; leave out --small")
    seed = int(time.time()) if given.seed is None else given.seed
    for name in given.campaigns or CAMPAIGNS:
        try:
            outcome, minutes = run(name, seed, full=not given.small, folder=given.folder)
        except AssertionError as failure:
            sys.exit(str(failure))
        if given.record:
            record(name, seed, minutes, outcome)


if __name__ == "__main__":
    main()
