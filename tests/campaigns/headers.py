"""Headers of GGUF and safetensors files that are damaged or hostile: right rows, or an error.

1. Small right files are changed: bit by bit, at random, by numbers that a hostile author would
   choose, cut, or made longer by terabytes; models of several files lose, swap and rename them;
   names belong to FIFOs, directories, devices and links.
2. Each is opened and looked up in, under `tests.campaigns.watched`. If that succeeds, the rows are
   those of an independent reading (`tests.campaigns.readings`), byte by byte. Anything raised is of
   the tree in `embstore.errors`.
"""

from __future__ import annotations

import json
import math
import os
import random
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tests.campaigns import readings
from tests.campaigns.comparing import compare
from tests.campaigns.model_files import models
from tests.campaigns.mutations import mutated_bytes, mutated_json
from tests.campaigns.small_files import some_gguf, some_safetensors
from tests.campaigns.watched import run_watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.campaigns.readings import Reading
    from tests.campaigns.watched import Case


@dataclass(frozen=True, slots=True)
class Size:
    """How long to try each kind of input, and how many cases at most."""

    seconds: float
    cases: float


SMALL = Size(seconds=60, cases=120)
FULL = Size(seconds=600, cases=math.inf)

NUMBERS = [
    *(0, 1, 2, 3, 4, 7, 8, 9, 10, 12, 13, 24, 31, 32, 33, 64, 127, 128, 255, 256, 1000, 2**16 - 1),
    *(2**16, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**53, 2**61, 2**62, 2**63 - 1),
    *(2**63, 2**64 - 32, 2**64 - 1),
]
DTYPES = ["F8_E4M3", "F8_E5M2", "F8_E8M0", "U8", "I8", "F16", "BF16", "F32", "I32", "F4", "X"]
TERABYTES = 1 << 42


def run(folder: Path, seed: int, size: Size) -> str:
    """Open changed GGUF and safetensors files; compare the rows with an independent reading."""
    counts = run_watched(KINDS, folder, seed, seconds=size.seconds, cases=size.cases)
    listed = ", ".join(
        f"{count:,} {kind} ({opened:,} opened)" for kind, (count, opened) in counts.items()
    )
    return f"{listed}, up to {size.seconds:g} s each: right rows, or an error of embstore.errors"


def _gguf_readings(path: Path) -> list[Reading]:
    found: list[Reading] = [partial(readings.gguf, path)]
    return [*found, partial(readings.gguf_of_library, path)] if find_spec("gguf") else found


def _safetensors_readings(path: Path) -> list[Reading]:
    found: list[Reading] = [partial(readings.safetensors, path)]
    if find_spec("safetensors"):
        found.append(partial(readings.safetensors_of_library, path))
    return found


def _sealed(data: bytes, header: bytes) -> bytes:
    """Return a safetensors file with another header, and its right length."""
    size = int.from_bytes(data[:8], "little")
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _gguf(folder: Path) -> Case:
    """Return a function that tries a changed GGUF file."""
    path = folder / "case.gguf"
    files = [bytes(file) for file in some_gguf()]
    headers = [len(file.header()) for file in some_gguf()]

    def case(numbers: random.Random) -> bool:
        which = numbers.randrange(len(files))
        data, header = bytearray(files[which]), headers[which]
        for _ in range(numbers.choice((1, 1, 1, 2, 3))):
            _change_binary(data, header, numbers)
        if numbers.random() < 0.2:
            data = bytearray(mutated_bytes(bytes(data), numbers))
        _write(path, data, numbers)
        tensor = numbers.choice((None, "a", "b", "norm"))
        return compare(path, tensor, _gguf_readings(path), numbers)

    return case


def _change_binary(data: bytearray, header: int, numbers: random.Random) -> None:
    """Write a number somewhere into a header, or change it otherwise."""
    place = numbers.randrange(4, header)
    match numbers.randrange(5):
        case 0:
            data[place] ^= 1 << numbers.randrange(8)
        case 1 | 2:
            size = numbers.choice((4, 8, 8))
            number = numbers.choice(NUMBERS) & (256**size - 1)
            data[place : place + size] = number.to_bytes(size, "little")
        case 3:
            old = int.from_bytes(data[place : place + 8], "little")
            number = (old + numbers.choice((-1, 1, 32, -32, 2**32))) % 2**64
            data[place : place + 8] = number.to_bytes(8, "little")
        case _:
            data[place] = numbers.randrange(256)


def _write(path: Path, data: bytes | bytearray, numbers: random.Random) -> None:
    """Write a file, sometimes cut, or longer than any disk."""
    choice = numbers.random()
    if choice < 0.05:
        data = data[: numbers.randrange(len(data) + 1)]
    path.write_bytes(data)
    if choice > 0.97:
        os.truncate(path, numbers.choice((len(data) + 1, len(data) + 40, TERABYTES)))


def _bits(
    folder: Path, data: bytes, header: int, name: str, reads: Callable[[Path], Sequence[Reading]]
) -> Case:
    """Return a function that flips the bits of a header, one after the other."""
    path = folder / name
    places: Iterator[int] = iter(())

    def case(numbers: random.Random) -> bool:
        nonlocal places
        place = next(places, None)
        if place is None:
            order = list(range(8 * header))
            numbers.shuffle(order)
            places = iter(order)
            place = next(places)
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        return compare(path, numbers.choice((None, "a", "a", "b")), reads(path), numbers)

    return case


def _in_turn(cases: list[Case]) -> Case:
    turns: list[Case] = []

    def case(numbers: random.Random) -> bool:
        if not turns:
            turns.extend(cases)
        return bool(turns.pop()(numbers))

    return case


def _gguf_bits(folder: Path) -> Case:
    """Return a function that tries a GGUF file of which a bit is flipped."""
    files = some_gguf()
    return _in_turn(
        [
            _bits(folder, bytes(file), len(file.header()), f"{place}.gguf", _gguf_readings)
            for place, file in enumerate(files)
        ]
    )


def _safetensors(folder: Path) -> Case:
    """Return a function that tries a changed safetensors file."""
    path = folder / "case.safetensors"
    files = some_safetensors()

    def case(numbers: random.Random) -> bool:
        data = numbers.choice(files)
        size = int.from_bytes(data[:8], "little")
        for _ in range(numbers.choice((1, 1, 1, 2, 3))):
            match numbers.randrange(6):
                case 4 | 5:
                    data = _sealed(data, _other_entries(data[8 : 8 + size], numbers))
                case 0:
                    header = mutated_json(data[8 : 8 + size], numbers)
                    data = _sealed(data, header)
                case 1:
                    header = mutated_bytes(data[8 : 8 + size], numbers)
                    data = _sealed(data, header)
                case 2:
                    data = mutated_bytes(data, numbers)
                case _:
                    changed = bytearray(data)
                    _change_binary(changed, min(size + 8, len(changed)), numbers)
                    data = bytes(changed)
            size = min(int.from_bytes(data[:8], "little"), len(data))
        if numbers.random() < 0.05:
            data = numbers.choice(NUMBERS).to_bytes(8, "little") + b"{" * numbers.choice(
                (1, 100_000)
            )
        _write(path, data, numbers)
        tensor = numbers.choice((None, "a", "b", "norm"))
        return compare(path, tensor, _safetensors_readings(path), numbers)

    return case


def _other_entries(header: bytes, numbers: random.Random) -> bytes:
    """Change the entries of a header, often to ones that fit."""
    try:
        document = json.loads(header)
        names = list(document)
        one, other = document[numbers.choice(names)], document[numbers.choice(names)]
        field = numbers.choice(("dtype", "shape", "data_offsets"))
        match numbers.randrange(7):
            case 0:
                one[field], other[field] = other[field], one[field]
            case 1:
                one["dtype"] = numbers.choice(DTYPES)
            case 2:
                one["shape"] = one["shape"][::-1]
            case 3:
                size = min(math.prod(one["shape"]), 1000)
                width = numbers.choice([n for n in range(1, size + 1) if size % n == 0])
                one["shape"] = numbers.choice(([size], [size // width, width], [1, size, 1]))
            case 4:
                name = numbers.choice((*names, "a_scale", "a.scale", "__metadata__", "a" * 99_999))
                document[name] = document.pop(names[0])
            case 5:
                one[field][0] = numbers.choice(NUMBERS)
            case _:
                document["__metadata__"] = numbers.choice(({}, {"format": "pt"}, [], {"a": 1}))
        indent = numbers.choice((None, 1))
        return json.dumps(document, indent=indent).encode() + b" " * numbers.randrange(9)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return header


def _safetensors_bits(folder: Path) -> Case:
    """Return a function that tries a safetensors file of which a bit is flipped."""
    return _in_turn(
        [
            _bits(
                folder,
                data,
                8 + int.from_bytes(data[:8], "little"),
                f"{place}.safetensors",
                _safetensors_readings,
            )
            for place, data in enumerate(some_safetensors())
        ]
    )


KINDS = {
    "GGUF files": _gguf,
    "flipped bits of GGUF files": _gguf_bits,
    "safetensors files": _safetensors,
    "flipped bits of safetensors files": _safetensors_bits,
    "models": models,
}
