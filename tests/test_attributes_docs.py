"""The examples of docs/attributes.md run as shown."""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.helpers.programs import ROOT, run_command

PAGE = ROOT / "docs" / "attributes.md"
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def blocks(language: str) -> list[str]:
    """Return the blocks of code of a language in the page."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_examples(tmp_path, monkeypatch):
    """Commands first, then the Python lines, which use what these made."""
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", "".join(blocks("console")), re.MULTILINE)
    assert len(commands) == 9
    for command, output in commands:
        program, *arguments = shlex.split(command)
        if program == "cat":
            Path(arguments[0]).write_text(output)
            continue
        if program == "python":
            subprocess.run([sys.executable, *arguments], check=True)
            continue
        found = run_command(*arguments).stdout
        if output:
            assert doctest.OutputChecker().check_output(output, found, OPTIONS), found
    text = "\n".join(blocks("pycon"))
    assert text.count(">>> ") > 10
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    failures: list[str] = []
    found_by_doctest = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=failures.append)
    for name in ("store", "titled", "changed"):
        if name in test.globs:
            test.globs[name].close()
    assert not found_by_doctest.failed, "".join(failures)
