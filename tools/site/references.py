"""References in docstrings: a name of `embstore` is found in the docstring of any module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphinx.util.nodes import make_refnode

if TYPE_CHECKING:
    from docutils.nodes import Element, TextElement
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


def find_public_name(
    app: Sphinx, environment: BuildEnvironment, reference: pending_xref, text: TextElement
) -> Element | None:
    """Resolve a reference to a public name, such as `EmbeddingStore.lookup`; None if it is none."""
    name = f"embstore.{reference.get('reftarget', '')}"
    found = environment.domains.python_domain.objects.get(name)
    if reference.get("refdomain") != "py" or found is None or app.builder is None:
        return None
    return make_refnode(app.builder, reference["refdoc"], found.docname, found.node_id, text, name)
