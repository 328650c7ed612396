"""Stores at servers: the same answers and errors as from the local store, whatever is asked."""

from __future__ import annotations

import asyncio
import copy
import pickle
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.dtypes import as_dtype
from embstore.interop.keyedvectors import KeyedVectors
from tests.helpers.safetensors_files import safetensors_file

pytest.importorskip("pyarrow.flight")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROWS = 203
WORDS = [f"w{number}" for number in range(ROWS)]
NUMBERS = np.random.default_rng(7).standard_normal((ROWS, 12)).astype(np.float32)
IDS = np.random.default_rng(8).integers(0, ROWS, (9, 8))


@dataclass
class Case:
    """A local store, and the same table at servers."""

    local: embstore.EmbeddingStore
    remote: embstore.ConnectedStore


def _plain(path: Path) -> None:
    embstore.build(NUMBERS, path, words=WORDS, unk="w3", partitions=4).close()


def _div(path: Path) -> None:
    embstore.build(NUMBERS, path, partitions=3, strategy="div").close()


def _scalars(path: Path) -> None:
    embstore.build(NUMBERS[:, 0].copy(), path, partitions=2).close()


def _cubes(path: Path) -> None:
    embstore.build(NUMBERS.reshape(ROWS, 2, 3, 2), path, partitions=5).close()


def _integers(path: Path) -> None:
    embstore.build((NUMBERS * 100).astype(np.int16), path, partitions=2).close()


def _bfloat16(path: Path) -> None:
    embstore.build(NUMBERS.astype(as_dtype("bfloat16")), path, partitions=2).close()


def _float8(path: Path) -> None:
    embstore.build(NUMBERS, path, partitions=4, encoding="float8_e4m3fn").close()


def _int8(path: Path) -> None:
    embstore.build(NUMBERS, path, partitions=2, encoding="int8", words=WORDS).close()


def _compressed(path: Path) -> None:
    embstore.build(NUMBERS, path, partitions=2, compression="zstd").close()


def _npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, NUMBERS)


MADE = {
    "plain": _plain,
    "div": _div,
    "scalars": _scalars,
    "cubes": _cubes,
    "integers": _integers,
    "bfloat16": _bfloat16,
    "float8": _float8,
    "int8": _int8,
    "compressed": _compressed,
    "npy": _npy,
}


@pytest.fixture(scope="module", params=MADE)
def case(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Case]:
    path = tmp_path_factory.mktemp("connect") / f"{request.param}.npy"
    MADE[request.param](path)
    with ExitStack() as stack:
        local = stack.enter_context(embstore.open(path))
        servers = [stack.enter_context(embstore.serve(path, **some)) for some in _parts(local)]
        remote = embstore.connect([server.address for server in servers])
        yield Case(local, stack.enter_context(remote))


def _parts(store: embstore.EmbeddingStore) -> list[dict[str, Any]]:
    """Return the options of servers that have a table between them, one partition twice."""
    count = store.partition_count
    if count == 1:
        return [{}, {}]
    every = range(count)
    return [{"partitions": [0, *every[1::2]]}, {"partitions": every[::2]}]


def _some(out: Any, ids: Any = IDS) -> Any:
    """Return a call that fills ``out``."""
    return lambda store: store.lookup(ids, out=out(store))


Store = Any
CALLS: dict[str, Callable[[Store], Any]] = {
    "lookup": lambda s: s.lookup(IDS),
    "one id": lambda s: s.lookup(7),
    "a list": lambda s: s.lookup([[1, 2], [3, 1]]),
    "no ids": lambda s: s.lookup([]),
    "no ids of two axes": lambda s: s.lookup(np.empty((3, 0), np.int64)),
    "small integers": lambda s: s.lookup(IDS.astype(np.uint8)),
    "strided": lambda s: s.lookup(IDS[::2, ::-1]),
    "one partition": lambda s: s.lookup(np.arange(0, ROWS, 4)),
    "all, backwards": lambda s: s.lookup(np.arange(ROWS)[::-1]),
    "max_norm": lambda s: s.lookup(IDS, max_norm=1.5),
    "raw": lambda s: s.lookup(IDS, raw=True),
    "raw and max_norm": lambda s: s.lookup(IDS, raw=True, max_norm=1),
    "float16": lambda s: s.lookup(IDS, dtype="float16"),
    "float64": lambda s: s.lookup(IDS, dtype=np.float64),
    "int8": lambda s: s.lookup(IDS, dtype="int8"),
    "out": _some(lambda s: np.empty((*IDS.shape, *s.row_shape), s.dtype)),
    "out of another shape": _some(lambda s: np.empty((3, *s.row_shape), s.dtype)),
    "out of another dtype": _some(lambda s: np.empty((*IDS.shape, *s.row_shape), np.complex64)),
    "item": lambda s: s[5],
    "item of numpy": lambda s: s[np.int32(5)],
    "items": lambda s: s[[5, 6]],
    "slice": lambda s: s[3:90:7],
    "columns": lambda s: s[:5, ..., 0] if s.ndim > 1 else s[:5],
    "array": np.asarray,
    "iteration": lambda s: np.array(list(s)),
    "reversed": lambda s: np.array(list(reversed(s))),
    "submit": lambda s: s.submit(IDS).result(),
    "submit raw": lambda s: s.submit(IDS, raw=True).result(),
    "submit float32": lambda s: s.submit(IDS, dtype="float32").result(),
    "prefetch": lambda s: s.prefetch(IDS).wait(timeout=60),
    "view": lambda s: s.view(10, 90).lookup([12, 80]),
    "view with zeros": lambda s: s.view(10, 90).lookup([12, 100], outside="zeros"),
    "view submits zeros": lambda s: s.view(10, 90).submit([12, 100], outside="zeros").result(),
    "id too large": lambda s: s.lookup([[1, 2], [ROWS, 3]]),
    "id too large in many": lambda s: s.lookup(np.append(IDS, [[-1] * 8], 0)),
    "id below 0": lambda s: s[-1],
    "float ids": lambda s: s.lookup([1.5]),
    "bool ids": lambda s: s.lookup([True]),
    "submit an id too large": lambda s: s.submit([ROWS]),
    "words": lambda s: s.words([[1, 2], [3, 4]]),
    "word": lambda s: s.words(9),
    "word rows": lambda s: s.lookup_words(["w3", "w200", "w3"]),
    "word rows of one": lambda s: s["w17"],
    "missing words": lambda s: s.lookup_words(["w3", "W4", "x"]),
    "missing words with zeros": lambda s: s.lookup_words(["w3", "x"], missing="zeros"),
    "missing words with unk": lambda s: s.lookup_words([["w3"], ["x"]], missing="unk"),
    "ids": lambda s: s.ids([["w3", "x"]], missing="none"),
    "ids of many": lambda s: s.ids(WORDS[::-1]),
    "ids of numbers": lambda s: s.ids([1]),
    "surrogates": lambda s: s.ids(["\ud800"], missing="none"),
    "packed words": lambda s: s.packed_words(3, 6).encoded(),
    "in": lambda s: ("w3" in s, "x" in s),
    "number in": lambda s: 3 in s,
    "facts": lambda s: (s.shape, s.dtype, s.row_shape, s.rows, len(s), s.ndim, s.nbytes),
    "partitions": lambda s: (
        s.partition_count,
        s.partitions,
        s.strategy,
        s.encoding,
        s.record_bytes,
    ),
    "identity": lambda s: (s.fingerprint(), s.has_words, s.unk, s.matches(s.fingerprint())),
    "bags": lambda s: embstore.embedding_lookup_sparse(
        s, embstore.RaggedIds([1, 2, 3, 3], [0, 2, 2, 4]), None, combiner="mean"
    ),
    "functional": lambda s: embstore.embedding_lookup(s, IDS, max_norm=2.0),
    "pickled view": lambda s: pickle.loads(pickle.dumps(s.view(10, 90))).lookup([12, 80]),
    "most similar": lambda s: s.most_similar(["w3", 9, 5, 6], 3, exclude="w4", restrict=90),
    "most similar to a missing word": lambda s: s.most_similar(["w3", "W4"]),
    "keyed vectors": lambda s: KeyedVectors(s).most_similar("w3", topn=3),
    "bounds": lambda s: s.packed_words(5, ROWS + 1),
}


def outcome(call: Callable[[Store], Any], store: embstore.EmbeddingStore) -> Any:
    """Return what a call gives, or its error, without the place of the store."""
    try:
        found = call(store)
    except Exception as error:
        return type(error), str(error).replace(str(store.path), "PLACE")
    return found


@pytest.mark.parametrize("name", CALLS)
def test_answers_are_those_of_the_local_store(case, name):
    expected, found = (outcome(CALLS[name], store) for store in (case.local, case.remote))
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


def test_large_lookups_are_cut_into_requests(case, monkeypatch):
    records = case.remote._remote
    monkeypatch.setattr(records, "_groups", [g._replace(most_rows=7) for g in records._groups])
    np.testing.assert_array_equal(case.remote.lookup(IDS), case.local.lookup(IDS))
    plan = case.remote.explain(IDS)
    assert plan.request_count >= -(-IDS.size // 7)
    assert plan.bytes_received == IDS.size * case.local.record_bytes


def test_plan_names_the_servers(case):
    plan = case.remote.explain(IDS)
    assert plan.row_count == IDS.size
    assert plan.distinct_row_count == len(np.unique(IDS))
    assert plan.partition_count == case.local.partition_count
    asked = {server for group in plan.groups for server in group.servers}
    assert asked == set(case.remote.servers)
    assert all(server in str(plan) for server in asked)
    assert sum(group.row_count for group in plan.groups) == IDS.size


def test_servers_read_ahead(case):
    coming = case.remote.prefetch(IDS)
    assert coming.wait(timeout=60)
    assert coming.done()
    assert case.remote.prefetch([]).wait()


def test_statistics_count_requests_and_bytes(case):
    before = case.remote.stats()
    case.remote.lookup(IDS)
    after = case.remote.stats()
    assert after.lookups - before.lookups == 1
    assert after.rows - before.rows == IDS.size


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_copies_connect_again(case, again):
    with again(case.remote) as twin:
        assert twin is not case.remote
        np.testing.assert_array_equal(twin.lookup(IDS), case.local.lookup(IDS))


def test_submitted_lookups_are_awaited(case):
    async def both() -> list[Any]:
        coming = [case.remote.submit(IDS), case.remote.submit(IDS[:1])]
        return await asyncio.gather(*map(asyncio.wrap_future, coming))

    found = asyncio.run(both())
    np.testing.assert_array_equal(found[0], case.local.lookup(IDS))
    np.testing.assert_array_equal(found[1], case.local.lookup(IDS[:1]))


def test_closed_store_says_so(case):
    store = copy.copy(case.remote)
    store.close()
    for call in (
        lambda: store.lookup(IDS),
        lambda: store[3],
        lambda: store.submit(IDS),
        lambda: store.explain(IDS),
        store.stats,
        store.fingerprint,
        lambda: copy.copy(store),
        lambda: pickle.dumps(store),
    ):
        with pytest.raises(embstore.StoreClosedError, match="is closed; open it again"):
            call()
    assert repr(store).endswith(", closed>")


def test_what_needs_files_is_refused(case):
    for call in (lambda: case.remote.partition(0), lambda: case.remote.fingerprint(full=True)):
        with pytest.raises(embstore.FormatError, match="is served, so there are no"):
            call()
    assert not case.remote.is_store
    assert not case.remote.mapped
    assert case.remote.warm(IDS) == 0
    assert case.remote.residency().page_cache_bytes == 0


def test_table_can_be_built_from_servers(case, tmp_path):
    with embstore.build(case.remote, tmp_path / "copy") as copied:
        np.testing.assert_array_equal(copied[:], case.local[:])
        assert copied.encoding == case.local.encoding


def test_scales_in_other_tensors_travel_with_their_rows(tmp_path):
    """Rows of several columns come as one record, and are decoded as by the local store."""
    path = tmp_path / "m.safetensors"
    codes = np.random.default_rng(1).integers(0, 120, (ROWS, 64), np.uint8)
    scales = np.random.default_rng(2).integers(120, 130, (ROWS, 2), np.uint8)
    path.write_bytes(
        safetensors_file({"x.weight": ("F8_E4M3", codes), "x.scale": ("F8_E8M0", scales)})
    )
    with (
        embstore.open(path) as local,
        embstore.serve(local) as server,
        embstore.connect(server.address) as remote,
    ):
        assert remote.encoding == local.encoding
        np.testing.assert_array_equal(remote.lookup(IDS), local.lookup(IDS))
        np.testing.assert_array_equal(remote.lookup(IDS, raw=True), local.lookup(IDS, raw=True))
