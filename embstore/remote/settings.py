"""Settings of object stores from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embstore.errors import RemoteError
from embstore.remote.location import is_plain_http_elsewhere

if TYPE_CHECKING:
    from embstore.remote.location import Location


@dataclass(frozen=True, slots=True)
class Settings:
    """How a client reaches a store."""

    endpoint: str
    config: dict[str, Any]
    credentials: str


def settings_of(location: Location, *, allow_http: bool) -> Settings:
    """Return the settings for a location."""
    if location.kind == "http":
        if is_plain_http_elsewhere(location.url) and not allow_http:
            raise ValueError(f"url must be https, or allow_http=True given: {location.url}")
        return Settings(location.url, {}, "no credentials are sent to web servers")
    env = os.environ
    endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or ""
    config = {}
    if endpoint:
        config["endpoint"] = endpoint
        if is_plain_http_elsewhere(endpoint) and not allow_http:
            raise RemoteError("endpoint must be https")
    return Settings(endpoint, config, "credentials used: AWS_ACCESS_KEY_ID")
