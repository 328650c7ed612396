"""Signatures of classes: shown only where a user calls the class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def hide_signature(
    app: Sphinx,
    kind: str,
    name: str,
    documented: Any,
    options: object,
    signature: str | None,
    returned: str | None,
) -> tuple[str, None] | None:
    """Hide the signature of a class that functions make: its docstring has no parameters."""
    if kind == "class" and signature and "Parameters\n" not in (documented.__doc__ or ""):
        return "", None
    return None
