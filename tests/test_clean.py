"""Removal of what killed builds left beside a store."""

from __future__ import annotations

import contextlib
import json
import shutil

import numpy as np
import pytest

import embstore
from embstore.writing.disk.leftovers import leftovers
from tests.helpers.programs import run_command as run
from tests.helpers.programs import run_python

ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)
KILLED = """
import numpy as np, os, signal, sys, embstore
writer = embstore.StoreWriter(sys.argv[1], row_shape=(2,), dtype="float32", overwrite=True)
writer.write(np.zeros((9, 2), "float32"))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def target(tmp_path):
    """A store beside which a build was killed."""
    path = tmp_path / "t.embstore"
    embstore.build(ROWS, path).close()
    run_python("-c", KILLED, path, status=-9)
    return path


def names(path):
    return sorted(one.name for one in path.parent.iterdir())


def test_a_killed_build(target):
    left = target.with_name(".t.embstore.building")
    assert leftovers(target) == [left]
    for command in ("info", "verify"):
        done = run(command, target)
        assert f"{left} was left by a build that was killed" in done.stderr
        assert f"embstore clean {target}" in done.stderr
    assert embstore.clean(target) == (left,)
    assert names(target) == ["t.embstore"]
    assert embstore.verify(target).ok
    assert np.array_equal(embstore.open(target).to_numpy(), ROWS)
    assert embstore.clean(target) == ()
    assert run("info", target).stderr == ""


def test_the_command(target):
    left = target.with_name(".t.embstore.building")
    assert run("clean", target).stdout == f"removed {left}\n"
    assert run("clean", target).stdout == "nothing to remove\n"
    run_python("-c", KILLED, target, status=-9)
    assert json.loads(run("clean", target, "--json").stdout) == [str(left)]
    assert names(target) == ["t.embstore"]


@pytest.mark.parametrize("name", ["nope", "file.txt", "folder"])
def test_the_command_says_that_a_path_is_no_store(tmp_path, name):
    (tmp_path / "file.txt").write_text("the 1 2\n")
    (tmp_path / "folder").mkdir()
    done = run("clean", tmp_path / name, status=1)
    assert done.stdout == ""
    assert f"{tmp_path / name}" in done.stderr
    assert "no store at" in done.stderr or "is not a store" in done.stderr


def test_the_first_build_of_a_store(target):
    shutil.rmtree(target)
    refused = run("info", target, status=1)
    assert "was left by a build that was killed" in refused.stderr
    assert len(embstore.clean(target)) == 1
    assert names(target) == []


@pytest.mark.parametrize("name", [".t.embstore.replaced", ".t.embstore.copied"])
def test_a_store_that_was_being_replaced(target, name):
    embstore.clean(target)
    target.rename(target.with_name(name))
    assert embstore.clean(target) == (target.with_name(name),)
    assert names(target) == ["t.embstore"]
    assert np.array_equal(embstore.open(target).to_numpy(), ROWS)


def test_a_store_is_put_back_by_the_command(target):
    embstore.clean(target)
    aside = target.with_name(".t.embstore.replaced")
    target.rename(aside)
    assert run("clean", target).stdout == f"put the old store back as {target}, from {aside}\n"


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("file", ["", "vocabulary"])
def test_the_rest_of_a_replaced_store(target, kept, file):
    embstore.clean(target)
    aside = target.with_name(".t.embstore.replaced")
    aside.mkdir()
    if file:
        (aside / file).mkdir()
    if not kept:
        shutil.rmtree(target)
    with contextlib.suppress(embstore.StoreNotFoundError):
        embstore.open(target).close()
    assert embstore.clean(target) == (aside,)
    assert names(target) == ["t.embstore"] * kept
    assert embstore.clean(target) == ()


def test_a_build_that_is_running(target):
    embstore.clean(target)
    with embstore.StoreWriter(target, row_shape=(2,), dtype="float32", overwrite=True) as writer:
        writer.write(ROWS)
        assert leftovers(target) == []
        assert embstore.clean(target) == ()
    aside = target.with_name(".t.embstore.replaced")
    shutil.copytree(target, aside)
    with embstore.StoreWriter(target, row_shape=(2,), dtype="float32", overwrite=True) as writer:
        writer.write(ROWS)
        shutil.copytree(target, aside)
        with pytest.raises(embstore.StoreBusyError, match="another build is writing"):
            embstore.clean(target)
    assert len(embstore.open(target)) == 6


def test_links_are_followed(target, monkeypatch):
    link = target.parent / "link"
    link.symlink_to(target)
    assert len(leftovers(link)) == 1
    monkeypatch.chdir(target)
    assert embstore.clean("../link") == (target.with_name(".t.embstore.building"),)
    assert embstore.clean("/") == ()


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_what_is_no_store_is_left_alone(target, kind):
    shutil.rmtree(target)
    if kind == "directory":
        target.mkdir()
    else:
        target.write_text("mine")
    with pytest.raises(embstore.StoreExistsError, match="so nothing beside it was removed"):
        embstore.clean(target)
    assert len(names(target)) == 2


def test_a_url_is_refused():
    with pytest.raises(ValueError, match="path must be a local path"):
        embstore.clean("s3://bucket/glove")
