"""PyTorch modules over a store at servers: as over the local one."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

import embstore

torch = pytest.importorskip("torch")
pytest.importorskip("pyarrow.flight")

from torch.utils.data import DataLoader  # noqa: E402  # Only where torch is installed.

from embstore.interop import reference  # noqa: E402
from embstore.interop.torch import StoreDataset, StoreEmbedding, StoreEmbeddingBag  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 600  # More than the short path of a local store takes.
TABLE = np.random.default_rng(5).standard_normal((ROWS, 8)).astype(np.float32)
IDS = torch.from_numpy(np.random.default_rng(6).integers(0, ROWS, (40, 20)))


class Pair(NamedTuple):
    local: Any
    remote: Any
    address: str


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Iterator[Pair]:
    path = tmp_path_factory.mktemp("torch") / "t.embstore"
    with (
        embstore.build(TABLE, path, partitions=2) as local,
        embstore.serve(path) as server,
        embstore.connect(server.address) as remote,
    ):
        yield Pair(local, remote, server.address)


MODULES = {
    "embedding": StoreEmbedding,
    "max_norm": lambda s: StoreEmbedding(s, max_norm=1.0),
    "half": lambda s: StoreEmbedding(s).half(),
    "bag": lambda s: StoreEmbeddingBag(s, mode="sum"),
    "mean": lambda s: StoreEmbeddingBag(s, mode="mean", padding_idx=3),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_give_the_same_rows(pair, name):
    one, other = (MODULES[name](store) for store in (pair.local, pair.remote))
    assert torch.equal(one(IDS), other(IDS))


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_pickled_and_loaded(pair, name):
    module = pickle.loads(pickle.dumps(MODULES[name](pair.remote)))
    assert torch.equal(module(IDS), MODULES[name](pair.local)(IDS))
    module.store.close()
    # The same table at another place.
    module.load_state_dict(MODULES[name](pair.local).state_dict())


def test_datasets_give_the_same_rows(pair):
    for batch, expected in zip(
        DataLoader(StoreDataset(pair.remote), batch_size=100),
        DataLoader(StoreDataset(pair.local), batch_size=100),
        strict=True,
    ):
        assert torch.equal(batch, expected)


def test_exported_program_finds_the_servers(pair):
    module = StoreEmbedding(pair.remote)
    file = io.BytesIO()
    torch.export.save(torch.export.export(module, (IDS,)), file)
    text = module._reference
    del module
    found = reference._open(reference.parse(text))  # As another process does.
    with found:
        assert isinstance(found, embstore.ConnectedStore)
        np.testing.assert_array_equal(found[5], TABLE[5])
    program = torch.export.load(io.BytesIO(file.getvalue()))
    assert torch.equal(program.module()(IDS), StoreEmbedding(pair.local)(IDS))
