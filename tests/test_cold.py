"""Cold rows, on disk and not in memory: they are right, and little else is read for them."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ROWS = 720_000
DIMENSION = 384
GIB = 1 << 30

pytestmark = pytest.mark.skipif(
    not hasattr(os, "posix_fadvise"), reason="this system cannot drop a file from its page cache"
)


def model(ids: ArrayLike) -> NDArray[np.float32]:
    """Return the rows of ids, all different and exact in float32."""
    columns = np.arange(DIMENSION) % 16
    rows: NDArray[Any] = np.asarray(ids)[..., np.newaxis] * 16 + columns
    return rows.astype(np.float32)


def evict(path: Path) -> None:
    """Drop the files below ``path`` from the page cache."""
    for file in path.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fdatasync(descriptor)  # Only what is on disk can be dropped.
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def blocks_count(path: Path) -> bool:
    """Return whether a plain cold read of a file moves the counter of blocks."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.pread(descriptor, 4096, 5 << 20)
    finally:
        os.close(descriptor)
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock > before


@pytest.fixture(scope="module")
def large_store(tmp_path_factory):
    """A store of more than 1 GiB."""
    folder = tmp_path_factory.mktemp("cold")
    if shutil.disk_usage(folder).free < 3 * GIB:
        pytest.skip(f"less than 3 GiB are free at {folder}")
    path = folder / "large.embstore"
    try:
        with embstore.StoreWriter(
            path, row_shape=(DIMENSION,), dtype="float32", partitions=4, rows=ROWS
        ) as writer:
            for begin in range(0, ROWS, 40_000):
                writer.write(model(np.arange(begin, min(begin + 40_000, ROWS))))
        assert sum(file.stat().st_size for file in path.rglob("c/*/*")) > GIB
        evict(path)
        if not blocks_count(path / "partitions/0/c/0/0"):
            pytest.skip(f"the file system at {folder} does not count blocks, or does not drop them")
        yield path
    finally:
        shutil.rmtree(folder)


# The small store loads the same code first, so that only the large one's rows are measured.
PROGRAM = """
import json, resource, sys
import numpy as np
import embstore

def blocks():
    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock

embstore.open(sys.argv[2]).lookup([0, 1])
ids = np.array(json.loads(sys.stdin.read()))
with embstore.open(sys.argv[1]) as store:
    before = blocks()
    rows = store.lookup(ids)
    read = (blocks() - before) * 512
    print(json.dumps({"read": read, "planned": store.explain(ids).bytes_read}))
np.save(sys.argv[3], rows)
"""


def look_up_cold(store: Path, small: Path, ids, folder: Path):
    """Look ids up in a new process; return the rows, the bytes read, and those planned."""
    evict(store)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, (store, small, folder / "rows.npy"))],
        env=os.environ | {"PYTHONPATH": str(Path(embstore.__file__).parents[1])},
        input=json.dumps(ids),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    numbers = json.loads(done.stdout)
    return np.load(folder / "rows.npy"), numbers["read"], numbers["planned"]


@pytest.mark.parametrize("number", [0, 123_457, 400_002, ROWS - 1])
def test_one_cold_row_reads_16_kib_at_most(large_store, words_store, tmp_path, number):
    row, read, planned = look_up_cold(large_store, words_store, number, tmp_path)
    assert np.array_equal(row, model(number))
    assert 0 < read <= 16 << 10
    assert planned in (4096, 8192)


@pytest.mark.parametrize("count", [300, 6000])
def test_many_cold_rows(large_store, words_store, tmp_path, count):
    ids = np.random.default_rng(count).integers(0, ROWS, count)
    rows, read, planned = look_up_cold(large_store, words_store, ids.tolist(), tmp_path)
    assert np.array_equal(rows, model(ids))
    # Some pages may be read by two slices of a request, or because the kernel chooses to, but not
    # 128 KiB around every row.
    assert planned // 2 < read <= 2 * planned
