"""Rows on standard output and in a file, block by block: a table, JSON, .npy."""

import json
from collections.abc import Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer
from numpy.typing import NDArray

from embstore import EmbeddingStore
from embstore.cli.console import printable
from embstore.cli.terminal import shown, shows_unicode
from embstore.dtypes import check_zero, is_float, wide_dtype
from embstore.export import new_file
from embstore.reading.pipeline import in_order
from embstore.wording import shape_text

VALUES_SHOWN = 5
BLOCK_BYTES = 1 << 18
NO_ROW = "-"


@dataclass(frozen=True, slots=True)
class Shown:
    """Some rows.

    Attributes
    ----------
    ids : ndarray of int64, shape (n,)
        Their ids; -1 for words that the store does not have.
    words : list of str, or None
        Their words, if they have any.
    rows : ndarray, shape (n, *row_shape)
        The rows.
    """

    ids: NDArray[np.int64]
    words: list[str] | None
    rows: NDArray[Any]


def blocks_of(
    table: EmbeddingStore, ids: NDArray[np.int64], words: list[str] | None, **options: Any
) -> Iterator[Shown]:
    """Yield the rows of ids in blocks of up to 256 KiB; those of the id -1 are zeros.

    Parameters
    ----------
    table : EmbeddingStore
        The store.
    ids : ndarray of int64, shape (n,)
        The ids.
    words : list of str, or None
        The words that the ids were found by; by default those of the store.
    options
        As for `EmbeddingStore.lookup`.
    """
    if (ids < 0).any():
        check_zero(table.dtype, "--missing zeros")
    step = max(BLOCK_BYTES // max(table.nbytes // max(table.rows, 1), 1), 1)
    for start in range(0, len(ids), step):
        some = ids[start : start + step]
        known = some >= 0
        rows = table.lookup(some[known], **options)
        if len(rows) < len(some):
            found, rows = rows, np.zeros((len(some), *rows.shape[1:]), rows.dtype)
            rows[known] = found
        if words is not None:
            labels: list[str] | None = words[start : start + step]
        else:
            labels = table.words(some) if table.has_words else None
        yield Shown(some, labels, rows)


def print_table(blocks: Iterable[Shown], most_ids: int) -> None:
    """Print a line for each row: its id, its word, and its first numbers."""
    width = max(len(str(most_ids)), 2)
    word_width = None
    for block in blocks:
        words = None if block.words is None else [shown(printable(word)) for word in block.words]
        if word_width is None:
            word_width = max([4, *map(len, words or [])])
            what = f"row, {shape_text(block.rows.shape[1:])} {block.rows.dtype}"
            typer.echo("  ".join([f"{'id':>{width}}", *_word("word", words, word_width), what]))
        lines = []
        for place, (number, row) in enumerate(zip(block.ids.tolist(), block.rows, strict=True)):
            flat = row.ravel()
            values = " ".join(f"{value:>10.4g}" for value in flat[:VALUES_SHOWN])
            more = " ..." if flat.size > VALUES_SHOWN else ""
            word = "" if words is None else words[place]
            cells = [str(number) if number >= 0 else NO_ROW, *_word(word, words, word_width)]
            lines.append("  ".join([f"{cells[0]:>{width}}", *cells[1:], values + more]))
        typer.echo("\n".join(lines))


def _word(word: str, words: object, width: int) -> list[str]:
    return [] if words is None else [f"{word:<{width}}"]


def print_json_rows(blocks: Iterable[Shown]) -> None:
    """Print a JSON list of objects with ``id``, ``word`` and ``row``, as it is read.

    Numbers have the shortest digits that give them back; nan and inf are null. Blocks are formatted
    on threads.
    """
    ascii_only = not shows_unicode()

    def text_of(block: Shown) -> str:
        words = [None] * len(block.ids) if block.words is None else block.words
        entries = [
            f'{{"id": {number if number >= 0 else "null"}, '
            f'"word": {json.dumps(word, ensure_ascii=ascii_only)}, "row": {row}}}'
            for number, word, row in zip(
                block.ids.tolist(), words, json_texts(block.rows), strict=True
            )
        ]
        return ", ".join(entries)

    separator = "["
    with closing(in_order(text_of, iter(blocks), thread_name="embstore-format")) as texts:
        for text in texts:
            typer.echo(separator + text, nl=False)
            separator = ", "
    typer.echo("[]" if separator == "[" else "]")


def json_texts(rows: NDArray[Any]) -> list[str]:
    """Return the JSON of each row."""
    values = rows.reshape(-1)
    if is_float(rows.dtype):
        values = values.astype(wide_dtype(rows.dtype), copy=False)
        texts = pc.cast(pa.array(values), pa.string())
        finite = np.isfinite(values)
        if not finite.all():
            texts = pc.if_else(pa.array(finite), texts, "null")
    else:
        texts = pc.cast(pa.array(values), pa.string())
    for length in rows.shape[:0:-1]:
        count = len(texts) // length if length else int(np.prod(rows.shape[:-1]))
        ends = pa.array(np.arange(count + 1, dtype=np.int32) * np.int32(length))
        joined = pc.binary_join(pa.ListArray.from_arrays(ends, texts), ", ")
        texts = pc.binary_join_element_wise("[", joined, "]", "")
    found: list[str] = texts.to_pylist()
    return found


def write_npy(
    blocks: Iterable[Shown],
    target: Path | IO[bytes],
    count: int,
    table: EmbeddingStore,
    *,
    overwrite: bool,
) -> str:
    """Write rows to a .npy file, and return their shape and dtype.

    Raises
    ------
    FileExistsError
        If the file exists and may not be replaced.
    """
    opened: Any = nullcontext(target)
    if isinstance(target, Path):
        opened = new_file(target.absolute(), overwrite=overwrite)
    with opened as file:
        dtype, shape = table.dtype, table.row_shape
        first = True
        for block in blocks:
            if first:
                dtype, shape = block.rows.dtype, block.rows.shape[1:]
                _write_header(file, dtype, (count, *shape))
                first = False
            file.write(np.ascontiguousarray(block.rows).reshape(-1).view(np.uint8).data)
        if first:
            _write_header(file, dtype, (count, *shape))
        file.flush()
    return f"{shape_text((count, *shape))} {dtype}"


def _write_header(file: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    descr = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
