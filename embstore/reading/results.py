"""Where do large results go? Into memory that an earlier result has left.

Fresh memory has to be zeroed by the kernel, page by page, when it is first written: for rows that
are in RAM, that takes longer than gathering them. So the memory of a large result is kept when
nobody refers to it any more, and the next result of about its size gets it.

Smaller results come from malloc. glibc's gives such memory back to the system as well, and faults
it in anew, until it has seen that the program frees large arrays (``M_MMAP_THRESHOLD`` in
mallopt(3)). The pool hides them from it, so it is shown one that nothing was written to.

An array knows what its memory belongs to, and so does every view of it, so it is the last of them
that gives the memory back.
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

    Holds the memory of at most `KEPT_COUNT` results that are no more.
    """

    def __init__(self) -> None:
        np.empty(SHOWN_BYTES, np.uint8)  # And freed, which is what it is for.
        # Its methods are atomic, and take no lock that a garbage collection could meet held.
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=KEPT_COUNT)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array with anything in it, as ``numpy.empty`` does."""
        size_bytes = math.prod(shape) * dtype.itemsize
        if not POOLED_BYTES <= size_bytes <= MAX_POOLED_BYTES:
            return np.empty(shape, dtype)
        memory = self._take(size_bytes)
        # A view of `memory` itself would keep only `memory`; all views of `owner` keep `owner`,
        # because its own base is no array.
        owner = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(owner, self._free.append, memory).atexit = False
        return owner[:size_bytes].view(dtype).reshape(shape)

    def forget(self) -> None:
        """Keep no memory, nor that of results that still are."""
        # Those give theirs back to the queue that was here when they were made.
        self._free = deque(maxlen=KEPT_COUNT)

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


def check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise TypeError or ValueError unless rows can go into ``out``, which somebody has given."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an ndarray, not {type(out).__name__}")
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, expected {shape}")
    if out.dtype != dtype:
        raise TypeError(f"out has dtype {out.dtype}, expected {dtype}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError("out must be C-contiguous and writeable")
