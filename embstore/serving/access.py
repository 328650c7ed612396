"""Who may use a server, and from where: tokens, certificates, addresses.

1. A server listens on a loopback address unless it has both a certificate and a token.
2. Only a hash of the token is kept, and compared in constant time. The token itself is in no
   message, no log and no repr.
3. A file with a token must belong to its owner: it is refused if others may read it.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import ipaddress
import os
import re
import socket
import ssl
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embstore.errors import RemoteError
from embstore.paths import as_path
from embstore.serving.addresses import Address
from embstore.settle import as_text
from embstore.wording import either, option, parameter

if TYPE_CHECKING:
    from pathlib import Path

TOKEN_BYTES_MAX = 4096
PEM_BYTES_MAX = 1 << 20
_TOKEN = re.compile(r"[!-~]+")  # What a header can hold: ASCII without spaces.
_HOST = re.compile(r"[0-9A-Za-z._-]+")


class Secret:
    """The hash of a token.

    Examples
    --------
    >>> Secret("a-long-token").accepts("a-long-token"), Secret("a-long-token")
    (True, <a secret>)
    """

    __slots__ = ("_digest",)

    def __init__(self, token: str) -> None:
        self._digest = _hash(token)

    def accepts(self, token: str) -> bool:
        """Say whether a token is the right one, in constant time."""
        return hmac.compare_digest(_hash(token), self._digest)

    def __repr__(self) -> str:
        return "<a secret>"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a secret is not pickled")


def listening_address(host: Any, port: int, *, has_tls: bool, has_token: bool) -> Address:
    """Return where to listen.

    Raises
    ------
    TypeError
        If the host is not a str.
    ValueError
        If it is neither a name nor an address; if others than this machine could connect, and there
        is no certificate, or no token.
    """
    text = as_text(host, "host")
    if text == "localhost":
        text = "127.0.0.1"
    if ":" in text and "%" not in text:  # Flight takes no zones, as in ::1%lo.
        try:
            text = str(ipaddress.IPv6Address(text.removeprefix("[").removesuffix("]")))
        except ValueError as error:
            raise ValueError(
                f"{parameter('host')} must be a name or an IP address, without a scheme or a port, "
                f"not {text!r}; the port is given by itself ({option('port')})"
            ) from error
    elif not _HOST.fullmatch(text):
        raise ValueError(f"{parameter('host')} must be a name or an IP address, not {text[:100]!r}")
    address = Address(text, port, is_tls=has_tls)
    if not address.is_loopback and not (has_tls and has_token):
        lacks = " and ".join(
            (() if has_tls else (f"{option('tls_cert')} and {option('tls_key')}",))
            + (
                ()
                if has_token
                else (f"a token ({either('token= or token_file=', '--token-file')})",)
            )
        )
        raise ValueError(
            f"other machines can connect to {text}, so this needs {lacks}; or listen on 127.0.0.1"
        )
    return address


def check_free(address: Address) -> None:
    """Raise RemoteError if no server can listen at an address, before gRPC logs that it cannot."""
    try:
        for family, kind, protocol, _, place in socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
    except OSError as error:
        reason = error.strerror
        if error.errno == errno.EADDRINUSE:
            reason = f"port {address.port} is in use; give another one, or {option('port', 0)}"
        elif error.errno == errno.EADDRNOTAVAIL:
            reason = f"{address.host} is not an address of this machine"
        raise RemoteError(f"cannot listen at {address}: {reason}") from None


def as_token(token: Any, name: str = "token") -> str:
    """Return a token.

    Raises
    ------
    TypeError
        If it is not a str.
    ValueError
        If it is empty, too long, or has characters that a header cannot hold.
    """
    if not isinstance(token, str):  # Without its value, which a message must not show.
        raise TypeError(f"{name} must be a str, not {type(token).__name__}")
    if not token:
        raise ValueError(f"{name} must not be empty")
    if len(token) > TOKEN_BYTES_MAX or not _TOKEN.fullmatch(token):
        raise ValueError(
            f"{name} must be at most {TOKEN_BYTES_MAX} visible ASCII characters without spaces"
        )
    return token


def read_token(path: Any) -> str:
    """Return the token in a file, without the newline at its end.

    Raises
    ------
    ValueError
        If the file is not a regular one, others may read or change it, or it holds no token.
    OSError
        If it cannot be read.
    """
    where = as_path(path, "token_file")
    data, mode = _read(where, TOKEN_BYTES_MAX + 2, "token_file")
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ValueError(
            f"{parameter('token_file')} {where} may be read or changed by other users (its mode is "
            f"{stat.S_IMODE(mode):o}); make it yours alone: chmod 600 {where}"
        )
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        text = "\0"  # Refused below, without the bytes in the error.
    return as_token(
        text.removesuffix("\n").removesuffix("\r"), f"{parameter('token_file')} {where}"
    )


@dataclass(frozen=True, slots=True, repr=False)
class Certificate:
    """A certificate and its private key, as PEM."""

    certificate: bytes
    key: bytes


def read_certificate(cert: Any, key: Any) -> Certificate | None:
    """Return the certificate and the key in two files; None if neither is given.

    Raises
    ------
    ValueError
        If only one is given, or they do not fit each other.
    OSError
        If a file cannot be read.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ValueError(
            "TLS needs both a certificate and its key: give "
            f"{option('tls_cert')} and {option('tls_key')} together"
        )
    cert_path, key_path = as_path(cert, "tls_cert"), as_path(key, "tls_key")
    found = Certificate(
        _read(cert_path, PEM_BYTES_MAX, "tls_cert")[0], _read(key_path, PEM_BYTES_MAX, "tls_key")[0]
    )
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert_path, key_path, password=lambda: "")  # Never asks for one.
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(
            f"{parameter('tls_cert')} {cert_path} and {parameter('tls_key')} {key_path} are not a "
            "certificate and its unencrypted private key in PEM: "
            f"{getattr(error, 'reason', None) or error}"
        ) from None
    return found


def _read(path: Path, most: int, name: str) -> tuple[bytes, int]:
    """Return the bytes of a regular file, at most ``most``, and its mode."""
    # Without O_NONBLOCK, opening a FIFO would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(f"{name} {path} is not a regular file")
        data = b""
        while len(data) <= most and (piece := os.read(descriptor, most + 1 - len(data))):
            data += piece
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise ValueError(f"{name} {path} has more than {most} bytes")
    return data, mode


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
