"""The benchmark of lookups by word runs small and compares its answers."""

from __future__ import annotations

import pytest

from benchmarks import words
from benchmarks.table import GeneratedTable
from tests.helpers.programs import run_python


def test_all_are_measured(tmp_path):
    command = ["-m", "benchmarks.words", "--rows", "300", "--dimension", "3"]
    command += ["--one", "20", "--loop", "20", "--together", "20", "--rounds", "1"]
    done = run_python(*command, "--directory", tmp_path)
    for task in (*words.MOST_US, words.TOGETHER):
        for way in (words.OURS, words.DICT):
            assert f"\n{words.WORK}, {task}: {way} " in done.stdout
    assert not list(tmp_path.iterdir())


def test_wrong_ids_are_found(tmp_path):
    table = GeneratedTable.make(tmp_path / "t.embstore", 30, 3, words=True)
    task = words.Task(5, True, {"broken": lambda some: [w[:1] == "m" for w in some]}, _as_known)
    with pytest.raises(ValueError, match="broken returned a wrong answer"):
        words.time_tasks({words.KNOWN: task}, table, 1, lambda line: None)


def _as_known(name, got, drawn):
    words._same(name, got, (drawn.ids >= 0).tolist())


def test_verdicts():
    name = f"{words.WORK}, {words.TOGETHER}: "
    lines = words.text({name + words.OURS: [1e-6], name + words.DICT: [1.5e-6]}).splitlines()
    assert lines[-1].split()[-2:] == ["1.50x", "yes"]
    lines = words.text({f"{words.WORK}, {words.ROW}: {words.OURS}": [3e-6]}).splitlines()
    assert lines[-1].split()[-4:] == ["3.00", "<=", "2.2", "NO"]
