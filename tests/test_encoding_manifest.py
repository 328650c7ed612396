"""Encodings in manifests: there and back, and what is refused."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from embstore.encodings.ggml_codes import UNPACK
from embstore.encodings.gguf_blocks import GgufBlocks
from embstore.encodings.groups import Groups
from embstore.encodings.manifest import encoding_from_json, encoding_to_json
from embstore.encodings.named import CHOICES, parse_encoding
from embstore.encodings.opaque import Opaque
from embstore.encodings.plain import Plain
from embstore.encodings.scaled import Scaled

ENCODINGS = [
    *(parse_encoding(name, (5, 8)) for name in CHOICES),
    *(parse_encoding(f"{name}:3", (40,)) for name in CHOICES),
    *(GgufBlocks(name, (2, 256)) for name in UNPACK),
    Opaque("IQ2_XS", 74),
    Scaled("float8_e4m3fn", (160,), factor=float(np.float32(0.1)), joined=True),
    Scaled("uint8", (4,), factor=0.5, zero=128.0, joined=True),
    Scaled(
        "uint4",
        (7,),
        scales=Groups("float16", 2, 4),
        zero_points=Groups("int8", 4, 2),
        joined=True,
    ),
]


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)
def test_encodings_come_back_from_json(encoding):
    text = json.dumps(encoding_to_json(encoding), allow_nan=False)
    assert encoding_from_json(json.loads(text), encoding.row_shape) == encoding


def test_a_single_column_counts_as_joined():
    separate = Scaled("int8", (4,), factor=0.5)
    found = encoding_from_json(encoding_to_json(separate), (4,))
    assert found == Scaled("int8", (4,), factor=0.5, joined=True)


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        (Plain(np.dtype(np.float32), (4,)), "cannot describe the encoding plain"),
        (Scaled("int8", (4,), scales=Groups("float32", 1, 4)), "a store needs them joined"),
        (Scaled("int8", (4,), factor=float("nan")), "factor of the table is nan"),
        (Scaled("int8", (4,), factor=float("inf")), "factor of the table is inf"),
        (Scaled("int8", (4,), zero=float("-inf")), "zero of the table is -inf"),
    ],
)
def test_encodings_that_no_manifest_holds_are_refused(encoding, message):
    with pytest.raises(ValueError, match=message):
        encoding_to_json(encoding)


GOOD = {"name": "scaled", "codes": "int8", "scales": {"dtype": "float32", "values": 4}}


def changed(**changes):
    return GOOD | changes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "the encoding is None; expected an object"),
        ([GOOD], "expected an object whose name is"),
        ("scaled", "expected an object whose name is"),
        ({}, "expected an object whose name is"),
        (changed(name="Scaled"), "expected an object whose name is"),
        (changed(name=["scaled"]), "expected an object whose name is"),
        ({"name": "scaled"}, "encoding lacks codes"),
        (changed(other=1), "encoding has the unknown key 'other'"),
        (changed(joined=True), "unknown key 'joined'"),
        (changed(row_shape=[8]), "unknown key 'row_shape'"),
        (changed(codes="int9"), "the codes are 'int9'; expected one of"),
        (changed(codes=None), "codes is None; expected a name"),
        (changed(codes=""), "codes is ''; expected a name"),
        (changed(codes="x" * 65), "expected a name"),
        (changed(factor=float("nan")), "factor is nan"),
        (changed(factor=float("inf")), "factor is inf"),
        (changed(factor=1e39), re.escape("factor is 1e+39; expected a number that a float32")),
        (changed(factor=10**400), "factor is 10"),
        (changed(factor=10**5000), "factor is a huge number"),
        (changed(factor=True), "factor is True"),
        (changed(factor="1"), "factor is '1'"),
        (changed(factor=None), "factor is None"),
        (changed(zero=float("-inf")), "zero is -inf"),
        (changed(scales=None), "scales is None; expected an object"),
        (changed(scales={"dtype": "float32"}), "scales lacks values"),
        (changed(scales={"dtype": "float32", "values": 4, "count": 2}), "unknown key 'count'"),
        (changed(scales={"dtype": "float64", "values": 4}), "the dtype is 'float64'"),
        (changed(scales={"dtype": "int8", "values": 4}), "the dtype is 'int8'; expected"),
        (changed(scales={"dtype": ["int8"], "values": 4}), "expected a name"),
        (changed(scales={"dtype": "float32", "values": 0}), "values of scales is 0"),
        (changed(scales={"dtype": "float32", "values": -4}), "values of scales is -4"),
        (changed(scales={"dtype": "float32", "values": 9}), "from 1 to the 8 values"),
        (changed(scales={"dtype": "float32", "values": 10**5000}), "is a huge number"),
        (changed(scales={"dtype": "float32", "values": 4.0}), "values of scales is 4.0"),
        (changed(scales={"dtype": "float32", "values": True}), "values of scales is True"),
        (changed(zero_points={"dtype": "float8_e4m3fn", "values": 4}), "the dtype is"),
        (changed(zero=1, zero_points={"dtype": "int8", "values": 4}), "zero point of the table"),
        ({"name": "gguf"}, "encoding lacks type"),
        ({"name": "gguf", "type": "Q8_0"}, "is not whole blocks of 32 values"),
        ({"name": "gguf", "type": "F32"}, "cannot be decoded"),
        ({"name": "gguf", "type": 8}, "type is 8; expected a name"),
        ({"name": "gguf", "type": "Q8_0", "codes": "int8"}, "unknown key 'codes'"),
        ({"name": "opaque", "type": "\n" * 999}, "expected a name"),
        ({"name": "opaque"}, "encoding lacks type"),
    ],
)  # fmt: skip
def test_bad_objects_are_refused(given, message):
    with pytest.raises(ValueError, match=message) as caught:
        encoding_from_json(given, (8,))
    assert len(str(caught.value)) < 400


def test_opaque_rows_have_one_axis():
    with pytest.raises(ValueError, match="rows of bytes have one axis"):
        encoding_from_json({"name": "opaque", "type": "x"}, (2, 4))
