"""Appended rows, against an array of all rows and a fresh build of them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.errors import (
    DuplicateWordError,
    SourceError,
    StoreBusyError,
    StoreCorruptError,
    StoreExistsError,
    StoreNotFoundError,
)
from embstore.formats.own import spec
from embstore.formats.own.manifest import read_manifest
from embstore.formats.own.seals import checksum, manifest_checksum
from embstore.writing.disk.staging import Staging
from embstore.writing.memory import plan_memory
from tests.helpers.changes import WIDTH, check, numbers, words_of, write
from tests.helpers.stores import names

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).parent / "golden"
ROWS = 90
LAYOUTS: dict[str, dict[str, Any]] = {
    "one partition": {},
    "one chunk": {"chunk_rows": 128},
    "chunks": {"chunk_rows": 8},
    "div": {"chunk_rows": 8, "strategy": "div"},
    "mod": {"chunk_rows": 8, "partitions": 3},
    "many partitions": {"chunk_rows": 2, "partitions": 50},
    "zstd": {"chunk_rows": 16, "compression": "zstd"},
    "blosc": {"chunk_rows": 4, "partitions": 4, "compression": "blosc"},
    "int8": {"encoding": "int8", "chunk_rows": 8},
    "groups": {"encoding": "float8_e4m3fn:2", "partitions": 2, "compression": "zstd"},
}
# Rows before, and in each append.
STEPS = [(0, 5, 1), (15, 1, 33), (16, 16, 3)]


@pytest.mark.parametrize("has_words", [False, True], ids=["", "words"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_appended_rows_are_those_of_a_build(tmp_path, layout, has_words):
    options = LAYOUTS[layout]
    for steps in STEPS:
        total = sum(steps)
        rows, words = numbers(total), words_of(total) if has_words else None
        path = tmp_path / "t"
        write(path, rows[: steps[0]], words and words[: steps[0]], overwrite=True, **options)
        done = steps[0]
        for count in steps[1:]:
            part = slice(done, done + count)
            source = (
                rows[part] if words is None else dict(zip(words[part], rows[part], strict=True))
            )
            if not count:
                continue
            report = embstore.append(path, source)
            done += count
            assert (report.rows, report.rows_appended, report.rows_replaced) == (count, count, 0)
        check(path, rows, words, **options)


@pytest.mark.parametrize("row_shape", [(), (1,), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "int8", "uint64"]
)
def test_dtypes_and_row_shapes(tmp_path, dtype, row_shape):
    rows = numbers(70, row_shape).astype(embstore.dtypes.as_dtype(dtype))
    options: dict[str, Any] = {"chunk_rows": 4, "partitions": 2}
    write(tmp_path / "t", rows[:33], **options)
    embstore.append(tmp_path / "t", rows[33:34])
    embstore.append(tmp_path / "t", rows[34:])
    check(tmp_path / "t", rows, **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"strategy": "div"}, {"partitions": 3, "chunk_rows": 4}, {"compression": "zstd"}],
    ids=str,
)
def test_a_stream_of_unknown_length_needs_no_more_memory(tmp_path, options):
    rows = numbers(4000, (64,))
    path, limit = tmp_path / "t", 256 << 10
    assert plan_memory(limit, 1).held_bytes < rows.nbytes / 16
    write(path, rows[:10], **options)
    embstore.append(
        path, (rows[start : start + 100] for start in range(10, 4000, 100)), memory_limit=limit
    )
    check(path, rows)


def test_file_sources_and_their_words(tmp_path):
    write(tmp_path / "t", numbers(3), words_of(3))
    (tmp_path / "more.txt").write_text("new 1 2 3 4 5\nnewer 0 0 0 0 0\nnew 9 9 9 9 9\n")
    report = embstore.append(tmp_path / "t", tmp_path / "more.txt")
    assert report.rows == 2
    with embstore.open(tmp_path / "t") as store:
        assert store["new"].tolist() == [1, 2, 3, 4, 5]
        assert store.source["duplicate_count"] == 1
        assert store.source["last_change"]["kind"] == "append"
        assert store.source["last_change"]["file"] == "more.txt"
    with pytest.raises(SourceError, match=r"more.txt.*'new'"):
        embstore.append(tmp_path / "t", tmp_path / "more.txt", on_duplicate="error")


@pytest.mark.parametrize("on_duplicate", [None, "error", "first"])
def test_known_words_are_refused(tmp_path, on_duplicate):
    write(tmp_path / "t", numbers(3), words_of(3))
    source = [("new", numbers(1)[0]), ("word 1", numbers(1)[0])]
    with pytest.raises(SourceError, match=r"'word 1'.*id 1") as caught:
        embstore.append(tmp_path / "t", source, on_duplicate=on_duplicate)
    assert isinstance(caught.value, DuplicateWordError)
    check(tmp_path / "t", numbers(3), words_of(3))


def test_a_store_is_appended_to_itself(tmp_path):
    rows = numbers(20)
    write(tmp_path / "t", rows, chunk_rows=8)
    with embstore.open(tmp_path / "t") as store:
        embstore.append(tmp_path / "t", store)
        embstore.append(tmp_path / "t", tmp_path / "t")
        assert store.rows == 20
    check(tmp_path / "t", np.concatenate([rows] * 4), chunk_rows=8)


def test_rows_are_cast_as_by_a_build(tmp_path):
    write(tmp_path / "t", numbers(3))
    embstore.append(tmp_path / "t", np.full((2, WIDTH), 0.1))
    with embstore.open(tmp_path / "t") as store:
        error = abs(0.1 - float(np.float32(0.1)))
        assert store.source["largest_cast_error"] == pytest.approx(error)
        assert store.source["last_change"]["cast_from"] == "float64"
    with pytest.raises(SourceError, match="1e\\+300"):
        embstore.append(tmp_path / "t", np.full((2, WIDTH), 1e300))
    embstore.append(tmp_path / "t", np.full((2, WIDTH), 1e300), on_overflow="inf")
    with embstore.open(tmp_path / "t") as store:
        assert np.isinf(store[6]).all()
        assert store.source["overflow_count"] == 2 * WIDTH
    write(tmp_path / "i", numbers(3).astype(np.int8))
    with pytest.raises((SourceError, TypeError), match="float32"):
        embstore.append(tmp_path / "i", numbers(3))


def test_records_are_kept(tmp_path):
    rows = numbers(20)
    write(tmp_path / "t", rows[:9], encoding="int8")
    write(tmp_path / "more", rows[9:], encoding="int8")
    embstore.append(tmp_path / "t", tmp_path / "more")
    check(tmp_path / "t", rows, encoding="int8")
    write(tmp_path / "plain", rows[:9])
    embstore.append(tmp_path / "plain", tmp_path / "more")
    with embstore.open(tmp_path / "plain") as store, embstore.open(tmp_path / "t") as other:
        assert np.array_equal(store[9:], other[9:])


@pytest.mark.parametrize("name", ["v1-q8-0.embstore", "v1-zero-points.embstore"])
def test_records_that_embstore_does_not_make(tmp_path, name):
    path = tmp_path / "t"
    shutil.copytree(GOLDEN / name, path)
    with embstore.open(path) as store:
        rows, records, all_rows = store.rows, store.lookup([0, 1], raw=True), store[:]
    for source, kind in ((all_rows[:1], SourceError), (all_rows[0], ValueError)):
        change = embstore.append if kind is SourceError else embstore.update
        arguments = (path, source) if kind is SourceError else (path, 0, source)
        with pytest.raises(kind, match="raw=True"):
            change(*arguments)
    embstore.append(path, records[::-1])
    embstore.append(path, GOLDEN / name, limit=1)
    embstore.update(path, [0, 1], records[::-1])
    assert embstore.verify(path).ok
    with embstore.open(path) as store:
        expected = np.concatenate([all_rows, all_rows[[1, 0, 0]]])
        expected[[0, 1]] = all_rows[[1, 0]]
        assert store.rows == rows + 3
        assert np.array_equal(store[:], expected)


def test_an_empty_append_makes_no_version(tmp_path):
    write(tmp_path / "t", numbers(3))
    inode = (tmp_path / "t").stat().st_ino
    report = embstore.append(tmp_path / "t", np.empty((0, WIDTH), np.float32))
    assert (report.rows, report.bytes_written) == (0, 0)
    assert report.fingerprint == embstore.open(tmp_path / "t").fingerprint()
    assert (tmp_path / "t").stat().st_ino == inode
    assert names(tmp_path) == ["t"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_dry_run_tells_what_is_written(tmp_path, layout):
    options, rows = LAYOUTS[layout], numbers(ROWS)
    words = words_of(ROWS)
    write(tmp_path / "t", rows[:50], words[:50], **options)
    before = _files(tmp_path / "t")
    source = dict(zip(words[50:], rows[50:], strict=True))
    told = embstore.append(tmp_path / "t", source, dry_run=True)
    assert _files(tmp_path / "t") == before
    assert names(tmp_path) == ["t"]
    report = embstore.append(tmp_path / "t", source)
    assert told == report
    old = {status[:2] for _, status in before.values()}
    new = {
        name: size for name, (size, status) in _files(tmp_path / "t").items() if status not in old
    }
    assert report.bytes_written == sum(new.values())
    assert report.chunks_rewritten == sum("/c/" in name for name in new)
    chunks = sum("/c/" in name for name in _files(tmp_path / "t"))
    assert report.chunks_linked == chunks - report.chunks_rewritten


def test_only_last_chunks_are_written(tmp_path):
    write(tmp_path / "t", numbers(100), words_of(100), chunk_rows=8, partitions=3)
    report = embstore.append(tmp_path / "t", {"a": numbers(1)[0], "b": numbers(1)[0]})
    # Two partitions, and the three arrays of the vocabulary.
    assert report.chunks_rewritten == 5
    assert report.chunks_linked == 13


def _files(path: Path) -> dict[str, tuple[int, tuple[int, int]]]:
    """Return the size of each file, and what tells it from others."""
    return {
        file.relative_to(path).as_posix(): (
            file.stat().st_size,
            (file.stat().st_dev, file.stat().st_ino),
        )
        for file in path.rglob("*")
        if file.is_file()
    }


def _damage(file: Path, at: int = 0) -> None:
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)
        opened.seek(at)
        opened.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_damage_of_a_chunk_to_be_written_is_named(tmp_path, compression):
    write(tmp_path / "t", numbers(20), chunk_rows=8, compression=compression)
    for chunk in (0, 2):
        _damage(tmp_path / "t" / "partitions" / "0" / "c" / str(chunk) / "0", 5)
    with pytest.raises(StoreCorruptError, match="c/2/0"):
        embstore.append(tmp_path / "t", numbers(1))
    assert names(tmp_path) == ["t"]
    _damage(tmp_path / "t" / "partitions" / "0" / "c" / "2" / "0", 5)
    # Chunk 0 is linked, and its damage stays what it is.
    embstore.append(tmp_path / "t", numbers(1))
    (problem,) = embstore.verify(tmp_path / "t").problems
    assert "c/0/0" in problem


def test_links_become_files(tmp_path):
    rows = numbers(20)
    write(tmp_path / "t", rows, chunk_rows=8)
    cache = tmp_path / "cache"
    cache.mkdir()
    for chunk in (0, 2):
        file = tmp_path / "t" / "partitions" / "0" / "c" / str(chunk) / "0"
        shutil.move(file, cache / str(chunk))
        file.symlink_to(cache / str(chunk))
    embstore.append(tmp_path / "t", rows[:1])
    assert not any(file.is_symlink() for file in (tmp_path / "t").rglob("*"))
    check(tmp_path / "t", np.concatenate([rows, rows[:1]]), chunk_rows=8)


def test_a_store_without_fingerprint_gets_one(tmp_path):
    rows, words = numbers(20), words_of(20)
    write(tmp_path / "t", rows[:15], words[:15], chunk_rows=4, partitions=2)
    _remove_fingerprint(tmp_path / "t")
    embstore.append(tmp_path / "t", dict(zip(words[15:], rows[15:], strict=True)))
    check(tmp_path / "t", rows, words)


def _remove_fingerprint(path: Path) -> None:
    document = json.loads((path / spec.METADATA).read_text())
    fields = document["attributes"][spec.ATTRIBUTE]
    del fields[spec.FINGERPRINT]
    fields[spec.MANIFEST_CHECKSUM] = manifest_checksum(fields)
    (path / spec.METADATA).write_text(json.dumps(document))


def test_attributes_of_other_programs_stay(tmp_path):
    write(tmp_path / "t", numbers(3))
    document = json.loads((tmp_path / "t" / spec.METADATA).read_text())
    document["attributes"]["owner"] = "me"
    (tmp_path / "t" / spec.METADATA).write_text(json.dumps(document))
    embstore.append(tmp_path / "t", numbers(3))
    document = json.loads((tmp_path / "t" / spec.METADATA).read_text())
    assert document["attributes"]["owner"] == "me"


def test_files_of_a_newer_version_are_refused(tmp_path):
    """A change would leave them out."""
    path = tmp_path / "t"
    embstore.build(np.zeros((3, 2), np.float32), path).close()
    (path / "later").mkdir()
    (path / "later/zarr.json").write_text("{}")
    root = path / "zarr.json"
    document = json.loads(root.read_text())
    manifest = document["attributes"]["embstore"]
    manifest["metadata_crc32c"]["later/zarr.json"] = checksum(b"{}")
    manifest["manifest_crc32c"] = manifest_checksum(manifest)
    root.write_text(json.dumps(document))
    before = {file: file.stat().st_ino for file in path.rglob("*")}
    for change in (
        lambda: embstore.append(path, np.zeros((1, 2), np.float32)),
        lambda: embstore.update(path, [0], np.ones((1, 2), np.float32)),
        lambda: embstore.snapshot(path, tmp_path / "s"),
    ):
        with pytest.raises(embstore.StoreVersionError, match="does not know, such as 'later/zarr"):
            change()
    assert {file: file.stat().st_ino for file in path.rglob("*")} == before
    assert [file.name for file in tmp_path.iterdir()] == ["t"]


def test_chunks_grow_with_the_table(tmp_path):
    rows = numbers(1000)
    write(tmp_path / "t", rows[:4], chunk_rows=4, partitions=2)
    reports = [embstore.append(tmp_path / "t", rows[4:200], dry_run=True)]
    reports += [embstore.append(tmp_path / "t", rows[4:200])]
    # 50 chunks, which are few; then 250, which become 63.
    assert [report.chunk_rows for report in reports] == [4, 4]
    told = embstore.append(tmp_path / "t", rows[200:], dry_run=True)
    report = embstore.append(tmp_path / "t", rows[200:])
    assert told == report
    assert report.chunk_rows == 16
    assert (report.chunks_rewritten, report.chunks_linked) == (64, 0)
    check(tmp_path / "t", rows)
    assert read_manifest(tmp_path / "t").chunks_at_rewrite == 64
    more = embstore.append(tmp_path / "t", rows[:500])
    assert (more.chunk_rows, more.chunks_rewritten) == (16, 32)


def test_what_cannot_grow_is_refused(tmp_path):
    rows = numbers(20)
    write(tmp_path / "div", rows, partitions=2, strategy="div")
    write(tmp_path / "words", rows, words_of(20))
    write(tmp_path / "t", rows)
    np.save(tmp_path / "rows.npy", rows)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "t")
    cases: list[tuple[str, Any, type[Exception], str]] = [
        ("div", rows, ValueError, 'strategy="mod"'),
        ("words", rows, ValueError, "words"),
        ("t", {"a": rows[0]}, SourceError, "words"),
        ("t", rows[:, :3], SourceError, r"\(3,\).*\(5,\)"),
        ("t", np.ma.masked_equal(rows, 1), SourceError, "masked"),
        ("rows.npy", rows, StoreNotFoundError, r"embstore\.build"),
        ("folder", rows, StoreNotFoundError, "not a store"),
        ("missing", rows, StoreNotFoundError, "no such"),
        ("link", rows, StoreExistsError, "symbolic link.*leads to: .*/t$"),
        ("s3://bucket/t", rows, ValueError, "URL"),
    ]
    before = names(tmp_path)
    for name, source, kind, message in cases:
        path = name if "://" in name else tmp_path / name
        with pytest.raises(kind, match=message):
            embstore.append(path, source)
    assert names(tmp_path) == before
    check(tmp_path / "t", rows)


def test_missing_partitions_are_refused(tmp_path):
    write(tmp_path / "t", numbers(20), partitions=3)
    shutil.rmtree(tmp_path / "t" / "partitions" / "1")
    with pytest.raises(StoreCorruptError, match=r"partitions/1"):
        embstore.append(tmp_path / "t", numbers(1))


def test_a_second_writer_is_refused(tmp_path):
    write(tmp_path / "t", numbers(20))
    staging = Staging(tmp_path / "t", overwrite=True)
    with pytest.raises(StoreBusyError):
        embstore.append(tmp_path / "t", numbers(1))
    staging.discard()

    def rows() -> Any:
        with pytest.raises(StoreBusyError):
            embstore.append(tmp_path / "t", numbers(1))
        yield numbers(2)

    embstore.append(tmp_path / "t", rows())
    assert embstore.open(tmp_path / "t").rows == 22


def test_a_source_that_fails_leaves_nothing(tmp_path):
    write(tmp_path / "t", numbers(20))

    def rows() -> Any:
        yield numbers(30)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        embstore.append(tmp_path / "t", rows())
    assert names(tmp_path) == ["t"]
    check(tmp_path / "t", numbers(20))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_is_read_only(tmp_path):
    write(tmp_path / "t", numbers(20))
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            embstore.append(tmp_path / "t", numbers(1))
        assert embstore.append(tmp_path / "t", numbers(1), dry_run=True).rows == 1
    finally:
        tmp_path.chmod(0o700)


def test_a_store_whose_files_may_not_be_removed(tmp_path, monkeypatch):
    write(tmp_path / "t", numbers(20))
    write(tmp_path / "u", numbers(20))
    (tmp_path / "t").chmod(0o500)
    if os.geteuid() == 0:  # Root may.
        monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "t")
    changes: list[Callable[[], Any]] = [
        lambda: embstore.append(tmp_path / "t", numbers(1)),
        lambda: embstore.update(tmp_path / "t", [1], numbers(1)),
        lambda: embstore.snapshot(tmp_path / "u", tmp_path / "t", overwrite=True),
        lambda: embstore.build(numbers(3), tmp_path / "t", overwrite=True),
    ]
    for change in changes:
        with pytest.raises(PermissionError, match=r"could not be removed.*/t'"):
            change()
    assert embstore.append(tmp_path / "t", numbers(1), dry_run=True).rows == 1
    (tmp_path / "t").chmod(0o700)
    check(tmp_path / "t", numbers(20))


def test_progress_counts_rows(tmp_path):
    write(tmp_path / "t", numbers(20))
    seen: list[embstore.Progress] = []
    embstore.append(tmp_path / "t", numbers(30), progress=seen.append)
    assert seen[-1] == embstore.Progress(30 * WIDTH * 4, 30 * WIDTH * 4, 30)


def test_appended_rows_removed_again_give_the_first_fingerprint(tmp_path):
    write(tmp_path / "t", numbers(20), words_of(20))
    first = embstore.open(tmp_path / "t").fingerprint()
    report = embstore.append(tmp_path / "t", {"new": numbers(1)[0]})
    assert report.fingerprint != first
    with embstore.build(tmp_path / "t", tmp_path / "again", limit=20) as store:
        assert store.fingerprint() == first
