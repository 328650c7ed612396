"""The choice of a source: by the content of a path, or by what an object can do.

1. `embstore.sources.folders.folder` tells the format of a directory, by the names of its files.
2. The format of a file follows from its first bytes, whatever its name is;
   `embstore.sources.files.kinds` has the table.
3. ``format=`` overrules both.

A format that can be opened in place is read through `embstore.open`. Each format takes some
options; others are refused by name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embstore.attributes.values import given_values
from embstore.errors import SourceError
from embstore.formats import FORMATS, NPY, SAFETENSORS, STORE
from embstore.formats.options import AUTO, TABLE_OPTIONS
from embstore.sources import Limited
from embstore.sources.arrays.npy import open_npy, open_npz
from embstore.sources.arrow.source import open_arrow
from embstore.sources.files.input_file import InputFile, check_file
from embstore.sources.files.kinds import UNCLAIMED
from embstore.sources.files.piped import WRITE_FIRST, Pipe, as_pipe
from embstore.sources.folders.folder import FORMATS as FOLDER_FORMATS
from embstore.sources.folders.folder import format_of_folder
from embstore.sources.objects import open_object
from embstore.sources.opened import open_table
from embstore.sources.text.source import TextSource
from embstore.sources.word2vec_binary import Word2VecBinarySource
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import DTypeLike

    from embstore.sources import EncodingErrors, Format, Source
    from embstore.table.numbering import Strategy

_TEXT_FORMATS = ("text", "glove", "word2vec", "word2vec-binary")
# Without ``encoding``, which is that of the store to build.
_TABLE_OPTIONS = tuple(name for name in TABLE_OPTIONS if name != "encoding")
# The formats of which a stream is enough.
_STREAMED = (*_TEXT_FORMATS, NPY.name)


@dataclass(frozen=True, slots=True)
class _Reader:
    """The source of a format.

    Attributes
    ----------
    open : callable
        Makes a source from a path and options.
    options : tuple of str
        The options it takes, besides ``format`` and ``limit``.
    opens_in_place : bool
        Whether it reads through `embstore.open`, and decodes rows on demand.
    """

    open: Callable[..., Source]
    options: tuple[str, ...]
    opens_in_place: bool = False


_TEXT = _Reader(TextSource, ("member", "encoding_errors", "dimension", "words", "attributes"))
_READERS = {
    "glove": _TEXT,
    "word2vec": _TEXT,
    "text": _TEXT,
    "word2vec-binary": _Reader(Word2VecBinarySource, ("member", "encoding_errors")),
    "npz": _Reader(open_npz, ("member", "words", "attributes")),
    # The formats that open in place; some .npy files do not.
    **{
        format.name: _Reader(
            partial(open_table, format),
            (
                *(name for name in format.options if name in _TABLE_OPTIONS),
                *(("attributes",) if "tensor" in format.options else ()),
                "words",
            ),
            opens_in_place=True,
        )
        for format in FORMATS
    },
    STORE.name: _Reader(partial(open_table, STORE), ("attributes",), opens_in_place=True),
    "npy": _Reader(open_npy, ("member", "words")),
    **{
        format: _Reader(
            partial(open_arrow, folder_format=format), ("column", "word_column", "attributes")
        )
        for format in ("parquet", "arrow")
    },
}
_OBJECTS = _Reader(
    open_object, ("words", "partition_strategy", "column", "word_column", "attributes")
)


def open_source(
    source: Any,
    *,
    dtype: DTypeLike | None = None,
    format: Format = "auto",
    limit: int | None = None,
    words: str | os.PathLike[str] | Iterable[str] | None = None,
    member: str | None = None,
    tensor: str | None = None,
    scale: str | None = AUTO,
    scale_block: tuple[int, int] | None = None,
    zero_point: str | None = None,
    column: str | None = None,
    word_column: str | None = None,
    dimension: int | None = None,
    encoding_errors: EncodingErrors | None = None,
    partition_strategy: Strategy | None = None,
    encoding: str | None = None,
    attributes: tuple[str, ...] | None = None,
) -> Source:
    """Return the source that reads a path or an object.

    The parameters are those of `embstore.build`, which checks them; None means not given. ``dtype``
    is that of the store; the numbers of text are parsed as this dtype. Of rows
    that are encoded, the source has the records, unless ``encoding`` names another one.
    ``attributes`` names the columns of the source to take as attributes.

    Raises
    ------
    SourceError
        If the file does not exist, its format is not known, or it does not take an option.
    TypeError
        If objects of this type cannot be read.
    """
    options = {
        "words": words,
        "member": member,
        "tensor": tensor,
        "scale_block": scale_block,
        "zero_point": zero_point,
        "column": column,
        "word_column": word_column,
        "dimension": dimension,
        "encoding_errors": encoding_errors,
        "partition_strategy": partition_strategy,
        "attributes": attributes,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if scale != AUTO:
        given["scale"] = scale
    pipe = as_pipe(source)
    if pipe is None and not isinstance(source, str | os.PathLike):
        return _open_given(source, format, limit, encoding, given)
    path = pipe or Path(source)
    if isinstance(path, Path) and path.is_dir():
        found = format_of_folder(path) if format == "auto" else format
        if found not in FOLDER_FORMATS:
            raise SourceError(f"{path} is not a file, as {option('format', format)} needs")
    else:
        found = _format_of_file(path, format, given.get("member"))
    reader = _READERS[found]
    _check_options(f"{path}, read as {found},", reader, given)
    if reader is _TEXT:
        if format != "auto":
            given["format"] = format
        if dtype is not None:
            given["dtype"] = dtype
        return TextSource(path, limit=limit, **given)
    if reader.opens_in_place:
        given["encoding"] = encoding
    return _limited(reader.open(path, **given), limit)


def _open_given(
    source: Any, format: str, limit: int | None, encoding: str | None, given: dict[str, Any]
) -> Source:
    """Return the source that reads an object."""
    if format != "auto":
        raise SourceError(f"format={format!r} goes with a path, not {type(source).__name__}")
    _check_options(f"a {type(source).__name__}", _OBJECTS, given)
    return _limited(open_object(source, limit=limit, encoding=encoding, **given), limit)


def _limited(source: Source, limit: int | None) -> Source:
    return source if limit is None else Limited(source, limit)


def _check_options(what: str, reader: _Reader, given: dict[str, Any]) -> None:
    unfit = [name for name in given if name not in reader.options]
    if "attributes" in unfit:
        names = given.pop("attributes")
        if names:
            raise SourceError(
                f"{what} has no columns by name; pass the values: {given_values(names[0])}"
            )
        unfit.remove("attributes")
    if unfit:
        listing = ", ".join(map(option, (*reader.options, "limit")))
        raise SourceError(f"{what} does not take {option(unfit[0])}; it takes {listing}")


def _format_of_file(path: Path | Pipe, format: str, member: str | None) -> str:
    """Return the format of a file; "text" for one of the text formats."""
    if isinstance(path, Path):
        check_file(path)
    if format == SAFETENSORS.name and SAFETENSORS.matches(b"", path.name):
        return format
    # Where a format is given, its reader says what is wrong with bytes that nothing else claims.
    file = InputFile(path, member, takes=() if format == "auto" else UNCLAIMED)
    found = file.kind.name
    if format in _TEXT_FORMATS and found not in _TEXT_FORMATS:
        raise SourceError(
            f"{file.name} is {file.kind.what}, not {format}; leave out {option('format')}"
        )
    if format != "auto":
        found = format
    if file.piped and found not in _STREAMED:
        raise SourceError(f"{file.name} is {file.kind.what}, not read in order; {WRITE_FIRST}")
    if file.packed and found not in _STREAMED:
        raise SourceError(
            f"{file.name} is {file.kind.what}, compressed or in an archive; extract it first"
        )
    return found
