"""System calls that Python's standard library lacks, through ctypes.

Unlike the methods of ``mmap.mmap``, calls into the C library release the GIL while they run. The
module imports on every POSIX system; calls that only Linux has do nothing elsewhere, or say so.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The same numbers on Linux, the BSDs and macOS.
MAP_FIXED = 0x10
MADV_RANDOM = 1
MADV_WILLNEED = 3
MADV_DONTNEED = 4
# Linux only. MAP_NORESERVE is a flag to combine with others, so it is 0 elsewhere.
MADV_HUGEPAGE = 14
MADV_POPULATE_READ = 22
MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# "This process", as a file descriptor, since Linux 6.14. On older kernels only a privileged process
# may give this advice, even to itself.
_PIDFD_SELF = -10001
_SYS_PROCESS_MADVISE = 440  # On all of Linux's architectures.
_IOV_MAX = 1024
_SYNC_FILE_RANGE_WRITE = 2
_SYNC_FILE_RANGE_WAIT = 1 | 4  # Before and after.
# _IOWR('f', 16, struct pm_scan_arg), which has 12 fields of 8 bytes.
_PAGEMAP_SCAN = 0xC0606610
_PAGE_IS_HUGE = 1 << 6
_REGIONS = 1024

# Errors that say that this file, file system or kernel does not support a call: on other file
# systems or with other files, the same call may work.
UNSUPPORTED = frozenset(
    {
        *(errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EINVAL, errno.ENOSYS),
        *(errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOTTY, errno.EBADF, errno.ETXTBSY),
    }
)
# _IOW(0x94, 9, int): the bits of the direction differ by architecture.
_FICLONE = 0x80049409 if platform.machine().startswith(("ppc", "mips", "sparc")) else 0x40049409
# File systems on which syncfs is known to write everything to the disk and to wait for it: ext2 to
# ext4, XFS, Btrfs, and that in memory.
_SYNCED = frozenset({0xEF53, 0x58465342, 0x9123683E, 0x01021994})

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_size_t
_libc.mmap.argtypes = [
    *(ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_long),
]
_libc.madvise.restype = ctypes.c_int
_libc.madvise.argtypes = [ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]

_can_advise_many = _can_unmap_many = sys.platform == "linux"
if _can_advise_many:
    # A function object of its own, so that its types are declared, which halves a call's time.
    _madvise_syscall = _libc["syscall"]
    _madvise_syscall.restype = ctypes.c_long
    _madvise_syscall.argtypes = [
        *(ctypes.c_long, ctypes.c_long, ctypes.c_void_p),
        *(ctypes.c_ulong, ctypes.c_long, ctypes.c_ulong),
    ]


def map_file(
    address: int, size_bytes: int, descriptor: int, offset: int, flags: int, protection: int
) -> None:
    """Map a file from byte ``offset`` on at exactly ``address``, over what was mapped there."""
    got = _libc.mmap(address, size_bytes, protection, flags | MAP_FIXED, descriptor, offset)
    if got != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def advise(address: int, size_bytes: int, advice: int) -> int:
    """Give advice on a range of addresses; return 0 or the errno."""
    return ctypes.get_errno() if _libc.madvise(address, size_bytes, advice) else 0


def advise_many(addresses: NDArray[np.int64], sizes: NDArray[np.int64], advice: int) -> None:
    """Give the same advice on many ranges of addresses; errors are ignored.

    Where supported, one call advises up to 1024 ranges (0.3 us a range); elsewhere each range takes
    a call (1.7 us).
    """
    global _can_advise_many  # noqa: PLW0603  # The first failure turns it off.
    if _can_advise_many:
        ranges = np.empty((len(addresses), 2), np.int64)
        ranges[:, 0], ranges[:, 1] = addresses, sizes
        for start in range(0, len(ranges), _IOV_MAX):
            part = ranges[start : start + _IOV_MAX]
            if _process_madvise(part, advice) < 0 and ctypes.get_errno() != errno.EAGAIN:
                _can_advise_many = False
                break
        else:
            return
    for address, size_bytes in zip(addresses.tolist(), sizes.tolist(), strict=True):
        _libc.madvise(address, size_bytes, advice)


def unmap_pages(addresses: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
    """Unmap the pages of file mappings in many ranges; touching maps them again.

    Where supported (Linux 6.13), one call unmaps up to 1024 ranges.
    """
    global _can_unmap_many  # noqa: PLW0603  # The first failure turns it off.
    ranges = np.empty((len(addresses), 2), np.int64)
    ranges[:, 0], ranges[:, 1] = addresses, sizes
    for start in range(0, len(ranges), _IOV_MAX):
        part = ranges[start : start + _IOV_MAX]
        if _can_unmap_many and len(part) > 1:
            if _process_madvise(part, MADV_DONTNEED) == int(part[:, 1].sum()):
                continue
            _can_unmap_many = False
        for address, size_bytes in part.tolist():
            _libc.madvise(address, size_bytes, MADV_DONTNEED)


def in_core(address: int, size_bytes: int) -> NDArray[np.uint8]:
    """Return for each page of a range of addresses whether it is in memory: 0 or 1.

    Raises
    ------
    OSError
        If the range is not mapped.
    """
    found = np.zeros(-(-size_bytes // mmap.PAGESIZE), np.uint8)
    pages = found.ctypes.data_as(ctypes.c_void_p)
    if _libc.mincore(ctypes.c_size_t(address), ctypes.c_size_t(size_bytes), pages):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    found &= 1  # The other bits are reserved.
    return found


def huge_mapped_bytes(address: int, size_bytes: int) -> int | None:
    """Return the bytes of a range of addresses that huge pages map; None where unknown."""
    regions = np.zeros((_REGIONS, 3), np.uint64)  # Each one's start, end and categories.
    found, start, end = 0, address, address + size_bytes
    try:
        descriptor = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        while start < end:
            # The fields: size, flags, start, end, walk_end, vec, vec_len, max_pages,
            # category_inverted, category_mask, category_anyof_mask, return_mask.
            fields = np.array(
                [96, 0, start, end, 0, regions.ctypes.data, _REGIONS, 0, 0, *3 * [_PAGE_IS_HUGE]],
                np.uint64,
            )
            count = fcntl.ioctl(descriptor, _PAGEMAP_SCAN, fields.view(np.uint8).data)
            found += int((regions[:count, 1] - regions[:count, 0]).sum())
            start = int(fields[4])
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return found


def trim_memory() -> None:
    """Return memory that the C library has freed to the system, where supported (glibc)."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(ctypes.c_size_t(0))


def start_writing(descriptor: int, offset: int, size_bytes: int) -> None:
    """Ask the kernel to start writing part of a file to disk; a size of 0 means to its end.

    It does nothing outside of Linux. The result is ignored: only a flush guarantees anything.
    """
    if sys.platform != "linux":
        return
    _libc.sync_file_range(
        ctypes.c_int(descriptor),
        ctypes.c_int64(offset),
        ctypes.c_int64(size_bytes),
        ctypes.c_uint(_SYNC_FILE_RANGE_WRITE),
    )


def check_written(descriptor: int) -> None:
    """Wait for the writes of a file, and raise the error of one since the file was opened.

    Unlike a flush, it waits neither for the journal nor for the disk's cache. Of errors it tells
    what a flush would, and like it only once.

    Raises
    ------
    OSError
        One of `UNSUPPORTED`, if the system cannot tell.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    flags = _SYNC_FILE_RANGE_WAIT | _SYNC_FILE_RANGE_WRITE
    if _libc.sync_file_range(
        ctypes.c_int(descriptor), ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(flags)
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def exchange(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Exchange two names in one step; return False where the system does not support it."""
    if sys.platform != "linux" or not hasattr(_libc, "renameat2"):
        return False
    names = os.fsencode(one), os.fsencode(other)
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(one))


def clone(source: int, descriptor: int) -> None:
    """Have an open empty file share all blocks of another one.

    Raises
    ------
    OSError
        One of `UNSUPPORTED`, if the file system cannot do that.
    """
    if sys.platform != "linux":
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    fcntl.ioctl(descriptor, _FICLONE, source)


def can_sync(descriptor: int) -> bool:
    """Return whether `sync_file_system` is known to be durable on the file system of a file.

    On others it may do nothing: the kernel does not pass it on to most FUSE servers, for example.
    """
    if sys.platform != "linux" or not hasattr(_libc, "syncfs"):
        return False
    status = (ctypes.c_long * 64)()  # More than any `struct statfs`, which begins with the type.
    if _libc.fstatfs(ctypes.c_int(descriptor), status) != 0:
        return False
    return status[0] in _SYNCED


def sync_file_system(descriptor: int) -> None:
    """Wait until the file system of an open file is on disk."""
    if _libc.syncfs(ctypes.c_int(descriptor)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _process_madvise(ranges: NDArray[np.int64], advice: int) -> int:
    found: int = _madvise_syscall(
        _SYS_PROCESS_MADVISE, _PIDFD_SELF, ranges.ctypes.data, len(ranges), advice, 0
    )
    return found
