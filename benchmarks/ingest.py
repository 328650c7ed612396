"""Building of stores and lookup of words, each against a well-known program.

Run as ``python -m benchmarks.ingest``. Each task runs in a process of its own, and its peak memory
is noted. Inputs are in the page cache. The clock stops when the output is on the disk, fsynced.

========== =====================================================================================
text       a file of vectors with five digits: `embstore.build`, gensim's loader, and
           ``pyarrow.csv.read_csv``, which only parses
binary     the same vectors in word2vec's binary format: `embstore.build` against ``cp`` and fsync
npy        the same vectors in an ``.npy`` file, also against ``cp`` and fsync
vocabulary a store with rows of one byte and many words
words      words to ids, against a dict in RAM
========== =====================================================================================
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.program import parser_of, progress, scratch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

ROWS_AT_ONCE = 1 << 14
WORDS_AT_ONCE = 100_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the inputs; the floors hold for the defaults."""

    rows: int = 400_000
    dimension: int = 300
    vocabulary_words: int = 10_000_000
    words: int = 2_000_000
    batch: int = 100_000


@dataclass(frozen=True, slots=True)
class Floor:
    """A lowest ratio to the speed of a peer, or a longest time."""

    task: str
    peer: str | None
    least: float = 0.0
    most_seconds: float | None = None


FLOORS = (
    Floor("build text", "gensim", 15),
    Floor("build text", "pyarrow csv", 0.7),
    Floor("build binary", "cp binary", 0.5),
    Floor("build npy", "cp npy", 0.5),
    Floor("build vocabulary", None, most_seconds=60),
    Floor("words to ids", "dict", 1.0),
)
PEERS = {
    "build text": ("gensim", "pyarrow csv"),
    "build binary": ("cp binary",),
    "build npy": ("cp npy",),
    "build vocabulary": (),
    "words to ids": ("dict",),
}


def make_inputs(place: Path, sizes: Sizes) -> None:
    """Write the same rows as ``vectors.txt`` with a header, ``vectors.bin`` and ``vectors.npy``."""
    random = np.random.default_rng(0)
    shape = (sizes.rows, sizes.dimension)
    array = np.lib.format.open_memmap(place / "vectors.npy", "w+", np.float32, shape)
    with (place / "vectors.txt").open("wb") as text, (place / "vectors.bin").open("wb") as binary:
        for file in (text, binary):
            file.write(b"%d %d\n" % shape)
        for start in range(0, sizes.rows, ROWS_AT_ONCE):
            count = min(ROWS_AT_ONCE, sizes.rows - start)
            # Numbers of five digits, as in GloVe's files.
            digits = random.integers(-99_999, 100_000, (count, sizes.dimension))
            rows = (digits / 100_000).astype(np.float32)
            array[start : start + count] = rows
            for word, line, row in zip(
                _words(start, start + count), _text_lines(digits), rows, strict=True
            ):
                text.write(word + line)
                binary.write(word + b" " + row.tobytes() + b"\n")
    array.flush()


def _words(start: int, stop: int) -> list[bytes]:
    return [b"word%d" % number for number in range(start, stop)]


def _text_lines(digits: NDArray[np.int64]) -> list[bytes]:
    """Return each row of hundred-thousandths as text, `` 0.12345 -0.00001`` and a newline."""
    cells = np.zeros((*digits.shape, 9), np.uint8)
    cells[..., :4] = np.frombuffer(b" -0.", np.uint8)
    # Zero bytes are padding, removed at the end.
    cells[..., 1] *= digits < 0
    rest = np.abs(digits)
    for place in range(8, 3, -1):
        cells[..., place] = rest % 10 + ord("0")
        rest //= 10
    width = cells.shape[1] * 9
    flat = cells.reshape(len(cells), width)
    return [row[row != 0].tobytes() + b"\n" for row in flat]


def _build(place: Path, name: str) -> float:
    import embstore  # noqa: PLC0415  # Importing is not what is timed.

    # Imports inside of the build are not timed either, as for the others.
    embstore.build({"a": [0.0]}, place / "small.embstore").close()
    shutil.rmtree(place / "small.embstore")
    started = time.perf_counter()
    embstore.build(place / name, place / "built.embstore").close()
    seconds = time.perf_counter() - started
    shutil.rmtree(place / "built.embstore")
    return seconds


def _gensim(place: Path) -> float:
    from gensim.models import KeyedVectors  # noqa: PLC0415

    started = time.perf_counter()
    KeyedVectors.load_word2vec_format(place / "vectors.txt")
    return time.perf_counter() - started


def _pyarrow(place: Path) -> float:
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import csv  # noqa: PLC0415

    with (place / "vectors.txt").open() as file:
        dimension = int(file.readline().split()[1])
    names = ["word", *map(str, range(dimension))]
    started = time.perf_counter()
    csv.read_csv(
        place / "vectors.txt",
        csv.ReadOptions(column_names=names, skip_rows=1),
        csv.ParseOptions(delimiter=" ", quote_char=False),
        csv.ConvertOptions(column_types={name: pa.float32() for name in names[1:]}),
    )
    return time.perf_counter() - started


def _copy(place: Path, name: str) -> float:
    started = time.perf_counter()
    subprocess.run(["cp", place / name, place / "copied"], check=True)
    descriptor = os.open(place / "copied", os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    seconds = time.perf_counter() - started
    (place / "copied").unlink()
    return seconds


def _vocabulary(place: Path, count: int) -> float:
    import embstore  # noqa: PLC0415

    target = place / "vocabulary.embstore"
    rows = np.zeros((WORDS_AT_ONCE, 1), np.int8)
    seconds = 0.0
    with embstore.StoreWriter(target, row_shape=(1,), dtype="int8") as writer:
        for start in range(0, count, WORDS_AT_ONCE):
            words = [f"word{number}" for number in range(start, min(start + WORDS_AT_ONCE, count))]
            started = time.perf_counter()
            writer.write(rows[: len(words)], words)
            seconds += time.perf_counter() - started
        started = time.perf_counter()
    seconds += time.perf_counter() - started
    shutil.rmtree(target)
    return seconds


def _words_to_ids(place: Path, sizes: Sizes, *, in_ram: bool) -> float:
    """Return the seconds of a call, the median of many."""
    import embstore  # noqa: PLC0415

    random = np.random.default_rng(0)
    batches = [
        [f"word{number}" for number in random.integers(0, sizes.words, sizes.batch)]
        for _ in range(20)
    ]
    if in_ram:
        ids = {f"word{number}": number for number in range(sizes.words)}

        def find(words: list[str]) -> NDArray[np.int64]:
            return np.array([ids[word] for word in words])
    else:
        store = embstore.open(place / "words.embstore")

        def find(words: list[str]) -> NDArray[np.int64]:
            return store.ids(words)

    samples = []
    for words in batches[:3] + batches:
        started = time.perf_counter()
        found = find(words)
        samples.append(time.perf_counter() - started)
        if found.tolist() != [int(word[4:]) for word in words]:
            raise ValueError("wrong ids")
    return statistics.median(samples[3:])


def _make_words(place: Path, sizes: Sizes) -> None:
    import embstore  # noqa: PLC0415

    target = place / "words.embstore"
    with embstore.StoreWriter(target, row_shape=(1,), dtype="int8") as writer:
        for start in range(0, sizes.words, WORDS_AT_ONCE):
            words = [f"word{n}" for n in range(start, min(start + WORDS_AT_ONCE, sizes.words))]
            writer.write(np.zeros((len(words), 1), np.int8), words)


def tasks(place: Path, sizes: Sizes) -> dict[str, Callable[[], float]]:
    """Return the tasks by name; each returns its seconds."""
    return {
        "build text": lambda: _build(place, "vectors.txt"),
        "gensim": lambda: _gensim(place),
        "pyarrow csv": lambda: _pyarrow(place),
        "build binary": lambda: _build(place, "vectors.bin"),
        "cp binary": lambda: _copy(place, "vectors.bin"),
        "build npy": lambda: _build(place, "vectors.npy"),
        "cp npy": lambda: _copy(place, "vectors.npy"),
        "build vocabulary": lambda: _vocabulary(place, sizes.vocabulary_words),
        "words to ids": lambda: _words_to_ids(place, sizes, in_ram=False),
        "dict": lambda: _words_to_ids(place, sizes, in_ram=True),
    }


# VmHWM is the peak of the process itself; ru_maxrss starts at that of the process that forked it.
_TASK = """
import json, sys
from pathlib import Path
from benchmarks import ingest
seconds = ingest.tasks(Path(sys.argv[1]), ingest.Sizes(*map(int, sys.argv[3:])))[sys.argv[2]]()
lines = Path("/proc/self/status").read_text().splitlines()
peak = next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)
print(json.dumps([seconds, peak]))
"""


def _run(task: str, place: Path, sizes: Sizes) -> tuple[float, int]:
    arguments = astuple(sizes)
    done = subprocess.run(
        [sys.executable, "-c", _TASK, place, task, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds, peak_bytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak_bytes


def measure(
    place: Path, sizes: Sizes, chosen: list[str], rounds: int, progress: Callable[[str], None]
) -> dict[str, list[tuple[float, int]]]:
    """Time tasks and their peers in turns; return (seconds, peak bytes) of each turn by name."""
    progress("making the inputs")
    make_inputs(place, sizes)
    if "words to ids" in chosen:
        _make_words(place, sizes)
    found: dict[str, list[tuple[float, int]]] = {}
    for task in chosen:
        for turn in range(rounds):
            for name in (task, *PEERS[task]):
                # gensim takes minutes; one turn is enough to see a factor of ten.
                if turn == 0 or name not in ("gensim", "build vocabulary"):
                    progress(f"{name}, turn {turn + 1} of {rounds}")
                    found.setdefault(name, []).append(_run(name, place, sizes))
    return found


def text(found: dict[str, list[tuple[float, int]]]) -> str:
    """Return the times and the floors as a table."""
    lines = [f"{'task':<20}{'median s':>10}{'fastest s':>11}{'peak MiB':>10}"]
    for name, turns in found.items():
        seconds = [turn[0] for turn in turns]
        peak = max(turn[1] for turn in turns) >> 20
        lines.append(
            f"{name:<20}{statistics.median(seconds):>10.3f}{min(seconds):>11.3f}{peak:>10}"
        )
    lines += ["", "floors, and what was reached"]
    for floor in FLOORS:
        if floor.task not in found or (floor.peer is not None and floor.peer not in found):
            continue
        own = statistics.median(turn[0] for turn in found[floor.task])
        if floor.peer is None:
            what, limit = floor.task, f"<= {floor.most_seconds:g} s"
            shown, enough = f"{own:.3g} s", own <= (floor.most_seconds or 0)
        else:
            peer = statistics.median(turn[0] for turn in found[floor.peer])
            what, limit = f"{floor.task}, against {floor.peer}", f">= {floor.least:g}"
            shown, enough = f"{peer / own:.2f}", peer / own >= floor.least
        lines.append(f"  {what:<42}{limit:>10}{shown:>10}  {'yes' if enough else 'NO'}")
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure, print."""
    usual = Sizes()
    parser = parser_of("ingest", __doc__)
    parser.add_argument("--rows", type=int, default=usual.rows)
    parser.add_argument("--dimension", type=int, default=usual.dimension)
    parser.add_argument("--vocabulary-words", type=int, default=usual.vocabulary_words)
    parser.add_argument("--words", type=int, default=usual.words)
    parser.add_argument("--task", action="append", choices=list(PEERS), help="by default all")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each task")
    parser.add_argument("--json", type=Path, help="also write every turn to this file")
    given = parser.parse_args()
    sizes = Sizes(given.rows, given.dimension, given.vocabulary_words, given.words)

    with scratch(given.directory, "ingest") as place:
        found = measure(place, sizes, given.task or list(PEERS), given.rounds, progress)
    print(text(found))
    if given.json:
        values: dict[str, Any] = {
            name: [{"seconds": s, "peak_bytes": b} for s, b in turns]
            for name, turns in found.items()
        }
        given.json.write_text(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()
