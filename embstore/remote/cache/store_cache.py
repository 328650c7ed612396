"""The cache of one published store: which of its chunk files this process has, and when to fetch.

A chunk is rented or bought. Reading rows by range is the rent: their bytes, and for each row as
much as a request costs. Fetching the whole file is the price. A file is fetched once the rent that
was paid for it has reached its price. So the rent and the price together are at most twice the cost
of the best decision for each file, which cannot be known beforehand (the ski rental problem). A
file that is evicted starts again at no rent paid, so that a cache that is too small at most doubles
the traffic.

1. A lookup that would pay more rent than the price at once buys first (`bring_cheap`). A file that
   is in the directory, and has only to be checked, is cheaper.
2. Otherwise, `missed` counts the rent. What is due is brought by two threads in the background,
   while rows come by range.
3. To bring a file: if it is in the directory, check all of it; if it is damaged, remove it. Else
   claim it, fetch it piece by piece into a part, and compute its checksum on the way. Then map it.
4. `tick` unmaps files that were evicted or removed, so that their space is freed, and notes what
   was used.
5. If the directory or the object store fails, nothing is brought for a while, and rows come by
   range. A file that is wrong on the object store as well is refused by lookups.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from embstore.errors import EmbstoreError, StoreCorruptError
from embstore.formats.own.listed_files import RunningCheck, is_whole
from embstore.progress import Progress
from embstore.remote.cache import keeper
from embstore.threads import LazyPool

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.formats.own.listed_files import ListedFile
    from embstore.progress import OnProgress
    from embstore.reading.present import Presence
    from embstore.remote.cache.directory import CacheDirectory, Part

ReadMany: TypeAlias = Callable[[Sequence[tuple[str, int, int]]], Iterator[tuple[int, bytes]]]

# Of a file that is fetched: bytes of a request, and requests in flight. In the background, at most
# 16 MiB are in memory, and 16 of the process's 32 requests are taken.
PIECE_BYTES = 1 << 20
PIECES_AT_ONCE = 8
THREAD_COUNT = 2
# What checking a file on the disk costs, as a share of fetching it.
CHECKED_SHARE = 1 / 8
# How often the use of a file is noted, and how long nothing is brought after a failure.
MARK_SECONDS = 60.0
REST_SECONDS = 30.0
# How long `bring` waits for a file that another process is fetching.
OTHERS_SECONDS = 120.0
_OTHERS_STEP_SECONDS = 0.02
# How often a file that is found damaged is brought again.
MAX_ATTEMPTS = 3

_ABSENT, _QUEUED, _HERE = 0, 1, 2

_background = LazyPool(THREAD_COUNT, "embstore_cache")


class StoreCache:
    """The chunk files of one published store, in a cache directory.

    Parameters
    ----------
    directory : CacheDirectory
        The directory.
    key : str
        The store's own directory in it.
    chunks : sequence of ListedFile
        All files, as the store's metadata lists them.
    read_many : callable
        Reads ranges of them, each given by its name in the store, first byte and byte count, and
        yields the position of each range and its bytes as they arrive.
    where : callable
        Returns the URL of a file, for messages.
    """

    def __init__(
        self,
        directory: CacheDirectory,
        key: str,
        chunks: Sequence[ListedFile],
        read_many: ReadMany,
        where: Callable[[str], str],
    ) -> None:
        self._directory, self._key = directory, key
        self.chunks = tuple(chunks)
        self._read_many, self._where_remote = read_many, where
        self.numbers = {chunk.name: number for number, chunk in enumerate(self.chunks)}
        count = len(self.chunks)
        self._sizes = np.array([chunk.size for chunk in self.chunks], np.float64)
        self._paid = np.zeros(count)
        self._on_disk = np.zeros(count, np.bool_)  # When last looked at, and not checked yet.
        self._used = np.zeros(count, np.bool_)
        self._marked = np.full(count, -np.inf)
        self._state = bytearray(count)
        self._identities: dict[int, tuple[int, int]] = {}
        self._damaged: dict[int, str] = {}
        self._places: dict[int, tuple[Presence, int]] = {}
        self._lock, self._ticking = Lock(), Lock()
        self._process = os.getpid()
        self._rest_until = self._next_tick = 0.0
        self._fetched_files = self._fetched_bytes = self._errors = 0
        self._problem = ""
        self._expect_those_on_disk(range(count))
        self.is_kept = keeper.keep(self)

    def open(self, name: str, needed_bytes: int) -> int:
        """Return a descriptor of a file that was brought; for `AddressSpace`.

        Raises
        ------
        StoreCorruptError
            If it was evicted since.
        """
        descriptor = self._directory.open(self._name(name))
        if descriptor is not None:
            status = os.fstat(descriptor)
            brought = self._identities.get(self.numbers[name])
            if (status.st_dev, status.st_ino) == brought and status.st_size >= needed_bytes:
                return descriptor
            os.close(descriptor)
        raise StoreCorruptError(f"{self.where(name)} was removed from the cache; try again")

    def open_each(self, pieces: Sequence[tuple[str, int]]) -> Generator[int]:
        """Yield a descriptor of each of some files, as `open` returns it; it is closed here."""
        for name, needed_bytes in pieces:
            descriptor = self.open(name, needed_bytes)
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    def where(self, name: str) -> str:
        """Return the path of a file, as messages show it."""
        return str(self._directory.root / self._name(name))

    def column(self, names: Sequence[str], presence: Presence) -> ColumnCache:
        """Return this cache as the reader of a column sees it, and map its files as they come."""
        return ColumnCache(self, names, presence)

    def place(self, names: Sequence[str], presence: Presence) -> NDArray[np.int64]:
        """Have files mapped when they are brought: as the extents of a column, in this order.

        Returns
        -------
        ndarray of int64
            The number of each file; -1 for an extent without one.
        """
        numbers = [self.numbers[name] if name else -1 for name in names]
        for extent, number in enumerate(numbers):
            if number >= 0:
                self._places[number] = presence, extent
        return np.array(numbers, np.int64)

    def used(self, numbers: NDArray[np.int64] | np.int64) -> None:
        """Note that mapped files, or one, were used."""
        self._used[numbers] = True
        self._look_after()

    def missed(self, numbers: NDArray[np.int64], costs: NDArray[np.float64]) -> None:
        """Note what was paid for reading from files by range, and bring those that are due.

        Raises
        ------
        StoreCorruptError
            If the checksum of a file is wrong on the object store, too.
        """
        if self._damaged:
            for number in numbers.tolist():
                if number in self._damaged:
                    raise StoreCorruptError(self._damaged[number])
        self._paid[numbers] += costs
        self._look_after()
        due = numbers[self._paid[numbers] >= self._sizes[numbers]]
        if not len(due) or time.monotonic() < self._rest_until or os.getpid() != self._process:
            return
        for number in due.tolist():
            with self._lock:
                if self._state[number] != _ABSENT:
                    continue
                self._state[number] = _QUEUED
            _background.get().submit(partial(self._bring_queued, number))

    def bring_cheap(self, numbers: NDArray[np.int64], costs: NDArray[np.float64]) -> None:
        """Bring those of some files now that cost less than reading from them by range would.

        Parameters
        ----------
        numbers, costs : ndarray, shape (n,)
            The files, and what reading by range costs a lookup.
        """
        if time.monotonic() < self._rest_until:
            return
        prices = np.where(self._on_disk[numbers], CHECKED_SHARE, 1.0) * self._sizes[numbers]
        limit, brought = self._directory.limit, 0.0
        for number in numbers[costs >= prices].tolist():
            brought += self._sizes[number]
            if limit is not None and brought > limit / 2:  # It would push out what it brought.
                return
            self._try(number, 0.0)
            if self._state[number] != _HERE:  # Another process is at it, or the disk fails.
                return

    def bring(self, numbers: Sequence[int], progress: OnProgress | None = None) -> None:
        """Bring files now, as far as that is possible.

        ``progress`` is called with their bytes done and in all.
        """
        total, done = int(self._sizes[list(numbers)].sum()), 0
        for number in numbers:
            self._try(number, OTHERS_SECONDS)
            done += self.chunks[number].size
            if progress is not None:
                progress(Progress(done, total))

    def is_here(self, number: int) -> bool:
        """Say whether a file was brought, and is mapped if it has a place."""
        return self._state[number] == _HERE

    def is_on_disk(self, number: int) -> bool:
        """Say whether a file is in the directory, checked or not."""
        chunk = self.chunks[number]
        return self._directory.has(self._name(chunk.name), chunk.size)

    def counts(self) -> dict[str, Any]:
        """Return the counts of `LookupStats` that tell of the cache."""
        return {
            "fetched_files": self._fetched_files,
            "fetched_bytes": self._fetched_bytes,
            "evicted_files": self._directory.evicted_files,
            "file_cache_errors": self._errors,
            "file_cache_problem": self._problem,
        }

    def cached_bytes(self) -> int:
        """Return the bytes of the files that were brought."""
        here = np.frombuffer(self._state, np.uint8) == _HERE
        return int(self._sizes[here].sum())

    def tick(self) -> None:
        """Unmap files that are gone, and note which were used."""
        # One at a time: another may have forgotten a file that was brought again since.
        with self._ticking:
            self._tick()

    def _tick(self) -> None:
        now = time.monotonic()
        self._next_tick = now + keeper.TICK_SECONDS
        gone: dict[Presence, list[tuple[int, int]]] = {}
        for number, identity in list(self._identities.items()):
            name = self._name(self.chunks[number].name)
            if self._directory.identity(name) == identity:
                if self._used[number] and now - self._marked[number] >= MARK_SECONDS:
                    self._directory.mark(name)
                    self._marked[number] = now
            elif number in self._places:
                presence, extent = self._places[number]
                gone.setdefault(presence, []).append((extent, number))
        self._used[:] = False
        for presence, lost in gone.items():
            presence.unmap([extent for extent, _ in lost])
            for _, number in lost:  # Only now may they be brought again.
                self._forget(number)
        wanted = np.flatnonzero(self._paid > 0).tolist()
        self._expect_those_on_disk(number for number in wanted if not self._state[number])
        for presence in {presence for presence, _ in self._places.values()}:
            presence.sample()

    def renew(self) -> None:
        """Take new locks, in a forked child."""
        self._lock, self._ticking = Lock(), Lock()
        self.is_kept = False
        self._state = bytearray(_ABSENT if one == _QUEUED else one for one in self._state)

    def _look_after(self) -> None:
        """Have somebody look after this cache: a thread, or else the caller now and then."""
        if not self.is_kept or not keeper.is_running():
            self.is_kept = keeper.keep(self)
            if not self.is_kept and time.monotonic() >= self._next_tick:
                self.tick()

    def _expect_those_on_disk(self, numbers: Any) -> None:
        """Have files that are in the directory brought when they are first used."""
        for number in numbers:
            self._on_disk[number] = self.is_on_disk(number)
            if self._on_disk[number]:
                self._paid[number] = self._sizes[number]

    def _bring_queued(self, number: int) -> None:
        try:
            self._try(number, 0.0)
        finally:
            with self._lock:
                if self._state[number] == _QUEUED:
                    self._state[number] = _ABSENT

    def _try(self, number: int, wait_seconds: float) -> None:
        """Bring a file, or note why that fails."""
        if self._state[number] == _HERE:
            return
        try:
            descriptor = self._obtain(self.chunks[number], time.monotonic() + wait_seconds)
            if descriptor is None:  # Another process fetches it; `tick` finds it.
                self._paid[number] = 1
                return
            try:
                self._put(number, descriptor)
            finally:
                os.close(descriptor)
        except (OSError, EmbstoreError) as error:
            self._fail(str(error))

    def _put(self, number: int, descriptor: int) -> None:
        """Map a file that is open and checked."""
        status = os.fstat(descriptor)
        with self._lock:
            if self._state[number] == _HERE:  # Another thread was faster.
                return
            if number in self._places:
                presence, extent = self._places[number]
                presence.map(extent, descriptor)
            self._identities[number] = status.st_dev, status.st_ino
            self._state[number] = _HERE
            self._paid[number] = 0
            self._on_disk[number] = False
            self._used[number] = True

    def _forget(self, number: int) -> None:
        with self._lock:
            self._identities.pop(number, None)
            self._state[number] = _ABSENT
            self._paid[number] = 0

    def _obtain(self, chunk: ListedFile, deadline: float) -> int | None:
        """Return a descriptor of a file that is whole; None if another process is fetching it."""
        name, evicted = self._name(chunk.name), self._directory.evicted_files
        attempts = waits = 0
        while True:
            descriptor = self._directory.open(name)
            if descriptor is not None:
                if is_whole(chunk, descriptor):
                    self._directory.mark(name)
                    return descriptor
                try:
                    self._directory.remove(name, descriptor)
                finally:
                    os.close(descriptor)
                self._note(f"{self.where(chunk.name)} was damaged, and removed")
            part = self._directory.claim(name, chunk.size)
            if self._directory.evicted_files != evicted:
                keeper.tick_all()  # So that the space of the evicted files is freed.
            if part is not None:
                with part:
                    if self._fetch(chunk, part):
                        part.publish()
                        return os.dup(part.descriptor)
                attempts += 1
                if attempts >= MAX_ATTEMPTS:
                    raise self._refuse(chunk)
            elif waits and time.monotonic() >= deadline:
                return None
            else:  # At least once: the file may have come after the look.
                waits += 1
                time.sleep(_OTHERS_STEP_SECONDS)

    def _fetch(self, chunk: ListedFile, part: Part) -> bool:
        """Fetch a file into a part; return whether its checksum is right."""
        check = RunningCheck(chunk)
        firsts = range(0, chunk.size, PIECE_BYTES)
        for at in range(0, len(firsts), PIECES_AT_ONCE):
            requests = [
                (chunk.name, first, min(PIECE_BYTES, chunk.size - first))
                for first in firsts[at : at + PIECES_AT_ONCE]
            ]
            found: dict[int, bytes] = dict(self._read_many(requests))
            pieces = [found[place] for place in range(len(requests))]
            for piece in pieces:
                check.add(piece)
            part.write(pieces, requests[0][1])
            self._fetched_bytes += sum(map(len, pieces))
        if not check.is_right():
            return False
        self._fetched_files += 1
        return True

    def _refuse(self, chunk: ListedFile) -> StoreCorruptError:
        """Have lookups refuse a file that is wrong on the object store."""
        message = (
            f"{self._where_remote(chunk.name)} does not have the checksum that its store lists: it "
            "is damaged; publish the store again"
        )
        self._damaged[self.numbers[chunk.name]] = message
        return StoreCorruptError(message)

    def _fail(self, problem: str) -> None:
        self._note(problem)
        self._rest_until = time.monotonic() + REST_SECONDS

    def _note(self, problem: str) -> None:
        with self._lock:
            self._errors += 1
            self._problem = problem

    def _name(self, name: str) -> str:
        return f"{self._key}/{name}"


class ColumnCache:
    """A `StoreCache` as the reader of a column sees it; see `embstore.reading.file_cache.Cache`.

    Parameters
    ----------
    cache : StoreCache
        The cache.
    names : sequence of str
        The files of the column's extents; ``""`` for an extent without one.
    presence : Presence
        Where they are mapped.
    """

    def __init__(self, cache: StoreCache, names: Sequence[str], presence: Presence) -> None:
        self._cache = cache
        self._numbers = cache.place(names, presence)

    def used(self, extents: NDArray[np.int64] | int) -> None:
        """Note that records of mapped extents, repeats allowed, or of one, were used."""
        self._cache.used(self._numbers[extents])

    def bring_cheap(self, extents: NDArray[np.int64], costs: NDArray[np.float64]) -> None:
        """Bring those of some extents whose whole files cost less than reading from them would."""
        self._cache.bring_cheap(self._numbers[extents], costs)

    def missed(self, extents: NDArray[np.int64], costs: NDArray[np.float64]) -> None:
        """Note what was paid for reading from each of some extents by range."""
        self._cache.missed(self._numbers[extents], costs)

    def bring(self, extents: Sequence[int], progress: OnProgress | None = None) -> None:
        """Fetch and map extents, as far as that is possible, and return."""
        numbers = self._numbers[list(extents)]
        self._cache.bring(numbers[numbers >= 0].tolist(), progress)

    def has(self, extents: NDArray[np.int64]) -> bool:
        """Say whether some extents are all on the disk, checked and mapped or not."""
        numbers = self._numbers[extents].tolist()
        return all(self._cache.is_here(one) or self._cache.is_on_disk(one) for one in numbers)

    def counts(self) -> dict[str, Any]:
        """Return the counts of `LookupStats` that tell of the cache."""
        return self._cache.counts()

    def cached_bytes(self) -> int:
        """Return the bytes of the store's files that are in the cache, and mapped."""
        return self._cache.cached_bytes()
