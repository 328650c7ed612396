"""A link to one server: a Flight client that is made when needed, and again after a failure.

1. A request is one call of Flight with a deadline, which bounds connecting, waiting and reading.
2. A client that has lost its server refuses further calls for some time, even when the server is
   back. So a failure drops it, and the next call makes a new one; its channels are its own.
3. An error of Flight becomes a `LinkError`: the text for people, and whether another try may help.
4. No message is larger than gRPC lets through here, and proxies are not used.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from embstore.serving.facts import INFO_BYTES_MAX, Facts
from embstore.serving.failures import Failure
from embstore.serving.forks import keep_in_children, note_use
from embstore.serving.protocol import (
    AUTHORIZATION,
    BEARER,
    PIECE_BYTES,
    pack_ticket,
)
from embstore.serving.replies import AnswerError, batches, check_schema
from embstore.serving.streams import Stream, Streams

if TYPE_CHECKING:
    from embstore.serving.addresses import Address, Options
    from embstore.serving.calls import Call
    from embstore.serving.protocol import Header
    from embstore.serving.replies import Expected, Put

_SHOWN_LENGTH = 300
_SPARE_BYTES = 1 << 20  # Of a message, around the rows.
_LEAST_SECONDS = 0.001
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_PASSING = ("BusyError", "ClosingError")
_CLOSED = "it closed the connection; has it ended, or does it use TLS (grpc+tls://)?"
# What gRPC says, and what it means.
_CAUSES = (
    ("Connection refused", "no server listens there"),
    ("Ssl handshake", "the TLS handshake failed; check tls_root, and that the server uses TLS"),
    ("SSL", "the TLS handshake failed; check tls_root, and that the server uses TLS"),
    ("DNS", "its name is unknown"),
    ("Domain name not found", "its name is unknown"),
    ("Socket closed", _CLOSED),
    ("Connection reset", _CLOSED),
    ("Broken pipe", _CLOSED),
)


class LinkError(Exception):
    """A request that failed at one server.

    Attributes
    ----------
    again : bool
        Whether another try may succeed.
    """

    def __init__(self, text: str, *, again: bool) -> None:
        super().__init__(text)
        self.again = again


class Link:
    """The connection to one server; safe to use from many threads.

    Parameters
    ----------
    address : Address
        The server's.
    options : Options
        How to ask it.

    Attributes
    ----------
    address : object
        What messages call the server, as text.
    """

    address: object

    def __init__(self, address: Address, options: Options) -> None:
        self.address = self._place = address
        self._options = options
        self._message_bytes = INFO_BYTES_MAX + _SPARE_BYTES
        # The client, and the options that it was made with.
        self._client: tuple[Any, Options] | None = None
        self._streams = Streams()

    def _target(self, seconds: float) -> tuple[Address, Options]:
        """Return where to connect, and how; subclasses find this out, or raise LinkError."""
        del seconds
        return self._place, self._options

    def expect_rows_of(self, record_bytes: int) -> None:
        """Set the size of a row, which bounds messages."""
        most = max(INFO_BYTES_MAX, PIECE_BYTES, record_bytes) + _SPARE_BYTES
        if most > self._message_bytes:
            self._message_bytes, self._client = most, None

    def ask(
        self,
        header: Header,
        payload: bytes | memoryview,
        expected: Expected,
        put: Put,
        call: Call,
        seconds: float,
        *,
        is_small: bool = False,
    ) -> None:
        """Ask for rows, ids or words, and pass them on as they come.

        Parameters
        ----------
        header, payload
            The request.
        expected : Expected
            What the answer has to be.
        put : callable
            Called with a position in the answer and the values from there on.
        call : Call
            The call that this is a part of.
        seconds : float
            How long this part may take.
        is_small : bool
            Whether a stream may be worth its while.

        Raises
        ------
        LinkError
            If anything fails.
        """
        end = time.monotonic() + seconds
        if is_small and self._ask_stream(header, payload, expected, put, call, seconds):
            return
        from pyarrow import flight  # noqa: PLC0415  # Slow, and not always installed.

        client, options = self._connected(max(end - time.monotonic(), 0))
        reader = None
        try:
            ticket = flight.Ticket(pack_ticket(header, payload))
            reader = client.do_get(ticket, _call_options(options, end))
            with call.reading(reader):
                check_schema(reader.schema, expected)
                for position, values in batches(reader, expected):
                    put(position, values)
        except Exception as error:
            raise self._failed((client, options), error, seconds, reader) from error

    def _ask_stream(
        self,
        header: Header,
        payload: bytes | memoryview,
        expected: Expected,
        put: Put,
        call: Call,
        seconds: float,
    ) -> bool:
        """Ask on a stream; return whether this has answered, or raise LinkError."""
        end = time.monotonic() + seconds
        client, options = self._connected(seconds)
        is_close = self._streams.is_worth_opening()
        stream = self._streams.take(header, seconds)
        if stream is None and not is_close:
            return False
        try:
            if stream is None:
                stream = Stream(client, header, _call_options(options, end), end)
            stream.ask(payload, expected, put, call)
        except Exception as error:
            if stream is not None:
                stream.drop()
            is_over = call.is_stopped or time.monotonic() > end - _LEAST_SECONDS
            if isinstance(error, AnswerError) or is_over:
                raise self._failed((client, options), error, seconds, None) from error
            return False  # The server may be back, or take no more streams.
        self._streams.give_back(header, stream)
        return True

    def facts(self, seconds: float) -> Facts:
        """Return what the server says about itself and its table, or raise LinkError."""
        end = time.monotonic() + seconds
        client, options = self._connected(seconds)
        try:
            results = client.do_action("info", _call_options(options, end))
            body = next(iter(results)).body.to_pybytes()
            return Facts.from_json(body)
        except StopIteration:
            raise LinkError(
                "it answers nothing; is it another kind of server?", again=False
            ) from None
        except Exception as error:
            raise self._failed((client, options), error, seconds, None) from error

    def close(self) -> None:
        """Drop the client and idle streams; calls that are under way go on."""
        self._client = None
        self._streams.drop()

    def _connected(self, seconds: float) -> tuple[Any, Options]:
        note_use()
        made = self._client
        if made is None:
            from pyarrow import flight  # noqa: PLC0415

            address, options = self._target(seconds)
            generic: list[tuple[str, int]] = [
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_http_proxy", 0),
                ("grpc.max_receive_message_length", self._message_bytes),
            ]
            root = options.tls_root if address.is_tls else None
            try:
                client = flight.FlightClient(
                    str(address), tls_root_certs=root, generic_options=generic
                )
            except Exception as error:
                raise LinkError(_cleaned(str(error), options), again=False) from error
            keep_in_children(client)
            self._client = made = client, options
        return made

    def _failed(
        self, made: tuple[Any, Options], error: Exception, seconds: float, reader: Any
    ) -> LinkError:
        """Return the error for one of a request, after its client was dropped if need be."""
        from pyarrow import flight  # noqa: PLC0415

        if isinstance(error, LinkError):
            return error
        if reader is not None:
            reader.cancel()  # What is left of the answer is not wanted.
        failure = Failure.from_json(getattr(error, "extra_info", b"") or b"")
        if failure is not None:
            return LinkError(_cleaned(failure.message, made[1]), again=failure.kind in _PASSING)
        if (now := self._client) is not None and now[0] is made[0]:
            self.close()
        if isinstance(error, flight.FlightTimedOutError):
            return LinkError(f"it did not answer within {seconds:.1f} s", again=True)
        text = _cleaned(str(error), made[1])
        if isinstance(error, flight.FlightUnauthenticatedError | flight.FlightUnauthorizedError):
            return LinkError(f"it refuses the token: {text}", again=False)
        passing = (
            *(flight.FlightUnavailableError, flight.FlightCancelledError),
            flight.FlightInternalError,
        )
        what = "" if isinstance(error, flight.FlightError) else "its answer is wrong: "
        return LinkError(f"{what}{text}", again=isinstance(error, passing))


def _call_options(options: Options, end: float) -> Any:
    from pyarrow import flight  # noqa: PLC0415

    headers = []
    if options.token is not None:
        headers = [(AUTHORIZATION.encode(), f"{BEARER}{options.token}".encode())]
    seconds = max(end - time.monotonic(), _LEAST_SECONDS)
    return flight.FlightCallOptions(timeout=seconds, headers=headers)


def _cleaned(text: str, options: Options) -> str:
    """Return what gRPC or a server says, short, on one line, and without the token."""
    for sign, cause in _CAUSES:
        if sign in text:
            return cause
    if options.token:
        text = text.replace(options.token, "***")
    text = _CONTROL.sub(" ", text.split("gRPC client debug context")[0]).strip()
    return text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 3]}..."
