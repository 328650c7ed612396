"""Conversion of rows to what a store keeps: numbers of its dtype, or records of its encoding.

Each conversion has ``convert(rows)``, and ``facts()``, the account for the store's ``source`` of
what it changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embstore.encodings.casting import Caster, OnOverflow
from embstore.encodings.encoder import Encoder
from embstore.encodings.named import parse_encoding
from embstore.formats.own.encoded import as_stored, check_stored
from embstore.wording import option, shape_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.encodings.scaled import Scaled
    from embstore.table.protocols import Encoding

PLAIN = "plain"


class Conversion(Protocol):
    """The conversion of batches of rows.

    Attributes
    ----------
    row_shape : tuple of int
        Shape of a row to convert.
    """

    row_shape: tuple[int, ...]

    def convert(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows, shape (n, *row_shape), as the store keeps them."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return the account for the store's ``source``."""
        ...


class ToDtype:
    """Rounds numbers to a dtype."""

    def __init__(
        self, row_shape: tuple[int, ...], dtype: np.dtype[Any], on_overflow: OnOverflow
    ) -> None:
        self.row_shape = row_shape
        caster = Caster(dtype, on_overflow)
        self.convert, self.facts = caster.cast, caster.facts


class ToCodes:
    """Encodes numbers as scaled codes."""

    def __init__(self, encoding: Scaled) -> None:
        self.row_shape = encoding.row_shape
        self._encoder = Encoder(encoding)
        self.convert = self._encoder.encode

    def facts(self) -> dict[str, Any]:
        """Return the name of the encoding, and what the rounding cost."""
        return {"encoded_as": self._encoder.encoding.name} | self._encoder.facts()


class Kept:
    """Keeps records that are encoded already."""

    def __init__(self, encoding: Encoding) -> None:
        self.row_shape: tuple[int, ...] = (encoding.record_bytes,)

    def convert(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the records.

        Raises
        ------
        TypeError
            If they are not bytes.
        """
        if rows.dtype != np.uint8:
            raise TypeError(f"records must be uint8, not {rows.dtype}")
        return rows

    def facts(self) -> dict[str, Any]:
        """Return an empty account."""
        return {}


def find_encoding(
    encoding: str | Encoding | None, row_shape: tuple[int, ...], dtype: np.dtype[Any] | None
) -> Encoding | None:
    """Return the encoding of a store to write; None if its rows are plain.

    Raises
    ------
    ValueError
        If there is no such encoding, ``row_shape`` or ``dtype`` are not those of its rows, or a
        store cannot keep it.
    TypeError
        If it is neither a name nor an encoding, or plain rows have no ``dtype``.
    """
    found: Encoding | None
    if isinstance(encoding, str):
        found = None if encoding == PLAIN else parse_encoding(encoding, row_shape)
    elif encoding is None or hasattr(encoding, "decode"):
        found = None if encoding is None else as_stored(encoding)
    else:
        raise TypeError(f"encoding must be the name of one, not {type(encoding).__name__}")
    if found is None:
        if dtype is None:
            raise TypeError("dtype is missing; plain rows need one")
        return None
    check_stored(found)
    if found.row_shape != row_shape:
        raise ValueError(
            f"row_shape is {shape_text(row_shape)}, but {found.name} encodes rows of shape "
            f"{shape_text(found.row_shape)}"
        )
    if dtype is not None and dtype != found.dtype:
        raise ValueError(
            f"rows of {found.name} are decoded to {found.dtype}, so {option('dtype')} cannot be "
            f"{dtype}; "
            "omit it, and cast when you look rows up"
        )
    return found


def conversion_to(
    encoding: str | Encoding | None,
    found: Encoding | None,
    row_shape: tuple[int, ...],
    dtype: np.dtype[Any],
    on_overflow: OnOverflow,
) -> Conversion:
    """Return the conversion of rows that a caller writes.

    Parameters
    ----------
    encoding, found : str or Encoding, optional
        What the caller asked for, and what `find_encoding` made of it. Of a name, rows are numbers;
        of an encoding, they are its records.
    row_shape, dtype, on_overflow
        As for `embstore.StoreWriter`.
    """
    if found is None:
        return ToDtype(row_shape, dtype, on_overflow)
    if on_overflow == "inf":
        raise ValueError(
            f"{option('on_overflow', 'inf')} is for the dtype of plain rows; a scale makes the "
            f"largest number of a row fit into {found.name}"
        )
    if isinstance(encoding, str):
        return ToCodes(found)  # type: ignore[arg-type]  # All names are of scaled codes.
    return Kept(found)
