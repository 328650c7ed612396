"""Programs in namespaces of their own: what they start is reached and seen by nobody else.

1. The network has only loopback, and some more addresses of it. Ray listens on all addresses of the
   machine, and here these are the only ones.
2. The processes end with the program: its process is the namespace's first.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys

import pytest

from tests.helpers.programs import TIMEOUT_SECONDS, environment

ADDRESSES = ("10.77.0.1", "10.77.0.2")
_UP = """
ip link set lo up || exit 1
for address in %s; do ip addr add $address/32 dev lo || exit 1; done
"$@"
"""


def _command(*command: object) -> list[str]:
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    alone = ["--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
    up = _UP % " ".join(ADDRESSES)
    return ["unshare", *root, *alone, "bash", "-c", up, "bash", *map(str, command)]


@functools.cache
def _problem() -> str:
    if sys.platform != "linux" or not (shutil.which("unshare") and shutil.which("ip")):
        return "needs Linux with the commands unshare and ip"
    tried = subprocess.run(
        _command("true"), capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
    )
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


def need_namespaces() -> None:
    """Skip the test where namespaces cannot be made; as root they must be."""
    if problem := _problem():
        pytest.skip(problem)


def run_alone(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with arguments in namespaces of its own."""
    return subprocess.run(
        _command(sys.executable, *arguments),
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
