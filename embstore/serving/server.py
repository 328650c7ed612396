"""Serving a store: the options of a server are checked, and it is started.

1. Options, addresses, tokens and certificates are checked before anything listens.
2. gRPC's threads answer. `embstore.serving.gate` bounds what they do at a time.
"""

from __future__ import annotations

import math
import os  # noqa: TC003  # The command line reads annotations.
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embstore.encodings.manifest import encoding_to_json
from embstore.errors import RemoteError
from embstore.formats.options import AUTO
from embstore.formats.own.encoded import as_stored
from embstore.opener import ReaderName  # noqa: TC001  # The command line reads annotations.
from embstore.opening import open
from embstore.serving.access import (
    Secret,
    as_token,
    check_free,
    listening_address,
    read_certificate,
    read_token,
)
from embstore.serving.facts import Facts, Limits
from embstore.serving.forks import keep_in_children, note_use
from embstore.serving.gate import Gate
from embstore.serving.running import Server
from embstore.serving.stalls import Stalls
from embstore.settle import as_count, as_positive, as_size
from embstore.store import EmbeddingStore
from embstore.version import __version__
from embstore.wording import parameter, shape_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embstore.serving.access import Certificate
    from embstore.serving.addresses import Address
    from embstore.serving.flight import FlightServer

STREAMS = 1024
_REQUEST_BYTES = 64  # For each row that a request may have: an id, or a word and its length.


def serve(
    path: str | os.PathLike[str] | EmbeddingStore,
    *,
    tensor: str | None = None,
    scale: str | None = AUTO,
    scale_block: tuple[int, int] | None = None,
    encoding: str | None = None,
    zero_point: str | None = None,
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
    send_timeout: float = 60.0,
    grace: float = 10.0,
    reader: ReaderName = "auto",
    resident_limit: int | str | None = None,
    preload: bool = False,
    row_cache: int | str | None = None,
    version: str | None = None,
    allow_http: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_limit: int | str | None = None,
) -> Server:
    """Serve the rows and words of a store to other processes and machines, by Arrow Flight.

    The server runs in threads of this process, from now until it is closed. `embstore.connect`
    makes a store-like object of one or more; `embstore.serving.protocol` is for other clients. Do
    not fork while a server runs: gRPC does not work in a forked child.

    Parameters
    ----------
    path : str, path-like or EmbeddingStore
        What `embstore.open` opens, or an open store, which stays open when the server is closed.
    tensor : str, optional
        The tensor to serve of a model that has several, by its whole name; `embstore.tables` lists
        them. In Python, see `embstore.open`.
    scale : str, optional
        The tensor by which the numbers are multiplied; ``"auto"`` takes one whose name tells that
        it belongs to the tensor, ``None`` means no scale. In Python, see `embstore.open`.
    scale_block : tuple of two int, optional
        The rows, and the values of a row, that share a scale, where the shape of the scales fits
        several such blocks. In Python, see `embstore.open`.
    encoding : str, optional
        The numbers that a tensor of bytes holds, such as ``"float4_e2m1fn"`` or ``"int4"``. In
        Python, see `embstore.open`.
    zero_point : str, optional
        The tensor of zero points, which are subtracted before the numbers are scaled. In Python,
        see `embstore.open`.
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
    send_timeout : float
        How many seconds a client may take to read 1 MiB of an answer, before its connection is cut.
    grace : float
        How many seconds running requests may take to end when the server is closed.
    reader : {"auto", "mapped", "chunked"}
        How rows are read: ``"mapped"`` from memory-mapped files, ``"chunked"`` by reading files;
        ``"auto"`` maps where supported. In Python, see `embstore.open`.
    resident_limit : int or str, optional
        The most of the mapping that may count as memory of this process, as in ``2GiB`` or
        ``500M``. In Python, see `embstore.open`.
    preload : bool
        Read everything into RAM first. In Python, see `embstore.open`.
    row_cache : int or str, optional
        Memory for copies of the rows that are looked up most, as in ``2GiB`` or ``500M``. In
        Python, see `embstore.open`.
    version : str, optional
        The version of a store at a URL; by default the current one. In Python, see `embstore.open`.
    allow_http : bool
        Whether a URL of another machine may be without TLS. In Python, see `embstore.open`.
    cache_dir : str or path-like, optional
        Where files of a store at a URL are kept on a local disk. In Python, see `embstore.open`.
    cache_limit : int or str, optional
        The most bytes of these files, as in ``50GiB`` or ``50G``. In Python, see `embstore.open`.

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
    stalls = Stalls(as_positive(send_timeout, "send_timeout"))
    address = listening_address(host, number, has_tls=has_tls, has_token=has_token)
    secret = None
    if has_token:
        secret = Secret(read_token(token_file) if token is None else as_token(token))
    certificate = read_certificate(tls_cert, tls_key)
    _need_flight()
    check_free(address)
    options: dict[str, Any] = {
        "tensor": tensor,
        "scale": scale,
        "scale_block": scale_block,
        "encoding": encoding,
        "zero_point": zero_point,
        "partitions": partitions,
        "reader": reader,
        "resident_limit": resident_limit,
        "preload": preload,
        "row_cache": row_cache,
        "version": version,
        "allow_http": allow_http,
        "cache_dir": cache_dir,
        "cache_limit": cache_limit,
    }
    owns_store = not isinstance(path, EmbeddingStore)
    if isinstance(path, EmbeddingStore):
        _check_unused(options)
        store = path
    else:
        store = open(path, **options)
    try:
        flight = _start(store, address, limits, secret, certificate, stalls)
    except BaseException:
        if owns_store:
            store.close()
        raise
    bound = str(replace(address, port=flight.port))
    return Server(flight, bound, owns_store=owns_store, grace_seconds=grace_seconds)


def _start(
    store: EmbeddingStore,
    address: Address,
    limits: Limits,
    secret: Secret | None,
    certificate: Certificate | None,
    stalls: Stalls,
) -> FlightServer:
    # Imported here because only servers need pyarrow's Flight.
    from embstore.serving.flight import FlightServer  # noqa: PLC0415

    row_bytes = max(store.record_bytes, store.dtype.itemsize * math.prod(store.row_shape))
    if not row_bytes:
        raise ValueError(f"rows of shape {shape_text(store.row_shape)} have no numbers to serve")
    if row_bytes > limits.memory_bytes:
        raise ValueError(
            f"{parameter('memory_limit')} must hold a row, which has {row_bytes} bytes, not "
            f"{limits.memory_bytes}"
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
        flight = FlightServer(address, store, facts, gate, secret, certificate, stalls)
    except (pa.ArrowException, OSError) as error:
        raise RemoteError(f"cannot listen at {address}: {error}") from None
    keep_in_children(flight)
    return flight


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
    defaults = {"scale": AUTO, "reader": "auto", "preload": False, "allow_http": False}
    for name, value in options.items():
        if str(value) != str(defaults.get(name)):  # An array may be given, too.
            raise ValueError(f"{name}= is for opening a store, but this one is open; omit it")


def _need_flight() -> None:
    try:
        import pyarrow.flight  # noqa: F401, PLC0415  # Imported only when it is used.
    except ImportError as error:
        raise ImportError(
            'serving a store needs pyarrow with Flight; pip install "embstore[serve]"'
        ) from error
