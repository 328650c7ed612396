"""Folders: which of their files are one table, and in which order.

1. A folder may say itself what is in it: the ``state.json`` of a data set that Hugging Face's
   datasets saved, or the log of a Delta table. Tables that need another reader (Iceberg, Hudi,
   Lance, Zarr, models that gensim saved) are refused by name.
2. Else the suffixes tell the files, in subfolders too. Names that start with ``.``, ``_`` or ``~``
   are hidden: markers, summaries, AppleDouble files. Caches of a data set library and other files,
   such as a README, are ignored.
3. A half-written or compressed file (``x.npy.tmp``, ``x.parquet.gz``) or a checksum is ignored
   too, unless it stands for a part that is missing.
4. `embstore.sources.folders.parts` puts the files in order, or refuses them.

The files may be symbolic links, as in a model cache; subfolders may not, because they could lead in
a circle. A store or a Zarr array in a subfolder is ignored.
"""

from __future__ import annotations

import os
import re
import stat
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from embstore.errors import SourceError
from embstore.formats import GGUF, SAFETENSORS, STORE
from embstore.sources.folders.described import (
    MARKERS,
    ZARR,
    described_files,
    refuse_gensim,
    refuse_stack,
)
from embstore.sources.folders.parts import listing, order_parts, template_of
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# The formats of which a folder may hold several files, and their suffixes.
SUFFIXES = {
    "npy": (".npy",),
    "parquet": (".parquet", ".parq", ".pq"),
    "arrow": (".arrow", ".arrows", ".feather", ".ipc"),
}
FORMATS = (STORE.name, SAFETENSORS.name, GGUF.name, *SUFFIXES)
MAX_ENTRIES = 1_000_000

_ALL_SUFFIXES = "|".join(re.escape(suffix) for some in SUFFIXES.values() for suffix in some)
# How the name of a file goes on that stands for another one, which is missing or beside it: what is
# half-written, a backup, compressed, a checksum, or a pointer to a file elsewhere.
_ENDS = (
    r"tmp|temp|part|partial|crdownload|opdownload|download|incomplete|inprogress|filepart|swp|lock"
    r"|!qb|!ut|aria2|bak|old|orig|backup|gz|bz2|xz|zst|zip|lz4|snappy|crc|md5|sha1|sha256|dvc|icloud"
)
_STAND_INS = (
    re.compile(
        rf"\.?(.+(?:{_ALL_SUFFIXES}))(?:~|(?:\.[a-z0-9_-]+)?\.(?:{_ENDS})[0-9]*)", re.IGNORECASE
    ),
    re.compile(rf"\.?(.+(?:{_ALL_SUFFIXES}))\.[a-z0-9]{{6,8}}", re.IGNORECASE),  # rsync, aws.
)
_UNFINISHED_STEM = re.compile(
    rf"\.?(.+)\.(?:tmp|temp|partial|incomplete|inprogress)({_ALL_SUFFIXES})", re.IGNORECASE
)
_CACHE = re.compile(r"(?:cache|indices)-[0-9a-f]+(?:_[0-9]+_of_[0-9]+)?\.arrow")


def format_of_folder(folder: Path) -> str:
    """Return the format of the table in a folder, one of `FORMATS`.

    Raises
    ------
    SourceError
        If there is none, or files of several formats.
    """
    described = described_files(folder)
    if described is not None:
        return described[0]
    names = [
        entry.name
        for entry in _entries(folder)
        if not _is_hidden(entry.name) and not _is_folder(entry)
    ]
    found = [
        format.name
        for format in (STORE, SAFETENSORS, GGUF)
        if any(fnmatch(name, pattern) for pattern in format.patterns for name in names)
    ]
    found += [format for format in SUFFIXES if any(_is_of(format, name) for name in names)]
    if not found:
        listed = _Listing(folder)
        found = [format for format in SUFFIXES if listed.files(format)]
        if not found:
            raise SourceError(
                f"{folder} is not a file, nor a directory of .npy, .safetensors, .gguf, "
                f".parquet or .arrow files{listed.instead()}"
            )
    if len(found) > 1:
        raise SourceError(
            f"{folder} has files of several formats: {', '.join(found)}; give "
            f"{option('format')}, or name a file"
        )
    return found[0]


def table_files(folder: Path, format: str) -> list[Path]:
    """Return the files of the table in a folder, in the order of their rows.

    Parameters
    ----------
    folder : Path
        The folder.
    format : str
        The format to look for, one of `SUFFIXES`.

    Raises
    ------
    SourceError
        If there are none, or it is in doubt which files are one table, or a part is missing.
    """
    described = described_files(folder)
    if described is not None and described[0] == format:
        paths = described[1]()
    else:
        paths = [folder / name for name in _parts(folder, format)]
    for path in paths:
        _check_file(path)
    return paths


def _parts(folder: Path, format: str) -> list[str]:
    """Return the files of a format in a folder that says nothing, in the order of their rows."""
    listed = _Listing(folder)
    names = listed.files(format)
    if not names:
        suffixes = ", ".join(SUFFIXES[format])
        raise SourceError(f"{folder} has no files of {suffixes}{listed.instead()}")
    listed.check(format)
    if format == "npy":
        refuse_gensim(folder, names, listed.visible)
        refuse_stack(folder, names, listed.visible)
    ordered = order_parts(str(folder), names)
    _refuse_stand_ins(folder, ordered, listed)
    return ordered


class _Listing:
    """The files in a folder and its subfolders, by their paths in it.

    Attributes
    ----------
    visible, hidden : list of str
        The files, and what is hidden.
    """

    def __init__(self, folder: Path) -> None:
        self.visible: list[str] = []
        self.hidden: list[str] = []
        self._folder = folder
        self._tables: dict[str, str] = {}  # The marker by which a subfolder is a table of its own.
        self._unfinished_jobs: list[str] = []
        self._links: list[str] = []
        left = [""]
        while left:
            left += self._read(left.pop())
            if len(self.visible) + len(self.hidden) > MAX_ENTRIES:
                raise SourceError(
                    f"{folder} has more than {MAX_ENTRIES} files; give the folder of one table"
                )

    def files(self, format: str) -> list[str]:
        """Return the files of a format that are not hidden, half-written or caches."""
        return [
            name
            for name in self.visible
            if _is_of(format, name)
            and not _UNFINISHED_STEM.fullmatch(_base(name))
            and not _CACHE.fullmatch(_base(name))
        ]

    def stand_ins(self) -> Iterator[tuple[str, str]]:
        """Yield each file that stands for another, such as a half-written one, and the other."""
        for name in (*self.visible, *self.hidden):
            folder, slash, base = name.rpartition("/")
            for pattern in _STAND_INS:
                if match := pattern.fullmatch(base):
                    yield name, folder + slash + match[1]
                    break
            else:
                if match := _UNFINISHED_STEM.fullmatch(base):
                    yield name, folder + slash + match[1] + match[2]

    def check(self, format: str) -> None:
        """Refuse what makes it doubtful whether the files of a format are whole, and all."""
        if self._unfinished_jobs:
            raise SourceError(
                f"{self._folder}: a job that writes it has not finished, or failed: found "
                f"{listing(self._unfinished_jobs)} and no _SUCCESS; wait for it, or remove that"
            )
        if self._links:
            raise SourceError(
                f"{self._folder}: the subfolder {self._links[0]} is a symbolic link, which is not "
                "followed; give the folder that it leads to, or copy it"
            )
        others = [name for name, marker in self._tables.items() if marker not in ZARR]
        if others and format != "npy":
            raise SourceError(
                f"{self._folder}: the subfolder {others[0]} is a table of its own; give that "
                "folder, or move it away"
            )

    def instead(self) -> str:
        """Return the end of a message that no file was found: what there is instead."""
        if self._tables:
            return f"; it holds tables of their own: {listing(self._tables)}; give the path of one"
        found = [*self.visible, *self.hidden, *self._links]
        return f"; found {listing(found)}" if found else "; it is empty"

    def _read(self, name: str) -> list[str]:
        """Note the files of a subfolder; return its subfolders."""
        entries = list(_entries(self._folder / name))
        names = {entry.name for entry in entries}
        marker = next((marker for marker in MARKERS if names.issuperset(marker)), None)
        if name and marker is not None:
            self._tables[name] = marker[0]
            return []
        prefix = f"{name}/" if name else ""
        subfolders = []
        for entry in entries:
            path = prefix + entry.name
            is_folder = _is_folder(entry)
            if _is_hidden(entry.name):
                self.hidden.append(path)
                unfinished = entry.name == "_temporary" and "_SUCCESS" not in names
                if unfinished and is_folder and any(_entries(self._folder / path)):
                    self._unfinished_jobs.append(path)
            elif not is_folder:
                self.visible.append(path)
            elif entry.is_symlink():
                self._links.append(path)
            else:
                subfolders.append(path)
        return subfolders


def _refuse_stand_ins(folder: Path, ordered: Sequence[str], listed: _Listing) -> None:
    """Refuse a folder in which another file stands for a part that is missing."""
    templates = set(map(template_of, ordered))
    known, read = set(listed.visible), set(ordered)
    for name, final in listed.stand_ins():
        if final in read and name == f"{final}.aria2":
            raise SourceError(f"{folder}: {final} is still being downloaded, as {name} shows")
        if final not in known and template_of(final) in templates:
            raise SourceError(
                f"{folder}: {name} stands for {final}, which is missing; finish its download or "
                f"unpack it, or remove {name} if {listing(ordered)} are all"
            )


def _check_file(path: Path) -> None:
    """Refuse a file that cannot be read: a dangling link, a FIFO, one without permission."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        kind = "a symbolic link that leads nowhere" if path.is_symlink() else "not readable"
        raise SourceError(
            f"{path} is {kind} ({error.strerror}); is the download complete?"
        ) from error
    if not stat.S_ISREG(mode):
        raise SourceError(f"{path} is not a regular file; remove it, or name one file")
    if not os.access(path, os.R_OK):
        raise SourceError(f"{path} may not be read by this user; change its permissions")


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise SourceError(f"{folder} cannot be listed: {error.strerror}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that leads in a circle.
        return False


def _is_of(format: str, name: str) -> bool:
    return name.lower().endswith(SUFFIXES[format])


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_", "~"))


def _base(name: str) -> str:
    return name.rpartition("/")[2]
