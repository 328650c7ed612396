"""Clients of obstore for a location: one for reading, one for writing.

Objects of one bucket share their clients, and so their connections, if they have the same settings
and environment. The last few clients are kept.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from functools import cached_property, partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from embstore.errors import RemoteError
from embstore.remote.location import is_plain_http_elsewhere
from embstore.remote.providers.amazon import amazon
from embstore.remote.providers.azure import azure
from embstore.remote.providers.google import google
from embstore.remote.providers.settings import Settings
from embstore.wording import option

if TYPE_CHECKING:
    from embstore.remote.location import Location

_CONNECT_SECONDS = 5.0
_WRITE_FACTOR = 10.0  # A part of an upload may take this many times as long as one of a download.
_KEPT_CLIENTS = 16
_VARIABLE = re.compile(r"AWS_|GOOGLE_|AZURE_|(https?|all|no)_proxy$|SSL_CERT_", re.IGNORECASE)
_STALL_FRACTION = 1 / 3  # Of the time of a request; then it is tried again.

_clients: dict[tuple[Any, ...], Any] = {}
_lock = Lock()


def _unlock() -> None:
    """Make the lock anew in a forked child: a thread of the parent may have held it."""
    # The clients stay. To free one there would close the parent's connections.
    global _lock  # noqa: PLW0603
    _lock = Lock()


os.register_at_fork(after_in_child=_unlock)


class Clients:
    """Clients of obstore.

    Attributes
    ----------
    reading, writing : obstore's store
        For short and for long requests. A client takes 40 ms to make, so the second one is made
        when it is first used.
    credentials : str
        Which credentials are used, for messages: where they come from, not their values.
    server : str
        The server, for messages.
    """

    def __init__(self, settings: Settings, location: Location, timeout: float) -> None:
        self.credentials = settings.credentials
        self.server = settings.endpoint or "the server"
        self.reading = _shared(settings, location, timeout, timeout * _STALL_FRACTION)
        self._make_writing = partial(_shared, settings, location, timeout * _WRITE_FACTOR, None)

    @cached_property
    def writing(self) -> Any:
        """The client for long requests."""
        return self._make_writing()


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
    return Clients(settings_of(location, allow_http=allow_http), location, timeout)


def _shared(
    settings: Settings, location: Location, seconds: float, stall_seconds: float | None
) -> Any:
    """Return the client that was made from the same settings; a new one if there is none."""
    # obstore reads more variables than those that are settled here, proxies among them.
    environment = {
        name: value for name, value in os.environ.items() if _VARIABLE.match(name) is not None
    }
    where = location.url if location.kind == "http" else location.root
    key = (
        *(location.kind, where, settings.endpoint, seconds, stall_seconds),
        *(repr(sorted(settings.config.items())), repr(sorted(environment.items()))),
    )
    with _lock:
        client = _clients.pop(key, None)
        if client is None:
            client = _client(settings, location, seconds, stall_seconds)
        _clients[key] = client  # At the end, as the last that was used.
        while len(_clients) > _KEPT_CLIENTS:
            del _clients[next(iter(_clients))]
        return client


def _client(
    settings: Settings, location: Location, seconds: float, stall_seconds: float | None
) -> Any:
    """Return a client whose requests take at most ``seconds``."""
    try:
        from obstore import store  # noqa: PLC0415  # Only when used.
    except ImportError as error:
        raise ImportError(
            f'{location.url} needs obstore: pip install "embstore[remote]"'
        ) from error
    client: dict[str, Any] = {
        # Otherwise obstore refuses http, and a redirection to it.
        "allow_http": settings.endpoint.startswith("http:"),
        "connect_timeout": timedelta(seconds=min(_CONNECT_SECONDS, seconds)),
        "timeout": timedelta(seconds=seconds),
    }
    if stall_seconds is not None:
        client["read_timeout"] = timedelta(seconds=stall_seconds)
    options: dict[str, Any] = {
        "client_options": client,
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(0)},
    }
    makers: dict[str, Any] = {
        "s3": store.S3Store,
        "gcs": store.GCSStore,
        "azure": store.AzureStore,
    }
    try:
        if location.kind == "http":
            return store.HTTPStore(location.url, **options)
        return makers[location.kind](location.root, config=settings.config, **options)
    except Exception as error:
        name = type(error).__name__
    # Not inside of the handler: obstore's error may show a part of the credentials.
    raise RemoteError(
        f"obstore refuses the settings for {location.url} ({name}): {settings.credentials}; check "
        "that their values are whole, and that obstore is up to date"
    )


def settings_of(location: Location, *, allow_http: bool) -> Settings:
    """Return the settings for a location from the environment."""
    environment = os.environ
    if location.kind == "http":
        if is_plain_http_elsewhere(location.url) and not allow_http:
            raise ValueError(
                f"{location.url} is not encrypted: use https, or {option('allow_http', True)} if "
                "the network and the server can be trusted"
            )
        return Settings(location.url, {}, "no credentials are sent to web servers")
    if location.kind == "s3":
        found = amazon(environment, location.url)
    elif location.kind == "gcs":
        found = google(environment, location.url)
    else:
        found = azure(environment, location.url, location.account, location.suffix)
    if found.endpoint and is_plain_http_elsewhere(found.endpoint) and not allow_http:
        raise RemoteError(
            f"the endpoint {found.endpoint} of {location.url} is not encrypted: use https, or "
            f"{option('allow_http', True)} if the network and the server can be trusted"
        )
    return found
