"""The benchmark of language models' tables runs small; every row is compared in each run."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import decoding, models
from benchmarks.device import DiskLimit
from benchmarks.measure import Settings
from benchmarks.model_tables import KINDS, ModelTable
from benchmarks.orders import DiskTurn
from benchmarks.peers.models import PEERS, InPlace, OneRecord
from benchmarks.report import PeerReport
from embstore.bench import work
from embstore.bench.report import Comparison, Entry
from embstore.bench.state import COLD, WARM
from embstore.bench.timing import check_rows
from embstore.bench.work import Case
from tests.helpers.programs import run_python

ROWS = 2000
IDS = np.random.default_rng(3).integers(0, ROWS, 300)


def needed(kind):
    pytest.importorskip("gguf" if kind.scale is None else "torch")


def made(tmp_path, name):
    kind = KINDS[name]
    needed(kind)
    return ModelTable.make(tmp_path / "model", kind, ROWS)


@pytest.mark.parametrize("peer_type", [InPlace, *PEERS], ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", KINDS)
def test_every_peer_returns_the_rows(name, peer_type, tmp_path):
    if (missing := peer_type.missing()) is not None:
        pytest.skip(f"{missing} is not installed")
    if not peer_type.fits(KINDS[name]):
        pytest.skip("it does not read such a table")
    table = made(tmp_path, name)
    own = tmp_path / "own"
    own.mkdir()
    peer = peer_type(table, own if peer_type.folder else None)
    peer.load()
    peer.prepare()
    assert peer.files()
    peer.open()
    assert check_rows(peer.name, IDS, peer.lookup(IDS), table.expected(IDS)) == len(IDS)


@pytest.mark.parametrize("name", KINDS)
def test_files_hold_the_records(name, tmp_path):
    table = made(tmp_path, name)
    records = table.kind.records(np.arange(ROWS))
    width = table.kind.code_bytes
    for places, fields in ((table.codes, records[:, :width]), (table.scales, records[:, width:])):
        held = [
            np.fromfile(place.file, np.uint8, place.rows * place.record_bytes, offset=place.offset)
            for place in places
        ]
        if held:
            assert np.array_equal(np.concatenate(held), fields.reshape(-1))
    assert np.isfinite(table.expected(IDS).astype(np.float32)).all()


def test_pages_that_are_needed(tmp_path):
    table = made(tmp_path, "264")
    (codes,), (scales,) = table.codes, table.scales
    for ids in (IDS[:1], IDS):
        pages = set()
        for place in (codes, scales):
            for number in ids.tolist():
                first = place.offset + number * place.record_bytes
                last = first + place.record_bytes - 1
                pages |= {(place, page) for page in range(first // 4096, last // 4096 + 1)}
        # A page at the border of the columns is counted in each.
        assert table.pages(ids) == len(pages)


def test_all_is_measured(tmp_path):
    needed(KINDS["162"])
    command = ["-m", "benchmarks.models", "--bytes", "400KB", "--rounds", "1", "--kind", "162"]
    command += ["--seconds", "0.001", "--disk-seconds", "0", "--batch", "48", "--batch", "4096"]
    command += ["--peer", "embstore, one record"]
    done = run_python(*command, "--directory", tmp_path)
    for text in (
        "\ndecode 162 to bfloat16, 4,096 rows: ml_dtypes ",
        "\ndecode 162 to float32, 4,096 rows, times the fastest other ",
        "\nopen and first lookup, 48 files, cold, ms ",
        "\nwarm, read_random",
        "\ncold, read_random",
        "\nbatch 48     embstore ",
        "\n162, embstore, warm, batch 48, us ",
        "\n162, embstore, one record, warm, batch 48, us ",
    ):
        assert text in done.stdout
    assert "wrong rows" not in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["162", "264", "160", "144"])
def test_wrong_decodes_are_found(name, monkeypatch):
    needed(KINDS[name])

    def broken(kind, records, dtype):
        out = np.zeros((len(records), kind.values), dtype)
        return {"broken": lambda: out}

    monkeypatch.setattr(decoding, "ways", broken)
    with pytest.raises(ValueError, match="broken returned wrong rows"):
        decoding.time_decodes([KINDS[name]], [10], 1, lambda line: None)


def test_wrong_rows_are_found(tmp_path, monkeypatch):
    table = made(tmp_path, "160")
    monkeypatch.setattr(InPlace, "lookup", lambda self, ids: table.expected(ids[::-1]))
    with pytest.raises(ValueError, match="embstore returned wrong rows"):
        models.pages_read(InPlace(table), 20, 2)


def test_verdicts(tmp_path):
    table = made(tmp_path, "162")
    report = PeerReport.of(table.path, (ROWS, 160), np.dtype(table.dtype))
    report.disk_limit = DiskLimit("preadv on threads", {1: 100.0})
    second = 10**9
    for name, slow in ((InPlace.name, 1), (OneRecord.name, 2)):
        turns = [DiskTurn([slow * 10_000], 48, 48)]
        warm = Comparison(Case(work.RANDOM, 48), WARM, [Entry(name, ROWS, turns=[*turns])])
        turns = [DiskTurn([slow * second], 4096, 4096, 0, 90)]
        cold = Comparison(Case(work.RANDOM, 4096), COLD, [Entry(name, ROWS, turns=[*turns])])
        report.comparisons += [warm, cold]
    found = models.Found(table, report, {(InPlace.name, 48): 1.2, (OneRecord.name, 48): 1.0})
    assert [line.split()[-4:] for line in found.goals()] == [
        ["10.00", "<=", "15", "yes"],
        ["0.90", ">=", "0.85", "yes"],
        ["20.00", "<=", "15", "NO"],
        ["0.45", ">=", "0.85", "NO"],
        ["1.20", "<=", "1.15", "NO"],
    ]
    case = decoding.case_of(table.kind, "float32", 4096)
    times = {f"{case}: embstore": [1.0], f"{case}: torch": [9.0], f"{case}: ml_dtypes": [4.0]}
    (line,) = decoding.goals(times, [4096])
    assert line.split()[-4:] == ["4.00", ">=", "5", "NO"]
    evicted, ready = models.open_lines({COLD: [60.0, 40.0, 51.0], WARM: [7.0]})
    assert evicted.split()[-4:] == ["51.00", "<=", "50", "NO"]
    assert ready.split()[-4:] == ["7.00", "<=", "50", "yes"]


def test_slow_peers_get_no_large_batches(tmp_path):
    table = made(tmp_path, "160")
    plan = models.Plan((WARM,), (16, 65536), (), Settings(1, 0.001), 0)
    peers = [kind(table) for kind in PEERS if kind.fits(table.kind)]
    (all_peers, small), (fast, large) = models._split(peers, plan.batches)
    assert (small, large) == ([16], [65536])
    assert {peer.name for peer in all_peers} - {peer.name for peer in fast} == {
        "safetensors get_slice"
    }
