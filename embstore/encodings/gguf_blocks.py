"""Quantised blocks of GGUF tensors as an encoding: a row is whole blocks.

The numbers are float32, computed in the order of gguf-py's ``gguf.quants.dequantize``, with the
same bits. Rows are decoded in pieces that stay in the processor's cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embstore.encodings.ggml_codes import UNPACK
from embstore.encodings.ggml_types import BLOCKS
from embstore.wording import shape_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Decoded bytes of a piece. Smaller ones take longer for their calls: 1.2 times as long at 1 << 18.
PIECE_BYTES: Final = 1 << 20
# The same for results of another dtype, for which the memory of float32 is allocated: larger
# memory is returned to the system and faulted in for each piece, at four times the time.
SCRATCH_BYTES: Final = 120 << 10


@dataclass(frozen=True, slots=True)
class GgufBlocks:
    """The encoding of rows of blocks.

    Parameters
    ----------
    type : str
        A type of blocks whose numbers are known, a name of `embstore.encodings.ggml_codes.UNPACK`.
    row_shape : tuple of int
        Shape of a row. Its last axis is whole blocks.

    Raises
    ------
    ValueError
        If the numbers of the type are unknown, or a row is not whole blocks.

    Examples
    --------
    >>> encoding = GgufBlocks("Q8_0", (64,))
    >>> encoding.record_bytes
    68
    >>> record = np.zeros((1, 68), np.uint8)
    >>> record[0, :4] = [0, 0x38, 3, 255]  # A block: the scale 0.5, the codes 3, -1, 0, ...
    >>> rows = np.empty((1, 64), np.float32)
    >>> encoding.decode((record,), rows)
    >>> rows[0, :3].tolist()
    [1.5, -0.5, 0.0]
    """

    type: str
    row_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.type not in UNPACK:
            raise ValueError(
                f"blocks of type {self.type!r} cannot be decoded; expected one of "
                f"{', '.join(UNPACK)}"
            )
        values = BLOCKS[self.type].values
        if not self.row_shape or self.row_shape[-1] % values:
            raise ValueError(
                f"a row of shape {shape_text(self.row_shape)} is not whole blocks of {values} "
                f"values, as {self.type} needs"
            )

    @property
    def name(self) -> str:
        """Name of the encoding: its type."""
        return self.type

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of decoded rows: float32."""
        return np.dtype(np.float32)

    @property
    def record_bytes(self) -> int:
        """Size of a record: that of a row's blocks."""
        block = BLOCKS[self.type]
        return math.prod(self.row_shape) // block.values * block.bytes

    def decode(self, records: tuple[NDArray[np.uint8], ...], out: NDArray[Any]) -> None:
        """Fill ``out`` with rows; see `embstore.table.protocols.Encoding`.

        Parameters
        ----------
        records : tuple of one ndarray of uint8, shape (n, record_bytes)
            Blocks.
        out : ndarray of any float dtype, shape (n, *row_shape), C-contiguous
            Numbers of other dtypes than float32 are those of float32, rounded to the nearest.
        """
        (blocks,) = records
        limit = PIECE_BYTES if out.dtype == np.float32 else SCRATCH_BYTES
        step = max(limit // (4 * math.prod(self.row_shape) or 1), 1)
        if not out.size:
            return
        if len(out) <= step:
            self._decode_piece(blocks, out)
            return
        for first in range(0, len(out), step):
            self._decode_piece(blocks[first : first + step], out[first : first + step])

    @np.errstate(over="ignore", invalid="ignore")
    def _decode_piece(self, records: NDArray[np.uint8], out: NDArray[Any]) -> None:
        block = BLOCKS[self.type]
        numbers = out if out.dtype == np.float32 else np.empty(out.shape, np.float32)
        blocks = numbers.reshape(-1, block.values)
        terms = UNPACK[self.type](records.reshape(-1, block.bytes), blocks)
        if terms is not None:
            groups = blocks.reshape(*terms.scales.shape[:-1], -1)
            groups *= terms.scales
            if terms.minima is not None:
                groups -= terms.minima
            elif terms.offsets is not None:
                groups += terms.offsets
        if numbers is not out:
            out[...] = numbers
