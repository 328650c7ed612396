"""The layer that the plug-in registers: rows of a table in the model's own files.

1. ``EMBSTORE_MODEL`` names the directory of the model. The name of the table's tensors follows from
   the layer's prefix in the model.
2. Each rank holds a view of a part of the table. Ids stay those of the whole table; for ids of
   other ranks, a lookup gives zeros, so the sum over the ranks is the answer.
3. Nothing is loaded or copied: all ranks map the same files.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

import embstore

MODEL = "EMBSTORE_MODEL"


class TableOnDisk(nn.Module):
    """Rows of a table on disk, as an engine's embedding.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        Rows of the table and numbers in a row, which its files must have.
    prefix : str
        The layer's name in the model, such as ``"model.layers.1.ngram_embedding"``.
    params_dtype : torch.dtype
        Dtype of the rows.
    rank, ranks : int, optional
        This process's number and their count; by default, those of `torch.distributed`.

    Raises
    ------
    KeyError
        If ``EMBSTORE_MODEL`` is not set.
    ValueError
        If the table has another shape.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        prefix: str,
        params_dtype: torch.dtype = torch.bfloat16,
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        super().__init__()
        self.params_dtype = params_dtype
        self.ranks = _world(torch.distributed.get_world_size, 1) if ranks is None else ranks
        self.rank = _world(torch.distributed.get_rank, 0) if rank is None else rank
        self._store = embstore.open(
            os.environ[MODEL], tensor=f"{prefix}.shard_{{}}.weight", scale=f"{prefix}.weight_scale"
        )
        expected = num_embeddings, embedding_dim
        found = self._store.rows, *self._store.row_shape
        if found != expected:
            raise ValueError(f"{prefix} has shape {found} on disk, expected {expected}")
        each = -(-num_embeddings // self.ranks)
        start = min(self.rank * each, num_embeddings)
        self._view = self._store.view(start, min(start + each, num_embeddings))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows of ids of the whole table, shape ``ids.shape + (embedding_dim,)``."""
        rows = torch.empty(*ids.shape, *self._store.row_shape, dtype=self.params_dtype)
        self._view.lookup(ids.cpu().numpy(), out=rows, outside="zeros")
        rows = rows.to(ids.device)
        if self.ranks > 1 and torch.distributed.is_initialized():
            torch.distributed.all_reduce(rows)
        return rows

    def load_weights(self, weights: Any) -> set[str]:
        """Load nothing: the rows stay in their files."""
        return set()


def _world(ask: Any, otherwise: int) -> int:
    """Return what `torch.distributed` answers, or ``otherwise`` without a group."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return int(ask()) if ready else otherwise
