"""A table on disk that is looked up like one in RAM.

A lookup goes: ids, checked; their physical rows; the reader, which fills the result in request
order. A lookup by word finds the ids in the vocabulary first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embstore.errors import IdRangeError, MissingWordError, StoreClosedError
from embstore.formats.own.fingerprint import fingerprint
from embstore.norms import check_max_norm, clip_norms
from embstore.reading.chunked import check_identity, identity, open_partition
from embstore.reading.results import ResultPool, check_out
from embstore.table.ids import as_ids
from embstore.table.plan import LookupPlan, plan_lookup
from embstore.vocabulary.missing import Missing, MissingId, find_ids
from embstore.vocabulary.vocabulary import are_words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import zarr
    from gensim.models import KeyedVectors
    from numpy.typing import ArrayLike, NDArray

    from embstore.formats.own.manifest import Manifest
    from embstore.reading import Reader, Visit
    from embstore.reading.stats import LookupStats
    from embstore.table.partitioning import Strategy
    from embstore.vocabulary import Vocabulary
    from embstore.vocabulary.words import PackedWords


class EmbeddingStore:
    """An embedding table on disk; made by `embstore.open` and `embstore.build`.

    Lookups may come from many threads. A store survives ``fork``, pickles by its path, and is a
    context manager. It never changes: a build that replaces it leaves an open one as it is.

    Examples
    --------
    >>> import embstore
    >>> store = embstore.open("words.embstore")
    >>> store
    <EmbeddingStore 11 rows of (8,) float32, 2 mod partitions, 11 words>
    >>> store["like"].shape, store[["like", "the"]].shape, store[[[0, 5], [7, 7]]].shape
    ((8,), (2, 8), (2, 2, 8))
    >>> store.ids(["like", "the", "country"]).tolist()
    [1, 0, 7]
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        reader: Reader,
        vocabulary: Vocabulary | None,
        recipe: tuple[Callable[..., EmbeddingStore], tuple[Any, ...]],
    ) -> None:
        self._path = path
        self._manifest = manifest
        self._rows = manifest.rows
        self._row_shape = manifest.row_shape
        self._dtype = manifest.dtype.newbyteorder("=")
        self._reader: Reader | None = reader
        self._results = ResultPool()
        self._recipe = recipe  # What opens the store again, for pickle.
        self._vocabulary = vocabulary
        self._identity = identity(path)

    def lookup(
        self,
        ids: ArrayLike,
        *,
        out: NDArray[Any] | None = None,
        max_norm: float | None = None,
    ) -> NDArray[Any]:
        """Return the rows of ``ids``, in request order.

        Parameters
        ----------
        ids : int or array-like of integers, any shape
            Ids in ``0 .. rows - 1``; repeats allowed.
        out : ndarray, shape ``ids.shape + row_shape``, of the store's dtype, optional
            Where to put the rows; C-contiguous.
        max_norm : float, optional
            Rows whose L2 norm exceeds it are scaled down to it, in the result only.

        Returns
        -------
        rows : ndarray, shape ``ids.shape + row_shape``
            ``out`` if it was given. The memory of up to two large results that are no more is kept
            for the next ones, until the store is closed.

        Raises
        ------
        IdTypeError
            If ``ids`` are not integers.
        IdRangeError
            If an id is negative, or not below the row count; it names the first one.
        ValueError, TypeError
            If ``out`` has another shape, dtype or memory order; if ``max_norm`` is not above 0, or
            rows are no floats.

        Examples
        --------
        >>> store.lookup([[1, 0], [7, 1]]).shape
        (2, 2, 8)
        """
        reader = self._open_reader()
        wide = as_ids(ids, self._manifest.rows)
        shape = wide.shape + self._row_shape
        if out is None:
            out = self._results.empty(shape, self._dtype)
        else:
            check_out(out, shape, self._dtype)
        if max_norm is not None:
            check_max_norm(max_norm, self._dtype)  # Before anything is in ``out``.
        reader.read(wide, out)
        if max_norm is not None:
            clip_norms(out, max_norm, len(self._row_shape))
        return out

    def lookup_words(self, words: Any, *, missing: Missing = "error") -> NDArray[Any]:
        """Return the rows of ``words``, in request order.

        Parameters
        ----------
        words : str, or (nested) sequence or array of str, any shape
            The words.
        missing : {"error", "unk", "zeros"}
            What to do with a missing word: raise, use the row of the store's unk word, or return
            zeros.

        Returns
        -------
        rows : ndarray, shape ``words.shape + row_shape``; ``row_shape`` for a str

        Raises
        ------
        MissingWordError
            If words are missing; if the store has no words or, under ``"unk"``, no unk word.
        TypeError
            If a word is not a str.

        Examples
        --------
        >>> store.lookup_words(["like", "zyzzyva"], missing="zeros")[1].tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        """
        if missing not in ("error", "unk", "zeros"):
            raise ValueError(f'missing must be "error", "unk" or "zeros", not {missing!r}')
        if isinstance(words, str) and (found := self._words().id_of(words)) >= 0:
            return np.asarray(self._open_reader().read_one(found))
        if missing != "zeros":
            return self.lookup(self.ids(words, missing=missing))
        ids = np.asarray(self.ids(words, missing="none"))
        present = ids >= 0
        if present.all():
            return self.lookup(ids)
        rows = np.zeros(ids.shape + self._row_shape, self._dtype)
        rows[present] = self.lookup(ids[present])
        return rows

    def ids(self, words: Any, *, missing: MissingId = "error") -> NDArray[np.int64]:
        """Return the ids of ``words``.

        Parameters
        ----------
        words : str, or (nested) sequence or array of str, any shape
            The words.
        missing : {"error", "unk", "none"}
            What to do with a missing word: raise, use the id of the store's unk word, or return
            -1, which every lookup refuses.

        Returns
        -------
        ids : ndarray of int64, the shape of ``words``; an int64 scalar for a str

        Raises
        ------
        MissingWordError, TypeError
            As `lookup_words`.

        Examples
        --------
        >>> store.ids([["like", "the"], ["day", "day"]]).tolist()
        [[1, 0], [6, 6]]
        >>> store.ids(["like", "zyzzyva"], missing="none").tolist()
        [1, -1]
        """
        if missing not in ("error", "unk", "none"):
            raise ValueError(f'missing must be "error", "unk" or "none" here, not {missing!r}')
        vocabulary = self._words()
        if isinstance(words, str) and (found := vocabulary.id_of(words)) >= 0:
            return np.int64(found)  # type: ignore[return-value]  # A scalar, as documented.
        unk = self._manifest.unk
        return find_ids(words, vocabulary, missing, unk=unk, path=self._path)[()]

    def words(self, ids: ArrayLike) -> Any:
        """Return the words of ``ids``: a str for one id, nested lists of str for an array.

        Raises
        ------
        IdTypeError, IdRangeError
            As `lookup`.
        MissingWordError
            If the store has no words.

        Examples
        --------
        >>> store.words([1, 0, 7])
        ['like', 'the', 'country']
        """
        vocabulary = self._words()
        return vocabulary.words(as_ids(ids, self._manifest.rows))

    def packed_words(self, start: int, stop: int) -> PackedWords:
        """Return the words of the ids ``start .. stop - 1`` as UTF-8 bytes and offsets.

        For reading all words of a table without an object for each.

        Raises
        ------
        IdRangeError
            If ``start`` or ``stop`` is out of range.
        MissingWordError
            If the store has no words.

        Examples
        --------
        >>> store.packed_words(1, 4).encoded()
        [b'like', b'between', b'did']
        """
        vocabulary = self._words()
        if not 0 <= start <= stop <= self._rows:
            raise IdRangeError(f"ids {start}:{stop} are out of range for {self._rows} rows")
        return vocabulary.packed(start, stop)

    def explain(self, ids: ArrayLike) -> LookupPlan:
        """Return what looking ``ids`` up would touch and read, without reading.

        Parameters
        ----------
        ids : int or array-like of integers, any shape

        Returns
        -------
        LookupPlan
            Printing it gives a table.
        """
        reader = self._open_reader()
        wide = as_ids(ids, self._manifest.rows)
        return plan_lookup(
            reader.numbering.number(wide),
            reader.numbering,
            row_bytes=self._manifest.row_bytes,
            page_bytes=reader.page_bytes,
        )

    def prefetch(self, ids: ArrayLike) -> None:
        """Start reading the rows of ``ids`` from the disk, and return; a later lookup finds them.

        Rows that are in memory already cost little. A reader that decodes chunks ignores it.

        Parameters
        ----------
        ids : int or array-like of integers, any shape
            The ids of a lookup to come, for example of the next batch.

        Raises
        ------
        IdTypeError, IdRangeError
            As `lookup`.

        Examples
        --------
        >>> store.prefetch([0, 5, 7])
        """
        reader = self._open_reader()
        reader.prefetch(as_ids(ids, self._manifest.rows).ravel())

    def scan(self, visit: Visit, start: int = 0, stop: int | None = None) -> None:
        """Show all rows, or those of consecutive ids, to a function, block by block.

        For what must see the whole table, such as a search: memory stays bounded, and blocks that
        are not in RAM are read ahead. It is not counted in `stats`.

        Parameters
        ----------
        visit : callable
            Called with the ids of a block, a ``range``, and their rows, read-only. Blocks come in
            any order, and from several threads at a time.
        start, stop : int, optional
            First id, and the one after the last; all by default.

        Raises
        ------
        IndexError
            If these are not ids of the table.

        Examples
        --------
        >>> norms = np.zeros(len(store))
        >>> def visit(ids, rows):
        ...     norms[ids.start : ids.stop : ids.step] = np.linalg.norm(rows, axis=1)
        >>> store.scan(visit)
        >>> store.words(norms.argmax())
        'national'
        """
        reader = self._open_reader()
        stop = self._rows if stop is None else stop
        if not 0 <= start <= stop <= self._rows:
            raise IndexError(f"ids {start} to {stop} are not within the {self._rows} of the store")
        reader.scan(start, stop, visit)

    def stats(self) -> LookupStats:
        """Return what was looked up and read since the store was opened.

        Examples
        --------
        >>> with embstore.open("words.embstore") as fresh:
        ...     _ = fresh.lookup([0, 5, 7])
        ...     fresh.stats().rows
        3
        """
        return self._open_reader().stats.snapshot()

    def to_numpy(self) -> NDArray[Any]:
        """Return all rows in RAM, in the order of their ids, shape `shape`.

        Examples
        --------
        >>> store.to_numpy().shape
        (11, 8)
        """
        from embstore.row_blocks import all_rows  # noqa: PLC0415

        return all_rows(self)

    def to_gensim(self) -> KeyedVectors:
        """Return all words and rows in RAM, as gensim's ``KeyedVectors``.

        Rows of bfloat16 or integers become float32, what gensim computes with.

        Raises
        ------
        ImportError
            If gensim is not installed.
        ExportError
            If the store has no words, its rows are no vectors, or float32 cannot hold its numbers.
        """
        # Imported here because only this needs gensim.
        from embstore.sinks.gensim import to_keyed_vectors  # noqa: PLC0415

        return to_keyed_vectors(self)

    def partition(self, partition: int) -> zarr.Array[Any]:
        """Return one partition as a read-only ``zarr.Array``, shape (its rows, *row_shape).

        The array reads the files under `path` when it is indexed, also after this store is closed.
        That of a bfloat16 store is of uint16, the numbers' bits, for zarr does not know bfloat16.

        Raises
        ------
        IndexError
            If there is no such partition.
        StoreNotFoundError
            If the store on disk was replaced or removed since this one was opened.
        """
        self._open_reader()
        if not 0 <= partition < self.partition_count:
            last = self.partition_count - 1
            raise IndexError(f"there is no partition {partition}: they count from 0 to {last}")
        check_identity(self._path, self._identity)
        return open_partition(self._path, partition)

    def fingerprint(self) -> str:
        """Return what tells this table from another one, wherever it lies: 32 hexadecimal digits.

        It is a hash of the store's shape and of its chunks' checksums; no rows are read for it.

        Raises
        ------
        StoreNotFoundError
            If the store on disk was replaced or removed since this one was opened.
        """
        self._open_reader()
        check_identity(self._path, self._identity)
        found = fingerprint(self._path, self._manifest)
        check_identity(self._path, self._identity)
        return found

    def close(self) -> None:
        """Let go of the files. Rows that were looked up stay; a further lookup is an error."""
        self._reader = None
        self._vocabulary = None
        self._results.forget()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole table: ``(rows, *row_shape)``."""
        return (self._manifest.rows, *self._row_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the rows."""
        return self._dtype

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._manifest.rows

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self._row_shape

    @property
    def partition_count(self) -> int:
        """Number of partitions."""
        return self._manifest.partition_count

    @property
    def strategy(self) -> Strategy:
        """How ids are dealt out to partitions: ``"mod"`` or ``"div"``."""
        return self._manifest.strategy

    @property
    def path(self) -> Path:
        """Where the store is, absolute."""
        return self._path

    @property
    def unk(self) -> str | None:
        """The word whose row stands for unknown words, if there is one."""
        return self._manifest.unk

    @property
    def source(self) -> dict[str, Any]:
        """Where the rows came from, and what its build found."""
        return dict(self._manifest.source)

    @property
    def has_words(self) -> bool:
        """Whether rows have words."""
        return self._manifest.vocabulary is not None

    @property
    def mapped(self) -> bool:
        """Whether rows come out of a memory mapping; otherwise, out of whole chunks, decoded."""
        return self._open_reader().page_bytes is not None

    @property
    def chunk_rows(self) -> int:
        """Rows in a chunk."""
        return self._manifest.chunk_rows

    def __len__(self) -> int:
        return self._manifest.rows

    def __contains__(self, word: object) -> bool:
        if not isinstance(word, str):
            raise TypeError(f"'in' asks for a word, a str, not {type(word).__name__}")
        self._open_reader()
        return self.has_words and self._words().id_of(word) >= 0

    def __getitem__(self, key: Any) -> NDArray[Any]:
        # One row has a path of its own: arrays for a single number would take most of its time.
        if type(key) is int and (reader := self._reader) is not None and 0 <= key < self._rows:
            return reader.read_one(key)
        # So has one word.
        if type(key) is str and (found := self._words().id_of(key)) >= 0:
            return self._open_reader().read_one(found)
        if isinstance(key, tuple):
            raise TypeError("a store takes one index; for several rows write store[[0, 5, 17]]")
        if isinstance(key, slice):
            # As of any sequence: open ends, steps and bounds beyond the end are fine.
            key = np.arange(*key.indices(self.rows))
        elif are_words(key):
            return self.lookup_words(key)
        return self.lookup(key)[()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        self._open_reader()
        return self._recipe

    def __repr__(self) -> str:
        words = f", {self.rows} words" if self.has_words else ""
        closed = ", closed" if self._reader is None else ""
        return (
            f"<EmbeddingStore {self.rows} rows of {self._row_shape} {self._dtype}, "
            f"{self.partition_count} {self.strategy} partitions{words}{closed}>"
        )

    def _open_reader(self) -> Reader:
        reader = self._reader
        if reader is None:
            raise StoreClosedError(f"the store {self._path} is closed; open it again")
        return reader

    def _words(self) -> Vocabulary:
        # In this order: another thread may close the store in between.
        vocabulary = self._vocabulary
        self._open_reader()
        if vocabulary is None:
            raise MissingWordError(f"the store {self._path} has no words; look up its rows by id")
        return vocabulary
