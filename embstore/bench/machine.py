"""What did this run on? The facts without which a number means nothing."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    *("embstore", "numpy", "zarr", "torch", "tensorstore", "h5py", "lmdb", "pylance", "gensim"),
    "matplotlib",
)


def describe() -> dict[str, Any]:
    """Return processor, RAM, kernel and versions, as JSON."""
    processors = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(1)
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "processors": len(processors),
        "ram_bytes": _kibibytes("MemTotal"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def free_ram_bytes() -> int:
    """Return how much memory programs can still have."""
    return _kibibytes("MemAvailable")


def caption(machine: dict[str, Any], table: dict[str, Any], disk: dict[str, Any]) -> str:
    """Return the machine and the table in one line, for people."""
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
