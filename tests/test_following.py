"""Readers that follow a path: `is_current`, `reload`, and what the old store still answers.

The model is a list of tables, one for each version: all numbers of version k are k.
"""

from __future__ import annotations

import os
import pickle
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.errors import RemoteError, StoreChangedError, StoreClosedError, StoreNotFoundError
from embstore.interop.keyedvectors import KeyedVectors
from embstore.writing.disk.replacement import aside_path, copied_path
from tests.campaigns.faults import on_overlay
from tests.helpers.gguf_files import Entry, GgufFile
from tests.helpers.programs import environment
from tests.helpers.safetensors_files import safetensors_file

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS, WIDTH = 40, 8


def table(number: int, rows: int = ROWS) -> np.ndarray:
    return np.full((rows, WIDTH), number, np.float32)


def words_of(rows: int = ROWS) -> list[str]:
    return [f"w{number}" for number in range(rows)]


def build(path: Path, number: int, rows: int = ROWS, **options: Any) -> None:
    settings: dict[str, Any] = {"partitions": 2, "words": words_of(rows), "overwrite": True}
    embstore.build(table(number, rows), path, **(settings | options)).close()


def compressed(path: Path, number: int, rows: int = ROWS) -> None:
    build(path, number, rows, compression="zstd")


def encoded(path: Path, number: int, rows: int = ROWS) -> None:
    build(path, number, rows, encoding="int8")


def published(path: Path, number: int, rows: int = ROWS) -> None:
    build(path.with_name("source"), number, rows)
    embstore.publish(path.with_name("source"), path.as_uri())


def in_new_file(path: Path, data: bytes) -> None:
    path.with_name("other").write_bytes(data)
    path.with_name("other").replace(path)


def npy(path: Path, number: int, rows: int = ROWS) -> None:
    with path.with_name("other").open("wb") as file:
        np.save(file, table(number, rows))
    path.with_name("other").replace(path)


def safetensors(path: Path, number: int, rows: int = ROWS) -> None:
    in_new_file(path, safetensors_file({"a": ("F32", table(number, rows))}, 3))


def parts(path: Path, number: int, rows: int = ROWS) -> None:
    """A directory of parts, to which one is added; its rows count as those of version 1."""
    path.mkdir(exist_ok=True)
    for part in range(rows // ROWS + number):
        data = safetensors_file({f"a.{part}": ("F32", table(number))}, 3)
        in_new_file(path / f"{part}.safetensors", data)


def gguf(path: Path, number: int, rows: int = ROWS) -> None:
    shown = table(number, rows)
    in_new_file(path, bytes(GgufFile([Entry("a", "F32", shown.shape, shown.tobytes())])))


@dataclass
class Kind:
    """A kind of table that may be followed."""

    write: Callable[..., None]
    name: str = "t.embstore"
    options: dict[str, Any] = field(default_factory=dict)
    is_url: bool = False
    keeps_rows: bool = True  # Where rows are read when they are needed, replaced files are lost.

    def given(self, folder: Path) -> str | Path:
        path = folder / self.name
        return path.as_uri() if self.is_url else path


KINDS = {
    "mapped": Kind(build),
    "chunked": Kind(build, options={"reader": "chunked"}, keeps_rows=False),
    "preloaded": Kind(build, options={"preload": True}),
    "row cache": Kind(build, options={"row_cache": "1MiB"}),
    "verified": Kind(build, options={"verify": "full"}),
    "partitions": Kind(build, options={"partitions": [1]}),
    "compressed": Kind(compressed),
    "encoded": Kind(encoded),
    "npy": Kind(npy, "t.npy"),
    "chunked npy": Kind(npy, "t.npy", {"reader": "chunked"}, keeps_rows=False),
    "safetensors": Kind(safetensors, "t.safetensors"),
    "gguf": Kind(gguf, "t.gguf"),
    "store at a URL": Kind(build, is_url=True, keeps_rows=False),
    "published": Kind(published, "p", is_url=True),
    "cached": Kind(published, "p", {"cache_dir": "cache"}, is_url=True),
    "npy at a URL": Kind(npy, "t.npy", is_url=True, keeps_rows=False),
}


def shows(store: embstore.EmbeddingStore, number: int, rows: int = ROWS) -> bool:
    """Say whether a store, of which partition 1 may be open alone, has a version."""
    ids = np.arange(1, rows, 2)
    found = np.allclose(store.lookup(ids), table(number, len(ids)), rtol=0.01)
    return found and store.rows == rows


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_newest_version(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind.write(tmp_path / kind.name, 1)
    old = embstore.open(kind.given(tmp_path), **kind.options)
    fingerprint, identity, source = old.fingerprint(), old.identity, old.source
    assert old.is_current()
    assert old.reload() is old
    kind.write(tmp_path / kind.name, 2, ROWS + 6)
    for _ in range(2):
        assert not old.is_current()
    with old.reload() as new:
        assert new is not old
        assert shows(new, 2, ROWS + 6)
        assert new.is_current()
        assert new.reload() is new
        assert new.fingerprint() != fingerprint
        assert new.partitions == old.partitions
        assert new.mapped == old.mapped
    assert old.fingerprint() == fingerprint
    assert old.matches(fingerprint)
    assert not old.matches(32 * "0")
    assert old.source == source
    assert old.rows == ROWS
    if kind.keeps_rows:
        assert shows(old, 1)
        assert old.identity == identity
    else:
        with pytest.raises((StoreNotFoundError, RemoteError)):
            shows(old, 1)
    if old.has_words and kind.keeps_rows:
        assert old.words([1, ROWS - 1]) == ["w1", f"w{ROWS - 1}"]
        assert np.asarray(old.ids(["w3"], missing="none")).tolist() == [3]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_path_without_anything(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / kind.name
    kind.write(path, 1)
    with embstore.open(kind.given(tmp_path), **kind.options) as old:
        fingerprint = old.fingerprint()
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        assert not old.is_current()
        with pytest.raises(StoreNotFoundError):
            old.reload()
        assert old.fingerprint() == fingerprint
        kind.write(path, 3)
        with old.reload() as new:
            assert shows(new, 3)
    for call in (old.is_current, old.reload):
        with pytest.raises(StoreClosedError):
            call()


def copy(path: Path) -> None:
    shutil.copytree(path, path.with_name("copy"))
    shutil.rmtree(path)
    path.with_name("copy").rename(path)


def copy_aside_and_back(path: Path) -> None:
    shutil.copytree(path, path.with_name("copy"))
    build(path, 2)
    shutil.rmtree(path)
    path.with_name("copy").rename(path)


def link(path: Path) -> None:
    """What a snapshot makes: the same files under another path."""
    shutil.copytree(path, path.with_name("links"), copy_function=os.link)
    shutil.rmtree(path)
    path.with_name("links").rename(path)


def move(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))


def touch(path: Path) -> None:
    os.utime(path / "zarr.json")


@pytest.mark.parametrize("options", [{}, {"partitions": [0]}, {"reader": "chunked"}], ids=str)
@pytest.mark.parametrize("change", [copy, copy_aside_and_back, link, move, touch])
def test_same_version_in_other_files(change, options, target):
    build(target, 1)
    with embstore.open(target, **options) as store:
        change(target)
        for _ in range(2):
            assert store.is_current()
        assert store.reload() is store
        build(target.resolve(), 2)
        assert not store.is_current()


def test_part_without_words(target):
    build(target, 1)
    shutil.rmtree(target / "vocabulary")
    shutil.rmtree(target / "partitions" / "0")
    with embstore.open(target, partitions=[1]) as store:
        touch(target)
        assert store.is_current()


def test_link_to_the_current_version(tmp_path):
    for number in (1, 2):
        build(tmp_path / f"v{number}", number)
    current = tmp_path / "current"
    current.symlink_to("v1")
    with embstore.open(current) as store:
        assert store.is_current()
        (tmp_path / "next").symlink_to("v2")
        (tmp_path / "next").replace(current)
        assert not store.is_current()
        with store.reload() as new:
            assert shows(new, 2)


def test_another_layout_is_another_version(target):
    build(target, 1)
    with embstore.open(target) as store:
        build(target, 1, partitions=4)
        assert not store.is_current()
        with store.reload() as new:
            assert new.partition_count == 4
            assert new.fingerprint() == store.fingerprint()


@pytest.mark.parametrize("is_url", [False, True])
def test_moments_of_a_replacement(target, is_url):
    """Between two renames, the old version is where an open would find it."""
    build(target, 1)
    build(target.with_name("new"), 2)
    with embstore.open(target.as_uri() if is_url else target) as store:
        target.rename(aside_path(target))
        assert store.is_current()
        target.with_name("new").rename(target)
        assert not store.is_current()  # The old one is still aside.
        with store.reload() as new:
            assert shows(new, 2)
            target.rename(copied_path(target))  # As on an overlay, whose metadata goes first.
            target.mkdir()
            assert new.is_current()
            assert not store.is_current()


def test_damaged_version(target):
    build(target, 1)
    with embstore.open(target) as store:
        (target / "zarr.json").write_text("{")
        assert not store.is_current()
        with pytest.raises(embstore.StoreCorruptError, match="JSON"):
            store.reload()
        assert shows(store, 1)


def test_path_that_cannot_be_looked_at(target, monkeypatch):
    """A path that may not be searched is not a store that was removed."""
    build(target, 1)
    with embstore.open(target) as store:

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", refuse)
            with pytest.raises(PermissionError):
                store.is_current()
        assert store.is_current()


def test_another_working_directory(target, monkeypatch):
    build(target, 1)
    monkeypatch.chdir(target.parent)
    with embstore.open(target.name) as store:
        (target.parent / "elsewhere").mkdir()
        monkeypatch.chdir(target.parent / "elsewhere")
        assert store.is_current()
        build(target, 2)
        with store.reload() as new:
            assert shows(new, 2)


def test_copies_of_an_old_store(target):
    build(target, 1)
    with embstore.open(target) as store:
        pickled = pickle.dumps(store)
        build(target, 2)
        with pytest.raises(StoreChangedError):
            pickle.dumps(store)
        with pytest.raises(StoreChangedError):
            pickle.loads(pickled)
        with pickle.loads(pickle.dumps(store.reload())) as twin:
            assert twin.is_current()
            build(target, 3)
            with twin.reload() as new:
                assert shows(new, 3)


def test_version_chosen_at_a_url(tmp_path):
    url = (tmp_path / "p").as_uri()
    published(tmp_path / "p", 1)
    first = embstore.versions(url)[0].version
    with embstore.open(url, version=first) as store:
        assert store.is_current()
        published(tmp_path / "p", 2)
        assert not store.is_current()
        with store.reload() as new:
            assert shows(new, 2)
            assert new.is_current()
        assert shows(store, 1)
        published(tmp_path / "p", 1)
        assert store.is_current()


def test_store_at_a_url_that_is_published_over(tmp_path):
    path = tmp_path / "t"
    build(path, 1)
    with embstore.open(path.as_uri()) as store:
        assert store.is_current()
        assert store.reload() is store
    published(path, 1)
    with embstore.open(path.as_uri()) as store:
        assert store.is_current()
        published(path, 2)
        assert not store.is_current()
        (path / "current.json").write_text("{")
        assert not store.is_current()
        with pytest.raises(embstore.StoreCorruptError):
            store.reload()


def test_versions_on_an_object_store(object_url, tmp_path):
    build(tmp_path / "s", 1)
    embstore.publish(tmp_path / "s", object_url)
    with embstore.open(object_url) as store:
        assert store.is_current()
        build(tmp_path / "s", 2)
        embstore.publish(tmp_path / "s", object_url)
        assert not store.is_current()
        with store.reload() as new:
            assert shows(new, 2)
            assert new.is_current()
        assert shows(store, 1)
        child = os.fork()  # Where obstore would hang.
        if not child:
            status = 1
            try:
                store.is_current()
            except RemoteError as error:
                status = 0 if "forked" in str(error) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_parts_that_join_a_model(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    for part in range(2):
        data = safetensors_file({f"a.{part}": ("F32", table(1))}, 3)
        (model / f"{part}.safetensors").write_bytes(data)
    with embstore.open(model, tensor="a.{}") as store:
        (model / "README.md").write_text("unrelated")
        assert store.is_current()
        (model / "2.safetensors").write_bytes(safetensors_file({"a.2": ("F32", table(1))}, 3))
        assert not store.is_current()
        with store.reload() as new:
            assert new.rows == 3 * ROWS
            (model / "1.safetensors").unlink()
            assert not new.is_current()
        shutil.rmtree(model)
        assert not store.is_current()


def test_foreign_file_that_is_changed_in_place(tmp_path):
    """A mapping shows such a change, so the fingerprint does not answer for it."""
    np.save(tmp_path / "t.npy", table(1))
    with embstore.open(tmp_path / "t.npy") as store:
        store.fingerprint()
        np.save(tmp_path / "t.npy", table(2, ROWS + 1))
        assert not store.is_current()
        with pytest.raises(StoreNotFoundError):
            store.fingerprint()
        with store.reload() as new:
            assert shows(new, 2, ROWS + 1)


def test_file_of_the_same_size_and_time(tmp_path):
    np.save(tmp_path / "t.npy", table(1))
    status = (tmp_path / "t.npy").stat()
    with embstore.open(tmp_path / "t.npy") as store:
        npy(tmp_path / "t.npy", 2)
        os.utime(tmp_path / "t.npy", ns=(status.st_atime_ns, status.st_mtime_ns))
        assert not store.is_current()
        with store.reload() as new:
            assert shows(new, 2)


def test_views(target):
    build(target, 1)
    with embstore.open(target) as store:
        view = store.view(10, 20)
        assert view.is_current()
        assert view.reload() is view
        build(target, 2, ROWS + 2)
        new = view.reload()
        assert (new.start, new.stop) == (10, 20)
        assert np.array_equal(new.lookup([10, 19]), table(2, 2))
        assert np.array_equal(view.lookup([10, 19]), table(1, 2))
        build(target, 3, 12)
        with pytest.raises(embstore.IdRangeError):
            new.reload()


def test_keyed_vectors(target):
    build(target, 1)
    old = KeyedVectors(embstore.open(target))
    assert old.is_current()
    assert old.reload() is old
    build(target, 2, ROWS + 1)
    assert not old.is_current()
    new = old.reload()
    assert (len(old), len(new)) == (ROWS, ROWS + 1)
    assert (new["w40"] == 2).all()
    assert (old["w1"] == 1).all()
    assert "w40" not in old
    assert new.norms.shape == (ROWS + 1,)


def test_stores_at_servers(target):
    pytest.importorskip("pyarrow.flight")
    build(target, 1)
    with embstore.serve(target) as server:
        port = int(server.address.rpartition(":")[2])
        remote = embstore.connect(server.address)
        assert remote.is_current()
        assert remote.reload() is remote
        build(target, 2, ROWS + 2)
        assert remote.is_current()  # The server keeps the version that it has.
    with embstore.serve(target, port=port) as server:
        assert not remote.is_current()
        with remote.reload() as new:
            assert shows(new, 2, ROWS + 2)
            assert new.is_current()
            view = new.view(1, 3)
            assert view.reload() is view
        assert remote.fingerprint() != new._served.fingerprint
    with pytest.raises(RemoteError, match="no answer"):
        remote.is_current()
    remote.close()
    with pytest.raises(StoreClosedError):
        remote.is_current()


def test_forked_child(target):
    build(target, 1)
    with embstore.open(target) as store:
        assert store.is_current()
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                build(target, 2)
                new = store.reload()
                good = shows(new, 2) and shows(store, 1) and not store.is_current()
                os.write(writing, b"good" if good else b"wrong")
            finally:
                os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        assert os.read(reading, 10) == b"good"
        os.close(reading)
        with store.reload() as new:
            assert shows(new, 2)


WRITER = """
import sys
import numpy as np
import embstore
from tests.campaigns.faults import in_one_step, in_two_steps

path, way, last = sys.argv[1:]
with in_two_steps() if way == "two renames" else in_one_step():
    for number in range(2, int(last) + 1):
        rows = np.full((40 + number, 8), number, np.float32)
        words = [f"w{row}" for row in range(len(rows))]
        embstore.upsert(path, rows, words=words)
"""


@pytest.mark.parametrize(("way", "last"), [("exchange", 101), ("two renames", 13)])
def test_threads_that_follow_a_writer(target, way, last):
    """Every result is of one version, versions come in order, and no call fails."""
    import subprocess  # Only this test starts a process that it does not wait for.
    import sys

    build(target, 1)
    done = threading.Event()
    problems: list[str] = []
    seen: list[set[int]] = []

    def follow(seed: int) -> None:
        random = np.random.default_rng(seed)
        store = embstore.open(target)
        numbers: set[int] = set()
        newest = 0
        try:
            while True:
                is_last = done.is_set()
                if not store.is_current():
                    store = store.reload()
                found = store.lookup(random.integers(0, store.rows, 64))
                number = int(found[0, 0])
                word = store[f"w{store.rows - 1}"]
                if not ((found == number).all() and (word == number).all()):
                    problems.append(f"rows of {np.unique(found)} and {np.unique(word)}")
                if number > 1 and store.rows != 40 + number:
                    problems.append(f"{store.rows} rows of version {number}")
                if number < newest:
                    problems.append(f"version {number} after {newest}")
                newest = number
                numbers.add(number)
                if is_last:
                    break
                done.wait(0.001)  # Leaves time to the writer.
        except Exception as error:
            problems.append(repr(error))
            raise
        seen.append(numbers)

    threads = [threading.Thread(target=follow, args=(seed,)) for seed in range(2)]
    command = [sys.executable, "-c", WRITER, str(target), way, str(last)]
    with subprocess.Popen(command, env=environment()) as writer:
        for thread in threads:
            thread.start()
        assert writer.wait(600) == 0
        done.set()
        for thread in threads:
            thread.join(600)
    assert problems == []
    assert len(seen) == len(threads)
    assert all(last in numbers for numbers in seen)
    assert any(len(numbers) > 3 for numbers in seen)


def test_store_in_a_lower_layer(target):
    """A store that is copied before it is replaced is the same version meanwhile."""
    build(target, 1)
    with embstore.open(target) as store, on_overlay(target.parent):
        build(target, 2)
        assert not store.is_current()
        with store.reload() as new:
            assert shows(new, 2)
