"""Stores of which only some partitions are opened, against the ndarray.

1. Every kind of store is opened whole and with the files of the other partitions removed.
2. Every way to rows gives the right ones for ids that are here, and IdRangeError for others.
"""

from __future__ import annotations

import copy
import pickle
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.errors import IdRangeError, MissingWordError, StoreCorruptError
from embstore.table.numbering import Numbering
from tests.helpers.programs import run_command
from tests.helpers.stores import flip, make_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

COUNT = 1000
TABLE = np.arange(COUNT * 6, dtype=np.float32).reshape(COUNT, 6)
WORDS = [f"w{number}" for number in range(COUNT)]
KINDS: dict[str, dict[str, Any]] = {
    "mod": {},
    "div": {"strategy": "div"},
    "small chunks": {"chunk_rows": 32},
    "small div chunks": {"chunk_rows": 32, "strategy": "div"},
    "compressed": {"compression": "zstd"},
    "encoded": {"encoding": "int8"},
    "compressed and encoded": {"encoding": "float8_e4m3fn", "compression": "blosc"},
    "three": {"partitions": 3},
    "seven": {"partitions": 7},
}
READERS: list[dict[str, Any]] = [
    {},
    {"reader": "chunked"},
    {"resident_limit": "64MiB"},
    {"preload": True},
    {"row_cache": "4MiB"},
]


def open_part(path: Path, partitions: list[int], **options: Any) -> embstore.EmbeddingStore:
    return embstore.open(path, partitions=partitions, **options)


def remove_others(path: Path, partitions: list[int], *, words: bool = True) -> None:
    """Remove what a machine with only these partitions does not have."""
    for directory in (path / "partitions").iterdir():
        if directory.is_dir() and int(directory.name) not in partitions:
            shutil.rmtree(directory)
    if not words:
        shutil.rmtree(path / "vocabulary")


def ids_of(store: embstore.EmbeddingStore) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids that are here, and those that are elsewhere."""
    numbering = Numbering(store.rows, store.partition_count, store.strategy)
    partition, _ = numbering.locate(np.arange(store.rows))
    is_here = np.isin(partition, store.partitions)
    return np.flatnonzero(is_here), np.flatnonzero(~is_here)


def build(path: Path, kind: str, **others: Any) -> None:
    options = {"partitions": 4} | KINDS[kind] | others
    table = TABLE % 251 if "encoding" in options else TABLE
    if "chunk_rows" in options:
        make_store(path, table, WORDS, **options).close()
    else:
        embstore.build(table, path, words=WORDS, **options).close()


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory) -> Iterator[embstore.EmbeddingStore]:
    path = tmp_path_factory.mktemp("whole") / "s"
    build(path, request.param)
    with embstore.open(path) as store:
        yield store


@pytest.mark.parametrize("reader", READERS, ids=str)
def test_rows_are_those_of_the_whole_store(whole, tmp_path, reader):
    if "preload" in reader and whole.compression:
        pytest.skip("a compressed store is not preloaded")
    expected, raw = whole[:], whole.lookup(np.arange(COUNT), raw=True)
    for partitions in ([0], [1], [0, 2], [1, 2]):
        path = tmp_path / "-".join(map(str, partitions))
        shutil.copytree(whole.path, path)
        remove_others(path, partitions)
        for where in (whole.path, path):
            with open_part(where, partitions, **reader) as store:
                assert store.fingerprint() == whole.fingerprint()
                assert store.matches(whole.fingerprint())
                check_rows(store, partitions, expected, raw)


def check_rows(store, partitions, expected, raw) -> None:
    """Compare rows that are here, and look up others."""
    assert store.partitions == tuple(partitions)
    assert store.rows == COUNT
    here, elsewhere = ids_of(store)
    shuffled = np.random.default_rng(0).permutation(np.concatenate([here, here]))
    for some in (here, shuffled, here[:3], shuffled[:40], here[:0]):
        np.testing.assert_array_equal(store.lookup(some), expected[some])
        np.testing.assert_array_equal(store.lookup(some, raw=True), raw[some])
    for number in elsewhere.tolist()[::97]:
        partition, _ = Numbering(COUNT, store.partition_count, store.strategy).locate_one(number)
        with pytest.raises(IdRangeError, match=f"id {number} is in partition {partition}, which"):
            store[number]
        for asked in ([number], [int(here[0]), number], [*here[:700].tolist(), number]):
            with pytest.raises(IdRangeError, match=r"of [347] partitions, only .* were opened"):
                store.lookup(asked)


def ways(store: embstore.EmbeddingStore) -> dict[str, Callable[[NDArray[np.int64]], Any]]:
    """Return each way from ids to rows; the function returns rows, or None."""
    functional = embstore.embedding_lookup_sparse

    def bags(ids):
        bag = embstore.RaggedIds(ids, np.arange(len(ids) + 1))
        return functional(store, bag, None, combiner="sum")

    def into(ids):
        out = np.zeros((len(ids), 6), np.float32)
        store.lookup(ids, out=out)
        return out

    return {
        "lookup": store.lookup,
        "list": lambda ids: store.lookup(ids.tolist()),
        "int32": lambda ids: store.lookup(ids.astype(np.int32)),
        "out": into,
        "dtype": lambda ids: store.lookup(ids, dtype="float64"),
        "max_norm": lambda ids: store.lookup(ids, max_norm=1e30),
        "one": lambda ids: np.stack([store[int(one)] for one in ids]),
        "one int64": lambda ids: np.stack([store[one] for one in ids]),
        "index": lambda ids: store[ids],
        "columns": lambda ids: store[ids, :],
        "two axes": lambda ids: store.lookup(ids[:, None])[:, 0],
        "submit": lambda ids: store.submit(ids).result(timeout=100),
        "words": lambda ids: store.lookup_words([WORDS[one] for one in ids]),
        "one word": lambda ids: np.stack([store[WORDS[one]] for one in ids]),
        "zeros": lambda ids: store.lookup_words([WORDS[one] for one in ids], missing="zeros"),
        "view": lambda ids: store.view(0, COUNT).lookup(ids),
        "view, zeros": lambda ids: store.view(0, COUNT).lookup(ids, outside="zeros"),
        "view, submit": lambda ids: store.view(0, COUNT).submit(ids).result(timeout=100),
        "embedding_lookup": lambda ids: embstore.embedding_lookup(store, ids),
        "bags": bags,
        "copy": lambda ids: copy.copy(store).lookup(ids),
        "pickle": lambda ids: pickle.loads(pickle.dumps(store)).lookup(ids),
        "explain": lambda ids: store.explain(ids) and None,
        "prefetch": lambda ids: store.prefetch(ids) and None,
        "warm": lambda ids: store.warm(ids) and None,
        "view, explain": lambda ids: store.view(0, COUNT).explain(ids) and None,
        "view, prefetch": lambda ids: store.view(0, COUNT).prefetch(ids) and None,
    }


@pytest.mark.parametrize("kind", ["mod", "small div chunks", "compressed", "encoded", "three"])
def test_every_way_checks_where_ids_are(tmp_path, kind):
    build(tmp_path / "s", kind)
    with embstore.open(tmp_path / "s") as whole:
        expected = whole[:]
    remove_others(tmp_path / "s", [0, 2])
    with open_part(tmp_path / "s", [0, 2]) as store:
        here, elsewhere = ids_of(store)
        for name, way in ways(store).items():
            for few in (here[:5], here):
                found = way(few)
                if found is not None:
                    np.testing.assert_array_equal(found, expected[few], err_msg=name)
                for bad in (elsewhere[:1], elsewhere[-1:]):
                    for ids in (np.append(few, bad), bad):
                        with pytest.raises(IdRangeError, match="which is not here"):
                            way(ids)
        for check in (store.lookup, store.explain, lambda ids: store[ids]):
            for wrong in (-1, COUNT, [0, COUNT]):
                with pytest.raises(IdRangeError, match="is out of range"):
                    check(wrong)


def test_torch_modules_check_where_ids_are(tmp_path):
    torch = pytest.importorskip("torch")
    from embstore.interop.torch import StoreEmbedding, StoreEmbeddingBag

    embstore.build(TABLE, tmp_path / "s", partitions=4).close()
    remove_others(tmp_path / "s", [1, 3])
    with open_part(tmp_path / "s", [1, 3], preload=True) as store:
        here = torch.tensor([1, 3, 997])
        np.testing.assert_array_equal(StoreEmbedding(store)(here).numpy(), TABLE[here.numpy()])
        bags = StoreEmbeddingBag(store, mode="sum")
        np.testing.assert_array_equal(bags(here[None]).numpy()[0], TABLE[here.numpy()].sum(0))
        for module in (StoreEmbedding(store), bags):
            with pytest.raises(IdRangeError, match="id 4 is in partition 0, which is not here"):
                module(torch.tensor([[1, 4]]))


WHOLE: dict[str, Callable[[embstore.EmbeddingStore], Any]] = {
    "array": np.asarray,
    "all": lambda store: store[:],
    "to_numpy": lambda store: store.to_numpy(),
    "iteration": list,
    "reversed": lambda store: list(reversed(store)),
    "scan": lambda store: store.scan(lambda *_: None),
    "export": lambda store: embstore.export(store, store.path.parent / "x.npy"),
    "build": lambda store: embstore.build(store, store.path.parent / "x"),
    "view": lambda store: np.asarray(store.view(0, 10)),
    "partition": lambda store: store.partition(1),
}


@pytest.mark.parametrize("kind", ["mod", "div", "compressed", "encoded"])
@pytest.mark.parametrize("name", WHOLE)
def test_what_needs_all_rows_says_so(tmp_path, kind, name):
    build(tmp_path / "s", kind)
    remove_others(tmp_path / "s", [0, 2])
    with open_part(tmp_path / "s", [2]) as store:
        with pytest.raises(IndexError, match=r"not here|was not opened"):
            WHOLE[name](store)
        assert not (tmp_path / "x").exists()
        with pytest.raises(ValueError, match="only some partitions were opened"):
            store.fingerprint(full=True)
        assert not store.matches("0" * 32)


def test_ranges_of_ids_that_are_here_are_read(tmp_path):
    embstore.build(TABLE, tmp_path / "s", partitions=4, strategy="div").close()
    remove_others(tmp_path / "s", [1, 2])
    with open_part(tmp_path / "s", [1, 2]) as store:
        found = np.zeros_like(TABLE)

        def visit(ids, rows):
            found[ids.start : ids.stop : ids.step] = rows

        store.scan(visit, 250, 750)
        np.testing.assert_array_equal(found[250:750], TABLE[250:750])
        np.testing.assert_array_equal(store[250:750], TABLE[250:750])
        np.testing.assert_array_equal(np.asarray(store.view(300, 700)), TABLE[300:700])
        outside = store.view(250, 500).lookup([0, 250, 600], outside="zeros")
        np.testing.assert_array_equal(outside, [[0] * 6, TABLE[250], [0] * 6])
        np.testing.assert_array_equal(store.partition(1)[:], TABLE[250:500])
        assert store.residency().table_bytes == 500 * 24


def test_store_without_its_vocabulary_has_no_words(tmp_path):
    embstore.build(TABLE, tmp_path / "s", words=WORDS, unk="w1", partitions=4).close()
    with open_part(tmp_path / "s", [0, 3]) as store:
        assert (store.has_words, store.unk, "w5" in store) == (True, "w1", True)
        assert store.words([1, 0]) == ["w1", "w0"]
        assert store.ids("w2") == 2
        with pytest.raises(IdRangeError, match="id 2 is in partition 2"):
            store["w2"]
    remove_others(tmp_path / "s", [0, 3], words=False)
    for path_store in (lambda: open_part(tmp_path / "s", [0, 3]),):
        with path_store() as store:
            assert (store.has_words, store.unk) == (False, None)
            assert "words" not in repr(store)
            for call in (store.ids, store.lookup_words, store.__getitem__):
                with pytest.raises(MissingWordError, match="has no words"):
                    call("w0")
            np.testing.assert_array_equal(store[[0, 3]], TABLE[[0, 3]])
            copied = pickle.loads(pickle.dumps(store))
            assert (copied.partitions, copied.has_words) == ((0, 3), False)
    with pytest.raises(StoreCorruptError, match="vocabulary"):
        embstore.open(tmp_path / "s")


def test_some_partitions_of_a_store_at_a_url(tmp_path):
    pytest.importorskip("obstore")
    build(tmp_path / "s", "small chunks")
    url = (tmp_path / "published").as_uri()
    embstore.publish(tmp_path / "s", url)
    with embstore.open(url, partitions=[0, 3]) as store:
        assert (store.partitions, store.has_words) == ((0, 3), True)
        check_rows(store, [0, 3], TABLE, TABLE.view(np.uint8))
        assert store.ids("w7") == 7
        with pytest.raises(IdRangeError, match="id 5 is in partition 1, which is not here"):
            store["w5"]
        copied = pickle.loads(pickle.dumps(store))
        assert copied.partitions == (0, 3)
    (root,) = (tmp_path / "published").glob("*-*/zarr.json")
    remove_others(root.parent, [0, 3], words=False)
    with embstore.open(url, partitions=[0, 3]) as store:
        assert not store.has_words
        check_rows(store, [0, 3], TABLE, TABLE.view(np.uint8))
    with pytest.raises(ValueError, match="must be from 0 to 3, those of the store, not 4"):
        embstore.open(url, partitions=[4])


def test_all_partitions_are_the_whole_store(tmp_path):
    embstore.build(TABLE, tmp_path / "s", words=WORDS, partitions=4).close()
    with open_part(tmp_path / "s", [0, 1, 2, 3]) as store:
        np.testing.assert_array_equal(store[:], TABLE)
        assert store.partitions == (0, 1, 2, 3)
    embstore.build(TABLE, tmp_path / "one").close()
    with open_part(tmp_path / "one", [0]) as store:
        np.testing.assert_array_equal(store[:], TABLE)
    np.save(tmp_path / "t.npy", TABLE)
    with open_part(tmp_path / "t.npy", [0]) as store:
        assert store.partitions == (0,)
    with pytest.raises(ValueError, match="it has one partition, 0"):
        open_part(tmp_path / "t.npy", [0, 1])


def test_more_partitions_than_rows(tmp_path):
    embstore.build(TABLE[:3], tmp_path / "s", partitions=5).close()
    for partitions in ([0], [1, 4], [4], [3, 4]):
        with open_part(tmp_path / "s", partitions) as store:
            for number in range(3):
                if number in partitions:
                    np.testing.assert_array_equal(store[number], TABLE[number])
                else:
                    with pytest.raises(IdRangeError, match=f"in partition {number}, which is not"):
                        store[number]


WRONG: list[tuple[Any, type[Exception], str]] = [
    ([], ValueError, "must not be empty"),
    ([0, 0], ValueError, "must ascend, without repeats; 0 comes after 0"),
    ([3, 0], ValueError, "must ascend, without repeats; 0 comes after 3"),
    ([4], ValueError, "must be from 0 to 3, those of the store, not 4"),
    ([-1], ValueError, r"partitions\[0\] must be from 0 to 65535, not -1"),
    ([1 << 70], ValueError, "must be from 0 to 65535"),
    ([True], TypeError, r"partitions\[0\] must be an integer, not True"),
    ([0, 1.0], TypeError, r"partitions\[1\] must be an integer, not 1.0"),
    (["0"], TypeError, r"partitions\[0\] must be an integer, not '0'"),
    ("0,3", TypeError, "must be a list of integers"),
    (b"\0", TypeError, "must be a list of integers"),
    (0, TypeError, "must be a list of integers"),
    ({0}, TypeError, "must be a list of integers"),
    ({0: 1}, TypeError, "must be a list of integers"),
    (np.array(0), TypeError, "must be a list of integers"),
    (np.array([0.0]), TypeError, r"partitions\[0\] must be an integer"),
    ([[0]], TypeError, r"partitions\[0\] must be an integer"),
]


@pytest.mark.parametrize(("partitions", "kind", "message"), WRONG, ids=repr)
def test_wrong_partitions_are_refused(tmp_path, partitions, kind, message):
    embstore.build(TABLE, tmp_path / "s", partitions=4).close()
    for call in (embstore.open, embstore.verify):
        with pytest.raises(kind, match=message):
            call(tmp_path / "s", partitions=partitions)
    for good in ((0, 3), range(2), np.array([1, 2]), iter([2])):
        open_part(tmp_path / "s", good).close()  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["mod", "small chunks", "compressed"])
def test_only_these_partitions_are_checked(tmp_path, kind):
    build(tmp_path / "s", kind)
    files = sorted((tmp_path / "s" / "partitions" / "2" / "c").rglob("0"))
    flip(next(file for file in files if file.is_file()), 5)
    assert embstore.verify(tmp_path / "s", partitions=[0, 3]).ok
    (problem,) = embstore.verify(tmp_path / "s", partitions=[2, 3]).problems
    assert "partitions/2/" in problem
    open_part(tmp_path / "s", [0, 3], verify="full").close()
    with pytest.raises(StoreCorruptError, match="partitions/2/"):
        open_part(tmp_path / "s", [2], verify="full")
    shutil.rmtree(tmp_path / "s" / "partitions" / "3")
    with pytest.raises(StoreCorruptError, match="partitions/3/"):
        open_part(tmp_path / "s", [0, 3])
    remove_others(tmp_path / "s", [0], words=False)
    assert embstore.verify(tmp_path / "s", partitions=[0]).ok
    assert not embstore.verify(tmp_path / "s").ok


def test_commands_take_partitions(tmp_path):
    embstore.build(TABLE, tmp_path / "s", words=WORDS, partitions=4).close()
    remove_others(tmp_path / "s", [0, 3])
    path = tmp_path / "s"
    done = run_command("get", path, "--ids", "0,3", "--partitions", "0,3", "--json")
    assert '"word": "w3"' in done.stdout
    refused = run_command("get", path, "--ids", "1", "--partitions", "0,3", status=1)
    assert "id 1 is in partition 1, which is not here" in refused.stderr
    assert run_command("info", path, "--partitions", "0,3").stdout
    assert run_command("explain", path, "--ids", "0,3", "--partitions", "0,3").stdout
    assert run_command("verify", path, "--partitions", "0,3").stdout.startswith("ok: ")
    refused = run_command("get", path, "--ids", "1", "--partitions", "a", status=2)
    assert "is not a list of numbers as in 0,3" in refused.stderr
    assert "partitions/1/" in run_command("get", path, "--ids", "0", status=1).stderr
