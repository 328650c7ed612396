"""Headers of GGUF files: the tensors in a file, and where their bytes are.

All numbers are little-endian. A text is its length (64 bits) and its bytes in UTF-8. A file has

1. ``GGUF``, the version (32 bits), the number of tensors and the number of keys (64 bits each);
2. for each key: its name (a text), the type of its value (32 bits), the value. An array is the type
   of its items (32 bits), their number (64 bits), and the items;
3. for each tensor: its name (a text), the number of dimensions (32 bits), the dimensions (64 bits
   each, the length of a row first), its type (32 bits), its offset (64 bits) in the data;
4. zeros up to a multiple of the alignment, then the data: the tensors, each at such a multiple. The
   key ``general.alignment`` gives the alignment; it is 32 by default.

Versions 2 and 3 differ in nothing else than that 3 allows big-endian files, which are refused here.
Version 1, of August 2023, had 32 bits where these have 64; it is refused, too. The format is
specified in the documentation of ggml (docs/gguf.md).

The header is untrusted: counts and lengths are bounded by the file's size and by the limits below,
and tensors must follow each other without gaps, as ggml itself demands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final

from embstore.encodings.ggml_types import BY_NUMBER
from embstore.errors import FormatError, StoreCorruptError
from embstore.formats.gguf.cursor import U32, U64, Cursor
from embstore.formats.names import quoted
from embstore.settle import shown_bytes
from embstore.wording import shape_text

if TYPE_CHECKING:
    from embstore.encodings.ggml_types import Block
    from embstore.table.protocols import Files

MAGIC: Final = b"GGUF"
DEFAULT_ALIGNMENT: Final = 32
MAX_KEYS: Final = 1 << 16
MAX_TENSORS: Final = 1 << 17
MAX_KEY_BYTES: Final = (1 << 16) - 1
MAX_NAME_BYTES: Final = 1024  # ggml allows 64.
MAX_DIMENSIONS: Final = 4
# ggml allows arrays of arrays in no file.
MAX_DEPTH: Final = 4
MAX_ARRAYS: Final = 1 << 16

_TEXT, _ARRAY = 8, 9
# The types of whole numbers, and the sizes of all types of one size.
_INTEGERS = {
    number: Struct(f"<{form}")
    for number, form in {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 10: "Q", 11: "q"}.items()
}
_SIZES = {number: form.size for number, form in _INTEGERS.items()} | {6: 4, 7: 1, 12: 8}
_ALIGNMENT = "general.alignment"
_SPLIT = ("split.no", "split.count", "split.tensors.count")
_LEAST_KEY_BYTES, _LEAST_TENSOR_BYTES = 13, 24


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor, as the header of its file describes it.

    Attributes
    ----------
    type : int
        Its type, by ggml's number.
    shape : tuple of int
        Its shape, the length of a row last.
    offset : int
        Its first byte in the file.
    """

    type: int
    shape: tuple[int, ...]
    offset: int

    @property
    def block(self) -> Block | None:
        """Its type; None if the number is unknown."""
        return BY_NUMBER.get(self.type)

    @property
    def size_bytes(self) -> int | None:
        """Number of its bytes; None if its type is unknown."""
        block = self.block
        return None if block is None else math.prod(self.shape) // block.values * block.bytes


@dataclass(frozen=True, slots=True)
class Split:
    """The place of a file among the parts of a model.

    Attributes
    ----------
    number, count : int
        The number of the part, from 0 on, and of all parts.
    tensor_count : int or None
        Tensors in all parts, if the header says so.
    """

    number: int
    count: int
    tensor_count: int | None


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a file.

    Attributes
    ----------
    tensors : dict of str to Tensor
        The tensors in the file, by name.
    split : Split or None
        Its place among several files; None if it is the only one.
    """

    tensors: dict[str, Tensor]
    split: Split | None


def read_header(files: Files, name: str) -> Header:
    """Return the header of a file.

    Raises
    ------
    StoreCorruptError
        If it is wrong.
    FormatError
        If its version cannot be read.
    """
    where = files.where(name)
    cursor = Cursor(lambda first, count: files.read(name, first, count), files.size(name))
    try:
        version = _version(cursor)
        if version not in (2, 3):
            raise FormatError(f"{where} {_version_problem(version)}")
        return _parse(cursor)
    except ValueError as error:
        if isinstance(error, FormatError | StoreCorruptError):
            raise
        raise StoreCorruptError(
            f"{where} is not a readable GGUF file: {error}; is the download complete?"
        ) from error


def _version(cursor: Cursor) -> int:
    magic = cursor.number(U32).to_bytes(4, "little")
    if magic != MAGIC:
        raise ValueError(f"it starts with {shown_bytes(magic)}, expected {shown_bytes(MAGIC)}")
    return cursor.number(U32)


def _version_problem(version: int) -> str:
    """Return why a version cannot be read, with a remedy."""
    if version and version & 0xFFFF == 0:
        return (
            "is a big-endian GGUF file; convert it with gguf_convert_endian of the gguf package, "
            "or take a little-endian file"
        )
    if version == 1:
        return (
            "is a GGUF file of version 1, expected 2 or 3; convert the model again with a current "
            "llama.cpp"
        )
    return f"is a GGUF file of version {version}, expected 2 or 3; embstore does not know it"


def _parse(cursor: Cursor) -> Header:
    tensor_count, key_count = cursor.number(U64), cursor.number(U64)
    _check_count(cursor, "keys", key_count, MAX_KEYS, _LEAST_KEY_BYTES)
    _check_count(cursor, "tensors", tensor_count, MAX_TENSORS, _LEAST_TENSOR_BYTES)
    facts = _read_keys(cursor, key_count)
    alignment = facts.get(_ALIGNMENT, DEFAULT_ALIGNMENT)
    if not 1 <= alignment < 1 << 32:
        raise ValueError(f"{_ALIGNMENT} is {alignment}")
    entries = _read_tensors(cursor, tensor_count)
    start = _padded(cursor.place, alignment)
    tensors = {
        name: Tensor(kind, shape, start + offset) for name, (kind, shape, offset) in entries.items()
    }
    _check_layout(tensors, start, alignment, cursor.size_bytes)
    return Header(tensors, _split_of(facts))


def _check_count(cursor: Cursor, what: str, count: int, most: int, least_bytes: int) -> None:
    if count > most:
        raise ValueError(f"it claims {count} {what}, more than {most}")
    if count * least_bytes > cursor.left:
        raise ValueError(
            f"it claims {count} {what}, more than fit into its {cursor.size_bytes} bytes"
        )


def _read_keys(cursor: Cursor, count: int) -> dict[str, int]:
    """Return the values of the keys that matter here; skip the others."""
    seen: set[str] = set()
    facts = {}
    arrays_left = MAX_ARRAYS
    for _ in range(count):
        key = cursor.text("a key", MAX_KEY_BYTES)
        if key in seen:
            raise ValueError(f"the key {quoted(key)} is repeated")
        seen.add(key)
        kind = cursor.number(U32)
        if key == _ALIGNMENT or key in _SPLIT:
            if kind not in _INTEGERS:
                raise ValueError(f"{key} has a value of type {kind}, expected a whole number")
            facts[key] = cursor.number(_INTEGERS[kind])
        else:
            arrays_left = _skip_value(cursor, kind, arrays_left)
    return facts


def _skip_value(cursor: Cursor, kind: int, arrays_left: int, depth: int = 0) -> int:
    """Skip a value; return how many arrays may follow, of those that might when it began."""
    if kind in _SIZES:
        cursor.skip(_SIZES[kind])
    elif kind == _TEXT:
        cursor.skip(cursor.number(U64))
    elif kind != _ARRAY:
        raise ValueError(f"a value has the unknown type {kind}, at byte {cursor.place}")
    else:
        if depth == MAX_DEPTH or not arrays_left:
            raise ValueError(f"arrays are nested too deeply or too often, at byte {cursor.place}")
        arrays_left -= 1
        kind, count = cursor.number(U32), cursor.number(U64)
        least_bytes = _SIZES.get(kind, 8)
        if count * least_bytes > cursor.left:
            raise ValueError(
                f"it claims an array of {count} items at byte {cursor.place}, but has "
                f"{cursor.size_bytes} bytes"
            )
        if kind in _SIZES:
            cursor.skip(count * least_bytes)
        elif kind == _TEXT:
            cursor.skip_texts(count)
        else:
            for _ in range(count):
                arrays_left = _skip_value(cursor, kind, arrays_left, depth + 1)
    return arrays_left


def _read_tensors(cursor: Cursor, count: int) -> dict[str, tuple[int, tuple[int, ...], int]]:
    """Return the type, shape and offset of each tensor."""
    found: dict[str, tuple[int, tuple[int, ...], int]] = {}
    for _ in range(count):
        name = cursor.text("a tensor's name", MAX_NAME_BYTES)
        if name in found:
            raise ValueError(f"the tensor {quoted(name)} is repeated")
        dimensions = cursor.number(U32)
        if dimensions > MAX_DIMENSIONS:
            raise ValueError(
                f"the tensor {quoted(name)} has {dimensions} dimensions, more than {MAX_DIMENSIONS}"
            )
        shape = tuple(cursor.number(U64) for _ in range(dimensions))[::-1]
        if math.prod(max(axis, 1) for axis in shape) >= 1 << 62:
            raise ValueError(f"the tensor {quoted(name)} has the shape {shape_text(shape)}")
        kind, offset = cursor.number(U32), cursor.number(U64)
        block = BY_NUMBER.get(kind)
        width = shape[-1] if shape else 1
        if block is not None and width % block.values:
            raise ValueError(
                f"the tensor {quoted(name)} of type {block.name} has rows of {width} numbers, "
                f"expected a multiple of {block.values}, which are one block"
            )
        found[name] = kind, shape, offset
    return found


def _check_layout(tensors: dict[str, Tensor], start: int, alignment: int, stop: int) -> None:
    """Check that the tensors follow each other from byte ``start`` on, and fill the file.

    A tensor of an unknown type may end anywhere before the next.
    """
    end: int | None = start
    last, before = start, "the header"
    for name, tensor in sorted(
        tensors.items(), key=lambda item: (item[1].offset, item[1].size_bytes or 0)
    ):
        if (tensor.offset - start) % alignment:
            raise ValueError(
                f"the tensor {quoted(name)} starts at byte {tensor.offset - start} of the data, "
                f"not at a multiple of {alignment}"
            )
        expected = None if end is None else _padded(end, alignment)
        if expected is not None and tensor.offset != expected:
            what = "overlap" if tensor.offset < expected else "leave a gap"
            raise ValueError(
                f"the tensor {quoted(name)} starts at byte {tensor.offset}, but {before} ends at "
                f"byte {end}: they {what}"
            )
        size = tensor.size_bytes
        end, before = None if size is None else tensor.offset + size, f"the tensor {quoted(name)}"
        last = tensor.offset
    if (end if end is not None else last) > stop:
        raise ValueError(f"{before} ends at byte {end or last}, but the file has {stop} bytes")
    if tensors and end is not None and stop > _padded(end, alignment):
        raise ValueError(f"{stop - end} bytes after {before} belong to no tensor")


def _split_of(facts: dict[str, int]) -> Split | None:
    number, count, tensor_count = (facts.get(key) for key in _SPLIT)
    if count is None or count in (0, 1):
        return None
    if number is None or not 0 <= number < count < 1 << 16:
        raise ValueError(f"it is part {number} (split.no, from 0 on) of {count} (split.count)")
    return Split(number, count, tensor_count)


def _padded(place: int, alignment: int) -> int:
    return -(-place // alignment) * alignment
