"""The comparison of a table that embstore opens with other readings of the same files."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

import embstore
from embstore.errors import EmbstoreError

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

    from tests.campaigns.readings import Reading


def compare(
    path: Path, tensor: str | None, reads: Sequence[Reading], numbers: random.Random
) -> bool:
    """Open a table, and compare its rows with another reading; return whether it opened.

    Parameters
    ----------
    path : Path
        The file, or the directory of a model.
    tensor : str or None
        The tensor to open.
    reads : sequence of callable
        Each returns the records of the tensor that was opened; None if it cannot tell.
    numbers : Random
        Chooses the reader.
    """
    reader = numbers.choice(("mapped", "mapped", "chunked"))
    encoding = numbers.choice((None, "opaque"))
    with contextlib.suppress(EmbstoreError):
        embstore.tables(path)
    try:
        store = embstore.open(path, tensor=tensor, encoding=encoding, reader=reader)  # type: ignore[arg-type]
    except EmbstoreError:
        return False
    with store:
        ids = np.array(numbers.choices(range(store.rows), k=min(store.rows, 50)), np.int64)
        found = store.lookup(ids, raw=True)
        store.lookup(ids)
        for read in reads:
            tensors = read(store.source.get("tensor"))
            if tensors is None:
                continue
            if not any(
                # Scales follow the numbers.
                len(records) == store.rows
                and np.array_equal(found[:, : records.shape[1]], records[ids])
                for records in tensors
            ):
                raise AssertionError(f"{path}: not the rows of another reading: {read}")
    return True
