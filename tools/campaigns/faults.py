"""How does a build's way to the disk go wrong? Every change of it is a step, told to a hook.

1. `steps` puts stand-ins into `embstore.writing.files`, through which alone a build changes the
   disk. A tree is removed entry by entry.
2. Each calls the hook with the step and the function that does it. `Recorder` does and notes it,
   `Killer` ends the process at one, `Failer` raises at one.

A build has three threads, so the number of a step is not the same step every time: hooks count
while the build runs. None of them waits for the disk; only a real loss of power would show it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from embstore.writing import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Do = Callable[[], Any]
    Hook = Callable[["Step", Do], Any]

Kind = Literal[
    "mkdir",
    "create",
    "reopen",
    "write",
    "flush",
    "rename",
    "exchange",
    "unlink",
    "rmdir",
    "scratch",
]


@dataclass(frozen=True, slots=True)
class Step:
    """One change of the disk: what, where, and for a write the bytes."""

    kind: Kind
    path: Path
    to: Path | None = None
    data: bytes = b""
    offset: int = 0
    descriptor: int = -1


@contextlib.contextmanager
def steps(hook: Hook) -> Iterator[None]:
    """Tell ``hook`` of every step of what is built in this block, instead of doing it."""
    kinds: dict[str, Kind] = {
        "make_directory": "mkdir",
        "create": "create",
        "reopen": "reopen",
        "rename": "rename",
        "exchange": "exchange",
        "remove_file": "unlink",
        "open_scratch": "scratch",
    }
    whole = {name: getattr(files, name) for name in [*kinds, "write_at", "flush", "extend_scratch"]}

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

    def extend_scratch(descriptor: int, size_bytes: int, directory: Path) -> None:
        done = whole["extend_scratch"]
        hook(Step("scratch", directory), lambda: done(descriptor, size_bytes, directory))

    def remove_tree(path: Path, *, ignore_errors: bool = False) -> None:
        _remove_tree(path, hook, (OSError,) if ignore_errors else ())

    stand_ins = {
        **{name: simple(name) for name in kinds},
        **{"write_at": write_at, "flush": flush, "extend_scratch": extend_scratch},
        "remove_tree": remove_tree,
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


class Recorder:
    """Does every step and notes it, with paths relative to a folder.

    Parameters
    ----------
    folder : Path
        The folder.

    Attributes
    ----------
    log : list of Step
        What was done, in this order.
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


class Killer:
    """Kills the process at a step; if that is a write, when half of it is done."""

    def __init__(self, number: int) -> None:
        self._left = number
        self._lock = threading.Lock()

    def __call__(self, step: Step, do: Do) -> Any:
        """Do a step, or half of it, and die."""
        with self._lock:
            self._left -= 1
            if self._left == 0:
                _write_half(step)
                os.kill(os.getpid(), signal.SIGKILL)
            return do()


class Failer:
    """Raises at a step; a write on a full disk is done by half before.

    Attributes
    ----------
    failed : Step or None
        The step that failed, if the build came to it.
    before, after : list of Step
        What was done before it, and after it.
    """

    def __init__(self, number: int, error_number: int) -> None:
        self.failed: Step | None = None
        self.before: list[Step] = []
        self.after: list[Step] = []
        self._left = number
        self._number = error_number
        self._lock = threading.Lock()

    def __call__(self, step: Step, do: Do) -> Any:
        """Do a step, or half of it, and raise."""
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self.failed = step
                _write_half(step)
                raise OSError(self._number, os.strerror(self._number), str(step.path))
            (self.before if self.failed is None else self.after).append(step)
            return do()


def _write_half(step: Step) -> None:
    if step.kind == "write":
        os.pwrite(step.descriptor, step.data[: len(step.data) // 2], step.offset)
