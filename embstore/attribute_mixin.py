"""What a store has where rows have attributes: its columns, by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from embstore.columns import Attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embstore.attributes.stored import StoredColumn


class AttributeMixin(ABC):
    """The property ``attributes``, on a table with columns beside its rows."""

    _columns: Mapping[str, StoredColumn] | None  # None once the store is closed.

    @abstractmethod
    def _open_records(self) -> object:
        """Raise if the store is closed."""

    @property
    def attributes(self) -> Attributes:
        """The attributes: a mapping of each name to its column, a value for each id.

        A column is indexed by ids, in any shape, by a slice, or by words. Numbers come as an array
        or a number, strings as an object array or a str. It is empty where there are none, as in a
        foreign file.

        Raises
        ------
        StoreClosedError
            If the store is closed.

        Examples
        --------
        >>> path = "counted.embstore"
        >>> rows = {"the": [0.1, 0.2], "like": [0.3, 0.4]}
        >>> counted = embstore.build(rows, path, attributes={"count": [5, 3], "tag": ["DT", "IN"]})
        >>> counted.attributes
        <Attributes count: int64, tag: string>
        >>> counted.attributes["count"][[1, 1, 0]], counted.attributes["tag"]["like"]
        (array([3, 3, 5]), 'IN')
        >>> len(store.attributes)
        0
        """
        self._open_records()
        return Attributes(self)
