"""A view of a store for code written for gensim's ``KeyedVectors``. gensim itself is not needed.

Names, arguments and results of the reading methods are those of gensim 4
(``gensim.models.KeyedVectors``). The view differs on purpose where gensim

* holds everything in RAM: here ``vectors`` is missing, ``key_to_index`` and ``index_to_key`` query
  the store, and comparisons with all vectors stream over them (`embstore.search`);
* leaves the order of equal similarities open: here the lower id comes first;
* turns a vector of zeros into nan when it scales it to length 1: here it stays zeros, and its
  similarity to any vector is 0; as a neighbour, its similarity is nan and it comes last, as there;
* ignores ``restrict_vocab`` in ``most_similar_cosmul``, and takes an int there as a number;
* names one missing key in its KeyError: here all are counted, and the first ones named.
"""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import MissingWordError
from embstore.interop.keys import KeyLookup, as_list, key_list, weighted, without_vectors
from embstore.interop.views import IndexToKey, KeyToIndex
from embstore.norms import are_extreme, unit
from embstore.search import CosineSearch, Query
from embstore.settle import as_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embstore.interop.keys import Key, Keys
    from embstore.store import EmbeddingStore
    from embstore.vocabulary.missing import Missing

    Similar = list[tuple[str, float]]

# Keeps the quotient of 3CosMul finite, with gensim's value.
COSMUL_EPSILON = 1e-6


class KeyedVectors:
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
    def vectors(self) -> NDArray[Any]:
        """Missing on purpose: it would hold the whole table in RAM."""
        raise AttributeError(
            "vectors would hold the whole table in RAM; use store.lookup(ids) or store.scan(visit)"
        )

    @property
    def norms(self) -> NDArray[Any]:
        """The L2 norms of all vectors, shape (words,), in the order of ids, read-only."""
        return self._search.norms()

    def is_current(self) -> bool:
        """Say whether the store is the newest version; see `EmbeddingStore.is_current`."""
        return self.store.is_current()

    def reload(self) -> KeyedVectors:
        """Return these vectors, or new ones over the newest version of the store.

        Raises
        ------
        StoreError, OSError, ValueError
            As `EmbeddingStore.reload`.

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
            return self.store[key_or_keys]
        if isinstance(key_or_keys, str | Integral):
            return self.get_vector(key_or_keys)
        if key_or_keys is None or isinstance(key_or_keys, bytes):
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
            vector = self.store.lookup_words(key, missing=missing)
        else:
            vector = self.store[key if type(key) is str else self._keys.id_of(key)]
        return unit(vector.astype(self._search.dtype)) if norm else vector

    def get_mean_vector(
        self,
        keys: Sequence[Key | NDArray[Any]],
        weights: Sequence[float] | NDArray[Any] | None = None,
        pre_normalize: bool = True,
        post_normalize: bool = False,
        ignore_missing: bool = True,
    ) -> NDArray[Any]:
        """Return the weighted mean of the vectors of keys.

        Parameters
        ----------
        keys : sequence of str, int or ndarray
            Words, ids, or vectors.
        weights : sequence of float, optional
            A weight for each key; 1 by default. The weighted sum is divided by the sum of the
            absolute weights.
        pre_normalize : bool
            Whether to scale the vectors of words and ids to length 1 first.
        post_normalize : bool
            Whether to scale the mean to length 1.
        ignore_missing : bool
            Whether missing keys are ignored; otherwise they raise KeyError.

        Raises
        ------
        ValueError
            If ``keys`` is empty, or ``weights`` or a vector has another shape.
        """
        keys = key_list(keys)
        if not keys:
            raise ValueError("keys is empty; expected at least one key or vector")
        factors = np.ones(len(keys)) if weights is None else np.asarray(weights)
        if ignore_missing and factors.shape == (len(keys),):
            present = self._keys.present(keys)
            keys, factors = [keys[at] for at in present], factors[present]
        mean = self._keys.mean(keys, factors, norm=pre_normalize)
        return (unit(mean) if post_normalize else mean).astype(self._search.dtype)

    def most_similar(
        self,
        positive: Keys = None,
        negative: Keys = None,
        topn: int | None = 10,
        clip_start: int = 0,
        clip_end: int | None = None,
        restrict_vocab: int | None = None,
    ) -> Similar | NDArray[Any]:
        """Find the words whose vectors are most similar to a mean of vectors.

        Parameters
        ----------
        positive, negative : key, vector, or list of them, optional
            Keys and vectors with the weight 1 or -1 in the mean. In a list, ``(key, weight)``
            instead of a key sets another weight. The result leaves these keys out.
        topn : int or None
            Number of words to return; None for the similarities of all words.
        clip_start, clip_end : int, optional
            Search only the ids ``clip_start : clip_end``.
        restrict_vocab : int, optional
            Search only the first ``restrict_vocab`` words.

        Returns
        -------
        list of (str, float), or ndarray, shape (ids,)
            Words with their cosine similarities, the highest first; the similarities of all
            searched ids if ``topn`` is None.

        Raises
        ------
        ValueError
            If neither ``positive`` nor ``negative`` has a key or vector.
        MissingWordError
            If a key is missing.

        Examples
        --------
        >>> vectors = KeyedVectors(store)
        >>> [word for word, _ in vectors.most_similar(["like", ("day", 0.5)], ["the"], topn=1)]
        ['country']
        """
        topn = _as_count(topn, "topn")
        restrict_vocab = _as_count(restrict_vocab, "restrict_vocab")
        start, stop = _as_count(clip_start, "clip_start"), _as_count(clip_end, "clip_end")
        if topn is not None and topn < 1:
            return []
        keys, weights = weighted(as_list(positive), as_list(negative))
        mean = self.get_mean_vector(keys, weights, post_normalize=True, ignore_missing=False)
        window = slice(restrict_vocab) if restrict_vocab else slice(start, stop or None)
        return self._answer(Query(mean[np.newaxis]), keys, topn, window)

    def most_similar_cosmul(
        self,
        positive: Keys = None,
        negative: Keys = None,
        topn: int | None = 10,
        restrict_vocab: int | None = None,
    ) -> Similar | NDArray[Any]:
        """Find words by the product of similarities instead of their sum.

        The 3CosMul objective of Levy and Goldberg (2014), "Linguistic Regularities in Sparse and
        Explicit Word Representations", equation (4), with similarities moved to [0, 1]. See
        `most_similar`.
        """
        topn = _as_count(topn, "topn")
        restrict_vocab = _as_count(restrict_vocab, "restrict_vocab")
        if topn is not None and topn < 1:
            return []
        keys = [*as_list(positive), *as_list(negative)]
        split = len(keys) - len(as_list(negative))
        if not split:
            raise ValueError("positive is empty; expected at least one key or vector")

        def combine(cosines: NDArray[Any]) -> NDArray[Any]:
            moved = (1 + cosines) / 2
            return np.asarray(moved[:split].prod(0) / (moved[split:].prod(0) + COSMUL_EPSILON))

        terms = self._keys.vectors(keys, norm=True).astype(self._search.dtype)
        return self._answer(Query(terms, combine), keys, topn, slice(restrict_vocab or None))

    def similar_by_key(
        self, key: Key, topn: int | None = 10, restrict_vocab: int | None = None
    ) -> Similar | NDArray[Any]:
        """Find the words most similar to a key; see `most_similar`."""
        return self.most_similar([key], topn=topn, restrict_vocab=restrict_vocab)

    similar_by_word = similar_by_key

    def similar_by_vector(
        self, vector: NDArray[Any], topn: int | None = 10, restrict_vocab: int | None = None
    ) -> Similar | NDArray[Any]:
        """Find the words most similar to a vector; see `most_similar`."""
        return self.most_similar([np.asarray(vector)], topn=topn, restrict_vocab=restrict_vocab)

    def similarity(self, w1: Key, w2: Key) -> float:
        """Return the cosine similarity of two keys."""
        one, other = self._keys.vectors([w1, w2], norm=True)
        return self._number(one @ other)

    def distance(self, w1: Key, w2: Key) -> float:
        """Return 1 minus the cosine similarity of two keys."""
        return self._number(1 - self.similarity(w1, w2))

    def n_similarity(self, ws1: Sequence[Key], ws2: Sequence[Key]) -> float:
        """Return the cosine similarity of the means of two lists of keys."""
        if not len(ws1) or not len(ws2):
            raise ZeroDivisionError("at least one of the lists is empty")  # As in gensim.
        one, other = map(self._mean_of_present, (ws1, ws2))
        return self._number(unit(one) @ unit(other))

    def similarities(
        self, word_or_vector: Key | NDArray[Any], other_words: Sequence[Key] = ()
    ) -> NDArray[Any]:
        """Return the cosine similarities of a key or vector to other keys, by default to all."""
        vector = unit(self._keys.vectors([word_or_vector], norm=False)).astype(self._search.dtype)
        if len(other_words) == 0:
            return self._search.scores(Query(vector))
        rows = self[other_words].astype(self._search.dtype, copy=False)
        return self.cosine_similarities(vector[0], rows)

    def distances(
        self, word_or_vector: Key | NDArray[Any], other_words: Sequence[Key] = ()
    ) -> NDArray[Any]:
        """Return 1 minus `similarities`."""
        return np.asarray(1 - self.similarities(word_or_vector, other_words))

    @staticmethod
    def cosine_similarities(vector_1: NDArray[Any], vectors_all: NDArray[Any]) -> NDArray[Any]:
        """Return the cosine similarities of a vector to n others, shape (n, dimension)."""
        with np.errstate(all="ignore"):
            length, norms = np.linalg.norm(vector_1), np.linalg.norm(vectors_all, axis=1)
            if are_extreme(norms).any() or are_extreme(np.asarray(length)):
                one, others = unit(vector_1), unit(vectors_all)
                # The norm of a vector of zeros is 0, that of any other 1.
                return np.asarray(others @ one / (others.any(axis=1) * one.any()))
            return np.asarray(vectors_all @ vector_1 / (length * norms))

    def closer_than(self, key1: Key, key2: Key) -> list[str]:
        """Return the words that are closer to ``key1`` than ``key2`` is."""
        one, other = self._keys.ids([key1, key2])
        similarities = self.similarities(key1)
        closer = np.flatnonzero(similarities > similarities[other])
        words: list[str] = self.store.words(closer[closer != one])
        return words

    def rank(self, key1: Key, key2: Key) -> int:
        """Return the rank of ``key2`` among the words most similar to ``key1``, from 1."""
        return len(self.closer_than(key1, key2)) + 1

    def most_similar_to_given(self, key1: Key, keys_list: Sequence[Key]) -> Key:
        """Return the key of ``keys_list`` that is most similar to ``key1``."""
        keys = key_list(keys_list)
        best: Key = keys[int(self.similarities(key1, keys).argmax())]
        return best

    def rank_by_centrality(
        self, words: Sequence[Key], use_norm: bool = True
    ) -> list[tuple[float, Key]]:
        """Return keys with their similarity to the mean of all, highest first.

        Missing keys are ignored, as in gensim; if all are missing, ValueError is raised.
        """
        words = key_list(words)
        used = [words[at] for at in self._keys.present(words)]
        if not used:
            raise ValueError(f"the store has none of the {len(words)} words")
        vectors = self._keys.vectors(used, norm=use_norm)
        similarities = (vectors @ unit(vectors.mean(0))).astype(self._search.dtype)
        return sorted(zip(similarities, used, strict=True), reverse=True)

    def doesnt_match(self, words: Sequence[Key]) -> Key:
        """Return the key that is least similar to the mean of all; see `rank_by_centrality`."""
        return self.rank_by_centrality(words)[-1][1]

    def _answer(
        self, query: Query, keys: list[Any], topn: int | None, window: slice
    ) -> Similar | NDArray[Any]:
        start, stop, _ = window.indices(len(self))
        stop = max(start, stop)
        if topn is None:
            return self._search.scores(query, start, stop)
        asked = self._keys.ids(without_vectors(keys))
        ids, scores = self._search.best(query, topn + len(asked), start, stop)
        kept = np.flatnonzero(~np.isin(ids, asked))[:topn]
        return list(zip(self.store.words(ids[kept]), scores[kept].tolist(), strict=True))

    def _mean_of_present(self, keys: Sequence[Key]) -> NDArray[np.float64]:
        """Return the mean of the vectors of keys, without those that are missing."""
        given = key_list(keys)
        used = [given[at] for at in self._keys.present(given)]
        return self._keys.mean(used, np.ones(len(used)), norm=False)

    def _number(self, value: Any) -> float:
        number: float = self._search.dtype.type(value)
        return number


def _as_count(value: Any, name: str) -> int | None:
    """Return a count that may be negative, as in a slice."""
    return None if value is None else as_count(value, name, low=None)
