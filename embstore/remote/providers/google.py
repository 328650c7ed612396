"""Settings of Google Cloud Storage, as Google's tools take them.

Credentials are the first of these that is there:

1. ``GOOGLE_SKIP_SIGNATURE=true``: none, for public buckets;
2. ``GOOGLE_SERVICE_ACCOUNT_KEY``: the key of a service account itself, as JSON;
3. ``GOOGLE_APPLICATION_CREDENTIALS``, ``GOOGLE_SERVICE_ACCOUNT``, ``GOOGLE_SERVICE_ACCOUNT_PATH``:
   a file with one, or with those of a user;
4. ``CLOUDSDK_AUTH_ACCESS_TOKEN`` or ``GOOGLE_BEARER_TOKEN``: a token that is valid for an hour;
5. what ``gcloud auth application-default login`` writes to ``~/.config/gcloud``
   (``CLOUDSDK_CONFIG`` names another directory);
6. none, if there is an endpoint: ``GOOGLE_BASE_URL`` or ``STORAGE_EMULATOR_HOST``.

Not read: workload identity federation (``external_account``), impersonation, and the role of a
machine. For these, ``export CLOUDSDK_AUTH_ACCESS_TOKEN=$(gcloud auth print-access-token)``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from embstore.errors import RemoteError
from embstore.remote.providers.settings import (
    Settings,
    as_endpoint,
    first_set,
    is_true,
    no_credentials,
    used,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILES = {
    "GOOGLE_APPLICATION_CREDENTIALS": "application_credentials",
    "GOOGLE_SERVICE_ACCOUNT": "service_account",
    "GOOGLE_SERVICE_ACCOUNT_PATH": "service_account",
}
_TOKENS = ("CLOUDSDK_AUTH_ACCESS_TOKEN", "GOOGLE_BEARER_TOKEN")
_ENDPOINTS = ("GOOGLE_BASE_URL", "STORAGE_EMULATOR_HOST")
_LOGIN_FILE = "application_default_credentials.json"
_PRINT = "export CLOUDSDK_AUTH_ACCESS_TOKEN=$(gcloud auth print-access-token)"


def google(environment: Mapping[str, str], url: str) -> Settings:
    """Return the settings for a URL.

    Raises
    ------
    RemoteError
        If there are no credentials and no endpoint, or a file of credentials is missing.
    """
    variable, endpoint = first_set(environment, _ENDPOINTS)
    if variable == "STORAGE_EMULATOR_HOST" and "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    endpoint = as_endpoint(endpoint, variable)
    config: dict[str, Any] = {"base_url": endpoint} if endpoint else {}
    if is_true(environment.get("GOOGLE_SKIP_SIGNATURE")):
        return Settings(endpoint, config | {"skip_signature": True}, "requests are not signed")
    signed = {"skip_signature": False}
    if key := environment.get("GOOGLE_SERVICE_ACCOUNT_KEY"):
        config |= signed | {"service_account_key": key}
        return Settings(endpoint, config, used("GOOGLE_SERVICE_ACCOUNT_KEY"))
    variable, path = first_set(environment, _FILES)
    if variable:
        if not Path(path).is_file():
            raise RemoteError(f"the file that {variable} names does not exist")
        return Settings(endpoint, config | signed | {_FILES[variable]: path}, used(variable))
    variable, token = first_set(environment, _TOKENS)
    if variable:
        return Settings(endpoint, config | signed | {"bearer_token": token}, used(variable))
    folder = environment.get("CLOUDSDK_CONFIG") or f"{environment.get('HOME', '')}/.config/gcloud"
    if (login := Path(folder, _LOGIN_FILE)).is_file():
        config |= signed | {"application_credentials": str(login)}
        return Settings(endpoint, config, used("gcloud auth application-default login"))
    looked_at = ", ".join(
        ("GOOGLE_SERVICE_ACCOUNT_KEY", *_FILES, *_TOKENS, "~/.config/gcloud (CLOUDSDK_CONFIG)")
    )
    if endpoint:
        told = f"requests are not signed, because no credentials were found in {looked_at}"
        return Settings(endpoint, config | {"skip_signature": True}, told)
    raise no_credentials(
        url,
        looked_at,
        "Run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS (on a "
        f"machine with a role: {_PRINT}), GOOGLE_SKIP_SIGNATURE=true for a public bucket, or "
        "STORAGE_EMULATOR_HOST for another server",
    )
