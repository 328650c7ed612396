"""Rows that PyTorch reads from the mapping itself, without a copy in between.

1. A tensor over the mapped table is made once for each open store. There is none where rows are
   read by chunks, are not on an aligned grid, or have a row cache or a resident limit that is less
   than the table.
2. Ids are checked, and turned into places on the grid. PyTorch gets the places.
3. The rows must be expected in memory. Cold rows are left to `EmbeddingStore.lookup`, which reads
   many at a time; PyTorch would read them one after the other.

The mapping is read-only, so a write to the tensor would end the process (SIGSEGV), and PyTorch has
no read-only tensors. So this module passes the tensor only to functions that read it and return new
memory, hidden from code that overrides these (``__torch_function__``), and never returns it or a
view of it. Autograd may keep it for a gradient. The tensor keeps the mapping, even if the store is
closed meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from embstore.dtypes import storage_dtype
from embstore.interop.torch.arrays import as_tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.reading.mapped import MappedRecords
    from embstore.store import EmbeddingStore

_PLAIN_TENSORS = (torch.Tensor, torch.nn.Parameter)

# By the reader, which a closed store drops: the tensor must not keep the mapping any longer.
_tables: WeakKeyDictionary[MappedRecords, torch.Tensor] = WeakKeyDictionary()


def rows_in_place(store: EmbeddingStore, ids: NDArray[np.int64]) -> torch.Tensor | None:
    """Return the rows of ids by one call of PyTorch.

    Parameters
    ----------
    store : EmbeddingStore
    ids : ndarray of int64, any shape
        Ids in ``0 .. rows - 1``; this is not checked here.

    Returns
    -------
    rows : tensor of the store's dtype, shape ``ids.shape + row_shape``
        None if the rows are to be looked up instead; see the module's docstring.
    """
    found = _table(store) if ids.size else None
    if found is None:
        return None
    records, table = found
    places = records.gather.spots(store._rows_of(ids.reshape(-1)))

    def read() -> torch.Tensor:
        with torch._C.DisableTorchFunction():
            return torch.index_select(table, 0, torch.from_numpy(places))  # As `embedding` does.

    rows = records.read_in_place(places, read)
    if rows is None or (ids.ndim == 1 and len(store.row_shape) == 1):
        return rows
    return rows.view(*ids.shape, *store.row_shape)


def bags_in_place(
    store: EmbeddingStore,
    ids: NDArray[np.int64],
    bounds: torch.Tensor,
    weights: torch.Tensor | None,
    *,
    mode: str,
    padding_idx: int | None,
) -> torch.Tensor | None:
    """Return one vector for each bag of ids by one call of PyTorch, which adds rows as it reads.

    Parameters
    ----------
    store : EmbeddingStore
        Its rows are vectors of floats.
    ids : ndarray of int64, shape (n,)
        Ids in ``0 .. rows - 1``; this is not checked here.
    bounds : tensor of int64, shape (bags + 1,)
        The start of each bag, and the end of the last one, n.
    weights : tensor of the store's dtype, shape (n,), optional
        Factors of the rows.
    mode : {"sum", "mean", "max"}
    padding_idx : int, optional
        An id that is left out.

    Returns
    -------
    tensor, shape (bags, row length)
        None if the rows are to be looked up instead; see the module's docstring.
    """
    if weights is not None and not _is_hidden_from(weights):
        return None
    found = _table(store) if ids.size else None
    if found is None:
        return None
    records, table = found
    places = records.gather.spots(store._rows_of(ids))
    padding = None
    if padding_idx is not None:
        padding = int(records.gather.spots(store._rows_of(np.array([padding_idx])))[0])

    def read() -> torch.Tensor:
        with torch._C.DisableTorchFunction():
            return embedding_bag(
                torch.from_numpy(places),
                table,
                bounds,
                mode=mode,
                per_sample_weights=weights,
                include_last_offset=True,
                padding_idx=padding,
            )

    return records.read_in_place(places, read)


class _Memory:
    """The memory of an array, said to be writable: PyTorch warns of any other."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array  # Keeps the memory.
        interface = array.__array_interface__
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}


def _table(store: EmbeddingStore) -> tuple[MappedRecords, torch.Tensor] | None:
    """Return a store's reader, and its table as a tensor, shape (places, row length), or None.

    The tensor is only to be read.
    """
    records = store._mapped_records()
    if records is None:
        return None
    table = _tables.get(records)
    if table is None:
        array = records.table
        if array is None:
            return None
        memory = np.asarray(_Memory(array.view(storage_dtype(array.dtype)))).view(array.dtype)
        # A tensor that was made in inference mode could not be kept for a gradient.
        with torch.inference_mode(mode=False):
            table = as_tensor(memory.reshape(len(memory), -1))
        table = _tables.setdefault(records, table)
    return records, table


def _is_hidden_from(weights: torch.Tensor) -> bool:
    """Say whether neither hooks nor overridden functions get the table in a call with weights."""
    # The functions that another class overrides must see the call, so they get looked up rows.
    return type(weights) in _PLAIN_TENSORS and not (weights.requires_grad and _has_hooks())


def _has_hooks() -> bool:
    """Say whether hooks get what autograd keeps; such as `save_on_cpu`, they may copy it."""
    top = torch._C._autograd._top_saved_tensors_default_hooks
    try:
        return top(False) is not None
    except TypeError:  # Before torch 2.5, it had no parameter.
        return top() is not None
