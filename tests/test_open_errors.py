"""Refusals of `open`: paths that are not stores, and damaged stores, before a row is read."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

import embstore
from embstore.errors import (
    EmbstoreError,
    StoreCorruptError,
    StoreNotFoundError,
    StoreVersionError,
)
from tests.campaigns import stores

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embstore.opener import ReaderName

READERS: tuple[ReaderName, ...] = ("mapped", "chunked")
METADATA = "zarr.json"


@pytest.fixture(scope="module")
def whole_store(tmp_path_factory):
    """A store with 23 rows over 3 partitions, in chunks of 4 rows, and words."""
    path = tmp_path_factory.mktemp("whole") / "t.embstore"
    with embstore.StoreWriter(
        path, row_shape=(3,), dtype="float32", partitions=3, chunk_rows=4
    ) as writer:
        writer.write(np.arange(69).reshape(23, 3), [f"w{i}" for i in range(23)])
    return path


@pytest.fixture
def store(whole_store, tmp_path):
    """A copy of the store, to damage."""
    return shutil.copytree(whole_store, tmp_path / "t.embstore")


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change metadata and the checksums over it, because a wrong one would be noticed first."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))
    stores.reseal(next(parent for parent in path.parents if (parent / "partitions").is_dir()))


def edit_manifest(store: Path, **fields: object) -> None:
    edit(store / METADATA, lambda document: document["attributes"]["embstore"].update(fields))


def fails_with(error: type[EmbstoreError], path: Path) -> str:
    """Open with both readers; return the error's message."""
    messages = set()
    for reader in READERS:
        with pytest.raises(error) as found:
            embstore.open(path, reader=reader)
        assert type(found.value) is error
        assert isinstance(found.value, EmbstoreError)
        messages.add(str(found.value))
    (message,) = messages
    assert str(path) in message
    assert "\n" not in message
    if error is StoreCorruptError:
        assert "restore it or build the store again" in message
    return message


@pytest.mark.parametrize("reader", READERS)
def test_undamaged_store_opens(store, reader):
    assert embstore.open(store, reader=reader)["w22"].tolist() == [66, 67, 68]


def test_missing_paths(tmp_path):
    message = fails_with(StoreNotFoundError, tmp_path / "no.embstore")
    assert "no such file or directory" in message
    with pytest.raises(FileNotFoundError):
        embstore.open(tmp_path / "no.embstore")


@pytest.mark.parametrize("kind", ["file", "directory", "zarr group", "zarr array", "unfinished"])
def test_paths_that_are_not_stores(tmp_path, store, kind):
    path = tmp_path / "other"
    match kind:
        case "file":
            path.write_text("the 1 2\n")
        case "directory":
            path.mkdir()
        case "zarr group":
            zarr.create_group(path, attributes={"title": "mine"})
        case "zarr array":
            zarr.create_array(path, shape=3, dtype="int8")
        case "unfinished":
            store.rename(path)
            edit(path / METADATA, lambda document: document["attributes"].clear())
    fails_with(StoreNotFoundError, path)


@pytest.mark.parametrize(
    "fields",
    [
        {"format_version": 2},
        {"format_version": 99, "rows": "of another type by then"},
        {"requires": ["compression"]},
        {"requires": ["compression", "time travel"], "layout": "sharded"},
        {"layout": "columnar"},
        {"layout": "sharded", "compression": {"codec": "lz5", "level": 1}},
    ],
)
def test_newer_store(store, fields):
    edit_manifest(store, **fields)
    message = fails_with(StoreVersionError, store)
    assert "this embstore reads" in message


def test_unknown_word_hash(store):
    def change(document):
        document["attributes"]["embstore"]["vocabulary"]["hash"] = "sha256"

    edit(store / METADATA, change)
    assert "sha256" in fails_with(StoreVersionError, store)


CHUNKS = [
    *("partitions/0/c/0/0", "partitions/0/c/1/0", "partitions/2/c/1/0"),
    *("vocabulary/bytes/c/0", "vocabulary/offsets/c/0", "vocabulary/slots/c/0"),
]


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("missing", "is missing"),
        ("empty", "has 0 bytes, expected"),
        ("short", "has "),
        ("long", "has "),
        ("a directory", "is not a regular file"),
        ("under a file", "is missing"),
    ],
)
def test_damaged_chunk_file(store, chunk, damage, says):
    path = store / chunk
    data = path.read_bytes()
    path.unlink()
    match damage:
        case "empty":
            path.touch()
        case "short":
            path.write_bytes(data[:-1])
        case "long":
            path.write_bytes(data + b"\0")
        case "a directory":
            path.mkdir()
        case "under a file":
            shutil.rmtree(path.parent)
            path.parent.touch()
    message = fails_with(StoreCorruptError, store)
    assert f"{path} {says}" in message
    if path.is_file():
        assert f"has {path.stat().st_size} bytes, expected {len(data)}; " in message


@pytest.mark.parametrize(
    "name",
    [METADATA, "partitions/1/zarr.json", "vocabulary/offsets/zarr.json"],
)
@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b'{"a": 1' + b"0" * 5000 + b"}", b"[" * 100_000, b"nonsense"]
)
def test_broken_json(store, name, data):
    (store / name).write_bytes(data)
    message = fails_with(StoreCorruptError, store)
    assert str(store / name) in message


@pytest.mark.parametrize("name", ["partitions/1/zarr.json", "vocabulary/slots/zarr.json"])
@pytest.mark.parametrize("kind", ["missing", "a directory", "[]", "null", "{}"])
def test_missing_metadata_of_an_array(store, name, kind):
    path = store / name
    path.unlink()
    if kind == "a directory":
        path.mkdir()
    elif kind != "missing":
        path.write_text(kind)
    assert str(path) in fails_with(StoreCorruptError, store)


@pytest.mark.parametrize("document", ["[]", "null", "3", "{}", '{"attributes": []}'])
def test_root_metadata_without_a_manifest(store, document):
    (store / METADATA).write_text(document)
    fails_with(StoreNotFoundError, store)


HUGE = 10**30
BAD_FIELDS: dict[str, list[Any]] = {
    "format_version": [None, "1", 1.0, True, 0, -1],
    "requires": [None, "no", {}],
    "rows": [None, "23", 23.0, True, -1, 22, 24, 2**40, 2**63, HUGE],
    "row_shape": [None, 3, "3", [3.0], [-3], [0], [3, 0], [2**40] * 9, [1] * 33, [[3]], [True]],
    "dtype": [None, 4, "complex64", "object", "<f4", "", "float64", "datetime64[s]"],
    "partition_count": [None, "3", 0, -3, 2, 4, 2**50, HUGE, 3.0],
    "strategy": [None, "", "MOD", "hash", 0],
    "layout": [None, 1],
    "chunk_rows": [None, "4", 0, -4, 3, 8, 2**60, HUGE],
    "unk": [3, ["w1"], False],
    "vocabulary": [3, [], "words", {}],
    "source": [None, [], "a.txt"],
    "created_by": [None, 3],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in BAD_FIELDS.items() for value in values]
)
def test_impossible_manifest_field(store, key, value):
    edit_manifest(store, **{key: value})
    fails_with(StoreCorruptError, store)


@pytest.mark.parametrize("key", BAD_FIELDS)
def test_missing_manifest_field(store, key):
    edit(store / METADATA, lambda document: document["attributes"]["embstore"].pop(key))
    assert repr(key) in fails_with(StoreCorruptError, store)


@pytest.mark.parametrize("part", ["bytes", "offsets", "slots"])
@pytest.mark.parametrize("key", ["length", "chunk_rows"])
@pytest.mark.parametrize("value", [None, "9", -1, 0, 1, 7, 2**53, HUGE, 3.5, True])
def test_impossible_vocabulary_size(store, part, key, value):
    def change(document):
        document["attributes"]["embstore"]["vocabulary"][part][key] = value

    edit(store / METADATA, change)
    fails_with(StoreCorruptError, store)


@pytest.mark.parametrize("value", [None, "1", -1, 2.5, HUGE])
def test_impossible_probe_count(store, value):
    def change(document):
        document["attributes"]["embstore"]["vocabulary"]["probe_count"] = value

    edit(store / METADATA, change)
    fails_with(StoreCorruptError, store)


def test_unk_word_without_words(store):
    edit_manifest(store, vocabulary=None, unk="w1")
    assert "no words" in fails_with(StoreCorruptError, store)


@pytest.mark.parametrize("name", ["partitions/0", "vocabulary/slots"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("zarr_format", 2),
        ("node_type", "group"),
        ("shape", [7, 3]),
        ("shape", "8"),
        ("data_type", "int64"),
        ("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [2, 3]}}),
        ("chunk_key_encoding", {"name": "default", "configuration": {"separator": "."}}),
        ("codecs", [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "crc32c"}]),
        ("codecs", [{"name": "bytes", "configuration": {"endian": "little"}}]),
        ("codecs", None),
    ],
)
def test_metadata_that_contradicts_the_manifest(store, name, key, value):
    edit(store / name / METADATA, lambda document: document.update({key: value}))
    message = fails_with(StoreCorruptError, store)
    assert str(store / name / METADATA) in message
    assert f"{key} is {value!r}, expected" in message


@pytest.mark.parametrize(
    "checksums", [None, {}, "12", [], [1], [1, 2, 3], [1, -2], [1, "2"], [1, 2.0]]
)
def test_wrong_list_of_checksums(store, checksums):
    def change(document):
        document["attributes"]["embstore"]["chunk_crc32c"] = checksums

    edit(store / "partitions" / "0" / METADATA, change)
    message = fails_with(StoreCorruptError, store)
    assert str(store / "partitions" / "0" / METADATA) in message


@pytest.mark.parametrize(
    "url", ["ftp://example.org/glove.embstore", "magnet://x/t.safetensors", "hf://a/b/m.npy"]
)
def test_urls(url):
    with pytest.raises(StoreNotFoundError, match=f"{url} is a URL; download") as error:
        embstore.open(url)
    assert "no such" not in str(error.value)
