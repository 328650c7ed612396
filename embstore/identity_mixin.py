"""The identity of a store's table: fingerprints, and the checks of pickled and copied stores.

A pickled or copied store is its path and its identity. The copy opens the path again, and must find
the same table there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embstore.encodings.plain import Plain
from embstore.errors import (
    StoreChangedError,
    StoreCorruptError,
    StoreError,
    StoreNotFoundError,
)
from embstore.fingerprint import legacy_of_store, of_file, of_rows
from embstore.formats.own.checked_files import REBUILD
from embstore.formats.own.manifest import read_manifest
from embstore.reading.files import ForeignFiles
from embstore.table.partial import PartialNumbering
from embstore.verify import verify
from embstore.wording import shape_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from embstore.attributes.stored import StoredColumn
    from embstore.formats.own.manifest import Manifest
    from embstore.table.protocols import Files, Visit
    from embstore.table.tables import Table
    from embstore.vocabulary.words import PackedWords


class IdentityMixin(ABC):
    """Methods of a store that identify its table."""

    _path: Path | str
    _table: Table
    _files: Files
    _identity: object  # Of the files when the store was opened.
    _manifest: Manifest | None
    _fingerprint: str | None
    _columns: Mapping[str, StoredColumn] | None
    _recipe: tuple[Callable[..., Any], tuple[Any, ...]]

    @property
    @abstractmethod
    def unk(self) -> str | None:
        """The word whose row stands for unknown words."""

    @property
    @abstractmethod
    def has_words(self) -> bool:
        """Whether rows have words."""

    @abstractmethod
    def lookup(self, ids: ArrayLike, *, raw: bool = False) -> NDArray[Any]:
        """Return the rows of ``ids``."""

    @abstractmethod
    def packed_words(self, start: int, stop: int) -> PackedWords:
        """Return the words of consecutive ids."""

    @abstractmethod
    def scan(self, visit: Visit, *, raw: bool = False) -> None:
        """Pass all rows to a function, block by block."""

    @abstractmethod
    def _open_records(self) -> object:
        """Raise StoreClosedError if the store is closed."""

    def fingerprint(self, *, full: bool = False) -> str:
        """Return a short hash that identifies this table, wherever it is stored.

        Parameters
        ----------
        full : bool
            Whether to read all rows. The chunks of a store are then checked by their checksums. For
            a foreign file, the result is the fingerprint of the store that `embstore.build` would
            make of it by default.

        Returns
        -------
        str
            32 hexadecimal digits: a hash of the dtype, the row shape, the encoding, all rows and
            words, the unk word and the attributes. Encoded rows count as they are stored. The build
            stored it, and `embstore.verify` checks it. Partitions and chunks make no difference.
            For a foreign file, ``"f"`` and 32 digits: a hash of its size, start, dtype and shape,
            and of 4,096 rows at fixed places. It does not change when only other rows change.

        Raises
        ------
        StoreNotFoundError
            If files that have to be read were replaced or removed since the table was opened: with
            ``reader="chunked"``, or of a foreign file whose fingerprint was not asked for before.
        StoreCorruptError
            If ``full`` finds damage.
        ValueError
            If ``full``, and only some partitions were opened.
        FormatError
            If ``full``, and no store can keep the rows of a foreign file as they are encoded.

        Notes
        -----
        A store that was replaced keeps its fingerprint. With ``full``, its rows and words are then
        read from the mapping, and compared with the fingerprint.
        """
        self._open_records()
        if full and self._is_part:
            raise ValueError(
                "full=True reads all rows, but only some partitions were opened; "
                "embstore.verify(path, partitions=...) checks these"
            )
        if self._manifest is None:
            return self._of_foreign(full=full)
        if full:
            self._check_rows()
        if self._fingerprint is None:
            self._fingerprint = self._of_rows()
        return self._fingerprint

    def matches(self, fingerprint: str) -> bool:
        """Return whether a saved fingerprint is of this table.

        Parameters
        ----------
        fingerprint : str
            What `fingerprint` returned when it was saved. One of embstore 0.1, which depended on
            partitions, chunks and hash slots, matches if the store was not built again since.

        Raises
        ------
        StoreNotFoundError, StoreCorruptError
            As `fingerprint`; if the store is of embstore 0.1 and was replaced, or is damaged.

        Examples
        --------
        >>> store.matches(store.fingerprint()), store.matches(32 * "0")
        (True, False)
        """
        self._open_records()
        if self._is_part or self._manifest is None:
            return self.fingerprint() == fingerprint
        if fingerprint == self._fingerprint or self._matches_old(self._manifest, fingerprint):
            return True
        return self._fingerprint is None and self.fingerprint() == fingerprint

    @property
    def identity(self) -> object:
        """The identity of the table at little cost, for copies and caches.

        Of a store, its fingerprint, or a hash of all checksums where the manifest has none. Of a
        foreign file, its fingerprint and the sizes and modification times of its files.
        """
        if self._manifest is not None:
            return self._manifest.identity
        return self.fingerprint(), self._identity

    def __reduce__(self) -> tuple[Any, ...]:
        # The copy opens the path again, and must find the same table there. That is checked here
        # too, because a pool waits for ever for a worker that cannot unpickle its task.
        self._open_records()
        if self._manifest is None:
            self._files.check_identity(self._identity)
        elif self._files.identity != self._identity:
            assert isinstance(self._path, Path)  # Files at a URL are always the same.
            found = read_manifest(self._path)
            if found.identity != self.identity:
                raise StoreChangedError(
                    f"{self._path} is another table than the one that was opened: it has "
                    f"{found.rows} rows of {shape_text(found.row_shape)} {found.dtype} now. Open "
                    "it again, or put the old one back"
                )
        reopen, arguments = self._recipe
        return reopen, (*arguments, self.identity)

    def __dask_tokenize__(self) -> tuple[object, ...]:
        return type(self).__qualname__, self.identity

    def _matches_old(self, manifest: Manifest, fingerprint: str) -> bool:
        """Return whether a fingerprint is what embstore 0.1 gave this store."""
        if self._fingerprint is not None and self._files.is_remote:
            return False  # embstore 0.1 knew no stores at URLs.
        files: Any = self._files  # Those of a store.
        try:
            self._files.check_identity(self._identity)
            found = legacy_of_store(files, manifest)
            self._files.check_identity(self._identity)
        except StoreError:
            # The metadata that it was a hash of is gone. Only a store of embstore 0.1, which has no
            # other fingerprint, can have been known by it.
            if self._fingerprint is None or self._is_unchanged():
                raise
            return False
        return found == fingerprint

    def _check_rows(self) -> None:
        """Read all of a store, and raise an error if it is damaged."""
        if isinstance(self._path, Path) and self._is_unchanged():
            try:
                problems = verify(self._path).problems
            except StoreError:
                if self._is_unchanged():
                    raise
            else:
                if self._is_unchanged():
                    if problems:
                        raise StoreCorruptError(problems[0])
                    return
        computed = self._of_rows()
        if self._fingerprint not in (None, computed):
            raise StoreCorruptError(
                f"{self._path}: all that it holds has the fingerprint {computed}, but the "
                f"manifest says {self._fingerprint}: it is damaged; {REBUILD}"
            )

    def _of_foreign(self, *, full: bool) -> str:
        """Return the fingerprint of a foreign file; the one that is known, if it was replaced."""
        if not full and self._fingerprint is not None and self._files.is_remote:
            return self._fingerprint  # Every read is of the files that were opened.
        try:
            self._files.check_identity(self._identity)
            lookup = self.lookup if self._is_plain else partial(self.lookup, raw=True)
            found = self._of_rows() if full else of_file(self._table, self._files, lookup)
            self._files.check_identity(self._identity)
        except StoreNotFoundError:
            files = self._files
            is_kept = not isinstance(files, ForeignFiles) or not files.are_overwritten()
            if full or self._fingerprint is None or not is_kept:
                raise
            return self._fingerprint
        if not full:
            self._fingerprint = found
        return found

    def _of_rows(self) -> str:
        """Return the fingerprint of all rows, words and attributes, which are read."""
        words = self.packed_words if self.has_words else None
        scan = self.scan if self._is_plain else partial(self.scan, raw=True)
        return of_rows(self._table, scan, words, self.unk, self._columns)

    @property
    def _is_part(self) -> bool:
        return isinstance(self._table.numbering, PartialNumbering)

    @property
    def _is_plain(self) -> bool:
        return isinstance(self._table.encoding, Plain)

    def _is_unchanged(self) -> bool:
        """Return whether the files are those that were opened."""
        try:
            self._files.check_identity(self._identity)
        except StoreNotFoundError:
            return False
        return True
