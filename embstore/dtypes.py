"""The dtypes that a table can hold: one row for each in `DTYPES`, and functions that look there.

Neither NumPy nor zarr-python knows bfloat16 and the float8 formats. `ml_dtypes` adds these types to
NumPy; it is imported only when a table has such numbers. In the Zarr array, their bits are stored
as unsigned integers of the same size, which any Zarr reader opens; `embstore.formats.own.spec`
specifies that. A further dtype of `ml_dtypes` takes one more row.

Of the float8 formats, only e5m2 has infinities, and ``fnuz`` have no negative zero. e8m0fnu holds
powers of two and nan, so neither 0 nor negative numbers.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True, slots=True)
class TableDtype:
    """A dtype that a table can hold. Dtypes are named here, so that a row imports no library.

    Parameters
    ----------
    name : str
        Its name in NumPy or `ml_dtypes`, and in a store's manifest.
    kind : {"f", "i", "u"}
        Float, signed or unsigned integer. NumPy's own ``kind`` of bfloat16 is "V".
    stored : str
        Dtype of the Zarr array, of the same size: ``name`` itself where NumPy and Zarr know it.
    wide : str
        Dtype that numbers are parsed, printed and computed in. It holds all of them exactly.
    torch, safetensors : str
        Its names there.
    has_zero, has_inf : bool
        Whether it has these numbers; of integers, ``has_inf`` says nothing.
    """

    name: str
    kind: Literal["f", "i", "u"]
    stored: str
    wide: str
    torch: str
    safetensors: str
    has_zero: bool = True
    has_inf: bool = True

    @property
    def is_extension(self) -> bool:
        """Whether only `ml_dtypes` knows it. A reader of such a store must know it by name."""
        return self.stored != self.name

    @property
    def numpy(self) -> np.dtype[Any]:
        """NumPy's dtype, in native byte order."""
        if not self.is_extension:
            return np.dtype(self.name)
        import ml_dtypes  # noqa: PLC0415  # 20 ms, and few tables need it.

        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, self.name))
        return dtype


def _float8(name: str, safetensors: str, **lacks: bool) -> TableDtype:
    return TableDtype(name, "f", "uint8", "float32", name, safetensors, **lacks)


# Persistent: the names stand in manifests.
DTYPES: Final = {
    row.name: row
    for row in (
        _float8("float8_e4m3fn", "F8_E4M3", has_inf=False),
        _float8("float8_e4m3fnuz", "F8_E4M3FNUZ", has_inf=False),
        _float8("float8_e5m2", "F8_E5M2"),
        _float8("float8_e5m2fnuz", "F8_E5M2FNUZ", has_inf=False),
        _float8("float8_e8m0fnu", "F8_E8M0", has_inf=False, has_zero=False),
        TableDtype("float16", "f", "float16", "float32", "float16", "F16"),
        TableDtype("bfloat16", "f", "uint16", "float32", "bfloat16", "BF16"),
        TableDtype("float32", "f", "float32", "float32", "float32", "F32"),
        TableDtype("float64", "f", "float64", "float64", "float64", "F64"),
        TableDtype("int8", "i", "int8", "int8", "int8", "I8"),
        TableDtype("int16", "i", "int16", "int16", "int16", "I16"),
        TableDtype("int32", "i", "int32", "int32", "int32", "I32"),
        TableDtype("int64", "i", "int64", "int64", "int64", "I64"),
        TableDtype("uint8", "u", "uint8", "uint8", "uint8", "U8"),
        TableDtype("uint16", "u", "uint16", "uint16", "uint16", "U16"),
        TableDtype("uint32", "u", "uint32", "uint32", "uint32", "U32"),
        TableDtype("uint64", "u", "uint64", "uint64", "uint64", "U64"),
    )
}


@lru_cache(maxsize=256)  # NumPy takes 5 us for a dtype's name.
def find_dtype(dtype: np.dtype[Any]) -> TableDtype | None:
    """Return the row of `DTYPES` of a NumPy dtype in any byte order; None if there is none.

    Examples
    --------
    >>> find_dtype(np.dtype(">f2")).wide
    'float32'
    >>> find_dtype(np.dtype("complex64")) is None
    True
    """
    return DTYPES.get(dtype.name)


def as_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return ``np.dtype(dtype)``; it also takes the names in `DTYPES` that NumPy does not know.

    Raises
    ------
    TypeError
        If the dtype is unknown.

    Examples
    --------
    >>> as_dtype("bfloat16").itemsize
    2
    """
    if isinstance(dtype, str) and dtype in DTYPES:
        return DTYPES[dtype].numpy
    return np.dtype(dtype)


def common_dtype(dtypes: Iterable[np.dtype[Any]]) -> np.dtype[Any]:
    """Return the smallest dtype of a table that holds the numbers of all given dtypes.

    It holds all of them exactly, with one exception: 64-bit integers among floats give float64,
    and their cast is to be counted, as `embstore.encodings.casting.Caster` does. The order of the
    dtypes does not matter.

    Parameters
    ----------
    dtypes : iterable of numpy.dtype
        Dtypes that a table can hold, in any byte order.

    Returns
    -------
    numpy.dtype
        In native byte order.

    Raises
    ------
    ValueError
        If there are none, a table cannot hold one of them, or there is no common one, as of uint64
        and a signed integer.

    Examples
    --------
    >>> common_dtype([np.dtype("float16"), as_dtype("bfloat16")])
    dtype('float32')
    >>> common_dtype([np.dtype("int32"), np.dtype("float32")])
    dtype('float64')
    """
    found = {dtype.name: dtype.newbyteorder("=") for dtype in dtypes}
    if not found:
        raise ValueError("expected at least one dtype, found none")
    unknown = [name for name in found if name not in DTYPES]
    if unknown:
        raise ValueError(f"expected dtypes of {', '.join(DTYPES)}; found {', '.join(unknown)}")
    if len(found) == 1:
        return next(iter(found.values()))
    floats = any(DTYPES[name].kind == "f" for name in found)
    for row in sorted(DTYPES.values(), key=lambda row: row.numpy.itemsize):
        if (row.kind == "f") != floats:
            continue
        if all(is_safe_cast(dtype, row.numpy) for dtype in found.values()):
            return row.numpy
    raise ValueError(
        f"no dtype holds {' and '.join(found)} exactly; convert them to one dtype first"
    )


@lru_cache(maxsize=1024)
def is_safe_cast(origin: np.dtype[Any], target: np.dtype[Any]) -> bool:
    """Say whether ``target`` holds all numbers of ``origin``, as `numpy.can_cast` does.

    As there, float64 counts as safe for 64-bit integers. NumPy itself takes some of the float8
    types for equal, and for able to hold integers of 8 bits.

    Examples
    --------
    >>> is_safe_cast(as_dtype("float8_e4m3fn"), np.dtype("float16"))
    True
    >>> is_safe_cast(np.dtype("int8"), as_dtype("float8_e4m3fn"))
    False
    """
    if origin == target:
        return True
    if target.itemsize == 1 and is_float(target) and origin.itemsize > 1:
        return False
    if origin.itemsize > 1 or not (is_float(origin) or is_float(target)):
        return bool(np.can_cast(origin, target))
    if not is_float(target):
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.arange(256, dtype=np.uint8).view(origin).astype(np.float64)
        found = expected.astype(target).astype(np.float64)
    is_equal = np.array_equal(found, expected, equal_nan=True)
    return is_equal and np.array_equal(np.signbit(found), np.signbit(expected))


def check_zero(dtype: np.dtype[Any], what: str) -> None:
    """Raise TypeError if ``what`` may need zeros, and a table's dtype has none."""
    row = find_dtype(dtype)
    if row is not None and not row.has_zero:
        raise TypeError(f"{what}: {dtype} has no 0; build a table of float32 for it")


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the object in native byte order that NumPy itself uses for a dtype.

    ``newbyteorder`` makes one that is equal but not identical, and comparing them takes time.
    """
    return np.dtype(dtype.type)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Say whether numbers of this dtype are floats: any of NumPy's, or of `DTYPES`."""
    if dtype.kind == "f":
        return True
    row = find_dtype(dtype)
    return row is not None and row.kind == "f"


def is_extension(dtype: np.dtype[Any]) -> bool:
    """Say whether a table can hold this dtype, and only `ml_dtypes` knows it."""
    row = find_dtype(dtype)
    return row is not None and row.is_extension


def storage_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of the Zarr array that holds numbers of ``dtype``, of the same size."""
    row = find_dtype(dtype)
    if row is None or not row.is_extension:
        return dtype
    return np.dtype(row.stored).newbyteorder("<")


def wide_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that such numbers are parsed, printed and computed in.

    Float32 for floats of 8 and 16 bits, all of which it holds exactly; else ``dtype`` itself.
    """
    row = find_dtype(dtype)
    return dtype if row is None or row.wide == row.name else np.dtype(row.wide)


def has_masked(array: Any) -> bool:
    """Say whether this is a NumPy masked array whose mask hides at least one number.

    As a plain array, it would show the hidden numbers.
    """
    # NumPy imports numpy.ma when it is first asked for. In a forked child, asking would wait for
    # ever if another thread was importing it; and before, there is no masked array.
    kind = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)
    return kind is not None and isinstance(array, kind) and bool(np.ma.is_masked(array))


def is_tensor(given: Any) -> bool:
    """Say whether this is a torch tensor. Only a caller who imported torch can have one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(given, torch.Tensor)


def tensor_array(tensor: Any) -> NDArray[Any]:
    """Return an array over the memory of a dense torch tensor on the CPU, without a copy.

    Parameters
    ----------
    tensor : torch.Tensor, any shape and strides
        A tensor that requires gradients is detached first.

    Returns
    -------
    ndarray, of the tensor's shape and dtype
    """
    tensor = tensor.detach()
    row = _extension_of_torch(tensor.dtype)
    if row is not None:
        tensor = tensor.view(getattr(sys.modules["torch"], row.stored))
    array: NDArray[Any] = tensor.numpy()
    return array if row is None else array.view(row.numpy)


def note_write(tensor: Any) -> None:
    """Tell autograd that a torch tensor is being written to, through an array over its memory.

    Otherwise, a gradient that needs its old numbers would be computed from the new ones.
    """
    if not tensor.is_inference():  # These are in no gradient.
        sys.modules["torch"].autograd.graph.increment_version(tensor)


@cache
def _extension_of_torch(dtype: Any) -> TableDtype | None:
    """Return the row of a torch dtype that NumPy does not know; None for others."""
    extensions = (row for row in DTYPES.values() if row.is_extension)
    return next((row for row in extensions if f"torch.{row.torch}" == str(dtype)), None)
