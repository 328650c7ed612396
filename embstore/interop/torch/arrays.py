"""Conversions between tensors and arrays, over the same memory.

Ids are an int32 or int64 tensor; from another device, they are copied to the CPU.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from embstore.dtypes import DTYPES, is_extension, storage_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    array: NDArray[Any] = ids.cpu().numpy()
    return array


def as_tensor(rows: NDArray[Any]) -> torch.Tensor:
    """Return a tensor over the memory of ``rows``."""
    if is_extension(rows.dtype):
        return torch.from_numpy(rows.view(storage_dtype(rows.dtype))).view(torch_dtype(rows.dtype))
    return torch.from_numpy(rows)


def as_state(state: Any) -> Any:
    """Return an entry of a state dict as an array of int64; what is no tensor unchanged.

    A tensor without numbers to read, such as one on the device meta, becomes an empty array.
    """
    if not isinstance(state, torch.Tensor):
        return state
    try:
        return state.detach().cpu().to(torch.int64).numpy()
    except (ValueError, RuntimeError):
        return np.empty(0, np.int64)
