"""The versions that are published at a URL: a list of them, and the removal of old ones.

1. A version is complete if its root metadata is there. It is as old as that.
2. What has no root metadata is unfinished: a publish is running, has failed, or a removal has.
3. What is to be removed is first noted in the pointer, on the condition that this has not changed
   since it was read. So it is not current, and no publisher makes it current until it is gone. Then
   the root metadata is deleted, so that half a version cannot be opened, and then the rest.
4. Unfinished objects are removed once the latest of them is a week old.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from embstore.errors import StoreBusyError, StoreCorruptError, StoreVersionError
from embstore.formats.own import spec
from embstore.progress import OnProgress, Progress
from embstore.remote.pointer import (
    REMOVAL_AGE,
    Pointer,
    find_pointer,
    is_version,
    newest_first,
    put_pointer,
    root_name,
)
from embstore.remote.targets import objects_to_write
from embstore.settle import as_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.remote.objects import ObjectInfo, Objects

_TRIES = 10
_DELETED_AT_ONCE = 1000
_MOST = 200  # Versions that are removed at once: the pointer is small.
_MAX_KEPT = 1 << 24
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
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
    objects = objects_to_write(url, allow_http=allow_http)
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
        How many of the newest complete versions to keep. The current version is kept in any case;
        if there is none, everything is.
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
    StoreBusyError
        If the removal takes half an hour, or other programs change the pointer all the time.
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
    keep = as_count(keep, "keep", high=_MAX_KEPT)
    return prune_objects(objects_to_write(url, allow_http=allow_http), keep, progress=progress)


def prune_objects(
    objects: Objects, keep: int, *, progress: OnProgress | None = None
) -> PruneReport:
    """Remove old versions; parameters, result and errors as for `prune`."""
    for _ in range(_TRIES):
        pointer = find_pointer(objects)
        complete, unfinished = _listed(objects, pointer)
        if pointer is None:
            return PruneReport(objects.url, (), tuple(complete | unfinished), 0, 0)
        now = datetime.now(UTC)
        doomed = _doomed(pointer, complete, unfinished, keep, now)
        others = tuple(one for one in pointer.removing if one[0] not in doomed)
        noted = tuple((name, now) for name in doomed)
        if not doomed or put_pointer(objects, pointer, replace(pointer, removing=others + noted)):
            break
    else:
        raise StoreBusyError(f"{objects.where(spec.POINTER)} changes all the time; try again later")
    every = complete | unfinished
    total = sum(info.size for name in doomed for info in every[name])
    count = done = 0
    until = time.monotonic() + REMOVAL_AGE.total_seconds() / 2
    for name in doomed:
        for infos in _deleted(objects, name, until):
            count += len(infos)
            done += sum(info.size for info in infos)
            if progress is not None:
                progress(Progress(min(done, total), total))
    _take_out(objects, noted)
    kept = tuple(name for name in every if name not in doomed)
    return PruneReport(objects.url, tuple(doomed), kept, count, done)


def _deleted(objects: Objects, name: str, until: float) -> Iterator[list[ObjectInfo]]:
    """Delete the objects of a version, the root metadata first; yield those deleted."""
    infos = sorted(_objects_of(objects, name), key=lambda info: info.name != root_name(name))
    for first, stop in pairwise([0, *range(1, len(infos), _DELETED_AT_ONCE), len(infos)]):
        if time.monotonic() > until:
            raise StoreBusyError(
                f"the removal of {name} from {objects.url} takes too long, and was stopped; an "
                "hour after it began, prune again"
            )
        objects.delete([info.name for info in infos[first:stop]])
        yield infos[first:stop]


def _take_out(objects: Objects, noted: tuple[tuple[str, datetime], ...]) -> None:
    """Take removals that have ended out of the pointer."""
    for _ in range(_TRIES):
        pointer = find_pointer(objects)
        if pointer is None:
            return
        left = tuple(one for one in pointer.removing if one not in noted)
        if left == pointer.removing or put_pointer(
            objects, pointer, replace(pointer, removing=left)
        ):
            return


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


def _doomed(
    pointer: Pointer,
    complete: dict[str, list[ObjectInfo]],
    unfinished: dict[str, list[ObjectInfo]],
    keep: int,
    now: datetime,
) -> list[str]:
    """Return the versions to remove."""
    began = dict(pointer.removing)
    found = list(complete)[keep:]
    for name, infos in unfinished.items():
        # A removal that was interrupted, unless a publisher has written something since.
        limit = max(now - UNFINISHED_AGE, began.get(name, _LONG_AGO))
        if all(info.modified is not None and info.modified < limit for info in infos):
            found.append(name)
    free = [name for name in found if name != pointer.version and not pointer.is_removing(name)]
    return free[:_MOST]
