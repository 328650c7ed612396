"""The objects below a URL, by its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embstore.remote.directory import Directory
from embstore.remote.location import as_location
from embstore.remote.object_store import ObjectStore
from embstore.settle import as_flag, as_positive

if TYPE_CHECKING:
    from embstore.remote.objects import Objects

_MAX_TIMEOUT = 86_400.0  # Every call ends some day.


def objects_at(url: str, *, allow_http: bool = False, timeout: float = 30.0) -> Objects:
    """Return the objects below a URL.

    Parameters
    ----------
    url : str
        A URL such as ``s3://bucket/prefix``, ``gs://``, ``az://``, ``https://`` (to read only) or
        ``file:///directory``. Credentials come from the environment; a URL that has some is
        refused.
    allow_http : bool
        Whether requests may go to another machine without encryption.
    timeout : float
        Seconds after which a request that fails is not tried again. The last attempt takes as long
        at most, or ten times as long if it writes, so every call ends.

    Raises
    ------
    ValueError
        If it is not such a URL, or plain http to another machine.
    RemoteError
        If there are no credentials, and no endpoint that may need none.
    ImportError
        If obstore is not installed.

    Examples
    --------
    >>> objects_at("file:///tables/glove")
    <Directory file:///tables/glove>
    """
    location = as_location(url)
    allow_http = as_flag(allow_http, "allow_http")
    timeout = as_positive(timeout, "timeout")
    if timeout > _MAX_TIMEOUT:
        raise ValueError(f"timeout must be at most {_MAX_TIMEOUT:g} seconds, not {timeout:g}")
    if location.kind == "file":
        return Directory(location)
    return ObjectStore(location, allow_http=allow_http, timeout=timeout)
