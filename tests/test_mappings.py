"""Mappings of many chunk files: how many a store takes, the refusal of more, and doing without."""

from __future__ import annotations

import errno
import itertools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore import syscalls
from embstore.formats.own import spec
from embstore.reading import ranged
from embstore.writing import growth, mappings
from tests.campaigns.processes import in_spawned
from tests.campaigns.resources import hold_mappings
from tools.sparse_store import make_sparse_store

GB, TB = 10**9, 10**12


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def chunk_count(rows: int, row_bytes: int, partitions: int) -> int:
    longest = -(-rows // partitions)
    most = spec.choose_chunk_bytes(rows * row_bytes)
    chunk_rows = spec.choose_chunk_rows(longest, row_bytes, most, partitions)
    return growth.chunk_count(rows, partitions, chunk_rows)


@pytest.mark.parametrize(
    ("table_bytes", "most_mib"),
    [(GB, 90), (700 * GB, 90), (800 * GB, 180), (10 * TB, 1440), (100 * TB, 8192), (2**56, 8192)],
)
def test_chunks_above_90_mib_only_beyond_8000_of_them(table_bytes, most_mib):
    assert spec.choose_chunk_bytes(table_bytes) == most_mib << 20
    if most_mib > 90:
        assert table_bytes > 8000 * (90 << 20)


@pytest.mark.parametrize("row_bytes", [16, 300, 1200, 1536, 4096, 100_000])
@pytest.mark.parametrize("table_bytes", [GB, 700 * GB, 800 * GB, 10 * TB, 60 * TB])
def test_chosen_chunks_can_be_mapped(table_bytes, row_bytes):
    rows = table_bytes // row_bytes
    chosen = spec.choose_partition_count(table_bytes)
    for partitions in (1, 3, chosen, 1000, 16_384):
        assert chunk_count(rows, row_bytes, partitions) <= 2 * spec.MOST_CHUNKS - 2048


def test_partitions_of_awkward_sizes_are_padded_rather_than_cut():
    """One row more than a power of two in each of 16,384 partitions, in nine chunks each before."""
    rows = 16_384 * (1024 + 1)
    assert chunk_count(rows, 1200, 16_384) <= spec.MOST_CHUNKS


@pytest.mark.parametrize("table_bytes", [TB, 400 * TB, 10**16])
def test_chosen_partitions_can_be_mapped(table_bytes):
    assert spec.choose_partition_count(table_bytes) <= 1 << 14


@pytest.mark.parametrize(
    ("before", "rows", "after"),
    [
        (1 << 16, (1 << 31) - 1, 1 << 16),  # 2**15 chunks, 64 MiB each
        (1 << 16, (1 << 31) + 1, 1 << 17),
        (1 << 16, 1 << 33, 1 << 18),
    ],
)
def test_appends_make_larger_chunks_when_there_are_too_many(before, rows, after):
    assert growth.grown_chunk_rows(rows, 1, before, 1024, 100) == after


@pytest.fixture
def limited(tmp_path, monkeypatch):
    """A system that allows 40 mappings beside those of other uses."""
    where = tmp_path / "max_map_count"
    where.write_text("50\n")
    monkeypatch.setattr(mappings, "LIMIT_FILE", where)
    monkeypatch.setattr(mappings, "OTHER_MAPPINGS", 10)
    (tmp_path / "stores").mkdir()
    return tmp_path / "stores" / "t.embstore"


def write(path, count=100, **options):
    with embstore.StoreWriter(path, row_shape=(4,), dtype="int32", **options) as writer:
        for start in range(0, count, 10):
            writer.write(np.full((10, 4), start))


def build(path, rows=100, **options):
    embstore.build(np.zeros((rows, 4), np.int32), path, **options).close()


# What is done, and the chunk files that it would make.
REFUSED = {
    "partitions": (lambda path: write(path, partitions=41), 41),
    "partitions of known rows": (lambda path: write(path, partitions=41, rows=100), 41),
    "chunks of known rows": (lambda path: write(path, rows=100, chunk_rows=2), 50),
    "chunks of div": (
        lambda path: write(path, rows=100, chunk_rows=2, partitions=9, strategy="div"),
        54,
    ),
    "compressed": (lambda path: write(path, partitions=41, compression="zstd"), 41),
    "encoded": (lambda path: build(path, partitions=41, dtype="float32"), 41),
    "build": (lambda path: build(path, partitions=41), 41),
    "build by ranges": (lambda path: build(path, partitions=41, strategy="div"), 41),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_more_chunks_than_can_be_mapped_are_refused_before_the_build(limited, kind, monkeypatch):
    act, count = REFUSED[kind]
    started = []
    staging = "embstore.writing.writer.Staging"
    monkeypatch.setattr(staging, lambda *args, **kwargs: started.append(args))
    with pytest.raises(ValueError, match="chunk files or more") as error:
        act(limited)
    message = str(error.value)
    assert f"{count} chunk files" in message
    assert "a process has 50 (sysctl vm.max_map_count)" in message
    assert "sysctl -w vm.max_map_count=64" in message
    assert ("fewer partitions" if count == 41 else "larger chunks (chunk_rows)") in message.lower()
    assert not started


@pytest.mark.parametrize(
    "options",
    [
        {"partitions": 40},
        {"partitions": 60, "rows": 40},  # Empty partitions have no chunk file.
        {"rows": 80, "chunk_rows": 2},
        {"rows": 5, "chunk_rows": 1, "partitions": 5},
    ],
)
def test_as_many_chunks_as_can_be_mapped_are_built(limited, options):
    rows = options.get("rows", 40)
    with embstore.StoreWriter(limited, row_shape=(4,), dtype="int32", **options) as writer:
        writer.write(np.ones((rows, 4), np.int32))
    with embstore.open(limited, reader="mapped") as store:
        assert (store[:] == 1).all()


def test_repartition_is_refused_before_it_reads(limited):
    write(limited, partitions=3)
    with embstore.open(limited) as store, pytest.raises(ValueError, match="41 chunk files"):
        embstore.build(store, limited.with_name("more"), partitions=41)
    assert names(limited.parent) == [limited.name]


def test_a_stream_stops_when_its_chunks_are_too_many(limited):
    with pytest.raises(ValueError, match="chunk files or more, of 16 each"):
        write(limited, 2000, chunk_rows=1)
    assert names(limited.parent) == []


def test_an_append_that_makes_too_many_chunks_is_refused(limited):
    """Beyond one chunk for each of 40 partitions, chunks cannot become fewer."""
    write(limited, 40, partitions=40, chunk_rows=1 << 20, rows=40)
    before = embstore.open(limited)
    embstore.append(limited, np.zeros((100, 4), np.int32))
    assert len(embstore.open(limited)) == 140
    mappings.LIMIT_FILE.write_text("30")
    embstore.append(limited, np.zeros((100, 4), np.int32))  # Not more chunks than before.
    assert len(before) == 40


@pytest.mark.parametrize("rows", [1000, 100_000])
def test_an_append_with_few_chunks_a_partition_is_refused(limited, monkeypatch, rows):
    write(limited, 60, partitions=20, rows=60, chunk_rows=2)
    monkeypatch.setattr(growth, "LARGE_CHUNK_BYTES", 1)
    with pytest.raises(ValueError, match="chunk files or more"):
        embstore.append(limited, np.zeros((rows, 4), np.int32))
    assert names(limited.parent) == [limited.name]
    assert len(embstore.open(limited)) == 60


@pytest.mark.parametrize("content", [None, "", "many"])
def test_a_system_that_names_no_limit_refuses_nothing(tmp_path, monkeypatch, content):
    where = tmp_path / "limit"
    if content is not None:
        where.write_text(content)
    monkeypatch.setattr(mappings, "LIMIT_FILE", where)
    assert mappings.mapping_limit() is None
    mappings.check_chunk_count(10**9, 5)


STORES = {
    "raw": {},
    "compressed": {"compression": "zstd"},
    "encoded": {"dtype": None, "encoding": "int8"},
}


def write_all(path, options):
    """Write 90 rows in 12 chunk files, with words and attributes; return the rows."""
    rows = np.arange(360, dtype=np.float32).reshape(90, 4)
    options = {"dtype": "float32"} | options
    with embstore.StoreWriter(
        path, row_shape=(4,), partitions=3, chunk_rows=8, rows=90, **options
    ) as writer:
        attributes = {"count": np.arange(90), "tag": [f"t{number}" for number in range(90)]}
        writer.write(rows, [f"w{number}" for number in range(90)], attributes=attributes)
    return rows


def check(store, rows, *, exact=True):
    np.testing.assert_allclose(store[:], rows, atol=0 if exact else 2)
    ids = np.array([[89, 0], [45, 45]])
    np.testing.assert_allclose(store[ids], rows[ids], atol=0 if exact else 2)
    assert store.ids(["w7", "w89"]).tolist() == [7, 89]
    assert store.words([3, 88]) == ["w3", "w88"]
    assert store.attributes["count"][[5, 6]].tolist() == [5, 6]
    assert store.attributes["tag"][[5, 89]].tolist() == ["t5", "t89"]


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("allowed", [0, 1, 3, 7, 10, 17])
@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EPERM])
def test_where_mapping_is_refused_files_are_read(tmp_path, monkeypatch, kind, allowed, number):
    """The first few files are mapped, then no more: words, attributes or rows are read."""
    path = tmp_path / "t.embstore"
    rows = write_all(path, STORES[kind])
    left, mapped = itertools.count(), syscalls.map_file

    def refuse(*args):
        if next(left) >= allowed:
            raise OSError(number, os.strerror(number))
        mapped(*args)

    monkeypatch.setattr(syscalls, "map_file", refuse)
    with embstore.open(path) as store:
        check(store, rows, exact=kind != "encoded")
        assert not store.mapped
    with embstore.open(path, resident_limit="64MiB") as store:
        check(store, rows, exact=kind != "encoded")
    with pytest.raises(embstore.StoreMappingError, match="cannot be mapped"):
        embstore.open(path, reader="mapped")
    if kind != "compressed":
        for asked in ({"preload": True}, {"row_cache": "1MiB"}):
            with pytest.raises(embstore.StoreMappingError, match="cannot be mapped"):
                embstore.open(path, **asked)


def test_words_read_from_files_are_those_of_the_open_store(tmp_path, monkeypatch):
    path = tmp_path / "t.embstore"
    embstore.build({"a": [1.0], "b": [2.0]}, path).close()

    def refuse(*args):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with monkeypatch.context() as patch:
        patch.setattr(syscalls, "map_file", refuse)
        store = embstore.open(path)
    embstore.build({"b": [1.0], "a": [2.0]}, path, overwrite=True).close()
    with pytest.raises(embstore.StoreNotFoundError, match="replaced"):
        store.ids(["a"])
    store.close()


def _open_without_mappings(path, left: int) -> tuple[bool, list[float], Any]:
    held = hold_mappings(left)
    with embstore.open(path) as store:
        found = store.mapped, store[[3, 89]].ravel().tolist(), store.ids("w7")
    with pytest.raises(embstore.StoreMappingError, match=r"vm\.max_map_count"):
        embstore.open(path, reader="mapped")
    held.clear()
    with embstore.open(path, reader="mapped") as store:
        assert store[[3, 89]].ravel().tolist() == found[1]
    return found


def test_a_process_without_mappings_left_reads_files(tmp_path):
    """Sixty mappings are left, and there are two hundred chunk files."""
    limit = mappings.mapping_limit()
    if limit is None or limit > 1 << 20:
        pytest.skip("too many mappings to use up")
    path = tmp_path / "t.embstore"
    rows = np.arange(800, dtype=np.float32).reshape(200, 4)
    with embstore.StoreWriter(
        path, row_shape=(4,), dtype="float32", rows=200, chunk_rows=1
    ) as writer:
        writer.write(rows, [f"w{number}" for number in range(200)])
    found = in_spawned(_open_without_mappings, path, 60)
    assert found == (False, rows[[3, 89]].ravel().tolist(), 7)


@pytest.mark.parametrize("partitions", [1, 7, 1024])
def test_ten_terabytes_take_a_mapping_for_each_chunk(tmp_path, partitions):
    """Rows of 1,200 bytes, which never fill a chunk's stride; large chunks, to be quick."""
    rows = 10 * TB // 1200
    ids = np.array([0, rows // 3, rows - 1])
    values = np.random.default_rng(0).random((3, 300), np.float32)
    path = tmp_path / "ten.embstore"
    manifest = make_sparse_store(
        path, ids, values, rows=rows, partitions=partitions, chunk_rows=1 << 23
    )
    chunks = sum(array.chunk_count for array in manifest.arrays())
    assert chunks * math.prod(manifest.partition(0).chunk_shape) * 4 >= rows * 1200
    with embstore.open(path, reader="mapped") as store:
        assert _mappings_of(path) == chunks
        np.testing.assert_array_equal(store[ids], values)
        assert not store[ids[:2] + 1].any()


def _mappings_of(path) -> int:
    return sum(str(path) in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_large_chunks_are_not_read_whole(tmp_path, monkeypatch):
    """Those of tables above 700 GB, where mappings are used up."""
    rows = np.arange(3000, dtype=np.float32).reshape(600, 5)
    path = tmp_path / "t.embstore"
    with embstore.StoreWriter(path, row_shape=(5,), dtype="float32", chunk_rows=128) as writer:
        writer.write(rows)
    for most, counts in ((2560, 5), (2559, 0)):
        monkeypatch.setattr(ranged, "MOST_WHOLE_BYTES", most)
        with embstore.open(path, reader="chunked") as store:
            np.testing.assert_array_equal(store[[5, 599, 127, 128]], rows[[5, 599, 127, 128]])
            assert (store.stats().bytes_read >= 3 * 2560) is bool(counts)
            np.testing.assert_array_equal(store.to_numpy(), rows)
            assert store.explain([5]).bytes_read == (2560 if counts else 20)
