"""The promises of SECURITY.md: their tests exist, and full campaigns are recorded."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import embstore
from tests.campaigns.runs import CAMPAIGNS
from tools import torture

ROOT = Path(embstore.__file__).parents[1]
# A test may be named with one of its parameters, as in `test_small_campaign[crash]`.
NAMED = re.findall(
    r"`(tests/\w+\.py)(?:::(\w+)(?:\[(\w+)\])?)?`", (ROOT / "SECURITY.md").read_text()
)


def test_promises_are_found():
    assert len(NAMED) > 20
    assert {parameter for _, _, parameter in NAMED} == {"", *CAMPAIGNS}


@pytest.mark.parametrize(("file", "test"), sorted({named[:2] for named in NAMED}))
def test_promised_tests_exist(file, test):
    tree = ast.parse((ROOT / file).read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not test or test in names


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_full_campaign_is_recorded(name):
    text = torture.RESULTS.read_text()
    assert re.search(rf"^\| {name} \| \d{{4}}-\d\d-\d\d \| \d+ \|", text, re.MULTILINE)
