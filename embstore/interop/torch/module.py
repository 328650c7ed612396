"""The base class of modules over a store.

1. Modules have no parameters: the table stays on disk and is never trained. An empty buffer keeps
   the device and dtype that ``.to(device)``, ``.half()`` and the like set; each lookup sends and
   casts its rows accordingly.
2. A state dict identifies the table by its path and fingerprint, and holds no rows. Loading it into
   a module over another table is an error; the same table may be at another path.
3. A module that is unpickled, for example in a worker of a ``DataLoader``, opens its store again,
   and refuses another table. A deep copy shares the store.
4. In a compiled model, a lookup is one opaque operator, so it does not break the graph.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any, Self
from weakref import WeakValueDictionary

import torch

from embstore.interop.torch.tensors import as_array, check_ids, gather, torch_dtype
from embstore.norms import check_max_norm
from embstore.store import EmbeddingStore

# Operators take numbers, not objects: each module's number refers to its store.
_numbers = itertools.count()
_stores: WeakValueDictionary[int, EmbeddingStore] = WeakValueDictionary()


class StoreModule(torch.nn.Module):
    """The base of `StoreEmbedding` and `StoreEmbeddingBag`, which describe the parameters.

    Attributes
    ----------
    store : EmbeddingStore
        The table.
    fingerprint : str
        The table's fingerprint; see `EmbeddingStore.fingerprint`.
    """

    def __init__(
        self,
        store: EmbeddingStore,
        padding_idx: int | None,
        max_norm: float | None,
        device: torch.device | str | int | None,
    ) -> None:
        super().__init__()
        if not isinstance(store, EmbeddingStore):
            raise TypeError(
                f"store must be an EmbeddingStore, not {type(store).__name__}; "
                "embstore.open(path) opens one"
            )
        if max_norm is not None:
            check_max_norm(max_norm, store.dtype)
        self.store = store
        self.fingerprint = store.fingerprint()
        self.padding_idx = _check_padding(padding_idx, store.rows)
        self.max_norm = max_norm
        self._number = _register(store)
        like = torch.empty(0, dtype=torch_dtype(store.dtype), device=device)
        self.register_buffer("_like", like, persistent=False)

    @property
    def device(self) -> torch.device:
        """Device that rows are sent to."""
        return self._like.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype that rows are cast to; initially the store's."""
        return self._like.dtype

    def prefetch(self, ids: torch.Tensor) -> None:
        """Start reading the rows of ``ids`` from disk, without waiting for them.

        Parameters
        ----------
        ids : tensor of int32 or int64, any shape
            Ids of a later call, for example of the next batch.
        """
        check_ids(ids)
        self.store.prefetch(as_array(ids))

    def get_extra_state(self) -> dict[str, Any]:
        """Return the part of a state dict that identifies the table, as strings and numbers."""
        return {
            "path": str(self.store.path),
            "fingerprint": self.fingerprint,
            "shape": list(self.store.shape),
            "dtype": self.store.dtype.name,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Check that a state dict belongs to this module's table.

        Raises
        ------
        ValueError
            If it belongs to another table; the message names both.
        """
        _check_same(state, self.get_extra_state())

    def extra_repr(self) -> str:
        """Return the text between the parentheses of the module's repr."""
        shown = [str(size) for size in self.store.shape]
        shown += [
            f"{name}={value!r}"
            for name in ("padding_idx", "max_norm")
            if (value := getattr(self, name)) is not None
        ]
        return ", ".join([*shown, f"store={str(self.store.path)!r}"])

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._number = _register(self.store)
        expected = self.get_extra_state()
        _check_same(expected, expected | {"fingerprint": self.store.fingerprint()})

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self.store)] = self.store
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def _rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows of ``ids`` on the module's device and in its dtype."""
        if torch.compiler.is_compiling():
            rows = _lookup(ids, self._number, self.device)
        else:
            rows = gather(self.store, as_array(ids), self.device)
        return rows.to(self.dtype)


@torch.library.custom_op(
    "embstore::lookup",
    mutates_args=(),
    schema="(Tensor ids, int number, Device device) -> Tensor",
)
def _lookup(ids: torch.Tensor, number: int, device: torch.device) -> torch.Tensor:
    return gather(_stores[number], as_array(ids), device)


@_lookup.register_fake
def _(ids: torch.Tensor, number: int, device: torch.device) -> torch.Tensor:
    store = _stores[number]
    shape = (*ids.shape, *store.row_shape)
    return torch.empty(shape, dtype=torch_dtype(store.dtype), device=device)


def _register(store: EmbeddingStore) -> int:
    number = next(_numbers)
    _stores[number] = store
    return number


def _check_padding(padding_idx: int | None, rows: int) -> int | None:
    if padding_idx is None:
        return None
    if not -rows <= padding_idx < rows:
        raise ValueError(f"padding_idx is {padding_idx}, but the store has {rows} rows")
    return padding_idx % rows  # As in nn.Embedding, negative values count from the end.


def _check_same(expected: dict[str, Any], found: dict[str, Any]) -> None:
    if expected["fingerprint"] != found["fingerprint"]:
        raise ValueError(
            f"the state is of {_describe(expected)}, but the module's store is "
            f"{_describe(found)}: another table; open the table that the model was trained with"
        )


def _describe(table: dict[str, Any]) -> str:
    return f"{table['path']} ({table['shape']} {table['dtype']}, {table['fingerprint'][:8]})"
