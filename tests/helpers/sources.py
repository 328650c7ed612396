"""Helpers for tests of sources: reading a whole source, and awkward words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from embstore.sources.choose import open_source

if TYPE_CHECKING:
    from numpy.typing import NDArray

AWKWARD = [". . .", "a\u00a0b", "a\u0085b", "\u2028", "\U0001f468\u200d\U0001f469", "e\u0301", ""]
AWKWARD += ["nan", '"quoted"', "#x", "a\tb", "x" * 10_000, "\x00", "\ufeffx", "\r", "'", "\\", ","]

any_word = st.sampled_from(AWKWARD) | st.text(st.characters(codec="utf-8"), max_size=6)


def read(source: Any, **options: Any) -> tuple[list[str] | None, NDArray[Any]]:
    """Return the words, if the source has words, and the rows that a build would get."""
    opened = open_source(source, **options)
    rows = [np.empty((0, *opened.row_shape), opened.dtype)]
    words: list[str] | None = None
    done = 0
    for batch in opened.batches():
        assert len(batch.rows)
        assert batch.bytes_done >= done
        done = batch.bytes_done
        rows.append(np.array(batch.rows))
        if batch.words is not None:
            assert len(batch.words) == len(batch.rows)
            words = (words or []) + [word.decode() for word in batch.words.encoded()]
    table = np.concatenate(rows)
    assert opened.row_count in (None, len(table))
    assert opened.describe()["format"]
    return words, table


def assert_same(found: NDArray[Any], expected: NDArray[Any]) -> None:
    """Compare bits, dtype and shape."""
    assert found.dtype == expected.dtype.newbyteorder("=")
    assert found.shape == expected.shape
    assert found.tobytes() == expected.astype(found.dtype).tobytes()
