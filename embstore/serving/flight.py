"""The Flight server: calls of clients become requests, and errors go back as the protocol tells.

Imported only when a store is served: it needs pyarrow's Flight.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import flight

from embstore.serving.answers import Answers
from embstore.serving.counts import Counts
from embstore.serving.failures import Failure, TokenError
from embstore.serving.protocol import (
    ACTIONS,
    AUTHORIZATION,
    BEARER,
    Header,
    RequestError,
    pack_place,
    split_message,
    split_ticket,
)
from embstore.serving.stalls import cut_connections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.serving.access import Certificate, Secret
    from embstore.serving.addresses import Address
    from embstore.serving.facts import Facts
    from embstore.serving.gate import Gate
    from embstore.serving.stalls import Stalls
    from embstore.store import EmbeddingStore

_STATUS_LENGTH = 200  # Of the message outside of the extra info; gRPC's headers are small.
_FLIGHT_ERRORS: dict[str, Any] = {
    "TokenError": flight.FlightUnauthenticatedError,
    "BusyError": flight.FlightUnavailableError,
    "ClosingError": flight.FlightUnavailableError,
    "InternalError": flight.FlightInternalError,
}


class FlightServer(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types.
    """A server of one store; it takes calls as soon as it is made.

    Parameters
    ----------
    address : Address
        Where to listen.
    store : EmbeddingStore
        The rows and words.
    facts : Facts
        What clients are told.
    gate : Gate
        Limits what runs at a time.
    secret : Secret, optional
        The token that each call must have.
    certificate : Certificate, optional
        For TLS.
    stalls : Stalls
        Ends answers that are not read.
    """

    def __init__(
        self,
        address: Address,
        store: EmbeddingStore,
        facts: Facts,
        gate: Gate,
        secret: Secret | None,
        certificate: Certificate | None,
        stalls: Stalls,
    ) -> None:
        self.store, self.gate, self.stalls, self._facts = store, gate, stalls, facts
        self._counts = Counts()
        pairs = None
        if certificate is not None:
            pairs = [(certificate.certificate, certificate.key)]
        middleware = None if secret is None else {"token": _TokenCheck(secret, self._counts)}
        super().__init__(str(address), tls_certificates=pairs, middleware=middleware)
        stalls.start(self.port)

    def cut(self) -> None:
        """Cut the connections of all clients."""
        cut_connections(self.port)

    def do_get(self, context: Any, ticket: Any) -> Any:
        """Answer one request."""
        with self._told():
            header, payload = split_ticket(ticket.ticket)
            answers = Answers(self.store, Header.from_json(header), self._facts, self.gate)
            batches = self._batches(answers, payload, context.peer())
            # The first batch now, so that most errors come before any answer.
            first = next(batches, None)
        return flight.GeneratorStream(answers.schema, _chained(first, batches))

    def do_exchange(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Answer the requests of a stream."""
        with self._told(), self.gate.stream():
            header, rest = split_ticket(descriptor.command or b"")
            if rest:
                raise RequestError("the command of a stream has a payload; send it in messages")
            answers = Answers(self.store, Header.from_json(header), self._facts, self.gate)
            writer.begin(answers.schema)
            while (message := _next(reader)) is not None:
                self._answer(message, answers, writer, context.peer())

    def _answer(self, message: Any, answers: Answers, writer: Any, peer: str) -> None:
        if message.data is not None or message.app_metadata is None:
            raise RequestError("a message of a stream has metadata, and no record batch")
        number, payload = split_message(memoryview(message.app_metadata))
        rows = size_bytes = 0
        with self.gate.request(), self.stalls.sending(peer) as sending:
            for batch, position in answers.pieces(payload):
                sending.moved()
                writer.write_with_metadata(batch, pa.py_buffer(pack_place(number, position)))
                rows += len(batch)
                size_bytes += batch.nbytes
            if not rows:
                writer.write_with_metadata(answers.empty(), pa.py_buffer(pack_place(number, 0)))
        self._counts.add(rows, size_bytes)

    def _batches(
        self, answers: Answers, payload: memoryview, peer: str
    ) -> Iterator[tuple[Any, Any]]:
        """Yield the batches of one request, each with its metadata."""
        rows = size_bytes = 0
        with self._told(), self.gate.request(), self.stalls.sending(peer) as sending:
            for batch, position in answers.pieces(payload):
                sending.moved()
                rows += len(batch)
                size_bytes += batch.nbytes
                yield batch, pa.py_buffer(pack_place(0, position))
        self._counts.add(rows, size_bytes)

    def do_action(self, context: Any, action: Any) -> Iterator[Any]:
        """Answer an action."""
        with self._told():
            answer = self._act(action.type)
        return iter([flight.Result(pa.py_buffer(answer))])

    def list_actions(self, context: Any) -> list[tuple[str, str]]:
        """Return the actions and what they do."""
        return list(ACTIONS.items())

    def _act(self, name: str) -> bytes:
        gate = self.gate
        if name == "info":
            return self._facts.to_json()
        if name == "health":
            status = "closing" if gate.is_closed else "serving"
            return json.dumps({"status": status}).encode()
        if name == "stats":
            running = {
                "requests_running": gate.used("requests"),
                "streams_open": gate.used("streams"),
                "memory_bytes": gate.used("bytes"),
            }
            return json.dumps(self._counts.snapshot() | running).encode()
        raise RequestError(f"no action {name[:100]!r}; there are {', '.join(ACTIONS)}")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Have errors told as the protocol says."""
        try:
            yield
        except (flight.FlightError, GeneratorExit):
            raise  # Told before, or the client is gone.
        except Exception as error:
            raise _as_flight(error, self._counts) from None


class _TokenCheck(flight.ServerMiddlewareFactory):  # type: ignore[misc]  # As above.
    """Refuses calls without the right token."""

    def __init__(self, secret: Secret, counts: Counts) -> None:
        super().__init__()
        self._secret, self._counts = secret, counts

    def start_call(self, info: Any, headers: dict[str, list[Any]]) -> None:
        """Raise an error of Flight unless one header has the token."""
        found = headers.get(AUTHORIZATION, [])
        if len(found) == 1 and isinstance(found[0], str) and found[0].startswith(BEARER):
            if self._secret.accepts(found[0][len(BEARER) :]):
                return
            problem = "the token is not the server's"
        else:
            problem = (
                "the server wants a token; give token=, set EMBSTORE_TOKEN, or send the header "
                "authorization: Bearer"
            )
        raise _as_flight(TokenError(problem), self._counts)


def _as_flight(error: BaseException, counts: Counts) -> Exception:
    """Return an error as Flight sends it, and count it."""
    failure = Failure.of(error)
    counts.add_error(failure.kind)
    kind = _FLIGHT_ERRORS.get(failure.kind, flight.FlightServerError)
    found: Exception = kind(failure.message[:_STATUS_LENGTH], failure.to_json())
    return found


def _next(reader: Any) -> Any:
    """Return the next message of a stream; None at its end."""
    try:
        return reader.read_chunk()
    except StopIteration:
        return None


def _chained(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    """Yield the first batch and the others; end the request when this is dropped."""
    try:
        if first is not None:
            yield first
            del first
            yield from rest
    finally:
        rest.close()  # type: ignore[attr-defined]  # A generator.
