"""The first rows of an exported file, read back as a build would read them.

Only the first lines of a text file tell its format. Words that look like the start of
another kind of file, like a header, or like numbers are found out by reading them.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from embstore.attributes.values import first_values
from embstore.dtypes import wide_dtype
from embstore.errors import EmbstoreError, ExportError
from embstore.vocabulary.words import PackedWords

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from embstore.attributes.values import Values
    from embstore.row_blocks import RowBlock
    from embstore.sinks import TableFacts, Write

HEAD_ROWS = 128
# A header says all; and an import of pyarrow takes a while.
_TOLD_BY_HEADER = ("npy", "safetensors")


class Head:
    """The first rows of an export.

    Examples
    --------
    >>> from embstore.row_blocks import row_blocks
    >>> head = Head()
    >>> blocks = head.keep(row_blocks(store))
    """

    def __init__(self) -> None:
        self._block: RowBlock | None = None

    def keep(self, blocks: Iterator[RowBlock]) -> Iterator[RowBlock]:
        """Yield blocks; the first rows of the first one are kept."""
        for block in blocks:
            if self._block is None:
                words = None if block.words is None else block.words.part(0, HEAD_ROWS)
                attributes = first_values(block.attributes, HEAD_ROWS)
                rows = block.rows[:HEAD_ROWS].copy()
                self._block = replace(block, rows=rows, words=words, attributes=attributes)
            yield block

    def tried(
        self, blocks: Iterator[RowBlock], write: Write, table: TableFacts, format: str
    ) -> Iterator[RowBlock]:
        """Return the blocks of `keep`, once their first rows were written to a file and checked."""
        first = next(blocks, None)
        if first is None or self._block is None:
            return blocks
        if format not in _TOLD_BY_HEADER:
            with tempfile.NamedTemporaryFile(prefix="embstore-") as file:
                write(file, replace(table, rows=len(self._block.rows)), iter([self._block]))
                self.check(file, format, None)
        return chain([first], blocks)

    def check(self, file: IO[bytes] | None, format: str, words_file: IO[bytes] | None) -> None:
        """Read the first rows of a written file as a build would, and compare them.

        Parameters
        ----------
        file, words_file : binary file or None
            The files, still open; None for what cannot be read. There are words in a file of their
            own for npy and safetensors only.
        format : str
            The format, for the message.

        Raises
        ------
        ExportError
            If a build would refuse the file, or read other words or rows.
        """
        if self._block is None or (words_file is None and (not file or format in _TOLD_BY_HEADER)):
            return
        options: dict[str, Any] = {"limit": len(self._block.rows)}
        if words_file is not None:
            words_file.flush()
            options["words"] = words_file.name
        name = ""
        if file is not None:
            file.flush()
            name = file.name
        try:
            problem = "" if self._is_read(name, format, options) else "reads other words or rows"
        except EmbstoreError as error:
            problem = f"refuses it ({error})"
            problem = problem.replace(name, "it") if name else problem
        if problem:
            raise ExportError(
                f"the first words or rows of this table cannot be told from another kind of file: "
                f"a build from {format} {problem}; export as parquet"
            )

    def _are_read(self, words: str) -> bool:
        """Say whether a build reads the same words in a file of their own."""
        from embstore.sources.words.word_list import WordList  # noqa: PLC0415  # As below.

        assert self._block is not None
        assert self._block.words is not None
        count = len(self._block.words)
        return WordList(words, count).reader().take(count).encoded() == self._block.words.encoded()

    def _are_attributes(self, found: list[Mapping[str, Values]]) -> bool:
        """Say whether a build reads the same attributes."""
        assert self._block is not None
        own = self._block.attributes or {}
        return all(some.keys() == own.keys() for some in found) and all(
            _plain([some[name] for some in found]) == _plain([values])
            for name, values in own.items()
        )

    def _is_read(self, name: str, format: str, options: dict[str, Any]) -> bool:
        # Sources need pyarrow.
        from embstore.sources.choose import open_source  # noqa: PLC0415

        assert self._block is not None
        if format == "safetensors" or not name:
            return self._are_read(options["words"])
        dtype = wide_dtype(self._block.rows.dtype)
        batches = list(open_source(name, dtype=dtype, **options).batches())
        words = [word for batch in batches if batch.words for word in batch.words.encoded()]
        rows = np.concatenate([batch.rows for batch in batches]).astype(dtype)
        expected = self._block.rows.astype(dtype)
        is_same = np.array_equal(rows, expected, equal_nan=dtype.kind == "f")
        is_same = is_same and self._are_attributes([batch.attributes or {} for batch in batches])
        return is_same and words == (
            [] if self._block.words is None else self._block.words.encoded()
        )


def _plain(parts: list[Values]) -> list[bytes]:
    """Return the values of an attribute as bytes, to compare them."""
    return [
        value
        for part in parts
        for value in (
            part.encoded()
            if isinstance(part, PackedWords)
            else [number.tobytes() for number in part]
        )
    ]
