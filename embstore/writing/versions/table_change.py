"""A change of a table: rows and words that are appended or replaced become its next version.

1. The store is locked and opened (`embstore.writing.versions.next_version`).
2. Batches of rows are converted as a build does it, their words are looked up, and the rows are
   passed on (`embstore.writing.versions.changed_rows`, `embstore.writing.versions.pending_rows`).
3. The fingerprint of the next version is that of the old one, with the sums of the rows that change
   subtracted and added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.attributes.stored import add_attributes
from embstore.attributes.values import chosen
from embstore.dtypes import has_masked, storage_dtype
from embstore.encodings.named import parse_encoding
from embstore.encodings.scaled import Scaled
from embstore.errors import FormatError, MissingWordError, SourceError
from embstore.formats.own import spec
from embstore.formats.own.row_sums import RowSums
from embstore.version import __version__
from embstore.vocabulary.words import hash_words
from embstore.wording import either, function, option, shape_text
from embstore.writing.conversion import conversion_to
from embstore.writing.table_sums import TableSums
from embstore.writing.versions.change_facts import change_facts
from embstore.writing.versions.changed_rows import ChangedRows
from embstore.writing.versions.grown_attributes import GrownAttributes
from embstore.writing.versions.next_version import NextVersion
from embstore.writing.versions.pending_rows import PendingRows
from embstore.writing.words.first_words import FirstWords
from embstore.writing.words.grown_vocabulary import GrownVocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Literal

    from numpy.typing import NDArray

    from embstore.encodings.casting import OnOverflow
    from embstore.table.protocols import Encoding
    from embstore.vocabulary import Vocabulary
    from embstore.vocabulary.words import PackedWords
    from embstore.writing.words.new_words import OnDuplicate

    Kind = Literal["append", "update", "upsert"]

WORDS_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class Cost:
    """What a change did, and what it cost; see `embstore.ChangeReport`."""

    rows_appended: int
    rows_replaced: int
    chunks_rewritten: int
    chunks_linked: int
    bytes_written: int
    fingerprint: str
    chunk_rows: int


class TableChange:
    """A change of the table in a store.

    `close` removes what was written, unless `publish` came before.

    Parameters
    ----------
    path : Path
        The store.
    kind : {"append", "update", "upsert"}
        What is done with rows.
    memory_bytes : int
        The most memory to use.
    dry : bool
        Whether to write nothing.

    Attributes
    ----------
    manifest : Manifest
        That of the old version.
    rows_appended, rows_replaced, duplicate_count : int
        Rows so far; those of the last kind were dropped.
    """

    def __init__(self, path: Path, kind: Kind, *, memory_bytes: int, dry: bool = False) -> None:
        self._kind = kind
        self._version = NextVersion(path, memory_bytes=memory_bytes, dry=dry)
        self.manifest = self._version.manifest
        self.rows_appended = self.rows_replaced = self.duplicate_count = 0
        self._rows: ChangedRows | None = None
        self._pending: PendingRows | None = None
        # Made for the first words.
        self._words: GrownVocabulary | FirstWords | None = None
        self._attributes: GrownAttributes | None = None
        if not self.manifest.row_bytes:
            self.close()
            raise FormatError(
                f"{path} has rows of shape {shape_text(self.manifest.row_shape)}, without numbers, "
                "and cannot be changed; build the store again"
            )

    def close(self) -> None:
        """Remove what was written, unless it is published; the store does not change."""
        self._version.close()
        for held in (self._rows, self._pending, self._words, self._attributes):
            if held is not None:
                held.close()

    @property
    def wanted_encoding(self) -> str | None:
        """The name of the encoding that rows may have already; ``"plain"`` for plain rows."""
        return "plain" if self.manifest.encoding is None else self.manifest.encoding.name

    def start(
        self,
        *,
        encoding: Encoding | None,
        on_overflow: OnOverflow,
        on_duplicate: OnDuplicate = "error",
        estimated_rows: int = 0,
    ) -> None:
        """Get ready for rows.

        Parameters
        ----------
        encoding : Encoding or None
            The encoding of the rows that will come; None for numbers, or for records of an encoding
            that embstore does not make of numbers.
        on_overflow : {"error", "inf"}
            As for `embstore.build`.
        on_duplicate : {"error", "first"}
            What to do with a word that comes again.
        estimated_rows : int
            An estimate of the number of rows, 0 if unknown.

        Raises
        ------
        SourceError
            If rows of this encoding cannot become rows of the store.
        """
        manifest, version = self.manifest, self._version
        found = manifest.encoding
        given: str | Encoding | None = None
        if found is not None:
            if encoding is not None and encoding != found:
                raise SourceError(
                    f"the rows are stored as {encoding.name}, those of the store as {found.name} "
                    "with other parameters; build a plain store of them, and take that"
                )
            is_record = encoding is not None or not _is_made(found, manifest.row_shape)
            given = found if is_record else found.name
        self._conversion = conversion_to(
            given, found, manifest.row_shape, manifest.dtype, on_overflow
        )
        self._on_duplicate = on_duplicate
        replaces = self._kind != "append"
        self._rows = ChangedRows(version, estimated_rows=estimated_rows, replaces=replaces)
        if replaces:
            self._pending = PendingRows(
                manifest.row_bytes,
                self._rows.places,
                version.memory.vocabulary_bytes // 2,
                version.directory,
            )
        self._sums = TableSums(version.background)
        self._attributes = GrownAttributes(
            manifest,
            version.attributes,
            version,
            memory_bytes=version.memory.attribute_bytes,
            directory=version.directory,
        )
        if self._kind == "append":
            self._check_grows()

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of the old version.

        Raises
        ------
        MissingWordError
            If there are none.
        """
        if self._version.vocabulary is None:
            raise MissingWordError("the store has no words; give ids")
        return self._version.vocabulary

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row to write: of a record, where rows are encoded already."""
        return self._conversion.row_shape

    @property
    def rows_text(self) -> str:
        """What rows to write must be, for messages."""
        found, shape = self.manifest.encoding, self.row_shape
        if found is None or shape == self.manifest.row_shape:
            return f"rows of shape {shape_text(shape)}, as those of the store"
        return (
            f"records of {found.name}, as the store keeps them: uint8, shape {shape_text(shape)} "
            f"(lookup gives them with {option('raw', True)})"
        )

    def write(
        self,
        rows: Any,
        words: Iterable[str] | PackedWords | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Append rows, shape (n, *row_shape); in an upsert, those of known words replace others.

        The rows must not change until the change is published.

        Raises
        ------
        DuplicateWordError
            If a word is repeated, or in an append is known.
        RowError
            If a number does not fit into the store's dtype, or a value into its attribute's.
        ValueError, TypeError
            If the rows have another shape or are not numbers, or words or attributes are missing.
        """
        assert self._attributes is not None
        kept = self._convert(rows)
        values = self._attributes.settle(attributes, len(kept))
        if self._words is None and self._takes_words(words):
            self._words = self._grown_vocabulary()
        if self._words is None:
            self._append(kept)
            self._attributes.append(values, np.ones(len(kept), np.bool_))
            return
        entered = self._words.enter(words, len(kept))
        if (known := entered.is_known).any():
            assert self._pending is not None
            self._pending.append(entered.ids[known], kept[known])
            replaced = {name: chosen(some, known) for name, some in values.items()}
            self._attributes.replace(entered.ids[known], replaced)
            self.rows_replaced += int(known.sum())
        new = entered.is_new
        self.duplicate_count += int((~(known | new)).sum())
        self._append(kept if new.all() else kept[new])
        self._attributes.append(values, new)

    def replace(
        self,
        ids: NDArray[np.int64],
        rows: Any = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Replace the rows of ids, shape (n,), which are in range, or values of some attributes.

        What is not given stays as it is. All calls give the same.

        Raises
        ------
        RowError, ValueError, TypeError
            As `write`.
        """
        assert self._pending is not None
        assert self._attributes is not None
        if attributes:
            self._attributes.replace(ids, self._attributes.settle_some(attributes, len(ids)))
        if rows is not None:
            kept = self._convert(rows)
            if len(ids) != len(kept):
                raise ValueError(f"{len(kept)} rows for {len(ids)} ids; give one for each id")
            self._pending.append(ids, kept)
        self.rows_replaced += len(ids)

    def publish(self, facts: dict[str, Any]) -> Cost:
        """Finish the next version, and put it in the place of the old one.

        Without a row, there is no new version.

        Parameters
        ----------
        facts : dict
            Where the rows came from, for the store's ``source``; JSON values.

        Raises
        ------
        ValueError
            If a row is replaced twice.
        StoreCorruptError, OSError
            If the old version is damaged, or the disk fails; see `embstore.StoreWriter.publish`.
        """
        rows, old, version = self._rows, self.manifest, self._version
        attributes = self._attributes
        assert rows is not None
        assert attributes is not None
        if not self.rows_appended and not self.rows_replaced:
            return Cost(0, 0, 0, 0, 0, self._old_fingerprint(), old.chunk_rows)
        if self._pending is not None:
            self._pending.settle()
        attributes.check()
        rows.finish(self._pending)
        version.finish_arrays()  # The disk has work while words are written.
        vocabulary, unk = old.vocabulary, old.unk
        if self._words is not None and self._words.new_count:
            _, vocabulary = self._words.write()
        if isinstance(self._words, FirstWords):
            unk = self._words.find_unk()
        facts = facts | self._conversion.facts() | {"rows": self.rows_appended + self.rows_replaced}
        manifest = replace(
            old,
            rows=old.rows + self.rows_appended,
            chunk_rows=rows.chunk_rows,
            vocabulary=vocabulary,
            unk=unk,
            attributes=attributes.write(),
            chunks_at_rewrite=rows.growth(),
            source=change_facts(old.source, self._kind, facts),
            created_by=f"embstore {__version__}",
        )
        sums = self._old_sums()
        version.finish_arrays()
        version.background.wait_until_written()  # The sums are those of the thread that writes.
        sums.merge(rows.sums)
        sums.merge(self._sums.total())
        sums.merge(attributes.sums)
        first = old.rows
        for hashes in self._words.hashes() if self._words is not None else ():
            sums.add_words(hashes, first)
            first += len(hashes)
        manifest = replace(manifest, fingerprint=sums.fingerprint(manifest.heading))
        version.publish(manifest)
        assert manifest.fingerprint is not None
        return Cost(
            self.rows_appended,
            self.rows_replaced,
            version.chunks_rewritten,
            version.chunks_linked,
            version.bytes_written,
            manifest.fingerprint,
            manifest.chunk_rows,
        )

    def _convert(self, rows: Any) -> NDArray[Any]:
        """Return rows as the store keeps them."""
        if has_masked(rows):
            raise TypeError("rows have masked numbers; replace them with .filled(value)")
        batch, row_shape = np.asarray(rows), self._conversion.row_shape
        if batch.ndim == 0 or batch.shape[1:] != row_shape:
            raise ValueError(
                f"an array of shape {shape_text(batch.shape)} is given, expected {self.rows_text}"
            )
        stored, _ = self.manifest.stored
        return self._conversion.convert(batch).view(storage_dtype(stored))

    def _takes_words(self, words: object) -> bool:
        """Return whether rows have words; raise if the store has none and these have."""
        if self.manifest.vocabulary is not None:
            return True
        if words is not None and not self.manifest.rows and not self.rows_appended:
            return True
        if words is not None:
            raise SourceError(
                "the rows have words, but those of the store have none; leave the words out "
                f"({option('word_column', '')} for a table), or build a store of all rows with "
                "their words"
            )
        if self._kind == "upsert":
            raise SourceError(
                "the store has no words, so no row can be replaced by its word; use "
                f"{function('update')} with ids, and {function('append')} for new rows"
            )
        return False

    def _grown_vocabulary(self) -> GrownVocabulary | FirstWords:
        version, sizes = self._version, self.manifest.vocabulary
        # The rest of this share is for rows that replace others.
        share = version.memory.vocabulary_bytes
        if sizes is None or version.vocabulary is None:
            return FirstWords(
                version,
                memory_bytes=share if self._pending is None else share // 2,
                directory=version.directory,
                on_duplicate=self._on_duplicate,
            )
        return GrownVocabulary(
            version.vocabulary,
            sizes,
            version,
            memory_bytes=share if self._pending is None else share // 2,
            directory=version.directory,
            on_duplicate=self._on_duplicate,
            replace=self._kind == "upsert",
        )

    def _check_grows(self) -> None:
        """Raise if rows cannot be appended without moving others."""
        if self.manifest.strategy == "div" and self.manifest.partition_count > 1:
            raise ValueError(
                f"the store is cut by div into {self.manifest.partition_count} partitions, so "
                "nearly all rows would move if some were appended; first "
                + either(
                    'build it from itself with strategy="mod" and overwrite=True',
                    "give it the strategy mod: embstore repartition --strategy mod --overwrite",
                )
            )

    def _append(self, rows: NDArray[Any]) -> None:
        assert self._rows is not None
        if not len(rows):
            return
        self._check_grows()
        start = self.manifest.rows + self.rows_appended
        if start + len(rows) > spec.MAX_ROWS:
            raise SourceError(f"a table has at most {spec.MAX_ROWS} rows")
        self.rows_appended += len(rows)
        self._sums.append(rows, start, copy=False)
        self._rows.append(rows, start, copy=False)

    def _old_fingerprint(self) -> str:
        return self.manifest.fingerprint or self._old_sums().fingerprint(self.manifest.heading)

    def _old_sums(self) -> RowSums:
        """Return the sums of the old version; without a fingerprint, all of it is read."""
        old = self.manifest
        if old.fingerprint is not None:
            return RowSums.of_fingerprint(old.fingerprint, old.heading)
        sums, version = RowSums(), self._version
        for partition in range(old.partition_count):
            array, _ = version.array(spec.partition_name(partition))
            ids = old.numbering.ids_of(partition)
            for chunk in range(array.chunk_count):
                for piece in version.read_chunk(array, chunk):
                    sums.add(piece, ids[: len(piece)])
                    ids = ids[len(piece) :]
        if version.vocabulary is not None:
            for start in range(0, old.rows, WORDS_AT_ONCE):
                stop = min(start + WORDS_AT_ONCE, old.rows)
                words = version.vocabulary.packed(start, stop)
                sums.add_words(hash_words(words.encoded()), start)
        add_attributes(sums, version.attributes, old.rows)
        return sums


def _is_made(encoding: Encoding, row_shape: tuple[int, ...]) -> bool:
    """Return whether rows of numbers can become records of an encoding."""
    if not isinstance(encoding, Scaled):
        return False
    try:
        return parse_encoding(encoding.name, row_shape) == encoding
    except ValueError:
        return False
