"""The examples of docs/changing_tables.md and examples/nightly_refresh.py run as shown."""

from __future__ import annotations

import doctest
import re
import shlex

import numpy as np
import pytest

import embstore
from tests.helpers.programs import ROOT, run_command, run_python

PAGE = ROOT / "docs" / "changing_tables.md"
EXAMPLE = ROOT / "examples" / "nightly_refresh.py"


def test_commands_and_python_examples(tmp_path, monkeypatch):
    """Blocks run in their order, in one folder."""
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(sh|pycon)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    said: dict[str, str] = {}
    examples = 0
    for kind, text in blocks:
        if kind == "sh":
            for line in text.splitlines():
                program, *arguments = shlex.split(line)
                assert program == "embstore"
                said[line] = run_command(*arguments).stdout
            continue
        test = doctest.DocTestParser().get_doctest(text, names, PAGE.name, str(PAGE), 0)
        failures: list[str] = []
        found = doctest.DocTestRunner().run(test, out=failures.append, clear_globs=False)
        assert not found.failed, "".join(failures)
        names |= test.globs
        examples += found.attempted
    assert examples > 30
    assert said["embstore append glove.embstore new.txt"].startswith("2 rows appended: ")
    dry = said["embstore upsert glove.embstore today.txt --dry-run"]
    assert dry.endswith(said["embstore upsert glove.embstore today.txt"])
    assert "1 row appended, 1 row replaced: " in dry


def test_links():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text()):
        assert target.startswith("https:") or (PAGE.parent / target).exists()


def test_nightly_refresh(tmp_path):
    done = run_python(EXAMPLE)
    assert done.stdout.splitlines()[-1] == "1010 rows now, 1009 in the newest of 3"
    assert done.stderr == ""
    embstore.build({"a": np.zeros(2), "b": np.zeros(2)}, tmp_path / "s").close()
    (tmp_path / "today.txt").write_text("b 1 1\nc 2 2\n")
    url = (tmp_path / "published").as_uri()
    done = run_python(EXAMPLE, tmp_path / "s", tmp_path / "today.txt", "--url", url)
    assert "published " in done.stdout
    with embstore.open(url) as table:
        assert table[["a", "b", "c"]].tolist() == [[0, 0], [1, 1], [2, 2]]
    (snapshot,) = tmp_path.glob("s-*")
    with embstore.open(snapshot) as before:
        assert before.rows == 2
