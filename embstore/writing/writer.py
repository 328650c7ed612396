"""The writer of a store: rows in batches become a published store.

1. Rows arrive in the order of their ids. Rows with a repeated word are dropped
   (`embstore.writing.words.new_words`).
2. The others are split among the partitions (`embstore.writing.partitioned_rows`). Each partition
   has an `ArrayWriter`, which writes in the background. They are also added up for the fingerprint
   (`embstore.writing.table_sums`).
3. At the end, the vocabulary, the metadata and finally the manifest are written. Then
   `embstore.writing.disk.staging` opens the store and moves it to its place in one step.

An error leaves no files behind, and the target does not change. Only an error after the store is in
place cannot undo it, and its message says so. A writer that is dropped, or left at the end of the
program, discards its store.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Self, get_args

import numpy as np

from embstore.attributes.given import as_dtypes
from embstore.dtypes import as_dtype, has_masked, storage_dtype
from embstore.encodings.casting import OnOverflow
from embstore.errors import SourceError
from embstore.formats.own import spec
from embstore.formats.own.compression import as_compression
from embstore.formats.own.manifest import Manifest
from embstore.paths import as_local_path
from embstore.settle import as_choice, as_count, as_flag, as_shape, as_size, size_text
from embstore.table.numbering import Numbering, Strategy
from embstore.threads import start
from embstore.version import __version__
from embstore.wording import function, option, shape_text
from embstore.writing.arrays import ArrayWriter, PiecePool
from embstore.writing.conversion import conversion_to, find_encoding
from embstore.writing.disk import files
from embstore.writing.disk.background import Background
from embstore.writing.disk.staging import Staging
from embstore.writing.growth import chunk_count
from embstore.writing.iterated_rows import row_arrays
from embstore.writing.mappings import check_chunk_count
from embstore.writing.memory import DEFAULT_MEMORY_LIMIT, plan_memory
from embstore.writing.metadata import write_metadata
from embstore.writing.new_attributes import NewAttributes
from embstore.writing.partitioned_rows import PartitionedRows
from embstore.writing.shards import ShardWriter, shard_piece_bytes
from embstore.writing.table_sums import TableSums
from embstore.writing.words.new_words import NewWords, OnDuplicate

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from embstore.table.protocols import Encoding
    from embstore.vocabulary.words import PackedWords
    from embstore.writing.words.new_words import MakeArray

    _Parts = tuple[PartitionedRows, NewWords, NewAttributes]


def to_publish() -> str:
    """Return what to do instead of building at a URL."""
    return f"build it in a local directory, and {function('publish')} it there"


_ENDED = "this StoreWriter has already published or discarded its store"


class StoreWriter:
    """Writes a store from rows that are produced batch by batch.

    As a context manager, it publishes the store when the block ends, and discards it when the block
    raises. Without a block, call `publish`: a writer that is dropped before discards its store.

    Parameters
    ----------
    path : str or path-like
        Where the store will be.
    row_shape : tuple of int
        Shape of one row; ``()`` for scalars.
    dtype : dtype
        Of plain rows; encoded ones do without. A float or integer dtype, such as ``"float32"``,
        ``"bfloat16"`` or ``"float8_e4m3fn"``.
    partitions : int, optional
        Number of partitions. By default the smallest power of two that keeps each below 16 GiB,
        so that one partition can be loaded or copied; 1 if the size is unknown.
    strategy : {"mod", "div"}
        How ids are split among partitions.
    rows : int, optional
        The exact number of rows. ``div`` needs it.
    estimated_rows : int, optional
        An estimate of the number of rows, if ``rows`` is unknown; helps to choose the chunk size
        and the number of partitions.
    overwrite : bool
        Whether an existing store at ``path`` may be replaced.
    on_duplicate : {"error", "first"}
        What to do with a repeated word: raise, or keep the first and drop the row.
    unk : str, optional
        The word whose row is used for unknown words. By default the first of ``<unk>``, ``[UNK]``,
        ``<UNK>``, ``UNK`` that is a word; without one, the store has no unk word.
    on_overflow : {"error", "inf"}
        What to do with a finite number that is too large for a float dtype: raise, or store
        infinity.
    chunk_rows : int, optional
        Rows in a chunk, a power of two, of at most 16 GiB. By default chosen from the number of
        rows.
    encoding : str or Encoding, optional
        A name, as for `embstore.build`; ``"plain"``, the default, for rows of ``dtype``. With an
        encoding as a value, a row to write is a record of it, uint8, as `EmbeddingStore.lookup`
        returns it with ``raw=True``.
    compression : str, optional
        As for `embstore.build`.
    memory_limit : int or str
        The most memory that writing may use, whatever the number of rows and words, in bytes or as
        in ``"2GiB"``; ``embstore.writing.memory`` lists the shares. A limit that is too low raises
        before anything is created.
    source : dict, optional
        Where the rows come from, for the manifest; JSON values.
    attributes : mapping of str to dtype, optional
        The attributes that rows have, and the dtype of each: a number type, ``"bool"`` or
        ``"string"``. By default, the first rows that are written decide.

    Attributes
    ----------
    rows_written, duplicate_count : int
        Rows that have an id, and rows that were dropped because their word was repeated.

    Raises
    ------
    StoreExistsError, StoreBusyError, StoreNotFoundError
        If the target exists and may not be replaced, is being written by another build, or is in a
        directory that does not exist.
    ValueError
        If parameters contradict each other or the format, or need a higher ``memory_limit``.

    Examples
    --------
    >>> import numpy as np, embstore
    >>> path = "squares.embstore"
    >>> with embstore.StoreWriter(path, row_shape=(2,), dtype="float32", partitions=2) as writer:
    ...     for start in range(0, 10, 5):
    ...         ids = np.arange(start, start + 5)
    ...         writer.write(np.stack([ids, ids**2], axis=1))
    >>> embstore.open(path)[7].tolist()
    [7.0, 49.0]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        row_shape: tuple[int, ...],
        dtype: DTypeLike | None = None,
        partitions: int | None = None,
        strategy: Strategy = "mod",
        rows: int | None = None,
        estimated_rows: int | None = None,
        overwrite: bool = False,
        on_duplicate: OnDuplicate = "error",
        unk: str | None = None,
        on_overflow: OnOverflow = "error",
        chunk_rows: int | None = None,
        encoding: str | Encoding | None = None,
        compression: str | None = None,
        memory_limit: int | str = DEFAULT_MEMORY_LIMIT,
        source: dict[str, Any] | None = None,
        attributes: Mapping[str, DTypeLike] | None = None,
    ) -> None:
        target = as_local_path(path, "path", to_publish())
        partitions = _as_count(partitions, "partitions", low=1, high=spec.MAX_PARTITIONS)
        strategy = as_choice(strategy, "strategy", get_args(Strategy))
        rows = _as_count(rows, "rows", high=spec.MAX_ROWS)
        estimated_rows = _as_count(estimated_rows, "estimated_rows", high=spec.MAX_ROWS)
        on_duplicate = as_choice(on_duplicate, "on_duplicate", get_args(OnDuplicate))
        on_overflow = as_choice(on_overflow, "on_overflow", get_args(OnOverflow))
        chunk_rows = _as_count(chunk_rows, "chunk_rows", low=1)
        memory_bytes = as_size(memory_limit, "memory_limit")
        self._compression = as_compression(compression, "compression")
        overwrite = as_flag(overwrite, "overwrite")
        dtypes = None if attributes is None else as_dtypes(attributes, "attributes")
        if rows is None and strategy == "div":
            raise ValueError(
                f"{option('strategy', 'div')} needs the number of rows in advance; give rows="
            )
        self.source = dict(source or {})
        self.rows_written = 0
        self.duplicate_count = 0
        shape = as_shape(row_shape, "row_shape", low=0)
        numbers = None if dtype is None else as_dtype(dtype).newbyteorder("<")
        found = find_encoding(encoding, shape, numbers)
        numbers = found.dtype.newbyteorder("<") if found is not None else numbers
        assert numbers is not None
        self._conversion = conversion_to(encoding, found, shape, numbers, on_overflow)
        # Of the arrays: those of encoded rows are bytes.
        self._dtype = numbers if found is None else np.dtype(np.uint8)
        self._row_shape = shape if found is None else (found.record_bytes,)
        self._row_bytes = math.prod(self._row_shape) * self._dtype.itemsize
        self._expected = rows
        self._estimated = rows if rows is not None else estimated_rows
        self._unk = unk
        if partitions is None:
            partitions = spec.choose_partition_count((self._estimated or 0) * self._row_bytes)
        # `mod` does not need the number of rows.
        self._numbering = Numbering(spec.MAX_ROWS if rows is None else rows, partitions, strategy)
        # Made now, to check the parameters before anything is created.
        self._manifest = Manifest(
            rows=0,
            row_shape=shape,
            dtype=numbers,
            encoding=found,
            partition_count=partitions,
            strategy=strategy,
            chunk_rows=1 if chunk_rows is None else chunk_rows,
            source=self.source,
            created_by=f"embstore {__version__}",
            compression=self._compression,
            inner_rows=self._inner_rows(1),
        )
        if chunk_rows is not None:
            _check_chunk_bytes(chunk_rows, self._row_bytes)
        inner_rows = self._inner_rows(spec.MAX_ROWS) or 0
        self._memory = plan_memory(memory_bytes, partitions, inner_rows * self._row_bytes)
        _check_count(rows, partitions, chunk_rows, self._row_bytes)
        self._groups = [""]
        self._pool = PiecePool(self._memory.piece_bytes)
        self._staging: Staging | None = None
        self._background = Background(self._memory.queue_bytes)
        self._sums = TableSums(self._background)
        try:
            self._start(target, overwrite, on_duplicate, chunk_rows, dtypes)
        except BaseException:
            self._background.close()
            if self._staging is not None:
                self._staging.discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._staging is not None and not self._staging.is_own:
            return  # A forked child leaves the block; the build goes on in its parent.
        if kind is None:
            self.publish()
        else:
            self.discard()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a StoreWriter cannot be pickled or copied; make it in the process that writes the rows"
        )

    def write(
        self,
        rows: ArrayLike | Iterator[ArrayLike],
        words: Iterable[str] | PackedWords | None = None,
        *,
        attributes: Mapping[str, Any] | None = None,
        copy: bool = True,
    ) -> None:
        """Append rows; their ids continue from the last one. An error discards the store.

        Parameters
        ----------
        rows : array-like, shape ``(n, *row_shape)``, or iterator of arrays of shape row_shape
            Floats are rounded to the store's dtype; a number that does not fit is an error. Only
            a few rows of an iterator, such as a generator, are in memory at a time.
        words : iterable of str, or PackedWords, length n, optional
            The words of the rows; either all rows of a store have one, or none.
        attributes : mapping of str to array-like of length n, optional
            The values of each attribute, numbers or str, one for each row. All rows of a store have
            the same attributes, with the same dtypes.
        copy : bool
            False promises that ``rows`` will not be changed after the call, which may save a copy.

        Raises
        ------
        StoreBusyError
            If another process made the writer, and this one was forked from it.
        DuplicateWordError
            If a word is repeated, under ``on_duplicate="error"``.
        RowError
            If a number does not fit into the store's dtype, or a value into its attribute's.
        ValueError, TypeError
            If the rows have another shape or are not numbers; if they do not have the attributes of
            the rows before them.
        """
        self._check_open()
        try:
            if has_masked(rows):
                raise TypeError("rows have masked numbers; replace them with .filled(value)")
            if isinstance(rows, Iterator):
                blocks = row_arrays(rows, words, attributes, self._row_bytes)
                for block, its_words, its_attributes in blocks:
                    self._write(block, its_words, its_attributes, copy=False)
            else:
                self._write(np.asarray(rows), words, attributes, copy=copy)
        except BaseException:
            self.discard()
            raise

    def publish(self) -> None:
        """Finish the store and move it to its place. An error discards the store.

        Raises
        ------
        SourceError
            If fewer rows were written than ``rows``, or the unk word is missing.
        StoreCorruptError
            If what was written cannot be opened again.
        StoreBusyError
            If another process made the writer, and this one was forked from it.
        OSError
            If the disk fails. If the store is in place already, it stays there; the error says so,
            and what may be there after a loss of power.
        """
        staging = self._check_open()
        try:
            if self.short_of_rows:
                raise SourceError(f"{self.rows_written} rows written, expected {self._expected}")
            unk = self._words.find_unk(self._unk)
            self.source |= self._conversion.facts()
            arrays = self._rows.finish(self.rows_written)
            vocabulary = None
            if self._words.has_words:
                self._make_group(spec.VOCABULARY)
                words, vocabulary = self._words.write(self._make_array)
                arrays = arrays + words
            for group in self._attributes.group_names():
                self._make_group(group)
            columns, attributes = self._attributes.write(self._make_array)
            arrays = arrays + columns
            for array in arrays:
                array.finish()
            self._background.finish()
            manifest = replace(
                self._manifest,
                rows=self.rows_written,
                chunk_rows=self._rows.chunk_rows,
                compression=self._compression,
                inner_rows=self._inner_rows(self._rows.chunk_rows),
                unk=unk,
                vocabulary=vocabulary,
                source=self.source,
                attributes=attributes,
            )
            fingerprint = self._sums.fingerprint(manifest, self._words, self._attributes)
            manifest = replace(manifest, fingerprint=fingerprint)
            documents = (array.metadata() for array in arrays)
            write_metadata(self._path, self._groups, documents, manifest)
            self._close()
            staging.check_contents()
        except BaseException:
            self.discard()
            raise
        self._staging = None
        if self._finalize.detach() is None:  # The program is ending.
            raise ValueError(_ENDED)
        try:
            staging.publish()
        except BaseException:
            staging.discard()
            raise

    @property
    def short_of_rows(self) -> bool:
        """Whether fewer rows than ``rows`` have been written so far."""
        return self._expected is not None and self.rows_written < self._expected

    def discard(self) -> None:
        """Remove everything written so far; the target does not change.

        In a forked child of the process that made the writer, this does nothing.
        """
        if self._staging is not None and self._staging.is_own:
            self._finalize()
            self._staging = None

    def _start(
        self,
        target: Path,
        overwrite: bool,
        on_duplicate: OnDuplicate,
        chunk_rows: int | None,
        dtypes: dict[str, str] | None,
    ) -> None:
        """Create the staging directory, and what writes rows, words and attributes into it."""
        self._staging = Staging(target, overwrite=overwrite)
        self._path = self._staging.path
        self._make_group(spec.PARTITIONS)
        # A method of this object would be in a reference cycle with it, and keep its memory.
        self._make_array: MakeArray = partial(
            ArrayWriter, self._path, pool=self._pool, background=self._background
        )
        make_rows: MakeArray = self._make_array
        if self._compression is not None:
            make_rows = partial(
                ShardWriter,
                self._path,
                pool=PiecePool(shard_piece_bytes(self._memory.piece_bytes, self._row_bytes)),
                background=self._background,
                compression=self._compression,
            )
        self._words = NewWords(
            self._memory.vocabulary_bytes,
            self._path,
            estimated_words=self._estimated or 0,
            on_duplicate=on_duplicate,
        )
        self._attributes = NewAttributes(self._memory.attribute_bytes, self._path, dtypes)
        self._rows = PartitionedRows(
            self._numbering,
            self._row_shape,
            storage_dtype(self._dtype),
            make_rows,
            held_bytes=self._memory.held_bytes,
            estimated_rows=self._estimated,
            padded=self._compression is None,
        )
        self._rows.start(chunk_rows, exact=self._expected is not None)
        self._finalize: weakref.finalize[Any, StoreWriter] = weakref.finalize(
            self,
            _give_up,
            self._staging,
            self._background,
            (self._rows, self._words, self._attributes),
        )

    def _inner_rows(self, chunk_rows: int) -> int | None:
        """Return the rows in an inner chunk of chunks of some rows; None without compression."""
        if self._compression is None:
            return None
        return min(spec.choose_inner_rows(self._row_bytes), chunk_rows)

    def _close(self) -> None:
        _close(self._background, (self._rows, self._words, self._attributes))

    def _check_open(self) -> Staging:
        if self._staging is None:
            raise ValueError(_ENDED)
        self._staging.check_own()
        return self._staging

    def _write(
        self,
        batch: NDArray[Any],
        words: Iterable[str] | PackedWords | None,
        attributes: Mapping[str, Any] | None,
        *,
        copy: bool,
    ) -> None:
        row_shape = self._conversion.row_shape
        if batch.ndim == 0 or batch.shape[1:] != row_shape:
            expected = ", ".join(["n", *map(str, row_shape)])
            raise ValueError(f"rows have shape {shape_text(batch.shape)}, expected ({expected})")
        kept = self._conversion.convert(batch)
        values = self._attributes.settle(attributes, len(batch))
        new = self._words.enter(words, len(batch), is_first=not self.rows_written)
        if not new.all():
            self.duplicate_count += int((~new).sum())
            kept = kept[new]
        copy = copy and np.may_share_memory(kept, batch)
        kept = kept.view(storage_dtype(self._dtype))
        start, stop = self.rows_written, self.rows_written + len(kept)
        if self._expected is not None and stop > self._expected:
            raise SourceError(f"{stop} rows written, expected {self._expected}")
        self.rows_written = stop
        self._attributes.append(values, new, start)
        self._sums.append(kept, start, copy=copy)
        self._rows.append(kept, start, copy=copy)

    def _make_group(self, name: str) -> None:
        files.make_directory(self._path / name)
        self._groups.append(name)


def _close(background: Background, parts: _Parts) -> None:
    """End the threads; free the memory and the disk space that only the build needed."""
    background.close()
    for part in parts:
        part.close()


def _give_up(staging: Staging, background: Background, parts: _Parts) -> None:
    """Discard the store of a writer, which may have been dropped, in any thread or process."""
    if not staging.is_own:
        return
    if background.is_here:
        # The garbage collector found the writer in one of its own threads, which cannot be joined.
        start(partial(_give_up, staging, background, parts), "embstore-discard")
        return
    _close(background, parts)
    staging.discard()


def _check_chunk_bytes(chunk_rows: int, row_bytes: int) -> None:
    """Refuse chunks whose zeros behind the last row would take hours."""
    most = spec.MAX_PARTITION_BYTES // max(row_bytes, 1)
    if chunk_rows > most:
        raise ValueError(
            f"chunk_rows must be at most {most} for rows of {row_bytes} bytes, so that a chunk has "
            f"at most {size_text(spec.MAX_PARTITION_BYTES)}, not {chunk_rows}"
        )


def _check_count(rows: int | None, partitions: int, chunk_rows: int | None, row_bytes: int) -> None:
    """Refuse more chunk files than a process can map, as far as their number is known."""
    if rows is None or chunk_rows is None:
        check_chunk_count(partitions if rows is None else min(partitions, rows), partitions)
    else:
        count = chunk_count(rows, partitions, chunk_rows)
        check_chunk_count(count, partitions, chunk_rows * row_bytes)


def _as_count(value: Any, name: str, *, low: int = 0, high: int | None = None) -> int | None:
    return None if value is None else as_count(value, name, low=low, high=high)
