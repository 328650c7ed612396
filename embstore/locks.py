"""Which locks does a forked child find open? Those whose owners are registered here.

A child has the forking thread only. A lock that another thread held just then would stay locked in
it for ever, so each registered owner gets a new one there. What a lock protects must be whole at
any moment, since its holder may have been cut off anywhere.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:

    class LockOwner(Protocol):
        """Something with a lock."""

        _lock: Lock


_owners: WeakSet[LockOwner] = WeakSet()


def renew_in_child(owner: LockOwner) -> None:
    """Give ``owner`` a new lock in every child that this process forks."""
    _owners.add(owner)


def _renew() -> None:
    for owner in _owners:
        owner._lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
