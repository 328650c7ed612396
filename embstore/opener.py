"""Stores from files: what follows once it is known which files a path or URL stands for.

1. `embstore.formats.FORMATS` tells the format of the files.
2. Of a store, `embstore.contents` checks everything but the rows. Of a foreign file, the header and
   the size are checked.
3. The records are mapped, or will be read range by range. Rows without numbers have none.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from embstore.contents import read_contents
from embstore.errors import FormatError, StoreError, StoreNotFoundError
from embstore.following import FileWatch, StoreWatch, UrlWatch
from embstore.formats import FORMATS, STORE, Format, find_format
from embstore.formats.names import listing
from embstore.formats.options import AUTO, TABLE_OPTIONS
from embstore.formats.own.checked_files import REBUILD
from embstore.formats.own.spec import METADATA, POINTER
from embstore.reading.files import LocalFiles, StoreFiles, files_at
from embstore.reading.readers import read_records
from embstore.remote.location import as_location
from embstore.store import EmbeddingStore
from embstore.wording import function, option, parameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from embstore.following import Watch
    from embstore.formats.own.manifest import Manifest
    from embstore.progress import OnProgress
    from embstore.reading.file_cache import FileCache
    from embstore.reading.files import ForeignFiles
    from embstore.reading.forms import AnyRecords
    from embstore.remote.files import RemoteFiles
    from embstore.table.protocols import Files
    from embstore.table.tables import Table

    Recipe = tuple[Callable[..., EmbeddingStore], tuple[Any, ...]]

ReaderName = Literal["auto", "mapped", "chunked"]


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """The options of `open` that also apply to an unpickled copy of the store."""

    reader: ReaderName = "auto"
    resident_limit: int | None = None
    preload: bool = False
    row_cache: int | None = None
    tensor: str | None = None
    scale: str | None = AUTO
    scale_block: tuple[int, int] | None = None
    encoding: str | None = None
    zero_point: str | None = None
    partitions: tuple[int, ...] | None = None
    version: str | None = None
    allow_http: bool = False
    cache_dir: str | None = None
    cache_limit: int | None = None

    def for_format(self, format: Format, where: Path | str) -> dict[str, Any]:
        """Return the options of a format's ``describe``.

        Raises
        ------
        FormatError
            If an option was given that the format does not take.
        """
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name not in TABLE_OPTIONS or name in format.options or value is None:
                continue
            if value != field.default:
                takers = [other.name for other in FORMATS if name in other.options]
                raise FormatError(
                    f"{where} is {format.what}, which does not take {option(name)}; that is an "
                    f"option of {' and '.join(takers)} files"
                )
        return {name: getattr(self, name) for name in format.options}


@dataclass(frozen=True, slots=True)
class Opener:
    """The opening of some files.

    Attributes
    ----------
    where : Path or str
        The path or URL that was opened.
    files : ForeignFiles or RemoteFiles
        The files of a directory.
    name : str
        The file in it; ``""`` for the directory itself.
    options : OpenOptions
        The options.
    recipe : tuple
        A function and its arguments; with the identity of the table, it opens a copy.
    open_newest : callable
        Opens the newest version at the path or URL with the same options.
    """

    where: Path | str
    files: ForeignFiles | RemoteFiles
    name: str
    options: OpenOptions
    recipe: Recipe
    open_newest: Callable[[], EmbeddingStore]

    def open(
        self, progress: OnProgress | None, verify: Callable[[], None] | None = None
    ) -> EmbeddingStore:
        """Open a store or a foreign file.

        Parameters
        ----------
        progress : callable, optional
            As for `embstore.open`.
        verify : callable, optional
            Called first if this is a store; raises an error if it is damaged.
        """
        found = find_format(self.files, self.name)
        if found is None:
            raise StoreNotFoundError(missing(self.where))
        format, name = found
        given = self.options.for_format(format, self.where)
        if format is not STORE and self.options.partitions not in (None, (0,)):
            raise ValueError(
                f"{self.where} is not a store: it has one partition, 0; omit {option('partitions')}"
            )
        if format is STORE:
            if verify is not None:
                verify()
            return self._open_own(progress)
        if verify is not None:
            raise ValueError(
                f'verify="full" needs the checksums of a store, but {self.where} is '
                f"not one; make one with {function('build')}"
            )
        return self._open_foreign(format, name, given, progress)

    def _open_own(self, progress: OnProgress | None) -> EmbeddingStore:
        files = self.files
        stored = StoreFiles(files.root) if isinstance(files, LocalFiles) else files
        contents = read_contents(stored, self.options.partitions, at_once=False)
        cache, vocabulary = None, contents.vocabulary
        if self.options.cache_dir is not None:
            # Imported here because only stores at URLs need it.
            from embstore.remote.cache.opening import (  # noqa: PLC0415
                cached_vocabulary,
                open_cache,
            )

            directory = Path(self.options.cache_dir)
            cache = open_cache(contents, directory, self.options.cache_limit)
            vocabulary = cached_vocabulary(cache, contents)
        records = self._read(contents.table, contents.files, progress, cache)
        contents.files.check_rest()
        return EmbeddingStore(
            self.where,
            contents.table,
            contents.files,
            records,
            self.recipe,
            manifest=contents.manifest,
            vocabulary=vocabulary,
            attributes=contents.attributes,
            watch=self._watch(contents.files, contents.manifest),
            open_newest=self.open_newest,
        )

    def _open_foreign(
        self, format: Format, name: str, given: dict[str, Any], progress: OnProgress | None
    ) -> EmbeddingStore:
        if self.options.cache_dir is not None:
            raise ValueError(
                f"{parameter('cache_dir')} keeps files whose checksums a store lists, and "
                f"{self.where} is {format.what}, without checksums; leave {parameter('cache_dir')} "
                "out, or build a store from it and publish that"
            )
        table = format.describe(self.files, name, **given)
        names = {extent.file for column in table.columns for extent in column.extents}
        names |= {name, *table.files}
        files = self.files.of(tuple(sorted(names - {""})))
        identity = files.identity
        records = self._read(table, files, progress)
        files.check_identity(identity)
        shown = self.where.rpartition("/")[2] if isinstance(self.where, str) else self.where.name
        return EmbeddingStore(
            self.where,
            table,
            files,
            records,
            self.recipe,
            source={"file": shown, "format": format.name} | dict(table.source),
            watch=self._watch(files, None),
            open_newest=self.open_newest,
        )

    def _watch(self, files: Any, manifest: Manifest | None) -> Watch:
        """Return what tells whether a table in some files is the newest version."""
        where, options = self.where, self.options
        if isinstance(where, str):
            if where.startswith("file:") and manifest is not None and options.version is None:
                # A build replaces such a store as it does one at a path.
                return StoreWatch(Path(as_location(where).prefix), manifest, None)
            return UrlWatch(where, self.name, options.version, files, manifest, options.allow_http)
        if manifest is None:
            return FileWatch(files, is_directory=not self.name)
        return StoreWatch(where, manifest, files.identity)

    def _read(
        self,
        table: Table,
        files: Files,
        progress: OnProgress | None,
        cache: FileCache | None = None,
    ) -> AnyRecords:
        return read_records(
            table,
            files,
            reader=self.options.reader,
            resident_limit=self.options.resident_limit,
            row_cache=self.options.row_cache,
            preload=self.options.preload,
            progress=progress,
            cache=cache,
        )


def check_no_version(version: str | None, path: Path) -> None:
    """Refuse a version of what is at a path."""
    if version is not None:
        raise ValueError(
            f"{parameter('version')} chooses a store that was published at a URL; {path} is a path"
        )


def missing(where: Path | str) -> str:
    """Return why there is nothing to open at a path or URL, for an error."""
    names = ", ".join(format.name for format in FORMATS if format is not STORE)
    if isinstance(where, str):
        return (
            f"no store at {where}: no {METADATA} or {POINTER} is directly below it, and it is not "
            f"a file of a format that opens in place ({names}); check the URL"
        )
    if where.is_dir():
        return f"{where} is not a store{_in_folder(where)}"
    if not where.exists():
        return f"no store at {where}: no such file or directory"
    if where.is_file() and not where.stat().st_size:
        return f"no store at {where}: the file is empty; is the download complete?"
    return (
        f"no store at {where}: it is a file, but not of a format that opens in place ({names}); if "
        f"it holds vectors, make a store of it with {function('build')}"
    )


def _in_folder(where: Path) -> str:
    """Return why a directory has nothing to open."""
    if (where / METADATA).is_symlink():
        return f": it has no {METADATA}, only a link to a missing file; {REBUILD}"
    if (where / POINTER).is_file():
        return (
            f": it has no {METADATA}; stores are published there, so open it by its URL, "
            f"{where.as_uri()}"
        )
    below = folders_below(where)
    hint = f"; open one of the folders in it: {listing(below)}" if below else ""
    return f" or model: it has no {METADATA}, and no files of safetensors or GGUF{hint}"


def folders_below(where: Path) -> list[str]:
    """Return the names of the folders in a directory that can be opened, or hold such files."""
    found = []
    for folder in sorted(one for one in where.iterdir() if one.is_dir()):
        with suppress(OSError):
            try:
                is_there = find_format(*files_at(folder)) is not None
            except StoreError:  # Something is wrong with what is there.
                is_there = True
            if is_there:
                found.append(folder.name)
    return found
