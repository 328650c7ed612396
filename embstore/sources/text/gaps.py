"""Gaps between the fields of padded lines: the same in every line, or those of aligned columns.

Blanks around separators mean nothing only where all lines have the same, or where they align
columns. Elsewhere, a blank more or less may be an empty field, or belong to a word. Blanks between
blanks mean nothing either where no word has any.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from embstore.sources.text.pieces import BLANK

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from embstore.sources.text.dialect import Dialect
    from embstore.sources.text.pieces import Spacing

# Fewer rows may be aligned by chance.
_ALIGNED_ROWS = 3


def with_gaps(lines: list[bytes], dialect: Dialect) -> Dialect:
    """Return the dialect, with the gaps that every line must have if they align no columns.

    Parameters
    ----------
    lines : list of bytes
        The first rows. `Dialect.split` refuses those with other gaps than most.
    dialect : Dialect
        Their dialect.
    """
    if not dialect.padded:
        return dialect
    rows = [
        _Row(dialect.spacing(line, values), values)
        for line, (_, values) in dialect.divided(lines)
        if len(values) == dialect.numbers
    ]
    numbers = [number for row in rows for number in row.numbers()]
    margin = _settled([row.spacing.margin for row in rows], [row.word_end for row in rows])
    is_blank = dialect.outer == dialect.between == BLANK and dialect.has_words
    if is_blank and not any(row.has_spaces for row in rows):
        return replace(dialect, gaps=(margin, None, None))
    outer = _settled(
        [row.spacing.gaps[0] for row in rows],
        [_without_sign(row.spacing.gaps[0], row.values[0]) for row in rows],
        *zip(*(row.first_columns() for row in rows), strict=True),
    )
    between = _settled(
        [gap for gap, _, _ in numbers],
        [_without_sign(gap, value) for gap, _, value in numbers],
        [tuple(len(gap + value) for gap, _, value in row.numbers()) for row in rows],
        [tuple(len(before + gap) for gap, before, _ in row.numbers()) for row in rows],
    )
    return replace(dialect, gaps=(margin, outer, None if dialect.brackets[0] else between))


@dataclass(frozen=True, slots=True)
class _Row:
    """The gaps of a line, and the texts of its numbers."""

    spacing: Spacing
    values: list[bytes]

    @property
    def word_end(self) -> int:
        """Where the first field ends, in characters."""
        start = self.spacing.start.decode("utf-8", "replace")
        return len(self.spacing.margin) + len(start.split(" ", 1)[0])

    @property
    def has_spaces(self) -> bool:
        """Whether there are blanks in the word."""
        return len(self.spacing.start.split()) > 1

    def first_columns(self) -> tuple[int, ...]:
        """Return where the first number starts or ends: in bytes, characters, or after the word."""
        number = self.values[0]
        before = self.spacing.margin + self.spacing.start + self.spacing.gaps[0]
        starts = len(before), len(before.decode("utf-8", "replace"))
        sign = len(number[:1].strip(b"0123456789."))
        columns = [start + step for start in starts for step in (0, sign, len(number))]
        return *columns, len(self.spacing.gaps[0] + number)

    def numbers(self) -> list[tuple[bytes, bytes, bytes]]:
        """Return each gap between two numbers, and these."""
        return list(zip(self.spacing.gaps[1:], self.values, self.values[1:], strict=False))


def _without_sign(gap: bytes, value: bytes) -> bytes:
    """Return the gap before a number, without a blank in the place of its sign."""
    if value[:1] in (b"+", b"-"):
        return gap
    return gap[:-1] if gap.endswith(BLANK) else gap + value[:1]


def _settled(gaps: list[bytes], *columns: Sequence[Hashable]) -> bytes | None:
    """Return the most common gap; None if the gaps differ, but align one of the columns."""
    if not gaps:
        return None
    if len({*gaps}) > 1 and any(len(c) >= _ALIGNED_ROWS and len({*c}) == 1 for c in columns):
        return None
    return Counter(gaps).most_common(1)[0][0]
