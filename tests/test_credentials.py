"""Credentials: taken from the environment as each provider's tools do, and never shown."""

from __future__ import annotations

import base64
import copy
import json
import logging
import pickle
import re
import socket
import threading
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.errors import RemoteError, StoreNotFoundError
from embstore.remote import providers, requests
from embstore.remote.objects import Request
from embstore.remote.providers.amazon import amazon
from embstore.remote.providers.azure import azure
from embstore.remote.providers.google import google
from embstore.remote.urls import objects_at
from tests import misbehaving as bad
from tests.helpers.programs import ROOT
from tests.servers import ACCESS_KEY, HOST, SECRET_KEY, free_ports

PROVIDERS = Path(providers.__file__).parent
# In every value that must not be shown.
MARK = "s3cretMARKs3cret"
KEY = base64.b64encode(MARK.encode()).decode()
DATA = b"0123456789"
URLS = ("s3://bucket/t", "gs://bucket/t", "az://bucket/t", "abfss://bucket@accountone.dfs.x.net/t")
STATIC = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": MARK}
PROFILES = f"""
[default]
aws_access_key_id = AKID-default
aws_secret_access_key = {MARK}
[other]
aws_access_key_id = AKID-other
aws_secret_access_key = {MARK}
aws_session_token = {MARK}
"""
CONFIG = """
[default]
region = eu-central-1
[profile other]
region = eu-west-1
endpoint_url = https://storage.example.org
[profile role]
role_arn = arn:aws:iam::123456789012:role/reader
source_profile = default
[profile sso]
sso_session = work
[profile command]
credential_process = /bin/credentials
"""


class Listener:
    """A socket that notes whether somebody connects."""

    def __init__(self):
        self.socket = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self.socket.getsockname()[1]}"
        self.connected = threading.Event()
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()

    def _accept(self):
        while True:
            connection, _ = self.socket.accept()
            with connection:
                if connection.recv(4) == b"stop":
                    return
                self.connected.set()

    def close(self):
        with socket.create_connection(self.socket.getsockname()) as last:
            last.sendall(b"stop")
        self.thread.join()
        self.socket.close()


@pytest.fixture
def metadata(no_credentials):
    """What listens where a provider's metadata service would be, and must see nothing."""
    listener = Listener()
    address = listener.url.partition("//")[2]
    no_credentials.setenv("AWS_METADATA_ENDPOINT", listener.url)
    no_credentials.setenv("GCE_METADATA_HOST", address)
    no_credentials.setenv("GCE_METADATA_ROOT", address)
    no_credentials.setenv("GCE_METADATA_IP", address)
    for name in ("AZURE_MSI_ENDPOINT", "AZURE_IDENTITY_ENDPOINT", "IDENTITY_ENDPOINT"):
        no_credentials.setenv(name, listener.url)
    # Any other address would be reached by this.
    no_credentials.setenv("HTTP_PROXY", listener.url)
    no_credentials.setenv("HTTPS_PROXY", listener.url)
    no_credentials.setenv("NO_PROXY", HOST)
    yield listener
    listener.close()


@pytest.fixture
def store():
    with bad.misbehaving({"t/a": DATA}) as made:
        yield made


@pytest.fixture
def aws(no_credentials, tmp_path):
    """AWS's files in a home directory."""
    folder = tmp_path / "home" / ".aws"
    folder.mkdir(parents=True)
    (folder / "credentials").write_text(PROFILES)
    (folder / "config").write_text(CONFIG)
    no_credentials.setenv("HOME", str(folder.parent))
    return folder


@pytest.mark.parametrize("url", URLS)
def test_without_credentials_there_is_an_error_and_no_request(url, metadata, no_credentials):
    no_credentials.setenv("AZURE_STORAGE_ACCOUNT", "accountone")
    with pytest.raises(RemoteError, match="no credentials") as caught:
        objects_at(url)
    assert url in str(caught.value)
    assert not metadata.connected.is_set()


def test_the_metadata_service_would_be_seen(metadata):
    obstore = pytest.importorskip("obstore")
    from obstore.store import S3Store

    options: Any = {"client_options": {"allow_http": True}, "retry_config": {"max_retries": 0}}
    careless = S3Store("bucket", endpoint=metadata.url, **options)
    with pytest.raises(obstore.exceptions.GenericError, match="S3"):
        obstore.get(careless, "a")
    assert metadata.connected.wait(120)


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("s3://bucket/t", "AWS_ENDPOINT_URL"),
        ("s3a://bucket/t", "AWS_ENDPOINT_URL_S3"),
        ("gs://bucket/t", "GOOGLE_BASE_URL"),
        ("gs://bucket/t", "STORAGE_EMULATOR_HOST"),
        ("az://bucket/t", "AZURE_STORAGE_ENDPOINT"),
        ("abfs://bucket/t", "AZURE_ENDPOINT"),
    ],
)
def test_an_endpoint_without_credentials_gets_unsigned_requests(
    url, variable, store, metadata, no_credentials
):
    no_credentials.setenv(variable, store.url)
    no_credentials.setenv("AZURE_STORAGE_ACCOUNT", "accountone")
    assert objects_at(url).read("a", 2, 3) == DATA[2:5]
    assert [one for one in store.asked if "authorization" in one.headers] == []
    assert len(store.asked) == 1
    store.always = bad.status(403)
    with pytest.raises(RemoteError, match="no credentials were found in"):
        objects_at(url).read("a", 2, 3)
    assert not metadata.connected.is_set()


@pytest.mark.parametrize(
    ("url", "environment", "starts"),
    [
        ("s3://bucket/t", STATIC, "AWS4-HMAC-SHA256 Credential=AKID/"),
        ("gs://bucket/t", {"GOOGLE_BEARER_TOKEN": MARK}, f"Bearer {MARK}"),
        ("gs://bucket/t", {"CLOUDSDK_AUTH_ACCESS_TOKEN": MARK}, f"Bearer {MARK}"),
        ("az://bucket/t", {"AZURE_STORAGE_TOKEN": MARK}, f"Bearer {MARK}"),
        ("az://bucket/t", {"AZURE_STORAGE_KEY": KEY}, "SharedKey accountone:"),
        ("az://bucket/t", {"AZURE_STORAGE_SAS_TOKEN": f"sv=1&sig={MARK}"}, ""),
        (
            "az://bucket/t",
            {"AZURE_STORAGE_CONNECTION_STRING": f"AccountName=accountone;AccountKey={KEY}"},
            "SharedKey accountone:",
        ),
    ],
)
def test_requests_are_signed(url, environment, starts, store, no_credentials):
    for name in ("AWS_ENDPOINT_URL", "GOOGLE_BASE_URL", "AZURE_STORAGE_ENDPOINT"):
        no_credentials.setenv(name, store.url)
    no_credentials.setenv("AZURE_STORAGE_ACCOUNT", "accountone")
    for name, value in environment.items():
        no_credentials.setenv(name, value)
    objects = objects_at(url)
    assert objects.read("a", 2, 3) == DATA[2:5]
    (asked,) = store.asked
    assert asked.headers.get("authorization", "").startswith(starts)
    assert "sig=" in asked.path or asked.headers["authorization"]


AMAZON: dict[str, Any] = {
    "variables": (STATIC, "AWS_ACCESS_KEY_ID", {"access_key_id": "AKID", "region": "eu-central-1"}),
    "a session": (
        STATIC | {"AWS_SESSION_TOKEN": "T"},
        "AWS_ACCESS_KEY_ID",
        {"session_token": "T"},
    ),
    "variables before a profile": (
        STATIC | {"AWS_PROFILE": "other"},
        "AWS_ACCESS_KEY_ID",
        {"access_key_id": "AKID", "endpoint": "https://storage.example.org"},
    ),
    "the default profile": ({}, "'default'", {"access_key_id": "AKID-default"}),
    "another profile": (
        {"AWS_PROFILE": "other"},
        "'other'",
        {"access_key_id": "AKID-other", "session_token": MARK, "region": "eu-west-1"},
    ),
    "a region before a profile's": (
        {"AWS_PROFILE": "other", "AWS_DEFAULT_REGION": "sa-east-1"},
        "'other'",
        {"region": "sa-east-1"},
    ),
    "unsigned": ({"AWS_SKIP_SIGNATURE": "true"}, "not signed", {"skip_signature": True}),
    "unsigned, with keys": (
        STATIC | {"AWS_SKIP_SIGNATURE": "1"},
        "not signed",
        {"skip_signature": True},
    ),
    "a web identity": (
        {"AWS_WEB_IDENTITY_TOKEN_FILE": "/t", "AWS_ROLE_ARN": "arn:aws:iam::1:role/x"},
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        {},
    ),
    "S3's endpoint before the general one": (
        STATIC | {"AWS_ENDPOINT_URL": "https://a.org", "AWS_ENDPOINT_URL_S3": "https://b.org/"},
        "AWS_ACCESS_KEY_ID",
        {"endpoint": "https://b.org", "aws_endpoint_url_s3": "https://b.org"},
    ),
}


@pytest.mark.parametrize("name", AMAZON)
def test_settings_of_amazon(name, aws):
    environment, told, config = AMAZON[name]
    found = amazon({"HOME": str(aws.parent)} | environment, "s3://bucket/t")
    assert told in found.credentials
    assert {key: found.config.get(key) for key in config} == config
    assert MARK not in repr(found)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKID"}, "AWS_SECRET_ACCESS_KEY must be set, too"),
        ({"AWS_SECRET_ACCESS_KEY": MARK}, "AWS_ACCESS_KEY_ID must be set, too"),
        ({"AWS_SESSION_TOKEN": MARK}, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set"),
        ({"AWS_PROFILE": "role"}, "has role_arn and no keys"),
        ({"AWS_PROFILE": "sso"}, "has sso_session and no keys"),
        ({"AWS_PROFILE": "command"}, "has credential_process and no keys"),
        ({"AWS_PROFILE": "missing"}, "no AWS profile 'missing'"),
        (STATIC | {"AWS_ENDPOINT_URL": "storage.example.org"}, "AWS_ENDPOINT_URL must be a URL"),
        (STATIC | {"AWS_ENDPOINT_URL": f"https://u:{MARK}@b.org"}, "must not have a user name"),
        (STATIC | {"AWS_ENDPOINT_URL": f"https://b.org?sig={MARK}"}, "must not have a user name"),
        (STATIC | {"AWS_ENDPOINT_URL": "https://b.org:lots"}, "AWS_ENDPOINT_URL must be a URL"),
    ],
)
def test_settings_of_amazon_that_are_refused(environment, told, aws):
    with pytest.raises(RemoteError, match=told) as caught:
        amazon({"HOME": str(aws.parent)} | environment, "s3://bucket/t")
    assert MARK not in str(caught.value)


def test_profile_files_of_other_names_and_broken_ones(aws, tmp_path):
    other = tmp_path / "other"
    other.write_text("[default]\naws_access_key_id=X\naws_secret_access_key=Y\n")
    environment = {"AWS_SHARED_CREDENTIALS_FILE": str(other)}
    assert amazon(environment, "s3://b/t").config["access_key_id"] == "X"
    other.write_text(f"aws_secret_access_key={MARK}\n")
    with pytest.raises(RemoteError, match="AWS_SHARED_CREDENTIALS_FILE") as caught:
        amazon(environment, "s3://b/t")
    assert MARK not in "".join(traceback.format_exception(caught.value))


GOOGLE: dict[str, Any] = {
    "a key": ({"GOOGLE_SERVICE_ACCOUNT_KEY": MARK}, {"service_account_key": MARK}),
    "a file": ({"GOOGLE_APPLICATION_CREDENTIALS": "FILE"}, {"application_credentials": "FILE"}),
    "a service account": ({"GOOGLE_SERVICE_ACCOUNT": "FILE"}, {"service_account": "FILE"}),
    "a token": ({"CLOUDSDK_AUTH_ACCESS_TOKEN": MARK}, {"bearer_token": MARK}),
    "unsigned": ({"GOOGLE_SKIP_SIGNATURE": "yes"}, {"skip_signature": True}),
    "a login": ({"CLOUDSDK_CONFIG": "FOLDER"}, {"application_credentials": "FILE"}),
    "an emulator": (
        {"STORAGE_EMULATOR_HOST": "127.0.0.1:9"},
        {"base_url": "http://127.0.0.1:9", "skip_signature": True},
    ),
}


@pytest.mark.parametrize("name", GOOGLE)
def test_settings_of_google(name, tmp_path):
    file = tmp_path / "application_default_credentials.json"
    file.write_text("{}")
    places = {"FILE": str(file), "FOLDER": str(tmp_path)}
    environment, config = (
        {key: places.get(value, value) for key, value in one.items()} for one in GOOGLE[name]
    )
    found = google(environment, "gs://bucket/t")
    assert {key: found.config.get(key) for key in config} == config
    assert MARK not in repr(found)


def test_a_missing_file_of_google_is_named_by_its_variable():
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": f"/{MARK}"}
    with pytest.raises(RemoteError, match="GOOGLE_APPLICATION_CREDENTIALS") as caught:
        google(environment, "gs://bucket/t")
    assert MARK not in str(caught.value)


AZURE: dict[str, Any] = {
    "a key": ({"AZURE_STORAGE_KEY": KEY}, {"account_key": KEY}),
    "a signature": ({"AZURE_STORAGE_SAS_TOKEN": MARK}, {"sas_key": MARK}),
    "a token before a key": (
        {"AZURE_STORAGE_TOKEN": MARK, "AZURE_STORAGE_KEY": KEY},
        {"token": MARK, "account_key": None},
    ),
    "a connection string": (
        {
            "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=https;"
            f"AccountName=other;AccountKey={KEY};EndpointSuffix=core.windows.net"
        },
        {"account_key": KEY, "endpoint": "https://other.blob.core.windows.net"},
    ),
    "a connection string with a signature": (
        {
            "AZURE_STORAGE_CONNECTION_STRING": f"BlobEndpoint=https://x.org;"
            f"SharedAccessSignature=sv=1&sig={MARK}="
        },
        {"sas_key": f"sv=1&sig={MARK}=", "endpoint": "https://x.org"},
    ),
    "a client": (
        {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t", "AZURE_CLIENT_SECRET": MARK},
        {"client_id": "c", "tenant_id": "t", "client_secret": MARK},
    ),
    "a federated token": (
        {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t", "AZURE_FEDERATED_TOKEN_FILE": "/f"},
        {"federated_token_file": "/f"},
    ),
    "the command line": ({"AZURE_USE_AZURE_CLI": "true"}, {"use_azure_cli": True}),
    "unsigned": ({"AZURE_SKIP_SIGNATURE": "TRUE"}, {"skip_signature": True}),
    "the emulator": ({"AZURE_STORAGE_USE_EMULATOR": "true"}, {"use_emulator": True}),
}


@pytest.mark.parametrize("name", AZURE)
def test_settings_of_azure(name):
    environment, config = AZURE[name]
    if "connection" not in name:
        environment = {"AZURE_STORAGE_ACCOUNT": "other"} | environment
    account = "other" if "signature" in name else ""
    found = azure(environment, "az://bucket/t", account)
    assert {key: found.config.get(key) for key in config} == config
    assert MARK not in repr(found)


def test_azure_needs_an_account():
    with pytest.raises(RemoteError, match="AZURE_STORAGE_ACCOUNT"):
        azure({"AZURE_STORAGE_KEY": KEY}, "az://bucket/t")
    other = azure({"AZURE_STORAGE_KEY": KEY}, "abfss://c@a.dfs.x.cn/t", "account", "x.cn")
    assert other.config["endpoint"] == "https://account.blob.x.cn"


@pytest.mark.parametrize(
    ("url", "environment"),
    [
        ("s3://bucket/t", {"AWS_ENDPOINT_URL": "http://192.0.2.1:9000"}),
        ("s3://bucket/t", {"AWS_ENDPOINT_URL": "http://localhost.example.org"}),
        ("gs://bucket/t", {"GOOGLE_BASE_URL": "http://127.0.0.1.example.org"}),
        ("az://bucket/t", {"AZURE_ENDPOINT": "http://[2001:db8::1]:80"}),
        ("http://192.0.2.1/t", {}),
        ("HTTP://example.org", {}),
        ("http://2130706433/t", {}),
    ],
)
def test_plain_http_to_other_machines_is_refused_unless_allowed(url, environment, no_credentials):
    no_credentials.setenv("AZURE_STORAGE_ACCOUNT", "accountone")
    for name, value in environment.items():
        no_credentials.setenv(name, value)
    with pytest.raises((RemoteError, ValueError), match=r"not encrypted.*allow_http"):
        objects_at(url)
    assert objects_at(url, allow_http=True).url == url.replace("HTTP", "http")


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{MARK}@example.org/t",
        f"https://{MARK}@example.org/t",
        f"http://user:{MARK}@127.0.0.1/t",
        f"https://user:a/{MARK}@example.org/t",
        f"https://user:a?{MARK}@example.org/t",
        f"s3://AKID:{MARK}@bucket/t",
        f"s3://{MARK}@bucket/t",
        f"S3://AKID:{MARK}@bucket/t",
        f"gs://:{MARK}@bucket",
        f"abfss://container:{MARK}@accountone.dfs.core.windows.net/t",
        f"az://{MARK}@container/t",
        f"https://example.org/t?X-Amz-Signature={MARK}",
        f"https://accountone.blob.core.windows.net/c/t?sv=1&sig={MARK}",
        f"s3://bucket/t?X-Amz-Security-Token={MARK}",
        f"https://example.org/t#{MARK}",
        f"gs://bucket?{MARK}",
        f"file:///t?{MARK}",
        f"file://user:{MARK}@localhost/t",
        f"https://user:{MARK}@[::1/t",
        f"ftp://user:{MARK}@example.org/t",
        f"//user:{MARK}@example.org/t",
        f"s3://AKID%3A{MARK}%40bucket/t",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_shown(url):
    with pytest.raises(ValueError, match=r"^url must ") as caught:
        objects_at(url)
    shown = "".join(traceback.format_exception(caught.value))
    # The line of this test that made the URL may be in the traceback, but not the URL.
    assert MARK not in shown


def test_nothing_secret_is_ever_shown(store, no_credentials, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    no_credentials.setattr(requests, "_FIRST_PAUSE", 0.001)
    no_credentials.setattr(requests, "_MAX_ATTEMPTS", 3)
    environment = STATIC | {"AWS_SESSION_TOKEN": f"{MARK}-token", "AWS_ENDPOINT_URL": store.url}
    for name, value in environment.items():
        no_credentials.setenv(name, value)
    objects = objects_at("s3://bucket/t", timeout=120)
    shown = [repr(objects), str(objects), repr(pickle.dumps(objects)), objects.url]
    shown += [repr(pickle.dumps(copy.copy(objects))), objects.where("a")]
    echo = [_echo(number) for number in (301, 400, 403, 404, 409, 412, 416, 500)]
    behaviours = [*echo, bad.cut, bad.reset, bad.garbage, bad.whole_object, bad.hang_up]
    calls = [
        lambda: objects.read("a", 0, 5),
        lambda: objects.read("a"),
        lambda: list(objects.read_many([Request("a", 0, 5, "x")])),
        objects.find,
        objects.directories,
        lambda: objects.head("a"),
        lambda: objects.put("a", b"x"),
        lambda: objects.put("a", b"x", if_absent=True),
        lambda: objects.put("a", b"x", if_match="x"),
        lambda: objects.copy("a", "b"),
        lambda: objects.delete(["a"]),
    ]
    errors = 0
    for behaviour in behaviours:
        store.always = behaviour
        for call in calls:
            try:
                call()
            except (RemoteError, StoreNotFoundError) as error:
                errors += 1
                shown += _everything(error)
    assert errors > 100
    shown += [record.getMessage() for record in caplog.records]
    out, err = capfd.readouterr()
    assert MARK not in "".join((*shown, out, err))


def _echo(number):
    """Return a behaviour that sends back all that it was told."""

    def behave(answer, line):
        told = json.dumps(line.asked.headers) + MARK
        body = f"<Error><Code>E</Code><Message>{told}</Message></Error>".encode()
        line.send(bad.Answer(number, {"X-Told": told}, body, answer.with_body).whole())
        return True

    return behave


def _everything(error):
    """Return all that may be shown or sent of an error, and of those that it came from."""
    shown = ["".join(traceback.format_exception(error)), repr(pickle.dumps(error))]
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        shown += [str(error), repr(error), repr(vars(error)), repr(error.args)]
        error = error.__cause__ or error.__context__
    return shown


def test_settings_that_obstore_refuses_are_not_shown(no_credentials, tmp_path):
    path = tmp_path / "key.json"
    path.write_text(f'{{"private_key": "{MARK}"')
    cases = [
        ("gs://bucket/t", {"GOOGLE_SERVICE_ACCOUNT_KEY": path.read_text()}),
        ("gs://bucket/t", {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}),
        ("az://bucket/t", {"AZURE_STORAGE_KEY": f"!{MARK}", "AZURE_STORAGE_ACCOUNT": "other"}),
    ]
    for url, environment in cases:
        with no_credentials.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            with pytest.raises(RemoteError, match="obstore refuses the settings") as caught:
                objects_at(url)
        assert not [text for text in _everything(caught.value) if MARK in text]


def test_pickles_look_credentials_up_again(store, no_credentials):
    no_credentials.setenv("AWS_ENDPOINT_URL", store.url)
    for name, value in STATIC.items():
        no_credentials.setenv(name, value)
    pickled = pickle.dumps(objects_at("s3://bucket/t", timeout=7))
    no_credentials.setenv("AWS_ACCESS_KEY_ID", "AKID-new")
    again = pickle.loads(pickled)
    assert again.read("a", 0, 3) == DATA[:3]
    assert "Credential=AKID-new/" in store.asked[-1].headers["authorization"]
    no_credentials.delenv("AWS_ENDPOINT_URL")
    no_credentials.delenv("AWS_ACCESS_KEY_ID")
    no_credentials.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(RemoteError, match="no credentials"):
        pickle.loads(pickled)


def test_the_documentation_names_every_variable():
    pattern = re.compile(r"\b(?:AWS|GOOGLE|AZURE|AZURITE|CLOUDSDK|STORAGE)_[A-Z0-9_]+\b")
    source = "".join(path.read_text() for path in PROVIDERS.glob("*.py"))
    told = set(pattern.findall((ROOT / "docs" / "object_store_access.md").read_text()))
    assert told == set(pattern.findall(source))
    assert len(told) > 40


def test_a_published_store_and_its_readers_hold_no_credentials(
    object_url, no_credentials, tmp_path, caplog, capfd
):
    caplog.set_level(logging.DEBUG)
    rows = np.arange(30.0, dtype=np.float32).reshape(10, 3)
    embstore.build(rows, tmp_path / "s", words=list("abcdefghij"), partitions=2).close()
    shown = [repr(embstore.publish(tmp_path / "s", object_url))]
    shown += [repr(embstore.versions(object_url))]
    with embstore.open(object_url) as store:
        assert store[[3, 9]].tolist() == rows[[3, 9]].tolist()
        shown += [repr(store), repr(store.explain([1, 2])), repr(pickle.dumps(store))]
        assert pickle.loads(pickle.dumps(store))["b"].tolist() == rows[1].tolist()
    nowhere = f"http://{HOST}:{free_ports(1)[0]}"
    no_credentials.setenv("AWS_ENDPOINT_URL", nowhere)
    no_credentials.setattr(requests, "_MAX_ATTEMPTS", 1)
    with pytest.raises(RemoteError, match=nowhere) as caught:
        embstore.open(object_url)
    shown += _everything(caught.value)
    shown += [record.getMessage() for record in caplog.records]
    shown += capfd.readouterr()
    assert not [text for text in shown if SECRET_KEY in text or ACCESS_KEY in text]


def test_objects_of_a_published_store_hold_no_credentials(object_url, tmp_path):
    rows = np.arange(30.0, dtype=np.float32).reshape(10, 3)
    embstore.build(rows, tmp_path / "s").close()
    embstore.publish(tmp_path / "s", object_url)
    objects = objects_at(object_url)
    stored = [objects.read(one.name) for one in objects.find()]
    assert len(stored) > 2
    for secret in (SECRET_KEY, ACCESS_KEY, object_url.partition("//")[2]):
        assert not [data for data in stored if secret.encode() in data]
