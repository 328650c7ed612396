"""Settings of Azure Blob Storage, as Azure's tools take them.

The account is that of the URL, ``AZURE_STORAGE_ACCOUNT``, ``AZURE_STORAGE_ACCOUNT_NAME``, or that
of the connection string. Credentials are the first of these that is there:

1. ``AZURE_SKIP_SIGNATURE=true``: none, for public containers;
2. ``AZURE_STORAGE_TOKEN``: a bearer token;
3. ``AZURE_STORAGE_KEY``, ``AZURE_STORAGE_ACCOUNT_KEY`` or ``AZURE_STORAGE_ACCESS_KEY``;
4. ``AZURE_STORAGE_SAS_TOKEN`` or ``AZURE_STORAGE_SAS_KEY``;
5. ``AZURE_STORAGE_CONNECTION_STRING``: its key or signature, and its endpoint;
6. ``AZURE_CLIENT_ID`` and ``AZURE_TENANT_ID`` with ``AZURE_CLIENT_SECRET``, or with
   ``AZURE_FEDERATED_TOKEN_FILE``, as Kubernetes sets them;
7. ``AZURE_USE_AZURE_CLI=true``: a token of ``az account get-access-token``;
8. none, if there is an endpoint: ``AZURE_STORAGE_ENDPOINT`` or ``AZURE_ENDPOINT``.

Not used: managed identities. For these, log in with ``az login --identity`` and take 7.
"""

from __future__ import annotations

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

_ACCOUNTS = ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
_ENDPOINTS = ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
_TOKEN = "AZURE_STORAGE_TOKEN"
_KEYS = (
    *("AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY"),
    "AZURE_STORAGE_MASTER_KEY",
)
_SIGNATURES = ("AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY")
_CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
_CLIENTS = ("AZURE_CLIENT_ID", "AZURE_STORAGE_CLIENT_ID")
_TENANTS = (
    *("AZURE_TENANT_ID", "AZURE_STORAGE_TENANT_ID"),
    *("AZURE_AUTHORITY_ID", "AZURE_STORAGE_AUTHORITY_ID"),
)
_SECRETS = ("AZURE_CLIENT_SECRET", "AZURE_STORAGE_CLIENT_SECRET")
_FEDERATED = "AZURE_FEDERATED_TOKEN_FILE"
_EMULATOR = "http://127.0.0.1:10000"


def azure(
    environment: Mapping[str, str], url: str, account: str = "", suffix: str = ""
) -> Settings:
    """Return the settings for a URL.

    Parameters
    ----------
    environment : mapping of str
        The variables.
    url : str
        The URL, for messages.
    account, suffix : str
        The account and what follows it in the host, if the URL names them.

    Raises
    ------
    RemoteError
        If there is no account, or there are no credentials and no endpoint.
    """
    if is_true(environment.get("AZURE_STORAGE_USE_EMULATOR")):
        endpoint = environment.get("AZURITE_BLOB_STORAGE_URL") or _EMULATOR
        endpoint = as_endpoint(endpoint, "AZURITE_BLOB_STORAGE_URL")
        return Settings(endpoint, {"use_emulator": True}, used("the emulator"))
    connection = _connection(environment.get(_CONNECTION, ""))
    _, variable_account = first_set(environment, _ACCOUNTS)
    account = account or variable_account or connection.get("accountname", "")
    if not account:
        raise RemoteError(
            f"no Azure account for {url}: set {_ACCOUNTS[0]} or {_CONNECTION}, or name it in the "
            "URL, as in abfss://container@account.dfs.core.windows.net/prefix"
        )
    variable, endpoint = first_set(environment, _ENDPOINTS)
    if not endpoint:
        variable, endpoint = _CONNECTION, connection.get("blobendpoint", "")
    endpoint = as_endpoint(endpoint, variable)
    config: dict[str, Any] = {"account_name": account}
    if endpoint:
        config["endpoint"] = endpoint
    elif suffix and suffix != "core.windows.net":
        config["endpoint"] = f"https://{account}.blob.{suffix}"
    if is_true(environment.get("AZURE_SKIP_SIGNATURE")):
        return Settings(endpoint, config | {"skip_signature": True}, "requests are not signed")
    found, told = _credentials(environment, connection)
    if found:
        return Settings(endpoint, config | found | {"skip_signature": False}, told)
    looked_at = ", ".join((_TOKEN, *_KEYS, *_SIGNATURES, _CONNECTION, *_SECRETS, _FEDERATED))
    if endpoint:
        told = f"requests are not signed, because no credentials were found in {looked_at}"
        return Settings(endpoint, config | {"skip_signature": True}, told)
    raise no_credentials(
        url,
        looked_at,
        f"Set {_KEYS[0]}, or log in with az login and set AZURE_USE_AZURE_CLI=true; "
        "AZURE_SKIP_SIGNATURE=true for a public container; AZURE_STORAGE_ENDPOINT for another "
        "server",
    )


def _credentials(
    environment: Mapping[str, str], connection: Mapping[str, str]
) -> tuple[dict[str, Any], str]:
    """Return obstore's options for the credentials, and where they come from."""
    named = {
        "token": (_TOKEN,),
        "account_key": _KEYS,
        "sas_key": _SIGNATURES,
    }
    found = [(one, *first_set(environment, names)) for one, names in named.items()]
    found.append(("account_key", _CONNECTION, connection.get("accountkey", "")))
    found.append(("sas_key", _CONNECTION, connection.get("sharedaccesssignature", "")))
    for option, variable, value in found:
        if value:
            return {option: value}, used(variable)
    _, client = first_set(environment, _CLIENTS)
    _, tenant = first_set(environment, _TENANTS)
    if client and tenant:
        both = {"client_id": client, "tenant_id": tenant}
        found = [("client_secret", *first_set(environment, _SECRETS))]
        found.append(("federated_token_file", *first_set(environment, (_FEDERATED,))))
        for option, variable, value in found:
            if value:
                return both | {option: value}, used(variable)
    if is_true(environment.get("AZURE_USE_AZURE_CLI")):
        return {"use_azure_cli": True}, used("az login")
    return {}, ""


def _connection(text: str) -> dict[str, str]:
    """Return the parts of a connection string by their names in lower case."""
    parts = (part.partition("=") for part in text.split(";") if part.strip())
    found = {name.strip().lower(): value.strip() for name, _, value in parts}
    if found and "blobendpoint" not in found and "endpointsuffix" in found:
        scheme = found.get("defaultendpointsprotocol", "https")
        account = found.get("accountname", "")
        found["blobendpoint"] = f"{scheme}://{account}.blob.{found['endpointsuffix']}"
    return found
