"""`embstore get`: rows, by word or by id."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import embstore
from embstore.cli.arguments import (
    IdsOption,
    JsonOption,
    MissingOption,
    StoreArgument,
    WordsArgument,
    ids_of_words,
    parse_ids,
)
from embstore.cli.console import printable
from embstore.dtypes import is_float, wide_dtype

VALUES_SHOWN = 5


def get(
    store: StoreArgument,
    words: WordsArgument = None,
    ids: IdsOption = None,
    missing: MissingOption = "error",
    as_json: JsonOption = False,
    npy: Annotated[
        Path | None, typer.Option(help="Write the rows to this .npy file.", show_default=False)
    ] = None,
) -> None:
    """Look rows up, by word or by id.

    \b
    Examples:
      embstore get glove.embstore like the country
      embstore get glove.embstore --ids 0,5,17 --npy rows.npy
    """
    with embstore.open(store) as table:
        if words and ids is None:
            rows = table.lookup_words(words, missing=missing)
            found = ids_of_words(table, words, missing)
        else:
            found = parse_ids(words, ids, table.rows)
            rows = table.lookup(found)
            words = table.words(found) if table.has_words else None
    if npy is not None:
        with npy.open("wb") as file:
            np.save(file, rows)
        Console(stderr=True).print(f"{rows.shape} {rows.dtype} written to {npy}", highlight=False)
    labels: list[str | None] = [None] * len(found) if words is None else list(words)
    if as_json:
        entries = [
            {"id": number if number >= 0 else None, "word": word, "row": _json_values(row)}
            for number, word, row in zip(found.tolist(), labels, rows, strict=True)
        ]
        typer.echo(json.dumps(entries, ensure_ascii=False))
    elif npy is None:
        _print_rows(found, labels, rows)


def _print_rows(ids: NDArray[np.int64], words: list[str | None], rows: NDArray[Any]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("id", justify="right")
    if any(word is not None for word in words):
        table.add_column("word", overflow="fold")
    table.add_column(f"row, {rows.shape[1:]} {rows.dtype}", overflow="fold")
    for number, word, row in zip(ids.tolist(), words, rows, strict=True):
        flat = row.ravel()
        values = " ".join(f"{value:>10.4g}" for value in flat[:VALUES_SHOWN])
        more = " ..." if flat.size > VALUES_SHOWN else ""
        cells = [str(number) if number >= 0 else "-", *([] if word is None else [printable(word)])]
        table.add_row(*cells, values + more)
    # No markup: a word may look like it ("[UNK]" does).
    Console(markup=False, highlight=False, emoji=False).print(table)


def _json_values(row: NDArray[Any]) -> Any:
    """Return a row as lists of the shortest digits that give it back; nan and inf as null."""
    if row.ndim:
        return [_json_values(part) for part in row]
    if not is_float(row.dtype):
        return int(row)
    return float(str(row.astype(wide_dtype(row.dtype))[()])) if np.isfinite(row) else None
