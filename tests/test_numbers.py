"""Numbers and flags that a caller gives: each public parameter takes the same types.

1. NumPy's integers are numbers; booleans, floats, texts and arrays are not, or not counts.
2. A flag is a boolean; a text such as "no" is not one.
3. The table of parameters is complete: signatures are searched for others.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.errors import IdRangeError
from embstore.interop.keyedvectors import KeyedVectors
from tests.helpers.stores import names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = np.arange(32.0, dtype=np.float32).reshape(8, 4) + 1
WORDS = [f"w{number}" for number in range(8)]
BAGS = embstore.RaggedIds([1, 2, 3], [0, 2, 3])


@dataclass
class Place:
    """Where calls are made: a folder with a store, and its views."""

    folder: Path
    store: embstore.EmbeddingStore
    vectors: KeyedVectors
    count: int = 0
    old: list[str] = field(default_factory=list)

    @property
    def text(self) -> Path:
        return self.folder / "t.txt"

    @property
    def more(self) -> Path:
        return self.folder / "more.txt"

    @property
    def url(self) -> str:
        return (self.folder / "published").as_uri()

    def new(self) -> Path:
        self.count += 1
        return self.folder / f"new{self.count}"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("numbers")
    with embstore.build(ROWS, folder / "s", words=WORDS) as store:
        place = Place(folder, store, KeyedVectors(store))
        lines = [
            f"{word} {' '.join(map(str, row))}\n" for word, row in zip(WORDS, ROWS, strict=True)
        ]
        place.text.write_text("".join(lines))
        place.more.write_text("".join(f"new {line}" for line in lines).replace("new w", "v"))
        place.old = names(folder)
        yield place


def writer(place: Place, **options: Any) -> None:
    settings: dict[str, Any] = {"row_shape": (4,), "dtype": "float32", "overwrite": True}
    with embstore.StoreWriter(place.folder / "s2", **(settings | options)) as made:
        made.write(ROWS[: options.get("rows", 8)])


def similar(method: str, key: Any, name: str, place: Place, value: Any) -> object:
    return getattr(place.vectors, method)(key, **{name: value})


def serve(place: Place, **options: Any) -> None:
    with contextlib.suppress(ImportError), embstore.serve(place.folder / "s", **options):
        pass


def wait_for_server(place: Place, seconds: Any) -> None:
    with contextlib.suppress(ImportError), embstore.serve(place.folder / "s") as server:
        server.close()
        server.wait(seconds)


def open_cached(place: Place, **options: Any) -> None:
    embstore.publish(place.folder / "s", place.url)
    embstore.open(place.url, cache_dir=place.folder / "cache", **options)


def serve_cached(place: Place, **options: Any) -> None:
    embstore.publish(place.folder / "s", place.url)
    options |= {"cache_dir": place.folder / "cache"}
    with contextlib.suppress(ImportError), embstore.serve(place.url, **options):
        pass


def with_block(what: str, place: Place, value: Any) -> None:
    # A store has no scales.
    with contextlib.suppress(embstore.FormatError, embstore.SourceError):
        match what:
            case "open":
                embstore.open(place.folder / "s", scale_block=(value, 2))
            case "export":
                embstore.export(place.folder / "s", place.folder / "t.npy", scale_block=(value, 2))
            case "serve":
                serve(place, scale_block=(value, 2))
            case "append" | "upsert":
                getattr(embstore, what)(
                    place.folder / "s", place.folder / "s", scale_block=(value, 2)
                )
            case _:
                embstore.build(place.folder / "s", place.new(), scale_block=(value, 2))


def change(name: str, parameter: str, place: Place, value: Any) -> None:
    """Change the store, without writing."""
    options = {"dry_run": True, parameter: value}
    if name == "update":
        embstore.update(place.folder / "s", [3], ROWS[:1], **options)
    else:
        getattr(embstore, name)(place.folder / "s", place.more, **options)


Call = Callable[[Place, Any], object]
COUNTS: dict[str, tuple[Call, Any, bool]] = {
    # Parameter: a call with it, a good number, and whether None is fine.
    "StoreWriter.row_shape": (lambda p, v: writer(p, row_shape=(v,)), 4, False),
    "StoreWriter.partitions": (lambda p, v: writer(p, partitions=v), 3, True),
    "StoreWriter.rows": (lambda p, v: writer(p, rows=v), 3, True),
    "StoreWriter.estimated_rows": (lambda p, v: writer(p, estimated_rows=v), 3, True),
    "StoreWriter.chunk_rows": (lambda p, v: writer(p, chunk_rows=v), 2, True),
    "StoreWriter.memory_limit": (lambda p, v: writer(p, memory_limit=v), 1 << 20, False),
    "build.partitions": (lambda p, v: embstore.build(p.text, p.new(), partitions=v), 3, True),
    "build.limit": (lambda p, v: embstore.build(p.text, p.new(), limit=v), 3, True),
    "build.dimension": (lambda p, v: embstore.build(p.text, p.new(), dimension=v), 4, True),
    "build.memory_limit": (
        lambda p, v: embstore.build(p.text, p.new(), memory_limit=v),
        1 << 20,
        False,
    ),
    **{
        f"{name}.{parameter}": (partial(change, name, parameter), good, optional)
        for name in ("append", "upsert")
        for parameter, good, optional in (
            ("limit", 3, True),
            ("dimension", 4, True),
            ("memory_limit", 1 << 20, False),
        )
    },
    "append.scale_block": (partial(with_block, "append"), 4, False),
    "upsert.scale_block": (partial(with_block, "upsert"), 4, False),
    "update.memory_limit": (partial(change, "update", "memory_limit"), 1 << 20, False),
    "open.cache_limit": (
        lambda p, v: open_cached(p, cache_limit=v),
        1 << 20,
        True,
    ),
    "open.resident_limit": (
        lambda p, v: embstore.open(p.folder / "s", resident_limit=v),
        64 << 20,
        True,
    ),
    "open.resident_limit, chunked": (
        lambda p, v: embstore.open(p.folder / "s", resident_limit=v, reader="chunked"),
        64 << 20,
        True,
    ),
    "open.row_cache": (lambda p, v: embstore.open(p.folder / "s", row_cache=v), 1 << 20, True),
    "prune.keep": (lambda p, v: embstore.prune(p.url, keep=v), 3, False),
    "open.scale_block": (partial(with_block, "open"), 4, False),
    "export.scale_block": (partial(with_block, "export"), 4, False),
    "build.scale_block": (partial(with_block, "build"), 4, False),
    "open.partitions": (lambda p, v: embstore.open(p.folder / "s", partitions=[v]), 0, False),
    "verify.partitions": (lambda p, v: embstore.verify(p.folder / "s", partitions=[v]), 0, False),
    "serve.scale_block": (partial(with_block, "serve"), 4, False),
    "serve.partitions": (lambda p, v: serve(p, partitions=[v]), 0, False),
    "serve.port": (lambda p, v: serve(p, port=v), 0, False),
    "serve.max_rows": (lambda p, v: serve(p, max_rows=v), 5, False),
    "serve.max_requests": (lambda p, v: serve(p, max_requests=v), 5, False),
    "serve.memory_limit": (lambda p, v: serve(p, memory_limit=v), 1 << 20, False),
    "serve.resident_limit": (lambda p, v: serve(p, resident_limit=v), 64 << 20, True),
    "serve.cache_limit": (lambda p, v: serve_cached(p, cache_limit=v), 1 << 20, True),
    "serve.row_cache": (lambda p, v: serve(p, row_cache=v), 1 << 20, True),
    "EmbeddingStore.partition.partition": (lambda p, v: p.store.partition(v), 0, False),
    "EmbeddingStore.most_similar.topn": (lambda p, v: p.store.most_similar(1, v), 3, False),
    "EmbeddingStore.packed_words.start": (lambda p, v: p.store.packed_words(v, 8), 3, False),
    "EmbeddingStore.packed_words.stop": (lambda p, v: p.store.packed_words(0, v), 3, False),
    "EmbeddingStore.view.start": (lambda p, v: p.store.view(v, 8), 3, False),
    "EmbeddingStore.view.stop": (lambda p, v: p.store.view(0, v), 3, False),
    "StoreView.view.start": (lambda p, v: p.store.view(0, 8).view(v, 8), 3, False),
    "StoreView.view.stop": (lambda p, v: p.store.view(0, 8).view(0, v), 3, False),
    "EmbeddingStore.scan.start": (lambda p, v: p.store.scan(lambda *_: None, v), 3, False),
    "EmbeddingStore.scan.stop": (lambda p, v: p.store.scan(lambda *_: None, 0, v), 3, True),
    "safe_embedding_lookup_sparse.default_id": (
        lambda p, v: embstore.safe_embedding_lookup_sparse(p.store, BAGS, None, default_id=v),
        3,
        True,
    ),
    "SparseIds.dense_shape": (lambda _, v: embstore.SparseIds([[0, 0]], [1], [v, 1]), 3, False),
    "SparseIds.indices": (lambda _, v: embstore.SparseIds([[v, 0]], [1], [9, 1]), 3, False),
    "RaggedIds.row_splits": (lambda _, v: embstore.RaggedIds([1, 2, 3], [0, v]), 3, False),
}
# gensim's: a negative one counts from the end, as in a slice.
SLICED: dict[str, tuple[Call, Any, bool]] = {
    f"KeyedVectors.{method}.{name}": (
        partial(similar, method, key, name),
        3,
        True,
    )
    for method, key, found in (
        ("most_similar", "w1", ("topn", "clip_start", "clip_end", "restrict_vocab")),
        ("most_similar_cosmul", "w1", ("topn", "restrict_vocab")),
        ("similar_by_key", "w1", ("topn", "restrict_vocab")),
        ("similar_by_vector", ROWS[0], ("topn", "restrict_vocab")),
    )
    for name in found
}
NORMS: dict[str, Callable[[Place, Any], object]] = {
    "EmbeddingStore.lookup.max_norm": lambda p, v: p.store.lookup([1], max_norm=v),
    "StoreView.lookup.max_norm": lambda p, v: p.store.view(0, 8).lookup([1], max_norm=v),
    "embedding_lookup.max_norm": lambda p, v: embstore.embedding_lookup(p.store, [1], max_norm=v),
    "embedding_lookup_sparse.max_norm": lambda p, v: embstore.embedding_lookup_sparse(
        p.store, BAGS, None, max_norm=v
    ),
    "safe_embedding_lookup_sparse.max_norm": lambda p, v: embstore.safe_embedding_lookup_sparse(
        p.store, BAGS, None, max_norm=v
    ),
}
FLAGS: dict[str, Callable[[Place, Any], object]] = {
    "StoreWriter.overwrite": lambda p, v: writer(p, overwrite=v),
    "build.overwrite": lambda p, v: embstore.build(p.text, p.folder / "s2", overwrite=v),
    "append.dry_run": partial(change, "append", "dry_run"),
    "update.dry_run": partial(change, "update", "dry_run"),
    "upsert.dry_run": partial(change, "upsert", "dry_run"),
    "snapshot.overwrite": lambda p, v: embstore.snapshot(
        p.folder / "s", p.folder / "s2", overwrite=v
    ),
    "export.overwrite": lambda p, v: embstore.export(p.store, p.folder / "s2.vec", overwrite=v),
    "EmbeddingStore.lookup.raw": lambda p, v: p.store.lookup([1], raw=v),
    "EmbeddingStore.submit.raw": lambda p, v: p.store.submit([1], raw=v),
    "EmbeddingStore.scan.raw": lambda p, v: p.store.scan(lambda *_: None, raw=v),
    "StoreView.lookup.raw": lambda p, v: p.store.view(0, 8).lookup([1], raw=v),
    "StoreView.submit.raw": lambda p, v: p.store.view(0, 8).submit([1], raw=v),
    "serve.preload": lambda p, v: serve(p, preload=v),
    "serve.allow_http": lambda p, v: serve(p, allow_http=v),
    "open.preload": lambda p, v: embstore.open(p.folder / "s", preload=v),
    "open.allow_http": lambda p, v: embstore.open(p.folder / "s", allow_http=v),
    "tables.allow_http": lambda p, v: embstore.tables(p.folder / "s", allow_http=v),
    "publish.allow_http": lambda p, v: embstore.publish(p.folder / "s", p.url, allow_http=v),
    "versions.allow_http": lambda p, v: embstore.versions(p.url, allow_http=v),
    "prune.allow_http": lambda p, v: embstore.prune(p.url, allow_http=v),
}
SECONDS: dict[str, Callable[[Place, Any], object]] = {
    "serve.busy_wait": lambda p, v: serve(p, busy_wait=v),
    "serve.grace": lambda p, v: serve(p, grace=v),
    "Server.wait.timeout": wait_for_server,
}
# Flags that change no more than speed or what is read.
OTHER_FLAGS = {"StoreWriter.write.copy", "EmbeddingStore.fingerprint.full"}
OTHER_FLAGS |= {"ConnectedStore.fingerprint.full", "ConnectedStore.partition.partition"}
# What functions return, not what people call.
RESULTS = (
    *(embstore.ExportReport, embstore.LookupPlan, embstore.LookupStats, embstore.Progress),
    *(embstore.RaggedRows, embstore.Residency, embstore.ListedTable, embstore.RemotePlan),
    *(embstore.PublishReport, embstore.PublishedVersion, embstore.PruneReport),
    embstore.ChangeReport,
)

NOT_COUNTS = [True, False, np.True_, np.array(True), 1.5, np.float32(2), 3.0, "x", b"3", [3], {}]
HUGE = 1 << 200


def refusal(call: Callable[[Place, Any], object], place: Place, value: Any) -> str:
    with pytest.raises((TypeError, ValueError, IndexError)) as error:
        call(place, value)
    assert not isinstance(error.value, UnicodeError)
    return str(error.value)


def is_size(name: str) -> bool:
    return "limit" in name.rpartition(".")[2] and not name.endswith(".limit")


@pytest.mark.parametrize("name", COUNTS | SLICED)
def test_counts_are_integers(place, name):
    call, good, optional = (COUNTS | SLICED)[name]
    # NumPy makes floats of a list of uint64 and int.
    kinds = [np.int64, np.int32, *([] if "Ids." in name else [np.uint64])]
    for value in (good, *(kind(good) for kind in kinds)):
        call(place, value)
    if is_size(name):
        call(place, f"{good >> 20}MiB")
    for value in [*NOT_COUNTS, *([] if optional else [None])]:
        with pytest.raises((TypeError, ValueError)) as error:
            call(place, value)
        parameter = name.rpartition(".")[2].partition(",")[0]
        assert parameter in str(error.value) or "ids" in str(error.value), value
    if optional:
        call(place, None)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_not_negative_or_huge(place, name):
    call, _, _ = COUNTS[name]
    for value in (-1, np.int64(-1), -HUGE):
        assert refusal(call, place, value)
    if not is_size(name) and not name.endswith(".limit"):
        assert refusal(call, place, HUGE)


@pytest.mark.parametrize("name", ["partitions", "chunk_rows"])
def test_counts_of_a_store_are_not_zero(place, name):
    message = refusal(lambda p, v: writer(p, **{name: v}), place, 0)
    assert f"{name} must be" in message


@pytest.mark.parametrize("name", SLICED)
def test_counts_of_slices(place, name):
    call = SLICED[name][0]
    _, method, parameter = name.split(".")
    asked = set() if method == "similar_by_vector" else {"w1"}
    for value in (-1, 0, 100, HUGE):
        answer: Any = call(place, value)
        found = {word for word, _ in answer}
        if parameter == "topn":
            assert len(found) == min(max(value, 0), len(WORDS) - len(asked))
        else:
            # Only the start may be 0; else 0 is no limit.
            window = slice(value, None) if parameter == "clip_start" else slice(value or None)
            assert found == set(WORDS[window]) - asked


@pytest.mark.parametrize("name", NORMS)
def test_norms_are_numbers_above_zero(place, name):
    call = NORMS[name]
    expected = call(place, 1.5)
    for value in (np.float32(1.5), np.float64(1.5)):
        np.testing.assert_array_equal(call(place, value), expected)
    good: list[Any] = [None, 3, np.int64(3), HUGE, 1 << 2000, float("inf")]
    for number in good:
        call(place, number)
    wrong: list[Any] = [True, np.True_, "3", b"3", [3], np.array(["3"]), 1j]
    for number in wrong:
        assert "max_norm must be a number, not" in refusal(call, place, number)
    for number in (0, -1, -1.5, float("nan"), -HUGE, float("-inf")):
        assert "max_norm must be above 0, not" in refusal(call, place, number)


def test_timeouts_are_seconds(place):
    coming = place.store.prefetch([1])
    for seconds in (None, 0, 1.5, np.float32(2), np.int64(3), HUGE, float("inf")):
        assert coming.wait(seconds) in (True, False)
    for value in (True, "3", b"3", [3], 1j):
        with pytest.raises(TypeError, match="timeout must be a number, not"):
            coming.wait(value)
    for number in (-1, -0.5, float("nan")):
        with pytest.raises(ValueError, match="timeout must be 0 or more, not"):
            coming.wait(number)


@pytest.mark.parametrize("name", FLAGS)
def test_flags_are_booleans(place, name):
    call = FLAGS[name]
    flags: list[Any] = [True, np.True_, 1, np.int64(1)]
    for value in flags:
        call(place, value)
    before = names(place.folder)
    wrong = ["no", "False", "", b"", None, 2, -1, 1.0, [], [0], np.array([True]), object()]
    for value in wrong:
        message = refusal(call, place, value)
        assert message.startswith(f"{name.rpartition('.')[2]} must be True or False, not ")
    assert names(place.folder) == before


@pytest.mark.parametrize("options", [{"chunk_rows": True}, {"rows": True}, {"partitions": True}])
def test_a_wrong_number_does_not_touch_the_old_store(place, options):
    target = place.new()
    embstore.build(ROWS, target).close()
    before = names(place.folder)
    with pytest.raises(TypeError, match="must be an integer, not True"):
        embstore.StoreWriter(target, row_shape=(4,), dtype="float32", overwrite=True, **options)
    assert names(place.folder) == before
    assert np.array_equal(embstore.open(target)[:], ROWS)


@pytest.mark.parametrize("name", SECONDS)
def test_seconds_are_numbers_that_are_not_negative(place, name):
    call, parameter = SECONDS[name], name.rpartition(".")[2]
    for good in (0, 0.5, np.float32(1), np.int64(3), HUGE, float("inf")):
        call(place, good)
    wrong: list[Any] = [True, "3", b"3", [3], 1j]
    for value in wrong:
        assert f"{parameter} must be a number, not" in refusal(call, place, value)
    for value in (-1, -0.5, float("nan"), -HUGE):
        assert f"{parameter} must be 0 or more, not" in refusal(call, place, value)


def test_time_to_send_is_above_zero(place):
    serve(place, send_timeout=np.float32(1))
    for value in (0, -1, float("nan")):
        message = refusal(lambda p, v: serve(p, send_timeout=v), place, value)
        assert "send_timeout must be above 0, not" in message


def test_ids_out_of_range_are_index_errors(place):
    for call in (lambda v: place.store.scan(lambda *_: None, v), place.store.lookup):
        with pytest.raises(IdRangeError):
            call(9)


@pytest.mark.parametrize("value", [True, 1, np.True_])
def test_chunked_reader_refuses_to_preload(place, value):
    with pytest.raises(ValueError, match='reader="chunked" maps nothing; leave one of the two'):
        embstore.open(place.folder / "s", reader="chunked", preload=value)
    embstore.open(place.folder / "s", reader="chunked", preload=False)


@pytest.mark.parametrize("reader", ["auto", "mapped", "chunked"])
@pytest.mark.parametrize(
    "options",
    [
        *({"resident_limit": "1MiB"}, {"resident_limit": True}, {"resident_limit": "much"}),
        *({"preload": "no"}, {"preload": None}, {"verify": "all"}, {"verify": True}),
    ],
    ids=str,
)
def test_options_are_checked_for_every_reader(place, reader, options):
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(options))} must be"):
        embstore.open(place.folder / "s", reader=reader, **options)
    np.save(place.folder / "rows.npy", ROWS)
    with pytest.raises((TypeError, ValueError), match=f"^{next(iter(options))} must be"):
        embstore.open(place.folder / "rows.npy", reader=reader, **options)


def parameters() -> Iterator[tuple[str, str]]:
    """Yield the name and annotation of every parameter of public functions and methods."""
    public = [getattr(embstore, name) for name in embstore.__all__ if not name.startswith("_")]
    for one in [*public, KeyedVectors]:
        if one in RESULTS or (isinstance(one, type) and issubclass(one, BaseException)):
            continue
        functions = {one.__name__: one} if callable(one) else {}
        if isinstance(one, type):
            functions = {one.__name__: vars(one)["__init__"]}
            functions |= {
                f"{one.__name__}.{name}": method
                for name, method in inspect.getmembers(one, inspect.isfunction)
                if not name.startswith("_")
                # The methods that a store at servers has from others are tested there.
                and (one is not embstore.ConnectedStore or name in vars(one))
            }
            if one is embstore.ConnectedStore:
                del functions[one.__name__]
            made = (embstore.EmbeddingStore, embstore.StoreView, embstore.Server, KeyedVectors)
            if one in made:
                del functions[one.__name__]
        for name, function in functions.items():
            for parameter in inspect.signature(function).parameters.values():
                yield f"{name}.{parameter.name}", str(parameter.annotation)


def test_table_is_complete():
    covered = {name.partition(",")[0] for name in (*COUNTS, *SLICED, *NORMS, *FLAGS, *OTHER_FLAGS)}
    covered.update(SECONDS, ["serve.send_timeout"])
    # Tested with what they belong to.
    covered |= {"Prefetch.wait.timeout", "connect.timeout", "connect.servers"}
    found = {
        name for name, annotation in parameters() if re.search(r"\b(int|float|bool)\b", annotation)
    }
    # gensim's methods under other names, and flags that are its own.
    found -= {name for name in found if name.startswith("KeyedVectors.") and "_by_word" in name}
    own = (
        *("get_", "rank_by_centrality.", "evaluate_", "relative_cosine_similarity.", "fill_norms."),
        *("save_word2vec_format.", "load_word2vec_format.", "vectors_for_all.", "wmdistance."),
        *("init_sims.", "word_vec."),
    )
    prefixes = tuple(f"KeyedVectors.{name}" for name in own)
    left = {name for name in found - covered if not name.startswith(prefixes)}
    assert not left
