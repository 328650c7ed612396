"""Words to ids and back, against a dict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from embstore import vocabulary
from embstore.formats.own import spec
from embstore.vocabulary import Vocabulary
from embstore.vocabulary.words import PackedWords, pack
from embstore.writing import vocabulary_builder
from embstore.writing.vocabulary_builder import VocabularyBuilder

WORD = st.text(alphabet="ab\u00e9\U0001f600\x00 ", max_size=3)
BATCHES = st.lists(st.lists(WORD, max_size=8), max_size=6)


def from_builder(builder: VocabularyBuilder) -> Vocabulary:
    """Return the vocabulary that a store would have."""
    arrays = builder.arrays()
    stored = PackedWords(arrays[spec.WORD_BYTES], arrays[spec.WORD_OFFSETS])
    return Vocabulary(stored, arrays[spec.WORD_SLOTS], builder.probe_count)


def check_against_dict(
    batches: list[list[str]], queries: list[str], builder: VocabularyBuilder | None = None
) -> None:
    """Add batches to a builder and to a dict, and compare all they say."""
    builder = VocabularyBuilder() if builder is None else builder
    model = dict[str, int]()
    for batch in batches:
        expected = [model.setdefault(word, len(model)) for word in batch]
        assert builder.add(pack(batch)).tolist() == expected
        assert len(builder) == len(model)
    found = from_builder(builder)
    assert len(found) == len(model)
    assert found.ids(queries).tolist() == [model.get(word, -1) for word in queries]
    assert builder.ids(pack(queries)).tolist() == [model.get(word, -1) for word in queries]
    assert found.words(np.arange(len(model))) == list(model)


@given(batches=BATCHES, queries=st.lists(WORD, max_size=10))
@settings(deadline=None, max_examples=50)
def test_the_builder_is_a_dict(batches, queries):
    check_against_dict(batches, queries)


@given(batches=BATCHES, queries=st.lists(WORD, max_size=10), bits=st.sampled_from([0, 1, 40]))
@settings(deadline=None, max_examples=50)
def test_it_stays_exact_when_hashes_collide(batches, queries, bits):
    """All words have one hash, or hashes that differ in a slot bit, or in a kept bit, only."""

    def hash_words(words):
        kinds = [len(word) % 2 for word in words]
        return (
            np.array(kinds, np.uint64) << np.uint64(bits)
            if bits
            else np.zeros(len(words), np.uint64)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "hash_words", hash_words)
        patch.setattr(vocabulary_builder, "hash_words", hash_words)
        check_against_dict(batches, queries)


def test_it_grows():
    words = [f"word {i}" for i in range(20_000)]
    batches = [words[i : i + 3000] for i in range(0, len(words), 3000)]
    check_against_dict([*batches, words[::7]], [*words[::3], "absent", "word -1"])


@pytest.mark.parametrize("memory_bytes", [3000, 100_000])
def test_beyond_its_memory_it_goes_on_in_files(tmp_path, memory_bytes):
    words = [f"word {i}" * (i % 3) for i in range(20_000)]
    batches = [words[i : i + 3000] for i in range(0, len(words), 2500)]
    builder = VocabularyBuilder(memory_bytes, tmp_path)
    check_against_dict([*batches, words[::7]], [*words[::3], "absent", "word -1"], builder)
    assert all(scratch.in_file for scratch in (builder._slots, builder._data, builder._offsets))
    for name, array in builder.arrays().items():
        assert np.array_equal(np.concatenate(list(builder.pieces(name))), array)
    assert list(tmp_path.iterdir()) == []  # They have no names.
    builder.close()


@given(batches=BATCHES, queries=st.lists(WORD, max_size=10))
@settings(deadline=None, max_examples=20)
def test_in_files_it_is_a_dict_too(tmp_path_factory, batches, queries):
    builder = VocabularyBuilder(0, tmp_path_factory.getbasetemp())
    check_against_dict(batches, queries, builder)
    builder.close()


def test_words_longer_than_the_first_buffer():
    check_against_dict([["x" * 100_000, "y"], ["x" * 99_999, "x" * 100_000]], ["x" * 100_000, "y"])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_small_vocabularies(count):
    check_against_dict([["", "b"][:count]], ["", "b", "c"])


def test_a_surrogate_is_not_found_and_not_an_error():
    builder = VocabularyBuilder()
    builder.add(pack(["a"]))
    assert from_builder(builder).ids(["\ud800", "a"]).tolist() == [-1, 0]


def test_probe_count_suffices_for_every_word():
    builder = VocabularyBuilder()
    words = [str(i) for i in range(2040)]  # Nearly half of the first table.
    builder.add(pack(words))
    arrays = builder.arrays()
    assert len(arrays[spec.WORD_SLOTS]) == 4096
    stored = PackedWords(arrays[spec.WORD_BYTES], arrays[spec.WORD_OFFSETS])
    slots, count = arrays[spec.WORD_SLOTS], builder.probe_count
    assert Vocabulary(stored, slots, count).ids(words).tolist() == list(range(2040))
    # And it is not larger than it must be: with one probe less, some word is not found.
    assert (Vocabulary(stored, slots, count - 1).ids(words) < 0).any()


@pytest.mark.parametrize("estimated", [0, 20_000, 1 << 60])
def test_an_estimate_saves_work_and_changes_nothing(monkeypatch, estimated):
    filled = []
    rebuild = VocabularyBuilder._rebuild

    def counting(builder: VocabularyBuilder, slot_count: int) -> None:
        filled.append(slot_count)
        rebuild(builder, slot_count)

    monkeypatch.setattr(VocabularyBuilder, "_rebuild", counting)
    builder = VocabularyBuilder(3 << 20, estimated_words=estimated)
    words = [f"word {i}" for i in range(20_000)]
    for begin in range(0, len(words), 3000):
        builder.add(pack(words[begin:][:3000]))
    assert not filled or not estimated
    builder.finish()
    assert len(filled) == {0: 4, 20_000: 0, 1 << 60: 1}[estimated]
    assert len(builder.arrays()[spec.WORD_SLOTS]) == 1 << 16
    assert from_builder(builder).ids(words).tolist() == list(range(20_000))


def damaged(**changes: Any) -> Vocabulary:
    """Return a vocabulary of three words, of which an array is changed."""
    builder = VocabularyBuilder()
    builder.add(pack(["the", "like", "day"]))
    arrays = {name: array.copy() for name, array in builder.arrays().items()} | changes
    stored = PackedWords(arrays["bytes"], arrays["offsets"])
    return Vocabulary(stored, arrays["slots"], 8)


@pytest.mark.parametrize(
    "offsets", [[0, -5, 7, 10], [0, 3, 7, 11], [0, 9, 7, 10], [0, 3, 2**62, 10]]
)
def test_damaged_offsets_are_noticed(offsets):
    with pytest.raises(embstore.StoreCorruptError, match="offsets"):
        damaged(offsets=np.array(offsets)).words(np.array([0, 1, 2]))


@pytest.mark.parametrize("entry", [0, 3, 2**40 - 1])
def test_damaged_slots_are_noticed(entry):
    builder = VocabularyBuilder()
    builder.add(pack(["the", "like", "day"]))
    slots = builder.arrays()["slots"].copy()
    kept = slots & ~np.uint64(2**40 - 1)
    # Ids that no word has: below the first (entry 0), and beyond the last.
    numbers = np.where(slots != 0, np.uint64(entry + 1 if entry else 0), np.uint64(0))
    with pytest.raises(embstore.StoreCorruptError, match="names an id"):
        damaged(slots=kept | numbers).ids(["like"])


def test_damaged_bytes_are_noticed():
    with pytest.raises(embstore.StoreCorruptError, match="not UTF-8"):
        damaged(bytes=np.full(10, 0xFF, np.uint8)).words(np.array([0]))


def test_a_later_word_that_is_found_at_once_does_not_shorten_the_search(monkeypatch):
    hashes = {b"a": 7, b"b": 7, b"c": 7, b"d": 100}
    for module in (vocabulary, vocabulary_builder):
        monkeypatch.setattr(
            module,
            "hash_words",
            lambda words: np.array([hashes[word] for word in words], np.uint64),
        )
    builder = VocabularyBuilder()
    for word in "abcd":
        builder.add(pack([word]))
    assert builder.probe_count == 3
    assert from_builder(builder).ids(list("abcd")).tolist() == [0, 1, 2, 3]
