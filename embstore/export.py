"""From a store to a file of vectors that other programs read.

1. The table is read in blocks of consecutive ids, so memory stays bounded.
2. Where another dtype is asked for, blocks are cast.
3. The format's function in `embstore.sinks` writes them to a file that appears when it is whole.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, get_args

from embstore import row_blocks
from embstore.dtypes import as_dtype
from embstore.encodings.casting import Caster
from embstore.errors import ExportError
from embstore.opening import open as open_store
from embstore.progress import OnProgress, Progress
from embstore.sinks import ExportFormat, TableFacts
from embstore.sinks.newfile import check_target, new_file
from embstore.store import EmbeddingStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import DTypeLike

    from embstore.row_blocks import RowBlock

    Write = Callable[[IO[bytes], TableFacts, Iterator[RowBlock]], None]

# Formats that a file's name makes clear; `.txt` may be of two.
SUFFIXES: dict[str, ExportFormat] = {
    ".vec": "word2vec",
    ".bin": "word2vec-binary",
    ".npy": "npy",
    ".parquet": "parquet",
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zip", ".zst")
# A store that is opened here is read once, from its begin to its end.
RESIDENT_LIMIT = 256 << 20


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What `export` wrote.

    Attributes
    ----------
    format : str
        The format.
    rows : int
        Rows written.
    byte_count : int
        Size of the file; that of the words' file comes on top.
    largest_cast_error : float
        The largest difference that a cast to another dtype made.
    """

    format: ExportFormat
    rows: int
    byte_count: int
    largest_cast_error: float


def export(
    store: EmbeddingStore | str | Path,
    path: str | Path,
    *,
    format: ExportFormat | None = None,
    dtype: DTypeLike | None = None,
    words: str | Path | None = None,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> ExportReport:
    r"""Write a store to a file of vectors, rows in the order of their ids.

    Read back, the file gives the same words and the same numbers, to the bit: text holds the
    shortest digits that do so. (Which ``nan`` it is, text does not hold.) Memory stays bounded.
    An error leaves nothing behind, and what was at ``path`` as it was.

    Parameters
    ----------
    store : EmbeddingStore, str or Path
        The store, or where it is.
    path : str or Path
        Where the file will be.
    format : {"glove", "word2vec", "word2vec-binary", "npy", "parquet"}, optional
        By default ``"word2vec"`` for ``.vec``, ``"word2vec-binary"`` for ``.bin``, ``"npy"`` and
        ``"parquet"`` for the files of these names.
    dtype : dtype, optional
        What the numbers become first, as when a store is built; by default they stay what they
        are. 16-bit floats are written to text and word2vec-binary as the float32 numbers that they
        are.
    words : str or Path, optional
        For npy: the file where the words go, one a line.
    overwrite : bool
        Whether files that are there may be replaced.
    progress : callable, optional
        Called with a `embstore.Progress`: the bytes of rows done, all of them, and the rows.

    Returns
    -------
    ExportReport

    Raises
    ------
    ExportError
        If the format cannot hold the table, or one of its words; it names the word.
    FileExistsError, FileNotFoundError
        If the target is taken, or in a directory that does not exist.

    Examples
    --------
    >>> embstore.export("words.embstore", "again.vec")
    ExportReport(format='word2vec', rows=11, byte_count=818, largest_cast_error=0.0)
    >>> embstore.build("again.vec", "again.embstore")["like"].tobytes() == store["like"].tobytes()
    True
    """
    target = Path(path).absolute()
    chosen = _choose_format(target, format)
    if words is not None and chosen != "npy":
        raise ValueError(f"words= is for npy; {chosen} holds the words itself")
    beside = None if words is None else Path(words).absolute()
    if beside == target:
        raise ValueError(f"rows and words cannot both be in {target}")
    for file in (target,) if beside is None else (target, beside):
        check_target(file, overwrite=overwrite)
    with ExitStack() as stack:
        if not isinstance(store, EmbeddingStore):
            store = stack.enter_context(open_store(store, resident_limit=RESIDENT_LIMIT))
        return _export(store, target, chosen, dtype, beside, overwrite, progress)


def _export(
    store: EmbeddingStore,
    target: Path,
    format: ExportFormat,
    dtype: DTypeLike | None,
    words: Path | None,
    overwrite: bool,
    progress: OnProgress | None,
) -> ExportReport:
    caster = Caster(store.dtype if dtype is None else as_dtype(dtype))
    table = TableFacts(store.rows, store.row_shape, caster.dtype, store.has_words)
    if words is not None and not store.has_words:
        raise ExportError(f"the store {store.path} has no words; leave words= (--words) out")
    write, block_bytes = _writer(format)
    blocks = _cast(_told(row_blocks.row_blocks(store, block_bytes), store, progress), caster)
    with ExitStack() as stack:
        file = stack.enter_context(new_file(target, overwrite=overwrite))
        if words is not None:
            from embstore.sinks.npy import write_words  # noqa: PLC0415

            words_file = stack.enter_context(new_file(words, overwrite=overwrite))
            blocks = write_words(words_file, blocks)
        write(file, table, blocks)
        byte_count = file.tell()
    return ExportReport(format, store.rows, byte_count, caster.largest_error)


def _choose_format(path: Path, format: ExportFormat | None) -> ExportFormat:
    suffix = path.suffix.lower()
    names = get_args(ExportFormat)
    if suffix in COMPRESSED:
        raise ValueError(
            f"{path.name} has the suffix of a compressed file; export a plain one, and compress it"
        )
    if format is None:
        if suffix not in SUFFIXES:
            raise ValueError(
                f"the name {path.name!r} does not say which format it is; give format= (--format "
                f"on the command line): {', '.join(names)}"
            )
        return SUFFIXES[suffix]
    if format not in names:
        raise ValueError(f"format must be one of {', '.join(names)}, not {format!r}")
    return format


def _writer(format: ExportFormat) -> tuple[Write, int]:
    """Return the function that writes a format, and the size of its blocks."""
    # Imported here because only these need pyarrow, which takes long to import.
    match format:
        case "glove" | "word2vec":
            from embstore.sinks import text  # noqa: PLC0415

            write = text.write_glove if format == "glove" else text.write_word2vec
            return write, text.BLOCK_BYTES
        case "word2vec-binary":
            from embstore.sinks.binary import write_word2vec_binary  # noqa: PLC0415

            return write_word2vec_binary, row_blocks.BLOCK_BYTES
        case "npy":
            from embstore.sinks.npy import write_npy  # noqa: PLC0415

            return write_npy, row_blocks.BLOCK_BYTES
        case "parquet":
            from embstore.sinks import parquet  # noqa: PLC0415

            return parquet.write_parquet, parquet.BLOCK_BYTES


def _cast(blocks: Iterator[RowBlock], caster: Caster) -> Iterator[RowBlock]:
    for block in blocks:
        yield replace(block, rows=caster.cast(block.rows))


def _told(
    blocks: Iterator[RowBlock], store: EmbeddingStore, progress: OnProgress | None
) -> Iterator[RowBlock]:
    """Tell the progress of each block when the next one is asked for."""
    row_bytes = row_blocks.row_bytes(store)
    for block in blocks:
        yield block
        done = block.start + len(block.rows)
        if progress is not None:
            progress(Progress(done * row_bytes, store.rows * row_bytes, done))
