"""Checkpoints and programs of PyTorch models, which name a table and hold none of its rows."""

from __future__ import annotations

import copy
import io
import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
import pytest

import embstore

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # Only where torch is installed, like the imports below.

from embstore.interop import reference  # noqa: E402
from embstore.interop.torch import StoreEmbedding, StoreEmbeddingBag  # noqa: E402
from tests.helpers.programs import run_python  # noqa: E402
from tests.test_golden import OLD_FINGERPRINTS  # noqa: E402

IDS = torch.tensor([[1, 2, 3], [4, 5, 6]])
KINDS: dict[str, Callable[[embstore.EmbeddingStore], Any]] = {
    "rows": StoreEmbedding,
    "clipped rows": lambda store: StoreEmbedding(store, max_norm=0.5),
    "half rows": lambda store: StoreEmbedding(store).half(),
    "bags": StoreEmbeddingBag,
    "padded bags": lambda store: StoreEmbeddingBag(store, "sum", padding_idx=3),
}


def rows_of(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(50, 4)).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    return embstore.build(rows_of(0), tmp_path / "t.embstore", partitions=2)


@pytest.fixture
def other(tmp_path):
    return embstore.build(rows_of(1), tmp_path / "other.embstore")


# --- state dicts ---


class Model(nn.Module):  # type: ignore[misc]
    """Two modules over one table, one of them at two places."""

    def __init__(self, store: embstore.EmbeddingStore) -> None:
        super().__init__()
        self.rows = StoreEmbedding(store)
        self.nested = nn.ModuleDict({"bags": StoreEmbeddingBag(store), "again": self.rows})
        self.head = nn.Linear(4, 2)


def changed(name: str, state: dict[str, Any]) -> dict[str, Any]:
    """Return a state dict after what programs do to one."""
    changes: dict[str, Any] = {
        "cloned": lambda tensor: tensor.clone(),
        "half": lambda tensor: tensor.half(),
        "bfloat16": lambda tensor: tensor.bfloat16(),
        "double": lambda tensor: tensor.double(),
        "averaged": lambda tensor: torch.stack([tensor.float(), tensor.float()]).mean(0),
        "contiguous": lambda tensor: tensor.t().contiguous().t() if tensor.ndim == 2 else tensor,
    }
    return {key: changes[name](value) for key, value in state.items()}


@pytest.mark.parametrize("name", ["cloned", "half", "bfloat16", "double", "averaged", "contiguous"])
@pytest.mark.parametrize("strict", [True, False])
def test_state_dicts_may_be_changed_as_tensors(store, other, name, strict):
    model = Model(store)
    state = model.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    found = model.load_state_dict(changed(name, state), strict=strict)
    assert str(found) == "<All keys matched successfully>"
    with pytest.raises(ValueError, match="another table") as caught:
        Model(other).load_state_dict(changed(name, state), strict=strict)
    for one in (store, other):
        assert f"{one.path} ([50, 4] float32, {one.fingerprint()[:8]})" in str(caught.value)


def test_state_dicts_as_files(store, other, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    model = Model(store)
    safetensors.save_file(model.state_dict(), tmp_path / "file.safetensors")
    safetensors.save_model(model, str(tmp_path / "model.safetensors"))
    torch.save(model.state_dict(), tmp_path / "state.pt")
    model.load_state_dict(safetensors.load_file(tmp_path / "file.safetensors"))
    assert safetensors.load_model(model, str(tmp_path / "model.safetensors")) == (set(), [])
    model.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    with pytest.raises(ValueError, match="another table"):
        safetensors.load_model(Model(other), str(tmp_path / "model.safetensors"))


def test_parts_and_copies_of_models(store):
    model = Model(store)
    part = {key[5:]: value for key, value in model.state_dict().items() if key.startswith("rows.")}
    model.rows.load_state_dict(part)
    twin = copy.deepcopy(model).half()
    twin.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
    prefixed = {f"module.{key}": value for key, value in model.state_dict().items()}
    nn.ModuleDict({"module": model}).load_state_dict(prefixed)
    missing = model.load_state_dict({"head.bias": torch.zeros(2)}, strict=False).missing_keys
    assert "rows._extra_state" in missing


def test_checkpoints_of_dicts_still_load(store, other):
    old = {"path": "/gone", "fingerprint": "", "shape": [50, 4], "dtype": "float32"}
    old["fingerprint"] = store.fingerprint()
    file = io.BytesIO()
    torch.save({"_extra_state": old}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    StoreEmbedding(store).load_state_dict(state)
    with pytest.raises(ValueError, match="another table"):
        StoreEmbeddingBag(other).load_state_dict(state)


@pytest.mark.parametrize(
    "state",
    [
        *(None, "x", {}, {"path": "/t"}, torch.zeros(3), torch.tensor([300]), torch.tensor(7)),
        *(torch.zeros(2, 2, dtype=torch.uint8), torch.tensor([1.5, float("nan")])),
        torch.empty(3, device="meta"),
        torch.tensor(list(b'{"fingerprint": 5}'), dtype=torch.uint8),
    ],
)
def test_other_states_are_refused(store, state):
    with pytest.raises(ValueError, match="does not name the table of a store"):
        StoreEmbedding(store).load_state_dict({"_extra_state": state})


# --- exported programs ---

PROGRAM = """
import sys
import torch
import embstore
from embstore.interop.torch import StoreEmbedding
other = StoreEmbedding(embstore.open(sys.argv[1]))
ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
for path in sys.argv[2:]:
    torch.save(torch.export.load(path).module()(ids), path + ".found")
"""


def export(module: Any, path: Path) -> Path:
    torch.export.save(torch.export.export(module.eval(), (IDS,)), path)
    return path


@pytest.mark.filterwarnings("ignore")
def test_exported_programs_read_their_own_table(store, other, tmp_path):
    modules = [make(store) for make in KINDS.values()]
    tensors = {"one": torch.tensor(rows_of(2)), "two": torch.tensor(rows_of(3))}
    pytest.importorskip("safetensors.torch").save_file(tensors, tmp_path / "m.safetensors")
    files = [embstore.open(tmp_path / "m.safetensors", tensor=tensor) for tensor in tensors]
    modules.extend(map(StoreEmbedding, files))
    np.save(tmp_path / "m.npy", rows_of(4))
    modules.append(StoreEmbeddingBag(embstore.open(tmp_path / "m.npy")))
    programs = [export(module, tmp_path / f"{number}.pt2") for number, module in enumerate(modules)]
    # In another process, the first module is over another table.
    run_python("-W", "ignore", "-c", PROGRAM, other.path, *programs)
    for module, program in zip(modules, programs, strict=True):
        assert torch.equal(torch.load(f"{program}.found"), module(IDS))
        assert program.stat().st_size < 30_000


@pytest.mark.filterwarnings("ignore")
def test_exported_programs_whose_table_has_moved(store, other, tmp_path, monkeypatch):
    path, place, expected = tmp_path / "p.pt2", store.path, torch.tensor(store.lookup(IDS))
    fingerprints = [one.fingerprint()[:8] for one in (store, other)]
    export(StoreEmbedding(store), path)
    # From here on, as in another process.
    monkeypatch.setattr(reference, "_known", defaultdict(WeakSet))
    moved = place.rename(tmp_path / "moved.embstore")
    program = torch.export.load(path).module()
    with pytest.raises(embstore.StoreNotFoundError, match=f"no store at {place}"):
        program(IDS)
    shutil.copytree(other.path, place)
    others = StoreEmbedding(embstore.open(place))
    with pytest.raises(ValueError, match="restore the table, or open it elsewhere") as caught:
        program(IDS)
    for fingerprint in fingerprints:
        assert f"{place} ([50, 4] float32, {fingerprint})" in str(caught.value)
    again = StoreEmbedding(embstore.open(moved))
    assert torch.equal(program(IDS), expected)
    again.store.close()
    with pytest.raises(ValueError, match="restore the table, or open it elsewhere"):
        program(IDS)
    others.store.close()
    shutil.rmtree(place)
    shutil.copytree(moved, place)
    assert torch.equal(program(IDS), expected)


@pytest.mark.filterwarnings("ignore")
def test_exported_programs_take_batches_of_other_sizes(store):
    count = torch.export.Dim("count")
    for module in (StoreEmbedding(store), StoreEmbeddingBag(store, "max")):
        program = torch.export.export(module, (IDS,), dynamic_shapes=({0: count},)).module()
        assert torch.equal(program(IDS.repeat(5, 1)), module(IDS.repeat(5, 1)))
        with pytest.raises(IndexError, match=r"id 99 at position \(1, 0\)"):
            program(torch.tensor([[1, 2, 3], [99, 5, 6], [0, 0, 0]]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_recorded_graphs_hold_no_rows(store, kind, mode):
    from torch.fx.experimental.proxy_tensor import make_fx

    module = KINDS[kind](store)
    graph = make_fx(module, tracing_mode=mode)(IDS)
    assert torch.equal(graph(IDS + 7), module(IDS + 7))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["rows", "clipped rows", "half rows"])
def test_traced_modules_hold_no_rows(store, tmp_path, kind):
    module = KINDS[kind](store)
    traced = torch.jit.trace(module, (IDS,))
    torch.jit.save(traced, str(tmp_path / "t.pt"))
    for found in (traced, torch.jit.load(str(tmp_path / "t.pt"))):
        for ids in (IDS + 7, torch.arange(50).reshape(10, 5)):
            assert torch.equal(found(ids), module(ids))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_cannot_be_traced_is_refused(store):
    for batch in ((IDS,), (IDS[0], torch.tensor([0, 1]))):
        with pytest.raises(TypeError, match=r"the number of ids of this call; use torch\.export"):
            torch.jit.trace(StoreEmbeddingBag(store), batch)
    for kind in (StoreEmbedding, StoreEmbeddingBag):
        with pytest.raises(TypeError, match=f"cannot compile {kind.__name__}, whose rows are on"):
            torch.jit.script(nn.Sequential(kind(store)))


def test_compiled_modules_over_equal_tables_keep_to_their_stores(store):
    twin = embstore.open(store.path)
    modules = [StoreEmbedding(store), StoreEmbedding(twin)]
    compiled = [torch.compile(module, backend="eager", fullgraph=True) for module in modules]
    twin.close()
    assert torch.equal(compiled[0](IDS), modules[0](IDS))


def test_references_are_json(store):
    state = StoreEmbedding(store).state_dict()["_extra_state"]
    assert state.dtype == torch.uint8
    assert json.loads(bytes(state.tolist()))["fingerprint"] == store.fingerprint()


@pytest.mark.parametrize("name", ["v1-words-mod", "v1-div"])
def test_checkpoints_of_a_golden_store_load(tmp_path, name):
    path = Path(__file__).parent / f"golden/{name}.embstore"
    with embstore.open(path) as store:
        state = {
            "path": "/gone",
            "fingerprint": OLD_FINGERPRINTS[name],  # As embstore 0.1 saved it.
            "shape": list(store.shape),
            "dtype": store.dtype.name,
        }
        StoreEmbedding(store).load_state_dict({"_extra_state": state})
        built = embstore.build(store, tmp_path / "t", partitions=1)
    # The same rows and words, built again: only the state cannot tell.
    with pytest.raises(ValueError, match=r"another table.*depended on how the store was built"):
        StoreEmbedding(built).load_state_dict({"_extra_state": state})
    new = StoreEmbedding(built).state_dict()
    with embstore.open(path) as store:
        StoreEmbedding(store).load_state_dict(new)
