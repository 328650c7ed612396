"""Runs of campaigns: their names, and one run in an empty folder of its own."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.campaigns import (
    columns,
    concurrency,
    crash,
    dialects,
    folders,
    headers,
    hostile,
    resources,
    serving,
)

if TYPE_CHECKING:
    from types import ModuleType

# Each has `run(folder, seed, size)`, `SMALL` and `FULL`.
CAMPAIGNS: dict[str, ModuleType] = {
    "crash": crash,
    "concurrency": concurrency,
    "hostile": hostile,
    "headers": headers,
    "folders": folders,
    "dialects": dialects,
    "resources": resources,
    "columns": columns,
    "serving": serving,
}


def run(name: str, seed: int, *, full: bool, folder: Path | None = None) -> tuple[str, float]:
    """Run a campaign, and print how it went.

    Parameters
    ----------
    name : str
        The campaign.
    seed : int
        Seed of all random choices; the same seed repeats a run.
    full : bool
        The full size, minutes, instead of the small one, seconds.
    folder : Path, optional
        Where to make the campaign's folder; the system's directory for temporary files by default.

    Returns
    -------
    str
        What was tried.
    float
        The minutes that it took.

    Raises
    ------
    AssertionError
        If a promise is broken.
    """
    campaign: Any = CAMPAIGNS[name]
    print(f"{name}: seed {seed} ...", flush=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="embstore-campaign-", dir=folder) as work:
        try:
            outcome = campaign.run(Path(work), seed, campaign.FULL if full else campaign.SMALL)
        except AssertionError as failure:
            raise AssertionError(f"{name}: seed {seed}: FAILED: {failure}") from failure
    minutes = (time.monotonic() - start) / 60
    print(f"{name}: {outcome} ({minutes:.1f} minutes)", flush=True)
    return outcome, minutes
