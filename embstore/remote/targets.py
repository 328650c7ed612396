"""The objects at a URL where stores are published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embstore.remote.urls import objects_at
from embstore.wording import either, parameter

if TYPE_CHECKING:
    from embstore.remote.objects import Objects


def objects_to_write(url: str, *, allow_http: bool = False) -> Objects:
    """Return the objects below a URL, to be listed and written.

    Errors are those of `objects_at`, and a ValueError for a path or a web server. The message does
    not show what was given, because there may be a password in it.
    """
    if isinstance(url, str) and ":" not in url.partition("/")[0]:
        how = either(", as pathlib.Path(directory).absolute().as_uri() returns it", "")
        raise ValueError(
            f"{parameter('url')} must be a URL such as s3://bucket/prefix, not a path; the "
            f"URL of a directory is file:///directory{how}"
        )
    if isinstance(url, str) and url.lower().startswith(("http:", "https:")):
        raise ValueError(
            f"{parameter('url')} must be that of the object store itself, such as "
            "s3://bucket/prefix: over http and https, stores can only be read"
        )
    return objects_at(url, allow_http=allow_http)
