"""The choice of a source: by the content of a path, or by what an object can do.

1. The format of a directory follows from the names of its files.
2. The format of a file follows from its first bytes, whatever its suffix; a file that matches no
   other format is text.
3. ``format=`` overrules both.

A format that can be opened in place is read through `embstore.open`. Each format takes some
options; others are refused by name.
"""

from __future__ import annotations

import codecs
import os
import re
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embstore.errors import SourceError
from embstore.formats import FORMATS, NPY, SAFETENSORS, STORE
from embstore.formats.npy import addresses_rows
from embstore.sources import Limited
from embstore.sources.arrow import IPC_MAGIC, PARQUET_MAGIC, open_arrow
from embstore.sources.files import COMPRESSED_SUFFIXES, InputFile
from embstore.sources.npy import open_npy, open_npz
from embstore.sources.numerals import is_number
from embstore.sources.objects import open_object
from embstore.sources.opened import open_table
from embstore.sources.text import TextSource
from embstore.sources.word2vec_binary import Word2VecBinarySource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import DTypeLike

    from embstore.sources import EncodingErrors, Format, Source
    from embstore.sources.word_list import Words
    from embstore.table.numbering import Strategy

_LOOKED_AT_BYTES = 64 << 10
_BINARY_HEADER = re.compile(rb"\d{1,18}[ \t]+(\d{1,9})[ \t\r]*\n")
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\r\n")
_PICKLE = (
    "a pickle, which could run any code when it is loaded; load it with the library that wrote it "
    "(gensim, torch) and pass the object"
)
# The first bytes of files that are not read, with the file's kind and the remedy.
_NOT_READ = {
    (793712314).to_bytes(4, "little"): "a fastText model; use the .vec file that fastText writes "
    "beside it",
    b"\x89HDF": "an HDF5 file; open it with h5py and pass the data set",
    **{b"\x80" + bytes([protocol]): _PICKLE for protocol in range(2, 6)},
}


@dataclass(frozen=True, slots=True)
class _Reader:
    """The source of a format.

    Attributes
    ----------
    open : callable
        Makes a source from a path and options.
    options : tuple of str
        The options it takes, besides ``format`` and ``limit``.
    """

    open: Callable[..., Source]
    options: tuple[str, ...]


def _open_npy(path: Path, *, words: Words | None = None) -> Source:
    """Return the rows of a ``.npy``, opened in place if possible, or of a directory of them."""
    if path.is_file() and addresses_rows(path):
        return open_table(NPY, path, words=words)
    return open_npy(path, words=words)


_TEXT = _Reader(TextSource, ("member", "encoding_errors", "dimension", "words"))
_ARROW = _Reader(open_arrow, ("column", "word_column"))
_READERS = {
    "glove": _TEXT,
    "word2vec": _TEXT,
    "text": _TEXT,
    "word2vec-binary": _Reader(Word2VecBinarySource, ("member", "encoding_errors")),
    "npz": _Reader(open_npz, ("member", "words")),
    # The formats that open in place; some .npy files do not.
    **{
        format.name: _Reader(
            partial(open_table, format),
            format.options if format is STORE else (*format.options, "words"),
        )
        for format in FORMATS
    },
    "npy": _Reader(_open_npy, ("words",)),
    "parquet": _ARROW,
    "arrow": _ARROW,
}
_OBJECTS = _Reader(open_object, ("words", "partition_strategy"))
_IN_DIRECTORIES = {
    **{format.name: format.patterns for format in FORMATS},
    "parquet": ("*.parquet",),
    "arrow": ("*.arrow", "*.arrows", "*.feather", "*.ipc"),
}


def open_source(
    source: Any,
    *,
    dtype: DTypeLike | None = None,
    format: Format = "auto",
    limit: int | None = None,
    words: str | os.PathLike[str] | Iterable[str] | None = None,
    member: str | None = None,
    tensor: str | None = None,
    column: str | None = None,
    word_column: str | None = None,
    dimension: int | None = None,
    encoding_errors: EncodingErrors | None = None,
    partition_strategy: Strategy | None = None,
) -> Source:
    """Return the source that reads a path or an object.

    The parameters are those of `embstore.build`, which checks them; None means not given. ``dtype``
    is that of the store; the numbers of text are parsed as this dtype.

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
        "column": column,
        "word_column": word_column,
        "dimension": dimension,
        "encoding_errors": encoding_errors,
        "partition_strategy": partition_strategy,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if not isinstance(source, str | os.PathLike):
        if format != "auto":
            raise SourceError(f"format={format!r} goes with a path, not {type(source).__name__}")
        _check_options(f"a {type(source).__name__}", _OBJECTS, given)
        return _limited(open_object(source, limit=limit, **given), limit)
    path = Path(source)
    if not path.exists():
        raise SourceError(f"no such file: {path}")
    if path.is_dir():
        found = _format_of_directory(path) if format == "auto" else format
        if found not in _IN_DIRECTORIES:
            raise SourceError(f"{path} is not a file, as format={format!r} needs")
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
    return _limited(reader.open(path, **given), limit)


def _limited(source: Source, limit: int | None) -> Source:
    return source if limit is None else Limited(source, limit)


def _check_options(what: str, reader: _Reader, given: dict[str, Any]) -> None:
    unfit = [name for name in given if name not in reader.options]
    if unfit:
        listing = ", ".join(f"{name}=" for name in (*reader.options, "limit"))
        raise SourceError(f"{what} does not take {unfit[0]}=; it takes {listing}")


def _format_of_directory(path: Path) -> str:
    found = [
        format
        for format, patterns in _IN_DIRECTORIES.items()
        if any(next(path.glob(pattern), None) for pattern in patterns)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise SourceError(
            f"{path} is not a file, nor a directory of .npy, .safetensors, .parquet or .arrow files"
        )
    raise SourceError(f"{path} has files of several formats: {', '.join(found)}; give format=")


def _format_of_file(path: Path, format: str, member: str | None) -> str:
    """Return the format of a file; "text" for one of the text formats."""
    if SAFETENSORS.matches(b"", path.name) and format in ("auto", SAFETENSORS.name):
        return SAFETENSORS.name
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if is_zip and path.suffix.lower() != ".zip":
        return _format_of_archive(path, format)
    if format == "npz":
        return format
    input_file = InputFile(path, member)
    with input_file.open() as stream:
        start = stream.read(_LOOKED_AT_BYTES)
    for magic, what in _NOT_READ.items():
        if start.startswith(magic):
            raise SourceError(f"{path} is {what}")
    found = _format_of_bytes(start, path) if format == "auto" else format
    binary = found not in ("text", "glove", "word2vec", "word2vec-binary")
    if binary and input_file.suffix in COMPRESSED_SUFFIXES:
        raise SourceError(f"{path} is a compressed {found} file; decompress it first")
    return found


def _format_of_archive(path: Path, format: str) -> str:
    """Return the format of a zip archive whose name does not end in ``.zip``."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "npz"  # Its reader reports the problem.
    if any(name.endswith(".pkl") for name in names):
        raise SourceError(f"{path} is {_PICKLE}")
    if format not in ("auto", "npz") or not any(name.endswith(".npy") for name in names):
        raise SourceError(
            f"{path} is a zip archive; if it holds a text file, let its name end in .zip"
        )
    return "npz"


def _format_of_bytes(start: bytes, path: Path) -> str:
    """Return the format of a file with these first bytes."""
    if start.startswith(PARQUET_MAGIC):
        return "parquet"
    if start.startswith((IPC_MAGIC, b"\xff\xff\xff\xff")):
        return "arrow"
    for format in FORMATS:
        if format.matches(start, path.name):
            return format.name
    return "word2vec-binary" if _is_word2vec_binary(start, path) else "text"


def _is_word2vec_binary(start: bytes, path: Path) -> bool:
    """Return whether bytes, and not digits, follow the header and the first word."""
    header = _BINARY_HEADER.match(start)
    if header is None:
        return False
    _, space, rest = start[header.end() :].partition(b" ")
    vector = rest[: int(header[1]) * 4]
    if not space or not vector:
        return False
    if not _CONTROLS.isdisjoint(vector):
        return True
    try:
        codecs.getincrementaldecoder("utf-8")().decode(vector)
    except UnicodeDecodeError:
        return True
    # All of it could be text, as by chance a few float32 can; then numbers make it text.
    line = start[header.end() :].partition(b"\n")[0]
    return ".bin" in path.suffixes and not all(map(is_number, line.split()[1:]))
