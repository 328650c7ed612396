"""Tensors of rows, over the same memory as the arrays of a lookup.

1. Ids are an int32 or int64 tensor; from another device, they are copied to the CPU.
2. Rows for the CPU are looked up into a NumPy array, and the tensor is a view of it: NumPy asks for
   huge pages, which saves most page faults of large results.
3. Rows for a GPU are looked up into a pinned tensor, which is sent asynchronously and without
   another copy.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from embstore.dtypes import DTYPES, is_extension, storage_dtype, tensor_array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embstore.store import EmbeddingStore


@cache
def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """Return the PyTorch dtype for the dtype of a store.

    Examples
    --------
    >>> torch_dtype(np.dtype("float32"))
    torch.float32
    """
    return getattr(torch, DTYPES[dtype.name].torch)


def check_ids(ids: Any, name: str = "ids") -> None:
    """Raise TypeError unless ``ids`` is a tensor of int32 or int64, as in ``nn.Embedding``."""
    if not isinstance(ids, torch.Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor of int32 or int64, not {type(ids).__name__}; convert "
            "with torch.as_tensor"
        )
    if ids.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{name} must be int32 or int64, not {ids.dtype}; convert with .long()")


def as_array(ids: torch.Tensor) -> NDArray[Any]:
    """Return ids as an ndarray; a view if they are on the CPU."""
    return tensor_array(ids.cpu())


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
        return _as_tensor(store.lookup(ids)).to(device)
    rows = torch.empty(
        (*ids.shape, *store.row_shape),
        dtype=torch_dtype(store.dtype),
        device="cpu",  # Also under another torch.set_default_device.
        pin_memory=True,
    )
    store.lookup(ids, out=tensor_array(rows))
    # The allocator of pinned memory waits for the copy before it reuses the memory.
    return rows.to(device, non_blocking=True)


def _as_tensor(rows: NDArray[Any]) -> torch.Tensor:
    """Return a tensor over the memory of ``rows``."""
    if is_extension(rows.dtype):
        return torch.from_numpy(rows.view(storage_dtype(rows.dtype))).view(torch_dtype(rows.dtype))
    return torch.from_numpy(rows)
