"""The documentation site: it builds without a warning, and is read without another server."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

import pytest

import embstore
from tests.helpers.programs import run_python
from tests.test_cli import COMMANDS

if TYPE_CHECKING:
    from pathlib import Path

# What a browser fetches by itself: not the links that a reader may follow.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*?\ssrc=\"([^\"]+)\"|<link\b[^>]*?\shref=\"([^\"]+)\"|"
    r"url\(['\"]?(?!data:)([^'\")]+)|@import\s+['\"]([^'\"]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    for package in ("sphinx", "furo", "myst_parser", "numpydoc"):
        pytest.importorskip(package)
    folder: Path = tmp_path_factory.mktemp("docs") / "site"
    done = run_python("-m", "tools.site", folder)
    assert done.stderr == ""
    return folder


def test_public_names_are_on_the_site(site):
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    names = {line.split(" ")[0] for line in zlib.decompress(inventory).decode().splitlines()}
    for name in embstore.__all__:
        if name != "__version__":
            assert f"embstore.{name}" in names
    assert "embstore.EmbeddingStore.lookup" in names
    assert "embstore.interop.torch.StoreEmbedding" in names


def test_commands_are_on_the_site(site):
    text = (site / "command_line.html").read_text()
    for name in COMMANDS:
        assert f'id="embstore-{name}"' in text


def test_nothing_is_fetched_from_elsewhere(site):
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        for found in FETCHED.findall(path.read_text()):
            target = next(filter(None, found))
            assert not re.match(r"(\w+:)?//", target), (path, target)


def test_figures_follow_the_theme(site):
    text = (site / "how_it_works.html").read_text()
    assert text.count('class="figure-svg"') == 4
    assert "figures/" not in re.sub(r"<!--.*?-->", "", text)
