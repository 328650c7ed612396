"""Clients of obstore for a location: one for reading, one for writing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from embstore.remote.location import is_plain_http_elsewhere
from embstore.remote.settings import settings_of

if TYPE_CHECKING:
    from embstore.remote.location import Location

_CONNECT_SECONDS = 5.0
_WRITE_FACTOR = 10.0  # A part of an upload may take this many times as long as one of a download.


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients of obstore.

    Attributes
    ----------
    reading, writing : obstore store
        For short and for long requests.
    credentials : str
        For messages: which were used, and where they were looked for. Without their values.
    """

    reading: Any
    writing: Any
    credentials: str


def clients_of(location: Location, *, allow_http: bool, timeout: float) -> Clients:
    """Return the clients for a location, with credentials from the environment.

    Raises
    ------
    ValueError
        If the URL is plain http to another machine, and this is not allowed.
    RemoteError
        If that is so for the endpoint; if there are no credentials, or only a part of some.
    ImportError
        If obstore is not installed.
    """
    try:
        from obstore import store  # noqa: PLC0415  # Only when used.
    except ImportError as error:
        raise ImportError(
            f'{location.url} needs obstore: pip install "embstore[remote]"'
        ) from error
    found = settings_of(location, allow_http=allow_http)
    plain = found.endpoint.startswith("http://")
    if plain and is_plain_http_elsewhere(found.endpoint) and not allow_http:
        raise AssertionError("refused in settings_of")
    makers = {"s3": store.S3Store, "gcs": store.GCSStore, "azure": store.AzureStore}

    def made(seconds: float, read_seconds: float | None) -> Any:
        client: Any = {
            "allow_http": plain,
            "connect_timeout": timedelta(seconds=min(_CONNECT_SECONDS, seconds)),
            "timeout": timedelta(seconds=seconds),
        }
        if read_seconds is not None:
            client["read_timeout"] = timedelta(seconds=read_seconds)
        options: Any = {
            "client_options": client,
            "retry_config": {"max_retries": 0, "retry_timeout": timedelta(0)},
        }
        if location.kind == "http":
            return store.HTTPStore(location.url, **options)
        return makers[location.kind](
            location.root, prefix=location.prefix or None, config=found.config, **options
        )

    return Clients(
        made(timeout, timeout / 3), made(timeout * _WRITE_FACTOR, None), found.credentials
    )
