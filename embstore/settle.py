"""Conversion of a caller's arguments to exact types: counts, sizes, flags, choices, shapes.

Each public function settles its arguments once, at the start; the code behind it relies on them.

* A wrong type is a `TypeError`, a wrong value a `ValueError`. The message names the parameter,
  what was expected, and what was found.
* Booleans are not numbers here: ``partitions=True`` is a mistake, not 1.

Paths and URLs are settled by `embstore.paths`.
"""

from __future__ import annotations

import contextlib
import math
import operator
import re
from collections.abc import Mapping, Set
from itertools import pairwise
from typing import Any, TypeVar

from embstore.wording import either, parameter

_Choice = TypeVar("_Choice", bound=str)
_SHOWN_LENGTH = 100  # Of a value, in a message.
# Not more digits than any size needs: converting thousands of them is slow, and refused by Python.
_SIZE = re.compile(r"\s*([0-9]{1,30})(?:\.([0-9]{1,30}))?\s*(?:([kmgt])(i)?)?b?\s*", re.IGNORECASE)
_POWERS = ("", "k", "m", "g", "t")


def as_count(value: Any, name: str, *, low: int | None = 0, high: int | None = None) -> int:
    """Return an integer between two bounds, both included.

    Parameters
    ----------
    value : int, or object with ``__index__``
        What the caller gave; NumPy's integers are fine, floats and booleans are refused.
    name : str
        The parameter's name, for messages.
    low, high : int, optional
        The least and the largest value allowed; None for no bound.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is out of bounds.

    Examples
    --------
    >>> as_count(np.int8(3), "partitions", low=1)
    3
    >>> as_count(0, "partitions", low=1)
    Traceback (most recent call last):
      ...
    ValueError: partitions must be 1 or more, not 0
    """
    count = _as_int(value, f"{parameter(name)} must be an integer")
    if (low is not None and count < low) or (high is not None and count > high):
        bounds = f"{low} or more" if high is None else f"from {low} to {high}"
        raise ValueError(f"{parameter(name)} must be {bounds}, not {shown(count)}")
    return count


def as_size(value: Any, name: str, *, low: int = 0, high: int | None = None) -> int:
    """Return a number of bytes that may be given with a unit.

    Parameters
    ----------
    value : int or str
        Bytes, or a text such as ``"2GiB"``, ``"100M"`` or ``"1.5 GB"``. kB, MB, GB and TB, with or
        without the B, are powers of 1000, as on disks and in the SI; KiB, MiB, GiB and TiB are
        powers of 1024. Case does not matter. A fraction needs a unit; what is left of a byte is
        dropped.
    name : str
        The parameter's name, for messages.
    low, high : int, optional
        The least and the largest number of bytes allowed.

    Raises
    ------
    TypeError
        If it is neither an integer nor a str.
    ValueError
        If the text is not a size, or the size is out of bounds.

    Examples
    --------
    >>> as_size("2GiB", "memory_limit"), as_size("1.5 GB", "memory_limit")
    (2147483648, 1500000000)
    >>> as_size("512k", "memory_limit"), as_size("100M", "memory_limit")
    (512000, 100000000)
    >>> as_size("1MiB", "resident_limit", low=64 << 20)
    Traceback (most recent call last):
      ...
    ValueError: resident_limit must be 64MiB or more, not '1MiB'
    """
    how = f"{parameter(name)} must be a size such as 2GiB, 500MB or 4096"
    if isinstance(value, str):
        found = _SIZE.fullmatch(value)
        whole, part, power, binary = ("",) * 4 if found is None else found.groups(default="")
        if not whole or (part and not power):
            raise ValueError(f"{how}, not {shown(value)}")
        unit = (1024 if binary else 1000) ** _POWERS.index(power.lower())
        size: int = int(whole + part) * unit // 10 ** len(part)
    else:
        size = _as_int(value, how)
    if size < low or (high is not None and size > high):
        least = size_text(low)
        bounds = f"{least} or more" if high is None else f"from {least} to {size_text(high)}"
        raise ValueError(f"{parameter(name)} must be {bounds}, not {shown(value)}")
    return size


def size_text(size_bytes: int) -> str:
    """Return a number of bytes in the largest unit that divides it.

    Examples
    --------
    >>> size_text(1 << 30), size_text(1_500_000)
    ('1GiB', '1500000')
    """
    for power in range(len(_POWERS) - 1, 0, -1):
        if size_bytes and size_bytes % 1024**power == 0:
            return f"{size_bytes // 1024**power}{_POWERS[power].upper()}iB"
    return str(size_bytes)


def size_up_text(size_bytes: int) -> str:
    """Return a number of bytes as people type it: a large one is rounded up.

    Examples
    --------
    >>> size_up_text(49_152_048), size_up_text(1_500_000), size_up_text(700)
    ('47MiB', '1465KiB', '700')
    """
    for unit in (1 << 30, 1 << 20, 1 << 10):
        if size_bytes >= max(10 * unit, 1 << 20):
            return size_text(-(-size_bytes // unit) * unit)
    return size_text(size_bytes)


def as_positive(value: Any, name: str, *, or_zero: bool = False) -> float:
    """Return a number above 0, which may be infinite.

    Parameters
    ----------
    value : int, float, or object with ``__float__``
        What the caller gave; NumPy's numbers are fine, booleans and texts are refused.
    name : str
        The parameter's name, for messages.
    or_zero : bool
        Whether 0 is fine, too.

    Raises
    ------
    TypeError
        If it is not a number.
    ValueError
        If it is not above 0.

    Examples
    --------
    >>> as_positive(np.float32(1.5), "max_norm")
    1.5
    >>> as_positive(True, "max_norm")
    Traceback (most recent call last):
      ...
    TypeError: max_norm must be a number, not True (bool)
    """
    number = None
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if not isinstance(value, bool | str | bytes | bytearray) and kind not in ("b", "S", "U"):
        with contextlib.suppress(TypeError, ValueError):
            try:
                number = float(value)
            except OverflowError:  # An integer beyond all floats.
                number = math.inf if value > 0 else -math.inf
    if number is None:
        raise TypeError(f"{parameter(name)} must be a number, not {shown_with_type(value)}")
    if not (number > 0 or (or_zero and number == 0)):
        least = "0 or more" if or_zero else "above 0"
        raise ValueError(f"{parameter(name)} must be {least}, not {shown(value)}")
    return number


def as_flag(value: Any, name: str) -> bool:
    """Return whether something is wanted.

    Parameters
    ----------
    value : bool
        What the caller gave; NumPy's booleans, 0 and 1 are fine. A text such as ``"no"`` is
        refused, because it would count as true.
    name : str
        The parameter's name, for messages.

    Raises
    ------
    TypeError
        If it is not a boolean.

    Examples
    --------
    >>> as_flag(np.False_, "overwrite")
    False
    >>> as_flag("no", "overwrite")
    Traceback (most recent call last):
      ...
    TypeError: overwrite must be True or False, not 'no' (str)
    """
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if isinstance(value, bool) or (kind == "b" and not value.ndim):
        return bool(value)
    with contextlib.suppress(TypeError):
        if (number := operator.index(value)) in (0, 1):
            return bool(number)
    raise TypeError(f"{name} must be True or False, not {shown_with_type(value)}")


def as_choice(value: Any, name: str, choices: tuple[_Choice, ...]) -> _Choice:
    """Return the one of some texts that was chosen.

    Parameters
    ----------
    value : str
        What the caller gave.
    name : str
        The parameter's name, for messages.
    choices : tuple of str
        The texts allowed, such as ``get_args`` of a ``Literal``.

    Raises
    ------
    TypeError
        If it is not a str.
    ValueError
        If it is not one of them.

    Examples
    --------
    >>> as_choice("mod", "strategy", ("mod", "div"))
    'mod'
    >>> as_choice("hash", "strategy", ("mod", "div"))
    Traceback (most recent call last):
      ...
    ValueError: strategy must be "mod" or "div", not 'hash'
    """
    if isinstance(value, str):
        for choice in choices:
            if value == choice:
                return choice
    *others, last = (either(f'"{choice}"', choice) for choice in choices)
    listing = f"{', '.join(others)} or {last}" if others else last
    if isinstance(value, str):
        raise ValueError(f"{parameter(name)} must be {listing}, not {shown(value)}")
    raise TypeError(f"{parameter(name)} must be {listing}, not {shown_with_type(value)}")


def as_text(value: Any, name: str) -> str:
    """Return a text that is not empty.

    Parameters
    ----------
    value : str
        What the caller gave.
    name : str
        The parameter's name, for messages.

    Raises
    ------
    TypeError
        If it is not a str.
    ValueError
        If it is empty.

    Examples
    --------
    >>> as_text("embed.weight", "tensor")
    'embed.weight'
    >>> as_text(3, "tensor")
    Traceback (most recent call last):
      ...
    TypeError: tensor must be a str, not 3 (int)
    """
    if not isinstance(value, str):
        raise TypeError(f"{parameter(name)} must be a str, not {shown_with_type(value)}")
    if not value:
        raise ValueError(f"{parameter(name)} must be a name, not an empty text")
    return str(value)


def as_shape(value: Any, name: str, *, low: int = 1) -> tuple[int, ...]:
    """Return a shape as a tuple of ints.

    Parameters
    ----------
    value : iterable of int
        The length of each axis; ``()`` for scalars.
    name : str
        The parameter's name, for messages.
    low : int
        The least length allowed.

    Raises
    ------
    TypeError
        If it is not a sequence of integers.
    ValueError
        If an axis is shorter than ``low``.

    Examples
    --------
    >>> as_shape([3, np.int64(4)], "row_shape")
    (3, 4)
    >>> as_shape(300, "row_shape")
    Traceback (most recent call last):
      ...
    TypeError: row_shape must be a tuple of integers such as (300,), not 300 (int)
    """
    # Bytes are a sequence of integers too, and a set has no order.
    refused = isinstance(value, str | bytes | bytearray | memoryview | Mapping | Set)
    try:
        axes = None if refused else tuple(value)
    except TypeError:  # Not iterable, or an array without axes.
        axes = None
    if axes is None:
        raise TypeError(
            f"{name} must be a tuple of integers such as (300,), not {shown_with_type(value)}"
        )
    return tuple(as_count(axis, _item(name, place), low=low) for place, axis in enumerate(axes))


def as_numbers(value: Any, name: str, *, high: int | None = None) -> tuple[int, ...]:
    """Return numbers of parts, such as partitions: one or more, ascending, without repeats.

    Parameters
    ----------
    value : iterable of int
        What the caller gave, each 0 or more; NumPy's integers are fine.
    name : str
        The parameter's name, for messages.
    high : int, optional
        The largest number allowed.

    Raises
    ------
    TypeError
        If it is not a sequence of integers.
    ValueError
        If it is empty, one is out of bounds, or they do not ascend.

    Examples
    --------
    >>> as_numbers([0, np.int64(3)], "partitions")
    (0, 3)
    >>> as_numbers([3, 0], "partitions")
    Traceback (most recent call last):
      ...
    ValueError: partitions must ascend, without repeats; 0 comes after 3
    """
    refused = isinstance(value, str | bytes | bytearray | memoryview | Mapping | Set)
    try:
        found = None if refused else tuple(value)
    except TypeError:  # Not iterable, or an array without axes.
        found = None
    if found is None:
        raise TypeError(
            f"{name} must be a list of integers such as [0, 3], not {shown_with_type(value)}"
        )
    if not found:
        raise ValueError(f"{parameter(name)} must not be empty; omit it for all of them")
    numbers = tuple(
        as_count(number, _item(name, place), high=high) for place, number in enumerate(found)
    )
    for before, number in pairwise(numbers):
        if number <= before:
            raise ValueError(
                f"{parameter(name)} must ascend, without repeats; {shown(number)} comes after "
                f"{shown(before)}"
            )
    return numbers


def _item(name: str, place: int) -> str:
    return either(f"{name}[{place}]", f"each number of {parameter(name)}")


def _as_int(value: Any, expected: str) -> int:
    if not isinstance(value, bool):
        try:
            return operator.index(value)  # NumPy's booleans have no index.
        except TypeError:
            pass
    raise TypeError(f"{expected}, not {shown_with_type(value)}")


def shown(value: object) -> str:
    """Return ``repr(value)``, truncated for messages."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print integers of thousands of digits.
        text = "a very large number"
    return text if len(text) <= _SHOWN_LENGTH else f"{text[: _SHOWN_LENGTH - 3]}..."


def shown_bytes(value: bytes) -> str:
    r"""Return the start of some bytes that are no text, for messages.

    >>> shown_bytes(b"caf\xe9")
    "'caf\\xe9'"
    """
    return repr(value[:40])[1:]


def shown_with_type(value: object) -> str:
    """Return ``repr(value)`` and its type, for messages."""
    return "None" if value is None else f"{shown(value)} ({type(value).__name__})"
