"""An object store on 127.0.0.1 that misbehaves on purpose, by a script.

1. `MisbehavingStore` holds objects and answers as S3 does: GET with ranges and conditions, HEAD,
   PUT with conditions, DELETE, copies and listings. Below ``/plain/`` it is a web server of the
   same objects.
2. Each request takes the next behaviour of its ``script``; without any, the answer is honest. A
   behaviour gets the honest answer and the connection, and sends what it likes.
3. Stalls end when the store is closed, so no test waits for one.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.servers import HOST

_REASONS = {200: "OK", 204: "No Content", 206: "Partial Content", 404: "Not Found"}
_MAX_LINE = 65_536


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def key(self) -> str:
        """The object's name: without the bucket, or without ``plain``."""
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]


@dataclass
class Answer:
    """An answer: status, headers, body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    with_body: bool = True

    def head(self, length: int | None = None) -> bytes:
        """Return the status line and the headers, which tell a body of ``length`` bytes."""
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Status')}"]
        headers = {"Content-Length": str(len(self.body) if length is None else length)}
        lines += [f"{name}: {value}" for name, value in (headers | self.headers).items() if value]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def whole(self) -> bytes:
        """Return the answer as it is sent."""
        return self.head() + (self.body if self.with_body else b"")


@dataclass
class Line:
    """The connection that a behaviour sends its answer on."""

    socket: socket.socket
    store: MisbehavingStore
    asked: Asked

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def stall(self) -> None:
        """Wait until the store is closed."""
        self.store.closing.wait()

    def reset(self) -> None:
        """Close the connection by a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


# Sends an answer; returns whether the connection can be used on.
Behaviour = Callable[[Answer, Line], bool]


class MisbehavingStore(socketserver.ThreadingTCPServer):
    """A running store.

    Attributes
    ----------
    url : str
        Its ``http://127.0.0.1:PORT``.
    objects : dict of bytes
        The objects by name.
    script : list of Behaviour
        What the next requests get; the first is taken off by each.
    always : Behaviour or None
        What requests get when the script is empty; None for honest answers.
    asked : list of Asked
        All requests so far.
    closing : Event
        Set when the store is closed.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, objects: dict[str, bytes] | None = None) -> None:
        super().__init__((HOST, 0), _Handler)
        self.objects = dict(objects or {})
        self.parts: dict[tuple[str, int], bytes] = {}
        self.script: list[Behaviour] = []
        self.always: Behaviour | None = None
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self.now, self.most = 0, 0
        self.url = f"http://{HOST}:{self.server_address[1]}"

    def next_behaviour(self, asked: Asked) -> Behaviour:
        """Return what a request gets, and note the request."""
        with self.lock:
            self.asked.append(asked)
            if self.script:
                return self.script.pop(0)
            return self.always or honest

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # A client that closed its connection.

    def answer(self, asked: Asked) -> Answer:
        """Return the honest answer."""
        parts = urlsplit(asked.path)
        if "list-type" in parse_qs(parts.query):
            return self._listing(parse_qs(parts.query))
        if {"uploads", "uploadId"} & parse_qs(parts.query, keep_blank_values=True).keys():
            return self._part(asked, parse_qs(parts.query))
        data = self.objects.get(asked.key)
        if asked.method == "PUT":
            return self._put(asked, data)
        if asked.method == "DELETE":
            self.objects.pop(asked.key, None)
            return Answer(204)
        answer = _found(asked, data)
        return replace(answer, with_body=asked.method != "HEAD")

    def _put(self, asked: Asked, old: bytes | None) -> Answer:
        wanted = asked.headers.get("if-match")
        if asked.headers.get("if-none-match") == "*" and old is not None:
            return Answer(412)
        if wanted is not None and (old is None or etag_of(old) != wanted):
            return Answer(412)
        if source := asked.headers.get("x-amz-copy-source"):
            copied = self.objects.get(unquote(source).lstrip("/").partition("/")[2])
            if copied is None:
                return Answer(404)
            self.objects[asked.key] = copied
            etag = escape(etag_of(copied))
            body = f"<CopyObjectResult><ETag>{etag}</ETag></CopyObjectResult>"
            return Answer(200, {"Content-Type": "application/xml"}, body.encode())
        self.objects[asked.key] = asked.body
        return Answer(200, {"ETag": etag_of(asked.body)})

    def _part(self, asked: Asked, query: dict[str, list[str]]) -> Answer:
        """Answer a request of an upload by parts."""
        if asked.method == "PUT":
            self.parts[asked.key, int(query["partNumber"][0])] = asked.body
            return Answer(200, {"ETag": etag_of(asked.body)})
        if "uploadId" not in query:
            body = "<UploadId>u</UploadId>"
            body = f"<InitiateMultipartUploadResult>{body}</InitiateMultipartUploadResult>"
            return Answer(200, {"Content-Type": "application/xml"}, body.encode())
        numbers = sorted(number for key, number in self.parts if key == asked.key)
        data = b"".join(self.parts.pop((asked.key, number)) for number in numbers)
        self.objects[asked.key] = data
        result = f"<ETag>{escape(etag_of(data))}</ETag>"
        body = f"<CompleteMultipartUploadResult>{result}</CompleteMultipartUploadResult>"
        return Answer(200, {"Content-Type": "application/xml"}, body.encode())

    def _listing(self, query: dict[str, list[str]]) -> Answer:
        prefix = query.get("prefix", [""])[0]
        delimiter = query.get("delimiter", [""])[0]
        contents, common = [], set()
        for name, data in sorted(self.objects.items()):
            if not name.startswith(prefix):
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                common.add(prefix + rest.partition(delimiter)[0] + delimiter)
                continue
            contents.append(
                f"<Contents><Key>{escape(name)}</Key><Size>{len(data)}</Size>"
                f"<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>{escape(etag_of(data))}</ETag></Contents>"
            )
        contents += [
            f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>"
            for one in sorted(common)
        ]
        body = f"<ListBucketResult>{''.join(contents)}</ListBucketResult>"
        return Answer(200, {"Content-Type": "application/xml"}, body.encode())


@lru_cache
def etag_of(data: bytes) -> str:
    """Return the ETag of an object."""
    return f'"{hashlib.md5(data).hexdigest()}"'


def _found(asked: Asked, data: bytes | None) -> Answer:
    if data is None:
        return Answer(
            404, {"Content-Type": "application/xml"}, b"<Error><Code>NoSuchKey</Code></Error>"
        )
    etag = etag_of(data)
    if asked.headers.get("if-match", etag) not in ("*", etag):
        return Answer(412)
    headers = {"ETag": etag, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
    ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("range", ""))
    if ranged is None:
        return Answer(200, headers, data)
    first, last = int(ranged[1]), min(int(ranged[2] or len(data)), len(data) - 1)
    if first >= len(data):
        return Answer(416, {"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    return Answer(206, headers, data[first : last + 1])


class _Handler(socketserver.BaseRequestHandler):
    server: MisbehavingStore

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request.settimeout(120)
        with self.request.makefile("rb") as file:
            while (asked := _read(file)) is not None:
                with self.server.lock:
                    self.server.now += 1
                    self.server.most = max(self.server.most, self.server.now)
                try:
                    behaviour = self.server.next_behaviour(asked)
                    line = Line(self.request, self.server, asked)
                    keep = behaviour(self.server.answer(asked), line)
                finally:
                    with self.server.lock:
                        self.server.now -= 1
                if not keep:
                    break
        with contextlib.suppress(OSError):
            self.request.shutdown(socket.SHUT_RDWR)


def _read(file: object) -> Asked | None:
    line = file.readline(_MAX_LINE)  # type: ignore[attr-defined]
    if not line.strip():
        return None
    method, path, _ = line.decode("latin-1").split(" ", 2)
    headers = {}
    while (line := file.readline(_MAX_LINE)).strip():  # type: ignore[attr-defined]
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    body = file.read(int(headers.get("content-length", "0")))  # type: ignore[attr-defined]
    return Asked(method, path, headers, body)


@contextlib.contextmanager
def misbehaving(objects: dict[str, bytes] | None = None) -> Iterator[MisbehavingStore]:
    """Run a store."""
    with MisbehavingStore(objects) as store:
        thread = threading.Thread(target=store.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield store
        finally:
            store.closing.set()
            store.shutdown()
            thread.join()


def honest(answer: Answer, line: Line) -> bool:
    """Answer rightly."""
    line.send(answer.whole())
    return True


def cut(answer: Answer, line: Line) -> bool:
    """Close the connection in the middle of the body."""
    line.send(answer.head() + answer.body[: len(answer.body) // 2])
    return False


def cut_headers(answer: Answer, line: Line) -> bool:
    """Close the connection in the middle of the headers."""
    line.send(answer.head()[:40])
    return False


def hang_up(answer: Answer, line: Line) -> bool:
    """Close the connection without an answer."""
    return False


def reset(answer: Answer, line: Line) -> bool:
    """Reset the connection without an answer."""
    line.reset()
    return False


def reset_midway(answer: Answer, line: Line) -> bool:
    """Reset the connection in the middle of the body."""
    line.send(answer.head() + answer.body[: len(answer.body) // 2])
    line.reset()
    return False


def stall(answer: Answer, line: Line) -> bool:
    """Never answer."""
    line.stall()
    return False


def stall_midway(answer: Answer, line: Line) -> bool:
    """Stop in the middle of the body."""
    line.send(answer.head() + answer.body[: len(answer.body) // 2])
    line.stall()
    return False


def drip(answer: Answer, line: Line) -> bool:
    """Send a byte now and then, so that no single wait is long."""
    line.send(answer.head())
    for place in range(len(answer.body)):
        line.send(answer.body[place : place + 1])
        if line.store.closing.wait(0.1):
            break
    return False


def garbage(answer: Answer, line: Line) -> bool:
    """Send what is not HTTP."""
    line.send(b"\x00\xff" * 300)
    return False


def whole_object(answer: Answer, line: Line) -> bool:
    """Answer a request for a range with the whole object: 200 for 206."""
    data = line.store.objects[line.asked.key]
    line.send(Answer(200, {"ETag": etag_of(data)}, data).whole())
    return True


def lie(**headers: str) -> Behaviour:
    """Return a behaviour that sends other headers; an empty one is left out."""
    changed = {name.replace("_", "-"): value for name, value in headers.items()}

    def behave(answer: Answer, line: Line) -> bool:
        line.send(replace(answer, headers=answer.headers | changed).whole())
        return True

    return behave


def shifted(answer: Answer, line: Line) -> bool:
    """Send another range than was asked for, and say so."""
    data = line.store.objects[line.asked.key]
    first, last = map(int, re.findall(r"\d+", line.asked.headers["range"]))
    headers = answer.headers | {"Content-Range": f"bytes {first + 1}-{last + 1}/{len(data)}"}
    line.send(replace(answer, headers=headers, body=data[first + 1 : last + 2]).whole())
    return True


def fewer(answer: Answer, line: Line) -> bool:
    """Send fewer bytes than the range that is told has, and say that these are all."""
    line.send(replace(answer, body=answer.body[:-1]).whole())
    return True


def more(answer: Answer, line: Line) -> bool:
    """Send more bytes than the range that is told has, and say that these are all."""
    line.send(replace(answer, body=answer.body + b"!").whole())
    return True


def chunked(answer: Answer, line: Line, extra: bytes = b"") -> bool:
    """Send the body in chunks, without its length."""
    headers = answer.headers | {"Content-Length": "", "Transfer-Encoding": "chunked"}
    body = answer.body + extra
    line.send(replace(answer, headers=headers).head())
    line.send(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
    return True


def chunked_more(answer: Answer, line: Line) -> bool:
    """Send more bytes in chunks, without their length."""
    return chunked(answer, line, b"!")


def endless(answer: Answer, line: Line) -> bool:
    """Send chunks until the client has enough."""
    headers = answer.headers | {"Content-Length": "", "Transfer-Encoding": "chunked"}
    line.send(replace(answer, headers=headers).head())
    while not line.store.closing.is_set():
        line.send(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
    return False


def status(number: int, code: str = "", **headers: str) -> Behaviour:
    """Return a behaviour that answers with an error."""
    body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}

    def behave(answer: Answer, line: Line) -> bool:
        line.send(Answer(number, sent, body, answer.with_body).whole())
        return True

    return behave


def redirect(url: str, number: int = 302) -> Behaviour:
    """Return a behaviour that sends the client to the same path elsewhere."""

    def behave(answer: Answer, line: Line) -> bool:
        line.send(Answer(number, {"Location": url + line.asked.path}).whole())
        return True

    return behave


def changed(answer: Answer, line: Line) -> bool:
    """Answer from another version of the object, which has just been written."""
    data = line.store.objects[line.asked.key]
    line.store.objects[line.asked.key] = bytes(255 - one for one in data)
    line.send(line.store.answer(line.asked).whole())
    return True


def done_unheard(answer: Answer, line: Line) -> bool:
    """Do what was asked for, and close the connection without an answer."""
    return False
