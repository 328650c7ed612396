"""Every test that SECURITY.md names is there, and every campaign is run by one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import embstore
from tools import torture

ROOT = Path(embstore.__file__).parents[1]
NAMED = re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text())


def test_there_are_promises():
    assert len(NAMED) > 10


@pytest.mark.parametrize(("file", "test"), sorted(set(NAMED)))
def test_what_holds_a_promise_is_there(file, test):
    tree = ast.parse((ROOT / file).read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not test or test in names


@pytest.mark.parametrize("name", torture.CAMPAIGNS)
def test_every_campaign_is_run_small(name):
    text = (ROOT / "tests" / f"test_{name}.py").read_text()
    assert f"{name}.run(" in text


def test_a_full_run_is_recorded():
    text = torture.RESULTS.read_text()
    for name in torture.CAMPAIGNS:
        assert re.search(rf"^\| {name} \| \d{{4}}-\d\d-\d\d \| \d+ \|", text, re.MULTILINE)


def test_recording_replaces_the_last_outcome(tmp_path, monkeypatch):
    monkeypatch.setattr(torture, "RESULTS", tmp_path / "results.md")
    torture.record("hostile", 7, 1.5, "first")
    torture.record("corruption", 8, 2, "other")
    torture.record("hostile", 9, 3, "second")
    lines = torture.RESULTS.read_text().splitlines()[-2:]
    assert [line.split(" | ")[0] for line in lines] == ["| corruption", "| hostile"]
    assert "second" in lines[1]
    assert "first" not in torture.RESULTS.read_text()
