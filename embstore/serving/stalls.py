"""Clients that stop reading: after a bounded time, their connections are cut.

An answer that is not read keeps its request and its memory, and Flight has no time-out for it. So
a thread looks at the running answers now and then. Where no thread can be started, such a client
keeps what it has until its connection ends.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from contextlib import contextmanager
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import unquote

from embstore import threads

if TYPE_CHECKING:
    from collections.abc import Iterator

# How often running answers are looked at, in parts of the time-out.
_LOOKS = 4
_MAX_WAIT_SECONDS = 3600.0


class Sending:
    """An answer that is being sent.

    Attributes
    ----------
    peer : str
        The client, as gRPC names it.
    moved_at : float
        When its last batch was ready, by the monotonic clock.
    """

    __slots__ = ("moved_at", "peer")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.moved()

    def moved(self) -> None:
        """Note that the client took a batch."""
        self.moved_at = monotonic()


class Stalls:
    """The answers that are being sent, and the thread that looks at them.

    Parameters
    ----------
    seconds : float
        How long a client may take for a batch.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[int, Sending] = {}
        self._ended = Event()

    def start(self, port: int) -> None:
        """Look at the answers of the server at a port, until `stop`."""
        threads.start(lambda: self._look(port), "embstore_stalls")

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()

    @contextmanager
    def sending(self, peer: str) -> Iterator[Sending]:
        """Send an answer; call `Sending.moved` after each batch."""
        one = Sending(peer)
        self._running[id(one)] = one
        try:
            yield one
        finally:
            del self._running[id(one)]

    def _look(self, port: int) -> None:
        while not self._ended.wait(min(self._seconds / _LOOKS, _MAX_WAIT_SECONDS)):
            least = monotonic() - self._seconds
            for one in list(self._running.values()):
                if one.moved_at < least:
                    cut_connections(port, one.peer)


def cut_connections(port: int, peer: str | None = None) -> int:
    """Cut the connections of clients to a port of this process; return how many there were.

    Flight cannot end a call from the server: one that waits for its client would keep the server
    open for ever. Without a connection, it fails at once.

    Parameters
    ----------
    port : int
        The port of the server.
    peer : str, optional
        The client, as gRPC names it, such as ``ipv4:127.0.0.1:40000``; by default all.
    """
    count, wanted = 0, None if peer is None else place_of(peer)
    try:
        descriptors = os.listdir("/dev/fd")  # noqa: PTH208  # Names are enough.
    except OSError:
        return 0
    for name in descriptors:
        try:
            # A copy stays the same file, whatever other threads close and open.
            copy = os.dup(int(name))
        except (OSError, ValueError):
            continue
        if not stat.S_ISSOCK(os.fstat(copy).st_mode):
            os.close(copy)
            continue
        with socket.socket(fileno=copy) as connection:
            try:
                if connection.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                host, client_port = connection.getpeername()[:2]  # Fails for the one that listens.
                if connection.getsockname()[1] != port:
                    continue
                if wanted is None or wanted == (_number(host), client_port):
                    connection.shutdown(socket.SHUT_RDWR)
                    count += 1
            except (OSError, ValueError):
                continue
    return count


def place_of(peer: str) -> tuple[str, int]:
    """Return the address and port of a client; one that no client has if it is not known."""
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    try:
        return _number(host.strip("[]")), int(port)
    except ValueError:
        return "", -1


def _number(host: str) -> str:
    """Return an address in one form, that of IPv4 if it is one."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)
