"""Stores at servers with TLS and a token: the same rows, and errors that show neither."""

from __future__ import annotations

import pickle
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.errors import RemoteError
from embstore.serving import streams

pytest.importorskip("pyarrow.flight")

if TYPE_CHECKING:
    from collections.abc import Iterator

TLS = Path(__file__).parent / "data" / "tls"
ROOT, OTHER_ROOT = TLS / "cert.pem", TLS / "other-cert.pem"
TOKEN = "MARK-a-token-of-the-tests-MARK"
TABLE = np.random.default_rng(5).standard_normal((400, 6)).astype(np.float32)
WORDS = [f"w{number}" for number in range(400)]
IDS = np.random.default_rng(6).integers(0, 400, (5, 7))


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    found: Path = tmp_path_factory.mktemp("tls") / "t.embstore"
    embstore.build(TABLE, found, words=WORDS, partitions=4).close()
    return found


@pytest.fixture(scope="module")
def servers(path) -> Iterator[list[str]]:
    """Addresses of two servers with TLS and a token, which have halves of the table."""
    options: dict[str, Any] = {
        "token": TOKEN,
        "tls_cert": ROOT,
        "tls_key": TLS / "key-for-tests-only.pem",
    }
    with ExitStack() as stack:
        halves = [(0, 1), (2, 3)]
        yield [
            stack.enter_context(embstore.serve(path, partitions=half, **options)).address
            for half in halves
        ]


@pytest.mark.parametrize("root", [ROOT, str(ROOT), ROOT.read_bytes()], ids=["path", "str", "bytes"])
@pytest.mark.parametrize("way", ["call", "stream"])
def test_rows_come_over_tls(servers, root, way, monkeypatch):
    monkeypatch.setattr(streams.Streams, "is_worth_opening", lambda self: way == "stream")
    with embstore.connect(servers, token=TOKEN, tls_root=root) as store:
        for _ in range(3):
            np.testing.assert_array_equal(store.lookup(IDS), TABLE[IDS])
            np.testing.assert_array_equal(store.submit(IDS).result(), TABLE[IDS])
            np.testing.assert_array_equal(store.lookup_words(["w7", "w0"]), TABLE[[7, 0]])
        np.testing.assert_array_equal(store[:], TABLE)
        assert store.words([3, 4]) == ["w3", "w4"]


def test_names_are_checked_against_the_certificate(servers):
    named = [address.replace("127.0.0.1", "localhost") for address in servers]
    with embstore.connect(named, token=TOKEN, tls_root=ROOT) as store:
        np.testing.assert_array_equal(store.lookup(IDS), TABLE[IDS])


def test_copies_find_the_servers_by_tls(servers, monkeypatch):
    with embstore.connect(servers, token=TOKEN, tls_root=ROOT) as store:
        data = pickle.dumps(store)
        assert TOKEN.encode() not in data
        with pytest.raises(RemoteError, match="wants a token"):
            pickle.loads(data)
        monkeypatch.setenv("EMBSTORE_TOKEN", TOKEN)
        with pickle.loads(data) as copied:
            np.testing.assert_array_equal(copied.lookup(IDS), TABLE[IDS])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": TOKEN, "tls_root": OTHER_ROOT}, "the TLS handshake failed"),
        ({"token": TOKEN}, "the TLS handshake failed"),
        ({"token": f"{TOKEN}x", "tls_root": ROOT}, "the token is not the server's"),
        ({"tls_root": ROOT}, "the server wants a token"),
    ],
)
def test_servers_that_are_not_trusted_or_refuse_are_named(servers, options, message):
    with pytest.raises(RemoteError, match=message) as raised:
        embstore.connect(servers, **options)
    assert servers[0] in str(raised.value)
    chain: BaseException | None = raised.value
    while chain is not None:
        assert TOKEN not in f"{chain} {chain!r}"
        chain = chain.__cause__ or chain.__context__


def test_tls_on_one_side_only_is_an_error(path, servers):
    without = [address.replace("+tls", "") for address in servers]
    with pytest.raises(RemoteError, match="does it use TLS"):
        embstore.connect(without, token=TOKEN)
    with embstore.serve(path) as server:
        address = server.address.replace("grpc", "grpc+tls")
        with pytest.raises(RemoteError, match="check tls_root, and that the server uses TLS"):
            embstore.connect(address, tls_root=ROOT)
