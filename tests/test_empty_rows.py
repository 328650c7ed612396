"""Tables whose rows have no numbers, only words and attributes: as arrays of shape (n, 0)."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal

import embstore
from embstore import RaggedIds
from embstore.formats.own.manifest import read_manifest
from tests.helpers.programs import run_command

WORDS = ["a", "b", "c", "d", "e", "f", "g"]
COUNTS = np.arange(7) * 10
OPTIONS: list[dict[str, Any]] = [
    *({}, {"preload": True}, {"reader": "mapped"}, {"reader": "chunked"}, {"verify": "full"}),
    *({"resident_limit": "64MiB"}, {"row_cache": "1MiB"}),
]
IDS: list[Any] = [3, [], [1, 6, 1], [[0, 1], [5, 2]], np.arange(7), np.zeros((2, 0), np.int64)]
shapes = pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3), (0, 0)])
partitioned = pytest.mark.parametrize(
    ("partitions", "strategy"), [(1, "mod"), (3, "mod"), (4, "mod"), (3, "div"), (9, "mod")]
)


def build(path, shape=(0,), **options):
    table = np.empty((7, *shape), np.float32)
    columns: dict[str, Any] = {"words": WORDS, "attributes": {"count": COUNTS}}
    return embstore.build(table, path, **columns, **options)


@shapes
@partitioned
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_lookups(target, shape, partitions, strategy, options):
    build(target, shape, partitions=partitions, strategy=strategy).close()
    model = np.empty((7, *shape), np.float32)
    with embstore.open(target, **options) as store:
        assert store.shape == model.shape
        for ids in IDS:
            expected = model[np.asarray(ids, np.int64)]
            assert_array_equal(store.lookup(ids), expected)
            assert_array_equal(store.lookup(ids, max_norm=1.0), expected)
            assert_array_equal(store.lookup(ids, out=np.empty_like(expected)), expected)
            assert store.lookup(ids, dtype="float16").dtype == np.float16
            assert store.lookup(ids, raw=True).shape == (*np.shape(ids), 0)
            assert_array_equal(store.submit(ids).result(), expected)
            assert store.prefetch(ids).wait()
        assert store["c"].shape == shape
        assert_array_equal(store[["g", "a"]], model[[6, 0]])
        assert_array_equal(store[1:4], model[1:4])
        assert_array_equal(np.asarray(store), model)
        assert len(list(store)) == 7
        assert_array_equal(store.ids(WORDS), np.arange(7))
        assert_array_equal(store.attributes["count"][[6, 1]], COUNTS[[6, 1]])
        (many,) = embstore.lookup_many([(store, [2, 3])])
        assert_array_equal(many, model[:2])
        assert_array_equal(store.view(1, 4).lookup([0, 2], outside="zeros"), model[:2])
        for ids in (7, -1, [0, 7]):
            with pytest.raises(embstore.IdRangeError):
                store.lookup(ids)


@shapes
@partitioned
def test_scans_see_every_id_once(target, shape, partitions, strategy):
    store = build(target, shape, partitions=partitions, strategy=strategy)
    for start, stop in ((0, 7), (2, 5), (3, 3)):
        seen: list[int] = []

        def visit(ids, rows, seen=seen):
            assert rows.shape == (len(ids), *shape)
            seen += ids

        store.scan(visit, start, stop)
        assert sorted(seen) == list(range(start, stop))


def test_what_is_read_is_nothing(target):
    store = build(target, partitions=2)
    assert store.explain([1, 1, 2]).distinct_row_count == 2
    assert store.explain([1, 2]).bytes_read == store.residency().table_bytes == 0
    store.lookup([1, 2, 3])
    found = store.stats()
    assert (found.rows, found.lookups, found.bytes_read) == (3, 1, 0)
    assert store.warm([1, 2]) == store.record_bytes == store.nbytes == 0


@shapes
def test_any_zarr_reader_opens_a_partition(target, shape):
    build(target, shape, partitions=2).close()
    tensorstore = pytest.importorskip("tensorstore")
    for number, rows in ((0, 4), (1, 3)):
        path = target / f"partitions/{number}"
        array: Any = zarr.open_array(path, mode="r")
        assert array[:].shape == (rows, *shape)
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
        assert tensorstore.open(spec).result().read().result().shape == (rows, *shape)
        assert 0 not in array.chunks  # No other reader takes a chunk of length 0.
        assert not list(path.glob("c/*"))


def test_a_reader_must_know_such_rows(target):
    build(target).close()
    document = json.loads((target / "zarr.json").read_text())
    assert document["attributes"]["embstore"]["requires"] == ["empty_rows"]


@shapes
def test_fingerprints_and_checks(target, tmp_path, shape):
    store = build(target, shape, partitions=3)
    assert embstore.verify(target).ok
    assert store.fingerprint() == store.fingerprint(full=True)
    again = embstore.build(store, tmp_path / "again", partitions=2, strategy="div")
    assert again.fingerprint() == store.fingerprint()
    others = [
        embstore.build(np.empty((rows, *shape), dtype), tmp_path / f"{rows}{dtype}", words=words)
        for rows, dtype, words in ((7, "f4", None), (6, "f4", WORDS[:6]), (7, "f8", WORDS))
    ]
    assert len({one.fingerprint() for one in (store, *others)}) == 4
    (target / "vocabulary/bytes/c/0").write_bytes(b"x")
    assert not embstore.verify(target).ok


def test_writer(target):
    with embstore.StoreWriter(
        target, row_shape=(0,), dtype="float32", partitions=2, chunk_rows=4
    ) as writer:
        writer.write(np.empty((5, 0)), words=WORDS[:5])
        writer.write(iter([np.empty(0)] * 2), words=WORDS[5:])
    with embstore.open(target) as store:
        assert (store.shape, store.words(range(7))) == ((7, 0), WORDS)
        assert store.chunk_rows == read_manifest(target).chunk_rows == 4
    none = embstore.build(np.empty((0, 0), np.float32), target, overwrite=True)
    assert none.to_numpy().shape == (0, 0)
    assert embstore.verify(target).ok


@shapes
def test_copies_open_the_store_again(target, shape):
    store = build(target, shape, partitions=2)
    for twin in (pickle.loads(pickle.dumps(store)), copy.copy(store), store.reload()):
        assert twin["b"].shape == shape
    part = embstore.open(target, partitions=[1])
    assert part.lookup([1, 3]).shape == (2, *shape)
    with pytest.raises(embstore.IdRangeError):
        part.lookup(0)


@shapes
def test_published_stores(target, tmp_path, shape):
    pytest.importorskip("obstore")
    store = build(target, shape, partitions=2)
    url = (tmp_path / "published").as_uri()
    embstore.publish(target, url)
    places: list[dict[str, Any]] = [{}, {"cache_dir": tmp_path / "cache"}]
    for options in places:
        with embstore.open(url, **options) as remote:
            assert remote[["a", "g"]].shape == (2, *shape)
            assert remote.fingerprint() == store.fingerprint()


@shapes
@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_files_there_and_back(target, tmp_path, shape, suffix):
    store = build(target, shape)
    path = tmp_path / f"x.{suffix}"
    embstore.export(store, path)
    with embstore.open(path) as opened:
        assert (opened.shape, opened.dtype) == (store.shape, store.dtype)
        assert opened.lookup([1, 2]).shape == (2, *shape)
        assert opened.fingerprint().startswith("f")
    again = embstore.build(path, tmp_path / "again", words=WORDS)
    assert again.to_numpy().shape == store.shape


@shapes
@pytest.mark.parametrize("suffix", ["vec", "bin", "parquet"])
def test_files_that_cannot_say_so(target, tmp_path, shape, suffix):
    store = build(target, shape)
    with pytest.raises(embstore.ExportError, match=r"have no numbers|is a format of vectors"):
        embstore.export(store, tmp_path / f"x.{suffix}")


def test_what_needs_numbers_is_refused(target, tmp_path):
    store = build(target)
    table = np.empty((7, 0), np.float32)
    wanted: dict[str, dict[str, Any]]
    wanted = {"encode": {"encoding": "int8"}, "compress": {"compression": "zstd"}}
    for what, options in wanted.items():
        with pytest.raises(ValueError, match=rf"rows of shape \(0,\) have no numbers to {what}"):
            embstore.build(table, tmp_path / "x", **options)
    with pytest.raises(ValueError, match=r"rows of shape \(0,\) have no numbers to serve"):
        embstore.serve(target)
    for change in (
        lambda: embstore.append(target, table),
        lambda: embstore.update(target, table[:1], [0]),
    ):
        with pytest.raises(embstore.FormatError, match="cannot be changed; build the store again"):
            change()
    assert store.is_current()
    embstore.snapshot(target, tmp_path / "snap")
    sources: list[Any] = [[[], []], {"a": []}]
    for source in sources:
        with pytest.raises(embstore.SourceError, match="a list has no dtype; give an array"):
            embstore.build(source, tmp_path / "x")


@shapes
def test_the_functional_family(target, shape):
    table = np.empty((7, *shape), np.float32)
    every: list[Any] = [build(target, shape, partitions=2), table, [table[::2], table[1::2]]]
    for params in every:
        for max_norm in (None, 1.0):
            rows = embstore.embedding_lookup(params, [[1, 2, 1]], max_norm=max_norm)
            assert rows.shape == (1, 3, *shape)
            bags, weights = RaggedIds([1, 2, 6], [0, 2, 2, 3]), RaggedIds([0.5, 1, 2], [0, 2, 2, 3])
            assert len(embstore.embedding_lookup(params, bags)[0]) == 2
            for combiner in ("sum", "mean", "sqrtn"):
                options: dict[str, Any] = {"combiner": combiner, "max_norm": max_norm}
                rows = embstore.embedding_lookup_sparse(params, bags, weights, **options)
                assert rows.shape == (3, *shape)
                bags = RaggedIds([1, -2, 6], [0, 2, 2, 3])
                for default_id in (None, 3):
                    options["default_id"] = default_id
                    rows = embstore.safe_embedding_lookup_sparse(
                        params, bags, weights, partition_strategy="mod", **options
                    )
                    assert rows.shape == (3, *shape)
                bags = RaggedIds([1, 2, 6], [0, 2, 2, 3])


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_searches_find_words_without_a_score(target, metric):
    found = build(target).most_similar("b", topn=3, metric=metric)
    assert len(found) == 3
    assert all(np.isnan(score) if metric == "cosine" else score == 0 for _, score in found)


def test_commands(target, tmp_path):
    build(target, partitions=2).close()
    assert "bytes of all rows            0" in run_command("info", target).stdout
    assert run_command("verify", target).stdout.startswith("ok")
    found = json.loads(run_command("get", target, "a", "c", "--json").stdout)
    assert [one["row"] for one in found] == [[], []]
    run_command("explain", target, "a")
    run_command("export", target, tmp_path / "x.npy")
    run_command("build", tmp_path / "x.npy", tmp_path / "x.embstore")
