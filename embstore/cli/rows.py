"""Commands that take rows out of a store: get, explain, export."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import embstore
from embstore import EmbeddingStore
from embstore.cli.arguments import (
    OPEN_WITHOUT,
    IdsOption,
    JsonOption,
    TableArgument,
    WordsArgument,
    parse_ids,
    pop_open_options,
)
from embstore.cli.console import print_facts, print_json, printable, progress_bar, warn
from embstore.cli.options import options_of
from embstore.cli.terminal import shown, typed
from embstore.dtypes import check_zero, is_float, wide_dtype
from embstore.sinks import SINKS

VALUES_SHOWN = 5


@options_of(
    embstore.open,
    EmbeddingStore.lookup,
    EmbeddingStore.lookup_words,
    without=("out", *OPEN_WITHOUT),
)
def get(
    store: TableArgument,
    words: WordsArgument = None,
    *,
    ids: IdsOption = None,
    npy: Annotated[
        Path | None, typer.Option(help="Write the rows to this .npy file.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Look rows up, by word or by id.

    \b
    Examples:
      embstore get glove.embstore like the country
      embstore get glove.embstore --ids 0,5,17 --npy rows.npy
      embstore get model.safetensors --tensor embed.weight --ids 0,5,17
    """
    words = None if words is None else [typed(word) for word in words]
    missing = options.pop("missing")
    with embstore.open(store, **pop_open_options(options)) as table:
        found = _ids_asked_for(table, words, ids, missing)
        known = found >= 0 if words else np.ones(len(found), bool)
        if known.all():
            rows = table.lookup(found, **options)
        else:
            check_zero(table.dtype, "--missing zeros")
            rows = np.zeros((len(found), *table.row_shape), table.dtype)
            rows[known] = table.lookup(found[known], **options)
        labels: list[str | None] = [None] * len(found)
        if words:
            labels = [*words]
        elif table.has_words:
            labels = table.words(found)
    if npy is not None:
        with npy.open("wb") as file:
            np.save(file, rows)
        typer.echo(f"{rows.shape} {rows.dtype} written to {printable(npy)}", err=True)
    if as_json:
        entries = [
            {"id": number if number >= 0 else None, "word": word, "row": _json_values(row)}
            for number, word, row in zip(found.tolist(), labels, rows, strict=True)
        ]
        print_json(entries)
    elif npy is None:
        _print_rows(found, labels, rows)


@options_of(
    embstore.open, EmbeddingStore.explain, EmbeddingStore.lookup_words, without=OPEN_WITHOUT
)
def explain(
    store: TableArgument,
    words: WordsArgument = None,
    *,
    ids: IdsOption = None,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Print what a lookup would touch and read, without reading.

    \b
    Examples:
      embstore explain glove.embstore like the country
      embstore explain glove.embstore --ids 0:100000
    """
    words = None if words is None else [typed(word) for word in words]
    missing = options.pop("missing")
    with embstore.open(store, **pop_open_options(options)) as table:
        found = _ids_asked_for(table, words, ids, missing)
        plan = table.explain(found[found >= 0] if words else found, **options)
    if as_json:
        named = {name.replace(" ", "_"): value for name, value in plan.summary().items()}
        print_json(named)
    else:
        typer.echo(str(plan))


@options_of(embstore.export, without=("progress",))
def export(
    store: TableArgument,
    file: Annotated[Path, typer.Argument(help="Where the file will be.", show_default=False)],
    *,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Write a store to a file that other programs read.

    Text has the shortest digits that give the same numbers back.

    \b
    Examples:
      embstore export glove.embstore glove.txt --format glove
      embstore export glove.embstore glove.npy --words words.txt
    """
    started = time.perf_counter()
    with progress_bar("export") as progress:
        report = embstore.export(store, file, progress=progress, **options)
    seconds = time.perf_counter() - started
    facts: dict[str, Any] = {
        "file": str(file),
        "format": report.format,
        "rows": report.rows,
        "bytes": report.byte_count,
        "seconds": round(seconds, 2),
        "rows_per_second": round(report.rows / seconds),
        "mb_per_second": round(report.byte_count / seconds / 1e6),
    }
    if report.largest_cast_error:
        facts["largest_cast_error"] = report.largest_cast_error
    print_facts(facts, as_json=as_json)
    if report.attributes_left_out:
        left_out = ", ".join(report.attributes_left_out)
        warn(f"{report.format} has no attributes; left out: {left_out} (parquet has them)")
    if not SINKS[report.format].has_words and options["words"] is None:
        with embstore.open(store, **pop_open_options(options)) as table:
            if table.has_words:
                warn(
                    f"{report.format} has no words; write them to a file of their own with "
                    "--words FILE"
                )


def _ids_asked_for(
    table: EmbeddingStore, words: list[str] | None, ids: str | None, missing: Any
) -> NDArray[np.int64]:
    """Return the ids of words, -1 for those that give zeros; or the ids that were given."""
    if words and ids is None:
        return table.ids(words, missing="none" if missing == "zeros" else missing)
    if words or ids is None:
        raise typer.BadParameter("give either words or --ids")
    return parse_ids(ids, table.rows)


def _print_rows(ids: NDArray[np.int64], words: Sequence[str | None], rows: NDArray[Any]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("id", justify="right")
    if any(word is not None for word in words):
        table.add_column("word", overflow="fold")
    table.add_column(f"row, {rows.shape[1:]} {rows.dtype}", overflow="fold")
    for number, word, row in zip(ids.tolist(), words, rows, strict=True):
        flat = row.ravel()
        values = " ".join(f"{value:>10.4g}" for value in flat[:VALUES_SHOWN])
        more = " ..." if flat.size > VALUES_SHOWN else ""
        cells = [
            str(number) if number >= 0 else "-",
            *([] if word is None else [shown(printable(word))]),
        ]
        table.add_row(*cells, values + more)
    # No markup: words such as "[UNK]" look like it.
    Console(markup=False, highlight=False, emoji=False).print(table)


def _json_values(row: NDArray[Any]) -> Any:
    """Return a row as lists of the shortest digits that give it back; nan and inf as null."""
    if row.ndim:
        return [_json_values(part) for part in row]
    if not is_float(row.dtype):
        return int(row)
    return float(str(row.astype(wide_dtype(row.dtype))[()])) if np.isfinite(row) else None
