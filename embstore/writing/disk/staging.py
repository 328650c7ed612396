"""The staging directory of a build, which becomes a store in one step or not at all.

1. The staging directory is a hidden sibling of the target, ``.NAME.building``. A build claims the
   target by creating and locking it (`embstore.writing.disk.owner`). A directory that is not locked
   is left over from a crash, and is cleared.
2. `Staging.check_contents` opens the staged store without its rows. `Staging.publish` flushes every
   directory to disk (files are flushed when they are complete). Then one step renames the staging
   directory to the target, or puts it in the place of a store
   (`embstore.writing.disk.replacement`). Once this step is on disk, the old store is removed. An
   error after the step cannot undo it, and its message says so.
3. Only the process that made a `Staging` publishes or removes it. A forked child that leaves the
   ``with`` block of a build, or exits, changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from embstore.contents import read_contents
from embstore.errors import (
    StoreBusyError,
    StoreCorruptError,
    StoreError,
    StoreExistsError,
    StoreNotFoundError,
)
from embstore.formats.own import spec
from embstore.formats.own.fields import read_json
from embstore.reading.files import StoreFiles
from embstore.wording import option
from embstore.writing.disk import files, owner
from embstore.writing.disk.replacement import (
    finish_replacement,
    remove,
    remove_old,
    renew,
    swap,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# With this many directories, one flush of the file system is quicker whatever others write.
MANY_DIRECTORIES = 4096


class Staging:
    """The directory that becomes a store.

    Parameters
    ----------
    target : Path
        Where the store will be.
    overwrite : bool
        Whether an existing store may be replaced.

    Attributes
    ----------
    path : Path
        The directory to write into.

    Raises
    ------
    StoreExistsError
        If the target exists and must not be replaced.
    StoreNotFoundError
        If the target's parent directory does not exist.
    StoreBusyError
        If another build is writing to the same target.
    PermissionError
        If the store at the target could be replaced, but not removed.
    """

    def __init__(self, target: Path, *, overwrite: bool) -> None:
        self.target = target.absolute()
        self._overwrite = overwrite
        self._process = os.getpid()
        finish_replacement(self.target)
        check_target(self.target, overwrite=overwrite)
        _check_removable(self.target)
        self.path = staging_path(self.target)
        self._locks = self._claim()
        try:
            remove_old(self.target)
            owner.write_note(self.path)
        except BaseException:
            self.discard()
            raise

    @property
    def is_own(self) -> bool:
        """Whether this process began the build; a forked child did not."""
        return os.getpid() == self._process

    def check_own(self) -> None:
        """Raise StoreBusyError unless this process began the build."""
        if not self.is_own:
            raise StoreBusyError(
                f"process {self._process} began the build of {self.target}, so only that process, "
                "not one forked from it, can write to it and publish it; make a StoreWriter in "
                "this process"
            )

    def check_contents(self) -> None:
        """Read the staged store as an open does, so that no damaged one replaces another.

        Raises
        ------
        StoreCorruptError
            If it cannot be opened.
        """
        try:
            read_contents(StoreFiles(self.path))
        except StoreError as error:
            raise StoreCorruptError(
                f"the store written for {self.target} cannot be opened, so it is discarded, and "
                f"the target is unchanged; check the disk, and build again ({error})"
            ) from error

    def publish(self) -> None:
        """Move the staged store to the target, durably, and remove the store that it replaces.

        Raises
        ------
        OSError
            If the disk fails. Once the store is in place it stays there, and the error says so.
        """
        self.check_own()
        owner.remove_note(self.path)
        flush_directories(self.path)
        check_target(self.target, overwrite=self._overwrite)
        replaced = self._replace() if self.target.exists() else None
        if replaced is None:
            files.rename(self.path, self.target)
        try:
            self._finish(replaced)
        finally:
            self._release()  # `discard` removes only what is locked.

    def discard(self) -> None:
        """Remove the staged files; the target does not change. In a forked child, do nothing."""
        if not self.is_own:
            return
        if any(owner.locks(lock, self.path) for lock in self._locks):
            files.remove_tree(self.path, ignore_errors=True)
        finish_replacement(self.target)
        self._release()

    def _finish(self, replaced: Path | None) -> None:
        """Flush the rename to disk, and only then remove the replaced store."""
        instead = "there may be no store"
        if replaced is not None:
            instead = f"the old one, kept as {replaced} until the next build, may be there again"
        with _in_place(self.target, f"after a loss of power, {instead}"):
            files.flush_directory(self.target.parent)
        if replaced is not None:
            with _in_place(self.target, f"some of the old one is left in {replaced}"):
                remove(replaced)
                files.flush_directory(self.target.parent)

    def _replace(self) -> Path:
        """Move the staged store to the target; return the new path of the old store."""
        self._lock_target()
        try:
            return swap(self.path, self.target)
        except OSError as error:
            if error.errno != errno.EXDEV or not self.target.exists():
                raise
        renew(self.target)
        self._lock_target()
        return swap(self.path, self.target)

    def _lock_target(self) -> None:
        """Lock the old store until it is removed, so that no other build clears it."""
        # A lock of another process serves as well.
        with contextlib.suppress(BlockingIOError):
            self._locks.append(owner.lock(self.target))

    def _claim(self) -> list[int]:
        """Create the staging directory and lock it, after removing what a dead build left."""
        while True:
            made = False
            with contextlib.suppress(FileExistsError):
                files.make_directory(self.path)
                made = True
            try:
                lock = owner.lock(self.path)
            except FileNotFoundError:
                continue  # Its owner has just published or discarded it.
            except BlockingIOError:
                by = owner.read_note(self.path) or f"see {self.path}"
                raise StoreBusyError(
                    f"another build is writing {self.target} ({by}); wait for it, or choose "
                    "another target"
                ) from None
            if made and owner.locks(lock, self.path):
                return [lock]
            try:
                if owner.locks(lock, self.path):
                    self._clear()
            finally:
                owner.unlock(lock)

    def _clear(self) -> None:
        """Remove the staging directory of a dead build."""
        # It may be the old store, while the exchange is not on disk. On disk the old store then
        # still has the target's name, so flush the exchange first.
        files.flush_directory(self.target.parent)
        remove(self.path)

    def _release(self) -> None:
        for lock in self._locks:
            owner.unlock(lock)
        self._locks = []


def staging_path(target: Path) -> Path:
    """Return the name of the staging directory of a target."""
    return target.with_name(f".{target.name}.building")


def check_target(target: Path, *, overwrite: bool) -> None:
    """Raise unless a store may be written to ``target``."""
    if not target.parent.is_dir():
        raise StoreNotFoundError(f"the directory {target.parent} does not exist; make it first")
    if not os.path.lexists(target):
        return
    if problem := why_no_store(target):
        raise StoreExistsError(
            f"{target} exists and {problem}, so it will not be replaced; choose another path or "
            "remove it yourself"
        )
    if not overwrite:
        raise StoreExistsError(
            f"{target} exists; choose another path, or replace it with {option('overwrite', True)}"
        )


def why_no_store(target: Path) -> str | None:
    """Return why ``target`` is not a store, None if it is one; a damaged store counts as one."""
    if target.is_symlink():
        return "is a symbolic link"
    if not target.is_dir():
        return "is a file, not a store"
    try:
        metadata = read_json(target / spec.METADATA)
    except StoreCorruptError:
        return f"is not a store: it has no readable {spec.METADATA}"
    attributes = metadata.get("attributes") if isinstance(metadata, dict) else None
    if isinstance(attributes, dict) and spec.ATTRIBUTE in attributes:
        return None
    return "is another Zarr group, not a store"


def _check_removable(target: Path) -> None:
    """Refuse to replace a store whose files may not be removed; the exchange alone would work."""
    if target.exists() and not os.access(target, os.W_OK | os.X_OK):
        raise PermissionError(
            errno.EACCES,
            "Permission denied: the store there may not be replaced, because its files could not "
            "be removed; get write permission for its directories, or choose another target",
            str(target),
        )


def flush_directories(path: Path) -> None:
    """Flush ``path``, and every directory below it, to disk.

    There is one for each chunk. The first flush commits the journal with all of them, but each of
    the others still waits for the disk's own cache: 1,000 took 3 s, the file system as a whole
    0.06 s.
    """
    found = (directory for directory, _, _ in os.walk(path, topdown=False))
    directories = list(islice(found, MANY_DIRECTORIES))
    # To count all of a million takes minutes.
    if files.sync_file_system(path, len(directories)):
        return
    for directory in chain(directories, found):
        files.flush_directory(Path(directory))


@contextlib.contextmanager
def _in_place(target: Path, what_else: str) -> Iterator[None]:
    """Add to an error that the new store is in place nevertheless."""
    try:
        yield
    except OSError as error:
        problem = f"{error.strerror}; the new store is in place at {target}, but {what_else}"
        raise OSError(error.errno, problem, error.filename) from error
