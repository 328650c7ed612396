"""The newest Python on this machine, if it is newer than this one; its path is printed.

Candidates are ``python3.N`` on the search path and pyenv's versions that run and can make a virtual
environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NEWEST_TRIED = 20


def main() -> None:
    """Print the newest interpreter's path, or nothing."""
    print(max(filter(None, map(version, candidates())), default=((0, 0), ""))[1])


def candidates() -> list[str]:
    """Return the paths of candidates."""
    names = [f"python3.{minor}" for minor in range(sys.version_info.minor + 1, NEWEST_TRIED)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return [
        *filter(None, map(shutil.which, names)),
        *(str(found) for name in names for found in pyenv.glob(f"*/bin/{name}")),
    ]


def version(python: str) -> tuple[tuple[int, int], str] | None:
    """Return an interpreter's version and path; None if it cannot be used."""
    script = "import sys, venv, ensurepip; print(*sys.version_info[:2], sys.version_info[3])"
    found = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False)
    if found.returncode:
        return None
    major, minor, release = found.stdout.split()
    return ((int(major), int(minor)), python) if release == "final" else None


if __name__ == "__main__":
    main()
