"""Lookups into torch tensors: ``store.lookup(ids, out=tensor)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch")

TABLE = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
IDS = np.array([[3, 49], [0, 3]])


def write_store(path: Path, table: Any, **options: Any) -> embstore.EmbeddingStore:
    with embstore.StoreWriter(path, row_shape=table.shape[1:], dtype=table.dtype) as writer:
        writer.write(table)
    return embstore.open(path, **options)


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "t", TABLE)


def zeros(*shape: int, **options: Any) -> Any:
    return torch.zeros(shape, **options)


@pytest.mark.parametrize("reader", ["mapped", "chunked"])
def test_tensors_are_filled_in_place(tmp_path, reader):
    store = write_store(tmp_path / "t", TABLE, reader=reader)
    whole = zeros(4, 2, 6)
    out = whole[1:3]
    assert store.lookup(IDS, out=out) is out
    assert np.array_equal(whole[1:3].numpy(), TABLE[IDS])
    assert not whole[[0, 3]].any()
    assert store.lookup(IDS, out=out, max_norm=1.0) is out
    assert np.array_equal(out.numpy(), store.lookup(IDS, max_norm=1.0))
    empty = zeros(0, 6)
    assert store.lookup(IDS[:0, 0], out=empty) is empty
    parameter = torch.nn.Parameter(zeros(6), requires_grad=False)
    assert store.lookup(7, out=parameter) is parameter
    assert np.array_equal(parameter.numpy(), TABLE[7])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int8", "uint16"])
def test_tensors_of_each_dtype(tmp_path, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    from embstore.dtypes import as_dtype, tensor_array

    table = np.arange(60).reshape(10, 6).astype(as_dtype(dtype))
    store = write_store(tmp_path / "t", table)
    out = zeros(2, 6, dtype=getattr(torch, dtype))
    store.lookup([9, 4], out=out)
    assert np.array_equal(tensor_array(out), table[[9, 4]])


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ([0.0] * 6, TypeError, "out must be an ndarray or a torch.Tensor, not list"),
        (zeros(2, 3, 6), ValueError, r"out has shape \(2, 3, 6\), expected \(2, 2, 6\)"),
        (zeros(2, 2, 6, dtype=torch.float64), TypeError, "out has dtype float64, expected float32"),
        (zeros(2, 2, 6, dtype=torch.bfloat16), TypeError, "out has dtype bfloat16"),
        (zeros(2, 6, 2).transpose(1, 2), ValueError, "must be C-contiguous and writeable"),
        (zeros(6).expand(2, 2, 6), ValueError, "must be C-contiguous and writeable"),
        (zeros(2, 2, 6, device="meta"), ValueError, "out is on meta, expected cpu; fill a pinned"),
        (zeros(2, 2, 6, requires_grad=True), ValueError, r"requires gradients.*out.detach\(\)"),
        (zeros(2, 2, 6).to_sparse(), ValueError, "must be a dense tensor"),
        (zeros(2, 2, 6)._neg_view(), ValueError, "must be a dense tensor"),
    ],
)
def test_other_outs_are_refused(store, out, error, message):
    if "bfloat16" in message:
        pytest.importorskip("ml_dtypes")
    with pytest.raises(error, match=message):
        store.lookup(IDS, out=out)


def test_bad_ids_leave_a_tensor_as_it_is(store):
    out = zeros(2, 6)
    with pytest.raises(embstore.IdRangeError, match="id 50 at position 1"):
        store.lookup([0, 50], out=out)
    with pytest.raises(ValueError, match="max_norm must be above 0"):
        store.lookup([0, 1], out=out, max_norm=-1.0)
    assert not out.any()


def test_ids_may_share_memory_with_a_tensor(tmp_path):
    table = np.arange(10, dtype=np.int64)[::-1].copy()
    store = write_store(tmp_path / "t", table)
    memory = torch.tensor([3, 1, 4, 1, 5])
    expected = table[[3, 1, 4, 1]]
    store.lookup(memory[:4], out=memory[1:])
    assert np.array_equal(memory[1:].numpy(), expected)


def test_autograd_notices_that_a_tensor_was_filled(store):
    out = zeros(2, 6)
    factor = torch.ones(2, 6, requires_grad=True)
    product = (factor * out).sum()
    store.lookup([1, 2], out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()
    with torch.inference_mode():
        out = zeros(2, 6)
        store.lookup([1, 2], out=out)
        assert np.array_equal(out.numpy(), TABLE[[1, 2]])
