"""Who writes while the next rows are being made? Two threads: one writes, one waits for the disk.

1. `Background.write` takes work in order and returns; it waits only while too many bytes of work
   are under way already.
2. Files that are complete are flushed by the second thread, some at a time, while the first goes
   on writing.
3. The first error ends everything: what comes after it is dropped, and the next call, or `finish`,
   raises it.

Writing, checksums and flushing give up the GIL, so this costs the producer next to nothing.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from threading import Condition
from typing import TYPE_CHECKING

from embstore.writing import files

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path


# When so many bytes are complete, or as many files as may be open, they are flushed.
FLUSH_BYTES = 64 << 20


class Background:
    """Two threads that write and flush the files of one store.

    Parameters
    ----------
    queue_bytes : int
        How many bytes of work may be under way.
    """

    def __init__(self, queue_bytes: int) -> None:
        self._queue_bytes = queue_bytes
        self._pending_bytes = 0
        self._error: BaseException | None = None
        self._closed = False
        self._changed = Condition()
        # The writing thread's: files being written, and complete ones that are not flushed.
        self._open: OrderedDict[Path, int] = OrderedDict()
        self._complete: list[tuple[int, Path]] = []
        self._complete_bytes = 0
        self._flushed: Future[None] | None = None  # The last ones that were handed over.
        self._max_open = files.max_open_files()
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="embstore-write")
        self._flushing = ThreadPoolExecutor(1, thread_name_prefix="embstore-flush")
        # Starts the threads: an interrupt later cannot be in the midst of that.
        for pool in (self._writing, self._flushing):
            pool.submit(int).result()

    def write(self, work: Callable[[], None], size_bytes: int) -> None:
        """Have ``work``, which holds ``size_bytes`` of rows, done after all work before it."""
        with self._changed:
            while self._error is None and (
                self._pending_bytes and self._pending_bytes + size_bytes > self._queue_bytes
            ):
                self._changed.wait()
            self._check()
            self._pending_bytes += size_bytes
        self._writing.submit(self._run, work, size_bytes)

    def finish(self) -> None:
        """Wait until everything is written and flushed.

        Raises
        ------
        OSError
            Whatever kept a file from being written or flushed.
        """
        self._writing.submit(self._flush_complete).result()
        self._flushing.submit(int).result()
        with self._changed:
            self._check()

    def close(self) -> None:
        """Drop the work that has not begun, wait for what has, and end the threads."""
        self._closed = True
        self._writing.shutdown(cancel_futures=True)
        self._flushing.shutdown()
        for descriptor in [*self._open.values(), *(file[0] for file in self._complete)]:
            os.close(descriptor)
        self._open.clear()
        self._complete.clear()

    def write_at(self, path: Path, data: bytes | memoryview, offset: int) -> None:
        """Write into a file, which offset 0 creates; for work to call."""
        descriptor = self._open.pop(path, None)
        if descriptor is None:
            if len(self._open) >= self._max_open:
                self._close_oldest()
            descriptor = files.reopen(path) if offset else files.create(path)
        self._open[path] = descriptor
        files.write_at(descriptor, data, offset, path)

    def flush(self, path: Path, size_bytes: int) -> None:
        """Have a file that is complete flushed and closed; for work to call."""
        self._complete.append((self._open.pop(path), path))
        self._complete_bytes += size_bytes
        if self._complete_bytes >= FLUSH_BYTES or len(self._complete) >= self._max_open:
            self._flush_complete()

    def _flush_complete(self) -> None:
        if self._flushed is not None:
            self._flushed.result()  # Or ever more files would be open.
        complete, self._complete, self._complete_bytes = self._complete, [], 0
        self._flushed = self._flushing.submit(self._flush_and_close, complete)

    def _close_oldest(self) -> None:
        """Close the file that was not written to for the longest time, until it is needed again.

        An error that the disk reports while nobody has the file open may be lost; so flush it.
        """
        path, descriptor = self._open.popitem(last=False)
        self._flush_and_close([(descriptor, path)])

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
