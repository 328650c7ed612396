"""Signatures of classes: shown only where users call the class."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from sphinx.util.inspect import stringify_signature

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def class_signature(
    app: Sphinx,
    kind: str,
    name: str,
    documented: Any,
    options: object,
    signature: str | None,
    returned: str | None,
) -> tuple[str, None] | None:
    """Return the signature of a class, none of an error or of a class without parameters.

    A class whose base is of a package that is not installed has that of its ``__init__``.
    """
    if kind not in {"class", "exception"} or not signature:
        return None
    if kind == "exception" or "Parameters\n" not in (documented.__doc__ or ""):
        return "", None
    if "__init__" not in vars(documented):
        return None
    found = inspect.signature(documented.__init__)
    given = list(found.parameters.values())[1:]
    return stringify_signature(inspect.Signature(given), show_annotation=False), None
