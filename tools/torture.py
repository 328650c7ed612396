"""Run the campaigns that try to make embstore lose or misread a vector: ``tools/torture``.

1. Each campaign works in an empty folder, from a seed, so that a failure can be had again.
2. What it did is printed; the first that fails ends the run with exit status 1.
3. With ``--record``, the outcome of a full run is noted in ``tools/torture_results.md``.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import embstore
from tools.campaigns import concurrency, corruption, crash, failures, hostile, resources

if TYPE_CHECKING:
    from types import ModuleType

# Each has `run(folder, seed, size)`, `SMALL` and `FULL`.
CAMPAIGNS: dict[str, ModuleType] = {
    "crash": crash,
    "failures": failures,
    "corruption": corruption,
    "concurrency": concurrency,
    "hostile": hostile,
    "resources": resources,
}
RESULTS = Path(__file__).with_name("torture_results.md")
_HEAD = """\
# What `tools/torture` found last

Each line is the last full run of one campaign; `tools/torture --record` writes them.

| campaign | date | seed | minutes | with | outcome |
| --- | --- | --- | --- | --- | --- |
"""


def run(name: str, seed: int, *, small: bool, folder: Path | None = None) -> tuple[str, float]:
    """Run a campaign; return what it did, and the minutes it took."""
    campaign: Any = CAMPAIGNS[name]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="embstore-torture-", dir=folder) as work:
        done = campaign.run(Path(work), seed, campaign.SMALL if small else campaign.FULL)
    return str(done), (time.monotonic() - begin) / 60


def record(name: str, seed: int, minutes: float, outcome: str) -> None:
    """Put the outcome of a campaign into the file of results, in place of the last one."""
    rows = {}
    if RESULTS.exists():
        for line in RESULTS.read_text().splitlines():
            if line.startswith("| ") and (first := line.split("|")[1].strip()) in CAMPAIGNS:
                rows[first] = line
    versions = f"embstore {embstore.__version__}, Python {platform.python_version()}"
    today = datetime.now(UTC).date().isoformat()
    rows[name] = f"| {name} | {today} | {seed} | {minutes:.1f} | {versions} | {outcome} |"
    ordered = [rows[name] for name in CAMPAIGNS if name in rows]
    RESULTS.write_text(_HEAD + "\n".join(ordered) + "\n")


def main() -> None:
    """Read the arguments and run campaigns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("campaigns", nargs="*", metavar="CAMPAIGN", help=", ".join(CAMPAIGNS))
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--seed", type=int, help="of all that is random (the time)")
    parser.add_argument("--record", action="store_true", help=f"note outcomes in {RESULTS.name}")
    parser.add_argument("--folder", type=Path, help="where to work (the system's for temporaries)")
    given = parser.parse_args()
    if unknown := set(given.campaigns) - set(CAMPAIGNS):
        parser.error(f"no campaign {', '.join(sorted(unknown))}; there are {', '.join(CAMPAIGNS)}")
    if given.small and given.record:
        parser.error("a small run is nothing to record")
    seed = given.seed if given.seed is not None else int(time.time())
    for name in given.campaigns or CAMPAIGNS:
        print(f"{name}: seed {seed} ...", flush=True)
        try:
            outcome, minutes = run(name, seed, small=given.small, folder=given.folder)
        except AssertionError as failure:
            sys.exit(f"{name}: seed {seed}: FAILED: {failure}")
        print(f"{name}: {outcome} ({minutes:.1f} minutes)", flush=True)
        if given.record:
            record(name, seed, minutes, outcome)


if __name__ == "__main__":
    main()
