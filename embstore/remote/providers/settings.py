"""Settings of a client: the endpoint, obstore's options, and where credentials came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from embstore.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TRUE = {"1", "true", "t", "yes", "y", "on"}


@dataclass(frozen=True, slots=True)
class Settings:
    """How a client reaches a store.

    Attributes
    ----------
    endpoint : str
        The URL of the server; empty for the provider's own.
    config : dict
        obstore's options. They may be secret, so no message shows them.
    credentials : str
        Which credentials are used, for messages: where they come from, not their values.
    """

    endpoint: str
    config: dict[str, Any] = field(repr=False)
    credentials: str


def first_set(environment: Mapping[str, str], names: Iterable[str]) -> tuple[str, str]:
    """Return the first of some variables that is set and not empty, and its value; or nothing."""
    for name in names:
        if environment.get(name):
            return name, environment[name]
    return "", ""


def is_true(value: str | None) -> bool:
    """Return whether the value of a variable means yes."""
    return (value or "").strip().lower() in _TRUE


def as_endpoint(value: str, origin: str) -> str:
    """Return the URL of an endpoint without a slash at its end.

    Parameters
    ----------
    value : str
        What was set; empty for none.
    origin : str
        The variable that it comes from.

    Raises
    ------
    RemoteError
        If it is not the URL of a server, or has credentials in it. The message does not show it.
    """
    if not value:
        return ""
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        has_user, _ = "@" in parts.netloc, parts.port
    except ValueError:
        good, has_user = False, False
    if not good or value != value.strip():
        raise RemoteError(f"{origin} must be a URL such as https://storage.example.org:9000")
    if has_user or parts.query or parts.fragment:
        raise RemoteError(
            f"{origin} must not have a user name, a password or a query in it: give credentials in "
            "variables of their own"
        )
    return value.rstrip("/")


def no_credentials(url: str, looked_at: str, remedy: str) -> RemoteError:
    """Return the error about missing credentials."""
    return RemoteError(
        f"no credentials for {url}. Looked at: {looked_at}. {remedy}. The metadata service of a "
        "machine is not asked"
    )


def used(origin: str) -> str:
    """Return words about where credentials come from, for messages."""
    return f"the credentials are those of {origin}"
