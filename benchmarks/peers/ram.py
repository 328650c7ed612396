"""Peers that hold the rows in an array in RAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchmarks.peers.base import Peer

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class Matrix(Peer):
    """``matrix[ids]`` on an ndarray in RAM; words through a dict."""

    name: ClassVar[str] = "matrix[ids]"
    in_ram: ClassVar[bool] = True

    def open(self) -> None:
        """Load the rows."""
        self.matrix = self.table.matrix()
        self._ids: dict[str, int] | None = None

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        return np.asarray(self.matrix[ids])

    def one(self, number: int) -> NDArray[Any]:
        """Return one row; a copy, since a view has read nothing."""
        return np.array(self.matrix[number])

    def lookup_words(self, words: list[str]) -> NDArray[Any]:
        """Return the rows of words."""
        if self._ids is None:
            names = self.table.words(np.arange(self.table.rows))
            self._ids = {word: number for number, word in enumerate(names)}
        ids = self._ids
        return np.asarray(self.matrix[[ids[word] for word in words]])


@dataclass
class Take(Matrix):
    """``np.take(matrix, ids, axis=0, out=out, mode="clip")``.

    NumPy's documentation: with the default ``mode="raise"``, ``out`` is buffered.
    """

    name: ClassVar[str] = "np.take(out=)"
    reuse: ClassVar[bool] = True

    def open(self) -> None:
        """Load the rows."""
        super().open()
        self._out = self.matrix[:0]

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids, in the array of the previous lookup."""
        if len(self._out) != len(ids):
            self._out = np.empty((len(ids), *self.table.row_shape), self.table.dtype)
        return np.take(self.matrix, ids, axis=0, out=self._out, mode="clip")


@dataclass
class TorchEmbedding(Matrix):
    """``torch.nn.functional.embedding``, without gradients, on all processors."""

    name: ClassVar[str] = "torch embedding"
    packages: ClassVar[tuple[tuple[str, str], ...]] = (("torch", "torch"),)

    def open(self) -> None:
        """Load the rows."""
        import torch  # noqa: PLC0415  # Only where it is measured.

        super().open()
        self._torch = torch
        self._weight = torch.from_numpy(self.matrix)

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        torch = self._torch
        with torch.inference_mode():
            rows = torch.nn.functional.embedding(torch.from_numpy(ids), self._weight)
        return np.asarray(rows.numpy())

    def one(self, number: int) -> NDArray[Any]:
        """Return one row."""
        return np.asarray(self._weight[number].clone().numpy())
