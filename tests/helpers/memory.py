"""The memory of this process: its peak, for programs that bound it.

``ru_maxrss`` does not tell: on Linux, it starts at the size of the process that started this one,
so a large parent hides the memory of its child.
"""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path


def peak_bytes() -> int:
    """Return the highest resident size of this process since its program started."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    except FileNotFoundError:
        found = None
    if found is not None:
        return int(found[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
