"""Copies of open stores: pickled, copied or spawned, they have the same table or raise."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.interop.keyedvectors import KeyedVectors
from tests.campaigns.stores import edit, reseal
from tests.helpers.programs import run_python
from tests.helpers.stores import make_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TABLE = np.arange(48, dtype=np.float32).reshape(12, 4)
WORDS = [f"w{number}" for number in range(12)]
WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda item: pickle.loads(pickle.dumps(item)),
    "old pickle": lambda item: pickle.loads(pickle.dumps(item, protocol=2)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "inside": lambda item: copy.deepcopy({"a": [item]})["a"][0],
}
READERS = pytest.mark.parametrize("reader", ["mapped", "chunked"])


def make(path: Path, table: Any = TABLE, words: Any = WORDS, **options: Any) -> None:
    make_store(path, table, words, overwrite=True, **options).close()


def one_bit() -> Any:
    table = TABLE.copy()
    table.view(np.uint8)[7, 3] ^= 1
    return table


def other_file(path: Path) -> None:
    shutil.rmtree(path)
    with path.open("wb") as file:
        np.save(file, TABLE)


OTHERS: dict[str, Callable[[Path], Any]] = {
    "rows": lambda path: make(path, TABLE + 1),
    "one bit": lambda path: make(path, one_bit()),
    "order of rows": lambda path: make(path, TABLE[::-1]),
    "words": lambda path: make(path, words=[*WORDS[:11], "x"]),
    "order of words": lambda path: make(path, words=WORDS[::-1]),
    "no words": lambda path: make(path, words=None),
    "unk": lambda path: make(path, unk="w3"),
    "dtype": lambda path: make(path, TABLE.view(np.int32)),
    "row shape": lambda path: make(path, TABLE.reshape(12, 2, 2)),
    "fewer rows": lambda path: make(path, TABLE[:11], WORDS[:11]),
    "a file": other_file,
}


@pytest.mark.parametrize("way", ["pickle", "copy", "deepcopy"])
@pytest.mark.parametrize("other", OTHERS)
def test_copy_of_a_replaced_store_is_refused(tmp_path, way, other):
    path = tmp_path / "t"
    reader: Any = "chunked" if way == "copy" else "mapped"
    make(path)
    with embstore.open(path, reader=reader) as store:
        pickled = pickle.dumps(store)
        OTHERS[other](path)
        with pytest.raises(embstore.StoreNotFoundError, match=r"is another table than|is a file"):
            WAYS[way](store)
        with pytest.raises(embstore.StoreChangedError, match=r"it is <EmbeddingStore.*Open it"):
            pickle.loads(pickled)
        if reader == "mapped":  # The open store still has its files.
            assert np.array_equal(store[:], TABLE)


SAME: dict[str, Callable[[Path], Any]] = {
    "nothing": lambda path: None,
    "built again": make,
    "partitions": lambda path: make(path, partitions=5),
    "strategy": lambda path: make(path, partitions=2, strategy="div"),
    "chunks": lambda path: make(path, chunk_rows=2),
    "moved": lambda path: (path.rename(f"{path}.old"), shutil.copytree(f"{path}.old", path)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("change", SAME)
def test_copy_has_the_same_table(tmp_path, monkeypatch, way, change):
    reader: Any = "chunked" if way == "copy" else "mapped"
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "t")
    with embstore.open("t", reader=reader, resident_limit="64MiB") as store:
        SAME[change](tmp_path / "t")
        monkeypatch.chdir("/")
        twin = WAYS[way](store)
    assert twin is not store
    with twin:
        assert np.array_equal(twin[:], TABLE)
        assert twin.words(range(12)) == WORDS
        assert twin.mapped == (reader == "mapped")
        assert twin.path == tmp_path / "t"


def test_store_without_a_fingerprint(tmp_path):
    def old(table: Any, **options: Any) -> None:
        make(tmp_path / "t", table, **options)
        edit(tmp_path / "t/zarr.json", lambda own: own.pop("fingerprint"))
        reseal(tmp_path / "t")

    for other in (TABLE, TABLE + 1, one_bit()):
        old(TABLE)
        with embstore.open(tmp_path / "t") as store:
            pickled = pickle.dumps(store)
        old(other)
        if other is TABLE:
            assert np.array_equal(pickle.loads(pickled)[:], TABLE)
        else:
            with pytest.raises(embstore.StoreChangedError):
                pickle.loads(pickled)


def test_closed_and_removed_stores(tmp_path):
    make(tmp_path / "t")
    store = embstore.open(tmp_path / "t")
    pickled = pickle.dumps(store)
    shutil.rmtree(tmp_path / "t")
    for way in WAYS.values():
        with pytest.raises(embstore.StoreNotFoundError, match="no store at"):
            way(store)
    with pytest.raises(embstore.StoreNotFoundError):
        pickle.loads(pickled)
    store.close()
    for way in WAYS.values():
        with pytest.raises(embstore.StoreClosedError):
            way(store)


def test_link_to_a_newer_store(tmp_path):
    make(tmp_path / "v1")
    make(tmp_path / "v2", TABLE * 2)
    (tmp_path / "current").symlink_to("v1")
    with embstore.open(tmp_path / "current") as store:
        assert np.array_equal(copy.copy(store)[:], TABLE)
        (tmp_path / "current").unlink()
        (tmp_path / "current").symlink_to("v2")
        with pytest.raises(embstore.StoreChangedError):
            copy.copy(store)


# --- foreign files ---


def save_tensors(path: Path, table: Any) -> None:
    pytest.importorskip("safetensors.numpy").save_file({"a": table, "b": table[:5] * 3}, path)


SAVES: dict[str, Callable[[Path, Any], None]] = {
    "t.npy": np.save,
    "t.safetensors": save_tensors,
}


@READERS
@pytest.mark.parametrize("name", SAVES)
@pytest.mark.parametrize("keep_time", [True, False])
def test_copy_of_a_changed_file_is_refused(tmp_path, reader, name, keep_time):
    path = tmp_path / name
    options: dict[str, Any] = {"tensor": "a"} if name == "t.safetensors" else {}
    for other in (TABLE + 1, one_bit(), TABLE[::-1].copy(), TABLE.reshape(12, 2, 2)):
        SAVES[name](path, TABLE)
        status = path.stat()
        with embstore.open(path, reader=reader, **options) as store:
            pickled = pickle.dumps(store)
            with pickle.loads(pickled) as twin:
                assert np.array_equal(twin[:], TABLE)
                assert twin.mapped == store.mapped
            SAVES[name](tmp_path / f"new-{name}", other)
            (tmp_path / f"new-{name}").rename(path)
            time = status.st_mtime_ns + (0 if keep_time else 10**9)
            os.utime(path, ns=(time, time))
            with pytest.raises(embstore.StoreChangedError, match="another table"):
                pickle.loads(pickled)
    path.unlink()
    with pytest.raises(embstore.StoreNotFoundError):
        pickle.loads(pickled)


# --- what holds a store ---


def dataset(store: Any) -> Any:
    pytest.importorskip("torch")
    from embstore.interop.torch import StoreDataset

    return StoreDataset(store, [[3, 5]])


def embedding(store: Any) -> Any:
    pytest.importorskip("torch")
    from embstore.interop.torch import StoreEmbedding

    return StoreEmbedding(store)


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "key to index": lambda store: KeyedVectors(store).key_to_index,
    "keyed vectors": KeyedVectors,
    "dataset": dataset,
    "module": embedding,
    "method": lambda store: store.lookup,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_holders_go_through_the_store(tmp_path, holder):
    make(tmp_path / "t")
    with embstore.open(tmp_path / "t") as store:
        pickled = pickle.dumps(HOLDERS[holder](store))
    pickle.loads(pickled)
    make(tmp_path / "t", TABLE + 1)
    with pytest.raises(embstore.StoreChangedError):
        pickle.loads(pickled)


SPAWN = """
import multiprocessing, sys
import numpy as np
import embstore

def rows(store):
    return store[:]

def check(store):
    assert (store[:] == 1).all()

def fill(path, value):
    with embstore.StoreWriter(path, row_shape=(2,), dtype="float32", overwrite=True) as writer:
        writer.write(np.full((9, 2), value), [f"w{number}" for number in range(9)])

if __name__ == "__main__":
    fill(sys.argv[1], 1)
    store = embstore.open(sys.argv[1])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert (pool.apply(rows, (store,)) == 1).all()
    fill(sys.argv[1], 2)
    for method in ("spawn", "fork"):
        context = multiprocessing.get_context(method)
        with context.Pool(1) as pool:
            try:
                pool.apply_async(rows, (store,)).get(60)
            except embstore.StoreChangedError as error:
                print(error)
    # A forked child has the store without pickling it.
    child = context.Process(target=check, args=(store,))
    child.start()
    child.join()
    print(child.exitcode)
"""


def test_spawned_and_forked_processes(tmp_path):
    (tmp_path / "program.py").write_text(SPAWN)
    done = run_python(tmp_path / "program.py", tmp_path / "t")
    *refused, child = done.stdout.splitlines()
    assert len(refused) == 2
    assert "another table than the one that was opened: it has 9 rows of (2,)" in refused[0]
    assert child == "0"


# --- hashes and tokens of caches ---


def joblib_hash(item: Any) -> Any:
    return pytest.importorskip("joblib").hash(item)


def dask_token(item: Any) -> Any:
    return pytest.importorskip("dask.base").tokenize(item)


@pytest.mark.parametrize("hashed", [joblib_hash, dask_token])
@pytest.mark.parametrize(
    "hold", [lambda store: store, lambda store: [1, {"a": store}], KeyedVectors, dataset]
)
def test_hashes_tell_tables_apart(tmp_path, hashed, hold):
    path = tmp_path / "t"
    found = set()
    for name, change in (OTHERS | {"itself": make}).items():
        if name == "a file" or (hold is KeyedVectors and name in ("no words", "row shape")):
            continue
        shutil.rmtree(path, ignore_errors=True)
        change(path)
        with embstore.open(path) as store, embstore.open(path) as again:
            found.add(hashed(hold(store)))
            assert hashed(hold(again)) == hashed(hold(store))
            count = len(found)
        shutil.rmtree(path)
        change(path)  # Built again, it is the same table.
        with embstore.open(path) as store:
            found.add(hashed(hold(store)))
            assert len(found) == count
    assert len(found) == (8 if hold is KeyedVectors else 10) + 1


@pytest.mark.parametrize("hashed", [joblib_hash, dask_token])
def test_hashes_tell_files_apart(tmp_path, hashed):
    found = set()
    for number, table in enumerate((TABLE, TABLE + 1, one_bit(), TABLE.view(np.int32))):
        np.save(tmp_path / "t.npy", table)
        os.utime(tmp_path / "t.npy", ns=(10**18, 10**18))
        with embstore.open(tmp_path / "t.npy") as store:
            found.add(hashed(store))
        with embstore.open(tmp_path / "t.npy") as store:
            found.add(hashed(store))
        assert len(found) == number + 1


def test_tokens_do_not_depend_on_the_place(tmp_path):
    make(tmp_path / "a")
    make(tmp_path / "b", partitions=3)
    with embstore.open(tmp_path / "a") as one, embstore.open(tmp_path / "b") as other:
        assert dask_token(one) == dask_token(other)
        assert one.identity == other.identity == one.fingerprint()
