"""Tables that a path holds, listed without opening them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListedTable:
    """A table that `embstore.open` could open.

    Attributes
    ----------
    name : str
        What to give as ``tensor``: the name of a tensor, or a pattern with ``{}`` for the numbers
        of several that are alike. Empty where a path holds one table.
    shape : tuple of int
        Rows, and the shape of a row, in the numbers that are stored.
    dtype : str
        Dtype of these: NumPy's or ``ml_dtypes`` name of it, or else the format's.
    part_count : int
        Number of tensors; 1, except for a pattern.
    byte_count : int
        Bytes of the rows, without scales.
    scale : str or None
        The scale that ``scale="auto"`` takes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    part_count: int
    byte_count: int
    scale: str | None = None
