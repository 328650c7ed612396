"""Actors that serve partitions of a store, and what is known about a set of them.

1. Ray keeps an actor's arguments, and may show them. So there is nothing secret among them, and
   each actor makes a token of its own when it first starts its server.
2. `ServerActor.place` tells where the server is, with the token and the certificate. It also starts
   the server, so that errors of opening arrive as they are. A restarted actor does the same again,
   at another address and with another token.
3. The table must be the one that was deployed, also after a restart.
"""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embstore.errors import StoreChangedError
from embstore.interop.ray.certificates import certificate_for
from embstore.interop.ray.cluster import need_ray, node_address
from embstore.opening import open
from embstore.serving.protocol import PROTOCOL
from embstore.serving.server import serve
from embstore.version import __version__

if TYPE_CHECKING:
    from embstore.serving.running import Server

_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class ActorName:
    """The name of an actor, and the partitions that it serves.

    Attributes
    ----------
    namespace, name : str
        What Ray finds it by.
    partitions : tuple of int
        The partitions, ascending.
    """

    namespace: str
    name: str
    partitions: tuple[int, ...]

    def __str__(self) -> str:
        return f"the actor {self.name}"


@dataclass(frozen=True, slots=True)
class Deployment:
    """The actors of a table; all that a pickled handle holds.

    Attributes
    ----------
    actors : tuple of ActorName
        All of them.
    fingerprint : str
        Of the table.
    timeout : float
        Seconds that a lookup may take.
    """

    actors: tuple[ActorName, ...]
    fingerprint: str
    timeout: float

    @property
    def by_partition(self) -> dict[int, tuple[ActorName, ...]]:
        """The actors of each partition."""
        found: dict[int, tuple[ActorName, ...]] = {}
        for actor in self.actors:
            for partition in actor.partitions:
                found[partition] = (*found.get(partition, ()), actor)
        return dict(sorted(found.items()))


class ServerActor:
    """An actor that serves some partitions.

    Parameters
    ----------
    path : str
        The store, by an absolute path or a URL.
    partitions : tuple of int, or None
        The partitions to serve; None for all.
    fingerprint : str
        The expected table.
    opening, serving : dict
        Options of `embstore.open` and `embstore.serve`.
    """

    def __init__(
        self,
        path: str,
        partitions: tuple[int, ...] | None,
        fingerprint: str,
        opening: dict[str, Any],
        serving: dict[str, Any],
    ) -> None:
        self._path, self._partitions, self._fingerprint = path, partitions, fingerprint
        self._opening, self._serving = opening, serving
        self._server: Server | None = None
        self._token = ""
        self._root: bytes | None = None

    def place(self) -> dict[str, Any]:
        """Return where the server is, and what it wants to be shown; start it first if need be."""
        if self._server is None:
            self._server = self._start()
        return {
            "protocol": PROTOCOL,
            "embstore": __version__,
            "address": self._server.address,
            "token": self._token,
            "tls_root": self._root,
        }

    def _start(self) -> Server:
        store = open(self._path, partitions=self._partitions, **self._opening)
        try:
            if (found := store.fingerprint()) != self._fingerprint:
                raise StoreChangedError(
                    f"{self._path} is another table than the one that was deployed; its "
                    f"fingerprint is {found} now, not {self._fingerprint}. Deploy it again, or put "
                    "the old one back"
                )
            host = node_address(need_ray())
            self._token = secrets.token_urlsafe(_TOKEN_BYTES)
            options = {"host": host, "token": self._token, **self._serving}
            if ipaddress.ip_address(host).is_loopback:
                return serve(store, **options)
            with certificate_for(host) as (certificate, key):
                self._root = certificate.read_bytes()
                return serve(store, tls_cert=certificate, tls_key=key, **options)
        except BaseException:
            store.close()
            raise
