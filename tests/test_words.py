"""Packed words against lists of bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64

from embstore.vocabulary.words import (
    LONG_WORD_BYTES,
    PackedWords,
    hash_words,
    pack,
    pack_encoded,
)

# Few letters, so that words are often equal, or equal up to their last byte.
WORD = st.text(alphabet="ab\u00e9\u4e16\U0001f600\x00\n ", max_size=4)
WORDS = st.lists(WORD, max_size=12)


@given(words=WORDS)
@settings(deadline=None)
def test_packing_keeps_the_words(words):
    packed = pack(words)
    assert len(packed) == len(words)
    assert packed.encoded() == [word.encode() for word in words]
    assert packed.data.tobytes() == "".join(words).encode()
    assert packed.offsets[0] == 0


@given(words=WORDS, start=st.integers(0, 5), length=st.integers(0, 12))
@settings(deadline=None)
def test_parts(words, start, length):
    whole = pack(words)
    start = min(start, len(words))
    for packed in (whole, PackedWords(whole.data, whole.offsets)):  # With the list, and without.
        part = packed.part(start, start + length)
        assert len(part) == len(part.encoded())
        assert part.encoded() == [w.encode() for w in words[start:][:length]]


@given(words=WORDS, data=st.data())
@settings(deadline=None)
def test_select(words, data):
    places = st.lists(st.integers(0, len(words) - 1), max_size=8) if words else st.just([])
    chosen = data.draw(places)
    packed = pack(words)
    selected = packed.select(np.array(chosen, np.int64))
    assert selected.encoded() == [words[i].encode() for i in chosen]
    mask = data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    kept = [word.encode() for word, keep in zip(words, mask, strict=True) if keep]
    assert packed.select(np.array(mask, bool)).encoded() == kept


@given(ours=WORDS, theirs=WORDS, data=st.data())
@settings(deadline=None)
def test_equal_is_equality_of_bytes(ours, theirs, data):
    ours, theirs = [*ours, "a"], [*theirs, "ab"]
    pair = st.tuples(st.integers(0, len(ours) - 1), st.integers(0, len(theirs) - 1))
    pairs = data.draw(st.lists(pair, max_size=20))
    indices, others = np.array(pairs, np.int64).reshape(-1, 2).T
    same = pack(ours).equal(indices, pack(theirs), others)
    assert same.tolist() == [ours[i] == theirs[j] for i, j in pairs]


# Around one, two and nine comparisons of eight bytes, and around the length from which on words
# are compared one by one.
LENGTHS = [*range(1, 81), *range(LONG_WORD_BYTES - 9, LONG_WORD_BYTES + 10), 1000]


def flips(word: bytes) -> list[bytes]:
    """Return ``word`` with each bit changed; if it is long, with one bit of each byte changed."""
    number = int.from_bytes(word, "little")
    bits = [8 * byte + bit for byte in range(len(word)) for bit in range(8)]
    if len(word) > 80:
        bits = [8 * byte + byte % 8 for byte in range(len(word))]
    return [(number ^ 1 << bit).to_bytes(len(word), "little") for bit in bits]


def placed(words: list[bytes], alignment: int, filler: int) -> PackedWords:
    """Return words of one length that start at ``alignment`` modulo eight.

    They are at the odd indices. The bytes between them are ``filler``; nothing follows the last.
    """
    first, between = (bytes([filler] * size) for size in (120 + alignment, -len(words[0]) % 8))
    pieces = [first, words[0]]
    for word in words[1:]:
        pieces += [between, word]
    packed = pack_encoded(pieces)
    return PackedWords(packed.data, packed.offsets)


@pytest.mark.parametrize("length", LENGTHS)
def test_equal_compares_every_byte(length):
    word = bytes(97 + i % 26 for i in range(length))
    others = flips(word)
    for alignment in range(8):
        other_alignment = (3 * alignment + 1) % 8
        ours = placed([word] * (len(others) + 1), alignment, 0x00)
        theirs = placed([*others, word], other_alignment, 0xFF)
        odd = np.arange(1, len(ours), 2)
        assert set((ours.offsets[odd] % 8).tolist()) == {alignment}
        # The last pair is equal, and ends both data.
        expected = [False] * len(others) + [True]
        assert ours.equal(odd, theirs, odd).tolist() == expected
        # The words are equal whatever the bytes around them.
        same = placed([word] * (len(others) + 1), other_alignment, 0xFF)
        assert ours.equal(odd, same, odd).all()


@pytest.mark.parametrize("length", LENGTHS)
def test_equal_compares_every_byte_of_the_last_word(length):
    """There, fewer than eight bytes may be left in the data from any byte of the word on."""
    word = bytes(97 + i % 26 for i in range(length))
    index = np.array([1])
    for number, other in enumerate(flips(word)[:: 1 if length <= 24 else 7]):
        last = placed([word], number % 8, 0x00)
        for words in ([other], [other, word]):  # Also the last word of its data, or an inner one.
            theirs = placed(words, (5 * number + 2) % 8, 0xFF)
            assert not last.equal(index, theirs, index)
            assert not theirs.equal(index, last, index)
        for words in ([word], [word, other]):
            theirs = placed(words, (5 * number + 2) % 8, 0xFF)
            assert last.equal(index, theirs, index)
            assert theirs.equal(index, last, index)


def test_words_of_other_lengths_differ():
    words = [b"a" * length for length in range(LONG_WORD_BYTES + 20)]
    every = np.arange(len(words))
    ours = pack_encoded(words)
    assert ours.equal(every, ours, every).all()
    for step in (1, 2, 8):
        assert not ours.equal(every[step:], ours, every[:-step]).any()
        assert not ours.equal(every[:-step], ours, every[step:]).any()


def test_lone_surrogates_are_encoded_only_if_asked():
    with pytest.raises(UnicodeEncodeError):
        pack(["fine", "\ud800"])
    assert pack(["\ud800"], "surrogatepass").encoded() == [b"\xed\xa0\x80"]


@pytest.mark.parametrize(("word", "kind"), [(b"bytes", "bytes"), (7, "int"), (None, "NoneType")])
def test_other_types_are_refused(word, kind):
    with pytest.raises(TypeError, match=f"words must be str, not {kind}"):
        pack(["fine", word])


def test_hashes_are_xxh3():
    words = [b"", b"the", "\u4e16".encode(), b"x" * 1000]
    expected = [xxh3_64(word, seed=0).intdigest() for word in words]
    assert hash_words(words).tolist() == expected
    # Known answers: the hashes in stores must not change with the library.
    assert hash_words([b"", b"the"]).tolist() == [0x2D06800538D394C2, expected[1]]
    assert hash_words([]).dtype == np.uint64


def test_packing_nothing():
    packed = pack_encoded([])
    assert len(packed) == 0
    assert packed.encoded() == []
    none = np.empty(0, np.int64)
    assert packed.equal(none, packed, none).tolist() == []
