"""`embstore repartition`: from one store to another."""

import time
from pathlib import Path
from typing import Annotated

import typer

import embstore
from embstore.cli.arguments import (
    JsonOption,
    OnOverflowOption,
    OverwriteOption,
    StoreArgument,
    parse_dtype,
)
from embstore.cli.build import print_summary
from embstore.cli.console import progress_bar
from embstore.export import RESIDENT_LIMIT
from embstore.table.partitioning import Strategy


def repartition(
    store: StoreArgument,
    new: Annotated[
        Path,
        typer.Argument(
            help="Where the new store will be; may be the same one.", show_default=False
        ),
    ],
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Number of partitions; if not given, it stays.")
    ] = None,
    strategy: Annotated[
        Strategy | None, typer.Option(help="How ids are dealt out; if not given, it stays.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="What to store; if not given, it stays.")
    ] = None,
    on_overflow: OnOverflowOption = "error",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Deal the rows of a store out anew, or store them as another dtype.

    Ids, words and the unk word stay what they are.

    \b
    Examples:
      embstore repartition glove.embstore glove16.embstore --partitions 16 --strategy div
      embstore repartition glove.embstore glove.embstore --dtype float16 --overwrite
    """
    stored = None if dtype is None else parse_dtype(dtype)
    begin = time.perf_counter()
    with (
        embstore.open(store, resident_limit=RESIDENT_LIMIT) as table,
        progress_bar("repartition") as progress,
    ):
        built = embstore.build(
            table,
            new,
            partitions=partitions or table.partition_count,
            strategy=strategy or table.strategy,
            dtype=stored,
            on_overflow=on_overflow,
            overwrite=overwrite,
            progress=progress,
        )
    print_summary(built, new, time.perf_counter() - begin, as_json=as_json)
