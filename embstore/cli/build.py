"""`embstore build`: from a file to a store."""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import embstore
from embstore.cli.arguments import JsonOption
from embstore.cli.console import print_facts, progress_bar, warn
from embstore.cli.info import store_facts
from embstore.partitions import Strategy
from embstore.sources import EncodingErrors, TextFormat
from embstore.writer import OnDuplicate


def build(
    source: Annotated[
        Path,
        typer.Argument(
            help="GloVe, word2vec or fastText text; may be .gz, .bz2, .xz, .zip.",
            show_default=False,
        ),
    ],
    store: Annotated[Path, typer.Argument(help="Where the store will be.", show_default=False)],
    partitions: Annotated[int, typer.Option(min=1, help="Number of partitions.")] = 1,
    strategy: Annotated[Strategy, typer.Option(help="How ids are dealt out.")] = "mod",
    dtype: Annotated[str, typer.Option(help="What to store.")] = "float32",
    format: Annotated[
        TextFormat, typer.Option(help="Without (glove) or with (word2vec) a header line.")
    ] = "auto",
    member: Annotated[
        str | None, typer.Option(help="The member of a .zip that has several.")
    ] = None,
    encoding_errors: Annotated[
        EncodingErrors, typer.Option(help="What to do with words that are not UTF-8.")
    ] = "strict",
    on_duplicate: Annotated[
        OnDuplicate, typer.Option(help="Keep a word's first row, or stop.")
    ] = "first",
    unk: Annotated[
        str | None,
        typer.Option(
            help="The word that stands for unknown ones; if not given, the first that is there of "
            "<unk>, [UNK], <UNK>, UNK."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a store.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a store from a text file of vectors.

    \b
    Example:
      embstore build glove.6B.300d.txt glove.embstore --partitions 4
    """
    try:
        stored = np.dtype(dtype)
    except TypeError as error:
        raise typer.BadParameter(f"{dtype!r} is not a dtype", param_hint="--dtype") from error
    begin = time.perf_counter()
    with progress_bar("build") as progress:
        built = embstore.build(
            source,
            store,
            partitions=partitions,
            strategy=strategy,
            dtype=stored,
            format=format,
            member=member,
            encoding_errors=encoding_errors,
            on_duplicate=on_duplicate,
            unk=unk,
            overwrite=overwrite,
            progress=progress,
        )
    seconds = time.perf_counter() - begin
    facts = store_facts(built, store)
    read_bytes = built.source["bytes"]
    facts |= {
        "seconds": round(seconds, 2),
        "input_mb_per_second": round(read_bytes / seconds / 1e6),
    }
    print_facts(facts, as_json=as_json)
    if built.source["unterminated"]:
        warn(f"the last line of {source} has no newline: make sure that the file was not cut")
    if count := built.source["duplicate_count"]:
        warn(f"rows dropped because their word came before: {count}")
    if count := built.source["non_finite_row_count"]:
        warn(f"rows with values that are nan or inf, which were kept: {count}")
