"""What a store has where rows have words: lookups by word, ids of words, and words of ids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from embstore.dtypes import check_zero
from embstore.errors import MissingWordError
from embstore.settle import as_choice
from embstore.table.ids import as_ids
from embstore.vocabulary.missing import Missing, MissingId, find_ids

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from embstore.formats.own.manifest import Manifest
    from embstore.vocabulary import Vocabulary
    from embstore.vocabulary.words import PackedWords

_MISSING, _MISSING_ID = get_args(Missing), get_args(MissingId)
_ZERO = np.int64(0)


class WordMixin(ABC):
    """Methods by word, on a table with `lookup` by id."""

    _path: Path | str
    _rows: int
    _row_shape: tuple[int, ...]
    _dtype: np.dtype[Any]
    _manifest: Manifest | None
    _vocabulary: Vocabulary | None

    @abstractmethod
    def lookup(self, ids: ArrayLike) -> NDArray[Any]:
        """Return the rows of ``ids``."""

    @abstractmethod
    def _row(self, number: int) -> NDArray[Any]:
        """Return the row of an id that is in range."""

    @abstractmethod
    def _as_bounds(self, start: int, stop: int) -> tuple[int, int]:
        """Return the bounds of consecutive ids, or raise."""

    @abstractmethod
    def _open_records(self) -> Any:
        """Raise if the store is closed."""

    @property
    def unk(self) -> str | None:
        """The word whose row stands for unknown words, if the store has one."""
        return None if self._manifest is None else self._manifest.unk

    @property
    def has_words(self) -> bool:
        """Whether rows have words."""
        return self._manifest is not None and self._manifest.vocabulary is not None

    @property
    def vocabulary(self) -> Vocabulary:
        """The words, for code that looks them up one by one.

        Raises
        ------
        MissingWordError
            If the store has no words.
        StoreClosedError
            If the store is closed.

        Examples
        --------
        >>> store.vocabulary.id_of("like"), store.vocabulary.id_of("zyzzyva")
        (1, -1)
        """
        # Read once: another thread may close the store in between.
        vocabulary = self._vocabulary
        if vocabulary is None:
            self._open_records()
            raise MissingWordError(f"the store {self._path} has no words; look up its rows by id")
        return vocabulary

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
            If a word is not a str, or the store's dtype has no zeros.

        Examples
        --------
        >>> store.lookup_words(["like", "zyzzyva"], missing="zeros")[1].tolist()
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        """
        missing = as_choice(missing, "missing", _MISSING)
        if isinstance(words, str) and (found := self.vocabulary.id_of(words)) >= 0:
            return self._row(found)
        if missing != "zeros":
            return self.lookup(self.ids(words, missing=missing))
        ids = np.asarray(self.ids(words, missing="none"))
        present = ids >= 0
        if present.all():
            return self.lookup(ids)
        check_zero(self._dtype, 'missing="zeros"')
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
        # One word has a path of its own: most of the time would go into everything around it.
        vocabulary = self._vocabulary
        if type(words) is str and isinstance(missing, str) and vocabulary is not None:
            found = vocabulary.id_of(words)
            if (found >= 0 and missing in _MISSING_ID) or missing == "none":
                return _ZERO + found  # type: ignore[return-value]  # A scalar, as documented.
        missing = as_choice(missing, "missing", _MISSING_ID)
        vocabulary = self.vocabulary
        return find_ids(words, vocabulary, missing, unk=self.unk, path=self._path)[()]

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
        vocabulary = self.vocabulary
        if type(ids) is int and 0 <= ids < self._rows:
            return vocabulary.word_of(ids)
        return vocabulary.words(as_ids(ids, self._rows))

    def packed_words(self, start: int, stop: int) -> PackedWords:
        """Return the words of the ids ``start .. stop - 1`` as UTF-8 bytes and offsets.

        For reading many words without a Python object for each.

        Raises
        ------
        IdRangeError
            If ``start`` or ``stop`` is out of range.
        TypeError
            If they are not integers.
        MissingWordError
            If the store has no words.

        Examples
        --------
        >>> store.packed_words(1, 4).encoded()
        [b'like', b'between', b'did']
        """
        vocabulary = self.vocabulary
        return vocabulary.packed(*self._as_bounds(start, stop))

    def __contains__(self, word: object) -> bool:
        # Most calls; a closed store has no vocabulary any more.
        vocabulary = self._vocabulary
        if type(word) is str and vocabulary is not None:
            return vocabulary.id_of(word) >= 0
        if not isinstance(word, str):
            raise TypeError(f"'in' needs a word, a str, not {type(word).__name__}")
        self._open_records()
        return self.has_words and self.vocabulary.id_of(word) >= 0
