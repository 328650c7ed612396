"""The table of differences in docs/pytorch.md: both of its columns, as far as they compute."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import embstore

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # Only where torch is installed, like the import below.

from embstore.interop.torch import StoreEmbedding, StoreEmbeddingBag  # noqa: E402

TABLE = np.random.default_rng(4).standard_normal((12, 5)).astype(np.float32)
IDS = torch.tensor([3, 1, 3, 3, 0, 11, 3, 7, 2])
# Bags that are empty at the start, between others and at the end; of padding only; of one id.
OFFSETS = [[0], [0, 0, 2], [0, 3, 3, 4], [0, 2, 4, 6, 7, 9, 9], [0, 9], [0, 1, 2, 3, 4, 5, 6, 7, 8]]


@pytest.fixture
def store(tmp_path):
    return embstore.build(TABLE, tmp_path / "t.embstore", partitions=2)


def both(store, **options):
    """Return a bag over the store, and one over the same table in RAM."""
    theirs = nn.EmbeddingBag.from_pretrained(torch.from_numpy(TABLE.copy()), **options)
    return StoreEmbeddingBag(store, **options), theirs


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding_idx", [None, 3, 0, -1])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("preload", [False, True])
def test_offsets_with_padding(store, mode, padding_idx, last, preload):
    store = embstore.open(store.path, preload=preload)
    options = {"mode": mode, "padding_idx": padding_idx, "include_last_offset": last}
    mine, theirs = both(store, **options)
    for starts, dtype in product(OFFSETS, (torch.int32, torch.int64)):
        ids, offsets = IDS.to(dtype), torch.tensor(starts + [len(IDS)] * last, dtype=dtype)
        assert torch.equal(mine(ids, offsets), theirs(ids, offsets))
        if mode == "sum":
            weights = torch.arange(9.0) - 4
            expected = theirs(ids, offsets, per_sample_weights=weights)
            assert torch.equal(mine(ids, offsets, per_sample_weights=weights), expected)
    table = IDS.reshape(3, 3)
    assert torch.equal(mine(table), theirs(table))
    none = IDS[:0]
    for starts in ([0], [0, 0, 0]):
        assert torch.equal(mine(none, torch.tensor(starts)), theirs(none, torch.tensor(starts)))
    only = torch.full((4,), 3)
    found = mine(only, torch.tensor([0, 1, 1] + [4] * last))
    assert torch.equal(found, theirs(only, torch.tensor([0, 1, 1] + [4] * last)))
    assert padding_idx != 3 or not found.any()


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding_idx", [None, 3])
def test_offsets_that_are_no_bags(store, padding_idx, mode):
    mine, theirs = both(store, mode=mode, padding_idx=padding_idx)
    descending = torch.tensor([0, 5, 2])
    with pytest.raises(ValueError, match="offsets must ascend"):
        mine(IDS, descending)
    if padding_idx is None and mode != "max":
        with pytest.raises(RuntimeError):
            theirs(IDS, descending)
    else:
        assert theirs(IDS, descending).shape == (3, 5)
    for wrong in ([1, 3], [0, 99]):
        with pytest.raises(ValueError, match="offsets must"):
            mine(IDS, torch.tensor(wrong))
        with pytest.raises(RuntimeError):
            theirs(IDS, torch.tensor(wrong))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding_idx", [None, 3])
def test_last_offset_before_the_end_of_the_ids(store, padding_idx, mode):
    mine, theirs = both(store, mode=mode, padding_idx=padding_idx, include_last_offset=True)
    offsets = torch.tensor([0, 4, 6])
    expected = theirs(IDS[:6], offsets)
    assert torch.equal(mine(IDS, offsets), expected)
    is_equal = padding_idx is None and mode == "sum"
    assert torch.equal(theirs(IDS, offsets), expected) == is_equal


def test_max_norm_changes_no_table(store):
    ours, theirs = StoreEmbedding(store, max_norm=1.0), nn.Embedding(12, 5, max_norm=1.0)
    theirs.weight.data = torch.from_numpy(TABLE.copy())
    assert torch.equal(ours(IDS), theirs(IDS).detach())
    assert not np.array_equal(theirs.weight.detach(), TABLE)
    assert np.array_equal(store.to_numpy(), TABLE)


def test_ids_out_of_range(store):
    for module, own in (
        (StoreEmbedding(store), nn.Embedding(12, 5)),
        both(store, mode="sum"),
    ):
        for one in (module, own):
            with pytest.raises((IndexError, RuntimeError)):
                one(torch.tensor([[1, 12]]))
        with pytest.raises(embstore.IdRangeError, match=r"id 12 at position \(0, 1\)"):
            module(torch.tensor([[1, 12]]))


def test_rows_without_numbers(tmp_path):
    for shape in ((0,), (2, 0), (0, 3)):
        store = embstore.build(np.empty((7, *shape), np.float32), tmp_path / f"{shape}")
        module, own = StoreEmbedding(store, padding_idx=1, max_norm=1.0), nn.Embedding(7, 0)
        for ids in (IDS[:3], IDS[:0], torch.tensor(1), torch.tensor([[1, 2], [3, 4]])):
            assert module(ids).shape == (*ids.shape, *shape)
            assert shape != (0,) or torch.equal(module(ids), own(ids))
        assert module.half()(IDS[:3]).dtype == torch.float16
        with pytest.raises(embstore.IdRangeError):
            module(torch.tensor([7]))
        module.load_state_dict(module.state_dict())
    bag = StoreEmbeddingBag(embstore.build(np.empty((12, 0), np.float32), tmp_path / "bag"))
    for starts in OFFSETS:
        assert bag(IDS, torch.tensor(starts)).shape == (len(starts), 0)
    with pytest.raises(RuntimeError):
        nn.EmbeddingBag(12, 0)(IDS, torch.tensor([0, 1]))
