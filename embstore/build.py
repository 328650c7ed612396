"""Building of stores: rows of any source become a store, and the build is summarized.

1. The arguments and the target are checked before any input is read.
2. `embstore.sources` reads the input in batches, `embstore.StoreWriter` stores them.
3. What was found (duplicate words, non-finite rows, rounding) goes into the store's ``source``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from embstore.dtypes import as_dtype
from embstore.encodings.casting import OnOverflow
from embstore.errors import SourceError
from embstore.formats.options import AUTO
from embstore.formats.own import spec
from embstore.formats.own.compression import as_compression
from embstore.opening import open as open_store
from embstore.paths import as_local_path
from embstore.settle import as_choice, as_flag, as_size
from embstore.sources.copying import copy_batches
from embstore.sources.options import SourceOptions, as_choice_if_any, as_count_if_any
from embstore.table.numbering import Strategy
from embstore.wording import option
from embstore.writing.conversion import PLAIN, find_encoding
from embstore.writing.disk.staging import check_target
from embstore.writing.memory import DEFAULT_MEMORY_LIMIT
from embstore.writing.words.new_words import OnDuplicate
from embstore.writing.writer import StoreWriter, to_publish

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    import numpy as np
    from numpy.typing import DTypeLike

    from embstore.progress import OnProgress
    from embstore.sources import Batch, EncodingErrors, Format, Source
    from embstore.store import EmbeddingStore


def build(
    source: Any,
    path: str | os.PathLike[str],
    *,
    partitions: int | None = None,
    strategy: Strategy = "mod",
    dtype: DTypeLike | None = None,
    encoding: str | None = None,
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
    unk: str | None = None,
    on_overflow: OnOverflow = "error",
    compression: str | None = None,
    memory_limit: int | str = DEFAULT_MEMORY_LIMIT,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> EmbeddingStore:
    r"""Build a store from a file of vectors, or from an object that holds them.

    Memory stays bounded, whatever the number of rows and words (``embstore.writing.memory`` lists
    its uses). A build that fails leaves nothing behind, and does not change what is at ``path``.

    Parameters
    ----------
    source : str, path-like, or object
        A file: text of vectors (GloVe, word2vec, fastText, CSV, TSV), word2vec's binary format, or
        ``.npy``, each also compressed (gzip, bz2, xz, zstd, lz4) or in a zip or tar archive; an
        ``.npz``; safetensors, GGUF, Parquet or Arrow. A directory of ``.npy``, safetensors, Parquet
        or Arrow files that are parts of one table. Open a model first if its table needs other
        options of `embstore.open` than ``tensor``. An object: an array, a frame of pandas or
        polars, an Arrow table, a list of these, a ``{word: vector}`` mapping, an iterable of
        ``(word, vector)`` or of arrays of rows, a gensim ``KeyedVectors``, a torch tensor, a list
        of partitions, or an open store, which may be the one that is replaced.
    path : str or path-like
        Where the store will be.
    partitions : int, optional
        Number of partitions. By default the smallest power of two that keeps each below 16 GiB.
    strategy : {"mod", "div"}
        How ids are distributed over partitions: in turn (``mod``), or in contiguous ranges
        (``div``). ``div`` needs the number of rows first: text without a header is read twice, and
        an iterator is refused.
    dtype : dtype, optional
        Dtype of the stored numbers, such as ``bfloat16`` or ``float8_e4m3fn``. By default that of
        the source, float32 for text.
    encoding : str, optional
        Codes that rows are stored as, with a scale for each row: ``float8_e4m3fn``,
        ``float8_e4m3fnuz``, ``float8_e5m2``, ``float8_e5m2fnuz``, ``int8``, ``float4_e2m1fn`` or
        ``int4``; ``float8_e4m3fn:32`` has a scale for each group of 32 values, and any of these
        may have such a number. Lookups decode them to float32. ``plain`` stores numbers. By
        default the rows of a table that is encoded are kept so, without decoding; others are plain.
        A table that has the encoding already is kept, too.
    format : str
        Format of a file: ``glove`` (text without a header line), ``word2vec`` (text with a header
        line ``rows dimension``), ``word2vec-binary``, ``npy``, ``npz``, ``safetensors``,
        ``gguf``, ``parquet``, ``arrow`` or ``store``; ``auto`` looks into the file.
    limit : int, optional
        Take only this number of rows, the first ones, and do not read the others.
    words : str, path-like, iterable of str, or mapping of str to int, optional
        The words of the rows of an array, or of text that has only numbers. A file of them: one
        word a line, words with their ids as in ``entity2id.txt``, a ``vocab.json``, or a
        ``tokenizer.json``. In Python also the words themselves, as a list, an array, a series or a
        ``{word: id}`` mapping.
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
        The tensor of zero points, which are subtracted before the numbers are scaled. In Python,
        where the tensor needs ``encoding=``, too, build from what `embstore.open` returns.
    column : str, optional
        The column of a Parquet or Arrow file, or of a frame, with the rows. By default the only one
        of lists of numbers; without lists, all columns of numbers, if they are clearly the
        dimensions of one table.
    word_column : str, optional
        The column of a Parquet or Arrow file, or of a frame, with the words; an empty name for no
        words. By default the one called ``word``, else the only one of strings. Without words and
        this option, a column such as ``id`` or ``item_id`` must count the rows from 0.
    dimension : int, optional
        Number of values in each line of text. Give it where words end in a number after a space
        (``route 66``): without it they are refused, because their lines look like longer vectors.
    encoding_errors : {"strict", "replace", "ignore"}, optional
        What to do with words of text or of word2vec's binary format that are not UTF-8. By default
        they are refused.
    partition_strategy : {"mod", "div"}, optional
        How ids are distributed over ``source``, a list of arrays, as in
        `embstore.embedding_lookup`. By default the arrays follow each other.
    attributes : mapping of str to array-like, or iterable of str, optional
        Columns of one value for each row, numbers or str: the values by the name of the attribute,
        or the path of a file of them, ``.npy`` or text with one value a line; or the names of those
        that the source has: columns of Parquet, Arrow and frames, ``expandos`` of ``KeyedVectors``,
        members of an ``.npz``, tensors, and of text the fields between the word and its vector, in
        order. By default those of a store, or of a Parquet file exported from one; an empty list
        for none.
    on_duplicate : {"error", "first"}, optional
        What to do when a word comes again: stop with an error, or keep its first row, and drop and
        count the others, which lowers the ids of later rows. By default an error where rows have
        ids without their words (arrays, tensors, ``KeyedVectors``, partitions, stores), because
        these ids are used elsewhere; else the first.
    unk : str, optional
        The word whose row stands for unknown words. By default that of the source if it is a store,
        else the first of ``<unk>``, ``[UNK]``, ``<UNK>`` and ``UNK`` that is in the vocabulary.
    on_overflow : {"error", "inf"}
        What to do with a finite number that is too large for a float dtype: stop with an error, or
        store infinity.
    compression : str, optional
        ``zstd`` or ``blosc`` (sorted bytes, then zstd), also with a level, as in ``zstd:9``: for
        archives, because a lookup then decodes blocks of 16 to 32 KiB. Embedding rows hardly
        compress, so look at the ratio that ``embstore info`` shows. ``none``, the default, for
        lookups.
    memory_limit : int or str
        Memory that the build may use besides Python and its libraries, in bytes or as in
        ``2GiB`` or ``500M`` (``M`` and ``MB`` are 10^6 bytes, ``MiB`` is 2^20).
        A build that needs more is refused before anything is written. Blocks of the source, a few
        of 4 to 8 MiB at a time (32 MiB of a store of many partitions that is not mapped), do not
        shrink under a low limit, and then come on top of it.
    overwrite : bool
        Replace the store that exists at the target, if any.
    progress : callable, optional
        Called with an `embstore.Progress`: bytes of input done, all of them (0 if unknown), and
        rows done.

    Returns
    -------
    EmbeddingStore
        The new store, open. Its ``source`` says what was found: ``duplicate_count``,
        ``non_finite_row_count`` (rows with ``nan`` or ``inf``, which are kept), and
        ``unterminated`` (the file's last line has no newline, so it may have been cut). Where
        numbers were changed because the dtype is narrower than theirs, also
        ``largest_cast_error``, and ``overflow_count`` (how many became infinite). Where they were
        encoded, ``largest_encoding_error``, ``mean_encoding_error``, and ``mean_cosine`` and
        ``smallest_cosine`` of rows and decoded rows. ``non_finite_row_count`` is None where
        records were kept, because they are not decoded.

    Raises
    ------
    SourceError
        For input that cannot be stored, with its file and line or row; for an option that the
        source does not take.
    TypeError
        If rows cannot be read from an object of this type, or an argument has a wrong type.
    ValueError
        If an argument is out of range or not one of its choices.
    StoreExistsError, StoreBusyError, StoreNotFoundError
        If the target exists, another build is writing to it, or its directory does not exist.

    Examples
    --------
    >>> import pathlib, embstore
    >>> _ = pathlib.Path("tiny.txt").write_text("the 0.1 0.2\nlike 0.3 0.4\n")
    >>> store = embstore.build("tiny.txt", "tiny.embstore")
    >>> store["like"]
    array([0.3, 0.4], dtype=float32)

    >>> store = embstore.build({"the": [0.1, 0.2], "like": [0.3, 0.4]}, "more.embstore")
    >>> store["like"]
    array([0.3, 0.4])
    """
    target = as_local_path(path, "path", to_publish())
    partitions = as_count_if_any(partitions, "partitions", high=spec.MAX_PARTITIONS)
    strategy = as_choice(strategy, "strategy", get_args(Strategy))
    stored = None if dtype is None else as_dtype(dtype)
    encoding = _as_encoding(encoding, stored)
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
    on_duplicate = as_choice_if_any(on_duplicate, "on_duplicate", OnDuplicate)
    on_overflow = as_choice(on_overflow, "on_overflow", get_args(OnOverflow))
    as_compression(compression, "compression")
    memory_bytes = as_size(memory_limit, "memory_limit")
    # The target is checked before the source is opened: counting the lines of a large file is slow.
    check_target(target.absolute(), overwrite=as_flag(overwrite, "overwrite"))
    rows = options.open(stored, encoding)
    kept = rows.encoding
    if kept is not None and stored is not None:
        raise SourceError(
            f"{rows.name} is stored as {kept.name}, which a build keeps; to store it as numbers of "
            f"{stored}, pass {option('encoding', 'plain')} too"
        )
    make_writer = partial(
        StoreWriter,
        target,
        row_shape=rows.row_shape if kept is None else kept.row_shape,
        dtype=_dtype_of(rows, stored, encoding),
        encoding=encoding if kept is None else kept,
        partitions=partitions,
        strategy=strategy,
        overwrite=overwrite,
        on_duplicate=on_duplicate or ("error" if rows.ids_matter else "first"),
        unk=rows.unk if unk is None else unk,
        on_overflow=on_overflow,
        compression=compression,
        memory_limit=memory_bytes,
        attributes=rows.attribute_dtypes,
    )
    _copy_all(rows, make_writer, progress, counted=strategy == "div", facts=options.facts())
    return open_store(target)


def _as_encoding(encoding: str | None, dtype: np.dtype[Any] | None) -> str | None:
    """Check the name of an encoding before a source is opened."""
    if encoding is None:
        return None
    if not isinstance(encoding, str):
        raise TypeError(f"encoding must be a str, not {type(encoding).__name__}")
    if encoding != PLAIN:
        find_encoding(encoding, (1,), dtype)
    return encoding


def _dtype_of(
    rows: Source, dtype: np.dtype[Any] | None, encoding: str | None
) -> np.dtype[Any] | None:
    """Return the dtype of plain rows; None if rows are encoded."""
    if rows.encoding is not None or encoding not in (None, PLAIN):
        return None
    return rows.dtype if dtype is None else dtype


def _copy_all(
    source: Source,
    make_writer: Callable[..., StoreWriter],
    progress: OnProgress | None,
    *,
    counted: bool,
    facts: dict[str, Any],
) -> None:
    """Write all rows of a source to a store, which may have to know their number first."""
    if not counted:
        _copy(source, make_writer(estimated_rows=source.row_estimate), progress, facts)
        return
    row_count = source.count_rows()
    try:
        _copy(source, make_writer(rows=row_count), progress, facts)
    except _DuplicatesFoundError as found:
        # The boundaries of `div` follow from the number of distinct words, known only now.
        _copy(source, make_writer(rows=row_count - found.count), progress, facts)


class _DuplicatesFoundError(Exception):
    """Duplicate words left a table for ``div`` with fewer rows than were announced."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.count = count


def _copy(
    source: Source, writer: StoreWriter, progress: OnProgress | None, facts: dict[str, Any]
) -> None:
    """Write all rows of a source and publish the store."""

    def write(batch: Batch) -> int:
        writer.write(batch.rows, batch.words, attributes=batch.attributes, copy=False)
        return writer.rows_written

    with writer:
        non_finite = copy_batches(source, write, progress)
        if writer.short_of_rows and writer.duplicate_count:
            raise _DuplicatesFoundError(writer.duplicate_count)
        writer.source |= source.describe() | facts
        writer.source["duplicate_count"] = writer.duplicate_count
        writer.source["non_finite_row_count"] = non_finite
