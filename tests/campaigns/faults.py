"""Faults on a build's way to the disk, told step by step to a hook.

1. `steps` replaces the functions of `embstore.writing.disk.files`, through which alone a build
   changes the disk. A tree is removed entry by entry.
2. Each replacement calls the hook with the step and the function that does it. `Recorder` does and
   notes it, `Killer` ends the process at one step, `Failer` raises an error at one step.

A build has three threads, so step number 7 is not the same step in every run: hooks count while the
build runs. Flushes are skipped, because only a real loss of power would show them.

The functions `in_one_step` and so on have the system do something in one of its ways, such as links
that are refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from unittest import mock

from embstore import syscalls
from embstore.writing.disk import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Do = Callable[[], Any]
    Hook = Callable[["Step", Do], Any]
    # The number of a step in a build, from 1, or the first step for which this is true.
    When = int | Callable[["Step"], bool]

Kind = Literal[
    "mkdir",
    "create",
    "reopen",
    "write",
    "link",
    "clone",
    "copy",
    "flush",
    "syncfs",
    "check",
    "rename",
    "exchange",
    "unlink",
    "rmdir",
    "scratch",
]

# What is flushed with the whole file system: nothing, files but not directories, or everything.
Syncs = bool | Literal["files"]


@dataclass(frozen=True, slots=True)
class Step:
    """One change of the disk: its kind, its paths, and for a write, clone or copy the bytes."""

    kind: Kind
    path: Path
    to: Path | None = None
    data: bytes = b""
    offset: int = 0
    descriptor: int = -1


_WITH_ARGUMENTS = (
    *("write_at", "flush", "extend_scratch", "remove_entry", "link", "clone", "copy_range"),
)


@contextlib.contextmanager
def steps(hook: Hook, *, syncs: Syncs = False) -> Iterator[None]:
    """Pass every step of builds in this block to ``hook``, which does it or does not.

    With ``syncs``, many files or directories are flushed with all of the file system, else one by
    one.
    """
    kinds: dict[str, Kind] = {
        "make_directory": "mkdir",
        "create": "create",
        "reopen": "reopen",
        "rename": "rename",
        "exchange": "exchange",
        "remove_file": "unlink",
        "open_scratch": "scratch",
    }
    whole = {name: getattr(files, name) for name in [*kinds, *_WITH_ARGUMENTS]}

    def simple(name: str) -> Callable[..., Any]:
        def step(path: Path, to: Path | None = None) -> Any:
            paths = [path] if to is None else [path, to]
            return hook(Step(kinds[name], path, to), lambda: whole[name](*paths))

        return step

    def write_at(descriptor: int, data: Any, offset: int, path: Path) -> None:
        step = Step("write", path, None, bytes(data), offset, descriptor)
        hook(step, lambda: whole["write_at"](descriptor, data, offset, path))

    def flush(_: int, path: Path) -> None:
        hook(Step("flush", path), lambda: None)

    def sync_file_system(path: Path, _: int) -> bool:
        # Directories are flushed from the root of the new store on.
        if not syncs or (syncs == "files" and path.name.endswith(".building")):
            return False
        hook(Step("syncfs", path), lambda: None)
        return True

    def check_written(_: int, path: Path) -> None:
        hook(Step("check", path), lambda: None)

    def link(name: str, old: int, new: int, roots: tuple[Path, Path]) -> None:
        step = Step("link", roots[0] / name, roots[1] / name)
        hook(step, lambda: whole["link"](name, old, new, roots))

    def clone(source: int, descriptor: int, path: Path, to: Path) -> None:
        data = os.pread(source, os.fstat(source).st_size, 0)
        step = Step("clone", path, to, data)
        hook(step, lambda: whole["clone"](source, descriptor, path, to))

    def copy_range(
        source: int, descriptor: int, offset: int, size: int, path: Path, to: Path
    ) -> None:
        step = Step("copy", path, to, os.pread(source, size, offset), offset, descriptor)
        hook(step, lambda: whole["copy_range"](source, descriptor, offset, size, path, to))

    def extend_scratch(descriptor: int, size_bytes: int, directory: Path) -> None:
        done = whole["extend_scratch"]
        hook(Step("scratch", directory), lambda: done(descriptor, size_bytes, directory))

    def remove_entry(name: str, directory: int, path: Path) -> None:
        hook(Step("unlink", path), lambda: whole["remove_entry"](name, directory, path))

    def remove_tree(path: Path, *, ignore_errors: bool = False) -> None:
        _remove_tree(path, hook, (OSError,) if ignore_errors else ())

    stand_ins = {
        **{name: simple(name) for name in kinds},
        **{"write_at": write_at, "flush": flush, "extend_scratch": extend_scratch},
        **{"remove_tree": remove_tree, "remove_entry": remove_entry},
        **{"sync_file_system": sync_file_system, "check_written": check_written},
        **{"link": link, "clone": clone, "copy_range": copy_range},
    }
    originals = {name: getattr(files, name) for name in stand_ins}
    try:
        for name, stand_in in stand_ins.items():
            setattr(files, name, stand_in)
        yield
    finally:
        for name, original in originals.items():
            setattr(files, name, original)


def _remove_tree(path: Path, hook: Hook, ignored: tuple[type[OSError], ...]) -> None:
    for entry in sorted(path.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            _remove_tree(entry, hook, ignored)
            continue
        with contextlib.suppress(*ignored):
            hook(Step("unlink", entry), entry.unlink)
    with contextlib.suppress(*ignored):
        hook(Step("rmdir", path), path.rmdir)


@contextlib.contextmanager
def in_one_step() -> Iterator[None]:
    """Replace stores as this system does, by an exchange of two names."""
    yield


@contextlib.contextmanager
def in_two_steps() -> Iterator[None]:
    """Replace stores by two renames, as on systems that cannot exchange two names."""
    exchange = syscalls.exchange
    syscalls.exchange = lambda one, other: False
    try:
        yield
    finally:
        syscalls.exchange = exchange


@contextlib.contextmanager
def by_links() -> Iterator[None]:
    """Take files of an old version over by hard links, as this system does."""
    yield


@contextlib.contextmanager
def by_clones() -> Iterator[None]:
    """Take files over by clones, as where links are refused; a simulated one is a copy."""

    def clone(source: int, descriptor: int) -> None:
        os.pwrite(descriptor, os.pread(source, os.fstat(source).st_size, 0), 0)

    with _without_links(), mock.patch.object(syscalls, "clone", clone):
        yield


@contextlib.contextmanager
def by_copies() -> Iterator[None]:
    """Take files over by copies, as on another file system."""

    def clone(source: int, descriptor: int) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    with _without_links(), mock.patch.object(syscalls, "clone", clone):
        yield


def _without_links(number: int = errno.EXDEV) -> contextlib.AbstractContextManager[object]:
    return mock.patch.object(os, "link", side_effect=OSError(number, os.strerror(number)))


@contextlib.contextmanager
def on_overlay(folder: Path) -> Iterator[None]:
    """Fail to rename the directories of a folder, as if a lower layer of an overlay had them."""
    # They are held open, so that no new directory gets the number of a removed one.
    held = [os.open(path, os.O_RDONLY) for path in folder.rglob("*") if path.is_dir()]
    lower = {os.fstat(descriptor).st_ino for descriptor in held}
    rename, exchange = files.rename, syscalls.exchange

    def check(*paths: Any) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                if Path(path).stat().st_ino in lower:
                    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(path))

    def checked_rename(path: Path, to: Path) -> None:
        check(path)
        rename(path, to)

    def checked_exchange(one: Any, other: Any) -> bool:
        check(one, other)
        return exchange(one, other)

    files.rename, syscalls.exchange = checked_rename, checked_exchange
    try:
        yield
    finally:
        files.rename, syscalls.exchange = rename, exchange
        for descriptor in held:
            os.close(descriptor)


class Recorder:
    """Does every step and notes it, with paths relative to a folder.

    Parameters
    ----------
    folder : Path
        The folder.

    Attributes
    ----------
    log : list of Step
        The steps done, in this order.
    """

    def __init__(self, folder: Path) -> None:
        self.log: list[Step] = []
        self._folder = folder
        self._lock = threading.Lock()

    def __call__(self, step: Step, do: Do) -> Any:
        """Do a step, and note it."""
        with self._lock:
            result = do()
            if step.kind not in ("reopen", "scratch") and result is not False:
                to = None if step.to is None else step.to.relative_to(self._folder)
                path = step.path.relative_to(self._folder)
                self.log.append(replace(step, path=path, to=to))
            return result


class _Trigger:
    """Tells one step from the others: by its number, or the first that a function picks."""

    def __init__(self, when: When) -> None:
        self._when = when
        self._count = 0
        self._fired = False

    def is_at(self, step: Step) -> bool:
        """Return whether this is the step; true once."""
        self._count += 1
        if self._fired:
            return False
        when = self._when
        self._fired = self._count == when if isinstance(when, int) else when(step)
        return self._fired


class Killer:
    """Kills the process at a step; if that is a write, after half of its bytes."""

    def __init__(self, when: When) -> None:
        self._trigger = _Trigger(when)
        self._lock = threading.Lock()

    def __call__(self, step: Step, do: Do) -> Any:
        """Do a step, or half of it, and die."""
        with self._lock:
            if self._trigger.is_at(step):
                _write_half(step)
                os.kill(os.getpid(), signal.SIGKILL)
            return do()


class Failer:
    """Raises an error at a step; if that is a write, after half of its bytes.

    Attributes
    ----------
    failed : Step or None
        The step that failed, if the build reached it.
    before, after : list of Step
        The steps before it, and after it.
    """

    def __init__(self, when: When, error_number: int = errno.EIO) -> None:
        self.failed: Step | None = None
        self.before: list[Step] = []
        self.after: list[Step] = []
        self._trigger = _Trigger(when)
        self._number = error_number
        self._lock = threading.Lock()

    def __call__(self, step: Step, do: Do) -> Any:
        """Do a step, or half of it, and raise."""
        with self._lock:
            if self._trigger.is_at(step):
                self.failed = step
                _write_half(step)
                raise OSError(self._number, os.strerror(self._number), str(step.path))
            (self.before if self.failed is None else self.after).append(step)
            return do()


def _write_half(step: Step) -> None:
    if step.kind in ("write", "copy"):
        os.pwrite(step.descriptor, step.data[: len(step.data) // 2], step.offset)
