"""The files of a GGUF model: one, or several parts.

The names of parts end in ``-00001-of-00003.gguf``; the numbers count from 1. The keys ``split.no``
(from 0 on), ``split.count`` and ``split.tensors.count`` of every part say the same. The tensors of
a model may be in any part; any part leads to all of them.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embstore.errors import FormatError, StoreCorruptError
from embstore.formats.gguf.header import Header, read_header
from embstore.formats.names import listing, quoted

if TYPE_CHECKING:
    from embstore.formats.gguf.header import Tensor
    from embstore.table.protocols import Files

PATTERNS = ("*.gguf",)
_PART = re.compile(r"(.+)-([0-9]{5,})-of-([0-9]{5,})\.gguf", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PartName:
    """The name of a part.

    Attributes
    ----------
    stem : str
        What the names of all parts start with.
    number, count : int
        The number of the part, from 1 on, and of all parts.
    """

    stem: str
    number: int
    count: int

    def of(self, number: int) -> str:
        """Return the name of another part."""
        return f"{self.stem}-{number:05}-of-{self.count:05}.gguf"


def part_name(name: str) -> PartName | None:
    """Return what the name of a part says; None for another name.

    Examples
    --------
    >>> part_name("model-00002-of-00003.gguf")
    PartName(stem='model', number=2, count=3)
    >>> part_name("model.gguf") is None
    True
    """
    found = _PART.fullmatch(name)
    return None if found is None else PartName(found[1], int(found[2]), int(found[3]))


def main_file(files: Files) -> str:
    """Return the only file of a directory, or the first of its parts."""
    found = sorted(
        name
        for pattern in PATTERNS
        for name in fnmatch.filter(files.names(), pattern)
        # Such as an AppleDouble file, ._model.gguf.
        if not name.startswith((".", "_")) and _is_file(files, name)
    )
    if len(found) == 1:
        return found[0]
    names = [part_name(name) for name in found]
    if found and len({name and (name.stem, name.count) for name in names}) == 1 and names[0]:
        return found[0]
    raise FormatError(
        f"{files.where('')}: expected one .gguf file or the parts of one model, found "
        f"{listing(found) or 'no regular file'}; name the file"
    )


def _is_file(files: Files, name: str) -> bool:
    """Say whether a name is that of a file, and not of a directory or a link to nothing."""
    try:
        files.size(name)
    except StoreCorruptError:
        return False
    return True


def find_tensors(files: Files, name: str) -> dict[str, tuple[str, Tensor]]:
    """Return the file and the entry of each tensor of a model, by the tensor's name.

    Parameters
    ----------
    files : Files
        The files of its directory.
    name : str
        Its file, or any part.

    Raises
    ------
    StoreCorruptError
        If a header is wrong, a part is missing, or parts contradict each other.
    FormatError
        If a file has a version that cannot be read, or a name that does not lead to other parts.
    """
    given = read_header(files, name)
    found: dict[str, tuple[str, Tensor]] = {}
    for part, header in _parts(files, name, given):
        for tensor, entry in header.tensors.items():
            if tensor in found:
                raise StoreCorruptError(
                    f"the tensor {quoted(tensor)} is in {files.where(found[tensor][0])} and in "
                    f"{files.where(part)}; expected one of them; are these parts of one model?"
                )
            found[tensor] = part, entry
    expected = given.split and given.split.tensor_count
    if expected is not None and expected != len(found):
        raise StoreCorruptError(
            f"{files.where(name)} says that all parts have {expected} tensors "
            f"(split.tensors.count), but {len(found)} were found; are these parts of one model?"
        )
    return found


def _parts(files: Files, name: str, given: Header) -> list[tuple[str, Header]]:
    """Return the files of a model and their headers."""
    where, named, split = files.where(name), part_name(name), given.split
    if split is None:
        if named is not None and named.count > 1:
            raise StoreCorruptError(
                f"{where} is named as part {named.number} of {named.count}, but its header does "
                "not say so (split.count); to read this file alone, rename it"
            )
        return [(name, given)]
    if named is None:
        raise FormatError(
            f"{where} is part {split.number + 1} of {split.count} by its header, so its name must "
            f"end in -{split.number + 1:05}-of-{split.count:05}.gguf, or the other parts cannot be "
            "found; rename it"
        )
    if (named.number, named.count) != (split.number + 1, split.count):
        raise StoreCorruptError(
            f"{where} is part {split.number + 1} of {split.count} by its header (split.no, "
            "split.count), not what its name says; give all parts the names that they had"
        )
    names = [named.of(number) for number in range(1, named.count + 1)]
    if missing := [part for part in names if not files.exists(part)]:
        raise StoreCorruptError(
            f"{where} is one of {split.count} parts, and {listing(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing; is the download complete?"
        )
    found = []
    for number, part in enumerate(names):
        header = given if part == name else read_header(files, part)
        other = header.split
        if other is None or (other.number, other.count) != (number, split.count):
            says = "no part" if other is None else f"part {other.number + 1} of {other.count}"
            raise StoreCorruptError(
                f"{files.where(part)} is {says} by its header (split.no, split.count), expected "
                f"part {number + 1} of {split.count}; are these parts of one model?"
            )
        if other.tensor_count != split.tensor_count:
            raise StoreCorruptError(
                f"{files.where(part)} says that all parts have {other.tensor_count} tensors "
                f"(split.tensors.count), but {where} says {split.tensor_count}; are these parts of "
                "one model?"
            )
        found.append((part, header))
    return found
