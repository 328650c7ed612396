"""The commands append, update, upsert and snapshot, run as a user runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import embstore
from tests.helpers.programs import run_command as run

WORDS = [f"w{number}" for number in range(12)]
ROWS = np.arange(48, dtype=np.float32).reshape(12, 4)
REPORT = re.compile(
    r"(dry run, nothing is changed: )?(.+): (\d+) chunks? and ([\d,]+) bytes written, "
    r"(\d+) chunks? linked; fingerprint ([0-9a-f]{32})\n"
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of twelve words."""
    path = tmp_path / "s"
    embstore.build(ROWS, path, words=WORDS, partitions=2).close()
    return path


def text(path: Path, rows: dict[str, float]) -> Path:
    """Write a text file of words, each with a row of one number."""
    path.write_text(
        "".join(f"{word} {' '.join([str(value)] * 4)}\n" for word, value in rows.items())
    )
    return path


def fingerprint(path: Path) -> str:
    with embstore.open(path) as table:
        return table.fingerprint()


def files_of(path: Path) -> dict[str, bytes]:
    files = [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


CHANGES = {
    "append": ({"a": 7.5, "b": 8}, "2 rows appended"),
    "update": ({"w3": 7.5, "w8": 8}, "2 rows replaced"),
    "upsert": ({"a": 7.5, "w8": 8}, "1 row appended, 1 row replaced"),
}


@pytest.mark.parametrize("command", CHANGES)
def test_changes(command, store, tmp_path):
    rows, what = CHANGES[command]
    source = text(tmp_path / "new.txt", rows)
    before = files_of(store)
    dry = run(command, store, source, "--dry-run")
    assert files_of(store) == before
    done = run(command, store, source)
    assert dry.stderr == done.stderr == ""
    found = REPORT.fullmatch(done.stdout)
    assert found
    assert found[1] is None
    assert found[2] == what
    assert found[6] == fingerprint(store)
    assert dry.stdout == f"dry run, nothing is changed: {done.stdout}"
    with embstore.open(store) as table:
        assert table.rows == 12 + sum(word not in WORDS for word in rows)
        for word, value in rows.items():
            assert table[word].tolist() == [value] * 4
        assert np.array_equal(table["w1"], ROWS[1])
    assert embstore.verify(store).ok


@pytest.mark.parametrize("command", CHANGES)
def test_reports_for_programs(command, store, tmp_path):
    source = text(tmp_path / "new.txt", CHANGES[command][0])
    dry = json.loads(run(command, store, source, "--dry-run", "--json").stdout)
    done = json.loads(run(command, store, source, "--json").stdout)
    assert dry == done
    assert done["rows"] == 2
    assert done["fingerprint"] == fingerprint(store)


def write_ids(folder: Path) -> dict[str, object]:
    """Return ways to say the ids 3, 4 and 5."""
    np.save(folder / "ids.npy", np.array([3, 4, 5], np.uint16))
    (folder / "ids.txt").write_text("3\n4\n5\n")
    return {
        "list": "3,4,5",
        "range": "3:6",
        "npy": folder / "ids.npy",
        "lines": folder / "ids.txt",
    }


@pytest.mark.parametrize("way", ["list", "range", "npy", "lines"])
def test_ids_of_rows(way, store, tmp_path):
    np.save(tmp_path / "rows.npy", -ROWS[:3])
    run("update", store, tmp_path / "rows.npy", "--ids", write_ids(tmp_path)[way])
    expected = ROWS.copy()
    expected[3:6] = -ROWS[:3]
    with embstore.open(store) as table:
        assert np.array_equal(table[:], expected)


def test_open_range_of_ids(store, tmp_path):
    np.save(tmp_path / "rows.npy", -ROWS[:2])
    run("update", store, tmp_path / "rows.npy", "--ids", "10:")
    with embstore.open(store) as table:
        assert np.array_equal(table[10:], -ROWS[:2])


def test_rows_named_by_a_file_of_words(store, tmp_path):
    np.save(tmp_path / "rows.npy", -ROWS[:2])
    (tmp_path / "words.txt").write_text("w9\nw2\n")
    run("update", store, tmp_path / "rows.npy", "--words", tmp_path / "words.txt")
    with embstore.open(store) as table:
        assert np.array_equal(table[["w9", "w2"]], -ROWS[:2])


def test_rows_of_many_batches(tmp_path):
    """Ids stay in step with rows that come in several batches."""
    rows = np.random.default_rng(0).standard_normal((9000, 600)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "ids.npy", np.arange(9000)[::-1])
    embstore.build(np.zeros_like(rows), tmp_path / "s").close()
    run("update", tmp_path / "s", tmp_path / "rows.npy", "--ids", tmp_path / "ids.npy")
    with embstore.open(tmp_path / "s") as table:
        assert np.array_equal(table[:], rows[::-1])


def test_rows_encoded_as_those_of_the_store(tmp_path):
    """Records are taken as they are, not decoded and encoded again."""
    embstore.build(ROWS, tmp_path / "s", words=WORDS, encoding="float8_e4m3fn").close()
    some = embstore.build(-ROWS[:3], tmp_path / "some", words=WORDS[:3], encoding="float8_e4m3fn")
    run("update", tmp_path / "s", tmp_path / "some")
    with some, embstore.open(tmp_path / "s") as table:
        records = some.lookup([0, 1, 2], raw=True)
        assert np.array_equal(table.lookup([0, 1, 2], raw=True), records)


def test_attributes(tmp_path):
    (tmp_path / "a.txt").write_text("word\tcount\tx\ty\na\t3\t0\t0\nb\t4\t0\t0\n")
    (tmp_path / "b.txt").write_text("word\tcount\tx\ty\nb\t5\t1\t1\nc\t6\t1\t1\n")
    run("build", tmp_path / "a.txt", tmp_path / "s", "--attribute", "count")
    for command in ("upsert", "update"):
        run(command, tmp_path / "s", tmp_path / "b.txt", "--attribute", "count")
    refused = run("append", tmp_path / "s", text(tmp_path / "c.txt", {"d": 1}), status=1)
    assert refused.stderr.count("\n") == 1
    with embstore.open(tmp_path / "s") as table:
        assert table.attributes["count"][:].tolist() == [3, 5, 6]
        assert table[:].tolist() == [[0, 0], [1, 1], [1, 1]]


def test_info_lists_the_facts_of_the_last_change(store, tmp_path):
    run("update", store, text(tmp_path / "new.txt", {"w3": 7}))
    for path in (store, tmp_path / "copy"):
        if path != store:
            embstore.build(store, path).close()
        prefix = "source" if path == store else "earlier source 1"
        lines = run("info", path).stdout.splitlines()
        facts = dict(re.split(r"  +", line, maxsplit=1) for line in lines)
        assert facts[f"{prefix} last change kind"] == "update"
        assert facts[f"{prefix} last change file"] == "new.txt"
        assert facts[f"{prefix} last change rows with nan or inf"] == "0"
        assert facts[f"{prefix} changes"] == "1"


def test_snapshot(store, tmp_path):
    done = run("snapshot", store, tmp_path / "before")
    assert re.fullmatch(
        r"\d+ chunks shared, [\d,]+ bytes written; fingerprint [0-9a-f]{32}\n", done.stdout
    )
    run("update", store, text(tmp_path / "new.txt", {"w1": -1}))
    with embstore.open(tmp_path / "before") as table:
        assert np.array_equal(table[:], ROWS)
    refused = run("snapshot", store, tmp_path / "before", status=1)
    assert refused.stderr.count("\n") == 1
    facts = json.loads(run("snapshot", store, tmp_path / "before", "--overwrite", "--json").stdout)
    assert facts["fingerprint"] == fingerprint(store)
    assert embstore.verify(tmp_path / "before").ok


def test_notes_about_rows(store, tmp_path):
    done = run("append", store, text(tmp_path / "new.txt", {"a": float("nan")}))
    assert (
        done.stderr == "embstore: note: rows with values that are nan or inf, which were kept: 1\n"
    )
    (tmp_path / "cut.txt").write_text("b 0.1 0.2 0.3 0.4\nb 1 1 1 1\nc 0.1 0.2 0.3 0.4")
    done = run("append", store, tmp_path / "cut.txt")
    assert "rows dropped because their word came before: 1\n" in done.stderr
    assert "has no newline" in done.stderr
    with embstore.build(ROWS, tmp_path / "half", dtype=np.float16):
        np.save(tmp_path / "thirds.npy", ROWS[:2] / 3)
        done = run("append", tmp_path / "half", tmp_path / "thirds.npy")
        assert "numbers were rounded to float16; the largest difference is" in done.stderr


def test_note_about_chunks_that_double(tmp_path):
    """Told before, by --dry-run, and when it happens."""
    rows = np.zeros((300, 4), np.float32)
    with embstore.StoreWriter(tmp_path / "s", row_shape=(4,), dtype="f4", chunk_rows=4) as writer:
        writer.write(rows[:4])
    np.save(tmp_path / "more.npy", rows)
    dry = run("append", tmp_path / "s", tmp_path / "more.npy", "--dry-run")
    done = run("append", tmp_path / "s", tmp_path / "more.npy")
    assert re.fullmatch(
        r"embstore: note: chunks have \d+ rows instead of 4, because the table has grown; that "
        r"writes all of it, once\n",
        done.stderr,
    )
    assert dry.stderr == done.stderr.replace("have", "would have")


WRONG = {
    "known word": (("append", "STORE", "w3"), "new.txt:1: the word 'w3' already has id 3"),
    "missing word": (("update", "STORE", "w33"), "new.txt:1: the word 'w33' is not in the store"),
    "near word": (("update", "STORE", "W3"), "did you mean 'w3'?"),
    "no store": (("append", "NONE", "a"), "no store at"),
    "store that is a file": (("upsert", "FILE", "a"), "no store at"),
    "no source": (("append", "STORE", "NONE"), "no such file"),
    "no words": (("update", "STORE", "ROWS"), "has no words, so nothing says which rows"),
    "words and ids": (("update", "STORE", "w3", "--ids", "3"), "leave the ids out"),
    "few ids": (("update", "STORE", "ROWS", "--ids", "1,2"), "more rows than the 2 ids"),
    "many ids": (("update", "STORE", "ROWS", "--ids", "0:9"), "3 rows for 9 ids"),
    "id out of range": (("update", "STORE", "ROWS", "--ids", "1,2,12"), "id 12 at position 2"),
    "negative id": (("update", "STORE", "ROWS", "--ids=-1,2,3"), "id -1"),
    "id twice": (("update", "STORE", "ROWS", "--ids", "1,2,1"), "id 1 is given twice"),
    "another width": (("upsert", "STORE", "WIDE"), "has rows of shape [5]"),
    "memory": (("append", "STORE", "a", "--memory-limit", "much"), "--memory-limit must be a size"),
    "URL": (("append", "s3://bucket/x", "a"), "must be a local path, not the URL s3://bucket/x"),
    "snapshot of nothing": (("snapshot", "NONE", "NEW"), "no store at"),
    "snapshot to a URL": (("snapshot", "STORE", "s3://bucket/x"), "embstore publish puts a store"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_are_one_line(case, store, tmp_path):
    arguments, says = WRONG[case]
    np.save(tmp_path / "rows.npy", ROWS[:3])
    (tmp_path / "wide.txt").write_text("a 1 2 3 4 5\n")
    (tmp_path / "file.txt").write_text("a 1 2\n")
    named = {
        "STORE": store,
        "NONE": tmp_path / "none",
        "ROWS": tmp_path / "rows.npy",
        "FILE": tmp_path / "file.txt",
        "NEW": tmp_path / "copy",
        "WIDE": tmp_path / "wide.txt",
    }
    source = arguments[2]
    if source not in named and source[:1].lower() in "wa":
        named[source] = text(tmp_path / "new.txt", {source: 1})
    before = files_of(store)
    done = run(*[named.get(one, one) for one in arguments], status=1)
    assert done.stdout == ""
    assert done.stderr.startswith("embstore: error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert files_of(store) == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ("", "'' is not a list of ids as in 0,5,17 or 2:10, nor a file"),
        ("nothing", "'nothing' is not a list of ids as in 0,5,17 or 2:10, nor a file"),
        ("words.txt", "'words.txt' is not a file of ids: one a line, or a .npy"),
        ("broken.npy", "'broken.npy' is not a file of ids: one a line, or a .npy"),
    ],
)
def test_wrong_ids(ids, says, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", ROWS[:3])
    Path("words.txt").write_text("w1\nw2\nw3\n")
    Path("broken.npy").write_bytes(b"not an array")
    done = run("update", store, "rows.npy", "--ids", ids, status=2)
    assert says in done.stderr


def test_a_second_writer_is_told(store, tmp_path):
    source = text(tmp_path / "new.txt", {"a": 1})
    with embstore.StoreWriter(store, row_shape=(4,), dtype="f4", overwrite=True):
        done = run("append", store, source, status=1)
    assert done.stderr.count("\n") == 1
    assert "is writing" in done.stderr
