"""Crashes and failing disks: after any of them, there is the old store, the new one, or none.

Works on small tables (`tests.campaigns.cases`): builds of a new store, and of one over an older
one, by exchange and by two renames; snapshots, appends, updates and upserts, by links, clones and
copies.

1. The power is cut at each step (`tests.campaigns.power`), and the disk holds anything that it may
   hold then; and again in the work that follows a killed one.
2. Works are killed (`tests.campaigns.kills`) at each step that changes the disk, and at random
   times, while another process opens the store and compares every row.
3. Each step fails with each error of a disk (`tests.campaigns.failures`), and writes are done in
   part only.

After each of them the store is whole and verifies, the next work succeeds, and nothing is left
beside the store. When a work has returned, its store stays, whatever the power does.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.campaigns import cases, failures, kills, power

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Size:
    """The sizes of the three parts, and the cases besides builds in which the power is cut."""

    builds: power.Size
    changes: power.Size
    cases: tuple[cases.Case, ...]
    kills: kills.Size
    failures: failures.Size


SMALL = Size(power.SMALL, power.SMALL_CHANGES, cases.FEW, kills.SMALL, failures.SMALL)
FULL = Size(power.FULL, power.FULL, cases.EVERY, kills.FULL, failures.FULL)


def run(folder: Path, seed: int, size: Size) -> str:
    """Crash and fail in every way; return how often."""
    random_numbers = random.Random(seed)
    changes = [case for case in size.cases if case not in cases.BUILDS]
    some = power.cut_power(folder, random_numbers, size.builds, cases.BUILDS)
    others = power.cut_power(folder, random_numbers, size.changes, changes)
    cuts, step_count = some[0] + others[0], some[1] + others[1]
    killed = kills.run(folder, seed, size.kills)
    failed = failures.run(folder, seed, size.failures)
    return f"{cuts:,} disks after a power cut at one of {step_count:,} steps; {killed}; {failed}"
