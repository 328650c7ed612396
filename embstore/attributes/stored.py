"""Stored attributes: the values of ids, from mapped files or from blocks that are read.

1. On a local disk the arrays of a column are mapped when the store is opened, so they stay
   readable after it is replaced. Elsewhere their blocks are read when they are needed, and kept.
2. Numbers are taken from the array. Of strings, two offsets say where the bytes are.

The arrays may be damaged: an offset outside of the bytes raises `embstore.StoreCorruptError`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.attributes.values import first_id, hashed
from embstore.dtypes import native
from embstore.errors import StoreCorruptError, StoreMappingError
from embstore.formats.own import spec
from embstore.formats.own.checked_files import REBUILD
from embstore.reading.files import LocalFiles
from embstore.vocabulary.blocks import BlockArray, read_blocks
from embstore.vocabulary.mapped import map_array
from embstore.vocabulary.words import PackedWords

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embstore.attributes.values import Values
    from embstore.formats.own.attribute_manifest import AttributeManifest
    from embstore.formats.own.row_sums import RowSums
    from embstore.formats.own.spec import RawArray
    from embstore.table.protocols import Files

VALUES_AT_ONCE = 1 << 16
_OUTSIDE = "offsets that point outside of its bytes"


class StoredColumn(ABC):
    """The values of an attribute, by id. Ids are in range; that is not checked here.

    Attributes
    ----------
    dtype_name : str
        The dtype, as the format names it.
    dtype : numpy.dtype
        That of the arrays that `take` returns; of strings, object.
    """

    dtype_name: str
    dtype: np.dtype[Any]

    @abstractmethod
    def take(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the values of ids, shape (n,), as numbers or as an object array of str."""

    @abstractmethod
    def one(self, number: int) -> Any:
        """Return the value of one id, as a scalar of NumPy or as a str."""

    @abstractmethod
    def part(self, start: int, stop: int) -> Values:
        """Return a copy of the values of the ids ``start .. stop - 1``."""


class StoredNumbers(StoredColumn):
    """Numbers: one array."""

    def __init__(self, files: Files | LocalFiles, manifest: AttributeManifest) -> None:
        self.dtype_name = manifest.dtype
        self._array = _Array(files, manifest.array())
        self.dtype = native(self._array.data.dtype)

    def take(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the numbers of ids."""
        self._array.read(ids, 1)
        return self._array.data.take(ids).astype(self.dtype, copy=False)

    def one(self, number: int) -> Any:
        """Return the number of one id."""
        if not self._array.is_mapped:
            return self.take(np.array([number]))[0]
        return self.dtype.type(self._array.data[number])

    def part(self, start: int, stop: int) -> NDArray[Any]:
        """Return a copy of the numbers of consecutive ids, little endian."""
        self._array.read(np.array([start]), stop - start)
        return self._array.data[start:stop].copy()


class StoredStrings(StoredColumn):
    """Strings: their bytes, and where each starts."""

    dtype_name = spec.STRING
    dtype = np.dtype(object)

    def __init__(self, files: Files | LocalFiles, manifest: AttributeManifest) -> None:
        self._name = manifest.name
        self._data = _Array(files, manifest.array(spec.WORD_BYTES))
        self._offsets = _Array(files, manifest.array(spec.WORD_OFFSETS))
        self._view = self._data.data.data

    def take(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the strings of ids."""
        starts, stops = self.spans(ids)
        lengths = stops - starts
        most = len(self._data.data)
        # Strings that overlap could amount to any number of bytes.
        if lengths.sum(dtype=np.float64) > most:
            distinct = np.unique(ids, return_index=True)[1]
            if lengths[distinct].sum(dtype=np.float64) > most:
                raise _damaged(self._name, "offsets that make strings overlap")
        self._data.read(starts, lengths)
        data = self._view
        found = np.empty(len(ids), object)
        try:
            found[:] = [
                str(data[start:stop], "utf-8")
                for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
            ]
        except UnicodeDecodeError as error:
            raise _not_utf8(self._name, error) from error
        return found

    def one(self, number: int) -> str:
        """Return the string of one id."""
        if not self._offsets.is_mapped:
            found: str = self.take(np.array([number]))[0]
            return found
        offsets = self._offsets.data
        start, stop = int(offsets[number]), int(offsets[number + 1])
        if not 0 <= start <= stop <= len(self._view):
            raise _damaged(self._name, _OUTSIDE)
        try:
            return str(self._view[start:stop], "utf-8")
        except UnicodeDecodeError as error:
            raise _not_utf8(self._name, error) from error

    def part(self, start: int, stop: int) -> PackedWords:
        """Return a copy of the strings of consecutive ids."""
        if start == stop:
            return PackedWords(np.empty(0, np.uint8), np.zeros(1, np.int64))
        starts, stops = self.spans(np.arange(start, stop))
        if (starts[1:] != stops[:-1]).any():
            raise _damaged(self._name, "offsets that do not ascend")
        first, last = int(starts[0]), int(stops[-1])
        self._data.read(starts[:1], last - first)
        data = self._data.data[first:last].copy()
        return PackedWords(data, np.append(starts, last) - first)

    def check_ends(self) -> None:
        """Refuse bytes that belong to no string.

        Raises
        ------
        StoreCorruptError
            If there are some before the first string, or behind the last one.
        """
        places = np.array([0, len(self._offsets.data) - 1])
        self._offsets.read(places, 1)
        first, last = self._offsets.data[places].tolist()
        if (first, last) != (0, len(self._data.data)):
            raise _damaged(self._name, "bytes that belong to no string")

    def spans(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where the strings of ids start in the bytes, and where they end.

        Raises
        ------
        StoreCorruptError
            If an offset is outside of the bytes.
        """
        self._offsets.read(ids, 2)
        offsets = self._offsets.data
        starts = offsets.take(ids).astype(np.int64, copy=False)
        stops = offsets[1:].take(ids).astype(np.int64, copy=False)
        if ((starts < 0) | (stops < starts) | (stops > len(self._data.data))).any():
            raise _damaged(self._name, _OUTSIDE)
        return starts, stops


class _Array:
    """A one-dimensional array, mapped, or read block by block."""

    def __init__(self, files: Any, array: RawArray) -> None:
        self._files = files
        self._blocks: BlockArray | None = None
        self.is_mapped = False
        if isinstance(files, LocalFiles):
            with suppress(StoreMappingError):  # No mappings are left.
                self.data = map_array(files, array)
                self.is_mapped = True
        if not self.is_mapped:
            self._blocks = BlockArray(files, array)
            self.data = self._blocks.data

    def read(self, starts: NDArray[np.int64], counts: NDArray[np.int64] | int) -> None:
        """Read the items from some places on, unless they are mapped or were read."""
        if self._blocks is not None:
            counts = np.broadcast_to(np.asarray(counts, np.int64), starts.shape)
            read_blocks(self._files, [(self._blocks, starts, counts)])


def open_attributes(
    files: Files | LocalFiles, manifests: Mapping[str, AttributeManifest]
) -> dict[str, StoredColumn]:
    """Map the attributes of a store, or prepare to read them block by block."""
    return {
        name: (StoredStrings if manifest.is_string else StoredNumbers)(files, manifest)
        for name, manifest in manifests.items()
    }


def add_attributes(sums: RowSums, columns: Mapping[str, StoredColumn], rows: int) -> None:
    """Add the values of attributes to the sums of a table of ``rows`` rows."""
    for name, column in columns.items():
        for start in range(0, rows, VALUES_AT_ONCE):
            values = column.part(start, min(start + VALUES_AT_ONCE, rows))
            sums.add_values(hashed(values), first_id(name) + start)


def check_utf8(name: str, values: PackedWords) -> None:
    """Refuse strings of an attribute that are not UTF-8.

    Raises
    ------
    StoreCorruptError
        If one is not.
    """
    try:
        for value in values.encoded():
            value.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(name, error) from error


def _not_utf8(name: str, error: UnicodeDecodeError) -> StoreCorruptError:
    return _damaged(name, f"a string that is not UTF-8 ({error})")


def _damaged(name: str, problem: str) -> StoreCorruptError:
    return StoreCorruptError(f"the attribute {name!r} is damaged: it has {problem}; {REBUILD}")
