"""Names of published versions, and the pointer that names the current one.

`embstore.formats.own.spec` specifies both, in "Published stores". What is read is untrusted: the
size of the pointer is looked up first, and a name counts only if it has the form of a version's.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from embstore.errors import (
    RemoteError,
    StoreCorruptError,
    StoreNotFoundError,
    StoreVersionError,
)
from embstore.formats.own import spec
from embstore.formats.own.spec import shown
from embstore.wording import option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embstore.remote.objects import ObjectInfo, Objects

_FINGERPRINT = re.compile(f"[0-9a-f]{{{spec.FINGERPRINT_DIGITS}}}")
_VERSION = re.compile(f"{_FINGERPRINT.pattern}-[0-9a-f]{{{spec.LAYOUT_DIGITS}}}")
_SHOWN_VERSIONS = 10
# How often the pointer may move while it is read.
_TRIES = 10
# After this time, a removal that has begun has stopped.
REMOVAL_AGE = timedelta(hours=1)
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Pointer:
    """What the pointer says.

    Attributes
    ----------
    version : str
        The current version.
    previous : tuple of str
        The versions that were current before, the latest first.
    removing : tuple of (str, datetime)
        The versions that are being removed, each with the time at which that began.
    etag : str or None
        The ETag of the pointer.
    """

    version: str
    previous: tuple[str, ...] = ()
    removing: tuple[tuple[str, datetime], ...] = ()
    etag: str | None = None

    def is_removing(self, version: str) -> bool:
        """Say whether a version is being removed; an old removal has ended in some way."""
        now = datetime.now(UTC)
        return any(
            name == version and abs(now - since) < REMOVAL_AGE for name, since in self.removing
        )

    @property
    def history(self) -> tuple[str, ...]:
        """All versions that were current, the latest first."""
        return (self.version, *self.previous)


def is_version(name: str) -> bool:
    """Say whether a name has the form of a version's.

    Examples
    --------
    >>> is_version("cbb5711eff6383e77253c3dcfe38b748-0123abcd"), is_version("current.json")
    (True, False)
    """
    return _VERSION.fullmatch(name) is not None


def root_name(version: str) -> str:
    """Return the name of a version's root metadata, which is written last."""
    return f"{version}/{spec.METADATA}"


def read_pointer(objects: Objects) -> str | None:
    """Return the name of the current version, or None if nothing was published.

    Raises
    ------
    StoreCorruptError
        If the pointer is too large, is not JSON, or does not name a version.
    StoreVersionError
        If it needs a newer embstore.
    """
    pointer = find_pointer(objects)
    return None if pointer is None else pointer.version


def find_pointer(objects: Objects) -> Pointer | None:
    """Return the pointer, or None if there is none; errors as `read_pointer`."""
    seen = None
    for _ in range(_TRIES):
        info = objects.head(spec.POINTER)
        if info is None:
            return None
        if info.size > spec.MAX_POINTER_BYTES:
            raise StoreCorruptError(
                f"{objects.where(spec.POINTER)} has {info.size} bytes, more than the "
                f"{spec.MAX_POINTER_BYTES} of a pointer to a published store; {_remedy()}"
            )
        try:
            data = objects.read(spec.POINTER, 0, info.size, etag=info.etag)
        except StoreNotFoundError:
            continue
        except RemoteError:
            if info == seen:  # It did not move, so this is another error.
                raise
            seen = info
        else:
            return _parse(data, objects.where(spec.POINTER), info.etag)
    raise RemoteError(f"{objects.where(spec.POINTER)} changes all the time; try again later")


def move_pointer(objects: Objects, before: Pointer | None, version: str) -> Pointer | None:
    """Let the pointer name a version; return it as it is now.

    Parameters
    ----------
    objects : Objects
        Where it is.
    before : Pointer or None
        What it was when it was read last.
    version : str
        The new current version.

    Returns
    -------
    Pointer or None
        None if it has changed since, and was left as it is.
    """
    if before is None:
        return put_pointer(objects, None, Pointer(version))
    previous = tuple(name for name in before.history if name != version)[: spec.MAX_PREVIOUS]
    removing = tuple(one for one in before.removing if one[0] != version)
    return put_pointer(objects, before, Pointer(version, previous, removing))


def put_pointer(objects: Objects, before: Pointer | None, after: Pointer) -> Pointer | None:
    """Replace the pointer; parameters and result as for `move_pointer`."""
    fields: dict[str, Any] = {
        spec.POINTER_KEY: spec.POINTER_VERSION,
        "version": after.version,
        "previous": list(after.previous),
    }
    if after.removing:
        fields["removing"] = {name: since.isoformat() for name, since in after.removing}
    data = json.dumps(fields, indent=2).encode("ascii") + b"\n"
    if before is None:
        info = objects.put(spec.POINTER, data, if_absent=True)
    elif before.etag is None:
        raise RemoteError(
            f"{objects.where(spec.POINTER)} has no ETag, so it cannot be moved without the risk of "
            "undoing what another publisher does; publish to a store that has them"
        )
    else:
        info = objects.put(spec.POINTER, data, if_match=before.etag)
    return None if info is None else replace(after, etag=info.etag)


def complete_versions(objects: Objects, pointer: Pointer | None) -> list[ObjectInfo]:
    """Return the root metadata of each complete version, the newest first.

    The time of its root metadata says how old a version is; of those with the same time, the one
    that was current last comes first.
    """
    names = filter(is_version, objects.directories())
    return newest_first((objects.head(root_name(name)) for name in names), pointer)


def newest_first(roots: Iterable[ObjectInfo | None], pointer: Pointer | None) -> list[ObjectInfo]:
    """Return the root metadata of versions in the order of `complete_versions`, without None."""
    history = () if pointer is None else pointer.history
    ages = {root_name(name): age for age, name in enumerate(history)}
    found = [root for root in roots if root is not None]
    found.sort(key=lambda root: (ages.get(root.name, len(ages)), root.name))
    return sorted(found, key=lambda root: root.modified or _LONG_AGO, reverse=True)


def resolve(objects: Objects, version: str | None = None) -> str:
    """Return the name of a complete version.

    Parameters
    ----------
    objects : Objects
        Where stores were published.
    version : str, optional
        A version's name, or its fingerprint, which means its newest layout; by default the version
        that the pointer names.

    Raises
    ------
    StoreNotFoundError
        If there is no such version; the message lists those that there are.
    StoreCorruptError
        If the pointer is damaged, or names a version that is missing.
    TypeError
        If ``version`` is not a str.
    """
    if version is None:
        return _current(objects)
    if not isinstance(version, str):
        raise TypeError(
            f"version must be a str, a published version or its fingerprint, not {shown(version)}"
        )
    if is_version(version) and objects.head(root_name(version)) is not None:
        return version
    if _FINGERPRINT.fullmatch(version) is not None:
        names = [
            name
            for name in objects.directories()
            if is_version(name) and name.startswith(f"{version}-")
        ]
        pointer = _pointer_if_any(objects) if len(names) > 1 else None
        roots = newest_first((objects.head(root_name(name)) for name in names), pointer)
        if roots:
            return roots[0].name.partition("/")[0]
    raise StoreNotFoundError(
        f"no version {shown(version)} is published at {objects.url}; {_listed(objects)}"
    )


def _remedy() -> str:
    return (
        "delete it and publish a store again, or open a version by its name with "
        f"{option('version')}"
    )


def _current(objects: Objects) -> str:
    """Return the name of the version that the pointer names."""
    name = None
    for _ in range(_TRIES):
        before, name = name, read_pointer(objects)
        if name is None:
            raise StoreNotFoundError(
                f"no store is published at {objects.url}: it has no {spec.POINTER}; "
                f"{_listed(objects)}"
            )
        if objects.head(root_name(name)) is not None:
            return name
        if name == before:  # It did not move while the version was looked up.
            break
    raise StoreCorruptError(
        f"{objects.where(spec.POINTER)} names the version {name}, which is missing; publish a "
        f"store again, or open another version by its name with {option('version')}; "
        f"{_listed(objects)}"
    )


def _listed(objects: Objects) -> str:
    """Return which versions there are, for a message."""
    try:
        found = complete_versions(objects, _pointer_if_any(objects))
    except RemoteError:  # Not every server lists objects.
        return "its versions cannot be listed"
    if not found:
        return "no version is published there"
    names = [root.name.partition("/")[0] for root in found]
    more = f" and {len(names) - _SHOWN_VERSIONS} more" if len(names) > _SHOWN_VERSIONS else ""
    return f"published versions, the newest first: {', '.join(names[:_SHOWN_VERSIONS])}{more}"


def _pointer_if_any(objects: Objects) -> Pointer | None:
    """Return the pointer; None if it is missing or damaged."""
    with suppress(StoreCorruptError, StoreVersionError):
        return find_pointer(objects)
    return None


def _parse(data: bytes, where: str, etag: str | None) -> Pointer:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreCorruptError(f"{where} is not readable JSON: {error}; {_remedy()}") from error
    number = fields.get(spec.POINTER_KEY) if isinstance(fields, dict) else None
    if type(number) is not int or number < 1:
        raise StoreCorruptError(f"{where} is not a pointer to a published store; {_remedy()}")
    if number > spec.POINTER_VERSION:
        raise StoreVersionError(
            f"{where} is a pointer of version {shown(number)}; this embstore reads version "
            f"{spec.POINTER_VERSION}: upgrade it with pip install -U embstore"
        )
    version = fields.get("version")
    if not _is_name(version):
        raise StoreCorruptError(
            f"{where} names the version {shown(version)}, expected "
            f"{spec.FINGERPRINT_DIGITS} hexadecimal digits, a hyphen and {spec.LAYOUT_DIGITS} "
            f"more; {_remedy()}"
        )
    previous, removing = fields.get("previous"), fields.get("removing")
    names = filter(_is_name, previous if isinstance(previous, list) else [])
    items = removing.items() if isinstance(removing, dict) else ()
    since = ((name, _time_of(value)) for name, value in items if _is_name(name))
    return Pointer(
        version,
        tuple(names)[: spec.MAX_PREVIOUS],
        tuple((name, time) for name, time in since if time is not None),
        etag,
    )


def _time_of(value: Any) -> datetime | None:
    """Return a time with a zone; None if it is not one."""
    if not isinstance(value, str):
        return None
    with suppress(ValueError):
        time = datetime.fromisoformat(value)
        return None if time.tzinfo is None else time
    return None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and is_version(value)
