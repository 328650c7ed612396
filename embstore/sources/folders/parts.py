"""Parts: files of one table, put in order by the numbers in their names.

1. Names that differ in one number are parts, in the order of that number, wherever its digits are
   padded: ``part-2`` before ``part-10``. The numbers start at 0 or 1, and none is missing or
   repeated; behind ``-of-`` stands their count. Spark's ``part-00000-...-c001`` counts twice.
2. The number may go on in subfolders: ``part-0``, then ``lang=de/part-1``. The order of the paths,
   with the files of a folder before its subfolders, must be the same.
3. In Hive's folders, ``key=value/``, the parts of each folder may be numbered on their own. The
   folders are read in natural order (``year=9`` before ``year=10``), and the parts of each by their
   number. The value of the key is no part of a row.
4. A UUID or a long hexadecimal number in a name tells the run that wrote it, so it is the same in
   all parts, except behind ``-of-``, where each part may have its own.

Whatever else the names are, files may belong to several tables, so they are refused. So are numbers
that do not count parts: ``v1``, ``epoch-1``, a browser's ``(1)``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embstore.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Key = tuple[int, ...]

_SHOWN_NAMES = 10
# Sixteen digits without a letter are a padded number.
_TAG = re.compile(
    r"(?<![0-9a-z])(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|(?=[0-9]*[a-f])(?:[0-9a-f]{32}|[0-9a-f]{16}))(?![0-9a-z])",
    re.IGNORECASE,
)
_OF = re.compile(r"[-_. ]?of[-_. ]?", re.IGNORECASE)
_SPARK = re.compile("part-\0-\1[-.]c\0\\.")
# What stands before a number that counts parts even where there is only one, and before one that
# counts something else.
_COUNTS_PARTS = re.compile(r"(?:.*[^a-z])?(?:part|shard|chunk|piece|split)[-_. ]?", re.IGNORECASE)
_COUNTS_OTHERS = re.compile(
    r".*\(|(?:.*[^a-z])?(?:v|ver|version|rev|copy|epoch|step|iter|iteration|checkpoint|ckpt|layer"
    r"|fold|seed|run|trial)[-_. ]?",
    re.IGNORECASE,
)
_ONE_TABLE = "name one file, or move the files of one table to a folder of their own"


@dataclass(frozen=True, slots=True)
class _Name:
    r"""A name, taken apart.

    Attributes
    ----------
    template : str
        The name with ``\0`` for each number and ``\1`` for each tag.
    numbers : tuple of int
        Its numbers.
    tags : tuple of str
        Its UUIDs and long hexadecimal numbers.
    """

    template: str
    numbers: Key
    tags: tuple[str, ...]


def order_parts(where: str, names: Sequence[str]) -> list[str]:
    """Return the names of the parts of a table in the order of their rows.

    Parameters
    ----------
    where : str
        The folder, for messages.
    names : sequence of str
        Paths in the folder, with ``/``; one or more.

    Raises
    ------
    SourceError
        If the files are not the parts of one table, or a part is missing or repeated.

    Examples
    --------
    >>> order_parts("t", ["part-10.npy", *(f"part-{number}.npy" for number in range(10))])[-2:]
    ['part-9.npy', 'part-10.npy']
    """
    folders = [name.rpartition("/")[0] for name in names]
    shared = os.path.commonpath(folders) if all(folders) else ""
    folders = [folder[len(shared) :].strip("/") for folder in folders]
    hive = all(_is_hive(folder) for folder in folders)
    if len(set(folders)) > 1 and not hive:
        # Numbered folders with a file each: shard-0/rows.npy, shard-1/rows.npy.
        whole = [_parse(name) for name in names]
        if _alike(whole) and len(_differing(whole)) == 1:
            return _in_order(where, names, whole)
    parsed = [_parse(name.rpartition("/")[2]) for name in names]
    if not _alike(parsed):
        raise SourceError(
            f"{where} has files that may be of several tables, because their names differ in more "
            f"than a number: {listing(names)}; {_ONE_TABLE}"
        )
    if hive:
        return _in_hive_order(where, names, folders, parsed)
    ordered = _in_order(where, names, parsed)
    by_path = sorted(ordered, key=lambda name: natural_key(name.rpartition("/")[0]))  # Is stable.
    return _agreed(where, ordered, by_path)


def template_of(name: str) -> str:
    """Return a name without its folder, with a placeholder for each number and tag."""
    return _parse(name.rpartition("/")[2]).template


def listing(names: Iterable[str]) -> str:
    """Return names for a message, the first ten in natural order."""
    return listing_of(sorted(names, key=natural_key))


def listing_of(names: Sequence[str]) -> str:
    """Return names for a message, the first ten as they are."""
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _in_order(where: str, names: Sequence[str], parsed: list[_Name]) -> list[str]:
    """Return names in the order of their numbers, which must be complete."""
    _check_runs(where, names, parsed)
    keys = _keys(where, names, parsed)
    by_key: dict[Key, str] = {}
    for name, key in sorted(zip(names, keys, strict=True)):
        if key in by_key:
            raise SourceError(
                f"{where} has two files with the same number, or of several tables: "
                f"{by_key[key]}, {name}; {_ONE_TABLE}"
            )
        by_key[key] = name
    _check_complete(where, names, parsed[0], sorted(by_key))
    return [by_key[key] for key in sorted(by_key)]


def _in_hive_order(
    where: str, names: Sequence[str], folders: list[str], parsed: list[_Name]
) -> list[str]:
    """Return names by folder, and in a folder by number; the folders' numbers may overlap."""
    if len(set(folders)) < len(names):
        _check_runs(where, names, parsed)
    keys = _keys(where, names, parsed)
    places = [(natural_key(folder), key) for folder, key in zip(folders, keys, strict=True)]
    if len(set(zip(folders, keys, strict=True))) < len(names):
        raise SourceError(
            f"{where} has two files with the same number in one folder: {listing(names)}; "
            f"{_ONE_TABLE}"
        )
    _check_complete(where, names, parsed[0], sorted(set(keys)))
    by_path = [name for _, name in sorted(zip(places, names, strict=True))]
    if len(set(keys)) < len(names):
        return by_path
    ordered = [name for _, name in sorted(zip(keys, names, strict=True))]
    return _agreed(where, ordered, by_path)


def _agreed(where: str, by_number: list[str], by_path: list[str]) -> list[str]:
    """Return the order of parts if their numbers and their folders tell the same one."""
    if by_number == by_path:
        return by_number
    raise SourceError(
        f"{where}: the order of its parts is in doubt: by number {listing_of(by_number)}, but by "
        f"folder {listing_of(by_path)}; move the parts to one folder"
    )


def _parse(name: str) -> _Name:
    tags = tuple(_TAG.findall(name))
    pieces = re.split(r"([0-9]+)", _TAG.sub("\1", name))
    return _Name("\0".join(pieces[::2]), tuple(map(int, pieces[1::2])), tags)


def _alike(parsed: list[_Name]) -> bool:
    return len({name.template for name in parsed}) == 1


def _differing(parsed: list[_Name]) -> list[int]:
    """Return the places of the numbers that differ among names with one template."""
    columns = zip(*(name.numbers for name in parsed), strict=True)
    return [place for place, values in enumerate(columns) if len(set(values)) > 1]


def _count_place(name: _Name) -> int | None:
    """Return the place of the number of parts, as in ``-00001-of-00003``; None without one."""
    between = name.template.split("\0")[1:-1]
    return next((place for place, text in enumerate(between, 1) if _OF.fullmatch(text)), None)


def _check_runs(where: str, names: Sequence[str], parsed: list[_Name]) -> None:
    """Refuse files that several runs of a writer left."""
    count_place = _count_place(parsed[0])
    if count_place is None:
        runs = {name.tags for name in parsed}
    else:
        runs = {(str(name.numbers[count_place]),) for name in parsed}
    if len(runs) > 1:
        raise SourceError(
            f"{where} has files that several runs wrote, so they may be of several tables: "
            f"{listing(names)}; {_ONE_TABLE}"
        )


def _keys(where: str, names: Sequence[str], parsed: list[_Name]) -> list[Key]:
    """Return the number of each part, for Spark two; () for a name without one."""
    literals = parsed[0].template.split("\0")
    count_place = _count_place(parsed[0])
    places = _differing(parsed)
    if _SPARK.match(parsed[0].template):
        places = [0, 1]
    elif count_place is not None:
        places = sorted({*places, count_place - 1})
    elif len(names) == 1:
        counted = [place for place, text in enumerate(literals) if _COUNTS_PARTS.fullmatch(text)]
        places = counted[-1:]
    elif places and _COUNTS_OTHERS.fullmatch(literals[places[0]]):
        raise SourceError(
            f"{where} has files that may be versions of a table, and not its parts: "
            f"{listing(names)}; {_ONE_TABLE}"
        )
    if len(places) > 1 and not _SPARK.match(parsed[0].template):
        raise SourceError(
            f"{where} has files whose names differ in several numbers, so they may be of several "
            f"tables: {listing(names)}; {_ONE_TABLE}"
        )
    return [tuple(name.numbers[place] for place in places) for name in parsed]


def _check_complete(where: str, names: Sequence[str], one: _Name, keys: list[Key]) -> None:
    """Refuse numbers with a gap; ``keys`` are distinct and sorted."""
    files: dict[int, list[int]] = {}  # Of Spark's tasks, the numbers of their files.
    for key in keys:
        if key:
            files.setdefault(key[0], []).extend(key[1:])
    numbers = list(files)
    missing = _missing(numbers, 0 if _SPARK.match(one.template) else 1)
    count_place = _count_place(one)
    if missing is None and numbers and count_place is not None:
        count = one.numbers[count_place]
        if len(numbers) > count:
            raise SourceError(
                f"{where} has {len(numbers)} parts, but their names say {count}: {listing(names)}; "
                f"{_ONE_TABLE}"
            )
        missing = None if len(numbers) == count else numbers[-1] + 1
    for of_task in files.values():
        missing = _missing(of_task, 0) if missing is None else missing
    if missing is not None:
        raise SourceError(
            f"{where}: the part with the number {missing} is missing; found {listing(names)}; "
            "is the download complete? If that is all, number the files from 0, or name one file"
        )


def _missing(numbers: list[int], last_start: int) -> int | None:
    """Return the first number that is missing, or None.

    The numbers are sorted, and start at 0 to ``last_start``.
    """
    if not numbers:
        return None
    start = min(numbers[0], last_start)
    return next((n for n, number in enumerate(numbers, start) if number != n), None)


def _is_hive(folder: str) -> bool:
    return all(re.match(r"[^=]+=", component) for component in folder.split("/"))


def natural_key(path: str) -> list[list[tuple[int, str]]]:
    """Return a key that sorts paths by component, and numbers in them by value."""
    return [
        [
            (int(piece), "") if place % 2 else (-1, piece)
            for place, piece in enumerate(re.split(r"([0-9]+)", component))
        ]
        for component in path.split("/")
        if component
    ]
