"""Stores whose files are symbolic links, as in a model cache: the listed bytes, or an error."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np
import pytest

import embstore
from embstore.errors import StoreCorruptError, StoreError
from embstore.formats.own import checks
from embstore.reading import files
from tests.campaigns import stores
from tests.test_open_in_place import safetensors_bytes, save_npy, table_of

if TYPE_CHECKING:
    from embstore.opener import ReaderName

READERS: tuple[ReaderName, ...] = ("mapped", "chunked")
FILES = [
    *("partitions/1/c/1/0", "partitions/2/c/0/0", "vocabulary/slots/c/0", "vocabulary/bytes/c/0"),
    *("partitions/1/zarr.json", "vocabulary/zarr.json", "zarr.json"),
]
CHUNKS = FILES[:4]
SECRET = b"root:x:0:0:the secret of another user"


@pytest.fixture
def store(tmp_path):
    return stores.make_store(tmp_path / "snapshots" / "5" / "t.embstore")


@pytest.fixture(autouse=True)
def _snapshot_folder(tmp_path):
    (tmp_path / "snapshots" / "5").mkdir(parents=True)


def cached(store: Path) -> dict[Path, bytes]:
    """Move the files of a store to ``blobs``, and leave relative links; return the blobs."""
    blobs = store.parents[2] / "blobs"
    blobs.mkdir()
    found = {}
    for number, file in enumerate(stores.files_of(store)):
        blob = blobs / f"{number:02}abc"
        file.rename(blob)
        file.symlink_to(os.path.relpath(blob, file.parent))
        found[blob] = blob.read_bytes()
    return found


def replace(store: Path, name: str, target: Path | str) -> None:
    (store / name).unlink()
    (store / name).symlink_to(target)


def refusal(store: Path) -> str:
    """Open with both readers and verify, all in vain; return the messages."""
    messages = []
    for reader in READERS:
        with pytest.raises(StoreError) as found:
            embstore.open(store, reader=reader)[:]
        messages.append(str(found.value))
    try:
        report = embstore.verify(store)
    except StoreError as error:
        messages.append(str(error))
    else:
        assert not report.ok
        messages += report.problems
    return "\n".join(messages)


@pytest.mark.parametrize("reader", READERS)
def test_store_in_a_model_cache(store, reader):
    cached(store)
    with embstore.open(store, reader=reader, verify="full") as opened:
        assert np.array_equal(opened[:], stores.table())
        assert np.array_equal(opened["w7"], stores.table()[7])
        assert opened.words(range(23)) == stores.WORDS
        with pickle.loads(pickle.dumps(opened)) as again:
            assert np.array_equal(again[[22, 0]], stores.table()[[22, 0]])
    assert embstore.verify(store).ok


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["relative", "absolute", "two links"])
def test_link_instead_of_a_file(store, tmp_path, name, kind):
    elsewhere = tmp_path / "elsewhere"
    (store / name).rename(elsewhere)
    target: Path | str = elsewhere
    if kind == "relative":
        target = os.path.relpath(elsewhere, (store / name).parent)
    elif kind == "two links":
        (tmp_path / "between").symlink_to("elsewhere")
        target = tmp_path / "between"
    (store / name).symlink_to(target)
    for reader in READERS:
        with embstore.open(store, reader=reader) as opened:
            assert np.array_equal(opened[stores.WORDS], stores.table())
    assert embstore.verify(store).ok


def test_store_and_its_files_are_links(store, tmp_path):
    cached(store)
    (tmp_path / "latest").symlink_to(store)
    with embstore.open(tmp_path / "latest", preload=True) as opened:
        assert np.array_equal(opened[:], stores.table())


@pytest.mark.parametrize("name", CHUNKS)
@pytest.mark.parametrize("change", ["flip", "cut", "append", "empty", "zeros", "swap", "secret"])
def test_link_to_other_bytes(store, name, change):
    """Also if the last four bytes are the listed checksum, which is all that other files show."""
    cached(store)
    blob = (store / name).resolve()
    data = blob.read_bytes()
    secret = (SECRET * (len(data) // len(SECRET) + 1))[: len(data) - 4] + data[-4:]
    other = (store / name.replace("c/1", "c/0")).resolve().read_bytes()
    blob.write_bytes(
        {
            "flip": bytes([data[0] ^ 4]) + data[1:],
            "cut": data[:-1],
            "append": data + b"\0",
            "empty": b"",
            "zeros": bytes(len(data)),
            "swap": other if other != data else data[::-1],
            "secret": secret,
        }[change]
    )
    message = refusal(store)
    assert str(store / name) in message
    assert "secret" not in message


@pytest.mark.parametrize("name", CHUNKS)
def test_forged_chunk_is_refused_although_it_agrees_with_itself(store, name):
    """The right size, and a checksum at the end that is that of the bytes before it."""
    cached(store)
    blob = (store / name).resolve()
    data = bytes(len(blob.read_bytes()) - 4)
    blob.write_bytes(data + google_crc32c.value(data).to_bytes(4, "little"))
    assert f"{store / name} is a symbolic link to a file that does not have" in refusal(store)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("secret", [b"abcd", SECRET, b"\xff\xfe\x00", b'{"a": 1}', b"[" * 9999])
def test_no_message_shows_the_target(store, tmp_path, name, secret):
    (tmp_path / "secret").write_bytes(secret)
    replace(store, name, tmp_path / "secret")
    message = refusal(store)
    value = google_crc32c.value(secret)
    shown = [f"{value:08x}", str(value), secret[-4:][::-1].hex(), "0xff", "secret of"]
    assert not [text for text in shown if text in message]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("dangling", "is a symbolic link to a missing file"),
        ("through a file", "is a symbolic link to a missing file"),
        ("loop", "is a symbolic link that leads in a circle"),
        ("fifo", "is a symbolic link to something that is not a regular file"),
        ("device", "is a symbolic link to something that is not a regular file"),
        ("directory", "is a symbolic link to something that is not a regular file"),
    ],
)
def test_link_to_no_file(store, tmp_path, name, kind, says):
    os.mkfifo(tmp_path / "fifo")
    target = {
        "dangling": "nowhere",
        "through a file": tmp_path / "fifo" / "more",
        "loop": Path(name).name,
        "fifo": tmp_path / "fifo",
        "device": "/dev/zero",
        "directory": tmp_path,
    }[kind]
    replace(store, name, target)
    message = refusal(store)
    if name == "zarr.json":
        assert "has no zarr.json" in message
    else:
        assert f"{store / name} {says}" in message


def test_missing_target_of_the_root_metadata_is_told(store):
    replace(store, "zarr.json", "../gone")
    with pytest.raises(StoreError, match=r"has no zarr\.json, only a link to a missing file"):
        embstore.open(store)


def test_link_that_may_not_be_followed(store, tmp_path, monkeypatch):
    (store / FILES[0]).rename(tmp_path / "closed")
    (store / FILES[0]).symlink_to(tmp_path / "closed")
    opened = os.open

    def refuse(path, flags, *more, **named):
        if str(path).endswith(FILES[0]) and not flags & os.O_NOFOLLOW:
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuse)
    assert "is a symbolic link to a file that may not be read" in refusal(store)


@pytest.mark.parametrize("name", CHUNKS)
@pytest.mark.parametrize("reader", READERS)
def test_target_that_is_exchanged_after_the_checks_of_opening(store, monkeypatch, name, reader):
    """The bytes are checked on the descriptor that is mapped or read, not on an earlier one."""
    cached(store)
    blob = (store / name).resolve()
    data = bytearray(blob.read_bytes())
    data[0] ^= 1  # The size and the last four bytes stay.

    def check_and_exchange(path, manifest):
        checks.check_store(path, manifest)
        blob.unlink()
        blob.write_bytes(data)

    monkeypatch.setattr("embstore.contents.check_store", check_and_exchange)
    with pytest.raises(StoreCorruptError, match="is a symbolic link to a file that does not have"):
        embstore.open(store, reader=reader)[:]


def test_chunked_reader_notices_a_target_that_changed(store):
    cached(store)
    blob = (store / FILES[0]).resolve()
    with embstore.open(store, reader="chunked") as opened:
        opened[:]
        data = bytes(blob.stat().st_size - 4)
        blob.unlink()
        blob.write_bytes(data + google_crc32c.value(data).to_bytes(4, "little"))
        with pytest.raises(StoreCorruptError, match="does not have the checksum"):
            opened[:]


def test_only_links_are_read_when_a_store_is_opened(store, monkeypatch):
    read = []
    check = checks.check_linked_chunk

    def note(where, *more):
        read.append(where)
        check(where, *more)

    monkeypatch.setattr(files, "check_linked_chunk", note)
    embstore.open(store).close()
    assert read == []
    cached(store)
    with embstore.open(store, preload=True) as opened:
        opened[:]
    assert sorted(read) == sorted(map(str, stores.chunk_files(store)))


def test_export_build_and_overwrite_leave_the_targets(store, tmp_path):
    blobs = cached(store)
    with embstore.open(store) as opened:
        embstore.export(opened, tmp_path / "t.txt", format="glove")
    with embstore.build(store, tmp_path / "copy.embstore") as copy:
        assert np.array_equal(copy["w9"], stores.table()[9])
    with embstore.build(store, store, overwrite=True) as same:
        assert np.array_equal(same[:], stores.table())
    assert not any(path.is_symlink() for path in store.rglob("*"))
    assert {blob: blob.read_bytes() for blob in blobs} == blobs


@pytest.mark.parametrize("links", ["all", "metadata", "chunks"])
def test_overwriting_never_touches_targets(store, links):
    """Nor does a build that fails."""
    whole = shutil.copytree(store, store.with_name("whole"))
    blobs = cached(store)
    for file in stores.files_of(store):
        if links != "all" and (file.name == stores.METADATA) != (links == "metadata"):
            content = file.read_bytes()
            file.unlink()
            file.write_bytes(content)
    with pytest.raises(embstore.SourceError):
        embstore.build([("a", [1.0]), ("b", [1.0, 2.0])], store, overwrite=True)
    with embstore.open(store) as kept:
        assert np.array_equal(kept[:], stores.table())
    embstore.build(np.ones((2, 2)), store, overwrite=True).close()
    assert {blob: blob.read_bytes() for blob in blobs} == blobs
    assert sorted(path.name for path in store.parent.iterdir()) == ["t.embstore", whole.name]


def test_foreign_files_in_a_model_cache(tmp_path):
    """An index and its shards, each a link."""
    parts = {"model-1.safetensors": "a", "model-2.safetensors": "b"}
    contents = {
        file: safetensors_bytes({name: table_of() * number})
        for number, (file, name) in enumerate(parts.items(), 1)
    }
    index = {name: file for file, name in parts.items()}
    contents["model.safetensors.index.json"] = str({"weight_map": index}).replace("'", '"').encode()
    folder = tmp_path / "snapshots" / "5"
    (tmp_path / "blobs").mkdir()
    for number, (file, data) in enumerate(contents.items()):
        (tmp_path / "blobs" / f"{number}").write_bytes(data)
        (folder / file).symlink_to(f"../../blobs/{number}")
    for path in (folder, folder / "model.safetensors.index.json"):
        for reader in READERS:
            with embstore.open(path, tensor="b", reader=reader) as store:
                assert np.array_equal(store[:], table_of() * 2)
    (tmp_path / "blobs" / "1").unlink()
    with pytest.raises(StoreCorruptError, match=r"model-2\.safetensors, which .* is missing"):
        embstore.open(folder, tensor="b")


@pytest.mark.parametrize("name", ["nowhere", "e.npy", "/dev/zero"])
def test_foreign_link_to_no_file(tmp_path, name):
    link = tmp_path / "e.npy"
    link.symlink_to(name)
    with pytest.raises(StoreError, match=r"no store|not a store"):
        embstore.open(link)


def test_linked_npy(tmp_path):
    made = save_npy(tmp_path, table_of())
    link = tmp_path / "link.npy"
    link.symlink_to(made.name)
    with embstore.open(link) as store:
        assert np.array_equal(store[:], table_of())
