"""How do rows become a store? They are dealt out to partitions, buffered by chunk, and published.

1. Rows arrive in the order of their ids. `Partitioning.spread` says which go to which partition.
2. Each partition is an `ArrayWriter`, which writes a chunk whenever one is full.
3. At the end the last chunks, the vocabulary and, last of all, the manifest are written; then
   `embstore.staging` puts the store in its place in one step.

An error anywhere leaves no trace; what was at the target stays.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from embstore import layout
from embstore.arrays import ArrayWriter, ZarrThread, create_group
from embstore.casting import cast_rows
from embstore.errors import DuplicateWordError, SourceError
from embstore.manifest import ArraySize, Manifest, VocabularyManifest
from embstore.partitions import Partitioning, Strategy
from embstore.seals import seal
from embstore.staging import Staging
from embstore.version import __version__
from embstore.vocabulary import VocabularyBuilder
from embstore.words import PackedWords, pack

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    import zarr
    from numpy.typing import ArrayLike, DTypeLike, NDArray

OnDuplicate = Literal["error", "first"]

DEFAULT_MEMORY_LIMIT = 1 << 30
# What stands for unknown words in the files that people have; the first one found is taken.
UNK_WORDS = ("<unk>", "[UNK]", "<UNK>", "UNK")


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
        float16/32/64, or an integer type.
    partitions : int
        Number of partitions.
    strategy : {"mod", "div"}
        How ids are dealt out to partitions.
    rows : int, optional
        Number of rows to come, exactly. ``div`` needs it.
    estimated_rows : int, optional
        About how many rows will come, if ``rows`` is not known; helps to choose the chunk size.
    overwrite : bool
        Whether a store at ``path`` may be replaced.
    on_duplicate : {"error", "first"}
        What to do when a word comes again: raise, or keep the first and drop the row.
    unk : str, optional
        The word whose row stands for unknown words. By default the first that is there of
        ``<unk>``, ``[UNK]``, ``<UNK>``, ``UNK``; if none is, the store has no such row.
    chunk_rows : int, optional
        Rows in a chunk, a power of two. By default chosen from the number of rows.
    memory_limit : int
        Bytes that the buffers of the partitions may take: half of it is one chunk for each.
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
        If the parameters contradict each other or the format.

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
        partitions: int = 1,
        strategy: Strategy = "mod",
        rows: int | None = None,
        estimated_rows: int | None = None,
        overwrite: bool = False,
        on_duplicate: OnDuplicate = "error",
        unk: str | None = None,
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
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._announced = rows
        self._on_duplicate = on_duplicate
        self._unk = unk
        self._vocabulary: VocabularyBuilder | None = None
        # `mod` deals out rows without knowing how many will come.
        known = layout.MAX_ROWS if rows is None else rows
        self._partitioning = Partitioning(known, partitions, strategy)
        self._row_bytes = math.prod(self._row_shape) * self._dtype.itemsize
        self._max_chunk_bytes = min(layout.MAX_CHUNK_BYTES, memory_limit // (2 * partitions))
        self._settled = chunk_rows is not None or rows is not None
        self._chunk_rows = chunk_rows or self._choose_chunk_rows(estimated_rows or known)
        self._manifest(0)  # Checks the parameters before anything is made.
        if self._row_bytes > max(self._max_chunk_bytes, layout.SMALL_CHUNK_BYTES):
            raise ValueError(
                f"{partitions} partitions with rows of {self._row_bytes} bytes need a memory_limit "
                f"of {2 * partitions * self._row_bytes} bytes, not {memory_limit}"
            )
        self._thread = ZarrThread()
        self._staging: Staging | None = Staging(Path(path), overwrite=overwrite)
        self._path = self._staging.path
        try:
            self._root = self._create_group()
            self._create_group(layout.PARTITIONS)
            self._partitions = [
                self._array_writer(layout.partition_name(number)) for number in range(partitions)
            ]
        except BaseException:
            self.discard()
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

    def write(self, rows: ArrayLike, words: Iterable[str] | PackedWords | None = None) -> None:
        """Append rows; their ids count up from the last one. An error discards the store.

        Parameters
        ----------
        rows : array-like, shape (n, *row_shape)
            Floats are rounded to the store's dtype; a number that does not fit is an error.
        words : iterable of str, or PackedWords, n of them, optional
            Their words; all rows of a store have one, or none has.

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
            batch = np.asarray(rows)
            if batch.ndim == 0 or batch.shape[1:] != self._row_shape:
                expected = ", ".join(["n", *map(str, self._row_shape)])
                raise ValueError(f"rows have shape {batch.shape}, expected ({expected})")
            batch = self._enter_words(cast_rows(batch, self._dtype), words)
            start, stop = self.rows_written, self.rows_written + len(batch)
            if self._announced is not None and stop > self._announced:
                raise SourceError(f"{stop} rows written, but {self._announced} were announced")
            for partition, piece in self._partitioning.spread(start, stop):
                self._partitions[partition].append(batch[piece])
            self.rows_written = stop
        except BaseException:
            self.discard()
            raise

    def publish(self) -> None:
        """Finish the store and put it in its place. An error discards the store.

        Raises
        ------
        SourceError
            If fewer rows came than were announced, or the unk word is not among the words.
        """
        staging = self._check_open()
        try:
            if self.short_of_rows:
                raise SourceError(
                    f"{self.rows_written} rows written, but {self._announced} were announced"
                )
            unk = self._find_unk()
            if not self._settled and not any(p.has_chunks for p in self._partitions):
                # Nothing is on disk yet: choose the chunk by the number of rows that came.
                self._chunk_rows = self._choose_chunk_rows(self.rows_written)
            while self._partitions:  # Each takes its buffer with it.
                self._partitions.pop().finish(self._chunk_rows)
            manifest = self._manifest(self.rows_written, unk, self._write_vocabulary())
            attribute = {layout.ATTRIBUTE: seal(self._path, manifest)}
            self._thread.run(lambda: self._root.attrs.update(attribute))
            self._thread.close()
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
            self._thread.close()
            self._staging.discard()
            self._staging = None

    def _check_open(self) -> Staging:
        if self._staging is None:
            raise ValueError("this StoreWriter has published or discarded its store already")
        return self._staging

    def _choose_chunk_rows(self, rows: int) -> int:
        longest = -(-rows // self._partitioning.partition_count)
        return layout.choose_chunk_rows(longest, self._row_bytes, self._max_chunk_bytes)

    def _array_writer(self, name: str) -> ArrayWriter:
        return ArrayWriter(
            self._path, name, self._row_shape, self._dtype, self._chunk_rows, self._thread
        )

    def _create_group(self, name: str = "") -> zarr.Group:
        return self._thread.run(lambda: create_group(self._path / name))

    def _enter_words(
        self, batch: NDArray[Any], words: Iterable[str] | PackedWords | None
    ) -> NDArray[Any]:
        """Give the batch's words their ids; return the rows that stay."""
        if self.rows_written and (words is None) != (self._vocabulary is None):
            raise ValueError("all rows of a store have words, or none has")
        if words is None:
            return batch
        packed = words if isinstance(words, PackedWords) else pack(words)
        if len(packed) != len(batch):
            raise ValueError(f"{len(packed)} words for {len(batch)} rows")
        self._vocabulary = self._vocabulary or VocabularyBuilder()
        before = len(self._vocabulary)
        ids = self._vocabulary.add(packed)
        # A word is new where its id is above all ids before it.
        highest = np.maximum.accumulate(np.concatenate([[before - 1], ids[:-1]]))
        keep = ids > highest[: len(ids)]
        if keep.all():
            return batch
        if self._on_duplicate == "error":
            position = int(np.flatnonzero(~keep)[0])
            word = packed.encoded()[position].decode()
            raise DuplicateWordError(word, position, int(ids[position]))
        self.duplicate_count += int((~keep).sum())
        return batch[keep]

    def _write_vocabulary(self) -> VocabularyManifest | None:
        if self._vocabulary is None:
            return None
        self._create_group(layout.VOCABULARY)
        sizes = {}
        for part, data in self._vocabulary.arrays().items():
            chunk_rows = layout.choose_chunk_rows(len(data), data.itemsize)
            name = layout.vocabulary_name(part)
            writer = ArrayWriter(self._path, name, (), data.dtype, chunk_rows, self._thread)
            writer.append(data)
            writer.finish()
            sizes[part] = ArraySize(len(data), chunk_rows)
        return VocabularyManifest(self._vocabulary.probe_count, sizes)

    def _find_unk(self) -> str | None:
        if self._vocabulary is None:
            if self._unk is not None:
                raise SourceError(f"unk is {self._unk!r}, but the rows have no words")
            return None
        candidates = UNK_WORDS if self._unk is None else (self._unk,)
        found = self._vocabulary.ids(pack(candidates, "surrogatepass"))
        for word, known in zip(candidates, found.tolist(), strict=True):
            if known >= 0:
                return word
        if self._unk is not None:
            raise SourceError(
                f"the unk word {self._unk!r} is not among the {len(self._vocabulary)} words; "
                "name another, or leave it out to look for the usual ones"
            )
        return None

    def _manifest(
        self, rows: int, unk: str | None = None, vocabulary: VocabularyManifest | None = None
    ) -> Manifest:
        return Manifest(
            rows=rows,
            row_shape=self._row_shape,
            dtype=self._dtype,
            partition_count=self._partitioning.partition_count,
            strategy=self._partitioning.strategy,
            chunk_rows=self._chunk_rows,
            unk=unk,
            vocabulary=vocabulary,
            source=self.source,
            created_by=f"embstore {__version__}",
        )
