"""Settings of a measurement, and the command that repeats it."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass

from embstore.bench.state import STATES
from embstore.bench.work import BATCHES, WORKS

ROUNDS, SECONDS = 5, 0.3


@dataclass(frozen=True, slots=True)
class Settings:
    """What `embstore.bench.suite.bench_store` was asked for.

    Parameters
    ----------
    path : str
        Absolute path of the store, or of a file that is opened in place.
    tensor : str, optional
        The tensor of a safetensors file that has several.
    works, states, batches : tuple
        Kinds of lookup, states of the rows and ids in a call.
    rounds : int
        Turns of each competitor in each case.
    seconds : float
        Length of a turn.
    """

    path: str
    tensor: str | None = None
    works: tuple[str, ...] = WORKS
    states: tuple[str, ...] = STATES
    batches: tuple[int, ...] = BATCHES
    rounds: int = ROUNDS
    seconds: float = SECONDS

    @property
    def command(self) -> str:
        """The command line that measures the same again, for a shell.

        Examples
        --------
        >>> Settings("/data/my store", works=("read_one",), seconds=1).command
        "embstore bench '/data/my store' --work read_one --seconds 1"
        """
        words = ["embstore", "bench", self.path]
        if self.path.startswith("-"):
            words.insert(2, "--")
        options: list[tuple[str, tuple[object, ...], tuple[object, ...]]] = [
            ("--tensor", (self.tensor,), (None,)),
            ("--work", self.works, WORKS),
            ("--batch", self.batches, BATCHES),
            ("--state", self.states, STATES),
            ("--rounds", (self.rounds,), (ROUNDS,)),
            ("--seconds", (self.seconds,), (SECONDS,)),
        ]
        for name, values, usual in options:
            for value in values if values != usual else ():
                words += [name, f"{value:g}" if isinstance(value, float) else str(value)]
        return " ".join(map(quoted, words))


def quoted(word: str) -> str:
    r"""Return a word as a shell takes it, in printable characters only.

    >>> quoted("a b"), quoted("a\nb")
    ("'a b'", "$'a\\nb'")
    """
    if word.isprintable():
        return shlex.quote(word)
    shown = {"'": "\\'", "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    parts = []
    for one in word:
        if one in shown:
            parts.append(shown[one])
        elif one.isprintable():
            parts.append(one)
        else:
            parts += [f"\\x{byte:02x}" for byte in os.fsencode(one)]
    return f"$'{''.join(parts)}'"
