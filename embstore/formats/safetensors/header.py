"""The header of a ``.safetensors`` file: the dtype, shape and place of each tensor.

A file starts with 8 bytes, little-endian: the size of its header. The header is JSON, and gives the
dtype and shape of each tensor, and the range of its bytes behind the header. The tensors fill the
file, one after the other; their numbers are uncompressed, in C order. The format is specified in
the README of the safetensors library.

A header is untrusted: its size and those of its tensors are checked before anything is made of
them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from embstore.dtypes import DTYPES
from embstore.errors import StoreCorruptError
from embstore.formats.names import quoted, shown
from embstore.wording import shape_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from embstore.table.protocols import Files

    # Returns what is wrong with a shape, dtype, first and last offset; None if nothing is.
    _Check = Callable[[Any, Any, Any, Any], str | None]

MAX_HEADER_BYTES: Final = 100_000_000  # The safetensors library's own limit.
MAX_AXES: Final = 64  # As many as an ndarray can have.
MAX_LENGTH: Final = 1 << 62  # Of an axis, and of a tensor in bytes.
SIZE_BYTES: Final = 8
# Of 262,144 tensors. Parsing takes time and memory for each of these, whatever they mean.
_MOST: Final = {b"{": 1 << 18, b"[": 1 << 19, b",": 1 << 21, b'"': 1 << 23}
# Most headers fit in one read of this size.
_FIRST_READ: Final = 64 << 10
# Bits of a number, by the format's names of dtypes.
BITS: Final = {
    **{row.safetensors: row.numpy.itemsize * 8 for row in DTYPES.values() if not row.is_extension},
    **{"BF16": 16, "BOOL": 8, "C64": 64},
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **{"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4},
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor, as the header of its file describes it.

    Attributes
    ----------
    name : str
        Its name.
    file : str
        The file that it is in.
    dtype : str
        Its dtype, by the format's name.
    shape : tuple of int
        Its shape, in numbers also where several are packed in a byte.
    offset, size_bytes : int
        First byte in the file, and number of bytes.
    """

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int

    @property
    def end(self) -> int:
        """The byte after its last."""
        return self.offset + self.size_bytes

    @property
    def count(self) -> int:
        """Number of its numbers."""
        return math.prod(self.shape)

    @property
    def summary(self) -> str:
        """Its dtype and shape, for messages."""
        return f"{shown(self.dtype)} {list(self.shape)}"


def read_header(files: Files, file: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises
    ------
    StoreCorruptError
        If the header is wrong, the file is shorter than its tensors, or bytes in it belong to no
        tensor or to several.
    """
    try:
        data = files.read(file, 0, _FIRST_READ)
        size = int.from_bytes(data[:SIZE_BYTES], "little")
        if size > MAX_HEADER_BYTES:
            raise ValueError(f"its header has {size} bytes, more than {MAX_HEADER_BYTES}")
        start, file_bytes = SIZE_BYTES + size, files.size(file)
        if start > file_bytes:
            raise ValueError(
                f"its header ends at byte {start}, but the file has {file_bytes} bytes"
            )
        if start > len(data):
            data = files.read(file, 0, start)
        header = read_json(data[SIZE_BYTES:start])
        header.pop("__metadata__", None)
        check = _problem if _may_be_wrong(header) else _wrong_size
        tensors = {name: _tensor(name, file, entry, start, check) for name, entry in header.items()}
        _check_cover(tensors, start, file_bytes)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        if isinstance(error, StoreCorruptError):
            raise
        problem = error if isinstance(error, ValueError) else repr(error)
        raise StoreCorruptError(
            f"{files.where(file)} is not a readable safetensors file: {problem}; is the download "
            "complete?"
        ) from error
    return tensors


def read_json(text: bytes) -> Any:
    """Return a JSON document; ValueError or RecursionError if it is wrong, or repeats a name."""
    for mark, most in _MOST.items():
        if (count := text.count(mark)) > most:
            raise ValueError(f"it has {count} of {mark.decode()!r}, more than {most}")
    return json.loads(
        text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
    )


def _refuse_constant(name: str) -> float:
    """Refuse NaN and infinities, which Python's parser takes and JSON does not have."""
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict; refuse repeated names."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the name {name[:200]!r} is repeated")
            seen.add(name)
    return found


def _check_cover(tensors: dict[str, Tensor], start: int, stop: int) -> None:
    """Check that the tensors follow each other from byte ``start`` on, and fill the file."""
    end, before = start, ""
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.offset, tensor.end)):
        if tensor.offset != end:
            what = "overlap" if tensor.offset < end else "leave a gap"
            raise ValueError(
                f"the tensor {quoted(tensor.name)} starts at byte {tensor.offset}, but "
                f"{_named(before)} ends at byte {end}: they {what}"
            )
        end, before = tensor.end, tensor.name
    if end < stop:
        raise ValueError(f"{stop - end} bytes after {_named(before)} belong to no tensor")
    if end > stop:
        raise ValueError(f"{_named(before)} ends at byte {end}, but the file has {stop} bytes")


def _named(before: str) -> str:
    return f"the tensor {quoted(before)}" if before else "the header"


def _tensor(name: str, file: str, entry: dict[str, Any], start: int, check: _Check) -> Tensor:
    shape, dtype = entry["shape"], entry["dtype"]
    begin, end = entry["data_offsets"]
    if problem := check(shape, dtype, begin, end):
        raise ValueError(f"the tensor {quoted(name)} {problem}")
    return Tensor(name, file, dtype, tuple(shape), start + begin, end - begin)


def _may_be_wrong(header: dict[str, Any]) -> bool:
    """Say whether anything but sizes may be wrong: one look at all tensors, which is quick."""
    try:
        shapes = [entry["shape"] for entry in header.values()]
        numbers = [number for shape in shapes for number in shape]
        numbers += [number for entry in header.values() for number in entry["data_offsets"]]
        return bool(
            set(map(type, shapes)) - {list}
            or set(map(type, numbers)) - {int}
            or {type(entry["dtype"]) for entry in header.values()} - {str}
            or max(map(len, shapes), default=0) > MAX_AXES
            or min(numbers, default=0) < 0
            or max(numbers, default=0) >= MAX_LENGTH
        )
    except (KeyError, TypeError, AttributeError):
        return True


def _problem(shape: Any, dtype: Any, begin: Any, end: Any) -> str | None:
    """Return what is wrong with a tensor; None if nothing is."""
    if not isinstance(shape, list) or len(shape) > MAX_AXES:
        return f"has a shape that is not a list of at most {MAX_AXES} lengths"
    for number in (*shape, begin, end):
        if type(number) is not int or not 0 <= number < MAX_LENGTH:
            return f"has a shape or offsets that are not whole numbers from 0 to {MAX_LENGTH - 1}"
    if not isinstance(dtype, str):
        return "has a dtype that is not a text"
    return _wrong_size(shape, dtype, begin, end)


def _wrong_size(shape: list[int], dtype: str, begin: int, end: int) -> str | None:
    """Return what is wrong with the size of a tensor; None if nothing is."""
    if end < begin:
        return f"ends at byte {end}, before it starts at byte {begin}"
    bits = BITS.get(dtype)
    if bits is not None and (end - begin) * 8 != math.prod(shape) * bits:
        return f"of dtype {dtype} and shape {shape_text(shape)} does not take {end - begin} bytes"
    return None
