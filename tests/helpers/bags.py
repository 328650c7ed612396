"""A model of combined bags: one bag after the other, in float64, on an ndarray in RAM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def combined(
    table: NDArray[Any],
    bags: list[list[int]],
    weights: list[list[float]] | None = None,
    combiner: str = "sum",
    max_norm: float | None = None,
) -> NDArray[np.float64]:
    """Return one row for each bag of ids."""
    rows = table.astype(np.float64)
    if max_norm is not None:
        norms = np.sqrt(np.square(rows).reshape(len(rows), -1).sum(axis=1))
        factors = max_norm / np.maximum(norms, max_norm)
        rows *= factors.reshape(-1, *[1] * (rows.ndim - 1))
    result = np.zeros((len(bags), *rows.shape[1:]))
    for number, bag in enumerate(bags):
        if not bag:
            continue
        factor = np.ones(len(bag)) if weights is None else np.array(weights[number], np.float64)
        total = np.tensordot(factor, rows[bag], 1)
        divisor = {"sum": 1, "mean": factor.sum(), "sqrtn": np.sqrt(np.square(factor).sum())}
        result[number] = total / divisor[combiner] if divisor[combiner] else 0
    return result


def tolerance(dtype: Any) -> float:
    """Return the relative error allowed for sums of some ten rows of ``dtype``."""
    return {"float16": 4e-3, "bfloat16": 3e-2, "float32": 2e-5}.get(np.dtype(dtype).name, 1e-12)
