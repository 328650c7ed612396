"""Facts about the machine and the disk, without which a measured number means nothing."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKAGES = ("embstore", "numpy", "zarr")


def describe(packages: Iterable[str] = PACKAGES) -> dict[str, Any]:
    """Return processor, RAM, kernel and versions of packages, as JSON."""
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "processors": len(os.sched_getaffinity(0)),
        "ram_bytes": _kibibytes("MemTotal"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: found for name in packages if (found := _version(name))},
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def describe_disk(path: Path) -> dict[str, Any]:
    """Return the device that holds a path, its read-ahead, and whether it rotates."""
    device = block_device(path)
    if device is None:
        return {"device": None, "read_ahead_kb": None, "rotational": None}
    # A partition has no queue; its disk, the directory above, has one.
    queue = device / "queue" if (device / "queue").exists() else device.parent / "queue"

    def number(name: str) -> int | None:
        file = queue / name
        return int(file.read_text()) if file.exists() else None

    return {
        "device": device.name,
        "read_ahead_kb": number("read_ahead_kb"),
        "rotational": bool(number("rotational")),
    }


def block_device(path: Path) -> Path | None:
    """Return the directory in /sys of the block device that holds a path, if it has one."""
    number = path.stat().st_dev
    directory = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    return directory.resolve() if (directory / "stat").exists() else None


def free_ram_bytes() -> int:
    """Return how much memory programs can still get."""
    return _kibibytes("MemAvailable")


def caption(machine: dict[str, Any], table: dict[str, Any], disk: dict[str, Any]) -> str:
    """Return the table, the machine and the disk in one line."""
    shape = " x ".join(f"{axis:,}" for axis in [table["rows"], *table["row_shape"]])
    ram = machine["ram_bytes"] / 2**30
    return (
        f"{shape} {table['dtype']} ({table['bytes'] / 1e9:.2g} GB); {machine['processors']} cores "
        f"{machine['processor']}, {ram:.0f} GiB RAM, {machine['system']}, "
        f"disk {disk['device']} (read-ahead {disk['read_ahead_kb']} KiB)"
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _field(file: str, name: str) -> str:
    path = Path(file)
    if path.exists():
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""


def _kibibytes(name: str) -> int:
    words = _field("/proc/meminfo", name).split()
    return int(words[0]) * 1024 if words else 0
