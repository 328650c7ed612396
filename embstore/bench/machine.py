"""Facts about the machine and the disk, without which a measured number means nothing."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import embstore


def describe() -> dict[str, Any]:
    """Return processor, RAM, kernel and versions, as JSON."""
    versions = {"embstore": embstore.__version__, "numpy": np.__version__, "zarr": version("zarr")}
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "processors": len(os.sched_getaffinity(0)),
        "ram_bytes": _kibibytes("MemTotal"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def describe_disk(path: Path) -> dict[str, Any]:
    """Return the device that holds a path, its read-ahead, and whether it rotates (1 or 0)."""
    device = block_device(path)
    about: dict[str, Any] = {"device": device and device.name}
    for name in ("read_ahead_kb", "rotational"):
        # A partition has no queue; its disk, the directory above, has one.
        files = [place / "queue" / name for place in (device, device.parent)] if device else []
        about[name] = next((int(file.read_text()) for file in files if file.exists()), None)
    return about


def block_device(path: Path) -> Path | None:
    """Return the directory in /sys of the block device that holds a path, if it has one."""
    number = path.stat().st_dev
    directory = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    return directory.resolve() if (directory / "stat").exists() else None


def free_ram_bytes() -> int:
    """Return how much memory programs can still get."""
    return _kibibytes("MemAvailable")


def _kibibytes(name: str) -> int:
    return int((_field("/proc/meminfo", name) or "0").split()[0]) * 1024


def _field(file: str, name: str) -> str:
    lines = Path(file).read_text().splitlines() if Path(file).exists() else []
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in pairs if key.strip() == name), "")
