"""Who is building here? A note in the staging directory says so, for whoever comes next.

1. A build that has made its staging directory and locked it writes the note: its process, its
   machine, and since when. It takes it away again before it publishes.
2. Who finds the directory locked reads it. The lock decides, the note only tells: it may be missing
   (the owner has just begun, or is about to end) or another's (the owner has not yet cleared away
   what a dead build left), so one that is garbled, or of a process that is gone, is none.
"""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from embstore.writing import files

if TYPE_CHECKING:
    from pathlib import Path

NOTE = "owner.json"
# A name of a machine has at most 255 bytes.
MAX_NOTE_BYTES = 1000


def write_note(directory: Path) -> None:
    """Note that this process builds in ``directory``."""
    since = datetime.now(UTC).isoformat(" ", "seconds")
    note = {"pid": os.getpid(), "host": platform.node(), "since": since}
    path = directory / NOTE
    descriptor = files.create(path)
    try:
        files.write_at(descriptor, json.dumps(note).encode(), 0, path)
    finally:
        os.close(descriptor)


def remove_note(directory: Path) -> None:
    """Take the note away."""
    with suppress(FileNotFoundError):
        files.remove_file(directory / NOTE)


def read_note(directory: Path) -> str | None:
    """Say who builds in ``directory``, as in ``process 17 on mars since ...``; None if unknown."""
    try:
        with (directory / NOTE).open("rb") as file:
            note = json.loads(file.read(MAX_NOTE_BYTES))
        pid, host = int(note["pid"]), str(note["host"])
        since = datetime.fromisoformat(note["since"]).astimezone(UTC)
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
        return None
    if not host.isprintable() or (host == platform.node() and not _lives(pid)):
        return None
    return f"process {pid} on {host} since {since:%Y-%m-%d %H:%M:%S} UTC"


def _lives(pid: int) -> bool:
    if pid <= 0:
        return False
    with suppress(PermissionError):  # It is another user's.
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True
