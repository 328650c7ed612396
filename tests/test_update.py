"""Updated rows, against an array in which the same rows are replaced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import embstore
from embstore.errors import (
    IdRangeError,
    IdTypeError,
    MissingWordError,
    RowError,
    StoreCorruptError,
    StoreNotFoundError,
)
from embstore.table.numbering import Numbering
from embstore.writing.versions.pending_rows import PendingRows
from tests.helpers.changes import WIDTH, check, numbers, words_of, write
from tests.helpers.stores import flip, names
from tests.test_append import LAYOUTS

ROWS = 90
SOME = [80, 3, 4, 89, 0, 41]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ids", [SOME, [88], list(range(ROWS))[::-1]], ids=["some", "one", "all"])
def test_updated_rows_are_those_of_a_build(tmp_path, layout, ids):
    options, rows, words = LAYOUTS[layout], numbers(ROWS), words_of(ROWS)
    write(tmp_path / "t", rows, words, **options)
    new = numbers(len(ids), seed=1)
    report = embstore.update(tmp_path / "t", ids, new)
    assert (report.rows, report.rows_replaced, report.rows_appended) == (len(ids), len(ids), 0)
    rows[ids] = new
    check(tmp_path / "t", rows, words, **options)


@pytest.mark.parametrize("row_shape", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int64"])
def test_dtypes_and_row_shapes(tmp_path, dtype, row_shape):
    rows = numbers(40, row_shape).astype(embstore.dtypes.as_dtype(dtype))
    write(tmp_path / "t", rows, chunk_rows=4, partitions=3)
    new = numbers(3, row_shape, seed=1).astype(rows.dtype)
    embstore.update(tmp_path / "t", [1, 39, 20], new)
    rows[[1, 39, 20]] = new
    check(tmp_path / "t", rows)


NEW = numbers(6, seed=1)
FORMS: dict[str, tuple[Any, Any]] = {
    "lists": (SOME, NEW.tolist()),
    "another integer dtype": (np.array(SOME, np.uint8), NEW.astype(np.float64)),
    "two axes": (np.array(SOME).reshape(2, 3), NEW.reshape(2, 3, WIDTH)),
    "words": ([f"word {number}" for number in SOME], NEW),
    "an array of words": (np.array([f"word {number}" for number in SOME]), NEW),
    "objects": (np.array([f"word {number}" for number in SOME], object), NEW),
    "blocks of rows": (SOME, lambda: iter([NEW[:1], NEW[1:]])),
    "rows one by one": (SOME, lambda: iter(NEW)),
    "blocks of ids": (lambda: iter([SOME[:4], [], SOME[4:]]), NEW),
    "blocks of both": (
        lambda: iter([SOME[:4], SOME[4:]]),
        lambda: iter([NEW[:2], NEW[2:2], NEW[2:5], NEW[5:]]),
    ),
    "words one by one": (lambda: (f"word {number}" for number in SOME), lambda: iter(NEW)),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_ids_and_rows(tmp_path, form):
    rows = numbers(ROWS)
    write(tmp_path / "t", rows, words_of(ROWS), chunk_rows=16)
    ids, new = (given() if callable(given) else given for given in FORMS[form])
    assert embstore.update(tmp_path / "t", ids, new).rows == 6
    rows[SOME] = NEW
    check(tmp_path / "t", rows, words_of(ROWS))


@pytest.mark.parametrize("one", [5, np.int64(5), "word 5"])
def test_one_row(tmp_path, one):
    rows = numbers(9)
    write(tmp_path / "t", rows, words_of(9))
    assert embstore.update(tmp_path / "t", one, NEW[0]).rows == 1
    rows[5] = NEW[0]
    check(tmp_path / "t", rows, words_of(9))


def test_only_touched_chunks_are_written(tmp_path):
    rows = numbers(100)
    write(tmp_path / "t", rows, words_of(100), chunk_rows=8)
    told = embstore.update(tmp_path / "t", [0, 7, 40], NEW[:3], dry_run=True)
    assert names(tmp_path) == ["t"]
    report = embstore.update(tmp_path / "t", [0, 7, 40], NEW[:3])
    assert told == report
    assert (report.chunks_rewritten, report.chunks_linked) == (2, 11 + 3)


def test_untouched_chunks_are_not_read(tmp_path):
    write(tmp_path / "t", numbers(100), chunk_rows=8)
    flip(tmp_path / "t" / "partitions" / "0" / "c" / "3" / "0", 9)
    embstore.update(tmp_path / "t", [0], NEW[:1])
    with pytest.raises(StoreCorruptError, match="c/3/0"):
        embstore.update(tmp_path / "t", [0, 30], NEW[:2])
    assert names(tmp_path) == ["t"]


def test_the_same_rows_give_the_same_fingerprint(tmp_path):
    rows = numbers(20)
    write(tmp_path / "t", rows)
    before = embstore.open(tmp_path / "t")
    first = before.fingerprint()
    assert embstore.update(tmp_path / "t", [3], NEW[:1]).fingerprint != first
    assert np.array_equal(before[3], rows[3])
    assert embstore.update(tmp_path / "t", [3], rows[3:4]).fingerprint == first


def test_no_ids_make_no_version(tmp_path):
    write(tmp_path / "t", numbers(20))
    inode = (tmp_path / "t").stat().st_ino
    assert embstore.update(tmp_path / "t", [], np.empty((0, WIDTH))).rows == 0
    assert (tmp_path / "t").stat().st_ino == inode


REFUSED: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "out of range": ([3, 90], NEW[:2], IdRangeError, "id 90"),
    "negative": ([-1], NEW[:1], IdRangeError, "id -1"),
    "a float": ([1.5], NEW[:1], IdTypeError, "float64"),
    "a mask": ([True], NEW[:1], IdTypeError, "bool"),
    "twice": ([3, 4, 3], NEW[:3], ValueError, "id 3 is given twice"),
    "a word twice": (["word 3", "word 3"], NEW[:2], ValueError, "id 3 is given twice"),
    "a missing word": (["word 3", "wird"], NEW[:2], MissingWordError, "'wird'.*upsert"),
    "another width": ([3], NEW[:1, :4], ValueError, r"\(1, 4\), expected \(1, 5\)"),
    "too few rows": ([3, 4], NEW[:1], ValueError, r"\(1, 5\), expected \(2, 5\)"),
    "fewer blocks": ([3, 4], iter([NEW[:1]]), ValueError, "only 1 rows"),
    "more blocks": ([3], iter([NEW[:2]]), ValueError, "more rows than ids"),
    "more empty blocks": (iter([[3]]), iter([NEW[:1], NEW[:0], NEW[:1]]), ValueError, "more rows"),
    "masked": ([3], np.ma.masked_equal(NEW[:1], NEW[0, 0]), TypeError, "masked"),
    "masked blocks": ([3], iter([np.ma.masked_equal(NEW[:1], NEW[0, 0])]), TypeError, "masked"),
    "too large": ([3, 4], np.array([[1.0] * WIDTH, [1e300] * WIDTH]), RowError, "row 1"),
    "text": ([3], [["a"] * WIDTH], TypeError, "rows are <U1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_replaced_is_refused(tmp_path, case):
    ids, rows, kind, message = REFUSED[case]
    write(tmp_path / "t", numbers(ROWS), words_of(ROWS))
    inode = (tmp_path / "t").stat().st_ino
    with pytest.raises(kind, match=message):
        embstore.update(tmp_path / "t", ids, rows)
    assert names(tmp_path) == ["t"]
    assert (tmp_path / "t").stat().st_ino == inode


def test_large_arrays_are_cast_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("embstore.changing.blocks.PIECE_BYTES", 3 * WIDTH * 8)
    rows, new = numbers(ROWS), numbers(8, seed=1).astype(np.float64)
    write(tmp_path / "t", rows)
    seen: list[embstore.Progress] = []
    embstore.update(tmp_path / "t", range(8), new, progress=seen.append)
    assert [one.rows for one in seen] == [3, 6, 8]
    rows[:8] = new
    check(tmp_path / "t", rows)
    new[7, 0] = 1e300
    with pytest.raises(RowError, match="row 7"):
        embstore.update(tmp_path / "t", range(8), new)


def test_words_of_a_store_without_words(tmp_path):
    write(tmp_path / "t", numbers(ROWS))
    with pytest.raises(MissingWordError, match="no words"):
        embstore.update(tmp_path / "t", ["a"], NEW[:1])
    with pytest.raises(StoreNotFoundError):
        embstore.update(tmp_path / "missing", [1], NEW[:1])


def test_progress(tmp_path):
    write(tmp_path / "t", numbers(ROWS))
    seen: list[embstore.Progress] = []
    embstore.update(tmp_path / "t", SOME, iter([NEW[:2], NEW[2:]]), progress=seen.append)
    assert [one.rows for one in seen] == [2, 6]


@pytest.mark.parametrize("partitions", [1, 3])
def test_more_rows_than_memory(tmp_path, monkeypatch, partitions):
    monkeypatch.setattr("embstore.writing.versions.pending_rows.PIECE_LENGTH", 64)
    count = 3000
    rows, order = numbers(count), np.random.default_rng(0).permutation(count)
    write(tmp_path / "t", rows, chunk_rows=64, partitions=partitions)
    ids, new = order[:2500], numbers(2500, seed=1)
    blocks = (new[start : start + 100] for start in range(0, 2500, 100))
    embstore.update(tmp_path / "t", ids, blocks, memory_limit=256 << 10)
    rows[ids] = new
    check(tmp_path / "t", rows)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_pending_rows_are_sorted_by_place(tmp_path, monkeypatch, count):
    monkeypatch.setattr("embstore.writing.versions.pending_rows.PIECE_LENGTH", 64)
    numbering = Numbering(2000, 3, "mod", 700)
    pending = PendingRows(8, numbering, 64, tmp_path)
    ids = np.random.default_rng(0).permutation(2000)[:count]
    for start in range(0, count, 50):
        pending.append(ids[start : start + 50], ids[start : start + 50])
    pending.settle()
    places, found, rows = pending.part(0, 2100)
    assert places.tolist() == sorted(numbering.rows_of(ids).tolist())
    assert numbering.rows_of(found).tolist() == places.tolist()
    assert rows.reshape(-1).view(np.int64).tolist() == found.tolist()
    assert pending.chunks(64).tolist() == sorted(set((places // 64).tolist()))
    pending.close()
