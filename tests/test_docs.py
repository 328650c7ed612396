"""The documentation: its examples run as shown, its links lead somewhere, it names everything."""

from __future__ import annotations

import ast
import re
import shutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import embstore
from tests.fixtures import WORDS
from tests.helpers.pages import Examples, blocks
from tests.helpers.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md"))
OTHER_PAGES = ["README.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md"]
# Pages that other tests run: in a process of their own, on a cluster, and with their scripts.
RUN_ELSEWHERE = ("docs/keras.md", "docs/ray.md", "docs/recipes/")
LANGUAGES = {"console", "json", "pycon", "python", "sh", "text", "toml"}
PACKAGES = {
    "docs/changing_tables.md": ["torch"],
    "docs/models.md": ["torch", "safetensors", "gguf"],
    "docs/pytorch.md": ["torch"],
    "docs/serving.md": ["pyarrow.flight"],
}
TLS = Path(__file__).parent / "data" / "tls"
PUBLIC_MODULES = [f"embstore.interop.{name}" for name in ("keras", "ray", "torch")]


def prepare_words() -> None:
    """The text of the pages that build from one."""
    shutil.copy(WORDS, "glove.txt")


def prepare_store() -> None:
    """A store of words."""
    embstore.build(WORDS, "glove.embstore").close()


def prepare_served() -> None:
    """The stores of the page: one whole, one with the files of two partitions."""
    embstore.build(WORDS, "glove.embstore", partitions=4).close()
    shutil.copytree("glove.embstore", "part.embstore")
    for number in (1, 2):
        shutil.rmtree(f"part.embstore/partitions/{number}")
    shutil.copy(TLS / "cert.pem", "cert.pem")
    shutil.copy(TLS / "key-for-tests-only.pem", "key.pem")


def prepare_word2vec() -> None:
    """A file such as the page has, with a few words."""
    words = {"king": [1.0, 0.0], "woman": [0.0, 1.0], "man": [0.1, 0.9], "queen": [0.9, 0.1]}
    with embstore.build(words, "words.embstore", dtype="float32") as store:
        embstore.export(store, "GoogleNews-vectors-negative300.bin")


PREPARED: dict[str, Callable[[], None]] = {
    "docs/gensim.md": prepare_word2vec,
    "docs/index.md": prepare_words,
    "docs/object_stores.md": prepare_words,
    "docs/pytorch.md": prepare_store,
    "docs/serving.md": prepare_served,
}


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith(RUN_ELSEWHERE)])
def test_examples(page, tmp_path, monkeypatch):
    for package in PACKAGES.get(page, []):
        pytest.importorskip(package)
    text = (ROOT / page).read_text().replace("s3://bucket", (tmp_path / "bucket").as_uri())
    monkeypatch.chdir(tmp_path)
    if page in PREPARED:
        PREPARED[page]()
    Examples(ROOT / page).run(text)


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES])
def test_blocks_have_a_language(page):
    for block in blocks((ROOT / page).read_text()):
        assert block.language in LANGUAGES or block.language.startswith("{"), block


@pytest.mark.parametrize("page", [*PAGES, *OTHER_PAGES])
def test_links(page):
    text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.M | re.S)
    for target, _, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(#([^)\s]*))?\)", text):
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path.read_text()), (target, anchor)


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings of a page, as code hosts and the site make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_reference_has_every_public_name():
    text = "".join(path.read_text() for path in (DOCS / "reference").glob("*.rst"))
    listed = set(re.findall(r"^\.\. auto(?!module)\w+:: (\S+)$", text, re.M))
    names = {f"embstore.{name}" for name in embstore.__all__ if name != "__version__"}
    for module in PUBLIC_MODULES:
        # Read, not imported: the package that it is for may be missing.
        text = (ROOT / module.replace(".", "/") / "__init__.py").read_text()
        (listing,) = re.findall(r"^__all__ = (\[.*?\])", text, re.M | re.S)
        names |= {f"{module}.{name}" for name in ast.literal_eval(listing)}
    store = embstore.EmbeddingStore
    names |= {f"embstore.EmbeddingStore.{name}" for name in dir(store) if name[0] != "_"}
    assert names <= listed, f"missing in docs/reference: {sorted(names - listed)}"
    assert set(dir(embstore)) == set(embstore.__all__)


def test_links_of_the_reference():
    for page in (DOCS / "reference").glob("*.rst"):
        for target in re.findall(r"<([^>]+)>`__", page.read_text()):
            assert (page.parent / target).exists(), (page, target)


def test_index_of_the_reference_lists_every_name():
    listed = set(re.findall(r"``(\w+)``", (DOCS / "reference" / "index.rst").read_text()))
    errors = {name for name in embstore.__all__ if name.endswith("Error")} - {"EmbstoreError"}
    names = {*embstore.__all__} - errors - {"__version__"}
    assert names <= listed, f"missing in docs/reference/index.rst: {sorted(names - listed)}"


def test_figures_are_those_that_the_script_draws(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "figures")
    draw = import_module("draw")
    for name, make in draw.FIGURES.items():
        assert (DOCS / "figures" / f"{name}.svg").read_text() == make().svg()
