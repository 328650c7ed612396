"""Compressed text files of vectors, intact and damaged."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.errors import SourceError
from embstore.sources.text.blocks import TEXT_BLOCK_BYTES
from embstore.sources.text.source import TextSource
from tests.helpers.compression import by_arrow
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
    with pytest.raises(SourceError, match=r"has 2 members: small.txt, other.txt; .*member="):
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


def lines(first: int, stop: int) -> bytes:
    return "".join(f"w{i} {i} 0.5\n" for i in range(first, stop)).encode()


COMPRESS: dict[str, Any] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": by_arrow("zstd"),
    "lz4": by_arrow("lz4"),
}
FIRST, SECOND = lines(0, 3000), lines(3000, 3010)


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("block_bytes", [7, TEXT_BLOCK_BYTES])
def test_all_streams_are_read(tmp_path, monkeypatch, suffix, block_bytes):
    blocks_of(monkeypatch, block_bytes)
    compress = COMPRESS[suffix]
    path = tmp_path / "t.txt"
    path.write_bytes(compress(FIRST) + compress(b"") + compress(SECOND))
    words, rows = read(path)
    assert words == [f"w{i}" for i in range(3010)]
    assert rows[:, 0].tolist() == list(range(3010))


def damaged(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


DAMAGE: dict[str, Any] = {
    "an error page follows": lambda a, b: a + b"<html>quota exceeded</html>",
    "zeros follow": lambda a, b: a + bytes(5001),
    "one byte follows": lambda a, b: a + b"\n",
    "text follows": lambda a, b: a + lines(5, 6),
    "zeros instead of the second header": lambda a, b: a + bytes(4) + b[4:],
    "damaged second header": lambda a, b: a + damaged(b, 1),
    "damaged second stream": lambda a, b: a + damaged(b, len(b) // 2),
    "damaged end": lambda a, b: a + damaged(b, len(b) - 6),
    "cut second header": lambda a, b: a + b[:3],
    "cut second stream": lambda a, b: a + b[:-1],
    "cut first stream": lambda a, b: a[:-1],
}


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (suffix, damage)
        for suffix in COMPRESS
        for damage in DAMAGE
        if suffix != "lz4" or "damaged" not in damage or "header" in damage
    ],  # Arrow's writer of lz4 adds no checksum.
)
def test_damage_behind_the_first_stream_is_reported(tmp_path, suffix, damage):
    compress = COMPRESS[suffix]
    path = tmp_path / f"t.txt.{suffix}"
    path.write_bytes(DAMAGE[damage](compress(FIRST), compress(SECOND)))
    with pytest.raises(SourceError, match="is the download complete") as error:
        embstore.build(path, tmp_path / "s")
    assert str(error.value).startswith(str(path))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("damage", ["zeros follow", "cut second stream", "text follows"])
def test_damaged_lists_of_words_are_reported(tmp_path, suffix, damage):
    np.save(tmp_path / "t.npy", np.zeros((3, 2), np.float32))
    compress, words = COMPRESS[suffix], tmp_path / "w.txt"
    words.write_bytes(DAMAGE[damage](compress(b"a\nb\nc\n"), compress(b"d\n" * 1000)))
    with pytest.raises(SourceError, match=r"w\.txt"):
        embstore.build(tmp_path / "t.npy", tmp_path / "s", words=words)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("count", [0, 4, 8, 4000])
def test_padding_of_xz(tmp_path, count):
    path = tmp_path / "t.xz"
    path.write_bytes(lzma.compress(FIRST) + bytes(count) + lzma.compress(SECOND) + bytes(count))
    assert len(read(path)[0]) == 3010
    path.write_bytes(lzma.compress(FIRST) + bytes(count + 2) + lzma.compress(SECOND))
    with pytest.raises(SourceError, match="padding is a multiple of 4 bytes"):
        read(path)


def test_older_lzma_has_one_stream(tmp_path):
    path = tmp_path / "t.lzma"
    for rest in (lzma.compress(SECOND, lzma.FORMAT_ALONE), bytes(100), b"x"):
        path.write_bytes(lzma.compress(FIRST, lzma.FORMAT_ALONE) + rest)
        with pytest.raises(SourceError, match="other bytes follow the end of its lzma data"):
            read(path)
    path.write_bytes(lzma.compress(FIRST, lzma.FORMAT_ALONE)[:-1])
    with pytest.raises(SourceError, match="is the download complete"):
        read(path)


def test_header_that_asks_for_much_memory_is_refused(tmp_path):
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 4096}]
    data = bytearray(lzma.compress(FIRST, lzma.FORMAT_ALONE, filters=filters))
    data[1:5] = b"\0\0\0\xc0"  # A dictionary of 3 GiB.
    (tmp_path / "t.lzma").write_bytes(data)
    with pytest.raises(SourceError, match="Memory usage limit exceeded"):
        read(tmp_path / "t.lzma")
