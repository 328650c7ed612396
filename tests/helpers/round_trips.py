"""Tables with awkward words and numbers, to export and build again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from tests.helpers import stores

if TYPE_CHECKING:
    from pathlib import Path

# Formats differ in which of these words they can hold; spaces are the most common difference.
SPACED = ["two words", " leading", "trailing ", "a  b", ". . .", "10 km"]
AWKWARD = [
    *(
        "the",
        "no\u00a0break",
        "next\u0085line",
        "line\u2028separator",
        "\U0001f600",
        "e\u0301\u0327",
    ),
    *("", "nan", "inf", '"quoted"', "#x", "a\ttab", "y" * 10_000, "\rreturn\r.", "5", "1e5", "-"),
    *("\ufeffmark", "\x00", "\u3000", "\x0b\x0c\x1c"),
]
ROWS = np.random.default_rng(0).standard_normal((100, 5)).astype(np.float32)
# Extreme numbers, numbers with many digits, and special values.
ROWS[:3] = [
    [0.0, -0.0, 1e-45, -1.1754942e-38, 3.4028235e38],
    [np.inf, -np.inf, np.nan, 16777217, 1e10],
    [0.1, 1 / 3, 123456.79, 8.5899346e9, 1e-5],
]


def make_store(
    path: Path, words: list[str] | None, rows: Any = None, dtype: Any = None
) -> embstore.EmbeddingStore:
    """Write rows, or the first of `ROWS`, over 3 partitions; open the store."""
    rows = ROWS[: len(words or ())] if rows is None else rows
    return stores.make_store(path, rows, words, dtype=dtype or rows.dtype, partitions=3)


def assert_same(store: embstore.EmbeddingStore, expected: embstore.EmbeddingStore) -> None:
    """Compare words, and rows to the bit."""
    ids = np.arange(expected.rows)
    assert store.rows == expected.rows
    assert store.words(ids) == expected.words(ids)
    assert store.lookup(ids).tobytes() == expected.lookup(ids).tobytes()
