"""Failing and full disks: a build ends with the disk's error, and leaves nothing."""

from __future__ import annotations

import contextlib
import errno
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

import embstore
from tests.campaigns.failures import short_writes
from tests.campaigns.faults import Failer, in_one_step, in_two_steps, steps
from tests.helpers.stores import names, value_of, write_store

if TYPE_CHECKING:
    from tests.campaigns.faults import When

ROWS = np.random.default_rng(0).standard_normal((4000, 64), np.float32)  # 1 MB.


def failing(when: When) -> contextlib.AbstractContextManager[None]:
    """Fail the first step that a function picks."""
    return steps(Failer(when))


@pytest.mark.parametrize("way", ["exchange", "two renames"])
@pytest.mark.parametrize("old", [False, True])
def test_last_flush_fails(target, tmp_path, way, old):
    """The new store has its name already, and a reader may have opened it."""
    if old:
        write_store(target, 1)

    def is_after_naming(step):
        is_parent = step.kind == "flush" and step.path == tmp_path
        return is_parent and target.exists() and value_of(target) == 2

    instead = "the old one, kept as .*, may be there again" if old else "there may be no store"
    message = rf"Input/output error; the new store is in place.*{instead}"
    with (
        in_two_steps() if way == "two renames" else in_one_step(),
        failing(is_after_naming),
        pytest.raises(OSError, match=message) as error,
    ):
        write_store(target, 2, overwrite=True)
    assert error.value.errno == errno.EIO
    assert error.value.filename == str(tmp_path)
    assert value_of(target) == 2
    if old:
        # On disk, the target's name may still mean the old store, so all of it is kept.
        (kept,) = set(tmp_path.iterdir()) - {target}
        assert value_of(kept) == 1
        assert str(kept) in str(error.value)
        assert embstore.verify(kept).ok
    write_store(target, 3, overwrite=True)
    assert names(tmp_path) == ["t.embstore"]


def test_old_store_cannot_be_removed(target, tmp_path):
    write_store(target, 1)
    message = r"the new store is in place.*some of the old one is left in .*\.t\.embstore\.building"
    with failing(lambda step: step.kind == "rmdir"), pytest.raises(OSError, match=message):
        write_store(target, 2, overwrite=True)
    assert value_of(target) == 2
    write_store(target, 3, overwrite=True)
    assert names(tmp_path) == ["t.embstore"]


def test_failed_removal_of_leftovers_releases_the_lock(target, tmp_path):
    (tmp_path / ".t.embstore.building" / "partitions").mkdir(parents=True)
    with failing(lambda step: step.kind == "rmdir"), pytest.raises(OSError, match="Input/output"):
        write_store(target, 1)
    write_store(target, 2)
    assert names(tmp_path) == ["t.embstore"]


def test_leftovers_are_kept_until_names_are_flushed(target, tmp_path):
    """Leftovers may be the old store, which still has the target's name on disk."""
    write_store(target, 1)
    left = target.rename(tmp_path / ".t.embstore.building")
    with (
        failing(lambda step: step.kind == "flush" and step.path == tmp_path),
        pytest.raises(OSError, match="Input/output"),
    ):
        write_store(target, 2)
    assert value_of(left) == 1
    write_store(target, 3)
    assert names(tmp_path) == ["t.embstore"]


def test_write_of_no_bytes_is_an_error(target, tmp_path):
    """It is not tried again for ever."""
    with (
        short_writes(random.Random(0), empty=1),
        pytest.raises(OSError, match="Input/output error while writing") as error,
    ):
        write_store(target, 1)
    assert error.value.errno == errno.EIO
    assert names(tmp_path) == []


# File systems that are full.


def build_text(folder, target):
    lines = [f"w{number} {' '.join(map(str, row))}\n" for number, row in enumerate(ROWS.tolist())]
    (folder / "table.txt").write_text("".join(lines))
    embstore.build(folder / "table.txt", target, partitions=3, memory_limit=4 << 20, overwrite=True)


def build_npy(folder, target):
    np.save(folder / "table.npy", ROWS)
    embstore.build(folder / "table.npy", target, partitions=3, overwrite=True)


def build_compressed(folder, target):
    rows = np.concatenate([ROWS, -ROWS])
    embstore.build(rows, target, partitions=3, compression="zstd:1", overwrite=True)


def build_encoded(folder, target):
    rows = np.concatenate([ROWS, -ROWS] * 3)
    embstore.build(rows, target, partitions=3, encoding="int8:16", overwrite=True)


def write_words(folder, target):
    """Write more words than fit into memory, so that they go to scratch files."""
    with embstore.StoreWriter(
        target, row_shape=(), dtype="int8", memory_limit=1 << 20, overwrite=True
    ) as writer:
        for first in range(0, 60_000, 5000):
            words = [f"a longer word {number}" for number in range(first, first + 5000)]
            writer.write(np.zeros(5000, np.int8), words)


@pytest.mark.parametrize(
    "build", [build_text, build_npy, build_compressed, build_encoded, write_words]
)
@pytest.mark.parametrize("old", [False, True], ids=["new", "replacing"])
def test_full_disk(tmp_path, small_disk, build, old):
    """Another file takes some of the disk, so that it is full at another step each time."""
    target = small_disk / "t.embstore"
    if old:
        write_store(target, 1)
    for taken in (0, 200_000, 450_000, 700_000):
        (small_disk / "other").write_bytes(bytes(taken))
        with pytest.raises(OSError, match=r"No space left on device.*another disk") as error:
            build(tmp_path, target)
        assert error.value.errno == errno.ENOSPC
        assert error.value.filename.startswith(str(small_disk))
        assert names(small_disk) == ["other", "t.embstore"][: 1 + old]
        if old:
            assert value_of(target) == 1
            assert embstore.verify(target).ok
    (small_disk / "other").unlink()
    write_store(target, 2, overwrite=True)
    assert value_of(target) == 2


@pytest.mark.parametrize("name", ["t.vec", "t.bin", "t.npy", "t.parquet"])
def test_export_to_a_full_disk(tmp_path, small_disk, name):
    with embstore.StoreWriter(tmp_path / "t", row_shape=(64,), dtype="float32") as writer:
        writer.write(ROWS, [f"w{number}" for number in range(len(ROWS))])
    (small_disk / name).write_bytes(b"old")
    (small_disk / "other").write_bytes(bytes(500_000))
    with pytest.raises(OSError, match="No space left on device") as error:
        embstore.export(tmp_path / "t", small_disk / name, overwrite=True)
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename.startswith(str(small_disk))
    assert names(small_disk) == ["other", name]
    assert (small_disk / name).read_bytes() == b"old"
