"""Words in mapped files: pages announced for whole batches, and the same answers as without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

import embstore
from embstore import syscalls
from embstore.formats.own import spec
from embstore.table.addresses import PAGE_BYTES
from embstore.vocabulary import Vocabulary, mapped
from embstore.vocabulary.mapped import MappedVocabulary
from embstore.vocabulary.words import PackedWords, hash_words, pack
from embstore.writing.words.vocabulary_builder import VocabularyBuilder

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

WORDS = [f"word {number}" * (number % 3 + 1) for number in range(40_000)] + ["", "x" * 10_000]
ABSENT = ["absent", "word", "\ud800", "word 1\0"]


@pytest.fixture(scope="module")
def arrays() -> tuple[PackedWords, NDArray[np.uint64], int]:
    builder = VocabularyBuilder()
    builder.add(pack(WORDS))
    parts = builder.arrays()
    stored = PackedWords(parts[spec.WORD_BYTES], parts[spec.WORD_OFFSETS])
    return stored, parts[spec.WORD_SLOTS], builder.probe_count


@pytest.fixture
def announced(monkeypatch) -> list[int]:
    """Return the pages that are announced from now on."""
    pages: list[int] = []

    def note(addresses: NDArray[np.int64], sizes: NDArray[np.int64], advice: int) -> None:
        assert advice == syscalls.MADV_WILLNEED
        assert (sizes == PAGE_BYTES).all()
        assert (addresses % PAGE_BYTES == 0).all()
        pages.extend((addresses // PAGE_BYTES).tolist())

    monkeypatch.setattr("embstore.syscalls.advise_many", note)
    return pages


def never_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no look at an item count as a read from the device."""
    for name in ("READ_SECONDS", "READS_SECONDS"):
        monkeypatch.setattr(mapped, name, 1e9)
    monkeypatch.setattr("embstore.reading.warmth.READS_SECONDS", 1e9)


def page(array: NDArray[Any], place: int) -> int:
    return int((array.ctypes.data + place * array.itemsize) // PAGE_BYTES)


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 100, 101, 5000])
@pytest.mark.parametrize("at_once", [7, 1000, mapped.WORDS_AT_ONCE])
def test_ids_and_words_equal_a_dict(monkeypatch, arrays, cold, count, at_once):
    monkeypatch.setattr(mapped, "WORDS_AT_ONCE", at_once)
    vocabulary = MappedVocabulary(*arrays)
    if cold:
        vocabulary._warmth.chill()
    model = {word: number for number, word in enumerate(WORDS)}
    rng = np.random.default_rng(count)
    queries = [WORDS[at] for at in rng.integers(0, len(WORDS), count).tolist()]
    for at in range(0, count, 9):
        queries[at] = ABSENT[at % len(ABSENT)]
    for words in (queries, tuple(queries), np.array(queries, object)):
        assert vocabulary.ids(words).tolist() == [model.get(word, -1) for word in queries]
    ids = rng.integers(0, len(WORDS), count)
    if cold:
        vocabulary._warmth.chill()
    assert vocabulary.words(ids) == [WORDS[at] for at in ids.tolist()]
    assert vocabulary.numbered(100, 100 + count) == {
        word: 100 + at for at, word in enumerate(WORDS[100 : 100 + count])
    }
    with pytest.raises(TypeError, match="words must be str, not int"):
        vocabulary.ids([*queries, 7])


@pytest.mark.parametrize("count", [2, 50, 3000])
def test_pages_of_cold_words_are_announced(monkeypatch, arrays, announced, count):
    """Those of home slots, offsets and bytes; of an absent word, only the slot's."""
    never_slow(monkeypatch)
    vocabulary = MappedVocabulary(*arrays)
    stored, slots, _ = arrays
    vocabulary._warmth.chill()
    ids = np.random.default_rng(count).integers(0, 40_000, count)
    words = [WORDS[at] for at in ids.tolist()]
    vocabulary.ids([*words, "absent"])
    hashes = hash_words([word.encode() for word in [*words, "absent"]]).tolist()
    of_slots = {page(slots, hashed % len(slots)) for hashed in hashes}
    of_words = set()  # The arrays may have a page in common.
    for at in ids.tolist():
        of_words |= {page(stored.offsets, at), page(stored.offsets, at + 1)}
        of_words |= {page(stored.data, int(stored.offsets[at]))}
        of_words |= {page(stored.data, int(stored.offsets[at + 1]) - 1)}
    expected = of_slots | of_words
    assert set(announced) >= expected
    assert len(announced) < 1.1 * len(expected) + 10
    announced.clear()
    vocabulary._warmth.chill()
    vocabulary.words(ids)
    assert set(announced) == of_words


def test_nothing_is_announced_for_warm_words(monkeypatch, arrays, announced):
    never_slow(monkeypatch)
    vocabulary = MappedVocabulary(*arrays)
    for count in (1, 5, 50, 500, 5000):
        assert vocabulary.ids(WORDS[:count]).tolist() == list(range(count))
        assert vocabulary.words(np.arange(count)) == WORDS[:count]
    assert announced == []
    vocabulary._warmth.chill()
    for _ in range(8):  # Eight batches that read nothing.
        vocabulary.ids(WORDS[:1000])
        assert announced
        announced.clear()
    vocabulary.ids(WORDS[:1000])
    assert announced == []


@pytest.mark.parametrize(
    "call",
    [
        lambda vocabulary: vocabulary.ids(WORDS[:500]),
        lambda vocabulary: vocabulary.ids(WORDS[:20]),
        lambda vocabulary: vocabulary.words(np.arange(500)),
    ],
)
def test_a_slow_look_at_the_first_words_starts_announcing(
    monkeypatch, arrays, announced, call: Callable[[Vocabulary], Any]
):
    vocabulary = MappedVocabulary(*arrays)
    monkeypatch.setattr(mapped, "READ_SECONDS", -1.0)
    call(vocabulary)
    assert announced
    assert vocabulary._warmth.cold


def test_words_looked_up_one_by_one_for_long_are_announced_next_time(
    monkeypatch, arrays, announced
):
    vocabulary = MappedVocabulary(*arrays)
    monkeypatch.setattr(mapped, "READS_SECONDS", -1.0)
    assert vocabulary.ids(WORDS[:3]).tolist() == [0, 1, 2]
    assert announced == []
    assert vocabulary.ids(WORDS[:3]).tolist() == [0, 1, 2]
    assert announced


@given(data=st.data())
@settings(deadline=None, max_examples=200)
def test_damaged_arrays_give_the_same_cold_and_warm(data):
    """The same ids and words, or the same error."""
    hashed = xxh3_64_intdigest(b"ab")
    numbers = st.integers(0, 5) | st.just(2**40 - 1)
    entry = st.just(0) | numbers.map(lambda number: hashed & ~(2**40 - 1) | number)
    slots = np.array(data.draw(st.lists(entry, min_size=4, max_size=4)), np.uint64)
    bounds = st.integers(-1, 7) | st.sampled_from([-(2**63), 2**63 - 1])
    offsets = np.array(data.draw(st.lists(bounds, min_size=4, max_size=4)), np.int64)
    stored = PackedWords(np.frombuffer(b"ababab", np.uint8), offsets)
    probe_count = data.draw(st.integers(0, 5))

    def outcome(vocabulary: Vocabulary, call: str, asked: Any) -> Any:
        try:
            return np.array(getattr(vocabulary, call)(asked)).tolist()
        except embstore.StoreCorruptError as error:
            return str(error)

    for call, asked in (("ids", ["ab", "cd"]), ("words", np.array([2, 0, 1]))):
        cold = MappedVocabulary(stored, slots, probe_count)
        cold._warmth.chill()
        expected = outcome(Vocabulary(stored, slots, probe_count), call, asked)
        assert outcome(cold, call, asked) == expected


def test_large_tables_are_announced(tmp_path, monkeypatch):
    """Those beyond the kernel's read-ahead."""
    rows = np.arange(2000, dtype=np.float32).reshape(-1, 1)
    with embstore.StoreWriter(tmp_path / "s", row_shape=(1,), dtype="float32") as writer:
        writer.write(rows, words=WORDS[:2000])
    with embstore.open(tmp_path / "s") as store:
        assert type(store.vocabulary) is Vocabulary
    monkeypatch.setattr(mapped, "READ_AHEAD_BYTES", 0)
    with embstore.open(tmp_path / "s") as store:
        vocabulary = store.vocabulary
        assert type(vocabulary) is MappedVocabulary
        vocabulary._warmth.chill()
        for _ in range(20):
            assert store.ids(WORDS[:2000]).tolist() == list(range(2000))
            assert store.words(np.arange(2000)) == WORDS[:2000]
            assert store[WORDS[:2000]].ravel().tolist() == list(range(2000))
