"""Replacement of a model's own embedding by one over a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from embstore.interop.stores import check_store
from embstore.interop.torch.bag import StoreEmbeddingBag
from embstore.interop.torch.embedding import StoreEmbedding

if TYPE_CHECKING:
    from embstore.store import EmbeddingStore


_FORWARDS = (torch.nn.Embedding.forward, torch.nn.EmbeddingBag.forward)


def swap(
    model: torch.nn.Module, name: str, store: EmbeddingStore
) -> StoreEmbedding | StoreEmbeddingBag:
    """Replace an ``nn.Embedding`` or ``nn.EmbeddingBag`` of a model by a module over a store.

    The new module has the settings, device, dtype and mode (training or not) of the old one; if
    that is on the device meta, rows come on the CPU. They are those of the store, and are not
    compared with the old table. A parameter that shares the old table, such as a tied output layer,
    keeps it.

    Parameters
    ----------
    model : torch.nn.Module
        The model; it is changed.
    name : str
        The name of the module in it, as in ``model.named_modules()``, such as
        ``"encoder.embed_tokens"``.
    store : EmbeddingStore
        A table with as many rows as the old one, of the same length.

    Returns
    -------
    StoreEmbedding or StoreEmbeddingBag
        The new module.

    Raises
    ------
    AttributeError
        If the model has no module of this name.
    TypeError
        If that is neither an ``nn.Embedding`` nor an ``nn.EmbeddingBag``, is of a class that
        computes something else than these, as some models scale their embeddings, or has hooks.
    ValueError
        If the shapes differ, or ``max_norm`` is of another norm than L2.

    Examples
    --------
    >>> import torch
    >>> from embstore.interop.torch import swap
    >>> model = torch.nn.Sequential(torch.nn.Embedding(11, 8), torch.nn.Linear(8, 2))
    >>> _ = swap(model, "0", store)
    >>> [type(part).__name__ for part in model]
    ['StoreEmbedding', 'Linear']
    """
    check_store(store)
    old = model.get_submodule(name)
    if not name or not isinstance(old, torch.nn.Embedding | torch.nn.EmbeddingBag):
        raise TypeError(
            f"{name!r} is {type(old).__name__}; expected the name of an nn.Embedding or "
            f"nn.EmbeddingBag: {_listed(model)}"
        )
    if type(old).forward not in _FORWARDS:
        raise TypeError(
            f"{name!r} is {type(old).__name__}, which computes something else than nn.Embedding "
            "or nn.EmbeddingBag, such as scaled rows; a module over a store gives the rows as they "
            "are, so write such a class over StoreEmbedding"
        )
    if old._forward_hooks or old._forward_pre_hooks:
        raise TypeError(f"{name!r} has hooks, which would be lost; remove them, and add them again")
    if store.shape != (old.num_embeddings, old.embedding_dim):
        raise ValueError(_difference(name, old, store))
    if old.max_norm is not None and old.norm_type != 2:
        raise ValueError(
            f"{name!r} limits the norm of order {old.norm_type}; a module over a store limits the "
            "L2 norm only"
        )
    settings: dict[str, Any] = {
        "padding_idx": old.padding_idx,
        "max_norm": old.max_norm,
        # On the device meta, a model only has shapes until it is loaded; rows are there already.
        "device": "cpu" if old.weight.is_meta else old.weight.device,
    }
    new: StoreEmbedding | StoreEmbeddingBag
    if isinstance(old, torch.nn.Embedding):
        new = StoreEmbedding(store, **settings)
    else:
        last = old.include_last_offset
        new = StoreEmbeddingBag(store, old.mode, include_last_offset=last, **settings)
    new = new.to(old.weight.dtype).train(old.training)
    # A module may be part of a model under several names.
    every = [one for one, part in model.named_modules(remove_duplicate=False) if part is old]
    for one in every:
        parent, _, own = one.rpartition(".")
        setattr(model.get_submodule(parent), own, new)
    return new


def _difference(name: str, old: torch.nn.Module, store: EmbeddingStore) -> str:
    """Say that shapes differ and, where the table may have grown, what to do then."""
    shape = (old.num_embeddings, old.embedding_dim)
    found = f"the store has shape {store.shape}, and {name!r} has {shape}"
    if store.row_shape != shape[1:] or store.rows < shape[0]:
        return found
    kind = "StoreEmbeddingBag" if isinstance(old, torch.nn.EmbeddingBag) else "StoreEmbedding"
    return (
        f"{found}; if the table has only grown since then, put {kind}(store), with the settings of "
        f"{name!r}, in its place yourself"
    )


def _listed(model: torch.nn.Module) -> str:
    kinds = (torch.nn.Embedding, torch.nn.EmbeddingBag)
    names = [name for name, module in model.named_modules() if name and isinstance(module, kinds)]
    return ", ".join(map(repr, names)) or "the model has none"
