"""`embstore build`: from a file to a store."""

import time
from pathlib import Path
from typing import Annotated

import typer

import embstore
from embstore.casting import OnOverflow
from embstore.cli.arguments import JsonOption, parse_dtype
from embstore.cli.console import print_facts, progress_bar, warn
from embstore.cli.info import store_facts
from embstore.partitions import Strategy
from embstore.sources import EncodingErrors, Format
from embstore.writer import OnDuplicate


def build(
    source: Annotated[
        Path,
        typer.Argument(
            help="GloVe, word2vec or fastText text, or word2vec binary, also .gz, .bz2, .xz, .zip; "
            ".npy, .npz, .safetensors, Parquet, Arrow; or a directory of one of these, but .npz.",
            show_default=False,
        ),
    ],
    store: Annotated[Path, typer.Argument(help="Where the store will be.", show_default=False)],
    partitions: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of partitions; if not given, as few as keep each below 16 GiB."
        ),
    ] = None,
    strategy: Annotated[Strategy, typer.Option(help="How ids are dealt out.")] = "mod",
    dtype: Annotated[
        str | None,
        typer.Option(help="What to store; by default what the source has, float32 for text."),
    ] = None,
    format: Annotated[
        Format,
        typer.Option(help="What the source is; glove is text without a header, word2vec with."),
    ] = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="Take only the first rows.")] = None,
    words: Annotated[
        Path | None, typer.Option(help="The words of an array's rows: a text file, one a line.")
    ] = None,
    member: Annotated[
        str | None, typer.Option(help="The member of a .zip or .npz that has several.")
    ] = None,
    tensor: Annotated[
        str | None, typer.Option(help="The tensor of a safetensors file that has several.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="The column with the rows; by default the only one of lists.")
    ] = None,
    word_column: Annotated[
        str | None, typer.Option(help="The column with the words; by default 'word', if there.")
    ] = None,
    dimension: Annotated[
        int | None,
        typer.Option(
            min=1, help="Numbers in a line; allows words that end in a number, as 'route 66'."
        ),
    ] = None,
    encoding_errors: Annotated[
        EncodingErrors | None,
        typer.Option(help="What to do with words that are not UTF-8; strict if not given."),
    ] = None,
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
    on_overflow: Annotated[
        OnOverflow, typer.Option(help="Refuse a number that is too large, or store it as inf.")
    ] = "error",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a store.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a store from a file of vectors.

    \b
    Examples:
      embstore build glove.6B.300d.txt glove.embstore --partitions 4
      embstore build model.safetensors model.embstore --tensor embed.weight --words vocab.txt
      embstore build vectors.parquet vectors.embstore --column embedding --word-column title
    """
    stored = None if dtype is None else parse_dtype(dtype)
    begin = time.perf_counter()
    with progress_bar("build") as progress:
        built = embstore.build(
            source,
            store,
            partitions=partitions,
            strategy=strategy,
            dtype=stored,
            format=format,
            limit=limit,
            words=words,
            member=member,
            tensor=tensor,
            column=column,
            word_column=word_column,
            dimension=dimension,
            encoding_errors=encoding_errors,
            on_duplicate=on_duplicate,
            unk=unk,
            on_overflow=on_overflow,
            overwrite=overwrite,
            progress=progress,
        )
    print_summary(built, store, time.perf_counter() - begin, as_json=as_json)
    if built.source.get("unterminated"):
        warn(f"the last line of {source} has no newline: make sure that the file was not cut")


def print_summary(
    built: embstore.EmbeddingStore, path: Path, seconds: float, *, as_json: bool
) -> None:
    """Print what a build has made, and how fast; note what a person should know."""
    source = built.source
    facts = store_facts(built, path)
    facts |= {
        "seconds": round(seconds, 2),
        "input_mb_per_second": round(source["bytes"] / seconds / 1e6),
    }
    print_facts(facts, as_json=as_json)
    if count := source["duplicate_count"]:
        warn(f"rows dropped because their word came before: {count}")
    if count := source["non_finite_row_count"]:
        warn(f"rows with values that are nan or inf, which were kept: {count}")
    if error := source.get("largest_cast_error"):
        warn(f"numbers were rounded to {built.dtype}; the largest difference is {error:.3g}")
    if count := source.get("overflow_count"):
        warn(f"numbers too large for {built.dtype}, which became infinite: {count}")
