"""What a store does by id: lookups, their plans, and reads ahead of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from embstore.norms import check_max_norm, clip_norms
from embstore.reading.results import POOL, as_out
from embstore.reading.submitted import Prefetch, prefetch, submit
from embstore.settle import as_flag
from embstore.table.ids import as_counts, as_ids
from embstore.wording import option, parameter

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from embstore.reading.forms import Form, Forms
    from embstore.reading.joint import JointTable
    from embstore.reading.short_path import Few, Warm
    from embstore.table.numbering import Numbering
    from embstore.table.plan import LookupPlan

Out = TypeVar("Out")  # An ndarray, or a torch.Tensor.

_ndarray, _INT64 = np.ndarray, np.dtype(np.int64)


class LookupMixin(ABC):
    """Methods by id, on a table with a reader of its records."""

    _rows: int
    _row_shape: tuple[int, ...]
    _dtype: np.dtype[Any]
    _numbering: Numbering
    _rows_of: Callable[[NDArray[np.int64]], NDArray[np.int64]]
    # The short path, for at most `_few_ids` ids; None where there is none. See
    # `embstore.reading.short_path`. Those of other forms, by the name of a dtype, once used.
    _few: Few | None
    _few_ids: int
    _fews: dict[str, Few]
    _few_raw: Few | None
    _warm: Warm | None
    _joint: JointTable | None

    @abstractmethod
    def _open_forms(self) -> Forms:
        """Return the forms of a lookup; raise StoreClosedError if the store is closed."""

    @overload
    def lookup(
        self,
        ids: ArrayLike,
        *,
        out: None = None,
        max_norm: float | None = None,
        dtype: DTypeLike | None = None,
        raw: bool = False,
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
    ) -> Out: ...
    def lookup(
        self,
        ids: ArrayLike,
        *,
        out: Any | None = None,
        max_norm: float | None = None,
        dtype: DTypeLike | None = None,
        raw: bool = False,
    ) -> Any:
        """Return the rows of ``ids``, in request order.

        Parameters
        ----------
        ids : int or array-like of integers, any shape
            Ids in ``0 .. rows - 1``; repeats allowed.
        out : ndarray or torch.Tensor, shape ``ids.shape + row_shape``, optional
            What to fill, of the store's dtype and C-contiguous; by default a new array. A tensor
            must be on the CPU; it may be pinned. Encoded rows are decoded to its dtype, if that is
            float32, bfloat16, float16 or float64.
        max_norm : float, optional
            Rows whose L2 norm exceeds it are scaled down to it, in the result only. A row with a
            NaN becomes NaN.
        dtype : dtype-like, optional
            Dtype of the result, by default the store's: float32, bfloat16, float16 or float64, to
            which encoded rows are decoded, and others cast. Numbers that are too large for it
            become infinite.
        raw : bool
            Whether to return the bytes of each row as they are stored, uint8 of shape
            ``ids.shape + (record_bytes,)``. Of encoded rows, these are the codes, then the scales
            and the zero points of the row.

        Returns
        -------
        rows : ndarray, shape ``ids.shape + row_shape``
            ``out`` itself if it was given. Buffers of the last two large results of the process,
            256 MiB together at most, are reused once freed, until the last store is closed.

        Raises
        ------
        IdTypeError
            If ``ids`` are not integers.
        IdRangeError
            If an id is negative, or not below the row count; the message names the first one.
        ValueError, TypeError
            If ``out`` has another shape, dtype or memory order; if ``max_norm`` is not above 0, or
            is given for rows that are not floats; if rows cannot have this ``dtype``; if ``raw`` is
            combined with ``dtype`` or ``max_norm``.

        Examples
        --------
        >>> store.lookup([[1, 0], [7, 1]]).shape
        (2, 2, 8)
        >>> store.lookup([1, 0], dtype="float16").dtype, store.lookup([1, 0], raw=True).shape
        (dtype('float16'), (2, 32))
        """
        if (
            type(ids) is _ndarray
            and ids.dtype is _INT64
            and 0 < ids.size <= self._few_ids
            and max_norm is None
            and (out is None or type(out) is _ndarray)
        ):
            few = None
            if dtype is None:
                few = self._few if raw is False else self._few_raw if raw is True else None
            elif raw is False and type(dtype) is str:
                few = self._fews.get(dtype)
            if few is not None:
                return few(ids, out)
        form = self._form(dtype, raw=raw)
        wide = as_ids(ids, self._rows)
        few = form.short.few
        if 0 < wide.size <= self._few_ids and max_norm is None and few is not None:
            if out is None:
                return few(wide, None)
            few(wide, as_out(out, wide.shape + form.row_shape, form.dtype, form.others))
            return out
        if not wide.size:
            return fill(form, wide, wide.reshape(-1), out, max_norm)
        return fill(form, wide, self._rows_of(wide.reshape(-1)), out, max_norm)

    def _form(self, dtype: DTypeLike | None, *, raw: bool) -> Form:
        """Return the form of a result that a caller asks for."""
        forms = self._open_forms()
        if dtype is None and raw is False:
            return forms.default
        form = forms.of(dtype, raw=as_flag(raw, "raw"))
        if raw:
            self._few_raw = form.short.few
        elif type(dtype) is str and form.short.few is not None:
            self._fews[dtype] = form.short.few
        return form

    def explain(self, ids: ArrayLike) -> LookupPlan:
        """Return the plan of a lookup, without reading rows: what it would touch and read.

        Parameters
        ----------
        ids : int or array-like of integers, any shape
            The ids of the lookup.

        Returns
        -------
        LookupPlan
            The numbers of rows, chunks, reads and bytes; it prints as a table.

        Raises
        ------
        IdTypeError, IdRangeError
            As `lookup`.
        """
        records = self._open_forms().default.records
        wide = as_ids(ids, self._rows)
        return records.plan(self._rows_of(wide), self._numbering)

    def prefetch(self, ids: ArrayLike) -> Prefetch:
        """Start reading the rows of ``ids`` from the disk, and return; a later lookup finds them.

        Rows that are in memory already cost little. At a URL, the rows of the last 8 calls are
        kept, in 64 MiB at most, for lookups that come when they have been read. Of files on a disk,
        this does nothing without a mapping.

        Parameters
        ----------
        ids : int or array-like of integers, any shape
            The ids of a lookup to come, for example of the next batch; copied.

        Returns
        -------
        Prefetch
            Tells whether the rows have been read, and waits for them: `Prefetch.done`,
            `Prefetch.wait`. It may be dropped.

        Raises
        ------
        IdTypeError, IdRangeError
            As `lookup`.

        Examples
        --------
        >>> coming = store.prefetch([0, 5, 7])
        >>> coming.wait(timeout=60)
        True
        """
        records = self._open_forms().default.records
        return prefetch(records, self._rows_of(as_ids(ids, self._rows).flatten()))

    @overload
    def submit(
        self,
        ids: ArrayLike,
        out: None = None,
        *,
        dtype: DTypeLike | None = None,
        raw: bool = False,
    ) -> Future[NDArray[Any]]: ...
    @overload
    def submit(
        self, ids: ArrayLike, out: Out, *, dtype: DTypeLike | None = None, raw: bool = False
    ) -> Future[Out]: ...
    def submit(
        self,
        ids: ArrayLike,
        out: Any | None = None,
        *,
        dtype: DTypeLike | None = None,
        raw: bool = False,
    ) -> Future[Any]:
        """Start a lookup, and return the future of its rows.

        A background thread does the lookups of all stores, in order. Submit a batch or two before
        you use one, and the disk is never idle; in asyncio, await
        ``asyncio.wrap_future(store.submit(ids))``. The call itself starts the reads of up to 64
        cold rows, which takes 1 to 3 us each, and does a small lookup, of 512 KiB or less, whose
        rows are all known to be in RAM.

        A lookup can be cancelled before it starts. `close` does not end those that were submitted.
        In a forked child, asking a future of its parent for the result raises RuntimeError, unless
        it was done.

        Parameters
        ----------
        ids : int or array-like of integers, any shape
            As for `lookup`; copied.
        out : ndarray or torch.Tensor, shape ``ids.shape + row_shape``, optional
            As for `lookup`. It belongs to the lookup until the future is done: do not read or
            change it, or pass it to another lookup.
        dtype : dtype-like, optional
            As for `lookup`.
        raw : bool
            As for `lookup`.

        Returns
        -------
        concurrent.futures.Future
            Its result is the rows, in ``out`` if it was given; `lookup` describes them. Callbacks
            run on the background thread, so they must be quick, and must not wait for another
            submitted lookup. Where no thread can be started, the future is finished already.

        Raises
        ------
        IdTypeError, IdRangeError, ValueError, TypeError
            As `lookup`, at once. The future raises errors of reading.

        Examples
        --------
        >>> futures = [store.submit(batch) for batch in ([1, 0], [[7], [1]])]
        >>> [future.result().shape for future in futures]
        [(2, 8), (2, 1, 8)]
        """
        form = self._form(dtype, raw=raw)
        wide = as_ids(ids, self._rows)
        return submit(form, self._rows_of(wide.flatten()), out, wide.shape)

    def warm(self, ids: ArrayLike, *, counts: ArrayLike | None = None) -> int:
        """Bring the rows of ``ids`` into memory, and return when they are there.

        With a row cache (``row_cache`` of `embstore.open`), they are copied to it, the most wanted
        ones first if it cannot hold all, in place of those that were looked up least. Lookups that
        are under way hold this up, for 10 seconds at most. Without a row cache, the rows are read
        into the page cache. Without a mapping, this does nothing.

        Parameters
        ----------
        ids : int or array-like of integers, any shape
            The ids, the most wanted ones first.
        counts : array-like of numbers, the shape of ``ids``, optional
            How often each id was looked up, 0 or more; then ``ids`` may be in any order.

        Returns
        -------
        int
            How many of these rows the row cache holds; without one, how many were read.

        Raises
        ------
        IdTypeError, IdRangeError
            As `lookup`.
        TypeError, ValueError
            If ``counts`` are not numbers, are negative or not finite, or have another shape.

        Examples
        --------
        >>> with embstore.open("words.embstore", row_cache="1MiB") as small:
        ...     small.warm(small.ids(["like", "the"]))
        2
        """
        records = self._open_forms().default.records
        wide = as_ids(ids, self._rows)
        numbers = None if counts is None else as_counts(counts, wide.shape)
        wide = wide.flatten()  # A copy: the caller's array may be changed meanwhile.
        return records.warm(self._rows_of(wide), numbers)


def fill(
    form: Form,
    ids: NDArray[np.int64],
    rows: NDArray[np.int64],
    out: Any | None,
    max_norm: float | None,
) -> Any:
    """Return the rows of a lookup, in a form; in ``out`` if it is given.

    Parameters
    ----------
    form : Form
        The form of the result.
    ids : ndarray of int64, any shape
        The ids: their shape is that of the result, but for the rows'.
    rows : ndarray of int64, shape (n,)
        Their rows in the columns. They may be the ids themselves.
    out, max_norm
        As for `LookupMixin.lookup`.
    """
    shape = ids.shape + form.row_shape
    if out is None:
        given = out = POOL.empty(shape, form.dtype)
    else:
        given, out = out, as_out(out, shape, form.dtype, form.others)
        if np.may_share_memory(out, rows):
            rows = rows.copy()  # Else the first rows might replace the last ids.
    if max_norm is not None:
        if form.is_raw:
            raise ValueError(
                f"{parameter('max_norm')} scales rows, but {option('raw', True)} returns bytes; "
                "omit one"
            )
        check_max_norm(max_norm, out.dtype)  # Before ``out`` is written to.
    form.records.take(rows, out.reshape(len(rows), *form.row_shape))
    if max_norm is not None:
        clip_norms(out, max_norm, len(form.row_shape))
    return given
