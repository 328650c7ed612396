"""Flight servers of a table in RAM, some of which misbehave on purpose."""

from __future__ import annotations

import json
import threading
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import flight

from embstore.serving.facts import Facts, Limits
from embstore.serving.failures import Failure, FingerprintError, TokenError
from embstore.serving.protocol import (
    SCHEMA_KEY,
    Header,
    pack_place,
    split_message,
    split_ticket,
    split_words,
)
from embstore.serving.stalls import cut_connections

_LIMITS = {"rows": 1 << 20, "request_bytes": 8 << 20, "requests": 8, "streams": 8}
_LIMITS |= {"memory_bytes": 1 << 30, "wait_seconds": 1}
LIMITS = Limits(**{field.name: _LIMITS[field.name] for field in fields(Limits)})


def facts_of(table: np.ndarray, **others: Any) -> Facts:
    """Return the facts of a table in one partition."""
    return replace(
        Facts(
            fingerprint=32 * "a",
            rows=len(table),
            row_shape=table.shape[1:],
            dtype=table.dtype.name,
            encoding="plain",
            record_bytes=table[:0].nbytes // max(len(table), 1) or table.itemsize * table[0].size,
            partition_count=1,
            strategy="mod",
            partitions=(0,),
            has_words=False,
            unk=None,
            name="t.embstore",
            limits=LIMITS,
        ),
        **others,
    )


class TableServer(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types.
    """A server of an ndarray; subclasses change what it answers."""

    batch_rows = 100

    def __init__(self, table, facts=None, *, port=0, token=None, words=None, **options):
        self.table = np.ascontiguousarray(table)
        self.facts = facts or facts_of(self.table)
        self.words, self.asked, self.hold = words, [], threading.Event()
        self.of = threading.local()  # The request that this thread answers.
        options["middleware"] = {"token": _Tokens(token)} if token else {}
        super().__init__(f"grpc://127.0.0.1:{port}", **options)

    @property
    def address(self):
        return f"grpc://127.0.0.1:{self.port}"

    def do_action(self, context, action):
        return [self.info()]

    def shutdown(self):
        """End at once: idle streams would keep it."""
        ending = threading.Thread(target=super().shutdown)
        ending.start()
        while ending.is_alive():
            cut_connections(self.port)
            ending.join(0.05)

    def info(self):
        return self.facts.to_json()

    def do_get(self, context, ticket):
        self.of.number = 0
        header, payload = self.header(ticket.ticket)
        return flight.GeneratorStream(*self.answer(header, payload))

    def do_exchange(self, context, descriptor, reader, writer):
        header, _ = self.header(descriptor.command)
        has_begun = False
        while True:
            try:
                message = memoryview(reader.read_chunk().app_metadata)
            except StopIteration:
                return
            self.of.number, payload = split_message(message)
            schema, batches = self.answer(header, payload)
            if not has_begun:
                writer.begin(schema)
                has_begun = True
            for batch, *place in batches:
                if place:
                    writer.write_with_metadata(batch, *place)
                else:
                    writer.write_batch(batch)

    def header(self, ticket):
        text, payload = split_ticket(ticket)
        header = Header.from_json(text)
        self.asked.append(header)
        if header.fingerprint != self.facts.fingerprint:
            raise _flight_error(FingerprintError("another table", self.facts.fingerprint))
        return header, payload

    def place(self, position):
        return pack_place(getattr(self.of, "number", 0), position)  # A call has another thread.

    def answer(self, header, payload):
        if header.operation == "rows":
            return self.rows(np.frombuffer(payload, "<i8"))
        if header.operation == "ids":
            words = split_words(payload, most=1 << 20)
            ids = [self.words.index(word) if word in self.words else -1 for word in words]
            return self.stream("ids", pa.array(ids, pa.int64()))
        ids = np.frombuffer(payload, "<i8").tolist()
        return self.stream("words", pa.array([self.words[i] for i in ids], pa.large_utf8()))

    def rows(self, ids):
        return self.stream("rows", self.binary(self.table[ids]))

    def binary(self, rows):
        size = self.facts.record_bytes
        data = pa.py_buffer(np.ascontiguousarray(rows).tobytes())
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(rows), [None, data])

    def schema(self, name, kind, fingerprint=None):
        told = {"protocol": 1, "fingerprint": fingerprint or self.facts.fingerprint}
        return pa.schema([(name, kind)], metadata={SCHEMA_KEY: json.dumps(told).encode()})

    def stream(self, name, values):
        schema = self.schema(name, values.type)
        return schema, self.batches(schema, values)

    def batches(self, schema, values):
        for start in range(0, len(values), self.batch_rows):
            some = values.slice(start, self.batch_rows)
            yield pa.record_batch([some], schema=schema), self.place(start)


class _Tokens(flight.ServerMiddlewareFactory):  # type: ignore[misc]  # As above.
    def __init__(self, token):
        self.token = token

    def start_call(self, info, headers):
        if headers.get("authorization") != [f"Bearer {self.token}"]:
            raise _flight_error(
                TokenError("no token, or a wrong one"), flight.FlightUnauthenticatedError
            )


def _flight_error(error, kind=flight.FlightServerError):
    return kind(str(error), Failure.of(error).to_json())
