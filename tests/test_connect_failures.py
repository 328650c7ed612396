"""Servers that fail or misbehave: an error that names them, or right rows; never others."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.errors import RemoteError
from embstore.serving import remote_records, replicas, streams
from embstore.serving.protocol import SCHEMA_KEY, pack_place

flight = pytest.importorskip("pyarrow.flight")
import pyarrow as pa  # noqa: E402  # It comes with Flight.

from tests.helpers.flight_servers import TableServer, facts_of  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = np.random.default_rng(3).standard_normal((500, 6)).astype(np.float32)
OTHER = TABLE + 1
IDS = np.random.default_rng(4).integers(0, 500, 300)
PATIENT = 120.0  # Not reached, unless a test fails.


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def started(stack: ExitStack, server: Any) -> Any:
    """Have a server shut down at the end of the test."""
    stack.callback(server.shutdown)
    return server


@pytest.fixture
def on_streams(monkeypatch) -> None:
    """Have small requests asked on streams, the first one, too."""
    monkeypatch.setattr(streams.Streams, "is_worth_opening", lambda self: True)


@pytest.fixture(params=["call", "stream"])
def way(request) -> str:
    """Have small requests asked by a call each, or on streams."""
    if request.param == "stream":
        request.getfixturevalue("on_streams")
    found: str = request.param
    return found


def connected(stack: ExitStack, servers: Any, timeout: float = PATIENT, **options: Any) -> Any:
    return stack.enter_context(embstore.connect(servers, timeout=timeout, **options))


def hurry(store: Any, seconds: float) -> Any:
    """Give the calls of a store less time than connecting had."""
    store._remote.calls.seconds = seconds
    return store


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


# Answers that are wrong in one way each.


class Fewer(TableServer):
    def rows(self, ids):
        return super().rows(ids[:-1])


class More(TableServer):
    def rows(self, ids):
        return super().rows(np.append(ids, 0))


class Nothing(TableServer):
    def rows(self, ids):
        return super().rows(ids[:0])


class Shorter(TableServer):
    """Rows of half the length."""

    def rows(self, ids):
        data = pa.py_buffer(self.table[ids].tobytes())
        kind = pa.binary(12)
        return self.stream(
            "rows", pa.FixedSizeBinaryArray.from_buffers(kind, len(ids), [None, data])
        )


class Longer(TableServer):
    def rows(self, ids):
        rows = np.zeros((len(ids), 7), np.float32)
        data = pa.py_buffer(rows.tobytes())
        return self.stream(
            "rows", pa.FixedSizeBinaryArray.from_buffers(pa.binary(28), len(ids), [None, data])
        )


class Lists(TableServer):
    def rows(self, ids):
        return self.stream("rows", pa.FixedSizeListArray.from_arrays(self.table[ids].ravel(), 6))


class Named(TableServer):
    def rows(self, ids):
        return self.stream("numbers", self.binary(self.table[ids]))


class Twins(TableServer):
    """Two columns."""

    def rows(self, ids):
        values = self.binary(self.table[ids])
        told = self.schema("rows", values.type)
        schema = pa.schema([*told, pa.field("more", values.type)], metadata=told.metadata)

        def batches():
            yield pa.record_batch([values, values], schema=schema), self.place(0)

        return schema, batches()


class Nulls(TableServer):
    def rows(self, ids):
        some = [None, *(row.tobytes() for row in self.table[ids[1:]])]
        return self.stream("rows", pa.array(some, pa.binary(24)))


class Backwards(TableServer):
    """Batches in another order."""

    def batches(self, schema, values):
        yield from reversed(list(super().batches(schema, values)))


class Repeated(TableServer):
    def batches(self, schema, values):
        found = list(super().batches(schema, values))
        yield from [found[0], *found[:-1]]


class Unplaced(TableServer):
    def batches(self, schema, values):
        for batch, _ in super().batches(schema, values):
            yield (batch,)


class Misnumbered(TableServer):
    def batches(self, schema, values):
        for number, (batch, _) in enumerate(super().batches(schema, values)):
            yield batch, pack_place(7, number * self.batch_rows)


class Emptied(TableServer):
    """A batch without rows, which would come for ever."""

    def batches(self, schema, values):
        while True:
            yield pa.record_batch([values[:0]], schema=schema), self.place(0)


class Endless(TableServer):
    def batches(self, schema, values):
        place = 0
        while True:
            yield pa.record_batch([values], schema=schema), self.place(place)
            place += len(values)


class Unnamed(TableServer):
    """No facts in the schema."""

    def schema(self, name, kind, fingerprint=None):
        return super().schema(name, kind).remove_metadata()


class Garbled(TableServer):
    def schema(self, name, kind, fingerprint=None):
        return super().schema(name, kind).with_metadata({SCHEMA_KEY: b"{"})


class Replaced(TableServer):
    """Rows of another table, which the answer admits."""

    def schema(self, name, kind, fingerprint=None):
        return super().schema(name, kind, 32 * "b")

    def rows(self, ids):
        return self.stream("rows", self.binary(OTHER[ids]))


class Raising(TableServer):
    def rows(self, ids):
        raise KeyError("no such thing\x1b[31m")


class Huge(TableServer):
    """A message that is larger than any that could be right."""

    def rows(self, ids):
        return self.stream("rows", self.binary(np.zeros((4 << 20, 6), np.float32)))

    batch_rows = 4 << 20


WRONG = [
    *(Fewer, More, Nothing, Shorter, Longer, Lists, Named, Twins, Nulls, Backwards, Repeated),
    *(Unplaced, Misnumbered, Emptied, Endless, Unnamed, Garbled, Replaced, Raising),
]


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_answer_is_an_error_that_names_the_server(stack, kind):
    server = started(stack, kind(TABLE))
    store = connected(stack, server.address)
    message = f"^no answer from the server: {server.address}: "
    with pytest.raises(RemoteError, match=message) as raised:
        store.lookup(IDS)
    assert "\x1b" not in str(raised.value)
    assert isinstance(raised.value, OSError)


# On a stream, what is missing may still come, until the deadline; and what is too much is found
# when the next answer is expected.
LATE, LONG = (Fewer, Nothing), (More, Endless)


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_answer_on_a_stream_is_an_error(stack, kind, on_streams):
    server = started(stack, kind(TABLE))
    store = hurry(connected(stack, server.address), 0.5 if kind in LATE else PATIENT)
    if kind in LONG:
        np.testing.assert_array_equal(store.lookup(IDS), TABLE[IDS])
    with pytest.raises(RemoteError, match=f"^no answer from the server.*: {server.address}: "):
        store.lookup(IDS)


@pytest.mark.parametrize("kind", [*WRONG, Huge])
def test_replica_answers_for_one_that_is_wrong(stack, kind):
    bad, good = started(stack, kind(TABLE)), started(stack, TableServer(TABLE))
    store = connected(stack, [bad.address, good.address])
    for _ in range(3):
        np.testing.assert_array_equal(store.lookup(IDS), TABLE[IDS])
    assert bad.asked


def test_interrupted_answer_is_dropped(stack, way, monkeypatch):
    """The rest of it is not waited for, and is not taken for the next answer."""
    server = started(stack, Dripping(TABLE))
    stack.callback(server.hold.set)
    store = connected(stack, server.address)

    def interrupted(values: Any, size: int) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(remote_records, "records_of", interrupted)
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            store.lookup(IDS)
        assert time.monotonic() - start < PATIENT / 2
    server.hold.set()
    for ids in (IDS[::-1], IDS[:5]):
        np.testing.assert_array_equal(store.lookup(ids), TABLE[ids])


def test_streams_are_kept(stack, on_streams):
    server = started(stack, TableServer(TABLE))
    store = connected(stack, server.address)
    for _ in range(5):
        np.testing.assert_array_equal(store.lookup(IDS), TABLE[IDS])
    assert len(server.asked) == 1  # The stream; requests on it have no header.
    store.lookup(np.zeros(1 << 16, np.int64))  # Too large for it.
    assert len(server.asked) == 2


def test_stream_is_not_kept_beyond_half_of_its_time(stack, on_streams):
    server = started(stack, TableServer(TABLE))
    store = connected(stack, server.address)
    store.lookup(IDS)
    ((stream,),) = store._links[0]._streams._idle.values()
    stream.end -= 0.6 * PATIENT
    np.testing.assert_array_equal(store.lookup(IDS), TABLE[IDS])
    assert len(server.asked) == 2


def test_server_without_streams_is_asked_by_calls(stack, on_streams):
    class Callable(TableServer):
        do_exchange = flight.FlightServerBase.do_exchange

    store = connected(stack, started(stack, Callable(TABLE)).address)
    for _ in range(3):
        np.testing.assert_array_equal(store.lookup(IDS), TABLE[IDS])


def test_message_that_is_too_large_is_refused(stack):
    server = started(stack, Huge(TABLE))
    store = hurry(connected(stack, server.address), 2)
    with pytest.raises(RemoteError, match=server.address):
        store.lookup(IDS)


class Info(TableServer):
    """A server that tells other facts; `told` is its answer."""

    told = b""

    def info(self):
        return self.told


FACTS = json.loads(facts_of(TABLE).to_json())
BAD_FACTS = {
    "nothing": b"",
    "no JSON": b"\xff",
    "no object": b"[]",
    "another protocol": FACTS | {"protocol": 2},
    "no rows": {key: value for key, value in FACTS.items() if key != "rows"},
    "many rows": FACTS | {"rows": 1 << 62},
    "negative rows": FACTS | {"rows": -1},
    "record_bytes of another shape": FACTS | {"record_bytes": 23},
    "no record_bytes": FACTS | {"record_bytes": 0},
    "a huge shape": FACTS | {"row_shape": [1 << 40, 1 << 40]},
    "a shape of zeros": FACTS | {"row_shape": [0]},
    "many axes": FACTS | {"row_shape": [1] * 64},
    "an unknown dtype": FACTS | {"dtype": "float1024"},
    "objects": FACTS | {"dtype": "O"},
    "an unknown encoding": FACTS | {"encoding": "magic"},
    "an encoding that is not described": FACTS | {"encoding": "int8"},
    "a bad encoding": FACTS | {"encoding": "int8", "stored": {"name": "scaled", "codes": 3}},
    "an encoding of another size": FACTS
    | {"encoding": "int8", "stored": {"name": "scaled", "codes": "int8"}},
    "a partition too many": FACTS | {"partitions": [0, 1]},
    "no partitions": FACTS | {"partitions": []},
    "many partitions": FACTS | {"partition_count": 1 << 40},
    "another strategy": FACTS | {"strategy": "hash"},
    "no fingerprint": FACTS | {"fingerprint": ""},
    "a long fingerprint": FACTS | {"fingerprint": "a" * 1000},
    "limits of nothing": FACTS | {"limits": {}},
}


@pytest.mark.parametrize("name", BAD_FACTS)
def test_bad_facts_are_refused(stack, name):
    server = started(stack, Info(TABLE))
    told = BAD_FACTS[name]
    server.told = told if isinstance(told, bytes) else json.dumps(told).encode()
    with pytest.raises(RemoteError, match=server.address):
        embstore.connect(server.address, timeout=PATIENT)


def test_limits_of_zero_are_taken_for_one(stack):
    server = started(stack, Info(TABLE))
    limits = FACTS["limits"] | {"rows": 0, "request_bytes": 0}
    server.told = json.dumps(FACTS | {"limits": limits}).encode()
    np.testing.assert_array_equal(connected(stack, server.address)[:3], TABLE[:3])


# Servers that are lost.


def test_server_that_does_not_listen_is_named_at_once(stack):
    address = f"grpc://127.0.0.1:{free_port()}"
    with pytest.raises(RemoteError, match=f"{address}: no server listens there"):
        embstore.connect(address, timeout=PATIENT)


def test_lost_server_is_named_after_the_timeout(stack, way):
    server = TableServer(TABLE)
    store = hurry(connected(stack, server.address), 0.5)
    server.shutdown()
    with pytest.raises(RemoteError, match=rf"within 0.5 s: {server.address}: ") as raised:
        store.lookup(IDS)
    assert "refused" not in str(raised.value)


def test_connection_works_again_when_its_server_comes_back(stack, way):
    server = TableServer(TABLE)
    store = connected(stack, server.address)
    np.testing.assert_array_equal(store[7], TABLE[7])
    server.shutdown()
    coming = store.submit(IDS)  # Asks until the server is back.
    with pytest.raises(TimeoutError):
        coming.result(timeout=0.2)
    server = started(stack, TableServer(TABLE, port=server.port))
    np.testing.assert_array_equal(coming.result(timeout=PATIENT), TABLE[IDS])
    np.testing.assert_array_equal(store.lookup(IDS), TABLE[IDS])


def test_server_that_comes_back_with_another_table_is_refused(stack, way):
    server = TableServer(TABLE)
    store = connected(stack, server.address)
    server.shutdown()
    other = started(
        stack, TableServer(OTHER, facts_of(OTHER, fingerprint=32 * "c"), port=server.port)
    )
    with pytest.raises(RemoteError, match=f"{other.address}: another table"):
        store.lookup(IDS)


def test_replica_answers_for_one_that_is_lost(stack, way):
    lost, kept = TableServer(TABLE), started(stack, TableServer(TABLE))
    store = connected(stack, [lost.address, kept.address])
    for _ in range(2):
        store.lookup(IDS)
    assert lost.asked
    assert kept.asked  # They share the work.
    lost.shutdown()
    for _ in range(5):
        np.testing.assert_array_equal(store.lookup(IDS), TABLE[IDS])


class Silent:
    """A port that accepts connections and never answers."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(16)
        self.address = f"grpc://127.0.0.1:{self._listener.getsockname()[1]}"

    def shutdown(self) -> None:
        self._listener.close()


class Holding(TableServer):
    """A server whose answers wait for `hold`."""

    def rows(self, ids):
        self.hold.wait(PATIENT)
        return super().rows(ids)


class Dripping(TableServer):
    """A server that sends one batch, and then waits for `hold`."""

    def batches(self, schema, values):
        first, *others = super().batches(schema, values)
        yield first
        self.hold.wait(PATIENT)
        yield from others


def test_connecting_to_a_silent_port_ends(stack):
    silent = started(stack, Silent())
    with pytest.raises(RemoteError, match=rf"within 0.5 s: {silent.address}: "):
        embstore.connect(silent.address, timeout=0.5)


@pytest.mark.parametrize("kind", [Holding, Dripping])
def test_call_to_a_server_that_stalls_ends(stack, kind, way):
    server = started(stack, kind(TABLE))
    stack.callback(server.hold.set)
    store = hurry(connected(stack, server.address), 0.5)
    start = time.monotonic()
    with pytest.raises(RemoteError, match=rf"{server.address}: it did not answer within 0.5 s"):
        store.lookup(IDS)
    assert time.monotonic() - start < 60


def test_error_tells_the_time_of_the_whole_call(stack, on_streams):
    """Also where a stream that was kept ends a moment before the call."""
    server = started(stack, Holding(TABLE))
    stack.callback(server.hold.set)
    store = connected(stack, server.address)
    server.hold.set()
    store.lookup(IDS)
    server.hold.clear()
    ((stream,),) = store._links[0]._streams._idle.values()
    hurry(store, 0.5)
    stream.end = time.monotonic() + 0.4

    def ask(*_: object) -> None:
        time.sleep(0.4)
        raise flight.FlightTimedOutError("late")

    stream.ask = ask
    with pytest.raises(RemoteError, match=rf"{server.address}: it did not answer within 0.5 s"):
        store.lookup(IDS)


class Late(TableServer):
    """A server that waits before it answers."""

    def answer(self, header, payload):
        time.sleep(0.6 if header.operation == "ids" else 0.9)
        return super().answer(header, payload)


@pytest.mark.parametrize(
    "look",
    [
        lambda store: store.lookup_words(["w1", "w2"]),
        lambda store: store.lookup_words("w1", missing="zeros"),
        lambda store: store["w1"],
        lambda store: store[["w1", "w2"]],
    ],
)
def test_words_and_their_rows_have_one_time(stack, look):
    server = started(stack, Late(TABLE, facts_of(TABLE, has_words=True), words=WORDS))
    store = hurry(connected(stack, server.address), 1.2)
    with pytest.raises(RemoteError, match=rf"within 1.2 s: {server.address}: "):
        look(store)
    hurry(store, PATIENT)
    assert look(store).shape[-1] == 6


@pytest.mark.parametrize("kind", [Holding, Dripping])
def test_replica_answers_for_one_that_stalls(stack, kind, way, monkeypatch):
    """A server that stalls gets a part of the time only, and is asked last afterwards."""
    stalled, good = started(stack, kind(TABLE)), started(stack, TableServer(TABLE))
    stack.callback(stalled.hold.set)
    monkeypatch.setattr(replicas.Health, "is_avoided", property(lambda self: self._failures > 0))
    # The good one has half of these seconds.
    store = hurry(connected(stack, [stalled.address, good.address]), 4)
    np.testing.assert_array_equal(store.lookup(IDS), TABLE[IDS])
    for _ in range(4):
        np.testing.assert_array_equal(store.lookup(IDS), TABLE[IDS])
    assert len(stalled.asked) == 1


def test_one_server_of_several_that_fails_ends_the_others(stack, way):
    """The error of one is raised soon, though another stalls: its request is cancelled."""
    halves = facts_of(TABLE, partition_count=2)
    stalled = started(stack, Dripping(TABLE, replace(halves, partitions=(0,))))
    stack.callback(stalled.hold.set)
    failing = started(stack, Raising(TABLE, replace(halves, partitions=(1,))))
    store = connected(stack, [stalled.address, failing.address], timeout=PATIENT)
    with pytest.raises(RemoteError, match=f"the server: {failing.address}: "):
        store.lookup(np.arange(500))


# What is told at connecting must agree.


def test_servers_of_different_tables_are_refused(stack):
    one = started(stack, TableServer(TABLE))
    for other in (
        facts_of(TABLE, fingerprint=32 * "b"),
        facts_of(TABLE[:400]),
        facts_of(TABLE, partition_count=2),
        facts_of(TABLE, strategy="div"),
    ):
        two = started(stack, TableServer(TABLE, other))
        with pytest.raises(RemoteError, match=f"{one.address} and {two.address} have different"):
            embstore.connect([one.address, two.address], timeout=PATIENT)


def test_partitions_without_a_server_are_named(stack):
    facts = facts_of(TABLE, partition_count=12, partitions=(3,))
    server = started(stack, TableServer(TABLE, facts))
    for servers in (server.address, [server.address], {3: server.address}):
        with pytest.raises(RemoteError, match="partition 0, 1, 2, 4, 5, 6, 7, 8 and 3 more of 12"):
            embstore.connect(servers, timeout=PATIENT)
    with pytest.raises(RemoteError, match=f"{server.address} does not have partition 4; it has 3"):
        embstore.connect({3: server.address, 4: server.address}, timeout=PATIENT)
    with pytest.raises(ValueError, match="names partition 12, but the table has 12 partitions"):
        embstore.connect({12: server.address}, timeout=PATIENT)


# Tokens.

TOKEN = "a-long-and-secret-token"


def test_token_is_sent_and_never_shown(stack, monkeypatch):
    server = started(stack, TableServer(TABLE, token=TOKEN))
    monkeypatch.delenv("EMBSTORE_TOKEN", raising=False)
    for wrong in (None, "another-secret"):
        with pytest.raises(RemoteError, match=f"{server.address}: no token, or a wrong") as raised:
            embstore.connect(server.address, token=wrong, timeout=PATIENT)
        assert "another-secret" not in repr(raised.value)
    store = connected(stack, server.address, token=TOKEN)
    np.testing.assert_array_equal(store.lookup(IDS), TABLE[IDS])
    shown = [repr(store), str(store.path), str(store.source), repr(store.__reduce__())]
    assert not any(TOKEN in text for text in shown)


def test_token_of_the_environment_is_used_by_copies(stack, monkeypatch):
    import pickle

    server = started(stack, TableServer(TABLE, token=TOKEN))
    monkeypatch.delenv("EMBSTORE_TOKEN", raising=False)
    data = pickle.dumps(connected(stack, server.address, token=TOKEN))
    assert TOKEN.encode() not in data
    with pytest.raises(RemoteError, match="no token"):
        pickle.loads(data)
    monkeypatch.setenv("EMBSTORE_TOKEN", TOKEN)
    with pickle.loads(data) as twin:
        np.testing.assert_array_equal(twin.lookup(IDS), TABLE[IDS])


class Echoing(TableServer):
    """A server that repeats the token in its error."""

    def rows(self, ids):
        raise flight.FlightServerError(f"Bearer {TOKEN} is fine")


def test_token_is_cut_from_what_a_server_says(stack, way):
    server = started(stack, Echoing(TABLE))
    store = connected(stack, server.address, token=TOKEN)
    with pytest.raises(RemoteError, match=r"Bearer \*\*\* is fine") as raised:
        store.lookup(IDS)
    error: BaseException | None = raised.value
    while error is not None:
        assert TOKEN not in str(error)
        error = error.__cause__


def test_pickled_store_refuses_another_table(stack):
    import pickle

    server = TableServer(TABLE)
    data = pickle.dumps(connected(stack, server.address))
    server.shutdown()
    started(stack, TableServer(OTHER, facts_of(OTHER, fingerprint=32 * "c"), port=server.port))
    with pytest.raises(embstore.StoreChangedError, match="have another table than the one"):
        pickle.loads(data)


# Words.

WORDS = [f"w{number}" for number in range(500)]


class Liar(TableServer):
    """A server of ids beyond the table."""

    def answer(self, header, payload):
        if header.operation == "ids":
            return self.stream("ids", pa.array([500], pa.int64()))
        return super().answer(header, payload)


def test_ids_of_words_are_checked(stack, way):
    server = started(stack, Liar(TABLE, facts_of(TABLE, has_words=True), words=WORDS))
    store = connected(stack, server.address)
    with pytest.raises(RemoteError, match="an id is not in -1 to 499"):
        store.ids(["w1"])


def test_words_are_asked_where_they_are(stack):
    without = started(stack, TableServer(TABLE))
    facts = facts_of(TABLE, has_words=True, unk="w3")
    having = started(stack, TableServer(TABLE, facts, words=WORDS))
    store = connected(stack, [without.address, having.address])
    assert store.unk == "w3"
    for word in WORDS[:9]:
        np.testing.assert_array_equal(store[word], TABLE[int(word[1:])])
    assert all(header.operation == "rows" for header in without.asked)


def test_words_are_asked_for_once(stack):
    server = started(stack, TableServer(TABLE, facts_of(TABLE, has_words=True), words=WORDS))
    store = connected(stack, server.address)
    for _ in range(3):
        assert store.ids(["w1", "x", "w1"], missing="none").tolist() == [1, -1, 1]
        assert "w1" in store
        assert "x" not in store
    assert len(server.asked) == 1


class Clearing(dict[str, int]):
    """Words that another thread clears after each look."""

    def __contains__(self, word: object) -> bool:
        found = super().__contains__(word)
        self.clear()
        return found

    def get(self, word: str, default: Any = None) -> Any:
        found = super().get(word, default)
        self.clear()
        return found


def test_kept_words_may_be_cleared_at_any_time(stack):
    server = started(stack, TableServer(TABLE, facts_of(TABLE, has_words=True), words=WORDS))
    store = connected(stack, server.address)
    store.vocabulary._kept = Clearing(w1=1)
    assert store.ids(["w1", "w2", "w1"]).tolist() == [1, 2, 1]


def test_hint_of_a_missing_word_needs_no_server(stack):
    server = TableServer(TABLE, facts_of(TABLE, has_words=True), words=WORDS)
    store = connected(stack, server.address)
    with pytest.raises(embstore.MissingWordError) as raised:
        store.ids(["W1"])
    server.shutdown()
    hurry(store, 0.5)
    assert "the word 'W1' is not in the store" in str(raised.value)


# Threads.


def test_many_threads_use_one_connection(stack, way):
    halves = facts_of(TABLE, partition_count=2)
    servers = [
        started(stack, TableServer(TABLE, replace(halves, partitions=(part,)))) for part in (0, 1)
    ]
    store = connected(stack, [server.address for server in servers])
    wrong: list[int] = []

    def work(seed: int) -> None:
        numbers = np.random.default_rng(seed)
        for _ in range(20):
            ids = numbers.integers(0, 500, int(numbers.integers(1, 200)))
            rows = store.submit(ids).result() if seed % 2 else store.lookup(ids)
            if not np.array_equal(rows, TABLE[ids]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_queued_lookups_end_in_time(stack, monkeypatch):
    """The time of a submitted lookup runs from when it was submitted, though no thread is free."""
    server = started(stack, Holding(TABLE))
    stack.callback(server.hold.set)
    store = hurry(connected(stack, server.address), 1)
    futures = [store.submit(IDS) for _ in range(100)]
    start = time.monotonic()
    for future in futures:
        with pytest.raises(RemoteError, match=server.address):
            future.result()
    assert time.monotonic() - start < 60


def test_failed_server_is_avoided_for_longer_each_time():
    health = replicas.Health()
    assert not health.is_avoided
    health.note(good=False)
    assert health.is_avoided
    health.note(good=True)
    assert not health.is_avoided
