"""`EmbeddingStore.most_similar` against scores of the whole table in RAM, in float64."""

from __future__ import annotations

import json
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.reading import scanning
from embstore.search import neighbours
from embstore.search.metrics import METRICS, error_of
from tests.helpers.programs import run_command as run

ROWS, DIM = 3000, 17
METRIC_NAMES = sorted(METRICS)
DTYPES = ["float32", "float64", "bfloat16", "uint8"]


def table_of(dtype: str, rows: int = ROWS, shape: tuple[int, ...] = (DIM,)) -> Any:
    table = np.random.default_rng(1).standard_normal((rows, *shape)) * 10
    if dtype == "uint8":
        table = np.abs(table)
    table[5] = 0  # A row of zeros has no cosine.
    table[7] = table[9] = table[rows // 2]  # Equal scores.
    return table.astype("float32" if dtype == "bfloat16" else dtype)


def scores_of(table: Any, vector: Any, metric: str) -> Any:
    one = np.ravel(vector).astype(float)
    flat = table.reshape(len(table), one.size).astype(float)
    if metric == "euclidean":
        return np.linalg.norm(flat - one, axis=1)
    dots = flat @ one
    if metric == "dot":
        return dots
    with np.errstate(all="ignore"):
        return dots / np.linalg.norm(flat, axis=1) / (np.linalg.norm(one) or 1)


def check(found: Any, table: Any, vector: Any, metric: str, ids: Any, topn: int) -> None:
    """Compare a result with what a sort of all scores gives."""
    numbers = np.array([number for number, _ in found], np.int64)
    got = np.array([score for _, score in found])
    want = scores_of(table[ids], vector, metric)
    keys = want if metric == "euclidean" else -want
    order = np.lexsort((ids, keys))[:topn]
    assert len(found) == min(topn, len(ids))
    tolerance = 1e-5 * max(np.nanmax(np.abs(want), initial=1), 1)
    assert np.allclose(got, want[order], atol=tolerance, equal_nan=True)
    assert len(set(numbers.tolist())) == len(numbers)
    assert np.isin(numbers, ids).all()
    own = scores_of(table[numbers], vector, metric)
    assert np.allclose(got, own, atol=tolerance, equal_nan=True)
    equal = np.flatnonzero(np.diff(got) == 0)
    assert (numbers[equal] < numbers[equal + 1]).all()


@pytest.fixture(scope="module", params=DTYPES)
def tables(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("near") / "t.embstore"
    table = table_of(request.param)
    with embstore.build(table, path, dtype=request.param, partitions=3) as store:
        yield store, store.to_numpy()


@pytest.mark.parametrize("metric", METRIC_NAMES)
@pytest.mark.parametrize(("count", "topn"), [(1, 1), (2, 5000), (3, 10), (5, 700), (40, 10)])
def test_batches_of_ids(tables, metric, count, topn):
    store, table = tables
    asked = np.random.default_rng(count).integers(0, ROWS, count)
    asked[0] = 9
    found = store.most_similar(asked, topn, metric)
    assert len(found) == count
    everything = np.arange(ROWS)
    for number, near in zip(asked.tolist(), found, strict=True):
        check(near, table, table[number], metric, np.delete(everything, number), topn)
    # What is asked beside it does not change a result.
    assert str(found[0]) == str(store.most_similar(9, topn, metric))


@pytest.mark.parametrize("metric", METRIC_NAMES)
@pytest.mark.parametrize(
    ("restrict", "ids"),
    [
        (20, np.arange(20)),
        (10**6, np.arange(ROWS)),
        (slice(100, -100), np.arange(100, ROWS - 100)),
        (range(7, 2000, 3), np.arange(7, 2000, 3)),
        (range(5, 5), np.arange(0)),
        ([9, 7, 7, 2999], np.array([7, 9, 2999])),
        (np.array([4], np.uint8), np.array([4])),
        ([], np.arange(0)),
    ],
)
def test_parts_of_the_table(tables, metric, restrict, ids):
    store, table = tables
    for asked in (9, [9, 12, 5, 100]):
        found = store.most_similar(asked, 6, metric, restrict=restrict, exclude=[8, 12, 7])
        for number, near in zip(
            np.ravel(asked).tolist(), [found] if asked == 9 else found, strict=True
        ):
            check(near, table, table[number], metric, np.setdiff1d(ids, [7, 8, 12, number]), 6)


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_vectors(tables, metric):
    store, table = tables
    random = np.random.default_rng(4)
    everything = np.arange(ROWS)
    one, three = random.standard_normal(DIM), random.standard_normal((3, DIM))
    check(store.most_similar(one, 4, metric), table, one, metric, everything, 4)
    check(store.most_similar(one.tolist(), 4, metric), table, one, metric, everything, 4)
    for given in (three, three.tolist(), three.astype(np.float32)):
        for vector, near in zip(three, store.most_similar(given, 4, metric), strict=True):
            check(near, table, vector, metric, everything, 4)
    assert store.most_similar(np.empty((0, DIM)), 4, metric) == []
    assert store.most_similar([], 4, metric) == []
    assert store.most_similar(3, 0, metric) == []
    assert store.most_similar([3, 4], 0, metric) == [[], []]


@pytest.mark.parametrize("metric", METRIC_NAMES)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (4, 1, 2)])
def test_rows_of_any_rank(tmp_path, metric, shape):
    table = table_of("float32", 400, shape)
    store = embstore.build(table, tmp_path / "t.embstore", partitions=2)
    for asked in ([3, 8], [3, 8, 11, 12]):
        for number, near in zip(asked, store.most_similar(asked, 5, metric), strict=True):
            check(near, table, table[number], metric, np.delete(np.arange(400), number), 5)
    vector = np.asarray(table[3], np.float64)
    check(store.most_similar(vector, 5, metric), table, vector, metric, np.arange(400), 5)


def test_the_length_of_a_vector_does_not_change_its_cosines(tables):
    store, _ = tables
    vector = np.random.default_rng(5).standard_normal(DIM)
    want = store.most_similar(vector, 3)
    for factor in (1e-300, 1e-40, 1e40, 1e300):
        for query in (vector * factor, np.stack([vector * factor] * 5)):
            found = store.most_similar(query, 3)
            for near in [found] if query.ndim == 1 else found:
                assert [name for name, _ in near] == [name for name, _ in want]
                assert np.allclose([score for _, score in near], [score for _, score in want])


def test_a_vector_beyond_the_range_of_the_rows(tables):
    store, _ = tables
    for metric in ("dot", "euclidean"):
        query = np.full((5, DIM), 1e300)
        if store.dtype == np.float64:
            assert len(store.most_similar(query, 3, metric)) == 5
            continue
        with pytest.raises(ValueError, match=r"up to 1e\+300.*float32, whose largest is 3.4e\+38"):
            store.most_similar(query, 3, metric)


def test_tensors_are_vectors_and_ids(tables):
    torch = pytest.importorskip("torch")
    store, table = tables
    row = torch.tensor(np.asarray(table[3], np.float32), requires_grad=True)
    assert store.most_similar(row, 1) == store.most_similar(row.detach().numpy(), 1)
    assert store.most_similar(row.to(torch.bfloat16), 1)[0][0] == 3
    assert store.most_similar(torch.tensor([3, 4]), 2) == store.most_similar([3, 4], 2)


@pytest.mark.parametrize("factor", [1e-30, 1e25, 1e36])
@pytest.mark.parametrize("count", [1, 5])
def test_extreme_rows(tmp_path, factor, count):
    """Their squares are beyond float32; cosines and distances are not."""
    table = table_of("float32", 500)
    table[::3] *= np.float32(factor)
    store = embstore.build(table, tmp_path / "t.embstore")
    asked = np.arange(count) * 3 + 12
    for metric in ("cosine", "euclidean"):
        for number, near in zip(asked.tolist(), store.most_similar(asked, 5, metric), strict=True):
            check(near, table, table[number], metric, np.delete(np.arange(500), number), 5)


def test_a_wide_table_is_screened_exactly(tmp_path):
    """Rows that differ in their last bits only: the matrix product cannot tell them apart."""
    base = np.random.default_rng(2).standard_normal(2048).astype(np.float32)
    table = np.tile(base, (600, 1))
    for number in range(600):
        table[number, number] *= np.float32(1 + 1e-6 * (number % 7))
    store = embstore.build(table, tmp_path / "t.embstore")
    queries = np.random.default_rng(3).standard_normal((6, 2048)).astype(np.float32)
    for metric in METRIC_NAMES:
        together = store.most_similar(queries, 20, metric)
        assert [store.most_similar(one, 20, metric) for one in queries] == together


def test_few_rows_are_scored_twice(tmp_path, monkeypatch):
    table = np.random.default_rng(0).standard_normal((40_000, 32)).astype(np.float32)
    store = embstore.build(table, tmp_path / "t.embstore")
    scored: list[int] = []
    metric = METRICS["dot"]
    monkeypatch.setattr(neighbours, "SCREEN_NUMBERS", 1 << 16)

    def counted(rows: Any, *given: Any, **options: Any) -> Any:
        scored.append(len(rows))
        return type(metric).score(metric, rows, *given, **options)

    monkeypatch.setitem(METRICS, "dot", _With(metric, counted))
    store.most_similar(np.arange(50), 10, "dot")
    assert sum(scored) < 50 * 40_000 / 20


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_a_search_is_the_same_once_norms_are_known(tmp_path, monkeypatch, count, metric):
    """Then the threads of products share each block, and one thread scans."""
    monkeypatch.setattr(neighbours, "have_threads", lambda: True)
    monkeypatch.setattr(scanning, "SCANNED_ALONE_BYTES", 400 * DIM * 4)
    monkeypatch.setattr(scanning, "SCANNED_BYTES", 100 * DIM * 4)
    table = table_of("float32")
    table[100] *= np.float32(1e25)
    blocks: list[str] = []
    with embstore.build(table, tmp_path / "t.embstore") as store:
        asked = table[9 : 9 + count]
        for topn in (1, 10, ROWS):
            store._neighbours = None

            def search(topn: int = topn) -> Any:
                return store.most_similar(
                    asked,
                    topn,
                    metric,
                    exclude=[1000, 1001],
                    progress=lambda _: blocks.append(threading.current_thread().name),
                )

            first = search()
            count_first = len(blocks)
            blocks.clear()
            assert str(search()) == str(first)
            assert set(blocks) == {threading.current_thread().name}
            assert 1 < len(blocks) < count_first / 2
            blocks.clear()


@pytest.mark.parametrize("count", [1, 3])
def test_rows_whose_products_overflow_hide_no_others(tmp_path, monkeypatch, count):
    """They are nearly orthogonal to the vector, or their norm is infinite."""
    monkeypatch.setattr(neighbours, "have_threads", lambda: True)
    random = np.random.default_rng(1)
    for turn in range(20):
        table = random.standard_normal((50, 301)).astype(np.float32)
        vector = random.standard_normal(301)
        across = random.standard_normal(301)
        table[3] = 1e25 * (across - across @ vector / (vector @ vector) * vector)
        table[4] = -3e38
        asked = np.tile(vector.astype(np.float32), (count, 1))
        with embstore.build(table, tmp_path / f"{turn}.embstore") as store:
            for metric in METRIC_NAMES:
                store._neighbours = None
                first = store.most_similar(asked[0], 1, metric)
                assert str(store.most_similar(asked, 1, metric)) == str([first] * count)


def test_equal_rows_take_no_memory_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "have_threads", lambda: True)
    table = np.ones((200_000, 32), np.float32)
    with embstore.build(table, tmp_path / "t.embstore") as store:
        store.most_similar(table[0])
        tracemalloc.start()
        store.most_similar(table[0])
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < 1 << 21  # A chunk.


class _With:
    """A metric with another way to score."""

    def __init__(self, metric: Any, score: Any) -> None:
        self._metric, self.score = metric, score

    def __getattr__(self, name: str) -> Any:
        return getattr(self._metric, name)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("near") / "w.embstore"
    table = table_of("float32", 50)
    names = [f"word {number}" for number in range(50)]
    with embstore.StoreWriter(path, row_shape=(DIM,), dtype="float32") as writer:
        writer.write(table, names)
    with embstore.open(path) as store:
        yield store


def test_words(words):
    by_id = words.most_similar(3, 4)
    assert words.most_similar("word 3", 4) == by_id
    assert [type(name) for name, _ in by_id] == [str] * 4
    assert words.most_similar(["word 3", "word 8"], 4) == words.most_similar([3, 8], 4)
    assert words.most_similar(np.array(["word 3"]), 4) == [by_id]
    assert words.most_similar(["word 3", 8], 4) == words.most_similar([3, 8], 4)
    first = by_id[0][0]
    for exclude in (first, [first], {first}, words.ids(first), [int(words.ids(first)), "word 3"]):
        assert words.most_similar("word 3", 3, exclude=exclude) == by_id[1:]
    assert words.most_similar("word 3", 9, restrict=["word 8", "word 3", "word 4"]) == (
        words.most_similar(3, 9, restrict=[3, 4, 8])
    )


def test_progress(tables):
    store, _ = tables
    seen: list[embstore.Progress] = []
    store.most_similar([3, 4], progress=seen.append)
    assert (seen[-1].done_bytes, seen[-1].rows) == (store.nbytes, ROWS)
    assert all(one.total_bytes == store.nbytes for one in seen)
    store.most_similar(3, restrict=[1, 5, 9], progress=seen.append)
    assert seen[-1].rows == 3


@pytest.mark.parametrize(
    ("query", "options", "error", "problem"),
    [
        ("absent", {}, KeyError, "absent"),
        (["word 1", "absent"], {}, KeyError, "absent"),
        (50, {}, IndexError, "50"),
        (-1, {}, IndexError, "-1"),
        ([1, 50], {}, IndexError, "50"),
        ([[1, 2], [3, 4]], {}, ValueError, r"query has shape \(2, 2\)"),
        (True, {}, TypeError, "bool"),
        (None, {}, TypeError, "query must be ids or words, not None"),
        (b"word 1", {}, TypeError, "bytes"),
        (1.5, {}, ValueError, r"query has numbers of shape \(\)"),
        (np.zeros(DIM + 1), {}, ValueError, r"shape \(18,\)"),
        (np.zeros((2, 3, DIM)), {}, ValueError, r"shape \(2, 3, 17\)"),
        (np.full(DIM, np.nan), {}, ValueError, "not finite"),
        (np.zeros(DIM, complex), {}, TypeError, "not complex"),
        (np.ma.masked_equal(np.zeros(DIM), 0), {}, TypeError, "some are masked"),
        (["word 1", np.zeros(DIM)], {}, TypeError, r"has words and also array.*as in store\[words"),
        ([np.zeros(DIM), "word 1"], {}, TypeError, "has words and also array"),
        (["word 1", ["word 2"]], {}, TypeError, "has words and also"),
        (["word 1", 1.5], {}, TypeError, "has words and also 1.5"),
        (["word 1", True], {}, TypeError, "bool"),
        ([3, np.zeros(DIM)], {}, ValueError, r"items of different shapes.*as in store\[words"),
        ([np.zeros(DIM), 3], {}, ValueError, "items of different shapes"),
        ([np.zeros(DIM), np.zeros(3)], {}, ValueError, "items of different shapes"),
        ([[1], [2, 3]], {}, ValueError, "items of different shapes"),
        (1, {"topn": -1}, ValueError, "topn"),
        (1, {"topn": 1.0}, TypeError, "topn"),
        (1, {"topn": None}, TypeError, "topn"),
        (1, {"metric": "l2"}, ValueError, "metric"),
        (1, {"restrict": -1}, ValueError, "restrict"),
        (1, {"restrict": [99]}, IndexError, "99"),
        (1, {"restrict": range(-3, 3)}, IndexError, "-3"),
        (1, {"restrict": range(51)}, IndexError, "50"),
        (1, {"restrict": range(10**15)}, IndexError, "999999999999999"),
        (1, {"restrict": range(1, 2**70, 3)}, IndexError, "out of range"),
        (1, {"exclude": range(10**15)}, IndexError, "999999999999999"),
        (1, {"exclude": range(-2, 3)}, IndexError, "-2"),
        (1, {"exclude": "absent"}, KeyError, "absent"),
        (1, {"exclude": [-1]}, IndexError, "-1"),
        (1, {"exclude": None}, TypeError, "exclude must be ids or words"),
        (1, {"exclude": [0.5]}, TypeError, "0.5|float"),
        (1, {"exclude": ["word 1", np.zeros(DIM)]}, TypeError, "exclude has words and also"),
        (1, {"restrict": ["word 1", np.zeros(DIM)]}, TypeError, "restrict has words and also"),
    ],
)
def test_wrong_arguments(words, query, options, error, problem):
    with pytest.raises(error, match=problem):
        words.most_similar(query, **options)


def test_missing_words_are_named_without_a_way_to_get_their_rows(words):
    for call in (words.most_similar, lambda word: words.most_similar(3, exclude=word)):
        with pytest.raises(embstore.MissingWordError) as error:
            call("Word 3")
        assert str(error.value) == ("the word 'Word 3' is not in the store; did you mean 'word 3'?")
        assert error.value.words == ("Word 3",)
    refused = run("similar", words.location, "Word 3", status=1)
    assert refused.stderr == (
        "embstore: error: the word 'Word 3' is not in the store; did you mean 'word 3'?\n"
    )


def test_a_closed_store(words):
    other = embstore.open(words.location)
    other.close()
    with pytest.raises(embstore.errors.StoreClosedError):
        other.most_similar(3)


def test_encoded_rows(tmp_path):
    table = table_of("float32", 900)
    store = embstore.build(table, tmp_path / "t.embstore", encoding="int8", partitions=2)
    decoded = store.to_numpy()
    for metric in METRIC_NAMES:
        for asked in ([4, 6], [4, 6, 8, 10]):
            for number, near in zip(asked, store.most_similar(asked, 5, metric), strict=True):
                check(near, decoded, decoded[number], metric, np.delete(np.arange(900), number), 5)


def test_the_bound_of_the_screen_holds():
    random = np.random.default_rng(0)
    for dimension in (1, 8, 300, 5000):
        rows = random.standard_normal((400, dimension)).astype(np.float32)
        vectors = random.standard_normal((9, dimension)).astype(np.float32)
        exact = rows.astype(np.float64) @ vectors.T.astype(np.float64)
        scale = np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
        bound = error_of(dimension, np.dtype(np.float32)) / 2
        assert (np.abs(rows @ vectors.T - exact) <= bound * scale).all()
        one = np.stack([np.einsum("ij,j->i", rows, vector) for vector in vectors], axis=1)
        assert (np.abs(one - exact) <= bound * scale).all()


def test_the_command(words):
    done = run("similar", words.location, "word 3", "--topn", 2)
    want = words.most_similar("word 3", 2)
    assert done.stdout == "".join(f"{name:<7}  {score:.4f}\n" for name, score in want)
    done = run("similar", words.location, "word 3", "word 4", "--metric", "euclidean", "--json")
    found = json.loads(done.stdout)
    assert [one["query"] for one in found] == ["word 3", "word 4"]
    assert found[1]["similar"] == [list(one) for one in words.most_similar(4, 10, "euclidean")]
    done = run(
        "similar", words.location, "--ids", "3,4", "--restrict", "0:9", "--exclude", "word 8"
    )
    assert "word 3:\n" in done.stdout
    assert "word 8 " not in done.stdout
    assert "either words or --ids" in run("similar", words.location, status=2).stderr
    refused = run("similar", words.location, "absent", status=1)
    assert refused.stderr.startswith("embstore: error: ")
