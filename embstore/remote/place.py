"""The place that a URL stands for: a published store, files that lie there, or one file.

1. A URL whose last part is named like a file that opens in place is such a file, if it is there.
2. Where there is a pointer to the current version of a published store, it is that version, or the
   one that is asked for.
3. Otherwise it is what lies directly below the URL: a store as it is on disk, a version of a
   published one, or the files of a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from embstore.errors import StoreNotFoundError
from embstore.formats.own.spec import METADATA
from embstore.paths import no_files, without_credentials
from embstore.remote.files import RemoteFiles
from embstore.remote.location import KINDS
from embstore.remote.pointer import find_pointer, resolve, root_name
from embstore.remote.urls import objects_at

if TYPE_CHECKING:
    from embstore.remote.objects import Objects

_SUFFIXES = (".safetensors", ".safetensors.index.json", ".index.json", ".npy", ".gguf")
_DECODED = ("http:", "https:", "file:")


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL stands for.

    Attributes
    ----------
    url : str
        The URL, without credentials.
    files : RemoteFiles
        The files of a directory.
    name : str
        The file in it; ``""`` for the directory itself.
    version : str or None
        The version of a published store.
    """

    url: str
    files: RemoteFiles
    name: str = ""
    version: str | None = None


def place_at(url: str, version: str | None = None, *, allow_http: bool = False) -> Place:
    """Return the place that a URL stands for.

    Parameters
    ----------
    url, version, allow_http
        As for `embstore.open`.

    Raises
    ------
    StoreNotFoundError, StoreCorruptError
        If nothing is there, there is no such version, or the pointer to it is wrong.
    RemoteError, ValueError, ImportError
        As `objects_at`, and if the server fails.
    """
    if url.partition(":")[0].lower() not in KINDS:
        raise StoreNotFoundError(
            no_files(url)
            or f"{without_credentials(url)} is a URL; download what is there, and give its path"
        )
    objects = objects_at(url, allow_http=allow_http)
    url = objects.url
    if version is not None:
        return _version(objects, resolve(objects, version))
    is_file = url.lower().endswith(_SUFFIXES)
    if is_file and (found := _file(url, allow_http=allow_http)) is not None:
        return found
    if (pointer := find_pointer(objects)) is not None:
        is_there = objects.head(root_name(pointer.version)) is not None
        return _version(objects, pointer.version if is_there else resolve(objects))
    files = RemoteFiles(objects)
    if files.exists(METADATA):
        return Place(url, files)
    if not url.startswith(("http:", "https:")) and files.sizes():
        return Place(url, files)
    found = None if is_file else _file(url, allow_http=allow_http)
    if found is None:
        raise StoreNotFoundError(
            f"no store at {url}: it has no objects, or none that can be found; check the URL"
        )
    return found


def _version(objects: Objects, version: str) -> Place:
    return Place(objects.url, RemoteFiles(objects, f"{version}/"), "", version)


def _file(url: str, *, allow_http: bool) -> Place | None:
    """Return the file that a URL names; None if it is missing."""
    scheme, mark, rest = url.partition("://")
    directory, slash, name = rest.rpartition("/")
    if not slash or not name or (not directory and scheme != "file"):
        return None
    if url.startswith(_DECODED):
        name = unquote(name)
    objects = objects_at(f"{scheme}{mark}{directory or '/'}", allow_http=allow_http)
    files = RemoteFiles(objects)
    return Place(url, files, name) if files.exists(name) else None
