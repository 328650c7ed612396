"""The wire protocol between a server of a store and its clients: Arrow Flight, version 1.

Enough is said here to write a client in another language. Numbers in bytes are little-endian; text
is UTF-8; JSON has no duplicate keys.

**Requests.** A *request* is a header and a payload. The header is a JSON object, at most 4,096
bytes, with these keys and no others; all but the first may be left out:

=============== ====================================================================================
``operation``   ``"rows"``, ``"word_rows"``, ``"ids"``, ``"words"`` or ``"prefetch"``
``form``        of rows: ``"binary"`` (the default) or ``"lists"``
``dtype``       of rows: the dtype of the numbers, such as ``"float32"``; by default the store's
``raw``         of rows: ``true`` for the bytes of each row as they are stored; not with ``dtype``
``missing``     of words: ``"error"`` (the default), ``"unk"``; for ``word_rows`` also
                ``"zeros"``, for ``ids`` also ``"none"``
``fingerprint`` the table that the client expects; a server of another one refuses
=============== ====================================================================================

============= ================ ======================================= =============================
operation     payload          answer: one column                      equals, of a local store
============= ================ ======================================= =============================
``rows``      ids              ``rows``                                ``lookup(ids)``
``word_rows`` words            ``rows``                                ``lookup_words(words)``
``ids``       words            ``ids``, int64; -1 is missing           ``ids(words)``
``words``     ids              ``words``, large_utf8                   ``words(ids)``
``prefetch``  ids              ``ids``, int64, without rows            ``prefetch(ids)``
============= ================ ======================================= =============================

*ids* are int64, 8 bytes each, and nothing else. *words* are a uint32 count, so many uint32 lengths
in bytes, and the words, one behind the other; a lone surrogate, which is in no vocabulary, is three
bytes. A payload may be empty of ids (0 bytes) or words (a count of 0); then the answer has no rows.

**Two ways to send them.** ``DoGet``: the ticket is ``b"EMBS"``, the length of the header in bytes
as uint32, the header, the payload. One request, one call; the deadline of the call bounds it.

``DoExchange``: the descriptor's command is ``b"EMBS"``, the length of the header, the header. The
server begins at once with the schema of the answers. Each message of the client then has metadata
only (``app_metadata``, no record batch, and the client's stream has no schema): a uint64 number
that the client chooses, then a payload. They are answered in order. An error ends the stream; what
was asked behind it on this stream is not answered. The client ends the stream with
``done_writing``. One stream serves one thread at a time. Measured on loopback with rows of 1,200
bytes, a request of 16 rows takes 0.44 ms on a stream that is kept, and 0.81 ms by ``DoGet``; 4,096
rows and more take the same time.

**Answers** come as record batches of 1 MiB or less, unless a single row is larger, in request
order; no batch is empty. The metadata of a batch are two uint64: the number of the request (0 for
``DoGet``), and the position of the batch's first row in the answer. A request without rows is
answered by one batch of 0 rows on a stream, and by no batch for ``DoGet``. A client counts the rows
and compares numbers and positions: it must not use an answer that does not fit what it asked, and
must not use a stream again after an error, a time-out, or an answer that it did not read whole.

The column ``rows`` in the form ``"binary"`` is a fixed_size_binary: the numbers of a row in C
order, little-endian; ``bfloat16`` and ``float8`` are their bits. In the form ``"lists"`` it is a
fixed_size_list of the dtype, a row's numbers in C order (``raw``: of uint8), or the dtype itself
for rows that are scalars; dtypes without an Arrow type (bfloat16, float8, opaque) are refused, and
``dtype="float32"`` is the remedy. The schema's metadata, key ``embstore``, is a JSON object:
``protocol``, ``dtype`` and ``row_shape`` of the rows as they come, ``fingerprint`` of the table.

**Actions** have an empty body, and answer with one result, a JSON object:

==========  ========================================================================================
``info``    facts that do not change: ``embstore.serving.facts`` explains each key
``stats``   counts since the server began: see ``embstore.serving.counts``
``health``  ``{"status": "serving"}``, or ``"closing"`` when it takes no more requests
==========  ========================================================================================

**Errors** are Flight errors. Their extra info (``extra_info``), where it is not empty, is a JSON
object of at most 4,096 bytes: ``kind``, ``message``, and ``attributes``, an object. Where they come
from gRPC itself, as for a lost connection, there is none. See ``embstore.serving.failures``, which
lists the kinds.

**Token.** A server with a token wants the header ``authorization: Bearer TOKEN`` with each call,
actions too. Without the right one, the call fails with the kind ``TokenError``, before anything
else is looked at.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

from embstore.errors import EmbstoreError

PROTOCOL: Final = 1
MAGIC: Final = b"EMBS"
HEADER_BYTES_MAX: Final = 4096
PIECE_BYTES: Final = 1 << 20  # Of a record batch. Smaller and larger ones are slower.
SCHEMA_KEY: Final = b"embstore"
AUTHORIZATION: Final = "authorization"
BEARER: Final = "Bearer "

Operation = Literal["rows", "word_rows", "ids", "words", "prefetch"]
Form = Literal["binary", "lists"]
MissingName = Literal["error", "unk", "zeros", "none"]
Action = Literal["info", "stats", "health"]
ACTIONS: Final[dict[str, str]] = {
    "info": "Facts about the table and the server, as a JSON object.",
    "stats": "Counts of requests, rows and bytes since the server began, as a JSON object.",
    "health": 'Whether it takes requests: {"status": "serving"} or {"status": "closing"}.',
}

_PREFIX = struct.Struct("<4sI")  # The magic bytes, the length of the header.
_NUMBER = struct.Struct("<Q")  # Of a request on a stream.
_PLACE = struct.Struct("<QQ")  # The request's number, the position of a batch's first row.
_COUNT = struct.Struct("<I")  # Of words.
_MISSING: dict[str, tuple[str, ...]] = {
    "word_rows": ("error", "unk", "zeros"),
    "ids": ("error", "unk", "none"),
}


class RequestError(EmbstoreError, ValueError):
    """A request that does not follow the protocol."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is asked: the header of a request.

    Attributes
    ----------
    operation : {"rows", "word_rows", "ids", "words", "prefetch"}
    form : {"binary", "lists"}
    dtype : str, optional
        Of the rows; None for the store's.
    raw : bool
        Whether rows come as they are stored.
    missing : {"error", "unk", "zeros", "none"}
        What to do with missing words.
    fingerprint : str, optional
        Of the table that the client expects.

    Raises
    ------
    RequestError
        If a value is not allowed.

    Examples
    --------
    >>> Header("rows", raw=True).to_json()
    b'{"operation":"rows","raw":true}'
    >>> Header.from_json(b'{"operation": "ids", "missing": "none"}').missing
    'none'
    """

    operation: Operation
    form: Form = "binary"
    dtype: str | None = None
    raw: bool = False
    missing: MissingName = "error"
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        _one_of("operation", self.operation, get_args(Operation))
        _one_of("form", self.form, get_args(Form))
        _one_of("missing", self.missing, _MISSING.get(self.operation, ("error",)))
        for name in ("dtype", "fingerprint"):
            value = getattr(self, name)
            if not isinstance(value, str | None) or value == "":
                raise RequestError(f"the header's {name} must be a name, not {self._show(name)}")
        if not isinstance(self.raw, bool):
            raise RequestError(f"the header's raw must be true or false, not {self._show('raw')}")
        if self.raw and self.dtype is not None:
            raise RequestError("raw gives bytes as they are stored, so it takes no dtype")
        if not self.gives_rows and (self.raw or self.dtype or self.form != "binary"):
            raise RequestError(f"{self.operation} gives no rows: it takes no form, dtype or raw")

    def _show(self, name: str) -> str:
        return repr(getattr(self, name))[:100]

    @property
    def gives_rows(self) -> bool:
        """Whether the answer is rows."""
        return self.operation in ("rows", "word_rows")

    @property
    def takes_words(self) -> bool:
        """Whether the payload is words; else it is ids."""
        return self.operation in ("word_rows", "ids")

    def to_json(self) -> bytes:
        """Return the header's bytes, without what is the default."""
        values = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }
        return json.dumps(values, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Header:
        """Return the header that bytes hold, or raise RequestError."""
        values = load_object(text, "the header", most=HEADER_BYTES_MAX)
        known = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise RequestError(
                f"the header has the unknown key {unknown[0][:100]!r}; version {PROTOCOL} of the "
                f"protocol has {', '.join(sorted(known))}"
            )
        if "operation" not in values:
            raise RequestError("the header has no operation")
        return cls(**values)


def load_object(text: bytes, what: str, *, most: int) -> dict[str, Any]:
    """Return the JSON object that bytes from outside hold.

    Raises
    ------
    RequestError
        If they are more than ``most`` bytes, or hold anything else.
    """
    if len(text) > most:
        raise RequestError(f"{what} has {len(text)} bytes; at most {most} are allowed")
    try:
        values = json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{what} is not a JSON object: {str(error)[:100]}") from None
    if not isinstance(values, dict):
        raise RequestError(f"{what} must be a JSON object, not {type(values).__name__}")
    return values


def pack_ticket(header: Header, payload: bytes | memoryview = b"") -> bytes:
    r"""Return the bytes of a ticket; without a payload, those of a stream's command.

    Examples
    --------
    >>> pack_ticket(Header("rows"), np.array([7], "<i8").tobytes())[:12]
    b'EMBS\x14\x00\x00\x00{"op'
    """
    text = header.to_json()
    return b"".join((_PREFIX.pack(MAGIC, len(text)), text, payload))


def split_ticket(ticket: bytes) -> tuple[bytes, memoryview]:
    """Return the bytes of the header and the payload of a ticket or command, or RequestError."""
    if len(ticket) < _PREFIX.size:
        raise RequestError(f"the request has {len(ticket)} bytes; its prefix alone has 8")
    magic, length = _PREFIX.unpack_from(ticket)
    if magic != MAGIC:
        raise RequestError(f"the request begins with {magic!r}, not with {MAGIC!r}")
    if length > HEADER_BYTES_MAX:
        raise RequestError(f"the header has {length} bytes; at most {HEADER_BYTES_MAX} are allowed")
    stop = _PREFIX.size + length
    if len(ticket) < stop:
        raise RequestError(f"the header should have {length} bytes, but the request ends before")
    return ticket[_PREFIX.size : stop], memoryview(ticket)[stop:]


def pack_message(number: int, payload: bytes | memoryview) -> bytes:
    """Return the metadata of a message on a stream."""
    return b"".join((_NUMBER.pack(number), payload))


def split_message(metadata: memoryview) -> tuple[int, memoryview]:
    """Return the number and the payload of a message on a stream, or raise RequestError."""
    if len(metadata) < _NUMBER.size:
        raise RequestError(f"a message has {len(metadata)} bytes; its number alone has 8")
    return _NUMBER.unpack_from(metadata)[0], metadata[_NUMBER.size :]


def pack_place(number: int, position: int) -> bytes:
    """Return the metadata of a batch of an answer."""
    return _PLACE.pack(number, position)


def split_place(metadata: bytes | memoryview) -> tuple[int, int]:
    """Return a request's number and the position of a batch's first row, or RequestError."""
    if len(metadata) != _PLACE.size:
        raise RequestError(f"a batch has {len(metadata)} bytes of metadata instead of 16")
    number, position = _PLACE.unpack(metadata)
    return number, position


def pack_words(words: list[str]) -> bytes:
    r"""Return words as a payload.

    Examples
    --------
    >>> pack_words(["like", "a"])
    b'\x02\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00likea'
    """
    encoded = [word.encode("utf-8", "surrogatepass") for word in words]
    lengths = struct.pack(f"<{len(encoded)}I", *map(len, encoded))
    return b"".join((_COUNT.pack(len(encoded)), lengths, *encoded))


def split_words(payload: memoryview, *, most: int) -> list[str]:
    """Return the words of a payload, at most ``most`` of them, or raise RequestError."""
    if len(payload) < _COUNT.size:
        raise RequestError(f"the payload has {len(payload)} bytes; the count of words alone has 4")
    (count,) = _COUNT.unpack_from(payload)
    if count > most:
        raise RequestError(f"the payload has {count} words; at most {most} are allowed")
    begin = _COUNT.size * (count + 1)
    if len(payload) < begin:
        raise RequestError(f"the payload has {len(payload)} bytes, too few for {count} words")
    lengths = struct.unpack_from(f"<{count}I", payload, _COUNT.size)
    if begin + sum(lengths) != len(payload):
        raise RequestError(
            f"the words should have {sum(lengths)} bytes, but {len(payload) - begin} are there"
        )
    words, text = [], bytes(payload[begin:])
    stop = 0
    try:
        for length in lengths:
            start, stop = stop, stop + length
            words.append(text[start:stop].decode("utf-8", "surrogatepass"))
    except UnicodeDecodeError as error:
        raise RequestError(f"word {len(words)} of the payload is not UTF-8: {error}") from None
    return words


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise RequestError(
            f"the header's {name} must be {' or '.join(allowed)}, not {repr(value)[:100]}"
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key comes twice")
    return values
