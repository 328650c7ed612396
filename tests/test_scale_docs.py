"""The examples of docs/scale.md run as shown."""

from __future__ import annotations

import doctest
import re

from tests.helpers.programs import ROOT

PAGE = ROOT / "docs" / "scale.md"


def test_python_examples():
    blocks = re.findall(r"^```pycon\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, PAGE.name, str(PAGE), 0)
    failures: list[str] = []
    found = doctest.DocTestRunner().run(test, out=failures.append)
    assert found.attempted >= 10
    assert not found.failed, "".join(failures)
