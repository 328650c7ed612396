"""Line breaks in long names of code: where its words meet, and not inside a word."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.application import Sphinx

# Shorter names stay whole.
LONG_NAME = re.compile(r'(?<=<span class="pre">)[^<]{15,}')
JOINT = re.compile(r"(?<=\w[._/])(?=\w|$)|(?<=[a-z])(?=[A-Z])")


def allow_breaks(
    app: Sphinx, name: str, template: str, context: dict[str, Any], page: nodes.document | None
) -> None:
    """Mark where names of a page may break; what is copied from it stays the same."""
    if "body" in context:
        context["body"] = with_breaks(context["body"])


def with_breaks(html: str) -> str:
    """Return HTML whose long names may break at their joints.

    >>> with_breaks('<span class="pre">KeyedVectors.most_similar</span> is_not')
    '<span class="pre">Keyed<wbr>Vectors.<wbr>most_<wbr>similar</span> is_not'
    """
    return LONG_NAME.sub(lambda name: JOINT.sub("<wbr>", name[0]), html)
