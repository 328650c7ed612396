"""Links to servers inside of actors: Ray is asked where a server is, each time one connects.

1. A restarted actor has another address, token and certificate. Its old connection fails, the link
   drops its client, and the next try asks the actor again. Tries are repeated until the deadline of
   the call, so a restart costs time and no answer.
2. A try waits for an actor that restarts only for a moment, so that a replica is asked instead.
3. A server may refuse a call because it is another one, at a port that was used before. Where the
   actor has moved meanwhile, another try helps.
"""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING, Any

from embstore.errors import EmbstoreError
from embstore.interop.ray.cluster import need_ray
from embstore.serving.addresses import Address, Servers, as_address, as_options
from embstore.serving.link import Link, LinkError
from embstore.serving.protocol import PROTOCOL

if TYPE_CHECKING:
    from embstore.interop.ray.actors import ActorName
    from embstore.serving.addresses import Options

WAIT_SECONDS = 1.0
_SHOWN_LENGTH = 300
_Target = tuple["Address", "Options"]


class ActorLink(Link):
    """The connection to the server of one actor; safe to use from many threads.

    Parameters
    ----------
    actor : ActorName
        The actor.
    timeout : float
        Seconds that a call may take.
    """

    def __init__(self, actor: ActorName, timeout: float) -> None:
        nowhere = Address("127.0.0.1", 1)
        super().__init__(nowhere, as_options("none", None, timeout, Servers(None, (nowhere,))))
        self.address = actor
        self._actor, self._timeout = actor, timeout
        self._lock = Lock()
        self._pending: Any = None  # What was asked, and not answered yet.
        self._last: _Target | None = None

    def _target(self, seconds: float) -> _Target:
        self._last = found = self._ask(seconds)
        return found

    def _failed(
        self, made: tuple[Any, Options], error: Exception, seconds: float, reader: Any
    ) -> LinkError:
        failed = super()._failed(made, error, seconds, reader)
        if failed.again or isinstance(error, LinkError):
            return failed
        last = self._last
        try:
            has_moved = self._ask(seconds) != last
        except LinkError as unknown:
            return unknown
        if has_moved:
            self.close()
        return LinkError(str(failed), again=has_moved)

    def _ask(self, seconds: float) -> _Target:
        """Return where the server is, from its actor; wait for a moment at most."""
        end = time.monotonic() + min(seconds, WAIT_SECONDS)
        if not self._lock.acquire(timeout=max(end - time.monotonic(), 0)):
            raise LinkError("it is starting, or has no node to run on", again=True)
        try:
            return self._as_target(self._answer(max(end - time.monotonic(), 0)))
        finally:
            self._lock.release()

    def _answer(self, seconds: float) -> Any:
        try:
            ray = need_ray()
        except EmbstoreError as error:
            raise LinkError(str(error), again=False) from error
        try:
            if self._pending is None:
                self._pending = self._actor_of(ray).place.remote()
            done, _ = ray.wait([self._pending], timeout=seconds)
            if not done:
                raise LinkError("it is starting, or has no node to run on", again=True)
            pending, self._pending = self._pending, None
            return ray.get(pending, timeout=seconds + WAIT_SECONDS)
        except LinkError:
            raise
        except Exception as error:
            self._pending = None
            raise link_error(ray, error) from error

    def _actor_of(self, ray: Any) -> Any:
        try:
            return ray.get_actor(self._actor.name, namespace=self._actor.namespace)
        except ValueError as error:
            raise LinkError("Ray has no such actor any more; deploy again", again=False) from error

    def _as_target(self, place: Any) -> _Target:
        if not isinstance(place, dict) or place.get("protocol") != PROTOCOL:
            found = place if isinstance(place, dict) else {}
            raise LinkError(
                f"it has embstore {str(found.get('embstore'))[:40]} with version "
                f"{str(found.get('protocol'))[:40]} of the protocol, this process version "
                f"{PROTOCOL}; use the same embstore on all nodes",
                again=False,
            )
        try:
            address = as_address(place["address"], "the address")
            root = place["tls_root"] if address.is_tls else None
            servers = Servers(None, (address,))
            return address, as_options(place["token"], root, self._timeout, servers)
        except (KeyError, TypeError, ValueError) as error:
            raise LinkError(f"it tells a wrong place: {error}", again=False) from None


def cause_of(ray: Any, error: Exception) -> Exception:
    """Return the error that an actor raised, out of Ray's."""
    inner = getattr(error, "cause", None)
    is_task_error = isinstance(error, ray.exceptions.RayTaskError)
    return inner if is_task_error and isinstance(inner, Exception) else error


def link_error(ray: Any, error: Exception) -> LinkError:
    """Return the error for one that asking an actor raised."""
    cause = cause_of(ray, error)
    if cause is not error:
        return LinkError(f"it cannot serve: {str(cause)[:_SHOWN_LENGTH]}", again=False)
    if isinstance(error, ray.exceptions.ActorDiedError):
        return LinkError("it has ended and is not restarted; deploy again", again=False)
    return LinkError(f"Ray: {type(error).__name__}", again=True)
