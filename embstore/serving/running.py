"""A running server of a store, as `embstore.serve` returns it.

`Server.close` takes no more requests, lets running ones end, and then cuts the connections.
"""

from __future__ import annotations

import math
import os
import weakref
from threading import Event, Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from embstore import threads
from embstore.settle import as_positive

if TYPE_CHECKING:
    from embstore.serving.flight import FlightServer
    from embstore.store import EmbeddingStore

# How long the end of a server may take after its connections were cut.
SHUTDOWN_SECONDS = 10.0
SETTLE_SECONDS = 0.25
WAIT_SECONDS = 0.25


class Server:
    """A server of a store, started by `serve`. A context manager that closes it.

    Examples
    --------
    >>> with embstore.serve("words.embstore") as server:
    ...     server.address.startswith("grpc://127.0.0.1:")
    True
    """

    def __init__(
        self, flight: FlightServer, address: str, *, owns_store: bool, grace_seconds: float
    ) -> None:
        self._flight, self._store = flight, flight.store
        self._address, self._owns_store = address, owns_store
        self._grace_seconds = grace_seconds
        self._process = os.getpid()
        self._lock, self._closed = Lock(), Event()
        # At the end of the interpreter, idle streams would keep gRPC waiting for ever.
        self._at_exit = weakref.finalize(self, _stop, flight, 0.0)

    @property
    def address(self) -> str:
        """Where clients connect, such as ``"grpc://127.0.0.1:8815"``."""
        return self._address

    @property
    def port(self) -> int:
        """The port."""
        return int(self._address.rpartition(":")[2])

    @property
    def store(self) -> EmbeddingStore:
        """The store that is served."""
        return self._store

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server is closed, by another thread.

        Parameters
        ----------
        timeout : float, optional
            The most seconds to wait; by default as long as it takes.

        Returns
        -------
        bool
            Whether it is closed.

        Raises
        ------
        TypeError, ValueError
            If the time-out is not a number, or is negative.
        """
        seconds = None if timeout is None else as_positive(timeout, "timeout", or_zero=True)
        stop = math.inf if seconds is None else monotonic() + seconds
        # Piece by piece: the system may give a signal to a thread of gRPC, which does not wake this
        # one, and Python handles it here.
        while not self._closed.wait(max(min(stop - monotonic(), WAIT_SECONDS), 0)):
            if monotonic() >= stop:
                return False
        return True

    def close(self) -> None:
        """Take no more requests, let running ones end for a bounded time, and stop.

        The bound is ``grace`` of `serve`; connections are then cut. A store that was given open
        stays open. In a forked child, this does nothing: the server is its parent's.
        """
        if os.getpid() != self._process:
            return
        with self._lock:
            if self._closed.is_set():
                return
            self._at_exit.detach()
            _stop(self._flight, self._grace_seconds)
            if self._owns_store:
                self._store.close()
            self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a server is not pickled; give its address to embstore.connect")

    def __repr__(self) -> str:
        closed = ", closed" if self._closed.is_set() else ""
        return f"<Server of {self._store.location} at {self._address}{closed}>"


def _stop(flight: FlightServer, grace_seconds: float) -> None:
    """End a server: refuse requests, wait for those that run, cut the connections."""
    flight.gate.close()
    flight.gate.drain(grace_seconds)
    # It refuses new calls, and returns when none runs, which idle streams do until they are cut.
    ending = threads.start(flight.shutdown, "embstore_shutdown")
    if ending is not None:
        ending.join(SETTLE_SECONDS)  # The last answers may still be on their way.
    flight.stalls.stop()
    flight.cut()
    if ending is None:
        flight.shutdown()
    else:
        ending.join(SHUTDOWN_SECONDS)
