"""How fast are rows that are in RAM? The same array behind other calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from embstore.bench.peers import Matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class Take(Matrix):
    """``np.take(matrix, ids, axis=0, out=out, mode="clip")``.

    With the default ``mode="raise"``, NumPy's documentation says, the result is buffered.
    """

    name: ClassVar[str] = "np.take(out=)"
    reuse: ClassVar[bool] = True

    def open(self) -> None:
        """Load the rows."""
        super().open()
        self._out = self.matrix[:0]

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids, in the array of the lookup before."""
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
