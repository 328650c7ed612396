"""The example of n-gram embeddings: hashing, reading ahead, rows against safetensors and torch."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest

from tests.helpers.programs import run_python

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from examples import made_up_models, ngram_embedding  # noqa: E402
from examples.ngram_embedding import CHUNK_TOKENS, NgramEmbedding, NgramHash  # noqa: E402

HASHES = [
    NgramHash(4000),
    NgramHash(4000, orders=(1,), heads=1),
    NgramHash(100, orders=(4, 2), heads=3, pad=9, seed=5),
]


def test_examples_of_docstrings():
    assert doctest.testmod(ngram_embedding) == (0, 4)


def test_made_up_models_are_made_by_a_command(tmp_path):
    pytest.importorskip("gguf")
    done = run_python("-m", "examples.made_up_models", tmp_path / "m")
    assert done.stdout.startswith("made ")
    assert len(list(tmp_path.glob("m/shards/*.safetensors"))) == 6
    assert len(list(tmp_path.glob("m/engram/*.safetensors"))) == 2
    assert (tmp_path / "m" / "model.gguf").exists()


def slow_ids(hashing, tokens):
    """Return the ids of a list of tokens, computed one by one."""
    random = np.random.default_rng(hashing.seed)
    longest = max(hashing.orders)
    odd = random.integers(0, 1 << 63, (hashing.count, longest), dtype=np.uint64) * 2 + 1
    each = hashing.rows // hashing.count
    padded = [hashing.pad] * (longest - 1) + tokens
    found = []
    for position in range(len(tokens)):
        row = []
        for number in range(hashing.count):
            mixed = 0
            for k in range(hashing.orders[number // hashing.heads]):
                token = padded[position + longest - 1 - k]
                mixed ^= token * int(odd[number, k]) % 2**64
            mixed ^= mixed >> 32
            row.append(mixed % each + number * each)
        found.append(row)
    return found


@pytest.mark.parametrize("hashing", HASHES, ids=str)
def test_ids_of_ngrams(hashing):
    tokens = np.random.default_rng(0).integers(0, 150_000, (2, 20))
    ids = hashing.ids(tokens)
    assert ids.dtype == np.int64
    assert ids.shape == (2, 20, hashing.count)
    assert ids.tolist() == [slow_ids(hashing, some) for some in tokens.tolist()]
    assert ids.min() >= 0
    assert ids.max() < hashing.rows


@pytest.mark.parametrize("hashing", HASHES, ids=str)
@pytest.mark.parametrize("cut", [0, 1, 2, 19, 20])
def test_ids_of_chunks_are_those_of_the_whole(hashing, cut):
    tokens = np.random.default_rng(1).integers(0, 150_000, (3, 20))
    parts = hashing.ids(tokens[:, :cut]), hashing.ids(tokens[:, cut:], tokens[:, :cut])
    assert np.array_equal(np.concatenate(parts, 1), hashing.ids(tokens))


def whole_table(directory, tensor, scale):
    """Return a table as bfloat16, read by safetensors and decoded by torch."""
    from safetensors.torch import load_file

    tensors: dict[str, Any] = {}
    for file in directory.glob("*.safetensors"):
        tensors |= load_file(file)
    names = (
        [tensor.format(number) for number in range(made_up_models.SHARDS)]
        if "{}" in tensor
        else [tensor]
    )
    rows = torch.cat([tensors[name] for name in names]).float()
    scales = tensors[scale].float()
    groups = rows.view(len(rows), scales.shape[1] if scales.ndim > 1 else 1, -1)
    return (groups * scales.view(-1, groups.shape[1], 1)).view(len(rows), -1).to(torch.bfloat16)


@pytest.fixture(params=["shards", "layer 1", "layer 14"])
def opened(request, tmp_path):
    """Give a store, and its whole table."""
    if request.param == "shards":
        made_up_models.make_shards(tmp_path / "m")
        names = made_up_models.SHARD_NAME, made_up_models.SHARD_SCALE
        store = ngram_embedding.open_shards(tmp_path / "m")
    else:
        layer = int(request.param.split()[1])
        made_up_models.make_engram(tmp_path / "m")
        tensor, scale = made_up_models.ENGRAM_NAME, made_up_models.ENGRAM_SCALE
        names = tensor.format(layer=layer), scale.format(layer=layer)
        store = ngram_embedding.open_engram(tmp_path / "m", layer)
    with store:
        yield store, whole_table(tmp_path / "m", *names)


def test_embeddings_are_the_rows_of_all_ngrams(opened):
    store, whole = opened
    hashing = NgramHash(store.rows)
    layer = NgramEmbedding(store, hashing)
    tokens = torch.randint(0, 50_000, (2, 30), generator=torch.Generator().manual_seed(4))
    expected = whole[torch.from_numpy(hashing.ids(tokens.numpy()))].view(2, 30, -1)
    found = layer(tokens)
    assert found.dtype == torch.bfloat16
    assert found.shape == (2, 30, 16 * store.row_shape[0])
    assert torch.equal(found, expected)
    # An announcement of other tokens does no harm; nor do several, or none.
    for announced in ([tokens], [tokens[:1]], [tokens, tokens + 1], [tokens + 1, tokens], []):
        for some in announced:
            layer.announce(some)
        assert torch.equal(layer(tokens), expected)
    assert torch.equal(found, expected)


def test_prefill_in_chunks_is_that_of_the_whole_prompt(opened):
    store, _ = opened
    layer = NgramEmbedding(store, NgramHash(store.rows))
    for length in (1, CHUNK_TOKENS, 3 * CHUNK_TOKENS + 5):
        prompt = torch.arange(length) * 7919 % 50_000
        answer = ngram_embedding.prefill(torch.nn.Identity(), layer, prompt)
        assert torch.equal(answer, layer(prompt))


def test_module_has_nothing_to_save(opened):
    layer = NgramEmbedding(opened[0], HASHES[0])
    assert not list(layer.parameters())
    assert not layer.state_dict()
