"""How does a store appear whole or not at all? It is built under another name, then renamed.

1. The staging directory is a hidden sibling of the target, ``.NAME.building``. Making it is how a
   build claims the target; a lock on it (``flock``, gone with its process) says that the build is
   alive, and `embstore.writing.owner` whose it is. One without a living owner is left over from a
   crash, and cleared away.
2. `Staging.publish` flushes every directory to disk (each file was, when it was complete), then
   renames the staging directory to the target, or exchanges the two where a store is replaced, in
   one step: a reader that has the old store open keeps reading it. When that step is on disk, the
   old store is removed. An error after it cannot take it back, and says so.
3. Where the system cannot exchange, the old store steps aside as ``.NAME.replaced`` first. If the
   process dies just there, `finish_replacement`, called by every open and every build, puts the
   old store back; if it dies just after, the next build removes it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from embstore.errors import (
    StoreBusyError,
    StoreCorruptError,
    StoreExistsError,
    StoreNotFoundError,
)
from embstore.formats.own import spec
from embstore.formats.own.fields import read_json
from embstore.writing import files, owner

try:
    import fcntl
except ImportError:  # Windows: no lock, builds must not share a target.
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator


class Staging:
    """The directory that becomes a store.

    Parameters
    ----------
    target : Path
        Where the store will be.
    overwrite : bool
        Whether a store that is there may be replaced.

    Attributes
    ----------
    path : Path
        The directory to write into.

    Raises
    ------
    StoreExistsError
        If something is at the target and must not be replaced.
    StoreNotFoundError
        If the target's parent directory does not exist.
    StoreBusyError
        If another build is writing to the same target.
    """

    def __init__(self, target: Path, *, overwrite: bool) -> None:
        self.target = target.absolute()
        self._overwrite = overwrite
        finish_replacement(self.target)
        check_target(self.target, overwrite=overwrite)
        self.path = self.target.with_name(f".{self.target.name}.building")
        self._locks = self._claim()
        try:
            self._clear()
        except BaseException:
            self._release()  # What could not be cleared away stays for the next build.
            raise
        try:
            owner.write_note(self.path)
        except BaseException:
            self.discard()
            raise

    def publish(self) -> None:
        """Put the staged store at the target, durably, and remove what it replaces.

        Raises
        ------
        OSError
            If that fails. Once the store is in place it stays there, and the error says so.
        """
        owner.remove_note(self.path)
        flush_directories(self.path)
        check_target(self.target, overwrite=self._overwrite)
        replaced = self._replace() if self.target.exists() else None
        if replaced is None:
            files.rename(self.path, self.target)
        try:
            self._finish(replaced)
        finally:
            self._release()  # `discard` takes nothing away that is not locked.

    def discard(self) -> None:
        """Remove what was staged; the target stays as it was."""
        if fcntl is None or any(_is_at(lock, self.path) for lock in self._locks):
            files.remove_tree(self.path, ignore_errors=True)
        finish_replacement(self.target)
        self._release()

    def _finish(self, replaced: Path | None) -> None:
        """Get what was renamed to disk, and only then remove what was replaced."""
        instead = "there may be no store"
        if replaced is not None:
            instead = f"the old one, kept as {replaced} until the next build, may be there again"
        with _in_place(self.target, f"after a loss of power, {instead}"):
            files.flush_directory(self.target.parent)
        if replaced is not None:
            with _in_place(self.target, f"some of the old one is left in {replaced}"):
                _remove(replaced)
                files.flush_directory(self.target.parent)

    def _replace(self) -> Path:
        """Give the staged store the target's name; return the old store's new name."""
        # Locked before it gets the staging directory's name and until it is removed, so that no
        # other build takes it for a leftover. If it is locked already, that is as good.
        with contextlib.suppress(BlockingIOError):
            self._locks += _lock(self.target)
        if files.exchange(self.path, self.target):
            return self.path
        aside = _aside(self.target)
        while True:
            files.rename(self.target, aside)
            try:
                files.rename(self.path, self.target)
            except OSError:
                # Was it an open between the two renames, which put the old store back?
                if not self.target.exists():
                    raise
            else:
                return aside

    def _claim(self) -> list[int]:
        """Make the staging directory, or take one that nobody holds, and lock it."""
        while True:
            with contextlib.suppress(FileExistsError):
                files.make_directory(self.path)
            try:
                locks = _lock(self.path)
            except FileNotFoundError:
                continue  # Its owner has just published or discarded it.
            except BlockingIOError:
                by = owner.read_note(self.path) or f"see {self.path}"
                raise StoreBusyError(
                    f"another build is writing {self.target} ({by}); wait for it, or choose "
                    "another target"
                ) from None
            if not all(_is_at(lock, self.path) for lock in locks):
                _unlock(locks)
                continue
            return locks

    def _clear(self) -> None:
        """Remove what a dead build left, in the staging directory and beside it."""
        leftovers = list(self.path.iterdir())
        aside = _aside(self.target)
        if not leftovers and not aside.is_dir():
            return
        # A build that died may have left the old store here, with the exchange not on disk: there,
        # the old store would have the target's name still. It must not, when its files go.
        files.flush_directory(self.target.parent)
        for leftover in leftovers:
            if leftover.is_dir() and not leftover.is_symlink():
                files.remove_tree(leftover)
            else:
                files.remove_file(leftover)
        if self.target.exists():
            _remove(aside)  # What replaced it came, and then its build died.

    def _release(self) -> None:
        _unlock(self._locks)
        self._locks = []


def check_target(target: Path, *, overwrite: bool) -> None:
    """Raise unless a store may be put at ``target``."""
    if not target.parent.is_dir():
        raise StoreNotFoundError(f"the directory {target.parent} does not exist; make it first")
    if not os.path.lexists(target):
        return
    if problem := _why_no_store(target):
        raise StoreExistsError(
            f"{target} exists and {problem}, so it will not be replaced; choose another path, or "
            "remove it yourself"
        )
    if not overwrite:
        raise StoreExistsError(
            f"{target} exists; choose another path, or replace it with overwrite=True "
            "(--overwrite on the command line)"
        )


def _why_no_store(target: Path) -> str | None:
    """Say what speaks against removing ``target`` as a store; a damaged store is one, too."""
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
    return "is not a store, but something else in Zarr's format"


def finish_replacement(target: Path) -> None:
    """Put a store back that stepped aside for one that did not come.

    Only where a store cannot be replaced in one step, and only if the process died between two.
    """
    if not target.exists() and (aside := _aside(target)).is_dir():
        with contextlib.suppress(OSError):
            files.rename(aside, target)


def flush_directories(path: Path) -> None:
    """Flush ``path``, and every directory below it, to disk."""
    for directory, _, _ in os.walk(path, topdown=False):
        files.flush_directory(Path(directory))


def _lock(directory: Path) -> list[int]:
    """Lock a directory; return the descriptor that holds the lock, none where there are no locks.

    Raises
    ------
    BlockingIOError
        If somebody else holds it.
    """
    if fcntl is None:
        return []
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return [descriptor]


def _unlock(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        # Closing is not enough while a forked child has the descriptor, too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _remove(directory: Path) -> None:
    """Remove a directory that another process may be removing, too."""
    while directory.is_dir():
        with contextlib.suppress(FileNotFoundError):
            files.remove_tree(directory)


@contextlib.contextmanager
def _in_place(target: Path, what_else: str) -> Iterator[None]:
    """Say of an error that the new store is in place nevertheless."""
    try:
        yield
    except OSError as error:
        problem = f"{error.strerror}; the new store is in place at {target}, but {what_else}"
        raise OSError(error.errno, problem, error.filename) from error


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def _is_at(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
