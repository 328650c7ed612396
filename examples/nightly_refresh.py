"""A nightly refresh: rows of the day are upserted, after a snapshot that is kept for some days.

    python examples/nightly_refresh.py STORE TODAY [--keep 7] [--url s3://bucket/table]

1. A first run of the change with ``dry_run`` checks all rows, and tells what it will cost.
2. A snapshot STORE-YYYY-MM-DD, which shares its files with the store, makes it possible to go back.
   Of older ones, the newest are kept.
3. The rows of TODAY replace those of the words that the store has; the others are appended.
4. The new version is published, if there is a URL: only what is new is uploaded.

Programs that have the store open see the new version by ``store.reload()``. Without arguments, the
example builds a small store and refreshes it for ten nights, while a reader follows.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

import embstore


def refresh(
    store: Path, today: object, day: datetime.date, *, keep: int = 7, url: str | None = None
) -> embstore.ChangeReport:
    """Upsert the rows of a day; return what it did and cost.

    Parameters
    ----------
    store : Path
        The store, whose rows have words.
    today : path or object
        What `embstore.build` takes, with words.
    day : datetime.date
        The day, for the name of the snapshot.
    keep : int
        How many snapshots to keep.
    url : str, optional
        Where to publish the new version.
    """
    planned = embstore.upsert(store, today, dry_run=True)
    print(f"{day}, dry run: {planned}")
    embstore.snapshot(store, snapshot_path(store, day), overwrite=True)
    for old in snapshots(store)[: -keep or None]:
        shutil.rmtree(old)
    report = embstore.upsert(store, today)
    if url is not None:
        print(embstore.publish(store, url))
    return report


def snapshot_path(store: Path, day: datetime.date) -> Path:
    """Return the path of a day's snapshot, beside the store, so that files can be shared."""
    return store.with_name(f"{store.name}-{day}")


def snapshots(store: Path) -> list[Path]:
    """Return the snapshots of a store, the oldest first."""
    return sorted(store.parent.glob(f"{store.name}-????-??-??"))


def demonstrate(folder: Path) -> None:
    """Refresh a small store for ten nights, while a reader follows."""
    random = np.random.default_rng(0)
    path = folder / "items.embstore"
    items = {f"item {number}": random.standard_normal(16) for number in range(1000)}
    reader = embstore.build(items, path)
    start = datetime.date(2026, 1, 1)
    for night in range(10):
        today = {f"item {number}": random.standard_normal(16) for number in range(3)}
        today[f"new of night {night}"] = np.full(16, float(night))
        refresh(path, today, start + datetime.timedelta(night), keep=3)
        if not reader.is_current():
            reader = reader.reload()
        assert reader[f"new of night {night}"][0] == night
        assert np.array_equal(reader["item 2"], today["item 2"])
    with embstore.open(snapshots(path)[-1]) as before:
        print(f"{reader.rows} rows now, {before.rows} in the newest of {len(snapshots(path))}")


def main() -> None:
    """Run the refresh that the arguments ask for."""
    if len(sys.argv) == 1:
        with tempfile.TemporaryDirectory() as folder:
            demonstrate(Path(folder))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("today", type=Path)
    parser.add_argument("--keep", type=int, default=7)
    parser.add_argument("--url")
    given = parser.parse_args()
    day = datetime.datetime.now(datetime.UTC).date()
    try:
        print(refresh(given.store, given.today, day, keep=given.keep, url=given.url))
    except (embstore.EmbstoreError, OSError) as error:
        sys.exit(f"nightly_refresh: {error}")


if __name__ == "__main__":
    main()
