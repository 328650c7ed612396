"""Arguments become exact types, or an error that names the parameter."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embstore.paths import as_path
from embstore.settle import as_choice, as_count, as_shape, as_size, as_text, size_text

NUMPY_INTEGERS = [np.int8, np.uint8, np.int32, np.uint64, np.int64]
# What is not a number, a text, or a path.
OTHERS = [None, object(), 1 + 2j, [], {}, {1}, 2.0, float("nan"), np.float32(2), Fraction(2)]
BOOLEANS = [True, False, np.True_, np.False_, np.array(True)]

UNITS = ["", "B", *(power + end for power in "KMGT" for end in ("", "B", "I", "IB"))]


def refusal(call: Any, *arguments: Any, **bounds: Any) -> str:
    """Return the message of the error that a value is refused with."""
    with pytest.raises((TypeError, ValueError)) as error:
        call(*arguments, **bounds)
    assert not isinstance(error.value, UnicodeError)
    return str(error.value)


class Index:
    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number


@given(st.integers(), st.integers(), st.integers())
def test_counts_within_bounds_are_kept(value, low, high):
    if low <= value <= high:
        assert as_count(value, "limit", low=low, high=high) == value
    else:
        message = refusal(as_count, value, "limit", low=low, high=high)
        assert message == f"limit must be from {low} to {high}, not {value}"


@given(st.integers(0, 100), st.sampled_from([*NUMPY_INTEGERS, int, Index, np.array]))
def test_counts_become_plain_ints(number, kind):
    assert type(as_count(kind(number), "limit")) is int
    assert as_count(kind(number), "limit") == number


@given(st.integers(max_value=-1))
def test_counts_are_not_negative_unless_allowed(value):
    assert refusal(as_count, value, "rows") == f"rows must be 0 or more, not {value}"
    assert as_count(value, "rows", low=value) == value


@pytest.mark.parametrize("value", [*OTHERS, *BOOLEANS, "3", b"3", np.array([3])])
def test_counts_are_integers(value):
    with pytest.raises(TypeError, match=r"^limit must be an integer, not ") as error:
        as_count(value, "limit")
    assert value is None or type(value).__name__ in str(error.value)


def test_an_integer_of_thousands_of_digits_is_named_without_its_digits():
    message = refusal(as_count, 10**6000, "limit", high=5)
    assert message == "limit must be from 0 to 5, not a very large number"


def test_long_values_are_truncated_in_messages():
    assert len(refusal(as_count, "x" * 10_000, "limit")) < 200


@given(
    st.integers(0, 10**12),
    st.none() | st.text("0123456789", min_size=1, max_size=12),
    st.sampled_from(UNITS),
    st.sampled_from(["", " ", "  "]),
    st.sampled_from([str, str.lower, str.title]),
)
def test_sizes_are_exact(whole, part, unit, space, spelled):
    number = str(whole) if part is None or unit in ("", "B") else f"{whole}.{part}"
    power = 0 if unit in ("", "B") else "KMGT".index(unit[0]) + 1
    factor = (1024 if "I" in unit else 1000) ** power
    expected = int(Fraction(number) * factor)
    assert as_size(f"{space}{number}{space}{spelled(unit)}{space}", "memory_limit") == expected


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("2GiB", 2 << 30), ("1.5 kB", 1500), ("1.5 GB", 1_500_000_000), ("64mib", 64 << 20)),
        *(("100M", 100_000_000), ("7", 7), (7, 7), (np.int64(7), 7), ("0", 0), ("2Gi", 2 << 30)),
    ],
)
def test_sizes(text, size):
    assert as_size(text, "memory_limit") == size
    assert type(as_size(text, "memory_limit")) is int


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "much", "nan", "inf", "-1", "-1GiB", "+1", "1e9", "0x10", "1,5 GB", ".5 GB"),
        *("1.5", "0.0", "1.5 B"),
        *("1.GB", "GiB", "1 Gibi", "1 iB", "1PB", "1 2", "1GBs", "\u0663", "1" * 31, "1" * 10_000),
    ],
)
def test_texts_that_are_not_sizes(text):
    with pytest.raises(ValueError, match=r"^memory_limit must be a size such as 2GiB, 500MB or"):
        as_size(text, "memory_limit")


@pytest.mark.parametrize("value", [*OTHERS, *BOOLEANS, b"2GiB"])
def test_sizes_are_integers_or_texts(value):
    with pytest.raises(
        TypeError, match=r"^memory_limit must be a size such as 2GiB, 500MB or 4096"
    ):
        as_size(value, "memory_limit")


@pytest.mark.parametrize("value", [(64 << 20) - 1, "63MiB", "0", 0, -1])
def test_sizes_have_bounds(value):
    expected = f"resident_limit must be 64MiB or more, not {value!r}"
    assert refusal(as_size, value, "resident_limit", low=64 << 20) == expected
    assert as_size("64MiB", "resident_limit", low=64 << 20, high=64 << 20) == 64 << 20
    message = refusal(as_size, "1TB", "resident_limit", low=64 << 20, high=1 << 30)
    assert message == "resident_limit must be from 64MiB to 1GiB, not '1TB'"


def test_sizes_are_not_negative():
    assert refusal(as_size, -1, "memory_limit") == "memory_limit must be 0 or more, not -1"


@given(st.integers(0, 1 << 60) | st.integers(0, 1 << 20).map(lambda count: count << 30))
def test_size_texts_give_the_same_size_back(size):
    assert as_size(size_text(size), "memory_limit") == size


@given(st.text(max_size=8), st.lists(st.text(max_size=3), min_size=1, max_size=4).map(tuple))
def test_choices(value, choices):
    if value in choices:
        assert as_choice(value, "strategy", choices) == value
    else:
        with pytest.raises(ValueError, match=r"^strategy must be "):
            as_choice(value, "strategy", choices)


def test_choices_are_listed():
    message = refusal(as_choice, "c", "format", ("a",))
    assert message == "format must be \"a\", not 'c'"
    message = refusal(as_choice, "c", "format", ("a", "b"))
    assert message == 'format must be "a" or "b", not \'c\''
    message = refusal(as_choice, "d", "format", ("a", "b", "c"))
    assert message == 'format must be "a", "b" or "c", not \'d\''


def test_choices_become_plain_texts():
    assert type(as_choice(np.str_("mod"), "strategy", ("mod", "div"))) is str


@pytest.mark.parametrize("value", [*OTHERS, *BOOLEANS, b"mod", 0, ["mod"], np.array(["mod"])])
def test_choices_are_texts(value):
    with pytest.raises(TypeError, match=r'^strategy must be "mod" or "div", not '):
        as_choice(value, "strategy", ("mod", "div"))


@pytest.mark.parametrize("value", [3, b"x", None, ["x"], True])
def test_texts_are_texts(value):
    with pytest.raises(TypeError, match="tensor must be a str, not"):
        as_text(value, "tensor")


def test_texts_are_not_empty():
    assert as_text(np.str_("embed"), "tensor") == "embed"
    assert type(as_text(np.str_("embed"), "tensor")) is str
    with pytest.raises(ValueError, match="tensor must be a name, not an empty text"):
        as_text("", "tensor")


@given(st.lists(st.integers(1, 1 << 40)), st.sampled_from([list, tuple, iter, np.array]))
def test_shapes_become_tuples_of_plain_ints(axes, kind):
    given_axes = np.array(axes, np.int64) if kind is np.array else kind(axes)
    shape = as_shape(given_axes, "row_shape")
    assert shape == tuple(axes)
    assert type(shape) is tuple
    assert all(type(axis) is int for axis in shape)


@pytest.mark.parametrize("value", [None, 3, 2.5, True, "3", b"33", bytearray(b"33"), {3}, {3: 4}])
def test_shapes_are_sequences_of_integers(value):
    with pytest.raises(TypeError, match=r"^row_shape must be a tuple of integers such as "):
        as_shape(value, "row_shape")


@pytest.mark.parametrize("value", [(3, 2.0), (3, True), (3, "4"), (3, None), np.ones((2, 2), int)])
def test_axes_are_integers(value):
    with pytest.raises(TypeError, match=r"^row_shape\[[01]\] must be an integer, not "):
        as_shape(value, "row_shape")


@pytest.mark.parametrize("axis", [0, -1])
def test_axes_are_positive(axis):
    message = refusal(as_shape, (3, axis), "row_shape")
    assert message == f"row_shape[1] must be 1 or more, not {axis}"


class PathLike:
    def __init__(self, path: str | bytes) -> None:
        self.path = path

    def __fspath__(self) -> str | bytes:
        return self.path


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=20))
def test_paths(text):
    expected = Path(text)
    assert as_path(text, "path") == expected
    assert as_path(expected, "path") == expected
    assert as_path(PathLike(text), "path") == expected


def test_relative_paths_stay_relative():
    assert as_path("a/b", "path") == Path("a/b")
    assert not as_path("a/b", "path").is_absolute()


def test_file_names_that_are_not_utf_8():
    assert os.fsencode(as_path(os.fsdecode(b"\xff"), "path")) == b"\xff"


@pytest.mark.parametrize("value", [*OTHERS, *BOOLEANS, 3, b"a", PathLike(b"a"), ["a"]])
def test_paths_are_texts(value):
    with pytest.raises(TypeError, match=r"^path must be a str or a pathlib\.Path, not "):
        as_path(value, "path")


@pytest.mark.parametrize("value", ["", PathLike("")])
def test_paths_are_not_empty(value):
    assert refusal(as_path, value, "path") == "path must be a path, not an empty text"


@pytest.mark.parametrize(
    "value", ["the 0.1 0.2 " * 22, "a/" + "é" * 128, "a/" * 2100, Path("x" * 256), "\ud800"]
)
def test_long_texts_are_not_paths(value):
    says = refusal(as_path, value, "path")
    assert re.match(r"path must be a path, .*(at most 255 bytes|surrogates)", says), says


@pytest.mark.parametrize("value", ["a" * 255, "a/" + "é" * 127, "a/" * 2047, "\udc80"])
def test_longest_paths(value):
    assert as_path(value, "path") == Path(value)


@pytest.mark.parametrize("value", ["\0", "a\0b", PathLike("a\0"), Path("a\0b")])
def test_paths_have_no_nul(value):
    assert refusal(as_path, value, "path").startswith("path must be a path without NUL characters")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        *((0, "0"), (1, "1"), (1023, "1023"), (1 << 10, "1KiB"), (1 << 20, "1MiB")),
        *((1 << 30, "1GiB"), (1 << 40, "1TiB"), (1 << 50, "1024TiB"), ((1 << 40) + 1024, None)),
    ],
)
def test_size_texts_use_the_largest_unit(size, text):
    assert size_text(size) == (text or f"{(1 << 30) + 1}KiB")


@pytest.mark.parametrize("length", [98, 99, 200])
def test_messages_show_at_most_100_characters_of_a_value(length):
    text = "x" * length  # Its repr has two quotes more.
    shown = repr(text) if length <= 98 else f"'{'x' * 96}..."
    assert len(shown) == 100
    how = "memory_limit must be a size such as 2GiB, 500MB or 4096"
    assert refusal(as_size, text, "memory_limit") == f"{how}, not {shown}"
    assert refusal(as_count, text, "limit") == f"limit must be an integer, not {shown} (str)"
    assert refusal(as_choice, text, "strategy", ("mod",)) == f'strategy must be "mod", not {shown}'


def test_long_paths_are_truncated_in_messages():
    expected = f"path must be a path without NUL characters, not '{'x' * 96}..."
    assert refusal(as_path, "x" * 200 + "\0", "path") == expected


def test_messages_name_the_type_of_a_value():
    assert refusal(as_count, None, "limit") == "limit must be an integer, not None"
    assert refusal(as_count, 2.0, "limit") == "limit must be an integer, not 2.0 (float)"
    assert refusal(as_choice, b"a", "format", ("a",)) == "format must be \"a\", not b'a' (bytes)"
    assert refusal(as_choice, None, "format", ("a",)) == 'format must be "a", not None'
    expected = "path must be a str or a pathlib.Path, not None"
    assert refusal(as_path, None, "path") == expected


def test_buffers_are_not_shapes():
    message = refusal(as_shape, memoryview(b"33"), "row_shape")
    assert message.startswith("row_shape must be a tuple of integers such as (300,), not <memory")
    assert message.endswith(" (memoryview)")
