"""The tensors of a model by name, whatever files they are in.

1. In one file, they are those of its header.
2. With an index, they are those that it lists. Only the headers of the files that are asked about
   are read, and what they have is compared with the index.
3. In a directory without an index, they are those of all its files.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from embstore.errors import FormatError, StoreCorruptError, StoreError
from embstore.formats.names import listing, nearest, quoted
from embstore.formats.safetensors.header import Tensor, read_header
from embstore.formats.safetensors.index import (
    INDEX_SUFFIX,
    check_complete,
    model_files,
    read_index,
)

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable

    from embstore.table.protocols import Files

_SHOWN = 10


class Catalog:
    """The tensors of a file, of an index, or of a directory.

    Parameters
    ----------
    files : Files
        The files of a directory.
    name : str
        A ``.safetensors`` file or an index in it; ``""`` for all files.

    Attributes
    ----------
    where : str
        What was opened, for messages.
    files : Files
        The files.
    names : dict of str to list of str
        The files that each tensor is in, which is one unless the files are wrong.
    """

    def __init__(self, files: Files, name: str) -> None:
        self.files = files
        self.where = files.where(name)
        self.index = name if name.endswith(INDEX_SUFFIX) else None
        self._headers: dict[str, dict[str, Tensor]] = {}
        self.names: dict[str, list[str]] = {}
        if self.index is not None:
            self.names = {tensor: [file] for tensor, file in read_index(files, name).items()}
            return
        for file in [name] if name else self._listed():
            for tensor in self.header(file):
                self.names.setdefault(tensor, []).append(file)

    def header(self, file: str) -> dict[str, Tensor]:
        """Return the tensors of a file."""
        if file not in self._headers:
            self._headers[file] = read_header(self.files, file)
        return self._headers[file]

    def find(self, name: str) -> Tensor:
        """Return the tensor of a name that is in `names`.

        Raises
        ------
        StoreCorruptError
            If its file is missing, or has no such tensor, although the index says so.
        FormatError
            If several files have it.
        """
        first, *others = self.names[name]
        if others:
            raise FormatError(
                f"{self.where}: expected the tensor {quoted(name)} in one file, found "
                f"{listing([first, *others])}; name the file"
            )
        if not self.has_file(first):
            raise StoreCorruptError(
                f"{self.files.where(first)}, which {self.where} lists for the tensor "
                f"{quoted(name)}, is missing; is the download complete?"
            )
        found = self.header(first).get(name)
        if found is None:
            raise StoreCorruptError(
                f"{self.files.where(first)} has no tensor {quoted(name)}, but {self.where} lists "
                "it there"
            )
        return found

    def check_index(self, fits: re.Pattern[str]) -> None:
        """Compare an index with the headers of all its files, for the names that fit a pattern.

        Files that are missing are left out, because they may hold other tensors.

        Raises
        ------
        StoreCorruptError
            If a file has such a tensor, but the index does not list it there.
        """
        if self.index is None:
            return
        for file in self.present_files():
            for name in self.header(file):
                if fits.fullmatch(name) and self.names.get(name) != [file]:
                    listed = " and ".join(self.names.get(name, ["no file"]))
                    raise StoreCorruptError(
                        f"{self.files.where(file)} has the tensor {quoted(name)}, but {self.where} "
                        f"lists it in {listed}"
                    )
        # Files that are not listed may be copies, but have nothing else.
        for file in self._unlisted_files():
            for name in self.header(file):
                if fits.fullmatch(name) and name not in self.names:
                    raise self._not_listed(file, name)

    def present_files(self) -> list[str]:
        """Return the files that are there."""
        named = sorted({file for places in self.names.values() for file in places})
        return [file for file in named if self.has_file(file)]

    def missing_files(self) -> list[str]:
        """Return the files that an index lists and that are missing."""
        named = {file for places in self.names.values() for file in places}
        return sorted(named - set(self.present_files()))

    def has_file(self, file: str) -> bool:
        """Say whether a file is there."""
        return file in self._headers or self.files.exists(file)

    def unknown(self, name: str, groups: Iterable[str]) -> FormatError:
        """Return the error for a name that no tensor has.

        Parameters
        ----------
        name : str
            What was asked for.
        groups : iterable of str
            What to show instead of many names.

        Raises
        ------
        StoreCorruptError
            If a file has it, but the index does not list it.
        """
        self._find_unlisted(name)
        every = list(self.names)
        known = every if len(every) <= _SHOWN else list(groups)
        near = nearest(name, list(dict.fromkeys([*groups, *every])))
        more = f". The nearest names: {listing(near)}" if near else ""
        return FormatError(
            f"{self.where} has no tensor {quoted(name)}; it has: {listing(known) or 'none'}{more}"
        )

    def _find_unlisted(self, name: str) -> None:
        """Raise StoreCorruptError if a file has a tensor that the index does not list."""
        if self.index is None:
            return
        for file in (*self.present_files(), *self._unlisted_files()):
            if name in self.header(file):
                raise self._not_listed(file, name)

    def _not_listed(self, file: str, name: str) -> StoreCorruptError:
        return StoreCorruptError(
            f"{self.files.where(file)} has the tensor {quoted(name)}, but {self.where} does not "
            "list it; open that file, or correct the index"
        )

    def _listed(self) -> list[str]:
        found = model_files(self.files)
        check_complete(self.files, found)
        return found

    def _unlisted_files(self) -> list[str]:
        """Return the readable files beside an index that it does not list."""
        listed = {file for places in self.names.values() for file in places}
        found = []
        for file in model_files(self.files):
            if file not in listed:
                with contextlib.suppress(StoreError, OSError):
                    self.header(file)
                    found.append(file)
        return found
