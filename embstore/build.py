"""From a source to a store: duplicates, the unk row, progress, a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import as_dtype, is_float
from embstore.errors import RowError, SourceError
from embstore.opening import open as open_store
from embstore.progress import OnProgress, Progress
from embstore.store import EmbeddingStore
from embstore.writing.memory import DEFAULT_MEMORY_LIMIT
from embstore.writing.staging import check_target
from embstore.writing.writer import StoreWriter

if TYPE_CHECKING:
    from typing import Unpack

    from numpy.typing import DTypeLike, NDArray

    from embstore.encodings.casting import OnOverflow
    from embstore.sources import Source, SourceOptions
    from embstore.table.partitioning import Strategy
    from embstore.writing.new_words import OnDuplicate


def build(
    source: Any,
    path: str | Path,
    *,
    partitions: int | None = None,
    strategy: Strategy = "mod",
    dtype: DTypeLike | None = None,
    on_duplicate: OnDuplicate = "first",
    unk: str | None = None,
    on_overflow: OnOverflow = "error",
    overwrite: bool = False,
    memory_limit: int = DEFAULT_MEMORY_LIMIT,
    progress: OnProgress | None = None,
    **options: Unpack[SourceOptions],
) -> EmbeddingStore:
    r"""Build a store from a file of vectors, or from an object that has them.

    Memory stays bounded whatever the number of rows and words. An error leaves nothing behind, and
    what was at ``path`` as it was.

    Parameters
    ----------
    source : str, path, or object
        GloVe, word2vec or fastText text, or word2vec's binary format, each also as ``.gz``,
        ``.bz2``, ``.xz`` or ``.zip``; a ``.npy`` or a directory of them, an ``.npz``; safetensors;
        Parquet or Arrow files or a directory of them. Or an array, a ``{word: vector}`` mapping, an
        iterable of ``(word, vector)`` or of arrays of rows, a gensim ``KeyedVectors``, a torch
        tensor, a list of partitions. Or an open store, whose rows are dealt out anew; it may be the
        one that is replaced.
    path : str or Path
        Where the store will be.
    partitions : int, optional
        Number of partitions. By default the smallest power of two that keeps each below 16 GiB.
    strategy : {"mod", "div"}
        How ids are dealt out to partitions. ``div`` needs the number of rows first, so text
        without a header is read twice, and an iterator is refused.
    dtype : dtype, optional
        What to store; may be ``"bfloat16"``. By default what the source has, float32 for text.
    on_duplicate : {"first", "error"}
        Keep a word's first row and count the others, or raise.
    unk : str, optional
        The word whose row stands for unknown words; by default the first that is there of
        ``<unk>``, ``[UNK]``, ``<UNK>``, ``UNK``; or that of the store that is the source.
    on_overflow : {"error", "inf"}
        Whether a finite number that is too large for a float dtype is refused, or becomes infinite.
    overwrite : bool
        Whether a store at ``path`` may be replaced.
    memory_limit : int
        Bytes that the build may take, besides Python and its libraries;
        `embstore.writing.memory` says what for. What does not fit is refused before anything is
        made. The blocks that a source is read in, some of 4 to 8 MiB at a time, are no smaller
        under a low limit, and come on top of it then.
    progress : callable, optional
        Called with a `embstore.Progress`: the bytes of input done, all of them (0 if unknown), and
        the rows so far.
    format : str, optional
        What a file is: ``"glove"`` or ``"word2vec"`` (text without or with a header line ``rows
        dimension``), ``"word2vec-binary"``, ``"npy"``, ``"npz"``, ``"safetensors"``,
        ``"parquet"``, ``"arrow"``; ``"auto"``, the default, looks into the file.
    limit : int, optional
        Take only the first so many rows, and do not read the others.
    words : str, path, or iterable of str, optional
        The words of the rows of an array: a text file of one word a line, or the words.
    member : str, optional
        The member of a ``.zip`` or ``.npz`` that has several.
    tensor : str, optional
        The tensor of a safetensors file that has several.
    column, word_column : str, optional
        The columns of a Parquet or Arrow file with the rows and with their words. By default the
        only one of lists of numbers, and the one called ``word``, if there is one; ``""`` for no
        words.
    dimension : int, optional
        Numbers in a vector of a text file. Where it is not given, a word that ends in a number
        behind a space (``route 66``) is refused, because its line looks like a longer vector.
    encoding_errors : {"strict", "replace", "ignore"}, optional
        What to do with words of text or of word2vec's binary format that are not UTF-8.
    partition_strategy : {"mod", "div"}, optional
        How the ids of ``source``, a list of arrays, were dealt out to them, as
        `embstore.embedding_lookup` takes it. Without it, the arrays follow each other.

    Returns
    -------
    EmbeddingStore
        The new store, open. Its ``source`` tells what was found: ``duplicate_count``,
        ``non_finite_row_count`` (rows with ``nan`` or ``inf``, which are kept), and
        ``unterminated`` (the file's last line has no newline: it may have been cut). Where numbers
        changed because the dtype is narrower than theirs, ``largest_cast_error``, and
        ``overflow_count`` (how many became infinite).

    Raises
    ------
    SourceError
        For input that cannot be stored, with file and line or row; for an option that does not go
        with it.
    TypeError
        If the source is an object that no rows can be got from.
    StoreExistsError, StoreBusyError, StoreNotFoundError
        If the target is taken, being written to, or in a directory that does not exist.

    Examples
    --------
    >>> import pathlib, tempfile, embstore
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "tiny.txt").write_text("the 0.1 0.2\nlike 0.3 0.4\n")
    >>> store = embstore.build(folder / "tiny.txt", folder / "tiny.embstore")
    >>> store["like"]
    array([0.3, 0.4], dtype=float32)

    >>> store = embstore.build({"the": [0.1, 0.2], "like": [0.3, 0.4]}, folder / "more.embstore")
    >>> store["like"]
    array([0.3, 0.4])
    """
    # Imported here because looking rows up must not wait for pyarrow.
    from embstore.sources.choose import open_source  # noqa: PLC0415

    # Counting the lines of a large file takes a while: don't, if it is in vain.
    check_target(Path(path).absolute(), overwrite=overwrite)
    stored = None if dtype is None else as_dtype(dtype)
    opened = open_source(source, dtype=stored, **options)
    if isinstance(source, EmbeddingStore) and unk is None:
        unk = source.unk
    settings: dict[str, Any] = {
        "row_shape": opened.row_shape,
        "dtype": opened.dtype if stored is None else stored,
        "partitions": partitions,
        "strategy": strategy,
        "overwrite": overwrite,
        "on_duplicate": on_duplicate,
        "unk": unk,
        "on_overflow": on_overflow,
        "memory_limit": memory_limit,
    }
    if strategy == "div":
        settings["rows"] = opened.count_rows()
        try:
            _copy(opened, StoreWriter(path, **settings), progress)
        except _DuplicatesFoundError as found:
            # The boundaries of `div` follow from the number of distinct words, known only now.
            settings["rows"] -= found.count
            _copy(opened, StoreWriter(path, **settings), progress)
    else:
        _copy(opened, StoreWriter(path, estimated_rows=opened.row_estimate, **settings), progress)
    return open_store(path)


class _DuplicatesFoundError(Exception):
    """A table for ``div`` has fewer rows than lines."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


def _copy(source: Source, writer: StoreWriter, progress: OnProgress | None) -> None:
    """Write all rows of a source, and publish the store."""
    non_finite = 0
    with writer:
        for batch in source.batches():
            try:
                writer.write(batch.rows, batch.words, copy=False)
            except RowError as error:
                place = source.place(batch.first + error.position)
                raise SourceError(f"{place}: {error.problem}") from error
            if is_float(batch.rows.dtype):
                non_finite += _count_non_finite(batch.rows)
            if progress is not None:
                progress(Progress(batch.bytes_done, source.byte_count, writer.rows_written))
        if writer.short_of_rows and writer.duplicate_count:
            raise _DuplicatesFoundError(writer.duplicate_count)
        writer.source |= source.describe()
        writer.source["duplicate_count"] = writer.duplicate_count
        writer.source["non_finite_row_count"] = non_finite


def _count_non_finite(rows: NDArray[Any]) -> int:
    """Return how many rows have a value that is nan or infinite."""
    with np.errstate(invalid="ignore", over="ignore"):  # A nan may be a signalling one.
        # A sum is finite only if all values are, and takes half the time of looking at each.
        if rows.dtype.itemsize >= 4 and np.isfinite(rows.sum()):
            return 0
        finite = np.isfinite(rows).reshape(len(rows), -1)
    return len(finite) - int(finite.all(axis=1).sum())
