"""What a notebook shows for a store or a view: a small HTML table of facts.

1. The facts are those that an open store knows: nothing is read, and no server is asked. So there
   are no words or rows among them, which may be cold.
2. The table takes the notebook's own colours, light or dark.
"""

from __future__ import annotations

from contextlib import suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Notebooks align cells of a table to the right, as is right for frames of numbers.
_LEFT = 'style="text-align: left"'


def facts_of(store: Any) -> dict[str, str]:
    """Return what is known of a store, by name.

    Parameters
    ----------
    store : EmbeddingStore
        The store, open or closed.

    Examples
    --------
    >>> facts = facts_of(store)
    >>> facts["rows"], facts["row shape"], facts["partitions"], facts["words"]
    ('11', '(8,)', '2, mod', '11')
    """
    source = store.source
    row_bytes = store.record_bytes
    facts = {
        "rows": f"{store.rows:,}",
        "row shape": str(store.row_shape),
        "dtype": str(store.dtype),
        "encoding": "" if store.encoding == "plain" else store.encoding,
        "scale": "" if store.is_store else source.get("scale"),
        "compression": store.compression,
        "partitions": _partitions(store),
        "words": _words(store),
        "attributes": _attributes(store),
        "bytes": f"{store.rows * row_bytes:,}, {row_bytes:,} a row",
        "tensor": "" if store.is_store else source.get("tensor"),
        "at": _place(store),
    }
    return {name: str(fact) for name, fact in facts.items() if fact}


def as_html(title: str, facts: Mapping[str, str]) -> str:
    """Return a table of facts under a title, as HTML.

    Parameters
    ----------
    title : str
        The first line.
    facts : mapping of str to str
        Names and facts, in order.

    Examples
    --------
    >>> print(as_html("Words", {"first": "<unk>"}))
    <table>
    <thead><tr><th colspan="2" style="text-align: left">Words</th></tr></thead>
    <tbody>
    <tr><th style="text-align: left">first</th><td style="text-align: left">&lt;unk&gt;</td></tr>
    </tbody>
    </table>
    """
    heading = f'<thead><tr><th colspan="2" {_LEFT}>{escape(title)}</th></tr></thead>'
    lines = [
        f"<tr><th {_LEFT}>{escape(name)}</th><td {_LEFT}>{escape(fact)}</td></tr>"
        for name, fact in facts.items()
    ]
    return "\n".join(["<table>", heading, "<tbody>", *lines, "</tbody>", "</table>"])


def title_of(store: Any) -> str:
    """Return the name of a store's class, and whether it is closed.

    Examples
    --------
    >>> title_of(store)
    'EmbeddingStore'
    """
    return type(store).__name__ + (", closed" if store._records is None else "")


def _partitions(store: Any) -> str:
    count, opened = store.partition_count, len(store.partitions)
    some = "" if opened == count else f"{opened:,} of "
    return f"{some}{count:,}" + (f", {store.strategy}" if count > 1 else "")


def _words(store: Any) -> str:
    if not store.has_words:
        return "none"
    return f"{store.rows:,}" + ("" if store.unk is None else f", unk {store.unk}")


def _attributes(store: Any) -> str:
    columns = store._columns or {}  # None once the store is closed.
    return ", ".join(f"{name}: {column.dtype_name}" for name, column in columns.items())


def _place(store: Any) -> str:
    """Return where a store is: a path below the current directory from there, others whole."""
    place: str = store.location
    if store.url is None:
        with suppress(OSError, ValueError):  # The current directory may be gone.
            return str(Path(place).relative_to(Path.cwd()))
    return place
