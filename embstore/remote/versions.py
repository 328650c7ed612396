"""The versions that are published at a URL: a list of them, and the removal of old ones.

1. A version is complete if its root metadata is there. It is as old as that.
2. What has no root metadata is unfinished: a publish is running, has failed, or a removal has.
3. A removal deletes the root metadata first, so that nobody opens half a version. It then looks at
   the pointer again: if that names the version by now, the root metadata is put back.
4. Unfinished objects are removed once the latest of them is a week old.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from embstore.errors import StoreCorruptError, StoreNotFoundError, StoreVersionError
from embstore.formats.own import spec
from embstore.progress import OnProgress, Progress
from embstore.remote.pointer import Pointer, find_pointer, is_version, newest_first, root_name
from embstore.remote.publishing import check_url
from embstore.remote.urls import objects_at
from embstore.settle import as_count

if TYPE_CHECKING:
    from embstore.remote.objects import ObjectInfo, Objects

UNFINISHED_AGE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """A version that is published at a URL, or an unfinished one.

    Attributes
    ----------
    version : str
        Its name, ``FINGERPRINT-LAYOUT``.
    fingerprint, layout : str
        The fingerprint of the table, and eight digits that tell its layout: partitions, chunks,
        encoding, compression.
    object_count, byte_count : int
        Its objects, and their bytes.
    published : datetime or None
        When it was complete, in UTC, if the object store tells; None if it is not complete.
    is_current : bool
        Whether `embstore.open` of the URL opens it.
    is_complete : bool
        Whether it can be opened: False while it is published, or if that has failed.
    """

    version: str
    fingerprint: str
    layout: str
    object_count: int
    byte_count: int
    published: datetime | None
    is_current: bool
    is_complete: bool


@dataclass(frozen=True, slots=True)
class PruneReport:
    """Result of `prune`.

    Attributes
    ----------
    url : str
        Where versions were removed.
    removed, kept : tuple of str
        The names of the versions that were removed, unfinished ones included, and of those that
        were kept.
    object_count, byte_count : int
        The objects that were removed, and their bytes.
    """

    url: str
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    object_count: int
    byte_count: int

    def __str__(self) -> str:
        return (
            f"removed {len(self.removed)} of {len(self.removed) + len(self.kept)} versions at "
            f"{self.url}: {self.object_count:,} objects, {self.byte_count:,} bytes"
        )


def versions(url: str, *, allow_http: bool = False) -> list[PublishedVersion]:
    """List the versions that are published at a URL, the newest first, then unfinished ones.

    Parameters
    ----------
    url : str
        A URL, as for `embstore.publish`.
    allow_http : bool
        Whether requests may go to another machine over plain http, which anybody on the way can
        read and change.

    Returns
    -------
    list of PublishedVersion
        A version is as old as its root metadata. One that was current before and was made current
        again is not newer for that.

    Raises
    ------
    RemoteError
        If the object store cannot be reached, or refuses; web servers cannot list.
    TypeError, ValueError
        If an argument has a wrong type or value.
    ImportError
        If obstore is missing: ``pip install "embstore[remote]"``. A ``file:`` URL does not need it.

    Examples
    --------
    >>> from pathlib import Path
    >>> url = Path("published").absolute().as_uri()
    >>> embstore.versions(url)
    []
    >>> _ = embstore.publish("words.embstore", url)
    >>> [version] = embstore.versions(url)
    >>> version.fingerprint == store.fingerprint(), version.is_current
    (True, True)
    """
    check_url(url)
    objects = objects_at(url, allow_http=allow_http)
    # A list is of use where the pointer is damaged.
    pointer = None
    with suppress(StoreCorruptError, StoreVersionError):
        pointer = find_pointer(objects)
    complete, unfinished = _listed(objects, pointer)
    return [_described(name, infos, pointer) for name, infos in (complete | unfinished).items()]


def prune(
    url: str, *, keep: int = 3, allow_http: bool = False, progress: OnProgress | None = None
) -> PruneReport:
    """Remove old versions at a URL.

    The current version is never removed. A program that has a removed one open cannot read more of
    it. What a publish that did not finish has left is removed a week after its last object was
    written, because until then it may still be running.

    Parameters
    ----------
    url : str
        A URL, as for `embstore.publish`.
    keep : int
        How many of the newest complete versions to keep. The current version is kept in any case,
        and the newest one if none is current.
    allow_http : bool
        Whether requests may go to another machine over plain http, which anybody on the way can
        read and change.
    progress : callable, optional
        Called with an `embstore.Progress`: the bytes removed, and all that are to be removed.

    Returns
    -------
    PruneReport

    Raises
    ------
    StoreCorruptError, StoreVersionError
        If the pointer cannot be read; nothing is removed then.
    RemoteError
        If the object store cannot be reached, or refuses.
    TypeError, ValueError
        If an argument has a wrong type or value.
    ImportError
        If obstore is missing: ``pip install "embstore[remote]"``. A ``file:`` URL does not need it.

    Examples
    --------
    >>> from pathlib import Path
    >>> url = Path("published").absolute().as_uri()
    >>> for number in range(3):
    ...     _ = embstore.build(np.full((4, 2), number), "t", overwrite=True)
    ...     _ = embstore.publish("t", url)
    >>> report = embstore.prune(url, keep=2)
    >>> len(report.kept), len(report.removed)
    (2, 1)
    """
    check_url(url)
    keep = as_count(keep, "keep")
    return prune_objects(objects_at(url, allow_http=allow_http), keep, progress=progress)


def prune_objects(
    objects: Objects, keep: int, *, progress: OnProgress | None = None
) -> PruneReport:
    """Remove old versions; parameters, result and errors as for `prune`."""
    pointer = find_pointer(objects)
    complete, unfinished = _listed(objects, pointer)
    current = None if pointer is None else pointer.version
    spared = {current, *list(complete)[: keep if current else max(keep, 1)]}
    doomed = {name: infos for name, infos in complete.items() if name not in spared}
    now = datetime.now(UTC)
    doomed |= {
        name: infos for name, infos in unfinished.items() if name != current and _is_old(infos, now)
    }
    total = sum(info.size for infos in doomed.values() for info in infos)
    done = count = 0
    removed = []
    for name, infos in doomed.items():
        if _remove(objects, name, infos):
            removed.append(name)
            count += len(infos)
            done += sum(info.size for info in infos)
        if progress is not None:
            progress(Progress(done, total))
    kept = tuple(name for name in complete | unfinished if name not in removed)
    return PruneReport(objects.url, tuple(removed), kept, count, done)


def _listed(
    objects: Objects, pointer: Pointer | None
) -> tuple[dict[str, list[ObjectInfo]], dict[str, list[ObjectInfo]]]:
    """Return the objects of complete versions, the newest first, and of unfinished ones."""
    found = {
        name: infos
        for name in objects.directories()
        if is_version(name) and (infos := _objects_of(objects, name))
    }
    roots = {info.name: info for infos in found.values() for info in infos}
    ordered = newest_first((roots.get(root_name(name)) for name in found), pointer)
    names = [root.name.partition("/")[0] for root in ordered]
    complete = {name: found[name] for name in names}
    return complete, {name: infos for name, infos in found.items() if name not in complete}


def _objects_of(objects: Objects, version: str) -> list[ObjectInfo]:
    """Return the objects of a version; others below its name cannot be of a store."""
    return [
        info
        for info in objects.find(f"{version}/")
        if not {"", ".", ".."} & set(info.name.split("/")) and info.name.isprintable()
    ]


def _described(name: str, infos: list[ObjectInfo], pointer: Pointer | None) -> PublishedVersion:
    root = next((info for info in infos if info.name == root_name(name)), None)
    fingerprint, _, layout = name.partition("-")
    return PublishedVersion(
        version=name,
        fingerprint=fingerprint,
        layout=layout,
        object_count=len(infos),
        byte_count=sum(info.size for info in infos),
        published=None if root is None else root.modified,
        is_current=pointer is not None and pointer.version == name,
        is_complete=root is not None,
    )


def _is_old(infos: list[ObjectInfo], now: datetime) -> bool:
    """Say whether all objects are old enough to have been given up."""
    return all(info.modified is not None and now - info.modified > UNFINISHED_AGE for info in infos)


def _remove(objects: Objects, name: str, infos: list[ObjectInfo]) -> bool:
    """Remove a version; return False if it is the current one by now, and is left."""
    root = root_name(name)
    data = None
    if _is_current(objects, name):
        return False
    info = objects.head(root)
    if info is not None and info.size <= spec.MAX_METADATA_BYTES:
        with suppress(StoreNotFoundError):  # Another prune removes it, too.
            data = objects.read(root, 0, info.size, etag=info.etag)
    objects.delete([root])
    if data is not None and _is_current(objects, name):
        objects.put(root, data, if_absent=True)
        return False
    objects.delete([info.name for info in infos if info.name != root])
    return True


def _is_current(objects: Objects, name: str) -> bool:
    pointer = find_pointer(objects)
    return pointer is not None and pointer.version == name
