"""Stores and texts that are damaged or hostile: an error of `embstore.errors`, or harmless.

1. Each file of a store is damaged in every way (`tests.campaigns.damage`), and its checksums show
   it.
2. Manifests, metadata, words and texts are changed at random, and their checksums are corrected,
   as a hostile author would do; files become links to others, which never give a byte that the
   manifest does not list. Each case is opened, looked up in, and verified (a text is parsed).
   Anything raised is of the tree in `embstore.errors`. `tests.campaigns.watched` watches them.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from embstore.errors import EmbstoreError
from embstore.sources.text.source import TextSource
from tests.campaigns import damage, stores
from tests.campaigns.mutations import mutated_bytes, mutated_json
from tests.campaigns.watched import run_watched

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Size:
    """How long to try each kind of input, how many cases at most, and how much to damage.

    A limit on cases makes fast and slow machines try the same ones.
    """

    seconds: float
    cases: float
    damage: damage.Size


SMALL = Size(seconds=60, cases=70, damage=damage.SMALL)
FULL = Size(seconds=600, cases=math.inf, damage=damage.FULL)


def run(folder: Path, seed: int, size: Size) -> str:
    """Damage a store, and try hostile inputs of each kind in a process each; return how many."""
    (folder / "damage").mkdir()
    damaged = damage.run(folder / "damage", seed, size.damage)
    counts = run_watched(KINDS, folder, seed, seconds=size.seconds, cases=size.cases)
    listed = ", ".join(f"{count:,} {kind}" for kind, (count, _) in counts.items())
    return (
        f"{damaged}; {listed}, up to {size.seconds:g} s each: each an error of embstore.errors, "
        "or harmless"
    )


def exercise(store: Path, reader: str = "mapped") -> None:
    """Call every method that a user would; errors of `embstore.errors` are fine."""
    try:
        opened = embstore.open(store, reader=reader)  # type: ignore[arg-type]
    except EmbstoreError:
        opened = None
    if opened is not None:
        with opened:
            ids = np.arange(min(opened.rows, 1000))
            calls: list[Callable[[], object]] = [
                *(lambda: opened.lookup(ids), lambda: opened.words(ids), lambda: opened.ids("w1")),
                *(lambda: opened.ids(stores.WORDS), lambda: "no such word" in opened),
                *(lambda: opened.prefetch(ids), lambda: repr(opened), lambda: opened[:2]),
                *(lambda: opened.explain(ids), lambda: opened.lookup_words(["w5"], missing="unk")),
            ]
            for call in calls:
                try:
                    call()
                except EmbstoreError:
                    continue
    with contextlib.suppress(EmbstoreError):
        embstore.verify(store)


def _manifests(folder: Path) -> Callable[[random.Random], None]:
    """Return a function that tries a store with a changed metadata file."""
    whole = stores.make_store(folder / "whole.embstore")
    store = shutil.copytree(whole, folder / "case.embstore")
    names = [path.relative_to(whole) for path in stores.files_of(whole)]
    names = [name for name in names if name.name == stores.METADATA]

    def case(random_numbers: random.Random) -> None:
        # Most facts are in the manifest, so it is changed most often.
        name = random_numbers.choice([names[-1], *names])
        text = (whole / name).read_bytes()
        for _ in range(random_numbers.choice((1, 1, 1, 2, 4))):
            if random_numbers.random() < 0.8:
                text = mutated_json(text, random_numbers)
            else:
                text = mutated_bytes(text, random_numbers)
        (store / name).write_bytes(text)
        if random_numbers.random() < 0.8:
            stores.reseal(store)
        exercise(store, "chunked" if random_numbers.random() < 0.05 else "mapped")
        shutil.copy(whole / name, store / name)
        shutil.copy(whole / stores.METADATA, store / stores.METADATA)

    return case


def _vocabularies(folder: Path) -> Callable[[random.Random], None]:
    """Return a function that tries a store with changed words, offsets or hash table."""
    whole = stores.make_store(folder / "whole.embstore")
    store = folder / "case.embstore"
    numbers = [0, 1, -1, 2**31, 2**40 - 1, 2**40, 2**62, 2**63 - 1, -(2**63), 23, 24, 64, 10**6]

    def case(random_numbers: random.Random) -> None:
        shutil.copytree(whole, store)
        for _ in range(random_numbers.choice((1, 1, 2, 3))):
            part = random_numbers.choice(("bytes", "offsets", "slots"))

            def change(data: bytearray, part: str = part) -> None:
                kind: Any = {"bytes": np.uint8, "offsets": np.int64, "slots": np.uint64}[part]
                values = np.frombuffer(data, kind)
                places = random_numbers.choices(range(len(values)), k=random_numbers.randrange(9))
                match random_numbers.randrange(5):
                    case 0:
                        values[:] = random_numbers.choice(values.tolist())
                    case 1:
                        values[:] = values[::-1].copy()
                    case 2:
                        values[:] = np.frombuffer(random_numbers.randbytes(len(data)), kind)
                    case 3:
                        values[places] = values[places[::-1]]
                    case _:
                        for place in places:
                            number = random_numbers.choice(numbers) & (256**values.itemsize - 1)
                            values[place] = np.array(number, np.uint64).astype(kind)

            stores.rewrite_chunk(store / "vocabulary" / part / "c" / "0", change)
        if random_numbers.random() < 0.3:

            def probe(own: Any) -> None:
                own["vocabulary"]["probe_count"] = random_numbers.choice((0, 1, 64, 1024, 2**40))

            stores.edit(store / stores.METADATA, probe)
            stores.reseal(store)
        exercise(store)
        shutil.rmtree(store)

    return case


SECRET = b"root:x:0:0:a secret of another user:"


def _links(folder: Path) -> Callable[[random.Random], None]:
    """Return a function that tries a store some of whose files are links to any file."""
    whole = stores.make_store(folder / "whole.embstore")
    chunks = {path.read_bytes() for path in stores.chunk_files(whole)}
    size = len(next(iter(chunks)))
    outside = folder / "outside"
    outside.mkdir()
    (outside / "directory").mkdir()
    os.mkfifo(outside / "fifo")
    (outside / "loop").symlink_to("loop")
    (outside / "dangling").symlink_to("nowhere")
    store = folder / "case.embstore"
    targets = [outside / name for name in ("directory", "fifo", "loop", "dangling", "file")]
    targets += [Path("/dev/zero"), Path("/proc/self/environ"), Path("/proc/self/mem")]

    def case(random_numbers: random.Random) -> None:
        shutil.copytree(whole, store)
        right = True
        for file in random_numbers.sample(stores.files_of(store), random_numbers.choice((1, 2, 9))):
            data = file.read_bytes()
            file.rename(outside / "file")
            choice = random_numbers.random()
            if choice < 0.4:
                target = outside / f"right-{file.relative_to(store).as_posix().replace('/', '-')}"
                (outside / "file").rename(target)
            else:
                target = random_numbers.choice(targets)
                if target.name == "file":
                    end = random_numbers.choice((data[-4:], b"", bytes(4)))
                    data = (SECRET * size)[: len(data) - len(end)] + end
                    target.write_bytes(data)
                right = False
            file.symlink_to(target)
        for reader in ("mapped", "chunked"):
            try:
                with embstore.open(store, reader=reader) as opened:
                    rows, words = opened[:], opened.words(range(stores.ROWS))
            except EmbstoreError as error:
                if right or "secret" in str(error):
                    raise AssertionError(f"{reader}: {error}") from error
            else:
                if not right or words != stores.WORDS or not np.array_equal(rows, stores.table()):
                    raise AssertionError(f"{reader}: a link gave bytes that are not listed")
        exercise(store)
        shutil.rmtree(store)

    return case


TEXTS = [
    b"the 0.1 0.2 0.3\nlike 1 2 3\nof -1e-3 .5 7.\n" * 3,
    b"3 2\nthe 0.1 0.2\nlike 1 2\n<unk> 0 0\n",
    "\ufeffk\u00e4se 1 2\nNew York 3 4\n\u4e16\u754c 5 6\n".encode(),
    b"a 1\nb 2\n",
    b"the 0.25 nan inf\r\nlike 1 2 -inf\r\n",
    b"\n\n 1 2",
]


def _texts(folder: Path) -> Callable[[random.Random], None]:
    """Return a function that parses a changed text, and sometimes builds from it."""
    path = folder / "case.txt"
    store = folder / "case.embstore"

    def case(random_numbers: random.Random) -> None:
        text = random_numbers.choice(TEXTS)
        for _ in range(random_numbers.choice((1, 1, 2, 5))):
            text = mutated_bytes(text, random_numbers)
        path.write_bytes(text)
        dtype = random_numbers.choice(("float32", "float16", "int8"))
        try:
            source = TextSource(path, dtype=dtype)
            for batch in source.batches():
                if batch.words is None or len(batch.words) != len(batch.rows):
                    raise AssertionError(f"{len(batch.rows)} rows, but not as many words: {text!r}")
            if random_numbers.random() < 0.01:
                embstore.build(path, store, dtype=dtype, overwrite=True).close()
        except EmbstoreError:
            pass

    return case


KINDS = {
    "manifests": _manifests,
    "vocabularies": _vocabularies,
    "links": _links,
    "texts": _texts,
}
