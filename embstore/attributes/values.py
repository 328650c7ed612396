"""The values of attributes in memory: arrays of numbers, and strings as packed words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from xxhash import xxh3_64_intdigest

from embstore.dtypes import as_dtype
from embstore.formats.own import spec
from embstore.vocabulary.words import PackedWords, hash_words
from embstore.wording import either

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# One value for each of some rows: numbers, shape (n,), or strings.
Values: TypeAlias = "NDArray[Any] | PackedWords"


def given_values(name: str) -> str:
    """Return how the values of an attribute are given, for messages."""
    return either(f"attributes={{{name!r}: values}}", f"--attribute {name}=FILE")


def dtype_name(values: Values) -> str:
    """Return the dtype of an attribute with such values, as the format names it.

    Examples
    --------
    >>> dtype_name(np.array([3], ">i4"))
    'int32'
    """
    return spec.STRING if isinstance(values, PackedWords) else values.dtype.name


def part_of(values: Values, start: int, stop: int) -> Values:
    """Return the values ``start .. stop - 1``, without a copy."""
    if isinstance(values, PackedWords):
        return values.part(start, stop)
    return values[start:stop]


def chosen(values: Values, mask: NDArray[np.bool_]) -> Values:
    """Return the values where a mask is true."""
    return values.select(mask) if isinstance(values, PackedWords) else values[mask]


def first_values(
    attributes: Mapping[str, Values] | None, count: int
) -> Mapping[str, Values] | None:
    """Return the first ``count`` values of each attribute."""
    if attributes is None:
        return None
    return {name: part_of(values, 0, count) for name, values in attributes.items()}


def empty_values(dtype: str) -> Values:
    """Return no values of a dtype, as the format names it."""
    if dtype == spec.STRING:
        return PackedWords(np.empty(0, np.uint8), np.zeros(1, np.int64))
    return np.empty(0, as_dtype(dtype).newbyteorder("<"))


def hashed(values: Values) -> NDArray[Any]:
    """Return what the fingerprint covers of some values: numbers, or the hashes of strings."""
    return hash_words(values.encoded()) if isinstance(values, PackedWords) else values


def first_id(name: str) -> int:
    """Return the id that the fingerprint counts the value of id 0 as."""
    return int(xxh3_64_intdigest(name.encode()))
