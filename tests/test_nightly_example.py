"""The example of a nightly refresh, on a store of its own."""

from __future__ import annotations

import numpy as np

import embstore
from tests.helpers.programs import ROOT, run_python

EXAMPLE = ROOT / "examples" / "nightly_refresh.py"


def test_nightly_refresh(tmp_path):
    embstore.build({"a": np.zeros(2), "b": np.zeros(2)}, tmp_path / "s").close()
    (tmp_path / "today.txt").write_text("b 1 1\nc 2 2\n")
    url = (tmp_path / "published").as_uri()
    done = run_python(EXAMPLE, tmp_path / "s", tmp_path / "today.txt", "--url", url)
    assert "published " in done.stdout
    failed = run_python(EXAMPLE, tmp_path / "s", tmp_path / "missing.txt", status=1)
    assert failed.stderr == f"nightly_refresh: no such file: {tmp_path / 'missing.txt'}\n"
    with embstore.open(url) as table:
        assert table[["a", "b", "c"]].tolist() == [[0, 0], [1, 1], [2, 2]]
    (snapshot,) = tmp_path.glob("s-*")
    with embstore.open(snapshot) as before:
        assert before.rows == 2
