"""Answers of servers, checked: nothing of one is used unless it fits what was asked.

The protocol, `embstore.serving.protocol`, says what an answer looks like. A batch is checked before
its values are read: its place among the others, its columns, their type, and that no value is
missing. How many bytes a batch may have is bounded by gRPC; see `embstore.serving.link`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from embstore.serving.protocol import SCHEMA_KEY, RequestError, load_object, split_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    # Called with a position in the answer, and the values from there on.
    Put = Callable[[int, Any], None]

_SCHEMA_BYTES_MAX = 1 << 16


class AnswerError(ValueError):
    """An answer that does not fit what was asked."""


class Expected(NamedTuple):
    """What an answer has to be.

    Attributes
    ----------
    column : str
        Name of its one column.
    kind : pyarrow.DataType
        The column's type.
    value_count : int
        Values that were asked for.
    fingerprint : str
        That of the table.
    """

    column: str
    kind: Any
    value_count: int
    fingerprint: str


def batches(
    reader: Any, expected: Expected, *, number: int | None = None
) -> Iterator[tuple[int, Any]]:
    """Yield the values of an answer, in order.

    Parameters
    ----------
    reader : pyarrow.flight.FlightStreamReader
        The answer, whose schema was checked.
    expected : Expected
        What is expected.
    number : int, optional
        That of the request on a stream, which goes on behind the answer; without it, the answer is
        all that comes.

    Yields
    ------
    position : int
        That of the first value in the answer.
    values : pyarrow.Array
        Valid, without nulls; all of an answer's together are ``count``.

    Raises
    ------
    AnswerError
        If the answer is another one, or is longer or shorter.
    """
    _, kind, count, _ = expected
    done = 0
    while number is None or done < count:
        try:
            chunk = reader.read_chunk()
        except StopIteration:
            break
        batch = chunk.data
        if batch is None:
            raise AnswerError("a message has no rows")
        place = b"" if chunk.app_metadata is None else chunk.app_metadata.to_pybytes()
        try:
            answered, position = split_place(place)
        except RequestError as error:
            raise AnswerError(str(error)) from None
        if (answered, position) != (number or 0, done):
            raise AnswerError(
                f"rows from {position} on of request {answered} came; expected those from {done} "
                f"on of request {number or 0}"
            )
        if not 0 < batch.num_rows <= count - done:
            raise AnswerError(f"{batch.num_rows} more rows came after {done} of {count}")
        batch.validate()
        values = batch.column(0)
        if values.type != kind or values.null_count:
            raise AnswerError(f"values are {values.type} with {values.null_count} nulls")
        yield done, values
        done += batch.num_rows
    if done < count:
        raise AnswerError(f"{done} of {count} rows came")


def records_of(values: Any, record_bytes: int) -> NDArray[np.uint8]:
    """Return an array of fixed-size binaries as records, shape (n, record_bytes), read-only."""
    data = values.buffers()[1]
    found = np.frombuffer(data, np.uint8, len(values) * record_bytes, values.offset * record_bytes)
    return found.reshape(len(values), record_bytes)


def ids_of(values: Any) -> NDArray[np.int64]:
    """Return an array of int64 as ids."""
    found: NDArray[np.int64] = values.to_numpy()
    return found


def words_of(values: Any, most_bytes: int) -> list[str]:
    """Return an array of texts, or raise AnswerError if one is not UTF-8."""
    values.validate(full=True)
    if values.nbytes > most_bytes:
        raise AnswerError(f"words of {values.nbytes} bytes came")
    try:
        found: list[str] = values.to_pylist()
    except UnicodeDecodeError as error:
        raise AnswerError(f"a word is not UTF-8: {error}") from None
    return found


def check_schema(schema: Any, expected: Expected) -> None:
    """Raise AnswerError unless the schema of an answer is the expected one."""
    column, kind, _, fingerprint = expected
    if schema.names != [column] or schema.field(0).type != kind:
        found = ", ".join(f"{field.name} {field.type}" for field in list(schema)[:3])
        raise AnswerError(f"it has the columns {found[:200]!r}, expected {column} {kind}")
    text = (schema.metadata or {}).get(SCHEMA_KEY, b"")
    try:
        facts = load_object(text, "the schema's metadata", most=_SCHEMA_BYTES_MAX)
    except RequestError as error:
        raise AnswerError(str(error)) from None
    if facts.get("fingerprint") != fingerprint:
        raise AnswerError(
            f"its table has the fingerprint {json.dumps(facts.get('fingerprint'))[:60]}, that of "
            f"this connection is {fingerprint}"
        )
