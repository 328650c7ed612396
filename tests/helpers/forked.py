"""Commands in processes forked from one that has imported the command line already.

A new Python imports for a second of processor time; a forked process runs its command at once. It
has the arguments, the environment and the working directory of the command, and files as its
standard streams. Only what is read while Python starts stays as it was: tests of that start a
Python of their own.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

# What commands import when they use it.
IMPORTED_LATE = ("embstore.reading.mapped", "embstore.sinks.parquet", "embstore.sources.choose")
STREAMS = ("input", "output", "errors")


class Template:
    """The process from which the others are forked.

    Parameters
    ----------
    environment : dict
        Its environment; each command has its own.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.forked"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._owner = os.getpid()

    def run(
        self, arguments: list[str], environment: dict[str, str], timeout_seconds: float
    ) -> subprocess.CompletedProcess[str]:
        """Run ``embstore`` with arguments in a process of its own; its output is text."""
        encoding = environment.get("PYTHONIOENCODING", "").partition(":")[0] or "utf-8"
        requests, answers = self._process.stdin, self._process.stdout
        assert requests is not None
        assert answers is not None
        with tempfile.TemporaryDirectory(prefix="embstore-command-") as folder:
            request = [arguments, environment, str(Path.cwd()), folder]
            requests.write(json.dumps(request).encode() + b"\n")
            requests.flush()
            if not select.select([answers], [], [], timeout_seconds)[0]:
                self.close()
                raise subprocess.TimeoutExpired(arguments, timeout_seconds)
            output, errors = (Path(folder, name).read_text(encoding) for name in STREAMS[1:])
            return subprocess.CompletedProcess(arguments, int(answers.readline()), output, errors)

    def close(self) -> None:
        """End the process, and the command that it runs."""
        if os.getpid() == self._owner and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()


@functools.cache
def template() -> Template:
    """Return the only template of this process, which is closed when the process ends."""
    made = Template(os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})
    atexit.register(made.close)
    return made


def _run(arguments: list[str], environment: dict[str, str], directory: str, folder: str) -> None:
    """Run a command as if Python had just started this process."""
    from embstore import cli

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    for descriptor, name in enumerate(STREAMS):
        with Path(folder, name).open("a+b") as file:
            os.dup2(file.fileno(), descriptor)
    name, _, errors = environment.get("PYTHONIOENCODING", "").partition(":")
    if name:
        sys.stdout.reconfigure(encoding=name, errors=errors or "strict")  # type: ignore[union-attr]
        sys.stderr.reconfigure(encoding=name)  # type: ignore[union-attr]
    sys.argv[1:] = arguments
    cli.main()


def main() -> None:
    """Fork a process for each line with a command, and answer with its exit status."""
    from embstore import cli

    for name in IMPORTED_LATE:
        importlib.import_module(name)
    sys.argv[1:] = ["info", "--help"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        cli.main()  # The first command fills caches.
    gc.freeze()  # Otherwise, the garbage collector of each process would copy the memory.
    # Libraries have threads, but these hold no locks while nothing runs.
    warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
    for line in sys.stdin:
        process = multiprocessing.get_context("fork").Process(target=_run, args=json.loads(line))
        process.start()
        process.join()
        print(process.exitcode, flush=True)


if __name__ == "__main__":
    main()
