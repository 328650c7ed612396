"""Curves: what was measured at each size of some work, its exponents and its goals, as text."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

# What was measured, by the size of the work.
Values = dict[float, float]

_NAME_WIDTH, _CELL_WIDTH = 44, 12
# Numbers from here on have no decimals.
_LARGE = 100


@dataclass(frozen=True, slots=True)
class Curve:
    """What was measured of one operation.

    Attributes
    ----------
    name : str
        The operation.
    grows : str
        What its sizes count.
    ways : dict of str to Values
        What was measured, by its name and unit: of the operation first, then of its peers.
    goals : list of str
        A line for each, as `benchmarks.times.at_most` makes them.
    """

    name: str
    grows: str
    ways: dict[str, Values]
    goals: list[str] = field(default_factory=list)

    def last(self, way: str) -> float:
        """Return what was measured at the largest size."""
        values = self.ways[way]
        return values[max(values)]

    def lines(self) -> list[str]:
        """Return the curve as a table, its goals below."""
        sizes = sorted({size for values in self.ways.values() for size in values})
        cells = "".join(f"{shown(size):>{_CELL_WIDTH}}" for size in sizes)
        lines = [self.name, f"  {self.grows:<{_NAME_WIDTH}}{cells}{'exponent':>{_CELL_WIDTH}}"]
        for way, values in self.ways.items():
            cells = "".join(
                f"{shown(values[size]) if size in values else '-':>{_CELL_WIDTH}}" for size in sizes
            )
            slope = f"{exponent(values):.2f}" if len(values) > 1 else "-"
            lines.append(f"  {way:<{_NAME_WIDTH}}{cells}{slope:>{_CELL_WIDTH}}")
        return [*lines, *(f"  {goal}" for goal in self.goals)]


def exponent(values: Values) -> float:
    """Return the slope of the logarithm of what was measured over that of the size.

    Examples
    --------
    >>> exponent({1: 3, 2: 12, 4: 48})
    2.0
    """
    sizes = np.log(list(values))
    slope, _ = np.polyfit(sizes, np.log(list(values.values())), 1)
    return round(float(slope), 2) + 0.0  # Not -0.0.


def shown(value: float) -> str:
    """Return a number with three digits or more."""
    return f"{value:,.0f}" if value >= _LARGE else f"{value:.3g}"
