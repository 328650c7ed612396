"""Wording of options, functions and shapes in messages: as Python has them, or as the shell does.

A message tells its reader what to type. A program in Python types ``overwrite=True``, a person at a
shell ``--overwrite``. Code that raises an error names the option, and `for_shell` says who reads:
the command line sets it once, at its start, for all threads. Everybody else reads Python.

Messages are worded when they are made, so constants have no options in them; use a function.
"""

from __future__ import annotations

import json
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_NOT_GIVEN = object()


class _Reader:
    """Who reads messages.

    Attributes
    ----------
    names : callable or None
        Returns the names on the command line by those of parameters; None for a reader of Python.
    """

    names: Callable[[], Mapping[str, str]] | None = None


_reader = _Reader()


@contextmanager
def for_shell(names: Callable[[], Mapping[str, str]]) -> Iterator[None]:
    """Word messages for the command line until the block ends.

    Parameters
    ----------
    names : callable
        Returns the names of options and arguments by those of the parameters that they give, such
        as ``{"attributes": "--attribute", "path": "STORE"}``.
    """
    yield from _read_by(names)


@contextmanager
def for_python() -> Iterator[None]:
    """Word messages for programs until the block ends, as a server does for its clients."""
    yield from _read_by(None)


def _read_by(names: Callable[[], Mapping[str, str]] | None) -> Iterator[None]:
    before, _reader.names = _reader.names, names
    try:
        yield
    finally:
        _reader.names = before


def either(python: str, shell: str) -> str:
    """Return the text for Python or the one for the shell."""
    return python if _reader.names is None else shell


def parameter(name: str) -> str:
    """Return the name of a parameter.

    Examples
    --------
    >>> parameter("memory_limit")
    'memory_limit'
    >>> with for_shell(lambda: {"memory_limit": "--memory-limit"}):
    ...     parameter("memory_limit")
    '--memory-limit'
    """
    return name if _reader.names is None else _reader.names().get(name, name)


def option(name: str, value: Any = _NOT_GIVEN) -> str:
    """Return an option as it is given, with a value or without.

    Examples
    --------
    >>> option("tensor"), option("missing", "unk"), option("scale_block", (128, 1))
    ('tensor=', 'missing="unk"', 'scale_block=(128, 1)')
    >>> with for_shell(lambda: {"missing": "--missing", "overwrite": "--overwrite"}):
    ...     option("missing"), option("missing", "unk"), option("overwrite", True)
    ('--missing', '--missing unk', '--overwrite')
    """
    if _reader.names is None:
        if value is _NOT_GIVEN:
            return f"{name}="
        is_text = isinstance(value, str)
        return f"{name}={json.dumps(value, ensure_ascii=False) if is_text else repr(value)}"
    flag = parameter(name)
    if value is _NOT_GIVEN or value is True:
        return flag
    values = value if isinstance(value, tuple) else ("none" if value is None else value,)
    return " ".join([flag, *(shlex.quote(str(one)) for one in values)])


def function(name: str) -> str:
    """Return a function that is also a command.

    Examples
    --------
    >>> function("upsert")
    'embstore.upsert'
    >>> with for_shell(dict):
    ...     function("upsert")
    'embstore upsert'
    """
    return either(f"embstore.{name}", f"embstore {name}")


def and_pass(what: str) -> str:
    """Return what to do with an object that another library has loaded.

    Examples
    --------
    >>> f"open it with h5py, {and_pass('the data set')}"
    'open it with h5py, and pass the data set'
    >>> with for_shell(dict):
    ...     f"open it with h5py, {and_pass('the data set')}"
    'open it with h5py, and save it as .npy, Parquet or text'
    """
    return either(f"and pass {what}", "and save it as .npy, Parquet or text")


def shape_text(lengths: Sequence[int]) -> str:
    """Return the shape of an array.

    Examples
    --------
    >>> shape_text((384,))
    '(384,)'
    >>> with for_shell(dict):
    ...     shape_text((384,))
    '[384]'
    """
    return either(str(lengths), str(list(lengths)))
