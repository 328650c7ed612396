"""Searches of the view for gensim: the words most similar to keys and vectors."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embstore.interop.gensim.keyed import Keyed, as_topn
from embstore.interop.gensim.keys import as_list, key_list, weighted, without_vectors
from embstore.norms import unit
from embstore.search.cosines import Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embstore.interop.gensim.keyed import Similar
    from embstore.interop.gensim.keys import Key, Keys

# Keeps the quotient of 3CosMul finite, with gensim's value.
COSMUL_EPSILON = 1e-6


class Indexer(Protocol):
    """An index of vectors that is asked instead of the store, as gensim's indexers are."""

    def most_similar(self, vector: NDArray[Any], num_neighbors: int) -> Similar:
        """Return the words most similar to a vector, with their similarities."""
        ...


class SimilarMethods(Keyed):
    """Methods that search."""

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
        indexer: Indexer | None = None,
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
        indexer : object with ``most_similar(vector, count)``, optional
            An index that answers instead of the store, such as gensim's ``AnnoyIndexer``. Its
            answer is returned as it is, with the keys that were asked for. It is not asked if
            ``topn`` is None.

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
        >>> from embstore.interop.keyedvectors import KeyedVectors
        >>> vectors = KeyedVectors(store)
        >>> [word for word, _ in vectors.most_similar(["like", ("day", 0.5)], ["the"], topn=1)]
        ['country']
        """
        topn = as_topn(topn, "topn")
        restrict_vocab = as_topn(restrict_vocab, "restrict_vocab")
        start, stop = as_topn(clip_start, "clip_start"), as_topn(clip_end, "clip_end")
        if topn is not None and topn < 1:
            return []
        keys, weights = weighted(as_list(positive), as_list(negative))
        mean = self.get_mean_vector(keys, weights, post_normalize=True, ignore_missing=False)
        if indexer is not None and topn is not None:
            return indexer.most_similar(mean, topn)
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
        topn = as_topn(topn, "topn")
        restrict_vocab = as_topn(restrict_vocab, "restrict_vocab")
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

    def similar_by_word(
        self, word: Key, topn: int | None = 10, restrict_vocab: int | None = None
    ) -> Similar | NDArray[Any]:
        """Find the words most similar to a word; see `most_similar`."""
        return self.most_similar([word], topn=topn, restrict_vocab=restrict_vocab)

    def similar_by_vector(
        self, vector: NDArray[Any] | Key, topn: int | None = 10, restrict_vocab: int | None = None
    ) -> Similar | NDArray[Any]:
        """Find the words most similar to a vector, or to a key; see `most_similar`."""
        given = vector if isinstance(vector, str | Integral) else np.asarray(vector)
        return self.most_similar([given], topn=topn, restrict_vocab=restrict_vocab)

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
