"""The process that uses gRPC: a child that is forked from it cannot use it any more.

gRPC has threads of its own, which a forked child lacks: its first call there would wait for ever,
whatever its deadline, and so would the end of a client or server. So a child may not call, and what
its parent had made stays in its memory. A process that has only imported Flight may fork.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any
from weakref import WeakSet

from embstore.errors import RemoteError

_users: list[int] = []  # The process that used gRPC first; its children inherit this.
_made: WeakSet[Any] = WeakSet()


def note_use() -> None:
    """Note that this process uses gRPC; call this before making a Flight client or server.

    Raises
    ------
    RemoteError
        If this process was forked from one that had used it.
    """
    if not _users:
        _users.append(os.getpid())
    elif _users[0] != os.getpid():
        raise RemoteError(
            "this process was forked from one that had connections to servers or was one, and "
            "gRPC does not work after a fork; start processes with the method spawn or forkserver, "
            'such as DataLoader(..., multiprocessing_context="spawn"), or fork before connecting'
        )


def keep_in_children(made: Any) -> None:
    """Never free a Flight client or server in a forked child."""
    _made.add(made)


def _keep() -> None:
    for made in tuple(_made):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))


os.register_at_fork(after_in_child=_keep)
