"""The comparison with peers runs small; its figures are not tested."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from itertools import repeat

import numpy as np
import pytest

import embstore
from benchmarks import device, goals, orders, plots, worker
from benchmarks.device import DiskLimit
from benchmarks.measure import Settings, compare_cold, compare_limited, compare_warm
from benchmarks.orders import DiskTurn, share_of_limit
from benchmarks.peers import ALL, BY_ID, BY_WORD
from benchmarks.peers.arrays import Memmap
from benchmarks.peers.own import Embstore
from benchmarks.plan import Plan
from benchmarks.process import Process
from benchmarks.report import PeerReport
from benchmarks.run import Comparing, run
from benchmarks.table import GeneratedTable
from embstore.bench import machine, state, work
from embstore.bench.report import Comparison, Entry, ratio
from embstore.bench.timing import Call, Limits, Turn, time_calls
from embstore.bench.work import Case
from tests.faulty_peers import Dying, Wrong

ROWS, DIMENSION = 3000, 20
SMALL = Settings(rounds=2, seconds=0.005)
RANDOM = Case(work.RANDOM, 32)


def quiet(text: str) -> None:
    pass


def empty_report(table: GeneratedTable) -> PeerReport:
    return PeerReport.of(table.path, (table.rows, *table.row_shape), np.dtype(table.dtype))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> GeneratedTable:
    path = tmp_path_factory.mktemp("bench") / "table.embstore"
    return GeneratedTable.make(path, ROWS, DIMENSION, words=True)


@pytest.fixture
def memmap(table, tmp_path):
    peer = Memmap(table, tmp_path)
    peer.prepare()
    return peer


def test_generated_rows_are_those_of_the_store(table):
    ids = np.arange(ROWS)
    expected = table.expected(ids)
    assert np.array_equal(table.matrix(), expected)
    with embstore.open(table.path) as store:
        assert np.array_equal(store.lookup(ids), expected)
        assert store.words(ids) == table.words(ids)


def test_only_generated_tables_are_compared(tmp_path):
    embstore.build({"a": [1.0]}, tmp_path / "s").close()
    with pytest.raises(ValueError, match="was not made by tools/make_table"):
        GeneratedTable.at(tmp_path / "s")


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_every_peer_returns_the_rows(kind, table, tmp_path):
    if missing := kind.missing():
        pytest.skip(f"{missing} is not installed")
    peer = kind(table, tmp_path)
    assert pickle.loads(pickle.dumps(peer)) == peer
    with Process(peer, prepare=True) as process:
        assert process.opened.rows == ROWS
    assert peer.in_ram or peer.files()
    cases = []
    if kind in BY_ID:
        cases += [Case(work.RANDOM, 1), Case(work.RANDOM, 500)]
        cases += work.cases((work.ONE, work.SAME), (1,))
    if kind in BY_WORD:
        cases.append(Case(orders.WORDS, 100))
    for comparison in compare_warm([peer], cases, state.WARM, SMALL, quiet):
        (entry,) = comparison.entries
        assert not entry.note
        assert len(entry.turns) == SMALL.rounds
        assert all(turn.checked_rows == turn.rows > 0 for turn in entry.turns)


@pytest.mark.parametrize(
    ("kind", "failure"),
    [(Wrong, "returned wrong rows for 32 of 32 ids"), (Dying, "killed by signal 9")],
)
def test_failing_peer_is_reported(kind, failure, table):
    (comparison,) = compare_warm([Embstore(table), kind(table)], [RANDOM], state.WARM, SMALL, quiet)
    own, other = comparison.entries
    assert not own.note
    assert len(own.turns) == SMALL.rounds
    assert failure in other.note
    report = empty_report(table)
    report.comparisons.append(comparison)
    assert failure in report.text()


def test_cold_turns_are_measured_beside_the_disk(table, memmap, monkeypatch):
    limit = DiskLimit("preadv on threads", {1: 10.0, 8: 40.0})
    monkeypatch.setattr(device, "_threads", lambda files, depth, seconds: depth * 100.0)
    peers = [Embstore(table), memmap]
    (comparison,) = compare_cold(peers, [RANDOM], SMALL, quiet, limit)
    own, other = ([turn.disk_reads_per_second for turn in e.turns] for e in comparison.entries)  # type: ignore[attr-defined]
    assert own == [800.0] * SMALL.rounds
    assert other == [None] * SMALL.rounds
    if machine.block_device(table.path) is not None:
        assert sum(turn.bytes_read for turn in comparison.entries[0].turns) > 0
        report = empty_report(table)
        report.comparisons.append(comparison)
        assert report.text().splitlines()[3].endswith("KiB/row   reads/s  of limit")


def test_reads_of_the_device_are_counted_during_calls_only(monkeypatch, tmp_path):
    done = 0

    def lookup():
        nonlocal done
        done += 1
        return np.zeros(1)

    def check(rows):
        nonlocal done
        done += 100
        return 1

    monkeypatch.setattr(worker, "reads_completed", lambda device: done)
    counter = worker.DeviceReads(tmp_path)
    calls = map(counter.around, repeat(Call(lookup, 1, check)))
    turn = time_calls(calls, Limits(60, calls_together=3, max_calls=7))
    assert counter.reads == len(turn.nanoseconds) == 9


def test_share_of_what_the_disk_can_do():
    second = [10**9]
    beside = [
        DiskTurn(second, 1, 1, 0, reads, limit)
        for reads, limit in ((50, 100.0), (80, 100.0), (90, 100.0))
    ]
    assert share_of_limit(beside, best=1000) == 0.8
    alone = [DiskTurn(second, 1, 1, 0, reads) for reads in (50, 80, 90)]
    assert share_of_limit(alone, best=1000) == 0.08
    assert share_of_limit(alone, best=None) is None
    assert share_of_limit([*beside, Turn(second, 1, 1)], best=1000) is None


def test_limited_memory(table, memmap):
    peers = [Embstore(table), memmap]
    with pytest.raises(state.NoMemoryGroupError, match="MiB of memory are too few"):
        next(compare_limited(peers, [RANDOM], 1 << 20, SMALL, quiet))
    try:
        with state.memory_group(256 << 20) as processes:
            assert processes.exists()
    except state.NoMemoryGroupError as error:
        pytest.skip(f"no memory cgroup can be made: {error}")
    assert not processes.parent.exists()
    (comparison,) = compare_limited(peers, [RANDOM], 256 << 20, SMALL, quiet)
    assert [len(entry.turns) for entry in comparison.entries] == [SMALL.rounds] * 2


def test_limit_of_the_disk(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(bytes(1 << 20))
    assert device.measure_limit([tmp_path / "file"][:0]) is None
    monkeypatch.setattr(device, "QUEUE_DEPTHS", (1, 4))
    monkeypatch.setattr("shutil.which", lambda name: None)
    limit = device.measure_limit([file], seconds=0)  # Each thread reads once at least.
    if limit is None:
        pytest.skip("the file system has no direct reads")
    assert limit.best == max(limit.reads_per_second.values()) > 0
    about = machine.describe_disk(tmp_path)
    assert about["device"] is None or about["read_ahead_kb"] >= 0


def test_the_full_comparison(tmp_path):
    plan = Plan(batches=(256,), settings=Settings(1, 0.005), disk_seconds=0)
    comparing = Comparing(
        tmp_path,
        rows=ROWS,
        dimension=8,
        word_rows=500,
        plan=plan,
        peers=("np.take(out=)", "np.memmap", "gensim"),
    )
    report = run(comparing, quiet)
    assert not list(tmp_path.iterdir())  # It tidied up.
    seen = {(c.state, c.case.work) for c in report.comparisons}
    assert {("warm", "build"), ("cold", "read_random"), ("warm", "read_words")} < seen
    for name in orders.WORKS:
        assert f", {name}" in report.text()
    for comparison in report.comparisons:
        assert (ratio(*comparison.entries) or 0) > 0
    assert goals.text(report).count("not measured") < len(goals.GOALS)
    with pytest.raises(ValueError, match="unknown peer 'nobody'; expected one of matrix"):
        Comparing(tmp_path, peers=("nobody",))
    for wrong in ({"works": ("sleep",)}, {"states": ("lukewarm",)}, {"batches": (0,)}):
        with pytest.raises(ValueError, match=r"unknown (work|state) '|batches must be"):
            Plan(**wrong)


def test_the_command_and_its_plots(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--output", str(tmp_path / "results")]
    size = ["--rows", "500", "--dimension", "5", "--directory", str(tmp_path), "--rounds", "1"]
    part = ["--peer", "np.memmap", "--work", "read_random", "--batch", "32", "--state", "warm"]
    rest = ["--seconds", "0.001", "--disk-seconds", "0"]
    command_line = [*command, *size, *part, *rest]
    done = subprocess.run(command_line, capture_output=True, text=True, check=True)
    assert "warm, read_random" in done.stdout
    assert "goals, and what was reached" in done.stdout
    results = tmp_path / "results" / "results.json"
    assert [c["batch"] for c in json.loads(results.read_text())["comparisons"]] == [32]
    assert results.with_name("table.json").exists()
    pytest.importorskip("matplotlib")
    drawn = [*command, "--plots", str(results)]
    again = subprocess.run(drawn, capture_output=True, text=True, check=True)
    assert "read_random_ram.png" in again.stdout


def test_plots(table, tmp_path):
    pytest.importorskip("matplotlib")
    report = empty_report(table)
    report.disk_limit = DiskLimit("preadv on threads", {1: 10.0, 8: 40.0})
    turns: list[Turn] = [DiskTurn([1000, 2000, 5000], 96, 96), DiskTurn([1500, 2000, 4000], 96, 96)]
    names = ("embstore", "embstore lookup(out=)", "np.memmap")
    for name in state.STATES:
        for batch in (1, 32, 4096):
            entries = [Entry(peer, 1000, turns=turns) for peer in names]
            case = Case(work.HOT if name == state.LIMITED else work.RANDOM, batch)
            size = 1 << 27 if name == state.LIMITED else None
            report.comparisons.append(Comparison(case, name, entries, size))
    files = plots.draw(report.to_json(), tmp_path / "plots")
    assert len(files) == 10
    assert all(file.stat().st_size > 1000 for file in files)
    # The small file holds all that plots need.
    kept = json.loads(report.save_figures(tmp_path).read_text())
    assert not any("turns" in entry for each in kept["comparisons"] for entry in each["entries"])
    again = plots.draw(kept, tmp_path / "again")
    assert [file.name for file in again] == [file.name for file in files]


@pytest.mark.parametrize(
    ("row_bytes", "rows"), [(160, 800), (4096, 800), (4100, 400), (20_000, 160)]
)
def test_limit_of_the_disk_in_rows(table, row_bytes, rows):
    report = empty_report(table)
    report.table |= {"rows": 10, "bytes": 10 * row_bytes}
    report.disk_limit = DiskLimit("fio", {1: 10.0, 8: 800.0})
    turn = DiskTurn([1000], 32, 32, 0, 40, 600.0)
    report.comparisons.append(Comparison(RANDOM, state.COLD, [Entry("embstore", 10, turns=[turn])]))
    limit = plots.limit_of(report.to_json())
    assert limit is not None
    assert (limit.low, limit.high) == (rows * 0.75, rows)
