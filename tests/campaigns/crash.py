"""Crashes and failing disks: after any of them, there is the old store, the new one, or none.

Builds of small tables: a new one, and one over an older one, by exchange and by two renames.

1. The power is cut at each step (`tests.campaigns.power`), and the disk holds anything that it may
   hold then; and again in the build that follows a killed one.
2. Builds are killed (`tests.campaigns.kills`) at each step that changes the disk, and at random
   times, while another process opens the store and compares every row.
3. Each step fails with each error of a disk (`tests.campaigns.failures`), and writes are done in
   part only.

After each of them the store is whole and verifies, the next build succeeds, and nothing is left
beside the store. When a build has returned, its store stays, whatever the power does.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.campaigns import failures, kills, power

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Size:
    """The sizes of the three parts."""

    power: power.Size
    kills: kills.Size
    failures: failures.Size


SMALL = Size(power.SMALL, kills.SMALL, failures.SMALL)
FULL = Size(power.FULL, kills.FULL, failures.FULL)


def run(folder: Path, seed: int, size: Size) -> str:
    """Crash and fail in every way; return how often."""
    cuts, step_count = power.cut_power(folder, random.Random(seed), size.power)
    killed = kills.run(folder, seed, size.kills)
    failed = failures.run(folder, seed, size.failures)
    return f"{cuts:,} disks after a power cut at one of {step_count:,} steps; {killed}; {failed}"
