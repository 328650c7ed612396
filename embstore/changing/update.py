"""Updating: rows of some ids or words are replaced."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from embstore.changing.blocks import blocks_of, id_blocks, in_step, shaped_as
from embstore.changing.rows_of_source import local, report_of
from embstore.encodings.casting import OnOverflow
from embstore.errors import RowError
from embstore.paths import as_local_path
from embstore.progress import Progress
from embstore.settle import as_choice, as_flag, as_size, shown_with_type
from embstore.table.ids import as_ids
from embstore.vocabulary.missing import find_ids
from embstore.wording import function, option
from embstore.writing.attribute_columns import GivenColumns
from embstore.writing.memory import DEFAULT_MEMORY_LIMIT
from embstore.writing.versions.table_change import TableChange

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from numpy.typing import ArrayLike, NDArray

    from embstore.changing.report import ChangeReport
    from embstore.progress import OnProgress


def upsert_instead() -> str:
    """Return what to do with words that a store does not have."""
    return f"{function('upsert')} appends the rows of new words"


def update(
    path: str | os.PathLike[str],
    ids: Any,
    rows: ArrayLike | Iterator[ArrayLike] | None = None,
    *,
    attributes: Mapping[str, Any] | None = None,
    on_overflow: OnOverflow = "error",
    memory_limit: int | str = DEFAULT_MEMORY_LIMIT,
    dry_run: bool = False,
    progress: OnProgress | None = None,
) -> ChangeReport:
    """Replace the rows, or values of attributes, of some ids or words of a store.

    The result is a new version of the store, in its place. It shares the files that stay the same
    with the old one, so an update costs as much as the chunks that the rows are in. Open stores
    keep the old version. An update that fails leaves nothing behind, and does not change the store.

    Parameters
    ----------
    path : str or path-like
        The store.
    ids : int, str, array-like of either, or iterator of these
        The ids or the words of the rows, each once. Those of an iterator, such as a generator, are
        taken as they come.
    rows : array-like, shape ``ids.shape + row_shape``, or iterator of arrays
        The rows. Arrays of an iterator have shape ``(n, *row_shape)`` or ``row_shape``, and need
        not end where those of the ids do. They are converted as by `embstore.build`. Of a store
        that keeps records of another program, such as GGUF's, they are such records, uint8.
        Without rows, those of the store stay as they are.
    attributes : mapping of str to array-like, optional
        New values of some of the store's attributes, one for each id; others stay as they are.
    on_overflow : {"error", "inf"}
        What to do with a finite number that is too large for a float dtype: stop with an error, or
        store infinity.
    memory_limit : int or str
        Memory that the change may use besides Python and its libraries, in bytes or as in
        ``2GiB`` or ``500M`` (``M`` and ``MB`` are 10^6 bytes, ``MiB`` is 2^20). Rows beyond it
        wait in a file in the directory of the store.
    dry_run : bool
        Do everything but write, to see what it would cost.
    progress : callable, optional
        Called with an `embstore.Progress`: bytes of rows taken so far, 0, and rows.

    Returns
    -------
    ChangeReport
        What was replaced, and what it cost.

    Raises
    ------
    IdRangeError, IdTypeError
        If an id is out of range, or not an integer.
    MissingWordError
        If the store does not have a word, or has none.
    RowError
        If a number does not fit into the store's dtype.
    StoreNotFoundError, StoreBusyError, StoreCorruptError, StoreVersionError
        If there is no store, it is being written, a file that has to be read is damaged, or the
        store needs a newer embstore.
    TypeError, ValueError
        If an argument has a wrong type or value, rows have another shape or are too many or too
        few, or an id comes twice.

    Examples
    --------
    >>> _ = embstore.build("words.txt", "changes.embstore")
    >>> report = embstore.update("changes.embstore", ["like", "the"], np.ones((2, 8)))
    >>> report.rows, embstore.open("changes.embstore")["like"][:2].tolist()
    (2, [1.0, 1.0])
    """
    target = as_local_path(path, "path", local())
    on_overflow = as_choice(on_overflow, "on_overflow", get_args(OnOverflow))
    memory_bytes = as_size(memory_limit, "memory_limit")
    if attributes is not None and not isinstance(attributes, Mapping):
        raise TypeError(
            'attributes must be a mapping such as {"count": values}, not '
            f"{shown_with_type(attributes)}"
        )
    if rows is None and not attributes:
        raise ValueError(
            f"there is nothing to update; give rows, or {option('attributes')}, or both"
        )
    dry = as_flag(dry_run, "dry_run")
    with closing(TableChange(target, "update", memory_bytes=memory_bytes, dry=dry)) as change:
        change.start(encoding=None, on_overflow=on_overflow)

        def settle(given: Any) -> NDArray[np.int64]:
            if _are_words(given):
                return find_ids(
                    given,
                    change.vocabulary,
                    "error",
                    unk=None,
                    path=target,
                    remedy=upsert_instead(),
                )
            return as_ids(given, change.manifest.rows)

        done = 0
        columns = (
            None
            if not attributes
            else GivenColumns(shaped_as(ids, attributes), change.manifest.attribute_dtypes)
        )
        for some, block in _blocks(ids, rows, settle, change):
            values = None if columns is None else columns.take(len(some))
            first = change.rows_replaced
            try:
                change.replace(some, block, values)
            except RowError as error:
                raise RowError(error.problem, first + error.position) from error
            done += 0 if block is None else block.nbytes
            if progress is not None:
                progress(Progress(done, 0, change.rows_replaced))
        if columns is not None:
            columns.check_end()
        return report_of(change.publish({}))


def _blocks(
    ids: Any, rows: Any, settle: Callable[[Any], NDArray[np.int64]], change: TableChange
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any] | None]]:
    """Yield ids and as many rows, piece by piece; None for no rows."""
    if rows is None:
        yield from ((some, None) for some in id_blocks(ids, settle))
    else:
        yield from in_step(*blocks_of(ids, rows, settle, change.row_shape, change.rows_text))


def _are_words(given: Any) -> bool:
    """Return whether ids are given as words: the first one tells."""
    while isinstance(given, list | tuple) and given:
        given = given[0]
    if isinstance(given, str):
        return True
    dtype = getattr(given, "dtype", None)
    kind = getattr(dtype, "kind", "")
    if kind == "O" and getattr(given, "size", 0):
        return isinstance(np.asarray(given).flat[0], str)
    return kind in "UT" and kind != ""
