"""A store is published completely or not at all, and open readers keep the old one."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore import syscalls
from embstore.errors import StoreBusyError, StoreExistsError, StoreNotFoundError
from embstore.writing.disk import files
from embstore.writing.disk.staging import Staging
from tests.campaigns.faults import Failer, Step, in_two_steps, steps
from tests.campaigns.kills import killed
from tests.campaigns.processes import in_spawned
from tests.helpers.stores import names, value_of, write_store

FDS = Path("/proc/self/fd")


NOTE_NAME = "owner.json"


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


def test_busy_target_names_its_builder(target):
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
def test_invalid_owner_note_is_ignored(target, note):
    first = Staging(target, overwrite=False)
    (first.path / NOTE_NAME).write_text(note, errors="surrogateescape")
    with pytest.raises(StoreBusyError, match=r"another build is writing .* \(see .*\.building\)"):
        Staging(target, overwrite=False)
    first.publish()
    assert names(target) == []


def test_builder_on_another_machine(target):
    first = Staging(target, overwrite=False)
    (first.path / NOTE_NAME).write_text(json.dumps(NOTE | {"pid": 2**22 + 1}))
    by = r"process 4194305 on mars since 2026-01-02 02:04:05 UTC"
    with pytest.raises(StoreBusyError, match=by):
        Staging(target, overwrite=False)
    (first.path / NOTE_NAME).unlink()
    with pytest.raises(StoreBusyError, match="see"):
        Staging(target, overwrite=False)
    first.discard()


def test_leftovers_of_a_dead_build_are_removed(target, tmp_path):
    hidden = tmp_path / ".t.embstore.building"
    (hidden / "partitions" / "0").mkdir(parents=True)
    (hidden / "zarr.json").write_text("{}")
    (hidden / "link").symlink_to(tmp_path)
    staged = Staging(target, overwrite=False)
    assert names(staged.path) == [NOTE_NAME]
    staged.discard()
    assert names(tmp_path) == []


def test_discard_keeps_the_directory_of_another_build(target, tmp_path):
    """Its directory was renamed, and another build started."""
    first = Staging(target, overwrite=False)
    first.path.rename(tmp_path / "elsewhere")
    second = Staging(target, overwrite=False)
    first.discard()
    assert names(tmp_path) == [".t.embstore.building", "elsewhere"]
    second.publish()


@pytest.mark.skipif(not FDS.exists(), reason="lists the descriptors in Linux's /proc")
def test_lock_ends_with_the_build_even_if_a_child_lives(target):
    """A forked child has the descriptor of the lock, too, and keeps it open."""
    staged = Staging(target, overwrite=False)
    linked = {int(fd.name): fd.readlink() for fd in FDS.iterdir() if fd.is_symlink()}
    inherited = [os.dup(fd) for fd, path in linked.items() if path == staged.path]
    assert inherited
    staged.publish()
    descriptor = os.open(target, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for other in [descriptor, *inherited]:
        os.close(other)


def test_overwrite_while_the_old_store_is_open(target, tmp_path, way):
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


def test_repeated_overwrite(target, tmp_path, way):
    for value in range(4):
        write_store(target, value, overwrite=True)
        assert value_of(target) == value
        assert names(tmp_path) == ["t.embstore"]


def test_existing_store_is_kept_without_overwrite(target, tmp_path, way):
    write_store(target, 1)
    with pytest.raises(StoreExistsError):
        write_store(target, 2)
    assert value_of(target) == 1
    assert names(tmp_path) == ["t.embstore"]


def is_second_rename(step: Step) -> bool:
    return step.kind == "rename" and step.path.name == ".t.embstore.building"


def replace_and_die(target: Path) -> bool:
    """Replace a store, and die before the second of two renames; return whether that worked."""
    with in_two_steps():
        return killed(partial(write_store, target, 2, overwrite=True), is_second_rename)


@pytest.mark.parametrize("healed_by", ["open", "build", "verify"])
def test_crash_between_the_two_renames(target, tmp_path, healed_by):
    write_store(target, 1)
    assert in_spawned(replace_and_die, target)
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


def test_crash_after_the_two_renames(target, tmp_path, way):
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


@pytest.mark.parametrize("name", ["t.embstore", ".t.embstore.building"])
def test_failed_rename_leaves_the_old_store(target, tmp_path, name):
    write_store(target, 1)
    failer = Failer(lambda step: step.kind == "rename" and step.path.name == name, errno.EACCES)
    with in_two_steps(), steps(failer), pytest.raises(PermissionError):
        write_store(target, 2, overwrite=True)
    assert names(tmp_path) == ["t.embstore"]
    assert value_of(target) == 1


def test_open_between_the_two_renames(target, tmp_path):
    """The open puts the old store back and reads it; the build then renames again."""
    write_store(target, 1)
    opened: list[float] = []

    def interrupted(step: Step, do: Callable[[], object]) -> object:
        result = do()
        if step.kind == "rename" and step.path == target and not opened:
            opened.append(value_of(target))
        return result

    with in_two_steps(), steps(interrupted):
        write_store(target, 2, overwrite=True)
    assert opened == [1]
    assert value_of(target) == 2
    assert names(tmp_path) == ["t.embstore"]


def test_old_store_is_locked_while_it_is_removed(target, tmp_path):
    write_store(target, 1)
    found = []

    def removing(step: Step, do: Callable[[], object]) -> object:
        if step.kind == "unlink" and (target / "zarr.json").exists():
            with pytest.raises(StoreBusyError) as error:
                Staging(target, overwrite=True)
            found.append(error)
        return do()

    with steps(removing):
        write_store(target, 2, overwrite=True)
    assert len(found) > 1
    assert value_of(target) == 2
    assert names(tmp_path) == ["t.embstore"]


def noting(monkeypatch: pytest.MonkeyPatch, *, syncs: bool) -> list[tuple[str, int]]:
    """Return a list that grows by each write, flush and check of a file, and by each sync."""
    done: list[tuple[str, int]] = []

    def note(owner: Any, name: str, kind: str) -> None:
        call = getattr(owner, name)

        def noted(descriptor: int, *rest: Any) -> Any:
            done.append((kind, os.fstat(descriptor).st_ino))
            return call(descriptor, *rest)

        monkeypatch.setattr(owner, name, noted)

    note(os, "fsync", "flush")
    note(os, "pwrite", "write")
    note(syscalls, "check_written", "check")
    note(syscalls, "sync_file_system", "sync")
    monkeypatch.setattr(syscalls, "can_sync", lambda _: syncs)
    monkeypatch.setattr(files, "_unwritten_bytes", lambda: 0)
    return done


@pytest.mark.parametrize("syncs", [False, True])
def test_everything_is_flushed_before_publishing(target, monkeypatch, syncs):
    """Alone, or with the whole file system; then each file is asked for errors."""
    done = noting(monkeypatch, syncs=syncs)
    write_store(target, 1)
    kinds = [kind for kind, _ in done]
    assert kinds.count("sync") == (3 if syncs else 0)  # Chunks, metadata, directories.
    assert (kinds.count("check") > 20) == syncs
    last_sync = len(done) - 1 - kinds[::-1].index("sync") if syncs else -1
    for path in [target, target.parent, *target.rglob("*")]:
        number = path.stat().st_ino
        own = [(kind, at) for at, (kind, of) in enumerate(done) if of == number]
        written = max((at for kind, at in own if kind == "write"), default=0)
        flushed = any(kind == "flush" and at >= written for kind, at in own)
        if path.is_dir():
            assert flushed or (syncs and written < last_sync)
            continue
        syncs_after = [at for at, kind in enumerate(kinds) if kind == "sync" and at > written]
        checked = [at for kind, at in own if kind == "check"]
        assert flushed or any(at > syncs_after[0] for at in checked)
    assert done[-1] == ("flush", target.parent.stat().st_ino)


def test_files_that_are_closed_early_are_flushed_together(target, monkeypatch):
    """Partitions that are written in turn, more of them than files may be open."""
    monkeypatch.setattr(files, "max_open_files", lambda: 8)
    done = noting(monkeypatch, syncs=True)
    rows = np.arange(20 * 64 * 1024, dtype=np.uint8).reshape(-1, 1024)
    with embstore.StoreWriter(
        target, row_shape=(1024,), dtype="uint8", partitions=20, memory_limit="2MiB", chunk_rows=64
    ) as writer:
        for start in range(0, len(rows), 100):
            writer.write(rows[start : start + 100])
    kinds = [kind for kind, _ in done]
    assert kinds.count("flush") < 2 * kinds.count("sync") + 10
    with embstore.open(target) as store:
        np.testing.assert_array_equal(store[:], rows)
    embstore.verify(target)


def test_missing_parent_directory(target, tmp_path):
    with pytest.raises(StoreNotFoundError, match="does not exist; make it first"):
        Staging(tmp_path / "no" / "t.embstore", overwrite=False)


@pytest.mark.parametrize("name", ["building", "copied", "replaced"])
def test_link_in_place_of_leftovers(tmp_path, name):
    """The link goes; what it leads to stays."""
    write_store(tmp_path / "t.embstore", 1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    (tmp_path / f".t.embstore.{name}").symlink_to("mine")
    write_store(tmp_path / "t.embstore", 2, overwrite=True)
    assert value_of(tmp_path / "t.embstore") == 2
    assert names(tmp_path) == ["mine", "t.embstore"]
    assert (tmp_path / "mine/notes.txt").read_text() == "mine"
