"""Rounding of numbers to codes, and the scales that make them fit.

1. A group's scale is its largest number divided by the format's largest, rounded up to the scale's
   dtype. So no quotient is larger than the largest code, but by rounding. At the end of the range
   of float32, it is rounded down instead, so that no decoded number is infinite.
2. The quotients of numbers and scales are float32. They are rounded to the nearest code, ties to
   the even one.
3. A float format has at most 3 bits behind the leading one. So the upper 16 bits of a quotient, the
   lowest of them set where a lower bit is, decide about its code: a table of 65,536 has them all.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embstore.encodings.codes import CODES, numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Integers are cut at both ends alike, so that a number and its negative stay that.
_INTEGERS: Final = {"int8": 127, "int4": 7}
_END: Final = float(np.finfo(np.float32).max)


def largest(name: str) -> float:
    """Return the largest number of a format of codes, as far as the smallest is its negative.

    Examples
    --------
    >>> largest("float8_e4m3fn"), largest("int8")
    (448.0, 127.0)
    """
    found = numbers(name)
    return float(_INTEGERS.get(name, np.max(found, where=np.isfinite(found), initial=0)))


def holds(name: str) -> tuple[bool, bool]:
    """Say whether a format has codes for nan, and for inf."""
    found = numbers(name)
    return bool(np.isnan(found).any()), bool(np.isinf(found).any())


def to_codes(name: str, quotients: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the nearest codes, packed.

    Parameters
    ----------
    name : str
        A format with a sign.
    quotients : ndarray of float32, shape (n, values), C-contiguous
        Overwritten. Those larger than `largest` become that; nan and inf are allowed where
        the format has them.

    Returns
    -------
    ndarray of uint8, shape (n, bytes of a row)

    Examples
    --------
    >>> to_codes("int4", np.array([[-1, 2.5, 7]], np.float32)).tolist()
    [[47, 7]]
    """
    if name in _INTEGERS:
        limit = np.float32(_INTEGERS[name])
        np.rint(quotients, out=quotients).clip(-limit, limit, out=quotients)
        codes = quotients.astype(np.int8).view(np.uint8)
    else:
        bits = quotients.view(np.uint32)
        lower = bits & np.uint32(0xFFFF)
        lower += np.uint32(0xFFFF)
        bits |= lower
        bits >>= np.uint32(16)
        codes = _nearest(name).take(bits, mode="clip")
    if CODES[name].bits == 8:
        return codes
    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
    return (codes[:, ::2] & np.uint8(15)) | (codes[:, 1::2] << np.uint8(4))


@cache
def _nearest(name: str) -> NDArray[np.uint8]:
    """Return the code of each float32 whose lower 16 bits are 0, by the upper ones."""
    every = (np.arange(0x8000, dtype=np.uint32) << np.uint32(16)).view(np.float32)
    half = len(numbers(name)) // 2
    positive = numbers(name)[:half]
    finite = positive[np.isfinite(positive)].astype(np.float64)  # In the order of their codes.
    wanted = np.where(np.isnan(every), np.float32(0), every).clip(0, finite[-1]).astype(np.float64)
    above = np.searchsorted(finite, wanted).clip(1)
    to_above = finite[above] - wanted
    to_below = wanted - finite[above - 1]
    is_below = (to_below < to_above) | ((to_below == to_above) & (above % 2 == 1))
    codes = above - is_below
    for test in (np.isinf, np.isnan):
        (special,) = np.nonzero(test(positive))
        if len(special):
            codes[test(every)] = special[len(special) // 2]  # A quiet nan, where there are several.
    negative = codes + half
    if name.endswith("uz"):
        negative[codes == 0] = 0  # There is no negative zero; its code is nan.
        codes[np.isnan(every)] = negative[np.isnan(every)] = half
    return np.concatenate([codes, negative]).astype(np.uint8)


def choose_scales(
    dtype: str, peaks: NDArray[np.float32], top: float
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Return the scales of groups: the smallest ones with which no number is above the top.

    Parameters
    ----------
    dtype : {"float32", "bfloat16"}
        Dtype of the scales.
    peaks : ndarray of float32, shape (n, count)
        The largest magnitude in each group, finite.
    top : float
        The largest number of the codes.

    Returns
    -------
    stored : ndarray, shape (n, count)
        The bits of the scales, unsigned integers of their size.
    scales : ndarray of float32, shape (n, count)
        Their numbers; 1 where a peak is 0.

    Raises
    ------
    ValueError
        If the dtype lacks the range of float32.

    Examples
    --------
    >>> choose_scales("bfloat16", np.array([[0, 100]], np.float32), 448.0)[1].tolist()
    [[1.0, 0.2236328125]]
    """
    if dtype not in {"float32", "bfloat16"}:
        raise ValueError(f"scales of {dtype} cannot be chosen; they lack the range of float32")
    exact = peaks.astype(np.float64) / top
    exact[peaks == 0] = 1
    scales = exact.astype(np.float32)
    bits = scales.view(np.uint32)
    bits += scales < exact  # The next float32.
    mask = np.uint32(0xFFFFFFFF if dtype == "float32" else 0xFFFF0000)
    bits += ~mask
    bits &= mask
    # The largest code times the scale must be a float32.
    limit = np.array(_END / top, np.float32)
    limit.view(np.uint32)[...] -= float(limit) * top > _END
    np.minimum(bits, limit.view(np.uint32) & mask, out=bits)
    return (bits if dtype == "float32" else (bits >> np.uint32(16)).astype(np.uint16)), scales
