"""Tensors of rows, on any device.

1. Many rows for the CPU are read by PyTorch itself if possible; see `in_place`. Otherwise, they
   are looked up into a NumPy array, and the tensor is a view of it: NumPy asks for huge pages,
   which saves most page faults of large results.
2. Rows for a GPU are looked up into a pinned tensor, which is sent asynchronously and without
   another copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from embstore.interop.torch.arrays import as_tensor, torch_dtype
from embstore.interop.torch.in_place import rows_in_place
from embstore.table.ids import as_ids

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.store import EmbeddingStore


def wants_pinned(device: torch.device) -> bool:
    """Say whether rows for ``device`` should be looked up into pinned memory."""
    return bool(device.type == "cuda")


def gather(store: EmbeddingStore, ids: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Return the rows of ``ids`` on ``device``.

    Parameters
    ----------
    store : EmbeddingStore
    ids : ndarray of integers, any shape
    device : torch.device

    Returns
    -------
    rows : tensor of the store's dtype, shape ``ids.shape + row_shape``
    """
    if not wants_pinned(device):
        found = None
        if ids.size > store._few_ids:  # A lookup of fewer takes less time than PyTorch's function.
            found = rows_in_place(store, as_ids(ids, store.rows))
        rows = as_tensor(store.lookup(ids)) if found is None else found
        return rows if device.type == "cpu" else rows.to(device)
    rows = torch.empty(
        (*ids.shape, *store.row_shape),
        dtype=torch_dtype(store.dtype),
        device="cpu",  # Also under another torch.set_default_device.
        pin_memory=True,
    )
    store.lookup(ids, out=rows)
    # The allocator of pinned memory waits for the copy before it reuses the memory.
    return rows.to(device, non_blocking=True)
