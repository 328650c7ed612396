"""``nn.Embedding`` with its table on disk."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from embstore.interop.torch.arrays import check_ids
from embstore.interop.torch.module import StoreModule

if TYPE_CHECKING:
    from embstore.store import EmbeddingStore


class StoreEmbedding(StoreModule):
    """Rows of a store, equal to those of ``nn.Embedding.from_pretrained(table, freeze=True)``.

    Parameters
    ----------
    store : EmbeddingStore
        The table. Its rows may have any shape, not only that of a vector.
    padding_idx : int, optional
        Kept for code that reads this attribute. As in ``nn.Embedding``, it concerns only gradients,
        and the table has none: its row is that of the table.
    max_norm : float, optional
        Rows whose L2 norm exceeds it are scaled down to it by PyTorch's own function, like those of
        a new ``nn.Embedding``. That module also changes its table; a store never changes.
    device : torch.device, str or int, optional
        Device that rows are sent to, the CPU by default; ``.to(device)`` changes it.

    Attributes
    ----------
    num_embeddings : int
        Number of rows.
    embedding_dim : int
        Number of values in a row.

    Notes
    -----
    ``.half()``, ``.to(dtype)`` and the like cast rows after the lookup, with the same result as
    casting the table. The module has no ``weight``.

    Examples
    --------
    >>> import torch
    >>> embedding = StoreEmbedding(store)
    >>> embedding(torch.tensor([[1, 0], [7, 1]])).shape
    torch.Size([2, 2, 8])
    >>> embedding.num_embeddings, embedding.embedding_dim
    (11, 8)
    """

    def __init__(
        self,
        store: EmbeddingStore,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        device: torch.device | str | int | None = None,
    ) -> None:
        super().__init__(store, padding_idx, max_norm, device)
        self.embedding_dim = math.prod(store.row_shape)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the rows of ids.

        Parameters
        ----------
        input : tensor of int32 or int64, any shape
            Ids in ``0 .. rows - 1``. The CPU looks them up: ids on another device are copied to
            the CPU, which waits for that device.

        Returns
        -------
        rows : tensor, shape ``input.shape + row_shape``
            On the module's device, wherever the ids are.

        Raises
        ------
        TypeError
            If ``input`` is not a tensor of int32 or int64, or ``max_norm`` is given for float8.
        IdRangeError
            If an id is negative, or not below the row count; it names the first one.
        """
        check_ids(input, "input")
        if self.max_norm is not None:
            self._check_arithmetic()
        rows = self._rows(input)
        # On a GPU, PyTorch's function writes elsewhere if rows have no numbers.
        if self.max_norm is not None and self.embedding_dim:
            flat = rows.view(input.numel(), self.embedding_dim)
            every = torch.arange(input.numel(), device=rows.device)
            torch.embedding_renorm_(flat, every, self.max_norm, 2.0)
        return rows
