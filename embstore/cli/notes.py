"""Notes about rows that were dropped or altered, and about what killed builds left."""

from pathlib import Path
from typing import Any

import numpy as np

from embstore.cli.console import printable, warn
from embstore.paths import as_url
from embstore.writing.disk.leftovers import leftovers


def warn_of_rows(facts: dict[str, Any], dtype: np.dtype[Any], encoding: str) -> None:
    """Print a note for each kind of row that was dropped or changed.

    Parameters
    ----------
    facts : dict
        The ``source`` of a store, or its facts about the last change.
    dtype : numpy.dtype
        That of the store.
    encoding : str
        That of the store.
    """
    if count := facts.get("duplicate_count"):
        warn(f"rows dropped because their word came before: {count}")
    if count := facts.get("non_finite_row_count"):
        warn(f"rows with values that are nan or inf, which were kept: {count}")
    if error := facts.get("largest_cast_error"):
        warn(f"numbers were rounded to {dtype}; the largest difference is {error:.3g}")
    if (error := facts.get("largest_encoding_error")) is not None:
        cosine = facts.get("mean_cosine")
        of_rows = "" if cosine is None else f"; the mean cosine of rows is {cosine:.6f}"
        warn(
            f"numbers were encoded as {encoding}; the largest difference is {error:.3g}, the "
            f"mean one {facts['mean_encoding_error']:.3g}{of_rows}"
        )
    if count := facts.get("overflow_count"):
        warn(f"numbers too large for {dtype}, which became infinite: {count}")


def warn_of_cut(facts: dict[str, Any], source: str) -> None:
    """Print a note if the last line of a text file may have been cut."""
    if facts.get("unterminated"):
        warn(f"the last line of {source} has no newline; make sure that the file was not cut")


def warn_of_leftovers(store: Path) -> None:
    """Print a note for each directory that a killed build left beside a store."""
    if as_url(store) is None:
        for path in leftovers(store):
            warn(
                f"{printable(path)} was left by a build that was killed; the next build removes "
                f"it, and so does: embstore clean {printable(store)}"
            )
