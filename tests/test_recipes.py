"""The pages in docs/recipes and their scripts: the code is the script's, and so is the output."""

from __future__ import annotations

import doctest
import re
import shlex
from typing import Any

import pytest

import embstore
from tests.helpers.programs import ROOT, run_python

EXAMPLES = ROOT / "examples"
PAGES = sorted((ROOT / "docs" / "recipes").glob("*.md"))
NEEDS = {
    "data_frames": ("pandas", "polars"),
    "fastapi": ("fastapi", "httpx2"),
    "huggingface": ("torch", "transformers", "accelerate", "safetensors"),
    "language_model": ("torch", "safetensors"),
    "recommender": ("torch",),
}


def blocks(page, language):
    """Return the blocks of code of a language in a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def script_of(page):
    """Return the script that a page links to first."""
    return (page.parent / re.findall(r"\]\((\S+\.py)\)", page.read_text())[0]).resolve()


@pytest.fixture(params=PAGES, ids=lambda page: page.stem)
def page(request):
    return request.param


def test_code_is_that_of_the_script(page):
    code = blocks(page, "python")
    assert code
    script = script_of(page).read_text()
    for block in code:
        assert block in script, f"{page} shows code that {script_of(page)} does not have:\n{block}"


def test_output_is_that_of_the_script(page):
    for package in NEEDS.get(page.stem, ()):
        assert package in page.read_text()
        pytest.importorskip(package)
    (session,) = blocks(page, "console")
    command, _, expected = session.partition("\n")
    program, *arguments = shlex.split(command.removeprefix("$ "))
    assert program == "python"
    if arguments[0] == "-m":
        assert arguments == ["-m", f"examples.{script_of(page).stem}"]
    else:
        assert arguments == [f"examples/{script_of(page).name}"]
        arguments = [script_of(page)]
    done = run_python("-W", "error", *arguments)
    same = doctest.OutputChecker().check_output(expected, done.stdout, doctest.ELLIPSIS)
    assert same, f"{page} shows other output than this:\n{done.stdout}"
    assert not done.stderr


def test_links(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("https:") or (page.parent / target).exists(), target


def test_each_example_is_shown_by_a_page():
    shown = " ".join(page.read_text() for page in ROOT.glob("docs/**/*.md"))
    for script in EXAMPLES.glob("*.py"):
        assert f"examples/{script.name}" in shown or f"examples.{script.stem}" in shown, script


def test_advice_on_memory(words_store, tmp_path):
    """Options that are advised are those that `embstore.open` takes."""
    from examples.sizing import MIB, advise

    cases = [
        (advise(1000, 100, 512 * MIB), {"preload"}),
        (advise(1000, 100, 512 * MIB, watched=True), {"preload", "resident_limit"}),
        (advise(1 << 30, 100, 512 * MIB), {"row_cache"}),
        (advise(1 << 30, 100, 512 * MIB, watched=True), {"row_cache", "resident_limit"}),
        (advise(1 << 30, 100, 512 * MIB, uniform=True), set()),
        (advise(1 << 30, 5000, 512 * MIB), set()),
    ]
    for advice, expected in cases:
        options: dict[str, Any] = {one.option: one.value for one in advice}
        assert options.keys() == expected
        embstore.open(words_store, **options).close()
    done = run_python(EXAMPLES / "sizing.py", words_store, "--watched")
    assert re.search(r': 11 rows of 32 bytes, 352 bytes\n  resident_limit="\d+ MiB": ', done.stdout)
    failed = run_python(EXAMPLES / "sizing.py", tmp_path / "missing", status=1)
    assert failed.stderr.startswith("sizing: no store at ")
    failed = run_python(EXAMPLES / "sizing.py", "", status=1)
    assert failed.stderr == "sizing: path must be a path, not an empty text\n"
