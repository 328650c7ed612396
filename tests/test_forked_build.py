"""Forked children do not end a build, and a writer belongs to the process that made it."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.errors import StoreBusyError
from tests.helpers.stores import names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS = np.arange(40_000.0, dtype=np.float32).reshape(10_000, 4)
WORDS = [f"w{number}" for number in range(len(ROWS))]

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def in_fork(do: Callable[[], object]) -> int:
    """Do something in a forked child, which ends as Python's own exit does; return its status."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            do()
            status = 0
        except SystemExit as exit:
            status = int(exit.code or 0)
        except StoreBusyError:
            status = 4
        finally:
            gc.collect()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def writer_of(target: Path) -> embstore.StoreWriter:
    return embstore.StoreWriter(
        target, row_shape=(4,), dtype="float32", partitions=3, overwrite=True, memory_limit=1 << 20
    )


def leave_block(writer: embstore.StoreWriter) -> None:
    with writer:
        pass


def leave_block_with(error: type[BaseException]) -> Callable[[embstore.StoreWriter], None]:
    def leave(writer: embstore.StoreWriter) -> None:
        with writer:
            raise error

    return leave


def drop(writer: embstore.StoreWriter) -> None:
    vars(writer).clear()


def kill(_: embstore.StoreWriter) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def build_there(writer: embstore.StoreWriter) -> None:
    embstore.build(ROWS, writer._staging.target, overwrite=True)  # type: ignore[union-attr]


CHILDREN: dict[str, tuple[Callable[[embstore.StoreWriter], Any], int]] = {
    "leaves the block": (leave_block, 0),
    "leaves the block by exit": (leave_block_with(SystemExit), 0),
    "leaves the block by an error": (leave_block_with(ValueError), 3),
    "leaves the block by Ctrl-C": (leave_block_with(KeyboardInterrupt), 3),
    "discards": (lambda writer: writer.discard(), 0),
    "publishes": (lambda writer: writer.publish(), 4),
    "writes": (lambda writer: writer.write(ROWS[:2], ["a", "b"]), 4),
    "drops the writer": (drop, 0),
    "is killed": (kill, -signal.SIGKILL),
    "builds to the same target": (build_there, 4),
}


@pytest.mark.parametrize("old", [False, True], ids=["new", "replacing"])
@pytest.mark.parametrize("child", CHILDREN)
def test_child(tmp_path, child, old):
    target = tmp_path / "t.embstore"
    if old:
        embstore.build(ROWS[:7], target).close()
    do, status = CHILDREN[child]
    with writer_of(target) as writer:
        writer.write(ROWS[:5000], WORDS[:5000])
        assert in_fork(lambda: do(writer)) == status
        assert names(tmp_path) == sorted([".t.embstore.building", *["t.embstore"] * old])
        writer.write(ROWS[5000:], WORDS[5000:])
    with embstore.open(target, verify="full") as store:
        assert np.array_equal(store[:], ROWS)
        assert store.words(9999) == "w9999"
    assert names(tmp_path) == ["t.embstore"]


def test_child_of_another_thread(tmp_path):
    with writer_of(tmp_path / "t.embstore") as writer:
        writer.write(ROWS)
        status: list[int] = []
        thread = threading.Thread(
            target=lambda: status.append(in_fork(lambda: leave_block_with(SystemExit)(writer)))
        )
        thread.start()
        thread.join()
        assert status == [0]
    assert embstore.open(tmp_path / "t.embstore").rows == len(ROWS)


def test_child_of_multiprocessing(tmp_path):
    with writer_of(tmp_path / "t.embstore") as writer:
        writer.write(ROWS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            fork = multiprocessing.get_context("fork")
            process = fork.Process(target=leave_block_with(SystemExit), args=(writer,))
            process.start()
            process.join()
        assert process.exitcode == 0
    assert embstore.open(tmp_path / "t.embstore").rows == len(ROWS)


@pytest.mark.parametrize("source", ["text", "word2vec-binary", "array"])
def test_child_of_the_progress_callback(tmp_path, source):
    """The child unwinds the whole build, which has threads in its parent only."""
    file: Any = ROWS
    if source != "array":
        with embstore.build(ROWS, tmp_path / "s", words=WORDS) as store:
            file = tmp_path / "rows"
            embstore.export(store, file, format="word2vec" if source == "text" else source)
    parent = os.getpid()
    statuses: list[int] = []

    def progress(_: object) -> None:
        if os.getpid() == parent and not statuses:
            pid = os.fork()
            if pid == 0:
                raise SystemExit
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    try:
        store = embstore.build(file, tmp_path / "t.embstore", progress=progress)
    except SystemExit:
        os._exit(0 if os.getpid() != parent else 1)
    assert statuses == [0]
    assert np.array_equal(store[:], ROWS)
    assert ".t.embstore.building" not in names(tmp_path)


@pytest.mark.parametrize("name", ["t.vec", "t.bin", "t.parquet"])
def test_child_of_an_export(tmp_path, name):
    store = embstore.build(ROWS, tmp_path / "s", words=WORDS)
    parent = os.getpid()
    statuses: list[int] = []

    def progress(_: object) -> None:
        pid = os.fork()
        if pid == 0:
            raise SystemExit
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    try:
        embstore.export(store, tmp_path / name, progress=progress)
    except SystemExit:
        os._exit(0 if os.getpid() != parent else 1)
    assert set(statuses) == {0}
    assert np.array_equal(embstore.build(tmp_path / name, tmp_path / "again")[:], ROWS)


def test_child_does_not_keep_the_lock(tmp_path):
    """A build that was killed is over, although its child lives."""
    target = tmp_path / "t.embstore"
    ready, told = os.pipe()
    builder = os.fork()
    if builder == 0:
        writer = writer_of(target)
        child = os.fork()
        if child == 0:
            signal.pause()
        os.write(told, b"%9d" % child)
        signal.pause()
        del writer
    child = int(os.read(ready, 9))
    try:
        os.kill(builder, signal.SIGKILL)
        os.waitpid(builder, 0)
        embstore.build(ROWS, target).close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(ready)
        os.close(told)
    assert names(tmp_path) == ["t.embstore"]


def test_error_names_the_process(tmp_path):
    with writer_of(tmp_path / "t.embstore") as writer:
        writer._staging._process = 7  # type: ignore[union-attr]
        with pytest.raises(StoreBusyError, match=r"process 7 began the build of .*t.embstore"):
            writer.write(ROWS)
        writer._staging._process = os.getpid()  # type: ignore[union-attr]


@pytest.mark.parametrize("do", [pickle.dumps, copy.copy, copy.deepcopy])
def test_writers_cannot_be_copied(tmp_path, do):
    with writer_of(tmp_path / "t.embstore") as writer:
        with pytest.raises(TypeError, match="StoreWriter cannot be pickled or copied; make it in"):
            do(writer)
        writer.write(ROWS)
    assert embstore.open(tmp_path / "t.embstore").rows == len(ROWS)
