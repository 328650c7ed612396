"""What embstore's documentation site adds to Sphinx: see `docs/conf.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools.site.breaks import allow_breaks
from tools.site.commands import Commands
from tools.site.figures import inline_figures
from tools.site.links import read_page
from tools.site.references import find_public_name
from tools.site.signatures import class_signature

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the additions; Sphinx calls this."""
    app.add_directive("embstore-commands", Commands)
    app.connect("source-read", read_page)
    app.connect("autodoc-process-signature", class_signature)
    app.connect("missing-reference", find_public_name)
    app.connect("doctree-resolved", inline_figures)
    app.connect("html-page-context", allow_breaks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
