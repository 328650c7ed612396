"""Failures of requests: what an error of obstore means, in words without anything secret.

An error of obstore tells the whole request, and what the server said to it. Only harmless parts
are taken from it: the HTTP status, the name of the store's own error code, and the kind of network
error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

# What to do about a failure: "again" may help soon; "doubtful" answers get a few attempts.
Kind = Literal["missing", "denied", "exists", "changed", "again", "doubtful", "final"]

_STATUS = re.compile(r"status code:? (\d{3})|status: (\d{3})")
_CODE = re.compile(r"<Code>([A-Z][A-Za-z]{2,39})</Code>")
_RETRIED_STATUS = {408, 425, 429, 500, 502, 503, 504}
_BY_CLASS: dict[str, tuple[Kind, str]] = {
    "NotFoundError": ("missing", "it is missing"),
    "FileNotFoundError": ("missing", "it is missing"),
    "PermissionDeniedError": ("denied", "permission denied"),
    "UnauthenticatedError": ("denied", "not authenticated"),
    "AlreadyExistsError": ("exists", "it exists already"),
    "PreconditionError": ("changed", "it was changed meanwhile"),
    "NotModifiedError": ("changed", "it was changed meanwhile"),
    "NotSupportedError": ("doubtful", "the answer to a request for a range is not that range"),
    "UnknownConfigurationKeyError": ("final", "obstore does not know an option: update obstore"),
}
# Parts of messages, in the order in which they are looked for.
_BY_TEXT: tuple[tuple[str, Kind, str], ...] = (
    ("invalid peer certificate", "final", "the server's certificate is not trusted"),
    ("BareRedirect", "final", "the bucket is in another region: set AWS_REGION"),
    ("without LOCATION", "final", "the bucket is in another region: set AWS_REGION"),
    ("URL scheme is not allowed", "final", "plain http is not allowed here"),
    ("too many redirects", "doubtful", "the server redirects in a circle"),
    ("dns error", "doubtful", "the host name is not known"),
    ("failed to lookup address", "doubtful", "the host name is not known"),
    ("ConnectionRefused", "again", "connection refused"),
    ("kind: Connect", "again", "no connection"),
    ("ConnectionReset", "again", "the connection was reset"),
    ("BrokenPipe", "again", "the connection was reset"),
    ("IncompleteMessage", "again", "the connection was closed before the answer ended"),
    ("UnexpectedEof", "again", "the connection was closed before the answer ended"),
    ("TimedOut", "again", "no answer in time"),
    ("kind: Timeout", "again", "no answer in time"),
    ("kind: Interrupted", "again", "the connection was cut"),
    ("kind: Request", "again", "the request could not be sent"),
    ("kind: Decode", "doubtful", "the answer is not HTTP, or was cut"),
    ("Content-Range", "doubtful", "the answer is not the range that was asked for"),
    ("content range", "doubtful", "the answer is not the range that was asked for"),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request failed: a kind, and words for a message."""

    kind: Kind
    reason: str


def failure_of(error: Exception) -> Failure:
    """Return what an error of obstore means."""
    text = str(error)
    status = _status(text)
    code = _CODE.search(text)
    told = ", ".join([f"status {status}"] * bool(status) + [code[1] if code else ""]).strip(", ")
    for name in (one.__name__ for one in type(error).__mro__):
        if name in _BY_CLASS:
            kind, reason = _BY_CLASS[name]
            return Failure(kind, f"{reason} ({told})" if told else reason)
    if status in _RETRIED_STATUS:
        return Failure("again", f"the server answers {told}")
    if status == 416:
        return Failure("final", "it has fewer bytes than were asked for (status 416)")
    if status and status >= 300:
        return Failure("final", f"the server answers {told}")
    for part, kind, reason in _BY_TEXT:
        if part in text:
            return Failure(kind, reason)
    return Failure("doubtful", f"the request failed ({type(error).__name__})")


def _status(text: str) -> int:
    found = _STATUS.search(text)
    return int(found[1] or found[2]) if found else 0
