"""The command ``python -m tests.campaigns``: one campaign, small or full.

python -m tests.campaigns --help            the campaigns
python -m tests.campaigns crash             one, in seconds, as the tests run it
python -m tests.campaigns crash --full      at full size, in minutes
python -m tests.campaigns crash --seed 7    again, with the seed that a failure names
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.campaigns import runs


def main() -> None:
    """Read the arguments, and run a campaign."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns",
        description="Try to make embstore lose or misread a vector. tools/torture runs everything.",
    )
    commands = parser.add_subparsers(dest="name", required=True, metavar="CAMPAIGN")
    for name, campaign in runs.CAMPAIGNS.items():
        about = (campaign.__doc__ or "").strip()
        command = commands.add_parser(
            name,
            help=about.splitlines()[0],
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("--full", action="store_true", help="minutes instead of seconds")
        command.add_argument("--seed", type=int, help="seed of all random choices (the time)")
        command.add_argument("--folder", type=Path, help="where to work (the temporary directory)")
    given = parser.parse_args()
    seed = int(time.time()) if given.seed is None else given.seed
    try:
        runs.run(given.name, seed, full=given.full, folder=given.folder)
    except AssertionError as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
