"""Choice of the source for a path or an object, its options, and refused files."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

import embstore
from embstore.errors import SourceError
from embstore.sources.choose import open_source
from tests.helpers.sources import read

TEXT = b"the 1 2\nlike 3 4\n"


@pytest.fixture
def file(tmp_path):
    def file(name, data):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return file


@pytest.mark.parametrize("name", ["t.txt", "t.vec", "t.bin", "t.npy", "t", "t.json", "t.parquet"])
def test_content_decides_not_the_suffix(file, name):
    assert open_source(file(name, TEXT)).describe()["format"] == "glove"
    assert open_source(file(name, b"2 2\n" + TEXT)).describe()["format"] == "word2vec"
    binary = b"1 2\nthe \x00\x00\x80\x3f\x00\x00\x00\x40"
    assert open_source(file(name, binary)).describe()["format"] == "word2vec-binary"


@pytest.mark.parametrize("line", ["at x 1 2", "\u00e9 1 2", ". . 1 2", "a 1 2 ", "a 1 2\r"])
def test_text_with_a_header_is_not_taken_for_binary(file, line):
    path = file("t.txt", f"1 2\n{line}\n".encode())
    assert read(path)[1].tolist() == [[1, 2]]


@pytest.mark.parametrize("as_type", [str, lambda path: path])
def test_paths_may_be_strings(file, tmp_path, as_type):
    path = file("t.txt", TEXT)
    assert len(embstore.build(as_type(path), as_type(tmp_path / "s"))) == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("tensor", "a"),
        ("column", "a"),
        ("word_column", "a"),
        ("partition_strategy", "mod"),
    ],
)
def test_options_of_other_formats_are_refused_by_name(file, option, value):
    with pytest.raises(SourceError) as error:
        read(file("t.txt", TEXT), **{option: value})
    assert f"does not take {option}=" in str(error.value)
    assert "member=, encoding_errors=, dimension=, words=, attributes=, limit=" in str(error.value)


def test_options_of_objects(file):
    with pytest.raises(SourceError, match=r"a dict does not take member=; it takes words=, part"):
        read({"a": [1]}, member="x")
    with pytest.raises(SourceError, match="format='npy' goes with a path, not dict"):
        read({"a": [1]}, format="npy")
    with pytest.raises(SourceError, match="words= goes with arrays, not with dict"):
        read({"a": [1]}, words=["a"])


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"\xba\x16\x4f\x2f\x0c\x00", r"a fastText model; use the \.vec file"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file; open it with h5py"),
        (b"\x80\x04\x95\x01", "a pickle, which could run any code"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".bin", ".gz"])
def test_unsupported_files_are_named(file, start, says, suffix):
    path = file(f"t{suffix}", gzip.compress(start) if suffix == ".gz" else start)
    for format in ("auto", "word2vec-binary", "npy"):
        with pytest.raises(SourceError, match=says):
            read(path, format=format)


def test_directories(tmp_path):
    with pytest.raises(SourceError, match=r"not a file, nor a directory of \.npy, \.safetensors"):
        read(tmp_path)
    np.save(tmp_path / "a.npy", np.ones((2, 2)))
    assert len(read(tmp_path)[1]) == 2
    (tmp_path / "b.parquet").touch()
    with pytest.raises(SourceError, match="files of several formats: npy, parquet; give format="):
        read(tmp_path)
    assert len(read(tmp_path, format="npy")[1]) == 2
    for format in ("glove", "word2vec-binary"):
        with pytest.raises(SourceError, match="is not a file"):
            read(tmp_path, format=format)
    for format in ("npz", "safetensors", "gguf", "arrow"):
        with pytest.raises(SourceError):
            read(tmp_path, format=format)


@pytest.mark.parametrize("format", ["auto", "npy", "npz", "safetensors", "gguf", "arrow", "glove"])
def test_missing_files_are_refused(tmp_path, format):
    with pytest.raises(SourceError, match="no such file"):
        read(tmp_path / "none", format=format)


@pytest.mark.parametrize(
    "format", ["npy", "npz", "safetensors", "gguf", "parquet", "word2vec-binary"]
)
def test_wrong_formats_are_refused(file, format):
    with pytest.raises(SourceError, match=r"t\.txt"):
        read(file("t.txt", TEXT), format=format)
