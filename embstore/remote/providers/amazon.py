"""Settings of Amazon S3 and compatible stores, as the AWS tools take them.

Credentials are the first of these that is there:

1. ``AWS_SKIP_SIGNATURE=true``: none, for public buckets;
2. ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and, if temporary, ``AWS_SESSION_TOKEN``;
3. ``AWS_WEB_IDENTITY_TOKEN_FILE`` and ``AWS_ROLE_ARN``, as Kubernetes sets them;
4. the keys of the profile ``AWS_PROFILE`` (or ``default``) in ``~/.aws/credentials`` or
   ``~/.aws/config`` (``AWS_SHARED_CREDENTIALS_FILE`` and ``AWS_CONFIG_FILE`` name others);
5. ``AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`` or ``AWS_CONTAINER_CREDENTIALS_FULL_URI``, as ECS and
   EKS set them;
6. none, if there is an endpoint.

Not read: profiles with ``role_arn``, ``sso_*`` or ``credential_process``, and the role of a
machine. For these, ``eval "$(aws configure export-credentials --format env)"`` sets the variables
of 2.

The endpoint is ``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL`` or the profile's ``endpoint_url``, the
region ``AWS_REGION``, ``AWS_DEFAULT_REGION`` or the profile's ``region``.
"""

from __future__ import annotations

import configparser
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

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_TOKENS = ("AWS_SESSION_TOKEN", "AWS_TOKEN")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_CONTAINER = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
_WEB_IDENTITY = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN")
_PROFILES = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
_ELSEWHERE = ("role_arn", "sso_session", "sso_start_url", "credential_process")
_EXPORT = 'eval "$(aws configure export-credentials --format env)"'
_MAX_FILE_BYTES = 1 << 20


def amazon(environment: Mapping[str, str], url: str) -> Settings:
    """Return the settings for a URL.

    Raises
    ------
    RemoteError
        If there are no credentials and no endpoint, or only a part of either.
    """
    _, chosen = first_set(environment, _PROFILES)
    name = chosen or "default"
    profile = _profile(environment, name)
    variable, endpoint = first_set(environment, _ENDPOINTS)
    if not endpoint:
        variable, endpoint = f"endpoint_url of profile {name!r}", profile.get("endpoint_url", "")
    endpoint = as_endpoint(endpoint, variable)
    _, region = first_set(environment, ("AWS_REGION", "AWS_DEFAULT_REGION"))
    config: dict[str, Any] = {
        "region": region or profile.get("region") or "us-east-1",
        "disable_bulk_delete": True,  # Not all compatible stores know it.
    }
    if endpoint:
        # Both, because obstore prefers the second, and reads the variables itself.
        config |= {"endpoint": endpoint, "aws_endpoint_url_s3": endpoint}
    if is_true(environment.get("AWS_SKIP_SIGNATURE")):
        return Settings(endpoint, config | {"skip_signature": True}, "requests are not signed")
    has = [bool(environment.get(one)) for one in _KEYS]
    if all(has):
        return Settings(endpoint, config | _from_variables(environment), used(", ".join(_KEYS)))
    if any(has) or first_set(environment, _TOKENS)[0]:
        lacking = [one for one, there in zip(_KEYS, has, strict=True) if not there]
        raise RemoteError(
            f"{' and '.join(lacking)} must be set, too: the environment has only a part of the "
            f"credentials for {url}"
        )
    if all(environment.get(one) for one in _WEB_IDENTITY):
        return Settings(endpoint, config, used(" and ".join(_WEB_IDENTITY)))
    if profile.get("aws_access_key_id") and profile.get("aws_secret_access_key"):
        return Settings(endpoint, config | _from_profile(profile), used(f"profile {name!r}"))
    if found := next((one for one in _ELSEWHERE if profile.get(one)), None):
        raise RemoteError(
            f"the AWS profile {name!r} has {found} and no keys, and embstore reads only keys: run "
            f"{_EXPORT}"
        )
    if chosen and not profile:
        raise RemoteError(f"there is no AWS profile {name!r}: check AWS_PROFILE and ~/.aws")
    variable, _ = first_set(environment, _CONTAINER)
    if variable:
        return Settings(endpoint, config, used(variable))
    looked_at = ", ".join((*_KEYS, *_WEB_IDENTITY, *_CONTAINER, "AWS_PROFILE, ~/.aws/credentials"))
    if endpoint:
        told = f"requests are not signed, because no credentials were found in {looked_at}"
        return Settings(endpoint, config | {"skip_signature": True}, told)
    raise no_credentials(
        url,
        looked_at,
        f"Set the first two (on a machine with a role or with SSO: {_EXPORT}), "
        "AWS_SKIP_SIGNATURE=true for a public bucket, or AWS_ENDPOINT_URL for another server",
    )


def _from_variables(environment: Mapping[str, str]) -> dict[str, Any]:
    found = {
        "access_key_id": environment[_KEYS[0]],
        "secret_access_key": environment[_KEYS[1]],
        "skip_signature": False,
    }
    _, token = first_set(environment, _TOKENS)
    return found | ({"session_token": token} if token else {})


def _from_profile(profile: Mapping[str, str]) -> dict[str, Any]:
    found = {
        "access_key_id": profile["aws_access_key_id"],
        "secret_access_key": profile["aws_secret_access_key"],
        "skip_signature": False,
    }
    token = profile.get("aws_session_token")
    return found | ({"session_token": token} if token else {})


def _profile(environment: Mapping[str, str], name: str) -> dict[str, str]:
    """Return what the two files say about a profile; the first one counts."""
    home = environment.get("HOME", "")
    found: dict[str, str] = {}
    for variable, default, section in (
        ("AWS_CONFIG_FILE", ".aws/config", name if name == "default" else f"profile {name}"),
        ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", name),
    ):
        given = environment.get(variable)
        if not given and not home:
            continue
        path = Path(given).expanduser() if given else Path(home, default)
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                text = file.read(_MAX_FILE_BYTES)
        except OSError:  # Missing, or not ours to read: as if there were none.
            continue
        parser = configparser.RawConfigParser(strict=False, default_section="\0")
        try:
            parser.read_string(text)
            broken = False
        except configparser.Error:  # Its message quotes lines of the file.
            broken = True
        if broken:
            raise RemoteError(f"the file that {variable} names (~/{default}) cannot be parsed")
        if parser.has_section(section):
            found |= dict(parser[section])
    return found
