"""Limits of servers, and their end: what is too much waits, and is then refused."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.serving.gate import BusyError, ClosingError, Gate
from embstore.serving.stalls import cut_connections, place_of
from tests.helpers.flights import Client, RefusedError, ids, refused, ticket, words
from tests.helpers.programs import run_python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COUNT, WIDTH = 20_000, 256
ROWS_HEADER = {"operation": "rows"}
TLS = Path(__file__).parent / "data" / "tls"
# 40 MiB of rows: far more than connections hold, so who does not read them keeps the server busy.
EVERYTHING = ids(np.arange(COUNT).repeat(2))


@pytest.fixture(autouse=True)
def _flight() -> None:
    pytest.importorskip("pyarrow.flight")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[embstore.EmbeddingStore]:
    rows = np.arange(COUNT * WIDTH, dtype=np.float32).reshape(COUNT, WIDTH)
    with embstore.build(rows, tmp_path_factory.mktemp("limits") / "s") as store:
        yield store


class Stalled:
    """A client that asks for everything, and reads only the first batch."""

    def __init__(self, server: embstore.Server) -> None:
        self.client = Client(server.address)
        self.reader = self.client.start(ticket(ROWS_HEADER, EVERYTHING))
        self.rows: int = self.reader.read_chunk().data.num_rows

    def read_all(self) -> int:
        """Read the rest; return the number of rows."""
        for chunk in self.reader:
            self.rows += chunk.data.num_rows
        return self.rows

    def close(self) -> None:
        self.reader.cancel()
        del self.reader
        self.client.close()


def in_background(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_large_requests_are_refused(store):
    with embstore.serve(store, max_rows=100) as server:
        client = Client(server.address)
        assert client.act("info")["limits"]["rows"] == 100
        assert len(client.get(ROWS_HEADER, ids(range(100)))) == 100
        for header, payload in (
            (ROWS_HEADER, ids(range(101))),
            ({"operation": "words"}, ids(range(101))),
            ({"operation": "prefetch"}, ids(range(800))),
            (ROWS_HEADER, ids(range(801))),
        ):
            if header["operation"] == "words":
                continue  # This store has none, which is said first.
            with pytest.raises(RefusedError, match="this server takes 100 rows and 6400") as error:
                client.get(header, payload)
            assert refused(error) == "LimitError"
            assert error.value.attributes == {"rows": 100, "request_bytes": 6400}
        client.close()


def test_large_requests_of_words_are_refused(tmp_path):
    names = [f"w{number}" for number in range(200)]
    with (
        embstore.build(np.zeros((200, 2)), tmp_path / "s", words=names) as store,
        embstore.serve(store, max_rows=100) as server,
    ):
        client = Client(server.address)
        assert len(client.get({"operation": "ids"}, words(*names[:100]))) == 100
        with pytest.raises(RefusedError, match="has 101 words; at most 100 are allowed"):
            client.get({"operation": "ids"}, words(*names[:101]))
        with pytest.raises(RefusedError, match="the request has 7008 bytes") as error:
            client.get({"operation": "ids"}, words("x" * 7000))
        assert refused(error) == "LimitError"
        with pytest.raises(RefusedError, match="the request has 101 rows"):
            client.get({"operation": "words"}, ids(range(101)))
        client.close()


def test_one_request_too_many_is_refused(store):
    with embstore.serve(store, max_requests=1, busy_wait=0.05, grace=0) as server:
        stalled, client = Stalled(server), Client(server.address)
        assert client.act("stats")["requests_running"] == 1
        with pytest.raises(RefusedError, match="has 1 requests at a time, and takes 1") as error:
            client.get(ROWS_HEADER, ids(1))
        assert refused(error) == "BusyError"
        with pytest.raises(RefusedError) as error, client.stream(ROWS_HEADER) as stream:
            stream.ask(ids(1), 1)
        assert refused(error) == "BusyError"
        assert stalled.read_all() == 2 * COUNT
        assert len(client.get(ROWS_HEADER, ids(1))) == 1
        assert client.act("stats")["errors"] == {"BusyError": 2}
        stalled.close()
        client.close()


def test_memory_of_results_is_bounded(store):
    with embstore.serve(store, memory_limit="4MiB", busy_wait=0.05, grace=0) as server:
        client = Client(server.address)
        # Each has a slab of a quarter, or less if it is at its end.
        stalled = [Stalled(server) for _ in range(4)]
        assert 3 << 20 < client.act("stats")["memory_bytes"] <= 4 << 20
        with pytest.raises(RefusedError, match="rows of 4194304 bytes at a time") as error:
            client.get(ROWS_HEADER, ids(range(5)))
        assert refused(error) == "BusyError"
        for one in stalled:
            assert one.read_all() == 2 * COUNT
            one.close()
        assert len(client.get(ROWS_HEADER, ids(range(5)))) == 5
        client.close()
    with pytest.raises(ValueError, match="memory_limit must hold a row, which has 1024 bytes"):
        embstore.serve(store, memory_limit=1000)
    with embstore.serve(store, memory_limit=1024) as server:
        client = Client(server.address)
        assert len(client.get(ROWS_HEADER, ids(range(50)))) == 50
        client.close()


def test_client_that_goes_away_gives_its_memory_back(store):
    with embstore.serve(store, max_requests=1, busy_wait=300, grace=0) as server:
        client = Client(server.address)
        Stalled(server).close()
        assert len(client.get(ROWS_HEADER, ids(1))) == 1  # It waits until the other one is gone.
        with client.stream(ROWS_HEADER) as stream:
            stream.send(EVERYTHING)
        assert len(client.get(ROWS_HEADER, ids(1))) == 1
        assert client.act("stats")["memory_bytes"] == 0
        client.close()


def test_running_requests_end_before_the_server(store):
    server = embstore.serve(store, grace=300)
    stalled, client = Stalled(server), Client(server.address)
    with client.stream(ROWS_HEADER) as idle:
        assert len(idle.ask(ids(1), 1)) == 1
        closing = in_background(server.close)
        while client.act("health") == {"status": "serving"}:
            pass
        assert client.act("health") == {"status": "closing"}
        with pytest.raises(RefusedError, match="the server is closing") as error:
            client.get(ROWS_HEADER, ids(1))
        assert refused(error) == "ClosingError"
        assert not server.wait(timeout=0)
        assert stalled.read_all() == 2 * COUNT
        closing.join()
        assert server.wait()
    with pytest.raises(RefusedError):
        client.act("health")
    stalled.close()
    client.close()


@pytest.mark.parametrize("is_idle", [True, False])
def test_close_is_bounded(store, is_idle):
    server = embstore.serve(store, grace=0)
    client = Client(server.address)
    descriptor = client.flight.FlightDescriptor.for_command(ticket(ROWS_HEADER))
    writer, reader = client.client.do_exchange(descriptor, client.options)
    writer.write_metadata(b"\0" * 8 + (ids(1) if is_idle else EVERYTHING))
    reader.read_chunk()
    stalled = Stalled(server)
    server.close()  # Neither client reads on.
    assert server.wait(timeout=0)
    with pytest.raises(RefusedError) as error, client.told():
        list(reader)
    assert refused(error) in ("", "BusyError", "ClosingError")
    with pytest.raises(RefusedError), stalled.client.told():
        stalled.read_all()
    stalled.close()
    client.close()
    with embstore.serve(store, port=server.port) as again:  # The port is free.
        client = Client(again.address)
        assert len(client.get(ROWS_HEADER, ids(1))) == 1
        client.close()


def test_port_in_use_is_an_error(store):
    with embstore.serve(store) as server:
        with pytest.raises(embstore.RemoteError, match=f"127.0.0.1:{server.port}.*in use"):
            embstore.serve(store, port=server.port)
        with pytest.raises(embstore.RemoteError, match="in use"):
            embstore.serve(store.path, port=server.port)
    secret: Any = {
        "token": "secret",
        "tls_cert": TLS / "cert.pem",
        "tls_key": TLS / "key-for-tests-only.pem",
    }
    with pytest.raises(
        embstore.RemoteError, match=r"192\.0\.2\.1 is not an address of this machine"
    ):
        embstore.serve(store, host="192.0.2.1", **secret)
    with pytest.raises(embstore.RemoteError, match="cannot listen at grpc"):
        embstore.serve(store, host="no-such-host.invalid", **secret)


def test_wait_ends_with_the_server(store):
    server = embstore.serve(store)
    ended = []
    waiting = [in_background(lambda: ended.append(server.wait())) for _ in range(3)]
    assert not server.wait(timeout=0.01)
    closing = [in_background(server.close) for _ in range(3)]
    for thread in (*waiting, *closing):
        thread.join()
    assert ended == [True] * 3


def test_process_ends_with_a_server_that_was_not_closed(store):
    program = """
import sys, embstore
from tests.helpers.flights import Client, ids, ticket
server = embstore.serve(sys.argv[1])
client = Client(server.address)
descriptor = client.flight.FlightDescriptor.for_command(ticket({"operation": "rows"}))
writer, reader = client.client.do_exchange(descriptor, client.options)
writer.write_metadata(bytes(8) + ids(1))
print(reader.read_chunk().data.num_rows)
"""
    assert run_python("-c", program, store.path).stdout == "1\n"


def test_forked_child_leaves_the_server_alone(store):
    program = """
import os, sys, embstore
from tests.helpers.flights import Client, ids
server = embstore.serve(sys.argv[1])
if not (child := os.fork()):
    server.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
client = Client(server.address)
print(len(client.get({"operation": "rows"}, ids(1, 2))))
client.close()
server.close()
"""
    assert run_python("-W", "ignore", "-c", program, store.path).stdout == "2\n"


def make_gate(**limits: Any) -> Gate:
    settings: dict[str, Any] = {"requests": 2, "streams": 1, "memory_bytes": 100}
    return Gate(**settings | {"wait_seconds": 0} | limits)


def test_gate_counts():
    gate = make_gate()
    with gate.request(), gate.request(), gate.stream(), gate.memory(60), gate.memory(40):
        assert [gate.used(kind) for kind in ("requests", "streams", "bytes")] == [2, 1, 100]
        for one in (gate.request, gate.stream, lambda: gate.memory(1)):
            with pytest.raises(BusyError, match="at a time, and takes"), one():
                pass
        assert not gate.drain(0)
    assert [gate.used(kind) for kind in ("requests", "streams", "bytes")] == [0, 0, 0]
    assert gate.drain(0)


def test_gate_waits_for_others():
    gate = make_gate(wait_seconds=300, requests=1)
    order = []

    def second() -> None:
        with gate.request():
            order.append("second")

    with gate.request():
        thread = in_background(second)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_closed_gate_lets_running_requests_end():
    gate = make_gate(wait_seconds=300, requests=1)
    with gate.request():
        refused_ones = []

        def wait() -> None:
            try:
                with gate.request():
                    pass
            except ClosingError as error:
                refused_ones.append(error)

        threads = [in_background(wait) for _ in range(3)]
        gate.close()
        for thread in threads:
            thread.join()
        assert len(refused_ones) == 3
        with gate.memory(100):  # The running one may still need some.
            pass
        with pytest.raises(ClosingError), gate.stream():
            pass
    assert gate.drain(300)


def test_clients_that_stop_reading_are_cut(store):
    with embstore.serve(store, max_requests=1, busy_wait=300, send_timeout=0.2) as server:
        stalled, client = Stalled(server), Client(server.address)
        with client.stream(ROWS_HEADER) as idle:  # Waits for its client without holding anything.
            assert len(idle.ask(ids(1), 1)) == 1  # Waits until the other one is cut.
            with pytest.raises(RefusedError), stalled.client.told():
                stalled.read_all()
            assert len(idle.ask(ids(2), 1)) == 1
            stalled_stream, other = Client(server.address), Client(server.address)
            with stalled_stream.stream(ROWS_HEADER) as stream:
                stream.send(EVERYTHING)
                stream.reader.read_chunk()
                assert len(other.get(ROWS_HEADER, ids(3))) == 1
            assert len(idle.ask(ids(2), 1)) == 1
        stalled.close()
        for one in (client, stalled_stream, other):
            one.close()


@pytest.mark.parametrize(
    ("peer", "place"),
    [
        ("ipv4:127.0.0.1:40000", ("127.0.0.1", 40000)),
        ("ipv6:[::1]:40000", ("::1", 40000)),
        ("ipv6:%5B::1%5D:40000", ("::1", 40000)),
        ("ipv6:%5B::ffff:10.0.0.5%5D:1", ("10.0.0.5", 1)),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", ("fe80::1", 1)),
        *((peer, ("", -1)) for peer in ("", "unix:", "unix:/tmp/x", "ipv4:a:b", "fd:3")),
    ],
)
def test_peers_are_found_by_their_names(peer, place):
    assert place_of(peer) == place


def test_only_one_client_is_cut(store):
    with embstore.serve(store, grace=0) as server:
        clients = [Client(server.address) for _ in range(3)]
        for client in clients:
            client.act("health")
        assert cut_connections(server.port, "ipv4:127.0.0.1:1") == 0
        assert cut_connections(server.port, "unix:") == 0
        assert cut_connections(server.port) >= 1
        for client in clients:
            client.close()
