"""Paths and URLs that a caller gives, checked, and without credentials in messages."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

from embstore.settle import shown, shown_with_type
from embstore.wording import either, parameter

# Of a file, and of a path, on Linux.
_MAX_NAME_BYTES = 255
_MAX_PATH_LENGTH = 4095
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/+", re.IGNORECASE)


def as_path(value: Any, name: str) -> Path:
    """Return a path.

    Parameters
    ----------
    value : str or os.PathLike of str
        What the caller gave; relative paths stay relative.
    name : str
        The parameter's name, for messages.

    Raises
    ------
    TypeError
        If it is neither, or made of bytes.
    ValueError
        If it is empty, contains a NUL, or is longer than paths can be.

    Examples
    --------
    >>> as_path("tables/glove", "path").name
    'glove'
    >>> as_path(b"glove", "path")
    Traceback (most recent call last):
      ...
    TypeError: path must be a str or a pathlib.Path, not b'glove' (bytes)
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise TypeError(
            f"{parameter(name)} must be a str or a pathlib.Path, not {shown_with_type(value)}"
        )
    if not text:
        raise ValueError(f"{parameter(name)} must be a path, not an empty text")
    if "\0" in text:
        raise ValueError(
            f"{parameter(name)} must be a path without NUL characters, not "
            f"{shown(without_credentials(text))}"
        )
    try:
        names = os.fsencode(text).split(b"/")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{parameter(name)} must be a path, not {shown(without_credentials(text))}: "
            f"{error.reason}"
        ) from error
    if max(map(len, names)) > _MAX_NAME_BYTES or len(text) > _MAX_PATH_LENGTH:
        raise ValueError(
            f"{parameter(name)} must be a path, whose names have at most {_MAX_NAME_BYTES} bytes "
            f"each; found {len(text)} characters: {shown(without_credentials(text))}"
        )
    return Path(text)


def as_url(value: Any) -> str | None:
    """Return the URL that a caller gave instead of a path; None for anything else.

    Something in the file system that has such a name is a path.

    Examples
    --------
    >>> as_url("s3://bucket/glove"), as_url("tables/glove")
    ('s3://bucket/glove', None)
    """
    if not isinstance(value, str | os.PathLike):
        return None
    text = os.fspath(value)
    if not isinstance(text, str) or _URL.match(text) is None or "\0" in text:
        return None
    with contextlib.suppress(OSError, ValueError):
        if os.path.lexists(text):
            return None
    return text if isinstance(value, str) and "://" in text else url_of(Path(text))


def as_local_path(value: Any, name: str, remedy: str) -> Path:
    """Return a path; refuse a URL.

    Parameters
    ----------
    value : str or os.PathLike of str
        What the caller gave.
    name, remedy : str
        The parameter's name, and what to do with a URL, for messages.

    Raises
    ------
    TypeError
        As `as_path`.
    ValueError
        As `as_path`; or if it is a URL.

    Examples
    --------
    >>> as_local_path("s3://bucket/glove", "path", "build it in a directory")
    Traceback (most recent call last):
      ...
    ValueError: path must be a local path, not the URL s3://bucket/glove: build it in a directory
    """
    path = as_path(value, name)
    url = value if isinstance(value, str) and "://" in value else url_of(path)
    # A directory may have such a name.
    if url is not None and url_of(path) is not None and not path.parent.exists():
        shown = without_credentials(url)
        raise ValueError(f"{parameter(name)} must be a local path, not the URL {shown}: {remedy}")
    return path


def without_credentials(url: str) -> str:
    """Return a URL without what may hold credentials: user names, queries, fragments.

    Examples
    --------
    >>> without_credentials("https://user:secret@example.org/glove?X-Amz-Signature=abc")
    'https://example.org/glove'
    """
    start, found, rest = url.partition("://")
    if not found:
        return re.split(r"[?#@]", url, maxsplit=1)[0]
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    # A password may have a slash in it, so the last @ counts, not the last before a slash.
    return f"{start}://{rest.rpartition('@')[2]}"


def no_files(url: str) -> str | None:
    """Return why no files are at the address of a server, for messages; None for another URL.

    Examples
    --------
    >>> no_files("grpc://127.0.0.1:8815")
    'grpc://127.0.0.1:8815 is the address of a server; embstore.connect reads from one'
    >>> no_files("https://example.org/glove")
    """
    if url.partition(":")[0].lower() not in ("grpc", "grpc+tls"):
        return None
    remedy = either(
        "embstore.connect reads from one",
        "programs connect to one; here, give the path or URL of what it serves",
    )
    return f"{without_credentials(url)} is the address of a server; {remedy}"


def url_of(path: Path) -> str | None:
    """Return the URL that was given for a path; None for other paths.

    Examples
    --------
    >>> url_of(Path("https://example.org/glove.txt"))
    'https://example.org/glove.txt'
    """
    text = str(path)
    found = _URL.match(text)
    if found is None:
        return None
    slashes = "///" if text.lower().startswith("file:") else "//"
    return f"{found[0].rstrip('/')}{slashes}{text[found.end() :]}"
