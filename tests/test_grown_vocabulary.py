"""Words that join those of an old version, against a dict and a build of all words."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from embstore.errors import DuplicateWordError, StoreCorruptError
from embstore.formats.own import spec
from embstore.formats.own.array_size import ArraySize
from embstore.formats.own.spec import RawArray
from embstore.formats.own.vocabulary_manifest import VocabularyManifest
from embstore.table.addresses import PAGE_BYTES
from embstore.vocabulary import Vocabulary
from embstore.vocabulary.words import PackedWords, hash_words, pack
from embstore.writing.disk import scratch
from embstore.writing.versions.next_version import NextVersion
from embstore.writing.words import slot_buckets
from embstore.writing.words.grown_vocabulary import GrownVocabulary
from embstore.writing.words.vocabulary_builder import VocabularyBuilder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MEMORY_BYTES = 24 << 20
PARTS = (spec.WORD_BYTES, spec.WORD_OFFSETS, spec.WORD_SLOTS)
WORD = st.text(alphabet="ab\u00e9\U0001f600\x00 ", max_size=3)
# The same letters, composed and decomposed; a word of 1 MB, and one that differs in its last byte.
ODD_WORDS = ["", "\x00", "\x00\x00", "caf\u00e9", "cafe\u0301", "x" * 10**6, "x" * 10**6 + "y"]


def _off_page(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy that does not start on a page.

    The pages of a large vocabulary, which is a mapped file, are unmapped now and then. Those of an
    array in memory would be lost.
    """
    room = np.empty(array.nbytes + 16, np.uint8)
    start = -room.ctypes.data % 8 + 8 * (-(-room.ctypes.data // 8) * 8 % PAGE_BYTES == 0)
    copy: NDArray[Any] = room[start : start + array.nbytes].view(array.dtype)
    copy[:] = array
    return copy


class Version:
    """A version of a vocabulary in memory, and the arrays of the next one.

    Attributes
    ----------
    checked, linked : list of (str, int)
        The chunks that were checked, and those that were taken over whole.
    damaged : set of (str, int)
        The chunks that do not have their checksum.
    """

    def __init__(
        self, arrays: dict[str, NDArray[Any]], probe_count: int, chunk_rows: dict[str, int]
    ) -> None:
        sizes = {part: ArraySize(len(arrays[part]), chunk_rows[part]) for part in PARTS}
        self.manifest = VocabularyManifest(probe_count, sizes)
        self.arrays = arrays = {part: _off_page(array) for part, array in arrays.items()}
        stored = PackedWords(arrays[spec.WORD_BYTES], arrays[spec.WORD_OFFSETS])
        self.vocabulary = Vocabulary(stored, arrays[spec.WORD_SLOTS], probe_count)
        self.checked: list[tuple[str, int]] = []
        self.linked: list[tuple[str, int]] = []
        self.damaged: set[tuple[str, int]] = set()

    def check_chunk(self, array: RawArray, chunk: int) -> None:
        self.checked.append((array.name, chunk))
        if (array.name, chunk) in self.damaged:
            raise StoreCorruptError(f"{array.chunk_name(chunk)} is damaged")

    def read_chunk(self, array: RawArray, chunk: int) -> Iterator[NDArray[np.uint8]]:
        self.check_chunk(array, chunk)
        yield self._chunk(array, chunk).view(np.uint8).reshape(-1, array.dtype.itemsize)

    def new_array(
        self, name: str, item_shape: tuple[int, ...], dtype: np.dtype[Any], chunk_rows: int
    ) -> Any:
        assert item_shape == ()
        return Writer(RawArray(name, (0,), dtype, chunk_rows))

    def grow_array(self, array: RawArray) -> Any:
        writer = self.new_array(array.name, (), array.dtype, array.chunk_rows)
        for chunk in range(array.chunk_count):
            if (chunk + 1) * array.chunk_rows <= array.shape[0]:
                self.link_chunk(writer, array, chunk)
            else:
                writer.append(next(self.read_chunk(array, chunk)))
        return writer

    def link_chunk(self, writer: Any, array: RawArray, chunk: int) -> None:
        assert array.chunk_rows == writer.array.chunk_rows
        assert len(writer.data()) == chunk * array.chunk_rows
        self.linked.append((array.name, chunk))
        writer.append(self._chunk(array, chunk))

    def _chunk(self, array: RawArray, chunk: int) -> NDArray[Any]:
        start = chunk * array.chunk_rows
        return self.arrays[array.name.rpartition("/")[2]][start : start + array.chunk_rows]


class Writer:
    """A writer of an array in memory."""

    def __init__(self, array: RawArray) -> None:
        self.array = array
        self._pieces: list[bytes] = []

    def append(self, rows: NDArray[Any], *, copy: bool = True) -> None:
        del copy
        self._pieces.append(rows.tobytes())

    def data(self) -> NDArray[Any]:
        return np.frombuffer(b"".join(self._pieces), self.array.dtype)


def built(words: list[str], chunk_rows: dict[str, int] | None = None) -> Version:
    """Return the vocabulary of a new store."""
    builder = VocabularyBuilder()
    builder.add(pack(words))
    builder.finish()
    arrays = builder.arrays()
    if chunk_rows is None:
        itemsizes = {part: np.dtype(spec.VOCABULARY_DTYPES[part]).itemsize for part in PARTS}
        chunk_rows = {
            part: spec.choose_chunk_rows(len(arrays[part]), itemsizes[part]) for part in PARTS
        }
    return Version(arrays, builder.probe_count, chunk_rows)


def grown(version: Version, directory: Path, **options: Any) -> GrownVocabulary:
    defaults: dict[str, Any] = {"on_duplicate": "error", "replace": False}
    options = defaults | {"memory_bytes": MEMORY_BYTES} | options
    return GrownVocabulary(
        version.vocabulary, version.manifest, version, directory=directory, **options
    )


def finish(version: Version, words: GrownVocabulary) -> Version:
    """Write the arrays, and return the next version."""
    written, manifest = words.write()
    writers: list[Any] = list(written)
    words.close()
    arrays = {writer.array.name.rpartition("/")[2]: writer.data() for writer in writers}
    assert tuple(arrays) == PARTS
    for writer in writers:
        part = writer.array.name.rpartition("/")[2]
        assert manifest.sizes[part] == ArraySize(len(writer.data()), writer.array.chunk_rows)
    chunk_rows = {part: manifest.sizes[part].chunk_rows for part in PARTS}
    return Version(arrays, manifest.probe_count, chunk_rows)


def check_equals_a_build(version: Version, words: list[str], missing: Sequence[str] = ()) -> None:
    """Compare a version with a new build of the same words."""
    fresh = built(words)
    for part in (spec.WORD_BYTES, spec.WORD_OFFSETS):
        np.testing.assert_array_equal(version.arrays[part], fresh.arrays[part])
    slots = version.arrays[spec.WORD_SLOTS]
    assert np.count_nonzero(slots) == len(words)
    # At half full exactly, a build has one of two sizes, depending on its batches.
    assert 2 * len(words) <= len(slots) <= 2 * len(fresh.arrays[spec.WORD_SLOTS])
    assert version.manifest.probe_count <= max(4 * fresh.manifest.probe_count, 16)
    vocabulary = version.vocabulary
    queries = [*words, *missing]
    expected = [*range(len(words)), *[-1] * len(missing)]
    assert vocabulary.ids(queries).tolist() == expected
    assert [vocabulary.id_of(word) for word in queries] == expected
    assert vocabulary.listed(0, len(words)) == words


def patch_hash(patch: pytest.MonkeyPatch, hash_of: Any) -> None:
    """Replace the hash of a word, a function of bytes, everywhere."""
    for module in ("words", "vocabulary"):
        patch.setattr(f"embstore.vocabulary.{module}.xxh3_64_intdigest", hash_of)


@given(
    old=st.lists(WORD, max_size=12, unique=True),
    batches=st.lists(st.lists(WORD, max_size=8), max_size=4),
    queries=st.lists(WORD, max_size=8),
    memory_bytes=st.sampled_from([0, MEMORY_BYTES]),
    in_steps=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_growth_equals_a_dict(tmp_path_factory, old, batches, queries, memory_bytes, in_steps):
    """Whether in one change or in several, with replaced words and repeats."""
    directory, version = tmp_path_factory.getbasetemp(), built(old)
    options = {"memory_bytes": memory_bytes, "on_duplicate": "first", "replace": True}
    model = {word: number for number, word in enumerate(old)}
    groups = [[batch] for batch in batches] if in_steps else [batches]
    for group in groups:
        before, replaced = dict(model), set[str]()
        words = grown(version, directory, **options)
        for batch in group:
            is_new, is_known = [], []
            for word in batch:
                is_known.append(word in before and word not in replaced)
                replaced.add(word)
                is_new.append(word not in model)
                model.setdefault(word, len(model))
            entered = words.enter(batch, len(batch))
            assert entered.ids.tolist() == [model[word] for word in batch]
            assert entered.is_new.tolist() == is_new
            assert entered.is_known.tolist() == is_known
            assert len(words) == len(model)
        fresh = [word for word in model if word not in before]
        assert words.new_count == len(fresh)
        hashes = [number for piece in words.hashes() for number in piece.tolist()]
        assert hashes == hash_words([word.encode() for word in fresh]).tolist()
        version = finish(version, words)
        missing = [word for word in queries if word not in model]
        check_equals_a_build(version, list(model), missing)


@pytest.mark.parametrize("memory_bytes", [0, MEMORY_BYTES])
@pytest.mark.parametrize(("old", "new"), [(0, 1), (0, 5000), (1, 1), (2047, 1), (2048, 1)])
def test_table_grows_when_it_is_half_full(tmp_path, old, new, memory_bytes):
    every = [f"word {number}" for number in range(old + new)]
    version = built(every[:old])
    words = grown(version, tmp_path, memory_bytes=memory_bytes)
    assert words.enter(every[old:], new).is_new.all()
    after = finish(version, words)
    check_equals_a_build(after, every, ["", "word", "word -1"])
    slot_count = len(version.arrays[spec.WORD_SLOTS])
    if 2 * len(every) > slot_count:
        slot_count = 1 << (2 * len(every)).bit_length()
    assert len(after.arrays[spec.WORD_SLOTS]) == slot_count


@pytest.mark.parametrize("memory_bytes", [0, MEMORY_BYTES])
@pytest.mark.parametrize("width", [1 << 6, 1 << 12])
def test_many_words_are_added_to_a_table_that_stays(tmp_path, monkeypatch, memory_bytes, width):
    """Those of several buckets, in several pieces; in a file, and in memory."""
    monkeypatch.setattr(slot_buckets, "LEAST_WIDTH", width)
    monkeypatch.setattr(scratch, "PIECE_LENGTH", 500)
    every = [f"word {number}" for number in range(16_000)]
    version = built(every[:9000])
    words = grown(version, tmp_path, memory_bytes=memory_bytes)
    for start in range(9000, 16_000, 700):
        words.enter(every[start : start + 700], 700)
    after = finish(version, words)
    assert len(after.arrays[spec.WORD_SLOTS]) == len(version.arrays[spec.WORD_SLOTS])
    check_equals_a_build(after, every, ["", "word -1"])


def test_many_small_appends_keep_files_few(tmp_path):
    every = [f"{number} is a word of {number}" for number in range(30_000)]
    version = built(every[:10])
    chunks = []
    for start in range(10, len(every), 500):
        some = every[start : start + 500]
        words = grown(version, tmp_path)
        words.enter(some, len(some))
        version = finish(version, words)
        chunks.append(sum(version.manifest.array(part).chunk_count for part in PARTS))
    check_equals_a_build(version, every, ["30000 is a word of 30000"])
    assert max(chunks) <= 3 * 32


def test_only_chunks_that_change_are_written(tmp_path):
    """Slots of eight chunks, of which a word changes one; bytes and offsets of several."""
    every = [f"word {number}" for number in range(30_001)]
    chunk_rows = {spec.WORD_BYTES: 1 << 16, spec.WORD_OFFSETS: 1 << 13, spec.WORD_SLOTS: 1 << 14}
    version = built(every[:-1], chunk_rows)
    words = grown(version, tmp_path)
    words.enter(every[-1:], 1)
    after = finish(version, words)
    check_equals_a_build(after, every)
    (changed,) = np.unique(
        np.flatnonzero(after.arrays[spec.WORD_SLOTS] != version.arrays[spec.WORD_SLOTS]) >> 14
    )
    last = {part: version.manifest.array(part).chunk_count - 1 for part in PARTS[:2]}
    touched = {(f"vocabulary/{part}", chunk) for part, chunk in last.items()}
    touched.add(("vocabulary/slots", int(changed)))
    chunks = {
        (f"vocabulary/{part}", chunk)
        for part in PARTS
        for chunk in range(version.manifest.array(part).chunk_count)
    }
    assert set(version.linked) == chunks - touched
    assert set(version.checked) >= touched
    assert {name for name, _ in set(version.checked) - touched} <= {"vocabulary/slots"}


@pytest.mark.parametrize("memory_bytes", [0, MEMORY_BYTES])
def test_odd_words(tmp_path, memory_bytes):
    for old in (ODD_WORDS[:3], ODD_WORDS[3:], ODD_WORDS[::2], ODD_WORDS[1::2]):
        every = [*old, *(word for word in ODD_WORDS if word not in old)]
        version = built(old)
        words = grown(version, tmp_path, replace=True, memory_bytes=memory_bytes)
        entered = words.enter(every, len(every))
        assert entered.ids.tolist() == list(range(len(every)))
        assert int(entered.is_known.sum()) == len(old)
        check_equals_a_build(finish(version, words), every, ["x", "cafe"])


@pytest.mark.parametrize("bits", [0, 1, 12, 40, 63])
def test_colliding_hashes(tmp_path, monkeypatch, bits):
    """All words have one hash, or hashes that differ in one bit."""
    patch_hash(monkeypatch, lambda word: (len(word) % 2 << bits) if bits else 0)
    every = ["a" * length for length in range(60)]
    version = built(every[:20])
    for start in (20, 40):
        words = grown(version, tmp_path, replace=True)
        entered = words.enter(every[start - 20 : start + 20], 40)
        assert entered.ids.tolist() == list(range(start - 20, start + 20))
        version = finish(version, words)
    assert version.vocabulary.ids(every).tolist() == list(range(60))
    assert version.vocabulary.ids(["b", "aab"]).tolist() == [-1, -1]


@pytest.mark.parametrize("memory_bytes", [0, MEMORY_BYTES])
def test_too_many_collisions_are_refused(tmp_path, monkeypatch, memory_bytes):
    patch_hash(monkeypatch, lambda word: 7)
    version = built(["a"])
    words = grown(version, tmp_path, memory_bytes=memory_bytes)
    words.enter([f"{number}" for number in range(1100)], 1100)
    with pytest.raises(ValueError, match="more than 1024 probes: the words' hashes collide"):
        words.write()
    words.close()


def test_searches_wrap_around_at_the_end_of_the_table(tmp_path, monkeypatch):
    patch_hash(monkeypatch, lambda word: 2**64 - 1)
    every = [f"{number}" for number in range(30)]
    version = built(every[:10])
    words = grown(version, tmp_path)
    words.enter(every[10:], 20)
    after = finish(version, words)
    assert after.vocabulary.ids(every).tolist() == list(range(30))
    assert np.flatnonzero(after.arrays[spec.WORD_SLOTS]).tolist() == [*range(29), 4095]


@pytest.mark.parametrize(
    ("batches", "options", "position", "number", "remedy"),
    [
        ([["new", "b"]], {}, 1, 1, "embstore.upsert"),
        ([["new", "b"]], {"on_duplicate": "first"}, 1, 1, "embstore.upsert"),
        ([["new", "more", "new"]], {}, 2, 2, "on_duplicate"),
        ([["new"], ["more", "new"]], {}, 1, 2, "on_duplicate"),
        ([["b"], ["new", "b"]], {"replace": True}, 1, 1, "on_duplicate"),
        ([["b", "b"]], {"replace": True}, 1, 1, "on_duplicate"),
        ([["new", "new", "b"]], {}, 1, 2, "on_duplicate"),
        ([["b", "new", "new"]], {}, 0, 1, "embstore.upsert"),
    ],
)
def test_repeated_words_are_refused(tmp_path, batches, options, position, number, remedy):
    words = grown(built(["a", "b"]), tmp_path, **options)
    *first, last = batches
    for batch in first:
        words.enter(batch, len(batch))
    with pytest.raises(DuplicateWordError, match=f"already has id {number}; .*{remedy}") as caught:
        words.enter(last, len(last))
    assert caught.value.position == position
    words.close()


@pytest.mark.parametrize(
    ("words", "count", "error", "problem"),
    [
        (None, 1, ValueError, "the rows of the store have words"),
        (["c"], 2, ValueError, "1 words for 2 rows"),
        (["c", 5], 2, TypeError, "words must be str, not int"),
        (["\ud800"], 1, UnicodeEncodeError, "surrogates"),
    ],
)
def test_wrong_words_are_refused(tmp_path, words, count, error, problem):
    with pytest.raises(error, match=problem):
        grown(built(["a"]), tmp_path).enter(words, count)


@pytest.mark.parametrize("part", [spec.WORD_BYTES, spec.WORD_OFFSETS])
def test_damaged_last_chunks_are_noticed_first(tmp_path, part):
    version = built(["a", "b"])
    version.damaged = {(f"vocabulary/{part}", 0)}
    with pytest.raises(StoreCorruptError, match=f"{part}/c/0 is damaged"):
        grown(version, tmp_path)


def test_damaged_slots_are_noticed_by_the_first_search(tmp_path):
    version = built(["a", "b"])
    version.damaged = {("vocabulary/slots", 0)}
    words = grown(version, tmp_path)
    with pytest.raises(StoreCorruptError, match="slots/c/0 is damaged"):
        words.enter(["c"], 1)


@pytest.mark.parametrize("part", [spec.WORD_BYTES, spec.WORD_OFFSETS])
def test_damage_does_not_make_a_word_new(tmp_path, part):
    """The damaged chunk is one that nothing else reads."""
    every = [f"word {number}" for number in range(30_000)]
    chunk_rows = {spec.WORD_BYTES: 1 << 16, spec.WORD_OFFSETS: 1 << 13, spec.WORD_SLOTS: 1 << 16}
    version = built(every, chunk_rows)
    version.arrays[part][100 if part == spec.WORD_OFFSETS else 1000] += 1
    version.damaged = {(f"vocabulary/{part}", 0)}
    words = grown(version, tmp_path)
    with pytest.raises(StoreCorruptError, match=f"{part}/c/0 is damaged"):
        words.enter([*every[:200], "new"], 201)


@pytest.mark.parametrize("part", [spec.WORD_BYTES, spec.WORD_OFFSETS])
def test_all_words_are_checked_before_they_are_hashed_again(tmp_path, part):
    every = [f"word {number}" for number in range(32_769)]
    chunk_rows = {spec.WORD_BYTES: 1 << 16, spec.WORD_OFFSETS: 1 << 13, spec.WORD_SLOTS: 1 << 16}
    version = built(every[:-1], chunk_rows)
    version.damaged = {(f"vocabulary/{part}", 1)}
    words = grown(version, tmp_path)
    words.enter([*every[-1:], *(f"new {number}" for number in range(32_769))], 32_770)
    with pytest.raises(StoreCorruptError, match=f"{part}/c/1 is damaged"):
        words.write()
    words.close()


def test_forged_arrays_are_refused(tmp_path):
    version = built(["a", "b"])
    version.arrays[spec.WORD_OFFSETS][-1] += 1
    with pytest.raises(StoreCorruptError, match="its words are the bytes 0 to 3, but 2 are stored"):
        grown(version, tmp_path)
    version = built(["a", "b"])
    slots = version.arrays[spec.WORD_SLOTS]
    slots[slots.argmax()] = 0
    words = grown(version, tmp_path)
    words.enter(["c"], 1)
    with pytest.raises(StoreCorruptError, match="its hash table has 1 entries for 2 words"):
        words.write()
    words.close()


def append_words(path: Path, new: list[str]) -> None:
    """Publish the next version of a store with one partition of scalars."""
    with closing(NextVersion(path, memory_bytes=1 << 24)) as version:
        old = version.manifest
        assert old.vocabulary is not None
        assert version.vocabulary is not None
        words = GrownVocabulary(
            version.vocabulary,
            old.vocabulary,
            version,
            memory_bytes=1 << 20,
            directory=version.directory,
            on_duplicate="error",
            replace=False,
        )
        words.enter(new, len(new))
        array, _ = version.array(spec.partition_name(0))
        version.grow_array(array).append(np.arange(old.rows, old.rows + len(new), dtype=np.int32))
        _, vocabulary = words.write()
        rows = old.rows + len(new)
        version.publish(replace(old, rows=rows, vocabulary=vocabulary, fingerprint=None))
        words.close()


@pytest.mark.parametrize(("old", "new"), [(10, 3), (1, 5000), (20_000, 100), (32_760, 100)])
def test_published_words(tmp_path, old, new):
    every = [f"the word {number}" for number in range(old + new)]
    path = tmp_path / "words.embstore"
    with embstore.StoreWriter(path, row_shape=(), dtype="int32") as writer:
        writer.write(np.arange(old, dtype=np.int32), every[:old])
    append_words(path, every[old:])
    assert embstore.verify(path).ok
    with embstore.open(path) as store:
        assert store.lookup_words(every).tolist() == list(range(old + new))
        assert "the word" not in store
