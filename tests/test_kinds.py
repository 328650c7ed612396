"""Files are what their bytes say: read under any name, or refused by what they are."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import sqlite3
import struct
import zipfile
import zlib
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

import embstore
from embstore.errors import SourceError
from embstore.formats.own.seals import checksum
from embstore.sources.choose import open_source
from embstore.sources.files.kinds import ARCHIVED, KINDS
from tests.helpers.compression import by_arrow
from tests.helpers.sources import assert_same, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXT = b"the 1 2\nlike 3 4\n"
ROWS = np.array([[1, 2], [3, 4]], np.float32)


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/t.txt", data)
    return out.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": by_arrow("zstd"),
    "lz4": by_arrow("lz4"),
    "zip": zipped,
    "none": lambda data: data,
}
NAMES = ["t.txt", "t.gz", "t.bz2", "t.zip", "t.npy", "t"]
BINARY = b"2 2\nthe \0\0\x80\x3f\0\0\0\x40like \0\0\x40\x40\0\0\x80\x40"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("data", [TEXT, b"2 2\n" + TEXT, BINARY], ids=["glove", "header", "binary"])
def test_content_decides_not_the_name(tmp_path, name, packer, data):
    words, rows = read(saved(tmp_path / name, PACKERS[packer](data)))
    assert words == ["the", "like"]
    assert_same(rows, ROWS)


def npy_bytes(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("packer", PACKERS)
def test_arrays_under_any_name(tmp_path, name, packer):
    path = saved(tmp_path / name, PACKERS[packer](npy_bytes(ROWS)))
    words, rows = read(path, words=["a", "b"])
    assert words == ["a", "b"]
    assert_same(rows, ROWS)
    assert_same(read(path, limit=1)[1], ROWS[:1])


@pytest.mark.parametrize("name", ["t.zip", "t.txt", "t.npz"])
def test_npz_under_any_name(tmp_path, name):
    out = io.BytesIO()
    np.savez(out, a=ROWS, b=ROWS + 1)
    path = saved(tmp_path / name, out.getvalue())
    assert_same(read(path, member="b")[1], ROWS + 1)
    with pytest.raises(SourceError, match="has 2 members: a, b"):
        read(path)


@pytest.mark.parametrize("packer", [name for name in PACKERS if name != "none"])
def test_formats_that_need_the_whole_file_are_refused_when_packed(tmp_path, packer):
    table = pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 2)})
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    header = b'{"e":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}'
    tensors = len(header).to_bytes(8, "little") + header + ROWS.tobytes()
    for data in ((tmp_path / "t.parquet").read_bytes(), tensors):
        path = saved(tmp_path / "t.bin", PACKERS[packer](data))
        with pytest.raises(SourceError, match="compressed or in an archive; extract it first"):
            read(path)


@pytest.mark.parametrize("layers", [["gzip", "gzip"], ["zip", "xz"], ["zstd", "bz2", "gzip"]])
def test_layers_of_compression(tmp_path, layers):
    data = TEXT
    for layer in reversed(layers):
        data = PACKERS[layer](data)
    assert read(saved(tmp_path / "t.gz", data))[0] == ["the", "like"]


def test_too_many_layers_are_refused(tmp_path):
    data = TEXT
    for _ in range(5):
        data = gzip.compress(data)
    with pytest.raises(SourceError, match="compressed more than 4 times"):
        read(saved(tmp_path / "t.gz", data))
    with pytest.raises(SourceError, match="has a zip archive in it; extract that first"):
        read(saved(tmp_path / "t.gz", gzip.compress(zipped(TEXT))))


def pickled(protocol: int) -> bytes:
    return pickle.dumps({"the": [1.0, 2.0]}, protocol)


def sqlite_bytes() -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE magnitude (key TEXT)")
        return connection.serialize()


def zip_of(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return out.getvalue()


def tf_record(data: bytes) -> bytes:
    def masked(part: bytes) -> bytes:
        crc = checksum(part)
        rotated = ((crc >> 15) | (crc << 17)) + 0xA282EAD8
        return (rotated & 0xFFFFFFFF).to_bytes(4, "little")

    length = len(data).to_bytes(8, "little")
    return length + masked(length) + data + masked(data)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FASTTEXT = struct.pack("<12id", 100, 5, 5, 1, 5, 1, 1, 2, 2_000_000, 3, 6, 100, 1e-4)
REFUSED: dict[str, list[bytes]] = {
    "git-lfs": [LFS, b"version https://hawser.github.com/spec/v1\noid sha256:4d\n", b"\n" + LFS],
    "git-annex": [
        b"/annex/objects/SHA256E-s12--4d7a.txt\n",
        b"../.git/annex/objects/Wx/k2/SHA256E-s12--4d7a.txt",
        b"\\annex\\objects\\MD5-s12--4d7a",
    ],
    "DVC": [
        b"outs:\n- md5: a304afb96060aad90176268345e10355\n  path: data.txt\n",
        b"md5: a304\nouts:\n- md5: b1\n  path: v.txt\n",
        b"wdir: ..\nouts:\n  - path: v.txt\n",
    ],
    "an HTML or XML page": [
        b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n",
        b"\xef\xbb\xbf\r\n  <!doctype HTML>",
        b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>',
        b"<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n",
        b"<HTML><BODY>quota exceeded</BODY></HTML>",
        b"<!-- moved -->\n<p>gone</p>",
        b"<Error><Code>NoSuchKey</Code></Error>",
    ],
    "a JSON file": [
        json.dumps({"error": "not found"}).encode(),
        json.dumps({"the": [1, 2]}, indent=2).encode(),
        b'{"word": "the", "vector": [1, 2]}\n{"word": "like", "vector": [3, 4]}\n',
        json.dumps([[1, 2], [3, 4]]).encode(),
        json.dumps([{"word": "the"}], indent=1).encode(),
        b'["the", "like"]',
    ],
    "a fastText model": [
        struct.pack("<2i", 793712314, 12) + FASTTEXT,
        FASTTEXT,
        struct.pack("<12id", 300, 5, 5, 5, 5, 1, 2, 1, 2_000_000, 3, 6, 100, 1e-4),
    ],
    "an HDF5 file": [
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n" + bytes(100),
        bytes(2048) + b"\x89HDF\r\n\x1a\n" + bytes(100),
    ],
    "a pickle, which could run": [
        *map(pickled, range(6)),
        pickle.dumps((("the", "like"), ROWS), 0),
        pickle.dumps(ROWS, 0),
        pickle.dumps(["the"], 1),
        b"ZF0x2ac" + b"\0" * 20,
        PACKERS["gzip"](pickled(4)),
    ],
    "a pickle of torch": [
        zip_of("archive/data.pkl", "archive/data/0"),
        zip_of("model/version", "model/data.pkl"),
        zip_of("data.pkl", "a", "b"),
    ],
    "compressed by zlib": [zlib.compress(pickled(4) * 9, level) for level in (1, 6, 9)],
    "an SQLite database": [sqlite_bytes(), b"SQLite format 3\0", zipped(sqlite_bytes())],
    "an LMDB database": [
        bytes(10) + flags + bytes(4) + b"\xde\xc0\xef\xbe\1\0\0\0"
        for flags in (b"\x08\0", b"\0\0", b"\x09\0")
    ],
    "a MATLAB file": [
        b"MATLAB 5.0 MAT-file, Platform: GLNXA64, Created on: Mon Mar  3".ljust(124) + b"\0\1IM",
        b"MATLAB 5.0 MAT-file Platform: posix".ljust(124) + b"\0\1IM" + bytes(30),
        b"MATLAB 7.0 MAT-file".ljust(124) + b"\0\1IM",
    ],
    "a file of Lua Torch": [
        b"\4\0\0\0\1\0\0\0\3\0\0\0V 1\x11\0\0\0torch.FloatTensor",
        b"\3\0\0\0\1\0\0\0\2\0\0\0V 1",
        b"4\n1\n3\nV 1\n17\ntorch.FloatTensor\n2\n",
    ],
    "a file of R": [
        b"RDX3\nX\n\0\0\0\3",
        gzip.compress(b"X\n\0\0\0\3\0\4\3\1"),
        b"A\n3\n262913\n197888\n5\nUTF-8\n",
    ],
    "an Avro file": [b"Obj\1\4\x16avro.schema", b"Obj\1" + bytes(20), gzip.compress(b"Obj\1a")],
    "an ORC file": [b"ORC\n\x1d\n\x06", b"ORC\0\1\2", b"ORC\x11\0\0"],
    "TensorFlow records": [tf_record(b"\x09brain.Event:2"), tf_record(b"x" * 99), tf_record(b"")],
    "a TensorFlow checkpoint": [
        b"\0\0\6\x08\1\x1a\2\x08\1\0\1",
        b"\0\0\7\x08\x10\x1a\2\x08\1",
        b"\0\0\x08\x08\1\x10\0\x1a\2\x08\1",
    ],
    "a model in protocol buffers": [
        b"\x08\7\x12\7pytorch\x1a\x051.13.",
        b"\x08\1\x12\xc0\1\n",
        b"\x08\3:\x10\n\4embe",
    ],
    "a PDF document": [b"%PDF-1.5\n%\xd0\xd4\xc5\xd8", b"\n%PDF-1.7\r%\xe2", b"%PDF-2.0\n1 0 obj"],
    "a 7z archive": [b"7z\xbc\xaf\x27\x1c\0\4" + bytes(i) for i in (0, 4, 90)],
    "a RAR archive": [
        b"Rar!\x1a\7\0" + bytes(9),
        b"Rar!\x1a\7\1\0",
        gzip.compress(b"Rar!\x1a\7\0"),
    ],
    "a program": [b"\x7fELF\2\1\1" + bytes(9), b"MZ\x90\0\3" + bytes(60), b"\xcf\xfa\xed\xfe\7"],
    "an image": [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\0\x10JFIF", b"GIF89a\1\0", b"II*\0\x08"],
    "an Office document": [
        zip_of("[Content_Types].xml", "xl/workbook.xml"),
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(60),
        zip_of("mimetype", "content.xml"),
    ],
    "a Keras model": [zip_of("metadata.json", "config.json", "model.weights.h5")],
    "filled with zero bytes": [bytes(1), bytes(5000), bytes(200_000), gzip.compress(bytes(300))],
    "a binary file of an unknown kind": [
        np.random.default_rng(0).standard_normal(5000).astype("<f4").tobytes(),
        TEXT.decode().encode("utf-16-le"),
        b"\x21\x08\x02\0" * 40,
    ],
}
CASES = [(what, data) for what, some in REFUSED.items() for data in some]


@pytest.mark.parametrize(("what", "data"), CASES, ids=[f"{what}" for what, _ in CASES])
@pytest.mark.parametrize("name", ["t.txt", "t.bin", "t.npy.gz"])
def test_files_that_are_not_read_are_named(tmp_path, name, what, data):
    path = saved(tmp_path / name, data)
    for format in ("auto", "glove"):
        with pytest.raises(SourceError) as error:
            embstore.build(path, tmp_path / "s", format=format)
        assert str(path) in str(error.value)
        assert what in str(error.value)
        assert "; " in str(error.value)  # Then comes the remedy.
    assert list(tmp_path.iterdir()) == [path]


def test_h5py_and_torch_files_are_named(tmp_path):
    h5py = pytest.importorskip("h5py")
    torch = pytest.importorskip("torch")
    with h5py.File(tmp_path / "a.vec", "w", userblock_size=1024) as file:
        file["vectors"] = ROWS
    torch.save(ROWS, tmp_path / "zip.txt")
    torch.save(ROWS, tmp_path / "old.txt", _use_new_zipfile_serialization=False)
    for name, what in (("a.vec", "HDF5"), ("zip.txt", "pickle"), ("old.txt", "pickle")):
        with pytest.raises(SourceError, match=f"is an? {what}"):
            read(tmp_path / name)


@pytest.mark.parametrize("dump", ["none", "zlib", "gzip", "lzma"])
def test_files_of_joblib_are_named(tmp_path, dump):
    joblib = pytest.importorskip("joblib")
    joblib.dump({"the": ROWS}, tmp_path / "t.joblib", compress=0 if dump == "none" else (dump, 3))
    with pytest.raises(SourceError, match="which could run any code"):
        read(tmp_path / "t.joblib")


WORDS = [
    *[
        "<html>",
        "<!DOCTYPE",
        "<?xml",
        "{",
        "[",
        '{"',
        "[[",
        "version",
        "MATLAB",
        "GGUF",
        "%PDF-1.5",
    ],
    *["PAR1", "ORC", "Obj", "7z", "RIFF", "ARROW1", "(VP", "]q", "x^", "BZh9", "MZ", "BM", "Rar!"],
    *[
        "</s>",
        "<unk>",
        "<p>",
        "cnumpy",
        "(lp",
        "II*",
        "P*M",
        "outs:",
        "d8:announce",
        "FEA1",
        "DUCK",
    ],
]


@pytest.mark.parametrize("word", WORDS)
def test_words_that_look_like_other_files(tmp_path, word):
    """A word at the start of a file of vectors, and of a list of words, is a word."""
    path = saved(tmp_path / "t.txt", f"{word} 1.0 2.0\nlike 3.0 4.0\n".encode())
    words, rows = read(path)
    assert words == [word, "like"]
    assert_same(rows, ROWS)
    listed = saved(tmp_path / "w.txt", f"{word}\nlike\n".encode())
    assert read(saved(tmp_path / "t.npy", npy_bytes(ROWS)), words=listed)[0] == [word, "like"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, None], ids=["FIFO", "directory", "device"])
def test_what_is_not_a_regular_file_is_refused(tmp_path, make):
    path = tmp_path / "t.txt"
    if make is None:
        path.symlink_to("/dev/zero")
    else:
        make(path)
    for format in ("auto", "glove", "npy", "npz"):
        with pytest.raises(SourceError, match=r"is not a file|no \.npy files|no files of"):
            read(path, format=format)
    if make is not os.mkdir:
        with pytest.raises(SourceError, match="a pipe or a device"):
            read(saved(tmp_path / "t.npy", npy_bytes(ROWS)), words=path)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/vectors.txt",
        "s3://bucket/key/v.npy",
        "hf://datasets/org/name/v.parquet",
        "file:///tmp/v.txt",
    ],
)
def test_urls_are_refused(tmp_path, url):
    with pytest.raises(SourceError, match="is a URL; download the file") as error:
        embstore.build(url, tmp_path / "s")
    assert str(error.value).startswith(url)


def test_broken_links_say_where_they_lead(tmp_path):
    (tmp_path / "t.txt").symlink_to(".git/annex/objects/none")
    with pytest.raises(SourceError, match=r"no such file: .* a link to \.git/annex/objects/none"):
        read(tmp_path / "t.txt")


def test_text_formats_refuse_arrays(tmp_path):
    path = saved(tmp_path / "t.txt", npy_bytes(ROWS))
    with pytest.raises(SourceError, match="is a file of npy, not glove; leave out format="):
        open_source(path, format="glove")


def test_names_of_kinds():
    for kind in (*KINDS, *ARCHIVED):
        actions = [bool(kind.remedy), kind.decompress is not None, kind.archive is not None]
        assert sum(actions) <= 1
        assert kind.what
