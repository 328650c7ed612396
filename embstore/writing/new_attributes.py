"""The attributes of a store in progress: columns that grow with its rows.

1. The first rows, or the caller before them, decide which attributes there are, and their dtypes.
   All later rows have the same.
2. Values are collected in memory, and in a file beyond it, because the chunk size of an array
   depends on its length. They are added up for the fingerprint.
3. At the end, each column is written as an array, or as two: bytes and offsets of strings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.attributes.given import as_values, check_count
from embstore.attributes.values import chosen, dtype_name, empty_values, first_id, hashed
from embstore.dtypes import as_dtype, storage_dtype
from embstore.formats.own import spec
from embstore.formats.own.array_size import ArraySize
from embstore.formats.own.attribute_manifest import AttributeManifest, attributes_line, check_name
from embstore.formats.own.row_sums import RowSums
from embstore.vocabulary.words import PackedWords
from embstore.writing.scratch import ScratchArray

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.attributes.values import Values
    from embstore.writing.arrays import ArrayWriter
    from embstore.writing.new_words import MakeArray

PIECE_LENGTH = 1 << 18


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
        self._columns: dict[str, _Column] | None = None
        self.sums = RowSums()
        if dtypes is not None:
            self._start(dtypes)

    @property
    def dtypes(self) -> dict[str, str]:
        """The dtype of each attribute, by its name."""
        return {name: column.dtype for name, column in (self._columns or {}).items()}

    @property
    def line(self) -> str | None:
        """What stands for them in the heading of the fingerprint; None without any."""
        return attributes_line(self.dtypes) if self._columns else None

    def settle(self, given: Mapping[str, Any] | None, row_count: int) -> dict[str, Values]:
        """Return the attributes of a batch of rows, checked.

        Parameters
        ----------
        given : mapping of str to array-like, or None
            The values of each attribute, one for each row.
        row_count : int
            Rows in the batch.

        Raises
        ------
        ValueError
            If these are not the attributes of the other rows, or not one value for each row.
        TypeError, RowError, SourceError
            As `embstore.attributes.given.as_values`.
        """
        given = {} if given is None else given
        known = self._columns
        if known is not None and set(given) != set(known):
            raise ValueError(_difference(set(given), set(known)))
        found = {}
        for name in given if known is None else known:
            check_name(name)
            dtype = None if known is None else known[name].dtype
            found[name] = as_values(name, given[name], dtype)
            check_count(name, found[name], row_count)
        return found

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
                for start in range(0, len(scratch), PIECE_LENGTH):
                    writer.append(scratch.array[start : start + PIECE_LENGTH])
                    scratch.release()
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
            name: _Column(dtype, share, self._directory) for name, dtype in dtypes.items()
        }


class _Column:
    """The values of one attribute so far."""

    def __init__(self, dtype: str, memory_bytes: int, directory: Path) -> None:
        self.dtype = dtype
        if dtype == spec.STRING:
            self.stored_dtypes = {part: np.dtype(name) for part, name in spec.STRING_DTYPES.items()}
        else:
            self.stored_dtypes = {"": storage_dtype(as_dtype(dtype).newbyteorder("<"))}
        share = memory_bytes // len(self.stored_dtypes)
        self.parts = {
            part: ScratchArray(stored, share, directory)
            for part, stored in self.stored_dtypes.items()
        }
        if dtype == spec.STRING:
            self.parts[spec.WORD_OFFSETS].resize(1)
        self.append(empty_values(dtype))

    def append(self, values: Values) -> None:
        if not isinstance(values, PackedWords):
            self.parts[""].append(values.view(self.stored_dtypes[""]))
            return
        data, offsets = self.parts[spec.WORD_BYTES], self.parts[spec.WORD_OFFSETS]
        first, last = int(values.offsets[0]), int(values.offsets[-1])
        offsets.append(values.offsets[1:] + (len(data) - first))
        data.append(values.data[first:last])
        data.release()
        offsets.release()

    def close(self) -> None:
        for scratch in self.parts.values():
            scratch.close()


def _difference(given: set[str], known: set[str]) -> str:
    """Return the message for rows whose attributes are not those of the table."""
    if not given:
        return (
            f"the rows have no attributes, and the table has {_listed(known)}; give attributes= "
            "with a value of each for every row"
        )
    if not known:
        return f"the rows have the attributes {_listed(given)}, and those before them had none"
    missing, unknown = known - given, given - known
    problems = [f"lack the attributes {_listed(missing)}"] if missing else []
    problems += [f"have {_listed(unknown)}, which the table lacks"] if unknown else []
    return f"the rows {' and '.join(problems)}; give {_listed(known)}"


def _listed(names: set[str]) -> str:
    return ", ".join(map(repr, sorted(names)))
