"""Who may use a server: tokens, certificates and addresses."""

from __future__ import annotations

import logging
import os
import pickle
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.serving.access import Secret, listening_address, read_token
from tests.helpers.flights import Client, RefusedError, ids, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

TLS = Path(__file__).parent / "data" / "tls"
CERT, KEY = TLS / "cert.pem", TLS / "key-for-tests-only.pem"
OTHER_CERT, OTHER_KEY = TLS / "other-cert.pem", TLS / "other-key-for-tests-only.pem"
TOKEN = "a-very-secret-token.~+/=0123456789"
HEADER = {"operation": "rows"}


@pytest.fixture(autouse=True)
def _flight() -> None:
    pytest.importorskip("pyarrow.flight")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[embstore.EmbeddingStore]:
    path = tmp_path_factory.mktemp("access") / "s"
    with embstore.build(np.eye(8, dtype=np.float32), path) as store:
        yield store


def write_token(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_every_call_needs_the_token(store):
    with embstore.serve(store, token=TOKEN) as server:
        good = Client(server.address, TOKEN)
        assert len(good.get(HEADER, ids(1))) == 1
        assert good.act("info")["rows"] == 8
        with good.stream(HEADER) as stream:
            assert len(stream.ask(ids(1, 2), 2)) == 2
        wrong = [None, "", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "x" * 5000]
        for token in wrong:
            bad = Client(server.address, token)
            calls = [
                lambda client: client.get(HEADER, ids(1)),
                lambda client: client.get(b"no JSON"),
                lambda client: client.first(b"EMBS"),
                *(lambda client, name=name: client.act(name) for name in ("info", "health", "x")),
                lambda client: list(client.client.list_actions(client.options)),
            ]
            for call in calls:
                with pytest.raises(RefusedError) as error, bad.told():
                    call(bad)
                assert refused(error) == "TokenError"
                assert TOKEN not in str(error.value)
            bad.close()
        assert good.act("stats")["errors"] == {"TokenError": len(wrong) * 7}
        good.close()


def test_other_headers_are_no_token(store):
    with embstore.serve(store, token=TOKEN) as server:
        client = Client(server.address)
        flight = client.flight
        for headers in (
            [(b"authorization", TOKEN.encode())],
            [(b"authorization", b"Basic " + TOKEN.encode())],
            [(b"authorization", b"bearer " + TOKEN.encode())],
            [(b"authorization", b"Bearer " + TOKEN.encode())] * 2,
            [(b"authorization-bin", b"Bearer " + TOKEN.encode())],
            [(b"token", TOKEN.encode())],
        ):
            client.options = flight.FlightCallOptions(timeout=300, headers=headers)
            with pytest.raises(RefusedError) as error:
                client.act("health")
            assert refused(error) == "TokenError"
        client.close()


def test_token_is_nowhere_to_be_seen(store, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    path = write_token(tmp_path / "token", f"{TOKEN}\n".encode())
    with embstore.serve(store, token_file=path) as server:
        client = Client(server.address, TOKEN)
        client.act("health")
        seen = [repr(server), str(vars(server)), server.address, repr(Secret(TOKEN))]
        with pytest.raises(TypeError) as error:
            pickle.dumps(server)
        seen += traceback.format_exception(error.value)
        with pytest.raises(TypeError, match="a secret is not pickled"):
            pickle.dumps(Secret(TOKEN))
        wrong = Client(server.address, "wrong")
        with pytest.raises(RefusedError) as told:
            wrong.act("health")
        seen += traceback.format_exception(told.value)
        wrong.close()
        client.close()
    for call in (
        lambda: embstore.serve(store, token=f"{TOKEN} x"),
        lambda: embstore.serve(store, token=f"{TOKEN}\n"),
        lambda: embstore.serve(store, token=TOKEN, token_file=path),
        lambda: embstore.serve(store, token=TOKEN.encode()),  # type: ignore[arg-type]
        lambda: embstore.serve(store, token=TOKEN, host="0.0.0.0"),
        lambda: read_token(write_token(tmp_path / "t", f"{TOKEN} {TOKEN}".encode())),
        lambda: read_token(write_token(tmp_path / "t", f"{TOKEN}\xff".encode("latin1"))),
        lambda: read_token(write_token(tmp_path / "t", f"{TOKEN}\n\n".encode())),
        lambda: read_token(write_token(tmp_path / "t", TOKEN.encode(), 0o644)),
    ):
        with pytest.raises((ValueError, TypeError)) as refusal:
            call()
        seen.append(str(refusal.value))
        seen.append(repr(refusal.value.__cause__) + repr(refusal.value.__context__))
    captured = capfd.readouterr()
    seen += [caplog.text, captured.out, captured.err]
    assert not any(TOKEN in text for text in seen)


@pytest.mark.parametrize(
    ("data", "mode", "expected"),
    [
        (b"abc", 0o600, "abc"),
        (b"abc\n", 0o600, "abc"),
        (b"abc\r\n", 0o400, "abc"),
        (b"x" * 4096 + b"\n", 0o600, "x" * 4096),
        (b"abc\n", 0o640, "abc"),
        (b"abc\n", 0o604, "may be read or changed by other users"),
        (b"abc\n", 0o602, "may be read or changed by other users"),
        (b"abc\n", 0o620, "may be read or changed by other users"),
        (b"abc\n", 0o644, "its mode is 644.; make it yours alone: chmod 600"),
        (b"", 0o600, "must not be empty"),
        (b"\n", 0o600, "must not be empty"),
        (b"abc\n\n", 0o600, "visible ASCII characters"),
        (b"abc def", 0o600, "visible ASCII characters"),
        (b" abc", 0o600, "visible ASCII characters"),
        (b"ab\0c", 0o600, "visible ASCII characters"),
        ("é".encode(), 0o600, "visible ASCII characters"),
        (b"x" * 4097, 0o600, "visible ASCII characters"),
        (b"x" * 9000, 0o600, "has more than 4098 bytes"),
    ],
)
def test_token_files(tmp_path, data, mode, expected):
    path = write_token(tmp_path / "token", data, mode)
    if " " not in expected:
        assert read_token(path) == expected
        link = tmp_path / "link"
        link.symlink_to(path)  # As where secrets are mounted.
        assert read_token(link) == expected
        return
    with pytest.raises(ValueError, match=expected):
        read_token(path)


def test_token_files_that_are_no_files(store, tmp_path):
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(ValueError, match="is not a regular file"):
            embstore.serve(store, token_file=path)
    with pytest.raises(FileNotFoundError):
        embstore.serve(store, token_file=tmp_path / "missing")
    with pytest.raises((ValueError, IsADirectoryError)):
        embstore.serve(store, token_file=tmp_path)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "grpc://127.0.0.1:0"),
        ("127.8.7.6", "grpc://127.8.7.6:0"),
        ("localhost", "grpc://127.0.0.1:0"),
        ("::1", "grpc://[::1]:0"),
        ("[::1]", "grpc://[::1]:0"),
        ("0:0:0:0:0:0:0:1", "grpc://[::1]:0"),
    ],
)
def test_loopback_needs_nothing(host, expected):
    assert str(listening_address(host, 0, has_tls=False, has_token=False)) == expected


@pytest.mark.parametrize(
    "host",
    [
        *("0.0.0.0", "::", "10.0.0.5", "192.168.1.1", "8.8.8.8", "example.org", "db", "fe80::1"),
        *("::ffff:127.0.0.1", "127.1", "127.0.0.1.example.org", "localhost.example.org", "0"),
        *("2130706433", "0x7f000001", "ip6-localhost", "Localhost"),
    ],
)
def test_other_addresses_need_tls_and_a_token(store, host):
    pair: dict[str, Any] = {"tls_cert": CERT, "tls_key": KEY}
    for options, lacks in (
        ({}, r"needs tls_cert= and tls_key= and a token"),
        ({"token": TOKEN}, r"needs tls_cert= and tls_key=; or listen"),
        (pair, "needs a token"),
    ):
        with pytest.raises(ValueError, match=lacks):
            embstore.serve(store, host=host, **options)
    assert listening_address(host, 1, has_tls=True, has_token=True).port == 1


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        *((host, ValueError) for host in ("", " ", "a b", "grpc://127.0.0.1", "127.0.0.1:80")),
        *((host, ValueError) for host in ("a/b", "[::1]:80", "::1%lo", "ü", "a\nb", "@", ":")),
        *((host, TypeError) for host in (None, 0, b"127.0.0.1", True)),
    ],
)
def test_hosts_that_are_none(store, host, kind):
    with pytest.raises(kind, match="host must be"):
        embstore.serve(store, host=host, token=TOKEN, tls_cert=CERT, tls_key=KEY)


def test_tls(store):
    root = CERT.read_bytes()
    with embstore.serve(store, token=TOKEN, tls_cert=CERT, tls_key=KEY) as server:
        assert server.address.startswith("grpc+tls://127.0.0.1:")
        client = Client(server.address, TOKEN, tls_root_certs=root)
        assert len(client.get(HEADER, ids(1))) == 1
        with client.stream(HEADER) as idle:
            assert len(idle.ask(ids(1), 1)) == 1
            for address, options in (
                (server.address, {"tls_root_certs": OTHER_CERT.read_bytes()}),
                (server.address.replace("+tls", ""), {}),
            ):
                bad = Client(address, TOKEN, **options)
                bad.options = bad.flight.FlightCallOptions(timeout=20)
                with pytest.raises(RefusedError):
                    bad.act("health")
                bad.close()
            server.close()  # With an encrypted stream that is idle.
        client.close()


@pytest.mark.parametrize(
    ("cert", "key", "message"),
    [
        (CERT, None, "give tls_cert= and tls_key= together"),
        (None, KEY, "give tls_cert= and tls_key= together"),
        (CERT, OTHER_KEY, "KEY_VALUES_MISMATCH|key values mismatch"),
        (KEY, CERT, "are not a certificate and its unencrypted private key in PEM"),
        (CERT, CERT, "are not a certificate and its unencrypted private key in PEM"),
        (CERT, TLS / "encrypted-key-for-tests-only.pem", "unencrypted private key"),
        (Path(__file__), KEY, "are not a certificate"),
        (Path("/dev/null"), KEY, "tls_cert /dev/null is not a regular file"),
    ],
)
def test_wrong_certificates(store, cert, key, message):
    with pytest.raises(ValueError, match=message):
        embstore.serve(store, tls_cert=cert, tls_key=key)


def test_missing_certificates(store, tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        embstore.serve(store, tls_cert=tmp_path / "missing", tls_key=KEY)


def test_address_of_another_machine_is_an_error(store):
    options: dict[str, Any] = {"token": TOKEN, "tls_cert": CERT, "tls_key": KEY}
    with pytest.raises(embstore.RemoteError, match=r"cannot listen at grpc\+tls://192\.0\.2\.1:"):
        embstore.serve(store, host="192.0.2.1", **options)


def test_keys_are_not_shown(store):
    with embstore.serve(store, tls_cert=CERT, tls_key=KEY) as server:
        assert "PRIVATE" not in repr(server) + str(vars(server))


def test_flight_that_is_missing_is_named(store, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.flight", None)
    with pytest.raises(ImportError, match=r'pip install "embstore\[serve\]"'):
        embstore.serve(store)
