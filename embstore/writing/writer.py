"""How do rows become a store? They are dealt out to partitions, written by chunk, and published.

1. Rows arrive in the order of their ids. Those whose word has come before are dropped
   (`embstore.writing.new_words`).
2. The others are dealt out to the partitions (`embstore.writing.dealt_rows`). Each is an
   `ArrayWriter`, which writes in the background.
3. At the end come the vocabulary, the metadata and, last of all, the manifest; then
   `embstore.writing.staging` puts the store in its place in one step.

An error anywhere leaves no trace; what was at the target stays. Only what fails after the store has
got its name cannot take it back, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embstore.dtypes import as_dtype, has_masked, storage_dtype
from embstore.encodings.casting import Caster, OnOverflow
from embstore.errors import SourceError
from embstore.formats.own import spec
from embstore.formats.own.manifest import Manifest
from embstore.formats.own.seals import seal
from embstore.table.partitioning import Partitioning, Strategy
from embstore.version import __version__
from embstore.vocabulary.words import PackedWords, pack
from embstore.writing import files
from embstore.writing.arrays import ArrayWriter, PiecePool
from embstore.writing.background import Background
from embstore.writing.dealt_rows import DealtRows
from embstore.writing.memory import DEFAULT_MEMORY_LIMIT, plan_memory
from embstore.writing.metadata import group_metadata
from embstore.writing.new_words import NewWords, OnDuplicate
from embstore.writing.staging import Staging
from embstore.writing.vocabulary_builder import VocabularyBuilder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from embstore.formats.own.manifest import VocabularyManifest
    from embstore.writing.new_words import MakeArray

# Rows of an iterator are put together to blocks of so many bytes.
BLOCK_BYTES = 1 << 20


class StoreWriter:
    """Writes a store from rows that are produced one batch after the other.

    Used as a context manager, it publishes the store when the block ends, and discards it when
    the block raises.

    Parameters
    ----------
    path : str or Path
        Where the store will be.
    row_shape : tuple of int
        Shape of one row; ``()`` for scalars.
    dtype : dtype
        float16/32/64, ``"bfloat16"``, or an integer type.
    partitions : int, optional
        Number of partitions. By default the smallest power of two that keeps each below 16 GiB,
        so that one partition is something to load or to copy; 1 where the size is not known.
    strategy : {"mod", "div"}
        How ids are dealt out to partitions.
    rows : int, optional
        Number of rows to come, exactly. ``div`` needs it.
    estimated_rows : int, optional
        About how many rows will come, if ``rows`` is not known; helps to choose the chunk size and
        the number of partitions.
    overwrite : bool
        Whether a store at ``path`` may be replaced.
    on_duplicate : {"error", "first"}
        What to do when a word comes again: raise, or keep the first and drop the row.
    unk : str, optional
        The word whose row stands for unknown words. By default the first that is there of
        ``<unk>``, ``[UNK]``, ``<UNK>``, ``UNK``; if none is, the store has no such row.
    on_overflow : {"error", "inf"}
        Whether a finite number that is too large for a float dtype is refused, or becomes infinite.
    chunk_rows : int, optional
        Rows in a chunk, a power of two. By default chosen from the number of rows.
    memory_limit : int
        Bytes that writing may take, whatever the number of rows and words;
        `embstore.writing.memory` says what for. What does not fit is refused before anything is
        made.
    source : dict, optional
        Where the rows come from, for the manifest; JSON.

    Attributes
    ----------
    rows_written, duplicate_count : int
        Rows that have got an id, and rows that were dropped because their word came again.

    Raises
    ------
    StoreExistsError, StoreBusyError, StoreNotFoundError
        If the target is taken, being written to, or in a directory that does not exist.
    ValueError
        If the parameters contradict each other or the format, or need a higher ``memory_limit``.

    Examples
    --------
    >>> import tempfile, numpy as np, embstore
    >>> path = tempfile.mkdtemp() + "/squares.embstore"
    >>> with embstore.StoreWriter(path, row_shape=(2,), dtype="float32", partitions=2) as writer:
    ...     for start in range(0, 10, 5):
    ...         ids = np.arange(start, start + 5)
    ...         writer.write(np.stack([ids, ids**2], axis=1))
    >>> embstore.open(path)[7].tolist()
    [7.0, 49.0]
    """

    def __init__(
        self,
        path: str | Path,
        *,
        row_shape: tuple[int, ...],
        dtype: DTypeLike,
        partitions: int | None = None,
        strategy: Strategy = "mod",
        rows: int | None = None,
        estimated_rows: int | None = None,
        overwrite: bool = False,
        on_duplicate: OnDuplicate = "error",
        unk: str | None = None,
        on_overflow: OnOverflow = "error",
        chunk_rows: int | None = None,
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
        source: dict[str, Any] | None = None,
    ) -> None:
        if rows is None and strategy == "div":
            raise ValueError("div needs the number of rows before the first one: give rows=")
        if on_duplicate not in ("error", "first"):
            raise ValueError(f'on_duplicate must be "error" or "first", not {on_duplicate!r}')
        self.source = dict(source or {})
        self.rows_written = 0
        self.duplicate_count = 0
        self._row_shape = tuple(row_shape)
        self._dtype = as_dtype(dtype).newbyteorder("<")
        self._row_bytes = math.prod(self._row_shape) * self._dtype.itemsize
        self._caster = Caster(self._dtype, on_overflow)
        self._announced = rows
        self._estimated = rows if rows is not None else estimated_rows
        self._on_duplicate = on_duplicate
        self._unk = unk
        if partitions is None:
            partitions = spec.choose_partition_count((self._estimated or 0) * self._row_bytes)
        # `mod` deals out rows without knowing how many will come.
        known = spec.MAX_ROWS if rows is None else rows
        self._partitioning = Partitioning(known, partitions, strategy)
        # Checks the parameters before anything is made.
        self._manifest(0, chunk_rows=1 if chunk_rows is None else chunk_rows)
        self._memory = plan_memory(memory_limit, partitions)
        self._words: NewWords | None = None  # Made when the first words come.
        self._groups = [""]
        self._pool = PiecePool(self._memory.piece_bytes)
        self._staging: Staging | None = None
        self._background = Background(self._memory.queue_bytes)
        try:
            self._staging = Staging(Path(path), overwrite=overwrite)
            self._path = self._staging.path
            self._make_group(spec.PARTITIONS)
            # Not a method of this object: it would keep it, and its memory, in a circle.
            self._make_array: MakeArray = partial(
                ArrayWriter, self._path, pool=self._pool, background=self._background
            )
            self._rows = DealtRows(
                self._partitioning,
                self._row_shape,
                storage_dtype(self._dtype),
                self._make_array,
                held_bytes=self._memory.held_bytes,
                estimated_rows=self._estimated,
            )
            self._rows.begin(chunk_rows, exact=rows is not None)
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
        if kind is None:
            self.publish()
        else:
            self.discard()

    def write(
        self,
        rows: ArrayLike | Iterator[ArrayLike],
        words: Iterable[str] | PackedWords | None = None,
        *,
        copy: bool = True,
    ) -> None:
        """Append rows; their ids count up from the last one. An error discards the store.

        Parameters
        ----------
        rows : array-like, shape (n, *row_shape), or iterator of arrays of shape row_shape
            Floats are rounded to the store's dtype; a number that does not fit is an error. Of an
            iterator, such as a generator, only a few rows are in memory at a time.
        words : iterable of str, or PackedWords, n of them, optional
            Their words; all rows of a store have one, or none has.
        copy : bool
            False promises that ``rows`` will not be changed after the call, which may save a copy.

        Raises
        ------
        DuplicateWordError
            If a word has come before, under ``on_duplicate="error"``.
        RowError
            If a number does not fit into the store's dtype.
        ValueError, TypeError
            If the rows have another shape, or are no numbers.
        """
        self._check_open()
        try:
            if has_masked(rows):
                raise TypeError("rows have masked numbers; say with .filled() what they are")
            if isinstance(rows, Iterator):
                self._write_each(rows, words)
            else:
                self._write(np.asarray(rows), words, copy=copy)
        except BaseException:
            self.discard()
            raise

    def publish(self) -> None:
        """Finish the store and put it in its place. An error discards the store.

        Raises
        ------
        SourceError
            If fewer rows came than were announced, or the unk word is not among the words.
        OSError
            If the disk fails. Where the store had been put in its place before, it stays there, and
            the error says so, and what may be there after a loss of power.
        """
        staging = self._check_open()
        try:
            if self.short_of_rows:
                raise SourceError(
                    f"{self.rows_written} rows written, but {self._announced} were announced"
                )
            unk = self._find_unk()
            self.source |= self._caster.facts()
            partitions = self._rows.finish(self.rows_written)
            arrays, vocabulary = self._write_vocabulary()
            arrays = partitions + arrays
            for array in arrays:
                array.finish()
            manifest = self._manifest(
                self.rows_written, self._rows.chunk_rows, unk=unk, vocabulary=vocabulary
            )
            self._background.finish()
            files.write_files(array.metadata() for array in arrays)
            group = group_metadata()
            root, *others = (self._path / name / spec.METADATA for name in self._groups)
            files.write_files((path, group) for path in others)
            sealed = seal(self._path, manifest.to_json(), manifest.metadata_names())
            attribute = {spec.ATTRIBUTE: sealed}
            files.write_files([(root, group_metadata(attribute))])
            self._close()
            staging.publish()
        except BaseException:
            self.discard()
            raise
        self._staging = None

    @property
    def short_of_rows(self) -> bool:
        """Whether fewer rows have come than were announced."""
        return self._announced is not None and self.rows_written < self._announced

    def discard(self) -> None:
        """Drop everything; what was at the target stays as it was."""
        if self._staging is not None:
            self._close()
            self._staging.discard()
            self._staging = None

    def _close(self) -> None:
        """End the threads; free memory and disk that only the build needed."""
        self._background.close()
        self._rows.close()
        if self._words is not None:
            self._words.close()

    def _check_open(self) -> Staging:
        if self._staging is None:
            raise ValueError("this StoreWriter has published or discarded its store already")
        return self._staging

    def _write_each(
        self, rows: Iterator[ArrayLike], words: Iterable[str] | PackedWords | None
    ) -> None:
        """Write rows that come one by one."""
        count = max(BLOCK_BYTES // self._row_bytes, 1)
        if isinstance(words, PackedWords):
            words = (word.decode() for word in words.encoded())
        left = None if words is None else iter(words)
        while block := list(islice(rows, count)):
            some = None if left is None else list(islice(left, len(block)))
            self._write(np.asarray(block), some, copy=False)
        if left is not None and any(True for _ in left):
            raise ValueError("there are more words than rows")

    def _write(
        self, batch: NDArray[Any], words: Iterable[str] | PackedWords | None, *, copy: bool
    ) -> None:
        if batch.ndim == 0 or batch.shape[1:] != self._row_shape:
            expected = ", ".join(["n", *map(str, self._row_shape)])
            raise ValueError(f"rows have shape {batch.shape}, expected ({expected})")
        kept = self._enter_words(self._caster.cast(batch), words)
        copy = copy and np.may_share_memory(kept, batch)
        kept = kept.view(storage_dtype(self._dtype))
        start, stop = self.rows_written, self.rows_written + len(kept)
        if self._announced is not None and stop > self._announced:
            raise SourceError(f"{stop} rows written, but {self._announced} were announced")
        self.rows_written = stop
        self._rows.append(kept, start, copy=copy)

    def _make_group(self, name: str) -> None:
        files.make_directory(self._path / name)
        self._groups.append(name)

    def _enter_words(
        self, batch: NDArray[Any], words: Iterable[str] | PackedWords | None
    ) -> NDArray[Any]:
        """Give the batch's words their ids; return the rows that stay."""
        if self.rows_written and (words is None) != (self._words is None):
            raise ValueError("all rows of a store have words, or none has")
        if words is None:
            return batch
        packed = words if isinstance(words, PackedWords) else pack(words)
        if len(packed) != len(batch):
            raise ValueError(f"{len(packed)} words for {len(batch)} rows")
        if self._words is None:
            builder = VocabularyBuilder(
                self._memory.vocabulary_bytes, self._path, estimated_words=self._estimated or 0
            )
            self._words = NewWords(builder, self._on_duplicate)
        new = self._words.enter(packed)
        if new.all():
            return batch
        self.duplicate_count += int((~new).sum())
        return batch[new]

    def _find_unk(self) -> str | None:
        if self._words is not None:
            return self._words.find_unk(self._unk)
        if self._unk is not None:
            raise SourceError(f"unk is {self._unk!r}, but the rows have no words")
        return None

    def _write_vocabulary(self) -> tuple[list[ArrayWriter], VocabularyManifest | None]:
        if self._words is None:
            return [], None
        self._make_group(spec.VOCABULARY)
        return self._words.write(self._make_array)

    def _manifest(
        self,
        rows: int,
        chunk_rows: int,
        *,
        unk: str | None = None,
        vocabulary: VocabularyManifest | None = None,
    ) -> Manifest:
        return Manifest(
            rows=rows,
            row_shape=self._row_shape,
            dtype=self._dtype,
            partition_count=self._partitioning.partition_count,
            strategy=self._partitioning.strategy,
            chunk_rows=chunk_rows,
            unk=unk,
            vocabulary=vocabulary,
            source=self.source,
            created_by=f"embstore {__version__}",
        )
