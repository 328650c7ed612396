"""Words in columns of pandas, polars and Arrow, and in NumPy's string arrays, as keys."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.interop.keyedvectors import KeyedVectors

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
WORDS = ["the", "king", "of", "caf\u00e9", "", "route 66"]
ASKED = ["king", "caf\u00e9", "the"]
IDS = [1, 3, 0]


@pytest.fixture
def store(tmp_path):
    with embstore.StoreWriter(tmp_path / "t", row_shape=(4,), dtype="float32") as writer:
        writer.write(TABLE, WORDS)
    return embstore.open(tmp_path / "t")


def pandas(words: list[Any]) -> dict[str, Callable[[], Any]]:
    pd, pa = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    return {
        "series": lambda: pd.Series(words),
        "series of objects": lambda: pd.Series(words, dtype=object),
        "series of string": lambda: pd.Series(words, dtype="string"),
        "series of arrow": lambda: pd.Series(words, dtype=pd.ArrowDtype(pa.string())),
        "categories": lambda: pd.Series(words, dtype="category"),
        "labelled series": lambda: pd.Series(words, index=range(len(words) - 1, -1, -1)),
        "index": lambda: pd.Index(words),
        "categories of an index": lambda: pd.CategoricalIndex(words),
        "array": lambda: pd.array(words, dtype="string"),
    }


def polars(words: list[Any]) -> dict[str, Callable[[], Any]]:
    pl = pytest.importorskip("polars")
    return {
        "series": lambda: pl.Series(words),
        "categories": lambda: pl.Series(words, dtype=pl.Categorical),
        "enum": lambda: pl.Series(words, dtype=pl.Enum(sorted({w for w in words if w}))),
    }


def arrow(words: list[Any]) -> dict[str, Callable[[], Any]]:
    pa = pytest.importorskip("pyarrow")
    array = pa.array(words, pa.string())
    ends = pa.array(range(1, len(words) + 1), pa.int32())
    return {
        "array": lambda: array,
        "large": lambda: array.cast(pa.large_string()),
        "view": lambda: array.cast(pa.string_view()),
        "dictionary": array.dictionary_encode,
        "runs": lambda: pa.RunEndEncodedArray.from_arrays(ends, array),
        "chunks": lambda: pa.chunked_array([array[:1], array[1:]]),
        "chunks of dictionaries": lambda: pa.chunked_array([array]).dictionary_encode(),
        "list of scalars": lambda: list(array),
    }


def numpy(words: list[Any]) -> dict[str, Callable[[], Any]]:
    return {
        "fixed": lambda: np.array(words),
        "objects": lambda: np.array(words, object),
        "variable": lambda: np.array(words, np.dtypes.StringDType()),
        "list of str_": lambda: list(map(np.str_, words)),
        "deque": lambda: collections.deque(words),
        "user list": lambda: collections.UserList(words),
    }


LIBRARIES = {
    "pandas": (
        pandas,
        *("series", "series of objects", "series of string", "series of arrow", "categories"),
        *("labelled series", "index", "categories of an index", "array"),
    ),
    "polars": (polars, "series", "categories", "enum"),
    "arrow": (
        arrow,
        *("array", "large", "view", "dictionary", "runs", "chunks", "chunks of dictionaries"),
        "list of scalars",
    ),
    "numpy": (numpy, "fixed", "objects", "variable", "list of str_", "deque", "user list"),
}
COLUMNS: list[Any] = [
    pytest.param(make, name, id=f"{library} {name}")
    for library, (make, *names) in LIBRARIES.items()
    for name in names
]


@pytest.mark.parametrize(("make", "name"), COLUMNS)
def test_columns_of_words(store, make, name):
    words = make(ASKED)[name]()
    assert store.ids(words).tolist() == IDS
    for found in (
        store[words],
        store.lookup_words(words),
        store.lookup_words(words, missing="zeros"),
    ):
        assert np.array_equal(found, TABLE[IDS])
    assert np.array_equal(store[words, 1:3], TABLE[IDS, 1:3])
    if not isinstance(words, list):
        assert np.array_equal(store[[words, words]], TABLE[[IDS, IDS]])


@pytest.mark.parametrize(("make", "name"), COLUMNS)
def test_missing_words_in_columns(store, make, name):
    words = make(["king", "absent", "the"])[name]()
    with pytest.raises(embstore.MissingWordError, match="the word 'absent' is not in the store"):
        store[words]
    assert store.ids(words, missing="none").tolist() == [1, -1, 0]
    assert not store.lookup_words(words, missing="zeros")[1].any()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        column
        for column in COLUMNS
        if not set(column.values[1].split()) & {"str_", "fixed", "variable"}
    ],
)
def test_nulls_are_not_words(store, make, name):
    words = make(["king", None, "the"])[name]()
    for call in (store.ids, store.lookup_words, store.__getitem__):
        with pytest.raises(TypeError, match="words must be str, not"):
            call(words)


@pytest.mark.parametrize(("make", "name"), COLUMNS)
def test_columns_of_keys(store, make, name):
    vectors, words = KeyedVectors(store), make(ASKED)[name]()
    if name == "list of scalars":
        words = make(ASKED)["array"]()
    assert np.array_equal(vectors[words], TABLE[IDS])
    assert vectors.most_similar(words, topn=2) == vectors.most_similar(ASKED, topn=2)
    weights = [1.0, 2.0, -1.0]
    found = vectors.get_mean_vector(words, weights)
    assert np.array_equal(found, vectors.get_mean_vector(ASKED, weights))
    assert vectors.n_similarity(words, words) == vectors.n_similarity(ASKED, ASKED)
    assert vectors.doesnt_match(words) == vectors.doesnt_match(ASKED)
    assert vectors.most_similar_to_given("of", words) == vectors.most_similar_to_given("of", ASKED)
    assert np.array_equal(vectors.distances("of", words), vectors.distances("of", ASKED))


def test_frames_of_words(store):
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    for frame in (pd.DataFrame, pl.DataFrame):
        words = frame({"a": ["the", "king"], "b": ["of", "the"]})
        assert np.array_equal(store[words], TABLE[[[0, 2], [1, 0]]])


def test_scalars_of_arrow(store):
    pa = pytest.importorskip("pyarrow")
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        word = pa.scalar("king", kind)
        assert np.array_equal(store[word], TABLE[1])
        assert store.ids(word) == 1
    assert np.array_equal(store[pa.scalar(3)], TABLE[3])
    # NumPy would take the bytes of a word for ids.
    for other in (pa.scalar("\x01\x02"), pa.py_buffer(b"\x01\x02"), bytearray(b"\x01\x02")):
        with pytest.raises(embstore.IdTypeError):
            store.lookup(other)


@pytest.mark.parametrize(
    "key",
    [
        *(np.array([b"king"]), [b"king"], b"king", {"king"}, {"king": 1}.keys(), iter(["king"])),
        *(np.array([1, "king"], object), [["king"], ["the", "of"]], [1, "king"]),
    ],
    ids=repr,
)
def test_other_keys_are_refused(store, key):
    for call in (store.__getitem__, store.ids, store.lookup_words):
        with pytest.raises(TypeError):
            call(key)


def test_columns_of_ids_are_ids(store):
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    pa, torch = pytest.importorskip("pyarrow"), pytest.importorskip("torch")
    for ids in (
        *(pd.Series(IDS), pd.Series(IDS, dtype=object), pd.Index(IDS), pl.Series(IDS)),
        *(pa.array(IDS), torch.tensor(IDS), np.array(IDS, object), np.array(IDS, np.uint8)),
    ):
        assert np.array_equal(store[ids], TABLE[IDS])
        assert np.array_equal(store[ids, 1], TABLE[IDS, 1])
    empty: Any
    for empty in ([], np.array([], object), pd.Series([], dtype=object), pa.array([], pa.int64())):
        assert store[empty].shape == (0, 4)
