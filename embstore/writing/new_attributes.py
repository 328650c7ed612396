"""The attributes of a store in progress: columns that grow with its rows.

1. The first rows, or the caller before them, decide which attributes there are, and their dtypes.
   All later rows have the same.
2. Values are collected in memory, and in a file beyond it, because the chunk size of an array
   depends on its length. They are added up for the fingerprint.
3. At the end, each column is written as an array, or as two: bytes and offsets of strings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embstore.attributes.values import chosen, dtype_name, first_id, hashed
from embstore.formats.own import spec
from embstore.formats.own.array_size import ArraySize
from embstore.formats.own.attribute_manifest import AttributeManifest
from embstore.formats.own.row_sums import RowSums
from embstore.writing.attribute_columns import CollectedColumn, settled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from embstore.attributes.values import Values
    from embstore.writing.arrays import ArrayWriter
    from embstore.writing.words.new_words import MakeArray


class NewAttributes:
    """The attributes of a store in progress; none if its rows have none.

    Parameters
    ----------
    memory_bytes : int
        The most memory for all values.
    directory : Path
        Where to create files for the rest.
    dtypes : mapping of str to str, optional
        The attributes that rows have, and their dtypes; by default those of the first rows.

    Attributes
    ----------
    sums : RowSums
        The sums over all values.
    """

    def __init__(
        self, memory_bytes: int, directory: Path, dtypes: Mapping[str, str] | None = None
    ) -> None:
        self._memory_bytes, self._directory = memory_bytes, directory
        self._columns: dict[str, CollectedColumn] | None = None
        self.sums = RowSums()
        if dtypes is not None:
            self._start(dtypes)

    @property
    def dtypes(self) -> dict[str, str]:
        """The dtype of each attribute, by its name."""
        return {name: column.dtype for name, column in (self._columns or {}).items()}

    def settle(self, given: Mapping[str, Any] | None, row_count: int) -> dict[str, Values]:
        """Return the attributes of a batch of rows, checked; see `settled`."""
        return settled(given, None if self._columns is None else self.dtypes, row_count)

    def append(self, values: Mapping[str, Values], new: NDArray[np.bool_], start: int) -> None:
        """Add the settled values of a batch of rows.

        Parameters
        ----------
        values : mapping of str to Values
            What `settle` returned.
        new : ndarray of bool, shape (n,)
            The rows that are kept.
        start : int
            The id of the first of these.
        """
        if self._columns is None:
            if not values and not len(new):
                return  # No row, so nothing is decided.
            self._start({name: dtype_name(some) for name, some in values.items()})
        assert self._columns is not None
        keeps_all = bool(new.all())
        for name, column in self._columns.items():
            kept = values[name] if keeps_all else chosen(values[name], new)
            self.sums.add_values(hashed(kept), first_id(name) + start)
            column.append(kept)

    def group_names(self) -> Iterator[str]:
        """Yield the path of each group to make."""
        if self._columns:
            yield spec.ATTRIBUTES
            for name, column in self._columns.items():
                if column.dtype == spec.STRING:
                    yield f"{spec.ATTRIBUTES}/{name}"

    def write(
        self, make_array: MakeArray
    ) -> tuple[list[ArrayWriter], dict[str, AttributeManifest]]:
        """Write the arrays of all attributes, after the last row.

        Returns
        -------
        writers : list of ArrayWriter
        manifests : dict of str to AttributeManifest
            The descriptions of the attributes in the store's manifest.
        """
        writers: list[ArrayWriter] = []
        manifests = {}
        for name, column in (self._columns or {}).items():
            sizes = {}
            for part, scratch in column.parts.items():
                dtype = column.stored_dtypes[part]
                chunk_rows = spec.choose_chunk_rows(len(scratch), dtype.itemsize)
                path = "/".join(filter(None, [spec.ATTRIBUTES, name, part]))
                writer = make_array(path, (), dtype, chunk_rows)
                for piece in column.pieces(part):
                    writer.append(piece)
                writers.append(writer)
                sizes[part] = ArraySize(len(scratch), chunk_rows)
            manifests[name] = AttributeManifest(name, column.dtype, sizes)
        return writers, manifests

    def close(self) -> None:
        """Free the memory and the disk space that only the build needed."""
        for column in (self._columns or {}).values():
            column.close()

    def _start(self, dtypes: Mapping[str, str]) -> None:
        share = self._memory_bytes // max(len(dtypes), 1)
        self._columns = {
            name: CollectedColumn(dtype, share, self._directory) for name, dtype in dtypes.items()
        }
