"""Facts about a server and its table: what the action ``info`` answers.

A JSON object. A client ignores keys that it does not know.

=================== ================================================================================
``protocol``        the version of the protocol, 1
``embstore``        the version of the package, for messages
``fingerprint``     of the table: servers of one table have the same
``rows``            rows of the whole table
``row_shape``       list of int
``dtype``           of rows, as in NumPy, or ``bfloat16``, ``float8_e4m3fn``, ...
``encoding``        the name of the encoding; ``"plain"`` for numbers as they are
``record_bytes``    bytes of a row as it is stored
``stored``          an object: the encoding's parameters, as in a manifest, for clients that ask for
                    ``raw`` rows and decode them; null for plain rows, and where there is no such
                    description
``partition_count`` partitions of the whole table
``strategy``        ``"mod"`` or ``"div"``
``partitions``      list of the partitions that this server has
``has_words``       whether it answers requests with words
``unk``             the word whose row stands for unknown words, or null
``name``            the last part of the store's path, for messages
``limits``          an object: ``rows`` of a request, ``request_bytes`` of its payload, requests at
                    a time (``requests``), open streams at a time (``streams``), ``memory_bytes``
                    of rows at a time, ``wait_seconds`` until a server that is busy says so
=================== ================================================================================
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from embstore.serving.protocol import PROTOCOL, RequestError, load_object

INFO_BYTES_MAX = 16 << 20  # A list of all partitions can be long.


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes at most; see the module.

    Attributes
    ----------
    rows : int
        Ids or words of a request.
    request_bytes : int
        Bytes of a request's payload.
    requests : int
        Requests that run at the same time.
    streams : int
        Streams that are open at the same time.
    memory_bytes : int
        Bytes of rows in memory at the same time.
    wait_seconds : float
        How long a request waits until it is refused as one too many.
    """

    rows: int
    request_bytes: int
    requests: int
    streams: int
    memory_bytes: int
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about a server and its table; see the module for each."""

    fingerprint: str
    rows: int
    row_shape: tuple[int, ...]
    dtype: str
    encoding: str
    record_bytes: int
    partition_count: int
    strategy: str
    partitions: tuple[int, ...]
    has_words: bool
    unk: str | None
    name: str
    limits: Limits
    stored: dict[str, Any] | None = None
    embstore: str = ""
    protocol: int = PROTOCOL

    def to_json(self) -> bytes:
        """Return the answer's bytes."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Facts:
        """Return the facts that an answer holds, its types and bounds checked.

        Raises
        ------
        RequestError
            If anything is missing, of another type, or contradicts the rest.
        """
        values = load_object(text, "the info", most=INFO_BYTES_MAX)
        if values.get("protocol") != PROTOCOL:
            raise RequestError(
                f"the server speaks version {values.get('protocol')!r} of the protocol, this "
                f"embstore version {PROTOCOL}; use the same embstore on both sides"
            )
        known: dict[str, Any] = {field.name: _value(values, field.name) for field in fields(cls)}
        facts = cls(**known)
        if facts.strategy not in ("mod", "div"):
            raise RequestError(f"the info's strategy is {facts.strategy[:100]!r}")
        ascending = sorted(set(facts.partitions))
        if list(facts.partitions) != ascending or not ascending:
            raise RequestError("the info's partitions do not ascend, or are none")
        if not 0 <= ascending[0] <= ascending[-1] < facts.partition_count:
            raise RequestError(
                f"the info's partitions are {ascending[0]} to {ascending[-1]}, of "
                f"{facts.partition_count}"
            )
        return facts


_TEXTS = ("fingerprint", "dtype", "encoding", "strategy", "name", "embstore")
_COUNTS = ("rows", "record_bytes", "partition_count", "protocol")


def _value(values: dict[str, Any], name: str) -> Any:
    value = values.get(name)
    if name in _TEXTS:
        good = isinstance(value, str)
    elif name in _COUNTS:
        good = _is_count(value)
    elif name in ("row_shape", "partitions"):
        good = isinstance(value, list) and all(map(_is_count, value))
        value = tuple(value) if isinstance(value, list) and good else value
    elif name == "stored":
        good = value is None or isinstance(value, dict)
    elif name == "unk":
        good = value is None or isinstance(value, str)
    elif name == "has_words":
        good = isinstance(value, bool)
    else:
        return _limits(value)
    if not good:
        raise RequestError(f"the info's {name} is {repr(value)[:100]}")
    return value


def _limits(value: Any) -> Limits:
    names = [field.name for field in fields(Limits)]
    if not isinstance(value, dict):
        raise RequestError(f"the info's limits are {repr(value)[:100]}")
    for name in names:
        number = value.get(name)
        wait = name == "wait_seconds" and isinstance(number, float) and number >= 0
        if not (wait or _is_count(number)):
            raise RequestError(f"the info's limit of {name} is {repr(number)[:100]}")
    return Limits(**{name: value[name] for name in names})


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
