"""Names of tensors, and patterns of names: the parts of one table.

Only ``{}`` is a pattern, and stands for a number. The parts of a table have the numbers from 0 or 1
on, none missing, and follow each other in that order. Everything else in a name is itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from embstore.errors import FormatError
from embstore.formats.names import listing, quoted, shown
from embstore.formats.safetensors.index import sibling_count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embstore.formats.safetensors.catalog import Catalog
    from embstore.formats.safetensors.header import Tensor

NUMBER: Final = "{}"
_DIGITS = re.compile(r"[0-9]+")
_MAX_DIGITS = 18  # More than there are tensors.
# What is looked at to group names.
_MAX_NUMBERS = 4
_MAX_NAME_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Parts:
    """The tensors of a name or of a pattern.

    Attributes
    ----------
    name : str
        The name, or the pattern.
    tensors : dict of int to Tensor
        The tensors by number, in order; that of a plain name has number 0.
    """

    name: str
    tensors: dict[int, Tensor]

    @property
    def is_pattern(self) -> bool:
        """Whether the name is a pattern."""
        return NUMBER in self.name

    @property
    def first(self) -> Tensor:
        """The first part."""
        return next(iter(self.tensors.values()))

    @property
    def digits(self) -> list[str]:
        """What stands for the number in the name of each part; nothing for a plain name."""
        if not self.is_pattern or self.first.name == self.name:
            return []
        before, after = (len(one) for one in self.name.split(NUMBER))
        names = [tensor.name for tensor in self.tensors.values()]
        return [name[before : len(name) - after] for name in names]

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return sum(tensor.shape[0] for tensor in self.tensors.values())

    @property
    def row_counts(self) -> list[int]:
        """Rows of each part that has any."""
        return [tensor.shape[0] for tensor in self.tensors.values() if tensor.shape[0]]


def find_parts(catalog: Catalog, name: str) -> Parts:
    """Return the tensors of a name or a pattern, all of one dtype and width.

    Raises
    ------
    StoreCorruptError
        If the index does not say what the files have.
    FormatError
        If there are none, or a part is missing, is there twice, or differs from the others.
    """
    if NUMBER not in name:
        if name not in catalog.names:
            raise catalog.unknown(name, grouped(catalog.names))
        return Parts(name, {0: catalog.find(name)})
    numbers = _numbers(catalog, name)
    if name in catalog.names:
        if not numbers:
            return Parts(name, {0: catalog.find(name)})
        raise FormatError(
            f"{catalog.where} has a tensor {quoted(name)}, and others whose names fit it as a "
            f"pattern: {listing(list(numbers.values()))}; rename one of the two"
        )
    if not numbers:
        raise catalog.unknown(name, grouped(catalog.names))
    _check_numbers(catalog, name, numbers)
    catalog.check_index(fits_pattern(name))
    tensors = {number: catalog.find(numbers[number]) for number in sorted(numbers)}
    _check_alike(catalog, name, tensors)
    return Parts(name, tensors)


def _numbers(catalog: Catalog, pattern: str) -> dict[int, str]:
    """Return the names that fit a pattern, by number.

    Raises
    ------
    FormatError
        If two have the same number, or the pattern has several ``{}``.
    """
    if (count := pattern.count(NUMBER)) > 1:
        raise FormatError(
            f"{quoted(pattern)} has {count} {NUMBER}; the parts of a table are told apart by one "
            "number, so write the others out"
        )
    fits = fits_pattern(pattern)
    numbers: dict[int, str] = {}
    for name in catalog.names:
        if (found := fits.fullmatch(name)) is None:
            continue
        digits = found[1].lstrip("0") or "0"
        if len(digits) > _MAX_DIGITS:
            raise FormatError(f"{catalog.where}: the number in {quoted(name)} is too large")
        number = int(digits)
        if number in numbers:
            raise FormatError(
                f"{catalog.where} has part {number} of {quoted(pattern)} twice: "
                f"{quoted(numbers[number])} and {quoted(name)}"
            )
        numbers[number] = name
    return numbers


def fits_pattern(pattern: str) -> re.Pattern[str]:
    """Return the expression for the names that fit a pattern; its group is the number."""
    start, end = map(re.escape, pattern.split(NUMBER))
    return re.compile(f"{start}([0-9]+){end}", re.DOTALL)


def _check_numbers(catalog: Catalog, pattern: str, numbers: dict[int, str]) -> None:
    """Check that parts have the numbers from 0 or 1 on."""
    first = min(1, *numbers)
    last = max(numbers)
    missing_count = last + 1 - first - len(numbers)
    if missing_count:
        missing: list[str] = []
        number = first
        while len(missing) < 10 and number < last:
            if number not in numbers:
                missing.append(pattern.replace(NUMBER, str(number)))
            number += 1
        more = f" and {missing_count - len(missing)} more" if missing_count > len(missing) else ""
        raise FormatError(
            f"{catalog.where} has {len(numbers)} parts of {quoted(pattern)}, up to number {last}, "
            f"but not {', '.join(map(shown, missing))}{more}; is the download complete?"
        )
    if catalog.index is None and (count := sibling_count(catalog.where)) > 1:
        raise FormatError(
            f"{catalog.where} is one of {count} files, so it may have only some of the parts of "
            f"{quoted(pattern)}; open the directory or the index, or name one tensor"
        )


def _check_alike(catalog: Catalog, pattern: str, tensors: dict[int, Tensor]) -> None:
    """Check that parts have rows, of one dtype and shape."""
    kinds: dict[tuple[str, tuple[int, ...] | None], list[Tensor]] = {}
    for tensor in tensors.values():
        row_shape = tensor.shape[1:] if tensor.shape else None
        kinds.setdefault((tensor.dtype, row_shape), []).append(tensor)
    if len(kinds) > 1:
        groups = "; ".join(
            f"{shown(dtype)} {[] if row is None else ['rows', *row]}: "
            f"{listing([tensor.name for tensor in some], 200)}"
            for (dtype, row), some in kinds.items()
        )
        raise FormatError(
            f"{catalog.where}: the parts of {quoted(pattern)} differ, so they are not one table: "
            f"{groups}"
        )


def grouped(names: Iterable[str]) -> list[str]:
    """Return names, with those that differ in one number alone as a pattern.

    Examples
    --------
    >>> grouped(["norm", "shard_0.weight", "shard_1.weight"])
    ['norm', 'shard_{}.weight']
    """
    return [*dict.fromkeys(groups_of(names).values())]


def groups_of(names: Iterable[str]) -> dict[str, str]:
    """Return for each name the pattern that it and others fit, or the name itself."""
    fitting = {name: patterns_of(name) for name in names}
    numbers: dict[str, set[int]] = {}
    for patterns in fitting.values():
        for pattern, number in patterns:
            numbers.setdefault(pattern, set()).add(number)
    sizes = {
        pattern: len(found)
        for pattern, found in numbers.items()
        if len(found) > 1 and max(found) - min(1, *found) + 1 == len(found)
    }
    groups: dict[str, str] = {}
    for name, patterns in fitting.items():
        # Of several patterns, that of the most parts, or of the last number in the name.
        whole = [pattern for pattern, _ in reversed(patterns) if pattern in sizes]
        groups[name] = max(whole, key=lambda pattern: sizes[pattern], default=name)
    return groups


def patterns_of(name: str) -> list[tuple[str, int]]:
    """Return the patterns that a name fits, each with its number.

    Examples
    --------
    >>> patterns_of("layers.3.shard_12")
    [('layers.{}.shard_12', 3), ('layers.3.shard_{}', 12)]
    """
    if NUMBER in name or len(name) > _MAX_NAME_LENGTH:
        return []
    return [
        (f"{name[: found.start()]}{NUMBER}{name[found.end() :]}", int(found[0]))
        for found in [*_DIGITS.finditer(name)][-_MAX_NUMBERS:]
        if len(found[0]) <= _MAX_DIGITS
    ]
