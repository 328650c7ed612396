"""Views: a range of a table's ids, for a process that is to look up only its part."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, get_args, overload

import numpy as np

from embstore.dtypes import check_zero
from embstore.errors import IdRangeError
from embstore.lookup_mixin import fill
from embstore.notebook import as_html, facts_of, title_of
from embstore.reading.submitted import Prefetch, prefetch, submit
from embstore.reading.zeros import NO_ROW, WithZeros
from embstore.settle import as_choice, as_count
from embstore.table.given import plain
from embstore.table.ids import as_ids
from embstore.table.partial import PartialNumbering
from embstore.vocabulary.given import are_words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from embstore.lookup_mixin import LookupMixin
    from embstore.reading.forms import Form
    from embstore.table.plan import LookupPlan

Out = TypeVar("Out")  # An ndarray, or a torch.Tensor.
Outside = Literal["error", "zeros"]


class StoreView:
    """The rows of some consecutive ids of a store; made by `EmbeddingStore.view`.

    Ids are those of the whole table. An id that the table has, but not the view, is an error; with
    ``outside="zeros"`` it gives a row of zeros, so the sum of what the ranks of a model find is the
    whole result. An id that the table does not have is always an error.

    Nothing is copied, and one file serves all ranks: a view reads through its store, and raises
    `StoreClosedError` once that is closed. It has no words; ``store.ids(words)`` gives their ids.
    It may be used from many threads, pickled and copied as its store.

    Attributes
    ----------
    start, stop : int
        The first id, and the one after the last.

    Examples
    --------
    >>> views = store.view(0, 6), store.view(6, 11)
    >>> parts = [view.lookup([7, 1], outside="zeros") for view in views]
    >>> np.array_equal(sum(parts), store[[7, 1]])
    True
    >>> np.array_equal(views[1][7], store[7])
    True
    """

    __slots__ = ("_store", "start", "stop")

    def __init__(self, store: LookupMixin, start: int, stop: int) -> None:
        self._store, self.start, self.stop = store, start, stop

    def __getattr__(self, name: str) -> NoReturn:
        if name in ("rows", "shape"):
            raise AttributeError(
                f"a view has no {name}: its ids are those of the whole table, from view.start to "
                "view.stop - 1; len(view) is their number, view.row_shape the shape of a row"
            )
        if not name.startswith("_") and hasattr(type(self._store), name):
            raise AttributeError(f"a view has no {name}; use view.store.{name}")
        raise AttributeError(f"'StoreView' object has no attribute {name!r}")

    @property
    def store(self) -> Any:
        """The store of the whole table."""
        return self._store

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the rows."""
        return self._store._dtype

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self._store._row_shape

    @overload
    def lookup(
        self,
        ids: ArrayLike,
        *,
        out: None = None,
        max_norm: float | None = None,
        dtype: DTypeLike | None = None,
        raw: bool = False,
        outside: Outside = "error",
    ) -> NDArray[Any]: ...
    @overload
    def lookup(
        self,
        ids: ArrayLike,
        *,
        out: Out,
        max_norm: float | None = None,
        dtype: DTypeLike | None = None,
        raw: bool = False,
        outside: Outside = "error",
    ) -> Out: ...
    def lookup(
        self,
        ids: ArrayLike,
        *,
        out: Any | None = None,
        max_norm: float | None = None,
        dtype: DTypeLike | None = None,
        raw: bool = False,
        outside: Outside = "error",
    ) -> Any:
        """Return the rows of ``ids``, in request order; as `EmbeddingStore.lookup`.

        Parameters
        ----------
        ids : int or array-like of integers, any shape
            Ids of the whole table.
        out, max_norm, dtype, raw
            As for `EmbeddingStore.lookup`.
        outside : {"error", "zeros"}
            What to do with the ids that are not in the view: raise, or return zeros.

        Returns
        -------
        rows : ndarray, shape ``ids.shape + row_shape``

        Raises
        ------
        IdRangeError
            If an id is not in the table or, under ``"error"``, in the view.
        IdTypeError, ValueError, TypeError
            As `EmbeddingStore.lookup`; if the dtype has no 0 to return (float8_e8m0fnu).

        Examples
        --------
        >>> store.view(0, 6).lookup([7, 1], outside="zeros").any(axis=1)
        array([False,  True])
        """
        wide, is_outside = self._checked(ids, outside)
        store = self._store
        if is_outside is None:
            options: dict[str, Any] = {"max_norm": max_norm, "dtype": dtype, "raw": raw}
            return store.lookup(wide, out=out, **options)
        form = self._with_zeros(dtype, raw=raw)
        return fill(form, wide, self._rows(wide, is_outside), out, max_norm)

    @overload
    def submit(
        self,
        ids: ArrayLike,
        out: None = None,
        *,
        dtype: DTypeLike | None = None,
        raw: bool = False,
        outside: Outside = "error",
    ) -> Future[NDArray[Any]]: ...
    @overload
    def submit(
        self,
        ids: ArrayLike,
        out: Out,
        *,
        dtype: DTypeLike | None = None,
        raw: bool = False,
        outside: Outside = "error",
    ) -> Future[Out]: ...
    def submit(
        self,
        ids: ArrayLike,
        out: Any | None = None,
        *,
        dtype: DTypeLike | None = None,
        raw: bool = False,
        outside: Outside = "error",
    ) -> Future[Any]:
        """Start a lookup, and return the future of its rows; as `EmbeddingStore.submit`.

        Parameters
        ----------
        ids, out, dtype, raw
            As for `EmbeddingStore.submit`.
        outside : {"error", "zeros"}
            As for `lookup`.

        Raises
        ------
        IdTypeError, IdRangeError, ValueError, TypeError
            As `lookup`, at once.

        Examples
        --------
        >>> store.view(0, 6).submit([7, 1], outside="zeros").result().any(axis=1)
        array([False,  True])
        """
        wide, is_outside = self._checked(ids, outside)
        store = self._store
        if is_outside is None:
            return store.submit(wide, out, dtype=dtype, raw=raw)
        form = self._with_zeros(dtype, raw=raw)
        return submit(form, self._rows(wide, is_outside), out, wide.shape)

    def prefetch(self, ids: ArrayLike, *, outside: Outside = "error") -> Prefetch:
        """Start reading the rows of ``ids`` from the disk; as `EmbeddingStore.prefetch`.

        Parameters
        ----------
        ids
            As for `EmbeddingStore.prefetch`.
        outside : {"error", "zeros"}
            What to do with the ids that are not in the view: raise, or read nothing for them.

        Examples
        --------
        >>> store.view(0, 6).prefetch([7, 1], outside="zeros").wait(timeout=60)
        True
        """
        wide = self._inside(ids, outside)
        store = self._store
        return prefetch(store._open_forms().default.records, store._rows_of(wide))

    def explain(self, ids: ArrayLike, *, outside: Outside = "error") -> LookupPlan:
        """Return the plan of a lookup, without reading rows; as `EmbeddingStore.explain`.

        Parameters
        ----------
        ids
            As for `EmbeddingStore.explain`.
        outside : {"error", "zeros"}
            What to do with the ids that are not in the view: raise, or leave them out.

        Examples
        --------
        >>> store.view(0, 6).explain([7, 1, 2], outside="zeros").row_count
        2
        """
        return self._store.explain(self._inside(ids, outside))

    def view(self, start: int, stop: int) -> StoreView:
        """Return a view of some of these ids, which are those of the whole table.

        Raises
        ------
        IdRangeError
            If ``start`` or ``stop`` is outside of this view.
        TypeError
            If they are not integers.

        Examples
        --------
        >>> len(store.view(2, 9).view(4, 9))
        5
        """
        try:
            first = as_count(start, "start", low=self.start, high=self.stop)
            return StoreView(self._store, first, as_count(stop, "stop", low=first, high=self.stop))
        except ValueError as error:
            raise IdRangeError(f"this view has {self._range()}: {error}") from error

    def is_current(self) -> bool:
        """Say whether its store is the newest version; see `EmbeddingStore.is_current`."""
        current: bool = self.store.is_current()
        return current

    def reload(self) -> StoreView:
        """Return a view of the same ids of the newest version: this view, or a new one.

        Raises
        ------
        IdRangeError
            If the newest version has fewer rows than that.
        StoreError, OSError, ValueError
            As `EmbeddingStore.reload`.

        Examples
        --------
        >>> view = store.view(2, 9)
        >>> view.is_current(), view.reload() is view
        (True, True)
        """
        newest = self.store.reload()
        if newest is self._store:
            return self
        found: StoreView = newest.view(self.start, self.stop)
        return found

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, key: Any) -> NDArray[Any]:
        if isinstance(key, slice):
            key = np.arange(*key.indices(self._store._rows))
        elif isinstance(key, tuple):
            raise TypeError(
                "a view is indexed by ids alone; write view[ids][:, columns], or view[[1, 2]] for "
                "several ids"
            )
        found: NDArray[Any] = self.lookup(key)[()]
        return found

    # Without these, Python would ask for the ids from 0 on, and end at the first one outside.
    def __iter__(self) -> Iterator[NDArray[Any]]:
        return map(self.__getitem__, range(self.start, self.stop))

    def __reversed__(self) -> Iterator[NDArray[Any]]:
        return map(self.__getitem__, reversed(range(self.start, self.stop)))

    __contains__ = None  # Of an id or a row? ``start <= id < stop`` says the first.

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("an array of the rows of a view is always a copy; omit copy=False")
        rows = self.lookup(np.arange(self.start, self.stop))
        return rows if dtype is None else rows.astype(dtype, copy=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return StoreView, (self._store, self.start, self.stop)

    def __repr__(self) -> str:
        return f"<StoreView of {self._range()} of {self._store!r}>"

    def _repr_html_(self) -> str:
        title = f"StoreView of {self._range()}, in {title_of(self._store)}"
        return as_html(title, facts_of(self._store))

    def _range(self) -> str:
        return f"ids {self.start} to {self.stop - 1}" if len(self) else "no ids"

    def _checked(
        self, ids: ArrayLike, outside: Outside
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        """Return ids as an array, and which of them are outside of the view; None if none is."""
        if outside not in get_args(Outside):
            as_choice(outside, "outside", get_args(Outside))  # Raises.
        given = plain(ids)
        if are_words(given):
            raise TypeError("a view has no words; look up the ids of store.ids(words)")
        wide = as_ids(given, self._store._rows)
        is_outside: NDArray[np.bool_] = (wide < self.start) | (wide >= self.stop)
        if not is_outside.any():
            return wide, None
        if outside == "error":
            where = tuple(int(axis) for axis in np.argwhere(is_outside)[0])
            position = where[0] if len(where) == 1 else where
            count = np.count_nonzero(is_outside)
            raise IdRangeError(
                f"id {wide[where]}{f' at position {position}' if where else ''} is outside of this "
                f"view, which has {self._range()} of a table of {self._store._rows} rows"
                + (f" ({count} of the {wide.size} ids are outside)" if count > 1 else "")
                + '; to get zeros, use lookup(ids, outside="zeros")'
            )
        return wide, is_outside

    def _with_zeros(self, dtype: DTypeLike | None, *, raw: bool) -> Form:
        """Return the form of a result that may have rows of zeros."""
        form = self._store._form(dtype, raw=raw)
        check_zero(form.dtype, 'outside="zeros" without dtype="float32"')
        records: Any = WithZeros(form.records)
        return replace(form, records=records)

    def _inside(self, ids: ArrayLike, outside: Outside) -> NDArray[np.int64]:
        """Return those ids that are in the view, shape (n,), a new array."""
        wide, is_outside = self._checked(ids, outside)
        return wide.flatten() if is_outside is None else wide[~is_outside]

    def _rows(self, wide: NDArray[np.int64], is_outside: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the rows of ids in the columns, shape (n,), a new array; `NO_ROW` for others."""
        flat, outside = wide.flatten(), is_outside.reshape(-1)
        if isinstance(self._store._numbering, PartialNumbering):
            rows = np.full(len(flat), NO_ROW, np.int64)  # Those outside may be elsewhere.
            rows[~outside] = self._store._rows_of(flat[~outside])
            return rows
        rows = self._store._rows_of(flat)
        rows[outside] = NO_ROW
        return rows
