"""Encoded tables in files made by hand, and their rows, decoded by ml_dtypes and NumPy alone.

A test opens them by `opened`, which adds a format of its own to embstore: a file that ends with
``.table`` stands for a table made before.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

import embstore
from embstore import formats
from embstore.encodings.scaled import Groups, Scaled
from embstore.table.extents import Column, Extent
from embstore.table.numbering import Numbering
from embstore.table.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest
    from numpy.typing import NDArray

    from embstore.encodings.opaque import Opaque

WIDTH = 24


@dataclass(frozen=True)
class Encoded:
    """A table as it is stored, and as it is decoded.

    Attributes
    ----------
    encoding : Scaled or Opaque
        The encoding.
    fields : tuple of ndarray of uint8, shape (records, bytes)
        The records of each column.
    rows : ndarray, shape (rows, WIDTH)
        The numbers.
    shares : tuple of int
        How many rows share a record, for each column.
    """

    encoding: Scaled | Opaque
    fields: tuple[NDArray[np.uint8], ...]
    rows: NDArray[Any]
    shares: tuple[int, ...] = field(default=(1, 1, 1))

    @property
    def raw(self) -> NDArray[np.uint8]:
        """The stored bytes of each row, shape (rows, record_bytes)."""
        return self.raw_of(np.arange(len(self.rows)))

    def raw_of(self, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the stored bytes of the rows of ids."""
        return np.concatenate(
            [some[ids // share] for some, share in zip(self.fields, self.shares, strict=False)], 1
        )


def _codes(count: int, seed: int) -> NDArray[np.uint8]:
    codes = np.random.default_rng(seed).integers(0, 256, (count, WIDTH), dtype=np.uint8)
    codes[codes & 0x7F == 0x7F] = 0x30  # Without NaN, which tests of encodings have.
    return codes


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).view(np.uint8).reshape(len(array), -1)


def _scales(count: int, groups: int, dtype: Any) -> NDArray[Any]:
    numbers = np.random.default_rng(count).uniform(0.01, 2, (count, groups))
    return numbers.astype(dtype)


def one_scale(count: int) -> Encoded:
    codes = _codes(count, 1)
    rows = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32) * np.float32(0.125)
    return Encoded(Scaled("float8_e4m3fn", (WIDTH,), 0.125), (codes,), rows)


def scale_a_row(count: int) -> Encoded:
    codes, scales = _codes(count, 2), _scales(count, 1, ml_dtypes.bfloat16)
    rows = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32) * scales.astype(np.float32)
    encoding = Scaled("float8_e4m3fn", (WIDTH,), scales=Groups("bfloat16", 1, WIDTH))
    return Encoded(encoding, (codes, _bytes(scales)), rows)


def groups(count: int) -> Encoded:
    codes, scales = _codes(count, 3), _scales(count, 3, np.float32)
    rows = codes.view(np.int8).astype(np.float32) * np.repeat(scales, 8, 1)
    encoding = Scaled("int8", (WIDTH,), scales=Groups("float32", 3, 8))
    return Encoded(encoding, (codes, _bytes(scales)), rows)


def joined(count: int) -> Encoded:
    apart = groups(count)
    encoding = Scaled("int8", (WIDTH,), scales=Groups("float32", 3, 8), joined=True)
    return Encoded(encoding, (np.concatenate(apart.fields, 1),), apart.rows)


def blocks(count: int) -> Encoded:
    """Scales for 7 rows by 16 numbers; the last blocks are short."""
    codes, scales = _codes(count, 4), _scales(-(-count // 7), 2, np.float32)
    spread = np.repeat(np.repeat(scales, 7, 0)[:count], 16, 1)[:, :WIDTH]
    rows = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32) * spread
    encoding = Scaled("float8_e4m3fn", (WIDTH,), scales=Groups("float32", 2, 16))
    return Encoded(encoding, (codes, _bytes(scales)), rows, (1, 7))


def zero_points(count: int) -> Encoded:
    """Unsigned codes of 4 bits, the low nibble first, with scales and zero points."""
    packed = _codes(count, 5)[:, : WIDTH // 2].copy()
    codes = np.stack([packed & 15, packed >> 4], -1).reshape(count, WIDTH).astype(np.float32)
    scales, zeros = _scales(count, 1, np.float16), _codes(count, 6)[:, :1] & np.uint8(15)
    rows = (codes - zeros.astype(np.float32)) * scales.astype(np.float32)
    encoding = Scaled(
        *("uint4", (WIDTH,)),
        scales=Groups("float16", 1, WIDTH),
        zero_points=Groups("uint8", 1, WIDTH),
    )
    return Encoded(encoding, (packed, _bytes(scales), zeros), rows)


KINDS = {
    made.__name__: made for made in (one_scale, scale_a_row, groups, joined, blocks, zero_points)
}

# Tables by the name of the file that stands for them.
_tables: dict[str, Table] = {}


def save(folder: Path, table: Encoded, *, parts: int = 3, offset: int = 5) -> Path:
    """Write the columns of a table, each in several parts; return the path to open.

    Parameters
    ----------
    parts : int
        Extents of each column; each is in a file of its own.
    offset : int
        First byte of the first extent; that of the others differs.
    """
    columns = []
    for at, (records, share) in enumerate(zip(table.fields, table.shares, strict=False)):
        extents = []
        for part, some in enumerate(np.array_split(records, parts)):
            name, start = f"column{at}.part{part}", offset * (part + 1)
            (folder / name).write_bytes(bytes(start) + some.tobytes())
            extents.append(Extent(name, start, len(some)))
        columns.append(Column(tuple(extents), records.shape[1], share))
    path = folder / "made.table"
    path.write_bytes(b"table")
    _tables[str(path)] = Table(tuple(columns), table.encoding, Numbering(len(table.rows)))
    return path


def _describe(files: Any, name: str) -> Table:
    return _tables[str(files.path(name))]


@contextmanager
def known(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let embstore open what `save` has written."""
    made = formats.Format(
        *("made", "a made table", ("*.table",)),
        matches=lambda _, name: name.endswith(".table"),
        main_file=lambda files: "",
        describe=_describe,
    )
    with patch.context() as some:
        some.setattr(formats, "FORMATS", (*formats.FORMATS, made))
        yield


@contextmanager
def opened(
    folder: Path, table: Encoded, patch: pytest.MonkeyPatch, *, parts: int = 3, **options: Any
) -> Iterator[embstore.EmbeddingStore]:
    """Open a table that is written first."""
    path = save(folder, table, parts=parts)
    with known(patch), embstore.open(path, **options) as store:
        yield store
