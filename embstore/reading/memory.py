"""The memory that this process may still take: of the machine, and of its control groups.

A control group (cgroup) of either version limits the memory of its processes, page cache included.
The page cache gives way to other memory, so it counts as free. Shared memory and files of a tmpfs,
which the kernel counts with it, do not.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
# The files of a group: its limit and its use; the keys in memory.stat of the page cache, and of the
# shared memory in it.
_VERSION_1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache", "total_shmem"
_VERSION_2 = "memory.max", "memory.current", "file", "shmem"


def free_bytes(proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """Return how many more bytes of memory this process may take; None if unknown.

    Parameters
    ----------
    proc, cgroups : Path
        Where the kernel shows its processes and control groups.
    """
    found = []
    with suppress(OSError, ValueError, KeyError):
        lines = (proc / "meminfo").read_text().splitlines()
        sizes = {name: size for name, size, *_ in map(str.split, lines)}
        found.append(int(sizes["MemAvailable:"]) << 10)
    for group, names in _groups(proc, cgroups):
        with suppress(OSError, ValueError):  # No such group, or no limit: "max".
            limit, usage = (int((group / name).read_text()) for name in names[:2])
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            cache, shared = (int(stat.get(name, 0)) for name in names[2:])
            found.append(max(limit - usage + max(cache - shared, 0), 0))
    return min(found, default=None)


def _groups(proc: Path, cgroups: Path) -> Iterator[tuple[Path, tuple[str, str, str, str]]]:
    """Yield the memory groups of this process and those that they are in, with their files."""
    with suppress(OSError, ValueError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if "memory" in controllers.split(","):
                root, names = cgroups / "memory", _VERSION_1
            elif not controllers:
                root, names = cgroups, _VERSION_2
            else:
                continue
            own = root / name.lstrip("/")
            for group in (own, *own.parents):
                if group.is_relative_to(root):
                    yield group, names
