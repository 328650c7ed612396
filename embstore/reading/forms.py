"""Forms of a lookup's result: numbers of the table's dtype, of another one, or stored bytes.

* Of a plain store, by default as they are stored; with ``dtype=``, cast to a float dtype.
* Of an encoded store, decoded: to float32, or to the float dtype of ``dtype=`` or ``out=``.
* Of an opaque store, bytes only.
* With ``raw=True``, the bytes of a row in all columns: codes, then its scales and zero points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import as_dtype
from embstore.encodings.plain import Plain
from embstore.reading.encoded import EncodedRecords, cast_records, raw_records

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from embstore.reading.mapped import MappedRecords
    from embstore.reading.ranged import RangedRecords
    from embstore.table.protocols import Encoding

    AnyRecords = MappedRecords | RangedRecords | EncodedRecords

# What rows are decoded or cast to.
FLOATS = ("float32", "bfloat16", "float16", "float64")
_UINT8 = np.dtype(np.uint8)


@dataclass(frozen=True, slots=True)
class Form:
    """What a lookup returns.

    Attributes
    ----------
    records : MappedRecords, RangedRecords or EncodedRecords
        Fill an array of this form.
    row_shape : tuple of int
        Shape of a row in the result.
    dtype : numpy.dtype
        Dtype of a new result.
    others : tuple of str
        Names of further dtypes that a given ``out`` may have.
    """

    records: AnyRecords
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    others: tuple[str, ...] = ()


class Forms:
    """The forms that the rows of a table can be looked up in.

    Parameters
    ----------
    records : MappedRecords, RangedRecords or EncodedRecords
        The rows.
    encoding : Encoding
        The encoding of the table.

    Attributes
    ----------
    default : Form
        That of a lookup without options.
    """

    def __init__(self, records: AnyRecords, encoding: Encoding) -> None:
        self._records, self._encoding = records, encoding
        others = FLOATS if isinstance(records, EncodedRecords) and _decodes(encoding) else ()
        self.default = Form(records, encoding.row_shape, encoding.dtype, others)
        self._made: dict[str, Form] = {}

    def of(self, dtype: DTypeLike | None, *, raw: bool) -> Form:
        """Return the form that a caller asks for.

        Raises
        ------
        TypeError
            If rows cannot have this dtype.
        ValueError
            If both a dtype and raw rows are wanted.
        """
        if raw:
            if dtype is not None:
                raise ValueError("raw=True returns bytes, so dtype= has no meaning; omit one")
            return self._made.get("raw") or self._made.setdefault("raw", self._raw())
        if dtype is None:
            return self.default
        found = _as_number_dtype(dtype)
        if found == self._encoding.dtype and not self.default.others:
            return self.default
        name = found.name
        return self._made.get(name) or self._made.setdefault(name, self._decoded(found))

    def _raw(self) -> Form:
        records, size = self._records, self._encoding.record_bytes
        if isinstance(records, EncodedRecords):
            records = raw_records(records)
        return Form(records, (size,), _UINT8)

    def _decoded(self, dtype: np.dtype[Any]) -> Form:
        encoding, records = self._encoding, self._records
        if not _decodes(encoding):
            raise TypeError(
                f"rows of {encoding.name} are bytes that cannot be decoded; omit dtype={dtype.name}"
            )
        if dtype.name not in FLOATS:
            raise TypeError(
                f"dtype must be {', '.join(FLOATS)}, or {encoding.dtype} as the rows; found {dtype}"
            )
        if isinstance(encoding, Plain) and not isinstance(records, EncodedRecords):
            records = cast_records(records, encoding)
        return Form(records, encoding.row_shape, dtype)


def _decodes(encoding: Encoding) -> bool:
    """Say whether rows are numbers: those of an opaque encoding are bytes, by their own name."""
    return encoding.dtype != _UINT8 or encoding.name == "plain"


def _as_number_dtype(dtype: Any) -> np.dtype[Any]:
    """Return a dtype given by name, as NumPy's or as torch's, in native byte order."""
    name = str(dtype)
    try:
        found = as_dtype(name.removeprefix("torch.") if name.startswith("torch.") else dtype)
    except TypeError as error:
        raise TypeError(f"dtype must be one of {', '.join(FLOATS)}, not {dtype!r}") from error
    return found.newbyteorder("=")
