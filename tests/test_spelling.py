"""The words that are suggested for a missing one, and their cost."""

from __future__ import annotations

import pickle
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

import embstore
from embstore.vocabulary import Vocabulary, spelling
from embstore.vocabulary import vocabulary as vocabulary_module
from embstore.vocabulary.spelling import edited, near_word, variants
from embstore.vocabulary.words import PackedWords, pack
from embstore.writing.words.vocabulary_builder import VocabularyBuilder

if TYPE_CHECKING:
    from pathlib import Path

WORDS = [
    "the",
    "like",
    "country",
    "county",
    "caf\u00e9",
    "New York",
    "USA",
    "w10",
    "\u043c\u0438\u0440",
]


def vocabulary_of(words: list[str]) -> Vocabulary:
    builder = VocabularyBuilder()
    builder.add(pack(words))
    arrays = builder.arrays()
    packed = PackedWords(arrays["bytes"], arrays["offsets"])
    return Vocabulary(packed, arrays["slots"], builder.probe_count)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("Like", "like"),
        ("THE", "the"),
        ("usa", "USA"),
        ("new york", "New York"),
        (" like\n", "like"),
        ("cafe\u0301", "caf\u00e9"),
        ("\uff4c\uff49\uff4b\uff45", "like"),  # Full-width letters.
        ("contry", "country"),
        ("kounty", "county"),
        ("countyr", "country"),  # And "county": the lower id.
        ("Cuontry", "country"),
        ("liike", "like"),
        ("lime", "like"),
        ("\u043c\u0438\u0440\u0438", "\u043c\u0438\u0440"),
        ("zyzzyva", None),
        ("th", None),  # Too short.
        ("w11", None),  # Another number.
        ("l" * 41, None),
        ("", None),
        ("\ud800\ud800\ud800", None),
    ],
)
def test_near_words(asked, found):
    assert near_word(asked, vocabulary_of(WORDS)) == found


def test_no_suggestion_from_an_empty_vocabulary():
    assert near_word("like", vocabulary_of([])) is None


def test_letters_are_those_of_the_whole_vocabulary():
    signs = [f"[{i}]{chr(0x4E00 + i)}" for i in range(3000)]
    vocabulary = vocabulary_of([*signs, "countries", "country", "yes", "many", "army"])
    assert near_word("countr", vocabulary) == "country"


def test_variants_are_one_edit_away():
    edits = edited("word", "xyz")
    assert {"wrd", "wodr", "ward", "wordx", "xword"} & edits == {"wrd", "wodr", "wordx", "xword"}
    letters = 3 + 4
    assert len(edits) <= 5 + 3 + 4 * letters + 5 * letters
    assert variants("a") == {"A"}


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "t.embstore"
    with embstore.StoreWriter(path, row_shape=(), dtype="float32") as writer:
        writer.write(np.zeros(len(WORDS)), WORDS)
    with embstore.open(path) as opened:
        yield opened


def test_messages(store):
    with pytest.raises(embstore.MissingWordError) as raised:
        store["contry"]
    assert str(raised.value) == (
        "the word 'contry' is not in the store; lookup_words(..., missing=\"zeros\") gives such "
        "words zeros; did you mean 'country'?"
    )
    assert raised.value.words == ("contry",)
    with pytest.raises(embstore.MissingWordError) as raised:
        store[["zyzzyva", "Like", "the", "THE", "lime"]]
    assert str(raised.value) == (
        "4 of 5 words are not in the store: 'zyzzyva', 'Like', 'THE', 'lime'; "
        'lookup_words(..., missing="zeros") gives such words zeros; '
        "did you mean 'like' for 'Like', 'the' for 'THE'?"
    )
    assert raised.value.words == ("zyzzyva", "Like", "THE", "lime")


def test_error_can_be_pickled_and_outlives_the_store(store):
    with pytest.raises(embstore.MissingWordError) as raised:
        store["Like"]
    store.close()
    again = pickle.loads(pickle.dumps(raised.value))
    assert str(again) == str(raised.value)
    assert str(again).endswith("did you mean 'like'?")
    assert again.words == ("Like",)


def test_suggestion_is_computed_when_the_message_is_shown(store, monkeypatch):
    def fail(*_):
        raise AssertionError("computed")

    monkeypatch.setattr(spelling, "variants", fail)
    with pytest.raises(KeyError) as raised:
        store["Like"]
    with pytest.raises(AssertionError, match="computed"):
        str(raised.value)


def test_suggestion_takes_bounded_time():
    vocabulary = vocabulary_of([f"{chr(0x4E00 + i)}{i}" for i in range(3000)])
    start = time.process_time()
    for _ in range(10):
        near_word("Abcdefghijklmnopqrstuvwxyz", vocabulary)
    assert time.process_time() - start < 5


def test_cold_hash_table_is_not_read_for_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {f"word{chr(97 + n // 26 % 26)}{chr(97 + n % 26)}{n}": [0.0] for n in range(20_000)}
    embstore.build(words | {"country": [1.0]}, tmp_path / "cold.embstore").close()
    monkeypatch.setattr(vocabulary_module, "READ_AHEAD_BYTES", 1 << 10)
    monkeypatch.setattr(vocabulary_module, "in_core", lambda *_: np.zeros(1, np.uint8))
    with embstore.open(tmp_path / "cold.embstore") as store:
        with pytest.raises(embstore.MissingWordError) as missing:
            store.lookup_words(["kountry"])
        assert "did you mean" not in str(missing.value)
        with pytest.raises(embstore.MissingWordError) as missing:
            store.lookup_words(["Country"])
        assert "did you mean 'country'" in str(missing.value)
    monkeypatch.setattr(vocabulary_module, "in_core", lambda *_: np.ones(1, np.uint8))
    with embstore.open(tmp_path / "cold.embstore") as store:
        with pytest.raises(embstore.MissingWordError) as missing:
            store.lookup_words(["kountry"])
        assert "did you mean 'country'" in str(missing.value)


def test_hash_table_in_memory_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary_module, "READ_AHEAD_BYTES", 1 << 10)
    assert vocabulary_of([f"word {n}" for n in range(5000)]).is_near
