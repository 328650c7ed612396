"""Metrics of a search: how near a row is to a vector, exactly, and quickly with a known error.

A score is higher the nearer the row is. Scores of single pairs are computed by NumPy's ``einsum``,
which adds up a row's numbers in their order: equal rows get scores that are equal to the bit,
whatever their ids and whatever else is asked. A matrix product of many rows and vectors is much
faster, but its last bits depend on where a row stands. So it is only a screen: what it cannot rule
out is scored exactly. Its error is bounded by that of any sum of products:

    |computed - exact| <= d * u / (1 - d * u) * |x| * |y|

for vectors x and y of d numbers with the unit roundoff u (Higham, "Accuracy and Stability of
Numerical Algorithms", section 3.1). Two such sums differ by at most twice as much.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embstore.norms import are_extreme, row_norms, unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

MetricName = Literal["cosine", "dot", "euclidean"]
# Roundings beside those of the sums: of norms, quotients and roots.
OTHER_ROUNDINGS = 16


@dataclass(frozen=True, slots=True)
class Errors:
    """How far products of vectors with rows are from the exact ones.

    Attributes
    ----------
    relative : float
        The largest error, as a share of the product of both norms.
    longest : scalar
        The largest norm of the rows that is not extreme. One error for all of them takes less time
        than each row's own.
    """

    relative: float
    longest: Any


class Metric(ABC):
    """A way to compare rows with a vector; the usual one is by the vector as it is."""

    needs_norms = False  # For exact scores.

    def prepare(self, vectors: NDArray[Any]) -> NDArray[Any]:
        """Return the vectors that rows are compared with."""
        return vectors

    @abstractmethod
    def score(
        self,
        rows: NDArray[Any],
        norms: NDArray[Any] | None,
        vector: NDArray[Any],
        *,
        extremes: bool,
    ) -> NDArray[Any]:
        """Return the exact scores of rows, shape (n,).

        Parameters
        ----------
        rows : ndarray of floats, shape (n, dimension)
        norms : ndarray, shape (n,), or None
            The norms of the rows, if they are known.
        vector : ndarray, shape (dimension,)
            A vector that was prepared.
        extremes : bool
            Whether some norms may be extreme (`embstore.norms`).
        """

    @abstractmethod
    def screen(
        self, dots: NDArray[Any], norms: NDArray[Any], lengths: NDArray[Any], errors: Errors
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return what scores are at most, shape (q, n), and how much less they may be, (q, 1).

        Both are on the scale of the screen.

        Parameters
        ----------
        dots : ndarray, shape (q, n)
            Dot products of q vectors and n rows, which may be overwritten.
        norms, lengths : ndarray, shapes (n,) and (q,)
            Norms of the rows and of the vectors.
        errors : Errors
            The errors of these products.
        """

    def on_screen(self, score: Any) -> Any:
        """Return an exact score on the scale of `screen`."""
        return score

    def shown(self, score: float) -> float:
        """Return a score as callers know it."""
        return score


class Cosine(Metric):
    """The cosine of the angle between a row and a vector."""

    needs_norms = True

    def prepare(self, vectors: NDArray[Any]) -> NDArray[Any]:
        """Return the vectors scaled to length 1."""
        return unit(vectors)

    def score(
        self,
        rows: NDArray[Any],
        norms: NDArray[Any] | None,
        vector: NDArray[Any],
        *,
        extremes: bool,
    ) -> NDArray[Any]:
        """Return the cosines; that of a row of zeros, which has no direction, is nan."""
        return cosines(rows, row_norms(rows) if norms is None else norms, vector, extremes=extremes)

    def screen(
        self, dots: NDArray[Any], norms: NDArray[Any], lengths: NDArray[Any], errors: Errors
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the cosines plus their error."""
        most = (errors.relative * lengths)[:, np.newaxis]
        dots /= norms
        dots += most
        return dots, 2 * most


class CosineOfUnits(Cosine):
    """The cosine with vectors of length 1, which are taken as they are.

    Of another vector, cosines are multiplied by its length.
    """

    def prepare(self, vectors: NDArray[Any]) -> NDArray[Any]:
        """Return the vectors as they are."""
        return vectors


class Dot(Metric):
    """The dot product."""

    def score(
        self,
        rows: NDArray[Any],
        norms: NDArray[Any] | None,
        vector: NDArray[Any],
        *,
        extremes: bool,
    ) -> NDArray[Any]:
        """Return the dot products."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            found: NDArray[Any] = np.einsum("ij,j->i", rows, vector)
        return found

    def screen(
        self, dots: NDArray[Any], norms: NDArray[Any], lengths: NDArray[Any], errors: Errors
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the products plus their error, that of the longest row."""
        most = (errors.relative * errors.longest * lengths)[:, np.newaxis]
        dots += most
        return dots, 2 * most


class Euclidean(Metric):
    """The distance, whose negative is the score. On the screen, the negative of its square."""

    def score(
        self,
        rows: NDArray[Any],
        norms: NDArray[Any] | None,
        vector: NDArray[Any],
        *,
        extremes: bool,
    ) -> NDArray[Any]:
        """Return the negative distances."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return -row_norms(rows - vector)

    def screen(
        self, dots: NDArray[Any], norms: NDArray[Any], lengths: NDArray[Any], errors: Errors
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return ``2 xy - |x|**2 - |y|**2`` plus its error, that of the longest row."""
        squares = np.square(lengths)[:, np.newaxis]
        most = 2 * errors.relative * (squares + np.square(errors.longest))
        dots *= 2
        dots -= np.square(norms)
        dots += most - squares
        return dots, 2 * most

    def on_screen(self, score: Any) -> Any:
        """Return the negative square of the distance, a little lower."""
        return -np.square(score) * (1 + OTHER_ROUNDINGS * np.finfo(score.dtype).eps)

    def shown(self, score: float) -> float:
        """Return the distance."""
        return -score if score else 0.0


METRICS: dict[MetricName, Metric] = {
    "cosine": Cosine(),
    "dot": Dot(),
    "euclidean": Euclidean(),
}


def cosines(
    rows: NDArray[Any], norms: NDArray[Any], vector: NDArray[Any], *, extremes: bool
) -> NDArray[Any]:
    """Return the cosines of rows and a vector of length 1, shape (n,).

    Of another vector, they are multiplied by its length.

    Parameters
    ----------
    rows : ndarray of floats, shape (n, dimension)
    norms : ndarray, shape (n,)
        The norms of the rows.
    vector : ndarray, shape (dimension,)
    extremes : bool
        Whether some norms may be extreme. Their rows are scaled to length 1 first.

    Examples
    --------
    >>> rows = np.array([[3.0, 4.0], [0.0, 2.0]])
    >>> cosines(rows, np.array([5.0, 2.0]), np.array([0.0, 1.0]), extremes=False)
    array([0.8, 1. ])
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        found: NDArray[Any] = np.einsum("ij,j->i", rows, vector)
        found /= norms
        if extremes:
            some = np.flatnonzero(are_extreme(norms) & (norms != 0))
            found[some] = np.einsum("ij,j->i", unit(rows[some]), vector)
    return found


def error_of(dimension: int, dtype: np.dtype[Any]) -> float:
    """Return the bound of the relative difference of two sums of ``dimension`` products.

    Examples
    --------
    >>> error_of(300, np.dtype(np.float32)) < 4e-5
    True
    """
    roundoff = float(np.finfo(dtype).eps) / 2
    one = (dimension + OTHER_ROUNDINGS) * roundoff
    return 2 * one / (1 - one) if one < 0.5 else np.inf
