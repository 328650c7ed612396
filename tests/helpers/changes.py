"""Checks of a store that was changed, against an array and a fresh build of the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

import embstore
from embstore.formats.own.manifest import read_manifest
from tests.helpers.stores import names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

WIDTH = 5


def numbers(count: int, row_shape: tuple[int, ...] = (WIDTH,), *, seed: int = 0) -> NDArray[Any]:
    """Return rows of small numbers, which every dtype with zero and one sign holds."""
    return np.random.default_rng(seed).integers(0, 7, (count, *row_shape)).astype(np.float32)


def words_of(count: int, start: int = 0) -> list[str]:
    return [f"word {number}" for number in range(start, start + count)]


def write(
    path: Path, rows: NDArray[Any], words: Sequence[str] | None = None, **options: Any
) -> None:
    """Write a store, with the options of `StoreWriter`."""
    settings: dict[str, Any] = {"row_shape": rows.shape[1:], "rows": len(rows)}
    if "encoding" not in options:
        settings["dtype"] = rows.dtype
    with embstore.StoreWriter(path, **(settings | options)) as writer:
        writer.write(rows, words)


def check(
    path: Path, rows: NDArray[Any], words: Sequence[str] | None = None, **options: Any
) -> None:
    """Compare a store with a fresh one of the same rows, and with what zarr reads."""
    report = embstore.verify(path)
    assert report.ok, report.problems
    manifest = read_manifest(path)
    options = {"partitions": manifest.partition_count, "strategy": manifest.strategy} | options
    again = path.with_name("again")
    write(again, rows, words, overwrite=True, **options)
    with embstore.open(path) as store, embstore.open(again) as fresh:
        assert store.rows == len(rows)
        assert store.fingerprint() == fresh.fingerprint() == fresh.fingerprint(full=True)
        assert np.array_equal(np.asarray(store), np.asarray(fresh))
        if words is not None and words:
            assert store.words(np.arange(len(rows))) == list(words)
            assert store.ids(list(words)).tolist() == list(range(len(rows)))
    for partition in range(min(manifest.partition_count, 3)):
        array = manifest.partition(partition)
        stored = zarr.open_array(path / array.name, mode="r")
        other = zarr.open_array(again / array.name, mode="r")
        assert stored.shape == array.shape == other.shape
        assert np.array_equal(stored[...], other[...])
    assert [name for name in names(path.parent) if name.startswith(".")] == []
