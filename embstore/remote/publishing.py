"""Publishing: a store on a local disk becomes a version on an object store.

1. The version's name, ``FINGERPRINT-LAYOUT``, tells all of its bytes, and is the prefix of its
   objects. What an earlier publish, which did not finish, has left below it is used again.
2. Chunks that another published version has, with the same name, size and checksum, are copied on
   the server. All others are uploaded, many at a time, each checked against the listed checksum.
3. The objects are listed again. If all are there, the root metadata is written, unless another
   publisher has done that: from then on the version is complete.
4. All objects are listed once more, and the pointer moves to the version, on the condition that it
   has not changed since the start. So no removal of the version has begun since. If it has
   changed, but names the same version as before, this step is done again.

Whatever fails, the pointer names a complete version, the old one or the new one.
"""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from embstore.errors import RemoteError, StoreError
from embstore.progress import OnProgress, Progress
from embstore.reading.pipeline import in_order
from embstore.remote.completion import check_stays, complete, found_objects, make_current
from embstore.remote.local_store import open_local
from embstore.remote.pointer import (
    Pointer,
    complete_versions,
    find_pointer,
    root_name,
)
from embstore.remote.published import check_same, find_copies, whole_files
from embstore.remote.targets import objects_to_write

if TYPE_CHECKING:
    import os

    from embstore.formats.own.listed_files import ListedFile
    from embstore.remote.local_store import LocalStore
    from embstore.remote.objects import ObjectInfo, Objects

IN_FLIGHT = 32
_TRIES = 10


@dataclass(frozen=True, slots=True)
class PublishReport:
    """Result of `publish`.

    Attributes
    ----------
    url : str
        Where the store was published.
    version : str
        The name of the version, ``FINGERPRINT-LAYOUT``.
    fingerprint : str
        The fingerprint of the table.
    object_count, byte_count : int
        The objects of the version, and their bytes.
    uploaded_bytes, copied_bytes, kept_bytes : int
        The bytes that were uploaded, that were copied on the server from other versions, and that
        were there already.
    previous : str or None
        The version that was current before; None if there was none.
    """

    url: str
    version: str
    fingerprint: str
    object_count: int
    byte_count: int
    uploaded_bytes: int
    copied_bytes: int
    kept_bytes: int
    previous: str | None

    def __str__(self) -> str:
        parts = {
            "uploaded": self.uploaded_bytes,
            "copied from other versions": self.copied_bytes,
            "already there": self.kept_bytes,
        }
        found = ", ".join(f"{size:,} {what}" for what, size in parts.items() if size)
        was = {None: "", self.version: "; it was current already"}
        before = was.get(self.previous, f"; before, {self.previous} was current")
        return (
            f"published {self.version} at {self.url}: {self.object_count:,} objects, "
            f"{self.byte_count:,} bytes ({found}){before}"
        )


def publish(
    path: str | os.PathLike[str],
    url: str,
    *,
    allow_http: bool = False,
    progress: OnProgress | None = None,
) -> PublishReport:
    """Publish a store on an object store, and make it the current version there.

    Its files become objects below ``URL/FINGERPRINT-LAYOUT/``, which never change; several versions
    may be published at a URL. What a publish that did not finish has left there is used again, and
    chunks that another version has are copied on the server. Until everything is there, the version
    that was current before stays current.

    Parameters
    ----------
    path : str or path-like
        The store.
    url : str
        Where to publish it: ``s3://bucket/prefix``, ``gs://``, ``az://``, or ``file:///directory``
        for a directory of this machine. Credentials are taken from the environment, as the tools of
        each provider do.
    allow_http : bool
        Whether requests may go to another machine over plain http, which anybody on the way can
        read and change.
    progress : callable, optional
        Called with an `embstore.Progress` on the calling thread: the bytes of the version that are
        there, and all of them.

    Returns
    -------
    PublishReport
        What was uploaded, and what was there already.

    Raises
    ------
    StoreNotFoundError
        If there is no store at ``path``, or it was replaced meanwhile.
    StoreVersionError
        If the store, or what is at the URL, needs a newer embstore.
    StoreCorruptError
        If the store is damaged; the message names the file. Or if the pointer at the URL is.
    StoreBusyError
        If another publisher made another version the current one meanwhile; the message names it.
        The store is published then, but not current. Or if the version is being removed.
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
    >>> report = embstore.publish("words.embstore", url)
    >>> report.fingerprint == store.fingerprint(), report.previous is None
    (True, True)
    >>> embstore.publish("words.embstore", url).uploaded_bytes
    0
    """
    objects = objects_to_write(url, allow_http=allow_http)
    return publish_store(open_local(path), objects, progress=progress)


def publish_store(
    store: LocalStore, objects: Objects, *, progress: OnProgress | None = None
) -> PublishReport:
    """Publish an open store; parameters, result and errors as for `publish`."""
    before = find_pointer(objects)
    check_stays(objects, store, before)
    found = found_objects(objects, store)
    is_complete = root_name(store.version) in found
    if is_complete:
        check_same(objects, store)
    plan = _plan(objects, store, found, before, is_complete=is_complete)
    uploaded, copied = _transfer(objects, store, plan, progress)
    if not is_complete:
        uploaded += complete(objects, store)
    if progress is not None:
        progress(Progress(store.byte_count, store.byte_count))
    make_current(objects, store, before)
    return PublishReport(
        url=objects.url,
        version=store.version,
        fingerprint=store.fingerprint,
        object_count=len(store.files) + 1,
        byte_count=store.byte_count,
        uploaded_bytes=uploaded,
        copied_bytes=copied,
        kept_bytes=store.byte_count - uploaded - copied,
        previous=None if before is None else before.version,
    )


@dataclass(slots=True)
class Plan:
    """What is to be done for the files of a version.

    Attributes
    ----------
    upload : list of ListedFile
        Files to upload, metadata first.
    copy : list of (ListedFile, str)
        Chunks to copy, each with the object to copy.
    kept_bytes : int
        Bytes of files that are there already.
    """

    upload: list[ListedFile] = field(default_factory=list)
    copy: list[tuple[ListedFile, str]] = field(default_factory=list)
    kept_bytes: int = 0


def _plan(
    objects: Objects,
    store: LocalStore,
    found: dict[str, ObjectInfo],
    pointer: Pointer | None,
    *,
    is_complete: bool,
) -> Plan:
    """Decide what to do for each file.

    Of a complete version, all objects were checked before its root metadata was written; one that
    is missing since, or has another size, is replaced. Metadata is small, and uploaded again if the
    version is not complete.
    """
    by_name = {
        file.name: found[f"{store.version}/{file.name}"]
        for file in store.files
        if f"{store.version}/{file.name}" in found
    }
    if is_complete:
        kept = {
            file.name
            for file in store.files
            if file.name in by_name and by_name[file.name].size == file.size
        }
    else:
        kept = whole_files(objects, store, by_name)
    missing = [file for file in store.files if file.name not in kept]
    copies = {}
    if any(file.is_chunk for file in missing):
        copies = find_copies(objects, store, missing, complete_versions(objects, pointer))
    plan = Plan(kept_bytes=sum(file.size for file in store.files if file.name in kept))
    plan.kept_bytes += len(store.root) if is_complete else 0
    for file in missing:
        if file.name in copies:
            plan.copy.append((file, copies[file.name]))
        else:
            plan.upload.append(file)
    return plan


def _transfer(
    objects: Objects, store: LocalStore, plan: Plan, progress: OnProgress | None
) -> tuple[int, int]:
    """Upload and copy; return the bytes uploaded, and those copied."""
    done = plan.kept_bytes
    uploaded = copied = 0
    total = store.byte_count
    if progress is not None:
        progress(Progress(done, total))
    jobs: list[tuple[ListedFile, str | None]] = [(file, None) for file in plan.upload]
    jobs += plan.copy
    work = partial(_bring, objects, store)
    waiting = min(IN_FLIGHT, len(jobs))
    with closing(in_order(work, jobs, thread_name="embstore-publish", waiting=waiting)) as sizes:
        for size, is_copy in sizes:
            copied += size if is_copy else 0
            uploaded += 0 if is_copy else size
            done += size
            if progress is not None:
                progress(Progress(done, total))
    return uploaded, copied


def _bring(
    objects: Objects, store: LocalStore, job: tuple[ListedFile, str | None]
) -> tuple[int, bool]:
    """Copy or upload a file; return its size, and whether it was copied."""
    file, source = job
    target = f"{store.version}/{file.name}"
    if source is not None:
        # The other version may be removed meanwhile, or be too large to be copied.
        with suppress(RemoteError, StoreError):
            objects.copy(source, target)
            return file.size, True
    with store.checked(file) as data:
        info = objects.put(target, data)
    if info is None or info.size != file.size:
        found = "nothing" if info is None else f"{info.size} bytes"
        raise RemoteError(
            f"{objects.where(target)}: {file.size} bytes were uploaded, but {found} arrived; "
            "publish it again"
        )
    return file.size, False
