"""PyTorch modules over a store, equal to ``nn.Embedding`` and ``nn.EmbeddingBag`` to the bit."""

from __future__ import annotations

import copy
import io
import json
import pickle
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  # Only where torch is installed, like the imports below.
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Subset  # noqa: E402

from embstore.interop.torch import (  # noqa: E402
    StoreDataset,
    StoreEmbedding,
    StoreEmbeddingBag,
    bag,
    tensors,
)
from tests.helpers.programs import run_python  # noqa: E402

ROWS, DIM = 200, 24
DTYPES = ["float16", "float32", "float64", "int8", "uint8", "int16", "uint32", "int64"]


def write_store(path: Path, table: NDArray[Any], **options: Any) -> embstore.EmbeddingStore:
    options = {"partitions": 3, "chunk_rows": 32} | options
    with embstore.StoreWriter(
        path, row_shape=table.shape[1:], dtype=table.dtype, **options
    ) as writer:
        writer.write(table)
    return embstore.open(path)


def random_table(seed: int = 0, dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng(seed).normal(size=(ROWS, DIM)).astype(dtype)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Keep PyTorch's threads from waiting for each other on busy processors."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


@pytest.fixture(scope="module")
def table():
    return random_table()


@pytest.fixture(scope="module")
def store(tmp_path_factory, table):
    return write_store(tmp_path_factory.mktemp("torch") / "t.embstore", table)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The same numbers as stores of several dtypes."""
    path = tmp_path_factory.mktemp("dtypes")
    tables = {dtype: random_table(dtype=dtype) for dtype in ("float16", "float32", "float64")}
    return {dtype: (write_store(path / dtype, table), table) for dtype, table in tables.items()}


def same_bits(found: Any, expected: Any) -> bool:
    """Say whether two tensors are equal to the bit, NaNs included."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert found.device == expected.device
    assert found.requires_grad == expected.requires_grad
    if found.numel() == 0:
        return True
    found, expected = found.detach().contiguous(), expected.detach().contiguous()
    return bool(torch.equal(found.view(torch.uint8), expected.view(torch.uint8)))


def embedding_in_ram(table: NDArray[Any], **options: Any) -> Any:
    return nn.Embedding.from_pretrained(torch.tensor(table), freeze=True, **options)


def ids_of(shape: Sequence[int], rows: int = ROWS, dtype: Any = torch.int64, seed: int = 0) -> Any:
    return torch.randint(rows, shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


# --- StoreEmbedding ---


@settings(max_examples=25, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(0, 4), max_size=4),
    wide=st.booleans(),
    partitions=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_rows_equal_those_of_nn_embedding(dtype, shape, wide, partitions, seed):
    # Random bits: every number, infinity and NaN that the dtype has.
    data = np.random.default_rng(seed).bytes(20 * 5 * np.dtype(dtype).itemsize)
    table = np.frombuffer(data, dtype).reshape(20, 5)
    ids = ids_of(shape, 20, torch.int64 if wide else torch.int32, seed)
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "t", table, partitions=partitions)
        embedding = StoreEmbedding(store)
    expected = embedding_in_ram(table)
    assert same_bits(embedding(ids), expected(ids))
    assert embedding.num_embeddings == expected.num_embeddings
    assert embedding.embedding_dim == expected.embedding_dim
    assert list(embedding.parameters()) == []


@pytest.mark.parametrize("row_shape", [(), (2, 3), (1, 1, 4)])
def test_rows_of_any_shape(tmp_path, row_shape):
    table = np.random.default_rng(0).normal(size=(10, *row_shape))
    embedding = StoreEmbedding(write_store(tmp_path / "t", table))
    ids = ids_of((3, 2), 10)
    assert same_bits(embedding(ids), torch.tensor(table)[ids])
    assert embedding.embedding_dim == max(np.prod(row_shape), 1)


@pytest.mark.parametrize(
    "view",
    [
        *(lambda ids: ids.T, lambda ids: ids[::2, ::3], lambda ids: ids[0].expand(5, -1)),
        *(lambda ids: ids.flip(0), lambda ids: ids[3, 3], lambda ids: ids[:0]),
    ],
)
def test_ids_that_are_views(store, table, view):
    ids = view(ids_of((8, 9)))
    assert same_bits(StoreEmbedding(store)(ids), embedding_in_ram(table)(ids))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("max_norm", [None, 4.5])
def test_casting_the_module_is_casting_the_table(store, table, dtype, max_norm):
    embedding = StoreEmbedding(store, max_norm=max_norm).to(dtype)
    expected = embedding_in_ram(table, max_norm=max_norm).to(dtype)
    assert embedding.dtype == dtype
    assert same_bits(embedding(ids_of((40,))), expected(ids_of((40,))))
    assert embedding.float()(ids_of((4,))).dtype == torch.float32


@pytest.mark.parametrize("max_norm", [0.5, 4.5, 100.0])
@pytest.mark.parametrize("shape", [(), (50,), (3, 4), (0,)])
def test_max_norm_equals_that_of_nn_embedding(store, table, max_norm, shape):
    ids = ids_of(shape)
    embedding = StoreEmbedding(store, max_norm=max_norm)
    for _ in range(2):
        assert same_bits(embedding(ids), embedding_in_ram(table, max_norm=max_norm)(ids))
    assert np.array_equal(store[:], table)


def test_padding_idx_changes_no_row(store, table):
    for padding_idx in (0, 7, -1):
        embedding = StoreEmbedding(store, padding_idx=padding_idx)
        expected = embedding_in_ram(table, padding_idx=padding_idx)
        assert embedding.padding_idx == expected.padding_idx
        assert same_bits(embedding(torch.arange(ROWS)), expected(torch.arange(ROWS)))


def test_bfloat16_stores(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    table = random_table().astype(ml_dtypes.bfloat16)
    store = write_store(tmp_path / "t", table)
    expected = torch.tensor(table.astype(np.float32)).bfloat16()
    embedding, ids = StoreEmbedding(store), ids_of((5, 6))
    assert same_bits(embedding(ids), expected[ids])
    assert same_bits(embedding.float()(ids), expected[ids].float())
    in_ram = nn.EmbeddingBag.from_pretrained(expected, mode="sum")
    assert same_bits(StoreEmbeddingBag(store, "sum")(ids), in_ram(ids))
    assert same_bits(StoreDataset(store)[3], expected[3])


@pytest.mark.parametrize("options", [{"reader": "chunked"}, {"resident_limit": "256MiB"}])
def test_rows_that_are_looked_up_are_not_copied(store, monkeypatch, options):
    store = embstore.open(store.path, **options)
    addresses: list[int] = []

    def lookup(ids):
        rows = real(ids)
        addresses.append(rows.ctypes.data)
        return rows

    real = store.lookup
    monkeypatch.setattr(store, "lookup", lookup)
    rows = StoreEmbedding(store)(ids_of((30,)))
    assert addresses == [rows.data_ptr()]


def test_rows_are_sent_to_the_device_of_the_module(store):
    # The device "meta" has only shapes; it needs no GPU.
    embedding = StoreEmbedding(store, device="meta")
    assert embedding.device == torch.device("meta")
    assert embedding(ids_of((3,))).is_meta
    model = nn.Sequential(StoreEmbedding(store), nn.Linear(DIM, 2))
    assert model(ids_of((3,))).device.type == "cpu"
    assert model.to("meta")[0](ids_of((3,))).is_meta
    with torch.device("meta"):
        ids = torch.zeros(3, dtype=torch.int64, device="cpu")
        assert StoreEmbedding(store)(ids).is_meta
        assert StoreEmbedding(store, device="cpu")(ids).device.type == "cpu"


def test_rows_for_a_gpu_use_pinned_memory(store, monkeypatch):
    assert tensors.wants_pinned(torch.device("cuda", 1))
    assert not tensors.wants_pinned(torch.device("cpu"))
    pinned = []

    def empty(*args: Any, pin_memory: bool, **options: Any) -> Any:
        assert pin_memory
        pinned.append(real(*args, **options))
        return pinned[-1]

    real = torch.empty
    expected = StoreEmbedding(store)(ids_of((3, 2)))
    embedding = StoreEmbedding(store)
    monkeypatch.setattr(tensors, "wants_pinned", lambda device: True)
    monkeypatch.setattr(torch, "empty", empty)  # This machine may be unable to pin memory.
    found = embedding(ids_of((3, 2)))
    assert found.data_ptr() == pinned[0].data_ptr()
    assert same_bits(found, expected)


@pytest.mark.parametrize("count", [3, 5000])
def test_prefetched_rows_are_sent_from_pinned_memory(store, monkeypatch, count):
    filled, sent = [], []

    def empty(*args: Any, pin_memory: bool, **options: Any) -> Any:
        assert pin_memory
        return real_empty(*args, **options)

    def lookup(ids: Any, *, out: Any) -> Any:
        filled.append(out)
        return real_lookup(ids, out=out)

    def to(rows: Any, *args: Any, **options: Any) -> Any:
        sent.append((rows, options))
        return real_to(rows, *args, **options)

    real_empty, real_lookup, real_to = torch.empty, store.lookup, torch.Tensor.to
    ids = ids_of((count,))
    expected = StoreEmbedding(store)(ids)
    embedding = StoreEmbedding(store)
    # This machine may be unable to pin memory.
    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(tensors, "wants_pinned", lambda device: True)
    monkeypatch.setattr(store, "lookup", lookup)
    monkeypatch.setattr(torch.Tensor, "to", to)
    embedding.prefetch(ids)
    found = embedding(ids)
    assert same_bits(found, expected)
    # PyTorch's own tensor, without a copy; and sent without waiting.
    assert [rows.data_ptr() for rows in filled] == [found.data_ptr()]
    assert sent == [(filled[0], {"non_blocking": True})]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_rows_and_bags_on_a_gpu(store, table):
    ids = ids_of((50,)).cuda()
    assert same_bits(StoreEmbedding(store).cuda()(ids), embedding_in_ram(table).cuda()(ids))
    found = StoreEmbeddingBag(store, "sum").cuda()(ids.view(5, 10))
    in_ram = nn.EmbeddingBag.from_pretrained(torch.tensor(table), mode="sum").cuda()
    assert same_bits(found, in_ram(ids.view(5, 10)))


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (
            [0, 1],
            TypeError,
            r"torch.Tensor of int32 or int64, not list; convert with torch.as_tensor",
        ),
        (np.array([0]), TypeError, "not ndarray"),
        (torch.tensor([0.0]), TypeError, r"int32 or int64, not torch.float32; convert with .long"),
        (torch.tensor([True]), TypeError, "not torch.bool"),
        (torch.tensor([1], dtype=torch.int16), TypeError, "not torch.int16"),
        (torch.tensor([0, 200]), embstore.IdRangeError, "id 200 at position 1 is out of range"),
        (torch.tensor([-1]), IndexError, "id -1 at position 0"),
    ],
)
def test_invalid_ids_are_refused(store, ids, error, message):
    for call in (StoreEmbedding(store), StoreEmbedding(store).prefetch):
        with pytest.raises(error, match=message):
            call(ids)
    if getattr(ids, "ndim", 1) == 1:
        with pytest.raises(error, match=message):
            StoreEmbeddingBag(store)(ids, torch.tensor([0]))


def test_invalid_settings_are_refused(store, tmp_path):
    with pytest.raises(TypeError, match=r"an EmbeddingStore, not str; embstore.open\(path\)"):
        StoreEmbedding(cast("Any", str(store.path)))
    for padding_idx in (ROWS, -ROWS - 1):
        with pytest.raises(
            ValueError, match=f"padding_idx must be from -200 to 199, not {padding_idx}"
        ):
            StoreEmbedding(store, padding_idx=padding_idx)
    for max_norm in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="max_norm must be above 0"):
            StoreEmbedding(store, max_norm=max_norm)
    integers = write_store(tmp_path / "i", np.arange(20).reshape(10, 2))
    with pytest.raises(TypeError, match="rows of floats; these are int64"):
        StoreEmbedding(integers, max_norm=1.0)
    with pytest.raises(TypeError, match="must be floats; the store's are int64"):
        StoreEmbeddingBag(integers)
    with pytest.raises(ValueError, match=r"must be vectors; the store's are \(2, 3\)"):
        StoreEmbeddingBag(write_store(tmp_path / "m", np.zeros((4, 2, 3))))
    with pytest.raises(ValueError, match='"sum", "mean" or "max", not \'sqrtn\''):
        StoreEmbeddingBag(store, cast("Any", "sqrtn"))


def test_repr(store):
    found = repr(StoreEmbedding(store, padding_idx=3))
    assert found == f"StoreEmbedding(200, 24, padding_idx=3, store='{store.path}')"
    assert "mode='max'" in repr(StoreEmbeddingBag(store, "max"))


def test_prefetch_passes_ids_to_the_store(store, monkeypatch):
    asked: list[NDArray[Any]] = []
    monkeypatch.setattr(store, "prefetch", asked.append)
    StoreEmbedding(store).prefetch(ids_of((2, 3)).T)
    StoreDataset(store, [[5, 6], [7, 8]]).prefetch([1])
    assert np.array_equal(asked[0], ids_of((2, 3)).T)
    assert np.array_equal(asked[1], [[7, 8]])


# --- state dicts, pickles, copies ---


def model_over(store: embstore.EmbeddingStore) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(StoreEmbedding(store), nn.Linear(DIM, 2))


def test_state_dict_names_the_store_and_holds_no_rows(store, table, tmp_path):
    model = model_over(store)
    state = model.state_dict()
    assert list(state) == ["0._extra_state", "1.weight", "1.bias"]
    found = json.loads(bytes(state["0._extra_state"].tolist()))
    assert found == {
        "path": str(store.path),
        "fingerprint": store.fingerprint(),
        "fingerprint_kind": "table-1",
        "shape": [ROWS, DIM],
        "dtype": "float32",
    }
    file = io.BytesIO()
    torch.save(state, file)
    assert len(file.getvalue()) < table.nbytes / 4
    # The same table may be at another path.
    shutil.copytree(store.path, tmp_path / "elsewhere")
    other = model_over(embstore.open(tmp_path / "elsewhere"))
    nn.init.zeros_(other[1].weight)
    file.seek(0)
    assert str(other.load_state_dict(torch.load(file))) == "<All keys matched successfully>"
    assert same_bits(other(ids_of((5,))), model(ids_of((5,))))


def test_state_dict_of_another_table_is_refused(store, tmp_path):
    other = write_store(tmp_path / "other", random_table(seed=1))
    for kind in (StoreEmbedding, StoreEmbeddingBag):
        with pytest.raises(ValueError, match="another table; open the table that") as caught:
            kind(other).load_state_dict(kind(store).state_dict())
        assert f"the state is of {store.path} ([200, 24] float32" in str(caught.value)
        assert f"the module's store is {other.path} (" in str(caught.value)
    with pytest.raises(RuntimeError, match="weight"):
        StoreEmbedding(store).load_state_dict(nn.Embedding(ROWS, DIM).state_dict())


def test_pickles_open_the_store_again(store, table):
    model = nn.Sequential(StoreEmbedding(store, 3, 4.5), StoreEmbeddingBag(store, "max")).half()
    pickled = pickle.dumps(model)
    assert len(pickled) < table.nbytes / 4
    again = pickle.loads(pickled)
    assert repr(again) == repr(model)
    for one, other in zip(again, model, strict=True):
        assert one.store is not other.store
        assert same_bits(one(ids_of((4, 5))), other(ids_of((4, 5))))


def test_pickle_of_a_replaced_store_is_refused(tmp_path, table):
    pickled = pickle.dumps(StoreEmbedding(write_store(tmp_path / "t", table)))
    write_store(tmp_path / "t", random_table(seed=1), overwrite=True)
    with pytest.raises(ValueError, match="another table"):
        pickle.loads(pickled)


def test_deep_copies_share_the_store(store):
    model = nn.ModuleDict({"a": StoreEmbedding(store), "b": StoreEmbeddingBag(store)})
    model["again"] = model["a"]
    twin = copy.deepcopy(model).double()
    assert twin["a"] is twin["again"]
    assert twin["a"] is not model["a"]
    assert twin["a"].store is twin["b"].store is store
    assert (twin["a"].dtype, model["a"].dtype) == (torch.float64, torch.float32)
    assert same_bits(twin["a"](ids_of((5,))), model["a"](ids_of((5,))).double())


def test_compiled_model_keeps_one_graph(store, table):
    torch.compiler.reset()  # Else what other tests compiled counts towards the limit.
    model = model_over(store)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for shape in ((4, 5), (7,)):
        assert same_bits(compiled(ids_of(shape)), model(ids_of(shape)))
    with pytest.raises(IndexError, match="id 200 at position 0"):
        compiled(torch.tensor([200]))
    bag = StoreEmbeddingBag(store, "sum", padding_idx=3)
    compiled_bag = torch.compile(bag, backend="eager", fullgraph=True)
    assert same_bits(compiled_bag(ids_of((6, 5))), bag(ids_of((6, 5))))
    for offsets in ([0, 7, 7, 20], [0, 2, 10]):
        batch = ids_of((30,)), torch.tensor(offsets), torch.randn(30)
        assert same_bits(compiled_bag(*batch), bag(*batch))


# --- StoreEmbeddingBag ---


@st.composite
def batches(draw):
    """Return ids and offsets, as a batch of bags."""
    lengths = draw(st.lists(st.integers(0, 6), max_size=12))
    dtype = torch.int64 if draw(st.booleans()) else torch.int32
    ids = ids_of((sum(lengths),), 12, dtype, draw(st.integers(0, 99)))
    offsets = torch.tensor([0, *np.cumsum(lengths)], dtype=dtype)
    return ids, offsets


@settings(max_examples=100, deadline=None)
@given(
    batch=batches(),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    mode=st.sampled_from(["sum", "mean", "max"]),
    weighted=st.booleans(),
    padding_idx=st.none() | st.integers(-12, 11),
    max_norm=st.none() | st.sampled_from([3.0, 4.5]),
    last=st.booleans(),
    slice_rows=st.sampled_from([1, 3, 10, 1000]),
)
def test_bags_equal_those_of_nn_embedding_bag(
    stores, batch, dtype, mode, weighted, padding_idx, max_norm, last, slice_rows
):
    store, table = stores[dtype]
    options = {"padding_idx": padding_idx, "max_norm": max_norm, "include_last_offset": last}
    ids, offsets = batch
    offsets = offsets if last else offsets[:-1]
    weights = torch.randn(len(ids), dtype=torch.tensor(table).dtype, requires_grad=True)
    given = weights if weighted and mode == "sum" else None
    expected_bag = nn.EmbeddingBag.from_pretrained(torch.tensor(table), mode=mode, **options)
    expected = expected_bag(ids, offsets, given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bag, "SLICE_BYTES", slice_rows * DIM * table.itemsize)
        found_bag = StoreEmbeddingBag(store, mode, **options)
        found = found_bag(ids, offsets, given)
    assert found_bag.padding_idx == expected_bag.padding_idx
    assert same_bits(found, expected)
    if given is not None and len(offsets):
        upstream = torch.randn_like(expected)
        gradients = [torch.autograd.grad(out, weights, upstream) for out in (found, expected)]
        assert same_bits(gradients[0][0], gradients[1][0])
    assert np.array_equal(store[:12], table[:12])


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("slice_rows", [7, 10_000])
def test_bags_of_one_length_need_no_offsets(store, table, mode, slice_rows, monkeypatch):
    monkeypatch.setattr(bag, "SLICE_BYTES", slice_rows * DIM * 4)
    ids = ids_of((5, 30)).T
    weights = torch.randn(30, 5) if mode == "sum" else None
    expected = nn.EmbeddingBag.from_pretrained(torch.tensor(table), mode=mode)
    assert same_bits(
        StoreEmbeddingBag(store, mode)(ids, per_sample_weights=weights),
        expected(ids, per_sample_weights=weights),
    )
    assert same_bits(StoreEmbeddingBag(store, mode)(ids[:, :0]), torch.zeros(30, DIM))
    assert same_bits(StoreEmbeddingBag(store, mode)(ids[:0]), torch.zeros(0, DIM))


def test_empty_bags_and_bags_of_padding_are_zeros(store):
    ids, offsets = torch.tensor([3, 3, 5]), torch.tensor([0, 0, 2, 3, 3])
    for mode in ("sum", "mean", "max"):
        found = StoreEmbeddingBag(store, mode, padding_idx=3)(ids, offsets)
        assert not found[[0, 1, 3, 4]].any()
        assert found[2].any()


def test_memory_is_bounded_by_slices(store, monkeypatch):
    store = embstore.open(store.path, reader="chunked")
    looked_up = []

    def lookup(ids):
        looked_up.append(len(ids))
        return real(ids)

    real = store.lookup
    monkeypatch.setattr(store, "lookup", lookup)
    monkeypatch.setattr(bag, "SLICE_BYTES", 32 * DIM * 4)
    StoreEmbeddingBag(store)(ids_of((100, 5)))
    assert max(looked_up) <= 32
    assert sum(looked_up) == 500


@pytest.mark.parametrize(
    ("ids", "offsets", "weights", "error", "message"),
    [
        (torch.zeros(2, 2, 2, dtype=torch.int64), None, None, ValueError, r"not \(2, 2, 2\)"),
        (ids_of((2, 2)), torch.tensor([0]), None, ValueError, "omit offsets"),
        (ids_of((4,)), None, None, ValueError, r"ids of shape \(n,\) need offsets"),
        (ids_of((4,)), torch.tensor([[0]]), None, ValueError, r"\(bags,\), not \(1, 1\)"),
        (ids_of((4,)), torch.tensor([0.0]), None, TypeError, "offsets must be int32 or int64"),
        (ids_of((4,)), [0], None, TypeError, "offsets must be a torch.Tensor .* not list"),
        (ids_of((4,)), torch.tensor([1, 2]), None, ValueError, "must start with 0, not 1"),
        (ids_of((4,)), torch.tensor([0, 3, 2]), None, ValueError, "bag 1 runs from 3 to 2"),
        (ids_of((4,)), torch.tensor([0, 5]), None, ValueError, "not exceed 4, .* bag 0 runs"),
        (ids_of((4, 1)), None, torch.ones(4), ValueError, r"shape \(4,\), expected .* \(4, 1\)"),
        (ids_of((4, 1)), None, [1.0] * 4, TypeError, "a torch.Tensor, not list"),
        (ids_of((4, 1)), None, torch.ones(4, 1).double(), TypeError, "float64, expected .*float32"),
        (
            ids_of((4, 1)),
            None,
            torch.ones(4, 1, device="meta"),
            ValueError,
            "on meta, expected cpu",
        ),
    ],
)
def test_invalid_bags_are_refused(store, ids, offsets, weights, error, message):
    with pytest.raises(error, match=message):
        StoreEmbeddingBag(store, "sum")(ids, offsets, weights)


def test_weights_need_the_mode_sum(store):
    with pytest.raises(ValueError, match="need the mode \"sum\", not 'mean'"):
        StoreEmbeddingBag(store)(ids_of((4, 1)), per_sample_weights=torch.ones(4, 1))
    with pytest.raises(ValueError, match="offsets is empty; include_last_offset"):
        StoreEmbeddingBag(store, include_last_offset=True)(ids_of((0,)), ids_of((0,)))


# --- StoreDataset ---


def test_items_are_rows(store, table):
    dataset = StoreDataset(store)
    assert len(dataset) == ROWS
    assert same_bits(dataset[7], torch.tensor(table[7]))
    assert same_bits(dataset[[3, 0, 3]], torch.tensor(table[[3, 0, 3]]))
    items = dataset.__getitems__([3, 0, 3])
    assert type(items) is list
    assert same_bits(torch.stack(items), torch.tensor(table[[3, 0, 3]]))


@pytest.mark.parametrize("make", [list, np.array, torch.tensor])
def test_items_with_ids_and_targets(store, table, make):
    ids = ids_of((50, 3)).tolist()
    dataset = StoreDataset(store, make(ids), targets=make([n % 7 for n in range(50)]))
    rows, target = dataset[9]
    assert same_bits(rows, torch.tensor(table[ids[9]]))
    assert target == 2
    batches = list(DataLoader(dataset, batch_size=20))
    assert [len(targets) for _, targets in batches] == [20, 20, 10]
    assert same_bits(torch.cat([rows for rows, _ in batches]), torch.tensor(table[ids]))
    assert torch.cat([targets for _, targets in batches]).tolist() == [n % 7 for n in range(50)]
    part = DataLoader(Subset(dataset, [4, 2]), batch_size=2)
    assert same_bits(next(iter(part))[0], torch.tensor(table)[torch.tensor(ids)[[4, 2]]])


def test_batches_need_one_lookup_each(store, monkeypatch):
    dataset = StoreDataset(store, np.arange(100))
    before = store.stats().lookups
    assert len(list(DataLoader(dataset, batch_size=25, shuffle=True))) == 4
    assert store.stats().lookups == before + 4
    batches = BatchSampler(RandomSampler(dataset), batch_size=25, drop_last=False)
    shapes = [rows.shape for rows in DataLoader(dataset, sampler=batches, batch_size=None)]
    assert shapes == [(25, DIM)] * 4
    assert store.stats().lookups == before + 8


def test_invalid_datasets_are_refused(store):
    with pytest.raises(ValueError, match="2 targets for 3 items"):
        StoreDataset(store, [1, 2, 3], targets=[0, 1])
    with pytest.raises(ValueError, match="a single number"):
        StoreDataset(store, 5)
    with pytest.raises(embstore.IdRangeError, match="id 200 at position 1"):
        StoreDataset(store, [0, 200])
    for dataset, count in ((StoreDataset(store, [5, 6]), 2), (StoreDataset(store), ROWS)):
        for bad in (-1, count):
            message = f"item {bad} is out of range: the dataset has {count} items"
            for index in (bad, [0, bad]):
                with pytest.raises(IndexError, match=message):
                    dataset[index]
        assert len(list(dataset)) == count  # The IndexError ends the iteration.


WORKERS = """
import sys
import torch
from torch.utils.data import DataLoader
import embstore
from embstore.interop.torch import StoreDataset, StoreEmbedding

class Pairs(torch.utils.data.Dataset):  # A module within a dataset.
    def __init__(self, store):
        self.embedding = StoreEmbedding(store)
    def __len__(self):
        return 40
    def __getitem__(self, i):
        return self.embedding(torch.tensor([i, i + 1]))

if __name__ == "__main__":
    for reader, method in (("mapped", "fork"), ("mapped", "spawn"), ("chunked", "fork")):
        store = embstore.open(sys.argv[1], reader=reader)
        table = torch.tensor(store[:])  # Also starts the threads that a large lookup has.
        targets = torch.arange(len(store))
        options = {"num_workers": 2, "multiprocessing_context": method, "timeout": 600}
        batches = list(DataLoader(StoreDataset(store, targets=targets), 64, **options))
        assert torch.equal(torch.cat([rows for rows, _ in batches]), table), (reader, method)
        assert torch.equal(torch.cat([numbers for _, numbers in batches]), targets)
        if method == "fork":
            pairs = torch.cat(list(DataLoader(Pairs(store), 8, **options)))
            assert torch.equal(pairs, table[torch.arange(40)[:, None] + torch.arange(2)])
    print("same")
"""


def test_data_loader_with_workers(store, tmp_path):
    (tmp_path / "program.py").write_text(WORKERS)
    # Python 3.12 and later warn of any fork in a process with threads, such as torch's own; torch
    # warns of more workers than processors.
    done = run_python(
        *("-W", "error", "-W", "ignore:This process", "-W", "ignore:This DataLoader will create"),
        *(tmp_path / "program.py", store.path),
        status=None,
    )
    assert done.stdout == "same\n", done.stderr
    assert not done.stderr


def test_training_example_learns(tmp_path, monkeypatch, capsys):
    from tools import train_example

    # Each vector encodes the kind of its word, so that the model can learn it.
    hundred = range(1, 101)
    names = [f"w{'x' * n}" for n in range(200)] + [f"##{n}" for n in hundred]
    names += [f"{n}" for n in hundred] + [f"[{n}]" for n in hundred] + ["!" * n for n in hundred]
    rows = np.random.default_rng(0).normal(size=(600, 8)).astype(np.float32)
    rows[np.arange(600), np.repeat([0, 0, 1, 2, 3, 4], 100)] += 20
    with embstore.StoreWriter(tmp_path / "t", row_shape=(8,), dtype="float32") as writer:
        writer.write(rows, names)
    monkeypatch.setattr(sys, "argv", ["train_example", str(tmp_path / "t")])
    monkeypatch.setattr(train_example, "BATCH", 16)
    train_example.main()
    lines = capsys.readouterr().out.splitlines()
    accuracy = float(next(line for line in lines if "epoch 5" in line).split()[-1].rstrip("%"))
    assert accuracy > 90
    assert lines[-1].startswith("checkpoint: ")


def test_the_example_says_what_it_lacks(tmp_path, monkeypatch):
    from tools import train_example

    monkeypatch.setattr(train_example, "STORE", tmp_path / "none")
    monkeypatch.setattr(sys, "argv", ["train_example"])
    with pytest.raises(SystemExit, match=r"no store at .*; run tools/quickstart first"):
        train_example.main()
    monkeypatch.setattr(sys, "argv", ["train_example", str(tmp_path / "t")])
    with pytest.raises(SystemExit, match=r"^train_example: no store at .*directory$"):
        train_example.main()
