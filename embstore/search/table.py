"""What a search needs of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embstore.table.protocols import Visit
    from embstore.vocabulary import Vocabulary


class SearchedTable(Protocol):
    """A table with rows by id, in blocks, and by word; `embstore.EmbeddingStore` is one."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the rows."""
        ...

    @property
    def encoding(self) -> str:
        """What rows are stored as: ``"plain"`` numbers, or the name of an encoding."""
        ...

    @property
    def mapped(self) -> bool:
        """Whether rows come from a memory mapping."""
        ...

    @property
    def nbytes(self) -> int:
        """Size of all rows in bytes."""
        ...

    def lookup(self, ids: Any) -> NDArray[Any]:
        """Return the rows of ids."""
        ...

    @property
    def vocabulary(self) -> Vocabulary:
        """The words; raises MissingWordError without any."""
        ...

    def scan(self, visit: Visit, start: int = 0, stop: int | None = None) -> None:
        """Pass rows to a function, block by block."""
        ...
