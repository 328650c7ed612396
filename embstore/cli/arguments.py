"""The arguments that several commands take, and what they mean."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

import embstore
from embstore.dtypes import as_dtype
from embstore.encodings.casting import OnOverflow
from embstore.vocabulary.missing import Missing

StoreArgument = Annotated[Path, typer.Argument(help="The store's directory.", show_default=False)]
WordsArgument = Annotated[
    list[str] | None, typer.Argument(help="Words to look up.", show_default=False)
]
IdsOption = Annotated[
    str | None, typer.Option("--ids", help="Ids instead of words, as in 0,5,17 or 2:10.")
]
MissingOption = Annotated[Missing, typer.Option(help="What a word that is not there gives.")]
OnOverflowOption = Annotated[
    OnOverflow, typer.Option(help="Refuse a number that is too large, or store it as inf.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def parse_dtype(name: str) -> np.dtype[Any]:
    """Return the dtype of that name."""
    try:
        return as_dtype(name)
    except TypeError as error:
        raise typer.BadParameter(f"{name!r} is not a dtype", param_hint="--dtype") from error


def ids_of_words(
    table: embstore.EmbeddingStore, words: list[str], missing: Missing
) -> NDArray[np.int64]:
    """Return the ids of words, -1 for those that give zeros."""
    return table.ids(words, missing="none" if missing == "zeros" else missing)


def parse_ids(words: list[str] | None, ids: str | None, rows: int) -> NDArray[np.int64]:
    """Return the ids of a list or of a range, as in 0,5,17 or 2:10."""
    if words or ids is None:
        raise typer.BadParameter("give either words or --ids")
    try:
        if ids.count(":") == 1:
            start, stop = (int(part) if part.strip() else None for part in ids.split(":"))
            return np.arange(start or 0, rows if stop is None else stop, dtype=np.int64)
        return np.array([int(part) for part in ids.split(",")], np.int64)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{ids!r} is not a list of ids; write them as in 0,5,17 or 2:10", param_hint="--ids"
        ) from error
