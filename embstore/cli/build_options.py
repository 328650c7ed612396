"""The options of `embstore build`: what the source is, and what becomes of its rows."""

from pathlib import Path
from typing import Annotated

import typer

from embstore.sources import EncodingErrors, Format
from embstore.table.partitioning import Strategy
from embstore.writing.new_words import OnDuplicate

SourceArgument = Annotated[
    Path,
    typer.Argument(
        help="GloVe, word2vec or fastText text, or word2vec binary, also .gz, .bz2, .xz, .zip; "
        ".npy, .npz, .safetensors, Parquet, Arrow; or a directory of one of these, but .npz.",
        show_default=False,
    ),
]
TargetArgument = Annotated[
    Path, typer.Argument(help="Where the store will be.", show_default=False)
]
PartitionsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of partitions; if not given, as few as keep each below 16 GiB."
    ),
]
StrategyOption = Annotated[Strategy, typer.Option(help="How ids are dealt out.")]
DtypeOption = Annotated[
    str | None,
    typer.Option(help="What to store; by default what the source has, float32 for text."),
]
FormatOption = Annotated[
    Format,
    typer.Option(help="What the source is; glove is text without a header, word2vec with."),
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="Take only the first rows.")]
WordsFileOption = Annotated[
    Path | None, typer.Option(help="The words of an array's rows: a text file, one a line.")
]
MemberOption = Annotated[
    str | None, typer.Option(help="The member of a .zip or .npz that has several.")
]
TensorOption = Annotated[
    str | None, typer.Option(help="The tensor of a safetensors file that has several.")
]
ColumnOption = Annotated[
    str | None, typer.Option(help="The column with the rows; by default the only one of lists.")
]
WordColumnOption = Annotated[
    str | None, typer.Option(help="The column with the words; by default 'word', if there.")
]
DimensionOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Numbers in a line; allows words that end in a number, as 'route 66'."
    ),
]
EncodingErrorsOption = Annotated[
    EncodingErrors | None,
    typer.Option(help="What to do with words that are not UTF-8; strict if not given."),
]
OnDuplicateOption = Annotated[OnDuplicate, typer.Option(help="Keep a word's first row, or stop.")]
UnkOption = Annotated[
    str | None,
    typer.Option(
        help="The word that stands for unknown ones; if not given, the first that is there of "
        "<unk>, [UNK], <UNK>, UNK."
    ),
]
MemoryLimitOption = Annotated[
    str,
    typer.Option(
        help="What the build may take of memory, besides Python and some blocks of the source."
    ),
]
