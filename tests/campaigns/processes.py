"""Processes of their own, for functions that crash, hang, or change limits."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Longer than any full campaign.
SECONDS = 3 * 3600


def in_spawned(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a new process, without threads; return its result.

    Raises
    ------
    AssertionError
        If the function raises an error, or its process dies or hangs; with the traceback, if any.
    """
    spawn: Any = multiprocessing.get_context("spawn")
    results: Any = spawn.SimpleQueue()
    process = spawn.Process(target=_report, args=(results, function, *arguments))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
    result = f"exit status {process.exitcode}" if results.empty() else results.get()
    if process.exitcode:
        raise AssertionError(f"{function.__name__}: {result}")
    return result


def _report(results: Any, function: Callable[..., Any], *arguments: Any) -> None:
    try:
        results.put(function(*arguments))
    except BaseException:
        results.put(traceback.format_exc())
        raise


def in_child(work: Callable[[], None]) -> int:
    """Do work in a fork, which may be killed; return its exit status."""
    _, status = os.waitpid(fork(work), 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        raise AssertionError(f"exit status {code}; the traceback is above")
    return code


def fork(work: Callable[[], None]) -> int:
    """Do work in a child; return the number of its process."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
