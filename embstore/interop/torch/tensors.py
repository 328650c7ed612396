"""How do rows become a tensor? They are looked up right into its memory.

1. Ids come as an int32 or int64 tensor; from another device, they are copied to the CPU.
2. An empty tensor of the rows' shape and dtype is made. Where the rows go on to a GPU its memory
   is pinned, so that they are sent from there without another copy, and beside other work.
3. The store fills it, through a NumPy view of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.store import EmbeddingStore


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
    pinned = wants_pinned(device)
    rows = torch.empty(
        (*ids.shape, *store.row_shape),
        dtype=torch_dtype(store.dtype),
        device="cpu",  # Even where torch.set_default_device says something else.
        pin_memory=pinned,
    )
    store.lookup(ids, out=_numpy_view(rows, store.dtype))
    # Pinned memory goes back to its allocator, which waits for the copy before it reuses it.
    return rows.to(device, non_blocking=pinned)


def _numpy_view(rows: torch.Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an ndarray of ``dtype`` over the memory of ``rows``."""
    if rows.dtype == torch.bfloat16:
        rows = rows.view(torch.uint16)
    view: NDArray[Any] = rows.numpy().view(dtype)
    return view
