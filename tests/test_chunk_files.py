"""Chunk files of a store that is opened: each is opened once, a few at a time, and checked."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.errors import StoreCorruptError
from embstore.reading import chunk_files

ROWS = np.arange(240, dtype=np.float32).reshape(60, 2, 2)
READERS: tuple[Any, ...] = ("mapped", "chunked")


def build(path, **options):
    """Write 60 rows in 3 partitions of 5 chunk files, with words and attributes."""
    with embstore.StoreWriter(
        path, row_shape=(2, 2), dtype="float32", partitions=3, rows=60, chunk_rows=4, **options
    ) as writer:
        words = [f"w{number}" for number in range(60)]
        writer.write(ROWS, words, attributes={"count": np.arange(60), "tag": words})
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return build(tmp_path_factory.mktemp("whole") / "t.embstore")


@pytest.fixture
def store(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "t.embstore")


class Calls:
    """The files that are opened: how often each, and how many at a time."""

    def __init__(self, monkeypatch) -> None:
        self.opened: Counter[str] = Counter()
        self.most = 0
        self._held: set[int] = set()
        self._open, self._close = os.open, os.close
        monkeypatch.setattr(os, "open", self.open)
        monkeypatch.setattr(os, "close", self.close)

    def open(self, path, *args, **kwargs):
        descriptor = self._open(path, *args, **kwargs)
        if "/c/" in str(path):
            self.opened[str(path).rpartition(".embstore/")[2]] += 1
            self._held.add(descriptor)
            self.most = max(self.most, len(self._held))
        return descriptor

    def close(self, descriptor):
        self._held.discard(descriptor)
        self._close(descriptor)

    @property
    def held(self) -> int:
        return len(self._held)


@pytest.mark.parametrize("options", [{}, {"resident_limit": "64MiB"}, {"row_cache": "1MiB"}])
@pytest.mark.parametrize("kind", [{}, {"compression": "zstd"}])
def test_each_chunk_file_is_opened_once(tmp_path, monkeypatch, options, kind):
    path = build(tmp_path / "t.embstore", **kind)
    calls = Calls(monkeypatch)
    with embstore.open(path, **options) as opened:
        np.testing.assert_array_equal(opened[:], ROWS)
    files = [file for file in path.rglob("*") if file.is_file() and file.name != "zarr.json"]
    assert len(files) == sum(calls.opened.values())
    assert set(calls.opened.values()) == {1}
    assert calls.held == 0


@pytest.mark.parametrize(
    ("soft", "most"),
    [(resource.RLIM_INFINITY, 64), (20_000, 64), (256, 32), (64, 8), (8, 1), (3, 1)],
)
def test_few_files_are_open_at_a_time(tmp_path, monkeypatch, soft, most):
    path = tmp_path / "t.embstore"
    with embstore.StoreWriter(path, row_shape=(), dtype="int8", rows=100, chunk_rows=1) as writer:
        writer.write(np.arange(100, dtype=np.int8))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    calls = Calls(monkeypatch)
    with embstore.open(path) as opened:
        assert opened[:].tolist() == list(range(100))
    assert calls.most == most
    assert calls.held == 0


def test_descriptors_that_run_out_make_groups_smaller(whole, monkeypatch):
    calls = Calls(monkeypatch)
    count = calls.open

    def scarce(path, *args, **kwargs):
        if calls.held >= 3 and "/c/" in str(path):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return count(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", scarce)
    with embstore.open(whole) as opened:
        np.testing.assert_array_equal(opened[:], ROWS)
    assert (calls.most, calls.held) == (3, 0)


CHUNK = "partitions/1/c/{}/0/0"


def make_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


CASES: dict[str, tuple[Any, str]] = {
    "missing": (lambda file: file.unlink(), "is missing"),
    "longer": (lambda file: file.write_bytes(file.read_bytes() + b"x"), "bytes, expected 68"),
    "shorter": (lambda file: file.write_bytes(file.read_bytes()[:-1]), "67 bytes, expected 68"),
    "empty": (lambda file: file.write_bytes(b""), "has 0 bytes, expected 68"),
    "other end": (lambda file: file.write_bytes(bytes(68)), "its checksum is 00000000, but"),
    "directory": (lambda file: (file.unlink(), file.mkdir()), "is not a regular file"),
    "fifo": (make_fifo, "is not a regular file"),
    "dangling link": (
        lambda file: (file.unlink(), file.symlink_to("nowhere")),
        "is a symbolic link to a missing file",
    ),
    "link to other bytes": (
        lambda file: (file.unlink(), file.symlink_to(file.parents[2] / "4" / "0" / "0")),
        "is a symbolic link to a file that does not have",
    ),
}


def preadv_of(kind):
    """Return a way to read ends: as it is, cold, or with a flag that the file system refuses."""
    preadv = os.preadv
    if kind == "as it is":
        return preadv

    def refuse(descriptor, buffers, offset, flags=0):
        if flags:
            if kind == "cold":
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return preadv(descriptor, buffers, offset, flags)

    return refuse


@pytest.mark.parametrize("ends", ["as it is", "cold", "no flag"])
@pytest.mark.parametrize("chunk", [0, 2, 3])
@pytest.mark.parametrize("case", CASES)
def test_damage_is_found_wherever_it_is_in_a_group(store, monkeypatch, case, chunk, ends):
    """Groups of three files: the damaged one is the first, the last, or one in the next group."""
    monkeypatch.setattr(chunk_files, "MOST_OPEN", 3)
    monkeypatch.setattr(os, "preadv", preadv_of(ends))
    file = store / CHUNK.format(chunk)
    damage, message = CASES[case]
    damage(file)
    calls = Calls(monkeypatch)
    for reader in READERS:
        with pytest.raises(StoreCorruptError) as error:
            embstore.open(store, reader=reader)[:]
        assert f"{file}" in str(error.value)
        assert message in str(error.value)
        del error
    assert calls.held == 0
    with embstore.open(store, partitions=[0, 2]) as others:
        np.testing.assert_array_equal(others[[0, 2]], ROWS[[0, 2]])


@pytest.mark.parametrize("ends", ["as it is", "cold", "no flag"])
@pytest.mark.parametrize("most", [1, 3, 64])
@pytest.mark.parametrize("reader", READERS)
def test_whole_stores_open(store, monkeypatch, ends, most, reader):
    file = store / CHUNK.format(2)  # A link among files.
    file.rename(store.parent / "elsewhere")
    file.symlink_to(store.parent / "elsewhere")
    monkeypatch.setattr(chunk_files, "MOST_OPEN", most)
    monkeypatch.setattr(os, "preadv", preadv_of(ends))
    with embstore.open(store, reader=reader, verify="full") as opened:
        np.testing.assert_array_equal(opened[:], ROWS)
        assert opened.words([59]) == ["w59"]
        assert opened.attributes["tag"][[58]].tolist() == ["w58"]


def test_cold_ends_are_announced_before_the_first_is_waited_for(whole, monkeypatch):
    order = []
    announce, read = os.posix_fadvise, os.pread
    monkeypatch.setattr(os, "preadv", preadv_of("cold"))

    def noted(name: str, call: Any) -> Any:
        def note(*given: Any) -> Any:
            order.append(name)
            return call(*given)

        return note

    monkeypatch.setattr(os, "posix_fadvise", noted("announce", announce))
    monkeypatch.setattr(os, "pread", noted("read", read))
    with embstore.open(whole, partitions=[0]):
        pass
    start = order.index("read")
    rows = "".join(word[0] for word in order)
    assert start > 0
    assert "aaaaarrrrr" in rows  # The five chunk files of the partition.


@pytest.mark.parametrize("chunks", [0, 1, 7, 8, 40])
@pytest.mark.parametrize("row_shape", [(), (2,), (2, 1), (1, 2, 1)])
@pytest.mark.parametrize("readable", [True, False])
def test_linked_directories_are_refused(tmp_path, monkeypatch, chunks, row_shape, readable):
    """Those of many chunks are found by one reading of the directory above, if it is allowed."""
    path = tmp_path / "t.embstore"
    with embstore.StoreWriter(
        path, row_shape=row_shape, dtype="int8", rows=chunks, chunk_rows=1
    ) as writer:
        writer.write(np.zeros((chunks, *row_shape), np.int8))
    if not readable:

        def scandir(_):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(os, "scandir", scandir)
    embstore.open(path).close()
    c = path / "partitions/0/c"
    if chunks:
        # Neither a chunk of the array, nor a link.
        (c / "999").symlink_to(tmp_path)
        (c / "x").mkdir()
        embstore.open(path).close()
    for depth in range(1, len(row_shape) + 1) if chunks else ():
        directory = c / "/".join([str(chunks - 1), *["0"] * (depth - 1)])
        directory.rename(tmp_path / "elsewhere")
        directory.symlink_to(tmp_path / "elsewhere")
        for reader in READERS:
            with pytest.raises(StoreCorruptError, match="is a symbolic link, but only the files"):
                embstore.open(path, reader=reader)
        assert not embstore.verify(path).ok
        directory.unlink()
        (tmp_path / "elsewhere").rename(directory)


def test_many_directories_are_not_looked_at_one_by_one(tmp_path, monkeypatch):
    path = tmp_path / "t.embstore"
    with embstore.StoreWriter(path, row_shape=(1,), dtype="int8", rows=100, chunk_rows=1) as writer:
        writer.write(np.zeros((100, 1), np.int8))
    looked = []
    lstat = os.lstat

    def noted(path: Any) -> Any:
        looked.append(path)
        return lstat(path)

    monkeypatch.setattr(os, "lstat", noted)
    embstore.open(path).close()
    assert len(looked) <= 4


def test_a_file_that_is_replaced_after_its_check_is_not_the_one_that_is_mapped(store, monkeypatch):
    """The descriptor that was checked is mapped: what comes to its name later is not."""
    file = store / CHUNK.format(1)
    inode, preadv = file.stat().st_ino, os.preadv

    def exchange(descriptor, *args):
        found = preadv(descriptor, *args)
        if os.fstat(descriptor).st_ino == inode:
            other = file.with_name("other")
            other.write_bytes(b"other rows" + bytes(58))
            other.rename(file)
        return found

    monkeypatch.setattr(os, "preadv", exchange)
    with embstore.open(store, reader="mapped") as opened:
        assert file.read_bytes().startswith(b"other rows")
        np.testing.assert_array_equal(opened[:], ROWS)


@pytest.mark.parametrize("reader", READERS)
def test_words_and_attributes_are_checked_too(store, reader):
    for name in ("vocabulary/bytes/c/0", "attributes/tag/offsets/c/0", "attributes/count/c/0"):
        file = store / name
        before = file.read_bytes()
        file.write_bytes(before[:-4] + b"abcd")
        with pytest.raises(StoreCorruptError, match="belongs to another chunk") as error:
            embstore.open(store, reader=reader)
        assert str(file) in str(error.value)
        file.write_bytes(before)
    embstore.open(store, reader=reader).close()
