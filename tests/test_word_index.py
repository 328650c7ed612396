"""Words of a build that do not fit in its memory, against a dict."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.errors import DuplicateWordError
from embstore.formats.own import spec
from embstore.vocabulary import Vocabulary
from embstore.vocabulary.words import PackedWords, hash_words, pack
from embstore.writing.words import slot_buckets, word_index
from embstore.writing.words.vocabulary_builder import VocabularyBuilder
from embstore.writing.words.word_filter import WordFilter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The least for one partition: the table in memory then has room for 2048 words.
LEAST_LIMIT = 1 << 16
COUNT = 10_000
OPTIONS: dict[str, Any] = {
    "row_shape": (1,),
    "dtype": "int64",
    "partitions": 1,
    "memory_limit": LEAST_LIMIT,
}


def shuffled(words: list[str]) -> list[str]:
    return [words[at] for at in np.random.default_rng(3).permutation(len(words)).tolist()]


UNIQUE = [f"word {number}" for number in range(COUNT)]
STREAMS = {
    "each once": UNIQUE,
    "all again at the end": [*UNIQUE, *UNIQUE],
    "each twice in a row": [word for word in UNIQUE for _ in range(2)],
    "the first ones again and again": [UNIQUE[at if at % 3 else at % 100] for at in range(COUNT)],
    "shuffled": shuffled([*UNIQUE[: COUNT // 2], *UNIQUE, *UNIQUE[COUNT // 3 :]]),
}


def in_batches(words: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(words), size):
        yield words[start : start + size]


def build(path: Path, words: list[str], size: int = 3000, **options: Any) -> None:
    """Build a store whose rows tell where their words stood among all."""
    with embstore.StoreWriter(path, overwrite=True, **OPTIONS | options) as writer:
        start = 0
        for batch in in_batches(words, size):
            writer.write(np.arange(start, start + len(batch)).reshape(-1, 1), words=batch)
            start += len(batch)


@pytest.mark.parametrize("most_tables", [2, 8])
@pytest.mark.parametrize("size", [1, 700, 5000])
@pytest.mark.parametrize("stream", STREAMS)
def test_ids_equal_a_dict(tmp_path, monkeypatch, stream, size, most_tables):
    """Also where tables in files are merged, and after the last word."""
    monkeypatch.setattr(word_index, "MOST_TABLES", most_tables)
    monkeypatch.setattr(word_index, "LEAST_SLOTS", 64)
    words = STREAMS[stream] if size > 1 else STREAMS[stream][-1000:]
    model = dict[str, int]()
    builder = VocabularyBuilder(1 << 14, tmp_path)
    for batch in in_batches(words, size):
        expected = [model.setdefault(word, len(model)) for word in batch]
        assert builder.add(pack(batch)).tolist() == expected
    queries = pack([*list(model)[::7], "", "word -1", *list(model)[:-50:-1]])
    ids = [model.get(word.decode(), -1) for word in queries.encoded()]
    assert builder.ids(queries).tolist() == ids
    builder.finish()
    assert builder.ids(queries).tolist() == ids
    arrays = builder.arrays()
    stored = PackedWords(arrays[spec.WORD_BYTES], arrays[spec.WORD_OFFSETS])
    vocabulary = Vocabulary(stored, arrays[spec.WORD_SLOTS], builder.probe_count)
    assert vocabulary.ids(list(model)).tolist() == list(range(len(model)))
    assert vocabulary.ids(["", "word -1"]).tolist() == [-1, -1]
    assert vocabulary.listed(0, len(model)) == list(model)
    builder.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bits", [0, 3, 12, 40])
def test_colliding_hashes(tmp_path, monkeypatch, bits):
    """The filter and the files know many words with the hash of a new one."""
    for module in ("words", "vocabulary"):
        name = f"embstore.vocabulary.{module}.xxh3_64_intdigest"
        monkeypatch.setattr(name, lambda word: sum(word) % 64 << bits)
    monkeypatch.setattr(word_index, "LEAST_SLOTS", 64)
    monkeypatch.setattr(word_index, "MOST_TABLES", 3)
    monkeypatch.setattr(slot_buckets, "LEAST_WIDTH", 8)
    words = [f"{number}{end}" for number in range(100) for end in ("", "x")]
    model = dict[str, int]()
    builder = VocabularyBuilder(0, tmp_path)
    for batch in in_batches([*words, *words[::3], *words], 17):
        expected = [model.setdefault(word, len(model)) for word in batch]
        assert builder.add(pack(batch)).tolist() == expected
    builder.finish()
    assert builder.ids(pack([*words, "y"])).tolist() == [*range(len(words)), -1]
    builder.close()


@pytest.mark.parametrize("stream", STREAMS)
def test_repeated_words_are_dropped(tmp_path, stream):
    words = STREAMS[stream]
    build(tmp_path / "s", words, on_duplicate="first")
    model = dict[str, int]()
    for place, word in enumerate(words):
        model.setdefault(word, place)
    with embstore.open(tmp_path / "s") as store:
        assert len(store) == len(model)
        assert store.words(np.arange(len(model))) == list(model)
        assert store[list(model)].ravel().tolist() == list(model.values())
    embstore.verify(tmp_path / "s")


@pytest.mark.parametrize("place", [1, 7000, COUNT - 1])
@pytest.mark.parametrize("earlier", [0, 6999])
def test_a_repeated_word_is_an_error_at_once(tmp_path, place, earlier):
    """The message names the word, its place in the batch, and the id of the first."""
    words = list(UNIQUE)
    if earlier >= place:
        earlier = 0
    words[place] = words[earlier]
    with pytest.raises(DuplicateWordError) as caught:
        build(tmp_path / "s", words)
    assert f"the word {words[earlier]!r} already has id {earlier};" in str(caught.value)
    assert caught.value.position == place % 3000
    assert list(tmp_path.iterdir()) == []


def test_the_same_words_give_the_same_files(tmp_path):
    """Whatever the batches, and the memory where it is not enough."""
    expected = None
    for number, (size, limit) in enumerate(
        [(3000, LEAST_LIMIT), (77, LEAST_LIMIT), (999, 1 << 18)]
    ):
        path = tmp_path / f"{number}"
        build(path, UNIQUE, size, memory_limit=limit)
        files = {
            str(file.relative_to(path)): file.read_bytes()
            for file in (path / "vocabulary").rglob("*")
            if file.is_file()
        }
        assert expected is None or files == expected
        expected = files


def test_a_store_of_few_words_and_one_of_many_have_one_fingerprint(tmp_path):
    for name, limit in (("a", LEAST_LIMIT), ("b", 1 << 30)):
        build(tmp_path / name, UNIQUE, memory_limit=limit)
    with embstore.open(tmp_path / "a") as one, embstore.open(tmp_path / "b") as other:
        assert one.fingerprint() == other.fingerprint()
        assert one.ids(UNIQUE).tolist() == other.ids(UNIQUE).tolist() == list(range(COUNT))


def test_files_of_words_are_gone_after_a_kill(tmp_path):
    """A build that is killed leaves its staging directory only, which the next one removes."""
    program = f"""
import sys, numpy as np, embstore
writer = embstore.StoreWriter(sys.argv[1], **{OPTIONS})
writer.__enter__()
for start in range(0, {COUNT}, 1000):
    ids = range(start, start + 1000)
    writer.write(np.array(ids).reshape(-1, 1), words=[f"word {{number}}" for number in ids])
print("written", flush=True)
sys.stdin.read()
"""
    path = tmp_path / "s"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        left = Counter(file.suffix for file in tmp_path.rglob("*") if file.is_file())
        process.send_signal(signal.SIGKILL)
    assert not path.exists()
    assert Counter(file.suffix for file in tmp_path.rglob("*") if file.is_file()) == left
    build(path, UNIQUE[:COUNT])
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]
    with embstore.open(path) as store:
        assert store[UNIQUE[:COUNT]].ravel().tolist() == list(range(COUNT))


@pytest.mark.parametrize("memory_bytes", [0, 8, 100, 1 << 16])
def test_the_filter_holds_no_added_word_back(memory_bytes):
    hashes = hash_words([word.encode() for word in UNIQUE])
    words = WordFilter(memory_bytes)
    for start in range(0, COUNT, 7000):
        words.add(hashes[start : start + 7000])
    assert words.may_have(hashes).all()
    assert words.may_have(hashes[:0]).tolist() == []


def test_the_filter_holds_most_other_words_back():
    hashes = hash_words([word.encode() for word in UNIQUE])
    words = WordFilter(COUNT * 20 // 8)  # 16 KiB would be 8.7 bits a word; this makes 17.
    words.add(hashes)
    others = hash_words([f"other {number}".encode() for number in range(COUNT)])
    assert words.may_have(others).mean() < 0.01


def test_few_tables_are_in_files(tmp_path, monkeypatch):
    """Merged tables are merged again, so that a new word is not looked up in ever more of them."""
    for module in ("word_index", "slot_table"):
        monkeypatch.setattr(f"embstore.writing.words.{module}.LEAST_SLOTS", 64)
    counts = list[int]()
    builder = VocabularyBuilder(0, tmp_path)
    for batch in in_batches(UNIQUE, 25):
        builder.add(pack(batch))
        counts.append(len(builder._index._older))
    # 400 tables with 25 words each, of which 8 become one: 3 levels with 7 tables at most.
    assert max(counts) <= 3 * (word_index.MOST_TABLES - 1)
    assert builder.ids(pack(UNIQUE)).tolist() == list(range(COUNT))
    builder.finish()
    assert builder.ids(pack(UNIQUE)).tolist() == list(range(COUNT))
    builder.close()
