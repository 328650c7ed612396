"""Damaged stores: each damage is noticed, and none gives a wrong vector.

Every file of a small store, one after the other: a bit flipped at every byte, or at some of them,
cut short, made longer, made empty, deleted; each pair of chunk files exchanged; each chunk file
replaced by that of another build. After each damage:

1. `verify` names the file, and so the partition; ``open(verify="full")`` refuses the store.
2. `open` refuses the store if the damage can be seen without reading rows.
3. If the store opens, a word gives its own id or an error; so do a word's row and an id's word.

One change may pass unnoticed: a root ``zarr.json`` that spells the same document differently.
"""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from tests.campaigns import stores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from embstore.opener import ReaderName


@dataclass(frozen=True, slots=True)
class Size:
    """Per file: the largest number of bytes with a flipped bit, and of lengths to cut it to."""

    flips: int
    cuts: int


SMALL = Size(flips=3, cuts=1)
FULL = Size(flips=2000, cuts=40)


def run(folder: Path, seed: int, size: Size) -> str:
    """Damage a store in ``folder`` in every way; return how often."""
    random_numbers = random.Random(seed)
    whole = stores.make_store(folder / "whole.embstore")
    other = stores.make_store(folder / "other.embstore", scale=2)
    damages = 0
    for path in stores.files_of(whole):
        name = path.relative_to(whole)
        data = path.read_bytes()
        store = shutil.copytree(whole, folder / "damaged.embstore")
        for changed in chain(
            _flipped(data, size, random_numbers), _cut(data, size, random_numbers)
        ):
            (store / name).write_bytes(changed)
            # zarr is slow: every tenth damage is enough for the reader that uses it.
            check(store, [store / name], "chunked" if damages % 10 == 0 else "mapped")
            damages += 1
        (store / name).unlink()
        check(store, [store / name], "mapped")
        if path.name != stores.METADATA and data != (other / name).read_bytes():
            shutil.copy(other / name, store / name)
            check(store, [store / name], "mapped")
            damages += 1
        damages += 1
        shutil.rmtree(store)
    for one, two in combinations(stores.chunk_files(whole), 2):
        store = shutil.copytree(whole, folder / "damaged.embstore")
        swapped = [store / path.relative_to(whole) for path in (one, two)]
        shutil.copy(one, swapped[1])
        shutil.copy(two, swapped[0])
        check(store, swapped, "mapped")
        damages += 1
        shutil.rmtree(store)
    return f"{damages:,} damages of {len(stores.files_of(whole))} files, each named by verify"


def _flipped(data: bytes, size: Size, random_numbers: random.Random) -> Iterator[bytes]:
    places: Sequence[int] = range(len(data))
    if len(data) > size.flips:
        places = sorted(random_numbers.sample(places, size.flips))
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1 << random_numbers.randrange(8)
        yield bytes(changed)


def _cut(data: bytes, size: Size, random_numbers: random.Random) -> list[bytes]:
    lengths = {0, len(data) - 1, *(random_numbers.randrange(len(data)) for _ in range(size.cuts))}
    return [data[:length] for length in sorted(lengths)] + [data + b"\0"]


def check(store: Path, damaged: list[Path], reader: ReaderName) -> None:
    """Raise unless the damage of files is noticed, and gives no wrong row or word."""
    if damaged[0] == store / stores.METADATA and _same_manifest(store):
        return
    _check_named(store, damaged)
    try:
        embstore.open(store, verify="full").close()
    except embstore.StoreError:
        pass
    else:
        raise AssertionError(f"verify='full' opens a store with a damaged {damaged}")
    try:
        opened = embstore.open(store, reader=reader)
    except embstore.StoreError:
        return
    with opened:
        if any(path.name == stores.METADATA for path in damaged) or len(damaged) > 1:
            raise AssertionError(f"a store with a damaged {damaged} was opened")
        _check_lookups(opened, damaged[0])


def _same_manifest(store: Path) -> bool:
    try:
        document = json.loads((store / stores.METADATA).read_bytes())
    except (ValueError, OSError):
        return False
    whole = json.loads((store.parent / "whole.embstore" / stores.METADATA).read_bytes())
    return bool(document == whole)


def _check_named(store: Path, damaged: list[Path]) -> None:
    """Raise unless `verify` finds problems, all in the damaged files, and each of those."""
    try:
        report = embstore.verify(store)
    except embstore.StoreError as error:
        problems = [str(error)]
        if damaged != [store / stores.METADATA]:
            raise
    else:
        problems = report.problems
    for path in damaged:
        # Without its manifest, the store itself is named.
        name = str(store) if path == store / stores.METADATA else str(path)
        if not any(problem.startswith(name) for problem in problems):
            raise AssertionError(f"verify does not name {path}: {problems}")


def _check_lookups(store: embstore.EmbeddingStore, damaged: Path) -> None:
    """Raise if a word gives another id or row than its own, or an absent word gives a row."""
    table = stores.table()
    for number, word in enumerate(stores.WORDS):
        try:
            found = int(store.ids(word))
            row: Any = store[word]
        except (embstore.StoreError, embstore.MissingWordError):
            continue
        if found != number:
            raise AssertionError(f"{damaged} damaged: {word!r} has id {found}")
        # The numbers of a row in a damaged chunk may differ: only a full verification shows that.
        if "partitions" not in damaged.parts and not np.array_equal(row, table[number]):
            raise AssertionError(f"{damaged} damaged: {word!r} has the row {row}")
    if "partitions" not in damaged.parts:
        for absent in ("", "w", "w23", "W1", "w1\0"):
            try:
                store[absent]
            except (embstore.StoreError, embstore.MissingWordError):
                continue
            raise AssertionError(f"{damaged} damaged: {absent!r} has a row")
