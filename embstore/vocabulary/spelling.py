"""Which word of the store was probably meant? Near spellings are probed for, a bounded number.

1. The same word but for its case, spaces around it, or its Unicode form.
2. If there is none: words that are one edit away, a letter dropped, added, replaced, or two
   exchanged. Letters are those of the word, and the frequent ones of the store.

All spellings of a step are looked up at once, about a microsecond each. Of several that the store
has, the one with the lowest id is taken, because tables of words are sorted by frequency.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embstore.vocabulary import Vocabulary

# Letters are counted in so many places of the vocabulary, in so many neighbouring words each:
# words next to each other are on the same pages.
SAMPLES = 8
SAMPLE_WORDS = 200
MAX_LETTERS = 64
# Of a shorter word, every other short one is a neighbour; of a longer one, there are too many.
EDITED_LENGTHS = range(3, 41)


def near_word(word: str, vocabulary: Vocabulary) -> str | None:
    """Return the stored word that is spelled most nearly like ``word``, None if none is near.

    Parameters
    ----------
    word : str
        A word that is not in the vocabulary.
    vocabulary : Vocabulary
        Where to look.
    """
    found = _first(variants(word), vocabulary)
    # Another digit makes another number, not another spelling.
    if found is not None or any(map(str.isdigit, word)):
        return found
    letters = _letters(vocabulary)
    bases = {word, unicodedata.normalize("NFC", word.strip()).lower()}
    edits = {
        edit for base in bases if len(base) in EDITED_LENGTHS for edit in edited(base, letters)
    }
    return _first(edits, vocabulary)


def variants(word: str) -> set[str]:
    """Return the spellings of ``word`` in other cases and Unicode forms, without spaces around.

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
    """Return what one edit makes of ``word``.

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
    """Return the spelling with the lowest id."""
    asked = list(spellings)
    ids = vocabulary.ids(asked)
    there = np.flatnonzero(ids >= 0)
    return asked[there[ids[there].argmin()]] if there.size else None


def _letters(vocabulary: Vocabulary) -> list[str]:
    """Return the letters that are most frequent in samples of the vocabulary."""
    last = max(len(vocabulary) - SAMPLE_WORDS, 0)
    starts = np.unique(np.linspace(0, last, SAMPLES, dtype=np.int64))
    places = np.unique(starts[:, np.newaxis] + np.arange(min(SAMPLE_WORDS, len(vocabulary))))
    counts = Counter("".join(vocabulary.words(places)))
    return [letter for letter, _ in counts.most_common(MAX_LETTERS)]
