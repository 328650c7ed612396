"""The command ``embstore serve``, run as a process, and ended by signals."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from tests.helpers.flights import Client, RefusedError, ids, ticket
from tests.helpers.programs import ROOT, TIMEOUT_SECONDS, environment, run_command
from tests.helpers.safetensors_files import safetensors_file

if TYPE_CHECKING:
    from collections.abc import Iterator

TLS = Path(__file__).parent / "data" / "tls"
ROWS_HEADER = {"operation": "rows"}
COUNT = 20_000
ROWS = np.arange(COUNT * 256, dtype=np.float32).reshape(COUNT, 256)


@pytest.fixture(autouse=True)
def _flight() -> None:
    pytest.importorskip("pyarrow.flight")


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("command") / "s"
    embstore.build(ROWS, path, partitions=4).close()
    return path


class Process:
    """A server in a process of its own.

    Attributes
    ----------
    line, address : str
        What it printed, and the address in it.
    """

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "embstore.cli", "serve", *map(str, arguments)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        self.address = self.line.rstrip("\n").rpartition(" ")[2]

    def end(self, *signals: int) -> tuple[int, str, str]:
        """Send signals; return the exit status, and what it printed since."""
        for number in signals:
            self.process.send_signal(number)
        out, errors = self.process.communicate(timeout=TIMEOUT_SECONDS)
        return self.process.returncode, out, errors


@contextmanager
def running(*arguments: object) -> Iterator[Process]:
    process = Process(*arguments)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it(path, number):
    with running(path, "--partitions", "0,3") as server:
        assert re.fullmatch(
            rf"serving {re.escape(str(path))} at grpc://127\.0\.0\.1:\d+\n", server.line
        )
        client = Client(server.address)
        assert client.act("info")["partitions"] == [0, 3]
        with client.stream(ROWS_HEADER) as stream:  # Stays open, and is idle.
            assert len(stream.ask(ids(0, 3), 2)) == 2
            assert server.end(number) == (0, "", "")
        client.close()


def test_running_requests_end_first(path):
    with running(path, "--grace", 300) as server:
        client = Client(server.address)
        reader = client.start(ticket(ROWS_HEADER, ids(np.arange(COUNT).repeat(2))))
        rows = reader.read_chunk().data.num_rows
        server.process.send_signal(signal.SIGTERM)
        while client.act("health") == {"status": "serving"}:
            pass
        for chunk in reader:
            rows += chunk.data.num_rows
        assert rows == 2 * COUNT
        assert server.end() == (0, "", "")
        client.close()


def test_requests_that_do_not_end_are_cut(path):
    with running(path, "--grace", 0) as server:
        client = Client(server.address)
        reader = client.start(ticket(ROWS_HEADER, ids(np.arange(COUNT).repeat(2))))
        reader.read_chunk()
        assert server.end(signal.SIGTERM)[0] == 0
        with pytest.raises(RefusedError), client.told():
            list(reader)
        client.close()


def test_second_signal_ends_it_at_once(path):
    with running(path, "--grace", 100_000) as server:
        client = Client(server.address)
        reader = client.start(ticket(ROWS_HEADER, ids(np.arange(COUNT).repeat(2))))
        reader.read_chunk()
        server.process.send_signal(signal.SIGTERM)
        while client.act("health") == {"status": "serving"}:
            pass
        assert server.end(signal.SIGTERM)[0] == -signal.SIGTERM
        with pytest.raises(RefusedError), client.told():
            list(reader)
        client.close()


def test_token_and_tls(path, tmp_path):
    token = tmp_path / "token"
    token.write_text("a-very-secret-token\n")
    token.chmod(0o600)
    pair = ("--tls-cert", TLS / "cert.pem", "--tls-key", TLS / "key-for-tests-only.pem")
    with running(path, "--token-file", token, *pair) as server:
        assert server.address.startswith("grpc+tls://127.0.0.1:")
        root = (TLS / "cert.pem").read_bytes()
        client = Client(server.address, "a-very-secret-token", tls_root_certs=root)
        assert len(client.get(ROWS_HEADER, ids(1))) == 1
        command = Path(f"/proc/{server.process.pid}/cmdline")
        if command.exists():
            assert b"very-secret" not in command.read_bytes()
        client.close()
        assert server.end(signal.SIGTERM) == (0, "", "")
    token.chmod(0o644)
    refused = run_command("serve", path, "--token-file", token, status=1)
    assert "may be read or changed by other users (its mode is 644)" in refused.stderr
    assert "very-secret" not in refused.stderr
    run_command("serve", path, "--token", "x", status=2)


WRONG: list[tuple[list[Any], int, str]] = [
    (["--host", "0.0.0.0"], 1, "other machines can connect to 0.0.0.0"),
    (["--port", "70000"], 1, "port must be from 0 to 65535, not 70000"),
    (["--port", "x"], 2, "--port"),
    (["--partitions", "0,4"], 1, "partitions must be from 0 to 3, those of the store, not 4"),
    (["--partitions", "0;3"], 2, "is not a list of numbers as in 0,3"),
    (["--memory-limit", "much"], 1, "--memory-limit must be a size such as 2GiB"),
    (["--token-file", "missing"], 1, "missing"),
    (["--tls-cert", TLS / "cert.pem"], 1, "give --tls-cert and --tls-key together"),
]


@pytest.mark.parametrize(("options", "status", "message"), WRONG, ids=lambda one: str(one)[:20])
def test_mistakes_are_one_line(path, options, status, message):
    done = run_command("serve", path, *options, status=status)
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_port_in_use_is_an_error(path):
    with embstore.serve(path) as server:
        done = run_command("serve", path, "--port", server.port, status=1)
        assert done.stderr == (
            f"embstore: error: cannot listen at {server.address}: port {server.port} is in use; "
            "give another one, or --port 0\n"
        )
        assert done.stdout == ""
    missing = run_command("serve", path / "missing", status=1)
    assert "no store at" in missing.stderr


def test_names_of_paths_are_no_commands_to_the_terminal(path, tmp_path):
    name = tmp_path / "a\x1b[31mb"
    name.symlink_to(path)
    with running(name) as server:
        assert "\x1b" not in server.line
        assert Client(server.address).act("health") == {"status": "serving"}
        assert server.end(signal.SIGTERM)[0] == 0


def test_a_tensor_of_a_model_is_served(tmp_path):
    table = np.arange(12, dtype=np.int8).reshape(4, 3)
    model = tmp_path / "model.safetensors"
    tensors: dict[str, Any] = {
        "a": ("I8", table),
        "b": ("I8", table),
        "of_a": ("F32", np.full((4, 1), 0.5, np.float32)),
    }
    model.write_bytes(safetensors_file(tensors))
    refused = run_command("serve", model, status=1)
    assert "name the one to read (--tensor)" in refused.stderr
    with (
        running(model, "--tensor", "a", "--scale", "of_a") as server,
        embstore.connect(server.address) as rows,
    ):
        assert rows.lookup([3, 0]).tolist() == [[4.5, 5, 5.5], [0, 0.5, 1]]
    with (
        embstore.serve(model, tensor="b", encoding="opaque") as in_process,
        embstore.connect(in_process.address) as rows,
    ):
        assert rows.lookup([3]).tolist() == [[9, 10, 11]]
