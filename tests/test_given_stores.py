"""What stands for a store by mistake: each error says how to get the store."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.interop.keyedvectors import KeyedVectors

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)

GIVEN: dict[str, tuple[Callable[[embstore.EmbeddingStore], Any], str]] = {
    "str": (lambda store: str(store.path), r"not str; embstore.open\(path\) opens one"),
    "path": (lambda store: Path(store.location), r"embstore.open\(path\) opens one"),
    "none": (lambda _: None, r"not NoneType; embstore.open\(path\) opens one"),
    "array": (lambda _: ROWS, r"not ndarray; embstore.build\(rows, path\) makes one"),
    "view": (lambda store: store.view(0, 3), r"not StoreView; pass view.store, .*view.lookup\("),
    "keyed": (KeyedVectors, r"not KeyedVectors; pass its .store"),
}


@pytest.fixture
def store(tmp_path):
    return embstore.build(dict(zip("abcdef", ROWS, strict=True)), tmp_path / "t.embstore")


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize(
    "taker", ["KeyedVectors", "StoreEmbedding", "StoreEmbeddingBag", "StoreDataset"]
)
def test_only_a_store_is_taken(store, name, taker):
    if taker == "KeyedVectors":
        take: Any = KeyedVectors
    else:
        pytest.importorskip("torch")
        from embstore.interop import torch as modules

        take = getattr(modules, taker)
    make, problem = GIVEN[name]
    with pytest.raises(TypeError, match=f"store must be an EmbeddingStore.*{problem}"):
        take(make(store))
    take(store)


@pytest.mark.skipif(find_spec("gensim") is None, reason="needs gensim")
def test_vectors_of_gensim_are_built_first(store):
    with pytest.raises(TypeError, match=r"not KeyedVectors; embstore.build\(rows, path\) makes"):
        KeyedVectors(store.to_gensim())


def test_a_store_is_not_built_of_a_module_over_another(store, tmp_path):
    pytest.importorskip("torch")
    from embstore.interop.torch import StoreDataset, StoreEmbedding, StoreEmbeddingBag

    for kind in (StoreEmbedding, StoreEmbeddingBag, StoreDataset):
        module = kind(store)
        with pytest.raises(TypeError, match=f"{kind.__name__}, whose rows are in a store; pass"):
            embstore.build(module, tmp_path / "b.embstore", overwrite=True)
    built = embstore.build(StoreEmbedding(store).store, tmp_path / "b.embstore")
    assert np.array_equal(built.to_numpy(), ROWS)
