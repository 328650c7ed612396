"""What do all modules over a store have in common?

1. No parameters: the table stays on disk and is never trained. ``.to(device)``, ``.half()`` and the
   like are remembered by an empty buffer, and rows are sent and cast as they are looked up.
2. A state dict holds which table it was, its path and its fingerprint, and no rows. Loading it into
   a module over another table is an error; over the same table at another path, it is not.
3. A pickled module opens its store again where it comes to life, for example in a ``DataLoader``'s
   worker, and refuses another table there. A deep copy shares the store.
4. A compiled model sees a lookup as one opaque operator, so that it need not break its graph.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any, Self
from weakref import WeakValueDictionary

import torch

from embstore.interop.torch.tensors import as_array, check_ids, gather, torch_dtype
from embstore.store import EmbeddingStore

# An operator takes numbers, not objects: a store's number leads back to it.
_numbers = itertools.count()
_stores: WeakValueDictionary[int, EmbeddingStore] = WeakValueDictionary()


class StoreModule(torch.nn.Module):
    """The base of `StoreEmbedding` and `StoreEmbeddingBag`, which describe the parameters.

    Attributes
    ----------
    store : EmbeddingStore
        Where rows come from.
    fingerprint : str
        Which table that is; see `EmbeddingStore.fingerprint`.
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
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"max_norm must be above 0, not {max_norm}")
        self.store = store
        self.fingerprint = store.fingerprint()
        self.padding_idx = _check_padding(padding_idx, store.rows)
        self.max_norm = max_norm
        self._number = _register(store)
        like = torch.empty(0, dtype=torch_dtype(store.dtype), device=device)
        if max_norm is not None and not like.is_floating_point():
            raise TypeError(f"max_norm needs rows of floats; those of the store are {store.dtype}")
        self.register_buffer("_like", like, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where rows are sent."""
        return self._like.device

    @property
    def dtype(self) -> torch.dtype:
        """What rows are cast to; the store's dtype at first."""
        return self._like.dtype

    def prefetch(self, ids: torch.Tensor) -> None:
        """Start reading the rows of ``ids`` from the disk, and return; a later call finds them.

        Parameters
        ----------
        ids : tensor of int32 or int64, any shape
            For example those of the next batch.
        """
        check_ids(ids)
        self.store.prefetch(as_array(ids))

    def get_extra_state(self) -> dict[str, Any]:
        """Return what a state dict holds: which table this is, as plain strings and numbers."""
        return {
            "path": str(self.store.path),
            "fingerprint": self.fingerprint,
            "shape": list(self.store.shape),
            "dtype": self.store.dtype.name,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Compare the table of a state dict with this module's.

        Raises
        ------
        ValueError
            If it is another one; both are named.
        """
        _check_same(state, self.get_extra_state())

    def extra_repr(self) -> str:
        """Return what the module's repr shows in its brackets."""
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
    return padding_idx % rows  # As nn.Embedding, which counts negative ones from the end.


def _check_same(expected: dict[str, Any], found: dict[str, Any]) -> None:
    if expected["fingerprint"] != found["fingerprint"]:
        raise ValueError(
            f"the state is of {_describe(expected)}, but the module's store is "
            f"{_describe(found)}: another table; open the one that the model was trained with"
        )


def _describe(table: dict[str, Any]) -> str:
    return f"{table['path']} ({table['shape']} {table['dtype']}, {table['fingerprint'][:8]})"
