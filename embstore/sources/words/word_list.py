r"""Words for rows that come without words: a list or vocabulary, or a file.

A file is UTF-8 and has one word a line; its lines end in ``\n`` or ``\r\n``, and nowhere else. An
empty line is the empty word, but empty lines at the end that no row is left for do not count. It is
read along with the rows. `embstore.sources.words.word_files` reads vocabularies with ids.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from embstore.errors import SourceError
from embstore.sources.files.input_file import check_file
from embstore.sources.files.piped import as_pipe
from embstore.sources.packing import packed_binary
from embstore.sources.text.blocks import TextFile
from embstore.sources.words.word_files import read_vocabulary
from embstore.sources.words.word_objects import ACCEPTED, list_words
from embstore.vocabulary.words import encode, pack_encoded
from embstore.wording import either

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.vocabulary.words import PackedWords

Words = str | Path | Iterable[str]


class WordList:
    """The words of the rows of another source.

    Parameters
    ----------
    words : str, Path, iterable of str, or mapping of str to int
        A file of words, which may be compressed; or the words themselves.
    row_count : int, optional
        The number of rows, so that an endless iterator can be refused.
    """

    def __init__(self, words: Words, row_count: int | None = None) -> None:
        self._file: TextFile | None = None
        self._words: list[str] | None
        pipe = as_pipe(Path(words) if isinstance(words, str) else words)
        if pipe is not None:
            self._file = TextFile(pipe, takes=("json",))
            self._words = read_vocabulary(self._file)
        elif isinstance(words, str | Path):
            path = Path(words)
            try:
                check_file(path)
            except SourceError as error:
                takes = either(
                    f"words= takes {ACCEPTED}", "--words takes a file of words, one a line"
                )
                raise SourceError(f"{error}; {takes}") from error
            self._file = TextFile(path, takes=("json",))
            self._words = read_vocabulary(self._file)
        else:
            self._words = list_words(words, row_count)
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
            remedy = "give one word for each row (in a file, one per line)"
            if 0 < count < row_count:
                remedy += f", or build from an array of the first {count} rows"
            raise SourceError(
                f"{self.name} has {found} words, but {rows_name} has {row_count} rows; {remedy}"
            )

    def reader(self) -> WordReader:
        """Return a reader that starts at the first word."""
        if self._words is not None:
            return WordReader(self._encoded(self._words))
        assert self._file is not None
        return WordReader(self._lines(self._file))

    def _count(self, enough: int) -> int:
        """Return the number of words, or any number above ``enough`` if there are more.

        Empty lines at the end count only as far as there are rows for them.
        """
        if self._words is not None:
            return len(self._words)
        assert self._file is not None
        filled = count = 0  # Lines up to the last one that is not empty, and all.
        for block in self._file.blocks(empty_lines="keep"):
            if text := block.data.rstrip(b"\r\n"):
                filled = count + text.count(b"\n") + 1
            count += block.data.count(b"\n") + (not block.data.endswith(b"\n"))
            if filled > enough:
                break
        return enough if filled == enough else count

    def _encoded(self, words: list[str]) -> Iterator[list[bytes]]:
        try:
            yield encode(words)
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
            if (more := next(self._lists, None)) is None:
                raise SourceError("the words became fewer while they were read")
            self._words = self._words[self._next :] + more
            self._next = 0
        taken = self._words[self._next : self._next + count]
        self._next += count
        return pack_encoded(taken)
