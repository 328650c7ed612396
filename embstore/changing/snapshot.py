"""Snapshots: the version of a store that is current now, under another path.

1. The target is staged like a build: beside it, and published in one step.
2. The store's directory is opened once, and its files are taken over from there by hard links, or
   cloned or copied where links are impossible (`embstore.writing.disk.linking`). The root metadata
   is written as a new file, because Zarr libraries edit its attributes in place.
3. If another version replaces the store meanwhile, and a file is already gone, the snapshot starts
   again with the new version. No lock of the store is taken, so a change of it may be in progress.
4. The snapshot is read as an open does before it is published.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from embstore.changing.report import ChangeReport
from embstore.contents import read_contents
from embstore.errors import (
    StoreBusyError,
    StoreCorruptError,
    StoreNotFoundError,
)
from embstore.formats import STORE, find_format
from embstore.formats.own import spec
from embstore.formats.own.checks import check_array, check_known
from embstore.formats.own.fields import parse_json
from embstore.formats.own.manifest import parse_manifest, read_manifest
from embstore.opening import open as open_store
from embstore.paths import as_local_path
from embstore.progress import OnProgress, Progress
from embstore.reading.files import StoreFiles, files_at
from embstore.settle import as_flag
from embstore.wording import function, option
from embstore.writing.disk import files
from embstore.writing.disk.linking import Linker
from embstore.writing.disk.replacement import finish_replacement
from embstore.writing.disk.staging import Staging

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.formats.own.manifest import Manifest


def _of_a_url() -> str:
    return f"versions of a published store never change, so open one by {option('version')}"


def _to_a_url() -> str:
    return f"{function('publish')} puts a store there"


# A store that is replaced as often as this within milliseconds each is not meant to be copied.
_TRIES = 20


def snapshot(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> ChangeReport:
    """Put the current version of a store under another path, too, in milliseconds.

    The two share their files by hard links; changes of either, or its removal, leave the other as
    it is. On another file system, and where links are refused, the files are cloned or copied. The
    store may be open, and may be changed or replaced meanwhile: the snapshot is the version before
    or after that.

    Parameters
    ----------
    path : str or path-like
        The store.
    target : str or path-like
        Where the snapshot will be: a directory that does not exist yet, or with ``overwrite`` a
        store.
    overwrite : bool
        Whether to replace a store at ``target``.
    progress : callable, optional
        Called with an `embstore.Progress`: the bytes of chunk files in the snapshot so far, and
        their total.

    Returns
    -------
    ChangeReport
        No rows; the chunk files that were taken over, and the bytes that had to be written.

    Raises
    ------
    StoreNotFoundError
        If there is no store at ``path``, or no directory for the target.
    StoreExistsError
        If the target exists, and is not a store or must not be replaced.
    StoreVersionError
        If the store needs a newer embstore.
    StoreCorruptError
        If the store is damaged, or has only the files of some partitions. Rows and words are not
        read; `embstore.verify` does that.
    StoreBusyError
        If another process writes to the target; if the store was replaced again and again.
    TypeError, ValueError
        If an argument has a wrong type or is a URL, or if one of the two paths is in the other.
    OSError
        If the disk is full, read-only or fails.

    Examples
    --------
    >>> report = embstore.snapshot("words.embstore", "monday.embstore")
    >>> report.chunks_rewritten, report.chunks_linked
    (0, 5)
    >>> with embstore.open("monday.embstore") as store:
    ...     store.fingerprint() == report.fingerprint
    True
    """
    source = as_local_path(path, "path", _of_a_url()).absolute()
    to = as_local_path(target, "target", _to_a_url()).absolute()
    overwrite = as_flag(overwrite, "overwrite")
    _check_apart(source, to)
    for _ in range(_TRIES):
        finish_replacement(source)
        _check_store(source)
        staging = Staging(to, overwrite=overwrite)
        try:
            report = _take(source, staging, progress)
            if report is not None:
                staging.publish()
        finally:
            staging.discard()
        if report is not None:
            return report
    raise StoreBusyError(
        f"{source} was replaced {_TRIES} times while a snapshot of it was made; try again when it "
        "is changed less often"
    )


def _check_apart(source: Path, to: Path) -> None:
    """Raise unless the two paths are neither the same nor one in the other."""
    one, other = os.path.realpath(source), os.path.realpath(to)
    if one == other:
        raise ValueError(f"target must be another path than that of the store, {source}")
    if other.startswith(f"{one}/"):
        raise ValueError(f"target must be outside of the store {source}, not {to}")
    if one.startswith(f"{other}/"):
        raise ValueError(f"target must not hold the store itself, {source}: {to}")


def _check_store(source: Path) -> None:
    """Raise unless there is a store, at least its root metadata."""
    if source.exists() and not (source / spec.METADATA).exists():
        found = find_format(*files_at(source))
        if found is not None and found[0] is not STORE:
            raise StoreNotFoundError(
                f"cannot make a snapshot of {source}: it is {found[0].what}, not a store; copy it, "
                f"or build a store from it by {function('build')}"
            )
    read_manifest(source)  # Its errors tell what is there instead.


def _take(source: Path, staging: Staging, progress: OnProgress | None) -> ChangeReport | None:
    """Stage a snapshot; return None if the store was replaced, and this is not a whole version."""
    with Linker(source, staging.path) as linker:
        try:
            root = linker.old.read_small(spec.METADATA, spec.MAX_METADATA_BYTES)
            where = linker.old.where(spec.METADATA)
            manifest = parse_manifest(parse_json(where, root), where)
            _take_files(linker, manifest, progress)
        except StoreCorruptError:
            if linker.old.is_replaced():
                return None
            raise
        taken = linker.taken
    files.write_files([(staging.path / spec.METADATA, root)])
    try:
        staging.check_contents()
    except StoreCorruptError:
        # The message names the snapshot's files; the fault is rather in the store's.
        read_contents(StoreFiles(source))
        raise
    return ChangeReport(
        rows=0,
        chunks_rewritten=0,
        chunks_linked=taken.chunks,
        bytes_written=len(root) + taken.bytes_copied,
        fingerprint=manifest.fingerprint or _computed(staging.path),
        rows_appended=0,
        rows_replaced=0,
        chunk_rows=manifest.chunk_rows,
    )


def _take_files(linker: Linker, manifest: Manifest, progress: OnProgress | None) -> None:
    """Take over all files but the root metadata."""
    check_known(manifest, linker.old.root)
    for name in manifest.metadata_names():
        linker.take_metadata(name, manifest.metadata_checksums.get(name, -1))
    arrays = [(array, check_array(linker.old, array, manifest)) for array in manifest.arrays()]
    done, total = 0, sum(sum(listed.sizes) for _, listed in arrays)
    for array, listed in arrays:
        for chunk, size_bytes in enumerate(listed.sizes):
            linker.take_chunks(array, listed, [chunk])
            done += size_bytes
            if progress is not None:
                progress(Progress(done, total))


def _computed(path: Path) -> str:
    """Return the fingerprint of a store that does not state it, from all of its rows."""
    with open_store(path) as store:
        return store.fingerprint()
