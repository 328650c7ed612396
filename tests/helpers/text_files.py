"""Helpers for tests of text files: small tables, and reading them through a source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.sources.text.blocks import TEXT_BLOCK_BYTES, TextFile
from embstore.sources.text.source import TextSource

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from numpy.typing import NDArray

GLOVE = b"the 0.25 -1.5 3\nlike 1e-3 .5 -0\nday 7 8. 9\n"
WORD2VEC = b"3 3\n" + GLOVE
WORDS = ["the", "like", "day"]
ROWS = np.array([[0.25, -1.5, 3], [1e-3, 0.5, -0.0], [7, 8, 9]], np.float32)


def blocks_of(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Read files in blocks of ``size`` bytes instead of the default."""
    whole = TextFile.blocks

    def blocks(self, block_bytes=TEXT_BLOCK_BYTES, **options):
        return whole(self, size if block_bytes == TEXT_BLOCK_BYTES else block_bytes, **options)

    monkeypatch.setattr(TextFile, "blocks", blocks)


def read(path: Path, **options: Any) -> tuple[list[str], NDArray[Any]]:
    """Return the words and the rows of a text file."""
    source = TextSource(path, **options)
    words, rows = [], [np.empty((0, *source.row_shape), source.dtype)]
    for batch in source.batches():
        assert batch.words is not None
        words += [word.decode() for word in batch.words.encoded()]
        rows.append(batch.rows)
    return words, np.concatenate(rows)


def read_bytes(tmp_path: Path, data: bytes, **options: Any) -> tuple[list[str], NDArray[Any]]:
    path = tmp_path / "table.txt"
    path.write_bytes(data)
    return read(path, **options)


def assert_same_bits(found: NDArray[Any], expected: NDArray[Any]) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()
