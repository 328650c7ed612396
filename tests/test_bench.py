"""Every benchmark runs small here, so that none can rot; its figures are not looked at."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from typer.testing import CliRunner

import embstore
from benchmarks import goals
from benchmarks.peers import ALL, BY_ID, BY_WORD
from benchmarks.run import Comparing, run
from benchmarks.table import GeneratedTable
from embstore.bench import device, plots, state, work
from embstore.bench.device import DiskLimit
from embstore.bench.measure import Entry, Settings, compare_cold, compare_limited, compare_warm
from embstore.bench.orders import Turn, share_of_limit
from embstore.bench.peers import Embstore, Matrix, MemmapChunks
from embstore.bench.process import Process
from embstore.bench.report import Report, ratio
from embstore.bench.suite import Plan, bench_store
from embstore.bench.table import Table
from embstore.bench.work import Case, draw_ids, scatter, zipf_ranks
from embstore.cli import app
from tests.faulty_peers import Dying, Wrong

ROWS, DIMENSION = 3000, 20
SMALL = Settings(rounds=2, seconds=0.005)
RANDOM = Case(work.RANDOM, 32)


def quiet(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> GeneratedTable:
    path = tmp_path_factory.mktemp("bench") / "table.embstore"
    return GeneratedTable.make(path, ROWS, DIMENSION, words=True)


def test_two_ways_to_what_a_row_must_be(table):
    ids = np.arange(ROWS)
    expected = table.expected(ids)
    assert np.array_equal(Table.of(table.path).expected(ids), expected)
    with embstore.open(table.path) as store:
        assert np.array_equal(store.lookup(ids), expected)
        assert store.words(ids) == table.words(ids)


@pytest.mark.parametrize("strategy", ["mod", "div"])
def test_expected_rows_of_any_store(tmp_path, strategy):
    rows = np.random.default_rng(0).integers(-9, 9, (1000, 3, 5), dtype=np.int16)
    with embstore.StoreWriter(
        tmp_path / "s",
        row_shape=(3, 5),
        dtype="int16",
        partitions=3,
        strategy=strategy,
        rows=1000,
    ) as writer:
        writer.write(rows)
    table = Table.of(tmp_path / "s")
    assert np.array_equal(table.expected(np.arange(1000)), rows)
    assert np.array_equal(np.concatenate([block.copy() for _, block in table.blocks()]), rows)


@pytest.mark.parametrize("name", [work.RANDOM, work.HOT, work.WORDS])
@pytest.mark.parametrize("rows", [1, 2, 7, 1000, 10**9])
def test_ids_are_the_same_for_everyone_and_in_range(name, rows):
    ids = draw_ids(name, rows, 1000, seed=3)
    assert np.array_equal(ids, draw_ids(name, rows, 1000, seed=3))
    assert ids.dtype == np.int64
    assert 0 <= ids.min() <= ids.max() < rows


def test_scatter_is_a_permutation():
    for rows in (1, 2, 3, 10, 1000, 4096):
        assert sorted(scatter(np.arange(rows), rows).tolist()) == list(range(rows))


def test_zipf_frequencies_follow_the_power_law():
    ranks = zipf_ranks(np.random.default_rng(0).random(1_000_000), 1_000_000)
    counts = np.bincount(ranks)
    # From the tenth rank to the thousandth, frequencies fall by 100 ** 1.1.
    fall = counts[8:12].mean() / counts[950:1050].mean()
    assert 100**1.1 / 1.25 < fall < 100**1.1 * 1.25


def test_hot_rows_are_asked_for_in_the_usual_batch():
    assert work.cases((work.HOT,), (1, 4096)) == [Case(work.HOT, 4096)]
    assert work.cases((work.HOT,), (1, 8)) == [Case(work.HOT, 1), Case(work.HOT, 8)]
    with pytest.raises(ValueError, match="no work 'read_nothing'"):
        work.cases(("read_nothing",), (1,))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)
def test_every_peer_returns_the_rows(kind, table, tmp_path):
    if missing := kind.missing():
        pytest.skip(f"{missing} is not installed")
    peer = kind(table, tmp_path)
    assert pickle.loads(pickle.dumps(peer)) == peer
    assert peer.version()
    with Process(peer, prepare=True) as process:
        assert process.opened.rows == ROWS
    assert peer.in_ram or peer.files()
    cases = []
    if kind in BY_ID:
        cases += [Case(work.RANDOM, 1), Case(work.RANDOM, 500)]
        cases += work.cases((work.ONE, work.SAME), ())
    if kind in BY_WORD:
        cases.append(Case(work.WORDS, 100))
    for comparison in compare_warm([Embstore(table), peer], cases, state.WARM, SMALL, quiet):
        for entry in comparison.entries:
            assert entry.failure is None
            assert len(entry.turns) == SMALL.rounds
            assert all(turn.checked_rows == turn.rows > 0 for turn in entry.turns)
        assert (ratio(*comparison.entries) or 0) > 0


@pytest.mark.parametrize(
    ("kind", "failure"),
    [(Wrong, "returned other rows than the table has"), (Dying, "killed by signal 9")],
)
def test_a_peer_that_fails_is_told_and_the_others_go_on(kind, failure, table):
    (comparison,) = compare_warm([Embstore(table), kind(table)], [RANDOM], state.WARM, SMALL, quiet)
    own, other = comparison.entries
    assert own.failure is None
    assert len(own.turns) == SMALL.rounds
    assert failure in str(other.failure)
    report = Report.of(table)
    report.comparisons.append(comparison)
    assert failure in report.text()


def test_bench_of_a_store(table, tmp_path):
    plan = Plan(batches=(300,), settings=Settings(1, 0.005), disk_seconds=0)
    report = bench_store(table.path, plan, quiet)
    kept = json.loads(report.save(tmp_path).read_text())
    seen = {(c["state"], c["work"]) for c in kept["comparisons"]}
    assert {("warm", "open"), ("cold", "open"), ("warm", "read_one")} < seen
    assert {(s, "read_random") for s in ("preloaded", "warm", "cold")} < seen
    assert {("warm", "read_words"), ("preloaded", "read_words")} < seen
    for comparison in kept["comparisons"]:
        for entry in comparison["entries"]:
            assert entry["failure"] is None
            for turn in entry["turns"]:
                assert turn["checked_rows"] == turn["rows"]
                assert min(turn["nanoseconds"]) > 0
    assert kept["machine"]["versions"]["numpy"] == np.__version__
    assert "limited: " in report.text()  # The table is too small for it.
    assert "matrix[ids]" in report.text()


def test_a_matrix_of_half_the_rows(table):
    half = Matrix(table, limit_bytes=table.total_bytes // 2)
    assert half.rows == ROWS // 2
    (comparison,) = compare_warm([Embstore(table), half], [RANDOM], state.WARM, SMALL, quiet)
    assert "only the first 1,500 rows" in comparison.entries[1].note
    assert comparison.entries[1].turns


def test_cold_lookups_read_from_the_device(table):
    state.evict(Embstore(table).files())
    plan = Plan(
        works=(work.RANDOM,),
        states=(state.COLD,),
        batches=(300,),
        settings=Settings(1, 0.001),
        disk_seconds=0,
    )
    (comparison,) = bench_store(table.path, plan).comparisons
    own = comparison.entries[0]
    if device.block_device(table.path) is None:
        pytest.skip("these files are not on a block device")
    assert own.turns[0].bytes_read > 0


def test_cold_turns_are_measured_beside_the_disk(table, monkeypatch):
    limit = DiskLimit("preadv on threads", {1: 10.0, 8: 40.0})
    monkeypatch.setattr(device, "_threads", lambda files, depth, seconds: depth * 100.0)
    peers = [Embstore(table), MemmapChunks(table)]
    (comparison,) = compare_cold(peers, [RANDOM], SMALL, quiet, limit)
    own, other = ([turn.disk_reads_per_second for turn in e.turns] for e in comparison.entries)
    assert own == [800.0] * SMALL.rounds
    assert other == [None] * SMALL.rounds


def test_share_of_what_the_disk_can_do():
    second = [10**9]
    beside = [
        Turn(second, 1, 1, 0, reads, limit)
        for reads, limit in ((50, 100.0), (80, 100.0), (90, 100.0))
    ]
    assert share_of_limit(beside, best=1000) == 0.8
    alone = [Turn(second, 1, 1, 0, reads) for reads in (50, 80, 90)]
    assert share_of_limit(alone, best=1000) == 0.08
    assert share_of_limit(alone, best=None) is None
    assert share_of_limit([*beside, Turn(second, 1, 1)], best=1000) is None


def test_limited_memory(table):
    peers = [Embstore(table), MemmapChunks(table)]
    with pytest.raises(state.NoMemoryGroupError, match="MiB are too few"):
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
    about = device.describe(tmp_path)
    assert about["device"] is None or about["read_ahead_kb"] >= 0


def test_the_full_comparison(tmp_path):
    plan = Plan(works=work.WORKS, batches=(256,), settings=Settings(1, 0.005), disk_seconds=0)
    comparing = Comparing(
        tmp_path,
        rows=ROWS,
        dimension=8,
        word_rows=500,
        plan=plan,
        peers=("matrix[ids]", "np.take(out=)", "np.memmap", "gensim"),
    )
    report = run(comparing, quiet)
    assert not list(tmp_path.iterdir())  # It tidied up.
    seen = {(c.state, c.case.work) for c in report.comparisons}
    assert {("warm", "build"), ("cold", "read_random"), ("warm", "read_words")} < seen
    for name in work.WORKS:
        assert f", {name}" in report.text()
    assert goals.text(report).count("not measured") < len(goals.GOALS)
    with pytest.raises(ValueError, match="no peer 'nobody'"):
        Comparing(tmp_path, peers=("nobody",))


def test_plots(tmp_path):
    pytest.importorskip("matplotlib")
    table = Table(tmp_path, 1000, (300,), "float32")
    report = Report.of(table)
    from embstore.bench.measure import Comparison

    turns = [Turn([1000, 2000, 5000], 96, 96), Turn([1500, 2000, 4000], 96, 96)]
    for name in state.STATES:
        for batch in (1, 32, 4096):
            entries = [Entry(peer, "1", 1000, turns=turns) for peer in ("embstore", "np.memmap")]
            case = Case(work.HOT if name == state.LIMITED else work.RANDOM, batch)
            size = 1 << 27 if name == state.LIMITED else None
            report.comparisons.append(Comparison(case, name, entries, size))
    files = plots.draw(report.to_json(), tmp_path / "plots")
    assert len(files) == 8
    assert all(file.stat().st_size > 1000 for file in files)


def test_command(table, tmp_path):
    options = ["--work", "read_random", "--batch", "64", "--state", "warm", "--rounds", "1"]
    options += ["--seconds", "0.005"]
    runner = CliRunner()
    shown = runner.invoke(app, ["bench", str(table.path), *options, "--output", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert "warm, read_random" in shown.output
    assert (tmp_path / "results.json").exists()
    printed = runner.invoke(app, ["bench", str(table.path), *options, "--json"])
    assert json.loads(printed.output)["table"]["rows"] == ROWS
    for wrong in (["--state", "lukewarm"], ["--work", "sleep"]):
        assert runner.invoke(app, ["bench", str(table.path), *wrong]).exit_code != 0
