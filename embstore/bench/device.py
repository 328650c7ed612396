"""What is under the files, and how many rows a second could it deliver at most?

The limit is the best that direct random reads of 4 KiB reach, at queue depths 1 to 128: fio's, or
where fio is not installed, that of threads which call ``preadv``.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

QUEUE_DEPTHS = (1, 2, 4, 8, 16, 32, 64, 128)
READ_BYTES = 4096
# fio takes a list of files on its command line.
MAX_FILES = 16  # fio takes no longer list of names than some 4,000 letters.


@dataclass(frozen=True, slots=True)
class DiskLimit:
    """What the disk reaches.

    Attributes
    ----------
    tool : str
        What measured it.
    reads_per_second : dict
        Queue depth to direct random reads of 4 KiB per second.
    files : tuple of Path
        What was read.
    """

    tool: str
    reads_per_second: dict[int, float]
    files: tuple[Path, ...] = ()

    @property
    def best(self) -> float:
        """The highest of them."""
        return max(self.reads_per_second.values(), default=0.0)

    def again(self, seconds: float = 1.0) -> float:
        """Return the reads per second that the disk does now, at the queue depth that was best."""
        depth = max(self.reads_per_second, key=lambda depth: self.reads_per_second[depth])
        return _tools()[self.tool](self.files, depth, seconds)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        rates = self.reads_per_second
        return {"tool": self.tool, "reads_per_second": rates, "best": self.best}


def block_device(path: Path) -> Path | None:
    """Return the directory in /sys of the block device that holds a path, if there is one."""
    number = path.stat().st_dev
    directory = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    return directory.resolve() if (directory / "stat").exists() else None


def reads_completed(device: Path | None) -> int:
    """Return how many reads a device has completed since the system started."""
    return 0 if device is None else int((device / "stat").read_text().split(maxsplit=1)[0])


def describe(path: Path) -> dict[str, Any]:
    """Return what is known of the device that holds a path."""
    device = block_device(path)
    if device is None:
        return {"device": None, "read_ahead_kb": None, "rotational": None}
    # A partition has no queue; its disk, the directory above, has.
    queue = device / "queue" if (device / "queue").exists() else device.parent / "queue"

    def number(name: str) -> int | None:
        file = queue / name
        return int(file.read_text()) if file.exists() else None

    return {
        "device": device.name,
        "read_ahead_kb": number("read_ahead_kb"),
        "rotational": bool(number("rotational")),
    }


def measure_limit(
    files: Sequence[Path],
    *,
    seconds: float = 2.0,
    progress: Callable[[str], None] = lambda text: None,
) -> DiskLimit | None:
    """Measure how many random reads of 4 KiB the disk under some files can do.

    Parameters
    ----------
    files : sequence of Path
        Files to read in; the largest are taken. Nothing is written.
    seconds : float
        How long each queue depth is measured.
    progress : callable
        Gets a line before each measurement.

    Returns
    -------
    DiskLimit or None
        None if no file is large enough, or the file system has no direct reads.
    """
    largest = sorted(files, key=lambda file: file.stat().st_size, reverse=True)[:MAX_FILES]
    # One that is smaller than the depths together is not worth measuring.
    largest = [file for file in largest if file.stat().st_size >= READ_BYTES * max(QUEUE_DEPTHS)]
    if not largest:
        return None
    for tool, measure in _tools().items():
        rates = {}
        try:
            for depth in QUEUE_DEPTHS:
                progress(f"the disk's own limit: {tool}, queue depth {depth}")
                rates[depth] = measure(largest, depth, seconds)
        except (OSError, subprocess.CalledProcessError) as error:
            progress(f"the disk's own limit: {tool} failed: {error}")
        else:
            return DiskLimit(tool, rates, tuple(largest))
    return None


def _tools() -> dict[str, Callable[[Sequence[Path], int, float], float]]:
    """Return what can measure reads per second in files, at a queue depth, for some seconds."""
    tools: dict[str, Callable[[Sequence[Path], int, float], float]] = {}
    if shutil.which("fio"):
        tools["fio"] = _fio
    return tools | {"preadv on threads": _threads}


def _fio(files: Sequence[Path], depth: int, seconds: float) -> float:
    names = ":".join(str(file).replace(":", "\\:") for file in files)
    command = [
        *("fio", "--name=limit", "--readonly", "--rw=randread", f"--bs={READ_BYTES}"),
        *("--direct=1", "--ioengine=libaio", f"--iodepth={depth}", f"--filename={names}"),
        *("--norandommap", "--randrepeat=0", "--time_based", f"--runtime={seconds}"),
        *("--file_service_type=random", "--output-format=json"),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    # Notes may come before the JSON.
    report = json.loads(done.stdout[done.stdout.index("{") :])
    return float(report["jobs"][0]["read"]["iops"])


def _threads(files: Sequence[Path], depth: int, seconds: float) -> float:
    descriptors = [os.open(file, os.O_RDONLY | os.O_DIRECT) for file in files]
    places = [file.stat().st_size // READ_BYTES for file in files]
    end = time.perf_counter() + seconds

    def read(seed: int) -> int:
        pick = random.Random(seed).random
        # A direct read wants an aligned buffer; anonymous memory begins on a page.
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
            begin = time.perf_counter()
            return sum(pool.map(read, range(depth))) / (time.perf_counter() - begin)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
