"""The attributes' part of a manifest: named columns of one value a row, numbers or strings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import as_dtype
from embstore.errors import StoreCorruptError
from embstore.formats.own import spec
from embstore.formats.own.array_size import ArraySize, check_pages, parse_size, size_to_json
from embstore.formats.own.checked_files import REBUILD
from embstore.formats.own.fields import Fields
from embstore.formats.own.seals import canonical_text
from embstore.formats.own.spec import RawArray, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_VALUES = ""  # The key of a number column's only array.


@dataclass(frozen=True, slots=True)
class AttributeManifest:
    """One attribute: a column of a value for each id.

    Parameters
    ----------
    name : str
        Its name.
    dtype : str
        The name of a number type, or ``"string"``.
    sizes : dict of str to ArraySize
        The sizes of its arrays: of strings, ``bytes`` and ``offsets``; of numbers, of the only one,
        under the empty name.

    Raises
    ------
    ValueError
        If the name or the dtype is not one of the format's, or arrays do not fit together.
    """

    name: str
    dtype: str
    sizes: dict[str, ArraySize]

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.dtype not in spec.ATTRIBUTE_DTYPES:
            expected = ", ".join(spec.ATTRIBUTE_DTYPES)
            raise ValueError(
                f"attribute {self.name!r} has the dtype {shown(self.dtype)}, expected one of "
                f"{expected}"
            )
        parts = tuple(spec.STRING_DTYPES) if self.is_string else (_VALUES,)
        if tuple(self.sizes) != parts:
            raise ValueError(f"attribute {self.name!r} has the arrays {shown(list(self.sizes))}")
        for array in self.arrays():
            check_pages(array)

    @classmethod
    def of_numbers(cls, name: str, dtype: str, size: ArraySize) -> AttributeManifest:
        """Return the manifest of a column of numbers."""
        return cls(name, dtype, {_VALUES: size})

    @classmethod
    def of_strings(cls, name: str, data: ArraySize, offsets: ArraySize) -> AttributeManifest:
        """Return the manifest of a column of strings, given the sizes of its two arrays."""
        return cls(name, spec.STRING, {spec.WORD_BYTES: data, spec.WORD_OFFSETS: offsets})

    @property
    def is_string(self) -> bool:
        """Whether its values are strings."""
        return self.dtype == spec.STRING

    @property
    def rows(self) -> int:
        """The number of values."""
        if self.is_string:
            return self.sizes[spec.WORD_OFFSETS].length - 1
        return self.sizes[_VALUES].length

    @property
    def group(self) -> str:
        """Its path inside the store: a group of strings' arrays, or the array of numbers."""
        return f"{spec.ATTRIBUTES}/{self.name}"

    def array(self, part: str = _VALUES) -> RawArray:
        """Return the array of the numbers, or of strings, ``bytes`` or ``offsets``."""
        size = self.sizes[part]
        if self.is_string:
            dtype = np.dtype(spec.STRING_DTYPES[part])
            return RawArray(f"{self.group}/{part}", (size.length,), dtype, size.chunk_rows)
        dtype = as_dtype(self.dtype).newbyteorder("<")
        return RawArray(self.group, (size.length,), dtype, size.chunk_rows)

    def arrays(self) -> Iterator[RawArray]:
        """Yield its arrays."""
        yield from map(self.array, self.sizes)

    def find_chunk(self, rest: list[str]) -> tuple[RawArray, int]:
        """Return the array of a chunk file, given its path inside `group`, and the chunk."""
        part = rest[0] if self.is_string else _VALUES
        return self.array(part), int(rest[-1])

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the manifest."""
        if self.is_string:
            sizes = {part: size_to_json(size) for part, size in self.sizes.items()}
            return {"dtype": self.dtype, **sizes}
        return {"dtype": self.dtype, **size_to_json(self.sizes[_VALUES])}


def check_name(name: Any) -> None:
    """Refuse what cannot name an attribute.

    Raises
    ------
    TypeError
        If it is not a str.
    ValueError
        If it cannot be the name of a Zarr array, or of a file.

    Examples
    --------
    >>> check_name("count")
    >>> check_name("a/b")
    Traceback (most recent call last):
      ...
    ValueError: 'a/b' cannot name an attribute: it has a slash; rename it
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of an attribute must be a str, not {type(name).__name__}")
    problem = None
    if not name or name in (".", ".."):
        problem = "it names no file"
    elif not name.isprintable():
        problem = "it has characters that cannot be printed"
    elif "/" in name or "\\" in name:
        problem = "it has a slash"
    elif name.startswith("__") or name == spec.METADATA:
        problem = "Zarr keeps such names for itself"
    elif len(name) > spec.MAX_NAME_LENGTH or len(name.encode()) > spec.MAX_NAME_BYTES:
        problem = (
            f"it is longer than {spec.MAX_NAME_LENGTH} characters or {spec.MAX_NAME_BYTES} bytes"
        )
    if problem is not None:
        raise ValueError(f"{shown(name)} cannot name an attribute: {problem}; rename it")


def attributes_line(dtypes: Mapping[str, str]) -> str:
    """Return what stands for the attributes in the heading of the fingerprint.

    Examples
    --------
    >>> attributes_line({"title": "string", "count": "int64"})
    '[["count","int64"],["title","string"]]'
    """
    return canonical_text([[name, dtypes[name]] for name in sorted(dtypes)])


def parse_attributes(fields: Any, where: Path | str) -> dict[str, AttributeManifest]:
    """Return the attributes that the field of a manifest describes.

    Raises
    ------
    StoreCorruptError
        If a field is missing, of another type or out of its bounds.
    ValueError
        If fields contradict each other.
    """
    found = {}
    if not isinstance(fields, dict) or not fields:
        raise StoreCorruptError(f"{where}: attributes is not an object of columns; {REBUILD}")
    for name, value in fields.items():
        reader = Fields(value, where, f"attributes.{shown(name)}")
        dtype = reader.get("dtype", str)
        if dtype == spec.STRING:
            parts: Iterable[str] = spec.STRING_DTYPES
            sizes = {
                part: parse_size(Fields(reader.get(part, dict), where, f"attributes.{name}.{part}"))
                for part in parts
            }
        else:
            sizes = {_VALUES: parse_size(reader)}
        found[name] = AttributeManifest(name, dtype, sizes)
    return found
