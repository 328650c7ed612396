"""Files of arrays hold what is read and nothing else: else they are refused, in place too."""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from tests.helpers.sources import assert_same, read

if TYPE_CHECKING:
    from pathlib import Path

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def npy(*arrays: Any) -> bytes:
    out = io.BytesIO()
    for array in arrays:
        np.save(out, array)
    return out.getvalue()


def npy_with(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def tensors(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(begin: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [(end - begin) // 4, 1], "data_offsets": [begin, end]}


def refuse(path: Path, says: str, **options: Any) -> None:
    """Check that neither a build nor `embstore.open` takes a file."""
    with pytest.raises(embstore.SourceError, match=says):
        embstore.build(path, path.with_name("s"), **options)
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises((embstore.StoreCorruptError, embstore.FormatError), match=says):
        embstore.open(path, **options)


@pytest.mark.parametrize(
    "data",
    [
        npy(ROWS, ROWS),
        npy(ROWS, np.array(["a"])),
        npy(ROWS) + ROWS.tobytes(),
        npy(ROWS) + b"\n",
        npy(ROWS[:0]) + ROWS.tobytes(),
        npy(ROWS) + bytes(5000),
    ],
)
def test_npy_with_more_than_its_array(tmp_path, data):
    (tmp_path / "t.npy").write_bytes(data)
    refuse(tmp_path / "t.npy", r"t\.npy: an array of shape .* more bytes follow it")


DEEP = "(" * 4000
HEADERS = [
    DEEP,
    "-" * 9000 + "1",
    "[" * 150 + "]" * 150,
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4, True)}",
    "{'descr': '<f4', 'fortran_order': 0, 'shape': (4, 3)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': [4, 3]}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3), 'more': 1}",
    "{'descr': '<f4', 'shape': (4, 3)}",
    "{'descr': 4, 'fortran_order': False, 'shape': (4, 3)}",
    "{'descr': '<q9', 'fortran_order': False, 'shape': (4, 3)}",
    "{[]: 1}",
    "__import__('os')",
    "'\\ud800",
    "",
]


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_hostile_npy_headers(tmp_path, header):
    (tmp_path / "t.npy").write_bytes(npy_with(header, ROWS.tobytes()))
    refuse(tmp_path / "t.npy", r"t\.npy is not a readable \.npy")


@pytest.mark.parametrize("shape", ["(4L, 3L)", "(4L, 3)", "(4, 3,)"])
def test_npy_of_python_2_and_of_other_writers(tmp_path, shape):
    header = f"{{'shape': {shape}, 'fortran_order': False, 'descr': '<f4'}}"
    (tmp_path / "t.npy").write_bytes(npy_with(header, ROWS.tobytes()))
    assert_same(read(tmp_path / "t.npy")[1], ROWS)
    assert_same(embstore.open(tmp_path / "t.npy").to_numpy(), ROWS)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (tensors({"e": entry(0, 16)}, bytes(20)), "4 bytes after .* belong to no tensor"),
        (tensors({"e": entry(8, 24)}, bytes(24)), "leave a gap"),
        (tensors({"f": entry(0, 8), "e": entry(12, 28)}, bytes(28)), "leave a gap"),
        (tensors({"e": entry(0, 16), "f": entry(8, 24)}, bytes(24)), "overlap"),
        (tensors({"e": entry(0, 16), "f": entry(0, 16)}, bytes(16)), "overlap"),
        (tensors({"e": entry(0, 16), "f": entry(16, 32)}, bytes(31)), "the file has"),
        (tensors(b'{"e":{},"e":{}}', b""), "the name 'e' is repeated"),
        (
            tensors(
                b'{"e":{"dtype":"F32","shape":[1],"shape":[4],"data_offsets":[0,16]}}', b"x" * 16
            ),
            "the name 'shape' is repeated",
        ),
        (tensors(b'{"e":' + b"[" * 90_000, b""), "not a readable"),
        (tensors({"e": entry(0, 16) | {"data_offsets": [16, 0]}}, bytes(16)), "not a readable"),
    ],
)
def test_safetensors_with_bytes_of_no_tensor_or_of_several(tmp_path, data, says):
    (tmp_path / "t.safetensors").write_bytes(data)
    refuse(tmp_path / "t.safetensors", says, tensor="e")


@pytest.mark.parametrize(
    "text",
    [
        '{"weight_map": {"e": "t.safetensors", "e": "u.safetensors"}}',
        '{"weight_map": {"e": "t.safetensors"}, "weight_map": {"e": "u.safetensors"}}',
        '{"metadata": {"a": 1, "a": 2}, "weight_map": {"e": "t.safetensors"}}',
    ],
)
def test_indexes_with_a_name_twice(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    refuse(tmp_path / "model.safetensors.index.json", "is repeated", tensor="e")


def npz(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([("a.npy", npy(ROWS)), ("a.npy", npy(ROWS + 1))], "several members 'a'"),
        ([("a.npy", npy(ROWS, ROWS))], "more bytes follow"),
        ([("a.npy", npy(ROWS) + ROWS.tobytes())], "more bytes follow"),
        ([("a.npy", npy(ROWS)[:-4]), ("b.npy", npy(ROWS))], "ends in row 3"),
        ([("a.npy", npy(np.asfortranarray(ROWS)) + b"x")], "more bytes follow|Fortran"),
        ([("a.npy", npy(np.asfortranarray(ROWS))[:-4]), ("b.npy", b"x" * 99)], "only 44|Fortran"),
    ],
)
def test_npz_with_more_or_less_than_its_arrays(tmp_path, members, method, says):
    (tmp_path / "t.npz").write_bytes(npz(*members, method=method))
    with pytest.raises(embstore.SourceError, match=says):
        embstore.build(tmp_path / "t.npz", tmp_path / "s", member="a")
    assert not (tmp_path / "s").exists()
