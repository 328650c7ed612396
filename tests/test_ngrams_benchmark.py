"""The benchmark of n-gram tables runs small; the peers' rows are compared in each run."""

from __future__ import annotations

import subprocess
import sys

from benchmarks import ngrams
from benchmarks.peers.engram import EngramFetch, EngramPages


def test_peers_are_measured(tmp_path):
    command = [sys.executable, "-m", "benchmarks.ngrams", "--rows", "3001", "--rounds", "1"]
    command += ["--seconds", "0.001", "--peer", "np.take(out=)", "--peer", "engramdb fetch"]
    command += ["--peer", "engramdb io_uring", "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    assert "np.take(out=)" in done.stdout
    for peer in (EngramFetch, EngramPages):
        missing = f"{peer.name}: engramdb-python is not installed"
        assert (missing in done.stdout) == (peer.missing() is not None)
    assert done.stdout.count(">= ") == len(ngrams.GOALS)
    assert not list(tmp_path.iterdir())
