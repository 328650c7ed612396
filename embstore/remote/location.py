"""Locations: URLs taken apart, and refused if they hold credentials.

============================  ======================================================
``s3://bucket/prefix``        Amazon S3 and compatible stores (also ``s3a:``)
``gs://bucket/prefix``        Google Cloud Storage (also ``gcs:``)
``az://container/prefix``     Azure Blob Storage (also ``azure:``, ``adl:``, ``abfs:``
                              and ``abfss:``, with ``container@account.host``, too)
``https://host/prefix``       any web server, to read only (also ``http:``)
``file:///directory``         a directory of this machine
============================  ======================================================

Prefixes of object stores are taken literally; ``%20`` in one is three characters. Those of web
servers and of files are percent-encoded, as usual.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from embstore.paths import without_credentials
from embstore.wording import parameter

Kind = Literal["s3", "gcs", "azure", "http", "file"]

KINDS: dict[str, Kind] = {
    **{"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"},
    **{"az": "azure", "azure": "azure", "adl": "azure", "abfs": "azure", "abfss": "azure"},
    **{"http": "http", "https": "http", "file": "file"},
}
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):(//)?", re.IGNORECASE)
_BUCKET = re.compile(r"[$A-Za-z0-9][A-Za-z0-9._-]{2,254}")
_ACCOUNT = re.compile(r"([a-z0-9]{3,24})\.(?:dfs|blob)\.([a-z0-9.-]+)", re.IGNORECASE)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]")
_MAX_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class Location:
    """Where objects are: no credentials are in it.

    Attributes
    ----------
    kind : str
        The kind of store: ``"s3"``, ``"gcs"``, ``"azure"``, ``"http"`` or ``"file"``.
    url : str
        The URL, without a slash at the end.
    root : str
        The bucket or container; ``scheme://host`` of a web server; empty for a directory.
    prefix : str
        What all names start with, without slashes at its ends; the path of a directory.
    account, suffix : str
        The Azure account, and what follows ``account.blob.`` in its host, if the URL names them.
    """

    kind: Kind
    url: str
    root: str
    prefix: str
    account: str = ""
    suffix: str = ""


def as_location(url: Any, name: str = "url") -> Location:
    """Return the location that a URL names.

    Parameters
    ----------
    url : str
        A URL of one of the kinds above.
    name : str
        The parameter's name, for messages.

    Raises
    ------
    TypeError
        If it is not a str.
    ValueError
        If it is not such a URL, or has a user name, a password or a query, which is where
        credentials would be. The message does not show them.

    Examples
    --------
    >>> as_location("s3://bucket/models/glove/").prefix
    'models/glove'
    >>> as_location("https://user:secret@example.org/glove")
    Traceback (most recent call last):
      ...
    ValueError: url must not have a user name or password in it: give credentials in the
    environment; found them in https://example.org/glove
    """
    name = parameter(name)
    if not isinstance(url, str):
        raise TypeError(f"{name} must be a str such as 's3://bucket/prefix', not {_kind_of(url)}")
    found = _SCHEME.match(url)
    kind = None if found is None else KINDS.get(found[1].lower())
    if found is None or kind is None or (found[2] is None and kind != "file"):
        raise ValueError(
            f"{name} must start with s3://, gs://, az://, abfs://, https://, http:// or file:///"
        )
    if len(url) > _MAX_LENGTH:
        raise ValueError(f"{name} must have at most {_MAX_LENGTH} characters, not {len(url)}")
    if _UNSAFE.search(url):
        raise ValueError(f"{name} must not have control characters or backslashes in it")
    if "?" in url or "#" in url:
        raise ValueError(
            f"{name} must not have a query (?) or a fragment (#), which may hold credentials: give "
            f"these in the environment; found one in {without_credentials(url)}"
        )
    if kind == "file":
        return _directory(url[len(found[0]) :], found[2] is not None, name)
    return _on_server(kind, url, name)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine: ``localhost``, ``127.*.*.*`` or ``::1``."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_plain_http_elsewhere(url: str) -> bool:
    """Return whether a URL is plain http to another machine than this."""
    parts = urlsplit(url)
    return parts.scheme != "https" and not is_loopback(parts.hostname or "")


def checked_name(name: str) -> str:
    """Return an object's name; refuse one that could leave the prefix."""
    parts = name.split("/")
    if "" in parts or "." in parts or ".." in parts or _UNSAFE.search(name):
        raise ValueError(f"an object's name must be like 'a/b', not {name[:100]!r}")
    return name


def _on_server(kind: Kind, url: str, name: str) -> Location:
    shown = without_credentials(url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # Brackets or a port that cannot be parsed.
        raise ValueError(f"{name} must have a host that can be parsed; see {shown}") from None
    user, at, _ = parts.netloc.rpartition("@")
    if at and (":" in user or not parts.scheme.startswith("abfs")):
        raise ValueError(
            f"{name} must not have a user name or password in it: give credentials in the "
            f"environment; found them in {shown}"
        )
    if kind == "http":
        if not host:
            raise ValueError(f"{name} must name a host, as in https://example.org/glove")
        root = f"{parts.scheme}://{f'[{host}]' if ':' in host else host}"
        root += "" if port is None else f":{port}"
        return _below(kind, root, root, parts.path, name)
    bucket, account, suffix = parts.netloc, "", ""
    if at:
        address = _ACCOUNT.fullmatch(host)
        if address is None:
            raise ValueError(f"{name} must be like abfs://container@account.dfs.core.windows.net/x")
        bucket, account, suffix = user, address[1].lower(), address[2].lower()
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(
            f"{name} must name a bucket or container: three or more letters, digits, dots, hyphens "
            f"and underscores, as in {parts.scheme}://bucket/prefix"
        )
    start = f"{parts.scheme}://{parts.netloc}"
    below = _below(kind, start, bucket, parts.path, name)
    return replace(below, account=account, suffix=suffix)


def _below(kind: Kind, start: str, root: str, path: str, name: str, account: str = "") -> Location:
    prefix = path.removeprefix("/").rstrip("/")
    if prefix:
        try:
            checked_name(unquote(prefix) if kind == "http" else prefix)
        except ValueError:
            raise ValueError(
                f"{name} must not have empty parts, . or .. in its path; found {start}/{prefix}"
            ) from None
    return Location(kind, f"{start}/{prefix}".rstrip("/"), root, prefix)


def _directory(path: str, has_host: bool, name: str) -> Location:
    if has_host:
        host, slash, path = path.partition("/")
        path = slash + path
        if host not in ("", "localhost"):
            raise ValueError(f"{name} must be like file:///directory, without a host")
    decoded = unquote(path)
    if not decoded.startswith("/") or "\0" in decoded:
        raise ValueError(f"{name} must have an absolute path, as in file:///directory")
    decoded = decoded.rstrip("/") or "/"
    return Location("file", "file://" + (path.rstrip("/") or "/"), "", decoded)


def _kind_of(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
