"""Memory for large results, reused once an earlier result is freed.

The kernel has to zero fresh memory, page by page, when it is first written: for rows that are in
RAM, that takes longer than gathering them. So the memory of a large result is kept when its last
reference is gone, and the next result of about its size gets it.

There is one pool for the process. It keeps at most two buffers, of 256 MiB together, outside of any
store's ``resident_limit``, and frees them when the last open store is closed.

Smaller results come from malloc. glibc's malloc also gives their memory back to the system, and
faults it in again, until it has seen the program free a large array (``M_MMAP_THRESHOLD`` in
mallopt(3)). The pool hides large arrays from it, so it is shown one that nothing was written to.

An array knows what its memory belongs to, and so does every view of it, so the last of them gives
the memory back.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

POOLED_BYTES = 1 << 20
# The largest array that glibc's malloc learns from: 32 MiB, with its own bookkeeping.
SHOWN_BYTES = 31 << 20
MAX_POOLED_BYTES = 256 << 20
KEPT_COUNT = 2


class ResultPool:
    """Makes arrays for results; may be used from many threads.

    It keeps the memory of at most `KEPT_COUNT` freed results, `MAX_POOLED_BYTES` together, while it
    has users.
    """

    # Its methods are atomic steps, and take no lock: a garbage collection may run any of them.

    def __init__(self) -> None:
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=KEPT_COUNT)
        self._users: deque[None] = deque()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array with anything in it, as ``numpy.empty`` does."""
        size_bytes = math.prod(shape) * dtype.itemsize
        if not POOLED_BYTES <= size_bytes <= MAX_POOLED_BYTES:
            return np.empty(shape, dtype)
        memory = self._take(size_bytes)
        # A view of `memory` itself would keep only `memory`; all views of `owner` keep `owner`,
        # because its own base is not an array.
        owner = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(owner, self._give_back, memory).atexit = False
        return owner[:size_bytes].view(dtype).reshape(shape)

    def join(self, user: object) -> weakref.finalize[..., object]:
        """Count a user; call the result when it is done, or let it be collected."""
        # Freed at once, which is its purpose. Not before there is a user: it makes malloc keep
        # more of the memory that a build frees.
        if not self._users:
            np.empty(SHOWN_BYTES, np.uint8)
        self._users.append(None)
        leave = weakref.finalize(user, self._leave)
        leave.atexit = False
        return leave

    @property
    def kept_bytes(self) -> int:
        """Bytes of freed results that are kept."""
        return sum(map(len, tuple(self._free)))

    def _leave(self) -> None:
        self._users.pop()
        if not self._users:
            self._free.clear()

    def _give_back(self, memory: NDArray[np.uint8]) -> None:
        if not self._users:
            return
        self._free.append(memory)
        while self.kept_bytes > MAX_POOLED_BYTES:
            self._free.popleft()

    def _take(self, size_bytes: int) -> NDArray[np.uint8]:
        for _ in range(KEPT_COUNT):
            try:
                memory = self._free.pop()
            except IndexError:
                break
            if size_bytes <= len(memory) <= 2 * size_bytes:
                return memory
            self._free.appendleft(memory)
        return np.empty(size_bytes, np.uint8)


POOL = ResultPool()


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise TypeError or ValueError unless rows can go into the caller's ``out``."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an ndarray, not {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, expected {shape}")
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}, expected {dtype}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError("out must be C-contiguous and writeable")
