"""Checks of whole files, those with holes included."""

from __future__ import annotations

import os
from itertools import pairwise

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embstore.formats.own import listed_files
from embstore.formats.own.listed_files import ListedFile, RunningCheck, is_whole
from embstore.formats.own.zero_checksums import extend_with_zeros

PAGE_BYTES = 4096


@given(data=st.binary(max_size=20), count=st.integers(0, 70_000))
def test_zeros_extend_a_checksum(data, count):
    expected = google_crc32c.value(data + bytes(count))
    assert extend_with_zeros(google_crc32c.value(data), count) == expected


def test_many_zeros_extend_a_checksum_in_parts():
    counts = [1, 1 << 20, (1 << 32) - 1, 1 << 32, (1 << 40) + 5]
    whole = extend_with_zeros(5, sum(counts))
    parts = 5
    for count in counts:
        parts = extend_with_zeros(parts, count)
    assert parts == whole


@given(cuts=st.lists(st.integers(0, 30), max_size=5), zeros=st.sets(st.integers(0, 5)))
def test_zeros_need_not_be_read(cuts, zeros):
    """Pieces of a file are added as bytes, or as a number of zeros."""
    edges = [0, *sorted(cuts), 30]
    pieces = [
        bytes(stop - start) if at in zeros else b"x" * (stop - start)
        for at, (start, stop) in enumerate(pairwise(edges))
    ]
    data = b"".join(pieces)
    tail = int.from_bytes(data[-4:], "little")
    check = RunningCheck(ListedFile("c/0", 30, 26, google_crc32c.value(data[:26]), tail))
    for at, piece in enumerate(pieces):
        if at in zeros:
            check.add_zeros(len(piece))
        else:
            check.add(memoryview(piece))
    assert check.is_right()


@pytest.mark.parametrize("piece_bytes", [1000, PAGE_BYTES, 1 << 20])
@pytest.mark.parametrize(
    "data_pages", [[], [0], [9], [0, 9], [3, 4], [0, 1, 5, 9], list(range(10))]
)
def test_files_with_holes(tmp_path, monkeypatch, data_pages, piece_bytes):
    monkeypatch.setattr(listed_files, "PIECE_BYTES", piece_bytes)
    path, size = tmp_path / "chunk", 10 * PAGE_BYTES
    with path.open("wb") as file:
        file.truncate(size)
        for page in data_pages:
            file.seek(page * PAGE_BYTES)
            file.write(os.urandom(PAGE_BYTES))
    data = path.read_bytes()
    tail = int.from_bytes(data[-4:], "little")
    descriptor = os.open(path, os.O_RDWR)
    try:
        for covered in (size - 4, size):
            file = ListedFile("c/0", size, covered, google_crc32c.value(data[:covered]), tail)
            assert is_whole(file, descriptor)
            os.pwrite(descriptor, bytes([data[5000] ^ 1]), 5000)
            assert not is_whole(file, descriptor)
            os.pwrite(descriptor, data[5000:5001], 5000)
            assert is_whole(file, descriptor)
        assert not is_whole(ListedFile("c/0", size + 1, size, file.checksum, tail), descriptor)
    finally:
        os.close(descriptor)


def test_file_systems_that_do_not_know_holes(tmp_path, monkeypatch):
    def refuse(descriptor: int, offset: int, whence: int) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "lseek", refuse)
    path, data = tmp_path / "chunk", b"row" + bytes(5000)
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    assert is_whole(ListedFile("c/0", len(data), len(data), google_crc32c.value(data)), descriptor)
    os.close(descriptor)
