"""What cannot be opened is not published, and does not replace a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import embstore
from embstore.errors import StoreCorruptError
from embstore.writing.disk.staging import Staging
from tests.helpers.stores import flip, names, value_of, write_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a chunk is missing": lambda store: (store / "partitions/1/c/2/0").unlink(),
    "a chunk is short": lambda store: truncate(store / "partitions/0/c/0/0"),
    "the end of a chunk is changed": lambda store: flip(store / "partitions/2/c/1/0", -1),
    "two chunks are swapped": lambda store: swap(
        store / "partitions/0/c/0/0", store / "partitions/0/c/8/0"
    ),
    "an array's metadata is changed": lambda store: flip(store / "partitions/1/zarr.json", 20),
    "the manifest is changed": lambda store: flip(store / "zarr.json", 60),
    "the manifest is missing": lambda store: (store / "zarr.json").unlink(),
    "the words are short": lambda store: truncate(store / "vocabulary/bytes/c/0"),
    "a group's metadata is missing": lambda store: (store / "vocabulary/zarr.json").unlink(),
}


@pytest.mark.parametrize("old", [False, True], ids=["new", "replacing"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_build(tmp_path, monkeypatch, damage, old):
    target = tmp_path / "t.embstore"
    if old:
        write_store(target, 1)
    check = Staging.check_contents

    def damage_first(staging: Staging) -> None:
        DAMAGES[damage](staging.path)
        check(staging)

    monkeypatch.setattr(Staging, "check_contents", damage_first)
    message = r"the store written for .*t\.embstore cannot be opened, so it is discarded, and the"
    with pytest.raises(StoreCorruptError, match=message):
        write_store(target, 2, overwrite=True)
    assert names(tmp_path) == ["t.embstore"] * old
    if old:
        assert value_of(target) == 1
        assert embstore.verify(target).ok


def test_rows_are_not_read_again(tmp_path, monkeypatch):
    """The check costs the same for every size of a row."""
    read = []
    check = Staging.check_contents

    def counted(staging: Staging) -> None:
        flip(staging.path / "partitions/0/c/0/0", 100)  # A row, which no open reads.
        check(staging)
        read.append(staging)

    monkeypatch.setattr(Staging, "check_contents", counted)
    embstore.build(np.ones((100, 100)), tmp_path / "t.embstore").close()
    assert len(read) == 1
    assert not embstore.verify(tmp_path / "t.embstore").ok
