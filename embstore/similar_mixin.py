"""What a store has for search: the rows most similar to a word, an id, or a vector."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from embstore.search.asked import Queries, left_out, searched
from embstore.search.metrics import METRICS, MetricName
from embstore.search.neighbours import Neighbours, Wanted
from embstore.settle import as_choice, as_count

if TYPE_CHECKING:
    from embstore.progress import OnProgress


class SimilarMixin(ABC):
    """The method ``most_similar``, on a table with `scan` and `lookup`."""

    _dtype: np.dtype[Any]
    _neighbours: Neighbours | None = None  # Made by the first search. It keeps norms.

    @property
    @abstractmethod
    def has_words(self) -> bool:
        """Whether rows have words."""

    @abstractmethod
    def words(self, ids: Any) -> Any:
        """Return the words of ids."""

    @abstractmethod
    def _open_records(self) -> object:
        """Raise if the store is closed."""

    def most_similar(
        self,
        query: Any,
        topn: int = 10,
        metric: MetricName = "cosine",
        *,
        restrict: Any = None,
        exclude: Any = (),
        progress: OnProgress | None = None,
    ) -> list[Any]:
        """Find the rows most similar to a word, an id or a vector, or to each of a batch.

        The search is exact: it compares all rows. It reads the table once, in blocks, on as many
        threads as there are processors; a batch of any size is one pass. Memory is bounded.

        Parameters
        ----------
        query : str, int, or array-like
            What to compare rows with.

            * A word or an id stands for its row, and is left out of its own result.
            * Floats of shape `row_shape` are a vector. Integers are ids, even if rows are integers.
            * A list or array of words or ids, or floats with one axis more, is a batch.
        topn : int
            Number of rows to find for each.
        metric : {"cosine", "dot", "euclidean"}
            The score: the cosine of the angle between row and query, their dot product, or their
            distance. Rows of several axes are compared as vectors of all their numbers. A row of
            zeros has no direction: its cosine is nan, and comes last.
        restrict : int, slice, range, or array-like of ids or words, optional
            Where to search: among the first ids, a range of ids, or these.
        exclude : id, word, or array-like of these
            What to leave out of all results.
        progress : callable, optional
            Called with an `embstore.Progress`: the bytes of rows done, their total, and the rows
            done.

        Returns
        -------
        list of (str, float), or of (int, float)
            Words, or ids if the store has no words, with their scores; the most similar first, and
            among equal scores the lower id. For a batch, a list of such lists.

        Raises
        ------
        MissingWordError, IdRangeError, IdTypeError
            If words are missing, or ids wrong.
        TypeError, ValueError
            If an argument has a wrong type, shape or value; if rows are not real numbers, or a
            vector is out of their range.
        StoreClosedError
            If the store is closed.

        Examples
        --------
        >>> [word for word, score in store.most_similar("day", topn=2)]
        ['just', 'the']
        >>> store.most_similar(store["like"], topn=1, metric="euclidean")
        [('like', 0.0)]
        >>> [found[0][0] for found in store.most_similar(["day", "like"], exclude="just")]
        ['the', 'the']
        """
        self._open_records()
        topn = as_count(topn, "topn", high=sys.maxsize)
        metric = as_choice(metric, "metric", get_args(MetricName))
        if self._dtype.kind not in "iufV":
            raise TypeError(f"rows are {self._dtype}; a search compares integers and real numbers")
        table: Any = self
        queries = Queries(table, query)
        among, hidden = searched(table, restrict), left_out(table, exclude)
        own = [hidden] * len(queries.vectors)
        if queries.own is not None:
            own = [np.union1d(hidden, [number]) for number in queries.own]
        if self._neighbours is None:
            self._neighbours = Neighbours(table)
        wanted = Wanted(queries.vectors, min(topn, len(among)), among, own)
        found = []
        if wanted.count and own:
            found = self._neighbours.find(wanted, METRICS[metric], progress)
        answers = [self._named(ids, scores, metric) for ids, scores in found]
        answers = answers or [[] for _ in own]
        return answers if queries.is_batch else answers[0]

    def _named(self, ids: Any, scores: Any, metric: MetricName) -> list[Any]:
        names = self.words(ids) if self.has_words else ids.tolist()
        shown = METRICS[metric].shown
        return [(name, shown(score)) for name, score in zip(names, scores.tolist(), strict=True)]
