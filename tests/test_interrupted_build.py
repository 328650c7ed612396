"""Builds stopped by the disk, a signal or another build; and the memory of a build."""

from __future__ import annotations

import contextlib
import errno
import gc
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

import embstore
from embstore.errors import StoreBusyError, StoreExistsError
from tests.helpers.programs import environment
from tests.helpers.stores import names, value_of, write_store

LINE = " ".join(["0.125"] * 64)
TABLE = "".join(f"w{i} {LINE}\n" for i in range(8000))  # 2 MB as float32.


@pytest.fixture
def table(tmp_path):
    """A text file, alone in its directory; stores are built beside it."""
    path = tmp_path / "table.txt"
    path.write_text(TABLE)
    return path


def python(program: str, *arguments: object, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start a program in a new Python; it can use ``embstore``, ``sys``, ``os`` and ``time``."""
    text = "import embstore, os, resource, sys, time\n" + textwrap.dedent(program)
    return subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("old", [False, True], ids=["new", "replacing"])
@pytest.mark.parametrize("partitions", [1, 16])
def test_full_disk_leaves_the_target(table, small_disk, partitions, old):
    target = small_disk / "table.embstore"
    if old:
        table.write_text("the 1 2\nlike 3 4\n")
        embstore.build(table, target).close()
        table.write_text(TABLE)
    before = names(small_disk)
    with pytest.raises(OSError, match="No space left on device") as error:
        embstore.build(table, target, partitions=partitions, memory_limit=4 << 20, overwrite=old)
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename.startswith(str(small_disk))
    assert names(small_disk) == before
    if old:
        assert embstore.open(target)["like"].tolist() == [3, 4]


def test_file_size_limit_ends_the_build(table, tmp_path):
    program = """
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            embstore.build(sys.argv[1], sys.argv[2])
        except OSError as error:
            print(error.errno, error.filename)
    """
    out, err = python(program, table, tmp_path / "table.embstore").communicate()
    number, filename = out.split()
    assert int(number) == errno.EFBIG, err
    assert filename.startswith(str(tmp_path))
    assert names(tmp_path) == ["table.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
@pytest.mark.parametrize("when", ["start", "end"])
def test_error_of_the_progress_callback_ends_the_build(table, tmp_path, error, when):
    def progress(at):
        if when == "start" or at.done_bytes == at.total_bytes:
            raise error

    with pytest.raises(error):
        embstore.build(table, tmp_path / "table.embstore", partitions=4, progress=progress)
    assert names(tmp_path) == ["table.txt"]


SLOW_DISK = """
    import signal, threading
    from embstore.writing.disk import files
    quick = files.write_at
    interrupted = threading.Event()

    def interrupt(number, frame):
        interrupted.set()
        raise KeyboardInterrupt

    # The children of a test run in the background ignore Ctrl-C by default.
    signal.signal(signal.SIGINT, interrupt)

    def slow(descriptor, data, offset, path):
        print("writing", flush=True)
        interrupted.wait(300)
        time.sleep(0.2)
        quick(descriptor, data, offset, path)

    files.write_at = slow
"""


@pytest.mark.parametrize("old", [False, True], ids=["new", "replacing"])
def test_ctrl_c_while_a_chunk_is_written(table, tmp_path, old):
    target = tmp_path / "table.embstore"
    if old:
        embstore.build(table, target).close()
    before = names(tmp_path)
    program = (
        SLOW_DISK
        + """
    try:
        embstore.build(*sys.argv[1:3], memory_limit=1 << 20, overwrite=True)
    except KeyboardInterrupt:
        time.sleep(0.4)  # A write that continued would be finished by then.
        raise
    """
    )
    process = python(program, table, target)
    assert first_line(process) == "writing\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in err
    assert names(tmp_path) == before


def test_build_after_a_killed_build(table, tmp_path):
    """While a build lives, its target is busy; once it is dead, its leftovers are removed."""
    program = """
        def progress(at):
            print("half", flush=True)
            time.sleep(1000)

        embstore.build(*sys.argv[1:3], memory_limit=1 << 20, progress=progress)
    """
    target = tmp_path / "table.embstore"
    process = python(program, table, target)
    try:
        assert first_line(process) == "half\n"
        hidden = tmp_path / ".table.embstore.building"
        deadline = time.monotonic() + 300
        while not list(hidden.glob("partitions/0/c/*/0")):  # Written in the background.
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(StoreBusyError, match="another build is writing") as error:
            embstore.build(table, target)
        assert isinstance(error.value, BlockingIOError)
        assert f"(process {process.pid} on " in str(error.value)
        assert str(target) in str(error.value)
        assert list(hidden.glob("partitions/0/c/*/0"))
    finally:
        process.kill()
        process.communicate()
    assert names(tmp_path) == [hidden.name, table.name]
    (hidden / "partitions" / "0" / "c" / "99").mkdir()
    store = embstore.build(table, target, partitions=2)
    assert names(tmp_path) == [target.name, table.name]
    assert names(target / "partitions" / "0" / "c") == ["0"]
    assert store.rows == 8000
    assert embstore.verify(target).ok


def test_second_writer_of_a_target_is_refused(table, tmp_path):
    target = tmp_path / "table.embstore"
    with embstore.StoreWriter(target, row_shape=(), dtype="int8") as writer:
        writer.write([1, 2, 3])
        with pytest.raises(StoreBusyError):
            embstore.build(table, target, overwrite=True)
        writer.write([4])
    assert embstore.open(target)[:].tolist() == [1, 2, 3, 4]
    assert names(tmp_path) == [target.name, table.name]


def test_target_created_during_a_build_is_kept(table, tmp_path):
    target = tmp_path / "table.embstore"
    writer = embstore.StoreWriter(target, row_shape=(), dtype="int8")
    writer.write([1, 2, 3])
    target.write_text("mine")
    with pytest.raises(StoreExistsError):
        writer.publish()
    assert target.read_text() == "mine"
    assert names(tmp_path) == [target.name, table.name]


def start_writing(target: Path) -> embstore.StoreWriter:
    writer = embstore.StoreWriter(target, row_shape=(4,), dtype="float32", overwrite=True)
    for copy in (True, False):
        writer.write(np.zeros((1000, 4), np.float32), copy=copy)
    return writer


def drop(target: Path) -> None:
    start_writing(target)


def drop_in_a_cycle(target: Path) -> None:
    cycle: list[object] = [start_writing(target)]
    cycle.append(cycle)


def drop_by_an_error(target: Path) -> None:
    with contextlib.suppress(ZeroDivisionError):
        writer = start_writing(target)
        writer.write(np.zeros((1 // 0, 4)))


def drop_with_words(target: Path) -> None:
    writer = embstore.StoreWriter(target, row_shape=(4,), dtype="float32", overwrite=True)
    writer.write(np.zeros((1000, 4)), [f"w{number}" for number in range(1000)])


def drop_on_its_own_thread(target: Path) -> None:
    """The garbage collector may find a writer on any thread."""
    writers = [start_writing(target)]
    writers[0]._background._writing.submit(writers.clear)


def drop_on_another_thread(target: Path) -> None:
    writers = [start_writing(target)]
    thread = threading.Thread(target=writers.clear)
    thread.start()
    thread.join()


@pytest.mark.parametrize("old", [False, True], ids=["new", "replacing"])
@pytest.mark.parametrize(
    "drop_one",
    [
        *(drop, drop_in_a_cycle, drop_by_an_error, drop_with_words),
        *(drop_on_its_own_thread, drop_on_another_thread),
    ],
)
def test_dropped_writer(tmp_path, drop_one, old):
    target = tmp_path / "t.embstore"
    if old:
        write_store(target, 1)
    drop_one(target)
    gc.collect()
    of_builds = ("embstore-write", "embstore-flush", "embstore-discard")
    while own := [one for one in threading.enumerate() if one.name.startswith(of_builds)]:
        for thread in own:
            thread.join()  # It may have started another one.
    assert names(tmp_path) == ["t.embstore"] * old
    write_store(target, 2, overwrite=True)
    assert value_of(target) == 2


ENDS = {
    "the end": "",
    "an error": "1 / 0",
    "exit": "sys.exit(3)",
    "exit in a block": "with writer: sys.exit(3)",
    "exit of a child first": """
        if os.fork() == 0:
            sys.exit()
        os.wait()
        writer.write(rows)
    """,
    "a thread that goes on": """
        import threading
        def go_on():
            while True:
                writer.write(rows)
        threading.Thread(target=go_on, daemon=True).start()
    """,
}


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("end", ENDS)
def test_writer_left_at_the_end_of_a_program(tmp_path, end):
    write_store(tmp_path / "t.embstore", 1)
    start = """
        import numpy
        rows = numpy.zeros((1000, 4))
        writer = embstore.StoreWriter(sys.argv[1], row_shape=(4,), dtype="float32", overwrite=True)
        writer.write(rows)
    """
    program = textwrap.dedent(start) + textwrap.dedent(ENDS[end])
    out, err = python(program, tmp_path / "t.embstore").communicate()
    assert (out, "embstore" in err) == ("", False), err
    assert names(tmp_path) == ["t.embstore"]
    assert value_of(tmp_path / "t.embstore") == 1


def test_publishing_when_the_program_ends(tmp_path):
    """What the end of the program has discarded is not published by a thread that goes on."""
    writer = start_writing(tmp_path / "t.embstore")
    staging = writer._staging
    assert staging is not None
    ending = patch.object(staging, "check_contents", writer._finalize)
    with ending, pytest.raises(ValueError, match="has already published or discarded its store"):
        writer.publish()
    assert names(tmp_path) == []


def test_memory_is_bounded(tmp_path):
    """The table is twice as large as the growth that is allowed, its text five times."""
    program = """
        from embstore.sources.text.blocks import TextFile
        from tests.helpers.memory import peak_bytes

        # One block for each processor is held at once; small blocks here.
        TextFile.blocks.__defaults__ = (256 << 10,)

        def write(path, rows):
            line = " ".join(["-0.12345"] * 128)
            with open(path, "w") as file:
                for i in range(rows):
                    file.write(f"w{i} {line}\\n")

        def peak_after(path):
            embstore.build(path, path + ".embstore", partitions=4, memory_limit=4 << 20).close()
            return peak_bytes()

        write("small", 8_000)
        write("large", 60_000)
        small = peak_after("small")
        print(peak_after("large") - small)
    """
    out, err = python(program, cwd=tmp_path).communicate()
    table_bytes = 60_000 * 128 * 4
    assert int(out) < table_bytes / 2, err


def test_memory_of_a_writer_is_bounded(tmp_path):
    """The rows are five times the limit; the words with their index exceed it, too."""
    program = """
        import numpy as np
        from embstore.vocabulary.words import pack_encoded
        from tests.helpers.memory import peak_bytes

        LIMIT = 32 << 20

        def write(path, count, width):
            rows = np.ones((500, width), np.float32)
            settings = {"row_shape": (width,), "dtype": "float32", "memory_limit": LIMIT}
            with embstore.StoreWriter(path, partitions=3, **settings) as writer:
                for start in range(0, count, 500):
                    words = [b"word %09d" % i for i in range(start, start + 500)]
                    writer.write(rows, pack_encoded(words))

        write("small", 500, 4)  # Loads the libraries.
        before = peak_bytes()
        write("large", 80_000, 512)
        write("words", 500_000, 1)
        print((peak_bytes() - before) / LIMIT)
    """
    out, err = python(program, cwd=tmp_path).communicate()
    assert out, err
    assert float(out) < 1
    with embstore.open(tmp_path / "words") as store:
        assert store.ids(["word 000000000", "word 000499999"]).tolist() == [0, 499_999]
