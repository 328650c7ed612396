"""Python in a message: what a person at a shell should not have to read."""

from __future__ import annotations

import re
from collections.abc import Collection

PATTERNS = {
    "an option as Python has it": re.compile("(?<![\\w.-])[a-z_\N{WHITE SQUARE}]+=(?!=)"),
    "a name of the package": re.compile(r"(?<![\w./-])embstore\.[a-z_]"),
    "a constant": re.compile(r"\b(?:None|True|False)\b"),
    "a name of NumPy": re.compile(r"\b(?:np|numpy)\.\w"),
    "a call": re.compile(r"\w\([)\w'\"{]"),
    "a mapping": re.compile(r"\{['\w]+: "),
    "a tuple": re.compile(r"\(\d+,(?: \d+)*\)"),
    "bytes": re.compile(r"(?<![\w/'])b'"),
    "a class": re.compile(r"<class|\b[A-Z]\w+Error\b|__\w+__"),
    "a traceback": re.compile(r"Traceback"),
}


def python_in(text: str, parameters: Collection[str] = ()) -> list[str]:
    """Return what in a text is Python.

    Parameters
    ----------
    text : str
        The text.
    parameters : collection of str
        The names of parameters; those with an underscore show.
    """
    found = [what for what, pattern in PATTERNS.items() if pattern.search(text)]
    words = set(re.findall(r"(?<![\w/.-])[a-z]+(?:_[a-z]+)+(?![\w/.])", text))
    return found + sorted(words.intersection(parameters))
