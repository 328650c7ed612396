"""Compressed text files of vectors, intact and damaged."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embstore.errors import SourceError
from embstore.sources.blocks import TEXT_BLOCK_BYTES
from embstore.sources.text import TextSource
from tests.helpers.text_files import (
    GLOVE,
    ROWS,
    WORD2VEC,
    WORDS,
    assert_same_bits,
    blocks_of,
    read,
    read_bytes,
)

if TYPE_CHECKING:
    from pathlib import Path


def compressed(tmp_path: Path, suffix: str, data: bytes) -> Path:
    path = tmp_path / f"table.txt{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("folder")
            archive.writestr("folder/table.txt", data)
    else:
        module: Any = {".gz": gzip, ".bz2": bz2, ".xz": lzma}[suffix]
        path.write_bytes(module.compress(data))
    return path


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zip", ".GZ"])
@pytest.mark.parametrize("block_bytes", [5, TEXT_BLOCK_BYTES])
def test_compressed(tmp_path, monkeypatch, suffix, block_bytes):
    blocks_of(monkeypatch, block_bytes)
    path = compressed(tmp_path, suffix.lower(), WORD2VEC).rename(tmp_path / f"t{suffix}")
    words, rows = read(path)
    assert words == WORDS
    assert_same_bits(rows, ROWS)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zip"])
@pytest.mark.parametrize("damage", ["cut", "empty"])
def test_damaged_compressed_files(tmp_path, suffix, damage):
    rng = np.random.default_rng(0)
    data = "".join(f"w{i} {rng.random()} {rng.random()}\n" for i in range(3000)).encode()
    path = compressed(tmp_path, suffix, data)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    with pytest.raises(SourceError) as error:
        read(path)
    assert str(error.value).startswith(str(path))
    assert "is the download complete" in str(error.value) or "is empty" in str(error.value)


def test_members_of_a_zip(tmp_path):
    path = tmp_path / "glove.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("small.txt", GLOVE)
        archive.writestr("other.txt", b"x 1\n")
    with pytest.raises(SourceError, match=r"has 2 members: small.txt, other.txt; .*--member"):
        TextSource(path)
    with pytest.raises(SourceError, match=r"no member 'big.txt'; it has: small.txt, other.txt"):
        TextSource(path, member="big.txt")
    assert read(path, member="small.txt")[0] == WORDS
    source = TextSource(path, member="other.txt")
    assert source.name == f"{path}[other.txt]"
    assert source.describe()["file"] == "glove.zip[other.txt]"


def test_unreadable_zips(tmp_path):
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("folder")
    with pytest.raises(SourceError, match="without members"):
        TextSource(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("t.txt", GLOVE)
    data = bytearray(path.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(header) + flags] |= 1  # Marks the member as encrypted.
    path.write_bytes(data)
    with pytest.raises(SourceError, match="encrypted"):
        TextSource(path)
    with pytest.raises(SourceError, match="is not an archive, so it has no member"):
        read_bytes(tmp_path, GLOVE, member="t.txt")
