"""Answers of an object store: whether they are what was asked for."""

from __future__ import annotations

from typing import Any

from embstore.remote.failures import Failure
from embstore.remote.objects import ObjectInfo
from embstore.remote.requests import RequestError

SHOWN_LENGTH = 100  # Of what a server sent, in a message.


def check_answer(got: Any, first: int, count: int, etag: str | None) -> None:
    """Raise `RequestError` unless an answer is the range that was asked for."""
    start, stop = got.range
    size, found = int(got.meta["size"]), bare(got.meta["e_tag"])
    if etag is not None and found != bare(etag):
        told = f"expected the ETag {bare(etag)}, found {str(found)[:SHOWN_LENGTH]}"
        raise RequestError(Failure("doubtful" if found is None else "changed", told))
    if size < first + count:
        raise RequestError(
            Failure(
                "doubtful",
                f"expected bytes {first} to {first + count - 1}, but it has {size} bytes",
            )
        )
    if (start, stop) != (first, first + count):
        raise RequestError(
            Failure(
                "doubtful",
                f"expected bytes {first} to {first + count - 1}, found {start} to {stop - 1}",
            )
        )
    coding = got.attributes.get("Content-Encoding")
    if coding not in (None, "", "identity"):
        raise RequestError(Failure("doubtful", "the answer is compressed (Content-Encoding)"))


def body_of(got: Any, count: int) -> bytes:
    """Return the bytes of an answer, which must be ``count``."""
    pieces, size = [], 0
    for piece in got.stream(min_chunk_size=max(count, 1)):
        size += len(piece)
        if size > count:
            break
        pieces.append(bytes(piece))
    if size != count:
        more = "more" if size > count else str(size)
        raise RequestError(Failure("doubtful", f"expected {count} bytes, found {more}"))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def info_of(name: str, meta: Any) -> ObjectInfo:
    """Return an object from what obstore says of it."""
    return ObjectInfo(name, int(meta["size"]), bare(meta["e_tag"]), meta["last_modified"])


def bare(etag: str | None) -> str | None:
    """Return an ETag without quotes, which some stores leave out in listings."""
    if not etag:
        return None
    weak, mark, rest = etag.rpartition("W/")
    return f"{weak}{mark}{rest.strip(chr(34))}"


def quoted(etag: str) -> str:
    """Return an ETag as requests have it."""
    return f'"{etag}"'
