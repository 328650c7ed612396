"""The directory of a cache: its limit, what it evicts, and what may be wrong with it."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embstore.formats.own.listed_files import ListedFile, is_whole
from embstore.remote.cache import directory as directories
from embstore.remote.cache import store_cache
from embstore.remote.cache.directory import LOCK_NAME, ROOT_NAME, CacheDirectory
from embstore.settle import as_size
from tests.helpers.cached import Far, Inline, files_in, size_of
from tests.helpers.stores import flip, make_store

if TYPE_CHECKING:
    from collections.abc import Callable

    import embstore

ROWS, CHUNK_ROWS, CHUNKS = 2048, 256, 8


@pytest.fixture
def local(tmp_path):
    table = np.random.default_rng(1).standard_normal((ROWS, 12)).astype(np.float32)
    with make_store(tmp_path / "local", table, chunk_rows=CHUNK_ROWS, partitions=1) as store:
        yield store


@pytest.fixture
def cache_dir(tmp_path):
    return tmp_path / "nvme"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    """Have what is due be brought before a lookup returns, and after failures, too."""
    monkeypatch.setattr(store_cache, "REST_SECONDS", 0.0)
    monkeypatch.setattr(store_cache, "_background", Inline())


def ids_of(chunk: int) -> np.ndarray:
    return np.arange(chunk * CHUNK_ROWS, (chunk + 1) * CHUNK_ROWS)


def check(far: Far, local: embstore.EmbeddingStore) -> None:
    for ids in (np.arange(ROWS), np.arange(5), np.array([ROWS - 1])):
        np.testing.assert_array_equal(far.store.lookup(ids), local.lookup(ids))
    np.testing.assert_array_equal(far.store[7], local[7])


def use(far: Far, chunk: int) -> None:
    """Use a chunk, and note it at once, after what was used before."""
    far.cache.tick()
    far.cache._marked[:] = -np.inf
    far.store.lookup(ids_of(chunk))
    far.cache.tick()


def chunks_in(cache_dir: Path) -> list[int]:
    return sorted(int(path.parent.name) for path in files_in(cache_dir))


@pytest.mark.parametrize("kept", [1, 3, 7])
def test_limit_holds_and_rows_are_right(local, cache_dir, kept):
    size = Far(local.path, cache_dir).cache.chunks[0].size
    far = Far(local.path, cache_dir, kept * size + 10)
    for at in range(3 * CHUNKS):
        far.store.warm(ids_of(at * 5 % CHUNKS))
        assert size_of(cache_dir) <= kept * size + 10
        check(far, local)
    assert far.store.stats().evicted_files > 0
    assert far.store.residency().file_cache_bytes == kept * size


def test_what_was_used_least_recently_goes_first(local, cache_dir):
    size = Far(local.path, cache_dir).cache.chunks[0].size
    far = Far(local.path, cache_dir, 3 * size)
    for chunk in (0, 1, 2):
        far.store.warm(ids_of(chunk))
        use(far, chunk)
    use(far, 0)
    far.store.warm(ids_of(5))
    assert chunks_in(cache_dir) == [0, 2, 5]
    use(far, 2)
    use(far, 0)
    other = Far(local.path, cache_dir, 3 * size)
    other.store.warm(ids_of(6))
    assert chunks_in(cache_dir) == [0, 2, 6]


def test_limit_counts_all_stores_in_the_directory(local, cache_dir, tmp_path):
    far = Far(local.path, cache_dir)
    far.store.warm(np.arange(ROWS))
    size = far.cache.chunks[0].size
    table = np.ones((CHUNK_ROWS, 12), np.float32)
    with make_store(tmp_path / "other", table, chunk_rows=CHUNK_ROWS) as second:
        Far(second.path, cache_dir, 4 * size).store.warm([0])
    assert size_of(cache_dir) == 4 * size
    check(far, local)


def test_unmapped_files_are_freed(local, cache_dir):
    far = Far(local.path, cache_dir)
    far.store.warm(np.arange(ROWS))
    for path in files_in(cache_dir)[:3]:
        path.unlink()
    maps = Path("/proc/self/maps")
    assert f"{cache_dir}" in maps.read_text()
    check(far, local)
    far.cache.tick()
    assert not [
        line
        for line in maps.read_text().splitlines()
        if str(cache_dir) in line and "(deleted)" in line
    ]
    check(far, local)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def swap(path: Path) -> None:
    """Put the chunk's neighbour in its place: a right file of another name."""
    other = path.parent.parent / str((int(path.parent.name) + 1) % CHUNKS) / path.name
    path.write_bytes(other.read_bytes())


def replace_by(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def do(path: Path) -> None:
        path.unlink()
        make(path)

    return do


BROKEN: dict[str, Callable[[Path], object]] = {
    "truncated": truncate,
    "longer": lengthen,
    "empty": lambda path: os.truncate(path, 0),
    "first byte flipped": lambda path: flip(path, 0),
    "last row flipped": lambda path: flip(path, -5),
    "checksum flipped": lambda path: flip(path, -1),
    "another chunk": swap,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "link to a file": replace_by(lambda path: path.symlink_to(Path(__file__))),
    "link in a circle": replace_by(lambda path: path.symlink_to(path)),
    "fifo": replace_by(os.mkfifo),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_file_is_noticed_and_fetched_again(local, cache_dir, how):
    Far(local.path, cache_dir).store.warm(np.arange(ROWS))
    (path,) = (path for path in files_in(cache_dir) if path.parent.name == "2")
    BROKEN[how](path)
    far = Far(local.path, cache_dir)
    far.store.warm(np.arange(ROWS))
    assert far.store.stats().fetched_files == 1
    check(far, local)
    assert not path.is_symlink()
    assert is_whole(far.cache.chunks[2], os.open(path, os.O_RDONLY))


def test_directory_in_place_of_a_file_costs_only_the_cache(local, cache_dir):
    Far(local.path, cache_dir).store.warm(np.arange(ROWS))
    path = files_in(cache_dir)[2]
    path.unlink()
    (path / "full").mkdir(parents=True)
    far = Far(local.path, cache_dir)
    far.store.warm(np.arange(ROWS))
    check(far, local)
    stats = far.store.stats()
    assert stats.file_cache_errors
    assert stats.file_cache_problem


def full(descriptor: int, size: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def quota(self: Any, pieces: list[bytes], offset: int) -> None:
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


class Full:
    """What statvfs says of a disk with one free block."""

    f_blocks, f_bavail, f_frsize = 1000, 1, 4096


def made(root: Path) -> Path:
    root.mkdir(0o700)
    return root


def parent_is_file(patch: Any, root: Path) -> None:
    root.parent.rmdir()
    root.parent.write_text("mine")


FAILURES: dict[str, Callable[[Any, Path], object]] = {
    "full disk": lambda patch, root: patch.setattr(directories, "_allocate", full),
    "quota": lambda patch, root: patch.setattr(directories.Part, "write", quota),
    "nearly full disk": lambda patch, root: patch.setattr(os, "statvfs", lambda path: Full),
    "a file in its place": lambda patch, root: root.write_text("mine"),
    "parent is a file": parent_is_file,
    "others may write": lambda patch, root: made(root).chmod(0o777),
    "other owner": lambda patch, root: os.chown(made(root), 12345, 12345),
    "link": lambda patch, root: root.symlink_to(root.parent.parent),
    "no locks": lambda patch, root: patch.setattr(fcntl, "flock", full),
    "lock is a directory": lambda patch, root: (root / LOCK_NAME).mkdir(parents=True),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failures_of_the_disk_cost_only_the_cache(local, cache_dir, monkeypatch, failure):
    if failure == "other owner" and os.geteuid():
        pytest.skip("only root gives files away")
    cache_dir.mkdir()
    FAILURES[failure](monkeypatch, cache_dir / ROOT_NAME)
    far = Far(local.path, cache_dir)
    for _ in range(3):
        check(far, local)
        far.store.warm(ids_of(3))
    stats = far.store.stats()
    assert stats.fetched_files == 0 or failure == "quota"
    assert stats.file_cache_errors > 0
    assert stats.file_cache_problem
    monkeypatch.undo()
    if cache_dir.is_dir() and (cache_dir / ROOT_NAME).is_dir():
        assert files_in(cache_dir) == [] or failure == "link"


def test_full_disk_evicts_files_that_were_not_used(local, cache_dir, monkeypatch):
    far = Far(local.path, cache_dir)
    far.store.warm(np.arange(ROWS // 2))
    before = chunks_in(cache_dir)

    class Nearly:
        f_blocks, f_frsize, f_bavail = 1 << 40, 1, directories.LEFT_BYTES

    monkeypatch.setattr(os, "statvfs", lambda path: Nearly)
    use(far, 0)
    far.store.warm(ids_of(6))
    assert chunks_in(cache_dir) == [before[0], *before[2:], 6]
    check(far, local)


def test_directory_that_is_removed_is_made_again(local, cache_dir):
    far = Far(local.path, cache_dir)
    far.store.warm(np.arange(ROWS))
    for path in sorted(cache_dir.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    cache_dir.rmdir()
    check(far, local)
    far.cache.tick()
    check(far, local)
    far.store.warm(ids_of(1))
    assert 1 in chunks_in(cache_dir)
    check(far, local)


def test_files_of_others_are_neither_counted_nor_removed(local, cache_dir):
    size = Far(local.path, cache_dir).cache.chunks[0].size
    root = cache_dir / ROOT_NAME
    mine = [
        cache_dir / "notes.bin",
        cache_dir / "partitions/0/c/0/0",
        root / "README",
        root / "0/c/1/0",
        root / f"{'0' * 32}-{'1' * 32}/notes",
        root / f"{'0' * 32}-{'1' * 32}/partitions/0/zarr.json",
        root / f"{'0' * 32}-{'1' * 32}/partitions/0/c/../../x",
    ]
    root.mkdir(0o700, parents=True)
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(10 * size))
    far = Far(local.path, cache_dir, 2 * size)
    for chunk in range(CHUNKS):
        far.store.warm(ids_of(chunk))
    assert all(path.stat().st_size == 10 * size for path in mine)
    assert far.store.stats().file_cache_errors == 0
    check(far, local)


def test_remains_of_a_killed_fetch_are_removed_and_a_running_one_is_left(local, cache_dir):
    far = Far(local.path, cache_dir)
    far.store.warm(ids_of(0))
    (path,) = files_in(cache_dir)
    left = path.parent.parent / "1" / ".0.part"
    left.parent.mkdir()
    left.write_bytes(b"half")
    running = far.cache._directory.claim(far.cache._name(far.cache.chunks[2].name), 100)
    assert running is not None
    with running:
        other = Far(local.path, cache_dir)  # Of another process: it looks at all files first.
        other.store.warm(ids_of(3))
        assert not left.exists()
        assert [path.name for path in files_in(cache_dir)] == ["0", ".0.part", "0"]
    far.store.warm(ids_of(1))
    assert chunks_in(cache_dir) == [0, 1, 3]


def test_part_of_a_killed_fetch_is_begun_again(local, cache_dir):
    far = Far(local.path, cache_dir)
    far.store.warm(ids_of(0))
    (path,) = files_in(cache_dir)
    left = path.parent.parent / "1" / ".0.part"
    left.parent.mkdir()
    left.write_bytes(b"half")
    far.store.warm(ids_of(1))
    assert chunks_in(cache_dir) == [0, 1]


def claim(folder: CacheDirectory, number: int, size: int = 10) -> None:
    part = folder.claim(f"{32 * 'a'}/partitions/0/c/{number}", size)
    assert part is not None
    with part:
        part.publish()


@pytest.fixture
def looks(monkeypatch):
    """The directories that looked at all their files, once for each look."""
    found: list[CacheDirectory] = []
    look = CacheDirectory._entries

    def counted(folder: CacheDirectory) -> Any:
        found.append(folder)
        return look(folder)

    monkeypatch.setattr(CacheDirectory, "_entries", counted)
    return found


def test_files_are_looked_at_only_where_room_may_be_short(cache_dir, looks):
    folders = [CacheDirectory(cache_dir, 200) for _ in range(2)]
    for number in range(20):
        claim(folders[number % 2], number)
    assert looks == folders
    claim(folders[1], 20)
    assert looks == [*folders, folders[1]]
    assert size_of(cache_dir) == 200
    claim(CacheDirectory(cache_dir, 100), 21)
    assert size_of(cache_dir) == 100


@pytest.mark.parametrize("text", [b"", b"7", b"-0000000000000000007", 30 * b"x"])
def test_sum_that_is_damaged_is_made_again(cache_dir, looks, text):
    folder = CacheDirectory(cache_dir, 100)
    for number in range(15):
        (cache_dir / ROOT_NAME / LOCK_NAME).write_bytes(text) if number else None
        claim(folder, number)
        assert size_of(cache_dir) == min(10 * (number + 1), 100)


def test_files_removed_by_hand_leave_room(cache_dir):
    folder = CacheDirectory(cache_dir, 100)
    for number in range(10):
        claim(folder, number)
    for path in files_in(cache_dir)[:6]:
        path.unlink()
    for number in range(10, 16):
        claim(folder, number)
    assert (size_of(cache_dir), folder.evicted_files) == (100, 0)


def test_some_more_of_many_files_are_removed_at_once(cache_dir, looks, monkeypatch):
    monkeypatch.setattr(directories, "MANY_FILES", 4)
    folder = CacheDirectory(cache_dir, 1280)
    for number in range(140):
        claim(folder, number)
        assert len(files_in(cache_dir)) <= 128
    assert folder.evicted_files <= 12 + 2
    assert len(looks) <= 1 + 12 // 2


def test_file_that_another_fetches_is_waited_for(local, cache_dir, monkeypatch):
    far, other = Far(local.path, cache_dir), Far(local.path, cache_dir)
    started, go = threading.Event(), threading.Event()

    def slow(name: str, first: int, data: bytes) -> bytes:
        started.set()
        assert go.wait(60)
        return data

    other.files.on_read = slow
    thread = threading.Thread(target=other.store.warm, args=(ids_of(0),))
    thread.start()
    assert started.wait(60)
    far.store.lookup(ids_of(0))  # By range; it does not wait.
    assert far.store.stats().fetched_files == 0
    threading.Timer(0.1, go.set).start()
    far.store.warm(ids_of(0))
    thread.join()
    assert far.store.stats().fetched_files == 0
    assert far.store.residency().file_cache_bytes == far.cache.chunks[0].size


def test_lock_that_is_held_costs_only_the_cache(local, cache_dir, monkeypatch):
    monkeypatch.setattr(directories, "LOCK_SECONDS", 0.05)
    far = Far(local.path, cache_dir)
    far.store.warm(ids_of(0))
    descriptor = os.open(cache_dir / ROOT_NAME / LOCK_NAME, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    far.store.warm(ids_of(1))
    check(far, local)
    assert "is held by another process" in far.store.stats().file_cache_problem
    os.close(descriptor)
    far.store.warm(ids_of(1))
    assert chunks_in(cache_dir)[:2] == [0, 1]


def test_nothing_is_fetched_for_a_while_after_a_failure(local, cache_dir, monkeypatch):
    monkeypatch.setattr(store_cache, "REST_SECONDS", 1000.0)
    monkeypatch.setattr(directories, "_allocate", full)
    far = Far(local.path, cache_dir)
    for _ in range(5):
        far.store.lookup(np.arange(ROWS))
    assert 0 < far.store.stats().file_cache_errors <= CHUNKS


def test_files_of_the_cache_are_private(local, cache_dir):
    far = Far(local.path, cache_dir)
    far.store.warm(np.arange(ROWS))
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files_in(cache_dir))
    assert (cache_dir / ROOT_NAME).stat().st_mode & 0o777 == 0o700


def test_file_evicted_while_it_is_checked_is_not_removed_twice(tmp_path):
    folder = CacheDirectory(tmp_path)
    name = f"{'0' * 32}/partitions/0/c/0/0"
    part = folder.claim(name, 4)
    assert part is not None
    with part:
        part.write([b"a", b"", b"bcd"], 0)
        part.publish()
    old = folder.open(name)
    assert old is not None
    assert folder.claim(name, 4) is None
    path = folder.root / name
    path.rename(path.with_name("x"))
    path.write_bytes(b"new!")
    folder.remove(name, old)
    assert path.read_bytes() == b"new!"
    os.close(old)


def test_part_is_written_whole_by_calls_that_take_less(tmp_path, monkeypatch):
    folder = CacheDirectory(tmp_path)
    name = f"{'0' * 32}/partitions/0/c/0/0"
    pieces = [bytes([number]) * number for number in range(9)]
    whole = b"".join(pieces)
    monkeypatch.setattr(os, "pwritev", lambda to, some, at: os.pwrite(to, b"".join(some)[:5], at))
    part = folder.claim(name, 3 + len(whole))
    assert part is not None
    with part:
        part.write(pieces, 3)
        part.publish()
    assert (folder.root / name).read_bytes() == bytes(3) + whole


def test_whole_check_reads_what_it_says():
    chunk = ListedFile("c/0", 8, 4, 0, 0)
    reader, writer = os.pipe()
    os.close(writer)
    assert not is_whole(chunk, reader)
    os.close(reader)


CHILD = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from embstore.remote.cache import keeper, store_cache
keeper.TICK_SECONDS = 0.05
store_cache.MARK_SECONDS = 0.0
from tests.helpers.cached import Far
path, cache, limit, seed, rounds = sys.argv[1:]
far = Far(Path(path), Path(cache), int(limit))
rng = np.random.default_rng(int(seed))
expected = np.load(path + ".npy")
for round in range(int(rounds)):
    first = int(rng.integers(0, 7)) * 256
    ids = rng.integers(first, first + 512, 400)
    if not (far.store.lookup(ids) == expected[ids]).all():
        print("wrong", ids.tolist())
        sys.exit(1)
    if round % 7 == 0:
        far.store.warm(ids[:50])
    print("ok", flush=True)
print(far.store.stats().fetched_files, far.store.stats().file_cache_problem)
"""


def test_processes_share_a_directory_and_may_be_killed(local, cache_dir, tmp_path):
    np.save(f"{local.path}.npy", np.asarray(local))
    size = Far(local.path, cache_dir).cache.chunks[0].size
    limit = 4 * size
    root = Path(__file__).parent.parent

    def start(seed: int, rounds: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                CHILD,
                str(local.path),
                str(cache_dir),
                str(limit),
                str(seed),
                str(rounds),
            ],
            cwd=root,
            stdout=subprocess.PIPE,
            text=True,
        )

    rng = np.random.default_rng(6)
    victims = [start(seed, 100_000) for seed in range(2)]
    others = [start(10 + seed, 150) for seed in range(2)]
    for number in range(4):
        victim = victims.pop(0)
        assert victim.stdout is not None
        for _ in range(int(rng.integers(1, 40))):  # Killed at any place.
            assert victim.stdout.readline() == "ok\n"
        victim.kill()
        assert "wrong" not in victim.communicate()[0]
        assert size_of(cache_dir) <= limit
        if number < 2:
            victims.append(start(20 + number, 100_000))
    for process in others:
        output = process.communicate()[0]
        assert process.returncode == 0, output
        assert output.splitlines()[:-1] == ["ok"] * 150
    far = Far(local.path, cache_dir, limit)
    far.store.warm(ids_of(0))
    assert size_of(cache_dir) <= limit
    assert not [path for path in files_in(cache_dir) if path.name.endswith(".part")]
    check(far, local)
    assert far.store.stats().file_cache_errors == 0


def test_limit_is_a_size():
    assert as_size("50GiB", "cache_limit") == 50 << 30
