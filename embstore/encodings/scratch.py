"""Memory for what a thread decodes, kept for the next time.

The system takes the memory of a large array back when it is freed, and faults it in again for the
next one. That takes longer than decoding, and the threads of a process wait for each other in it.
"""

from __future__ import annotations

import math
from threading import local
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Larger arrays are not kept, nor are more of them: a row may have two columns beside its numbers.
MAX_KEPT_BYTES: Final = 2 << 20
MAX_KEPT_ARRAYS: Final = 4

_local = local()


def borrow(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array with any content.

    Examples
    --------
    >>> first = borrow((2, 3), np.dtype(np.float32))
    >>> give_back(first)
    >>> np.shares_memory(first, borrow((3,), np.dtype(np.uint8)))
    True
    """
    size = math.prod(shape) * dtype.itemsize
    free: list[NDArray[np.uint8]] = _local.__dict__.setdefault("free", [])
    # Taken out, because other work of this thread may come in between, as under gevent.
    buffer = free.pop() if free else None
    if buffer is None or len(buffer) < size:
        # A quarter more, because the sizes of slices differ.
        buffer = np.empty(size + size // 4, np.uint8)
    return np.ndarray(shape, dtype, buffer)


def give_back(*arrays: NDArray[Any]) -> None:
    """Keep the memory of borrowed arrays, which are used no more, for this thread."""
    free: list[Any] = _local.__dict__.setdefault("free", [])
    for array in reversed(arrays):  # The first one is then the first to be borrowed again.
        if len(free) < MAX_KEPT_ARRAYS and array.base.nbytes <= MAX_KEPT_BYTES:
            free.append(array.base)
