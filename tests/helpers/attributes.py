"""Helpers for tests of attributes: the words, rows and attributes that a source gives."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from embstore.sources.choose import open_source
from embstore.vocabulary.words import PackedWords


class Table(NamedTuple):
    """What a source gives, as plain Python values."""

    dtypes: dict[str, str]
    attributes: dict[str, list[Any]]
    words: list[str]
    rows: np.ndarray[Any, Any]


def read(source: Any, attributes: Any = None, **options: Any) -> Table:
    """Return all rows of a source, with the attributes of these names."""
    names = None if attributes is None else tuple(attributes)
    opened = open_source(source, attributes=names, **options)
    found: dict[str, list[Any]] = {name: [] for name in opened.attribute_dtypes}
    words: list[str] = []
    rows = [np.empty((0, *opened.row_shape), opened.dtype)]
    for batch in opened.batches():
        rows.append(batch.rows)
        words += [] if batch.words is None else [w.decode() for w in batch.words.encoded()]
        assert (batch.attributes or {}).keys() == found.keys()
        for name, values in (batch.attributes or {}).items():
            assert len(values) == len(batch.rows)
            found[name] += listed(values)
            if not isinstance(values, PackedWords):
                assert values.dtype.name == opened.attribute_dtypes[name]
    return Table(dict(opened.attribute_dtypes), found, words, np.concatenate(rows))


def listed(values: Any) -> list[Any]:
    """Return the values of an attribute as a list."""
    if isinstance(values, PackedWords):
        return [value.decode() for value in values.encoded()]
    found: list[Any] = values.tolist()
    return found
