"""Appending: the rows of any source get the next ids of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embstore.changing.rows_of_source import change_rows
from embstore.formats.options import AUTO
from embstore.sources.options import SourceOptions
from embstore.writing.memory import DEFAULT_MEMORY_LIMIT

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from embstore.changing.report import ChangeReport
    from embstore.encodings.casting import OnOverflow
    from embstore.progress import OnProgress
    from embstore.sources import EncodingErrors, Format
    from embstore.table.numbering import Strategy
    from embstore.writing.words.new_words import OnDuplicate


def append(
    path: str | os.PathLike[str],
    source: Any,
    *,
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
    attributes: Mapping[str, Any] | Iterable[str] | None = None,
    on_duplicate: OnDuplicate | None = None,
    on_overflow: OnOverflow = "error",
    memory_limit: int | str = DEFAULT_MEMORY_LIMIT,
    dry_run: bool = False,
    progress: OnProgress | None = None,
) -> ChangeReport:
    """Append the rows of a source to a store; they get the next ids.

    The result is a new version of the store, in its place. It shares the files that stay the same
    with the old one, so an append costs as much as the rows that come, and the last chunk of each
    partition that gets some. Open stores keep the old version. An append that fails leaves
    nothing behind, and does not change the store.

    Parameters
    ----------
    path : str or path-like
        The store. One that is cut by ``div`` into several partitions is refused, because nearly all
        rows would move: build it again from itself with ``mod``.
    source : str, path-like, or object
        As for `embstore.build`; it may be the store itself. Its rows are converted to the dtype or
        the encoding of the store. They have words where those of the store have.
    format : str
        Format of a file: ``glove``, ``word2vec``, ``word2vec-binary``, ``npy``, ``npz``,
        ``safetensors``, ``gguf``, ``parquet``, ``arrow`` or ``store``; ``auto`` looks into the
        file.
    limit : int, optional
        Take only this number of rows, the first ones, and do not read the others.
    words : str, path-like, iterable of str, or mapping of str to int, optional
        The words of the rows of an array, or of text that has only numbers, as for
        `embstore.build`.
    member : str, optional
        The member to read of a ``.zip`` or ``.npz`` that has several.
    tensor : str, optional
        The tensor to read of a safetensors or GGUF file that has several.
    scale : str, optional
        The tensor by which the numbers are multiplied; ``"auto"`` takes one whose name tells that
        it belongs to the tensor, ``None`` means no scale; as for `embstore.open`.
    scale_block : tuple of two int, optional
        The rows, and the values of a row, that share a scale, where the shape of the scales fits
        several such blocks.
    zero_point : str, optional
        The tensor of zero points, which are subtracted before the numbers are scaled.
    column : str, optional
        The column of a Parquet or Arrow file, or of a frame, with the rows.
    word_column : str, optional
        The column of a Parquet or Arrow file, or of a frame, with the words; an empty name for no
        words.
    dimension : int, optional
        Number of values in each line of text.
    encoding_errors : {"strict", "replace", "ignore"}, optional
        What to do with words of text or of word2vec's binary format that are not UTF-8. By default
        they are refused.
    partition_strategy : {"mod", "div"}, optional
        How ids are distributed over ``source``, a list of arrays. By default the arrays follow each
        other.
    attributes : mapping of str to array-like, or iterable of str, optional
        The values of the store's attributes by their names, one for each row; or the names of
        columns that the source has. Where a store has attributes, rows without them are refused.
    on_duplicate : {"error", "first"}, optional
        What to do when a word comes twice in the source, as for `embstore.build`. A word that the
        store has is always refused; `embstore.upsert` replaces its row.
    on_overflow : {"error", "inf"}
        What to do with a finite number that is too large for a float dtype: stop with an error, or
        store infinity.
    memory_limit : int or str
        Memory that the change may use besides Python and its libraries, in bytes or as in
        ``2GiB`` or ``500M`` (``M`` and ``MB`` are 10^6 bytes, ``MiB`` is 2^20).
    dry_run : bool
        Do everything but write, to see what it would cost.
    progress : callable, optional
        Called with an `embstore.Progress`: bytes of input done, all of them (0 if unknown), and
        rows done.

    Returns
    -------
    ChangeReport
        What was appended, and what it cost. Small chunks double when a table has grown much, which
        writes all of it; ``chunk_rows`` shows it.

    Raises
    ------
    SourceError
        For input that cannot be stored, with its file and line or row; for rows of another shape,
        or with words where the store has none; for an option that the source does not take.
    DuplicateWordError
        If the store has a word, or one comes twice.
    StoreNotFoundError, StoreBusyError, StoreCorruptError, StoreVersionError
        If there is no store, it is being written, a file that has to be read is damaged, or the
        store needs a newer embstore.
    TypeError, ValueError
        If an argument has a wrong type or value, or the store cannot grow.

    Examples
    --------
    >>> _ = embstore.build("words.txt", "grows.embstore", limit=10)
    >>> report = embstore.append("grows.embstore", {"new": np.arange(8.0)})
    >>> report.rows, embstore.open("grows.embstore").rows
    (1, 11)
    """
    options = SourceOptions(
        source=source,
        format=format,
        limit=limit,
        words=words,
        member=member,
        tensor=tensor,
        scale=scale,
        scale_block=scale_block,
        zero_point=zero_point,
        column=column,
        word_column=word_column,
        dimension=dimension,
        encoding_errors=encoding_errors,
        partition_strategy=partition_strategy,
        attributes=attributes,
    )
    return change_rows(
        path,
        options,
        "append",
        on_duplicate=on_duplicate,
        on_overflow=on_overflow,
        memory_limit=memory_limit,
        dry_run=dry_run,
        progress=progress,
    )
