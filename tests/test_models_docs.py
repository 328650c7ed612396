"""The examples of docs/models.md run as shown, on the made-up models of the examples."""

from __future__ import annotations

import doctest
import re
import shlex

import pytest

from tests.helpers.programs import ROOT, run_command, run_python

PAGE = ROOT / "docs" / "models.md"
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def blocks(language):
    """Return the blocks of code of a language in the page."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def models(tmp_path, monkeypatch):
    for package in ("torch", "safetensors", "gguf"):
        pytest.importorskip(package)
    from examples import made_up_models

    monkeypatch.chdir(tmp_path)
    made_up_models.main(tmp_path / "models")


def test_python_examples(models):
    text = "\n".join(
        re.findall(r"^```pycon\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    )
    assert text.count(">>> ") > 20
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    failures: list[str] = []
    found = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=failures.append)
    for name in ("store", "codes", "engram", "table", "built"):
        if name in test.globs:
            test.globs[name].close()
    assert not found.failed, "".join(failures)


def test_commands(models):
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 3
    for command in commands:
        program, *arguments = shlex.split(command)
        if program == "embstore":
            assert run_command(*arguments).stdout
        else:
            assert arguments[:2] == ["-m", "examples.made_up_models"]


def test_links():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text()):
        assert (PAGE.parent / target).exists()


def test_made_up_models_are_made_by_a_command(tmp_path):
    for package in ("torch", "safetensors", "gguf"):
        pytest.importorskip(package)
    done = run_python("-m", "examples.made_up_models", tmp_path / "m")
    assert done.stdout.startswith("made ")
    assert len(list(tmp_path.glob("m/shards/*.safetensors"))) == 6
    assert len(list(tmp_path.glob("m/engram/*.safetensors"))) == 2
    assert (tmp_path / "m" / "model.gguf").exists()
