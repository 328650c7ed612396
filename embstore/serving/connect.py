"""Connecting to servers: each is asked what it has, and what they say must agree.

1. All servers are asked at the same time for the facts about their table.
2. A partition belongs to the servers that were named for it, or to all that have it. Partitions
   with the same servers are one group, which one request may ask.
3. A store over them is made. Nothing else is kept: tables never change, and each answer names its
   table.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

from embstore.errors import RemoteError, StoreChangedError
from embstore.serving.addresses import Address, Options, Servers, as_options, as_servers
from embstore.serving.asking import ask_all
from embstore.serving.calls import Call, Calls
from embstore.serving.connected_store import ConnectedStore
from embstore.serving.link import Link
from embstore.serving.protocol import RequestError
from embstore.serving.remote_records import REQUEST_BYTES, Group, RemoteRecords
from embstore.serving.remote_words import RemoteVocabulary
from embstore.serving.replicas import Health, Replicas, lost
from embstore.serving.served_table import ServedTable, difference

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from embstore.serving.facts import Facts, Limits

    Addresses = str | Iterable[str]
_SHOWN_PARTITIONS = 8
_ID_BYTES = 8


def connect(
    servers: Addresses | Mapping[int, Addresses],
    *,
    token: str | None = None,
    tls_root: str | os.PathLike[str] | bytes | None = None,
    timeout: float = 30.0,
) -> ConnectedStore:
    """Return a store whose rows servers have; see `embstore.serve` for the other side.

    A lookup asks all servers that have its rows at the same time. Servers with the same partitions
    are replicas: they share the work, and if one fails, the others are asked. If no server can be
    reached, they are asked again until ``timeout`` is over, so a restart costs time and no answer.
    The connection works on when its servers come back; if they have another table by then, lookups
    raise an error.

    Parameters
    ----------
    servers : str, iterable of str, or mapping of int to these
        An address, ``grpc://HOST:PORT`` or ``grpc+tls://HOST:PORT``; or several, each of which is
        asked which partitions it has; or, for each partition, its server or several.
    token : str, optional
        What the servers want to be shown; by default that of the environment variable
        EMBSTORE_TOKEN, if it is set. It goes to another machine only over TLS. It is never shown,
        and is not pickled.
    tls_root : str, path-like or bytes, optional
        Certificates in PEM that the servers' are checked by: a file, or its content. By default
        those of the system.
    timeout : float
        Seconds that a call may take, connecting and all tries included. Connecting tries each
        server once. A loop over the store is a call for each block. Ctrl-C is handled when the call
        has ended.

    Returns
    -------
    ConnectedStore
        A store, to be closed or used as a context manager.

    Raises
    ------
    RemoteError
        If a server cannot be reached, refuses the token, or answers wrongly; if a partition has no
        server; if servers have different tables.
    TypeError, ValueError
        If an address is wrong, given twice, or a key is not a partition of the table; if the token
        would be sent to another machine without TLS.
    ImportError
        If pyarrow has no Flight: ``pip install "embstore[serve]"``.

    Examples
    --------
    >>> with embstore.serve("words.embstore") as server:
    ...     with embstore.connect(server.address) as remote:
    ...         remote[["like", "the"]].shape
    (2, 8)
    """
    named = as_servers(servers)
    options = as_options(token, tls_root, timeout, named)
    return connect_to(named, options)


def connect_to(named: Servers, options: Options) -> ConnectedStore:
    """Return a store at servers, given checked arguments; see `connect`."""
    check_flight()
    links = {address: Link(address, options) for address in named.addresses}
    facts = _ask_all(links, options.timeout)
    first, *others = named.addresses
    for other in others:
        if found := difference(facts[first], facts[other]):
            raise RemoteError(
                f"{first} and {other} have different tables ({found}); connect only to servers of "
                "one table"
            )
    served = _served(first, facts[first])
    by_partition = _by_partition(named, facts, served.numbering.partition_count)
    recipe = _reconnect, (named, options.tls_root, options.timeout)
    again = partial(connect_to, named, options)
    return store_at(links, facts, by_partition, options.timeout, recipe, again)


def store_at(
    links: Mapping[Any, Link],
    facts: Mapping[Any, Facts],
    by_partition: Mapping[int, tuple[Any, ...]],
    timeout: float,
    recipe: tuple[Callable[..., ConnectedStore], tuple[Any, ...]],
    again: Callable[[], ConnectedStore],
) -> ConnectedStore:
    """Return a store at servers that are known, without asking them.

    Parameters
    ----------
    links, facts : mapping of Link, and of Facts, by address
        The servers, and what each has, all of one table.
    by_partition : mapping of int to tuple of addresses
        The servers of each partition.
    timeout : float
        Seconds that a call may take.
    recipe : tuple of a callable and its arguments
        What an unpickled copy is made by; the fingerprint comes as a last argument.
    again : callable
        What a copy in this process is made by.

    Raises
    ------
    RemoteError
        If the servers describe the table in a way that this embstore does not know.
    """
    with_words = [address for address in links if facts[address].has_words]
    first = next(iter(with_words or links))
    served = _served(first, facts[first])
    health = {address: Health() for address in links}
    size = served.encoding.record_bytes

    def replicas(addresses: Iterable[Any]) -> Replicas:
        return Replicas([(links[address], health[address]) for address in addresses])

    together_at: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
    for partition, addresses in by_partition.items():
        together_at[addresses].append(partition)
    groups = [
        Group(
            replicas(addresses),
            tuple(partitions),
            _most_rows([facts[address].limits for address in addresses], size),
        )
        for addresses, partitions in together_at.items()
    ]
    for link in links.values():
        link.expect_rows_of(size)
    vocabulary, calls = None, Calls(timeout)
    if served.has_words:
        limits = [facts[address].limits for address in with_words]
        vocabulary = RemoteVocabulary(
            served,
            replicas(with_words),
            max(min(limit.rows for limit in limits), 1),
            min(limit.request_bytes for limit in limits),
            calls,
        )
    return ConnectedStore(
        ",".join(map(str, links)),
        served,
        RemoteRecords(served, groups, calls),
        vocabulary,
        tuple(links.values()),
        recipe,
        again,
    )


def _served(address: Any, facts: Facts) -> ServedTable:
    """Return the table that a server describes, or raise RemoteError."""
    try:
        return ServedTable.of(facts)
    except RequestError as error:
        raise RemoteError(f"{address} answers wrongly: {error}") from None


def _reconnect(
    named: Servers, tls_root: bytes | None, timeout: float, fingerprint: str
) -> ConnectedStore:
    """Connect again, for an unpickled store, and check that it is the same table."""
    store = connect_to(named, as_options(None, tls_root, timeout, named))
    if store.identity == fingerprint:
        return store
    found = repr(store)
    store.close()
    raise StoreChangedError(
        f"the servers {named} have another table than the one that was pickled; it is {found} now. "
        "Connect again"
    )


def check_flight() -> None:
    """Raise ImportError where pyarrow with Flight is not installed."""
    try:
        from pyarrow import flight  # noqa: F401, PLC0415  # Slow, and not always installed.
    except ImportError as error:
        raise ImportError(
            'embstore.connect needs pyarrow with Flight: pip install "embstore[serve]"'
        ) from error


def _ask_all(links: dict[Address, Link], timeout: float) -> dict[Address, Facts]:
    """Return the facts that servers tell, asked at the same time; all of them have to answer."""
    call = Call(timeout)
    found, problems = ask_all(links, call)
    if problems:
        raise lost({str(address): str(error) for address, error in problems.items()}, call)
    return found


def _by_partition(
    named: Servers, facts: dict[Address, Facts], count: int
) -> dict[int, tuple[Address, ...]]:
    """Return the servers of each partition."""
    if named.by_partition is None:
        asked: defaultdict[int, list[Address]] = defaultdict(list)
        for address in named.addresses:
            for partition in facts[address].partitions:
                asked[partition].append(address)
        found = {partition: tuple(asked[partition]) for partition in sorted(asked)}
    else:
        found = named.by_partition
        if (last := max(found)) >= count:
            raise ValueError(
                f"servers names partition {last}, but the table has {count} partitions, 0 to "
                f"{count - 1}"
            )
        for partition, addresses in found.items():
            for address in addresses:
                if partition not in facts[address].partitions:
                    raise RemoteError(
                        f"{address} does not have partition {partition}; it has "
                        f"{_listing(facts[address].partitions)}"
                    )
    missing = [partition for partition in range(count) if partition not in found]
    if missing:
        raise RemoteError(
            f"no server has partition {_listing(missing)} of {count}; name servers for all of "
            "them. For a part of the table, open its files with embstore.open(path, partitions=...)"
        )
    return found


def _most_rows(limits: list[Limits], record_bytes: int) -> int:
    """Return the most rows of a request that all of several servers take."""
    rows = min(min(limit.rows, limit.request_bytes // _ID_BYTES) for limit in limits)
    return max(min(rows, REQUEST_BYTES // record_bytes), 1)


def _listing(partitions: Any) -> str:
    shown = ", ".join(map(str, list(partitions)[:_SHOWN_PARTITIONS]))
    more = len(partitions) - _SHOWN_PARTITIONS
    return f"{shown} and {more} more" if more > 0 else shown
