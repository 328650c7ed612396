"""Hostile safetensors files, indexes and directories: a quick error of `embstore.errors`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.errors import EmbstoreError, FormatError, StoreCorruptError, StoreNotFoundError
from tests.helpers.tensors import save, save_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HUGE = (1 << 63) - 1
GOOD = {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}
ROWS = np.arange(8, dtype=np.float32).reshape(4, 2)


@pytest.fixture(autouse=True)
def _quickly() -> Iterator[None]:
    start = time.process_time()
    yield
    assert time.process_time() - start < 20


def refused(path: Path, error: type[EmbstoreError] = StoreCorruptError, **options: Any) -> str:
    """Open and list a path; return the message of the error."""
    with pytest.raises(error) as found:
        embstore.open(path, **options)
    assert len(str(found.value)) < 3000
    assert str(found.value).isprintable()
    with contextlib.suppress(EmbstoreError):
        embstore.tables(path)
    return str(found.value)


def with_header(path: Path, header: Any, data: bytes = bytes(8), size: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if size is None else size
    path.write_bytes(length.to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"a": GOOD | {"shape": [HUGE, HUGE]}}, "not whole numbers"),
        ({"a": GOOD | {"shape": [1 << 61, 1 << 61]}}, "does not take"),
        ({"a": GOOD | {"shape": [2**4000]}}, "not whole numbers"),
        ({"a": GOOD | {"shape": [1] * 65}}, "a list of at most 64"),
        ({"a": GOOD | {"shape": "21"}}, "a list of at most 64"),
        ({"a": GOOD | {"shape": [2.0, 1]}}, "not whole numbers"),
        ({"a": GOOD | {"shape": [True, 2]}}, "not whole numbers"),
        ({"a": GOOD | {"data_offsets": [8, 0]}}, "ends at byte"),
        ({"a": GOOD | {"data_offsets": [0, 8, 9]}}, "not a readable"),
        ({"a": GOOD | {"data_offsets": [-8, 0]}}, "not whole numbers"),
        ({"a": GOOD | {"data_offsets": [HUGE - 8, HUGE]}}, "not whole numbers"),
        ({"a": GOOD | {"data_offsets": [1 << 40, (1 << 40) + 8]}}, "leave a gap"),
        ({"a": GOOD, "b": GOOD}, "overlap"),
        ({"a": GOOD, "b": GOOD | {"data_offsets": [4, 12]}}, "overlap"),
        ({"a": GOOD | {"dtype": 3}}, "a dtype that is not a text"),
        ({"a": GOOD | {"dtype": ["F32"]}}, "a dtype that is not a text"),
        ({"a": []}, "not a readable"),
        ([GOOD], "not a readable"),
        (b'{"a": NaN}', "not a readable"),
        (b"\xff\xfe{\x00}\x00", "codec can't decode"),
        (b'{"a":' + b"[" * 200_000, "not a readable"),
        (b'{"a":' + b"{" * 300_000, "of '{', more than"),
        (b'{"a":[' + b"1," * 3_000_000 + b"1]}", "of ',', more than"),
        (b'{"a":' + b"1" * 5000 + b"}", "not a readable"),
        ({"\x1b[2J" * 1000: GOOD | {"shape": [3]}}, "does not take"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_hostile_headers(tmp_path, header, says):
    path = with_header(tmp_path / "t.safetensors", header)
    assert path.read_bytes()[8:9] != b"{" or says in refused(path)
    # Told by its name alone, it is read whatever it starts with.
    folder = tmp_path / "d"
    folder.mkdir()
    with_header(folder / "t.safetensors", header)
    assert says in refused(folder)


@pytest.mark.parametrize("size", [0, 1, 9, 10**6, 10**8 + 1, 1 << 40, (1 << 64) - 1])
def test_sizes_of_headers(tmp_path, size):
    folder = tmp_path / "d"
    folder.mkdir()
    with_header(folder / "t.safetensors", {"a": GOOD}, size=size)
    refused(folder)
    (folder / "t.safetensors").write_bytes(size.to_bytes(8, "little")[:5])
    refused(folder)


def test_header_beyond_a_sparse_file(tmp_path):
    path = tmp_path / "t.safetensors"
    path.write_bytes((99_999_999).to_bytes(8, "little") + b"{")
    os.truncate(path, 1 << 40)
    assert "not a readable safetensors file" in refused(path)


def test_tables_without_numbers(tmp_path):
    for shape in ([0, 0], [5, 0, 3]):
        header = {"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}
        path = with_header(tmp_path / "t.safetensors", header, b"")
        with embstore.open(path) as store:
            assert store.shape == tuple(shape)
    for shape in ([HUGE >> 2, 0], [0, 1 << 60]):
        header = {"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}
        path = with_header(tmp_path / "t.safetensors", header, b"")
        assert "more than the" in refused(path, FormatError)


@pytest.mark.parametrize("kind", ["fifo", "socket", "directory", "device", "dangling", "loop"])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "model.safetensors.index.json", "b.safetensors"]
)
def test_what_is_not_a_file(tmp_path, monkeypatch, kind, name):
    folder = tmp_path / "d"
    folder.mkdir()
    monkeypatch.chdir(folder)  # The path of a socket must be short.
    path = folder / name
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(name)
        case "directory":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case "dangling":
            path.symlink_to("missing")
        case "loop":
            path.symlink_to(name)
    for where in (path, folder):
        with pytest.raises(EmbstoreError):
            embstore.open(where)
        with pytest.raises(EmbstoreError):
            embstore.tables(where)
    # Beside a good file, it is not left out in silence.
    save(folder / "a.safetensors", {"x": ROWS})
    with pytest.raises(EmbstoreError):
        embstore.open(folder)
    with embstore.open(folder / "a.safetensors") as store:
        assert np.array_equal(store[:], ROWS)


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    "file",
    [
        *("", ".", "..", "../t.safetensors", "/etc/passwd", "d/../a.safetensors", "a\0b"),
        *("\ud800", "x" * 300, 3, None, ["a.safetensors"], {}, True),
    ],
    ids=str,
)
def test_an_index_that_names_no_file_beside_it(tmp_path, file):
    save(tmp_path / "t.safetensors", {"x": ROWS})
    folder = tmp_path / "d"
    folder.mkdir()
    save(folder / "a.safetensors", {"x": ROWS})
    (folder / INDEX).write_text(json.dumps({"weight_map": {"x": file, "y": "a.safetensors"}}))
    for tensor in (None, "x", "y"):
        assert "not a readable index" in refused(folder, tensor=tensor)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{}", b"[]", b"3", b'{"weight_map": []}', b'{"weight_map": null}'),
        *(b'{"weight_map": "x"}', b'{"weight_map": {"a": "b", "a": "c"}}', b"\xff\xfe"),
        b'{"weight_map":' + b'{"a":' * 100_000,
        b'{"weight_map":' + b"[" * 100_000,
    ],
    ids=lambda text: str(text[:30]),
)
def test_indexes_that_cannot_be_read(tmp_path, text):
    (tmp_path / INDEX).write_bytes(text)
    assert "not a readable index" in refused(tmp_path)


def test_an_index_that_lies(tmp_path):
    files = {
        "a.safetensors": {"s.0": ROWS, "s.1": ROWS + 1},
        "b.safetensors": {"s.2": ROWS + 2, "x.weight": ROWS},
    }
    weights = {"s.0": "a.safetensors", "s.1": "a.safetensors", "s.2": "b.safetensors"}
    save_model(tmp_path, files)

    def write(**changes: str | None) -> None:
        listed = {name: file for name, file in (weights | changes).items() if file is not None}
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": listed}))

    write()
    with embstore.open(tmp_path, tensor="s.{}") as store:
        assert np.array_equal(store[:], np.concatenate([ROWS, ROWS + 1, ROWS + 2]))
    # The last part is not listed, so the table would be too short.
    write(**{"s.2": None, "x.weight": "b.safetensors"})
    for name in ("s.{}", "s.2"):
        says = refused(tmp_path, tensor=name)
        assert "b.safetensors has the tensor 's.2'" in says
    write(**{"s.1": "b.safetensors"})
    assert "b.safetensors has no tensor 's.1'" in refused(tmp_path, tensor="s.1")
    assert "has the tensor 's.1'" in refused(tmp_path, tensor="s.{}")
    write(**{"s.3": "b.safetensors"})
    assert "b.safetensors has no tensor 's.3'" in refused(tmp_path, tensor="s.{}")
    write(**{"s.2": "c.safetensors"})
    assert "c.safetensors, which" in refused(tmp_path, tensor="s.{}")
    # A file that is not listed at all may be a copy, but has no further parts.
    write()
    save(tmp_path / "all.safetensors", {"s.0": ROWS, "s.1": ROWS, "s.2": ROWS, "y": ROWS})
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    with embstore.open(tmp_path, tensor="s.{}") as store:
        assert store.rows == 12
    assert "all.safetensors has the tensor 'y', but" in refused(tmp_path, tensor="y")
    save(tmp_path / "all.safetensors", {"s.3": ROWS})
    assert "all.safetensors has the tensor 's.3', but" in refused(tmp_path, tensor="s.{}")
    (tmp_path / "all.safetensors").unlink()
    (tmp_path / "b.safetensors").unlink()
    assert "b.safetensors, which" in refused(tmp_path, tensor="s.{}")
    with embstore.open(tmp_path, tensor="s.0") as store:  # Its file is there.
        assert np.array_equal(store[:], ROWS)


def test_several_indexes(tmp_path):
    save(tmp_path / "a.safetensors", {"x": ROWS})
    text = json.dumps({"weight_map": {"x": "a.safetensors"}})
    for name in ("one.safetensors.index.json", "pytorch_model.bin.index.json"):
        (tmp_path / name).write_text(text)
    with embstore.open(tmp_path) as store:
        assert np.array_equal(store[:], ROWS)
    (tmp_path / "tokens.index.json").write_text("{}")
    with embstore.open(tmp_path) as store:
        assert np.array_equal(store[:], ROWS)
    (tmp_path / "two.safetensors.index.json").write_text(text)
    says = refused(tmp_path, FormatError)
    assert "several indexes: one.safetensors.index.json, two.safetensors.index.json; name" in says


def test_indexes_of_any_name(tmp_path):
    save(tmp_path / "a.safetensors", {"x": ROWS})
    (tmp_path / "tokens.index.json").write_text("{}")
    with embstore.open(tmp_path) as store:  # Not an index of tensors.
        assert np.array_equal(store[:], ROWS)
    save(tmp_path / "b.safetensors", {"x": ROWS + 1})
    (tmp_path / "one.index.json").write_text(json.dumps({"weight_map": {"x": "b.safetensors"}}))
    with embstore.open(tmp_path) as store:
        assert np.array_equal(store[:], ROWS + 1)
    with embstore.open(tmp_path / "one.index.json") as store:
        assert np.array_equal(store[:], ROWS + 1)


def test_index_of_other_files_alone(tmp_path):
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"x": "y"}}))
    assert "is not a store" in refused(tmp_path, StoreNotFoundError)


def test_a_directory_of_some_of_the_files(tmp_path):
    save(tmp_path / "m-00001-of-00003.safetensors", {"s.0": ROWS})
    assert "is one of 3 files" in refused(tmp_path, FormatError)
    save(tmp_path / "m-00003-of-00003.safetensors", {"s.1": ROWS})
    assert "has 2 of 3 files" in refused(tmp_path, FormatError, tensor="s.{}")
    save(tmp_path / "m-00002-of-00003.safetensors", {"s.2": ROWS})
    with embstore.open(tmp_path, tensor="s.{}") as store:
        assert store.rows == 12


def test_hidden_files_are_left_out(tmp_path):
    save(tmp_path / "a.safetensors", {"x": ROWS})
    (tmp_path / "._a.safetensors").write_bytes(b"\0\5\x16\7")
    with embstore.open(tmp_path) as store:
        assert np.array_equal(store[:], ROWS)
    (tmp_path / "a.safetensors").unlink()
    assert "only hidden files" in refused(tmp_path, FormatError)


def test_wrong_names_of_many_tensors(tmp_path):
    tensors = {f"{number}x" * 40: np.zeros((1, 1), np.int8) for number in range(3000)}
    path = save(tmp_path / "t.safetensors", tensors)
    assert "has no tensor" in refused(path, FormatError, tensor="10x" * 39)
    assert "has no tensor" in refused(path, FormatError, tensor="a" * 100_000)


def test_a_missing_path_is_not_found(tmp_path):
    assert "no such file or directory" in refused(tmp_path / "x.safetensors", StoreNotFoundError)
