"""Addresses of servers, as a caller gives them: one, a list, or some for each partition.

An address is ``grpc://HOST:PORT`` or, with TLS, ``grpc+tls://HOST:PORT``. Nothing is resolved or
connected here. A token is sent without TLS only to this machine.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from embstore.errors import RemoteError
from embstore.paths import as_path
from embstore.settle import as_count, as_positive, as_text

if TYPE_CHECKING:
    from pathlib import Path

PLAIN, TLS = "grpc", "grpc+tls"
EXPECTED = f"{PLAIN}://HOST:PORT or {TLS}://HOST:PORT"
TOKEN_VARIABLE = "EMBSTORE_TOKEN"
MAX_TIMEOUT_SECONDS = 24 * 3600
_MAX_LENGTH = 512
_MAX_TOKEN_LENGTH = 4096  # gRPC sends it among its headers, which are small.
_MAX_ROOT_BYTES = 4 << 20
_ADDRESS = re.compile(r"(?P<scheme>[^:/?#]+)://(?P<rest>.*)", re.DOTALL)
_HOST = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})/?"
)
_PEM = b"-----BEGIN"


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a server.

    Parameters
    ----------
    host : str
        Its name or number; that of IPv6 without brackets.
    port : int
        From 1 to 65535.
    is_tls : bool
        Whether the connection is encrypted.

    Examples
    --------
    >>> print(Address("::1", 4000), Address("rows.example.org", 4000, is_tls=True))
    grpc://[::1]:4000 grpc+tls://rows.example.org:4000
    """

    host: str
    port: int
    is_tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{TLS if self.is_tls else PLAIN}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether this is an address of this machine, for itself."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def as_address(value: Any, name: str) -> Address:
    """Return an address.

    Raises
    ------
    TypeError
        If it is not a str.
    ValueError
        If it is not an address; a name and password in it are not shown.

    Examples
    --------
    >>> as_address("grpc://127.0.0.1:4000", "servers")
    Address(host='127.0.0.1', port=4000, is_tls=False)
    >>> as_address("127.0.0.1:4000", "servers")
    Traceback (most recent call last):
      ...
    ValueError: servers must be grpc://HOST:PORT or grpc+tls://HOST:PORT, not '127.0.0.1:4000'
    """
    text = as_text(value, name) if value != "" else ""  # Which is not an address either.
    if "@" in text:
        raise ValueError(
            f"{name} must be {EXPECTED}, without a name or password (not shown here); the token of "
            "the servers is the parameter token"
        )
    shown = repr(text if len(text) <= 100 else f"{text[:97]}...")
    wrong = f"{name} must be {EXPECTED}, not {shown}"
    found = _ADDRESS.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if found is None:
        raise ValueError(wrong)
    scheme = found["scheme"].lower()
    if scheme not in (PLAIN, TLS):
        raise ValueError(f"{wrong}; embstore.open opens stores by their path or URL")
    place = _HOST.fullmatch(found["rest"])
    if place is None or not 1 <= int(place["port"]) <= 65535:
        raise ValueError(wrong)
    host = (place["six"] or place["name"]).lower()
    if place["six"]:
        try:
            host = str(ipaddress.IPv6Address(host))
        except ValueError as error:
            raise ValueError(f"{wrong}: {error}") from None
    return Address(host, int(place["port"]), scheme == TLS)


def is_served(path: str) -> bool:
    """Say whether the place of a store is addresses of servers, as `Servers` shows them."""
    return path.startswith((f"{PLAIN}://", f"{TLS}://"))


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of a table.

    Attributes
    ----------
    by_partition : dict of int to tuple of Address
        The servers to ask for each partition; None where each server is asked what it has.
    addresses : tuple of Address
        All of them, each once.
    """

    by_partition: dict[int, tuple[Address, ...]] | None
    addresses: tuple[Address, ...]

    def __str__(self) -> str:
        return ",".join(map(str, self.addresses))


def as_servers(value: Any) -> Servers:
    """Return the servers that a caller named.

    Parameters
    ----------
    value : str, iterable of str, or mapping of int to these
        An address; several; or those of each partition.

    Raises
    ------
    TypeError, ValueError
        If it is anything else, empty, or names a server twice for one partition.

    Examples
    --------
    >>> as_servers({0: "grpc://a:1", 1: ["grpc://a:1", "grpc://b:1"]}).addresses
    (Address(host='a', port=1, is_tls=False), Address(host='b', port=1, is_tls=False))
    """
    if not isinstance(value, Mapping):
        addresses = _several(value, "servers")
        return Servers(None, addresses)
    if not value:
        raise ValueError("servers must name a server for each partition, not an empty mapping")
    found: dict[int, tuple[Address, ...]] = {}
    for key, given in value.items():
        partition = as_count(key, "a key of servers, a partition,")
        if partition in found:
            raise ValueError(f"servers names partition {partition} twice")
        found[partition] = _several(given, f"servers[{partition}]")
    every = dict.fromkeys(address for some in found.values() for address in some)
    return Servers(dict(sorted(found.items())), tuple(every))


def _several(value: Any, name: str) -> tuple[Address, ...]:
    if isinstance(value, str):
        return (as_address(value, name),)
    refused = isinstance(value, bytes | bytearray | memoryview | Mapping)
    if refused or not isinstance(value, Iterable):
        raise TypeError(
            f"{name} must be an address such as grpc://HOST:PORT, or a list of them, not "
            f"{type(value).__name__}"
        )
    found: list[Address] = []
    for place, item in enumerate(value):
        address = as_address(item, f"{name}[{place}]")
        if address in found:
            raise ValueError(f"{name} names {address} twice")
        found.append(address)
    if not found:
        raise ValueError(f"{name} must name at least one server, not an empty list")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Options:
    """How servers are asked.

    Attributes
    ----------
    token : str or None
        Sent with every call; never shown or pickled.
    tls_root : bytes or None
        Certificates that servers are checked by, PEM; None for those of the system.
    timeout : float
        Seconds that a call may take.
    """

    token: str | None = field(default=None, repr=False)
    tls_root: bytes | None = field(default=None, repr=False)
    timeout: float = 30.0


def as_options(token: Any, tls_root: Any, timeout: Any, servers: Servers) -> Options:
    """Return how to ask servers, given the parameters of `embstore.connect`.

    Raises
    ------
    TypeError, ValueError
        If one is of a wrong type or out of bounds; if a token would be sent to another machine
        without TLS. The token is never shown.
    RemoteError
        If the certificates cannot be read.
    """
    found = as_token(token)
    open_address = next((a for a in servers.addresses if not a.is_tls and not a.is_loopback), None)
    if found is not None and open_address is not None:
        origin = "token" if token is not None else f"the token in {TOKEN_VARIABLE}"
        raise ValueError(
            f"{origin} would be sent to {open_address} without TLS, and anyone between could read "
            f"it; start the server with --tls-cert and --tls-key, and connect to {TLS}://"
        )
    root = None
    if tls_root is not None:
        if not any(address.is_tls for address in servers.addresses):
            raise ValueError(f"tls_root is for {TLS}:// addresses, and servers has none; omit it")
        root = _as_root(tls_root)
    return Options(found, root, as_timeout(timeout))


def as_timeout(value: Any) -> float:
    """Return the most seconds of a call; above 0, and a day at most."""
    seconds = as_positive(value, "timeout")
    if seconds > MAX_TIMEOUT_SECONDS:
        raise ValueError(
            f"timeout must be {MAX_TIMEOUT_SECONDS} seconds, a day, or less; found {seconds:g}"
        )
    return seconds


def as_token(value: Any) -> str | None:
    """Return a token; by default that of the environment. An error does not show it."""
    name = "token"
    if value is None:
        name, value = TOKEN_VARIABLE, os.environ.get(TOKEN_VARIABLE) or None
        if value is None:
            return None
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    good = 0 < len(value) <= _MAX_TOKEN_LENGTH and all("!" <= mark <= "~" for mark in value)
    if not good:
        raise ValueError(
            f"{name} must be 1 to {_MAX_TOKEN_LENGTH} ASCII characters without spaces (a token is "
            "not shown); of a token read from a file, strip the end of the line"
        )
    return str(value)


def _as_root(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray) and value.lstrip().startswith(_PEM):
        return bytes(value)
    path: Path = as_path(value, "tls_root")
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_ROOT_BYTES + 1)
    except OSError as error:
        raise RemoteError(f"tls_root cannot be read: {error}") from error
    if len(data) > _MAX_ROOT_BYTES or _PEM not in data:
        raise ValueError(f"tls_root must be certificates in PEM (-----BEGIN ...); {path} is not")
    return data
