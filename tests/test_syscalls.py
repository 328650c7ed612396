"""embstore on a POSIX system that is not Linux, which a process on Linux pretends to be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import embstore
from embstore import syscalls

PROGRAM = """
import sys
sys.platform = "freebsd14"
import numpy as np
import embstore
from embstore import syscalls

assert syscalls.MAP_NORESERVE == 0
assert not syscalls.exchange(sys.argv[1], sys.argv[2])
memory = np.ones(1 << 20, np.uint8)
pages = -(-memory.ctypes.data // 65536) * 65536 + 65536 * np.arange(3)
syscalls.advise_many(pages, np.full(3, 65536), syscalls.MADV_WILLNEED)
assert memory.all()
for value in range(2):  # The second build replaces the first, without exchanging names.
    with embstore.StoreWriter(
        sys.argv[3], row_shape=(200,), dtype="float32", partitions=2, overwrite=True
    ) as writer:
        writer.write(np.full((5000, 200), value), [f"w{i}" for i in range(5000)])
with embstore.open(sys.argv[3], reader="chunked") as store:
    assert store["w3"].tolist() == [1] * 200
    assert store.ids(["w4999", "w0"]).tolist() == [4999, 0]
    store.prefetch([0, 1])
assert embstore.verify(sys.argv[3]).ok
print("done")
"""


def test_another_posix_system_builds_and_reads(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).write_text(name)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *(tmp_path / name for name in ("one", "other", "store"))],
        env=os.environ | {"PYTHONPATH": str(Path(embstore.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other", "store"]
    assert (tmp_path / "one").read_text() == "one"


def test_exchange(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    if syscalls.exchange(one, other):
        assert (one.read_text(), other.read_text()) == ("2", "1")
    else:  # The file system does not support it.
        assert (one.read_text(), other.read_text()) == ("1", "2")
