"""Lookups in several stores at once: what the stores return one by one, and when they read."""

from __future__ import annotations

import gc
import weakref
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.errors import IdRangeError, IdTypeError, StoreClosedError
from embstore.reading import joint, short_path
from embstore.reading.joint import JointGroup
from embstore.reading.slices import SliceGather
from tests.helpers.stores import make_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROWS = 300


def table_of(row_shape: tuple[int, ...] = (5,), dtype: str = "float32", seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    return random.integers(-100, 100, (ROWS, *row_shape)).astype(dtype)


def made(folder: Path, name: str, table: Any, **options: Any) -> Any:
    return make_store(folder / f"{name}.embstore", table, **options)


# How a store is made or opened, given a folder.
KINDS: dict[str, Callable[[Path], Any]] = {
    "one partition": lambda f: made(f, "p1", table_of()),
    "chunks": lambda f: made(f, "chunks", table_of(seed=1), chunk_rows=16),
    "mod 4": lambda f: made(f, "m4", table_of(seed=2), partitions=4),
    "mod 7 chunks": lambda f: made(f, "m7", table_of(seed=3), partitions=7, chunk_rows=8),
    "div 3": lambda f: made(f, "d3", table_of(seed=4), partitions=3, strategy="div"),
    "div 7 chunks": lambda f: made(
        f, "d7", table_of(seed=5), partitions=7, strategy="div", chunk_rows=8
    ),
    "div empty": lambda f: made(f, "d400", table_of(), partitions=400, strategy="div"),
    "numbers": lambda f: made(f, "numbers", table_of((), "int64")),
    "matrices": lambda f: made(f, "matrices", table_of((2, 3), "int8")),
    "long rows": lambda f: made(f, "long", table_of((5000,))),
    "full": lambda f: made(f, "full", table_of()[:64], partitions=4, chunk_rows=16),
    "encoded": lambda f: embstore.build(table_of(), f / "e.embstore", encoding="float8_e4m3fn"),
    "preloaded": lambda f: again(made(f, "pre", table_of()), preload=True),
    "limited": lambda f: again(made(f, "limit", table_of()), resident_limit="64MiB"),
    "row cache": lambda f: again(made(f, "cache", table_of()), row_cache="1MiB"),
    "not mapped": lambda f: again(made(f, "chunked", table_of()), reader="chunked"),
    "some partitions": lambda f: again(made(f, "some", table_of(), partitions=1), partitions=[0]),
    "view": lambda f: made(f, "view", table_of()).view(0, ROWS),
    "view of a view": lambda f: made(f, "views", table_of()).view(0, ROWS).view(0, 64),
}
IDS: dict[str, Any] = {
    "few": np.array([5, 63, 0, 5]),
    "one": np.array([7]),
    "number": 3,
    "no axes": np.array(3),
    "matrix": np.array([[3, 1], [63, 0]]),
    "none": np.zeros((0, 2), np.int64),
    "list": [1, 2],
    "int32": np.array([9, 8], np.int32),
    "strided": np.arange(64)[::-5],
    "many": np.arange(2000) % 64,
}


def again(store: Any, **options: Any) -> Any:
    store.close()
    return embstore.open(store.path, **options)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("many")
    found = {name: make(folder) for name, make in KINDS.items()}
    yield found
    for store in found.values():
        getattr(store, "store", store).close()


def check(pairs: list[Any]) -> None:
    found = embstore.lookup_many(pairs)
    assert type(found) is list
    for rows, (store, ids) in zip(found, pairs, strict=True):
        expected = store.lookup(ids)
        assert type(rows) is np.ndarray
        assert rows.dtype == expected.dtype
        assert np.array_equal(rows, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_one_kind(stores, kind):
    for ids in IDS.values():
        check([(stores[kind], ids)] * 3)
    check([(stores[kind], ids) for ids in IDS.values()])


@pytest.mark.parametrize("name", IDS)
def test_rows_of_all_kinds(stores, name):
    check([(store, IDS[name]) for store in stores.values()])
    check([(store, ids) for store in reversed(stores.values()) for ids in (IDS["few"], IDS[name])])


@pytest.mark.parametrize("seed", range(5))
def test_any_few_ids(stores, seed):
    random = np.random.default_rng(seed)
    simple = [stores[name] for name in list(KINDS)[:11]]
    for _ in range(5):
        some = [simple[at] for at in random.integers(0, len(simple), random.integers(1, 30))]
        check([(store, random.integers(0, len(store), random.integers(1, 9))) for store in some])


def test_no_pairs():
    assert embstore.lookup_many([]) == []
    assert embstore.lookup_many(iter(())) == []


def test_pairs_may_be_lists_or_come_from_an_iterator(stores):
    store = stores["mod 4"]
    found = embstore.lookup_many([store, np.array([at])] for at in range(3))
    assert np.array_equal(np.concatenate(found), store.lookup([0, 1, 2]))


def test_few_rows_of_several_tables_are_gathered_at_once(stores, monkeypatch):
    calls = []
    take = JointGroup.take
    monkeypatch.setattr(
        JointGroup,
        "take",
        lambda self, *given: (calls.append(len(given[0])), take(self, *given))[1],
    )
    monkeypatch.setattr("embstore.many._take_in_turn", None)
    names = ["one partition", "chunks", "mod 4", "mod 7 chunks", "div 3", "preloaded", "numbers"]
    pairs = [(stores[name], np.array([1, 2])) for name in names]
    found = embstore.lookup_many(pairs)
    assert calls == [6, 1]
    assert [rows.shape for rows in found] == [(2, 5)] * 6 + [(2,)]


def test_lookups_are_counted(stores):
    some = [stores[name] for name in ("one partition", "mod 4", "encoded")]
    before = [store.stats() for store in some]
    for _ in range(1100):
        embstore.lookup_many([(store, np.array([1, 2, 3])) for store in some[:2]])
    embstore.lookup_many([(store, np.array([1, 2, 3])) for store in some])
    after = [store.stats() for store in some]
    calls = [1101, 1101, 1]
    for old, new, count in zip(before, after, calls, strict=True):
        assert new.lookups - old.lookups == count
        assert new.rows - old.rows == 3 * count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [-1, ROWS, 1 << 40])
def test_an_id_out_of_range_is_named_with_its_pair(stores, kind, wrong):
    good, store = (stores["one partition"], np.array([1, 2])), stores[kind]
    for ids in (np.array([0, wrong]), [0, wrong]):
        with pytest.raises(IdRangeError, match=rf"^pair 1: id {wrong} at position 1 is out of"):
            embstore.lookup_many([good, (store, ids), good])


@pytest.mark.parametrize(
    ("pair", "error", "message"),
    [
        (lambda s: (s, [True]), IdTypeError, "pair 1: ids must be integers"),
        (lambda s: (s, np.array([0.5])), IdTypeError, "pair 1: ids must be integers"),
        (lambda s: (s, "word"), IdTypeError, "pair 1: ids must be integers"),
        (lambda s: s, TypeError, "pair 1: expected a pair of an EmbeddingStore or StoreView and"),
        (lambda s: (s,), TypeError, "pair 1: expected a pair .*, found tuple"),
        (lambda s: (s, [1], [2]), TypeError, "pair 1: expected a pair .*, found tuple"),
        (lambda s: (np.asarray(s), [1]), TypeError, "pair 1: expected a pair .*, found ndarray"),
        (lambda s: (None, [1]), TypeError, "pair 1: expected a pair .*, found NoneType"),
        (lambda s: 5, TypeError, "pair 1: expected a pair .*, found int"),
        (lambda s: (s.view(0, 5), [7]), IdRangeError, "pair 1: id 7 at position 0 is outside"),
    ],
)
def test_wrong_pairs(stores, pair, error, message):
    store = stores["mod 4"]
    with pytest.raises(error, match=message):
        embstore.lookup_many([(store, np.array([1])), pair(store)])


def test_a_closed_store_is_named_with_its_pair(tmp_path, stores):
    store = made(tmp_path, "t", table_of())
    pairs = [(stores["mod 4"], np.array([1])), (store, np.array([1]))]
    check(pairs)
    store.close()
    with pytest.raises(StoreClosedError, match=r"pair 1: the store .* is closed"):
        embstore.lookup_many(pairs)


def test_a_plan_keeps_no_closed_store(tmp_path):
    stores = [made(tmp_path, f"t{at}", table_of(seed=at)) for at in range(3)]
    check([(store, np.array([1])) for store in stores])
    kept = [weakref.ref(store._records.data) for store in stores]
    for store in stores:
        store.close()
    gc.collect()
    assert [data() for data in kept] == [None] * 3
    check([(embstore.open(store.path), np.array([1])) for store in stores])


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Announcements and gathers in the order in which they come."""
    found: list[str] = []
    announce, fill = SliceGather.announce_at, SliceGather.fill

    def announced(self: SliceGather, offsets: Any) -> None:
        found.append("announce")
        announce(self, offsets)

    def filled(self: SliceGather, spots: Any, out: Any, *, cold: bool) -> None:
        found.append("fill")
        fill(self, spots, out, cold=cold)

    monkeypatch.setattr(SliceGather, "announce_at", announced)
    monkeypatch.setattr(SliceGather, "fill", filled)
    return found


@pytest.mark.parametrize(
    "kind", ["one partition", "mod 7 chunks", "encoded", "limited", "row cache"]
)
def test_rows_that_are_expected_cold_are_announced_before_any_is_read(stores, kind, events):
    cold = [stores[name] for name in ("div 3", kind, "matrices", "long rows")]
    for store in cold:
        store._records.warmth.cold = True
    pairs = [(store, np.array([[1, 2], [3, 4]])) for store in cold]
    found = embstore.lookup_many(pairs)
    assert events.count("fill") == len(pairs)
    assert events.count("announce") >= len(pairs)
    assert "announce" not in events[events.index("fill") :]
    for store in cold:
        store._records.warmth.cold = False
    for rows, (store, ids) in zip(found, pairs, strict=True):
        assert np.array_equal(rows, store.lookup(ids))


def test_the_first_cold_row_has_all_others_announced(stores, events, monkeypatch):
    for module in (joint, short_path):
        monkeypatch.setattr(module, "READ_SECONDS", -1.0)
        monkeypatch.setattr(module, "have_faulted", lambda rows: True)
    some = [stores[name] for name in ("preloaded", "mod 4", "div 3", "chunks")]
    found = embstore.lookup_many([(store, np.array([1, 2])) for store in some])
    assert events == ["announce"] * 6 + ["fill"] * 3 or events == ["announce"] * 3 + ["fill"] * 3
    assert [store._records.warmth.cold for store in some] == [False, True, False, False]
    some[1]._records.warmth.cold = False
    monkeypatch.undo()
    for rows, store in zip(found, some, strict=True):
        assert np.array_equal(rows, store.lookup([1, 2]))


def test_threads_share_a_plan(stores):
    some = [stores[name] for name in ("one partition", "chunks", "mod 7 chunks", "div 7 chunks")]
    wrong: list[Any] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(200):
            batches = [random.integers(0, ROWS, random.integers(1, 5)) for _ in some]
            found = embstore.lookup_many(zip(some, batches, strict=True))
            for rows, store, ids in zip(found, some, batches, strict=True):
                if not np.array_equal(rows, store.lookup(ids)):
                    wrong.append(ids)

    threads = [Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_rows_at_urls(tmp_path, stores):
    pytest.importorskip("obstore")
    local = [made(tmp_path, f"t{at}", table_of(seed=at), partitions=2) for at in range(3)]
    urls = [(tmp_path / f"published{at}").as_uri() for at in range(3)]
    for store, url in zip(local, urls, strict=True):
        embstore.publish(store.path, url)
    remote = [embstore.open(url) for url in urls]
    cached = embstore.open(urls[0], cache_dir=tmp_path / "cache")
    for ids in IDS.values():
        mixed = [(store, ids) for store in [*remote, stores["mod 4"], cached]]
        check(mixed)
    with pytest.raises(IdRangeError, match="pair 2: id -1"):
        embstore.lookup_many([(store, [0]) for store in remote[:2]] + [(remote[2], [-1])])
    for store in [*remote, cached, *local]:
        store.close()
