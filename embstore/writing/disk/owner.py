"""The owner of a staging directory: a lock, and a note of who holds it.

1. The lock (``flock``) on the directory means that its build is alive. It ends with the process.
2. A build with the lock writes a note: its process, its machine and since when. It removes the note
   before it publishes.
3. A build that finds the directory locked reads the note for its error message.
4. A forked child inherits the descriptors of its parent's locks. It closes them, so that they end
   with the parent.

The lock is authoritative; the note only names its holder. It may be missing (the owner has just
started or is about to finish) or old (the owner has not yet removed what a dead build left). A note
that is garbled, or of a process that has ended, counts as missing.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from embstore.writing.disk import files

if TYPE_CHECKING:
    from pathlib import Path

NOTE = "owner.json"
# The descriptors that hold locks of this process.
_held: set[int] = set()
# The name of a machine has at most 255 bytes.
MAX_NOTE_BYTES = 1000


def lock(directory: Path) -> int:
    """Lock a directory; return the descriptor that holds the lock.

    Raises
    ------
    BlockingIOError
        If another process or descriptor holds the lock.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    _held.add(descriptor)
    return descriptor


def unlock(descriptor: int) -> None:
    """Release a lock."""
    # Closing is not enough: a child that is being forked may have the descriptor, too.
    _held.discard(descriptor)
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def locks(descriptor: int, path: Path) -> bool:
    """Return whether the directory that a descriptor locks is still at ``path``."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def write_note(directory: Path) -> None:
    """Write a note that this process builds in ``directory``."""
    since = datetime.now(UTC).isoformat(" ", "seconds")
    note = {"pid": os.getpid(), "host": platform.node(), "since": since}
    path = directory / NOTE
    descriptor = files.create(path)
    try:
        files.write_at(descriptor, json.dumps(note).encode(), 0, path)
    finally:
        os.close(descriptor)


def remove_note(directory: Path) -> None:
    """Remove the note."""
    with suppress(FileNotFoundError):
        files.remove_file(directory / NOTE)


def read_note(directory: Path) -> str | None:
    """Return the owner, such as ``process 17 on mars since ...``; None if it is unknown."""
    try:
        with (directory / NOTE).open("rb") as file:
            note = json.loads(file.read(MAX_NOTE_BYTES))
        pid, host = int(note["pid"]), str(note["host"])
        since = datetime.fromisoformat(note["since"]).astimezone(UTC)
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
        return None
    if not host.isprintable() or (host == platform.node() and not _is_alive(pid)):
        return None
    return f"process {pid} on {host} since {since:%Y-%m-%d %H:%M:%S} UTC"


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    with suppress(PermissionError):  # A process of another user.
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True


def _close_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)
