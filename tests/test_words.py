"""Packed words against lists of bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64

from embstore.vocabulary.words import PackedWords, hash_words, pack, pack_encoded

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


@given(words=WORDS, begin=st.integers(0, 5), length=st.integers(0, 12))
@settings(deadline=None)
def test_words_may_begin_in_the_middle_of_the_data(words, begin, length):
    whole = pack(words)
    begin = min(begin, len(words))
    for packed in (whole, PackedWords(whole.data, whole.offsets)):  # With the list, and without.
        part = packed.part(begin, begin + length)
        assert len(part) == len(part.encoded())
        assert part.encoded() == [w.encode() for w in words[begin:][:length]]


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


def test_equal_notices_each_single_byte():
    # A difference at the first, a middle and the last byte, between pairs that are equal.
    ours = ["same", "Xbcd", "same", "abXd", "same", "abcX", "", "same"]
    theirs = ["same", "abcd", "same", "abcd", "same", "abcd", "", "same"]
    every = np.arange(len(ours))
    same = pack(ours).equal(every, pack(theirs), every)
    assert same.tolist() == [True, False, True, False, True, False, True, True]


def test_a_lone_surrogate_is_passed_on_only_if_asked():
    with pytest.raises(UnicodeEncodeError):
        pack(["fine", "\ud800"])
    assert pack(["\ud800"], "surrogatepass").encoded() == [b"\xed\xa0\x80"]


@pytest.mark.parametrize(("word", "kind"), [(b"bytes", "bytes"), (7, "int"), (None, "NoneType")])
def test_what_is_no_str_is_refused(word, kind):
    with pytest.raises(TypeError, match=f"words must be str, not {kind}"):
        pack(["fine", word])


def test_hashes_are_xxh3():
    words = [b"", b"the", "\u4e16".encode(), b"x" * 1000]
    expected = [xxh3_64(word, seed=0).intdigest() for word in words]
    assert hash_words(words).tolist() == expected
    # Known answers: what stands on disk must not change with the library.
    assert hash_words([b"", b"the"]).tolist() == [0x2D06800538D394C2, expected[1]]
    assert hash_words([]).dtype == np.uint64


def test_packing_nothing():
    packed = pack_encoded([])
    assert len(packed) == 0
    assert packed.encoded() == []
    none = np.empty(0, np.int64)
    assert packed.equal(none, packed, none).tolist() == []
