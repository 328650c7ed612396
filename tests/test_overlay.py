"""Replacing a store in a lower layer of an overlay file system, where it cannot be renamed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import embstore
from embstore.writing.disk import files
from tests.campaigns.faults import Failer, Step, on_overlay, steps
from tests.campaigns.kills import killed
from tests.campaigns.processes import in_spawned
from tests.helpers.programs import environment
from tests.helpers.stores import names, value_of, write_store

if TYPE_CHECKING:
    from collections.abc import Callable


def test_directories_of_the_lower_layer_cannot_be_renamed(target, tmp_path):
    write_store(target, 1)
    with on_overlay(tmp_path), pytest.raises(OSError, match="Invalid cross-device link") as error:
        files.rename(target, tmp_path / "other")
    assert error.value.errno == errno.EXDEV


def test_overwrite(target, tmp_path, way):
    write_store(target, 1)
    (target / "LICENSE").write_text("mine")
    with embstore.open(target) as old, on_overlay(tmp_path):
        write_store(target, 2, overwrite=True)
        assert (old[:] == 1).all()
        assert value_of(target) == 2
        write_store(target, 3, overwrite=True)
    assert value_of(target) == 3
    assert embstore.verify(target).ok
    assert names(tmp_path) == ["t.embstore"]


@pytest.mark.parametrize("left", ["building", "replaced", "copied"])
def test_leftovers_of_the_lower_layer(target, tmp_path, left, way):
    write_store(target, 1)
    shutil.copytree(target, tmp_path / f".t.embstore.{left}")
    (tmp_path / f".t.embstore.{left}" / "zarr.json").unlink()
    with on_overlay(tmp_path):
        write_store(target, 2, overwrite=True)
    assert value_of(target) == 2
    assert names(tmp_path) == ["t.embstore"]


COPIED = ".t.embstore.copied"


def after(kind: str, path: str, count: int = 1) -> Callable[[Step], bool]:
    """Return a function that picks a step: the ``count``-th of a kind whose path ends so."""
    left = [count]

    def pick(step: Step) -> bool:
        left[0] -= step.kind == kind and str(step.path).endswith(path)
        return left[0] == 0

    return pick


MOMENTS: dict[str, tuple[str, str, int]] = {
    "copying starts": ("mkdir", COPIED, 1),
    "a chunk is copied": ("write", COPIED + "/partitions/1/c/3/0", 1),
    "the manifest is copied": ("write", COPIED + "/zarr.json", 1),
    "the old manifest goes": ("unlink", "t.embstore/zarr.json", 1),
    "an old chunk goes": ("unlink", "t.embstore/partitions/0/c/2/0", 1),
    "the copy is renamed": ("rename", COPIED, 1),
}


def kill_at(folder: Path, moment: str) -> bool:
    """Replace a store and die at a step; return whether the build reached it."""
    with on_overlay(folder):
        write = partial(write_store, folder / "t.embstore", 2, overwrite=True)
        return killed(write, after(*MOMENTS[moment]))


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill(target, tmp_path, moment):
    """The old store can be opened after a kill, and the next build cleans up."""
    write_store(target, 1)
    assert in_spawned(kill_at, tmp_path, moment)
    assert value_of(target) == 1
    assert embstore.verify(target).ok
    write_store(target, 3, overwrite=True)
    assert value_of(target) == 3
    assert names(tmp_path) == ["t.embstore"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_failure(target, tmp_path, moment):
    write_store(target, 1)
    failer = Failer(after(*MOMENTS[moment]), errno.ENOSPC)
    with on_overlay(tmp_path), steps(failer), pytest.raises(OSError, match="No space left"):
        write_store(target, 2, overwrite=True)
    assert value_of(target) == 1
    assert embstore.verify(target).ok
    assert names(tmp_path) == ["t.embstore"]


def test_open_while_the_old_store_is_copied_up(target, tmp_path):
    """The open finishes what the build has begun, and the build goes on."""
    write_store(target, 1)
    opened: list[float] = []

    def interrupted(step: Step, do):
        result = do()
        if step.kind == "unlink" and step.path.parent == target and not opened:
            opened.append(value_of(target))
        return result

    with on_overlay(tmp_path), steps(interrupted):
        write_store(target, 2, overwrite=True)
    assert opened == [1]
    assert value_of(target) == 2
    assert names(tmp_path) == ["t.embstore"]


@pytest.mark.parametrize("own", ["notes.txt", "partitions/0/notes.txt"])
def test_files_that_are_not_the_stores_are_never_removed(target, tmp_path, own):
    """A directory of the user's stands where a store was, and a copy of it is left."""
    write_store(target, 1)
    target.rename(tmp_path / ".t.embstore.copied")
    (target / own).parent.mkdir(parents=True)
    (target / own).write_text("mine")
    with pytest.raises(embstore.StoreError):
        embstore.open(target)
    assert (target / own).read_text() == "mine"


MOUNTED = """
    import os, subprocess, sys
    from pathlib import Path
    from tests.helpers.stores import names, value_of, write_store
    import embstore
    folder = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
    for name in ("lower", "upper", "work", "merged"):
        (folder / name).mkdir()
    write_store(folder / "lower" / "t.embstore", 1)
    os.mkdir(folder / "lower" / ".t.embstore.building")
    options = ",".join(f"{n}dir={folder / n}" for n in ("lower", "upper", "work"))
    options += ",redirect_dir=off"
    subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, folder / "merged"], check=True
    )
    print("mounted", flush=True)
    target = folder / "merged" / "t.embstore"
    try:
        target.rename(folder / "merged" / "other")
    except OSError as error:
        print(error.errno)
    for value in (2, 3):
        write_store(target, value, overwrite=True)
        assert value_of(target) == value and embstore.verify(target).ok
        assert names(target.parent) == ["t.embstore"], names(target.parent)
"""


def test_on_a_mounted_overlay(tmp_path):
    if sys.platform != "linux" or os.geteuid() or shutil.which("unshare") is None:
        pytest.skip("mounting needs Linux, root and unshare")
    program = "\n".join(line[4:] for line in MOUNTED.splitlines())
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", program, tmp_path],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if "mounted" not in done.stdout:
        pytest.skip(f"an overlay cannot be mounted here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["mounted", str(errno.EXDEV)]
