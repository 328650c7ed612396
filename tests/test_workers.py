"""Errors and interrupts of work shared by threads, and helpers that are busy."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.reading import workers
from embstore.reading.slices import SliceGather

ROWS = np.arange(20_000 * 64, dtype=np.float32).reshape(20_000, 64)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that two threads look up in, on any number of processors."""
    monkeypatch.setattr(workers, "processor_count", lambda: 2)
    path = tmp_path / "s.embstore"
    embstore.build(ROWS, path).close()
    return path


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_interrupted_lookup_stops_writing_into_out(path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C while the calling thread waits for a helper."""
    begun = threading.Event()
    gather_slice = SliceGather.fill

    def gather(self: Any, physical: Any, out: Any, *, cold: bool) -> None:
        if threading.current_thread() is threading.main_thread():
            assert begun.wait(10)
        elif not begun.is_set():
            begun.set()
            time.sleep(0.3)
        gather_slice(self, physical, out, cold=cold)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    ids = np.arange(len(ROWS))
    out = np.empty_like(ROWS)
    with embstore.open(path) as store:
        store.lookup(ids, out=out)
        monkeypatch.setattr(SliceGather, "fill", gather)
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.15)
            with pytest.raises(KeyboardInterrupt):
                store.lookup(ids, out=out)
        finally:
            signal.signal(signal.SIGALRM, before)
        out[:] = -1
        time.sleep(0.4)
        assert (out == -1).all()


def test_error_of_one_thread_stops_the_others(path: Path, monkeypatch: pytest.MonkeyPatch):
    begun = threading.Event()
    slices = []

    def gather(_: Any, physical: Any, __: Any, *, cold: bool) -> None:
        slices.append(physical)
        if threading.current_thread() is threading.main_thread():
            begun.wait(10)
            time.sleep(0.01)
        else:
            begun.set()
            raise MemoryError("a helper's")

    ids = np.arange(len(ROWS)).repeat(4)
    with embstore.open(path) as store:
        store.lookup(ids)
        monkeypatch.setattr(SliceGather, "fill", gather)
        with pytest.raises(MemoryError, match="a helper's"):
            store.lookup(ids)
    assert len(slices) < 6


def test_busy_helpers_keep_no_results_alive(path: Path):
    free = threading.Event()
    for _ in range(workers.THREAD_COUNT):
        workers.submit(lambda: free.wait(20))
    try:
        with embstore.open(path) as store:
            store.lookup(np.arange(len(ROWS)))
            before = resident_bytes()
            for _ in range(40):
                store.lookup(np.random.default_rng(0).permutation(len(ROWS)))
            assert resident_bytes() - before < 10 * ROWS.nbytes
    finally:
        free.set()


def resident_bytes() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("this system does not say how much memory a process has")
    line = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) << 10


def test_a_thread_is_alone_until_its_block_ends():
    def here() -> tuple[bool, int]:
        return workers.is_alone(), workers.processor_count()

    usual = here()
    with workers.alone():
        with pytest.raises(ValueError, match="stop"), workers.alone():
            raise ValueError("stop")
        assert here() == (True, 1)
        others: list[tuple[bool, int]] = []
        thread = threading.Thread(target=lambda: others.append(here()))
        thread.start()
        thread.join()
    assert [here(), *others] == [usual] * 2
    assert not usual[0]
