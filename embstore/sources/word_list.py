r"""Words for rows that come without words: a list, or a text file with one word per line.

A file is UTF-8; its lines end in ``\n`` or ``\r\n``, and nowhere else. An empty line is the empty
word. The file is read along with the rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from embstore.errors import SourceError
from embstore.sources.blocks import TextFile
from embstore.sources.packing import packed_binary
from embstore.vocabulary.words import encode, pack_encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.vocabulary.words import PackedWords

Words = str | Path | Iterable[str]


class WordList:
    """The words of the rows of another source.

    Parameters
    ----------
    words : str, Path, or iterable of str
        A text file with one word per line, which may be compressed; or the words themselves.
    """

    def __init__(self, words: Words) -> None:
        self._file = TextFile(Path(words)) if isinstance(words, str | Path) else None
        self._words = [] if isinstance(words, str | Path) else list(words)
        self.name = "words" if self._file is None else self._file.name

    def check_count(self, row_count: int, rows_name: str) -> None:
        """Check that there are as many words as rows.

        Raises
        ------
        SourceError
            If there are more or fewer words than rows.
        """
        count = self._count(row_count)
        if count != row_count:
            found = f"more than {row_count}" if count > row_count else f"{count}"
            raise SourceError(
                f"{self.name} has {found} words, but {rows_name} has {row_count} rows; give one "
                "word for each row (in a file, one per line)"
            )

    def reader(self) -> WordReader:
        """Return a reader that starts at the first word."""
        return WordReader(self._encoded() if self._file is None else self._lines(self._file))

    def _count(self, enough: int) -> int:
        """Return the number of words, or any number above ``enough`` if there are more."""
        if self._file is None:
            return len(self._words)
        count = 0
        for block in self._file.blocks(empty_lines="keep"):
            count += block.data.count(b"\n") + (not block.data.endswith(b"\n"))
            if count > enough:
                break
        return count

    def _encoded(self) -> Iterator[list[bytes]]:
        try:
            yield encode(self._words)
        except UnicodeEncodeError as error:
            raise SourceError(
                f"the word {error.object!r} cannot be encoded as UTF-8: {error.reason}"
            ) from error

    def _lines(self, file: TextFile) -> Iterator[list[bytes]]:
        for block in file.blocks(empty_lines="keep"):
            lines = block.data.removesuffix(b"\n").split(b"\n")
            lines = [line.removesuffix(b"\r") for line in lines]

            def place(row: int, first: int = block.first_line) -> str:
                return f"{file.name}:{first + row}"

            yield packed_binary(pa.array(lines, pa.binary()), "strict", place).encoded()


class WordReader:
    """Words in order, taken in pieces of any size.

    Parameters
    ----------
    lists : iterator of list of bytes
        The words, encoded.
    """

    def __init__(self, lists: Iterator[list[bytes]]) -> None:
        self._lists = lists
        self._words: list[bytes] = []
        self._next = 0

    def take(self, count: int) -> PackedWords:
        """Return the next ``count`` words."""
        while len(self._words) - self._next < count:
            self._words = self._words[self._next :] + next(self._lists)
            self._next = 0
        taken = self._words[self._next : self._next + count]
        self._next += count
        return pack_encoded(taken)
