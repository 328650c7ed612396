"""Bags of ids: runs of ids that are combined into one row each.

There are two ways to give them. `SparseIds` is TensorFlow's ``SparseTensor`` (COO): each id with
its indices in a dense array that has gaps; the last axis is the bag. `RaggedIds` is its
``RaggedTensor``: the ids of all bags, one bag after the other, and the position where each bag
starts. TensorFlow's own objects are accepted, too. Weights come as the same kind, with the same
indices or splits. Ragged ids of more axes than bags and ids can be looked up, but not combined.

Both copy what they are given, so a later change of the caller's arrays does not reach them.

`as_bags` checks ids and weights, and makes `Bags` of either kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import has_masked, is_float
from embstore.table.given import hidden_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray


class SparseIds:
    """Ids or weights with their indices in a dense array (COO).

    Parameters
    ----------
    indices : array-like of integers, shape (n, rank)
        The indices of each value in the dense array; the rank is 2 or more. All but the last index
        name its bag; bags come in ascending order.
    values : array-like, shape (n,)
        Ids, or weights.
    dense_shape : array-like of integers, shape (rank,)
        The shape of the dense array. Bags without values count, trailing ones included.

    Raises
    ------
    ValueError, TypeError
        If shapes do not match, indices are outside of the dense array, or bags are not in order.

    Examples
    --------
    Two bags of three, the second one empty:

    >>> ids = SparseIds([[0, 0], [0, 1], [2, 0]], [1, 3, 0], [3, 2])
    >>> ids
    <SparseIds 3 values, dense shape (3, 2)>
    """

    __slots__ = ("dense_shape", "indices", "row_splits", "values")

    def __init__(self, indices: ArrayLike, values: ArrayLike, dense_shape: ArrayLike) -> None:
        self.values = _one_axis("values of SparseIds", values)
        shape = _integers("dense_shape", dense_shape)
        if shape.ndim != 1 or len(shape) < 2 or (shape < 0).any():
            raise ValueError(
                f"dense_shape must have 2 or more axes, none negative; it is {shape.tolist()}"
            )
        self.dense_shape = tuple(shape.tolist())
        indices = _integers("indices", indices)
        if not indices.size and not len(self.values):
            indices = indices.reshape(0, len(shape))
        expected = (len(self.values), len(shape))
        if indices.shape != expected:
            raise ValueError(
                f"indices have shape {indices.shape}; {expected[0]} values in a dense array of "
                f"{expected[1]} axes need shape {expected}"
            )
        self.indices = indices
        self.row_splits = _row_splits(indices, self.dense_shape)

    @property
    def bags_shape(self) -> tuple[int, ...]:
        """Shape of the array of bags: that of the dense array without its last axis."""
        return self.dense_shape[:-1]

    def __repr__(self) -> str:
        return f"<SparseIds {len(self.values)} values, dense shape {self.dense_shape}>"


class RaggedIds:
    """Ids or weights, one bag after the other.

    Parameters
    ----------
    values : array-like, shape (n, ...), or RaggedIds
        Ids, or weights; ``RaggedIds`` where a bag consists of bags, as in a ``RaggedTensor`` whose
        ``ragged_rank`` is 2 or more.
    row_splits : array-like of integers, shape (bags + 1,)
        Bag ``b`` is ``values[row_splits[b] : row_splits[b + 1]]``. The first is 0, the last n, and
        they never descend.

    Raises
    ------
    ValueError, TypeError
        If the splits do not match the values.

    Examples
    --------
    >>> RaggedIds([1, 3, 0], [0, 2, 2, 3])
    <RaggedIds 3 values in 3 bags>
    >>> RaggedIds(RaggedIds([1, 3, 0], [0, 2, 2, 3]), [0, 1, 3])  # A bag, then two of them.
    <RaggedIds 3 values in 2 bags>
    """

    __slots__ = ("row_splits", "values")

    def __init__(self, values: ArrayLike | RaggedIds, row_splits: ArrayLike) -> None:
        ragged = as_ragged(values)
        self.values: Any = _axes("values of RaggedIds", values) if ragged is None else ragged
        splits = _integers("row_splits", row_splits)
        if splits.ndim != 1 or not len(splits):
            raise ValueError(
                f"row_splits must have one axis and start with 0; their shape is {splits.shape}"
            )
        if splits[0] != 0 or splits[-1] != len(self.values):
            raise ValueError(
                f"row_splits must run from 0 to the number of values, {len(self.values)}; these "
                f"run from {splits[0]} to {splits[-1]}"
            )
        descents = np.flatnonzero(splits[1:] < splits[:-1])
        if len(descents):
            at = int(descents[0])
            raise ValueError(
                f"row_splits must not descend, but {splits[at]} is followed by {splits[at + 1]} "
                f"at position {at + 1}"
            )
        self.row_splits = splits

    @property
    def bags_shape(self) -> tuple[int, ...]:
        """Shape of the array of bags, which has one axis."""
        return (len(self.row_splits) - 1,)

    @property
    def flat_values(self) -> NDArray[Any]:
        """The ids of all bags, also where these consist of bags."""
        values = self.values
        return values.flat_values if isinstance(values, RaggedIds) else values

    def __len__(self) -> int:
        return len(self.row_splits) - 1

    def __repr__(self) -> str:
        return f"<RaggedIds {self.flat_values.size} values in {len(self)} bags>"


@dataclass(frozen=True, slots=True, eq=False)
class RaggedRows:
    """The rows of `RaggedIds`.

    Parameters
    ----------
    values : ndarray, shape ``(n, ..., *row_shape)``, or RaggedRows
        The rows of all bags, one bag after the other; ``RaggedRows`` where bags consist of bags.
    row_splits : ndarray of int64, shape (bags + 1,)
        Those of the ids.

    Examples
    --------
    >>> rows = embstore.embedding_lookup(store, RaggedIds([1, 3, 0], [0, 2, 2, 3]))
    >>> rows.values.shape, len(rows), rows[0].shape, rows[1].shape
    ((3, 8), 3, (2, 8), (0, 8))
    """

    values: Any
    row_splits: NDArray[np.int64]

    @property
    def flat_values(self) -> NDArray[Any]:
        """The rows of all bags, also where these consist of bags."""
        values = self.values
        return values.flat_values if isinstance(values, RaggedRows) else values

    def __len__(self) -> int:
        return len(self.row_splits) - 1

    def __getitem__(self, bag: int) -> Any:
        """Return the rows of one bag, a view: an ndarray, or `RaggedRows` of its bags."""
        position = range(len(self))[bag]
        return _part(self.values, *self.row_splits[position : position + 2])

    def __iter__(self) -> Iterator[Any]:
        return map(self.__getitem__, range(len(self)))


def _part(rows: Any, start: int, stop: int) -> Any:
    """Return consecutive rows of an ndarray, or bags of `RaggedRows`."""
    if not isinstance(rows, RaggedRows):
        return rows[start:stop]
    splits = rows.row_splits[start : stop + 1]
    return RaggedRows(_part(rows.values, splits[0], splits[-1]), splits - splits[0])


@dataclass(frozen=True, slots=True)
class Bags:
    """Bags from either kind, with their weights.

    Parameters
    ----------
    ids : ndarray, shape (n,)
        The ids as given: neither their dtype nor their range is checked yet.
    row_splits : ndarray of int64, shape (bags + 1,)
    weights : ndarray of numbers, shape (n,), or None
    shape : tuple of int
        Shape of the array of bags.
    """

    ids: NDArray[Any]
    row_splits: NDArray[np.int64]
    weights: NDArray[Any] | None
    shape: tuple[int, ...]

    def keep(self, kept: NDArray[np.bool_]) -> Bags:
        """Return the same bags with a part of their ids.

        Parameters
        ----------
        kept : ndarray of bool, shape (n,)
            Which ids stay.
        """
        before = np.concatenate([[0], np.cumsum(kept)])
        weights = None if self.weights is None else self.weights[kept]
        return Bags(self.ids[kept], before[self.row_splits], weights, self.shape)


def as_bags(sp_ids: Any, sp_weights: Any = None) -> Bags:
    """Return bags of ids and weights.

    Parameters
    ----------
    sp_ids, sp_weights : SparseIds or RaggedIds, or objects with the same attributes
        Both of one kind. Weights may be left out.

    Raises
    ------
    TypeError
        If they are of another kind, or of two kinds, or weights are not real numbers.
    ValueError
        If the weights' indices or splits differ from those of the ids, or ragged ones have more
        axes than bags and ids.
    """
    ids = _sparse_or_ragged("sp_ids", sp_ids)
    if sp_weights is None:
        return Bags(ids.values, ids.row_splits, None, ids.bags_shape)
    weights = _sparse_or_ragged("sp_weights", sp_weights)
    if type(weights) is not type(ids):
        raise TypeError(
            f"sp_weights must be {type(ids).__name__}, like sp_ids, not {type(weights).__name__}"
        )
    if len(weights.values) != len(ids.values):
        raise ValueError(
            f"{len(weights.values)} weights for {len(ids.values)} ids; expected one for each id"
        )
    if not _same_bags(ids, weights):
        where = "indices or dense_shape" if isinstance(ids, SparseIds) else "row_splits"
        raise ValueError(f"sp_weights and sp_ids differ in {where}")
    if weights.values.dtype.kind not in "iu" and not is_float(weights.values.dtype):
        raise TypeError(f"weights must be real numbers, not {weights.values.dtype}")
    return Bags(ids.values, ids.row_splits, weights.values, ids.bags_shape)


def _same_bags(ids: SparseIds | RaggedIds, weights: SparseIds | RaggedIds) -> bool:
    if isinstance(ids, SparseIds) and isinstance(weights, SparseIds):
        alike = ids.dense_shape == weights.dense_shape
        return alike and np.array_equal(ids.indices, weights.indices)
    return np.array_equal(ids.row_splits, weights.row_splits)


def as_ragged(ids: Any) -> RaggedIds | None:
    """Return ``ids`` as `RaggedIds` if they are ragged or have such attributes, else None."""
    if isinstance(ids, RaggedIds | SparseIds):
        return ids if isinstance(ids, RaggedIds) else None
    if hasattr(ids, "row_splits") and hasattr(ids, "values"):
        return RaggedIds(ids.values, ids.row_splits)
    return None


def _sparse_or_ragged(name: str, given: Any) -> SparseIds | RaggedIds:
    if isinstance(given, SparseIds):
        return given
    if hasattr(given, "dense_shape") and hasattr(given, "indices") and hasattr(given, "values"):
        return SparseIds(given.indices, given.values, given.dense_shape)
    ragged = as_ragged(given)
    if ragged is not None:
        if isinstance(ragged.values, RaggedIds) or ragged.values.ndim != 1:
            raise ValueError(
                f"{name} has more axes than bags and ids; combine the bags of its values, such as "
                "with tf.RaggedTensor.values"
            )
        return ragged
    raise TypeError(
        f"{name} must be SparseIds or RaggedIds, not {type(given).__name__}; embedding_lookup "
        "takes a plain array of ids"
    )


def _row_splits(indices: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return where each bag starts among values in the order of their bags, and the end."""
    outside = ((indices < 0) | (indices >= np.array(shape, np.int64))).any(axis=1)
    if outside.any():
        at = int(np.flatnonzero(outside)[0])
        raise ValueError(
            f"indices {indices[at].tolist()} of value {at} are outside of dense_shape {shape}"
        )
    bags = np.zeros(len(indices), np.int64)
    for axis, length in enumerate(shape[:-1]):
        bags = bags * length + indices[:, axis]
    descents = np.flatnonzero(bags[1:] < bags[:-1])
    if len(descents):
        at = int(descents[0]) + 1
        raise ValueError(
            f"indices must be in the order of their bags, but {indices[at].tolist()} of value {at} "
            f"follows {indices[at - 1].tolist()}; np.lexsort(indices.T[::-1]) sorts them"
        )
    bag_count = int(np.prod(shape[:-1], dtype=np.int64))
    return np.searchsorted(bags, np.arange(bag_count + 1))


def _one_axis(name: str, values: ArrayLike) -> NDArray[Any]:
    array = _axes(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one axis; their shape is {array.shape}")
    return array


def _axes(name: str, values: Any) -> NDArray[Any]:
    array = _array(name, values)
    if not array.ndim:
        raise ValueError(f"{name} must have one axis or more; this is a single number")
    if not array.size and isinstance(values, list | tuple):
        return array.astype(np.int64)  # NumPy makes float64 of an empty list.
    return array


def _integers(name: str, numbers: ArrayLike) -> NDArray[np.int64]:
    if isinstance(numbers, list | tuple) and (problem := hidden_problem(numbers)):
        raise TypeError(f"{name} must be integers, but {problem}")
    array = _array(name, numbers)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, not {array.dtype}")
    return array.astype(np.int64, copy=False)


def _array(name: str, given: ArrayLike) -> NDArray[Any]:
    """Return a copy of numbers as an array."""
    if has_masked(given):
        raise TypeError(f"{name} must be numbers, but some of them are masked")
    try:
        array = np.array(given)
    except ValueError as error:  # Lists of several lengths.
        raise ValueError(f"{name} must be an array: {error}") from error
    if not hasattr(given, "dtype") and array.dtype.kind in "iuf":
        problem = hidden_problem(given)
        if problem is not None:
            raise TypeError(f"{name} must be numbers, but {problem}")
    return array
