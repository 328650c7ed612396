"""Arguments and options that several commands have and no function of the library."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from embstore.errors import MissingWordError
from embstore.formats.options import TABLE_OPTIONS

StoreArgument = Annotated[Path, typer.Argument(help="The store's directory.", show_default=False)]
TableArgument = Annotated[
    Path,
    typer.Argument(
        help="A store, a .npy file, or a model (safetensors, GGUF), or the URL of one.",
        show_default=False,
    ),
]
# What `embstore.open` takes, and a command that opens a table once does not.
OPEN_WITHOUT = (
    *("reader", "verify", "resident_limit", "preload", "row_cache", "progress"),
    *("cache_dir", "cache_limit"),
)
WordsArgument = Annotated[
    list[str] | None, typer.Argument(help="Words to look up.", show_default=False)
]
IdsOption = Annotated[
    str | None, typer.Option("--ids", help="Ids instead of words, as in 0,5,17 or 2:10.")
]
_ID = re.compile("[0-9]{1,18}")
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def pop_open_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options of `embstore.open` out of those of a command, and return them."""
    names = (*TABLE_OPTIONS, "partitions", "version", "allow_http")
    return {name: options.pop(name) for name in names if name in options}


@contextmanager
def hint_of_ids(words: list[str] | None) -> Iterator[None]:
    """Tell how to give ids if the words that a store does not have look like some."""
    try:
        yield
    except MissingWordError as error:
        if not words or not all(map(_ID.fullmatch, words)):
            raise
        raise MissingWordError(f"{error}; give ids as --ids {','.join(words)}") from None


def parse_ids(ids: str, rows: int, option: str = "--ids") -> NDArray[np.int64]:
    """Return the ids of a list or of a range, as in 0,5,17 or 2:10; ``option`` gives them."""
    try:
        if ids.count(":") == 1:
            start, stop = (int(part) if part.strip() else None for part in ids.split(":"))
            return np.arange(start or 0, rows if stop is None else stop, dtype=np.int64)
        return np.array([int(part) for part in ids.split(",")], np.int64)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{ids!r} is not a list of ids; write them as in 0,5,17 or 2:10", param_hint=option
        ) from error
