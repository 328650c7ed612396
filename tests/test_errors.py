"""Errors: whole after a copy, and when they come from another process."""

from __future__ import annotations

import copy
import functools
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore import errors
from tests.helpers.stores import make_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CLASSES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.EmbstoreError)
]
MADE: dict[type, Callable[[], BaseException]] = {
    errors.RowError: lambda: errors.RowError("it is nan", 3),
    errors.DuplicateWordError: lambda: errors.DuplicateWordError("naïve 🙂", 2**40, 7),
    errors.MissingWordError: lambda: errors.MissingWordError(
        "2 words are missing", ["a", "\ud800"], lambda: "; did you mean 'b'?"
    ),
    errors.StoreMappingError: lambda: errors.StoreMappingError(24, "Too many open files", "/a/b"),
}
WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "old pickle": lambda error: pickle.loads(pickle.dumps(error, protocol=2)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "twice": lambda error: copy.copy(pickle.loads(pickle.dumps(error))),
}


def same(found: BaseException, expected: BaseException) -> None:
    assert type(found) is type(expected)
    assert str(found) == str(expected)
    assert found.args == expected.args
    assert vars(found) == vars(expected)


def test_all_errors_are_found():
    assert len(CLASSES) > 18
    assert {kind.__name__ for kind in CLASSES} <= set(embstore.__all__)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_copies_are_whole(kind, way):
    error = MADE[kind]() if kind in MADE else kind("id 12 of 3\nis wrong: 'é'")
    error.add_note("while it was read")
    found = WAYS[way](error)
    same(found, error)
    assert found.__notes__ == ["while it was read"]
    for base in kind.__mro__:
        assert isinstance(found, base)


@pytest.mark.parametrize("way", WAYS)
def test_message_is_whole_where_the_text_was_never_shown(way):
    found = WAYS[way](MADE[errors.MissingWordError]())
    assert str(found) == "2 words are missing; did you mean 'b'?"
    assert found.words == ("a", "\ud800")


def test_attributes_of_a_system_error():
    error = MADE[errors.StoreMappingError]()
    for way in WAYS.values():
        found = way(error)
        assert (found.errno, found.strerror, found.filename) == (24, "Too many open files", "/a/b")


# --- raised in another process ---


def write(path: Path, table: Any, words: Any, **options: Any) -> None:
    with embstore.StoreWriter(path, row_shape=(4,), dtype="float32", **options) as writer:
        writer.write(table, words)


def corrupt(path: Path) -> None:
    (path / "partitions/0/c/0/0").write_bytes(b"short")
    embstore.open(path)


def export_words(path: Path) -> None:
    with embstore.open(path) as store:
        embstore.export(store, path.with_suffix(".txt"), format="glove")


def use_closed(path: Path) -> None:
    store = embstore.open(path)
    store.close()
    store.lookup([0])


CALLS: dict[str, Callable[[Path], Any]] = {
    "IdRangeError": lambda path: embstore.open(path).lookup([[1, 2], [3, 999]]),
    "IdTypeError": lambda path: embstore.open(path).lookup([True]),
    "MissingWordError": lambda path: embstore.open(path).lookup_words(["w1", "lik", "zzz"]),
    "RowError": lambda path: write(path.parent / "u", [[1, 2, 3, 4], [1, 1e300, 0, 0]], ["a", "b"]),
    "DuplicateWordError": lambda path: write(path.parent / "u", np.zeros((3, 4)), ["a", "b", "a"]),
    "SourceError": lambda path: write(path.parent / "u", np.zeros((3, 4)), None, rows=7),
    "ExportError": export_words,
    "PartitionSizeError": lambda path: embstore.embedding_lookup(
        [np.zeros((1, 2)), np.zeros((5, 2))], [0]
    ),
    "StoreNotFoundError": lambda path: embstore.open(path / "missing"),
    "StoreExistsError": lambda path: write(path, np.zeros((3, 4)), None),
    "StoreClosedError": use_closed,
    "FormatError": lambda path: embstore.open(path, tensor="x"),
    "StoreCorruptError": corrupt,
}


def run(name: str, path: Path) -> Any:
    return CALLS[name](path)


def test_errors_arrive_whole_from_a_process_pool(tmp_path):
    table = np.arange(40, dtype=np.float32).reshape(10, 4)
    words = ["like", "a\nb", *(f"w{number}" for number in range(8))]
    found: dict[str, Any] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        for name in CALLS:
            path = tmp_path / name / "t"
            path.parent.mkdir()
            make_store(path, table, words).close()
            error = pool.submit(functools.partial(run, name, path)).exception(timeout=120)
            assert type(error).__name__ == name, error
            make_store(path, table, words, overwrite=True).close()
            with pytest.raises(getattr(embstore, name)) as here:
                run(name, path)
            assert str(error) == str(here.value)
            assert vars(error) == vars(here.value)
            found[name] = error
    assert "did you mean 'like' for 'lik'" in str(found["MissingWordError"])
    assert found["MissingWordError"].words == ("lik", "zzz")
    assert found["RowError"].position == 1
    assert found["DuplicateWordError"].position == 2
