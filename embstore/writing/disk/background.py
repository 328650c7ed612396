"""The two background threads of a build: one writes, one flushes.

1. `Background.write` queues work in order and returns. It waits only while too many bytes are
   queued.
2. Complete files are flushed by the second thread, several at a time, while the first one writes.
3. After the first error, the work that follows is dropped, and the next call or `finish` raises the
   error.

Writing, checksums and flushing release the GIL, so the producer is hardly slowed down. Where no
thread can be started, work is done when it is queued (`embstore.threads`).
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from threading import Condition
from typing import TYPE_CHECKING

from embstore.threads import Pool
from embstore.writing.disk import files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embstore.threads import Task

# Complete files are flushed when they have this many bytes, or when too many are open.
FLUSH_BYTES = 64 << 20


class Background:
    """Two threads that write and flush the files of one store.

    Parameters
    ----------
    queue_bytes : int
        The most bytes of rows in queued work.
    dry : bool
        Whether to do everything but write.

    Attributes
    ----------
    file_count, byte_count : int
        Files that are complete, and their bytes.
    """

    def __init__(self, queue_bytes: int, *, dry: bool = False) -> None:
        self.file_count = self.byte_count = 0
        self._dry = dry
        self._queue_bytes = queue_bytes
        self._pending_bytes = 0
        self._error: BaseException | None = None
        self._closed = False
        self._changed = Condition()
        # Used by the writing thread: files being written, and complete files to flush.
        self._open: dict[Path, int] = {}
        self._complete: list[tuple[int, Path]] = []
        self._complete_bytes = 0
        self._flushed: Task[None] | None = None  # Of the last files passed to the other thread.
        self._max_open = files.max_open_files()
        self._writing = Pool(1, "embstore-write")
        self._flushing = Pool(1, "embstore-flush")

    @property
    def is_busy(self) -> bool:
        """Whether more than half of the bytes that may be queued are queued."""
        return 2 * self._pending_bytes > self._queue_bytes

    @property
    def is_here(self) -> bool:
        """Whether one of the threads runs this call."""
        return self._writing.is_here or self._flushing.is_here

    def write(self, work: Callable[[], None], size_bytes: int) -> None:
        """Queue ``work``, which holds ``size_bytes`` of rows; work is done in order."""
        with self._changed:
            while self._error is None and (
                self._pending_bytes and self._pending_bytes + size_bytes > self._queue_bytes
            ):
                self._changed.wait()
            self._check()
            self._pending_bytes += size_bytes
        self._writing.submit(partial(self._run, work, size_bytes))

    def write_file(self, path: Path, data: bytes) -> None:
        """Queue a small file; it is flushed together with others."""

        def work() -> None:
            self.write_at(path, data, 0)
            self.flush(path, len(data))

        self.write(work, len(data))

    def flush_soon(self) -> None:
        """Queue the flush of all files that are complete when the work before is done."""
        self._writing.submit(partial(self._run, self._flush_complete, 0))

    def wait_until_written(self) -> None:
        """Wait until everything is written, though perhaps not flushed.

        Raises
        ------
        OSError
            If writing or flushing a file failed.
        """
        self._writing.result(self._writing.submit(int))
        with self._changed:
            self._check()

    def finish(self) -> None:
        """Wait until everything is written and flushed; errors as `wait_until_written`."""
        self.flush_soon()
        self.wait_until_written()
        self._flushing.result(self._flushing.submit(int))
        with self._changed:
            self._check()

    def close(self) -> None:
        """Drop queued work, wait for the work that has started, and end the threads."""
        self._closed = True
        if self._writing.is_gone:
            return  # The files belong to the process that began the build.
        self._writing.close()
        self._flushing.result(self._flushing.submit(int))  # Files passed to it are closed there.
        self._flushing.close()
        for descriptor in [*self._open.values(), *(file[0] for file in self._complete)]:
            os.close(descriptor)
        self._open.clear()
        self._complete.clear()

    def write_at(self, path: Path, data: bytes | memoryview, offset: int) -> None:
        """Write into a file; offset 0 creates it and its directories. Called by work."""
        if self._dry:
            return
        descriptor = self._open.get(path)
        if descriptor is None:
            if len(self._open) >= self._max_open:
                self._close_all()
            if not offset:
                make_parents(path)
            descriptor = files.reopen(path) if offset else files.create(path)
            self._open[path] = descriptor
        files.write_at(descriptor, data, offset, path)

    def make_directory(self, path: Path) -> None:
        """Make a directory, if it does not exist."""
        if not self._dry:
            with suppress(FileExistsError):
                files.make_directory(path)

    def flush(self, path: Path, size_bytes: int) -> None:
        """Queue a complete file to be flushed and closed. Called by work."""
        self.file_count += 1
        self.byte_count += size_bytes
        if self._dry:
            return
        self._complete.append((self._open.pop(path), path))
        self._complete_bytes += size_bytes
        if self._complete_bytes >= FLUSH_BYTES or len(self._complete) >= self._max_open:
            self._flush_complete()

    def _flush_complete(self) -> None:
        if not self._complete:
            return
        if self._flushed is not None:
            self._flushing.result(self._flushed)  # Otherwise the number of open files would grow.
        complete, self._complete, self._complete_bytes = self._complete, [], 0
        self._flushed = self._flushing.submit(partial(self._flush_and_close, complete))

    def _close_all(self) -> None:
        """Close the files that are being written; `write_at` opens them again.

        They are flushed first, because a disk error that is reported while no process has the file
        open may be lost. All at once: partitions are written in turn, so that the next one to be
        written is not among those that were written last.
        """
        self._complete += [(descriptor, path) for path, descriptor in self._open.items()]
        self._open.clear()
        self._flush_complete()

    def _flush_and_close(self, complete: list[tuple[int, Path]]) -> None:
        try:
            if self._error is None and not self._closed:
                files.flush_all(complete)
        except BaseException as error:  # Raised by the next call.
            self._fail(error)
        finally:
            for descriptor, _ in complete:
                os.close(descriptor)

    def _run(self, work: Callable[[], None], size_bytes: int) -> None:
        try:
            if self._error is None and not self._closed:
                work()
        except BaseException as error:  # Raised by the next call.
            self._fail(error)
        with self._changed:
            self._pending_bytes -= size_bytes
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error


def make_parents(path: Path) -> None:
    """Make the directory of a file, and those above it."""
    try:
        files.make_directory(path.parent)
    except FileExistsError:
        pass
    except FileNotFoundError:
        make_parents(path.parent)
        files.make_directory(path.parent)
