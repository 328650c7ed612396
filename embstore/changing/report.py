"""The report of a change: what it did to the table, and what that cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChangeReport:
    """Result of `append`, `update`, `upsert` and `snapshot`.

    Attributes
    ----------
    rows : int
        The rows that were appended or replaced.
    chunks_rewritten : int
        The chunk files that were written, those of words and attributes included.
    chunks_linked : int
        The chunk files that the new version shares with the old one, or has a copy of.
    bytes_written : int
        The bytes of all files that were written, metadata included.
    fingerprint : str
        The fingerprint of the new version.
    rows_appended, rows_replaced : int
        The two parts of ``rows``.
    chunk_rows : int
        Rows in a chunk of the new version.
    """

    rows: int
    chunks_rewritten: int
    chunks_linked: int
    bytes_written: int
    fingerprint: str
    rows_appended: int
    rows_replaced: int
    chunk_rows: int

    def __str__(self) -> str:
        parts = {"appended": self.rows_appended, "replaced": self.rows_replaced}
        rows = [f"{_counted(count, 'row')} {what}" for what, count in parts.items() if count]
        return (
            f"{', '.join(rows) or 'no row changed'}: {_counted(self.chunks_rewritten, 'chunk')} "
            f"and {_counted(self.bytes_written, 'byte')} written, "
            f"{_counted(self.chunks_linked, 'chunk')} linked; fingerprint {self.fingerprint}"
        )


def _counted(count: int, noun: str) -> str:
    """Return a count and its noun.

    >>> _counted(1, "row"), _counted(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"
