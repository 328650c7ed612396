"""Stores beside files: a file of vectors is built into a store once, and the store is opened.

``vectors.bin`` becomes ``vectors.bin.embstore``. As long as the store is newer than the file, and
was built of as many bytes with the same options, it is opened instead. Of several processes that
come at once, one builds, and the others wait for it.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.build import build
from embstore.errors import EmbstoreError, SourceError, StoreBusyError
from embstore.interop.gensim.expandos import COUNT
from embstore.interop.gensim.named_files import open_text
from embstore.opening import open as open_store
from embstore.sources.choose import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.sources import Format
    from embstore.store import EmbeddingStore

STORE_SUFFIX = ".embstore"
# While another process builds.
WAIT_SECONDS = 0.1
_OPTIONS = ("format", "limit", "encoding_errors")
# What a file is by its format, and how to say so. Short text may be read as binary, too.
_KINDS: dict[Format, tuple[str, str]] = {
    "word2vec": ("text with a header", "leave out binary and no_header"),
    "glove": ("text without a header", "pass no_header=True, without binary"),
    "word2vec-binary": ("in word2vec's binary format", "pass binary=True, without no_header"),
}
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


def of_saved(path: Path) -> EmbeddingStore:
    """Open the store of what gensim's ``save`` wrote, or build it; see `FileMethods.load`."""
    return _when_free(path, lambda: _newest(path, {}) or _build_saved(path))


def of_vectors(
    path: Path, dtype: np.dtype[Any], options: Mapping[str, Any], counts: Mapping[str, int] | None
) -> EmbeddingStore:
    """Open the store of a file in word2vec's format, or build it.

    Parameters
    ----------
    path : Path
        The file.
    dtype : numpy.dtype
        Dtype of the stored numbers.
    options : mapping
        Of `embstore.build`: those in ``_OPTIONS`` that are given.
    counts : mapping of str to int, optional
        The counts of words, 0 for others.

    Raises
    ------
    SourceError, PermissionError, UnicodeDecodeError
        See `FileMethods.load_word2vec_format`.
    """
    return _when_free(path, lambda: _open_or_build(path, dtype, options, counts))


def read_counts(path: Path, errors: str) -> dict[str, int]:
    """Return the counts of words, a word and a number a line.

    Raises
    ------
    SourceError
        If a line is something else.
    UnicodeDecodeError
        If the file is not UTF-8, under ``"strict"``.
    """
    counts = {}
    with open_text(path, errors=errors) as file:
        for number, line in enumerate(file, 1):
            try:
                word, count = line.rsplit(maxsplit=1)
                counts[word] = int(count)
            except ValueError as error:
                raise SourceError(
                    f"{path}:{number}: expected a word and its count, found {line[:40]!r}"
                ) from error
    return counts


def _open_or_build(
    path: Path, dtype: np.dtype[Any], options: Mapping[str, Any], counts: Mapping[str, int] | None
) -> EmbeddingStore:
    store = _newest(path, options)
    if store is not None and store.dtype != dtype:
        store.close()
        store = None
    if store is None:
        try:
            store = build(path, _beside(path), dtype=dtype, overwrite=True, **options)
        except SourceError as error:
            _check_kind(path, options["format"], error)
            raise
    if counts is None:
        if COUNT not in store.attributes:
            return store
        return build(store, _beside(path), attributes=[], overwrite=True)
    words = store.vocabulary.listed(0, len(store))
    values = np.array([counts.get(word, 0) for word in words], np.int64)
    if COUNT in store.attributes and np.array_equal(store.attributes[COUNT], values):
        return store
    return build(store, _beside(path), attributes={COUNT: values}, overwrite=True)


def _check_kind(path: Path, given: Format, error: SourceError) -> None:
    """Raise SourceError if a file that cannot be read as given is of another kind."""
    if isinstance(error.__cause__, UnicodeDecodeError):
        return
    kind = next((kind for kind in _KINDS if _reads(path, kind)), given)
    if kind != given:  # Else some later row is wrong.
        what, arguments = _KINDS[kind]
        raise SourceError(f"{path} is {what}, not {_KINDS[given][0]}; {arguments}") from error


def _reads(path: Path, kind: Format) -> bool:
    """Say whether the first row of a file can be read in a format."""
    try:
        return next(iter(open_source(path, format=kind, limit=1).batches()), None) is not None
    except (EmbstoreError, ValueError):
        return False


def _build_saved(path: Path) -> EmbeddingStore:
    try:
        from gensim.models import KeyedVectors  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            f"{path} is a file; if gensim saved it, install gensim to load it once; for a file "
            "of vectors use load_word2vec_format or embstore.build"
        ) from error
    # gensim does not map arrays of compressed files.
    mmap = None if path.suffix in (".gz", ".bz2") else "r"
    loaded = KeyedVectors.load(os.fspath(path), mmap=mmap)
    vectors = getattr(loaded, "wv", loaded)
    # Of a model with hierarchical softmax, some are lists for each word, for training.
    names = [name for name, values in vectors.expandos.items() if _is_column(values)]
    return build(vectors, _beside(path), attributes=names, overwrite=True)


def _is_column(values: NDArray[Any]) -> bool:
    """Return whether these are numbers or str."""
    return values.dtype.kind in "iuf" or all(isinstance(value, str) for value in values)


def _when_free(path: Path, step: Callable[[], EmbeddingStore]) -> EmbeddingStore:
    """Open or build the store beside a file; begin again when another process has built it."""
    while True:
        try:
            return step()
        except StoreBusyError:
            time.sleep(WAIT_SECONDS)
        except SourceError as error:
            found = error.__cause__
            if not isinstance(found, UnicodeDecodeError):
                raise
            reason = str(error).replace("encoding_errors", "unicode_errors")
            raise UnicodeDecodeError(
                found.encoding, found.object, found.start, found.end, reason
            ) from error
        except OSError as error:
            if error.errno not in _NOT_WRITABLE or not os.access(path, os.R_OK):
                raise
            raise PermissionError(
                f"{error}; no store can be made beside {path}: make it elsewhere with "
                "embstore.build(file, store), and open it with KeyedVectors.load(store)"
            ) from error


def _beside(path: Path) -> Path:
    return path.with_name(path.name + STORE_SUFFIX)


def _newest(path: Path, options: Mapping[str, Any]) -> EmbeddingStore | None:
    """Open the store beside a file, if it is newer, and was built with the options, if any."""
    beside = _beside(path)
    root = beside / "zarr.json"
    if not root.exists() or root.stat().st_mtime_ns <= path.stat().st_mtime_ns:
        return None
    store = open_store(beside)
    # Attributes were added to a store of the file: its facts are the first.
    facts = (store.source.get("origins") or [store.source])[0]
    if not options:
        return store
    # A file of another time may have come to its place, with that time.
    is_same = facts.get("bytes") == path.stat().st_size
    if is_same and all(facts.get(name) == options.get(name) for name in _OPTIONS):
        return store
    store.close()
    return None
