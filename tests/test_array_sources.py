"""Arrays in files: .npy, directories of them, .npz, safetensors; with and without words."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

import embstore
from embstore import sources
from embstore.errors import SourceError
from embstore.sources.choose import open_source
from tests.helpers.programs import run_program
from tests.helpers.sources import AWKWARD, assert_same, read
from tests.helpers.stores import flip

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DTYPES = ["float16", "float32", "float64", ">f4", ">i2", "int8", "int64", "uint8", "uint64"]


def table(rows: int = 50, shape: tuple[int, ...] = (3,), dtype: str = "float32") -> NDArray[Any]:
    size = rows * int(np.prod(shape))
    return np.arange(size).astype(np.dtype(dtype).newbyteorder("=")).reshape(rows, *shape)


def save_npy(path: Path, array: NDArray[Any]) -> Path:
    np.save(path, array)
    return path


def save_npz(path: Path, array: NDArray[Any]) -> Path:
    path = path.with_suffix(".npz")
    np.savez(path, array)
    return path


def save_compressed(path: Path, array: NDArray[Any]) -> Path:
    path = path.with_suffix(".npz")
    np.savez_compressed(path, array)
    return path


@pytest.fixture(params=[1, 100, 4 << 20])
def batch_bytes(request, monkeypatch):
    monkeypatch.setattr(sources, "BATCH_BYTES", request.param)


@pytest.mark.usefixtures("batch_bytes")
@pytest.mark.parametrize("save", [save_npy, save_npz, save_compressed])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (1, 2, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_rank_and_order(tmp_path, save, shape, order):
    array = np.asarray(table(shape=shape), order=order)
    path = save(tmp_path / "t.npy", array)
    if save is save_compressed and order == "F" and array.ndim > 1:
        with pytest.raises(SourceError, match="compressed, and its array in Fortran order"):
            read(path)
        return
    words, rows = read(path)
    assert words is None
    assert_same(rows, array)
    assert_same(read(path, limit=7)[1], array[:7])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("save", [save_npy, save_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_dtype(tmp_path, dtype, save, order):
    array = np.asarray(table(dtype=dtype).astype(dtype), order=order)
    if save is save_compressed:
        array = np.ascontiguousarray(array)
    path = save(tmp_path / "t.npy", array)
    assert_same(read(path)[1], array)
    store = embstore.build(path, tmp_path / "s", partitions=3, strategy="div")
    assert store.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(store[:], array)
    with pytest.raises(embstore.MissingWordError):
        store["a"]


@pytest.mark.usefixtures("batch_bytes")
def test_directory_is_read_in_natural_order(tmp_path):
    whole = table(60)
    (tmp_path / "parts").mkdir()
    for number in range(12):
        np.save(tmp_path / "parts" / f"part-{number}.npy", whole[number * 5 : number * 5 + 5])
    assert_same(read(tmp_path / "parts")[1], whole)
    assert_same(read(tmp_path / "parts", limit=11)[1], whole[:11])
    np.save(tmp_path / "parts" / "part-12.npy", np.ones((2, 4), np.float32))
    with pytest.raises(SourceError, match=r"part-12\.npy has shape \(2, 4\).*part-0\.npy"):
        read(tmp_path / "parts")


@pytest.mark.usefixtures("batch_bytes")
@pytest.mark.parametrize("kind", ["list", "tuple", "array", "file", "gz"])
def test_words(tmp_path, kind):
    words = [word for word in AWKWARD if word != "\r"] + ["last", ""]
    array = table(len(words))
    path = save_npy(tmp_path / "t.npy", array)
    text = "".join(f"{word}\n" for word in words).encode()
    (tmp_path / "w.txt").write_bytes(text)
    (tmp_path / "w.txt.gz").write_bytes(gzip.compress(text))
    given = {
        "list": words,
        "tuple": tuple(words),
        "array": np.array(words, object),
        "file": tmp_path / "w.txt",
        "gz": str(tmp_path / "w.txt.gz"),
    }[kind]
    found, rows = read(path, words=given)
    assert found == words
    assert_same(rows, array)
    assert read(path, words=given, limit=4)[0] == words[:4]


def test_words_with_windows_line_ends(tmp_path):
    path = save_npy(tmp_path / "t.npy", table(3))
    (tmp_path / "w.txt").write_bytes(b"a\r\nb c\r\nd")
    assert read(path, words=tmp_path / "w.txt")[0] == ["a", "b c", "d"]


@pytest.mark.parametrize("count", [0, 2, 4, 100])
@pytest.mark.parametrize("as_file", [False, True])
def test_too_few_or_many_words(tmp_path, count, as_file):
    path = save_npy(tmp_path / "t.npy", table(3))
    words = [f"w{i}" for i in range(count)]
    name = "words"
    if as_file:
        name = str(tmp_path / "w.txt")
        (tmp_path / "w.txt").write_text("".join(f"{word}\n" for word in words))
    with pytest.raises(SourceError) as error:
        embstore.build(path, tmp_path / "s", words=name if as_file else words)
    many = "more than 3" if count > 3 else count
    assert f"{name} has {many} words, but {path} has 3 rows" in str(error.value)
    assert not (tmp_path / "s").exists()


def test_invalid_words_are_refused(tmp_path):
    path = save_npy(tmp_path / "t.npy", table(2))
    (tmp_path / "w.txt").write_bytes(b"a\ncaf\xe9\n")
    with pytest.raises(SourceError, match=r"w\.txt:2: the word is not UTF-8"):
        read(path, words=tmp_path / "w.txt")
    with pytest.raises(SourceError, match="cannot be encoded as UTF-8"):
        read(path, words=["a", "\ud800"])
    with pytest.raises(TypeError, match="words must be str, not int"):
        read(path, words=["a", 1])
    with pytest.raises(SourceError, match="no such file"):
        read(path, words=tmp_path / "none.txt")


def test_npz_members(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, first=table(2), second=table(3))
    with pytest.raises(
        SourceError, match=r"has 2 members: first, second; name the one to read .member="
    ):
        read(path)
    with pytest.raises(SourceError, match="no member 'third'; it has: first, second"):
        read(path, member="third")
    assert_same(read(path, member="second")[1], table(3))


def truncated(path: Path, size: int) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


@pytest.mark.parametrize("size", [3, 9, 60, 127, 128, 200, 727])
def test_truncated_npy_files(tmp_path, size):
    path = truncated(save_npy(tmp_path / "t.npy", table(50)), size)
    with pytest.raises(SourceError, match=r"t\.npy"):
        read(path, format="npy")


@pytest.mark.parametrize("save", [save_npz, save_compressed])
@pytest.mark.parametrize("size", [3, 60, 200, 400])
def test_truncated_npz_files(tmp_path, save, size):
    path = truncated(save(tmp_path / "t.npy", table(200)), size)
    with pytest.raises(SourceError, match=r"t\.npz"):
        read(path, format="npz")


def test_damaged_compressed_member(tmp_path):
    path = save_compressed(tmp_path / "t.npy", np.random.default_rng(0).random((20_000, 3)))
    flip(path, path.stat().st_size // 2, 255)
    with pytest.raises(SourceError, match="cannot be read as zip: Bad CRC-32"):
        read(path)


def header_of(description: object) -> bytes:
    file = io.BytesIO()
    text = repr(description).encode() + b"\n"
    file.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x93NUMPY\x09\x00", "format, which embstore does not know"),
        (header_of({"descr": "<f4", "fortran_order": False, "shape": (9, -1)}), r"shape is \(9, -"),
        (header_of({"descr": "<f4", "fortran_order": False, "shape": (10**15, 9)}), "only 0 are"),
        (header_of({"descr": "<f4", "fortran_order": False, "shape": ()}) + b"1234", r"shape \(\)"),
        (header_of({"descr": "<f4", "fortran_order": False, "shape": (0, 1 << 40)}), "a row takes"),
        (header_of({"descr": "|O", "fortran_order": False, "shape": (1,)}), "Python objects"),
        (header_of({"descr": "<c8", "fortran_order": False, "shape": (0,)}), "dtype complex64"),
        (header_of({"descr": "|b1", "fortran_order": False, "shape": (0,)}), "dtype bool"),
        (header_of({"descr": "<U3", "fortran_order": False, "shape": (0,)}), "dtype <U3"),
        (header_of("9" * 20_000), "not a readable .npy"),
        (b"", "not a readable .npy"),
    ],
)
def test_invalid_npy_files_are_refused(tmp_path, data, says):
    (tmp_path / "t.npy").write_bytes(data)
    with pytest.raises(SourceError, match=says):
        read(tmp_path / "t.npy", format="npy")


def test_row_larger_than_a_batch(tmp_path):
    array = np.random.default_rng(0).random((3, 1_000_000))
    path = save_npy(tmp_path / "t.npy", array)
    assert [len(batch.rows) for batch in open_source(path).batches()] == [1, 1, 1]
    assert_same(read(path)[1], array)


READ_THROUGH = """
import sys
from embstore.sources.choose import open_source
from tests.helpers.memory import peak_bytes
source = open_source(sys.argv[1])
before = peak_bytes()
for batch in source.batches():
    batch.rows.sum()
print(peak_bytes() - before)
"""


@pytest.mark.parametrize("fortran", [False, True])
def test_mapped_array_is_not_held_in_memory(tmp_path, fortran):
    np.lib.format.open_memmap(
        tmp_path / "t.npy", "w+", np.float32, (512 << 10, 128), fortran_order=fortran
    )
    assert int(run_program(READ_THROUGH, tmp_path / "t.npy")) < 64 << 20  # Of 256 MiB.


TENSORS: dict[str, Any] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": ml_dtypes.bfloat16,
    "I8": "i1",
    "I64": "<i8",
    "U8": "u1",
    "U64": "<u8",
}


def safetensors_bytes(tensors: dict[str, NDArray[Any]]) -> bytes:
    """Write tensors according to the format's specification."""
    codes = {np.dtype(dtype): code for code, dtype in TENSORS.items()}
    header: dict[str, Any] = {"__metadata__": {"made": "by hand"}}
    data = b""
    for name, array in tensors.items():
        begin = len(data)
        data += array.tobytes()
        offsets = [begin, len(data)]
        header[name] = {"dtype": codes[array.dtype], "shape": array.shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("dtype", TENSORS.values(), ids=TENSORS)
def test_safetensors(tmp_path, dtype):
    array = np.arange(24).astype(dtype).reshape(4, 3, 2)
    (tmp_path / "t").write_bytes(safetensors_bytes({"a": table(9), "b": array}))
    assert_same(read(tmp_path / "t", tensor="b")[1], array)
    assert_same(read(tmp_path / "t", tensor="b", limit=2)[1], array[:2])
    assert_same(read(tmp_path / "t", tensor="a")[1], table(9))
    with pytest.raises(SourceError, match=r"has 2 tensors: a, b; name the one .*tensor="):
        read(tmp_path / "t")
    with pytest.raises(SourceError, match="no tensor 'c'; it has: a, b"):
        read(tmp_path / "t", tensor="c")


def test_files_of_the_safetensors_library(tmp_path):
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    matrix = torch.randn(70, 5)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        library.save_file({"embed.weight": matrix.to(dtype)}, tmp_path / "t.safetensors")
        words, rows = read(tmp_path / "t.safetensors", words=map(str, range(70)))
        assert words == [str(i) for i in range(70)]
        assert (rows.astype(np.float32) == matrix.to(dtype).float().numpy()).all()


def test_safetensors_in_several_files(tmp_path):
    for number in (1, 2):
        tensors = {f"layer.{number}": table(number), "bias": table(1)}
        (tmp_path / f"model-{number}.safetensors").write_bytes(safetensors_bytes(tensors))
    weight_map = {f"layer.{number}": f"model-{number}.safetensors" for number in (1, 2)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for path in (tmp_path, index):
        assert_same(read(path, tensor="layer.2")[1], table(2))
    with pytest.raises(SourceError, match=r"layer\.1 to layer\.2\); name the one"):
        read(tmp_path)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(SourceError, match=r"model-2\.safetensors, which .* is missing"):
        read(tmp_path, tensor="layer.2")
    bad: Any
    for bad in ({"x": "../secret"}, {"x": 3}, [], "x"):
        index.write_text(json.dumps({"weight_map": bad}))
        with pytest.raises(SourceError, match="not a readable index"):
            read(tmp_path)
    index.unlink()
    assert_same(read(tmp_path, tensor="bias")[1], table(1))  # The one file that is left.


def with_header(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


GOOD = {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a readable"),
        (b"\x09\0\0", "not a readable"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "more than 100000000"),
        (with_header(b"{"), "not a readable"),
        (with_header(b"[" * 100_000), "not a readable"),
        (with_header([]), "not a readable"),
        (with_header({}), "has 0 tensors"),
        (with_header({"a": GOOD | {"shape": [2, 2]}}, b"12345678"), "does not take 8 bytes"),
        (with_header({"a": GOOD | {"shape": [-2, -1]}}, b"12345678"), "not whole numbers"),
        (with_header({"a": GOOD | {"shape": [2.0, 1]}}, b"12345678"), "not whole numbers"),
        (with_header({"a": GOOD | {"data_offsets": [-8, 0]}}, b"12345678"), "not whole numbers"),
        (with_header({"a": GOOD}, b"1234567"), "but the file has 79 bytes"),
        (with_header({"a": GOOD | {"dtype": "F8_E3M4"}}, b"12345678"), "dtype .*F8_E3M4"),
        (with_header({"a": {"dtype": "F32"}}), "not a readable"),
    ],
)
def test_invalid_safetensors_files_are_refused(tmp_path, data, says):
    (tmp_path / "t.safetensors").write_bytes(data)
    with pytest.raises(SourceError, match=says):
        read(tmp_path / "t.safetensors", format="safetensors")


def test_zip_without_arrays_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.pt", "w") as archive:
        archive.writestr("t/data.pkl", b"x")
    with pytest.raises(SourceError, match="a pickle of torch, which could run any code"):
        read(tmp_path / "t.pt")
    with zipfile.ZipFile(tmp_path / "t.odt", "w") as archive:
        archive.writestr("mimetype", b"application/vnd.oasis.opendocument.text")
        archive.writestr("content.xml", b"x")
    with pytest.raises(SourceError, match="an Office document; save it as CSV"):
        read(tmp_path / "t.odt")
