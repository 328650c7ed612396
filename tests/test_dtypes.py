"""The table of dtypes, and tensors as arrays."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

import embstore
from embstore.dtypes import (
    DTYPES,
    as_dtype,
    common_dtype,
    find_dtype,
    is_extension,
    is_float,
    is_tensor,
    storage_dtype,
    tensor_array,
    wide_dtype,
)
from embstore.formats.own import spec

ROWS = list(DTYPES.values())
FLOAT8 = (
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
)
rows_of_dtypes = pytest.mark.parametrize("row", ROWS, ids=list(DTYPES))


@rows_of_dtypes
def test_rows_agree_with_numpy(row):
    assert DTYPES[row.name] is row
    assert row.numpy.name == row.name
    assert as_dtype(row.name) == as_dtype(row.numpy) == row.numpy
    assert find_dtype(row.numpy) is row
    assert np.dtype(row.stored).itemsize == row.numpy.itemsize
    assert storage_dtype(row.numpy).name == row.stored
    assert is_float(row.numpy) == (row.kind == "f")
    if not row.is_extension:
        assert row.numpy.kind == row.kind
        assert find_dtype(row.numpy.newbyteorder()) is row
        assert storage_dtype(row.numpy) == row.numpy


@rows_of_dtypes
def test_wide_dtypes_hold_all_numbers(row):
    wide = wide_dtype(row.numpy)
    assert wide == np.dtype(row.wide)
    assert np.can_cast(row.numpy, wide)
    assert wide.itemsize >= min(row.numpy.itemsize, 8)
    assert not is_extension(wide)
    if row.kind == "f":
        assert wide.itemsize >= 4


@rows_of_dtypes
def test_stores_of_every_dtype(tmp_path, row):
    table = (np.arange(40) + (not row.has_zero)).reshape(10, 4).astype(row.numpy)
    store = embstore.build(table, tmp_path / "t.embstore")
    assert store.dtype == row.numpy
    assert store[:].tobytes() == table.tobytes()
    assert embstore.verify(store.path).ok


def test_other_dtypes():
    for name in ("complex64", "bool", "U3", "longdouble"):
        dtype = np.dtype(name)
        assert find_dtype(dtype) is None
        assert not is_extension(dtype)
        assert storage_dtype(dtype) == wide_dtype(dtype) == as_dtype(name) == dtype
        assert is_float(dtype) == (name == "longdouble")
    with pytest.raises(TypeError):
        as_dtype("float12")


def test_the_format_has_the_dtypes_of_the_table():
    assert list(DTYPES) == list(spec.DTYPES)
    extensions = tuple(row.name for row in ROWS if row.is_extension)
    assert set(extensions) <= set(spec.FEATURES)
    assert extensions == (*FLOAT8, "bfloat16")


@pytest.mark.parametrize(
    ("names", "common"),
    [
        (("float32",), "float32"),
        (("bfloat16", "bfloat16"), "bfloat16"),
        (("int32", "uint8"), "int32"),
        (("int8", "uint8"), "int16"),
        (("int32", "uint32"), "int64"),
        (("uint64", "uint8"), "uint64"),
        (("float16", "float32"), "float32"),
        (("float32", "float64"), "float64"),
        (("bfloat16", "float16"), "float32"),
        (("bfloat16", "float32"), "float32"),
        (("float16", "uint8"), "float16"),
        (("bfloat16", "int8"), "bfloat16"),
        (("bfloat16", "int16"), "float32"),
        (("float16", "int16"), "float32"),
        (("bfloat16", "float16", "int32"), "float64"),
        (("float32", "int16"), "float32"),
        (("float32", "int32"), "float64"),
        (("float32", "int64"), "float64"),
        (("uint64", "int8", "float16"), "float64"),
        (("float8_e4m3fn", "float8_e4m3fn"), "float8_e4m3fn"),
        (("float8_e4m3fn", "float8_e4m3fnuz"), "float16"),
        (("float8_e4m3fn", "float8_e5m2"), "float16"),
        (("float8_e4m3fn", "float16"), "float16"),
        (("float8_e5m2", "bfloat16"), "bfloat16"),
        (("float8_e5m2fnuz", "float8_e8m0fnu"), "bfloat16"),
        (("float8_e8m0fnu", "float16"), "float32"),
        (("float8_e5m2", "int8"), "float16"),
        (("float8_e4m3fn", "uint8", "bfloat16"), "bfloat16"),
        (("float8_e4m3fn", "int16"), "float32"),
        (("float8_e4m3fn", "int64"), "float64"),
    ],
)
def test_common_dtype(names, common):
    for order in permutations(names):
        assert common_dtype(map(as_dtype, order)) == as_dtype(common)
        foreign = [as_dtype(name).newbyteorder() for name in order]
        if not any(is_extension(dtype) for dtype in foreign):
            assert common_dtype(foreign).isnative


@pytest.mark.parametrize("one", DTYPES)
@pytest.mark.parametrize("another", DTYPES)
def test_common_dtype_holds_all_numbers_exactly(one, another):
    one, another = DTYPES[one].numpy, DTYPES[another].numpy
    if {one.name, another.name} in [{"uint64", f"int{bits}"} for bits in (8, 16, 32, 64)]:
        with pytest.raises(ValueError, match="exactly; convert them to one dtype"):
            common_dtype([one, another])
        return
    common = common_dtype([one, another])
    for dtype in (one, another):
        if dtype.itemsize == 8 and not is_float(dtype) and is_float(common):
            continue  # The one exception; the writer counts what the cast changes.
        if is_float(dtype):
            bits = np.random.default_rng(0).integers(0, 256, 80 * dtype.itemsize, np.uint8)
            numbers = (np.arange(256, dtype=np.uint8) if dtype.itemsize == 1 else bits).view(dtype)
        else:
            limits = np.iinfo(dtype)
            numbers = np.array([limits.min, limits.max, limits.max - 1, limits.max // 2 + 1], dtype)
        with np.errstate(invalid="ignore"):
            back = numbers.astype(common).astype(dtype)
            nan = np.isnan(numbers.astype(np.float64))
            assert ((back == numbers) | nan).all()


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ((), "at least one dtype"),
        (("bool", "float32"), "found bool"),
        (("complex64",), "found complex64"),
        (("float32", "U3", "object"), "found str96, object"),
        (("longdouble", "float32"), "found (float128|longdouble)"),
        (("datetime64[s]",), "found datetime64"),
        (("uint64", "int64"), "no dtype holds uint64 and int64 exactly"),
    ],
)
def test_dtypes_without_a_common_one(names, says):
    with pytest.raises(ValueError, match=says):
        common_dtype(map(np.dtype, names))


@rows_of_dtypes
def test_tensors_share_their_memory(row):
    torch = pytest.importorskip("torch")
    tensor = torch.zeros((4, 6), dtype=getattr(torch, row.torch))
    assert is_tensor(tensor)
    for part in (tensor, tensor.T, tensor[::2, 1::3], tensor[:0], tensor[1, 2]):
        array = tensor_array(part)
        assert array.dtype == row.numpy
        assert array.shape == tuple(part.shape)
        if array.size:
            array[...] = 2
            assert part.float().eq(2).all()
            tensor.fill_(1)


def test_tensors_with_gradients_are_detached():
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.bfloat16):
        tensor = torch.ones(3, dtype=dtype, requires_grad=True)
        assert tensor_array(tensor).tolist() == [1, 1, 1]


@pytest.mark.parametrize("given", [None, [1.0], np.ones(3)])
def test_other_objects_are_not_tensors(given):
    assert not is_tensor(given)


@rows_of_dtypes
def test_safetensors_names(tmp_path, row):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    if row.safetensors == "F8_E8M0":
        pytest.skip("safetensors 0.8 has no name for it in Python")
    tensor = torch.ones((3, 2)).to(getattr(torch, row.torch))
    safetensors.save_file({"t": tensor}, tmp_path / "t.safetensors")
    assert f'"{row.safetensors}"'.encode() in (tmp_path / "t.safetensors").read_bytes()
    store = embstore.build(tmp_path / "t.safetensors", tmp_path / "t.embstore")
    assert store.dtype == row.numpy
    assert store[:].astype(float).tolist() == [[1, 1]] * 3
