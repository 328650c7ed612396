"""Files of the values of an attribute: a ``.npy`` of one axis, or text with one value a line.

Text is UTF-8, also compressed. Its values decide the dtype, as `embstore.sources.text.columns`
says: whole numbers are int64, other numbers float64, texts strings.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from embstore.errors import SourceError
from embstore.formats import NPY
from embstore.formats.own.spec import STRING
from embstore.sources.arrays.npy import BESIDE, open_array
from embstore.sources.files.kinds import TEXT
from embstore.sources.text.blocks import TextFile
from embstore.sources.text.columns import ColumnScan, column_values
from embstore.vocabulary.words import PackedWords, pack_encoded
from embstore.wording import shape_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embstore.sources.text.blocks import Block

_REMEDY = "write the values as .npy, which has a dtype"


def read_values(path: Path, name: str) -> Any:
    """Return the values in a file.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        The name of the attribute, for messages.

    Returns
    -------
    ndarray or PackedWords, n values

    Raises
    ------
    SourceError
        If it is missing or damaged, or its values are of several kinds.
    """
    text = TextFile(path)
    if text.kind.name == NPY.name:
        array = open_array(text, BESIDE)
        if len(array.shape) != 1:
            raise SourceError(
                f"{text.name} has shape {shape_text(array.shape)}; expected (rows,), one value for "
                f"each row, for the attribute {name!r}"
            )
        return array[: array.shape[0]]
    if text.kind.name != TEXT.name:
        raise SourceError(
            f"{text.name} is {text.kind.what}; for the attribute {name!r}, pass a .npy file, or "
            "text with one value a line"
        )
    scan = ColumnScan(name, _REMEDY)
    for block, values in _values(text):
        scan.add(values, text.name, block.first_line)
    dtype = scan.dtype()
    parts = []
    for block, values in _values(text):
        place = partial(_place, text, block)
        parts.append(column_values(values, dtype, "strict", place))
    if dtype != STRING:
        return np.concatenate([np.empty(0, dtype), *parts])
    words = (part.encoded() for part in parts if isinstance(part, PackedWords))
    return pack_encoded([word for some in words for word in some])


def _values(text: TextFile) -> Iterator[tuple[Block, pa.BinaryArray]]:
    """Yield the blocks of a file, and the value of each line."""
    for block in text.blocks():
        lines = block.data.removesuffix(b"\n").split(b"\n")
        yield block, pa.array([line.rstrip(b" \t\r") for line in lines], pa.binary())


def _place(text: TextFile, block: Block, row: int) -> str:
    return f"{text.name}:{block.first_line + row}"
