"""Failures of requests: what an error of obstore means, in words without anything secret.

An error of obstore tells the whole request, and what the server said to it. Only harmless parts
are taken from it: the HTTP status, the name of the store's own error code, and the kind of network
error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

# What to do about a failure: "again" may help soon; "unknown" hosts and "doubtful" answers get few
# attempts.
Kind = Literal["missing", "denied", "exists", "changed", "again", "unknown", "doubtful", "final"]

_STATUS = re.compile(r"status code:? (\d{3})|status: (\d{3})")
_CODE = re.compile(r"<Code>([A-Z][A-Za-z]{2,39})</Code>")
_RETRIED_STATUS = {408, 425, 429, 500, 502, 503, 504}
# A conflict of two writers that S3 asks to try again.
_RETRIED_CODES = {"ConditionalRequestConflict", "OperationAborted", "InternalError", "SlowDown"}
# A missing bucket or container, for which a missing object would be the wrong news.
_ROOT_CODES = {"NoSuchBucket", "ContainerNotFound"}
_BY_CLASS: dict[str, tuple[Kind, str]] = {
    "NotFoundError": ("missing", "it does not exist"),
    "FileNotFoundError": ("missing", "it does not exist"),
    "PermissionDeniedError": ("denied", "permission denied"),
    "UnauthenticatedError": ("denied", "not authenticated"),
    "AlreadyExistsError": ("exists", "there is one, or another writer"),
    "PreconditionError": ("changed", "it was changed"),
    "NotModifiedError": ("doubtful", "the server says that it was not modified, unasked"),
    "NotSupportedError": ("doubtful", "the answer is not the range that was asked for"),
    "UnknownConfigurationKeyError": ("final", "obstore does not know an option: update obstore"),
}
# Listings raise no class of their own for these.
_BY_STATUS: dict[int, tuple[Kind, str]] = {
    401: _BY_CLASS["UnauthenticatedError"],
    403: _BY_CLASS["PermissionDeniedError"],
    404: _BY_CLASS["NotFoundError"],
    412: _BY_CLASS["PreconditionError"],
    416: ("doubtful", "it has fewer bytes than were asked for"),
}
# Parts of messages, in the order in which they are looked for. obstore gives no other sign.
_BY_TEXT: tuple[tuple[str, Kind, str], ...] = (
    ("InvalidCertificate", "final", "the server's certificate is not trusted"),
    ("BareRedirect", "final", "the bucket is in another region: set AWS_REGION"),
    ("BadScheme", "final", "the server redirects to plain http, which is refused"),
    ("kind: Redirect", "doubtful", "the server redirects in a circle, or to nowhere"),
    ("dns error", "unknown", "the name of the host is unknown"),
    ("failed to lookup address", "unknown", "the name of the host is unknown"),
    ("ConnectionRefused", "again", "the connection was refused"),
    ("ConnectionReset", "again", "the connection was reset"),
    ("BrokenPipe", "again", "the connection was reset"),
    ("IncompleteMessage", "again", "the connection was closed before the answer ended"),
    ("UnexpectedEof", "again", "the connection was closed before the answer ended"),
    ("TimedOut", "again", "no answer in time"),
    ("kind: Timeout", "again", "no answer in time"),
    ("ConnectError", "again", "no connection"),
    ("Parse(", "again", "the answer is not HTTP"),
    ("kind: Interrupted", "again", "the connection was cut"),
    ("kind: Request", "again", "the request could not be sent"),
    ("NotPartial", "doubtful", "the answer is the whole object, not the range asked for (200)"),
    ("UnexpectedRange", "doubtful", "the answer is another range than was asked for"),
    ("InvalidRangeRequest", "doubtful", "it has fewer bytes than were asked for"),
    ("ContentRange", "doubtful", "the answer does not say which range it is"),
    ("MissingContentLength", "doubtful", "the answer does not say how long it is"),
    ("kind: Decode", "doubtful", "the answer cannot be decoded"),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request failed: a kind, and words for a message.

    ``is_root`` says that not only the object is missing, but its bucket.
    """

    kind: Kind
    reason: str
    is_root: bool = False


def failure_of(error: BaseException) -> Failure:
    """Return what an error of obstore means."""
    text = str(error)
    found = _STATUS.search(text)
    status = int(found[1] or found[2]) if found else 0
    match = _CODE.search(text)
    code = match[1] if match else ""
    told = " ".join([str(status)] * bool(status) + [code] * bool(code))
    if status in _RETRIED_STATUS or code in _RETRIED_CODES:
        return Failure("again", f"the server answers {told}")
    if code in _ROOT_CODES:
        return Failure("missing", f"the bucket or container does not exist ({code})", True)
    names = [one.__name__ for one in type(error).__mro__ if one.__name__ in _BY_CLASS]
    if names:
        kind, reason = _BY_CLASS[names[0]]
        return Failure(kind, f"{reason} ({told})" if told else reason)
    return _by_status(status, told) or _by_text(text, type(error).__name__)


def _by_status(status: int, told: str) -> Failure | None:
    if status in _BY_STATUS:
        kind, reason = _BY_STATUS[status]
        return Failure(kind, f"{reason} ({told})")
    return Failure("final", f"the server answers {told}") if status >= 300 else None


def _by_text(text: str, name: str) -> Failure:
    for part, kind, reason in _BY_TEXT:
        if part in text:
            return Failure(kind, reason)
    return Failure("doubtful", f"the answer is not valid ({name})")
