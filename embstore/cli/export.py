"""`embstore export`: from a store to a file of vectors."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

import embstore
from embstore.cli.arguments import JsonOption, OverwriteOption, StoreArgument, parse_dtype
from embstore.cli.console import print_facts, progress_bar, warn
from embstore.sinks import ExportFormat


def export(
    store: StoreArgument,
    file: Annotated[Path, typer.Argument(help="Where the file will be.", show_default=False)],
    format: Annotated[
        ExportFormat | None,
        typer.Option(help="By default what .vec (word2vec), .bin, .npy or .parquet says."),
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="What the numbers become first.")] = None,
    words: Annotated[
        Path | None,
        typer.Option(help="For npy: the file of the words, one a line.", show_default=False),
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a store to a file that other programs read.

    Text is written in the shortest digits that give the same numbers back.

    \b
    Examples:
      embstore export glove.embstore glove.txt --format glove
      embstore export glove.embstore glove.npy --words words.txt
    """
    begin = time.perf_counter()
    with progress_bar("export") as progress:
        report = embstore.export(
            store,
            file,
            format=format,
            dtype=None if dtype is None else parse_dtype(dtype),
            words=words,
            overwrite=overwrite,
            progress=progress,
        )
    seconds = time.perf_counter() - begin
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
    if report.format == "npy" and words is None:
        with embstore.open(store) as table:
            if table.has_words:
                warn("a .npy holds no words; --words FILE writes them to a file of their own")
