"""Attributes of an open store: a mapping of names to columns, and a column of values by id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.settle import shown
from embstore.table.given import plain
from embstore.table.ids import as_ids
from embstore.vocabulary.given import are_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import DTypeLike, NDArray

    from embstore.attributes.stored import StoredColumn
    from embstore.attributes.values import Values

# While iterating.
BLOCK_VALUES = 1 << 16


class Attributes(Mapping[str, "Column"]):
    """The attributes of a store, in the order in which it was given them."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getitem__(self, name: str) -> Column:
        if not isinstance(name, str) or name not in self._columns:
            listed = ", ".join(map(repr, self._columns)) or "none"
            raise KeyError(f"the store has no attribute {shown(name)}; it has {listed}")
        return Column(self._store, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        columns = [f"{name}: {one.dtype_name}" for name, one in self._columns.items()]
        return f"<Attributes {', '.join(columns) or 'none'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Attributes, (self._store,)

    @property
    def _columns(self) -> Mapping[str, StoredColumn]:
        return _columns_of(self._store)


class Column:
    """An attribute of a store: a number or a string for each id.

    It is indexed as the store is: by ids in any shape, by words, or by a slice. It holds the store,
    and ends with it: once that is closed, an index raises StoreClosedError.

    Examples
    --------
    >>> path = "counted.embstore"
    >>> counted = embstore.build(np.eye(3), path, attributes={"count": [5, 3, 9]})
    >>> column = counted.attributes["count"]
    >>> column
    <Column count: 3 values, int64>
    >>> column[2], column[[[0], [2]]].tolist(), column[1:].tolist(), np.asarray(column).sum()
    (np.int64(9), [[5], [9]], [3, 9], np.int64(17))
    """

    ndim = 1

    def __init__(self, store: Any, name: str) -> None:
        self._store, self._name = store, name
        found = _columns_of(store)[name]
        self._rows: int = store.rows
        self._dtype, self._dtype_name = found.dtype, found.dtype_name

    @property
    def name(self) -> str:
        """Name of the attribute."""
        return self._name

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the values; object for strings."""
        return self._dtype

    @property
    def dtype_name(self) -> str:
        """Dtype as the store names it, such as ``"int64"``; ``"string"`` for strings."""
        return self._dtype_name

    @property
    def shape(self) -> tuple[int]:
        """Shape of the column: ``(rows,)``."""
        return (self._rows,)

    @property
    def size(self) -> int:
        """Number of values."""
        return self._rows

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, key: Any) -> Any:
        # One value has a path of its own: arrays for it would take most of its time.
        if type(key) is int and 0 <= key < self._rows:
            return self._open().one(key)
        if type(key) is str:
            return self._open().one(int(self._store.ids(key)))
        if isinstance(key, tuple):
            key = _only_axis(key)
        if key is Ellipsis:
            key = slice(None)
        if isinstance(key, slice):
            return self._open().take(np.arange(*key.indices(self._rows)))
        if type(key) is not np.ndarray or key.dtype.kind not in "iu":
            key = plain(key)
            if are_words(key):
                key = self._store.ids(key)
        ids = as_ids(key, self._rows)
        return self._open().take(ids.reshape(-1)).reshape(ids.shape)[()]

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, self._rows, BLOCK_VALUES):
            yield from self[start : start + BLOCK_VALUES]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError(
                "the values of an attribute are on disk, so an array of them is always a copy; "
                "omit copy=False"
            )
        values: NDArray[Any] = self[:]
        return values if dtype is None else values.astype(dtype, copy=False)

    def to_numpy(self) -> NDArray[Any]:
        """Return all values in RAM, in the order of their ids."""
        return self.__array__()

    def part(self, start: int, stop: int) -> Values:
        """Return the values of the ids ``start .. stop - 1``, strings as bytes and offsets.

        For reading many strings without a Python object for each.

        Raises
        ------
        IdRangeError
            If ``start`` or ``stop`` is out of range.
        TypeError
            If they are not integers.

        Examples
        --------
        >>> path = "titled.embstore"
        >>> titled = embstore.build(np.eye(3), path, attributes={"title": ["One", "", "Three"]})
        >>> titled.attributes["title"].part(1, 3).encoded()
        [b'', b'Three']
        """
        return self._open().part(*self._store._as_bounds(start, stop))

    def __repr__(self) -> str:
        return f"<Column {self._name}: {self._rows} values, {self._dtype_name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Column, (self._store, self._name)

    def _open(self) -> StoredColumn:
        return _columns_of(self._store)[self._name]


def _columns_of(store: Any) -> Mapping[str, StoredColumn]:
    columns: Mapping[str, StoredColumn] | None = store._columns
    if columns is None:
        store._open_records()  # Raises: it is closed.
    return columns or {}


def _only_axis(index: tuple[Any, ...]) -> Any:
    """Return the only item of an index that may also have an ellipsis."""
    items = [item for item in index if item is not Ellipsis]
    if len(items) > 1:
        raise IndexError(f"an attribute has one axis, but the index is for {len(items)}")
    return items[0] if items else slice(None)
