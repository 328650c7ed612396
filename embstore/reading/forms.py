"""Forms of a lookup's result: numbers of the table's dtype, of another one, or stored bytes.

* Of a plain store, by default as they are stored; with ``dtype=``, cast to a float dtype.
* Of an encoded store, decoded: to float32, or to the float dtype of ``dtype=`` or ``out=``.
* Of an opaque store, bytes only.
* With ``raw=True``, the bytes of a row in all columns: codes, then its scales and zero points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from embstore.dtypes import as_dtype
from embstore.encodings.plain import Plain
from embstore.reading.cached import CachedRecords, guarded
from embstore.reading.encoded import EncodedRecords, cast_records, raw_records
from embstore.reading.encoded_short import encoded_short_path
from embstore.reading.short_path import NO_SHORT_PATH, ShortPath, short_path
from embstore.wording import option, parameter

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from embstore.reading.encoded import StoredRecords
    from embstore.table.protocols import Encoding
    from embstore.table.tables import Table

    LocalRecords: TypeAlias = StoredRecords | EncodedRecords
    AnyRecords: TypeAlias = LocalRecords | CachedRecords

# What rows are decoded or cast to.
FLOATS = ("float32", "bfloat16", "float16", "float64")
_UINT8 = np.dtype(np.uint8)


@dataclass(frozen=True, slots=True)
class Form:
    """What a lookup returns.

    Attributes
    ----------
    records : MappedRecords, RangedRecords, CompressedRecords, EncodedRecords or CachedRecords
        Fill an array of this form.
    row_shape : tuple of int
        Shape of a row in the result.
    dtype : numpy.dtype
        Dtype of a new result.
    others : tuple of str
        Names of further dtypes that a given ``out`` may have.
    short : ShortPath
        The short path to such rows.
    is_raw : bool
        Whether rows are the bytes that are stored.
    """

    records: AnyRecords
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    others: tuple[str, ...] = ()
    short: ShortPath = NO_SHORT_PATH
    is_raw: bool = False


class Forms:
    """The forms that the rows of a table can be looked up in.

    Parameters
    ----------
    records : MappedRecords, RangedRecords, CompressedRecords or EncodedRecords
        The rows.
    table : Table
        The table.

    Attributes
    ----------
    default : Form
        That of a lookup without options.
    """

    default: Form

    def __init__(self, records: LocalRecords, table: Table) -> None:
        self._records, self._numbering = records, table.numbering
        self._encoding = encoding = table.encoding
        if isinstance(records, EncodedRecords):
            self.default = self._form(records, encoding.dtype, FLOATS if _decodes(encoding) else ())
        else:
            short = short_path(records, table.numbering) if records.mapped else NO_SHORT_PATH
            self.default = Form(records, encoding.row_shape, encoding.dtype, (), short)
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
                raise ValueError(
                    f"{option('raw', True)} returns bytes, so {option('dtype')} has no meaning; "
                    "omit one"
                )
            return self._made.get("raw") or self._made.setdefault("raw", self._raw())
        if dtype is None:
            return self.default
        found = _as_number_dtype(dtype)
        if found == self._encoding.dtype and not self.default.others:
            return self.default
        name = found.name
        return self._made.get(name) or self._made.setdefault(name, self._decoded(found))

    def _raw(self) -> Form:
        return replace(self._form(raw_records(self._records), _UINT8), is_raw=True)

    def _decoded(self, dtype: np.dtype[Any]) -> Form:
        encoding, records = self._encoding, self._records
        if not _decodes(encoding):
            raise TypeError(
                f"rows of {encoding.name} are bytes that cannot be decoded; omit {option('dtype')}"
            )
        if dtype.name not in FLOATS:
            allowed = dict.fromkeys((*FLOATS, encoding.dtype.name))
            raise TypeError(
                f"{parameter('dtype')} must be one of {', '.join(allowed)}; found {dtype}"
            )
        if not isinstance(records, EncodedRecords):
            assert isinstance(encoding, Plain)  # An opaque one has no such rows.
            records = cast_records(records, encoding)
        return self._form(records, dtype)

    def _form(
        self, records: EncodedRecords, dtype: np.dtype[Any], others: tuple[str, ...] = ()
    ) -> Form:
        short = encoded_short_path(records, self._numbering, dtype, others)
        return Form(records, records.encoding.row_shape, dtype, others, short)


class CachedForms(Forms):
    """The forms of rows that come through a cache: each by both readers.

    Parameters
    ----------
    records : CachedRecords
        The rows.
    table : Table
        The table.
    """

    def __init__(self, records: CachedRecords, table: Table) -> None:
        self._cached, self._numbering = records, table.numbering
        self._warm = Forms(records.warm_records, table)
        self._cold = Forms(records.cold_records, table)
        self._joined: dict[int, Form] = {}
        self.default = self._join(self._warm.default, records)

    def of(self, dtype: DTypeLike | None, *, raw: bool) -> Form:
        """Return the form that a caller asks for; errors as `Forms.of`."""
        warm = self._warm.of(dtype, raw=raw)
        if warm is self._warm.default:
            return self.default
        found = self._joined.get(id(warm))  # Which `Forms` keeps.
        if found is None:
            cold = self._cold.of(dtype, raw=raw)
            both: Any = warm.records, cold.records
            records = self._cached.like(*both)
            found = self._joined.setdefault(id(warm), self._join(warm, records))
        return found

    def _join(self, form: Form, records: CachedRecords) -> Form:
        short = guarded(
            form.short, records, self._numbering, form.row_shape, form.dtype, form.others
        )
        return replace(form, records=records, short=short)


def forms_of(records: AnyRecords, table: Table) -> Forms:
    """Return the forms that the rows of a table can be looked up in."""
    if isinstance(records, CachedRecords):
        return CachedForms(records, table)
    return Forms(records, table)


def _decodes(encoding: Encoding) -> bool:
    """Say whether rows are numbers: those of an opaque encoding are bytes, by their own name."""
    return encoding.dtype != _UINT8 or encoding.name == "plain"


def _as_number_dtype(dtype: Any) -> np.dtype[Any]:
    """Return a dtype given by name, as NumPy's or as torch's, in native byte order."""
    name = str(dtype)
    try:
        found = as_dtype(name.removeprefix("torch.") if name.startswith("torch.") else dtype)
    except TypeError as error:
        raise TypeError(
            f"{parameter('dtype')} must be one of {', '.join(FLOATS)}, not {dtype!r}"
        ) from error
    return found.newbyteorder("=")
