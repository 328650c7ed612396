"""Addresses of servers and options of connections: what is taken, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import embstore
from embstore.errors import RemoteError
from embstore.serving.addresses import Address, as_address, as_options, as_servers

A, B = "grpc://127.0.0.1:4000", "grpc://127.0.0.1:4001"
FAR, FAR_TLS = "grpc://rows.example.org:4000", "grpc+tls://rows.example.org:4000"
TOKEN = "a-long-and-secret-token"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grpc://127.0.0.1:4000", Address("127.0.0.1", 4000)),
        ("grpc://localhost:1/", Address("localhost", 1)),
        ("GRPC://Rows.Example.org:65535", Address("rows.example.org", 65535)),
        ("grpc+tls://rows_1.example.org:443", Address("rows_1.example.org", 443, True)),
        ("grpc://[::1]:4000", Address("::1", 4000)),
        ("grpc://[0:0:0:0:0:0:0:1]:4000", Address("::1", 4000)),
    ],
)
def test_address_is_taken(text, expected):
    assert as_address(text, "servers") == expected
    assert as_address(str(expected), "servers") == expected


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1:4000", "grpc:127.0.0.1:4000", "grpc://", "grpc://:4000", "grpc://host"),
        *("grpc://host:", "grpc://host:0", "grpc://host:65536", "grpc://host:99999999", " " + A),
        *("grpc://host:40a", "grpc://host:-1", "grpc://ho st:1", "grpc://host:1/path", A + "?a=b"),
        *("grpc://[::1:4000", "grpc://[:::1]:4000", "grpc://::1:4000", "grpc://host:1#x", A + "\n"),
        *("http://host:1", "https://host:1", "s3://bucket/x", "grpc+unix:///tmp/x", "/tmp/store"),
        *("grpc+tcp://host:1", "x" * 10_000, "grpc://" + "h" * 10_000 + ":1", "grpc://ho\0st:1"),
        *("grpc://höst:1", "grpc://host:٣"),
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match=r"^servers must be grpc://HOST:PORT or grpc\+tls:"):
        embstore.connect(text)


def test_password_in_an_address_is_not_shown():
    with pytest.raises(ValueError, match="without a name or password") as raised:
        embstore.connect(f"grpc://me:{TOKEN}@host:1")
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (A, {None: [A]}),
        ([A, B], {None: [A, B]}),
        ((A,), {None: [A]}),
        (iter([A, B]), {None: [A, B]}),
        (np.array([A, B]), {None: [A, B]}),
        ({1: A, 0: B}, {0: [B], 1: [A]}),
        ({0: [A, B], np.int64(1): (B,)}, {0: [A, B], 1: [B]}),
    ],
    ids=str,
)
def test_servers_are_taken(given, expected):
    found = as_servers(given)
    by_partition: Any = found.by_partition or {None: found.addresses}
    assert {key: list(map(str, some)) for key, some in by_partition.items()} == expected


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ([], ValueError, "servers must name at least one server, not an empty list"),
        ({}, ValueError, "servers must name a server for each partition, not an empty mapping"),
        ("", ValueError, "servers must be grpc://HOST:PORT or .*, not ''$"),
        (None, TypeError, "servers must be an address such as"),
        (3, TypeError, "servers must be an address such as"),
        (A.encode(), TypeError, "servers must be an address such as"),
        ([A, 3], TypeError, r"servers\[1\] must be a str, not 3"),
        ([A, A], ValueError, f"servers names {A} twice"),
        ([A, "grpc://127.0.0.1:04000/"], ValueError, f"servers names {A} twice"),
        ({0: []}, ValueError, r"servers\[0\] must name at least one server"),
        ({0: [A, A]}, ValueError, r"servers\[0\] names grpc://127.0.0.1:4000 twice"),
        ({0: {1: A}}, TypeError, r"servers\[0\] must be an address such as"),
        ({0: None}, TypeError, r"servers\[0\] must be an address such as"),
        ({-1: A}, ValueError, "a key of servers, a partition, must be 0 or more, not -1"),
        ({"0": A}, TypeError, "a key of servers, a partition, must be an integer, not '0'"),
        ({True: A}, TypeError, "a key of servers, a partition, must be an integer, not True"),
        ({0.0: A}, TypeError, "a key of servers, a partition, must be an integer, not 0.0"),
        ({A: 0}, TypeError, "a key of servers, a partition, must be an integer"),
    ],
    ids=str,
)
def test_other_servers_are_refused(given, kind, message):
    with pytest.raises(kind, match=f"^{message}"):
        embstore.connect(given)


@pytest.mark.parametrize(
    "address",
    ["grpc://localhost:1", "grpc://127.9.9.9:1", "grpc://[::1]:1", FAR_TLS],
)
def test_token_is_sent_to_this_machine_or_over_tls(address):
    assert as_options(TOKEN, None, 30, as_servers(address)).token == TOKEN


@pytest.mark.parametrize(
    "address",
    [
        *(FAR, "grpc://10.0.0.1:1", "grpc://0.0.0.0:1", "grpc://[::]:1", "grpc://[fe80::1]:1"),
        *("grpc://localhost.example.org:1", "grpc://127.0.0.1.example.org:1"),
    ],
)
@pytest.mark.parametrize("origin", ["token", "the token in EMBSTORE_TOKEN"])
def test_token_is_not_sent_elsewhere(address, origin, monkeypatch):
    monkeypatch.setenv("EMBSTORE_TOKEN", TOKEN)
    given = TOKEN if origin == "token" else None
    with pytest.raises(ValueError, match=f"^{origin} would be sent to .* without TLS") as raised:
        embstore.connect([A, address], token=given)
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize("token", ["", "a b", "a\n", "ä", "a\0", "x" * 5000, b"bytes", 3, True])
def test_bad_token_is_refused_and_not_shown(token):
    with pytest.raises((TypeError, ValueError), match=r"^token must be") as raised:
        embstore.connect(A, token=token)
    assert not isinstance(token, str) or not token or token not in str(raised.value)


def test_empty_token_of_the_environment_is_none(monkeypatch):
    monkeypatch.setenv("EMBSTORE_TOKEN", "")
    assert as_options(None, None, 30, as_servers(A)).token is None


def test_options_do_not_show_secrets():
    assert TOKEN not in repr(as_options(TOKEN, None, 30, as_servers(A)))


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e9, "3", True, None])
def test_bad_timeout_is_refused(timeout):
    with pytest.raises((TypeError, ValueError), match=r"^timeout must be"):
        embstore.connect(A, timeout=timeout)


def test_certificates_are_read(tmp_path):
    pem = b"-----BEGIN CERTIFICATE-----\n"
    path = tmp_path / "root.pem"
    path.write_bytes(b"# ours\n" + pem)
    servers = as_servers(FAR_TLS)
    assert as_options(None, path, 30, servers).tls_root == b"# ours\n" + pem
    assert as_options(None, str(path), 30, servers).tls_root == b"# ours\n" + pem
    assert as_options(None, pem, 30, servers).tls_root == pem


def test_bad_certificates_are_refused(tmp_path):
    path = tmp_path / "root.der"
    path.write_bytes(b"\x30\x82")
    with pytest.raises(ValueError, match="tls_root must be certificates in PEM"):
        embstore.connect(FAR_TLS, tls_root=path)
    with pytest.raises(RemoteError, match=r"tls_root cannot be read: .*No such file"):
        embstore.connect(FAR_TLS, tls_root=tmp_path / "missing")
    with pytest.raises(TypeError, match=r"tls_root must be a str or a pathlib.Path"):
        embstore.connect(FAR_TLS, tls_root=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"tls_root is for grpc\+tls:// addresses"):
        embstore.connect(A, tls_root=path)
