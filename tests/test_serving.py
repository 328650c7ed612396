"""Answers of servers, asked by pyarrow's Flight alone, against the store and the ndarray."""

from __future__ import annotations

import json
import math
import pickle
import struct
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import embstore
from embstore.serving.failures import Failure
from embstore.serving.protocol import RequestError, pack_words, split_words
from tests.helpers.flights import Client, RefusedError, ids, refused, ticket, words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNT = 3000
WORDS = [f"w{number}" for number in range(COUNT)]
ROWS = np.random.default_rng(0).integers(-100, 100, (COUNT, 300)).astype(np.float32)
ASKED = np.random.default_rng(1).integers(0, COUNT, 2500)
TABLES: dict[str, Any] = {
    "float32": (ROWS, {"partitions": 4}),
    "rank 0": (ROWS[:, 0].astype(np.int64), {}),
    "rank 2": (ROWS.reshape(COUNT, 30, 10), {"dtype": "float16"}),
    "bfloat16": (ROWS, {"dtype": "bfloat16"}),
    "int8": (ROWS, {"encoding": "int8"}),
    "float8, compressed": (ROWS, {"encoding": "float8_e4m3fn", "compression": "zstd"}),
}
ROW_HEADERS: list[dict[str, Any]] = [
    {},
    {"form": "binary"},
    {"raw": True},
    {"dtype": "float32"},
    {"dtype": "float64", "form": "lists"},
    {"form": "lists"},
    {"form": "lists", "raw": True},
]


@pytest.fixture(autouse=True)
def _flight() -> None:
    pytest.importorskip("pyarrow.flight")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[embstore.EmbeddingStore]:
    path = tmp_path_factory.mktemp("served") / "s"
    with embstore.build(ROWS, path, words=WORDS, unk="w7", partitions=4) as store:
        yield store


@pytest.fixture(scope="module")
def server(store) -> Iterator[embstore.Server]:
    pytest.importorskip("pyarrow.flight")
    with embstore.serve(store) as server:
        yield server


@pytest.fixture(scope="module")
def client(server) -> Iterator[Client]:
    client = Client(server.address)
    yield client
    client.close()


def numbers(column: Any, dtype: Any, row_shape: tuple[int, ...]) -> Any:
    """Return rows of the binary form."""
    width = math.prod(row_shape) * dtype.itemsize
    assert str(column.type) == f"fixed_size_binary[{width}]"
    data = np.frombuffer(b"".join(column.to_pylist()), np.uint8)
    return data.view(dtype).reshape(len(column), *row_shape)


@pytest.mark.parametrize("name", TABLES)
def test_rows_are_those_of_the_store(tmp_path, name):
    table, options = TABLES[name]
    with embstore.build(table, tmp_path / "s", **options) as store:
        with embstore.serve(store) as server:
            client = Client(server.address)
            for header in ROW_HEADERS:
                check_rows(client, store, {"operation": "rows"} | header)
            client.close()
        assert store[0].shape == store.row_shape  # It was given open, and stays so.


def check_rows(client: Client, store: embstore.EmbeddingStore, header: dict[str, Any]) -> None:
    """Compare the rows of a header with those of a lookup, on both ways."""
    options = {name: header[name] for name in ("dtype", "raw") if name in header}
    is_list = header.get("form") == "lists"
    if is_list and store.dtype == "bfloat16" and not options:
        with pytest.raises(
            RefusedError, match="Arrow has no lists of bfloat16; ask for dtype=float32"
        ):
            client.get(header, ids(0))
        return
    expected = store.lookup(ASKED, **options)

    def same(column: Any, rows: Any) -> None:
        if is_list:
            flat = column.flatten() if rows.ndim > 1 else column
            found = flat.to_numpy(zero_copy_only=False).reshape(rows.shape)
        else:
            found = numbers(column, rows.dtype, rows.shape[1:])
        assert found.dtype == rows.dtype
        np.testing.assert_array_equal(found, rows)

    same(client.get(header, ids(ASKED)), expected)
    assert not len(client.get(header))
    with client.stream(header) as stream:
        about = json.loads(stream.reader.schema.metadata[b"embstore"])
        assert about["dtype"] == expected.dtype.name
        assert about["row_shape"] == list(expected.shape[1:])
        assert about["fingerprint"] == store.fingerprint()
        for some in (slice(3), slice(0), slice(1), slice(None)):
            same(stream.ask(ids(ASKED[some]), len(ASKED[some])), expected[some])


def test_words(client, store):
    asked = ["w1", "missing", "w2999", "", "\ud800", "w1", "é" * 100]
    found = client.get({"operation": "ids", "missing": "none"}, words(*asked))
    assert found.to_pylist() == [1, -1, 2999, -1, -1, 1, -1]
    found = client.get({"operation": "ids", "missing": "unk"}, words(*asked))
    assert found.to_pylist() == [1, 7, 2999, 7, 7, 1, 7]
    for missing in ("unk", "zeros"):
        found = client.get({"operation": "word_rows", "missing": missing}, words(*asked))
        expected = store.lookup_words(asked, missing=missing)
        np.testing.assert_array_equal(numbers(found, store.dtype, (300,)), expected)
    for operation in ("ids", "word_rows"):
        with pytest.raises(RefusedError, match="4 of 7 words are not in the store") as error:
            client.get({"operation": operation}, words(*asked[:6], "nothing"))
        assert refused(error) == "MissingWordError"
        assert error.value.attributes["word_count"] == 4
        assert error.value.attributes["words"][0] == "missing"
        assert not len(client.get({"operation": operation}, words()))
    many = [f"no {number} {'x' * 500}" for number in range(1000)]
    with pytest.raises(RefusedError, match="1000 of 1000 words") as error:
        client.get({"operation": "ids"}, words(*many))
    assert error.value.attributes["word_count"] == 1000
    assert client.get({"operation": "words"}, ids(ASKED)).to_pylist() == store.words(ASKED)
    everything = words(*WORDS)
    np.testing.assert_array_equal(client.get({"operation": "ids"}, everything), np.arange(COUNT))
    with client.stream({"operation": "word_rows"}) as stream:
        for some in (WORDS[:3], [], WORDS):
            found = numbers(stream.ask(words(*some), len(some)), store.dtype, (300,))
            np.testing.assert_array_equal(found, ROWS[: len(some)])


def test_store_without_words_says_so(tmp_path):
    with embstore.build(ROWS[:10], tmp_path / "s") as store, embstore.serve(store) as server:
        client = Client(server.address)
        assert client.act("info")["has_words"] is False
        for header, payload in (
            ({"operation": "words"}, ids(0)),
            ({"operation": "ids"}, words("a")),
            ({"operation": "word_rows", "missing": "zeros"}, words()),
        ):
            with pytest.raises(RefusedError, match="has no words") as error:
                client.get(header, payload)
            assert refused(error) == "MissingWordError"
        client.close()


def test_prefetch_answers_without_rows(client):
    assert not len(client.get({"operation": "prefetch"}, ids(ASKED)))
    with client.stream({"operation": "prefetch"}) as stream:
        assert not len(stream.ask(ids(5), 0))
    with pytest.raises(RefusedError, match="id 3000 at position 1 is out of range"):
        client.get({"operation": "prefetch"}, ids(0, 3000))


def test_some_partitions_are_served(tmp_path):
    path = tmp_path / "s"
    embstore.build(ROWS, path, words=WORDS, partitions=4).close()
    with embstore.serve(path, partitions=[1, 2]) as server:
        client = Client(server.address)
        facts = client.act("info")
        assert (facts["partitions"], facts["partition_count"]) == ([1, 2], 4)
        found = client.get({"operation": "rows"}, ids(2, 1, 2998))
        np.testing.assert_array_equal(numbers(found, np.dtype("f4"), (300,)), ROWS[[2, 1, 2998]])
        for payload in (ids(4), ids(1, 2, 3), ids([*ASKED.tolist()])):
            with pytest.raises(
                RefusedError, match=r"is in partition [03], which is not here"
            ) as error:
                client.get({"operation": "rows"}, payload)
            assert refused(error) == "IdRangeError"
        with pytest.raises(RefusedError, match="id 4 is in partition 0"):
            client.get({"operation": "word_rows"}, words("w1", "w4"))
        assert client.get({"operation": "words"}, ids(4)).to_pylist() == ["w4"]
        client.close()


def test_facts(client, store, server):
    facts = client.act("info")
    assert facts.pop("limits") == {
        "rows": 1 << 20,
        "request_bytes": 64 << 20,
        "requests": 64,
        "streams": 1024,
        "memory_bytes": 256 << 20,
        "wait_seconds": 5.0,
    }
    assert facts == {
        "protocol": 1,
        "embstore": embstore.__version__,
        "fingerprint": store.fingerprint(),
        "rows": COUNT,
        "row_shape": [300],
        "dtype": "float32",
        "encoding": "plain",
        "stored": None,
        "record_bytes": 1200,
        "partition_count": 4,
        "strategy": "mod",
        "partitions": [0, 1, 2, 3],
        "has_words": True,
        "unk": "w7",
        "name": "s",
    }
    assert client.act("health") == {"status": "serving"}
    named = {action.type for action in client.client.list_actions(client.options)}
    assert named == {"info", "stats", "health"}
    with pytest.raises(RefusedError, match="no action 'stop'; there are info, stats, health"):
        client.act("stop")


def test_statistics(store):
    with embstore.serve(store) as server:
        client = Client(server.address)
        client.get({"operation": "rows"}, ids(range(1000)))
        with client.stream({"operation": "ids"}) as stream:
            stream.ask(words("w1", "w2"), 2)
            assert client.act("stats")["streams_open"] == 1
        for _ in range(2):
            with pytest.raises(RefusedError):
                client.get({"operation": "rows"}, ids(-1))
        found = client.act("stats")
        assert found["seconds"] > 0
        assert (found["requests"], found["rows"]) == (2, 1002)
        assert found["bytes"] >= 1000 * 1200 + 16
        assert found["errors"]["IdRangeError"] == 2
        assert (found["requests_running"], found["memory_bytes"]) == (0, 0)
        client.close()


ROWS_HEADER = {"operation": "rows"}
HOSTILE: list[tuple[str, bytes, str]] = [
    ("empty", b"", "RequestError"),
    ("short", b"EMBS\0", "RequestError"),
    ("other magic", b"EMBT" + ticket(ROWS_HEADER)[4:], "RequestError"),
    ("garbage", bytes(range(256)) * 10, "RequestError"),
    ("huge header", b"EMBS" + struct.pack("<I", 1 << 31) + b"{}", "RequestError"),
    ("long header", ticket(b'{"operation": "rows"}' + b" " * 5000), "RequestError"),
    ("cut header", ticket(ROWS_HEADER)[:-3], "RequestError"),
    ("no JSON", ticket(b"rows"), "RequestError"),
    ("not UTF-8", ticket(b'{"operation": "\xff"}'), "RequestError"),
    ("a list", ticket(b'["rows"]'), "RequestError"),
    ("null", ticket(b"null"), "RequestError"),
    ("nested", ticket(b"[" * 4000), "RequestError"),
    ("twice", ticket(b'{"operation": "rows", "operation": "rows"}'), "RequestError"),
    ("no operation", ticket({}), "RequestError"),
    ("unknown operation", ticket({"operation": "drop"}), "RequestError"),
    ("operation is a number", ticket({"operation": 1}), "RequestError"),
    ("operation is a list", ticket({"operation": ["rows"]}), "RequestError"),
    ("unknown key", ticket({"operation": "rows", "count": 3}), "RequestError"),
    ("unknown form", ticket({"operation": "rows", "form": "csv"}), "RequestError"),
    ("form of ids", ticket({"operation": "ids", "form": "lists"}), "RequestError"),
    ("raw is 1", ticket({"operation": "rows", "raw": 1}), "RequestError"),
    ("raw and dtype", ticket({"operation": "rows", "raw": True, "dtype": "f4"}), "RequestError"),
    ("missing of rows", ticket({"operation": "rows", "missing": "zeros"}), "RequestError"),
    ("missing of ids", ticket({"operation": "ids", "missing": "zeros"}), "RequestError"),
    ("dtype is a number", ticket({"operation": "rows", "dtype": 4}), "RequestError"),
    ("dtype is empty", ticket({"operation": "rows", "dtype": ""}), "RequestError"),
    ("dtype of objects", ticket({"operation": "rows", "dtype": "O"}), "TypeError"),
    ("huge dtype", ticket({"operation": "rows", "dtype": "V2000000000"}), "TypeError"),
    ("dtype of fields", ticket({"operation": "rows", "dtype": "f4,f4"}), "TypeError"),
    ("no dtype", ticket({"operation": "rows", "dtype": "x" * 2000}), "TypeError"),
    ("another table", ticket({"operation": "rows", "fingerprint": "0" * 32}), "FingerprintError"),
    ("fingerprint is true", ticket({"operation": "rows", "fingerprint": True}), "RequestError"),
    ("half an id", ticket(ROWS_HEADER, ids(1) + b"\1\0\0\0"), "RequestError"),
    ("int32 ids", ticket(ROWS_HEADER, np.arange(3, dtype="<i4").tobytes()), "RequestError"),
    ("negative", ticket(ROWS_HEADER, ids(0, -1)), "IdRangeError"),
    ("least", ticket(ROWS_HEADER, ids(-(1 << 63))), "IdRangeError"),
    ("largest", ticket(ROWS_HEADER, ids((1 << 63) - 1)), "IdRangeError"),
    ("float64 ids", ticket(ROWS_HEADER, np.array([1.0, 2.0]).tobytes()), "IdRangeError"),
    ("big-endian ids", ticket(ROWS_HEADER, np.array([1, 2], ">i8").tobytes()), "IdRangeError"),
    ("first behind", ticket(ROWS_HEADER, ids(COUNT)), "IdRangeError"),
    ("no count of words", ticket({"operation": "ids"}), "RequestError"),
    ("huge count of words", ticket({"operation": "ids"}, b"\xff" * 4), "RequestError"),
    ("more words", ticket({"operation": "ids"}, words("a", "b")[:9]), "RequestError"),
    ("words too long", ticket({"operation": "ids"}, words("a", "b") + b"c"), "RequestError"),
    ("words too short", ticket({"operation": "ids"}, words("a", "bc")[:-1]), "RequestError"),
    ("words not UTF-8", ticket({"operation": "ids"}, words("a")[:-1] + b"\xff"), "RequestError"),
    ("huge word", ticket({"operation": "ids"}, struct.pack("<II", 1, 1 << 31)), "RequestError"),
]


@pytest.mark.parametrize(
    ("request_", "kind"), [one[1:] for one in HOSTILE], ids=[one[0] for one in HOSTILE]
)
def test_wrong_requests_are_refused(client, request_, kind):
    with pytest.raises(RefusedError) as error, client.told():
        client.start(request_).read_all()
    assert refused(error) == kind
    assert client.act("health") == {"status": "serving"}


@pytest.mark.parametrize(
    ("request_", "kind"),
    [one[1:] for one in HOSTILE if "header" in one[0] or "key" in one[0] or "dtype" in one[0]],
)
def test_wrong_streams_are_refused(client, request_, kind):
    with pytest.raises(RefusedError) as error:
        client.first(request_)
    assert refused(error) == kind


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (b"\0" * 7, "RequestError"),
        (b"\0" * 8 + b"\1", "RequestError"),
        (b"\0" * 8 + ids(0, COUNT), "IdRangeError"),
    ],
)
def test_wrong_messages_end_the_stream(client, message, kind):
    def ask() -> None:
        with client.stream(ROWS_HEADER) as stream:
            assert len(stream.ask(ids(1, 2), 2)) == 2
            stream.writer.write_metadata(message)
            stream.reader.read_chunk()

    with pytest.raises(RefusedError) as error:
        ask()
    assert refused(error) == kind
    with client.stream(ROWS_HEADER) as stream:
        assert len(stream.ask(ids(1, 2), 2)) == 2


def test_streams_with_batches_or_payloads_are_refused(client):
    import pyarrow as pa

    schema = pa.schema([("ids", pa.int64())])

    def send_batch() -> None:
        with client.stream(ROWS_HEADER) as stream:
            stream.writer.begin(schema)
            stream.writer.write_batch(pa.record_batch([[1, 2]], schema=schema))
            stream.reader.read_chunk()

    with pytest.raises(RefusedError, match="has metadata, and no record batch"):
        send_batch()
    with pytest.raises(RefusedError, match="has a payload"):
        client.first(ticket(ROWS_HEADER, ids(1)))
    with pytest.raises(RefusedError, match="has 0 bytes"):
        client.read(client.flight.FlightDescriptor.for_path("rows"))


def test_other_calls_are_refused(client):
    import pyarrow as pa

    flight, options = client.flight, client.options
    descriptor = flight.FlightDescriptor.for_command(b"")
    with pytest.raises(RefusedError), client.told():
        list(client.client.list_flights(b"", options))
    with pytest.raises(RefusedError), client.told():
        client.client.get_flight_info(descriptor, options)
    writer, _ = client.client.do_put(descriptor, pa.schema([("a", pa.int64())]), options)
    with pytest.raises(RefusedError), client.told():
        writer.close()
    assert client.act("health") == {"status": "serving"}


@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_are_no_request(client, data, behind_prefix):
    sent = b"EMBS" + struct.pack("<I", len(data)) + data if behind_prefix else data
    with pytest.raises(RefusedError) as error, client.told():
        client.start(sent).read_all()
    assert refused(error) == "RequestError"


@given(st.lists(st.text(st.characters(), max_size=8), max_size=8))
def test_words_are_packed_and_split(some):
    assert pack_words(some) == words(*some)
    assert split_words(memoryview(pack_words(some)), most=8) == some


@given(st.binary(max_size=60))
def test_random_bytes_are_words_or_refused(data):
    try:
        found = split_words(memoryview(data), most=100)
    except RequestError:
        return
    assert pack_words(found) == data


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "é" * 5000, "\N{GRINNING FACE}" * 5000, '"\n' * 999]
)
def test_long_errors_are_cut(store, monkeypatch, text):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(text)

    with embstore.serve(store) as server:
        client = Client(server.address)
        with monkeypatch.context() as patch:
            patch.setattr(embstore.EmbeddingStore, "words", fail)
            with pytest.raises(RefusedError, match=r"^InternalError: RuntimeError: ") as error:
                client.get({"operation": "words"}, ids(0))
        assert refused(error) == "InternalError"
        with pytest.raises(RefusedError):
            client.get({"operation": "ids"}, words(text, text + "1"))
        assert client.act("stats")["errors"] == {"InternalError": 1, "MissingWordError": 1}
        client.close()


def test_failures_from_outside_are_checked():
    good = Failure("IdRangeError", "m", {"a": 1})
    assert Failure.from_json(good.to_json()) == good
    for text in (b"", b"[]", b"{}", b"\xff", b'{"kind": 1, "message": "m"}', b"x" * 5000):
        assert Failure.from_json(text) is None
    missing = Failure("MissingWordError", "m", {"words": [1]}).callers_error()
    assert isinstance(missing, embstore.MissingWordError)
    assert missing.words == ()


def test_many_clients_get_their_rows(server):
    problems: list[BaseException] = []

    def ask(seed: int) -> None:
        try:
            client = Client(server.address)
            random = np.random.default_rng(seed)
            with client.stream(ROWS_HEADER) as stream:
                for count in (1, 16, 900, 2000, 1, 0, 3):
                    some = random.integers(0, COUNT, count)
                    found = stream.ask(ids(some), count)
                    np.testing.assert_array_equal(
                        numbers(found, np.dtype("f4"), (300,)), ROWS[some]
                    )
                    found = client.get(ROWS_HEADER, ids(some))
                    np.testing.assert_array_equal(
                        numbers(found, np.dtype("f4"), (300,)), ROWS[some]
                    )
            client.close()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


def test_requests_sent_ahead_are_answered_in_order(client):
    with client.stream(ROWS_HEADER) as stream:
        asked = [np.arange(count) for count in (5, 1000, 0, 1, 77)]
        numbered = [(stream.send(ids(some)), some) for some in asked]
        for number, some in numbered:
            found = numbers(stream.receive(number, len(some)), np.dtype("f4"), (300,))
            np.testing.assert_array_equal(found, ROWS[some])
        stream.writer.done_writing()
        with pytest.raises(StopIteration):
            stream.reader.read_chunk()


def test_server_of_a_path_owns_its_store(store, tmp_path):
    with embstore.serve(store.path) as server:
        assert server.store is not store
        assert repr(server) == f"<Server of {store.path} at {server.address}>"
        assert server.address == f"grpc://127.0.0.1:{server.port}"
        with pytest.raises(TypeError, match="a server is not pickled"):
            pickle.dumps(server)
        opened = server.store
    assert repr(server).endswith(", closed>")
    with pytest.raises(embstore.StoreClosedError):
        opened[0]
    server.close()
    assert server.wait()
    for options in (
        *({"partitions": [0]}, {"partitions": np.arange(2)}, {"reader": "chunked"}),
        *({"preload": True}, {"tensor": "a"}, {"scale": None}, {"scale_block": (1, 8)}),
    ):
        with pytest.raises(ValueError, match="is for opening a store, but this one is open"):
            embstore.serve(store, **options)
    with pytest.raises(embstore.StoreNotFoundError):
        embstore.serve(tmp_path / "missing")


def test_stores_at_a_url_are_served(store, tmp_path):
    pytest.importorskip("obstore")
    url = (tmp_path / "published").as_uri()
    embstore.publish(store.path, url)
    with embstore.serve(url, partitions=[0, 1]) as server:
        assert repr(server).startswith(f"<Server of {url}")
        client = Client(server.address)
        facts = client.act("info")
        assert (facts["name"], facts["partitions"]) == ("published", [0, 1])
        assert facts["fingerprint"] == store.fingerprint()
        found = client.get(ROWS_HEADER, ids(1, 4))
        np.testing.assert_array_equal(numbers(found, np.dtype("f4"), (300,)), ROWS[[1, 4]])
        client.close()


def test_foreign_files_are_served(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", ROWS[:20])
    with embstore.serve(tmp_path / "t.npy") as server:
        client = Client(server.address)
        facts = client.act("info")
        assert facts["fingerprint"].startswith("f")
        assert facts["partitions"] == [0]
        found = client.get(ROWS_HEADER, ids(19, 0))
        np.testing.assert_array_equal(numbers(found, np.dtype("f4"), (300,)), ROWS[[19, 0]])
        client.close()
