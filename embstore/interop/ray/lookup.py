"""Rows as a column of Ray Data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from embstore.dtypes import as_dtype, check_zero
from embstore.functional.bags import RaggedIds
from embstore.functional.lookup import embedding_lookup_sparse
from embstore.interop.ray.columns import Given, read_column, with_rows
from embstore.interop.ray.handle import Handle
from embstore.settle import as_choice, as_text
from embstore.store import EmbeddingStore
from embstore.vocabulary.missing import Missing

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

Combiner = Literal["mean", "sum", "sqrtn"]


class Lookup:
    """A function of batches that adds a column of rows, for ``Dataset.map_batches``.

    It takes batches of all formats of Ray Data: dicts of arrays, ``pyarrow.Table`` and
    ``pandas.DataFrame``. It is pickled with its handle, so without secrets.

    Parameters
    ----------
    table : Handle or EmbeddingStore
        Where rows come from; a store is opened at its path by each process.
    column : str
        The column with ids or words: one in each row, a list, or an array of them.
    output : str
        The column with the rows. One of this name is replaced.
    combiner : {"mean", "sum", "sqrtn"}, optional
        Combine each list into one row, as `embstore.embedding_lookup_sparse`; by default, a list
        gives as many rows.
    missing : {"error", "unk", "zeros"}
        What to do with a missing word, as `embstore.EmbeddingStore.lookup_words`.
    dtype : dtype-like, optional
        Dtype of the rows, by default the table's. Ray Data has no bfloat16 or float8: give float32.

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value; when called, if the column holds anything else.
    KeyError
        When called, if the batch does not have the column.
    IdTypeError, IdRangeError, MissingWordError, RemoteError
        When called, as `Handle.lookup`.

    Examples
    --------
    >>> add_rows = Lookup(store, column="ids", output="rows")
    >>> add_rows({"ids": np.array([1, 0, 7])})["rows"].shape
    (3, 8)
    >>> add_means = Lookup(store, column="words", output="mean", combiner="mean")
    >>> add_means({"words": np.array([["like", "the"], ["day", "day"]])})["mean"].shape
    (2, 8)
    """

    def __init__(
        self,
        table: Handle | EmbeddingStore,
        column: str,
        output: str,
        *,
        combiner: Combiner | None = None,
        missing: Missing = "error",
        dtype: DTypeLike | None = None,
    ) -> None:
        if not isinstance(table, Handle | EmbeddingStore):
            raise TypeError(f"table must be a Handle or a store, not {type(table).__name__}")
        self._table = table
        self._column, self._output = as_text(column, "column"), as_text(output, "output")
        self._combiner: Any = combiner
        if combiner is not None:
            self._combiner = as_choice(combiner, "combiner", get_args(Combiner))
        self._missing = as_choice(missing, "missing", get_args(Missing))
        if combiner is not None and self._missing == "zeros":
            raise ValueError(
                'missing="zeros" is for rows that are not combined; use "unk" or "error" with a '
                "combiner"
            )
        self._dtype = None if dtype is None else as_dtype(dtype)
        # Ray Data names the step of a pipeline by this.
        self.__name__ = f"Lookup({self._column})"

    def __call__(self, batch: Any) -> Any:
        """Return a batch with the column of rows; the batch is not changed."""
        store = self._table.store if isinstance(self._table, Handle) else self._table
        given = read_column(batch, self._column)
        if self._combiner is not None:
            given, splits = given.as_bags(self._column)
            ids = (
                store.ids(given.values, missing=self._missing) if given.has_words else given.values
            )
            rows = embedding_lookup_sparse(
                store, RaggedIds(ids, splits), None, combiner=self._combiner
            )
            if self._dtype is not None:
                rows = rows.astype(self._dtype)
            return with_rows(batch, self._output, rows, None)
        return with_rows(batch, self._output, self._rows(store, given), given.splits)

    def _rows(self, store: EmbeddingStore, given: Given) -> NDArray[Any]:
        if not given.has_words:
            return store.lookup(given.values, dtype=self._dtype)
        if self._missing != "zeros":
            ids = store.ids(given.values, missing=self._missing)
            return store.lookup(ids, dtype=self._dtype)
        ids = np.asarray(store.ids(given.values, missing="none"))
        dtype = store.dtype if self._dtype is None else self._dtype
        check_zero(dtype, 'missing="zeros"')
        rows = np.zeros(ids.shape + store.row_shape, dtype)
        present = ids >= 0
        rows[present] = store.lookup(ids[present], dtype=self._dtype)
        return rows

    def __repr__(self) -> str:
        return f"<Lookup of column {self._column!r} into {self._output!r} at {self._table!r}>"
