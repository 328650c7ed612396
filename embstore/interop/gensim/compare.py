"""Comparisons of the view for gensim: similarities, distances and ranks of given keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.interop.gensim.keys import key_list
from embstore.interop.gensim.similar import SimilarMethods
from embstore.norms import are_extreme, unit
from embstore.search.cosines import Query
from embstore.settle import as_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embstore.interop.gensim.keys import Key

# Distances that add up to less are none: gensim's bound.
NO_DISTANCE = 1e-8


class CompareMethods(SimilarMethods):
    """Methods that compare keys with each other."""

    def similarity(self, w1: Key, w2: Key) -> float:
        """Return the cosine similarity of two keys."""
        rows = self.store.lookup(self._keys.ids([w1, w2]))
        one, other = unit(rows.astype(np.float64))
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
        self, word_or_vector: Key | NDArray[Any], other_words: Sequence[Key] | None = ()
    ) -> NDArray[Any]:
        """Return the cosine similarities of a key or vector to other keys, by default to all."""
        vector = unit(self._keys.vectors([word_or_vector], norm=False)).astype(self._search.dtype)
        others = [] if other_words is None else key_list(other_words)
        if not others:
            return self._search.scores(Query(vector))
        rows = self[others].astype(self._search.dtype, copy=False)
        return self.cosine_similarities(vector[0], rows)

    def distances(
        self, word_or_vector: Key | NDArray[Any], other_words: Sequence[Key] | None = ()
    ) -> NDArray[Any]:
        """Return 1 minus `similarities`."""
        return np.asarray(1 - self.similarities(word_or_vector, other_words))

    @staticmethod
    def cosine_similarities(vector_1: NDArray[Any], vectors_all: NDArray[Any]) -> NDArray[Any]:
        """Return the cosine similarities of a vector to n others, shape (n, dimension)."""
        vector_1, vectors_all = np.asarray(vector_1), np.asarray(vectors_all)
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

    def words_closer_than(self, word1: Key, word2: Key) -> list[str]:
        """Return the words that are closer to ``word1`` than ``word2`` is; see `closer_than`."""
        return self.closer_than(word1, word2)

    def rank(self, key1: Key, key2: Key) -> int:
        """Return the rank of ``key2`` among the words most similar to ``key1``, from 1."""
        return len(self.closer_than(key1, key2)) + 1

    def most_similar_to_given(self, key1: Key, keys_list: Sequence[Key]) -> Key:
        """Return the key of ``keys_list`` that is most similar to ``key1``."""
        keys = key_list(keys_list)
        if not keys:
            raise ValueError("keys_list is empty; expected at least one key")
        best: Key = keys[int(self.similarities(key1, keys).argmax())]
        return best

    def rank_by_centrality(
        self, words: Sequence[Key], use_norm: bool = True
    ) -> list[tuple[float, Key]]:
        """Return keys with their similarity to the mean of all, highest first.

        Missing keys are ignored, as in gensim; if all are missing, ValueError is raised.
        """
        words = key_list(words)
        ids = self._keys.ids(words, "none")
        used = [word for word, number in zip(words, ids, strict=True) if number >= 0]
        if not used:
            raise ValueError(f"the store has none of the {len(words)} words")
        vectors = self._keys.vectors(used, norm=use_norm)
        similarities = (vectors @ unit(vectors.mean(0))).astype(self._search.dtype)
        pairs = zip(similarities, used, strict=True)
        # Equal similarities are in the order of words; ids and words do not compare.
        return sorted(pairs, key=lambda pair: (pair[0], str(pair[1])), reverse=True)

    def relative_cosine_similarity(self, wa: Key, wb: Key, topn: int = 10) -> float:
        """Return the similarity of two keys, divided by the sum of those of the nearest words.

        Equation (1) of Leeuwenberg et al. (2016), "A Minimally Supervised Approach for Synonym
        Extraction with Word Embeddings": two keys are likely synonyms if it is above 0.1.

        Parameters
        ----------
        wa, wb : str or int
            The keys.
        topn : int
            The number of words most similar to ``wa`` whose similarities are added up.

        Raises
        ------
        ValueError
            If ``topn`` is below 1, or the store has no other word.
        """
        nearest = self.similar_by_word(wa, as_count(topn, "topn", low=1))
        if not len(nearest):
            raise ValueError(f"the store has no other word than {wa!r}")
        return float(self.similarity(wa, wb)) / sum(score for _, score in nearest)

    def doesnt_match(self, words: Sequence[Key]) -> Key:
        """Return the key that is least similar to the mean of all; see `rank_by_centrality`."""
        return self.rank_by_centrality(words)[-1][1]

    def wmdistance(
        self, document1: Sequence[Key], document2: Sequence[Key], norm: bool = True
    ) -> float:
        """Return the word mover's distance of two documents.

        The least total distance that the words of one document have to travel to become those of
        the other (Kusner et al., 2015, "From Word Embeddings To Document Distances").

        Parameters
        ----------
        document1, document2 : sequence of str
            The words of each document. Words that the store does not have are left out.
        norm : bool
            Whether to scale the vectors to length 1 first.

        Returns
        -------
        float
            The distance; inf if a document has no word of the store, or if all words of both have
            the same vector.

        Raises
        ------
        ImportError
            If POT is not installed.
        TypeError
            If a document is a str instead of a list of words.
        """
        try:
            from ot import emd2  # noqa: PLC0415
        except ImportError as error:
            raise ImportError(
                'wmdistance needs POT: pip install "embstore[gensim]" (or POT)'
            ) from error
        first, second = (
            [word for word in given if word in self]
            for given in (key_list(document1), key_list(document2))
        )
        if not first or not second:
            return float("inf")
        words = sorted({*first, *second}, key=str)
        if len(words) == 1:
            return 0.0
        shares = [
            np.array([document.count(word) for word in words]) / len(document)
            for document in (first, second)
        ]
        vectors = self._keys.vectors(words, norm=norm).astype(self._search.dtype).astype(np.float64)
        distances = np.stack([np.linalg.norm(vectors - vector, axis=1) for vector in vectors])
        # As in gensim: words of one document only are no distance apart.
        distances *= np.outer(shares[0] > 0, shares[1] > 0)
        if distances.sum() < NO_DISTANCE:
            return float("inf")
        return float(emd2(*shares, distances))

    def _mean_of_present(self, keys: Sequence[Key]) -> NDArray[np.float64]:
        """Return the mean of the vectors of keys, without those that are missing."""
        given = key_list(keys)
        used = [given[at] for at in self._keys.present(given)]
        return self._keys.mean(used, np.ones(len(used)), norm=False)
