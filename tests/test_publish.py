"""Publishing: what is uploaded, copied and kept, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import embstore
from embstore.errors import RemoteError, StoreBusyError, StoreCorruptError, StoreNotFoundError
from embstore.formats.own.layout import layout_of
from embstore.formats.own.manifest import read_manifest
from embstore.remote import local_store
from embstore.remote.pointer import find_pointer, move_pointer, read_pointer, resolve
from tests.helpers.objects import MemoryObjects, WatchedObjects
from tests.helpers.published import (
    ROWS,
    WORDS,
    build,
    changed,
    check_current,
    download,
    files_of,
    publish,
)
from tests.helpers.stores import flip

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.embstore"))
OTHER = f"{32 * 'e'}-00000001"


@pytest.fixture
def objects():
    return MemoryObjects()


@pytest.fixture
def store(tmp_path):
    return build(tmp_path / "s")


def total(path):
    return sum(map(len, files_of(path).values()))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_kind_of_store(tmp_path, objects, path):
    report = publish(path, objects)
    check_current(objects, tmp_path / "d", path)
    assert report.uploaded_bytes == report.byte_count == total(path)
    assert report.object_count == len(objects.find(f"{report.version}/")) == len(files_of(path))
    with embstore.open(path) as opened:
        assert report.fingerprint == opened.fingerprint()
    assert publish(path, objects).uploaded_bytes == 0
    assert resolve(objects, report.fingerprint) == resolve(objects) == report.version


@pytest.mark.parametrize("rows", [0, 1])
def test_small_stores(tmp_path, objects, rows):
    path = tmp_path / "s"
    embstore.build(np.ones((rows, 3)), path).close()
    publish(path, objects)
    check_current(objects, tmp_path / "d", path)


@pytest.mark.parametrize("held", [0, 100, 4 << 20])
def test_large_files_are_given_by_path(tmp_path, objects, store, monkeypatch, held):
    monkeypatch.setattr(local_store, "HELD_BYTES", held)
    paths = []

    def see(number, name, arguments):
        if name == "put" and isinstance(arguments[1], Path):
            paths.append(arguments[1])

    publish(store, WatchedObjects(objects, see))
    check_current(objects, tmp_path / "d", store)
    metadata = {store / "zarr.json"}
    expected = {one for one in store.rglob("*") if one.is_file()} - metadata
    assert set(paths) == {one for one in expected if one.stat().st_size > held}


def test_names_tell_all_bytes(tmp_path, objects, store):
    """Stores with the same name have the same files; other layouts have other names."""
    again = build(tmp_path / "again", source={"file": "elsewhere"})
    assert (again / "zarr.json").read_bytes() != (store / "zarr.json").read_bytes()
    layouts = {
        build(tmp_path / "a"),
        build(tmp_path / "b", partitions=2),
        build(tmp_path / "c", strategy="div"),
        build(tmp_path / "d", chunk_rows=16),
        build(tmp_path / "e", compression="zstd:1"),
        build(tmp_path / "f", compression="zstd:9"),
        build(tmp_path / "g", compression="blosc"),
    }
    names = {publish(path, objects).version for path in (store, again, *layouts)}
    assert len(names) == 7
    assert len({name.partition("-")[0] for name in names}) == 1
    others = {
        publish(build(tmp_path / "h", changed()), objects).fingerprint,
        publish(build(tmp_path / "i", ROWS.astype(np.float64)), objects).fingerprint,
        publish(build(tmp_path / "j", ROWS.reshape(100, 2, 2)), objects).fingerprint,
    }
    assert len(others | {name.partition("-")[0] for name in names}) == 4


def test_the_layout_as_specified(store):
    """Eight digits of a hash of the canonical text of some fields."""
    from xxhash import xxh3_128

    fields = json.loads((store / "zarr.json").read_text())["attributes"]["embstore"]
    for name in ("source", "created_by", "fingerprint", "format_version", "manifest_crc32c"):
        del fields[name]
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert layout_of(read_manifest(store)) == xxh3_128(text.encode()).hexdigest()[:8]


def test_publishing_again_only_moves_the_pointer(tmp_path, objects, store):
    first = publish(store, objects)
    other = publish(build(tmp_path / "o", changed()), objects)
    assert other.previous == first.version
    watched = WatchedObjects(objects)
    again = publish(store, watched)
    assert (again.version, again.previous) == (first.version, other.version)
    assert (again.uploaded_bytes, again.copied_bytes) == (0, 0)
    assert again.kept_bytes == again.byte_count
    assert [(name, arguments[0]) for name, arguments in watched.calls] == [("put", "current.json")]
    watched = WatchedObjects(objects)
    assert publish(store, watched).previous == first.version
    assert watched.calls == []
    # The same table in the same layout from another place is the same version.
    same = build(tmp_path / "same", source={"file": "elsewhere"})
    assert publish(same, objects).uploaded_bytes == 0
    check_current(objects, tmp_path / "d", store)


def test_chunks_of_other_versions_are_copied(tmp_path, objects, store):
    publish(store, objects)
    other = build(tmp_path / "o", changed())
    watched = WatchedObjects(objects)
    report = publish(other, watched)
    copied = {arguments[1] for name, arguments in watched.calls if name == "copy"}
    chunks = {name for name in files_of(other) if not name.endswith("zarr.json")}
    different = {name for name in chunks if files_of(other)[name] != files_of(store)[name]}
    assert len(different) == 1
    assert copied == {f"{report.version}/{name}" for name in chunks - different}
    assert report.copied_bytes == sum(len(files_of(other)[name]) for name in chunks - different)
    assert report.uploaded_bytes == report.byte_count - report.copied_bytes
    check_current(objects, tmp_path / "d", other)
    # No version refers to another's objects.
    objects.delete([info.name for info in objects.find(resolve(objects, report.previous))])
    shutil.rmtree(tmp_path / "d")
    check_current(objects, tmp_path / "d", other)


@pytest.mark.parametrize("compression", ["zstd", "blosc"])
def test_shards_of_other_versions_are_copied(tmp_path, objects, compression):
    publish(build(tmp_path / "s", compression=compression), objects)
    other = build(tmp_path / "o", changed(), compression=compression)
    assert publish(other, objects).copied_bytes > 0
    check_current(objects, tmp_path / "d", other)


def spoil(objects, version, name, data):
    info = objects.infos[f"{version}/{name}"]
    objects.put(info.name, data)


CHUNK = "partitions/0/c/0/0"
SPOILED = {
    "its root is damaged": ("zarr.json", b"{}"),
    "its root is not JSON": ("zarr.json", b"\xff"),
    "its root is huge": ("zarr.json", bytes(17 << 20)),
    "an array is damaged": ("partitions/0/zarr.json", b"[]"),
    "a chunk is short": (CHUNK, b"1234"),
    "a chunk is another": (CHUNK, bytes(8 * 16 + 4)),
}


@pytest.mark.parametrize("damage", SPOILED)
def test_damaged_versions_are_not_copied_from(tmp_path, objects, store, damage):
    first = publish(store, objects)
    spoil(objects, first.version, *SPOILED[damage])
    other = build(tmp_path / "o", changed())
    publish(other, objects)
    check_current(objects, tmp_path / "d", other)


def test_what_cannot_be_copied_is_uploaded(tmp_path, objects, store):
    publish(store, objects)

    def fail(number, name, arguments):
        if name == "copy":
            raise RemoteError("too large to be copied")

    other = build(tmp_path / "o", changed())
    report = publish(other, WatchedObjects(objects, fail))
    assert report.copied_bytes == 0
    check_current(objects, tmp_path / "d", other)


def interrupted(path, objects, chunks):
    """Publish until some chunks are there; return their names."""

    def fail(number, name, arguments):
        done = [name for name in objects.data if "/c/" in name]
        if name == "put" and "/c/" in arguments[0] and len(done) >= chunks:
            raise RemoteError("the network is down")

    with pytest.raises(RemoteError, match="the network is down"):
        publish(path, WatchedObjects(objects, fail))
    return sorted(name for name in objects.data if "/c/" in name)


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_an_interrupted_publish_goes_on(tmp_path, objects, compression):
    store = build(tmp_path / "s", compression=compression)
    there = interrupted(store, objects, 5)
    assert read_pointer(objects) is None
    watched = WatchedObjects(objects)
    report = publish(store, watched)
    written = [arguments[0] for name, arguments in watched.calls]
    assert not set(written) & set(there)
    assert report.kept_bytes == sum(len(objects.data[name]) for name in there)
    check_current(objects, tmp_path / "d", store)


LEFT = {
    "shorter": lambda data: data[:-1],
    "longer": lambda data: data + b"1",
    "empty": lambda data: b"",
    "of another chunk": lambda data: bytes(len(data)),
    "with another end": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
}


@pytest.mark.parametrize("left", LEFT)
def test_unfinished_objects_that_are_not_the_file_are_replaced(tmp_path, objects, store, left):
    there = interrupted(store, objects, 5)
    for name in there[:2]:
        objects.put(name, LEFT[left](objects.data[name]))
    for name in [name for name in objects.data if name.endswith("zarr.json")][:2]:
        objects.put(name, LEFT[left](objects.data[name]))
    watched = WatchedObjects(objects)
    publish(store, watched)
    written = {arguments[0] for _, arguments in watched.calls}
    assert written & set(there) == set(there[:2])
    check_current(objects, tmp_path / "d", store)


def test_objects_that_cannot_be_compared_are_uploaded_again(tmp_path, objects, store):
    interrupted(store, objects, 5)

    def fail(number, name, arguments):
        raise RemoteError("no ranges")

    report = publish(store, WatchedObjects(objects, fail, only=("read_many",)))
    assert report.kept_bytes == 0
    check_current(objects, tmp_path / "d", store)


def test_a_complete_version_that_lost_objects_is_repaired(tmp_path, objects, store):
    report = publish(store, objects)
    objects.delete([f"{report.version}/{CHUNK}", f"{report.version}/partitions/zarr.json"])
    objects.put(f"{report.version}/partitions/1/c/0/0", b"short")
    assert publish(store, objects).uploaded_bytes > 0
    check_current(objects, tmp_path / "d", store)


@pytest.mark.parametrize("place", [0, 5, -1, -5])
@pytest.mark.parametrize("name", [CHUNK, "vocabulary/bytes/c/0", "partitions/2/c/4/0"])
@pytest.mark.parametrize("held", [0, 4 << 20])
def test_a_damaged_store_is_refused(tmp_path, objects, store, monkeypatch, place, name, held):
    monkeypatch.setattr(local_store, "HELD_BYTES", held)
    first = tmp_path / "first"
    embstore.build(np.zeros((3, 4)), first).close()
    version = publish(first, objects).version
    flip(store / name, place)
    with pytest.raises(StoreCorruptError) as error:
        publish(store, objects)
    assert str(store / name) in str(error.value)
    assert read_pointer(objects) == version
    roots = [one for one in objects.data if one.count("/") == 1 and one.endswith("zarr.json")]
    assert roots == [f"{version}/zarr.json"]


@pytest.mark.parametrize("compression", ["zstd", "blosc"])
def test_a_damaged_shard_is_refused(tmp_path, objects, compression):
    store = build(tmp_path / "s", compression=compression)
    flip(store / CHUNK, 9)
    with pytest.raises(StoreCorruptError) as error:
        publish(store, objects)
    assert f"{store / CHUNK} has the checksum" in str(error.value)
    assert read_pointer(objects) is None


@pytest.mark.parametrize("name", ["zarr.json", "partitions/zarr.json", "partitions/1/zarr.json"])
def test_damaged_metadata_is_refused(objects, store, name):
    flip(store / name, 60)
    with pytest.raises(StoreCorruptError, match=name):
        publish(store, objects)
    assert objects.data == {}


def test_a_missing_chunk_is_named(objects, store):
    (store / CHUNK).unlink()
    with pytest.raises(StoreCorruptError, match=f"{CHUNK} is missing"):
        publish(store, objects)
    assert objects.data == {}


@pytest.mark.parametrize("held", [0, 4 << 20])
def test_links_are_followed_and_checked(tmp_path, objects, store, monkeypatch, held):
    monkeypatch.setattr(local_store, "HELD_BYTES", held)
    for name in (CHUNK, "partitions/0/zarr.json"):
        (store / name).rename(tmp_path / "target")
        (store / name).symlink_to(tmp_path / "blob")
        (tmp_path / "target").rename(tmp_path / "blob")
        publish(store, objects)
        check_current(objects, tmp_path / f"d{len(objects.data)}", store)
        objects.delete(list(objects.data))
        flip(tmp_path / "blob", 7)
        with pytest.raises(StoreCorruptError, match="is a symbolic link to a file that does not"):
            publish(store, objects)
        flip(tmp_path / "blob", 7)
        (store / name).unlink()
        (tmp_path / "blob").rename(store / name)
    assert read_pointer(objects) is None


@pytest.mark.parametrize("held", [0, 4 << 20])
def test_a_store_that_is_replaced_meanwhile(tmp_path, objects, store, monkeypatch, held):
    monkeypatch.setattr(local_store, "HELD_BYTES", held)
    for number in (0, 3, 8):
        build(store)
        objects = MemoryObjects()

        def replace(count, name, arguments, number=number):
            if count == number:
                build(store, changed(number))

        with pytest.raises(StoreNotFoundError, match="was replaced or removed while it was publ"):
            publish(store, WatchedObjects(objects, replace))
        assert read_pointer(objects) is None
    build(store)
    publish(store, objects)
    check_current(objects, tmp_path / "d", store)


def test_a_store_that_is_removed_meanwhile(objects, store):
    def remove(count, name, arguments):
        if count == 3:
            shutil.rmtree(store)

    with pytest.raises(StoreNotFoundError, match="was replaced or removed"):
        publish(store, WatchedObjects(objects, remove))
    assert read_pointer(objects) is None


def test_a_file_that_changes_while_it_is_uploaded(objects, store, monkeypatch):
    monkeypatch.setattr(local_store, "HELD_BYTES", 0)

    def change(number, name, arguments):
        if arguments[0].endswith(CHUNK):
            flip(arguments[1], 5)

    with pytest.raises(StoreCorruptError, match=f"{CHUNK} was changed while it was uploaded"):
        publish(store, WatchedObjects(objects, change))
    assert read_pointer(objects) is None


def test_a_pointer_that_moves_meanwhile_names_the_winner(tmp_path, objects, store):
    publish(build(tmp_path / "first", changed(7)), objects)

    def move(number, name, arguments):
        if arguments[0].endswith(CHUNK):
            move_pointer(objects, find_pointer(objects), OTHER)

    with pytest.raises(StoreBusyError) as error:
        publish(store, WatchedObjects(objects, move))
    assert f"another publisher made {OTHER} the current version" in str(error.value)
    assert read_pointer(objects) == OTHER
    # It is published whole, so publishing it again only moves the pointer.
    assert publish(store, objects).uploaded_bytes == 0
    check_current(objects, tmp_path / "d", store)


def test_a_pointer_that_is_removed_meanwhile(tmp_path, objects, store):
    publish(build(tmp_path / "first", changed(7)), objects)

    def remove(number, name, arguments):
        if arguments[0].endswith(CHUNK):
            objects.delete(["current.json"])

    with pytest.raises(StoreBusyError, match="another publisher removed it at memory:"):
        publish(store, WatchedObjects(objects, remove))


def test_a_pointer_to_a_missing_version_is_moved(tmp_path, objects, store):
    move_pointer(objects, None, OTHER)
    assert publish(store, objects).previous == OTHER
    check_current(objects, tmp_path / "d", store)


def test_a_foreign_object_of_the_pointers_name_is_not_replaced(objects, store):
    objects.put("current.json", b'{"mine": 1}')
    with pytest.raises(StoreCorruptError, match=r"current\.json is not a pointer .* delete it"):
        publish(store, objects)
    assert objects.data == {"current.json": b'{"mine": 1}'}


def test_a_root_of_another_store_is_refused(tmp_path, objects, store):
    other = publish(build(tmp_path / "o", changed()), objects)
    name = f"{local_store.open_local(store).version}/zarr.json"
    for data in (objects.data[f"{other.version}/zarr.json"], b"{}", b"\xff", b"[]"):
        objects.put(name, data)
        with pytest.raises(StoreCorruptError, match="delete it and all objects"):
            publish(store, objects)
        assert read_pointer(objects) == other.version


def test_objects_that_vanish_meanwhile(tmp_path, objects, store):
    def remove(number, name, arguments):
        objects.delete([one for one in objects.data if one.endswith("partitions/zarr.json")])

    with pytest.raises(StoreBusyError, match=r"partitions/zarr\.json is missing, after"):
        publish(store, WatchedObjects(objects, remove, only=("find",)))
    assert read_pointer(objects) is None


def test_a_server_that_loses_bytes(objects, store):
    class Short(MemoryObjects):
        def put(self, name, data, **options):
            return super().put(name, data[:-1] if name.endswith(CHUNK) else data, **options)

    with pytest.raises(RemoteError, match=f"{CHUNK}: 132 bytes were uploaded, but 131 bytes"):
        publish(store, Short())


def test_progress_counts_bytes(tmp_path, objects, store):
    publish(store, objects)
    for path in (store, build(tmp_path / "o", changed()), build(tmp_path / "p", strategy="div")):
        seen: list[embstore.Progress] = []
        report = publish(path, objects, progress=seen.append)
        assert {one.total_bytes for one in seen} == {report.byte_count}
        done = [one.done_bytes for one in seen]
        assert done == sorted(done)
        assert done[0] == report.kept_bytes
        assert done[-1] == report.byte_count
        assert seen[0].rows is None


def test_an_old_store_without_a_fingerprint(tmp_path, objects):
    path = Path(__file__).parent / "golden/v1-words-mod.embstore"
    assert read_manifest(path).fingerprint is None
    report = publish(path, objects)
    with embstore.open(path) as store:
        assert report.fingerprint == store.fingerprint()
        assert resolve(objects, store.fingerprint()) == report.version
    flipped = tmp_path / "damaged"
    shutil.copytree(path, flipped)
    flip(flipped / CHUNK, 3)
    with pytest.raises(StoreCorruptError, match=CHUNK):
        publish(flipped, objects)


def foreign(path, what):
    if what == "a .npy file":
        np.save(path / "t.npy", ROWS)
        return path / "t.npy"
    if what == "text":
        (path / "t.txt").write_text("a 1 2\n")
        return path / "t.txt"
    if what == "a model":
        safetensors = pytest.importorskip("safetensors.numpy")
        (path / "m").mkdir()
        safetensors.save_file({"w": ROWS}, path / "m" / "model.safetensors")
        return path / "m"
    (path / "empty").mkdir()
    return path / "empty"


@pytest.mark.parametrize("what", ["a .npy file", "text", "a model", "an empty directory"])
def test_foreign_files_are_refused(tmp_path, objects, what):
    path = foreign(tmp_path, what)
    with pytest.raises(StoreNotFoundError) as error:
        embstore.publish(path, tmp_path.as_uri())
    assert str(path) in str(error.value)
    assert "embstore.build" in str(error.value)


@pytest.mark.parametrize(
    ("path", "url", "kind", "says"),
    [
        ("s", "plain/path", ValueError, "not a path; the URL of a directory is file:///"),
        ("s", "/plain/path", ValueError, "not a path; the URL of a directory is file:///"),
        ("s", "", ValueError, "url must be a URL"),
        ("s", "https://example.org/x", ValueError, "over http and https, stores can only be read"),
        ("s", "HTTP://example.org/x", ValueError, "over http and https, stores can only be read"),
        ("s", "nothing://example", ValueError, "url must start with s3://"),
        ("s", 3, TypeError, "url must be a str"),
        ("s", None, TypeError, "url must be a str"),
        ("s3://bucket/x", "file:///x", ValueError, "path must be a store on a local disk"),
        (3, "file:///x", TypeError, "path must be a str"),
        ("missing", "file:///x", StoreNotFoundError, "no store at .*missing: no such directory"),
    ],
)
def test_wrong_arguments(tmp_path, monkeypatch, store, path, url, kind, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=says):
        embstore.publish(path, url)
    for function in (embstore.versions, embstore.prune):
        if path == "s":
            with pytest.raises(kind, match=says):
                function(url)


@pytest.mark.parametrize("url", ["user:SECRET@host/x", "https://user:SECRET@host/", "SECRET@x"])
def test_messages_do_not_show_a_wrong_url(store, url):
    for call in (lambda: embstore.publish(store, url), lambda: embstore.versions(url)):
        with pytest.raises(ValueError, match="url must") as error:
            call()
        assert "SECRET" not in str(error.value)


def test_the_report_reads_well(tmp_path, objects, store):
    first = publish(store, objects)
    assert str(first) == (
        f"published {first.version} at memory://bucket/tables: {first.object_count} objects, "
        f"{first.byte_count:,} bytes ({first.byte_count:,} uploaded)"
    )
    assert str(publish(store, objects)).endswith("already there); it was current already")
    other = str(publish(build(tmp_path / "o", changed()), objects))
    assert "copied from other versions" in other
    assert other.endswith(f"; before, {first.version} was current")


def test_a_directory_url(tmp_path, store):
    url = (tmp_path / "a folder").as_uri()
    report = embstore.publish(store, url)
    published = tmp_path / "a folder" / report.version
    assert embstore.verify(published).ok
    assert files_of(published) == files_of(store)
    with embstore.open(published) as opened:
        assert opened["word 7"].tolist() == ROWS[7].tolist()
    other = embstore.publish(build(tmp_path / "o", changed()), url)
    assert other.copied_bytes > 0
    assert embstore.verify(tmp_path / "a folder" / other.version).ok
    assert embstore.publish(store, url).uploaded_bytes == 0


def test_download_is_what_was_published(tmp_path, objects, store):
    publish(store, objects)
    assert files_of(download(objects, tmp_path / "d")) == files_of(store)
    assert len(WORDS) == 100
