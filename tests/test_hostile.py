"""Hostile stores: a quick error of `embstore.errors`, and no code or path of theirs is used."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import embstore
from embstore.errors import EmbstoreError, StoreCorruptError, StoreError
from embstore.formats.own.fields import parse_json
from embstore.formats.own.manifest import parse_manifest
from embstore.formats.own.seals import manifest_checksum
from tests.campaigns import stores

if TYPE_CHECKING:
    from embstore.opener import ReaderName

READERS: tuple[ReaderName, ...] = ("mapped", "chunked")
FILES = ["partitions/1/c/1/0", "vocabulary/slots/c/0", "partitions/1/zarr.json", "zarr.json"]


@pytest.fixture(scope="module")
def whole_store(tmp_path_factory):
    return stores.make_store(tmp_path_factory.mktemp("whole") / "t.embstore")


@pytest.fixture
def store(whole_store, tmp_path):
    return shutil.copytree(whole_store, tmp_path / "t.embstore")


@contextlib.contextmanager
def within(seconds: float):
    """Fail if the block takes more processor time; other processes do not count."""
    start = time.process_time()
    try:
        yield
    finally:
        assert time.process_time() - start < seconds


@pytest.fixture(autouse=True)
def _quickly():
    with within(20):
        yield


def refused(store: Path, error: type[EmbstoreError] = StoreCorruptError) -> str:
    """Open with both readers, and verify; return the message of the first error."""
    messages = []
    for reader in READERS:
        with pytest.raises(error) as found:
            embstore.open(store, reader=reader)
        messages.append(str(found.value))
    with contextlib.suppress(error):
        assert not embstore.verify(store).ok
    assert len(messages[0]) < 2000
    return messages[0]


@pytest.mark.parametrize(
    "name", ["partitions", "partitions/2", "partitions/0/c", "partitions/0/c/1", "vocabulary/bytes"]
)
def test_link_instead_of_a_directory(store, tmp_path, name):
    (store / name).rename(tmp_path / "elsewhere")
    (store / name).symlink_to(tmp_path / "elsewhere")
    assert f"{store / name} is a symbolic link" in refused(store)


def test_store_may_be_a_link(store, tmp_path):
    (tmp_path / "link").symlink_to(store)
    with embstore.open(tmp_path / "link", verify="full") as linked:
        assert np.array_equal(linked[:], stores.table())


@pytest.mark.parametrize("name", FILES[:3])
@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "directory"])
def test_special_file_or_directory_instead_of_a_file(store, tmp_path, monkeypatch, name, kind):
    path = store / name
    path.unlink()
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "socket":
            monkeypatch.chdir(path.parent)  # The path of a socket is limited to about 100 bytes.
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(path.name)
        case "device":
            try:
                os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero
            except PermissionError:
                pytest.skip("making a device needs root")
        case _:
            path.mkdir()
    assert f"{path} is not a regular file" in refused(store)


@pytest.mark.parametrize(
    "fields",
    [
        {"partition_count": 10**9},
        {"partition_count": 2**16 + 1},
        {"rows": 2**40 - 1},
        {"rows": 2**40 - 1, "chunk_rows": 1},
        {"row_shape": [2**31]},
        {"row_shape": [2**20, 2**20, 2**20]},
        {"row_shape": [2**10] * 32},
        {"chunk_rows": 2**55},
        {"rows": 1, "partition_count": 2**16, "chunk_rows": 2**40},
        {"rows": 10**400},
        {"unk": "x" * 10**6, "strategy": "y" * 10**6},
    ],
)
def test_numbers_out_of_bounds(store, fields):
    stores.edit(store / "zarr.json", lambda own: own.update(fields))
    stores.reseal(store)
    refused(store)


def test_huge_metadata_file(store):
    with (store / "partitions/0/zarr.json").open("ab") as file:
        file.truncate(1 << 40)  # A sparse file takes no space on disk.
    assert "more than the allowed 16777216" in refused(store)


def test_size_beyond_all_addresses(store):
    """The manifest and the files agree on sizes that are too large to map."""
    shutil.rmtree(store / "partitions")
    rows, chunk_rows = 2**40 - 1, 2**40
    shutil.rmtree(store / "vocabulary")
    stores.edit(
        store / "zarr.json",
        lambda own: own.update(
            rows=rows, chunk_rows=chunk_rows, partition_count=1, row_shape=[4], dtype="float32",
            vocabulary=None, unk=None,
        ),
    )  # fmt: skip
    stores.reseal(store)
    refused(store)


def test_foreign_codecs_and_dtypes_are_refused(store):
    for key, value in {
        "codecs": [{"name": "numcodecs.pickle"}],
        "data_type": "object",
        "storage_transformers": [{"name": "x"}],
        "fill_value": "AAAA",
    }.items():
        path = store / "partitions/1/zarr.json"
        before = path.read_bytes()
        document = json.loads(before)
        document[key] = value
        path.write_text(json.dumps(document))
        stores.reseal(store)
        assert f"{key} is {value!r}, expected" in refused(store)
        path.write_bytes(before)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_json_instead_of_a_field(whole_store, data):
    document = json.loads((whole_store / "zarr.json").read_bytes())
    own: Any = document["attributes"]["embstore"]
    holder = data.draw(st.sampled_from([own, own["vocabulary"], own["vocabulary"]["slots"]]))
    for _ in range(data.draw(st.integers(1, 3))):
        holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(JSON)
    with contextlib.suppress(ValueError):  # A number that JSON cannot hold.
        own["manifest_crc32c"] = manifest_checksum(own)
    text = json.dumps(document).encode()
    said = ""
    try:
        with within(2):
            manifest = parse_manifest(parse_json(whole_store, text), whole_store)
    except StoreError as error:
        said = str(error)
    else:
        assert 1 <= manifest.partition_count <= 2**16
    assert len(said) < 3000


@settings(max_examples=100)
@given(JSON)
def test_any_json_instead_of_the_manifest(document):
    with within(2), pytest.raises(StoreError):
        parse_manifest(document, Path("zarr.json"))


def change_array(store: Path, part: str, change: Any) -> None:
    kind = {"offsets": np.int64, "slots": np.uint64, "bytes": np.uint8}[part]
    stores.rewrite_chunk(
        store / "vocabulary" / part / "c" / "0", lambda data: change(np.frombuffer(data, kind))
    )


def test_hash_table_without_a_free_slot(store):
    """Every slot is a candidate, and none is the word's: the search must end."""

    def fill(slots):
        slots[:] = slots.max()

    def search(own):
        own["vocabulary"]["probe_count"] = 1024

    change_array(store, "slots", fill)
    stores.edit(store / "zarr.json", search)
    stores.reseal(store)
    with embstore.open(store) as opened, within(5):
        for word in ("no such word", *stores.WORDS):
            try:
                assert opened.words(int(opened.ids(word))) == word
            except (embstore.MissingWordError, StoreCorruptError):
                continue
    stores.edit(store / "zarr.json", lambda own: own["vocabulary"].update(probe_count=2**40 - 1))
    stores.reseal(store)
    assert "probes" in refused(store)


@pytest.mark.parametrize("offset", [-1, -(2**63), 2**63 - 1, 10**6])
def test_offsets_out_of_range(store, offset):
    def change(offsets):
        offsets[8] = offset

    change_array(store, "offsets", change)
    with embstore.open(store) as opened:
        for ids in ([7], [8], range(23)):
            with pytest.raises(StoreCorruptError, match="offsets"):
                opened.words(list(ids))
        for word in ("w7", "w8"):
            with pytest.raises((StoreCorruptError, embstore.MissingWordError)):
                opened[word]
    assert not embstore.verify(store).ok


def test_descending_offsets(store):
    def change(offsets):
        offsets[:24] = offsets[:24][::-1].copy()

    change_array(store, "offsets", change)
    with embstore.open(store) as opened, pytest.raises(StoreCorruptError, match="offsets"):
        opened.words(range(23))
    assert not embstore.verify(store).ok


def test_overlapping_words_are_refused(store):
    """If each word had all bytes, a thousand words of a gigabyte would be a terabyte."""

    def change(offsets):
        offsets[0:24:2], offsets[1:24:2] = 0, offsets[23]

    change_array(store, "offsets", change)
    with embstore.open(store) as opened, pytest.raises(StoreCorruptError, match="overlap"):
        opened.words(range(0, 23, 2))


def test_control_characters_are_escaped(store):
    from typer.testing import CliRunner

    from embstore.cli import app

    def change(own):
        own["source"] = {"file": "\x1b]0;title\x07\x1b[2J", "\x1b[31m": 1}

    stores.edit(store / "zarr.json", change)
    stores.reseal(store)
    shown = CliRunner().invoke(app, ["info", str(store)])
    assert shown.exit_code == 0
    assert "\x1b" not in shown.output
    assert "title" in shown.output

    def name(data):
        data[:2] = list(b"\x1bc")

    change_array(store, "bytes", name)
    shown = CliRunner().invoke(app, ["get", str(store), "--ids", "0"])
    assert shown.exit_code == 0
    assert "\x1b" not in shown.output
    assert r"\x1bc" in shown.output


@pytest.mark.parametrize("text", [b"the " + b"9" * 10**5 + b"x\n" * 3, b"\n 1b  a2"])
def test_texts_found_by_fuzzing(tmp_path, text):
    """Digits once took quadratic time; a text of empty lines once raised an IndexError."""
    (tmp_path / "case.txt").write_bytes(text)
    with within(10), pytest.raises(embstore.SourceError):
        embstore.build(tmp_path / "case.txt", tmp_path / "case.embstore")
