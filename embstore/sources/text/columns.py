"""Columns of attributes in a text file: the fields between each word and its vector.

Where they are:

1. Fields that are not separated from the numbers of the vector are the first of these numbers.
2. Where a mark or a tab separates the word from its numbers, further fields may stand between.

What they hold follows from all values of a column, which are read once before the rows are: whole
numbers are int64, other numbers float64, and other texts strings. A column that has some of each
is refused, and so is what a number would not hold: leading zeros, whole numbers beyond 64 bits, or
beyond 53 among decimals. A missing value is refused, too.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embstore.errors import SourceError
from embstore.formats.own.spec import STRING
from embstore.sources.packing import packed_binary
from embstore.sources.text.numerals import is_decimal, is_number, looks_like_number
from embstore.sources.text.pieces import BLANK, DialectError, shown
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from embstore.sources.text.dialect import Dialect
    from embstore.vocabulary.words import PackedWords

Column: TypeAlias = "NDArray[Any] | PackedWords"
# Whole numbers that int64 holds, whatever their digits.
_SMALL = r"^-?(0|[1-9][0-9]{0,17})$"
_WHOLE = re.compile(rb"[+-]?(0|[1-9][0-9]*)")
_CODE = re.compile(rb"[+-]?0[0-9]+")
_NOT_FINITE = (b"nan", b"inf", b"infinity")
_FIRST_INEXACT = 1 << 53  # float64 rounds some whole numbers from here on.
_INT64 = np.iinfo(np.int64)


def with_columns(lines: list[bytes], dialect: Dialect, attributes: Sequence[str]) -> Dialect:
    """Return the dialect, with the fields of attributes apart from the vector.

    Parameters
    ----------
    lines : list of bytes
        The first lines.
    dialect : Dialect
        Their dialect, as it was detected.
    attributes : sequence of str
        The names of the columns between the word and its vector.

    Raises
    ------
    DialectError
        If lines have other columns.
    """
    if not attributes:
        return dialect
    before = _columns_before(lines, dialect)
    inside = len(attributes) - before
    named = f"{option('attributes')} names {', '.join(attributes)}"
    if inside < 0:
        raise DialectError(
            f"found {before} fields between the word and its numbers, but {named}; name all of "
            "them, in order"
        )
    dimension = dialect.dimension - inside
    if dimension < 1:
        raise DialectError(
            f"found {dialect.dimension} numbers in a line, but {named}, and the vector needs at "
            "least one more; correct the names"
        )
    return replace(dialect, dimension=dimension, columns_before=before, columns_inside=inside)


def _columns_before(lines: list[bytes], dialect: Dialect) -> int:
    """Return how many fields most lines have between the word and the numbers."""
    if not dialect.has_words or (dialect.outer == BLANK and dialect.quoted == "never"):
        return 0  # The word may have spaces.
    heads = [head for head, _ in dialect.rows(lines)]
    usual = Counter(map(len, heads)).most_common(1)[0][0] if heads else 1
    numbers = [int(h[0][:20]) for h in heads if len(h) == usual and _WHOLE.fullmatch(h[0])]
    steps = [after - before == 1 for before, after in pairwise(numbers)]
    # The numbers of rows come before the words.
    is_numbered = usual > 1 and len(steps) > 0 and 2 * sum(steps) > len(heads) - 1
    return max(usual - 1 - is_numbered, 0)


def check_columns(lines: list[bytes], dialect: Dialect, attributes: Sequence[str]) -> None:
    """Refuse attributes that may be the first numbers of the vector.

    Raises
    ------
    DialectError
        If attributes and vectors look alike, and neither a header nor the caller says how many
        numbers a vector has.
    """
    inside = dialect.columns_inside
    if not inside or dialect.is_sure:
        return
    rows = [dialect.cut(*whole)[1:] for _, whole in dialect.divided(lines)]
    texts = [text for columns, _ in rows for text in columns[dialect.columns_before :]]
    values = [value for _, vector in rows for value in vector]
    like = [text for text in texts if is_decimal(text.replace(dialect.decimal, b"."))]
    if not like and values and all(map(_WHOLE.fullmatch, values)):
        like = [text for text in texts if _WHOLE.fullmatch(text)]
    if like:
        raise DialectError(
            f"the numbers of {', '.join(attributes[dialect.columns_before :])} look like those of "
            f"the vector, here {shown(like[0])}; pass "
            f"{option('dimension', dialect.dimension)} if the vector has that many numbers after "
            "them (a text needs a tab, or marks around it)"
        )


@dataclass(slots=True)
class ColumnScan:
    """What the values of one column are, collected over all lines.

    Parameters
    ----------
    name : str
        The column's name.
    remedy : str
        What to do where no dtype holds the values.
    takes_texts : bool
        Whether values may be texts. Among numbers that are separated by blanks, a text may be a
        piece of the word, or have pieces of its own.
    """

    name: str
    remedy: str
    takes_texts: bool = True
    # For each kind of values, the place of the first one, and its text.
    _first: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    _inexact: tuple[str, bytes] | None = None

    def add(self, texts: pa.BinaryArray, file: str, first_line: int) -> None:
        """Look at the values of some lines.

        Parameters
        ----------
        texts : pyarrow.BinaryArray
            The values.
        file : str
            Name of the file in messages.
        first_line : int
            The number of the first line.

        Raises
        ------
        SourceError
            If a value is missing, or no number holds it.
        """
        if not len(texts):
            return

        def place(row: int) -> str:
            return f"{file}:{first_line + row}"

        if (numbers := _small_numbers(texts)) is not None:
            self._first.setdefault("whole", (place(0), texts[0].as_py()))
            large = np.flatnonzero(np.abs(numbers) > _FIRST_INEXACT)
            if large.size:
                self._note_inexact(place(int(large[0])), texts[int(large[0])].as_py())
            return
        for row, text in enumerate(texts.to_pylist()):
            kind = _kind(text)
            if kind not in self._first:
                self._first[kind] = place(row), text
                self._check_kind(kind)
            if kind == "whole" and abs(int(text[:40])) > _FIRST_INEXACT:
                self._note_inexact(place(row), text)

    def _note_inexact(self, place: str, text: bytes) -> None:
        if self._inexact is None or len(text) > len(self._inexact[1]):
            self._inexact = place, text
        if not _INT64.min <= int(text[:40]) <= _INT64.max:
            raise SourceError(
                f"{place}: {shown(text)} of {self.name!r} is out of the range of int64; "
                f"{self.remedy}"
            )

    def _check_kind(self, kind: str) -> None:
        place, text = self._first[kind]
        what = f"{place}: {shown(text)} of {self.name!r}"
        if kind == "odd":
            raise SourceError(
                f"{what} is missing, or a number in a notation that is not read; fix or remove the "
                "line"
            )
        if kind == "text" and not self.takes_texts:
            raise SourceError(
                f"{what} is not a number, and may be a piece of the word; separate texts from "
                f"words and numbers by tabs, or {self.remedy}"
            )
        if kind == "code":
            raise SourceError(
                f"{what} has leading zeros, so it may be a number or a text; {self.remedy}"
            )

    def dtype(self) -> str:
        """Return the name of the dtype that holds all values.

        Raises
        ------
        SourceError
            If there is none.
        """
        first = self._first
        numbers = [kind for kind in ("whole", "decimal", "not finite") if kind in first]
        if "text" in first:
            if not numbers:
                return STRING
            raise self._mixed(first["text"], first[numbers[0]], "a text and a number")
        if "decimal" in first:
            if self._inexact is None:
                return "float64"
            raise self._mixed(self._inexact, first["decimal"], "both of which no dtype holds")
        if "not finite" not in first:
            return "int64"
        place, text = first["not finite"]
        raise SourceError(
            f"{place}: {shown(text)} of {self.name!r} is not a whole number, as others are; "
            f"{self.remedy}"
        )

    def _mixed(self, one: tuple[str, bytes], other: tuple[str, bytes], problem: str) -> SourceError:
        return SourceError(
            f"{one[0]}: {self.name!r} is {shown(one[1])}, and at {other[0]} {shown(other[1])}, "
            f"{problem}; {self.remedy}"
        )


def column_values(
    texts: pa.BinaryArray,
    dtype: str,
    encoding_errors: str,
    place: Callable[[int], str],
) -> Column:
    """Return the values of a column in some lines; see `ColumnScan.dtype`.

    Raises
    ------
    SourceError
        If a value does not fit, because the file has changed since it was scanned.
    """
    if dtype == STRING:
        return packed_binary(texts, encoding_errors, place)
    if dtype == "int64" and (numbers := _small_numbers(texts)) is not None:
        return numbers
    convert = int if dtype == "int64" else float
    try:
        return np.array([convert(text) for text in texts.to_pylist()], dtype)
    except (ValueError, OverflowError) as error:
        raise SourceError(f"{place(0)}: the file was changed while it was read; build again") from (
            error
        )


def _small_numbers(texts: pa.BinaryArray) -> NDArray[np.int64] | None:
    """Return texts as whole numbers of up to 18 digits; None if one is anything else."""
    if not pc.all(pc.match_substring_regex(texts, _SMALL)).as_py():
        return None
    numbers: NDArray[np.int64] = pc.cast(texts.cast(pa.string()), pa.int64()).to_numpy()
    return numbers


def _kind(text: bytes) -> str:
    """Return what a value is: whole, decimal, not finite, a code, odd, or a text."""
    if _WHOLE.fullmatch(text):
        return "whole"
    if _CODE.fullmatch(text):
        return "code"
    if is_number(text):
        return "not finite" if text.lower().lstrip(b"+-") in _NOT_FINITE else "decimal"
    return "text" if text.strip() and not looks_like_number(text) else "odd"
