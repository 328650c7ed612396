"""Golden stores of format version 1: written once by its first code, read by all later code.

``tests/golden`` is never regenerated. A later feature of the format adds a store, written by the
code that first had the feature.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.dtypes import as_dtype

GOLDEN = Path(__file__).parent / "golden"
# Shape, dtype, partitions, strategy, fingerprint.
STORES = {
    "v1-words-mod": ((37, 5), "float32", 4, "mod", "a25acbde24013b223eba6d5967203870"),
    "v1-div": ((23, 2, 3), "int16", 3, "div", "73054ce46e445f68fddd125be64273b0"),
    "v1-bfloat16": ((19, 6), "bfloat16", 2, "mod", "ed13c5dce26c82a63a1f72b7437391af"),
    "v1-fingerprint": ((13, 3), "int8", 3, "div", "35f5e62364cb3a82f997c634bacf85b6"),
    "v1-scalars": ((9,), "uint64", 1, "mod", "6591b05bc5fd393e36a40252b7053415"),
    "v1-zstd": ((45, 2, 2048), "int8", 2, "mod", "485df2e1b1f99e9069488726c07c9f71"),
    "v1-blosc": ((19, 3000), "bfloat16", 2, "div", "0354504d93e5d12f0bec3d09b616a81f"),
    "v1-float8": ((64, 4), "float8_e4m3fn", 3, "mod", "1ed9a07e997fa8a5e814986c1d4899ea"),
    "v1-float8-groups": ((21, 6), "float32", 2, "mod", "2c781309b0a510fb0d9d591db757f307"),
    "v1-int4": ((11, 7), "float32", 3, "div", "cf9356d40409db224d0bb8a1f926f2f7"),
    "v1-zero-points": ((13, 2, 3), "float32", 1, "mod", "5e73512d87057f5014c2e827fafb291e"),
    "v1-q8-0": ((10, 64), "float32", 2, "mod", "9a7d31d1b68045387f2c2eaf426068c1"),
    "v1-attributes": ((13, 3), "int16", 2, "mod", "dddedbae542bbda5b02b19f54455642b"),
}
# The encodings of stores of records, and the bytes of one.
ENCODED = {
    "v1-float8-groups": ("float8_e4m3fn:4", 10),
    "v1-int4": ("int4", 8),
    "v1-zero-points": ("uint8:2", 15),
    "v1-q8-0": ("Q8_0", 68),
}
# What embstore 0.1 called their fingerprints. Stores of that time hold none.
OLD_FINGERPRINTS = {
    "v1-words-mod": "11b4ad8b483efae082ad0fc59aa46e3e",
    "v1-div": "192e6d6a812e0842aee4cd8f330f83e1",
    "v1-bfloat16": "895232b2fe540c7812cdb83ee646e935",
    "v1-scalars": "e04cb821463b94c3eff5ffd693efb9b3",
}
STORES_OF_WORDS = ["v1-words-mod", "v1-bfloat16", "v1-fingerprint", "v1-zstd", "v1-float8-groups"]
WORDS = ["the", "<unk>", "naïve", "語", "a b", "x" * 70, "Straße", "🙂"]


def rows_of(name: str) -> Any:
    shape, dtype = STORES[name][0], as_dtype(STORES[name][1])
    if name == "v1-scalars":
        return np.arange(9, dtype=np.uint64) * 2**60
    if name == "v1-float8":
        return np.arange(256, dtype=np.uint8).view(dtype).reshape(shape)
    if name in ENCODED:
        return decoded(name)
    numbers = (np.arange(np.prod(shape)) * 37 % 255 - 127).reshape(shape).astype(dtype)
    return numbers / np.float32(8) if name == "v1-words-mod" else numbers


def codes_of(name: str) -> Any:
    """Return the numbers that the codes of a store stand for; each group has a largest one."""
    rows, width = STORES[name][0][0], int(np.prod(STORES[name][0][1:]))
    places = np.arange(rows * width).reshape(rows, width)
    if name == "v1-int4":
        codes = places * 5 % 15 - 7
        codes[:, 3] = 7
    elif name == "v1-float8-groups":
        codes = np.arange(127, dtype=np.uint8).view(as_dtype("float8_e4m3fn"))[places * 29 % 127]
        codes = codes * np.where(places % 3, 1, -1)
        codes[:, ::4] = 448
    else:
        codes = places * 37 % 256 - (128 if name == "v1-q8-0" else 0)
    return codes.astype(np.float32)


def scales_of(name: str) -> Any:
    """Return the scale of each number."""
    rows, width = STORES[name][0][0], int(np.prod(STORES[name][0][1:]))
    values = {"v1-float8-groups": 4, "v1-int4": 7, "v1-zero-points": 2, "v1-q8-0": 32}[name]
    groups = -(-width // values)
    scales = np.exp2(np.arange(rows * groups) % 9 - 4).reshape(rows, groups)
    return np.repeat(scales, values, axis=1)[:, :width].astype(np.float32)


def decoded(name: str) -> Any:
    """Return the rows of a store of records."""
    codes = codes_of(name)
    if name == "v1-zero-points":
        places = np.repeat(np.arange(codes.size // 2) * 11 % 256, 2).reshape(codes.shape)
        codes = (codes - places.astype(np.float32)) * np.float32(0.75)
    return (codes * scales_of(name)).reshape(STORES[name][0])


@pytest.mark.parametrize("reader", ["mapped", "chunked"])
@pytest.mark.parametrize("name", STORES)
def test_golden_stores_give_their_rows(name, reader):
    shape, dtype, partitions, strategy, fingerprint = STORES[name]
    expected = rows_of(name)
    with embstore.open(GOLDEN / f"{name}.embstore", reader=reader, verify="full") as store:
        assert store.shape == shape
        assert store.dtype == as_dtype(dtype)
        assert (store.partition_count, store.strategy) == (partitions, strategy)
        assert name not in OLD_FINGERPRINTS or store.matches(OLD_FINGERPRINTS[name])
        assert store.fingerprint() == fingerprint
        assert store.matches(fingerprint)
        assert not store.matches(fingerprint[::-1])
        ids = np.arange(len(store))[::-1]
        assert store.lookup(ids).tobytes() == expected[::-1].tobytes()
        assert store.to_numpy().tobytes() == expected.tobytes()
        assert all(store[i].tobytes() == expected[i].tobytes() for i in ids.tolist())
        record_bytes = expected[0].nbytes
        assert (store.encoding, store.record_bytes) == ENCODED.get(name, ("plain", record_bytes))
        assert store.lookup(ids, raw=True).shape == (len(ids), store.record_bytes)


@pytest.mark.parametrize("name", STORES)
def test_golden_stores_without_a_fingerprint(name):
    document = json.loads((GOLDEN / f"{name}.embstore/zarr.json").read_text())
    key = "full_fingerprint" if name == "v1-attributes" else "fingerprint"
    stored = document["attributes"]["embstore"].get(key)
    assert stored == (None if name in OLD_FINGERPRINTS else STORES[name][4])


def attributes_of(rows: int) -> dict[str, Any]:
    """Return the attributes of the store that has some."""
    places = np.arange(rows)
    return {
        "count": places**9 - 5,
        "tag": [WORDS[place % 3] * (place % 5) for place in range(rows)],
        "seen": places % 3 == 0,
        "weight": (places / 4).astype(as_dtype("bfloat16")),
        "level": places.astype(np.uint8),
        "share": (places - 2) / 7,
    }


def test_golden_store_of_attributes():
    expected = attributes_of(13)
    with embstore.open(GOLDEN / "v1-attributes.embstore") as store:
        assert list(store.attributes) == list(expected)
        for name, values in expected.items():
            found = store.attributes[name]
            if isinstance(values, list):
                assert (found[:].tolist(), found.dtype_name) == (values, "string")
            else:
                assert found[:].tobytes() == values.tobytes()
                assert found.dtype == values.dtype


@pytest.mark.parametrize("name", STORES_OF_WORDS)
def test_golden_stores_find_their_words(name):
    with embstore.open(GOLDEN / f"{name}.embstore") as store:
        words = (WORDS + [f"word{i}" for i in range(len(store))])[: len(store)]
        assert store.words(np.arange(len(store))) == words
        assert store.ids(words).tolist() == list(range(len(store)))
        assert store.unk == "<unk>"
        assert "missing" not in store
