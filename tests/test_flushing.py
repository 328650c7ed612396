"""Flushes of directories: all at once with the file system where that is durable and quick."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path
from typing import Any

import pytest

from embstore import syscalls
from embstore.writing.disk import files
from embstore.writing.disk.staging import flush_directories
from tests.campaigns.faults import Recorder, steps

LITTLE, MUCH = 1 << 20, 2 << 20


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four directories, in a file system that can be flushed as a whole."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    monkeypatch.setattr(syscalls, "can_sync", lambda _: True)
    monkeypatch.setattr(syscalls, "sync_file_system", lambda _: None)
    monkeypatch.setattr(files, "_unwritten_bytes", lambda: LITTLE)
    return tmp_path


def synced(tree: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[Path]]:
    """Flush directories; return how often the file system was flushed, and those flushed alone."""
    calls: list[int] = []
    flushed: list[Path] = []
    monkeypatch.setattr(syscalls, "sync_file_system", calls.append)
    monkeypatch.setattr(files, "flush", lambda _, path: flushed.append(path))
    flush_directories(tree)
    return len(calls), flushed


def test_little_is_unwritten(tree, monkeypatch):
    assert synced(tree, monkeypatch) == (1, [])


@pytest.mark.parametrize("why", ["other file system", "much is unwritten"])
def test_flushes_one_by_one(tree, monkeypatch, why):
    if why == "other file system":
        monkeypatch.setattr(syscalls, "can_sync", lambda _: False)
    else:
        monkeypatch.setattr(files, "_unwritten_bytes", lambda: MUCH)
    expected = [tree / "a" / "b", tree / "a", tree / "c", tree]
    count, flushed = synced(tree, monkeypatch)
    assert count == 0
    assert sorted(flushed) == sorted(expected)
    assert flushed[-1] == tree


def test_failing_flush_of_the_file_system(tree, monkeypatch):
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(syscalls, "sync_file_system", fail)
    with pytest.raises(OSError, match="Input/output error while writing") as error:
        flush_directories(tree)
    assert error.value.filename == str(tree)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MemTotal: 9 kB\nDirty:      12 kB\nWriteback:    3 kB\nWritebackTmp: 7 kB\n", 15 << 10),
        ("Dirty: 12 kB\n", math.inf),
        ("Dirty: many\nWriteback: 1 kB\n", math.inf),
        ("Dirty:\nWriteback:\n", math.inf),
        ("", math.inf),
        (None, math.inf),
    ],
)
def test_unwritten_bytes(monkeypatch, text, expected):
    def read(_: Path) -> Any:
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(Path, "read_text", read)
    assert files._unwritten_bytes() == expected


def test_system_calls(tmp_path):
    """On the file system at hand, whichever it is."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        assert syscalls.can_sync(descriptor) in (True, False)
        syscalls.sync_file_system(descriptor)
    finally:
        os.close(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        syscalls.sync_file_system(descriptor)
    assert not syscalls.can_sync(descriptor)


@pytest.mark.parametrize("syncs", [False, True])
def test_steps_stand_in_for_both(tmp_path, syncs):
    (tmp_path / "a").mkdir()
    recorder = Recorder(tmp_path)
    with steps(recorder, syncs=syncs):
        flush_directories(tmp_path)
    expected = [("syncfs", ".")] if syncs else [("flush", "a"), ("flush", ".")]
    assert [(step.kind, str(step.path)) for step in recorder.log] == expected
