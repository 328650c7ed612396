"""Columns of batches, as they come from Ray Data: ids or words, one or a bag of them a row.

1. `read_column` turns a column of any kind of batch into a flat array, and where its bags end.
2. `with_rows` adds a column of rows to a batch of any kind.

Kinds of batches are told apart by what they can do, so neither pandas nor pyarrow is imported here
before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Given:
    """What a column asks for.

    Attributes
    ----------
    values : ndarray
        Ids or words; of any shape where ``splits`` is None, else of all bags, one after the other.
    splits : ndarray of int64, or None
        Bag ``b`` is ``values[splits[b] : splits[b + 1]]``.
    has_words : bool
        Whether the values are words.
    """

    values: NDArray[Any]
    splits: NDArray[np.int64] | None
    has_words: bool

    def as_bags(self, name: str) -> tuple[Given, NDArray[np.int64]]:
        """Return the same with splits, and these: each row is a bag.

        Raises
        ------
        ValueError
            If rows are not bags: single values, or arrays of more than one axis.
        """
        if self.splits is not None:
            return self, self.splits
        if self.values.ndim != 2:
            raise ValueError(
                f"a combiner needs a list of ids or words in each row; column {name!r} has shape "
                f"{self.values.shape}"
            )
        count, size = self.values.shape
        splits = np.arange(count + 1, dtype=np.int64) * size
        return Given(self.values.reshape(-1), splits, self.has_words), splits


def is_arrow(batch: Any) -> bool:
    """Say whether a batch is a table of Arrow."""
    return hasattr(batch, "append_column") and hasattr(batch, "schema")


def read_column(batch: Any, name: str) -> Given:
    """Return what a column of a batch asks for.

    Raises
    ------
    KeyError
        If there is no such column; the message names those that are there.
    TypeError, ValueError
        If the batch is of an unknown kind, or values are missing.
    """
    if is_arrow(batch):
        names = batch.schema.names
    elif isinstance(batch, Mapping):
        names = list(batch)
    elif hasattr(batch, "columns") and hasattr(batch, "assign"):
        names = list(batch.columns)
    else:
        raise TypeError(
            "a batch must be a dict of arrays, a pyarrow.Table or a pandas.DataFrame, not "
            f"{type(batch).__name__}"
        )
    if name not in names:
        raise KeyError(f"the batch has no column {name!r}; it has {', '.join(map(repr, names))}")
    if is_arrow(batch):
        return _from_arrow(batch.column(name).combine_chunks(), name)
    return _from_numpy(np.asarray(batch[name]), name)


def _from_numpy(values: NDArray[Any], name: str) -> Given:
    if values.dtype != object:
        return Given(values, None, values.dtype.kind in "UT")
    if not len(values):
        return Given(np.empty(0, np.int64), None, has_words=False)
    if isinstance(values.flat[0], str):
        return Given(values, None, has_words=True)
    if all(isinstance(one, int | np.integer) for one in values.flat):  # Of pandas.
        return Given(np.array(values.tolist()), None, has_words=False)
    bags = []
    for place, one in enumerate(values):
        if one is None or isinstance(one, str | float) or np.ndim(one) != 1:
            raise ValueError(
                f"row {place} of column {name!r} must be a list of ids or words, as the first is, "
                f"not {repr(one)[:100]}"
            )
        bags.append(np.asarray(one))
    splits = np.cumsum([0, *map(len, bags)], dtype=np.int64)
    filled = [bag for bag in bags if len(bag)]
    flat = np.concatenate(filled) if filled else np.empty(0, np.int64)
    has_words = flat.dtype.kind in "UT" or (flat.dtype == object and isinstance(flat[0], str))
    return Given(flat, splits, has_words)


def _from_arrow(values: Any, name: str) -> Given:
    import pyarrow as pa  # noqa: PLC0415  # It is there: the batch is its.

    kind = values.type
    if values.null_count:
        raise ValueError(
            f"column {name!r} has {values.null_count} nulls of {len(values)}; drop or fill them"
        )
    if pa.types.is_dictionary(kind):
        return _from_arrow(values.dictionary_decode(), name)
    if isinstance(kind, pa.BaseExtensionType):  # Tensors, Arrow's or Ray's.
        tensors = getattr(values, "to_numpy_ndarray", None)
        found = tensors() if tensors else values.to_numpy(zero_copy_only=False)
        return _from_numpy(np.asarray(found), name)
    if pa.types.is_fixed_size_list(kind):
        flat = _from_arrow(values.flatten(), name)
        if flat.splits is None:
            shape = (len(values), kind.list_size, *flat.values.shape[1:])
            return Given(flat.values.reshape(shape), None, flat.has_words)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        flat = _from_arrow(values.flatten(), name)
        if flat.splits is None and flat.values.ndim == 1:
            offsets = np.asarray(values.offsets, np.int64)
            return Given(flat.values, offsets - offsets[0], flat.has_words)
    if pa.types.is_nested(kind):
        raise ValueError(f"column {name!r} must hold ids, words, or lists of them, not {kind}")
    return _from_numpy(values.to_numpy(zero_copy_only=False), name)


def with_rows(batch: Any, name: str, rows: NDArray[Any], splits: NDArray[np.int64] | None) -> Any:
    """Return a batch with a column of rows, or of the rows of each bag, added or replaced.

    Parameters
    ----------
    batch : dict, pyarrow.Table or pandas.DataFrame
        The batch, which is not changed.
    name : str
        The column.
    rows : ndarray
        Rows, the first axis that of the batch, or of all bags where ``splits`` is given.
    splits : ndarray of int64, or None
        Where bags end, if each row of the batch gets the rows of a bag.
    """
    if is_arrow(batch):
        column = _arrow_rows(rows, splits)
        if name in batch.schema.names:
            return batch.set_column(batch.schema.get_field_index(name), name, column)
        return batch.append_column(name, column)
    column = rows
    if splits is not None:
        column = np.empty(len(splits) - 1, object)
        for bag in range(len(column)):
            column[bag] = rows[splits[bag] : splits[bag + 1]]
    if isinstance(batch, Mapping):
        return {**batch, name: column}
    return batch.assign(**{name: list(column)})


def _arrow_rows(rows: NDArray[Any], splits: NDArray[np.int64] | None) -> Any:
    import pyarrow as pa  # noqa: PLC0415  # As above.

    if splits is None and rows.ndim > 2:
        return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(rows))
    column = pa.array(rows.reshape(-1))
    for size in reversed(rows.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column if splits is None else pa.LargeListArray.from_arrays(splits, column)
