"""Updating from a source, such as a file: its words say which rows are replaced, or a list of ids.

Errors name the line or row of the source, as in a build, and rows that are encoded as those of the
store are kept so.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from embstore.changing.rows_of_source import check_shape, local, report_of
from embstore.encodings.casting import OnOverflow
from embstore.errors import SourceError
from embstore.paths import as_local_path
from embstore.settle import as_choice, as_flag, as_size
from embstore.sources.copying import copy_batches
from embstore.table.ids import as_ids
from embstore.vocabulary.spelling import near_word
from embstore.wording import option
from embstore.writing.versions.table_change import TableChange

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from embstore.changing.report import ChangeReport
    from embstore.progress import OnProgress
    from embstore.sources import Batch, Source
    from embstore.sources.options import SourceOptions


def update_from(
    path: Any,
    options: SourceOptions,
    ids: ArrayLike | None,
    *,
    on_overflow: OnOverflow,
    memory_limit: int | str,
    dry_run: bool,
    progress: OnProgress | None,
) -> ChangeReport:
    """Replace rows of a store by those of a source.

    Parameters
    ----------
    path : str or path-like
        The store.
    options : SourceOptions
        The source.
    ids : array-like of integers, shape (rows,), optional
        The ids of its rows, in their order; by default its words say which they are.
    on_overflow, memory_limit, dry_run, progress
        As for `embstore.update`.

    Raises
    ------
    SourceError
        If a row cannot be stored, the store lacks a word, the source has no words and no ids are
        given, or both; or if there are fewer ids or rows.
    IdRangeError, IdTypeError
        If an id is out of range, or not an integer.
    """
    target = as_local_path(path, "path", local())
    on_overflow = as_choice(on_overflow, "on_overflow", get_args(OnOverflow))
    memory_bytes = as_size(memory_limit, "memory_limit")
    dry = as_flag(dry_run, "dry_run")
    with closing(TableChange(target, "update", memory_bytes=memory_bytes, dry=dry)) as change:
        manifest = change.manifest
        given = None if ids is None else as_ids(ids, manifest.rows).reshape(-1)
        plain = manifest.dtype if manifest.encoding is None else None
        source = options.open(plain, change.wanted_encoding, manifest.attribute_dtypes)
        change.start(encoding=source.encoding, on_overflow=on_overflow)
        check_shape(source, change)

        def write(batch: Batch) -> int:
            stop = batch.first + len(batch.rows)
            if given is None:
                found = _ids_of_words(source, batch, change)
            elif batch.words is not None:
                raise SourceError(
                    f"{source.name} has words, which say which rows it has; leave the ids out"
                )
            elif stop > len(given):
                raise SourceError(f"{source.name} has more rows than the {len(given)} ids")
            else:
                found = given[batch.first : stop]
            change.replace(found, batch.rows, batch.attributes)
            return change.rows_replaced

        non_finite = copy_batches(source, write, progress)
        if given is not None and change.rows_replaced < len(given):
            raise SourceError(
                f"{source.name} has {change.rows_replaced} rows for {len(given)} ids; give an id "
                "for each row"
            )
        return report_of(change.publish(source.describe() | {"non_finite_row_count": non_finite}))


def _ids_of_words(source: Source, batch: Batch, change: TableChange) -> NDArray[np.int64]:
    """Return the ids of a batch's words."""
    if batch.words is None:
        raise SourceError(
            f"{source.name} has no words, so nothing says which rows it has; give their ids "
            f"({option('ids')})"
        )
    words = [word.decode() for word in batch.words.encoded()]
    found = change.vocabulary.ids(words)
    absent = np.flatnonzero(found < 0)
    if absent.size:
        first = int(absent[0])
        near = near_word(words[first], change.vocabulary)
        hint = "" if near is None else f" (did you mean {near!r}?)"
        raise SourceError(
            f"{source.place(batch.first + first)}: the word {words[first]!r} is not in the store"
            f"{hint}; to append new words, too, use upsert"
        )
    return found
