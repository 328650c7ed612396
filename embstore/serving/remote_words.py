"""The words of a table that servers have: asked for, and some of them kept.

It stands in the place of `embstore.vocabulary.Vocabulary`. A table never changes, so the id of a
word that was asked for once is kept, up to a limit; also that a word is missing.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.serving.protocol import Header, pack_words
from embstore.serving.replies import Expected, ids_of, words_of
from embstore.vocabulary.given import flatten
from embstore.vocabulary.words import PackedWords, pack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embstore.serving.calls import Call, Calls
    from embstore.serving.replicas import Replicas
    from embstore.serving.served_table import ServedTable

KEPT_WORDS, KEPT_LENGTH = 1 << 16, 256
LISTED_WORDS = 1 << 14  # Asked for at a time.
SMALL_COUNT = 4096  # Such requests are asked on streams that are kept.
ANSWER_BYTES_MAX = 64 << 20
_COUNT_BYTES = 4  # Of a request with words; each takes as many more.


class RemoteVocabulary:
    """The words of a table; see `embstore.vocabulary.Vocabulary` for the methods.

    Parameters
    ----------
    table : ServedTable
        The table.
    replicas : Replicas
        The servers; each has all words.
    most_words, most_bytes : int
        The most words, and bytes of them, that a server takes in one request.
    calls : Calls
        Begins calls.

    Attributes
    ----------
    is_near : bool
        True: servers look thousands of words up at once.
    """

    is_near = True

    def __init__(
        self,
        table: ServedTable,
        replicas: Replicas,
        most_words: int,
        most_bytes: int,
        calls: Calls,
    ) -> None:
        self._count, self._replicas = table.numbering.rows, replicas
        self._most_words, self._most_bytes = min(most_words, LISTED_WORDS), most_bytes
        self._calls, self._fingerprint = calls, table.fingerprint
        self._ids_header = Header("ids", missing="none", fingerprint=table.fingerprint)
        self._words_header = Header("words", fingerprint=table.fingerprint)
        self._kept: dict[str, int] = {}

    def __len__(self) -> int:
        return self._count

    def id_of(self, word: str) -> int:
        """Return the id of one word, -1 if it is missing."""
        found = self._kept.get(word)
        return int(self._ids([word])[0]) if found is None else found

    def ids(self, words: Any) -> NDArray[np.int64]:
        """Return the id of each word, -1 for a missing one; the shape of ``words``."""
        flat, shape = flatten(words)
        return self._ids(flat).reshape(shape)

    def words(self, ids: NDArray[np.int64]) -> Any:
        """Return the word of each id: a str for one id, else a (nested) list of str."""
        found = self._words(ids.reshape(-1))
        if ids.ndim == 1:
            return found
        shaped = np.empty(ids.size, object)
        shaped[:] = found
        return shaped.reshape(ids.shape).tolist()

    def word_of(self, number: int) -> str:
        """Return the word of one id, which is in range."""
        return self._words(np.array([number]))[0]

    def listed(self, start: int, stop: int) -> list[str]:
        """Return the words of the ids ``start .. stop - 1``, which are in range."""
        return self._words(np.arange(start, stop))

    def numbered(self, start: int, stop: int) -> dict[str, int]:
        """Return the ids of the words of ``start .. stop - 1``, which are in range."""
        return dict(zip(self.listed(start, stop), range(start, stop), strict=True))

    def packed(self, start: int, stop: int) -> PackedWords:
        """Return the words of the ids ``start .. stop - 1``, which are in range."""
        return pack(self.listed(start, stop))

    def _ids(self, words: list[str]) -> NDArray[np.int64]:
        """Return the id of each word, shape (n,), asking for those that are not kept."""
        for word in words:
            if not isinstance(word, str):
                raise TypeError(f"words must be str, not {type(word).__name__}")
        kept = self._kept
        # Each is read once: another thread may clear them at any time.
        found = {word: known for word in words if (known := kept.get(word)) is not None}
        unknown = list(dict.fromkeys(word for word in words if word not in found))
        call = self._calls.begin()
        for some in self._requests(unknown):
            ids = self._ask_ids(some, call).tolist()
            found |= zip(some, ids, strict=True)
            if len(kept) + len(some) > KEPT_WORDS:
                kept.clear()
            kept |= {word: found[word] for word in some if len(word) <= KEPT_LENGTH}
        return np.array([found[word] for word in words], np.int64)

    def _requests(self, words: list[str]) -> Iterator[list[str]]:
        """Yield words that fit into a request, in order."""
        some: list[str] = []
        size = _COUNT_BYTES
        for word in words:
            needed = len(word.encode("utf-8", "surrogatepass")) + _COUNT_BYTES
            if some and (len(some) == self._most_words or size + needed > self._most_bytes):
                yield some
                some, size = [], _COUNT_BYTES
            some.append(word)
            size += needed
        if some:
            yield some

    def _ask_ids(self, words: list[str], call: Call) -> NDArray[np.int64]:
        import pyarrow as pa  # noqa: PLC0415

        found = np.empty(len(words), np.int64)

        def put(position: int, values: Any) -> None:
            ids = ids_of(values)
            if len(ids) and not (ids.min() >= -1 and ids.max() < self._count):
                raise ValueError(f"an id is not in -1 to {self._count - 1}")
            found[position : position + len(ids)] = ids

        expected = Expected("ids", pa.int64(), len(words), self._fingerprint)
        payload, is_small = pack_words(words), len(words) <= SMALL_COUNT
        self._replicas.ask(self._ids_header, payload, expected, put, call, is_small=is_small)
        return found

    def _words(self, ids: NDArray[np.int64]) -> list[str]:
        """Return the words of ids, shape (n,)."""
        call = self._calls.begin()
        starts = range(0, len(ids), self._most_words)
        asked = (self._ask_words(ids[start : start + self._most_words], call) for start in starts)
        return list(chain.from_iterable(asked))

    def _ask_words(self, ids: NDArray[np.int64], call: Call) -> list[str]:
        import pyarrow as pa  # noqa: PLC0415

        found = [""] * len(ids)

        def put(position: int, values: Any) -> None:
            words = words_of(values, ANSWER_BYTES_MAX)
            found[position : position + len(words)] = words

        expected = Expected("words", pa.large_utf8(), len(ids), self._fingerprint)
        payload = np.ascontiguousarray(ids, "<i8").data.cast("B")
        is_small = len(ids) <= SMALL_COUNT
        self._replicas.ask(self._words_header, payload, expected, put, call, is_small=is_small)
        return found
