"""Imports: embstore, opening and lookups load no heavy libraries."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

import embstore
from tests.helpers.programs import run_python as run

HEAVY = ["zarr", "numcodecs", "ml_dtypes", "pyarrow", "typer", "rich", "torch"]


def test_import_loads_no_heavy_library():
    lines = run("-X", "importtime", "-c", "import embstore").stderr.splitlines()
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert {"embstore", "numpy"} <= loaded
    assert not loaded & set(HEAVY)


PROGRAM = """
import sys
import embstore

with embstore.open(sys.argv[1]) as store:
    store[0], store[[1, 2]], store["like"], store.words([0, 1]), store.explain([0])
    store.lookup_words(["like", "absent"], missing="zeros")
    store.lookup([1], max_norm=0.5)
    embstore.embedding_lookup(store, [1, 2])
    try:
        store.lookup([-1])
    except IndexError:
        pass
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_lookup_loads_no_heavy_library(words_store):
    loaded = run("-c", PROGRAM, words_store).stdout.split()
    assert "embstore" in loaded
    assert not set(loaded) & set(HEAVY)


def test_dir_shows_the_public_names_only():
    assert dir(embstore) == sorted(embstore.__all__)
    assert all(hasattr(embstore, name) for name in embstore.__all__)


def test_windows_is_refused():
    program = """
import sys

sys.platform = "win32"
try:
    import embstore
except ImportError as error:
    print(error)
print(*(name for name in sys.modules if name == "numpy" or name.startswith("embstore")))
"""
    message, loaded = run("-c", program).stdout.splitlines()
    assert message.startswith("embstore does not support Windows; it runs on Linux")
    assert loaded == ""


@pytest.mark.parametrize("with_words", [False, True])
def test_open_of_64_partitions_costs_little_more_than_their_json(tmp_path, with_words):
    """Opening through zarr would take three to ten times as long."""
    path = tmp_path / "t.embstore"
    words = [f"w{i}" for i in range(10_000)] if with_words else None
    with embstore.StoreWriter(path, row_shape=(8,), dtype="float32", partitions=64) as writer:
        writer.write(np.zeros((10_000, 8), np.float32), words)
    opening, reading = [], []
    for _ in range(20):
        start = time.process_time()  # Not counting other processes.
        store = embstore.open(path)
        opening.append(time.process_time() - start)
        assert store.partition_count == 64
        store.close()
        start = time.process_time()
        for file in path.rglob("zarr.json"):
            json.loads(file.read_bytes())
        reading.append(time.process_time() - start)
    assert min(opening) < 3 * min(reading)
