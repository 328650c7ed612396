"""Export of a store to a file of vectors that other programs read.

1. The table is read in blocks of consecutive ids, so memory is bounded.
2. Blocks are cast if another dtype is asked for.
3. A function of `embstore.sinks` writes them to a hidden sibling of the target,
   ``.NAME.exporting-...``.
4. Its first rows are read back as a build would read them.
5. It is renamed to the target once it is on disk. An error removes it, and leaves what was at the
   target.
"""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import as_dtype
from embstore.encodings.casting import Caster
from embstore.errors import ExportError, RowError
from embstore.formats.options import AUTO
from embstore.formats.own.encoded import as_stored
from embstore.opening import open as open_store
from embstore.paths import as_local_path, as_path
from embstore.progress import OnProgress, Progress
from embstore.row_blocks import row_blocks, row_bytes
from embstore.settle import as_choice, as_flag
from embstore.sinks import SINKS, ExportFormat, TableFacts
from embstore.sinks.npy import write_words
from embstore.sinks.read_back import Head
from embstore.sinks.streamed import as_stream
from embstore.store import EmbeddingStore
from embstore.wording import function, option
from embstore.writing.disk import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import DTypeLike

    from embstore.row_blocks import RowBlock

_COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zip", ".zst")
# A store that is opened here is read only once, from start to end.
RESIDENT_LIMIT = 256 << 20


@dataclass(frozen=True, slots=True)
class ExportReport:
    """Result of `export`.

    Attributes
    ----------
    format : str
        The format of the file.
    rows : int
        Rows written.
    byte_count : int
        Size of the file, without the file of words.
    largest_cast_error : float
        The largest difference between a number and its cast to another dtype.
    attributes_left_out : tuple of str
        The attributes of the store that the format cannot hold.
    """

    format: ExportFormat
    rows: int
    byte_count: int
    largest_cast_error: float
    attributes_left_out: tuple[str, ...] = ()


def export(
    store: EmbeddingStore | str | os.PathLike[str],
    path: str | os.PathLike[str] | IO[bytes],
    *,
    tensor: str | None = None,
    scale: str | None = AUTO,
    scale_block: tuple[int, int] | None = None,
    encoding: str | None = None,
    zero_point: str | None = None,
    format: ExportFormat | None = None,
    dtype: DTypeLike | None = None,
    words: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> ExportReport:
    r"""Write a store to a file of vectors, rows in id order.

    Read back, the file gives the same words and the same numbers, bit for bit: text holds the
    shortest digits that do so. (Text does not hold the payload of a ``nan``.) Parquet has
    attributes as columns, which a build keeps; other formats do not have them. Memory is bounded.
    If an error occurs, nothing is left behind, and what was at ``path`` is unchanged.

    Parameters
    ----------
    store : EmbeddingStore, str or path-like
        The store, or its path, or that of a foreign file; see `embstore.open`.
    path : str, path-like or binary file
        The file to write; or an open one, such as ``sys.stdout.buffer``, which is written from its
        start to its end, and stays open.
    tensor : str, optional
        The tensor, where ``store`` is the path of a model that has several.
    scale : str, optional
        The tensor by which the numbers of a model's table are multiplied; ``"auto"`` takes one
        whose name tells that it belongs to the tensor, ``None`` means no scale; as for
        `embstore.open`.
    scale_block : tuple of two int, optional
        The rows, and the values of a row, that share a scale, where the shape of the scales fits
        several such blocks.
    encoding : str, optional
        The numbers that a model's tensor of bytes holds, as for `embstore.open`.
    zero_point : str, optional
        The tensor of zero points, which are subtracted before the numbers are scaled.
    format : {"glove", "word2vec", "word2vec-binary", "npy", "parquet", "safetensors"}, optional
        By default ``"word2vec"`` for ``.vec``, ``"word2vec-binary"`` for ``.bin``, ``"npy"`` for
        ``.npy``, ``"parquet"`` for ``.parquet``, and ``"safetensors"`` for ``.safetensors``. The
        last holds bfloat16 and float8, and encoded rows without decoding: the tensor ``weight``,
        and ``weight_scale`` beside it, which `embstore.open` finds. To open it again, codes of 4
        bits also need ``encoding=``, groups that do not divide a row evenly ``scale_block=``, and
        zero points ``zero_point="weight_zero_point"``.
    dtype : dtype, optional
        Dtype to cast the numbers to first, as when a store is built; by default that of the store.
        Encoded rows are decoded first.
        Text and word2vec-binary hold narrower floats as the equal float32 numbers.
    words : str or path-like, optional
        For npy and safetensors: a file to write the words to, one per line.
    overwrite : bool
        Whether existing files may be replaced.
    progress : callable, optional
        Called with an `embstore.Progress`: the bytes of rows done, their total, and the rows done.

    Returns
    -------
    ExportReport

    Raises
    ------
    ExportError
        If the format cannot hold the table, or one of its words or attributes, which the error
        names; or if a build would take the file for one of another kind.
    FileExistsError
        If a file exists and may not be replaced, or something else is at its path.
    FileNotFoundError
        If the directory of a file does not exist.
    TypeError, ValueError
        If an argument has a wrong type or value, or the name of the file does not tell the format.

    Examples
    --------
    >>> embstore.export("words.embstore", "again.vec")
    ExportReport(format='word2vec', rows=11, byte_count=818, largest_cast_error=0.0,
                 attributes_left_out=())
    >>> embstore.build("again.vec", "again.embstore")["like"].tobytes() == store["like"].tobytes()
    True
    """
    if not isinstance(store, EmbeddingStore):
        store = as_path(store, "store")
    elif given := [
        name
        for name, value in (
            ("tensor", tensor),
            ("scale", None if scale == AUTO else ""),
            ("scale_block", scale_block),
            ("encoding", encoding),
            ("zero_point", zero_point),
        )
        if value is not None
    ]:
        raise ValueError(f"{option(given[0])} goes with the path of a model; store is open already")
    stream = as_stream(path)
    target = None if stream else _as_target(path, "path")
    words_target = None if words is None else _as_target(words, "words")
    format = _choose_format(target, format)
    caster = None if dtype is None else Caster(as_dtype(dtype), None)
    if words_target is not None and SINKS[format].has_words:
        without = " and ".join(name for name, sink in SINKS.items() if not sink.has_words)
        raise ValueError(f"{option('words')} is for {without}; {format} holds the words itself")
    if words_target is not None and words_target == target:
        raise ValueError(f"rows and words cannot both be written to {target}")
    overwrite = as_flag(overwrite, "overwrite")
    for file in filter(None, (target, words_target)):
        check_new_file(file, overwrite=overwrite)
    with ExitStack() as stack:
        if not isinstance(store, EmbeddingStore):
            opened_store = open_store(
                store,
                tensor=tensor,
                scale=scale,
                scale_block=scale_block,
                encoding=encoding,
                zero_point=zero_point,
                resident_limit=RESIDENT_LIMIT,
            )
            store = stack.enter_context(opened_store)
        if words_target is not None and not store.has_words:
            raise ExportError(f"the store {store.location} has no words; omit {option('words')}")
        sink = SINKS[format]
        kept = None
        if sink.takes_records and caster is None:
            kept = as_stored(store._encoding)
        caster = caster or Caster(store.dtype if kept is None else np.dtype(np.uint8))
        dtypes = {name: column.dtype_name for name, column in store.attributes.items()}
        attributes = dtypes if sink.has_attributes else {}
        left_out = tuple(name for name in dtypes if name not in attributes)
        table = TableFacts(
            store.rows, store.row_shape, caster.dtype, store.has_words, kept, attributes
        )
        blocks = row_blocks(store, sink.block_bytes, raw=kept is not None, attributes=attributes)
        head = Head()
        blocks = head.keep(_cast(_with_progress(blocks, store, progress), caster))
        write = sink.load()
        opened: Any = stream
        if target is None:
            blocks = head.tried(blocks, write, table, format)
        else:
            opened = stack.enter_context(new_file(target, overwrite=overwrite))
        words_file = None
        if words_target is not None:
            words_file = stack.enter_context(new_file(words_target, overwrite=overwrite))
            blocks = write_words(words_file, blocks)
        write(opened, table, blocks)
        opened.flush()
        byte_count = opened.tell()
        head.check(None if target is None else opened, format, words_file)
    return ExportReport(format, table.rows, byte_count, caster.largest_error, left_out)


def _as_target(path: Any, name: str) -> Path:
    """Return the path of a file to write."""
    to_upload = f"write a local file, and upload it ({function('publish')} uploads whole stores)"
    return as_local_path(path, name, to_upload).absolute()


def _choose_format(path: Path | None, format: ExportFormat | None) -> ExportFormat:
    if path is None:
        if format is None:
            raise ValueError(f"give {option('format')} for what has no name: {', '.join(SINKS)}")
        return as_choice(format, "format", tuple(SINKS))
    suffix = path.suffix.lower()
    if suffix in _COMPRESSED_SUFFIXES:
        raise ValueError(
            f"{path.name} has the suffix of a compressed file; export to an uncompressed file, and "
            "compress that"
        )
    if format is None:
        for name, sink in SINKS.items():
            if sink.suffix == suffix:
                return name
        raise ValueError(
            f"the name {path.name!r} does not tell the format; pass {option('format')}: "
            f"{', '.join(SINKS)}"
        )
    return as_choice(format, "format", tuple(SINKS))


def _cast(blocks: Iterator[RowBlock], caster: Caster) -> Iterator[RowBlock]:
    for block in blocks:
        try:
            rows = caster.cast(block.rows)
        except RowError as error:
            raise RowError(error.problem, block.start + error.position) from None
        yield replace(block, rows=rows)


def _with_progress(
    blocks: Iterator[RowBlock], store: EmbeddingStore, progress: OnProgress | None
) -> Iterator[RowBlock]:
    """Report the progress of each block when the next one is asked for."""
    size = row_bytes(store)
    for block in blocks:
        yield block
        done = block.start + len(block.rows)
        if progress is not None:
            progress(Progress(done * size, store.rows * size, done))


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[IO[bytes]]:
    """Open a new file; it appears at ``path``, in one step, if the block ends without an error.

    Raises
    ------
    FileExistsError
        If something is at ``path`` that may not be replaced.
    FileNotFoundError
        If the directory of ``path`` does not exist.
    """
    check_new_file(path, overwrite=overwrite)
    hidden = path.with_name(f".{path.name}.exporting-{secrets.token_hex(4)}")
    process = os.getpid()
    try:
        with files.naming(path), hidden.open("xb") as file, _own(file.fileno()):
            yield file
            file.flush()
            os.fsync(file.fileno())
        check_new_file(path, overwrite=overwrite)
        hidden.replace(path)
    except BaseException:
        if os.getpid() == process:  # Not in a forked child, whose parent goes on.
            hidden.unlink(missing_ok=True)
        raise
    files.flush_directory(path.parent)


# Descriptors of files that this process writes. A forked child flushes its copy of a file's buffer
# when it unwinds or exits, so its descriptors are made to lead nowhere.
_written: set[int] = set()


@contextmanager
def _own(descriptor: int) -> Iterator[None]:
    _written.add(descriptor)
    try:
        yield
    finally:
        _written.discard(descriptor)


def _leave_to_parent() -> None:
    for descriptor in _written:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor, inheritable=False)
        os.close(nowhere)


os.register_at_fork(after_in_child=_leave_to_parent)


def check_new_file(path: Path, *, overwrite: bool) -> None:
    """Raise unless a file may be put at ``path``."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the directory {path.parent} does not exist; make it first")
    if not os.path.lexists(path):
        return
    if not path.is_file():
        raise FileExistsError(f"{path} exists and is not a file; choose another path")
    if not overwrite:
        raise FileExistsError(
            f"{path} exists; choose another path, or replace it with {option('overwrite', True)}"
        )
