"""The benchmark of changes runs small and compares its answers."""

from __future__ import annotations

import os

from benchmarks import changes
from tests.helpers.programs import run_python


def test_all_are_measured(tmp_path):
    command = ["-m", "benchmarks.changes", "--rows", "300", "--dimension", "3", "--added", "10"]
    command += ["--bytes", "3600", "--appends", "4", "--appended", "30", "--rounds", "1"]
    done = run_python(*command, "--directory", tmp_path)
    for task in (changes.APPEND, changes.UPDATE):
        for name in (task, f"{task}: {changes.WRITE}", f"{task}: {changes.REBUILD}"):
            assert f"\n{name} " in done.stdout
    for what in (changes.OPEN, changes.LOOKUP):
        assert f"\ngrow, speed of {what} " in done.stdout
    assert not list(tmp_path.iterdir())


def test_written_files_are_written_again(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    for place in (before, after):
        place.mkdir()
    (before / "kept").write_bytes(b"old")
    os.link(before / "kept", after / "kept")
    (after / "new").write_bytes(b"ab" + bytes(100) + b"tail")
    (after / "zeros").write_bytes(bytes(100))
    inodes = {path.stat().st_ino for path in before.iterdir()}
    changes.WrittenFiles.of(after, inodes).write(tmp_path / "again")
    contents = sorted(path.read_bytes() for path in (tmp_path / "again").iterdir())
    assert contents == [bytes(100), b"ab" + bytes(100) + b"tail"]


def test_verdicts():
    times = {"append": [0.05], "append: write and flush": [0.04]}
    found = {"append": changes.Found(times, {"written": 4.5})}
    lines = changes.text(found).splitlines()
    assert lines[-2].split()[-4:] == ["50.00", "<=", "60", "yes"]
    assert lines[-1].split()[-4:] == ["4.50", "<=", "4", "NO"]
