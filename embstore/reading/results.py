"""Memory for large results, reused once an earlier result is freed.

The kernel has to zero fresh memory, page by page, when it is first written. For rows that are in
RAM, this takes longer than gathering them. So the memory of a large result is kept when its last
reference is gone, and the next result of about its size uses it.

There is one pool for the process. It keeps at most two buffers, of 256 MiB together, outside of any
store's ``resident_limit``, and frees them when the last open store is closed.

Smaller results come from malloc. glibc's malloc also returns their memory to the system, and faults
it in again, until the program has freed a large array (``M_MMAP_THRESHOLD`` in mallopt(3)). Because
the pool keeps large arrays, malloc would never see one freed. So the pool allocates and frees one
without writing to it.

An array refers to the owner of its memory, and so does every view of it. When the last of them is
freed, the memory returns to the pool.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import is_tensor, note_write, tensor_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

POOLED_BYTES = 1 << 20
# The largest array that glibc's malloc learns from: 32 MiB, with its own bookkeeping.
SHOWN_BYTES = 31 << 20
MAX_POOLED_BYTES = 256 << 20
KEPT_COUNT = 2


class ResultPool:
    """A pool of memory for results; safe to use from many threads.

    It keeps the memory of at most `KEPT_COUNT` freed results, `MAX_POOLED_BYTES` together, while it
    has users.
    """

    # Its methods take atomic steps and no lock, because a garbage collection may run any of them.

    def __init__(self) -> None:
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=KEPT_COUNT)
        self._users: deque[None] = deque()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array without initial values, as ``numpy.empty`` does."""
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
        """Count a user; it leaves when the result is called, or when it is collected."""
        # Freed at once, to adjust malloc; see the module's docstring. Not done before there is a
        # user, because then malloc keeps more of the memory that a build frees.
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


def as_out(
    out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], others: tuple[str, ...] = ()
) -> NDArray[Any]:
    """Return the array to fill for the caller's ``out``: itself, or one over a tensor's memory.

    Parameters
    ----------
    out : ndarray or torch.Tensor
        A tensor must be dense and on the CPU; it may be pinned.
    shape, dtype : tuple of int, numpy.dtype
        Shape and dtype that it must have.
    others : tuple of str
        Names of further dtypes that it may have.

    Raises
    ------
    TypeError, ValueError
        If rows cannot go into it.
    """
    array = out if isinstance(out, np.ndarray) else _array_of(out)
    if array.shape != shape:
        raise ValueError(f"out has shape {array.shape}, expected {shape}")
    if array.dtype != dtype and not (array.dtype.isnative and array.dtype.name in others):
        expected = ", ".join([str(dtype), *(name for name in others if name != dtype.name)])
        raise TypeError(f"out has dtype {array.dtype}, expected {expected}")
    if not (array.flags.c_contiguous and array.flags.writeable):
        raise ValueError("out must be C-contiguous and writeable")
    if array is not out:
        note_write(out)
    return array


def _array_of(out: Any) -> NDArray[Any]:
    """Return an array over the memory of a tensor that rows can go into."""
    if not is_tensor(out):
        raise TypeError(f"out must be an ndarray or a torch.Tensor, not {type(out).__name__}")
    if out.device.type != "cpu":
        raise ValueError(f"out is on {out.device}, expected cpu; fill a pinned tensor and send it")
    if out.requires_grad:
        raise ValueError("out requires gradients, but rows have none; use out.detach()")
    try:
        return tensor_array(out)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"out must be a dense tensor: {error}") from error
