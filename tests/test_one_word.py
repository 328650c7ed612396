"""One word at a time: stores and the views written for gensim's code, against a dict."""

from __future__ import annotations

import os
import pickle
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.interop.gensim import views
from embstore.interop.keyedvectors import KeyedVectors
from embstore.vocabulary import Vocabulary
from tests.helpers.stores import flip, make_store

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = [
    *("the", "caf\u00e9", "", "two words", "\U0001f600", "nul\0", "\0", "x" * 64, "x" * 65),
    *("y" * 300, "the ", "The", "\u4e16\u754c"),
    *(f"word {number}" for number in range(40)),
]
IDS = {word: number for number, word in enumerate(WORDS)}
ABSENT = ["absent", "nul", "the\0", "\ud800", "x" * 63, "x" * 66, "y" * 301, "caf\udce9"]
TABLE = np.random.default_rng(0).normal(size=(len(WORDS), 3)).astype(np.float32)


class Word(str):
    """A str that is not quite one."""

    __slots__ = ()

    def encode(self, *_: Any) -> bytes:
        return b"wrong"


@pytest.fixture(params=["mapped", "chunked"])
def store(request, tmp_path):
    make_store(tmp_path / "s", TABLE, WORDS, partitions=2, unk="The").close()
    with embstore.open(tmp_path / "s", reader=request.param) as opened:
        yield opened


@pytest.fixture(params=[2, 1024])
def _ahead(request, monkeypatch):
    monkeypatch.setattr(views, "WORDS_AHEAD", request.param)
    monkeypatch.setattr(views, "WORDS_PER_BLOCK", request.param + 3)


@pytest.mark.parametrize("kind", [str, np.str_, Word])
def test_every_way_to_ask_for_a_word(store, kind):
    vectors = KeyedVectors(store)
    ids = vectors.key_to_index
    for word, number in IDS.items():
        if kind is np.str_ and word.endswith("\0"):
            continue  # Its text is without the NUL.
        key = kind(word)
        found = store.ids(key)
        assert type(found) is np.int64
        assert found == number
        assert key in store
        assert key in vectors
        assert key in ids
        assert vectors.has_index_for(key)
        for same in (ids[key], ids.get(key), vectors.get_index(key), vectors.get_index(key, -7)):
            assert type(same) is int
            assert same == number
        for row in (store[key], store.lookup_words(key), vectors[key], vectors.get_vector(key)):
            assert row.tolist() == TABLE[number].tolist()
            row[:] = 7  # A copy.
        assert np.allclose(vectors.get_vector(key, norm=True), unit(TABLE[number]))
        assert vectors.get_vector(key, missing="zeros").tolist() == TABLE[number].tolist()
        for missing in ("error", "unk", "none"):
            assert store.ids(key, missing=missing) == number


def unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("kind", [str, np.str_, Word])
def test_every_way_to_ask_for_a_missing_word(store, kind):
    vectors = KeyedVectors(store)
    ids = vectors.key_to_index
    for word in map(kind, ABSENT):
        if kind is np.str_ and word.endswith("\0"):
            continue  # Its text is without the NUL.
        assert word not in store
        assert word not in vectors
        assert word not in ids
        assert ids.get(word) is None
        assert ids.get(word, "x") == "x"
        assert vectors.get_index(word, 9) == 9
        assert type(store.ids(word, missing="none")) is np.int64
        assert store.ids(word, missing="none") == -1
        assert store.ids(word, missing="unk") == IDS["The"]
        assert vectors.get_vector(word, missing="zeros").tolist() == [0, 0, 0]
        calls: list[Callable[[Any], Any]] = [
            *(store.__getitem__, store.ids, store.lookup_words, ids.__getitem__),
            *(vectors.__getitem__, vectors.get_vector, vectors.get_index),
        ]
        for call in calls:
            with pytest.raises(embstore.MissingWordError, match="is not in the store") as caught:
                call(word)
            assert caught.value.words == (word,)
    for call in calls:
        with pytest.raises(embstore.MissingWordError, match="did you mean 'the'"):
            call("tha")


@pytest.mark.parametrize("key", [b"the", None, 1.0, True, ("the",), frozenset()])
def test_other_types_of_keys(store, key):
    vectors = KeyedVectors(store)
    with pytest.raises(TypeError):
        _ = key in store
    with pytest.raises((TypeError, KeyError)):  # As gensim: a KeyError where it could be a key.
        vectors.get_index(key)
    with pytest.raises((TypeError, KeyError)):
        vectors.get_vector(key)
    assert key not in vectors
    assert key not in vectors.key_to_index
    assert vectors.key_to_index.get(key, 5) == 5
    with pytest.raises(KeyError):
        vectors.key_to_index[key]
    with pytest.raises(KeyError):
        vectors.key_to_index[[]]  # type: ignore[index]


def test_ints_as_keys(store):
    vectors = KeyedVectors(store)
    key: Any
    for key in (0, 5, np.int64(5), np.uint8(5), len(WORDS) - 1):
        assert vectors[key].tolist() == vectors.get_vector(key).tolist() == TABLE[key].tolist()
        assert vectors.get_index(key) == key
        assert type(vectors.get_index(key)) is int
        assert key in vectors
    for key in (-1, len(WORDS), 2**70, np.int64(-1)):
        assert key not in vectors
        for call in (vectors.__getitem__, vectors.get_vector, vectors.get_index):
            with pytest.raises(embstore.MissingWordError, match=f"key {key} is missing"):
                call(key)
        assert vectors.get_index(key, 3) == 3


@pytest.mark.parametrize("missing", ["zeros", "nothing", None, 3, np.array(["error", "none"])])
def test_what_to_do_with_a_missing_word_is_always_checked(store, missing):
    for word in ("the", "absent"):
        with pytest.raises((TypeError, ValueError), match='missing must be "error", "unk" or "no'):
            store.ids(word, missing=missing)


def test_a_closed_store(store):
    vectors = KeyedVectors(store)
    ids, words = vectors.key_to_index, vectors.index_to_key
    assert ids["the"] == 0  # The next words are read together with it.
    iterators = [iter(ids), iter(words), iter(ids.items())]
    store.close()
    calls: list[Callable[[], Any]] = [
        lambda: store["the"],
        lambda: "the" in store,
        lambda: store.ids("the"),
        lambda: store.ids("the", missing="none"),
        lambda: store.lookup_words("the"),
        lambda: store.words(3),
        lambda: store.vocabulary,
        lambda: vectors["the"],
        lambda: vectors[3],
        lambda: "the" in vectors,
        lambda: vectors.get_vector("the"),
        lambda: vectors.get_index("the"),
        lambda: ids["the"],
        lambda: ids[WORDS[1]],
        lambda: ids.get("the"),
        lambda: "the" in ids,
        lambda: dict(ids),
        lambda: words[3],
        lambda: words[1:3],
        *(lambda iterator=iterator: next(iterator) for iterator in iterators),
    ]
    for call in calls:
        with pytest.raises(embstore.StoreClosedError):
            call()


def test_a_store_without_words(tmp_path):
    with make_store(tmp_path / "s", TABLE) as store:
        assert "the" not in store
        for call in (
            store.ids,
            store.__getitem__,
            store.lookup_words,
            lambda word: store.ids(word, missing="none"),
            lambda _: store.words(3),
            lambda _: store.vocabulary,
        ):
            with pytest.raises(embstore.MissingWordError, match="has no words"):
                call("the")


def test_the_word_of_one_id(store):
    for number, word in enumerate(WORDS):
        for given in (number, np.int64(number), np.array(number)):
            assert store.words(given) == word
    for wrong in (-1, len(WORDS)):
        with pytest.raises(embstore.IdRangeError):
            store.words(wrong)
    with pytest.raises(embstore.IdTypeError):
        store.words(True)


@pytest.mark.usefixtures("_ahead")
def test_views_equal_a_dict_and_a_list(store):
    vectors = KeyedVectors(store)
    ids, words = vectors.key_to_index, vectors.index_to_key
    assert dict(ids) == IDS == {**ids} == dict(ids.items())
    assert list(dict(ids)) == list(ids) == list(ids.keys()) == list(words) == WORDS
    assert list(ids.items()) == list(IDS.items())
    assert list(ids.values()) == list(IDS.values())
    assert (len(ids.items()), len(ids.values())) == (len(WORDS), len(WORDS))
    assert ids == IDS
    assert IDS == ids  # noqa: SIM300
    assert ids != {**IDS, "the": 5}
    assert ids != dict(list(IDS.items())[1:])
    assert ("the", 0) in ids.items()
    assert ("the", 1) not in ids.items()
    assert ("absent", 1) not in ids.items()
    assert "the" in ids.keys()  # noqa: SIM118
    assert 3 in ids.values()
    assert len(WORDS) not in ids.values()
    assert ids.keys() & {"the", "absent"} == {"the"}
    assert list(reversed(words)) == WORDS[::-1]
    for part in (slice(None), slice(2, 9), slice(9, 2), slice(-3, None), slice(1, 99, 4)):
        assert words[part] == WORDS[part]
    assert [words[number] for number in range(-len(WORDS), len(WORDS))] == WORDS * 2


@pytest.mark.usefixtures("_ahead")
def test_ids_in_any_order(store):
    """Words that follow each other are read ahead, and others are not."""
    ids = KeyedVectors(store).key_to_index
    random = np.random.default_rng(1)
    for start in random.integers(0, len(WORDS), 60).tolist():
        for word in [*WORDS[start : start + 9], "absent", *WORDS[start : start + 2][::-1]]:
            assert ids.get(word, -1) == IDS.get(word, -1)
            if word in IDS:
                assert ids[word] == IDS[word]
    again = pickle.loads(pickle.dumps(ids))
    assert again == IDS


def test_how_often_words_are_read_ahead(store, monkeypatch):
    monkeypatch.setattr(views, "WORDS_AHEAD", 10)
    ids = KeyedVectors(store).key_to_index
    read: list[int] = []
    numbered = Vocabulary.numbered

    def counting(vocabulary: Vocabulary, start: int, stop: int) -> dict[str, int]:
        read.append(start)
        return numbered(vocabulary, start, stop)

    monkeypatch.setattr(Vocabulary, "numbered", counting)
    for word in WORDS:
        assert ids[word] == ids.get(word) == IDS[word]
    assert read == [0, 10, 20, 30, 40, 50]
    for word in WORDS[::-1]:
        assert ids[word] == ids.get(word) == IDS[word]
    assert read == [0, 10, 20, 30, 40, 50]


def test_damage_among_the_words_read_ahead(tmp_path):
    """It concerns only who asks for these."""
    make_store(tmp_path / "s", TABLE, WORDS).close()
    flip(tmp_path / "s/vocabulary/bytes/c/0", len("the"), 0xFF)  # The word after it.
    with embstore.open(tmp_path / "s") as store:
        ids = KeyedVectors(store).key_to_index
        for word in WORDS[:1] + WORDS[2:]:
            assert ids[word] == IDS[word]
        with pytest.raises(embstore.MissingWordError):
            _ = ids[WORDS[1]]
        with pytest.raises(embstore.StoreCorruptError, match="not UTF-8"):
            dict(ids)


@pytest.mark.parametrize("words", [["a", "cat", "bat", "cab"], ["a", "bat", "cat", "cab"]])
def test_a_word_that_damage_makes_of_another(tmp_path, words):
    """It does not lead to the row of that one, whichever of them is read ahead."""
    make_store(tmp_path / "s", TABLE[:4], words).close()
    flip(tmp_path / "s/vocabulary/bytes/c/0", sum(map(len, words[: words.index("cat")])))
    with embstore.open(tmp_path / "s") as store:
        ids = KeyedVectors(store).key_to_index
        for word in ("a", "cab", "bat"):
            assert store.ids(word) == ids[word] == words.index(word)
        assert "cat" not in ids


def test_views_in_threads(store):
    ids = KeyedVectors(store).key_to_index
    found: list[dict[str, int]] = []
    threads = [threading.Thread(target=lambda: found.append(dict(ids))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [IDS] * 4


def test_a_word_in_a_forked_child(store):
    assert store.ids("the") == 0
    child = os.fork()
    if not child:
        right = store.ids("caf\u00e9") == 1 and store["the"].tolist() == TABLE[0].tolist()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("count", [1, 30, 101, 3000])
def test_as_many_words_as_one_likes(store, count):
    """Few are looked up one by one, many together."""
    asked = [WORDS[number] for number in np.random.default_rng(2).integers(0, len(WORDS), count)]
    ids = [IDS[word] for word in asked]
    for given in (asked, tuple(asked), np.array(asked, object), [Word(word) for word in asked]):
        assert store.ids(given).tolist() == ids
        assert store.ids(given).dtype == np.int64
        np.testing.assert_array_equal(store.lookup_words(given), TABLE[ids])
    assert store.ids([asked, asked]).tolist() == [ids, ids]
    assert store.ids([*asked, *ABSENT], missing="none").tolist() == [*ids, *[-1] * len(ABSENT)]
    with pytest.raises(embstore.MissingWordError) as caught:
        store.ids([*asked, *ABSENT])
    assert caught.value.words == tuple(ABSENT)
    for wrong in (b"the", None, 3):
        with pytest.raises(TypeError, match="words must be str, not"):
            store.ids([*asked, wrong])
