"""A table that servers have: their facts, checked, as a table without files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import as_dtype, native
from embstore.encodings.plain import Plain
from embstore.errors import EmbstoreError
from embstore.formats.own import spec
from embstore.formats.own.encoded import parse_encoding_field
from embstore.serving.protocol import RequestError
from embstore.table.extents import Column, Extent
from embstore.table.numbering import Numbering
from embstore.table.tables import Table

if TYPE_CHECKING:
    from embstore.serving.facts import Facts
    from embstore.table.protocols import Encoding

_FINGERPRINT_LENGTH = 128
# Of a table, in the order of messages; servers of one table have the same. Not all need its words.
_SAME = (
    *("fingerprint", "rows", "row_shape", "dtype", "encoding", "record_bytes"),
    *("partition_count", "strategy"),
)


@dataclass(frozen=True, slots=True)
class ServedTable:
    """What is the same at all servers of a table.

    Attributes
    ----------
    fingerprint : str
        Identifies the table.
    numbering : Numbering
        The ids of each partition.
    encoding : Encoding
        Decodes the records that servers send; those of a row are one.
    has_words : bool
        Whether rows have words.
    unk : str or None
        The word whose row stands for unknown words.
    name : str
        The name of the store at the servers.
    """

    fingerprint: str
    numbering: Numbering
    encoding: Encoding
    has_words: bool
    unk: str | None
    name: str

    @classmethod
    def of(cls, facts: Facts) -> ServedTable:
        """Return the table that a server describes.

        Raises
        ------
        RequestError
            If facts are out of bounds or contradict each other, or this embstore does not know the
            encoding.
        """
        if not 0 < len(facts.fingerprint) <= _FINGERPRINT_LENGTH:
            raise RequestError(f"the fingerprint has {len(facts.fingerprint)} characters")
        for name, least, most in (
            ("rows", 0, spec.MAX_ROWS),
            ("partition_count", 1, spec.MAX_PARTITIONS),
            ("record_bytes", 1, spec.MAX_ROW_BYTES),
        ):
            if not least <= getattr(facts, name) <= most:
                raise RequestError(f"{name} is {getattr(facts, name)}, not {least} to {most}")
        strategy: Any = facts.strategy
        return cls(
            facts.fingerprint,
            Numbering(facts.rows, facts.partition_count, strategy),
            _encoding(facts),
            facts.has_words,
            facts.unk,
            facts.name[:255],
        )

    def table(self) -> Table:
        """Return the table for a store: in one piece, whose rows are the ids."""
        rows = self.numbering.rows
        column = Column((Extent("", 0, rows),), self.encoding.record_bytes)
        return Table((column,), self.encoding, Numbering(rows))


def difference(one: Facts, other: Facts) -> str | None:
    """Return what differs between two servers' tables, such as ``"rows: 11 and 12"``, or None."""
    for name in _SAME:
        found = getattr(one, name), getattr(other, name)
        if found[0] != found[1]:
            return f"{name}: {str(found[0])[:60]} and {str(found[1])[:60]}"
    return None


def _encoding(facts: Facts) -> Encoding:
    shape = facts.row_shape
    if len(shape) > spec.MAX_AXES or not 1 <= math.prod(shape) <= spec.MAX_ROW_BYTES:
        raise RequestError(f"the row shape is {str(shape)[:100]}")
    try:
        encoding = _plain(facts) if facts.stored is None else _stored(facts)
    except (EmbstoreError, ValueError, TypeError) as error:
        raise RequestError(f"its encoding is not known: {str(error)[:300]}") from None
    found = encoding.name, encoding.record_bytes, encoding.dtype.name, encoding.row_shape
    told = facts.encoding, facts.record_bytes, facts.dtype, shape
    if found != told:
        raise RequestError(f"its encoding is {found}, but it tells {told}"[:500])
    return encoding


def _plain(facts: Facts) -> Encoding:
    if facts.encoding != "plain":
        raise RequestError(f"{facts.encoding[:60]!r} is not described")
    if facts.dtype not in spec.DTYPES:
        raise RequestError(f"the dtype is {facts.dtype[:60]!r}")
    return Plain(native(np.dtype(as_dtype(facts.dtype))), facts.row_shape)


def _stored(facts: Facts) -> Encoding:
    assert facts.stored is not None
    return parse_encoding_field(facts.stored, facts.row_shape, "the server")
