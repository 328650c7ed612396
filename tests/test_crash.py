"""A crash at any point of a build leaves the old store, or the new one, or none: never a part."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from embstore.writing import files, owner, staging
from embstore.writing.staging import Staging
from tools.campaigns import crash
from tools.campaigns.disks import Disk
from tools.campaigns.faults import Step

# Of each step only what is needed to see that the campaign notices what is left out below.
FEW = crash.Size(cuts=1, builds=0.01, again=0, stride=1, kills=0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_the_campaign_at_a_small_size(tmp_path):
    done = crash.run(tmp_path, 0, crash.SMALL)
    assert "disks after a power cut" in done
    assert "2 at random times" in done


def clear_at_once(self: Staging) -> None:
    """Clear leftovers away without a flush before."""
    for leftover in self.path.iterdir():
        files.remove_tree(leftover) if leftover.is_dir() else files.remove_file(leftover)


def remove_at_once(self, replaced):
    """Remove the old store before it is known that the new one has its name on disk."""
    if replaced is not None:
        staging._remove(replaced)
    files.flush_directory(self.target.parent)


@pytest.mark.skipif(sys.platform == "win32", reason="directories cannot be flushed there")
@pytest.mark.parametrize(
    ("where", "name", "left_out"),
    [
        (files, "flush_all", list),
        (staging, "flush_directories", lambda path: None),
        (Staging, "_finish", remove_at_once),
        (Staging, "_clear", clear_at_once),
        (owner, "remove_note", lambda directory: None),
    ],
    ids=["files", "directories", "before the old one goes", "before leftovers go", "note"],
)
def test_the_campaign_notices_a_flush_that_is_left_out(
    tmp_path, monkeypatch, where, name, left_out
):
    monkeypatch.setattr(where, name, left_out)
    with pytest.raises(AssertionError, match="power cut at step"):
        crash.cut_power(tmp_path, random.Random(0), FEW)


def disk_after(folder: Path, *log: Step) -> Disk:
    disk = Disk(folder)
    for step in log:
        disk.do(step)
    return disk


def test_the_model_of_a_disk(tmp_path):
    """Nothing that was not flushed has to be there, and everything that was is."""
    (tmp_path / "old").write_bytes(b"old")
    file = Path("a/file")
    log = Step("mkdir", Path("a")), Step("create", file), Step("write", file, data=b"12345678")
    disk = disk_after(tmp_path, *log)
    assert disk.root.least() == {"old": b"old"}
    assert disk.root.most() == {"old": b"old", "a": {"file": b"12345678"}}
    disk.do(Step("flush", file))
    assert disk.root.least() == {"old": b"old"}
    disk.do(Step("flush", Path()))
    assert disk.root.least() == {"old": b"old", "a": {}}
    disk.do(Step("flush", Path("a")))
    assert disk.root.least() == {"old": b"old", "a": {"file": b"12345678"}}


def test_the_model_of_a_disk_keeps_any_part_of_a_write(tmp_path):
    written = Step("write", Path("f"), data=b"1234", offset=2)
    disk = disk_after(tmp_path, Step("create", Path("f")), Step("flush", Path()), written)
    numbers = random.Random(0)
    found = {disk.root.cut(numbers)["f"] for _ in range(200)}
    assert found >= {b"", b"\0\0", b"\0\0" + b"12", b"\0\0" + b"1234", bytes(6)}


def test_the_model_of_a_disk_exchanges_both_names_or_none(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    exchange = Step("exchange", Path("a"), Path("b"))
    disk = disk_after(tmp_path, exchange, Step("unlink", Path("a")), Step("create", Path("c")))
    numbers = random.Random(0)
    trees = {frozenset(disk.root.cut(numbers).items()) for _ in range(200)}
    both, exchanged, removed = {("a", b"a"), ("b", b"b")}, {("a", b"b"), ("b", b"a")}, {("b", b"a")}
    expected = [*(both, exchanged, removed), *(tree | {("c", b"")} for tree in (both, removed))]
    assert trees >= {frozenset(tree) for tree in expected}
    assert all({frozenset(tree - {("c", b"")})} <= {*map(frozenset, expected)} for tree in trees)
