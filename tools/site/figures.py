"""Figures of pages, put into the page itself, so that they follow its light or dark theme."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def inline_figures(app: Sphinx, page: nodes.document, name: str) -> None:
    """Replace each image of `docs/figures` by its SVG."""
    for image in list(page.findall(nodes.image)):
        path = Path(app.srcdir) / image["uri"]
        if path.parent.name == "figures" and path.suffix == ".svg":
            opening = f'<div class="figure" role="img" aria-label="{escape(image["alt"])}">'
            html = f"{opening}\n{path.read_text()}</div>"
            image.replace_self(nodes.raw("", html, format="html"))
