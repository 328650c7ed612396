"""Programs in a Python of their own, which finds embstore and the tests."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import embstore
from embstore.cli import app
from embstore.cli.options import names_of
from tests.helpers.forked import template
from tests.helpers.shell_messages import python_in

ROOT = Path(embstore.__file__).parents[1]
TIMEOUT_SECONDS = 1500


def environment() -> dict[str, str]:
    """Return this process's environment, with the repository on Python's path."""
    return os.environ | {"PYTHONPATH": str(ROOT)}


def run_python(*arguments: object, status: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run Python with arguments; its exit status must be ``status``, unless that is None."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert status is None or done.returncode == status, done.stderr + done.stdout
    return done


def run_program(program: str, *arguments: object) -> str:
    """Run the text of a program; return what it prints."""
    return run_python("-c", textwrap.dedent(program), *arguments).stdout


def run_command(*arguments: object, status: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run the command ``embstore``, forked; its exit status must be ``status``.

    What it prints for people must have no Python in it.
    """
    done = template().run([*map(str, arguments)], environment(), TIMEOUT_SECONDS)
    assert status is None or done.returncode == status, done.stderr + done.stdout
    assert not (found := python_in(done.stderr, shell_names())), f"{found} in {done.stderr}"
    return done


@functools.cache
def shell_names() -> dict[str, str]:
    """Return the names of options by those of the parameters that they give."""
    return names_of(app)
