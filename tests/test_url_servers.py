"""Stores at the URLs of servers: an object store with authentication, and a web server."""

from __future__ import annotations

import os
import pickle
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

import embstore
from embstore.errors import RemoteError, StoreNotFoundError
from tests.helpers.safetensors_files import safetensors_file
from tests.helpers.stores import make_store
from tests.servers import SECRET_KEY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import FileServer

RANDOM = np.random.default_rng(3)
ROWS = RANDOM.normal(size=(6000, 40)).astype(np.float32)
WORDS = [f"word-{i}" for i in range(len(ROWS))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pytest.importorskip("obstore")
    make_store(tmp_path / "s", ROWS, WORDS, partitions=3, chunk_rows=256).close()
    return tmp_path / "s"


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_published_store(tmp_path, object_url, compression):
    pytest.importorskip("obstore")
    path = tmp_path / "s"
    make_store(path, ROWS, WORDS, partitions=3, chunk_rows=256, compression=compression).close()
    embstore.publish(path, object_url)
    with embstore.open(object_url) as store, embstore.open(path) as local:
        ids = RANDOM.integers(0, len(ROWS), 2000)
        assert np.array_equal(store.lookup(ids), ROWS[ids])
        assert np.array_equal(store[WORDS[::50]], ROWS[::50])
        assert store.to_numpy().tobytes() == ROWS.tobytes()
        assert store.words([5999, 0]) == [WORDS[-1], WORDS[0]]
        assert store.fingerprint(full=True) == local.fingerprint()
        results = []
        threads = [
            threading.Thread(target=lambda some=some: results.append((some, store.lookup(some))))
            for some in np.array_split(ids, 4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 4
        for some, rows in results:
            assert np.array_equal(rows, ROWS[some])
        pickled = pickle.dumps(store)
        assert SECRET_KEY.encode() not in pickled
        with pickle.loads(pickled) as other:
            assert np.array_equal(other[17], ROWS[17])


def test_copied_store_and_model(tmp_path, object_url, path):
    from embstore.remote.urls import objects_at

    objects = objects_at(object_url)
    for file in path.rglob("*"):
        if file.is_file():
            objects.put(f"synced/{file.relative_to(path).as_posix()}", file)
    objects.put("m/model.safetensors", safetensors_file({"w": ("F32", ROWS)}))
    with embstore.open(f"{object_url}/synced") as store:
        assert np.array_equal(store[["word-7", "word-5000"]], ROWS[[7, 5000]])
    for name in ("m", "m/model.safetensors"):
        with embstore.open(f"{object_url}/{name}") as store:
            assert np.array_equal(store[[7, 5000]], ROWS[[7, 5000]])
    with pytest.raises(StoreNotFoundError, match="no store at"):
        embstore.open(f"{object_url}/nothing")


def test_replaced_object_is_an_error(object_url, path):
    from embstore.remote.urls import objects_at

    version = embstore.publish(path, object_url).version
    with embstore.open(object_url) as store:
        assert np.array_equal(store[0], ROWS[0])
        name = f"{version}/partitions/0/c/0/0"
        objects = objects_at(object_url)
        objects.put(name, bytes(256 * 160 + 4))
        with pytest.raises(RemoteError):
            store.lookup([0])
        objects.delete([name])
        with pytest.raises((RemoteError, StoreNotFoundError)):
            store.lookup([0])
        assert np.array_equal(store[1], ROWS[1])  # Another partition.


def test_fork_notices(object_url, path):
    embstore.publish(path, object_url)
    with embstore.open(object_url) as store:
        store.lookup([1])
        child = os.fork()
        if not child:
            status = 1
            try:
                store.lookup([1])
            except RemoteError:
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert np.array_equal(store[1], ROWS[1])


def test_web_server(tmp_path, file_server: FileServer, path):
    url = f"{file_server.url}/tables"
    embstore.publish(path, (file_server.directory / "tables").as_uri())
    (file_server.directory / "model.safetensors").write_bytes(
        safetensors_file({"w": ("F32", ROWS)})
    )
    with embstore.open(url) as store:
        assert np.array_equal(store[WORDS[::100]], ROWS[::100])
        assert store.to_numpy().tobytes() == ROWS.tobytes()
        with pickle.loads(pickle.dumps(store)) as other:
            assert np.array_equal(other[8], ROWS[8])
    with embstore.open(f"{file_server.url}/model.safetensors") as store:
        assert np.array_equal(store[[7, 5000]], ROWS[[7, 5000]])
    for name in ("nothing", "nothing.npy"):
        with pytest.raises(StoreNotFoundError, match="no store at"):
            embstore.open(f"{file_server.url}/{name}")
    with pytest.raises(ValueError, match="allow_http"):
        embstore.open("http://example.org/tables")
