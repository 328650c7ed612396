"""The base class of modules over a store.

1. Modules have no parameters: the table stays on disk and is never trained. An empty buffer keeps
   the device and dtype that ``.to(device)``, ``.half()`` and the like set; each lookup sends and
   casts its rows accordingly.
2. A state dict identifies the table by its path and fingerprint, and holds no rows. Loading it into
   a module over another table is an error; the same table may be at another path.
3. `reload` lets a module go on with the newest version of its table. A call that has begun ends
   with the version that it began with. Exported graphs keep the version that they refer to.
4. A module that is unpickled, for example in a worker of a ``DataLoader``, opens its store again,
   and refuses another table. A deep copy shares the store.
5. In a compiled, exported or traced model, a lookup is one opaque operator, so it does not break
   the graph, and the graph holds no rows. The operator is given a reference to the table, so a
   program that is loaded in another process reads the same table, or raises an error.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

import torch
from torch._C import _is_tracing, _len_torch_dispatch_stack

from embstore.dtypes import as_dtype
from embstore.interop import reference
from embstore.interop.stores import check_store
from embstore.interop.torch.arrays import as_array, as_state, check_ids, torch_dtype
from embstore.interop.torch.tensors import gather
from embstore.norms import check_max_norm
from embstore.opening import open as open_store
from embstore.settle import as_count

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from embstore.reading.submitted import Prefetch
    from embstore.store import EmbeddingStore


class StoreModule(torch.nn.Module):
    """The base of `StoreEmbedding` and `StoreEmbeddingBag`, which describe the parameters.

    Attributes
    ----------
    store : EmbeddingStore
        The table.
    fingerprint : str
        The table's fingerprint; see `embstore.EmbeddingStore.fingerprint`.
    """

    def __init__(
        self,
        store: EmbeddingStore,
        padding_idx: int | None,
        max_norm: float | None,
        device: torch.device | str | int | None,
    ) -> None:
        super().__init__()
        check_store(store)
        if max_norm is not None:
            check_max_norm(max_norm, store.dtype)
        self.padding_idx = _check_padding(padding_idx, store.rows)
        self.max_norm = max_norm
        self._use(store, store.fingerprint())
        like = torch.empty(0, dtype=torch_dtype(store.dtype), device=device)
        self.register_buffer("_like", like, persistent=False)

    @classmethod
    def from_path(
        cls,
        path: str | os.PathLike[str],
        *,
        tensor: str | None = None,
        preload: bool = False,
        resident_limit: int | str | None = None,
        row_cache: int | str | None = None,
        **options: Any,
    ) -> Self:
        """Open a store, and return a module over it.

        Parameters
        ----------
        path, tensor, preload, resident_limit, row_cache
            As for `embstore.open`.
        **options
            As for the class.

        Examples
        --------
        >>> from embstore.interop.torch import StoreEmbedding
        >>> StoreEmbedding.from_path("words.embstore", padding_idx=0).embedding_dim
        8
        """
        store = open_store(
            path,
            tensor=tensor,
            preload=preload,
            resident_limit=resident_limit,
            row_cache=row_cache,
        )
        try:
            return cls(store, **options)
        except BaseException:
            store.close()
            raise

    @property
    def device(self) -> torch.device:
        """Device that rows are sent to."""
        return self._like.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype that rows are cast to; initially the store's."""
        return self._like.dtype

    def is_current(self) -> bool:
        """Say whether the store is the newest version; see `embstore.EmbeddingStore.is_current`."""
        return self.store.is_current()

    def reload(self) -> Self:
        """Use the newest version of the table from now on; calls under way end with the old one.

        The old store is not closed, because others may use it. State dicts that are made from now
        on name the new table.

        Returns
        -------
        StoreModule
            This module.

        Raises
        ------
        ValueError
            If the newest version has another row shape or dtype, or fewer rows. The module keeps
            its table then.
        StoreError, OSError, ValueError
            As `embstore.EmbeddingStore.reload`.

        Examples
        --------
        >>> from embstore.interop.torch import StoreEmbedding
        >>> embedding = StoreEmbedding(store)
        >>> embedding.reload() is embedding
        True
        """
        old = self.store
        newest = old.reload()
        if newest is old:
            return self
        before, now = ((one.row_shape, one.dtype) for one in (old, newest))
        if before != now or newest.rows < old.rows:
            found = f"{newest.rows} rows of {newest.row_shape} {newest.dtype}"
            newest.close()
            raise ValueError(
                f"{old.location} has {found} now, but this module uses {old.rows} rows of "
                f"{old.row_shape} {old.dtype}: rows may be added or replaced, but not removed, nor "
                "may their shape or dtype change; make a new module"
            )
        self._use(newest, newest.fingerprint())
        return self

    def prefetch(self, ids: torch.Tensor) -> Prefetch:
        """Start reading the rows of ``ids`` from disk, without waiting for them.

        Parameters
        ----------
        ids : tensor of int32 or int64, any shape
            Ids of a later call, for example of the next batch.
        """
        check_ids(ids)
        return self.store.prefetch(as_array(ids))

    def get_extra_state(self) -> torch.Tensor:
        """Return the part of a state dict that identifies the table: JSON, a tensor of uint8."""
        return torch.tensor(reference.as_bytes(reference.parse(self._reference)), device="cpu")

    def set_extra_state(self, state: Any) -> None:
        """Check that a state dict belongs to this module's table.

        Parameters
        ----------
        state : tensor, or dict
            What `get_extra_state` returned; embstore 0.1 returned a dict.

        Raises
        ------
        ValueError
            If it belongs to another table; the message names both.
        """
        self._check_state(state, "_extra_state")

    def extra_repr(self) -> str:
        """Return the text between the parentheses of the module's repr."""
        shown = [str(size) for size in self.store.shape]
        shown += [
            f"{name}={value!r}"
            for name in ("padding_idx", "max_norm")
            if (value := getattr(self, name)) is not None
        ]
        return ", ".join([*shown, f"store={self.store.location!r}"])

    def __getattr__(self, name: str) -> Any:
        if name == "weight":
            raise AttributeError(
                f"{type(self).__name__} has no weight: the rows stay on disk; look rows up with "
                "module(ids) or module.store[ids], or read all with module.store.to_numpy()"
            )
        return super().__getattr__(name)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        name = f"{prefix}weight"
        if name in state_dict:  # Also without strict: the rows may be others than the store's.
            error_msgs.append(
                f"{name!r} is the table of a module of PyTorch, and the rows of "
                f"{type(self).__name__} are in a store; build one of it with "
                f"embstore.build(state[{name!r}].numpy(), path), make the module over that, delete "
                f"{name!r} from the state, and load the rest with strict=False"
            )
            return
        name = f"{prefix}_extra_state"
        if name in state_dict:
            self._check_state(state_dict[name], name)
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )

    def __prepare_scriptable__(self) -> Any:
        raise TypeError(
            f"torch.jit.script cannot compile {type(self).__name__}, whose rows are on disk; use "
            "torch.export or torch.compile"
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        found = self.store.fingerprint()
        if not self.store.matches(self.fingerprint):  # That of embstore 0.1 matches, too.
            expected = reference.reference_to(self.store, self.fingerprint)
            reference.check_same(expected, self.store, found)
        self._use(self.store, found)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self.store)] = self.store
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def _use(self, store: EmbeddingStore, fingerprint: str) -> None:
        """Look rows up in a store from now on."""
        reference.register(store, fingerprint)
        # What graphs and state dicts hold.
        self._reference = reference.as_text(reference.reference_to(store, fingerprint))
        self.store, self.fingerprint = store, fingerprint
        self.num_embeddings = store.rows

    def _check_state(self, state: Any, name: str) -> None:
        """Raise ValueError unless an entry of a state dict is of this module's table."""
        expected = reference.as_reference(as_state(state))
        remedy = (
            f"set state[{name!r}] = model.state_dict()[{name!r}], which names the table as it is "
            "now, and load the state again"
        )
        reference.check_same(expected, self.store, self.fingerprint, remedy)

    def _check_arithmetic(self) -> None:
        """Raise TypeError if PyTorch does not compute in the module's dtype."""
        if self.dtype.is_floating_point and self.dtype.itemsize == 1:
            raise TypeError(
                f"PyTorch does not compute in {self.dtype}; cast rows after the lookup, such as "
                "with module.to(torch.bfloat16)"
            )

    def _rows(self, ids: torch.Tensor, store: EmbeddingStore | None = None) -> torch.Tensor:
        """Return the rows of ``ids`` on the module's device and in its dtype.

        A call with several lookups passes the store that it began with.
        """
        like = self._buffers["_like"]  # Without the detour of nn.Module's __getattr__.
        rows = rows_of(self.store if store is None else store, self._reference, ids, like.device)
        # Calls without an effect take a large part of a small lookup's time.
        return rows if rows.dtype is like.dtype else rows.to(like.dtype)


def rows_of(
    store: EmbeddingStore, reference_text: str, ids: torch.Tensor, device: torch.device
) -> torch.Tensor:
    """Return the rows of ids on a device, in the store's dtype; or record that in a graph.

    Parameters
    ----------
    store : EmbeddingStore
    reference_text : str
        The reference to the store, which a graph holds.
    ids : tensor of integers, any shape
    device : torch.device
    """
    if is_recorded():
        return _lookup(ids, reference_text, str(device))
    return gather(store, as_array(ids), device)


def is_recorded() -> bool:
    """Say whether a graph is being made of this call; its ids are then only an example."""
    # Modes that see each operator, such as that of make_fx, are on the stack.
    found: bool = torch.compiler.is_compiling() or _is_tracing() or _len_torch_dispatch_stack() > 0
    return found


@torch.library.custom_op(
    "embstore::lookup",
    mutates_args=(),
    schema="(Tensor ids, str reference, str device) -> Tensor",
)
def _lookup(ids: torch.Tensor, reference_text: str, device: str) -> torch.Tensor:
    return gather(reference.find_store(reference_text), as_array(ids), torch.device(device))


@_lookup.register_fake
def _(ids: torch.Tensor, reference_text: str, device: str) -> torch.Tensor:
    table = reference.parse(reference_text)
    shape = (*ids.shape, *table["shape"][1:])
    return torch.empty(shape, dtype=torch_dtype(as_dtype(table["dtype"])), device=device)


def _check_padding(padding_idx: int | None, rows: int) -> int | None:
    if padding_idx is None:
        return None
    # As in nn.Embedding, negative values count from the end.
    return as_count(padding_idx, "padding_idx", low=-rows, high=rows - 1) % rows
