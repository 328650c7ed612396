"""The replacement of a store by a new one, during which a whole store exists at every moment.

1. One step exchanges the names of the two. A reader that has the old store open keeps reading it.
2. Without RENAME_EXCHANGE, the old store is first renamed to ``.NAME.replaced``. If the process
   dies right after, `finish_replacement`, which every open and every build calls, renames it back.
   If the process dies after the second rename, the next build removes the old store.
3. An overlay file system cannot rename a directory that is in a lower layer, such as that of a
   container's image (EXDEV). So the old store first moves to the upper layer: it is copied to
   ``.NAME.copied``, the manifest last; then its files are removed, the manifest first, and the copy
   gets its name. If the process dies in between, `finish_replacement` does the rest. From then on
   the old store can be renamed.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from embstore.formats.own.spec import METADATA
from embstore.writing.disk import files

if TYPE_CHECKING:
    from pathlib import Path

_COPIED_BYTES = 4 << 20


def swap(staged: Path, target: Path) -> Path:
    """Move a staged store to the target; return the new path of the store that was there.

    Raises
    ------
    OSError
        With EXDEV, if `renew` has to be called first.
    """
    if files.exchange(staged, target):
        return staged
    aside = aside_path(target)
    while True:
        files.rename(target, aside)
        try:
            files.rename(staged, target)
        except OSError:
            # An open between the two renames may have moved the old store back.
            if not target.exists():
                raise
        else:
            return aside


def renew(target: Path) -> None:
    """Replace a store by a copy of itself, which can be renamed."""
    copied = copied_path(target)
    remove(copied)
    try:
        _copy(target, copied, but=METADATA)
        _copy_file(target / METADATA, copied / METADATA)
        files.flush_directory(copied)
        files.flush_directory(target.parent)
        with contextlib.suppress(FileNotFoundError):  # An open may have finished it.
            _put_copy(target)
    except BaseException:
        finish_replacement(target)
        with contextlib.suppress(OSError):
            remove_old(target)
        raise
    files.flush_directory(target.parent)


def finish_replacement(target: Path) -> None:
    """Put a store back in its place if a process has died while replacing it."""
    if (target / METADATA).exists():
        return
    copied, aside = copied_path(target), aside_path(target)
    with contextlib.suppress(OSError):
        if (copied / METADATA).exists():
            _put_copy(target)
        elif not target.exists() and _is_store(aside):
            files.rename(aside, target)


def remove_old(target: Path) -> None:
    """Remove what a dead build left of stores that it was replacing."""
    copied, aside = copied_path(target), aside_path(target)
    if not copied.is_dir() and not aside.is_dir():
        return
    # On disk, the target's name may still mean the store that was moved aside.
    files.flush_directory(target.parent)
    if (target / METADATA).exists() or not (copied / METADATA).exists():
        remove(copied)
    if target.exists() or not _is_store(aside):
        remove(aside)


def _is_store(aside: Path) -> bool:
    """Say whether a directory is a store, and not what is left of one that was being removed."""
    return os.path.lexists(aside / METADATA)


def remove(directory: Path) -> None:
    """Remove a directory, even if another process is removing it too; of a link, only the link."""
    while directory.is_dir():
        with contextlib.suppress(FileNotFoundError):
            if directory.is_symlink():
                files.remove_file(directory)
            else:
                files.remove_tree(directory)


def aside_path(target: Path) -> Path:
    """Return the name of a replaced store while its successor is renamed."""
    return target.with_name(f".{target.name}.replaced")


def copied_path(target: Path) -> Path:
    """Return the name of the copy of a store that cannot be renamed."""
    return target.with_name(f".{target.name}.copied")


def _put_copy(target: Path) -> None:
    """Remove what is left of a store, and rename its copy.

    Raises
    ------
    OSError
        If the directory has files that are not in the copy.
    """
    copied = copied_path(target)
    with contextlib.suppress(FileNotFoundError):
        _remove_copied(target, copied)
    files.rename(copied, target)


def _remove_copied(target: Path, copied: Path) -> None:
    """Remove the files of a store that are also in its copy, the manifest first."""
    # By descriptors: another process may give the copy the store's name at any moment.
    top = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(FileNotFoundError):
            files.remove_entry(METADATA, top, target / METADATA)
        for directory, folders, names, descriptor in os.fwalk(".", topdown=False, dir_fd=top):
            for name in names:
                if os.path.lexists(copied / directory / name):
                    with contextlib.suppress(FileNotFoundError):
                        files.remove_entry(name, descriptor, target / directory / name)
            for name in folders:
                with contextlib.suppress(OSError):  # It has other files, or is a link.
                    os.rmdir(name, dir_fd=descriptor)
    finally:
        os.close(top)


def _copy(source: Path, to: Path, *, but: str = "") -> None:
    """Copy a directory without the file called ``but``, and flush the copy."""
    files.make_directory(to)
    for path in sorted(source.iterdir()):
        if path.is_dir() and not path.is_symlink():
            _copy(path, to / path.name)
        elif path.name != but:
            _copy_file(path, to / path.name)
    files.flush_directory(to)


def _copy_file(source: Path, to: Path) -> None:
    if source.is_symlink():
        to.symlink_to(source.readlink())
        return
    with source.open("rb", buffering=0) as file:
        descriptor = files.create(to)
        try:
            done = 0
            while data := file.read(_COPIED_BYTES):
                files.write_at(descriptor, data, done, to)
                done += len(data)
            files.flush(descriptor, to)
        finally:
            os.close(descriptor)
