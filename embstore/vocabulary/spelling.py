"""The stored word with the spelling nearest to a missing one.

1. Look up spellings that differ only in case, surrounding spaces or Unicode form.
2. If none is found, look up spellings that are one edit away: a letter dropped, added or replaced,
   or two letters exchanged. The letters are those of the word and the store's most frequent ones.

The number of spellings is bounded. Those of a step are looked up at once, about a microsecond each.
The second step is left out where it would read much of the hash table: from an object store, or
from a disk if the table is not in RAM. If several are found, the one with the lowest id is
returned, because word lists are usually sorted by frequency.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embstore.vocabulary import Vocabulary

# Letters are counted in SAMPLES runs of SAMPLE_WORDS words; the words of a run share pages.
SAMPLES = 8
SAMPLE_WORDS = 200
MAX_LETTERS = 64
# A shorter word is one edit from nearly every short word; a longer one has too many edits.
EDITED_LENGTHS = range(3, 41)


def near_word(word: str, vocabulary: Vocabulary) -> str | None:
    """Return the stored word with the nearest spelling, None if no spelling is near.

    Parameters
    ----------
    word : str
        A word that the vocabulary does not have.
    vocabulary : Vocabulary
        Where to look.
    """
    found = _first(variants(word), vocabulary)
    # A number with another digit is another number, not a misspelling.
    if found is not None or any(map(str.isdigit, word)) or not vocabulary.is_near:
        return found
    letters = _letters(vocabulary)
    bases = {word, unicodedata.normalize("NFC", word.strip()).lower()}
    edits = {
        edit for base in bases if len(base) in EDITED_LENGTHS for edit in edited(base, letters)
    }
    return _first(edits, vocabulary)


def variants(word: str) -> set[str]:
    """Return the spellings of ``word`` in other cases and Unicode forms, stripped of spaces.

    Examples
    --------
    >>> sorted(variants("Like"))
    ['LIKE', 'like']
    """
    bare = word.strip()
    forms = {word, bare} | {unicodedata.normalize(form, bare) for form in ("NFC", "NFD", "NFKC")}
    cases = (str, str.lower, str.upper, str.capitalize, str.title, str.casefold)
    return {case(form) for form in forms for case in cases} - {word}


def edited(word: str, letters: Iterable[str]) -> set[str]:
    """Return all spellings that are one edit away from ``word``.

    Examples
    --------
    >>> sorted(edited("ab", "x"))
    ['a', 'aa', 'aab', 'ab', 'aba', 'abb', 'abx', 'ax', 'axb', 'b', 'ba', 'bab', 'bb', 'xab', 'xb']
    """
    letters = {*letters, *word}
    halves = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    dropped = {head + tail[1:] for head, tail in halves}
    exchanged = {head + tail[1] + tail[0] + tail[2:] for head, tail in halves if len(tail) > 1}
    replaced = {head + new + tail[1:] for head, tail in halves if tail for new in letters}
    added = {head + new + tail for head, tail in halves for new in letters}
    return dropped | exchanged | replaced | added


def _first(spellings: Iterable[str], vocabulary: Vocabulary) -> str | None:
    """Return the spelling with the lowest id, None if the vocabulary has none of them."""
    asked = list(spellings)
    ids = vocabulary.ids(asked)
    there = np.flatnonzero(ids >= 0)
    return asked[there[ids[there].argmin()]] if there.size else None


def _letters(vocabulary: Vocabulary) -> list[str]:
    """Return the most frequent letters in samples of the vocabulary."""
    last = max(len(vocabulary) - SAMPLE_WORDS, 0)
    starts = np.unique(np.linspace(0, last, SAMPLES, dtype=np.int64))
    places = np.unique(starts[:, np.newaxis] + np.arange(min(SAMPLE_WORDS, len(vocabulary))))
    counts = Counter("".join(vocabulary.words(places)))
    return [letter for letter, _ in counts.most_common(MAX_LETTERS)]
