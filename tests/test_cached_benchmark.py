"""The benchmark of row caches runs small and compares its rows."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import cached
from benchmarks.cached import EARLY, LATE, LEARNED, SEEDED, UNIFORM, WITHOUT, ZIPF
from benchmarks.table import GeneratedTable
from embstore.bench.state import NoMemoryGroupError, memory_group
from tests.helpers.programs import run_python


def test_all_are_measured(tmp_path):
    try:
        with memory_group(cached.PROCESS_BYTES):
            pass
    except NoMemoryGroupError as error:
        pytest.skip(str(error))
    command = ["-m", "benchmarks.cached", "--row-bytes", "160", "--rows", "20000"]
    command += ["--batch", "64", "--early", "3", "--late", "8", "--timed", "2"]
    done = run_python(*command, "--directory", tmp_path)
    for way in (WITHOUT, LEARNED):
        assert f"\nrows of 160 B, zipf, {way}, after 8 calls " in done.stdout
        assert f"\nrows of 160 B, uniform, {way}, after 3 calls " in done.stdout
    assert not list(tmp_path.iterdir())


def test_drawn_ids(tmp_path):
    cached.draw(tmp_path, 1000, 20, 50, 30)
    zipf, uniform, seeds = (np.load(tmp_path / f"{n}.npy") for n in (ZIPF, UNIFORM, "seeds"))
    assert zipf.shape == uniform.shape == (20, 50)
    ids, counts = np.unique(zipf, return_counts=True)
    assert ids[counts.argmax()] in seeds[:3]
    assert np.isin(zipf, seeds).mean() > 0.4 > np.isin(uniform, seeds).mean()


def test_wrong_rows_are_found(tmp_path, monkeypatch):
    table = GeneratedTable.make(tmp_path / "t.embstore", 100, 3)
    cached.draw(tmp_path, 100, 4, 8, 10)
    part = cached.Part(str(table.path), str(tmp_path / "zipf.npy"), None, 0, (2,), 2)
    assert len(part.run()) == 1
    monkeypatch.setattr(GeneratedTable, "expected", lambda self, ids: np.zeros((8, 3), np.float32))
    with pytest.raises(ValueError, match="embstore returned wrong rows for"):
        part.run()


def test_verdicts():
    found = {
        (160, ZIPF, WITHOUT, EARLY): [100.0],
        (160, ZIPF, WITHOUT, LATE): [200.0],
        (160, ZIPF, LEARNED, EARLY): [150.0],
        (160, ZIPF, LEARNED, LATE): [300.0],
        (160, ZIPF, SEEDED, EARLY): [210.0, 230.0],
        (1200, UNIFORM, WITHOUT, EARLY): [100.0],
        (1200, UNIFORM, LEARNED, EARLY): [94.0],
    }
    verdicts = [line.split()[-4:] for line in cached.text(found).splitlines()[-4:]]
    assert verdicts == [
        ["1.50", ">=", "1.5", "yes"],
        ["1.50", ">=", "1.8", "NO"],
        ["2.20", ">=", "2", "yes"],
        ["0.94", ">=", "0.95", "NO"],
    ]
