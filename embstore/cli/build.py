"""`embstore build`: from a file to a store."""

import time
from pathlib import Path

import embstore
from embstore.cli.arguments import JsonOption, OnOverflowOption, OverwriteOption, parse_dtype
from embstore.cli.build_options import (
    ColumnOption,
    DimensionOption,
    DtypeOption,
    EncodingErrorsOption,
    FormatOption,
    LimitOption,
    MemberOption,
    MemoryLimitOption,
    OnDuplicateOption,
    PartitionsOption,
    SourceArgument,
    StrategyOption,
    TargetArgument,
    TensorOption,
    UnkOption,
    WordColumnOption,
    WordsFileOption,
)
from embstore.cli.console import print_facts, progress_bar, warn
from embstore.cli.info import store_facts
from embstore.settle import as_size


def build(
    source: SourceArgument,
    store: TargetArgument,
    partitions: PartitionsOption = None,
    strategy: StrategyOption = "mod",
    dtype: DtypeOption = None,
    format: FormatOption = "auto",
    limit: LimitOption = None,
    words: WordsFileOption = None,
    member: MemberOption = None,
    tensor: TensorOption = None,
    column: ColumnOption = None,
    word_column: WordColumnOption = None,
    dimension: DimensionOption = None,
    encoding_errors: EncodingErrorsOption = None,
    on_duplicate: OnDuplicateOption = "first",
    unk: UnkOption = None,
    on_overflow: OnOverflowOption = "error",
    memory_limit: MemoryLimitOption = "1GiB",
    overwrite: OverwriteOption = False,
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
            memory_limit=as_size(memory_limit, "memory_limit"),
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
