"""A view of a store for code written for gensim's ``KeyedVectors``. gensim itself is not needed.

Names, arguments and results of the reading methods are those of gensim 4
(``gensim.models.KeyedVectors``); names that write raise TypeError, and say what to do instead
(``docs/gensim.md`` lists all). The view differs on purpose where gensim

* holds everything in RAM: here ``vectors``, ``key_to_index`` and ``index_to_key`` query the store,
  and comparisons with all vectors stream over them (``embstore.search``);
* leaves the order of equal similarities open: here the lower id comes first;
* turns a vector of zeros into nan when it scales it to length 1: here it stays zeros, and its
  similarity to any vector is 0; as a neighbour, its similarity is nan and it comes last, as there;
* ignores ``restrict_vocab`` in ``most_similar_cosmul``, and takes an int there as a number;
* names one missing key in its KeyError: here all are counted, and the first ones named.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import weakref
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import MissingWordError
from embstore.interop.gensim.evaluation import EvaluationMethods
from embstore.interop.gensim.expandos import Expandos
from embstore.interop.gensim.files import FileMethods
from embstore.interop.gensim.keys import KeyLookup, key_list
from embstore.interop.gensim.unchanging import Unchanging
from embstore.interop.gensim.vectors import Vectors
from embstore.interop.gensim.views import IndexToKey, KeyToIndex
from embstore.interop.stores import check_store
from embstore.norms import unit
from embstore.opening import open as open_store
from embstore.search.cosines import CosineSearch
from embstore.vocabulary.missing import missing_word
from embstore.writing.writer import StoreWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from embstore.interop.gensim.keys import Key
    from embstore.store import EmbeddingStore
    from embstore.vocabulary.missing import Missing


class KeyedVectors(EvaluationMethods, FileMethods, Unchanging):
    """The words and vectors of a store, with the interface of gensim's ``KeyedVectors``.

    A key is a word (str) or an id (int). Norms are computed when first needed, and kept in memory:
    four bytes a word.

    Parameters
    ----------
    store : EmbeddingStore
        A store with words, whose rows are vectors.

    Attributes
    ----------
    store : EmbeddingStore
        The store.
    key_to_index, index_to_key
        Views of the store: a mapping from words to ids, and a sequence of words.

    Raises
    ------
    TypeError
        If ``store`` is something else, such as a path.
    MissingWordError
        If the store has no words.
    ValueError
        If its rows are not vectors.

    Examples
    --------
    >>> from embstore.interop.keyedvectors import KeyedVectors
    >>> vectors = KeyedVectors(store)
    >>> vectors["like"].shape, vectors[["like", "the"]].shape, "like" in vectors
    ((8,), (2, 8), True)
    >>> [word for word, similarity in vectors.most_similar("day", topn=2)]
    ['just', 'the']
    """

    def __init__(self, store: EmbeddingStore) -> None:
        check_store(store)
        if not store.has_words:
            raise MissingWordError(
                f"the store {store.location} has no words; KeyedVectors needs them as keys"
            )
        if len(store.row_shape) != 1:
            raise ValueError(
                f"rows must be vectors; those of {store.location} are {store.row_shape}"
            )
        self.store = store
        self.key_to_index = KeyToIndex(store)
        self.index_to_key = IndexToKey(store)
        self._keys = KeyLookup(store)
        self._every_id = range(len(store))
        self._search = CosineSearch(store)

    @property
    def vector_size(self) -> int:
        """Number of values in a vector."""
        return self.store.row_shape[0]

    @property
    def vectors(self) -> Vectors:
        """All vectors as an array that reads what an index takes; see `Vectors`."""
        return Vectors(self.store)

    @vectors.setter
    def vectors(self, value: Any) -> None:
        self._set_vectors(value)

    @property
    def expandos(self) -> Expandos:
        """The attributes of the store by name, each a column by id; see `Expandos`."""
        return Expandos(self.store)

    @property
    def norms(self) -> NDArray[Any]:
        """The L2 norms of all vectors, shape (words,), in the order of ids, read-only."""
        return self._search.norms()

    def is_current(self) -> bool:
        """Say whether the store is the newest version; see `embstore.EmbeddingStore.is_current`."""
        return self.store.is_current()

    def reload(self) -> KeyedVectors:
        """Return these vectors, or new ones over the newest version of the store.

        Raises
        ------
        StoreError, OSError, ValueError
            As `embstore.EmbeddingStore.reload`.

        Examples
        --------
        >>> vectors = KeyedVectors(store)
        >>> vectors.is_current(), vectors.reload() is vectors
        (True, True)
        """
        newest = self.store.reload()
        return self if newest is self.store else type(self)(newest)

    def __len__(self) -> int:
        return len(self.store)

    def __contains__(self, key: object) -> bool:
        # A word has a path of its own here and below: code written for gensim asks word by word.
        return key in (self.store if type(key) is str else self._keys)

    def __getitem__(self, key_or_keys: Key | Sequence[Key]) -> NDArray[Any]:
        kind = type(key_or_keys)
        if kind is str or (kind is int and key_or_keys in self._every_id):
            try:
                return self.store[key_or_keys]
            except MissingWordError:
                raise self._missing(str(key_or_keys)) from None
        if isinstance(key_or_keys, str | Integral):
            return self.get_vector(key_or_keys)
        if isinstance(key_or_keys, bytes) or not hasattr(key_or_keys, "__iter__"):
            raise TypeError(f"a key must be a str or an int, not {type(key_or_keys).__name__}")
        # Not as_list: an array holds keys here, and is not a vector.
        return self.store.lookup(self._keys.ids(key_list(key_or_keys)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store,)

    def __repr__(self) -> str:
        return f"KeyedVectors<vector_size={self.vector_size}, {len(self)} keys>"

    def has_index_for(self, key: Key) -> bool:
        """Say whether the store has this key."""
        return key in self

    def get_index(self, key: Key, default: int | None = None) -> int:
        """Return the id of a key; if it is missing, return ``default`` or raise KeyError."""
        if default is not None and key not in self:
            return default
        return self._keys.id_of(key)

    def get_vector(
        self, key: Key, norm: bool = False, *, missing: Missing = "error"
    ) -> NDArray[Any]:
        """Return a copy of the vector of a key.

        Parameters
        ----------
        key : str or int
            A word or an id.
        norm : bool
            Whether to scale the vector to length 1.
        missing : {"error", "unk", "zeros"}
            What to do with a missing word; see `embstore.EmbeddingStore.lookup_words`.
        """
        if missing != "error" and isinstance(key, str):
            if missing == "unk" and self.store.unk is None and key not in self:
                raise MissingWordError(
                    f'the store {self.store.location} has no unk word; give missing="zeros", or '
                    "name one when building it (unk=)"
                )
            vector = self.store.lookup_words(key, missing=missing)
        elif type(key) is str and key not in self.store:
            raise self._missing(key)
        else:
            vector = self.store[key if type(key) is str else self._keys.id_of(key)]
        return unit(vector.astype(self._search.dtype)) if norm else vector

    word_vec = get_vector

    def _missing(self, word: Any) -> MissingWordError:
        unk = self.store.unk
        gives = '"zeros") gives zeros' if unk is None else f'"unk") gives the row of {unk!r}'
        return missing_word(word, self.store.vocabulary, f"get_vector(key, missing={gives}")

    def get_vecattr(self, key: Key, attr: str) -> Any:
        """Return the value of an attribute of a key.

        Raises
        ------
        KeyError
            If the store has no such attribute, or the key is missing.
        """
        return self.expandos[attr][self._keys.id_of(key)]

    def fill_norms(self, force: bool = False) -> None:
        """Compute the norms of all vectors, unless they are known."""
        self._search.norms()

    def get_normed_vectors(self) -> Vectors:
        """Return all vectors scaled to length 1, as an array that reads what an index takes.

        Examples
        --------
        >>> normed = KeyedVectors(store).get_normed_vectors()
        >>> normed.shape, np.linalg.norm(normed[3]).round(6)
        ((11, 8), np.float32(1.0))
        """
        dtype = self._search.dtype
        return Vectors(self.store, lambda rows: unit(rows.astype(dtype, copy=False)), dtype)

    def vectors_for_all(
        self, keys: Iterable[Key], allow_inference: bool = True, copy_vecattrs: bool = False
    ) -> KeyedVectors:
        """Return the vectors of some keys, in their order, as a new view.

        Its store is in a temporary directory, and goes with the view.

        Parameters
        ----------
        keys : iterable of str or int
            The keys; those that are missing, or came before, are left out.
        allow_inference : bool
            Without a meaning: a store has the words that it has.
        copy_vecattrs : bool
            Whether to copy the attributes.
        """
        given = key_list(keys)
        found = np.array([self.get_index(key, -1) for key in dict.fromkeys(given)], np.int64)
        found = found[found >= 0]
        ids = found[np.sort(np.unique(found, return_index=True)[1])]
        store = self.store
        columns = self.expandos if copy_vecattrs else {}
        directory = tempfile.mkdtemp(prefix="embstore-")
        path = f"{directory}/some.embstore"
        try:
            with StoreWriter(
                path,
                row_shape=store.row_shape,
                dtype=store.dtype,
                attributes={name: column.dtype_name for name, column in columns.items()},
            ) as writer:
                values = {name: column[ids] for name, column in columns.items()}
                writer.write(store.lookup(ids), store.words(ids), attributes=values or None)
            view = type(self)(open_store(path))
        except BaseException:
            shutil.rmtree(directory)
            raise
        weakref.finalize(view, _remove, directory, os.getpid())
        return view

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Gensim's class, where it was imported: its indexers ask for it with isinstance."""
        gensim = sys.modules.get("gensim.models.keyedvectors")
        return type(self) if gensim is None else gensim.KeyedVectors


def _remove(directory: str, process: int) -> None:
    if os.getpid() == process:  # Not in a forked child that exits.
        shutil.rmtree(directory, ignore_errors=True)
