"""The open store: lookups by id and by word, scans, and facts about the table.

A lookup checks the ids, finds their rows in the columns, and fills the result with the records in
request order. A lookup by word first finds the ids in the vocabulary.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embstore.array_mixin import ArrayMixin
from embstore.attribute_mixin import AttributeMixin
from embstore.encodings.plain import Plain
from embstore.errors import (
    FormatError,
    IdRangeError,
    StoreClosedError,
)
from embstore.follow_mixin import FollowMixin
from embstore.formats.own.spec import partition_name
from embstore.identity_mixin import IdentityMixin
from embstore.lookup_mixin import LookupMixin
from embstore.notebook import as_html, facts_of, title_of
from embstore.reading.cached import CachedRecords
from embstore.reading.consecutive import gather, gathered_blocks, is_gathered, window_rows
from embstore.reading.encoded import EncodedRecords
from embstore.reading.forms import forms_of
from embstore.reading.results import POOL
from embstore.settle import as_count
from embstore.similar_mixin import SimilarMixin
from embstore.table.given import plain
from embstore.table.partial import PartialNumbering
from embstore.table.row_functions import rows_function
from embstore.view import StoreView
from embstore.vocabulary.given import are_words
from embstore.word_mixin import WordMixin
from embstore.wording import function

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import zarr
    from gensim.models import KeyedVectors
    from numpy.typing import NDArray

    from embstore.attributes.stored import StoredColumn
    from embstore.following import Watch
    from embstore.formats.own.manifest import Manifest
    from embstore.reading.forms import AnyRecords, Forms
    from embstore.reading.incore import Residency
    from embstore.reading.mapped import MappedRecords
    from embstore.reading.short_path import Few
    from embstore.reading.stats import LookupStats
    from embstore.table.numbering import Strategy
    from embstore.table.protocols import Files, Visit
    from embstore.table.tables import Table
    from embstore.vocabulary import Vocabulary

# Fewer consecutive rows of each partition are not announced ahead.
ANNOUNCED_ROWS = 64


class EmbeddingStore(
    LookupMixin, WordMixin, AttributeMixin, ArrayMixin, SimilarMixin, IdentityMixin, FollowMixin
):
    """An embedding table on disk; made by `embstore.open` and `embstore.build`.

    Lookups may come from many threads, and from a forked child. A store is a context manager. It
    never changes: a build or a change that replaces it does not affect an open one. `reload` opens
    the newest version. A store is pickled and copied by its path, and the copy raises
    `StoreChangedError` if another table is there by then.

    ``store[3]`` is a row, ``store["like"]`` that of a word; ``store[ids, columns]`` is what it is
    for an ndarray, by one lookup, but an id is never counted from the end. ``np.asarray(store)``
    reads all rows.

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
    >>> store[:5, -1].shape, store[["like", "the"], :3].shape
    ((5,), (2, 3))
    """

    def __init__(
        self,
        path: Path | str,
        table: Table,
        files: Files,
        records: AnyRecords,
        recipe: tuple[Callable[..., EmbeddingStore], tuple[Any, ...]],
        *,
        manifest: Manifest | None = None,
        vocabulary: Vocabulary | None = None,
        attributes: Mapping[str, StoredColumn] | None = None,
        source: dict[str, Any] | None = None,
        watch: Watch | None = None,
        open_newest: Callable[[], EmbeddingStore] | None = None,
    ) -> None:
        self._path = path
        self._watch, self._open_newest = watch, open_newest
        self._table = table
        self._numbering = table.numbering
        self._rows_of = rows_function(table.numbering)
        self._row_of = table.numbering.row_of
        self._encoding = table.encoding
        self._rows = table.numbering.rows
        self._row_shape = table.encoding.row_shape
        self._dtype = table.encoding.dtype
        self._records: AnyRecords | None = records
        self._forms: Forms | None = forms_of(records, table)
        # Functions for one id, and for at most `_few_ids`; None where records have no short path.
        short = self._forms.default.short
        self._one, self._few, self._few_ids = short.one, short.few, short.most
        self._warm, self._joint = short.warm, short.joint
        self._fews: dict[str, Few] = {}
        self._few_raw: Few | None = None
        self._leave_pool = POOL.join(self)
        self._recipe = recipe  # Opens the store again when it is unpickled.
        self._manifest = manifest  # None for a foreign file.
        self._fingerprint = None if manifest is None else manifest.fingerprint
        self._source = dict(manifest.source if manifest is not None else source or {})
        self._vocabulary = vocabulary
        self._columns: Mapping[str, StoredColumn] | None = dict(attributes or {})
        self._files = files
        self._identity = files.identity

    def residency(self) -> Residency:
        """Return how much of the table is in memory: in the page cache, mapped, and copied.

        Examples
        --------
        >>> store.residency().table_bytes
        352
        """
        records = self._open_records()
        numbering = self._numbering
        rows = numbering.present_rows if isinstance(numbering, PartialNumbering) else self._rows
        found = records.residency(rows)
        if records.file_cache is None:
            return found
        return replace(found, file_cache_bytes=records.file_cache.cached_bytes())

    def scan(
        self, visit: Visit, start: int = 0, stop: int | None = None, *, raw: bool = False
    ) -> None:
        """Pass all rows, or those of consecutive ids, to a function, block by block.

        For work on the whole table, such as a search. Memory stays bounded, and blocks that are not
        in RAM are read ahead. Scans are not counted in `stats`.

        Parameters
        ----------
        visit : callable
            Called with the ids of a block, a ``range``, and their rows, a read-only ndarray of
            shape ``(n, *row_shape)``. Calls come in any order, from several threads at a time.
            A block is of one partition, or of many that have only a few of the rows.
        start, stop : int, optional
            First id, and the one after the last; by default all ids.
        raw : bool
            Whether to pass the bytes of rows as they are stored, as `lookup` returns them.

        Raises
        ------
        IdRangeError
            If ``start`` or ``stop`` is out of range.
        TypeError
            If they are not integers.

        Examples
        --------
        >>> norms = np.zeros(len(store))
        >>> def visit(ids, rows):
        ...     norms[ids.start : ids.stop : ids.step] = np.linalg.norm(rows, axis=1)
        >>> store.scan(visit)
        >>> store.words(norms.argmax())
        'national'
        """
        form = self._form(None, raw=raw)
        records = form.records
        start, stop = self._as_bounds(start, self._rows if stop is None else stop)
        numbering, encoding = self._numbering, self._encoding
        if is_gathered(form, numbering, start, stop):
            for ids, block in gathered_blocks(form, numbering, start, stop):
                block.flags.writeable = False
                visit(ids, block)
            return
        plain = None
        if isinstance(encoding, Plain) and not records.decodes and not raw:
            plain = encoding

        def show(rows: range, some: NDArray[Any]) -> None:
            block = some[:] if plain is None else plain.view(some)
            block.flags.writeable = False
            visit(numbering.ids_at(rows), block)

        records.scan_ranges(numbering.row_ranges(start, stop), show)

    def _fill_all(self, rows: NDArray[Any]) -> None:
        self._fill(0, rows)

    def _window_rows(self, block_rows: int, row_bytes: int) -> int:
        return window_rows(self._numbering, block_rows, row_bytes)

    def _fill(self, start: int, rows: NDArray[Any], *, raw: bool = False) -> None:
        """Fill ``rows``, shape (n, *row_shape), with those of the ids from ``start`` on."""
        form, stop = self._form(None, raw=raw), start + len(rows)
        if rows.dtype == form.dtype and is_gathered(form, self._numbering, start, stop):
            gather(form, self._numbering, start, rows)
            return

        def put(ids: range, found: NDArray[Any]) -> None:
            rows[ids.start - start : ids.stop - start : ids.step] = found

        self.scan(put, start, stop, raw=raw)

    def _announce(self, start: int, stop: int) -> None:
        records = self._open_records()
        # Of fewer rows in each partition, announcing takes longer than it saves.
        if stop - start >= ANNOUNCED_ROWS * self._numbering.partition_count:
            records.announce_ranges(self._numbering.row_ranges(start, stop))

    def stats(self) -> LookupStats:
        """Return the counts of lookups and reads since the store was opened.

        Examples
        --------
        >>> with embstore.open("words.embstore") as fresh:
        ...     _ = fresh.lookup([0, 5, 7])
        ...     fresh.stats().rows
        3
        """
        records = self._open_records()
        found = records.stats.snapshot()
        if self._files.is_remote:
            found = replace(found, request_count=self._files.request_count)
        if records.file_cache is not None:
            found = replace(found, **records.file_cache.counts())
        if records.cache is None:
            return found
        rows, hits = records.cache.lookups()
        return replace(found, row_cache_rows=rows, row_cache_hits=hits)

    def view(self, start: int, stop: int) -> StoreView:
        """Return a view of the ids ``start .. stop - 1``, for a process that has only these.

        Such as a rank of a model whose table is split. Ids stay those of the whole table, and
        nothing is copied.

        Parameters
        ----------
        start, stop : int
            First id, and the one after the last.

        Raises
        ------
        IdRangeError
            If ``start`` or ``stop`` is out of range.
        TypeError
            If they are not integers.

        Examples
        --------
        >>> store.view(0, 6).lookup([7, 1], outside="zeros").any(axis=1)
        array([False,  True])
        """
        self._open_records()
        return StoreView(self, *self._as_bounds(start, stop))

    def to_gensim(self) -> KeyedVectors:
        """Return all words and rows in RAM, as gensim's ``KeyedVectors``.

        Rows of other floats or integers become float32, what gensim computes with. Attributes go
        along, as gensim's ``get_vecattr`` gives them.

        Raises
        ------
        ImportError
            If gensim is not installed.
        ExportError
            If the store has no words, its rows are not vectors, or float32 cannot hold its numbers.
        """
        # Imported here because only this needs gensim.
        from embstore.sinks.gensim import to_keyed_vectors  # noqa: PLC0415

        return to_keyed_vectors(self)

    def partition(self, partition: int) -> zarr.Array[Any]:
        """Return one partition as a read-only ``zarr.Array``, shape ``(its rows, *row_shape)``.

        The array reads the files under `path` when it is indexed, even after this store is closed.
        For a store of bfloat16 or float8 it is of uint16 or uint8, the bits of the numbers, because
        zarr lacks these dtypes. For encoded rows it is of uint8, shape (its rows, `record_bytes`).

        Raises
        ------
        IndexError
            If ``partition`` is not in ``0 .. partition_count - 1``.
        TypeError
            If it is not an integer.
        FormatError
            If this is a foreign file, which is not a Zarr array.
        StoreNotFoundError
            If the store on disk was replaced or removed since this one was opened.
        """
        # Imported here because opening and lookups must not wait for the import of zarr (0.4 s).
        import zarr  # noqa: PLC0415

        self._open_records()
        try:
            number = as_count(partition, "partition", high=self.partition_count - 1)
        except ValueError as error:
            raise IndexError(str(error)) from error
        self._own("partitions that are Zarr arrays")
        if number not in self.partitions:
            raise IndexError(
                f"partition {number} was not opened; only {', '.join(map(str, self.partitions))} "
                "were"
            )
        self._files.check_identity(self._identity)
        return zarr.open_array(self.path / partition_name(number), mode="r")

    def close(self) -> None:
        """Release the files. Results of lookups stay valid; a further lookup raises an error."""
        self._records = self._forms = None
        self._one = self._few = self._few_raw = self._warm = self._joint = None
        self._fews.clear()
        self._vocabulary = self._columns = None
        self._leave_pool()

    @property
    def partition_count(self) -> int:
        """Number of partitions; 1 for a foreign file."""
        return self._numbering.partition_count

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions that were opened, by default all.

        Examples
        --------
        >>> with embstore.open("words.embstore", partitions=[1]) as part:
        ...     part.partitions, part.partition_count, part.lookup([1, 3]).shape
        ((1,), 2, (2, 8))
        """
        if isinstance(self._numbering, PartialNumbering):
            return self._numbering.present
        return tuple(range(self._numbering.partition_count))

    @property
    def strategy(self) -> Strategy:
        """How ids are split among partitions: ``"mod"`` or ``"div"``."""
        return self._numbering.strategy

    @property
    def files(self) -> Files:
        """The files that the rows are in."""
        return self._files

    @property
    def path(self) -> Path:
        """Path of the store or file, absolute.

        Raises
        ------
        FormatError
            If it is at a URL.
        """
        if isinstance(self._path, str):
            raise FormatError(f"{self._path} has no path; it has a url, and files")
        return self._path

    @property
    def location(self) -> str:
        """Path of the store or file, or its URL, as text."""
        return str(self._path)

    @property
    def url(self) -> str | None:
        """URL of the store or file, as it was opened; None for one at a path."""
        return self._path if isinstance(self._path, str) else None

    @property
    def source(self) -> dict[str, Any]:
        """Where the rows came from, and what the build found; a copy."""
        return deepcopy(self._source)

    @property
    def is_store(self) -> bool:
        """Whether this is a store; otherwise, a foreign file opened in place."""
        return self._manifest is not None

    @property
    def mapped(self) -> bool:
        """Whether rows come from a memory mapping; otherwise files are read when needed."""
        return self._open_records().mapped

    @property
    def encoding(self) -> str:
        """What a row is stored as: ``"plain"`` numbers, or the name of an encoding.

        Such as ``"float8_e4m3fn"``, with a scale for the row or for the table;
        ``"float8_e4m3fn:32"``, with a scale for every 32 numbers; ``"Q4_K"``.
        """
        return self._encoding.name

    @property
    def record_bytes(self) -> int:
        """Bytes of a row as it is stored; the length of what ``lookup(id, raw=True)`` returns."""
        return self._encoding.record_bytes

    @property
    def compression(self) -> str | None:
        """How the rows are compressed, such as ``"zstd:3"``; None if they are not."""
        found = None if self._manifest is None else self._manifest.compression
        return None if found is None else str(found)

    @property
    def chunk_rows(self) -> int:
        """Rows in a chunk.

        Raises
        ------
        FormatError
            If this is a foreign file, which has no chunks.
        """
        return self._own("chunks").chunk_rows

    def __getitem__(self, key: Any) -> NDArray[Any]:
        # One row has a path of its own: arrays for a single number would take most of its time.
        if type(key) is int and 0 <= key < self._rows:
            one = self._one
            return self._row(key) if one is None else one(key)
        # So has one word.
        if type(key) is str and (found := self.vocabulary.id_of(key)) >= 0:
            one = self._one
            return self._row(found) if one is None else one(found)
        return self._get(key)

    def _row(self, number: int) -> NDArray[Any]:
        """Return the row of an id that is in range."""
        if (one := self._one) is not None:
            return one(number)
        return self._open_records().take_one(self._row_of(number))

    def _get(self, key: Any) -> NDArray[Any]:
        """Return the rows of any index."""
        if isinstance(key, np.integer) and key.dtype.kind in "iu":  # Not a timedelta64.
            return self[int(key)]
        if isinstance(key, tuple):
            return self._pick(key)
        if key is Ellipsis or isinstance(key, slice):
            return self._slice(slice(None) if key is Ellipsis else key)
        if type(key) is not np.ndarray or key.dtype.kind not in "iu":
            key = plain(key)
            if are_words(key):
                return self.lookup_words(key)
        return self.lookup(key)[()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        words = f", {self.rows} words" if self.has_words else ""
        closed = ", closed" if self._records is None else ""
        stored = ""
        if self.encoding != "plain":
            scale = self._source.get("scale")
            stored = f" from {self.encoding}" + (f" times {scale}" if scale else "")
        parts = f"{self.partition_count} {self.strategy} partitions"
        if isinstance(self._numbering, PartialNumbering):
            parts = f"{len(self.partitions)} of {parts}"
        if self._manifest is None:
            parts = f"in {self._source['file']}"
        return (
            f"<EmbeddingStore {self.rows} rows of {self._row_shape} {self._dtype}{stored}, "
            f"{parts}{words}{closed}>"
        )

    def _repr_html_(self) -> str:
        return as_html(title_of(self), facts_of(self))

    def _open_forms(self) -> Forms:
        forms = self._forms
        if forms is None:
            self._open_records()
            raise StoreClosedError(f"the store {self._path} is closed; open it again")
        return forms

    def _open_records(self) -> AnyRecords:
        records = self._records
        if records is None:
            raise StoreClosedError(f"the store {self._path} is closed; open it again")
        return records

    def _mapped_records(self) -> MappedRecords | None:
        """Return the reader if it maps plain rows, for `embstore.interop`; else None."""
        records = self._open_records()
        if isinstance(records, EncodedRecords | CachedRecords) or not records.mapped:
            return None
        return records if isinstance(self._encoding, Plain) else None

    def _as_bounds(self, start: int, stop: int) -> tuple[int, int]:
        try:
            first = as_count(start, "start", high=self._rows)
            return first, as_count(stop, "stop", low=first, high=self._rows)
        except ValueError as error:
            raise IdRangeError(f"ids out of range for {self._rows} rows: {error}") from error

    def _own(self, what: str) -> Manifest:
        if self._manifest is None:
            raise FormatError(
                f"{self._path} is not a store, so it has no {what}; build one with "
                f"{function('build')}"
            )
        return self._manifest
