"""PyTorch reads rows from the mapping itself: what it reads, when it may, and how long it keeps."""

from __future__ import annotations

import gc
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.dtypes import as_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # Only where torch is installed, like the imports below.
from torch.autograd.graph import saved_tensors_hooks  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402

from embstore.interop.torch import StoreDataset, StoreEmbedding, StoreEmbeddingBag  # noqa: E402
from embstore.interop.torch.arrays import as_tensor  # noqa: E402
from embstore.reading import mapped  # noqa: E402
from embstore.reading.short_path import ShortPath  # noqa: E402
from embstore.reading.warmth import WARM_IN_A_ROW  # noqa: E402
from tests.test_open_in_place import save_safetensors  # noqa: E402

ROWS, DIM = 300, 20
OFFSETS = torch.tensor([0, 4, 4, 30])


def table_of(dtype: str = "float32", row_shape: tuple[int, ...] = (DIM,)) -> NDArray[Any]:
    numbers = np.random.default_rng(0).normal(size=(ROWS, *row_shape)) * 50
    return numbers.astype(as_dtype(dtype))


def write_store(path: Path, table: NDArray[Any], **options: Any) -> Path:
    options = {"partitions": 3, "chunk_rows": 32} | options
    with embstore.StoreWriter(
        path, row_shape=table.shape[1:], dtype=table.dtype, **options
    ) as writer:
        writer.write(table)
    return path


def ids_of(*shape: int, dtype: Any = torch.int64) -> Any:
    return torch.randint(ROWS, shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def same_bits(found: Any, expected: Any) -> bool:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    found, expected = found.detach().contiguous(), expected.detach().contiguous()
    return bool(torch.equal(found.view(torch.uint8), expected.view(torch.uint8)))


def is_mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


@pytest.fixture
def path(tmp_path):
    return write_store(tmp_path / "t", table_of())


@pytest.fixture(autouse=True)
def _many_warm_rows(monkeypatch):
    """Let few rows count as many, and no row as cold."""
    monkeypatch.setattr("embstore.reading.forms.short_path", lambda *given: ShortPath())
    # Even if this thread is the first to read a page of PyTorch's own code.
    monkeypatch.setattr(mapped, "blocks_read", lambda: 0)


@pytest.fixture
def no_lookups(monkeypatch):
    """Let every lookup fail."""

    def lookup(self, ids, **options):
        raise AssertionError("rows were looked up")

    monkeypatch.setattr(embstore.EmbeddingStore, "lookup", lookup)


# --- what is read in place ---


@pytest.mark.usefixtures("no_lookups")
@pytest.mark.parametrize(
    "options",
    [
        *({"partitions": 1}, {"partitions": 4}, {"partitions": 3}),
        *({"partitions": 3, "strategy": "div", "rows": ROWS}, {"chunk_rows": 1024}),
    ],
)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_results_equal_those_of_torch(tmp_path, dtype, options):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    table = table_of(dtype)
    store = embstore.open(write_store(tmp_path / "t", table, **options))
    in_ram = as_tensor(table)
    for ids in (ids_of(30), ids_of(3, 10, dtype=torch.int32), ids_of(4, 9).T, torch.tensor(7)):
        assert same_bits(StoreEmbedding(store)(ids), in_ram[ids])
        if ids.ndim == 0:
            continue
        for mode in ("sum", "mean", "max"):
            for padding in (None, int(ids.reshape(-1)[3])):
                expected = nn.EmbeddingBag.from_pretrained(in_ram, mode=mode, padding_idx=padding)
                bag = StoreEmbeddingBag(store, mode, padding_idx=padding)
                batch = (ids,) if ids.ndim == 2 else (ids, OFFSETS)
                assert same_bits(bag(*batch), expected(*batch))
                if mode == "sum":
                    weights = torch.randn(ids.shape).to(in_ram.dtype)
                    found = bag(*batch, per_sample_weights=weights)
                    assert same_bits(found, expected(*batch, per_sample_weights=weights))
    assert same_bits(StoreDataset(store)[[5, 0]], in_ram[[5, 0]])


@pytest.mark.usefixtures("no_lookups")
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("row_shape", [(), (2, 3)])
def test_rows_of_any_shape_and_of_integers(tmp_path, dtype, row_shape):
    table = table_of("int64", row_shape).astype(dtype)
    store = embstore.open(write_store(tmp_path / "t", table))
    expected = torch.tensor(table[ids_of(4, 5).numpy()])
    assert same_bits(StoreEmbedding(store)(ids_of(4, 5)), expected)


@pytest.mark.usefixtures("no_lookups")
def test_norms_and_casts_of_rows_change_no_table(path):
    table, ids = table_of(), ids_of(40)
    with embstore.open(path) as store:
        for _ in range(2):
            expected = nn.Embedding.from_pretrained(torch.tensor(table), max_norm=3.0)
            assert same_bits(StoreEmbedding(store, max_norm=3.0)(ids), expected(ids))
        assert same_bits(StoreEmbedding(store).half()(ids), torch.tensor(table)[ids].half())
        assert same_bits(StoreEmbedding(store)(ids), torch.tensor(table)[ids])


@pytest.mark.usefixtures("no_lookups")
def test_results_are_new_memory(path):
    with embstore.open(path) as store:
        embedding, table = StoreEmbedding(store), torch.tensor(table_of())
        for ids in (
            torch.arange(ROWS),
            ids_of(1),
            torch.tensor(3),
            ids_of(0, 3)[:, :1].new_ones(1),
        ):
            embedding(ids).zero_()
            assert same_bits(embedding(ids), table[ids])
        for mode in ("sum", "mean", "max"):
            one_each = torch.arange(ROWS).reshape(-1, 1)
            StoreEmbeddingBag(store, mode)(one_each).zero_()
            assert same_bits(StoreEmbeddingBag(store, mode)(one_each), table)
        StoreDataset(store)[7].zero_()
        assert same_bits(StoreDataset(store)[7], table[7])


@pytest.mark.usefixtures("no_lookups")
def test_rows_that_torch_reads_are_counted(path):
    with embstore.open(path) as store:
        StoreEmbedding(store)(ids_of(5, 5))
        StoreEmbeddingBag(store)(ids_of(5, 6))
        stats = store.stats()
    assert (stats.lookups, stats.rows) == (2, 55)
    assert stats.bytes_needed == 55 * DIM * 4
    assert stats.seconds > 0


@pytest.mark.usefixtures("no_lookups")
def test_compiled_models_read_in_place(path):
    with embstore.open(path) as store:
        torch.compiler.reset()
        model = torch.compile(StoreEmbedding(store), backend="eager", fullgraph=True)
        assert same_bits(model(ids_of(4, 2)), torch.tensor(table_of())[ids_of(4, 2)])


# --- what is looked up ---


def lookups_of(store: embstore.EmbeddingStore, monkeypatch: Any) -> list[NDArray[Any]]:
    """Return a list to which each lookup adds its ids."""
    asked: list[NDArray[Any]] = []
    real: Any = store.lookup

    def lookup(ids: NDArray[Any]) -> NDArray[Any]:
        asked.append(ids)
        found: NDArray[Any] = real(ids)
        return found

    monkeypatch.setattr(store, "lookup", lookup)
    return asked


@pytest.mark.parametrize(
    "options", [{"reader": "chunked"}, {"row_cache": "1MiB"}, {"cold": True}, {"pad": 2}]
)
@pytest.mark.parametrize("kind", [StoreEmbedding, StoreEmbeddingBag])
def test_other_rows_are_looked_up(tmp_path, monkeypatch, options, kind):
    table, options = table_of(), dict(options)
    path = write_store(tmp_path / "t", table)
    if "pad" in options:  # Rows that are not on multiples of their numbers' size.
        path = save_safetensors(tmp_path, table, pad=options.pop("pad"))
    cold = options.pop("cold", False)
    with embstore.open(path, **options) as store:
        module = kind(store)
        if cold:
            mapped_records(store).warmth.chill()
        before = store.stats().lookups
        asked = lookups_of(store, monkeypatch)
        expected = torch.tensor(table)[ids_of(6, 3)]
        expected = expected.mean(1) if kind is StoreEmbeddingBag else expected
        assert torch.allclose(module(ids_of(6, 3)), expected)
        assert len(asked) == 1
        assert store.stats().lookups == before + 1


@pytest.mark.parametrize("kind", [StoreEmbedding, StoreEmbeddingBag])
def test_a_table_within_its_resident_limit_is_read_in_place(tmp_path, monkeypatch, kind):
    path = write_store(tmp_path / "t", table_of())
    with embstore.open(path, resident_limit="256MiB") as store:
        asked = lookups_of(store, monkeypatch)
        assert kind(store)(ids_of(6, 3)).shape[0] == 6
        assert asked == []


def mapped_records(store: embstore.EmbeddingStore) -> Any:
    """Return the reader of a mapped store."""
    return store._records


def test_cold_rows_are_looked_up_until_they_are_warm(path, monkeypatch):
    with embstore.open(path) as store:
        embedding, table = StoreEmbedding(store), torch.tensor(table_of())
        mapped_records(store).warmth.chill()
        asked = lookups_of(store, monkeypatch)
        for _ in range(WARM_IN_A_ROW + 2):
            assert same_bits(embedding(torch.arange(ROWS)), table)
        assert 1 <= len(asked) <= WARM_IN_A_ROW


def test_torch_stops_reading_rows_that_prove_cold(path, monkeypatch):
    with embstore.open(path) as store:
        embedding, table = StoreEmbedding(store), torch.tensor(table_of())
        asked = lookups_of(store, monkeypatch)
        monkeypatch.setattr(mapped, "blocks_read", itertools.count(0, 8).__next__)
        for calls in (1, 2):
            assert same_bits(embedding(torch.arange(ROWS)), table)
            assert len(asked) == calls


def test_few_rows_are_looked_up(path, monkeypatch):
    monkeypatch.undo()
    with embstore.open(path) as store:
        asked = lookups_of(store, monkeypatch)
        assert same_bits(StoreEmbedding(store)(ids_of(9)), torch.tensor(table_of())[ids_of(9)])
        assert len(asked) == 1


def test_bags_whose_table_would_change_are_looked_up(path):
    table = table_of()
    with embstore.open(path) as store:
        for options in ({"max_norm": 3.0}, {"dtype": torch.float64}, {"device": "meta"}):
            dtype = options.pop("dtype", torch.float32)
            found = StoreEmbeddingBag(store, **options).to(dtype)(ids_of(6, 3))
            if options.get("device") == "meta":
                assert found.is_meta
                continue
            in_ram = torch.tensor(table, dtype=dtype)
            assert same_bits(
                found, nn.EmbeddingBag.from_pretrained(in_ram, **options)(ids_of(6, 3))
            )
        assert np.array_equal(store[:], table)


def test_empty_bags_of_a_table_without_rows(tmp_path):
    with embstore.open(write_store(tmp_path / "t", table_of()[:0])) as store:
        no_ids = torch.zeros(0, dtype=torch.int64)
        assert StoreEmbedding(store)(no_ids).shape == (0, DIM)
        for mode in ("sum", "mean", "max"):
            bag = StoreEmbeddingBag(store, mode)
            for found in (bag(no_ids, torch.tensor([0, 0])), bag(no_ids.reshape(2, 0))):
                assert same_bits(found, torch.zeros(2, DIM))


# --- gradients and lifetimes ---


def weighted(module: Any, weights: Any) -> Any:
    return module(ids_of(30), OFFSETS, weights)


@pytest.mark.usefixtures("no_lookups")
@pytest.mark.parametrize("padding_idx", [None, int(ids_of(30)[5])])
def test_gradients_after_the_store_is_closed(path, padding_idx):
    weights = torch.randn(30, requires_grad=True)
    expected = nn.EmbeddingBag.from_pretrained(
        torch.tensor(table_of()), mode="sum", padding_idx=padding_idx
    )
    (gradient,) = torch.autograd.grad(weighted(expected, weights).square().sum(), weights)
    store = embstore.open(path)
    with torch.inference_mode():  # What is made here must do for gradients, too.
        StoreEmbedding(store)(ids_of(3))
    found = weighted(StoreEmbeddingBag(store, "sum", padding_idx=padding_idx), weights)
    store.close()
    del store
    gc.collect()
    assert is_mapped(path)
    assert same_bits(torch.autograd.grad(found.square().sum(), weights)[0], gradient)
    del found
    gc.collect()
    assert not is_mapped(path)


@pytest.mark.usefixtures("no_lookups")
def test_closed_stores_are_unmapped(path):
    store = embstore.open(path)
    modules = StoreEmbedding(store), StoreEmbeddingBag(store, "sum")
    results = [module(ids_of(6, 3)) for module in modules]
    results.append(weighted(modules[1], torch.randn(30)))
    assert is_mapped(path)
    store.close()
    assert not is_mapped(path)
    for module in modules:
        with pytest.raises(embstore.StoreClosedError):
            module(ids_of(6, 3))
    assert same_bits(results[0], torch.tensor(table_of())[ids_of(6, 3)])


def test_hooks_of_autograd_do_not_get_the_table(path):
    sizes = []

    def pack(tensor):
        sizes.append(tensor.numel())
        return tensor

    weights = torch.randn(30, requires_grad=True)
    expected = nn.EmbeddingBag.from_pretrained(torch.tensor(table_of()), mode="sum")
    (gradient,) = torch.autograd.grad(weighted(expected, weights).sum(), weights)
    with embstore.open(path) as store, saved_tensors_hooks(pack, lambda tensor: tensor):
        found = weighted(StoreEmbeddingBag(store, "sum"), weights)
        assert same_bits(torch.autograd.grad(found.sum(), weights)[0], gradient)
    assert sizes
    assert max(sizes) <= 30 * DIM


def test_overridden_functions_do_not_get_the_table(path):
    sizes: list[int] = []

    def see(args):
        with torch._C.DisableTorchFunction():
            sizes.extend(arg.numel() for arg in args if isinstance(arg, torch.Tensor))

    class Seeing(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function, types, args=(), options=None):
            see(args)
            return function(*args, **(options or {}))

    class Weights(torch.Tensor):  # type: ignore[misc, name-defined]
        @classmethod
        def __torch_function__(cls, function, types, args=(), options=None):
            see(args)
            return super().__torch_function__(function, types, args, options or {})

    table = nn.EmbeddingBag.from_pretrained(torch.tensor(table_of()), mode="sum")
    weights = torch.randn(30)
    with embstore.open(path) as store:
        embedding, bag = StoreEmbedding(store), StoreEmbeddingBag(store, "sum")
        with Seeing():
            found = embedding(ids_of(30)), weighted(bag, weights)
        assert same_bits(found[0], table.weight[ids_of(30)])
        assert same_bits(found[1], weighted(table, weights))
        found = weighted(bag, weights.as_subclass(Weights))
        assert type(found) is Weights
        assert same_bits(found.as_subclass(torch.Tensor), weighted(table, weights))
    assert sizes
    assert max(sizes) <= 30 * DIM
