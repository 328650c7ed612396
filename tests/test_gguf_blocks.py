"""Blocks of GGUF tensors: sizes and numbers, against gguf-py."""

from __future__ import annotations

import numpy as np
import pytest

from embstore.dtypes import as_dtype
from embstore.encodings.ggml_codes import UNPACK
from embstore.encodings.ggml_types import BLOCKS, BY_NUMBER
from embstore.encodings.gguf_blocks import PIECE_BYTES, GgufBlocks

SPECIAL_HALVES = np.array(
    [0, -0.0, 1, -1, 65504, -65504, 6e-8, np.inf, -np.inf, np.nan], np.float16
).view(np.uint16)
# Where a block has its float16.
HALVES = {
    "Q8_0": (0,),
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
    "MXFP4": (),
    "NVFP4": (),
    "TQ2_0": (64,),
}


def assert_same_bits(found, wanted):
    np.testing.assert_array_equal(found.view(np.uint32), wanted.view(np.uint32))


def reference(records, name):
    gguf = pytest.importorskip("gguf")
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(records, gguf.GGMLQuantizationType[name])


def decoded(name, records, row_shape, dtype="float32"):
    out = np.empty((len(records), *row_shape), as_dtype(dtype))
    GgufBlocks(name, row_shape).decode((records,), out)
    return out


def test_types_have_the_numbers_and_sizes_of_gguf():
    gguf = pytest.importorskip("gguf")
    for kind, (values, size) in gguf.GGML_QUANT_SIZES.items():
        if kind.name != "Q8_1":
            block = BLOCKS[kind.name]
            assert (block.number, block.values, block.bytes) == (kind.value, values, size)
    assert [BY_NUMBER[block.number] for block in BLOCKS.values()] == list(BLOCKS.values())


@pytest.mark.parametrize("name", UNPACK)
def test_random_blocks_have_the_bits_of_gguf(name):
    block = BLOCKS[name]
    rows = 3 + PIECE_BYTES // (4 * 512)  # More than one piece, the last one short.
    records = np.random.default_rng(1).integers(
        0, 256, (rows, 512 // block.values * block.bytes), dtype=np.uint8
    )
    assert_same_bits(decoded(name, records, (512,)), reference(records, name))


@pytest.mark.parametrize("name", UNPACK)
def test_every_byte_and_special_scale_has_the_bits_of_gguf(name):
    block = BLOCKS[name]
    made = []
    for half in SPECIAL_HALVES:
        for other in SPECIAL_HALVES:
            blocks = np.repeat(np.arange(256, dtype=np.uint8)[:, None], block.bytes, axis=1)
            for place, value in zip(HALVES[name], (half, other), strict=False):
                blocks[:, place : place + 2] = np.array([value]).view(np.uint8)
            made.append(blocks)
    records = np.concatenate(made)
    assert_same_bits(decoded(name, records, (block.values,)), reference(records, name))


@pytest.mark.parametrize("name", UNPACK)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_dtypes_are_rounded_from_float32(name, dtype):
    block = BLOCKS[name]
    records = np.random.default_rng(2).integers(0, 256, (300, block.bytes), dtype=np.uint8)
    with np.errstate(all="ignore"):
        want = decoded(name, records, (block.values,)).astype(as_dtype(dtype))
    found = decoded(name, records, (block.values,), dtype)
    np.testing.assert_array_equal(found.astype(np.float64), want.astype(np.float64))


@pytest.mark.parametrize("name", UNPACK)
@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("right", [0, 1])
def test_records_may_have_gaps_and_no_alignment(name, left, right):
    block = BLOCKS[name]
    size = 2 * block.bytes
    wide = np.random.default_rng(3).integers(0, 256, (5, size + left + right), dtype=np.uint8)
    records = wide[:, left : left + size]
    row_shape = (2, block.values)
    assert_same_bits(decoded(name, records, row_shape), decoded(name, records.copy(), row_shape))


@pytest.mark.parametrize("name", UNPACK)
def test_no_rows_give_no_numbers(name):
    block = BLOCKS[name]
    assert decoded(name, np.empty((0, block.bytes), np.uint8), (block.values,)).size == 0


@pytest.mark.parametrize(
    ("name", "row_shape", "message"),
    [
        ("IQ1_S", (256,), "cannot be decoded; expected one of Q8_0"),
        ("q8_0", (32,), "'q8_0' cannot be decoded"),
        ("Q8_0", (33,), "is not whole blocks of 32 values"),
        ("Q4_K", (2, 128), "is not whole blocks of 256 values"),
        ("Q4_K", (), "is not whole blocks"),
    ],
)
def test_unfit_blocks_are_refused(name, row_shape, message):
    with pytest.raises(ValueError, match=message):
        GgufBlocks(name, row_shape)
