"""The disk under the files: its count of reads, and how many reads per second it can do.

The limit is the best rate of direct random reads of 4 KiB at queue depths 1 to 128. fio measures it
where it is installed, otherwise threads that call ``preadv``.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

QUEUE_DEPTHS = (1, 2, 4, 8, 16, 32, 64, 128)
READ_BYTES = 4096
MAX_FILES = 16  # fio accepts a list of file names of up to about 4,000 characters.


@dataclass(frozen=True, slots=True)
class DiskLimit:
    """The reads per second that the disk reached.

    Attributes
    ----------
    tool : str
        The name of the tool that measured them.
    reads_per_second : dict
        Queue depth to direct random reads of 4 KiB per second.
    files : tuple of Path
        The files that were read.
    """

    tool: str
    reads_per_second: dict[int, float]
    files: tuple[Path, ...] = ()

    @property
    def best(self) -> float:
        """The highest rate."""
        return max(self.reads_per_second.values(), default=0.0)

    def again(self, seconds: float = 1.0) -> float:
        """Return the reads per second that the disk does now, at the best queue depth."""
        depth = max(self.reads_per_second, key=lambda depth: self.reads_per_second[depth])
        return _tools()[self.tool](self.files, depth, seconds)

    def to_json(self) -> dict[str, Any]:
        """Return the limit as JSON."""
        rates = self.reads_per_second
        return {"tool": self.tool, "reads_per_second": rates, "best": self.best}


def reads_completed(device: Path) -> int:
    """Return how many reads a block device, its directory in /sys, has completed since boot."""
    return int((device / "stat").read_text().split(maxsplit=1)[0])


def flush(files: Iterable[Path]) -> None:
    """Write files to the disk."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def measure_limit(
    files: Sequence[Path],
    *,
    seconds: float = 2.0,
    progress: Callable[[str], None] = lambda text: None,
) -> DiskLimit | None:
    """Measure how many random reads of 4 KiB per second the disk under some files can do.

    Parameters
    ----------
    files : sequence of Path
        Files to read; the largest are used. Nothing is written.
    seconds : float
        How long each queue depth is measured.
    progress : callable
        Gets a line before each measurement.

    Returns
    -------
    DiskLimit or None
        None if no file is large enough, or the file system does not support direct reads.
    """
    largest = sorted(files, key=lambda file: file.stat().st_size, reverse=True)[:MAX_FILES]
    # Smaller files would not keep all reads of the largest depth apart.
    largest = [file for file in largest if file.stat().st_size >= READ_BYTES * max(QUEUE_DEPTHS)]
    if not largest:
        return None
    for tool, measure in _tools().items():
        rates = {}
        try:
            for depth in QUEUE_DEPTHS:
                progress(f"limit of the disk: {tool}, queue depth {depth}")
                rates[depth] = measure(largest, depth, seconds)
        except (OSError, subprocess.CalledProcessError) as error:
            progress(f"limit of the disk: {tool} failed: {error}")
        else:
            return DiskLimit(tool, rates, tuple(largest))
    return None


def io_uring_rate(limit: DiskLimit, depth: int, seconds: float) -> float | None:
    """Return direct random reads of 4 KiB per second that fio's io_uring engine does at a depth.

    None if there is no fio, or the system does not allow io_uring.
    """
    if shutil.which("fio") is None:
        return None
    try:
        return _fio(limit.files, depth, seconds, "io_uring")
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None


def _tools() -> dict[str, Callable[[Sequence[Path], int, float], float]]:
    """Return functions of (files, queue depth, seconds) that measure reads per second."""
    tools: dict[str, Callable[[Sequence[Path], int, float], float]] = {}
    if shutil.which("fio"):
        tools["fio"] = _fio
    return tools | {"preadv on threads": _threads}


def _fio(files: Sequence[Path], depth: int, seconds: float, engine: str = "libaio") -> float:
    names = ":".join(str(file).replace(":", "\\:") for file in files)
    command = [
        *("fio", "--name=limit", "--readonly", "--rw=randread", f"--bs={READ_BYTES}"),
        *("--direct=1", f"--ioengine={engine}", f"--iodepth={depth}", f"--filename={names}"),
        *("--norandommap", "--randrepeat=0", "--time_based", f"--runtime={seconds}"),
        *("--file_service_type=random", "--output-format=json"),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    # fio may print notes before the JSON.
    report = json.loads(done.stdout[done.stdout.index("{") :])
    return float(report["jobs"][0]["read"]["iops"])


def _threads(files: Sequence[Path], depth: int, seconds: float) -> float:
    descriptors = [os.open(file, os.O_RDONLY | os.O_DIRECT) for file in files]
    places = [file.stat().st_size // READ_BYTES for file in files]
    end = time.perf_counter() + seconds

    def read(seed: int) -> int:
        pick = random.Random(seed).random
        # A direct read needs an aligned buffer; an anonymous mapping starts on a page.
        with mmap.mmap(-1, READ_BYTES) as buffer:
            done = 0
            while not done or time.perf_counter() < end:
                number = int(pick() * len(descriptors))
                offset = int(pick() * places[number]) * READ_BYTES
                os.preadv(descriptors[number], [buffer], offset)
                done += 1
            return done

    try:
        with ThreadPoolExecutor(depth) as pool:
            start = time.perf_counter()
            return sum(pool.map(read, range(depth))) / (time.perf_counter() - start)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
