"""The types of tensors in GGUF files: their numbers, and the size of their blocks.

A row of such a tensor is whole blocks, one after the other. The numbers are those that stand in
files; sizes are those of ggml's ``ggml_type`` (https://github.com/ggml-org/ggml). Q8_1 is left out:
no file holds it, and its references disagree on its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Block:
    """A type of blocks.

    Parameters
    ----------
    name : str
        Its name, such as ``"Q4_K"``.
    number : int
        Its number in files.
    values : int
        Numbers of a row that a block holds; 1 for plain numbers.
    bytes : int
        Size of a block.
    """

    name: str
    number: int
    values: int
    bytes: int


# The numbers are persistent: they stand in files.
BLOCKS: Final = {
    block.name: block
    for block in (
        Block("F32", 0, 1, 4),
        Block("F16", 1, 1, 2),
        Block("Q4_0", 2, 32, 18),
        Block("Q4_1", 3, 32, 20),
        Block("Q5_0", 6, 32, 22),
        Block("Q5_1", 7, 32, 24),
        Block("Q8_0", 8, 32, 34),
        Block("Q2_K", 10, 256, 84),
        Block("Q3_K", 11, 256, 110),
        Block("Q4_K", 12, 256, 144),
        Block("Q5_K", 13, 256, 176),
        Block("Q6_K", 14, 256, 210),
        Block("Q8_K", 15, 256, 292),
        Block("IQ2_XXS", 16, 256, 66),
        Block("IQ2_XS", 17, 256, 74),
        Block("IQ3_XXS", 18, 256, 98),
        Block("IQ1_S", 19, 256, 50),
        Block("IQ4_NL", 20, 32, 18),
        Block("IQ3_S", 21, 256, 110),
        Block("IQ2_S", 22, 256, 82),
        Block("IQ4_XS", 23, 256, 136),
        Block("I8", 24, 1, 1),
        Block("I16", 25, 1, 2),
        Block("I32", 26, 1, 4),
        Block("I64", 27, 1, 8),
        Block("F64", 28, 1, 8),
        Block("IQ1_M", 29, 256, 56),
        Block("BF16", 30, 1, 2),
        Block("TQ1_0", 34, 256, 54),
        Block("TQ2_0", 35, 256, 66),
        Block("MXFP4", 39, 32, 17),
        Block("NVFP4", 40, 64, 36),
        Block("Q1_0", 41, 128, 18),
    )
}

BY_NUMBER: Final = {block.number: block for block in BLOCKS.values()}
