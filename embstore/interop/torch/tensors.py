"""How do rows become a tensor? Without a copy: both libraries see the same memory.

1. Ids come as an int32 or int64 tensor; from another device, they are copied to the CPU.
2. Rows for the CPU are looked up into an array that NumPy makes, and the tensor is a view of it:
   NumPy asks for huge pages, which saves large results most of their page faults.
3. Rows for a GPU are looked up into a pinned tensor, from where they are sent without another copy,
   beside other work.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.store import EmbeddingStore


@cache
def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """Return PyTorch's name for the dtype of a store.

    Examples
    --------
    >>> torch_dtype(np.dtype("float32"))
    torch.float32
    """
    if dtype.name == "bfloat16":  # Of ml_dtypes: NumPy has none of its own to convert from.
        return torch.bfloat16
    return torch.from_numpy(np.empty(0, dtype)).dtype


def check_ids(ids: Any, name: str = "ids") -> None:
    """Raise TypeError unless ``ids`` is a tensor of int32 or int64, as `nn.Embedding` wants it."""
    if not isinstance(ids, torch.Tensor):
        raise TypeError(
            f"{name} must be a torch.Tensor of int32 or int64, not {type(ids).__name__}; "
            "torch.as_tensor makes one"
        )
    if ids.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{name} must be int32 or int64, not {ids.dtype}; .long() converts them")


def as_array(ids: torch.Tensor) -> NDArray[Any]:
    """Return ids as an ndarray; a view, where they are on the CPU already."""
    array: NDArray[Any] = ids.detach().cpu().numpy()
    return array


def wants_pinned(device: torch.device) -> bool:
    """Say whether rows that go to ``device`` should first land in pinned memory."""
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
        device="cpu",  # Even where torch.set_default_device says something else.
        pin_memory=True,
    )
    store.lookup(ids, out=_array_over(rows, store.dtype))
    # Pinned memory goes back to its allocator, which waits for the copy before it reuses it.
    return rows.to(device, non_blocking=True)


def _as_tensor(rows: NDArray[Any]) -> torch.Tensor:
    """Return a tensor over the memory of ``rows``."""
    if torch_dtype(rows.dtype) == torch.bfloat16:
        return torch.from_numpy(rows.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(rows)


def _array_over(rows: torch.Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an ndarray of ``dtype`` over the memory of ``rows``."""
    if rows.dtype == torch.bfloat16:
        rows = rows.view(torch.uint16)
    array: NDArray[Any] = rows.numpy().view(dtype)
    return array
