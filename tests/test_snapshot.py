"""Snapshots: the same table under another path, whole whatever happens to the store."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore import syscalls
from embstore.errors import (
    StoreBusyError,
    StoreCorruptError,
    StoreExistsError,
    StoreNotFoundError,
    StoreVersionError,
)
from tests.campaigns import stores
from tests.campaigns.faults import Failer, Recorder, by_clones, by_copies, by_links, steps
from tests.helpers.stores import make_store, names, value_of, write_store
from tests.test_open_in_place import safetensors_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).parent / "golden"
ROWS = np.arange(92, dtype=np.float32).reshape(23, 4) - 40
WORDS = [f"w{number}" for number in range(23)]
STORES: dict[str, dict[str, Any]] = {
    "plain": {"words": WORDS, "partitions": 3, "chunk_rows": 2},
    "compressed": {"words": WORDS, "partitions": 2, "chunk_rows": 4, "compression": "zstd"},
    "encoded": {"encoding": "int8", "partitions": 2},
    "without words": {"partitions": 5, "strategy": "div"},
    "empty": {"rows": 0},
    "scalars": {"columns": 1},
}


def write(path: Path, kind: str) -> None:
    options = dict(STORES[kind])
    table = ROWS[: options.pop("rows", 23)]
    if options.pop("columns", 4) == 1:
        table = table[:, 0]
    make_store(path, table, options.pop("words", None), **options).close()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "old").mkdir()
    write(tmp_path / "old" / "s", "plain")
    return tmp_path / "old" / "s"


def same(path: Path, other: Path) -> bool:
    """Return whether two stores have the same files, and are whole."""
    found = [
        {file.relative_to(p): file.read_bytes() for file in stores.files_of(p)}
        for p in (path, other)
    ]
    return found[0] == found[1] and embstore.verify(path).ok and embstore.verify(other).ok


def inodes(path: Path) -> dict[str, int]:
    return {str(f.relative_to(path)): f.stat().st_ino for f in stores.files_of(path)}


@pytest.mark.parametrize("kind", STORES)
def test_snapshot_is_the_same_table(tmp_path, kind):
    write(tmp_path / "s", kind)
    report = embstore.snapshot(tmp_path / "s", tmp_path / "t")
    assert same(tmp_path / "s", tmp_path / "t")
    assert names(tmp_path) == ["s", "t"]
    with embstore.open(tmp_path / "s") as one, embstore.open(tmp_path / "t") as other:
        assert one.fingerprint() == other.fingerprint() == report.fingerprint
        assert np.array_equal(one[:], other[:])
    chunks = [file for file in stores.files_of(tmp_path / "t") if file.name != "zarr.json"]
    assert report.chunks_linked == len(chunks)
    assert report.bytes_written == (tmp_path / "s" / "zarr.json").stat().st_size
    assert (report.rows, report.chunks_rewritten, report.rows_appended) == (0, 0, 0)


@pytest.mark.parametrize("name", ["v1-words-mod", "v1-zstd", "v1-int4"])
def test_stores_of_earlier_versions(tmp_path, name):
    """Those of embstore 0.1 do not state a fingerprint."""
    shutil.copytree(GOLDEN / f"{name}.embstore", tmp_path / "s")
    report = embstore.snapshot(tmp_path / "s", tmp_path / "t")
    assert same(tmp_path / "s", tmp_path / "t")
    with embstore.open(tmp_path / "s") as store:
        assert report.fingerprint == store.fingerprint()


@pytest.mark.parametrize("take", [by_links, by_clones, by_copies])
def test_files_are_linked_or_copied(tmp_path, store, take):
    with take():
        report = embstore.snapshot(store, tmp_path / "t")
    assert same(store, tmp_path / "t")
    one, other = inodes(store), inodes(tmp_path / "t")
    shared = {name for name in one if one[name] == other[name]}
    assert shared == (one.keys() - {"zarr.json"} if take is by_links else set())
    if take is by_copies:
        assert report.bytes_written == sum(f.stat().st_size for f in stores.files_of(store))
    assert report.chunks_linked == len(stores.chunk_files(store))


@pytest.mark.parametrize("number", sorted(syscalls.UNSUPPORTED))
def test_refused_links_and_clones_become_copies(tmp_path, store, monkeypatch, number):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(syscalls, "clone", refuse)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    embstore.snapshot(store, tmp_path / "t")
    assert same(store, tmp_path / "t")


def test_copy_goes_on_where_the_kernel_stops(tmp_path, store, monkeypatch):
    """Some file systems copy a part, and then say that nothing is left."""
    copied = []

    def copy_some(source: int, to: int, count: int, offset: int, to_offset: int) -> int:
        copied.append(count)
        data = os.pread(source, min(count, 5), offset) if len(copied) % 3 else b""
        return os.pwrite(to, data, to_offset)

    monkeypatch.setattr(os, "copy_file_range", copy_some)
    with by_copies():
        embstore.snapshot(store, tmp_path / "t")
    assert same(store, tmp_path / "t")
    assert copied


@pytest.mark.parametrize("kind", ["link", "clone", "copy", "write", "flush", "syncfs", "exchange"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_failing_step_ends_the_snapshot(tmp_path, store, kind, number):
    write_store(tmp_path / "t", 5)
    failer = Failer(lambda step: step.kind == kind and "old" not in str(step.path.parent), number)
    if kind in ("link", "clone", "copy"):
        failer = Failer(lambda step: step.kind == kind, number)
    take = {"clone": by_clones, "copy": by_copies}.get(kind, by_links)
    with take(), steps(failer, syncs=kind == "syncfs"), pytest.raises(OSError) as error:  # noqa: PT011
        embstore.snapshot(store, tmp_path / "t", overwrite=True)
    assert error.value.errno == number
    assert str(error.value.filename).startswith(str(tmp_path))
    assert value_of(tmp_path / "t") == 5
    assert names(tmp_path) == ["old", "t"]
    assert embstore.verify(store).ok


@pytest.mark.parametrize("take", [by_links, by_clones, by_copies])
@pytest.mark.parametrize("removed", ["store", "snapshot"])
def test_removing_either_leaves_the_other(tmp_path, store, take, removed):
    expected = {file.name: file.read_bytes() for file in stores.files_of(store)}
    with take():
        embstore.snapshot(store, tmp_path / "t")
    gone, left = (store, tmp_path / "t") if removed == "store" else (tmp_path / "t", store)
    shutil.rmtree(gone)
    assert embstore.verify(left).ok
    assert {file.name: file.read_bytes() for file in stores.files_of(left)} == expected
    with embstore.open(left) as found:
        assert np.array_equal(found[:], ROWS)


def test_replacing_either_leaves_the_other(tmp_path, store):
    embstore.snapshot(store, tmp_path / "t")
    write_store(store, 1, overwrite=True)
    with embstore.open(tmp_path / "t") as found:
        assert np.array_equal(found[WORDS], ROWS)
    embstore.snapshot(tmp_path / "t", store, overwrite=True)
    write_store(tmp_path / "t", 2, overwrite=True)
    with embstore.open(store) as found:
        assert np.array_equal(found[WORDS], ROWS)
    assert embstore.verify(store).ok
    assert embstore.verify(tmp_path / "t").ok


def test_editing_attributes_of_either_leaves_the_other(tmp_path, store):
    """The root metadata is the only file that other programs may edit in place."""
    embstore.snapshot(store, tmp_path / "t")
    with (tmp_path / "t" / "zarr.json").open("r+") as file:
        document = json.load(file)
        document["attributes"]["mine"] = "x" * 1000
        file.seek(0)
        json.dump(document, file)
    assert embstore.verify(tmp_path / "t").ok
    assert b"xxx" not in (store / "zarr.json").read_bytes()
    embstore.snapshot(tmp_path / "t", tmp_path / "u")
    assert b"xxx" in (tmp_path / "u" / "zarr.json").read_bytes()


def test_open_readers_of_a_replaced_snapshot_keep_it(tmp_path, store):
    write_store(tmp_path / "t", 7)
    with embstore.open(tmp_path / "t") as old:
        embstore.snapshot(store, tmp_path / "t", overwrite=True)
        assert (old[:] == 7).all()
    assert same(store, tmp_path / "t")


def test_other_file_system(small_disk, store):
    report = embstore.snapshot(store, small_disk / "t")
    assert same(store, small_disk / "t")
    assert report.bytes_written == sum(f.stat().st_size for f in stores.files_of(store))


def test_full_disk(small_disk, tmp_path):
    make_store(tmp_path / "s", np.ones((4000, 128), np.float32)).close()
    write_store(small_disk / "t", 3)
    with pytest.raises(OSError, match=r"No space left.*free some space") as error:
        embstore.snapshot(tmp_path / "s", small_disk / "t", overwrite=True)
    assert error.value.errno == errno.ENOSPC
    assert names(small_disk) == ["t"]
    assert value_of(small_disk / "t") == 3


# Links inside a store, as in a model cache.


@pytest.mark.parametrize("take", [by_links, by_clones, by_copies])
def test_links_become_files(tmp_path, store, take):
    (tmp_path / "blobs").mkdir()
    before = {str(f.relative_to(store)): f.read_bytes() for f in stores.files_of(store)}
    for number, file in enumerate(stores.files_of(store)):
        file.rename(tmp_path / "blobs" / str(number))
        file.symlink_to(tmp_path / "blobs" / str(number))
    with take():
        embstore.snapshot(store, tmp_path / "t")
    shutil.rmtree(tmp_path / "blobs")
    assert not any(file.is_symlink() for file in (tmp_path / "t").rglob("*"))
    assert embstore.verify(tmp_path / "t").ok
    found = tmp_path / "t"
    assert {str(f.relative_to(found)): f.read_bytes() for f in stores.files_of(found)} == before


NAMES = ("partitions/1/c/1/0", "vocabulary/bytes/c/0", "partitions/1/zarr.json")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("same_end", [False, True])
def test_links_to_other_files_are_refused(tmp_path, store, name, same_end):
    """Nothing of the file is copied, even if its size and its last bytes are right."""
    data = (store / name).read_bytes()
    secret = b"the secret of another user"
    (tmp_path / "secret").write_bytes(
        (secret * 20)[: len(data) - 4] + data[-4:] if same_end else secret
    )
    (store / name).unlink()
    (store / name).symlink_to(tmp_path / "secret")
    recorder = Recorder(tmp_path)
    with (
        steps(recorder),
        pytest.raises(StoreCorruptError, match=f"{name} is a symbolic link to a file") as error,
    ):
        embstore.snapshot(store, tmp_path / "t")
    assert "secret of" not in str(error.value)
    created = [str(step.path) for step in recorder.log if step.kind == "create"]
    assert not [path for path in created if path.endswith(name)]
    assert names(tmp_path) == ["old", "secret"]


@pytest.mark.parametrize(
    "name", ["partitions", "partitions/1", "partitions/1/c", "vocabulary/bytes"]
)
def test_directories_that_are_links_are_refused(tmp_path, store, name):
    (store / name).rename(tmp_path / "elsewhere")
    (store / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreCorruptError, match=f"{name} is not a directory"):
        embstore.snapshot(store, tmp_path / "t")
    assert names(tmp_path) == ["elsewhere", "old"]


def test_store_behind_a_link(tmp_path, store):
    (tmp_path / "current").symlink_to(store)
    embstore.snapshot(tmp_path / "current", tmp_path / "t")
    assert same(store, tmp_path / "t")
    with pytest.raises(ValueError, match="target must be another path"):
        embstore.snapshot(tmp_path / "current", store, overwrite=True)
    with pytest.raises(StoreExistsError, match="is a symbolic link"):
        embstore.snapshot(tmp_path / "t", tmp_path / "current", overwrite=True)


# What is refused: the target is unchanged, and nothing is left.


def removed(store: Path, name: str) -> None:
    where = store / name
    shutil.rmtree(where) if where.is_dir() else where.unlink()


def cut(store: Path, name: str) -> None:
    data = (store / name).read_bytes()
    (store / name).write_bytes(data[:-1])


def changed(store: Path, name: str) -> None:
    data = (store / name).read_bytes()
    (store / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def made_fifo(store: Path, name: str) -> None:
    (store / name).unlink()
    os.mkfifo(store / name)


DAMAGE: list[tuple[Callable[[Path, str], None], str, str]] = [
    (removed, "partitions/1", "partitions/1.* is missing"),
    (removed, "partitions/2/c/0/0", "partitions/2/c/0/0 is missing"),
    (removed, "vocabulary", "vocabulary.* is missing"),
    (removed, "vocabulary/slots/zarr.json", "vocabulary/slots/zarr.json is missing"),
    (cut, "partitions/0/c/0/0", "partitions/0/c/0/0 has 35 bytes, expected 36"),
    (changed, "partitions/0/c/0/0", "partitions/0/c/0/0: its checksum is"),
    (changed, "partitions/2/zarr.json", "partitions/2/zarr.json"),
    (cut, "zarr.json", "zarr.json"),
    (made_fifo, "partitions/0/c/0/0", "partitions/0/c/0/0 is not a regular file"),
    (made_fifo, "vocabulary/zarr.json", "vocabulary/zarr.json is not a regular file"),
]


@pytest.mark.parametrize(("damage", "name", "message"), DAMAGE)
def test_damaged_store_is_refused(tmp_path, store, damage, name, message):
    write_store(tmp_path / "t", 4)
    damage(store, name)
    with pytest.raises(StoreCorruptError, match=f"{store}/.*{message}|{store}/{message}"):
        embstore.snapshot(store, tmp_path / "t", overwrite=True)
    assert value_of(tmp_path / "t") == 4
    assert names(tmp_path) == ["old", "t"]


def test_files_of_a_newer_embstore_are_refused(tmp_path, store):
    """They would be missing in the snapshot."""
    stores.edit(
        store / "zarr.json", lambda own: own["metadata_crc32c"].update({"novelty/zarr.json": 0})
    )
    stores.reseal(store)
    with embstore.open(store):
        pass
    with pytest.raises(StoreVersionError, match=r"'novelty/zarr.json'; upgrade it"):
        embstore.snapshot(store, tmp_path / "t")
    assert names(tmp_path) == ["old"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("old/s", "target must be another path"),
        ("old/../old/s", "target must be another path"),
        ("old/s/t", "target must be outside of the store"),
        ("old", "target must not hold the store itself"),
    ],
)
def test_paths_in_each_other_are_refused(tmp_path, store, target, message):
    with pytest.raises(ValueError, match=message):
        embstore.snapshot(store, tmp_path / target, overwrite=True)
    assert names(store) == ["partitions", "vocabulary", "zarr.json"]
    assert embstore.verify(store).ok


def test_urls_are_refused(tmp_path, store):
    with pytest.raises(ValueError, match=r"path must be a local path, not the URL .*version="):
        embstore.snapshot("s3://bucket/glove", tmp_path / "t")
    with pytest.raises(ValueError, match=r"target must be a local path.*embstore.publish"):
        embstore.snapshot(store, "s3://key:secret@bucket/glove")
    with pytest.raises(TypeError, match="path must be a str"):
        embstore.snapshot(3, tmp_path / "t")  # type: ignore[arg-type]


def test_what_is_not_a_store_is_refused(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(safetensors_bytes({"a": ROWS}))
    (tmp_path / "model").mkdir()
    shutil.copy(tmp_path / "m.safetensors", tmp_path / "model")
    np.save(tmp_path / "a.npy", ROWS)
    (tmp_path / "text").write_text("no table")
    before = names(tmp_path)
    remedy = "not a store; copy it, or build a store from it by embstore.build"
    for name, what in [
        ("m.safetensors", "safetensors"),
        ("model", "safetensors"),
        ("a.npy", "npy"),
    ]:
        with pytest.raises(StoreNotFoundError, match=f"{what}.*{remedy}"):
            embstore.snapshot(tmp_path / name, tmp_path / "t")
    for name in ("text", "missing"):
        with pytest.raises(StoreNotFoundError, match="no store at"):
            embstore.snapshot(tmp_path / name, tmp_path / "t")
    assert names(tmp_path) == before


def test_targets(tmp_path, store):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    write_store(tmp_path / "t", 6)
    with pytest.raises(StoreExistsError, match="overwrite=True"):
        embstore.snapshot(store, tmp_path / "t")
    for name in ("folder", "file"):
        with pytest.raises(StoreExistsError, match="not a store"):
            embstore.snapshot(store, tmp_path / name, overwrite=True)
    with pytest.raises(StoreNotFoundError, match="does not exist; make it first"):
        embstore.snapshot(store, tmp_path / "missing" / "t")
    assert value_of(tmp_path / "t") == 6
    assert names(tmp_path) == ["file", "folder", "old", "t"]


# Others at work.


def test_store_that_is_being_changed(tmp_path, store):
    with embstore.StoreWriter(store, row_shape=(4,), dtype="float32", overwrite=True) as writer:
        writer.write(ROWS[:5])
        embstore.snapshot(store, tmp_path / "t")
        assert same(store, tmp_path / "t")
    with embstore.open(store) as new, embstore.open(tmp_path / "t") as old:
        assert (new.rows, old.rows) == (5, 23)


def test_target_that_is_being_written(tmp_path, store):
    with (
        embstore.StoreWriter(tmp_path / "t", row_shape=(4,), dtype="float32"),
        pytest.raises(StoreBusyError, match="another build is writing"),
    ):
        embstore.snapshot(store, tmp_path / "t")


@pytest.mark.parametrize("take", [by_links, by_copies])
@pytest.mark.parametrize("when", range(1, 36, 5))
def test_store_that_is_replaced_meanwhile(tmp_path, monkeypatch, take, when, way):
    """The snapshot is one whole version, the old or the new one."""
    write_store(tmp_path / "s", 1)
    count = 0

    def replace(step: Any, do: Callable[[], Any]) -> Any:
        nonlocal count
        if step.kind in ("link", "copy", "create", "mkdir") and ".t." in str(step.to or step.path):
            count += 1
            if count == when:
                write_store(tmp_path / "s", 2, overwrite=True)
        return do()

    with take(), steps(replace):
        report = embstore.snapshot(tmp_path / "s", tmp_path / "t")
    assert count >= when
    assert value_of(tmp_path / "t") in (1, 2)
    assert embstore.verify(tmp_path / "t").ok
    with embstore.open(tmp_path / "t") as found:
        assert found.fingerprint() == report.fingerprint
    assert names(tmp_path) == ["s", "t"]


def test_store_that_is_always_replaced(tmp_path):
    write_store(tmp_path / "s", 0)
    count = 0

    def replace(step: Any, do: Callable[[], Any]) -> Any:
        nonlocal count
        if step.kind == "link":
            count += 1
            write_store(tmp_path / "s", count, overwrite=True)
        return do()

    with steps(replace), pytest.raises(StoreBusyError, match="was replaced 20 times"):
        embstore.snapshot(tmp_path / "s", tmp_path / "t")
    assert names(tmp_path) == ["s"]


def test_store_that_is_removed_meanwhile(tmp_path, store):
    def remove(step: Any, do: Callable[[], Any]) -> Any:
        if step.kind == "link" and store.exists():
            shutil.rmtree(store)
        return do()

    with steps(remove), pytest.raises(StoreNotFoundError, match="no store at"):
        embstore.snapshot(store, tmp_path / "t")
    assert names(tmp_path) == ["old"]


def test_interrupt_leaves_nothing(tmp_path, store):
    def interrupt(_: embstore.Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embstore.snapshot(store, tmp_path / "t", progress=interrupt)
    assert names(tmp_path) == ["old"]


def test_progress_counts_the_bytes_of_chunks(tmp_path, store):
    seen: list[embstore.Progress] = []
    embstore.snapshot(store, tmp_path / "t", progress=seen.append)
    total = sum(file.stat().st_size for file in stores.chunk_files(store))
    assert seen[-1] == embstore.Progress(total, total)
    assert [one.done_bytes for one in seen] == sorted({one.done_bytes for one in seen})
    assert len(seen) == len(stores.chunk_files(store))


def test_attributes(tmp_path):
    tags = [f"tag {number}" for number in range(23)]
    attributes = {"count": np.arange(23), "tag": tags}
    embstore.build(ROWS, tmp_path / "s", words=WORDS, attributes=attributes).close()
    embstore.snapshot(tmp_path / "s", tmp_path / "t")
    assert same(tmp_path / "s", tmp_path / "t")
    shutil.rmtree(tmp_path / "s")
    with embstore.open(tmp_path / "t") as store:
        assert store.attributes["tag"][:].tolist() == tags
        assert store.attributes["count"][WORDS[7]] == 7


def test_other_files_of_the_directory_stay_behind(tmp_path, store):
    (store / "README").write_text("mine")
    embstore.snapshot(store, tmp_path / "t")
    assert names(tmp_path / "t") == ["partitions", "vocabulary", "zarr.json"]
