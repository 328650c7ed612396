"""Words to ids and back, against a dict."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

import embstore
from embstore.formats.own import spec
from embstore.vocabulary import Vocabulary
from embstore.vocabulary.words import PackedWords, hash_words, pack, pack_encoded
from embstore.writing.words.vocabulary_builder import VocabularyBuilder
from embstore.writing.words.word_index import WordIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORD = st.text(alphabet="ab\u00e9\U0001f600\x00 ", max_size=3)
BATCHES = st.lists(st.lists(WORD, max_size=8), max_size=6)


@pytest.fixture(scope="module", autouse=True)
def _together():
    """Look up even a few words together; `Vocabulary.id_of` is tested beside it."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("vocabulary", "hashing"):
            patch.setattr(f"embstore.vocabulary.{module}.FEW_WORDS", 0)
        yield


def from_builder(builder: VocabularyBuilder) -> Vocabulary:
    """Return the vocabulary that a store would have."""
    builder.finish()
    arrays = builder.arrays()
    stored = PackedWords(arrays[spec.WORD_BYTES], arrays[spec.WORD_OFFSETS])
    return Vocabulary(stored, arrays[spec.WORD_SLOTS], builder.probe_count)


def vocabulary_of(words: list[str]) -> Vocabulary:
    builder = VocabularyBuilder()
    builder.add(pack(words))
    return from_builder(builder)


def check_against_dict(
    batches: list[list[str]], queries: list[str], builder: VocabularyBuilder | None = None
) -> None:
    """Add batches to a builder and to a dict, and compare all answers."""
    builder = VocabularyBuilder() if builder is None else builder
    model = dict[str, int]()
    for batch in batches:
        expected = [model.setdefault(word, len(model)) for word in batch]
        assert builder.add(pack(batch)).tolist() == expected
        assert len(builder) == len(model)
    found = from_builder(builder)
    assert len(found) == len(model)
    ids = [model.get(word, -1) for word in queries]
    assert found.ids(queries).tolist() == ids
    assert [found.id_of(word) for word in queries] == ids
    assert builder.ids(pack(queries)).tolist() == ids
    assert found.words(np.arange(len(model))) == list(model)
    assert found.listed(0, len(model)) == list(model)
    assert [found.word_of(number) for number in range(len(model))] == list(model)


def patch_hash(patch: pytest.MonkeyPatch, hash_of: Any) -> None:
    """Replace the hash of a word, a function of bytes, everywhere."""
    for module in ("words", "vocabulary"):
        patch.setattr(f"embstore.vocabulary.{module}.xxh3_64_intdigest", hash_of)


@given(batches=BATCHES, queries=st.lists(WORD, max_size=10))
@settings(deadline=None, max_examples=50)
def test_builder_equals_a_dict(batches, queries):
    check_against_dict(batches, queries)


@given(batches=BATCHES, queries=st.lists(WORD, max_size=10), bits=st.sampled_from([0, 1, 40, 63]))
@settings(deadline=None, max_examples=50)
def test_colliding_hashes(batches, queries, bits):
    """All words have one hash, or hashes that differ only in a slot bit or in a kept bit."""
    with pytest.MonkeyPatch.context() as patch:
        patch_hash(patch, lambda word: (len(word) % 2 << bits) if bits else 0)
        check_against_dict(batches, queries)


@pytest.mark.parametrize("low", [1, (1 << 40) - 2])
def test_bits_of_the_id_do_not_matter_for_the_hash(monkeypatch, low):
    """The lower bits of the hash are those of the id plus one, or all differ from them."""
    patch_hash(monkeypatch, lambda word: 7 << 40 | low)
    check_against_dict([["a"]], ["a", "b"])


@pytest.mark.parametrize(
    "words",
    [("40403", "631031"), ("580848", "761941"), ("1185131", "1185854"), ("46613", "1216046")],
)
def test_real_hash_collisions(words):
    """In a table of 4096 slots, only the bytes tell these words apart."""
    first, second = words
    hashes = hash_words([first.encode(), second.encode()])
    assert len({int(number) >> spec.SLOT_ID_BITS for number in hashes}) == 1
    assert len({int(number) & 4095 for number in hashes}) == 1
    check_against_dict([[first]], [first, second])
    check_against_dict([[first, "a", second]], [first, second])


@pytest.mark.parametrize("length", range(1, 81))
def test_every_byte_of_a_candidate_is_compared(length):
    """The table leads first to words that differ from the query in one bit of one byte each."""
    word = bytes(97 + i % 26 for i in range(length))
    others = [
        word[:byte] + bytes([word[byte] ^ 1 << byte % 8]) + word[byte + 1 :]
        for byte in range(length)
    ]
    for stored, expected in ((others, -1), ([*others, word], length)):
        slots = slots_leading_to_all(word, len(stored), slot_count=256)
        vocabulary = Vocabulary(pack_encoded(stored), slots, len(stored))
        assert vocabulary.ids([word.decode()]).tolist() == [expected]
        assert vocabulary.id_of(word.decode()) == expected


def slots_leading_to_all(word: bytes, count: int, slot_count: int) -> NDArray[np.uint64]:
    """Return slots in which a search for ``word`` leads to the ids ``0 .. count - 1``, in order."""
    (hashed,) = hash_words([word]).tolist()
    slots = np.zeros(slot_count, np.uint64)
    for number in range(count):
        slots[(hashed + number) % slot_count] = hashed >> 40 << 40 | number + 1
    return slots


def test_table_grows():
    words = [f"word {i}" for i in range(20_000)]
    batches = [words[i : i + 3000] for i in range(0, len(words), 3000)]
    check_against_dict([*batches, words[::7]], [*words[::3], "absent", "word -1"])


@pytest.mark.parametrize("memory_bytes", [3000, 100_000])
def test_arrays_become_files_beyond_the_memory_limit(tmp_path, memory_bytes):
    words = [f"word {i}" * (i % 3) for i in range(20_000)]
    batches = [words[i : i + 3000] for i in range(0, len(words), 2500)]
    builder = VocabularyBuilder(memory_bytes, tmp_path)
    check_against_dict([*batches, words[::7]], [*words[::3], "absent", "word -1"], builder)
    assert all(scratch.in_file for scratch in builder._stored().values())
    for name, array in builder.arrays().items():
        assert np.array_equal(np.concatenate(list(builder.pieces(name))), array)
    assert list(tmp_path.iterdir()) == []  # The files have no names.
    builder.close()


@given(batches=BATCHES, queries=st.lists(WORD, max_size=10))
@settings(deadline=None, max_examples=20)
def test_builder_in_files_equals_a_dict(tmp_path_factory, batches, queries):
    builder = VocabularyBuilder(0, tmp_path_factory.getbasetemp())
    check_against_dict(batches, queries, builder)
    builder.close()


def test_words_longer_than_the_first_buffer():
    check_against_dict([["x" * 100_000, "y"], ["x" * 99_999, "x" * 100_000]], ["x" * 100_000, "y"])


@pytest.mark.parametrize("few", [0, 2, 30, 10_000])
def test_words_looked_up_together_or_one_by_one(monkeypatch, few):
    """Whichever way each word is found, the ids are the same."""
    for module in ("vocabulary", "hashing"):
        monkeypatch.setattr(f"embstore.vocabulary.{module}.FEW_WORDS", few)
    words = [f"word {i}" * (i % 40) + "\u00e9" * (i % 3) for i in range(3000)]
    queries = [*words[::3], "absent", "", "word 5\0", *words[:100:-7], np.str_(words[8])]
    check_against_dict([words], queries)
    vocabulary = vocabulary_of(list(dict.fromkeys(words)))
    for call in (vocabulary.ids, lambda asked: vocabulary.ids(tuple(asked))):
        assert (call([*queries, "\ud800"]) >= 0).tolist() == [word in words for word in queries] + [
            False
        ]
        for more in (b"word",), ("\ud800", b"word"):
            with pytest.raises(TypeError, match="words must be str, not bytes"):
                call([*queries, *more])


@pytest.mark.parametrize(
    "words",
    [
        [],
        [""],
        ["", ""],
        ["a", "", "b"],
        ["\0"],
        ["a\0b", ""],
        ["\u00e9\0", "\U0001f600"],
        ["x" * 999],
    ],
)
def test_packing_together_equals_packing_one_by_one(words):
    for given_words in (words, iter(words), tuple(words), [np.str_(word) for word in words]):
        packed = pack(given_words)
        expected = pack_encoded([word.encode() for word in words])
        assert packed.encoded() == expected.encoded()
        assert packed.data.tobytes() == expected.data.tobytes()
        assert packed.offsets.tolist() == expected.offsets.tolist()
    bad: Any
    for bad, error in ((b"a", TypeError), (None, TypeError), ("\udc00", UnicodeEncodeError)):
        with pytest.raises(error):
            pack([*words, bad])
    assert pack([*words, "\udc00"], "surrogatepass").encoded()[-1] == b"\xed\xb0\x80"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_small_vocabularies(count):
    check_against_dict([["", "b"][:count]], ["", "b", "c"])


def test_lone_surrogates_are_missing():
    vocabulary = vocabulary_of(["a"])
    assert vocabulary.ids(["\ud800", "a"]).tolist() == [-1, 0]
    assert vocabulary.id_of("\ud800") == -1


@pytest.mark.parametrize(("word", "kind"), [(b"a", "bytes"), (7, "int"), (None, "NoneType")])
def test_other_types_are_refused(word, kind):
    vocabulary = vocabulary_of(["a"])
    for call in (vocabulary.id_of, vocabulary.ids):
        with pytest.raises(TypeError, match=f"words must be str, not {kind}"):
            call(word)
    assert vocabulary.id_of(np.str_("a")) == 0


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 2), (1, 0, 2)])
def test_words_of_any_shape(shape):
    vocabulary = vocabulary_of(list("abcd"))
    ids = np.arange(np.prod(shape, dtype=int)).reshape(shape) % 4
    words = vocabulary.words(ids)
    assert words == (np.array(list("abcd"), object)[ids].tolist() if shape else "a")
    assert np.array_equal(vocabulary.ids(np.array(words, object).reshape(shape)), ids)
    if 0 not in shape:
        assert np.array_equal(vocabulary.ids(words), ids)
        assert vocabulary.ids(words).dtype == np.int64


def test_copies_and_pickles():
    vocabulary = vocabulary_of(["the", "like"])
    for copied in (copy.copy(vocabulary), pickle.loads(pickle.dumps(vocabulary))):
        assert copied.id_of("like") == copied.ids("like") == 1
        assert copied.words(np.array(0)) == "the"


def test_probe_count_is_the_smallest_that_finds_every_word():
    builder = VocabularyBuilder()
    words = [str(i) for i in range(2040)]  # Nearly half of the first table.
    builder.add(pack(words))
    arrays = builder.arrays()
    assert len(arrays[spec.WORD_SLOTS]) == 4096
    stored = PackedWords(arrays[spec.WORD_BYTES], arrays[spec.WORD_OFFSETS])
    slots, count = arrays[spec.WORD_SLOTS], builder.probe_count
    enough, too_few = Vocabulary(stored, slots, count), Vocabulary(stored, slots, count - 1)
    assert enough.ids(words).tolist() == list(range(2040))
    assert [enough.id_of(word) for word in words] == list(range(2040))
    found = too_few.ids(words)
    assert (found < 0).any()
    assert [too_few.id_of(word) for word in words] == found.tolist()


def test_full_table_without_the_word_ends_the_search():
    """A damaged manifest may have any probe count."""
    slots = slots_leading_to_all(b"a", 4, slot_count=4)
    for probe_count in (4, 1 << 40):
        vocabulary = Vocabulary(pack(list("bcde")), slots, probe_count)
        assert vocabulary.id_of("a") == -1
        assert vocabulary.ids(["a"]).tolist() == [-1]
    unprobed = Vocabulary(pack(list("abcd")), slots, 0)
    assert unprobed.id_of("a") == unprobed.ids("a") == -1


@pytest.mark.parametrize("estimated", [0, 20_000, 1 << 60])
def test_an_estimate_saves_rebuilds_and_changes_nothing(monkeypatch, estimated):
    filled = []
    rebuild = WordIndex._rebuild

    def counting(index: WordIndex, slot_count: int) -> None:
        filled.append(slot_count)
        rebuild(index, slot_count)

    monkeypatch.setattr(WordIndex, "_rebuild", counting)
    builder = VocabularyBuilder(3 << 20, estimated_words=estimated)
    words = [f"word {i}" for i in range(20_000)]
    for start in range(0, len(words), 3000):
        builder.add(pack(words[start:][:3000]))
    assert not filled or not estimated
    builder.finish()
    assert len(filled) == {0: 4, 20_000: 0, 1 << 60: 1}[estimated]
    assert len(builder.arrays()[spec.WORD_SLOTS]) == 1 << 16
    assert from_builder(builder).ids(words).tolist() == list(range(20_000))


def damaged(**changes: Any) -> Vocabulary:
    """Return a vocabulary of three words in which arrays are replaced."""
    arrays = arrays_of_three_words() | changes
    stored = PackedWords(arrays["bytes"], arrays["offsets"])
    return Vocabulary(stored, arrays["slots"], 8)


def arrays_of_three_words() -> dict[str, NDArray[Any]]:
    builder = VocabularyBuilder()
    builder.add(pack(["the", "like", "day"]))
    return builder.arrays()


@pytest.mark.parametrize(
    "offsets", [[0, -5, 7, 10], [0, 3, 7, 11], [0, 9, 7, 10], [0, 3, 2**62, 10]]
)
def test_damaged_offsets_are_noticed(offsets):
    vocabulary = damaged(offsets=np.array(offsets))
    for read in (
        lambda: vocabulary.words(np.array([0, 1, 2])),
        lambda: vocabulary.listed(0, 3),
        lambda: [vocabulary.word_of(number) for number in range(3)],
    ):
        with pytest.raises(embstore.StoreCorruptError, match="offsets point outside"):
            read()
    for call in (vocabulary.ids, lambda words: [vocabulary.id_of(word) for word in words]):
        with pytest.raises(embstore.StoreCorruptError, match="offsets point outside"):
            call(["the", "like", "day"])


def test_overlapping_words_are_noticed():
    vocabulary = damaged(offsets=np.array([0, 10, 0, 10]))
    with pytest.raises(embstore.StoreCorruptError, match="offsets"):
        vocabulary.words(np.array([0, 1, 2]))


@pytest.mark.parametrize("entry", [0, 4, 2**40 - 1])
def test_damaged_slots_are_noticed(entry):
    """A slot holds an id plus one: 0 would be the id -1, and there is no id 3."""
    slots = arrays_of_three_words()["slots"].copy()
    slots[slots != 0] = slots[slots != 0] & ~np.uint64(2**40 - 1) | np.uint64(entry)
    vocabulary = damaged(slots=slots)
    for call in (vocabulary.ids, vocabulary.id_of):
        with pytest.raises(embstore.StoreCorruptError, match=f"holds the id {entry - 1}, but"):
            call("like")


@pytest.mark.parametrize("data", [b"\xff" * 10, b"th\xc3\xa9ikeday", b"thelik\xc3\xa9ay"])
def test_damaged_bytes_are_noticed(data):
    """They are not UTF-8, or only together: a word ends within a character."""
    vocabulary = damaged(bytes=np.frombuffer(data, np.uint8))
    for read in (
        lambda: vocabulary.words(np.arange(3)),
        lambda: vocabulary.listed(0, 3),
        lambda: [vocabulary.word_of(number) for number in range(3)],
    ):
        with pytest.raises(embstore.StoreCorruptError, match="not UTF-8"):
            read()


@given(data=st.data())
@settings(deadline=None, max_examples=200)
def test_one_word_and_a_batch_agree_on_damaged_arrays(data):
    """Both find the same id, or both raise."""
    hashed = xxh3_64_intdigest(b"ab")
    numbers = st.integers(0, 5) | st.just(2**40 - 1)
    entry = st.just(0) | numbers.map(lambda number: hashed & ~(2**40 - 1) | number)
    slots = np.array(data.draw(st.lists(entry, min_size=4, max_size=4)), np.uint64)
    bounds = st.integers(-1, 7) | st.sampled_from([-(2**63), 2**63 - 1])
    offsets = np.array(data.draw(st.lists(bounds, min_size=4, max_size=4)), np.int64)
    stored = PackedWords(np.frombuffer(b"ababab", np.uint8), offsets)
    vocabulary = Vocabulary(stored, slots, data.draw(st.integers(0, 5)))

    def outcome(call: Any) -> Any:
        try:
            return int(call("ab"))
        except embstore.StoreCorruptError as error:
            return str(error)

    assert outcome(vocabulary.id_of) == outcome(vocabulary.ids)


def test_a_later_word_found_at_once_does_not_shorten_the_search(monkeypatch):
    hashes = {b"a": 7, b"b": 7, b"c": 7, b"d": 100}
    patch_hash(monkeypatch, hashes.__getitem__)
    builder = VocabularyBuilder()
    for word in "abcd":
        builder.add(pack([word]))
    assert builder.probe_count == 3
    assert from_builder(builder).ids(list("abcd")).tolist() == [0, 1, 2, 3]
