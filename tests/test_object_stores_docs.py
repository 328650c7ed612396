"""The examples of docs/object_stores.md run as shown, on a directory instead of a bucket."""

from __future__ import annotations

import doctest
import re
import shlex

import pytest

from embstore import cli
from tests.helpers.programs import ROOT, run_command

PAGE = ROOT / "docs" / "object_stores.md"
BUCKET = "s3://bucket"
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def blocks(language):
    """Return the blocks of code of a language in the page."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def bucket(tmp_path, monkeypatch, words_path):
    """The URL of a directory, beside the source of the page's store."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "glove.txt").write_bytes(words_path.read_bytes())
    return (tmp_path / "a bucket").as_uri()


def run(commands, bucket):
    """Run commands; return what each has printed."""
    outputs = []
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "embstore"
        replaced = [one.replace(BUCKET, bucket) for one in arguments]
        outputs.append(run_command(*replaced).stdout)
    return outputs


def test_commands_and_python_examples(bucket):
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 4
    *_, published, listed, removed = run(commands, bucket)
    assert published.startswith("published ")
    assert published.count(bucket) == 1
    assert listed.splitlines()[0].split() == ["version", "published", "objects", "bytes", "state"]
    assert listed.splitlines()[1].endswith("current")
    assert removed.startswith("removed 0 of 1 versions")
    text = "\n".join(blocks("pycon"))
    assert text.count(">>> ") > 12
    text = text.replace(BUCKET, bucket)
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    failures: list[str] = []
    found = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=failures.append)
    assert not found.failed, "".join(failures)


def test_links():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text()):
        assert target.startswith("https:") or (PAGE.parent / target).exists()


@pytest.mark.parametrize("command", ["publish", "versions", "prune"])
def test_commands_are_on_the_page(command):
    assert f"embstore {command} s3://" in PAGE.read_text().replace("glove.embstore ", "")
    assert command in {getattr(one.callback, "__name__", "") for one in cli.app.registered_commands}
