"""A store is published completely or not at all, and open readers keep the old one."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore import syscalls
from embstore.errors import StoreBusyError, StoreExistsError, StoreNotFoundError
from embstore.writing import owner, staging
from embstore.writing.staging import Staging

ROWS = 100


def write_store(path: Path, value: int, **options: Any) -> None:
    """Write a store in which every number is ``value``."""
    with embstore.StoreWriter(
        path, row_shape=(4,), dtype="float32", partitions=3, chunk_rows=4, **options
    ) as writer:
        writer.write(np.full((ROWS, 4), value), [f"{value}-{i}" for i in range(ROWS)])


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def value_of(path: Path) -> float:
    """Return the one value of all rows at ``path``."""
    (value,) = np.unique(embstore.open(path)[:])
    return float(value)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "t.embstore"


@pytest.fixture(params=["exchange", "two renames"])
def way(request, monkeypatch):
    """Replace a store in each of the two ways."""
    if request.param == "two renames":
        monkeypatch.setattr(syscalls, "exchange", lambda one, other: False)
    return request.param


def test_publish(target, tmp_path):
    staged = Staging(target, overwrite=False)
    assert names(tmp_path) == [".t.embstore.building"]
    (staged.path / "file").write_text("x")
    staged.publish()
    assert names(tmp_path) == ["t.embstore"]
    assert names(target) == ["file"]


def test_discard(target, tmp_path):
    staged = Staging(target, overwrite=False)
    (staged.path / "folder").mkdir()
    (staged.path / "folder" / "file").write_text("x")
    staged.discard()
    assert names(tmp_path) == []
    staged.discard()
    assert names(tmp_path) == []


def test_relative_target(target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    staged = Staging(Path("t.embstore"), overwrite=False)
    monkeypatch.chdir("/")
    staged.publish()
    assert names(tmp_path) == ["t.embstore"]


def test_one_owner_at_a_time(target):
    first = Staging(target, overwrite=False)
    with pytest.raises(StoreBusyError):
        Staging(target, overwrite=False)
    first.discard()
    Staging(target, overwrite=False).discard()


def test_a_busy_target_names_its_builder(target):
    first = Staging(target, overwrite=False)
    host = re.escape(platform.node())
    by = rf"process {os.getpid()} on {host} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    with pytest.raises(StoreBusyError, match=rf"another build is writing .*t\.embstore \({by}\)"):
        Staging(target, overwrite=False)
    first.discard()


NOTE: dict[str, Any] = {"pid": os.getpid(), "host": "mars", "since": "2026-01-02T03:04:05+01:00"}
PIDS: list[Any] = ["x", None, [], float("nan"), 1e400]
NOTES = [
    *("", "[]", "7", "{}", '"x"', "[" * 900, "\0\xff", json.dumps(NOTE)[:-9]),
    *(json.dumps(NOTE | {"pid": pid}) for pid in PIDS),
    *(json.dumps(NOTE | {"host": host}) for host in ("\33[2J", "a\nb", "a" * 2000)),
    *(json.dumps(NOTE | {"since": since}) for since in (7, "then", "0001-01-01T00:00+23:00")),
    # Processes that have ended or never existed; no process has such a number.
    *(
        json.dumps(NOTE | {"host": platform.node(), "pid": pid})
        for pid in (2**22 + 1, -1, 0, 2**80)
    ),
]


@pytest.mark.parametrize("note", NOTES, ids=map(str, range(len(NOTES))))
def test_useless_owner_note_is_ignored(target, note):
    first = Staging(target, overwrite=False)
    (first.path / owner.NOTE).write_text(note, errors="surrogateescape")
    with pytest.raises(StoreBusyError, match=r"another build is writing .* \(see .*\.building\)"):
        Staging(target, overwrite=False)
    first.publish()
    assert names(target) == []


def test_owner_on_another_machine(target):
    first = Staging(target, overwrite=False)
    (first.path / owner.NOTE).write_text(json.dumps(NOTE | {"pid": 2**22 + 1}))
    by = r"process 4194305 on mars since 2026-01-02 02:04:05 UTC"
    with pytest.raises(StoreBusyError, match=by):
        Staging(target, overwrite=False)
    (first.path / owner.NOTE).unlink()
    with pytest.raises(StoreBusyError, match="see"):
        Staging(target, overwrite=False)
    first.discard()


def test_leftovers_of_a_dead_build_are_removed(target, tmp_path):
    hidden = tmp_path / ".t.embstore.building"
    (hidden / "partitions" / "0").mkdir(parents=True)
    (hidden / "zarr.json").write_text("{}")
    (hidden / "link").symlink_to(tmp_path)
    staged = Staging(target, overwrite=False)
    assert names(staged.path) == [owner.NOTE]
    staged.discard()
    assert names(tmp_path) == []


def test_discard_leaves_the_directory_of_another_build(target, tmp_path):
    """Its own directory was renamed, and another build has started."""
    first = Staging(target, overwrite=False)
    first.path.rename(tmp_path / "elsewhere")
    second = Staging(target, overwrite=False)
    first.discard()
    assert names(tmp_path) == [".t.embstore.building", "elsewhere"]
    second.publish()


def test_lock_ends_with_the_build_even_if_a_child_lives(target):
    """A fork inherits the descriptor and would hold the lock until it ends."""
    staged = Staging(target, overwrite=False)
    inherited = [os.dup(lock) for lock in staged._locks]
    staged.publish()
    owner.unlock(owner.lock(target))
    for descriptor in inherited:
        os.close(descriptor)


def test_overwriting_a_store_that_is_open(target, tmp_path, way):
    write_store(target, 1)
    mapped, chunked = embstore.open(target), embstore.open(target, reader="chunked")
    write_store(target, 2, overwrite=True)
    assert names(tmp_path) == ["t.embstore"]
    assert (mapped[:] == 1).all()
    assert mapped.words(5) == "1-5"
    assert mapped.ids("1-99") == 99
    assert value_of(target) == 2
    # The chunked reader opens chunks by name; it must never return a row of the new store.
    with pytest.raises(embstore.EmbstoreError):
        chunked[:]


def test_overwriting_repeatedly(target, tmp_path, way):
    for value in range(4):
        write_store(target, value, overwrite=True)
        assert value_of(target) == value
        assert names(tmp_path) == ["t.embstore"]


def test_without_overwrite_nothing_is_replaced(target, tmp_path, way):
    write_store(target, 1)
    with pytest.raises(StoreExistsError):
        write_store(target, 2)
    assert value_of(target) == 1
    assert names(tmp_path) == ["t.embstore"]


def crash_at(monkeypatch: pytest.MonkeyPatch, number: int) -> type[BaseException]:
    """Simulate a process that dies at its ``number``-th rename: nothing happens after it."""
    rename = Path.rename
    count = 0

    class Died(BaseException):
        pass

    def dying(self: Path, to: Path) -> Path:
        nonlocal count
        count += 1
        if count >= number:
            raise Died
        return rename(self, to)

    monkeypatch.setattr(syscalls, "exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", dying)
    monkeypatch.setattr(Staging, "discard", lambda self: self._release())
    return Died


@pytest.mark.parametrize("healed_by", ["open", "build", "verify"])
def test_crash_between_the_two_renames(target, tmp_path, monkeypatch, healed_by):
    write_store(target, 1)
    with monkeypatch.context() as patch, pytest.raises(crash_at(patch, 2)):
        write_store(target, 2, overwrite=True)
    assert names(tmp_path) == [".t.embstore.building", ".t.embstore.replaced"]
    if healed_by != "build":
        assert healed_by == "open" or embstore.verify(target).ok
        assert value_of(target) == 1
        assert names(tmp_path) == [".t.embstore.building", "t.embstore"]
        return
    with pytest.raises(StoreExistsError):
        write_store(target, 3)
    assert value_of(target) == 1
    write_store(target, 3, overwrite=True)
    assert value_of(target) == 3
    assert names(tmp_path) == ["t.embstore"]


def test_crash_after_the_two_renames(target, tmp_path, monkeypatch, way):
    """The old store still exists under another name; the next build removes it."""
    write_store(target, 1)
    shutil.copytree(target, tmp_path / "old")
    write_store(target, 2, overwrite=True)
    left = ".t.embstore.building" if way == "exchange" else ".t.embstore.replaced"
    (tmp_path / "old").rename(tmp_path / left)
    assert value_of(target) == 2
    write_store(target, 3, overwrite=True)
    assert value_of(target) == 3
    assert names(tmp_path) == ["t.embstore"]


@pytest.mark.parametrize("number", [1, 2])
def test_failing_rename_leaves_the_old_store(target, tmp_path, monkeypatch, number):
    write_store(target, 1)
    rename = Path.rename
    seen = []

    def failing(self, to):
        seen.append(self)
        if len(seen) == number:
            raise PermissionError(13, "no", str(self))
        return rename(self, to)

    with monkeypatch.context() as patch:
        patch.setattr(syscalls, "exchange", lambda one, other: False)
        patch.setattr(Path, "rename", failing)
        with pytest.raises(PermissionError):
            write_store(target, 2, overwrite=True)
    assert names(tmp_path) == ["t.embstore"]
    assert value_of(target) == 1


def test_an_open_between_the_two_renames(target, tmp_path, monkeypatch):
    """It renames the old store back and reads it; then the build renames once more."""
    write_store(target, 1)
    rename = Path.rename
    opened: list[float] = []

    def interrupted(self, to):
        rename(self, to)
        if self == target and not opened:
            opened.append(value_of(target))

    with monkeypatch.context() as patch:
        patch.setattr(syscalls, "exchange", lambda one, other: False)
        patch.setattr(Path, "rename", interrupted)
        write_store(target, 2, overwrite=True)
    assert opened == [1]
    assert value_of(target) == 2
    assert names(tmp_path) == ["t.embstore"]


def test_no_other_build_starts_in_the_old_store_while_it_is_removed(target, tmp_path, monkeypatch):
    write_store(target, 1)
    remove = staging._remove
    found = []

    def removing(directory):
        if directory.name.endswith(".building"):
            with pytest.raises(StoreBusyError) as error:
                Staging(target, overwrite=True)
            found.append(error)
        remove(directory)

    monkeypatch.setattr(staging, "_remove", removing)
    write_store(target, 2, overwrite=True)
    assert len(found) == 1
    assert value_of(target) == 2
    assert names(tmp_path) == ["t.embstore"]


def test_everything_is_flushed_before_publishing(target, monkeypatch):
    flushed = []
    flush = os.fsync

    def flushing(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_ino)
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", flushing)
    write_store(target, 1)
    everything = {path.stat().st_ino for path in [target, target.parent, *target.rglob("*")]}
    assert everything <= set(flushed)
    assert flushed[-1] == target.parent.stat().st_ino


def test_missing_parent_directory(target, tmp_path):
    with pytest.raises(StoreNotFoundError, match="does not exist; make it first"):
        Staging(tmp_path / "no" / "t.embstore", overwrite=False)
