"""Streams to a server that are kept: a small request on one takes half the time of a call.

1. A stream belongs to one header, and to one thread at a time; idle ones are kept.
2. gRPC bounds a stream by one deadline, set when it is opened. A request takes a stream whose
   deadline is within its own time, and not before half of that; so it ends in time, and is not cut
   short. A stream serves for the first half of its time.
3. A stream that has failed is dropped. That tells little about the server, which may be back, so
   the request is made again by a call of its own, in the time that is left.
4. A stream is opened only where small requests follow each other closely.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from embstore.serving.forks import keep_in_children
from embstore.serving.protocol import pack_message, pack_ticket
from embstore.serving.replies import batches, check_schema

if TYPE_CHECKING:
    from embstore.serving.calls import Call
    from embstore.serving.protocol import Header
    from embstore.serving.replies import Expected, Put

KEPT_COUNT = 16
CLOSE_SECONDS = 1.0  # Between requests that follow each other closely.


class Stream:
    """An open stream for requests with one header.

    Parameters
    ----------
    client : pyarrow.flight.FlightClient
        The client.
    header : Header
        What is asked.
    options : pyarrow.flight.FlightCallOptions
        With the time-out of the stream.
    end : float
        Its deadline, by the clock of `time.monotonic`.
    """

    def __init__(self, client: Any, header: Header, options: Any, end: float) -> None:
        from pyarrow import flight  # noqa: PLC0415  # Slow, and not always installed.

        self.end = end
        self._process, self._number = os.getpid(), 0
        command = flight.FlightDescriptor.for_command(pack_ticket(header))
        self._writer, self._reader = client.do_exchange(command, options)
        keep_in_children(self._writer)
        keep_in_children(self._reader)

    def ask(self, payload: bytes | memoryview, expected: Expected, put: Put, call: Call) -> None:
        """Make a request, and pass its answer on; after an error, the stream is to be dropped."""
        number = self._number
        self._number += 1
        with call.reading(self._reader):
            self._writer.write_metadata(pack_message(number, payload))
            if not number:
                check_schema(self._reader.schema, expected)
            for position, values in batches(self._reader, expected, number=number):
                put(position, values)

    def drop(self) -> None:
        """Cancel the stream; in a forked child, leave it."""
        if os.getpid() == self._process:
            self._reader.cancel()
            with suppress(Exception):
                self._writer.close()  # Else Arrow prints that it was cancelled.

    def __del__(self) -> None:
        with suppress(Exception):  # Not opened, or the interpreter is ending.
            self.drop()


class Streams:
    """The idle streams to one server; safe to use from many threads."""

    # Its methods take atomic steps and no lock.

    def __init__(self) -> None:
        self._idle: dict[Header, list[Stream]] = {}
        self._last = 0.0

    def take(self, header: Header, seconds: float) -> Stream | None:
        """Return an idle stream for a request that may take some seconds, or None."""
        idle = self._idle.get(header, [])
        while idle:
            try:
                stream = idle.pop()
            except IndexError:
                break
            if seconds / 2 <= stream.end - time.monotonic() <= seconds:
                return stream
        return None

    def give_back(self, header: Header, stream: Stream) -> None:
        """Keep a stream whose last answer was read whole."""
        idle = self._idle.setdefault(header, [])
        if len(idle) < KEPT_COUNT:
            idle.append(stream)

    def is_worth_opening(self) -> bool:
        """Note a small request, and say whether one came shortly before."""
        now, last = time.monotonic(), self._last
        self._last = now
        return now - last < CLOSE_SECONDS

    def drop(self) -> None:
        """Drop all idle streams."""
        self._idle = {}
