"""Does a store that a stranger made do worse than raise an error?

Manifests, metadata, words and texts are changed at random, with their checksums made right again,
because a hostile author computes them too. Each case is opened, looked up in, and verified (a text
is parsed), by a process of its own that is watched:

1. Anything raised is of the tree in `embstore.errors`.
2. A case takes less than `CASE_SECONDS` of the processor's time, and all together less than
   `MEMORY_BYTES` of memory.
3. The process does not die. The case at work then is still in the folder, which the error names.
"""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from embstore.errors import EmbstoreError
from embstore.sources.text import TextSource
from tools.campaigns import stores
from tools.peak import peak_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

CASE_SECONDS = 10
MEMORY_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Size:
    """How long to go on with each kind of input, or until how many cases have been tried.

    With a number, a fast machine tries no cases that a slow one does not.
    """

    seconds: float
    cases: float = math.inf


SMALL = Size(seconds=60, cases=150)
FULL = Size(seconds=600)


def run(folder: Path, seed: int, size: Size) -> str:
    """Try hostile inputs of each kind, in a process each; return what was done."""
    spawn = multiprocessing.get_context("spawn")
    queues = {kind: spawn.SimpleQueue() for kind in KINDS}
    processes = {}
    for kind, queue in queues.items():
        (folder / kind).mkdir()
        arguments = (kind, folder / kind, seed, size, queue)
        processes[kind] = spawn.Process(target=_work, args=arguments)
        processes[kind].start()
    # A hang is only seen from outside.
    end = time.monotonic() + size.seconds + 180 + 2 * CASE_SECONDS
    for process in processes.values():
        process.join(max(0, end - time.monotonic()))
    for kind, process in processes.items():
        if process.is_alive():
            process.kill()
            raise AssertionError(f"{kind}: a case hangs; it is in {_kept(folder / kind)}")
        if process.exitcode != 0:
            where = _kept(folder / kind)
            raise AssertionError(f"{kind}: exit {process.exitcode}; the case is in {where}")
    counts = ", ".join(f"{queue.get():,} {kind}" for kind, queue in queues.items())
    return f"{counts}, up to {size.seconds:g} s each: each an error of the tree or harmless"


def _kept(work: Path) -> Path:
    """Move a case to where it outlives the folder of the campaign."""
    return Path(shutil.copytree(work, work.parent.with_name(f"{work.parent.name}-{work.name}")))


def _work(kind: str, folder: Path, seed: int, size: Size, queue: Any) -> None:
    """Try cases of a kind until these or the time are up; put their number into the queue."""
    random_numbers = random.Random(seed)
    case = KINDS[kind](folder)
    memory = peak_bytes()
    end = time.monotonic() + size.seconds
    count = 0
    while count < size.cases and time.monotonic() < end:
        begin = time.process_time()
        case(random_numbers)
        count += 1
        took = time.process_time() - begin
        if took > CASE_SECONDS:
            raise AssertionError(f"case {count} of seed {seed} took {took:.1f} s")
        if peak_bytes() - memory > MEMORY_BYTES:
            raise AssertionError(f"case {count} of seed {seed} took too much memory")
    queue.put(count)


def exercise(store: Path, reader: str = "mapped") -> None:
    """Do with a store what one does with it; errors of the tree are fine."""
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
    """Return what tries a store with a changed metadata file."""
    whole = stores.make_store(folder / "whole.embstore")
    store = shutil.copytree(whole, folder / "case.embstore")
    names = [path.relative_to(whole) for path in stores.files_of(whole)]
    names = [name for name in names if name.name == stores.METADATA]

    def case(random_numbers: random.Random) -> None:
        # The manifest is what most is believed of.
        name = random_numbers.choice([names[-1], *names])
        text = (whole / name).read_bytes()
        for _ in range(random_numbers.choice((1, 1, 1, 2, 4))):
            if random_numbers.random() < 0.8:
                text = _mutated_json(text, random_numbers)
            else:
                text = _mutated_bytes(text, random_numbers)
        (store / name).write_bytes(text)
        if random_numbers.random() < 0.8:
            stores.reseal(store)
        exercise(store, "chunked" if random_numbers.random() < 0.05 else "mapped")
        shutil.copy(whole / name, store / name)
        shutil.copy(whole / stores.METADATA, store / stores.METADATA)

    return case


VALUES: list[Any] = [
    *(0, 1, -1, 2, 3, 7, 255, 2**16, 2**31, 2**32, 2**40 - 1, 2**40, 2**53, 2**63, 2**64, 10**400),
    *(None, True, False, 0.5, 1e308, -0.0, float("inf"), float("nan")),
    *("", "w1", "object", "float64", "..", "../../../etc/passwd", "/dev/zero", "\0", "\ud800"),
    *([], {}, [[]], [1] * 40, ["a"] * 1000, [2**40] * 9, {"a": {"b": {}}}),
    *("complex128", "pickle", "numcodecs.pickle", [{"name": "pickle"}], "x" * 100_000, "\x1b[2J"),
]


def _mutated_json(text: bytes, random_numbers: random.Random) -> bytes:
    """Change one value, key or list somewhere in a JSON document."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return _mutated_bytes(text, random_numbers)
    places: list[tuple[Any, Any]] = []

    def visit(value: Any) -> None:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            places.append((value, key))
            if isinstance(inner, dict | list):
                visit(inner)

    if not isinstance(document, dict | list):
        return _mutated_bytes(text, random_numbers)
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


def _mutated_bytes(data: bytes, random_numbers: random.Random) -> bytes:
    """Change, cut, repeat or put in bytes somewhere."""
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


PIECES = [
    *(b"\0", b"\xef\xbb\xbf", b"\r\n", b"\r", b"\n\n", b" ", b"  ", b"\t", b"\xff\xfe", b"\xc3"),
    *(b"1e999", b"-1e-999", b"nan", b"inf", b"0x1p3", b"9" * 10_000, b"0." + b"0" * 10_000 + b"1"),
    *(b"99999999999 300\n", b"3 3\n", b"\xe2\x80\xa8", b'"', b"'", b"\\", b",", b"a" * 100_000),
    *(b"1_0", b"1,5", b"+.5e+1", b"--1", b"1e", b"\x1a", b"\x85", b"\xed\xa0\x80", b"<unk>"),
]


def _vocabularies(folder: Path) -> Callable[[random.Random], None]:
    """Return what tries a store with changed words, offsets or hash table."""
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


TEXTS = [
    b"the 0.1 0.2 0.3\nlike 1 2 3\nof -1e-3 .5 7.\n" * 3,
    b"3 2\nthe 0.1 0.2\nlike 1 2\n<unk> 0 0\n",
    "\ufeffk\u00e4se 1 2\nNew York 3 4\n\u4e16\u754c 5 6\n".encode(),
    b"a 1\nb 2\n",
    b"the 0.25 nan inf\r\nlike 1 2 -inf\r\n",
    b"\n\n 1 2",
]


def _texts(folder: Path) -> Callable[[random.Random], None]:
    """Return what tries to parse a text that is changed, and now and then builds from it."""
    path = folder / "case.txt"
    store = folder / "case.embstore"

    def case(random_numbers: random.Random) -> None:
        text = random_numbers.choice(TEXTS)
        for _ in range(random_numbers.choice((1, 1, 2, 5))):
            text = _mutated_bytes(text, random_numbers)
        path.write_bytes(text)
        dtype = random_numbers.choice(("float32", "float16", "int8"))
        try:
            source = TextSource(path, dtype=dtype)
            for batch in source.batches():
                if batch.words is None or len(batch.words) != len(batch.rows):
                    raise AssertionError(f"{len(batch.rows)} rows, other words: {text!r}")
            if random_numbers.random() < 0.01:
                embstore.build(path, store, dtype=dtype, overwrite=True).close()
        except EmbstoreError:
            pass

    return case


KINDS = {"manifests": _manifests, "vocabularies": _vocabularies, "texts": _texts}
