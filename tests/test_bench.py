"""A person's own benchmark runs small; its figures are not tested."""

from __future__ import annotations

import json
import os
import resource
import signal
from contextlib import contextmanager, nullcontext
from itertools import count, islice, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

import embstore
from embstore.bench import machine, plan, plots, state, suite, timing, work
from embstore.bench.figures import Figures
from embstore.bench.report import Comparison, Entry, Report, ratio
from embstore.bench.suite import bench_store
from embstore.bench.timing import Call, Limits, Turn, check_rows, time_calls
from embstore.bench.work import Case, draw_ids, scatter, zipf_ranks
from embstore.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS, DIMENSION = 3000, 20


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).standard_normal((ROWS, DIMENSION)).astype(np.float32)


@pytest.fixture(scope="module")
def path(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "table.embstore"
    with embstore.StoreWriter(
        path, row_shape=(DIMENSION,), dtype="float32", partitions=3, rows=ROWS
    ) as writer:
        writer.write(rows)
    return path


@pytest.mark.parametrize("name", [work.RANDOM, work.HOT, work.SAME])
@pytest.mark.parametrize("rows", [1, 2, 7, 1000, 10**9])
def test_ids_are_reproducible_and_in_range(name, rows):
    ids = draw_ids(name, rows, 1000, seed=3)
    assert np.array_equal(ids, draw_ids(name, rows, 1000, seed=3))
    assert ids.dtype == np.int64
    assert 0 <= ids.min() <= ids.max() < rows


def test_streams_are_whole_batches():
    assert len(work.stream_ids(Case(work.RANDOM, 7), 100, 30, seed=1)) == 28
    assert len(work.stream_ids(Case(work.RANDOM, 40), 100, 30, seed=1)) == 40
    assert len(work.stream_ids(Case(work.SAME, 32), 100, 5000, seed=1)) == 32
    drawn = list(islice(work.fresh(Case(work.RANDOM, 7), 100, seed=1), 1000))
    assert {len(ids) for ids in drawn} == {7}
    assert len(np.unique(drawn)) == 100


def test_scatter_is_a_permutation():
    for rows in (1, 2, 3, 10, 1000, 4096):
        assert sorted(scatter(np.arange(rows), rows).tolist()) == list(range(rows))


def test_zipf_frequencies_follow_the_power_law():
    ranks = zipf_ranks(np.random.default_rng(0).random(1_000_000), 1_000_000)
    counts = np.bincount(ranks)
    # From the tenth rank to the thousandth, frequencies fall by 100 ** 1.1.
    fall = counts[8:12].mean() / counts[950:1050].mean()
    assert 100**1.1 / 1.25 < fall < 100**1.1 * 1.25


def test_hot_rows_have_the_usual_batch():
    assert work.cases((work.HOT,), (1, 4096)) == [Case(work.HOT, 4096)]
    assert work.cases((work.HOT,), (1, 8)) == [Case(work.HOT, 1), Case(work.HOT, 8)]
    with pytest.raises(ValueError, match="unknown work 'read_nothing'; expected one of open"):
        work.cases(("read_nothing",), (1,))
    with pytest.raises(ValueError, match="batches must be 1 id or more"):
        work.cases((work.HOT,), ())


def calls_of(run: Callable[[], Any], rows: int = 5) -> Iterator[Call]:
    return repeat(Call(run, rows, lambda found: rows))


def test_a_turn_ends_at_its_limits():
    assert len(time_calls(calls_of(list), Limits(0)).nanoseconds) == 1
    assert len(time_calls(calls_of(list), Limits(0, calls_together=3)).nanoseconds) == 3
    turn = time_calls(calls_of(list), Limits(60, max_calls=10))
    assert (len(turn.nanoseconds), turn.rows, turn.checked_rows) == (10, 50, 50)


def test_a_turn_from_disk_ends_within_a_group(monkeypatch):
    blocks = count(
        0, 2
    )  # Of 512 bytes, seen before the group, after each call and after the group.
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_inblock=next(blocks)))
    turn = time_calls(calls_of(list), Limits(60, bytes_read=2500, calls_together=100))
    assert len(turn.nanoseconds) == 3
    assert turn.bytes_read == 4096


def test_rows_are_compared_bit_by_bit():
    expected = np.array([[0.0, np.nan], [1.0, 2.0]], np.float32)
    ids = np.array([7, 8])
    assert check_rows("it", ids, expected.copy(), expected) == 2
    with pytest.raises(
        ValueError, match="it returned wrong rows for 1 of 2 ids, the first for id 7"
    ):
        check_rows("it", ids, np.array([[-0.0, np.nan], [1, 2]], np.float32), expected)
    with pytest.raises(ValueError, match="it returned float64, expected float32"):
        check_rows("it", ids, expected.astype(float), expected)


def test_all_states_and_works(path, rows, tmp_path):
    lines: list[str] = []
    report = bench_store(path, batches=(300,), rounds=2, seconds=0.005, progress=lines.append)
    assert "read_random, batch 300, cold" in lines
    kept = json.loads(report.save(tmp_path).read_text())
    seen = {(c["state"], c["work"]) for c in kept["comparisons"]}
    reads = {work.RANDOM, work.HOT, work.ONE, work.SAME}
    assert seen == (
        {(name, work.OPEN) for name in (state.WARM, state.COLD)}
        | {(name, read) for name in (state.WARM, state.PRELOADED) for read in reads}
        | {(state.COLD, work.RANDOM), (state.COLD, work.HOT)}
    )
    for comparison in kept["comparisons"]:
        names = [entry["name"] for entry in comparison["entries"]]
        expected = ["embstore", "matrix[ids]"]
        assert names == (expected[:1] if comparison["work"] == work.OPEN else expected)
        for entry in comparison["entries"]:
            assert len(entry["turns"]) == 2
            for turn in entry["turns"]:
                assert turn["checked_rows"] == turn["rows"]
                assert (turn["rows"] == 0) == (comparison["work"] == work.OPEN)
                assert min(turn["nanoseconds"]) > 0
    assert kept["machine"]["versions"]["numpy"] == np.__version__
    assert kept["table"]["bytes"] == rows.nbytes
    assert "not measured: limited: 1/8 of this table is 0 MiB of memory" in report.text()


def test_wrong_rows_are_found(path, monkeypatch):
    lookup = embstore.EmbeddingStore.lookup
    monkeypatch.setattr(
        embstore.EmbeddingStore, "lookup", lambda self, ids: lookup(self, (ids + 1) % ROWS)
    )
    for name in (state.WARM, state.PRELOADED, state.COLD):
        with pytest.raises(ValueError, match="embstore returned wrong rows for 32 of 32 ids"):
            bench_store(path, works=[work.RANDOM], states=[name], batches=[32], rounds=1, seconds=0)


def test_array_of_a_part_of_the_rows(path, rows, monkeypatch):
    monkeypatch.setattr(machine, "free_ram_bytes", lambda: rows.nbytes)
    with embstore.open(path) as store:
        assert np.array_equal(suite.load_matrix(store, rows.nbytes), rows)
        assert np.array_equal(suite.load_matrix(store, rows.nbytes // 3), rows[: ROWS // 3])
    report = bench_store(path, works=[work.RANDOM], states=["warm"], batches=[500], rounds=1)
    own, other = report.comparisons[0].entries
    assert other.rows == ROWS // 2
    assert "only the first 1,500 rows" in report.text()
    assert 0 < own.turns[0].checked_rows < own.turns[0].rows
    assert other.turns[0].checked_rows == other.turns[0].rows


def test_cold_lookups_read_from_the_device(path):
    if machine.block_device(path) is None:
        pytest.skip("these files are not on a block device")
    report = bench_store(
        path, works=[work.RANDOM], states=["cold"], batches=[300], rounds=1, seconds=0.001
    )
    own, other = report.comparisons[0].entries
    assert own.turns[0].bytes_read > 0
    assert other.turns[0].bytes_read == 0
    assert "KiB/row" in report.text()


def test_memory_group_for_a_process():
    with (
        pytest.raises(state.NoMemoryGroupError, match="MiB of memory are too few"),
        state.memory_group(1 << 20),
    ):
        pass


@pytest.fixture
def plain_group(monkeypatch, tmp_path):
    """A plain file instead of a group; the child writes its number there."""
    monkeypatch.setattr(state, "memory_group", lambda size: nullcontext(tmp_path / "procs"))
    return tmp_path / "procs"


def test_limited_lookups_in_a_child(path, rows, monkeypatch, plain_group):
    def measure() -> Report:
        return bench_store(path, works=[work.HOT], states=["limited"], rounds=2, seconds=0)

    monkeypatch.setattr(machine, "free_ram_bytes", lambda: rows.nbytes)
    own, other = measure().comparisons[0].entries
    assert int(plain_group.read_text()) != os.getpid()
    assert [turn.rows for turn in own.turns] == [work.HOT_BATCH] * 2
    assert all(0 < turn.checked_rows < turn.rows for turn in own.turns)
    assert all(turn.checked_rows == turn.rows for turn in other.turns)

    lookup = embstore.EmbeddingStore.lookup
    monkeypatch.setattr(embstore.EmbeddingStore, "lookup", lambda self, ids: lookup(self, ids) + 1)
    with pytest.raises(ValueError, match="embstore returned wrong rows"):
        measure()
    monkeypatch.setattr(embstore.EmbeddingStore, "lookup", lambda self, ids: os._exit(1))
    assert measure().skipped == ["limited: the child process ended with status 1"]


def test_lookups_in_a_memory_group(path, rows, monkeypatch):
    groups = []
    memory_group = state.memory_group

    @contextmanager
    def large_enough(size):
        with memory_group(256 << 20) as processes:
            groups.append(processes.parent)
            yield processes

    monkeypatch.setattr(state, "memory_group", large_enough)
    report = bench_store(path, works=[work.HOT], states=["limited"], rounds=1, seconds=0)
    if report.skipped:
        pytest.skip(f"no memory cgroup can be made: {report.skipped[0]}")
    (turn,) = report.comparisons[0].entries[0].turns
    assert turn.checked_rows == work.HOT_BATCH
    assert not groups[0].exists()


def test_limited_memory_in_a_report(path, rows, plain_group):
    report = bench_store(path, works=[work.HOT], states=["limited"], rounds=2, seconds=0.001)
    own, other = report.comparisons[0].entries
    assert [turn.checked_rows for turn in own.turns + other.turns] == [
        turn.rows for turn in own.turns + other.turns
    ]
    assert report.comparisons[0].memory_bytes == rows.nbytes // 8
    assert "has its rows in RAM, outside of the limit" in report.text()


def test_ratio_is_a_median_of_rounds():
    own = Entry("embstore", 9, turns=[Turn([10], 1), Turn([10], 1), Turn([90], 1)])
    other = Entry("other", 9, turns=[Turn([20], 1), Turn([30], 1), Turn([30], 1)])
    assert ratio(own, other) == pytest.approx(2)
    assert ratio(own, Entry("failed", 9)) is None


def test_ratio_is_on_the_line_of_embstore(tmp_path):
    report = Report.of(tmp_path, (5, 2), np.dtype("float32"))
    own = Entry("embstore", 5, turns=[Turn([1000], 32), Turn([1000], 32), Turn([9000], 32)])
    array = Entry("matrix[ids]", 5, turns=[Turn([2000], 32), Turn([3000], 32), Turn([3000], 32)])
    report.comparisons = [
        Comparison(Case(work.OPEN, 0), state.WARM, [Entry("embstore", 5, turns=[Turn([7])])]),
        Comparison(Case(work.RANDOM, 32), state.WARM, [own, array]),
    ]
    text = report.text()
    lines = [line.split() for line in text.splitlines()]
    heading = next(n for n, line in enumerate(lines) if line[-2:] == ["vs", "array"])
    assert lines[heading + 1][2] == "embstore"
    assert lines[heading + 1][-1] == "2.00x"
    assert "x" not in lines[heading + 2][-1]
    assert text.count("vs array") == 2
    assert "divided by that of matrix[ids] in the same round, the median of the" in text
    assert "batch 0" not in text
    assert ", 40 bytes; " in text
    report.disk = {"device": None, "read_ahead_kb": None, "rotational": None}
    assert "None" not in report.text()


def test_small_tables_are_told(path, tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "_bytes_read", lambda: 0)
    report = bench_store(path, batches=[1, 1500, 1501, 4096], rounds=1, seconds=0)
    text = report.text()
    assert "note: cold: no lookup read from a local disk" in text
    assert "not measured: cold" not in text
    assert "needs 96 MiB: that takes a table of 768 MiB or more" in text
    told = [note.partition(" ids")[0] for note in report.notes if "ids repeat" in note]
    assert told == ["1,501", "4,096"]
    shown = Figures(report.to_json())
    assert "from disk" not in shown.answer()
    assert "From disk" not in shown.tiles()


def test_plan_is_told_before_rows_are_loaded(path, monkeypatch):
    told: list[str] = []

    def load(*given: Any) -> None:
        told.append("load")
        raise MemoryError

    monkeypatch.setattr(suite, "load_matrix", load)
    with pytest.raises(MemoryError):
        bench_store(path, rounds=5, seconds=0.3, started=told.append)
    assert told == ["measuring 27 cases, up to about 3 minutes", "load"]
    some = [Case(work.OPEN, 0), Case(work.HOT, 4096)]
    found, left_out = plan.plan_of(some, ["limited", "warm", "preloaded"], compressed=True)
    assert found == {state.WARM: some, state.LIMITED: some[1:]}
    assert left_out == ["preloaded: rows of a compressed store are preloaded only by a row cache"]
    assert plan.seconds_most(found, rounds=2, seconds=1) == 2 * 2 + 5 * 10


def test_interrupt_shows_what_was_measured(path, tmp_path, monkeypatch):
    turns = count()

    def interrupted(*given: Any) -> Turn:
        if next(turns) == 5:
            raise KeyboardInterrupt
        return time_calls(*given)

    monkeypatch.setattr(suite, "time_calls", interrupted)
    options = ["--state", "warm", "--work", "read_random", "--rounds", "1", "--seconds", "0"]
    files = ["--report", str(tmp_path / "page.html"), "--output", str(tmp_path / "all")]
    shown = CliRunner().invoke(app, ["bench", str(path), *options, *files])
    assert shown.exit_code == 130
    assert "batch 32 " in shown.stdout
    assert "batch 256" not in shown.stdout
    assert "note: interrupted: 2 of 5 cases measured" in shown.stdout
    assert shown.stderr.startswith("embstore: note: measuring 5 cases, up to a few seconds\n")
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_interrupt_tells_what_was_not_read_from_disk(path, monkeypatch):
    cold = suite._Bench.cold

    def interrupted(self: Any, case: Case) -> Comparison:
        if case.batch == 32:
            raise KeyboardInterrupt
        return cold(self, case)

    monkeypatch.setattr(timing, "_bytes_read", lambda: 0)
    monkeypatch.setattr(suite._Bench, "cold", interrupted)
    with pytest.raises(suite.Interrupted) as caught:
        bench_store(path, works=[work.RANDOM], states=["cold"], rounds=1, seconds=0)
    notes = [note.partition(":")[0] for note in caught.value.report.notes]
    assert notes[-2:] == ["cold", "interrupted"]


@pytest.fixture
def interruptible():
    """Have SIGINT interrupt the test: a shell starts what is in the background without that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupt_ends_the_child_in_limited_memory(path, monkeypatch, plain_group):
    def lookup(self: Any, ids: Any) -> Any:
        os.kill(os.getppid(), signal.SIGINT)
        while True:
            signal.pause()

    monkeypatch.setattr(embstore.EmbeddingStore, "lookup", lookup)
    with pytest.raises(suite.Interrupted):
        bench_store(path, works=[work.HOT], states=["limited"], rounds=1, seconds=0)
    assert not Path(f"/proc/{plain_group.read_text()}").exists()


def test_files_are_replaced_only_if_asked(path, tmp_path):
    def bench(*options: str) -> Any:
        given = ["--state", "warm", "--work", "read_one", "--rounds", "1", "--seconds", "0"]
        return CliRunner().invoke(app, ["bench", str(path), *given, *options])

    for name in ("results.json", "hot.svg"):
        directory = tmp_path / name.partition(".")[0]
        directory.mkdir()
        (directory / name).write_text("precious")
        refused = bench("--output", str(directory))
        assert isinstance(refused.exception, FileExistsError)
        assert (directory / name).read_text() == "precious"
        assert bench("--output", str(directory), "--overwrite").exit_code == 0
        assert json.loads((directory / "results.json").read_text())["table"]["rows"] == ROWS
    refused = bench("--output", "-")
    assert refused.exit_code == 2
    assert "--report - writes a page" in refused.stderr


def test_report_on_standard_output(path, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    given = ["bench", str(path), "--state", "warm", "--work", "read_one", "--seconds", "0"]
    for options in ([], ["--json"]):
        shown = CliRunner().invoke(app, [*given, "--report", "-", *options])
        assert shown.exit_code == 0
        assert shown.stdout.startswith("<!doctype html>")
        assert shown.stdout.endswith("</html>\n")
        assert "read_one" in shown.stderr
    assert not list(tmp_path.iterdir())


def test_plots(tmp_path):
    pytest.importorskip("matplotlib")
    report = Report.of(tmp_path, (1000, 300), np.dtype("float32"))
    turns = [Turn([1000, 2000, 5000], 96, 96), Turn([1500, 2000, 4000], 96, 96)]
    for name in state.STATES:
        for batch in (1, 32, 4096):
            entries = [Entry(peer, 1000, turns=turns) for peer in ("embstore", "matrix[ids]")]
            case = Case(work.HOT if name == state.LIMITED else work.RANDOM, batch)
            size = 1 << 27 if name == state.LIMITED else None
            report.comparisons.append(Comparison(case, name, entries, size))
    files = plots.draw(report.to_json(), tmp_path / "plots")
    assert {file.name for file in files} == {
        f"{name}.{ending}" for name in ("rates", "times", "hot") for ending in ("png", "svg")
    }
    assert all(file.stat().st_size > 1000 for file in files)


def test_command(path, tmp_path):
    options = ["--work", "read_random", "--batch", "64", "--state", "warm", "--rounds", "1"]
    options += ["--seconds", "0.005"]
    runner = CliRunner()
    shown = runner.invoke(app, ["bench", str(path), *options, "--output", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    assert "warm, read_random" in shown.output
    assert (tmp_path / "results.json").exists()
    printed = runner.invoke(app, ["bench", str(path), *options, "--json"])
    report = json.loads(printed.stdout)
    assert report["table"]["rows"] == ROWS
    assert [(c["state"], c["batch"]) for c in report["comparisons"]] == [("warm", 64)]
    for wrong in (["--state", "lukewarm"], ["--work", "sleep"]):
        assert runner.invoke(app, ["bench", str(path), *wrong]).exit_code != 0


def test_files_opened_in_place(rows, tmp_path):
    np.save(tmp_path / "rows.npy", rows)
    header = {
        name: {"dtype": "F32", "shape": [count, DIMENSION], "data_offsets": [0, count * 80]}
        for name, count in (("a", ROWS), ("b", 7))
    }
    header["b"]["data_offsets"] = [ROWS * 80, ROWS * 80 + 560]
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + rows.tobytes() + rows[:7].tobytes()
    (tmp_path / "rows.safetensors").write_bytes(data)
    (tmp_path / "other").write_text("not a file of the table")
    for name, tensor in (("rows.npy", None), ("rows.safetensors", "a")):
        with embstore.open(tmp_path / name, tensor=tensor) as store:
            assert state.files_of(store) == [tmp_path / name]
        report = bench_store(tmp_path / name, tensor=tensor, batches=[300], rounds=1, seconds=0.001)
        assert {c.state for c in report.comparisons} == set(state.STATES) - {state.LIMITED}
        for comparison in report.comparisons:
            for entry in comparison.entries:
                assert [turn.checked_rows for turn in entry.turns] == [
                    turn.rows for turn in entry.turns
                ]
    command = ["bench", str(tmp_path / "rows.safetensors"), "--tensor", "b", "--json"]
    printed = CliRunner().invoke(app, [*command, "--state", "cold", "--seconds", "0"])
    assert json.loads(printed.stdout)["table"]["rows"] == 7


def test_store_without_rows(tmp_path):
    with embstore.StoreWriter(tmp_path / "s", row_shape=(3,), dtype="int8", rows=0):
        pass
    with pytest.raises(ValueError, match="has no rows to look up"):
        bench_store(tmp_path / "s")
    with pytest.raises(ValueError, match="unknown state 'lukewarm'; expected one of preloaded"):
        bench_store(tmp_path / "s", states=["lukewarm"])
