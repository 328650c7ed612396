"""Stores used by threads and processes, after ``close``, and after a replacement on disk."""

from __future__ import annotations

import gc
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.reading.files import StoreFiles
from embstore.reading.mapping import AddressSpace
from embstore.table.addresses import HUGE_PAGE_BYTES, PAGE_BYTES
from tests.helpers.programs import run_python
from tests.helpers.stores import flip

if TYPE_CHECKING:
    from numpy.typing import NDArray

READERS = pytest.mark.parametrize("reader", ["mapped", "chunked"])


def table_of(number: int, rows: int = 500) -> NDArray[np.float32]:
    """Return a table whose values are different from those of all other tables."""
    return np.arange(rows * 4, dtype=np.float32).reshape(rows, 4) + 10_000 * number


def write_store(path: Path, number: int = 0, rows: int = 500, **settings: Any) -> Path:
    settings = {"partitions": 3, "chunk_rows": 32} | settings
    with embstore.StoreWriter(path, row_shape=(4,), dtype="float32", **settings) as writer:
        writer.write(table_of(number, rows), [f"w{i}" for i in range(rows)])
    return path


@pytest.fixture
def path(tmp_path):
    return write_store(tmp_path / "t.embstore")


@READERS
def test_sixteen_threads(path, reader):
    table = table_of(0)
    barrier = threading.Barrier(16)
    count = 20 if reader == "mapped" else 4

    def look_up(seed):
        random = np.random.default_rng(seed)
        barrier.wait(timeout=300)
        for size in random.integers(0, 3000, count):
            ids = random.integers(0, 500, size)
            assert np.array_equal(store.lookup(ids), table[ids])
            words = [f"w{i}" for i in ids[:50].tolist()]
            assert np.array_equal(store.ids(words), ids[:50])
        return True

    with embstore.open(path, reader=reader) as store, ThreadPoolExecutor(16) as pool:
        assert list(pool.map(look_up, range(16))) == [True] * 16


@READERS
def test_close_during_a_lookup_is_an_error_and_not_a_crash(path, reader):
    table = table_of(0)
    store = embstore.open(path, reader=reader)
    ids = np.random.default_rng(0).integers(0, 500, 2000)
    running = threading.Barrier(5)

    def look_up():
        running.wait(timeout=300)
        while True:
            try:
                rows = store.lookup(ids)
                found = store.ids(["w7"])
            except embstore.StoreClosedError:
                return True
            assert np.array_equal(rows, table[ids])
            assert found == 7

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(look_up) for _ in range(4)]
        running.wait(timeout=300)
        store.close()
        assert all(future.result(timeout=300) for future in futures)


FORK = """
import os, sys
import numpy as np
import embstore

store = embstore.open(sys.argv[1], reader=sys.argv[2])
large = np.arange(500).repeat(100)
expected = store.lookup(large)  # The reader makes its threads and mappings before the fork.
for _ in range(3):
    child = os.fork()
    if child == 0:
        same = np.array_equal(store.lookup(large), expected) and store.ids("w7") == 7
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(store.lookup(large), expected)
child = os.fork()
if child == 0:
    store.close()
    os._exit(0)
os.waitpid(child, 0)
assert np.array_equal(store.lookup(large), expected)  # The child has closed only its own copy.
print("same")
"""

PROCESSES = """
import multiprocessing, sys
import numpy as np
import embstore

if __name__ == "__main__":
    store = embstore.open(sys.argv[1], reader=sys.argv[2])
    batches = [np.arange(n, 500, 7) for n in range(8)]
    expected = [store.lookup(batch) for batch in batches]
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            found = pool.map(store.lookup, batches)
        assert all(map(np.array_equal, found, expected)), method
    print("same")
"""


@pytest.mark.parametrize("program", [FORK, PROCESSES], ids=["fork", "multiprocessing"])
@READERS
def test_other_processes(tmp_path, path, reader, program):
    (tmp_path / "program.py").write_text(program)
    done = run_python(tmp_path / "program.py", path, reader)
    assert done.stdout == "same\n"


@READERS
def test_pickle_holds_the_path(path, reader):
    with embstore.open(path, reader=reader) as store:
        pickled = pickle.dumps(store)
        assert len(pickled) < 1000
        with pickle.loads(pickled) as copy:
            assert copy.path == store.path
            assert copy.explain([3, 499]) == store.explain([3, 499])  # By the same reader.
            assert np.array_equal(copy[[3, 499]], table_of(0)[[3, 499]])
            store.close()
            assert np.array_equal(copy[[3, 499]], table_of(0)[[3, 499]])
    with pytest.raises(embstore.StoreClosedError):
        pickle.dumps(store)
    shutil.rmtree(path)
    with pytest.raises(embstore.StoreNotFoundError):
        pickle.loads(pickled)


@READERS
def test_closed_store_raises(path, reader):
    with embstore.open(path, reader=reader) as store:
        pass
    store.close()  # A second close does nothing.
    for call in (
        *(lambda: store[0], lambda: store[[0, 1]], lambda: store["w1"], lambda: "w1" in store),
        *(lambda: store.lookup([]), lambda: store.lookup_words("w1", missing="zeros")),
        *(lambda: store.ids("w1"), lambda: store.words([0]), lambda: store.explain([0])),
        *(lambda: store.partition(0), lambda: embstore.embedding_lookup(store, [0])),
    ):
        with pytest.raises(embstore.StoreClosedError, match="is closed; open it again"):
            call()
    assert repr(store).endswith("closed>")
    assert store.shape == (500, 4)


@READERS
def test_rows_outlive_their_store(path, reader):
    store = embstore.open(path, reader=reader)
    one, many, part = store[7], store[[1, 2, 3]], store.partition(1)
    store.close()
    del store
    gc.collect()
    assert np.array_equal(one, table_of(0)[7])
    assert np.array_equal(many, table_of(0)[[1, 2, 3]])
    assert np.array_equal(part[:], table_of(0)[1::3])
    shutil.rmtree(path)
    assert np.array_equal(one, table_of(0)[7])
    assert np.array_equal(many, table_of(0)[[1, 2, 3]])


def test_mapped_store_keeps_its_table_when_replaced(path):
    stores = [embstore.open(path)]
    for number in range(1, 5):
        write_store(path, number, overwrite=True)
        stores.append(embstore.open(path))
    for number, store in enumerate(stores):
        assert np.array_equal(store[:], table_of(number))
        assert store.words([0, 499]) == ["w0", "w499"]
    shutil.rmtree(path)
    for number, store in enumerate(stores):
        assert np.array_equal(store[:], table_of(number))


@pytest.mark.parametrize("read_before", [False, True])
def test_chunked_store_never_reads_rows_of_another(path, read_before):
    # It opens files when it needs them, so it may lose the store, but it must not mix two.
    store = embstore.open(path, reader="chunked")
    if read_before:
        assert np.array_equal(store[:], table_of(0))
    for number in range(1, 5):
        rows = 500 if number % 2 else 450
        write_store(path, number, rows, overwrite=True)
        for call in (lambda: store[[0, 1, 2]], lambda: store[499], lambda: store.partition(0)):
            with pytest.raises(embstore.StoreNotFoundError, match="was replaced or removed since"):
                call()
    shutil.rmtree(path)
    with pytest.raises(embstore.StoreNotFoundError, match="open it again"):
        store.lookup([0])


def test_partitions_of_a_replaced_store(path):
    with embstore.open(path) as store:
        write_store(path, 1, overwrite=True)
        with pytest.raises(embstore.StoreNotFoundError, match="was replaced or removed since"):
            store.partition(0)


def test_missing_chunk_is_not_read_as_zeros(path):
    with embstore.open(path, reader="chunked") as store:
        (path / "partitions/1/c/2/0").unlink()
        with pytest.raises(embstore.StoreCorruptError, match=r"partitions/1/c/2/0 is missing"):
            store.lookup(np.arange(500))
        assert np.array_equal(store[[0, 3]], table_of(0)[[0, 3]])


def test_chunked_reader_checks_checksums(path):
    chunk = path / "partitions/1/c/2/0"
    flip(chunk, 17)
    with embstore.open(path, reader="chunked") as store:
        with pytest.raises(
            embstore.StoreCorruptError, match=r"1/c/2/0: its rows have the checksum"
        ):
            store.lookup(np.arange(500))
        assert np.array_equal(store[0], table_of(0)[0])


def test_address_spaces_start_where_huge_pages_do():
    # Otherwise `preload` would map a table by huge pages in some processes only.
    for size_bytes in (1, PAGE_BYTES, 3 * HUGE_PAGE_BYTES // 2, HUGE_PAGE_BYTES):
        space = AddressSpace(size_bytes, [], StoreFiles(Path()))
        assert space.address % HUGE_PAGE_BYTES == 0
        assert len(space.data) == size_bytes


@pytest.mark.parametrize("size_bytes", [1 << 60, 1 << 70])
def test_too_large_address_space_is_an_error(size_bytes):
    with pytest.raises(
        embstore.StoreMappingError, match=r'bytes of address space.*reader="chunked"'
    ) as found:
        AddressSpace(size_bytes, [], StoreFiles(Path()))
    assert isinstance(found.value, OSError)
    assert isinstance(found.value, embstore.StoreError)
