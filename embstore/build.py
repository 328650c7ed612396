"""From a source to a store: duplicates, the unk row, progress, a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import RowError, SourceError
from embstore.opening import open as open_store
from embstore.staging import check_target
from embstore.writer import DEFAULT_MEMORY_LIMIT, OnDuplicate, StoreWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike

    from embstore.partitions import Strategy
    from embstore.sources import EncodingErrors, Source, TextFormat
    from embstore.store import EmbeddingStore


def build(
    source: str | Path,
    path: str | Path,
    *,
    partitions: int = 1,
    strategy: Strategy = "mod",
    dtype: DTypeLike | None = None,
    format: TextFormat = "auto",
    member: str | None = None,
    encoding_errors: EncodingErrors = "strict",
    on_duplicate: OnDuplicate = "first",
    unk: str | None = None,
    overwrite: bool = False,
    memory_limit: int = DEFAULT_MEMORY_LIMIT,
    progress: Callable[[int, int], None] | None = None,
) -> EmbeddingStore:
    r"""Build a store from a text file of vectors.

    Memory for rows stays bounded whatever the size of the file; words take some 40 bytes each,
    besides their text, until the store is written. An error leaves nothing behind, and what was at
    ``path`` as it was.

    Parameters
    ----------
    source : str or Path
        A GloVe, word2vec or fastText text file; may be ``.gz``, ``.bz2``, ``.xz`` or ``.zip``.
    path : str or Path
        Where the store will be.
    partitions : int
        Number of partitions.
    strategy : {"mod", "div"}
        How ids are dealt out to partitions. ``div`` needs the number of rows first, so a file
        without a header is read twice.
    dtype : dtype, optional
        What to store, float32 by default.
    format : {"auto", "glove", "word2vec"}
        Without or with a header line ``rows dimension``; ``"auto"`` looks at the first two lines.
    member : str, optional
        The member of a ``.zip`` that has several.
    encoding_errors : {"strict", "replace", "ignore"}
        What to do with words that are not UTF-8.
    on_duplicate : {"first", "error"}
        Keep a word's first row and count the others, or raise.
    unk : str, optional
        The word whose row stands for unknown words; by default the first that is there of
        ``<unk>``, ``[UNK]``, ``<UNK>``, ``UNK``.
    overwrite : bool
        Whether a store at ``path`` may be replaced.
    memory_limit : int
        Bytes that the partitions' buffers may take.
    progress : callable, optional
        Told the bytes of input done, and all of them.

    Returns
    -------
    EmbeddingStore
        The new store, open. Its ``source`` tells what was found: ``duplicate_count``,
        ``non_finite_row_count`` (rows with ``nan`` or ``inf``, which are kept), and
        ``unterminated`` (the file's last line has no newline: it may have been cut).

    Raises
    ------
    SourceError
        For input that cannot be stored, with file and line.
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
    """
    # Imported here because looking rows up must not wait for pyarrow.
    from embstore.sources.text import TextSource  # noqa: PLC0415

    # Counting the lines of a large file takes a while: don't, if it is in vain.
    check_target(Path(path).absolute(), overwrite=overwrite)
    stored = np.dtype(np.float32 if dtype is None else dtype)
    text = TextSource(
        source, format=format, member=member, dtype=stored, encoding_errors=encoding_errors
    )
    settings: dict[str, Any] = {
        "row_shape": text.row_shape,
        "dtype": stored,
        "partitions": partitions,
        "strategy": strategy,
        "overwrite": overwrite,
        "on_duplicate": on_duplicate,
        "unk": unk,
        "memory_limit": memory_limit,
    }
    if strategy == "div":
        settings["rows"] = text.count_rows()
        try:
            _copy(text, StoreWriter(path, **settings), progress)
        except _DuplicatesFoundError as found:
            # The boundaries of `div` follow from the number of distinct words, known only now.
            settings["rows"] -= found.count
            _copy(text, StoreWriter(path, **settings), progress)
    else:
        _copy(text, StoreWriter(path, estimated_rows=text.row_estimate, **settings), progress)
    return open_store(path)


class _DuplicatesFoundError(Exception):
    """A table for ``div`` has fewer rows than lines."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


def _copy(source: Source, writer: StoreWriter, progress: Callable[[int, int], None] | None) -> None:
    """Write all rows of a source, and publish the store."""
    non_finite = 0
    with writer:
        for batch in source.batches():
            try:
                writer.write(batch.rows, batch.words)
            except RowError as error:
                place = source.place(batch.first + error.position)
                raise SourceError(f"{place}: {error.problem}") from error
            if batch.rows.dtype.kind not in "iu":
                finite = np.isfinite(batch.rows).reshape(len(batch.rows), -1)
                non_finite += len(finite) - int(finite.all(axis=1).sum())
            if progress is not None:
                progress(batch.bytes_done, source.byte_count)
        if writer.short_of_rows and writer.duplicate_count:
            raise _DuplicatesFoundError(writer.duplicate_count)
        writer.source |= source.describe()
        writer.source["duplicate_count"] = writer.duplicate_count
        writer.source["non_finite_row_count"] = non_finite
