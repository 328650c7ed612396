"""Servers of a store: `serve` starts one in this process, for clients on any machine.

1. Options, addresses, tokens and certificates are checked before anything listens.
2. gRPC's threads answer. `embstore.serving.gate` bounds what they do at a time.
3. `Server.close` takes no more requests, lets running ones end, and then cuts the connections.
"""

from __future__ import annotations

import math
import os
import weakref
from dataclasses import replace
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Self

from embstore import threads
from embstore.encodings.manifest import encoding_to_json
from embstore.errors import RemoteError
from embstore.formats.own.encoded import as_stored
from embstore.opener import ReaderName  # noqa: TC001  # The command line reads annotations.
from embstore.opening import open
from embstore.serving.access import (
    Secret,
    as_token,
    listening_address,
    read_certificate,
    read_token,
)
from embstore.serving.facts import Facts, Limits
from embstore.serving.forks import keep_in_children, note_use
from embstore.serving.gate import Gate
from embstore.settle import as_count, as_positive, as_size
from embstore.store import EmbeddingStore
from embstore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embstore.serving.access import Certificate
    from embstore.serving.addresses import Address
    from embstore.serving.flight import FlightServer

STREAMS = 1024
# How long the end of a server may take after its connections were cut.
SHUTDOWN_SECONDS = 10.0
SETTLE_SECONDS = 0.25
_REQUEST_BYTES = 64  # For each row that a request may have: an id, or a word and its length.


class Server:
    """A server of a store, started by `serve`. A context manager that closes it.

    Examples
    --------
    >>> with embstore.serve("words.embstore") as server:
    ...     server.address.startswith("grpc://127.0.0.1:")
    True
    """

    def __init__(
        self,
        flight: FlightServer,
        gate: Gate,
        address: str,
        store: EmbeddingStore,
        *,
        owns_store: bool,
        grace_seconds: float,
    ) -> None:
        self._flight, self._gate, self._store = flight, gate, store
        self._address, self._owns_store = address, owns_store
        self._grace_seconds = grace_seconds
        self._process = os.getpid()
        self._lock, self._closed = Lock(), Event()
        # At the end of the interpreter, idle streams would keep gRPC waiting for ever.
        self._at_exit = weakref.finalize(self, _stop, flight, gate, 0.0)

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
        # Of more seconds, Python raises an OverflowError.
        return self._closed.wait(None if seconds is None else min(seconds, 1e9))

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
            _stop(self._flight, self._gate, self._grace_seconds)
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


def serve(
    path: str | os.PathLike[str] | EmbeddingStore,
    *,
    partitions: Iterable[int] | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    tls_cert: str | os.PathLike[str] | None = None,
    tls_key: str | os.PathLike[str] | None = None,
    max_rows: int = 1 << 20,
    max_requests: int = 64,
    memory_limit: int | str = 256 << 20,
    busy_wait: float = 5.0,
    grace: float = 10.0,
    reader: ReaderName = "auto",
    resident_limit: int | str | None = None,
    preload: bool = False,
    row_cache: int | str | None = None,
    version: str | None = None,
    allow_http: bool = False,
) -> Server:
    """Serve the rows and words of a store to other processes and machines, by Arrow Flight.

    The server runs in threads of this process, from now until it is closed. `embstore.connect`
    makes a store-like object of one or more; `embstore.serving.protocol` is for other clients. Do
    not fork while a server runs: gRPC does not work in a forked child.

    Parameters
    ----------
    path : str, path-like or EmbeddingStore
        What `embstore.open` opens, or an open store, which stays open when the server is closed.
    partitions : iterable of int, optional
        The partitions to serve, as 0,3: their files are enough. By default all of them.
    host : str
        The address to listen on. Other addresses than loopback need TLS and a token.
    port : int
        The port; 0 for a free one.
    token : str, optional
        What each call must present. Anybody who has it can read all rows.
    token_file : str or path-like, optional
        The file with the token, which other users may not read; a newline at its end does not
        count.
    tls_cert : str or path-like, optional
        The file with the certificate of this server, and those between it and its root, as PEM.
    tls_key : str or path-like, optional
        The file with its private key, not encrypted, as PEM.
    max_rows : int
        The most ids or words of a request.
    max_requests : int
        The most requests that run at the same time.
    memory_limit : int or str
        The most memory for rows that are being sent, in bytes or as in 2GiB.
    busy_wait : float
        How many seconds a request that is one too many waits, before it is refused.
    grace : float
        How many seconds running requests may take to end when the server is closed.
    reader : {"auto", "mapped", "chunked"}
        As for `embstore.open`.
    resident_limit : int or str, optional
        As for `embstore.open`: the most of the mapping that may count as memory of this process.
    preload : bool
        As for `embstore.open`: read everything into RAM first.
    row_cache : int or str, optional
        As for `embstore.open`: memory for copies of the rows that are looked up most.
    version : str, optional
        As for `embstore.open`: the version of a store at a URL; by default the current one.
    allow_http : bool
        As for `embstore.open`: whether a URL of another machine may be without TLS.

    Returns
    -------
    Server
        The running server: `Server.address`, `Server.wait`, `Server.close`.

    Raises
    ------
    ImportError
        If pyarrow with Flight is not installed.
    ValueError, TypeError
        If an option has a wrong type or value; if other machines could connect, and there is no
        certificate or no token; if files are not a certificate and its key; if a file with a token
        may be read by others.
    RemoteError
        If the address is in use, or is not one of this machine.
    StoreNotFoundError, StoreCorruptError, StoreVersionError, FormatError, OSError
        As `embstore.open`, and if a file cannot be read.

    Examples
    --------
    >>> server = embstore.serve("words.embstore", token="a-long-and-secret-text")
    >>> server.wait(timeout=0)
    False
    >>> server.close()
    >>> server.wait()
    True
    """
    if token is not None and token_file is not None:
        raise ValueError("give token= or token_file=, not both")
    number = as_count(port, "port", high=(1 << 16) - 1)
    limits = _limits(max_rows, max_requests, memory_limit, busy_wait)
    grace_seconds = min(as_positive(grace, "grace", or_zero=True), 1e9)
    has_token = token is not None or token_file is not None
    has_tls = tls_cert is not None or tls_key is not None
    address = listening_address(host, number, has_tls=has_tls, has_token=has_token)
    secret = None
    if has_token:
        secret = Secret(read_token(token_file) if token is None else as_token(token))
    certificate = read_certificate(tls_cert, tls_key)
    _need_flight()
    options: dict[str, Any] = {
        "reader": reader,
        "resident_limit": resident_limit,
        "preload": preload,
        "row_cache": row_cache,
        "version": version,
        "allow_http": allow_http,
    }
    owns_store = not isinstance(path, EmbeddingStore)
    if isinstance(path, EmbeddingStore):
        _check_unused(options | {"partitions": partitions})
        store = path
    else:
        store = open(path, partitions=partitions, **options)
    try:
        return _start(store, address, limits, secret, certificate, owns_store, grace_seconds)
    except BaseException:
        if owns_store:
            store.close()
        raise


def _start(
    store: EmbeddingStore,
    address: Address,
    limits: Limits,
    secret: Secret | None,
    certificate: Certificate | None,
    owns_store: bool,
    grace_seconds: float,
) -> Server:
    # Imported here because only servers need pyarrow's Flight.
    from embstore.serving.flight import FlightServer  # noqa: PLC0415

    row_bytes = max(store.record_bytes, store.dtype.itemsize * math.prod(store.row_shape))
    if row_bytes > limits.memory_bytes:
        raise ValueError(
            f"memory_limit must hold a row, which has {row_bytes} bytes, not {limits.memory_bytes}"
        )
    facts = facts_of(store, limits)
    note_use()
    gate = Gate(
        requests=limits.requests,
        streams=limits.streams,
        memory_bytes=limits.memory_bytes,
        wait_seconds=limits.wait_seconds,
    )
    import pyarrow as pa  # noqa: PLC0415  # As above.

    try:
        flight = FlightServer(address, store, facts, gate, secret, certificate)
    except (pa.ArrowException, OSError) as error:
        raise RemoteError(
            f"cannot listen at {address}: {error}; is the port in use, and the address one of this "
            "machine?"
        ) from None
    keep_in_children(flight)
    bound = str(replace(address, port=flight.port))
    return Server(flight, gate, bound, store, owns_store=owns_store, grace_seconds=grace_seconds)


def facts_of(store: EmbeddingStore, limits: Limits) -> Facts:
    """Return what a server of a store tells clients."""
    return Facts(
        fingerprint=store.fingerprint(),
        rows=store.rows,
        row_shape=store.row_shape,
        dtype=store.dtype.name,
        encoding=store.encoding,
        record_bytes=store.record_bytes,
        stored=_stored(store),
        partition_count=store.partition_count,
        strategy=store.strategy,
        partitions=store.partitions,
        has_words=store.has_words,
        unk=store.unk,
        name=store.location.rstrip("/").rpartition("/")[2],
        limits=limits,
        embstore=__version__,
    )


def _stored(store: EmbeddingStore) -> dict[str, Any] | None:
    """Return how a manifest describes the encoding of the rows; None if it does not."""
    encoding = as_stored(store._encoding)
    try:
        return None if encoding is None else encoding_to_json(encoding)
    except ValueError:  # Of a foreign file, as where its scale is nan.
        return None


def _limits(max_rows: Any, max_requests: Any, memory_limit: Any, busy_wait: Any) -> Limits:
    rows = as_count(max_rows, "max_rows", low=1, high=1 << 32)
    return Limits(
        rows=rows,
        request_bytes=rows * _REQUEST_BYTES,
        requests=as_count(max_requests, "max_requests", low=1, high=1 << 16),
        streams=STREAMS,
        memory_bytes=as_size(memory_limit, "memory_limit", low=1, high=1 << 62),
        wait_seconds=min(as_positive(busy_wait, "busy_wait", or_zero=True), 1e9),
    )


def _check_unused(options: dict[str, Any]) -> None:
    """Raise ValueError if an option of opening was given with an open store."""
    defaults = {"reader": "auto", "preload": False, "allow_http": False}
    for name, value in options.items():
        if value is not None and value != defaults.get(name):
            raise ValueError(f"{name}= is for opening a store, but this one is open; omit it")


def _need_flight() -> None:
    try:
        import pyarrow.flight  # noqa: F401, PLC0415  # Imported only when it is used.
    except ImportError as error:
        raise ImportError(
            'serving a store needs pyarrow with Flight; pip install "embstore[serve]"'
        ) from error


def _stop(flight: FlightServer, gate: Gate, grace_seconds: float) -> None:
    """End a server: refuse requests, wait for those that run, cut the connections."""
    from embstore.serving.flight import cut_connections  # noqa: PLC0415  # As in `_start`.

    port = flight.port
    gate.close()
    gate.drain(grace_seconds)
    # It refuses new calls, and returns when none runs, which idle streams do until they are cut.
    ending = threads.start(flight.shutdown, "embstore_shutdown")
    if ending is not None:
        ending.join(SETTLE_SECONDS)  # The last answers may still be on their way.
    cut_connections(port)
    if ending is None:
        flight.shutdown()
    else:
        ending.join(SHUTDOWN_SECONDS)
