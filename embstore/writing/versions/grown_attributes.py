"""The attributes of a table that changes: the values of the old version, and new ones.

1. Values of rows that are appended are collected, as in a build. Those that replace others are held
   until all are known, then sorted by id (`embstore.writing.versions.pending_rows`): the numbers of
   a row stand in one record, with the place of each of its strings.
2. The chunks that will be rewritten are compared with their checksums.
3. An array of numbers keeps the chunks whose numbers stay the same; others are written with the new
   numbers in their place. Strings keep the chunks before the first one that is replaced; from there
   on, all are written, because strings differ in length. Then both grow
   (`embstore.writing.grown_arrays`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.attributes.stored import StoredStrings
from embstore.attributes.values import chosen, first_id, hashed
from embstore.dtypes import as_dtype
from embstore.errors import SourceError
from embstore.formats.own import spec
from embstore.formats.own.array_size import ArraySize
from embstore.formats.own.attribute_manifest import AttributeManifest
from embstore.formats.own.row_sums import RowSums
from embstore.table.numbering import Numbering
from embstore.vocabulary.words import PackedWords, hash_words, pack_encoded
from embstore.writing.attribute_columns import CollectedColumn, settled
from embstore.writing.grown_arrays import check_rewritten, grow, grown_chunk_rows
from embstore.writing.versions.pending_rows import PendingRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.attributes.stored import StoredColumn
    from embstore.attributes.values import Values
    from embstore.formats.own.manifest import Manifest
    from embstore.writing.arrays import ArrayWriter
    from embstore.writing.grown_arrays import NextArrays

STRINGS_AT_ONCE = 1 << 16


class GrownAttributes:
    """The attributes of the next version of a table.

    Parameters
    ----------
    manifest : Manifest
        That of the old version.
    columns : mapping of str to StoredColumn
        The attributes of the old version, mapped.
    arrays : NextArrays
        The arrays of the next version.
    memory_bytes : int
        The most memory for all values.
    directory : Path
        Where to create files for the rest.

    Attributes
    ----------
    sums : RowSums
        The sums of the new values, less those of the ones that they replace; whole after `write`.
    """

    def __init__(
        self,
        manifest: Manifest,
        columns: Mapping[str, StoredColumn],
        arrays: NextArrays,
        *,
        memory_bytes: int,
        directory: Path,
    ) -> None:
        self.sums = RowSums()
        self._manifest, self._old, self._arrays = manifest, columns, arrays
        share = memory_bytes // max(4 * len(columns), 1)
        self._columns = {
            name: _Changed(old, CollectedColumn(old.dtype, share, directory))
            for name, old in manifest.attributes.items()
        }
        # Strings that replace others, in the order in which they came.
        self._strings = {
            name: CollectedColumn(spec.STRING, share, directory)
            for name, one in manifest.attributes.items()
            if one.is_string
        }
        self._pending: PendingRows | None = None
        self._pending_share = memory_bytes // 2, directory
        self._first = manifest.rows  # The least id whose values are replaced.
        self._rows = manifest.rows
        self._is_checked = False

    @property
    def dtypes(self) -> dict[str, str]:
        """The dtype of each attribute, by its name."""
        return self._manifest.attribute_dtypes

    def settle(self, given: Mapping[str, Any] | None, row_count: int) -> dict[str, Values]:
        """Return the attributes of a batch of rows, checked.

        See `embstore.writing.attribute_columns.settled`. The first time, the chunks that grow are
        compared with their checksums.
        """
        if not self._is_checked:
            self._check_growth()
            self._is_checked = True
        return settled(given, self.dtypes, row_count)

    def settle_some(self, given: Mapping[str, Any], row_count: int) -> dict[str, Values]:
        """Return values of some attributes, which replace others, checked; see `settle`."""
        dtypes = {name: dtype for name, dtype in self.dtypes.items() if name in given}
        if unknown := sorted(set(given) - set(dtypes)):
            known = ", ".join(map(repr, sorted(self.dtypes))) or "none"
            raise SourceError(f"the table has no attribute {unknown[0]!r}; its attributes: {known}")
        return settled(given, dtypes, row_count)

    def append(self, values: Mapping[str, Values], new: NDArray[np.bool_]) -> None:
        """Add the settled values of rows that are appended, where ``new`` is true."""
        count = int(new.sum())
        if not count:
            return
        for name, column in self._columns.items():
            kept = values[name] if count == len(new) else chosen(values[name], new)
            self.sums.add_values(hashed(kept), first_id(name) + self._rows)
            column.appended.append(kept)
        self._rows += count

    def replace(self, ids: NDArray[np.int64], values: Mapping[str, Values]) -> None:
        """Add settled values that replace those of ids, shape (n,), which are in range.

        All calls give the same attributes.
        """
        if not values or not len(ids):
            return
        if self._pending is None:
            self._pending = self._start_replacing(values)
        self._first = min(self._first, int(ids.min()))
        records = np.empty((len(ids), self._pending.row_bytes), np.uint8)
        for name, some in values.items():
            numbers = self._kept_strings(name, some) if isinstance(some, PackedWords) else some
            record = np.ascontiguousarray(numbers).view(np.uint8).reshape(len(ids), -1)
            records[:, self._columns[name].place] = record
        self._pending.append(ids, records)

    def check(self) -> None:
        """Get ready to write, after the last value: check the chunks that are rewritten.

        Raises
        ------
        StoreCorruptError
            If one does not have its checksum.
        ValueError
            If an id is replaced twice.
        """
        if self._pending is not None:
            self._pending.settle()
        for name, column in self._columns.items():
            self._check_spans(column)
            column.lengths = self._lengths(name, column)
            for part, length in column.lengths.items():
                array = column.old.array(part)
                if length > array.shape[0]:
                    check_rewritten(self._arrays, array, length)
                for chunk in self._touched(name, column, part):
                    self._arrays.check_chunk(array, chunk)

    def write(self) -> dict[str, AttributeManifest]:
        """Write the arrays that change; return the attributes of the next manifest.

        Raises
        ------
        StoreCorruptError
            If the old version is damaged.
        """
        found: dict[str, AttributeManifest] = {}
        for name, column in self._columns.items():
            if column.place is None and self._rows == self._manifest.rows:
                found[name] = column.old
            elif column.old.is_string:
                found[name] = self._write_strings(name, column)
            else:
                found[name] = self._write_numbers(name, column)
        return found

    def close(self) -> None:
        """Free the memory and the disk space that only the change needed."""
        for column in self._columns.values():
            column.appended.close()
        for strings in self._strings.values():
            strings.close()
        if self._pending is not None:
            self._pending.close()

    def _start_replacing(self, names: Iterable[str]) -> PendingRows:
        """Give each attribute that is replaced a place in a record; return what holds these."""
        start = 0
        for name in names:
            column = self._columns[name]
            stop = start + (8 if column.old.is_string else as_dtype(column.old.dtype).itemsize)
            column.place, start = slice(start, stop), stop
        memory_bytes, directory = self._pending_share
        numbering = Numbering(max(self._manifest.rows, 1), 1, "mod")
        return PendingRows(start, numbering, memory_bytes, directory)

    def _kept_strings(self, name: str, values: PackedWords) -> NDArray[np.int64]:
        """Keep strings that replace others; return their numbers."""
        strings = self._strings[name]
        first = len(strings.parts[spec.WORD_OFFSETS]) - 1
        strings.append(values)
        return np.arange(first, first + len(values))

    def _check_growth(self) -> None:
        """Check the last chunks of all arrays, and that strings end where their bytes do."""
        for name, column in self._columns.items():
            for array in column.old.arrays():
                # How much they will grow is not known, but what one more needs is needed anyway.
                check_rewritten(self._arrays, array, array.shape[0] + 1)
            if column.old.is_string:
                self._strings_of(name).check_ends()

    def _check_spans(self, column: _Changed) -> None:
        """Check the offsets of strings that are replaced, before they are used."""
        if column.old.is_string and column.place is not None:
            array = column.old.array(spec.WORD_OFFSETS)
            for chunk in range(self._first // array.chunk_rows, array.chunk_count):
                self._arrays.check_chunk(array, chunk)

    def _lengths(self, name: str, column: _Changed) -> dict[str, int]:
        """Return the lengths of a column's arrays in the next version."""
        if not column.old.is_string:
            return {"": self._rows}
        count = column.old.array(spec.WORD_BYTES).shape[0]
        count += len(column.appended.parts[spec.WORD_BYTES])
        for ids, records in self._replaced(column, self._first, self._manifest.rows):
            starts, stops = self._strings_of(name).spans(ids)
            count += len(self._new_strings(name, column, records).data) - int(
                (stops - starts).sum()
            )
        return {spec.WORD_BYTES: count, spec.WORD_OFFSETS: self._rows + 1}

    def _touched(self, name: str, column: _Changed, part: str) -> list[int]:
        """Return the chunks of an old array that have replaced values, or values that move."""
        array = column.old.array(part)
        if self._pending is None or column.place is None:
            return []
        if not column.old.is_string:
            return [int(chunk) for chunk in self._pending.chunks(array.chunk_rows)]
        first = self._first_item(name, part) // array.chunk_rows
        if self._chunk_rows(column, part) != array.chunk_rows:
            first = 0
        return list(range(first, array.chunk_count))

    def _first_item(self, name: str, part: str) -> int:
        """Return the first element of an array of strings that may change."""
        if part == spec.WORD_OFFSETS:
            return self._first + 1
        starts, _ = self._strings_of(name).spans(np.array([self._first]))
        return int(starts[0])

    def _chunk_rows(self, column: _Changed, part: str) -> int:
        array, length = column.old.array(part), column.lengths[part]
        return grown_chunk_rows(array, length) if length > array.shape[0] else array.chunk_rows

    def _write_numbers(self, name: str, column: _Changed) -> AttributeManifest:
        array = column.old.array()
        chunk_rows = self._chunk_rows(column, "")
        writer = self._arrays.new_array(array.name, (), column.stored_dtype, chunk_rows)
        rewritten = set(self._touched(name, column, ""))
        if self._rows > array.shape[0]:
            rewritten.update(range(array.shape[0] // array.chunk_rows, array.chunk_count))
        for chunk in range(array.chunk_count):
            if chunk not in rewritten and chunk_rows == array.chunk_rows:
                self._arrays.link_chunk(writer, array, chunk)
                continue
            start = chunk * array.chunk_rows
            for piece in self._arrays.read_chunk(array, chunk):
                for ids, records in self._replaced(column, start, start + len(piece)):
                    new = np.ascontiguousarray(records[:, column.place])
                    self._exchange(name, ids, piece[ids - start], new)
                    piece[ids - start] = new
                writer.append(piece)
                start += len(piece)
        for numbers in column.appended.pieces(""):
            writer.append(numbers)
        return AttributeManifest.of_numbers(
            name, column.old.dtype, ArraySize(self._rows, chunk_rows)
        )

    def _write_strings(self, name: str, column: _Changed) -> AttributeManifest:
        writers = {part: self._begin_strings(name, column, part) for part in spec.STRING_DTYPES}
        data, offsets = writers[spec.WORD_BYTES], writers[spec.WORD_OFFSETS]
        done = column.old.array(spec.WORD_BYTES).shape[0]
        if column.place is not None:
            done = self._first_item(name, spec.WORD_BYTES)
            for strings in self._merged(name, column):
                data.append(strings.data[: int(strings.offsets[-1])])
                offsets.append((strings.offsets[1:] + done).astype("<i8"), copy=False)
                done += int(strings.offsets[-1])
        for piece in column.appended.pieces(spec.WORD_BYTES):
            data.append(piece)
        for piece in column.appended.pieces(spec.WORD_OFFSETS, 1):
            offsets.append((piece + done).astype("<i8"), copy=False)
        sizes = [
            ArraySize(column.lengths[part], self._chunk_rows(column, part))
            for part in (spec.WORD_BYTES, spec.WORD_OFFSETS)
        ]
        return AttributeManifest.of_strings(name, *sizes)

    def _begin_strings(self, name: str, column: _Changed, part: str) -> ArrayWriter:
        """Return the writer of an array of strings, with what stays before the first new one."""
        array, chunk_rows = column.old.array(part), self._chunk_rows(column, part)
        if column.place is None:
            return grow(self._arrays, array, column.lengths[part])
        left = self._first_item(name, part)
        writer = self._arrays.new_array(array.name, (), array.dtype, chunk_rows)
        for chunk in range(-(-left // array.chunk_rows)):
            if left >= array.chunk_rows and chunk_rows == array.chunk_rows:
                self._arrays.link_chunk(writer, array, chunk)
                left -= array.chunk_rows
                continue
            for piece in self._arrays.read_chunk(array, chunk):
                writer.append(piece[:left])
                left -= len(piece[:left])
        return writer

    def _merged(self, name: str, column: _Changed) -> Iterator[PackedWords]:
        """Yield all old strings from the first replaced one on, new ones in their place."""
        for start in range(self._first, self._manifest.rows, STRINGS_AT_ONCE):
            stop = min(start + STRINGS_AT_ONCE, self._manifest.rows)
            strings = self._strings_of(name).part(start, stop)
            for ids, records in self._replaced(column, start, stop):
                new = self._new_strings(name, column, records)
                listed, added = strings.encoded(), new.encoded()
                old = [listed[place] for place in (ids - start).tolist()]
                self._exchange(name, ids, hash_words(old), hash_words(added))
                for place, value in zip((ids - start).tolist(), added, strict=True):
                    listed[place] = value
                strings = pack_encoded(listed)
            yield strings

    def _exchange(
        self, name: str, ids: NDArray[np.int64], old: NDArray[Any], new: NDArray[Any]
    ) -> None:
        """Subtract old values of ids from the sums, and add new ones."""
        places: Any = ids.astype(np.uint64) + np.uint64(first_id(name))
        self.sums.subtract(old, places)
        self.sums.add(new, places)

    def _replaced(
        self, column: _Changed, start: int, stop: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield the ids below ``stop`` whose values are replaced, from ``start`` on, and records.

        They come in blocks, ascending.
        """
        if self._pending is None or column.place is None:
            return
        for first in range(start, stop, STRINGS_AT_ONCE):
            ids, _, records = self._pending.part(first, min(first + STRINGS_AT_ONCE, stop))
            if len(ids):
                yield ids, records

    def _new_strings(self, name: str, column: _Changed, records: NDArray[np.uint8]) -> PackedWords:
        """Return the strings that records refer to."""
        numbers = np.ascontiguousarray(records[:, column.place]).view(np.int64).reshape(-1)
        parts = self._strings[name].parts
        data, offsets = parts[spec.WORD_BYTES].array, parts[spec.WORD_OFFSETS].array
        bounds = zip(offsets[numbers].tolist(), offsets[numbers + 1].tolist(), strict=True)
        return pack_encoded([data[start:stop].tobytes() for start, stop in bounds])

    def _strings_of(self, name: str) -> StoredStrings:
        found = self._old[name]
        assert isinstance(found, StoredStrings)
        return found


class _Changed:
    """One attribute: what it was, the values that are appended, and its place in a record.

    The place is None if no value is replaced.
    """

    def __init__(self, old: AttributeManifest, appended: CollectedColumn) -> None:
        self.old, self.appended = old, appended
        self.place: slice | None = None
        self.lengths: dict[str, int] = {}

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        return self.appended.stored_dtypes[""]
