"""Dtypes of tensors: the numbers in them, or the codes that stand for numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from embstore.dtypes import DTYPES
from embstore.encodings.codes import CODES
from embstore.errors import FormatError
from embstore.formats.names import shown
from embstore.formats.options import OPAQUE
from embstore.formats.safetensors.header import BITS, Tensor
from embstore.wording import option

# Codes by the format's names of dtypes.
CODES_OF: Final = {
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn",
    "I8": "int8",
    "U8": "uint8",
}
_DTYPES: Final = {row.safetensors: row for row in DTYPES.values()}
# Tensors of these may hold other codes, byte by byte.
BYTES: Final = ("U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")
# What U8 may hold, if it has a scale, besides integers of 8 bits.
_PACKED: Final = ("float4_e2m1fn", "int4", "uint4")


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a row of a tensor holds.

    Attributes
    ----------
    codes : str or None
        The codes, a name of `CODES`; None for numbers that are not codes.
    row_shape : tuple of int
        Shape of a row.
    record_bytes : int
        Size of a row.
    """

    codes: str | None
    row_shape: tuple[int, ...]
    record_bytes: int


def is_numeric(dtype: str) -> bool:
    """Say whether a dtype is one of numbers that a table can hold."""
    return dtype in _DTYPES or dtype in CODES_OF


def may_have_scale(dtype: str) -> bool:
    """Say whether numbers of a dtype are codes, or may be bytes of codes."""
    return dtype in CODES_OF or dtype in BYTES


def name_of(dtype: str) -> str:
    """Return the usual name of a dtype: that of NumPy or `ml_dtypes`, if they have it.

    Examples
    --------
    >>> name_of("BF16"), name_of("F8_E4M3"), name_of("F6_E2M3")
    ('bfloat16', 'float8_e4m3fn', 'F6_E2M3')
    """
    row = _DTYPES.get(dtype)
    return row.name if row is not None else CODES_OF.get(dtype, dtype)


def record_bytes(tensor: Tensor, where: str) -> int:
    """Return the size of a row.

    Raises
    ------
    FormatError
        If it is not a whole number of bytes, or the tensor has no rows.
    """
    if not tensor.shape:
        raise FormatError(f"{where} has shape (); a table needs rows, so shape (rows, ...)")
    rows = tensor.shape[0]
    if tensor.dtype in BITS:
        bits = BITS[tensor.dtype]
        for length in tensor.shape[1:]:
            bits *= length
        if bits % 8:
            raise FormatError(
                f"{where} has rows of {bits} bits, {tensor.dtype} of shape "
                f"{list(tensor.shape[1:])}, which start inside a byte; expected whole bytes"
            )
        return bits // 8
    if not rows or tensor.size_bytes % rows:
        raise FormatError(
            f"{where} has {rows} rows of dtype {shown(tensor.dtype)} in {tensor.size_bytes} bytes, "
            "so the size of a row is unknown"
        )
    return tensor.size_bytes // rows


def numbers_of(tensor: Tensor, where: str, encoding: str | None, scale: str | None) -> Numbers:
    """Return what the rows of a tensor hold.

    Parameters
    ----------
    tensor : Tensor
        The tensor.
    where : str
        What it is called in messages.
    encoding : str, optional
        What the caller says, a name of `CODES`.
    scale : str or None
        The dtype of its scale; None if it has none.

    Raises
    ------
    FormatError
        If that is in doubt, or the tensor cannot hold what the caller says.
    """
    size_bytes = record_bytes(tensor, where)
    found = CODES_OF.get(tensor.dtype)
    row_shape = tensor.shape[1:]
    if encoding is not None and encoding != found:
        if tensor.dtype not in BYTES:
            raise FormatError(
                f"{where} has dtype {tensor.dtype}, which says what its numbers are; leave out "
                f"{option('encoding', encoding)}"
            )
        per_number = BITS[tensor.dtype] // CODES[encoding].bits
        if not row_shape:
            row_shape = () if per_number == 1 else (per_number,)
        else:
            row_shape = (*row_shape[:-1], row_shape[-1] * per_number)
        return Numbers(encoding, row_shape, size_bytes)
    # Some models keep float4 in I8, with powers of two as scales.
    is_sure = tensor.dtype not in BYTES or (tensor.dtype == "I8" and scale != "F8_E8M0")
    if encoding is None and scale is not None and not is_sure:
        held = f"{where} has dtype {tensor.dtype} and a scale of {scale}"
        whole = "int8" if tensor.dtype == "I8" else "uint8"
        names = ", ".join(f'"{name}"' for name in (whole, *_PACKED))
        raise FormatError(
            f"{held}, so its bytes hold codes; give {option('encoding')} one of {names}, or "
            f"{option('scale', None)} for {name_of(tensor.dtype)} without a scale"
        )
    return Numbers(found, row_shape, size_bytes)


def check_known(tensor: Tensor, where: str) -> None:
    """Raise `FormatError` if the dtype of a tensor is unknown."""
    if tensor.dtype not in BITS:
        known = ", ".join(name for name in BITS)
        raise FormatError(
            f"{where} has dtype {shown(tensor.dtype)}; expected one of {known}. "
            f"{option('encoding', OPAQUE)} gives rows of bytes"
        )
