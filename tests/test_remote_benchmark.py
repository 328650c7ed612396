"""The benchmark of object stores and servers runs small; every row is compared in each run."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import numpy as np
import pytest

from benchmarks import remote, served
from benchmarks.counted import REQUEST_MARK, Count, CountingProxy, _marks
from benchmarks.orders import DiskTurn
from benchmarks.peers.remote import PEERS, Local, Published, PublishedCached
from benchmarks.report import PeerReport
from benchmarks.table import GeneratedTable
from embstore.bench.report import Comparison, Entry
from embstore.bench.state import COLD, WARM
from embstore.bench.timing import check_rows
from embstore.bench.work import Case
from tests.helpers.programs import run_python

ROWS = 3000
IDS = np.random.default_rng(5).integers(0, ROWS, 200)


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> GeneratedTable:
    path: Path = tmp_path_factory.mktemp("remote") / "table.embstore"
    return GeneratedTable.make(path, ROWS, 30)


# fsspec's cache of blocks leaves its file to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", [Published, PublishedCached, *PEERS], ids=lambda kind: kind.name)
def test_every_peer_returns_the_rows(kind, table, object_server, object_url, tmp_path):
    if (missing := kind.missing()) is not None:
        pytest.skip(f"{missing} is not installed")
    with CountingProxy(object_server.endpoint) as proxy:
        peer = kind(table, tmp_path, endpoint=proxy.endpoint, bucket=object_server.bucket)
        peer.prepare()
        assert not list(tmp_path.iterdir())
        assert not peer.files()
        peer.open()
        for ids in (IDS, IDS[::-1], np.repeat(IDS[:3], 2), IDS[:1]):
            check_rows(peer.name, ids, peer.lookup(ids), table.expected(ids))
        check_rows(peer.name, IDS[:1], peer.one(int(IDS[0])), table.expected(IDS[:1]))
        before = proxy.count
        peer.lookup(IDS)
        after = proxy.count.since(before)
        if peer.cached:
            assert after == Count()
        elif not isinstance(peer, PEERS[3]):  # A small table is all in TensorStore's pool.
            assert after.requests
            assert after.answer_bytes > len(np.unique(IDS)) * table.row_bytes


def test_proxies_count(file_server):
    file = file_server.directory / "file"
    file.write_bytes(b"x" * 300_000)
    with CountingProxy(file_server.url) as proxy:
        for number in range(1, 4):
            with urllib.request.urlopen(f"{proxy.endpoint}/file") as answer:
                assert answer.read() == file.read_bytes()
            assert proxy.count.requests == number
            assert 300_000 * number < proxy.count.answer_bytes < 301_000 * number


@pytest.mark.parametrize("step", range(1, 2 * len(REQUEST_MARK)))
def test_requests_are_counted_in_pieces_of_any_length(step):
    data = b"".join(b"GET /%d%sHost: x\r\n\r\n" % (n, REQUEST_MARK) for n in range(5))
    counts: list[int] = []
    look = _marks(counts.append)
    for start in range(0, len(data), step):
        look(data[start : start + step])
    assert sum(counts) == 5


def test_reading_and_counting_are_measured(object_server, tmp_path):
    command = ["-m", "benchmarks.remote", "--work", "read_remote", "--work", "count_remote"]
    command += ["--bytes", "400KB", "--dimension", "30", "--rounds", "1", "--seconds", "0.001"]
    command += ["--batch", "256", "--peer", "fsspec, joined ranges"]
    done = run_python(*command, "--directory", tmp_path)
    for text in (
        "\ncold, read_remote",
        "\nwarm, read_remote",
        "\nbatch 256    embstore ",
        "\nbatch 256    embstore, cached ",
        "\n             embstore, local disk ",
        "\nbatch 256, fsspec, joined ranges ",
        "\ncount_remote, batch 256, bytes, of the fewest of a peer ",
        "\nread_remote, cold, batch 256, rows a second, of fsspec, joined ranges's ",
        "\nread_remote, cached, batch 256, rows a second, of a local store's ",
    ):
        assert text in done.stdout
    assert "Error" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_serving_is_measured(tmp_path):
    pytest.importorskip("pyarrow.flight")
    command = ["-m", "benchmarks.remote", "--work", "serve_rows", "--bytes", "200KB"]
    command += ["--dimension", "30", "--rounds", "1", "--serve-seconds", "0.001", "--servers", "2"]
    command += ["--serve-batch", "1000", "--clients", "1"]
    done = run_python(*command, "--directory", tmp_path)
    for text in ("embstore, 2 servers ", "flight, 2 servers ", "local "):
        assert done.stdout.count(f"\nbatch 1,000, {text}") == 2
    assert not list(tmp_path.iterdir())


def test_wrong_rows_are_found(table, monkeypatch):
    client = served.Client(served.LOCAL, str(table.path), [], 10, 0, 1)
    assert client.run(lambda: None)
    monkeypatch.setattr(
        GeneratedTable, "expected", lambda self, ids: np.zeros((len(ids), 30), "f4")
    )
    with pytest.raises(ValueError, match="local returned wrong rows"):
        client.run(lambda: None)


def test_verdicts(table):
    report = PeerReport.of(table.path, (ROWS, 30), np.dtype(table.dtype))
    for state, batch, speeds in (
        (COLD, 256, {"embstore": 1, "a": 4, "b": 3.5}),
        (COLD, 16, {"embstore": 1, "a": 4}),
        (COLD, 4096, {"embstore": 1, "a": 2}),
        (WARM, 256, {PublishedCached.name: 10, Local.name: 8, "a": 1}),
        (WARM, 4096, {PublishedCached.name: 10, Local.name: 9.5, "a": 1}),
    ):
        entries = [
            Entry(name, ROWS, turns=[DiskTurn([int(time * 1e6)], batch, batch)])
            for name, time in speeds.items()
        ]
        report.comparisons.append(Comparison(Case(remote.READ, batch), state, entries))
    assert [line.split()[-5:] for line in remote.goals(report)] == [
        ["b's", "3.50", ">=", "3", "yes"],
        ["a's", "2.00", ">=", "3", "NO"],
        ["store's", "0.80", ">=", "0.9", "NO"],
        ["store's", "0.95", ">=", "0.9", "yes"],
    ]
    counted = {
        (16, "embstore"): (Count(16, 20_000), 16),
        (16, "a"): (Count(10, 20_001), 16),
        (256, "embstore"): (Count(200, 700_000), 256),
        (256, "a"): (Count(200, 600_000), 256),
        (256, "b"): (Count(200, 800_000), 256),
    }
    *_, small, large = remote.count_lines(counted, 1200)
    assert small.split()[-4:] == ["1.00", "<=", "1", "yes"]
    assert large.split()[-4:] == ["1.17", "<=", "1", "NO"]


def test_growth_with_servers():
    found = {
        (256, 0, served.LOCAL): [served.Turn(1000.0, [0.1])],
        (256, 1, served.OWN): [served.Turn(400.0, [0.1])],
        (256, 1, served.LIMIT): [served.Turn(500.0, [0.1])],
        (256, 2, served.OWN): [served.Turn(600.0, [0.1]), served.Turn(700.0, [0.2])],
    }
    rates = [line for line in remote.serve_lines(found) if line.startswith("batch")][:4]
    assert rates[1].split()[-4:] == ["400", "1.00", "0.80", "0.40"]
    assert rates[3].split()[-3:] == ["650", "1.62", "0.65"]
