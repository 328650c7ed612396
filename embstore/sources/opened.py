"""Rows of a path that `embstore.open` opens: a store, or a foreign file read in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import SourceError, StoreError, StoreNotFoundError
from embstore.formats import SAFETENSORS, STORE, find_format
from embstore.formats.safetensors.describe import locate, main_file
from embstore.opening import open as open_store
from embstore.reading.files import files_at
from embstore.sources.arrays.source import ArraySource
from embstore.sources.store import StoreSource, kept_encoding
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.formats import Format
    from embstore.opener import ReaderName
    from embstore.sources import Source
    from embstore.sources.words.word_list import Words
    from embstore.store import EmbeddingStore

# Rows are read once, in order, so few of their pages have to stay mapped.
RESIDENT_LIMIT = 64 << 20


def open_table(
    format: Format,
    path: Path,
    *,
    tensor: str | None = None,
    words: Words | None = None,
    encoding: str | None = None,
    attributes: Sequence[str] | None = None,
    **beside: Any,
) -> Source:
    """Return the rows of a path that can be opened.

    Parameters
    ----------
    format : Format
        The format of the path.
    path : Path
        A path that `embstore.open` opens.
    tensor : str, optional
        The tensor of a safetensors file that has several.
    words : str, Path, or iterable of str, optional
        The words of the rows of a foreign file.
    encoding : str, optional
        The encoding that is wanted; by default that of the table.
    attributes : sequence of str, optional
        The attributes of a store to keep, by default all; or the names of one-dimensional tensors.
    beside : optional
        The options of `embstore.open` for the scales and zero points of the tensor.

    Raises
    ------
    SourceError
        If it cannot be opened.
    """
    if format is STORE and words is not None:
        raise SourceError(
            f"{path} is a store, which has its own words; leave out {option('words')}"
        )
    try:
        name = path.name
        # Of a damaged file with a name of the format, its reader says more.
        if path.is_file() and not any(map(path.match, format.patterns)):
            found = find_format(*files_at(path))
            if found is None or found[0] is not format:
                raise _other_format(format, path)
        if format is SAFETENSORS:
            name = _tensor_name(path, tensor)
        # A foreign file is read, not mapped: if it is cut meanwhile, that is an error then, and not
        # the end of the process.
        reader: ReaderName = "auto" if format is STORE else "chunked"
        limit = RESIDENT_LIMIT if format is STORE else None
        store = open_store(path, tensor=tensor, reader=reader, resident_limit=limit, **beside)
    except StoreNotFoundError as error:
        is_file = path.is_file() and path.stat().st_size > 0
        raise _other_format(format, path) if is_file else SourceError(str(error)) from error
    except StoreError as error:
        raise SourceError(str(error)) from error
    if format is STORE:
        return StoreSource(store, encoding=encoding, attributes=attributes)
    kept = kept_encoding(store, encoding)
    columns = {name: _open_column(format, path, name) for name in attributes or ()}
    source = ArraySource(
        str(path.with_name(name)),
        [_Rows(store, raw=kept is not None)],
        words=words,
        origin=store.source | {"file": name},
        attributes=columns,
        record_bytes=store.record_bytes,
    )
    source.encoding = kept
    return source


def _other_format(format: Format, path: Path) -> SourceError:
    return SourceError(
        f"{path} is not {format.what}; leave out {option('format')} to have it told by the content"
    )


def _open_column(format: Format, path: Path, name: str) -> _Rows:
    """Return a tensor of one axis as the values of an attribute."""
    options: dict[str, Any] = {"scale": None} if "scale" in format.options else {}
    try:
        return _Rows(open_store(path, tensor=name, reader="chunked", **options), raw=False)
    except StoreError as error:
        raise SourceError(str(error)) from error


class _Rows:
    """An open foreign file that slices like an array, of rows or of their records."""

    def __init__(self, store: EmbeddingStore, *, raw: bool) -> None:
        self.shape = (store.rows, store.record_bytes) if raw else store.shape
        self.dtype = np.dtype(np.uint8) if raw else store.dtype
        self._store, self._raw = store, raw

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(self.shape[0])
        blocks: dict[int, NDArray[Any]] = {}

        def keep(ids: range, some: NDArray[Any]) -> None:
            blocks[ids.start] = some

        try:
            self._store.scan(keep, start, stop, raw=self._raw)
        except StoreError as error:  # The file has changed.
            raise SourceError(str(error)) from error
        if len(blocks) == 1:
            return blocks[start]
        empty = np.empty((0, *self.shape[1:]), self.dtype)
        return np.concatenate([empty, *(blocks[first] for first in sorted(blocks))])


def _tensor_name(path: Path, tensor: str | None) -> str:
    """Return the name of a tensor's file, and its own in brackets."""
    files, name = files_at(path)
    file, found = locate(files, name or main_file(files), tensor)
    return f"{file or path.name}[{found}]"
