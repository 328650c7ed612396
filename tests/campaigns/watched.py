"""Hostile inputs, each tried in a process that is watched: for time, memory, and survival.

A kind of input is a function of a folder that returns a function ``case(random_numbers)``; this
tries one input, and raises an AssertionError at a broken promise. It may return whether the input
was accepted. Each kind has a process of its
own, because only another process notices a hang or a crash. A case takes less than `CASE_SECONDS`
of processor time; all together take less than `MEMORY_BYTES` of memory, also of memory that is
only asked for. The error names the folder with the case.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import random
import resource
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.helpers.memory import peak_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Case = Callable[[random.Random], bool | None]
    Kind = Callable[[Path], Case]

CASE_SECONDS = 10
HANG_SECONDS = 120  # By the clock, on a busy machine.
MEMORY_BYTES = 1 << 30


def run_watched(
    kinds: Mapping[str, Kind], folder: Path, seed: int, *, seconds: float, cases: float
) -> dict[str, tuple[int, int]]:
    """Try inputs of each kind; return how many, and how many of them were accepted.

    Parameters
    ----------
    kinds : mapping of str to function
        The kinds; functions of modules.
    folder : Path
        Where to work, in a folder for each kind.
    seed : int
        Seed of all random choices.
    seconds : float
        How long to try each kind.
    cases : float
        Most inputs of a kind; so fast and slow machines try the same ones.

    Raises
    ------
    AssertionError
        If a promise is broken, a case takes too long, or a process ends.
    """
    spawn = multiprocessing.get_context("spawn")
    queues = {kind: spawn.SimpleQueue() for kind in kinds}
    processes = {}
    for kind, queue in queues.items():
        (folder / kind).mkdir()
        arguments = (kinds[kind], folder / kind, seed, seconds, cases, queue)
        processes[kind] = spawn.Process(target=_work, args=arguments)
        processes[kind].start()
    end = time.monotonic() + seconds + 180 + 2 * CASE_SECONDS
    for process in processes.values():
        process.join(max(0, end - time.monotonic()))
    for kind, process in processes.items():
        if process.is_alive():
            process.kill()
            raise AssertionError(f"{kind}: a case hangs; it is in {_kept(folder / kind)}")
        if process.exitcode != 0:
            where = _kept(folder / kind)
            raise AssertionError(f"{kind}: exit {process.exitcode}; the case is in {where}")
    return {kind: queue.get() for kind, queue in queues.items()}


def _kept(work: Path) -> Path:
    """Copy a case to a folder that outlives the campaign's."""
    target = work.parent.with_name(f"{work.parent.name}-{work.name}")
    # Not what a FIFO or a device in it would give.
    shutil.copytree(work, target, symlinks=True, ignore=_not_files)
    return target


def _not_files(folder: str, names: list[str]) -> list[str]:
    paths = [Path(folder, name) for name in names]
    return [path.name for path in paths if not path.is_symlink() and not _is_plain(path)]


def _is_plain(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and path.stat().st_size <= MEMORY_BYTES)


def _work(kind: Kind, folder: Path, seed: int, seconds: float, cases: float, queue: Any) -> None:
    """Try cases of a kind up to the limits; put their number into the queue."""
    random_numbers = random.Random(seed)
    case = kind(folder)
    memory = peak_bytes()
    # Counts memory that can be written to; not mappings of files, nor reserved addresses.
    resource.setrlimit(resource.RLIMIT_DATA, (memory + MEMORY_BYTES, memory + MEMORY_BYTES))
    end = time.monotonic() + seconds
    count = accepted = 0
    while count < cases and time.monotonic() < end:
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        start = time.process_time()
        accepted += bool(case(random_numbers))
        count += 1
        took = time.process_time() - start
        if took > CASE_SECONDS:
            raise AssertionError(f"case {count} of seed {seed} took {took:.1f} s")
        if peak_bytes() - memory > MEMORY_BYTES:
            raise AssertionError(f"case {count} of seed {seed} took too much memory")
    faulthandler.cancel_dump_traceback_later()
    queue.put((count, accepted))
