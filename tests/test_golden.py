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
}
# What embstore 0.1 called their fingerprints. Stores of that time hold none.
OLD_FINGERPRINTS = {
    "v1-words-mod": "11b4ad8b483efae082ad0fc59aa46e3e",
    "v1-div": "192e6d6a812e0842aee4cd8f330f83e1",
    "v1-bfloat16": "895232b2fe540c7812cdb83ee646e935",
    "v1-scalars": "e04cb821463b94c3eff5ffd693efb9b3",
}
WORDS = ["the", "<unk>", "naïve", "語", "a b", "x" * 70, "Straße", "🙂"]


def rows_of(name: str) -> Any:
    shape, dtype = STORES[name][0], as_dtype(STORES[name][1])
    if name == "v1-scalars":
        return np.arange(9, dtype=np.uint64) * 2**60
    numbers = (np.arange(np.prod(shape)) * 37 % 255 - 127).reshape(shape).astype(dtype)
    return numbers / np.float32(8) if name == "v1-words-mod" else numbers


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


@pytest.mark.parametrize("name", STORES)
def test_golden_stores_without_a_fingerprint(name):
    document = json.loads((GOLDEN / f"{name}.embstore/zarr.json").read_text())
    stored = document["attributes"]["embstore"].get("fingerprint")
    assert stored == (None if name in OLD_FINGERPRINTS else STORES[name][4])


@pytest.mark.parametrize("name", ["v1-words-mod", "v1-bfloat16", "v1-fingerprint", "v1-zstd"])
def test_golden_stores_find_their_words(name):
    with embstore.open(GOLDEN / f"{name}.embstore") as store:
        words = (WORDS + [f"word{i}" for i in range(len(store))])[: len(store)]
        assert store.words(np.arange(len(store))) == words
        assert store.ids(words).tolist() == list(range(len(store)))
        assert store.unk == "<unk>"
        assert "missing" not in store
