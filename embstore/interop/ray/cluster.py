"""The Ray that this process is connected to."""

from __future__ import annotations

import importlib
import os
from typing import Any

from embstore.errors import RemoteError

# The process that imported this; Ray does not work in its forked children.
_process = [os.getpid()]
_was_connected = [False]


def need_ray() -> Any:
    """Return the module ``ray``, connected to a cluster.

    Raises
    ------
    ImportError
        If it is not installed.
    RemoteError
        If this process is not connected to a cluster. Ray would start one by itself, which listens
        on all addresses of the machine.
    """
    try:
        # Slow, and not always installed. Its types, where it is, would make all of mypy slow.
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise ImportError('embstore.interop.ray needs Ray: pip install "embstore[ray]"') from error
    if not ray.is_initialized():
        raise RemoteError("this process is not connected to Ray; call ray.init first")
    if os.getpid() != _process[0]:
        if _was_connected[0]:
            raise RemoteError(
                "this process was forked from one that uses Ray, which does not work after a fork; "
                "start processes with the method spawn, or as tasks of Ray"
            )
        _process[0] = os.getpid()
    _was_connected[0] = True
    return ray


def node_address(ray: Any) -> str:
    """Return the IP address of this node, where the other nodes reach it."""
    node_id = ray.get_runtime_context().get_node_id()
    return str(
        next(node for node in ray.nodes() if node["NodeID"] == node_id)["NodeManagerAddress"]
    )


def node_count(ray: Any) -> int:
    """Return the number of nodes that are alive, at least 1."""
    return max(sum(bool(node["Alive"]) for node in ray.nodes()), 1)
