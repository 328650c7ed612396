"""Requests to servers by pyarrow's Flight alone, written from the protocol's specification."""

from __future__ import annotations

import json
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

SECONDS = 300.0


class RefusedError(Exception):
    """An error that a server told.

    Attributes
    ----------
    kind : str
        Which; empty if it came from gRPC itself.
    attributes : dict
        More facts.
    """

    def __init__(self, message: str, kind: str = "", attributes: Any = None) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind, self.attributes = kind, attributes or {}


class Client:
    """A client of one server.

    Parameters
    ----------
    address : str
        The server's.
    token : str, optional
        Its token.
    options : dict
        Of ``pyarrow.flight.connect``.
    """

    def __init__(self, address: str, token: str | None = None, **options: Any) -> None:
        from pyarrow import flight

        self.flight = flight
        self.client = flight.connect(address, **options)
        headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
        self.options = flight.FlightCallOptions(timeout=SECONDS, headers=headers)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Raise errors of the server as `RefusedError`."""
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError, KeyError) as error:
            extra = getattr(error, "extra_info", b"")
            if not extra:
                raise RefusedError(str(error)) from error
            assert len(extra) <= 4096
            told = json.loads(extra)
            assert set(told) == {"kind", "message", "attributes"}
            raise RefusedError(told["message"], told["kind"], told["attributes"]) from error

    def act(self, name: str) -> Any:
        """Return the answer to an action."""
        with self.told():
            (found,) = self.client.do_action(name, self.options)
            return json.loads(found.body.to_pybytes())

    def start(self, ticket: bytes) -> Any:
        """Ask, and return the reader of the answer."""
        return self.client.do_get(self.flight.Ticket(ticket), self.options)

    def get(self, header: Any, payload: bytes = b"") -> Any:
        """Return the column of an answer, and check its batches."""
        with self.told():
            reader = self.start(ticket(header, payload))
            batches, rows = [], 0
            for chunk in reader:
                assert struct.unpack("<QQ", chunk.app_metadata) == (0, rows)
                check_batch(chunk.data)
                rows += chunk.data.num_rows
                batches.append(chunk.data)
            return column(batches, reader.schema)

    @contextmanager
    def stream(self, header: Any) -> Iterator[Stream]:
        """Open a stream."""
        with self.told():
            descriptor = self.flight.FlightDescriptor.for_command(ticket(header, b""))
            writer, reader = self.client.do_exchange(descriptor, self.options)
            stream = Stream(writer, reader)
            try:
                yield stream
            finally:
                reader.cancel()

    def first(self, command: bytes) -> Any:
        """Open a stream by the bytes of its command, and return its first batch."""
        return self.read(self.flight.FlightDescriptor.for_command(command))

    def read(self, descriptor: Any) -> Any:
        """Open a stream, and return its first batch."""
        with self.told():
            _, reader = self.client.do_exchange(descriptor, self.options)
            return reader.read_chunk()

    def close(self) -> None:
        self.client.close()


class Stream:
    """A stream of requests."""

    def __init__(self, writer: Any, reader: Any) -> None:
        self.writer, self.reader, self.number = writer, reader, 7

    def send(self, payload: bytes) -> int:
        """Send a request; return its number."""
        self.number += 1
        self.writer.write_metadata(struct.pack("<Q", self.number) + payload)
        return self.number

    def receive(self, number: int, count: int) -> Any:
        """Return the column of the answer to a request of ``count`` rows."""
        batches: list[Any] = []
        rows = 0
        while not batches or rows < count:
            chunk = self.reader.read_chunk()
            assert struct.unpack("<QQ", chunk.app_metadata) == (number, rows)
            if count:
                check_batch(chunk.data)
            rows += chunk.data.num_rows
            batches.append(chunk.data)
        assert rows == count
        return column(batches, self.reader.schema)

    def ask(self, payload: bytes, count: int) -> Any:
        """Send a request, and return the column of its answer."""
        return self.receive(self.send(payload), count)


def check_batch(batch: Any) -> None:
    """Check the size of a batch."""
    assert batch.num_rows
    assert batch.num_rows == 1 or batch.nbytes <= 1 << 20
    batch.validate(full=True)


def column(batches: list[Any], schema: Any) -> Any:
    """Return the one column of batches."""
    import pyarrow as pa

    return pa.Table.from_batches(batches, schema).column(0).combine_chunks()


def ticket(header: Any, payload: bytes = b"") -> bytes:
    """Return a request, given its header as a dict or as bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return b"EMBS" + struct.pack("<I", len(text)) + text + payload


def ids(*numbers: Any) -> bytes:
    """Return ids as a payload."""
    return np.asarray(numbers[0] if len(numbers) == 1 else numbers, "<i8").tobytes()


def words(*some: str) -> bytes:
    """Return words as a payload."""
    encoded = [word.encode("utf-8", "surrogatepass") for word in some]
    lengths = [len(encoded), *map(len, encoded)]
    return struct.pack(f"<{len(lengths)}I", *lengths) + b"".join(encoded)


def refused(error: pytest.ExceptionInfo[RefusedError]) -> str:
    """Return the kind of an error that a server told."""
    return error.value.kind
