"""Links of pages: relative to the file in the repository, and right on the site, too.

On a code host, a page in `docs/` links to other files of the repository. On the site, such a link
leads to the page made of the file, if there is one, and otherwise to the file on the code host.
Images are part of the site, wherever they lie. A link to a missing file in Markdown stays as it is,
and Sphinx reports it; one in reStructuredText fails a test.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tools.site.contents import with_toctrees

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
FILES_URL = "https://github.com/embstore/embstore/blob/main/"
# Pages of the site whose text is a file elsewhere.
TEXTS = {
    "promises": "SECURITY.md",
    "changelog": "CHANGELOG.md",
    "benchmarks": "benchmarks/README.md",
}
IMAGES = {".png", ".svg"}
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)")
RST_LINK = re.compile(r"`([^`<]+) <(?!\w+:)([^>]+)>`__")


def read_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace the text of a page by that of its file, and its links by those of the site."""
    if page in TEXTS:
        file = ROOT / TEXTS[page]
        app.env.note_dependency(str(file))
        source[0] = site_links(file.read_text(), file.parent, page)
        return
    path = Path(app.env.doc2path(page))
    if path.suffix == ".rst":
        source[0] = site_rst_links(source[0], path.parent)
    else:
        source[0] = site_links(source[0], path.parent, page)
    if page == "index":
        source[0] = with_toctrees(source[0])


def site_links(text: str, folder: Path, page: str) -> str:
    """Return the text of a page with links to files outside of `docs/` replaced.

    >>> folder = ROOT / "docs"
    >>> site_links("[a](../SECURITY.md#what-is-trusted), [b](../tools/test)", folder, "models")
    '[a](promises.md#what-is-trusted), [b](https://github.com/embstore/embstore/blob/main/tools/test)'
    >>> site_links("[c](docs/models.md)", ROOT, "recipes/fastapi")
    '[c](../models.md)'
    """

    def replaced(found: re.Match[str]) -> str:
        path = Path(os.path.normpath(folder / found[1]))
        if not (path.exists() and path.is_relative_to(ROOT)):
            return found[0]
        name = path.relative_to(ROOT).as_posix()
        target = ROOT / "docs" / page
        for text_page, file in TEXTS.items():
            if name == file:
                path = ROOT / "docs" / f"{text_page}.md"
        if path.is_relative_to(ROOT / "docs") or path.suffix in IMAGES:
            link = os.path.relpath(path, target.parent)
        else:
            link = FILES_URL + name
        return f"]({link}{found[2] or ''})"

    return LINK.sub(replaced, text)


def site_rst_links(text: str, folder: Path) -> str:
    """Return the reStructuredText of a page with links to files replaced.

    >>> folder = ROOT / "docs" / "reference"
    >>> site_rst_links("`Guide <../ray.md>`__, `Ray <ray.rst>`__", folder)
    ':doc:`Guide <../ray>`, :doc:`Ray <ray>`'
    >>> site_rst_links("`a <../../tools/docs>`__", folder)
    '`a <https://github.com/embstore/embstore/blob/main/tools/docs>`__'
    """

    def replaced(found: re.Match[str]) -> str:
        text, link = found.groups()
        path = Path(os.path.normpath(folder / link))
        if path.is_relative_to(ROOT / "docs"):
            return f":doc:`{text} <{link.removesuffix(path.suffix)}>`"
        return f"`{text} <{FILES_URL}{path.relative_to(ROOT).as_posix()}>`__"

    return RST_LINK.sub(replaced, text)
