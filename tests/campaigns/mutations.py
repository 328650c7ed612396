"""Random changes of JSON documents and bytes, as a hostile author might make them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

VALUES: list[Any] = [
    *(0, 1, -1, 2, 3, 7, 255, 2**16, 2**31, 2**32, 2**40 - 1, 2**40, 2**53, 2**63, 2**64, 10**400),
    *(None, True, False, 0.5, 1e308, -0.0, float("inf"), float("nan")),
    *("", "w1", "object", "float64", "..", "../../../etc/passwd", "/dev/zero", "\0", "\ud800"),
    *([], {}, [[]], [1] * 40, ["a"] * 1000, [2**40] * 9, {"a": {"b": {}}}),
    *("complex128", "pickle", "numcodecs.pickle", [{"name": "pickle"}], "x" * 100_000, "\x1b[2J"),
]
PIECES = [
    *(b"\0", b"\xef\xbb\xbf", b"\r\n", b"\r", b"\n\n", b" ", b"  ", b"\t", b"\xff\xfe", b"\xc3"),
    *(b"1e999", b"-1e-999", b"nan", b"inf", b"0x1p3", b"9" * 10_000, b"0." + b"0" * 10_000 + b"1"),
    *(b"99999999999 300\n", b"3 3\n", b"\xe2\x80\xa8", b'"', b"'", b"\\", b",", b"a" * 100_000),
    *(b"1_0", b"1,5", b"+.5e+1", b"--1", b"1e", b"\x1a", b"\x85", b"\xed\xa0\x80", b"<unk>"),
]


def mutated_json(text: bytes, random_numbers: random.Random) -> bytes:
    """Change one value, key or list somewhere in a JSON document."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return mutated_bytes(text, random_numbers)
    places: list[tuple[Any, Any]] = []

    def visit(value: Any) -> None:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            places.append((value, key))
            if isinstance(inner, dict | list):
                visit(inner)

    if not isinstance(document, dict | list):
        return mutated_bytes(text, random_numbers)
    visit(document)
    if not places:
        return b"[" * random_numbers.choice((1, 900, 100_000))
    holder, key = random_numbers.choice(places)
    match random_numbers.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[str(random_numbers.choice(VALUES))] = holder.pop(key)
        case 2:
            deep: Any = []
            for _ in range(random_numbers.choice((10, 300, 800))):
                deep = [deep]
            holder[key] = deep
        case 3 if type(holder[key]) is int:
            holder[key] += random_numbers.choice((-1, 1, 2**20, -(2**20)))
        case 4 if isinstance(holder, list):
            holder.append(random_numbers.choice(VALUES))
        case _:
            holder[key] = random_numbers.choice(VALUES)
    try:
        return json.dumps(document).encode()
    except (ValueError, RecursionError):
        return b"[" * 100_000


def mutated_bytes(data: bytes, random_numbers: random.Random) -> bytes:
    """Change, delete, repeat or insert bytes somewhere."""
    changed = bytearray(data)
    place = random_numbers.randrange(len(changed) + 1)
    match random_numbers.randrange(5):
        case 0 if place < len(changed):
            changed[place] ^= 1 << random_numbers.randrange(8)
        case 1:
            del changed[place : place + random_numbers.randrange(1, 40)]
        case 2:
            piece = changed[place : place + random_numbers.randrange(1, 60)]
            changed[place:place] = piece * random_numbers.choice((1, 2, 50))
        case 3:
            changed[place:place] = random_numbers.choice(PIECES)
        case _:
            changed[place : place + 4] = random_numbers.randbytes(4)
    return bytes(changed)
