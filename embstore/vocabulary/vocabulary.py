"""Words to ids and ids to words, on the arrays of a store.

The words' bytes, their offsets and a hash table over them are three arrays of the store, mapped
like its rows (`embstore.vocabulary.mapped`). Opening costs the same for ten words as for a hundred
million.

1. `Vocabulary.id_of` looks up one word in plain Python.
2. `Vocabulary.ids` looks up many at once: it packs and hashes them, and
   `embstore.vocabulary.hashing.find` probes the table.
3. Both compare the stored bytes of a candidate with the word, because a hash is not a word.

The arrays come from disk and may be damaged: an id or an offset outside of its array raises
`embstore.StoreCorruptError`.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np
from xxhash import xxh3_64_intdigest

from embstore.formats.own import spec
from embstore.syscalls import in_core
from embstore.table.addresses import PAGE_BYTES
from embstore.vocabulary import hashing
from embstore.vocabulary.damage import damaged, not_utf8, wrong_id, wrong_offsets
from embstore.vocabulary.given import flatten
from embstore.vocabulary.words import PackedWords, encode, hash_words, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PARTS = (spec.WORD_BYTES, spec.WORD_OFFSETS, spec.WORD_SLOTS)

# Larger arrays are mapped without the kernel's read-ahead.
READ_AHEAD_BYTES = 64 << 20
# Pages of a larger hash table that tell whether it is in RAM.
SAMPLED_PAGES = 64

# Up to this many words are looked up one by one; more, at once.
FEW_WORDS = 100

# The function at place n reads n bytes from a place in a buffer.
_READ_BYTES = tuple(Struct(f"{size}s").unpack_from for size in range(65))

_ID_MASK = (1 << spec.SLOT_ID_BITS) - 1


class Vocabulary:
    """The words of a store, in memory or in mapped files.

    Parameters
    ----------
    stored : PackedWords
        The words in the order of their ids.
    slots : ndarray of uint64, shape (power of two,)
        The hash table.
    probe_count : int
        The most slots to read for one word.

    """

    def __init__(self, stored: PackedWords, slots: NDArray[np.uint64], probe_count: int) -> None:
        self._stored = stored
        self._slots = slots
        self._probe_count = min(probe_count, len(slots))
        self._slot_mask = len(slots) - 1
        self._count = len(stored)
        self._size_bytes = len(stored.data)
        # Memoryviews index numbers in the machine's byte order only; where the arrays have it, as
        # nearly everywhere, nothing is copied.
        self._slot_view = np.ascontiguousarray(slots, np.uint64).data
        self._offsets = np.ascontiguousarray(stored.offsets, np.int64)
        self._offset_view = self._offsets.data
        self._byte_view = np.ascontiguousarray(stored.data, np.uint8).data

    @property
    def is_near(self) -> bool:
        """Whether looking up hundreds of words in vain costs little: the hash table is in RAM."""
        if self._slots.nbytes <= READ_AHEAD_BYTES:
            return True
        address = self._slots.ctypes.data
        places = range(0, self._slots.nbytes, self._slots.nbytes // SAMPLED_PAGES)
        pages = [(address + place) // PAGE_BYTES * PAGE_BYTES for place in places]
        with suppress(OSError):
            return 4 * sum(int(in_core(page, PAGE_BYTES)[0]) for page in pages) >= 3 * len(pages)
        return True

    @property
    def stored(self) -> PackedWords:
        """The words in the order of their ids, as they are stored; the offsets may be damaged."""
        return self._stored

    @property
    def slots(self) -> NDArray[np.uint64]:
        """The hash table."""
        return self._slots

    def id_of(self, word: str) -> int:
        """Return the id of one word, -1 if it is missing.

        Raises
        ------
        TypeError
            If ``word`` is not a str.
        StoreCorruptError
            If the hash table or the offsets are damaged.
        """
        # Python ints read through memoryviews: half a microsecond. A batch of one word takes 40
        # times as long, nearly all of it in some thirty NumPy calls on arrays of one element.
        try:
            encoded = str.encode(word)
        except (TypeError, UnicodeEncodeError):
            (encoded,) = encode([word], "surrogatepass")
        hashed = xxh3_64_intdigest(encoded)
        slots, mask, probes_left = self._slot_view, self._slot_mask, self._probe_count
        slot = hashed & mask
        while probes_left and (entry := slots[slot]):
            if entry ^ hashed <= _ID_MASK:  # The upper 24 bits are equal.
                number = entry & _ID_MASK
                if not 0 < number <= self._count:
                    raise wrong_id(number - 1, self._count)
                start, stop = self._offset_view[number - 1], self._offset_view[number]
                if not 0 <= start <= stop <= self._size_bytes:
                    raise wrong_offsets()
                size = len(encoded)
                if stop - start == size and (
                    # Half the time of comparing a memoryview.
                    _READ_BYTES[size](self._byte_view, start)[0] == encoded
                    if size < len(_READ_BYTES)
                    else self._byte_view[start:stop] == encoded
                ):
                    return number - 1
            slot = (slot + 1) & mask
            probes_left -= 1
        return -1

    def __len__(self) -> int:
        return self._count

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._stored, self._slots, self._probe_count)

    def ids(self, words: Any) -> NDArray[np.int64]:
        """Return the id of each word, -1 for a missing one.

        Parameters
        ----------
        words : str, or (nested) sequence or array of str, any shape

        Returns
        -------
        ids : ndarray of int64, the shape of ``words``

        Raises
        ------
        TypeError
            If a word is not a str.
        StoreCorruptError
            If the hash table or the offsets are damaged.
        """
        # Most are flat lists of str. Anything else raises a TypeError, here or after flattening.
        if type(words) is list or type(words) is tuple:
            with suppress(TypeError):
                return self._ids(words)
        flat, shape = flatten(words)
        return self._ids(flat).reshape(shape)

    def _ids(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Return the id of each word, shape (n,)."""
        if len(words) <= FEW_WORDS:
            return np.array(list(map(self.id_of, words)), np.int64)
        return self._ids_at_once(words)

    def _ids_at_once(self, words: Sequence[str]) -> NDArray[np.int64]:
        """Return the id of each word, shape (n,), by arrays of all of them."""
        packed = pack(words, "surrogatepass")
        hashes = hash_words(packed.encoded())

        def confirm(positions: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
            return self.equal(ids, packed, positions)

        def finish(positions: NDArray[np.int64]) -> list[int]:
            return [self.id_of(words[position]) for position in positions.tolist()]

        return self._find(hashes, confirm, finish)

    def equal(
        self, ids: NDArray[np.int64], words: PackedWords, positions: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return where the word of ``ids[k]`` equals ``words`` at ``positions[k]``.

        Raises
        ------
        StoreCorruptError
            If an id is out of range, or the offsets are damaged.
        """
        return self._stored.equal_at(*self._spans(ids), words, positions)

    def _find(
        self, hashes: NDArray[np.uint64], confirm: hashing.Confirm, finish: hashing.Finish | None
    ) -> NDArray[np.int64]:
        """Return the ids of words with these hashes; see `embstore.vocabulary.hashing.find`."""
        return hashing.find(self._slots, hashes, self._probe_count, confirm, finish)

    def words(self, ids: NDArray[np.int64]) -> Any:
        """Return the word of each id.

        Parameters
        ----------
        ids : ndarray of int64, any shape
            In range; this is not checked here.

        Returns
        -------
        words : str for one id, else (nested) list of str in the shape of ``ids``

        Raises
        ------
        StoreCorruptError
            If the offsets are damaged, or a stored word is not UTF-8.
        """
        flat = ids.ravel()
        starts, lengths = self._spans(flat)
        distinct = np.unique(flat)
        # Words that overlap could amount to any number of bytes.
        if self._spans(distinct)[1].sum(dtype=np.float64) > self._size_bytes:
            raise damaged("the word offsets make words overlap")
        data = self._byte_view
        bounds = zip(starts.tolist(), (starts + lengths).tolist(), strict=True)
        try:
            words = [str(data[start:stop], "utf-8") for start, stop in bounds]
        except UnicodeDecodeError as error:
            raise not_utf8(error) from error
        if ids.ndim == 1:
            return words
        shaped = np.empty(ids.size, object)
        shaped[:] = words
        return shaped.reshape(ids.shape).tolist()

    def word_of(self, number: int) -> str:
        """Return the word of one id, which is in range; errors as `words`."""
        start, stop = self._offset_view[number], self._offset_view[number + 1]
        if not 0 <= start <= stop <= self._size_bytes:
            raise wrong_offsets()
        try:
            return str(self._byte_view[start:stop], "utf-8")
        except UnicodeDecodeError as error:
            raise not_utf8(error) from error

    def listed(self, start: int, stop: int) -> list[str]:
        """Return the words of the ids ``start .. stop - 1``, which are in range.

        Raises
        ------
        StoreCorruptError
            As `words`.
        """
        packed = self.packed(start, stop)
        # All are decoded together and cut apart again: a third of the time of decoding each.
        try:
            text = packed.data.tobytes().decode()
        except UnicodeDecodeError as error:
            raise not_utf8(error) from error
        bounds = packed.offsets
        if len(text) < len(packed.data):
            # Counted in characters: each starts with a byte that does not continue one.
            starts = np.append((packed.data & 0xC0) != 0x80, True)
            if not starts[bounds].all():
                raise not_utf8("a word ends within a character")
            bounds = (np.cumsum(starts) - 1)[bounds]
        return [text[first:last] for first, last in pairwise(bounds.tolist())]

    def numbered(self, start: int, stop: int) -> dict[str, int]:
        """Return the ids of the words of ``start .. stop - 1``, which are in range.

        All are as `id_of` returns them: a word that damage has made of another is left out.

        Raises
        ------
        StoreCorruptError
            As `words`.
        """
        words = self.listed(start, stop)
        doubtful: list[NDArray[np.int64]] = []

        def confirm(positions: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
            own: NDArray[np.bool_] = ids == positions + start
            doubtful.append(positions[~own])
            return own

        hashes = hash_words(encode(words))
        ids = self._find(hashes, confirm, None)
        for positions in doubtful:
            ids[positions] = -1
        pairs = zip(words, ids.tolist(), strict=True)
        return dict(pairs) if (ids >= 0).all() else {word: own for word, own in pairs if own >= 0}

    def packed(self, start: int, stop: int) -> PackedWords:
        """Return the words of the ids ``start .. stop - 1``, which are in range."""
        self._spans(np.arange(start, stop))
        offsets = np.array(self._offsets[start : stop + 1])
        data = np.array(self._stored.data[offsets[0] : offsets[-1]])
        return PackedWords(data, offsets - offsets[0])

    def _spans(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where the words of ids, shape (n,), start, and their lengths in bytes.

        Raises
        ------
        StoreCorruptError
            If an id or an offset is outside of the arrays.
        """
        if _largest(ids) >= self._count:
            least = int(ids.min())
            raise wrong_id(least if least < 0 else int(ids.max()), self._count)
        starts, stops = self._offsets.take(ids), self._offsets[1:].take(ids)
        if max(_largest(starts), _largest(stops)) > self._size_bytes:
            raise wrong_offsets()
        lengths = stops - starts
        if _largest(lengths) > self._size_bytes:
            raise wrong_offsets()
        return starts, lengths


def _largest(numbers: NDArray[np.int64]) -> int:
    """Return the largest number as unsigned, where a negative one is huge; -1 for none."""
    # argmax takes a quarter of max's time for a small array.
    unsigned = numbers.view(np.uint64)
    return unsigned.item(unsigned.argmax()) if len(unsigned) else -1
