"""The examples of a page of Markdown, run in their order in one folder.

* ``pycon`` blocks are doctests; names are kept from block to block.
* ``python`` blocks are executed with the same names.
* ``console`` blocks are commands after ``$``, each with its output, if it is shown. ``...`` stands
  for anything. ``cat FILE`` makes the file, if there is none. ``embstore serve`` runs until the
  page ends, on a free port of this machine.
* ``sh`` blocks are lines of commands whose output is not shown.

A comment ``<!-- not run: REASON -->`` before a block leaves it out.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.programs import TIMEOUT_SECONDS, environment, run_command

BLOCK = re.compile(r"^(?:<!-- not run: (.+?) -->\n)?```(\S*)\n(.*?)^```$", re.M | re.S)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.M)
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
SERVE = ["embstore", "serve"]
SHELL = re.compile(r"[|<>;&$*]")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code of a page.

    Attributes
    ----------
    language, text : str
        Its language, and what is in it.
    line : int
        The line of the page before its first one, from 1 on.
    reason : str or None
        Why it is not run, if it is not.
    """

    language: str
    text: str
    line: int
    reason: str | None


def blocks(text: str) -> list[Block]:
    """Return the blocks of code in the text of a page."""
    return [
        Block(found[2], found[3], text.count("\n", 0, found.start(3)), found[1])
        for found in BLOCK.finditer(text)
    ]


class Examples:
    """What runs the examples of one page, in the current directory.

    Parameters
    ----------
    page : Path
        The page, for messages.
    """

    def __init__(self, page: Path) -> None:
        self.page = page
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.servers: list[subprocess.Popen[str]] = []

    def run(self, text: str) -> int:
        """Run the blocks in the text of the page; return how many were run."""
        run = {
            "pycon": self._pycon,
            "python": self._python,
            "console": self._console,
            "sh": self._sh,
        }
        count = 0
        try:
            for block in blocks(text):
                if block.language in run and block.reason is None:
                    run[block.language](block)
                    count += 1
        finally:
            self._close()
        return count

    def _pycon(self, block: Block) -> None:
        name, parser = self.page.name, doctest.DocTestParser()
        test = parser.get_doctest(block.text, self.names, name, str(self.page), block.line)
        failures: list[str] = []
        runner = doctest.DocTestRunner(optionflags=OPTIONS)
        found = runner.run(test, out=failures.append, clear_globs=False)
        self.names = test.globs
        assert not found.failed, "".join(failures)

    def _python(self, block: Block) -> None:
        exec(compile("\n" * block.line + block.text, self.page, "exec"), self.names)

    def _console(self, block: Block) -> None:
        for command, output in COMMAND.findall(block.text):
            self._command(command.replace("\\\n", " "), output)

    def _sh(self, block: Block) -> None:
        for line in block.text.replace("\\\n", " ").splitlines():
            self._command(line, "")

    def _command(self, command: str, output: str) -> None:
        arguments = shlex.split(command, comments=True)
        if arguments[0] == "cat" and output and not Path(arguments[1]).exists():
            Path(arguments[1]).write_text(output)
            return
        if arguments[:2] == SERVE:
            found = self._serve(arguments[2:])
            output = re.sub(r"//[\w.]+:\d+", "//", output)
        else:
            status = None if "error: " in output else 0
            if arguments[0] == "embstore" and not SHELL.search(command):
                done = run_command(*arguments[1:], status=status)
            else:
                done = run_shell(command, status=status)
            found = done.stdout + (done.stderr if done.returncode else "")
        if output:
            same = doctest.OutputChecker().check_output(output, found, OPTIONS)
            assert same, f"{self.page}: $ {command}\n{found}\nbut the page shows\n{output}"

    def _serve(self, arguments: list[str]) -> str:
        """Start a server; return its first line, without the address."""
        for option, value in (("--host", "127.0.0.1"), ("--port", "0")):
            if option in arguments:
                arguments[arguments.index(option) + 1] = value
        self.servers.append(
            subprocess.Popen(
                [sys.executable, "-m", "embstore.cli", "serve", *arguments],
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        assert self.servers[-1].stdout is not None
        return re.sub(r"//[\w.]+:\d+", "//", self.servers[-1].stdout.readline())

    def _close(self) -> None:
        for value in self.names.values():
            if type(value).__module__.startswith("embstore.") and hasattr(value, "close"):
                value.close()
        for server in self.servers:
            server.send_signal(signal.SIGTERM)
        ended = [
            (*server.communicate(timeout=TIMEOUT_SECONDS), server.returncode)
            for server in self.servers
        ]
        assert all(one == ("", "", 0) for one in ended), ended


def run_shell(command: str, *, status: int | None) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell, which finds this Python and `embstore`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        ["sh", "-ec", command],
        env=environment() | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert status is None or done.returncode == status, f"$ {command}\n{done.stderr}{done.stdout}"
    return done
