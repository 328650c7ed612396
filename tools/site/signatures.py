"""Signatures of classes: shown only where users call the class."""

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
    """Hide the signature of an error, and of a class whose docstring has no parameters."""
    is_called = kind != "exception" and "Parameters\n" in (documented.__doc__ or "")
    return ("", None) if kind in {"class", "exception"} and signature and not is_called else None
