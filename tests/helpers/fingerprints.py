"""A model of fingerprints, in plain integers, from the format's specification alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from xxhash import xxh3_64_digest, xxh3_128_digest, xxh3_128_hexdigest

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALL = 2**64
STEP = 0x9E3779B97F4A7C15


def fingerprint(
    table: NDArray[Any],
    words: list[str] | None = None,
    unk: str | None = None,
    *,
    dtype: str | None = None,
    row_shape: tuple[int, ...] | None = None,
    attributes: dict[str, Any] | None = None,
) -> str:
    """Return the fingerprint of a table; of records, the dtype and shape are not theirs.

    Attributes are arrays of numbers, little endian, or lists of str.
    """
    row_shape = table.shape[1:] if row_shape is None else row_shape
    lines = [
        "embstore table 1",
        dtype or table.dtype.name,
        ",".join(map(str, row_shape)),
        str(len(table)),
        "no words" if words is None else "words",
        "no unk" if unk is None else xxh3_128_hexdigest(unk.encode()),
    ]
    attributes = attributes or {}
    if attributes:
        dtypes = [[name, _dtype(attributes[name])] for name in sorted(attributes)]
        lines.append(json.dumps(dtypes, separators=(",", ":")))
    heading = xxh3_128_digest("".join(line + "\n" for line in lines).encode())
    pairs = [(int.from_bytes(heading[:8]), int.from_bytes(heading[8:]))]
    pairs += [_pair(number, row.tobytes()) for number, row in enumerate(table)]
    for number, word in enumerate(words or []):
        pairs.append(_pair(2**63 + number, xxh3_64_digest(word.encode())[::-1]))
    for name, values in attributes.items():
        base = int.from_bytes(xxh3_64_digest(name.encode()))
        for number, value in enumerate(values):
            text = isinstance(value, str)
            data = xxh3_64_digest(value.encode())[::-1] if text else value.tobytes()
            pairs.append(_pair((base + number) % ALL, data))
    return "".join(f"{sum(column) % ALL:016x}" for column in zip(*pairs, strict=True))


def _dtype(values: Any) -> str:
    """Return the dtype of an attribute: of an array, or of a list of str."""
    return "string" if isinstance(values, list) else str(values.dtype.name)


def _pair(number: int, row: bytes) -> tuple[int, int]:
    row += bytes(-len(row) % 8)
    count = len(row) // 8
    words = [int.from_bytes(row[8 * j : 8 * j + 8], "little") for j in range(count)] + [0]
    x = [(word + _mix((j + 1) * STEP)) % ALL for j, word in enumerate(words)]
    high = [number >> 32 for number in x]
    first = _mix(number * STEP + sum(x[j] * high[j] for j in range(count)))
    crossed = sum(x[j] * high[(j + 1) % (count + 1)] for j in range(count + 1))
    return first, _mix(first + crossed)


def _mix(x: int) -> int:
    x %= ALL
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % ALL
    x = (x ^ x >> 27) * 0x94D049BB133111EB % ALL
    return x ^ x >> 31
