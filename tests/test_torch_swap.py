"""Modules over stores in the place of PyTorch's: names, states, and swapped tables."""

from __future__ import annotations

import numpy as np
import pytest

import embstore

torch = pytest.importorskip("torch")

from embstore.interop.torch import StoreEmbedding, StoreEmbeddingBag, swap  # noqa: E402

ROWS = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
IDS = torch.tensor([[1, 0], [7, 19]])


@pytest.fixture
def path(tmp_path):
    embstore.build(ROWS, tmp_path / "t.embstore", partitions=2).close()
    return tmp_path / "t.embstore"


@pytest.fixture
def store(path):
    with embstore.open(path) as opened:
        yield opened


class Model(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A model with an embedding inside of another module."""

    def __init__(self, embedding):
        super().__init__()
        self.encoder = torch.nn.ModuleDict({"embed": embedding})
        self.head = torch.nn.Linear(6, 2)

    def forward(self, input, *given):
        return self.head(self.encoder["embed"](input, *given))


def test_parameters_have_names_of_pytorch(store):
    flat, offsets = torch.tensor([1, 2, 4]), torch.tensor([0, 2])
    weights = torch.ones(3)
    for theirs, ours in (
        (torch.nn.Embedding(20, 6), StoreEmbedding(store)),
        (torch.nn.EmbeddingBag(20, 6, mode="sum"), StoreEmbeddingBag(store, mode="sum")),
    ):
        assert theirs(input=IDS).shape == ours(input=IDS).shape
    for bag in (torch.nn.EmbeddingBag(20, 6, mode="sum"), StoreEmbeddingBag(store, mode="sum")):
        assert bag(input=flat, offsets=offsets, per_sample_weights=weights).shape == (2, 6)


@pytest.mark.parametrize("kind", [StoreEmbedding, StoreEmbeddingBag])
def test_modules_of_paths(path, kind):
    module = kind.from_path(path, padding_idx=3)
    assert module.padding_idx == 3
    assert np.array_equal(module.store[4], ROWS[4])
    with pytest.raises(ValueError, match="padding_idx"):
        kind.from_path(path, padding_idx=20)
    with pytest.raises(embstore.StoreNotFoundError):
        kind.from_path(path.with_name("none"))


@pytest.mark.parametrize("kind", [StoreEmbedding, StoreEmbeddingBag])
def test_the_weight_says_what_to_use(store, kind):
    module = kind(store)
    assert not hasattr(module, "weight")
    with pytest.raises(AttributeError, match=r"has no weight: the rows stay on disk; look rows up"):
        _ = module.weight
    with pytest.raises(AttributeError, match="'other'"):
        _ = module.other


def test_a_state_of_pytorch_says_what_to_do(store):
    state = Model(torch.nn.Embedding(20, 6)).state_dict()
    model = Model(StoreEmbedding(store))
    with pytest.raises(
        RuntimeError, match=r"'encoder.embed.weight' is the table of a module"
    ) as got:
        model.load_state_dict(state)
    assert "Unexpected key" not in str(got.value).split("is the table")[0]
    table = state.pop("encoder.embed.weight")
    with pytest.raises(RuntimeError, match="_extra_state"):
        model.load_state_dict(state)
    model.load_state_dict(state, strict=False)
    assert torch.equal(model.head.weight, state["head.weight"])
    rebuilt = embstore.build(table.numpy(), store.location + ".2")
    assert np.array_equal(rebuilt.to_numpy(), table.numpy())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("max_norm", [None, 1.5])
@pytest.mark.parametrize("training", [True, False])
def test_an_embedding_is_swapped(store, dtype, max_norm, training):
    weight = torch.from_numpy(ROWS.copy())
    old = torch.nn.Embedding.from_pretrained(weight, padding_idx=2, max_norm=max_norm)
    model = Model(old).to(dtype).train(training)
    want = model(IDS)
    new = swap(model, "encoder.embed", store)
    assert model.encoder["embed"] is new
    assert (new.padding_idx, new.max_norm, new.dtype) == (2, max_norm, dtype)
    assert new.training is training
    assert torch.allclose(model(IDS), want, atol=1e-2 if dtype is torch.bfloat16 else 1e-6)
    assert [name for name, _ in model.named_parameters()] == ["head.weight", "head.bias"]


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("last", [True, False])
def test_a_bag_is_swapped(store, mode, last):
    weight = torch.from_numpy(ROWS.copy())
    old = torch.nn.EmbeddingBag.from_pretrained(
        weight, mode=mode, padding_idx=0, include_last_offset=last
    )
    model = Model(old)
    ids, offsets = torch.tensor([1, 0, 5, 0, 0, 7]), torch.tensor([0, 3, 5, 6])
    offsets = offsets if last else offsets[:-1]
    want = model(ids, offsets)
    new = swap(model, "encoder.embed", store)
    assert (new.mode, new.include_last_offset, new.padding_idx) == (mode, last, 0)
    assert torch.equal(model(ids, offsets), want)


@pytest.mark.parametrize(
    ("name", "error", "problem"),
    [
        ("head", TypeError, r"'head' is Linear; expected .*: 'encoder.embed'"),
        ("", TypeError, "expected the name of an nn.Embedding"),
        ("encoder.none", AttributeError, "none"),
        ("encoder", TypeError, "ModuleDict"),
    ],
)
def test_other_modules_are_not_swapped(store, name, error, problem):
    model = Model(torch.nn.Embedding(20, 6))
    with pytest.raises(error, match=problem):
        swap(model, name, store)
    assert isinstance(model.encoder["embed"], torch.nn.Embedding)


def test_every_name_of_a_module_is_swapped(store):
    model = Model(torch.nn.Embedding(20, 6))
    model.again = model.encoder["embed"]
    assert swap(model, "again", store) is model.encoder["embed"] is model.again
    model = Model(torch.nn.Embedding(20, 6))
    model.encoder["embed"].register_forward_hook(lambda *_: None)
    with pytest.raises(TypeError, match="has hooks, which would be lost"):
        swap(model, "encoder.embed", store)


@pytest.mark.parametrize(
    ("old", "problem"),
    [
        (torch.nn.Embedding(21, 6), r"the store has shape \(20, 6\), and '0' has \(21, 6\)"),
        (torch.nn.Embedding(20, 5), r"\(20, 5\)"),
        (torch.nn.Embedding(20, 6, max_norm=1.0, norm_type=1.0), "norm of order 1.0"),
    ],
)
def test_tables_that_differ_are_not_swapped(store, old, problem):
    model = torch.nn.Sequential(old)
    with pytest.raises(ValueError, match=problem):
        swap(model, "0", store)
    assert model[0] is old


@pytest.mark.parametrize("kind", ["Embedding", "EmbeddingBag"])
def test_a_table_that_has_grown_is_put_in_by_hand(store, kind):
    model = Model(getattr(torch.nn, kind)(18, 6))
    problem = rf"only grown since then, put Store{kind}\(store\), .* of 'encoder.embed', in its"
    with pytest.raises(ValueError, match=problem):
        swap(model, "encoder.embed", store)
    for shape in ((21, 6), (18, 5)):
        with pytest.raises(ValueError, match=r"has \(\d+, \d\)$"):
            swap(torch.nn.Sequential(getattr(torch.nn, kind)(*shape)), "0", store)


def test_rows_of_a_model_without_memory_come_on_the_cpu(store):
    for kind in (torch.nn.Embedding, torch.nn.EmbeddingBag):
        with torch.device("meta"):
            model = Model(kind(20, 6))
        new = swap(model, "encoder.embed", store)
        assert new.device.type == "cpu"
        assert new(IDS).device.type == "cpu"
        model.load_state_dict(Model(type(new)(store)).state_dict(), assign=True)
        assert model(IDS).isfinite().all()


class Scaled(torch.nn.Embedding):  # type: ignore[misc, name-defined]
    """As in models that scale their embeddings."""

    def forward(self, input):
        return super().forward(input) * 10


class Named(torch.nn.Embedding):  # type: ignore[misc, name-defined]
    """Another class that computes the same."""


def test_a_class_that_computes_something_else_is_not_swapped(store):
    model = Model(Scaled(20, 6))
    with pytest.raises(TypeError, match="Scaled, which computes something else than nn"):
        swap(model, "encoder.embed", store)
    assert isinstance(model.encoder["embed"], Scaled)
    assert isinstance(swap(Model(Named(20, 6)), "encoder.embed", store), StoreEmbedding)


@pytest.mark.parametrize("given", ["t.embstore", None, ROWS, torch.from_numpy(ROWS)])
def test_only_a_store_is_swapped_in(given):
    with pytest.raises(TypeError, match="store must be an EmbeddingStore, not"):
        swap(Model(torch.nn.Embedding(20, 6)), "encoder.embed", given)
