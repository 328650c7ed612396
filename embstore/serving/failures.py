"""Errors on the wire: how a server tells them, and how a client raises them again.

The extra info of a Flight error is a JSON object: ``kind``, ``message`` and ``attributes``.

==================== ================================ ==============================================
kind                 attributes                       means; a client of embstore raises
==================== ================================ ==============================================
``IdTypeError``      -                                the same
``IdRangeError``     -                                an id is not in the table, or is in a
                                                      partition that this server lacks; the same
``MissingWordError`` ``words``: the first of them,    the same. For all words that are missing, ask
                     ``word_count``: of all           for ``ids`` with ``missing="none"``
``TypeError``,       -                                options that this table cannot meet; the same
``ValueError``
``RequestError``     -                                not the protocol; RemoteError
``LimitError``       ``rows``, ``request_bytes``:     too large a request; send several
                     the limits
``BusyError``        -                                too many requests at a time; try a replica,
                                                      or again
``ClosingError``     -                                the server ends; try a replica
``TokenError``       -                                no token, or a wrong one; RemoteError
``FingerprintError`` ``fingerprint``: the server's    another table; RemoteError
``StoreError``       -                                the store is damaged, or its files cannot be
                                                      read; RemoteError
``InternalError``    -                                anything else; RemoteError
==================== ================================ ==============================================

gRPC sends the extra info among its headers, which are small, so messages and lists are cut.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from embstore.errors import (
    EmbstoreError,
    IdRangeError,
    IdTypeError,
    MissingWordError,
    StoreError,
)
from embstore.serving.gate import BusyError, ClosingError
from embstore.serving.protocol import RequestError, load_object

FAILURE_BYTES_MAX = 4096
_MESSAGE_LENGTH = 1000  # Escaped in JSON, a character may take 12 bytes; then more is cut.


class LimitError(EmbstoreError, ValueError):
    """A request that is larger than a server takes."""

    def __init__(self, message: str, **limits: int) -> None:
        super().__init__(message)
        self.limits = limits


class TokenError(EmbstoreError):
    """A call without the right token."""


class FingerprintError(EmbstoreError):
    """A client expects another table."""

    def __init__(self, message: str, fingerprint: str) -> None:
        super().__init__(message)
        self.fingerprint = fingerprint


# The first that fits: by class, the most special ones first.
_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (IdTypeError, "IdTypeError"),
    (IdRangeError, "IdRangeError"),
    (MissingWordError, "MissingWordError"),
    (RequestError, "RequestError"),
    (LimitError, "LimitError"),
    (BusyError, "BusyError"),
    (ClosingError, "ClosingError"),
    (TokenError, "TokenError"),
    (FingerprintError, "FingerprintError"),
    (StoreError, "StoreError"),
    (OSError, "StoreError"),
    (TypeError, "TypeError"),
    (ValueError, "ValueError"),
)
# Errors of the caller, which a client raises as they are.
CALLERS: dict[str, type[Exception]] = {
    "IdTypeError": IdTypeError,
    "IdRangeError": IdRangeError,
    "MissingWordError": MissingWordError,
    "TypeError": TypeError,
    "ValueError": ValueError,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is on the wire.

    Attributes
    ----------
    kind : str
        Which error; see the module.
    message : str
        What happened, for people.
    attributes : dict
        More facts.

    Examples
    --------
    >>> failure = Failure.of(IdRangeError("id 11 is out of range"))
    >>> failure.to_json()
    b'{"kind":"IdRangeError","message":"id 11 is out of range","attributes":{}}'
    >>> Failure.from_json(failure.to_json()) == failure
    True
    """

    kind: str
    message: str
    attributes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return an error as it goes to the client."""
        kind = next((kind for known, kind in _KINDS if isinstance(error, known)), "InternalError")
        message = str(error) if kind != "InternalError" else f"{type(error).__name__}: {error}"
        attributes: dict[str, Any] = {}
        if isinstance(error, MissingWordError):
            attributes = {"words": list(error.words), "word_count": len(error.words)}
        elif isinstance(error, LimitError):
            attributes = dict(error.limits)
        elif isinstance(error, FingerprintError):
            attributes = {"fingerprint": error.fingerprint}
        return cls(kind, message, attributes)

    def to_json(self) -> bytes:
        """Return its bytes, cut where they are too long."""
        message, attributes = self.message[:_MESSAGE_LENGTH], dict(self.attributes)
        words = attributes.get("words", [])
        kept = words[:100]
        while True:
            if "words" in attributes:
                attributes["words"] = kept
            values = {"kind": self.kind, "message": message, "attributes": attributes}
            text = json.dumps(values, separators=(",", ":")).encode()
            if len(text) <= FAILURE_BYTES_MAX:
                return text
            if kept:
                kept = kept[: len(kept) // 2]
            else:
                message = message[: len(message) // 2]

    @classmethod
    def from_json(cls, text: bytes) -> Failure | None:
        """Return the failure in the extra info of an error from outside; None if there is none."""
        try:
            values = load_object(text, "the error", most=FAILURE_BYTES_MAX)
        except RequestError:
            return None
        kind, message = values.get("kind"), values.get("message")
        attributes = values.get("attributes", {})
        if not (
            isinstance(kind, str) and isinstance(message, str) and isinstance(attributes, dict)
        ):
            return None
        return cls(kind, message, attributes)

    def callers_error(self) -> Exception | None:
        """Return the error to raise where the caller is at fault; None for all others."""
        known = CALLERS.get(self.kind)
        if known is MissingWordError:
            words = self.attributes.get("words", [])
            good = isinstance(words, list) and all(isinstance(word, str) for word in words)
            return MissingWordError(self.message, words if good else ())
        return None if known is None else known(self.message)
