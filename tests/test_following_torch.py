"""PyTorch modules that go on with the newest version of their table."""

from __future__ import annotations

import copy
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest

import embstore

torch = pytest.importorskip("torch")

from embstore.interop import reference  # noqa: E402
from embstore.interop.torch import StoreEmbedding, StoreEmbeddingBag  # noqa: E402
from embstore.interop.torch import bag as bag_module  # noqa: E402

ROWS, WIDTH = 40, 8


def build(path: Path, number: float, rows: int = ROWS, **options: Any) -> embstore.EmbeddingStore:
    values = np.full((rows, WIDTH), number, np.float32)
    return embstore.build(values, path, partitions=2, overwrite=True, **options)


@pytest.mark.parametrize("kind", [StoreEmbedding, StoreEmbeddingBag])
def test_later_calls_use_the_newest_version(kind, target):
    module = kind(build(target, 1), padding_idx=3)
    model = torch.nn.Sequential(module)
    assert module.is_current()
    assert module.reload() is module
    old, first = module.store, module.fingerprint
    report = embstore.append(target, np.full((5, WIDTH), 2, np.float32))
    assert not module.is_current()
    with pytest.raises(IndexError):
        model(torch.tensor([[44]]))
    assert module.reload() is module
    assert module.is_current()
    assert (model(torch.tensor([[44, 44]])) == 2).all()
    assert module.num_embeddings == ROWS + 5
    assert module.embedding_dim == WIDTH
    assert module.fingerprint == report.fingerprint != first
    assert module.padding_idx == 3
    assert (old.lookup([39]) == 1).all()  # Others may use it.
    assert f"{ROWS + 5}" in repr(module)


def test_device_and_dtype_are_kept(target):
    module = StoreEmbedding(build(target, 1)).half()
    embstore.update(target, [0], np.full((1, WIDTH), 3))
    rows = module.reload()(torch.tensor([0]))
    assert rows.dtype == torch.float16
    assert (rows == 3).all()


def test_checkpoints_name_the_version(target):
    module = StoreEmbedding(build(target, 1))
    before = module.state_dict()
    embstore.update(target, [0], np.full((1, WIDTH), 3))
    assert str(module.state_dict()) == str(before)
    module.reload()
    after = module.state_dict()
    StoreEmbedding(embstore.open(target)).load_state_dict(after)
    module.load_state_dict(after)
    with pytest.raises(ValueError, match="another table"):
        module.load_state_dict(before)
    twin = pickle.loads(pickle.dumps(module))
    assert twin.fingerprint == module.fingerprint
    assert (twin(torch.tensor([0])) == 3).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda path: embstore.build(np.ones((ROWS, 9), np.float32), path, overwrite=True),
            r"\(9,\)",
        ),
        (lambda path: build(path, 2, dtype="float16"), "float16"),
        (lambda path: build(path, 2, ROWS - 1), "39 rows"),
    ],
    ids=["width", "dtype", "rows"],
)
@pytest.mark.parametrize("kind", [StoreEmbedding, StoreEmbeddingBag])
def test_another_kind_of_table_is_refused(kind, change, says, target):
    module = kind(build(target, 1))
    change(target).close()
    for _ in range(2):
        with pytest.raises(ValueError, match=says):
            module.reload()
    assert (module(torch.tensor([[39]])) == 1).all()
    assert not module.is_current()
    build(target, 5, ROWS + 1).close()
    assert (module.reload()(torch.tensor([[40]])) == 5).all()


def test_copies_reload_on_their_own(target):
    module = StoreEmbedding(build(target, 1))
    twin = copy.deepcopy(module)
    build(target, 2).close()
    module.reload()
    assert (module(torch.tensor([1])) == 2).all()
    assert (twin(torch.tensor([1])) == 1).all()
    assert (twin.reload()(torch.tensor([1])) == 2).all()


def test_bags_of_one_call_are_of_one_version(target, monkeypatch):
    """Another thread may reload the module between two slices."""
    module = StoreEmbeddingBag(build(target, 1), mode="sum", max_norm=1e6)
    monkeypatch.setattr(bag_module, "SLICE_BYTES", 4 * WIDTH)
    build(target, 2).close()
    rows = StoreEmbeddingBag._rows

    def reload_and_look_up(self, *given):
        found = rows(self, *given)
        self.reload()
        return found

    monkeypatch.setattr(StoreEmbeddingBag, "_rows", reload_and_look_up)
    found = module(torch.arange(6).reshape(3, 2))
    assert (found == 2).all()
    assert module.is_current()
    assert (module(torch.arange(6).reshape(3, 2)) == 4).all()


def test_programs_keep_the_version_that_they_were_exported_with(target):
    module = StoreEmbedding(build(target, 1))
    old = module.store  # A program does not keep it.
    program = torch.export.export(torch.nn.Sequential(module), (torch.tensor([1, 2]),))
    build(target, 2).close()
    module.reload()
    assert (program.module()(torch.tensor([3, 4])) == 1).all()
    again = torch.export.export(torch.nn.Sequential(module), (torch.tensor([1, 2]),))
    assert (again.module()(torch.tensor([3, 4])) == 2).all()
    assert old.fingerprint() != module.fingerprint


def test_compiled_models_follow(target):
    module = StoreEmbedding(build(target, 1))
    model = torch.compile(module, backend="eager")
    assert (model(torch.tensor([1, 2])) == 1).all()
    build(target, 2).close()
    module.reload()
    assert (model(torch.tensor([1, 2])) == 2).all()


def test_module_whose_table_was_replaced_is_made_from_its_store(target):
    """The fingerprint of a store that was replaced still answers."""
    store = build(target, 1)
    build(target, 2).close()
    module = StoreEmbedding(store)
    assert (module(torch.tensor([1])) == 1).all()
    assert (module.reload()(torch.tensor([1])) == 2).all()


class Model(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A model with two modules over one table."""

    def __init__(self, store: embstore.EmbeddingStore) -> None:
        super().__init__()
        self.item = StoreEmbedding(store)
        self.bags = torch.nn.ModuleList([StoreEmbeddingBag(store)])
        self.head = torch.nn.Linear(WIDTH, 2)


NAMES = "item._extra_state", "bags.0._extra_state"


def append(path: Path) -> None:
    embstore.append(path, np.ones((4, WIDTH), np.float32))


def update(path: Path) -> None:
    embstore.update(path, [0], np.zeros((1, WIDTH), np.float32))


@pytest.mark.parametrize("change", [append, update])
@pytest.mark.parametrize("strict", [True, False])
def test_a_checkpoint_loads_over_a_later_version_when_told_so(target, change, strict):
    trained = Model(build(target, 1))
    state = trained.state_dict()
    change(target)
    model = Model(embstore.open(target))
    for name in NAMES:  # As each message says.
        with pytest.raises(ValueError, match="another table; open the table") as caught:
            model.load_state_dict(state, strict=strict)
        remedy = f"state[{name!r}] = model.state_dict()[{name!r}]"
        assert f"if rows were only appended or updated since then, set {remedy}" in str(
            caught.value
        )
        exec(remedy, {"state": state, "model": model})
    model.load_state_dict(state)
    assert torch.equal(model.head.weight, trained.head.weight)


@pytest.mark.parametrize(
    "other",
    [
        lambda path: build(path, 1, ROWS - 1),
        lambda path: build(path, 1, dtype="float16"),
        lambda path: embstore.build(np.ones((ROWS, 9), np.float32), path, overwrite=True),
    ],
    ids=["rows", "dtype", "width"],
)
def test_no_later_version_has_fewer_rows_or_others(target, other):
    state = StoreEmbedding(build(target, 1)).state_dict()
    with pytest.raises(ValueError, match=r"open the table that the model was trained with$"):
        StoreEmbedding(other(target)).load_state_dict(state)


@pytest.mark.filterwarnings("ignore")
def test_a_program_over_an_older_version_says_to_export_it_again(target, monkeypatch):
    module = StoreEmbedding(build(target, 1))
    program = torch.export.export(torch.nn.Sequential(module), (torch.tensor([1, 2]),)).module()
    append(target)
    # From here on, as in another process.
    monkeypatch.setattr(reference, "_known", defaultdict(WeakSet))
    with pytest.raises(ValueError, match=r"appended or updated since then, .* export the program"):
        program(torch.tensor([1, 2]))
