"""The sketch of an engine's plug-in runs against an imitation of the engine's registry."""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.helpers.programs import ROOT

PLUGIN = ROOT / "examples" / "engine_plugin"
GROUP = "vllm.general_plugins"
PREFIX = "model.layers.1.ngram_embedding"


class CustomOp:
    """What vLLM's class does with layers of plug-ins: the layer of a name replaces its own."""

    replaced: dict[str, type[Any]]

    @classmethod
    def register_oot(cls, *, _decorated_op_cls: type[Any], name: str) -> None:
        assert name not in cls.replaced
        cls.replaced[name] = _decorated_op_cls


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """Give the layers by name of an engine that has loaded its plug-ins."""
    pytest.importorskip("torch")
    for name in ("vllm", "vllm.model_executor", "vllm.model_executor.custom_op"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(CustomOp, "replaced", {}, raising=False)
    sys.modules["vllm.model_executor.custom_op"].CustomOp = CustomOp  # type: ignore[attr-defined]
    install(tmp_path / "site")
    for path in (tmp_path / "site", PLUGIN):
        monkeypatch.syspath_prepend(str(path))
    for plugin in importlib.metadata.entry_points(group=GROUP):
        plugin.load()()
    yield CustomOp.replaced
    for name in [name for name in sys.modules if name.startswith("embstore_engine")]:
        del sys.modules[name]


def install(site):
    """Write what an installer writes about the plug-in's entry points."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    folder = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    folder.mkdir(parents=True)
    about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (folder / "METADATA").write_text(about)
    lines = [f"[{GROUP}]", *(f"{k} = {v}" for k, v in project["entry-points"][GROUP].items())]
    (folder / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def model(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    from examples import made_up_models

    made_up_models.make_shards(tmp_path / "shards")
    monkeypatch.setenv("EMBSTORE_MODEL", str(tmp_path / "shards"))
    return tmp_path / "shards"


def rows_of(model):
    """Return the whole table as float32, read by safetensors and decoded by torch."""
    import torch
    from safetensors.torch import load_file

    tensors: dict[str, Any] = {}
    for file in model.glob("*.safetensors"):
        tensors |= load_file(file)
    parts = [tensors[f"{PREFIX}.shard_{number}.weight"].float() for number in range(12)]
    return (torch.cat(parts) * tensors[f"{PREFIX}.weight_scale"].float()).to(torch.bfloat16)


def test_layer_of_the_plugin_is_made_by_name(engine, model):
    import torch

    layer = engine["NgramEmbedding"](6000, 160, prefix=PREFIX)
    ids = torch.tensor([[0, 5999], [500, 500]])
    assert torch.equal(layer(ids), rows_of(model)[ids])
    assert not list(layer.parameters())
    assert not layer.state_dict()
    assert layer.load_weights([]) == set()


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_ranks_sum_to_the_whole_table(engine, model, ranks):
    import torch

    ids = torch.from_numpy(np.random.default_rng(ranks).integers(0, 6000, (5, 40)))
    layers = [
        engine["NgramEmbedding"](6000, 160, prefix=PREFIX, rank=rank, ranks=ranks)
        for rank in range(ranks)
    ]
    total = torch.stack([layer(ids) for layer in layers]).sum(0)
    assert torch.equal(total, rows_of(model)[ids])


def test_table_of_another_shape_is_refused(engine, model):
    with pytest.raises(
        ValueError, match=r"has shape \(6000, 160\) on disk, expected \(6001, 160\)"
    ):
        engine["NgramEmbedding"](6001, 160, prefix=PREFIX)


def test_model_must_be_named(engine, monkeypatch):
    monkeypatch.delenv("EMBSTORE_MODEL", raising=False)
    with pytest.raises(KeyError, match="EMBSTORE_MODEL"):
        engine["NgramEmbedding"](6000, 160, prefix=PREFIX)
