"""Cold words to ids, against LMDB and the reads of the disk; the message for missing words."""

from __future__ import annotations

import shutil
import statistics
import time
from typing import TYPE_CHECKING

import numpy as np

import embstore
from benchmarks.device import measure_limit
from benchmarks.growth.curves import Curve, Values
from benchmarks.times import at_least, at_most, timed
from embstore.bench.state import evict, files_under

if TYPE_CHECKING:
    from pathlib import Path

    # What was measured in each turn, by way.
    Turns = dict[str, list[float]]

ASKED = 4096
WRITTEN_TOGETHER = 1 << 16
READ_BYTES = 8 << 20
# A cold word reads a slot, two offsets in one page, and its bytes.
READS_A_WORD = 3
MISSING = [f"an exceptionally long word number {number}" for number in range(3)]

OURS, LMDB, DEVICE = "embstore, words/s", "LMDB, words/s", "the disk's reads/s by 3"
MESSAGE = "message, ms"
LEAST_OF_DEVICE, MOST_MESSAGE_MS = 0.8, 50.0
DISK_SECONDS = 0.5


def word(number: int) -> str:
    """Return the word of an id."""
    return f"word{number}"


def measure(path: Path, count: int, rounds: int, *, lmdb: bool) -> dict[str, float]:
    """Return the median of each way for a store of ``count`` words.

    With ``lmdb``, also of LMDB, if it is installed. The disk has no rate where the files are small.
    """
    files = files_under(path / "vocabulary")
    # The host of a virtual machine may cache some files and not others; now it has seen all.
    read_through(files)
    evict(files)
    limit = measure_limit(files, seconds=DISK_SECONDS)
    database = path.with_name("lmdb")
    has_database = lmdb and write_lmdb(database, count)
    found: Turns = {}
    for turn in range(rounds):
        ids = np.unique(np.random.default_rng(turn).integers(0, count, ASKED)).tolist()
        words = [word(number) for number in ids]
        found.setdefault(OURS, []).append(len(words) / time_ids(path, words, ids))
        found.setdefault(MESSAGE, []).append(time_message(path) * 1e3)
        if has_database:
            found.setdefault(LMDB, []).append(len(words) / time_lmdb(database, words, ids))
        if limit is not None:
            found.setdefault(DEVICE, []).append(limit.again(DISK_SECONDS) / READS_A_WORD)
    if has_database:
        shutil.rmtree(database)
    return {way: statistics.median(values) for way, values in found.items()}


def read_through(files: list[Path]) -> None:
    """Read all bytes of files."""
    for file in files:
        with file.open("rb") as opened:
            while opened.read(READ_BYTES):
                pass


def time_ids(path: Path, words: list[str], ids: list[int]) -> float:
    """Return the seconds of the ids of cold words, all in one call."""
    evict(files_under(path / "vocabulary"))
    with embstore.open(path) as store:
        found, seconds = timed(lambda: store.ids(words))
    if found.tolist() != ids:
        raise ValueError("embstore gave wrong ids")
    return seconds


def time_message(path: Path) -> float:
    """Return the seconds of the message for cold missing words."""
    evict(files_under(path / "vocabulary"))
    with embstore.open(path) as store:
        message, seconds = timed(lambda: message_of(store))
    if MISSING[0] not in message:
        raise ValueError(f"the message does not have the missing words: {message}")
    return seconds


def message_of(store: embstore.EmbeddingStore) -> str:
    """Return the message for missing words."""
    try:
        store.ids(MISSING)
    except embstore.MissingWordError as error:
        return str(error)
    raise ValueError("the missing words were found")


def write_lmdb(path: Path, count: int) -> bool:
    """Write a database of the id of each word; return False without LMDB."""
    try:
        import lmdb  # noqa: PLC0415
    except ImportError:
        return False
    items = sorted((word(number).encode(), number.to_bytes(8, "little")) for number in range(count))
    with lmdb.open(str(path), map_size=256 * count + (64 << 20), sync=False) as database:
        for start in range(0, count, WRITTEN_TOGETHER):
            with database.begin(write=True) as transaction:
                some = items[start : start + WRITTEN_TOGETHER]
                transaction.cursor().putmulti(some, append=True)
        database.sync(True)
    return True


def time_lmdb(path: Path, words: list[str], ids: list[int]) -> float:
    """Return the seconds of the ids of words in a cold database, read in the order of its keys."""
    import lmdb  # noqa: PLC0415

    evict(files_under(path))
    with (
        lmdb.open(str(path), readonly=True, lock=False, readahead=False) as database,
        database.begin() as transaction,
    ):
        start = time.perf_counter()
        names = [each.encode() for each in words]
        got = dict(transaction.cursor().getmulti(sorted(names)))
        found = [int.from_bytes(got[name], "little") for name in names]
        seconds = time.perf_counter() - start
    if found != ids:
        raise ValueError("LMDB gave wrong ids")
    return seconds


def curves(found: dict[str, Values]) -> list[Curve]:
    """Return the curves of what was measured, by way and number of words."""
    message = Curve("words, cold, message for missing ones", "words", {MESSAGE: found[MESSAGE]})
    most = max(found[MESSAGE].values())
    message.goals.append(at_most("words, cold, message, ms", most, MOST_MESSAGE_MS))
    ids = Curve("words, cold, to ids", "words", {})
    ids.ways.update({way: values for way, values in found.items() if way != MESSAGE})
    if DEVICE in ids.ways:
        share = ids.last(OURS) / ids.last(DEVICE)
        what = "words, cold, of the disk's reads by 3"
        ids.goals.append(at_least(what, share, LEAST_OF_DEVICE))
    return [ids, message]
