"""Stores at a URL: the same rows and words as on a disk, and few requests."""

from __future__ import annotations

import pickle
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.errors import (
    FormatError,
    RemoteError,
    StoreChangedError,
    StoreCorruptError,
    StoreNotFoundError,
)
from tests.helpers.counted_objects import CountedObjects, count_requests
from tests.helpers.stores import flip, make_store

if TYPE_CHECKING:
    from numpy.typing import NDArray

GOLDEN = sorted(Path(__file__).with_name("golden").glob("*.embstore"))
RANDOM = np.random.default_rng(16)


def url_of(path: Path) -> str:
    return path.absolute().as_uri()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[CountedObjects]:
    """The objects of what is opened, with their requests."""
    return count_requests(monkeypatch)


def table(rows: int, *shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    return RANDOM.normal(0, 50, (rows, *shape)).astype(dtype)


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_all_kinds_of_stores(path, made):
    with embstore.open(path) as local, embstore.open(url_of(path)) as store:
        ids = RANDOM.integers(0, len(local), (3, 20))
        assert np.array_equal(store.lookup(ids, raw=True), local.lookup(ids, raw=True))
        assert store.lookup(ids).tobytes() == local.lookup(ids).tobytes()
        assert store[:].tobytes() == local[:].tobytes()
        assert np.asarray(store).tobytes() == np.asarray(local).tobytes()
        assert b"".join(row.tobytes() for row in store) == local[:].tobytes()
        assert store[len(local) - 1].tobytes() == local[len(local) - 1].tobytes()
        assert store.submit(ids).result().tobytes() == local.lookup(ids).tobytes()
        assert str(store.most_similar(ids[0], 3)) == str(local.most_similar(ids[0], 3))
        assert store.fingerprint() == local.fingerprint()
        assert store.matches(local.fingerprint())
        assert store.identity == local.identity
        assert (store.shape, store.dtype, store.encoding) == (
            local.shape,
            local.dtype,
            local.encoding,
        )
        assert store.source == local.source
        assert not store.mapped
        if local.has_words:
            check_words(store, local)


def check_words(store: embstore.EmbeddingStore, local: embstore.EmbeddingStore) -> None:
    words = local.words(np.arange(len(local)))
    asked = [*words[::2], "", "zyzzyva", "\ud800", *words]
    assert store.ids(asked, missing="none").tolist() == local.ids(asked, missing="none").tolist()
    assert store.words(np.arange(len(local))) == words
    assert [store.vocabulary.id_of(word) for word in words] == list(range(len(words)))
    assert [store.words(number) for number in range(len(words))] == words
    assert words[3] in store
    assert "zyzzyva" not in store
    assert store[words[1]].tobytes() == local[words[1]].tobytes()
    assert store[[words[1], words[0]]].tobytes() == local[[words[1], words[0]]].tobytes()
    assert store.packed_words(2, 5).encoded() == local.packed_words(2, 5).encoded()
    assert store.packed_words(2, 2).encoded() == []
    assert store.vocabulary.numbered(0, len(local)) == local.vocabulary.numbered(0, len(local))
    assert store.ids([]).tolist() == []
    with pytest.raises(embstore.MissingWordError, match="zyzzyva"):
        _ = store["zyzzyva"]


def test_rows_far_apart_are_a_request_each(tmp_path, made):
    rows = table(4000, 64, 16)
    make_store(tmp_path / "s", rows, partitions=4).close()
    with embstore.open(url_of(tmp_path / "s")) as store:
        made[-1].clear()
        ids = np.arange(0, 4000, 128)  # 8 rows of 4 KiB lie between two of a partition.
        ids = ids[ids % 4 == 0]
        wide = ids * 1
        plan = store.explain(wide)
        assert np.array_equal(store.lookup(wide), rows[wide])
        (objects,) = made
        assert len(objects.ranges) == plan.request_count == plan.run_count == len(wide)
        assert sum(one.count for one in objects.ranges) == plan.bytes_read == len(wide) * 4096
        assert objects.calls == []
        assert store.stats().request_count == len(wide)
        assert store.stats().bytes_read == plan.bytes_read


def test_neighbours_and_repeats_share_a_request(tmp_path, made):
    rows = table(1000, 256)
    make_store(tmp_path / "s", rows).close()
    with embstore.open(url_of(tmp_path / "s")) as store:
        made[-1].clear()
        ids = [[7, 5, 6, 7], [5, 900, 901, 7]]
        assert np.array_equal(store.lookup(ids), rows[ids])
        assert [one.count for one in made[0].ranges] == [3 * 1024, 2 * 1024]
        made[-1].clear()
        assert np.array_equal(store.lookup([0, 65]), rows[[0, 65]])  # 64 KiB between them.
        assert [one.count for one in made[0].ranges] == [66 * 1024]
        made[-1].clear()
        assert np.array_equal(store.lookup([0, 66]), rows[[0, 66]])
        assert len(made[0].ranges) == 2


def test_every_request_has_the_etag(tmp_path, made):
    make_store(tmp_path / "s", table(300, 8), ["a" * (i + 1) for i in range(300)]).close()
    with embstore.open(url_of(tmp_path / "s")) as store:
        store.lookup([1, 200])
        store.ids(["aa", "aaa"])
        store.to_numpy()
    assert made[0].ranges
    assert all(one.etag for one in made[0].ranges)


def test_opening_sends_few_requests(tmp_path, made):
    rows = table(5000, 3)
    words = [f"word-{i}" for i in range(len(rows))]
    with embstore.StoreWriter(
        tmp_path / "s", row_shape=(3,), dtype="float32", partitions=7, chunk_rows=16
    ) as writer:
        writer.write(rows, words)
    with embstore.open(url_of(tmp_path / "s")) as store:
        opening = made[0].request_count
        # A listing, looks for a pointer and for the root, and the metadata.
        assert opening <= 4 + len(store.files.sizes())
        assert len([one for one in made[0].calls if one[0] == "find"]) == 1
        assert len(made[0].ranges) == 1 + 2 + 7 + 3
        assert np.array_equal(store[words[::100]], rows[::100])


def test_words_send_few_requests_and_are_kept(tmp_path, made):
    words = [f"word-{i:07}" for i in range(40_000)]
    make_store(tmp_path / "s", table(40_000, 2), words).close()
    with embstore.open(url_of(tmp_path / "s")) as store:
        made[0].clear()
        assert store.ids("word-0012345") == 12345
        assert 3 <= len(made[0].ranges) <= 8
        assert sum(one.count for one in made[0].ranges) <= 8 << 16
        made[0].clear()
        assert store.ids("word-0012345") == 12345
        assert store.words(12345) == "word-0012345"
        assert made[0].ranges == []
        chosen = RANDOM.permutation(40_000)[:10_000]
        assert np.array_equal(store.ids([words[i] for i in chosen]), chosen)
        made[0].clear()
        assert np.array_equal(store.ids(words[::7]), np.arange(40_000)[::7])
        assert made[0].ranges == []
        # Spellings are not tried, which would take much of the table.
        with pytest.raises(embstore.MissingWordError, match="'wrod-0000001' is not in the store"):
            store.ids("wrod-0000001")
        assert len(made[0].ranges) < 100


def test_damaged_words_are_noticed(tmp_path):
    words = [f"word-{i}" for i in range(50)]
    make_store(tmp_path / "s", table(50, 2), words).close()
    data = (tmp_path / "s/vocabulary/offsets/c/0").read_bytes()
    (tmp_path / "s/vocabulary/offsets/c/0").write_bytes(b"\xff" * 200 + data[200:])
    with (
        embstore.open(url_of(tmp_path / "s")) as store,
        pytest.raises(StoreCorruptError, match="word offsets point outside"),
    ):
        store.ids(words)


@pytest.mark.parametrize("compression", ["zstd", "blosc"])
def test_compressed_rows_come_together(tmp_path, made, compression):
    rows = table(6000, 300)
    make_store(tmp_path / "s", rows, partitions=3, compression=compression, chunk_rows=1024).close()
    with embstore.open(url_of(tmp_path / "s")) as store:
        ids = RANDOM.permutation(6000)[:100]
        made[0].clear()
        plan = store.explain(ids)
        assert len(made[0].ranges) == 6  # The indexes, at once.
        made[0].clear()
        assert np.array_equal(store.lookup(ids), rows[ids])
        assert len(made[0].ranges) == plan.request_count
        assert sum(one.count for one in made[0].ranges) == plan.bytes_read
        assert store.stats().request_count == 6 + plan.request_count
        made[0].clear()
        assert np.array_equal(store.lookup(ids[::-1]), rows[ids[::-1]])  # From memory.
        assert made[0].ranges == []
        assert store.to_numpy().tobytes() == rows.tobytes()
        store.prefetch([17]).wait()
        assert np.array_equal(store[17], rows[17])


def test_large_reads_are_cut(tmp_path, made):
    rows = table(10_000, 512)  # 20 MB
    make_store(tmp_path / "s", rows, partitions=2).close()
    with embstore.open(url_of(tmp_path / "s")) as store:
        made[0].clear()
        assert np.array_equal(store[:], rows)
        assert max(one.count for one in made[0].ranges) <= 4 << 20
        assert len(made[0].ranges) <= 12
        made[0].clear()
        assert np.array_equal(store.to_numpy(), rows)
        assert max(one.count for one in made[0].ranges) <= 8 << 20
        assert len(made[0].ranges) <= 12


def test_rows_of_a_view_and_of_other_forms(tmp_path):
    rows = table(500, 16)
    make_store(tmp_path / "s", rows, partitions=2).close()
    with embstore.open(url_of(tmp_path / "s")) as store:
        assert np.array_equal(store.view(10, 20).lookup([12, 19]), rows[[12, 19]])
        assert np.array_equal(store.lookup([3, 400], dtype="float16"), rows[[3, 400]].astype("f2"))
        out = np.empty((2, 16), np.float32)
        assert store.lookup([3, 400], out=out) is out
        assert np.array_equal(out, rows[[3, 400]])
        assert np.array_equal(store[[1, 2], 3:5], rows[[1, 2], 3:5])
        assert store.lookup(np.empty((0, 2), np.int64)).shape == (0, 2, 16)
        with pytest.raises(embstore.IdRangeError, match="500"):
            store.lookup([500])


def test_build_and_export_from_a_url(tmp_path):
    rows, words = table(200, 4), [f"w{i}" for i in range(200)]
    make_store(tmp_path / "s", rows, words, partitions=3).close()
    with embstore.open(url_of(tmp_path / "s")) as store:
        with embstore.build(store, tmp_path / "t", partitions=2) as built:
            assert np.array_equal(built[:], rows)
            assert built.fingerprint() == store.fingerprint(full=True)
            assert built.source["file"] == "s"
        embstore.export(store, tmp_path / "t.npy")
        assert np.array_equal(np.load(tmp_path / "t.npy"), rows)


def test_copies_open_the_same_version(tmp_path, made):
    pytest.importorskip("obstore")
    first, second = table(40, 4), table(30, 4)
    make_store(tmp_path / "1", first).close()
    make_store(tmp_path / "2", second).close()
    url = url_of(tmp_path / "published")
    embstore.publish(tmp_path / "1", url)
    with embstore.open(url) as store:
        version = store.fingerprint()
        assert (store.url, store.location) == (url, url)
        with pytest.raises(FormatError, match="has no path"):
            _ = store.path
        embstore.publish(tmp_path / "2", url)
        pickled = pickle.dumps(store)
        with pickle.loads(pickled) as other, copy(store) as third:
            assert np.array_equal(other[:], first)
            assert np.array_equal(third[:], first)
            assert other.identity == store.identity
            assert repr(other) == repr(store)
        assert np.array_equal(store[:], first)
    with embstore.open(url) as store:
        assert np.array_equal(store[:], second)
    for name in (version, next(one.name for one in (tmp_path / "published").glob(f"{version}-*"))):
        with embstore.open(url, version=name) as store:
            assert np.array_equal(store[:], first)
        # And the prefix of a version is a place of its own.
    with embstore.open(f"{url}/{name}") as store:
        assert np.array_equal(store[:], first)
    with pytest.raises(StoreNotFoundError, match="no version"):
        embstore.open(url, version="0" * 32)


def test_copy_finds_another_table(tmp_path):
    make_store(tmp_path / "s", table(40, 4)).close()
    with embstore.open(url_of(tmp_path / "s")) as store:
        pickled = pickle.dumps(store)
    make_store(tmp_path / "s", table(40, 4), overwrite=True).close()
    with pytest.raises(StoreChangedError, match="another table"):
        pickle.loads(pickled)


def test_replaced_objects_are_an_error(tmp_path):
    rows = table(40, 4)
    make_store(tmp_path / "s", rows).close()
    with embstore.open(url_of(tmp_path / "s")) as store:
        assert np.array_equal(store[3], rows[3])
        flip(tmp_path / "s/partitions/0/c/0/0", 3)
        for read in (lambda: store[3], store.to_numpy, lambda: store.lookup([1, 2])):
            with pytest.raises(RemoteError, match="another version"):
                read()


def test_rows_of_a_version_that_was_removed_are_an_error(tmp_path):
    url, rows = url_of(tmp_path / "published"), table(40, 4)
    words = [f"w{number}" for number in range(40)]
    for number in range(2):
        make_store(tmp_path / f"s{number}", rows + number, words).close()
    embstore.publish(tmp_path / "s0", url)
    with embstore.open(url) as store:
        embstore.publish(tmp_path / "s1", url)
        assert np.array_equal(store[3], rows[3])
        embstore.prune(url, keep=0)
        for read in (lambda: store[3], store.to_numpy, lambda: store.ids(["w1"])):
            with pytest.raises(StoreNotFoundError, match=r"removed since .*: open file:.* again"):
                read()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("partitions/0/c/0/0", lambda path: path.unlink(), "is missing"),
        ("partitions/0/c/0/0", lambda path: path.write_bytes(b"short"), "has 5 bytes, expected"),
        ("partitions/0/zarr.json", lambda path: path.unlink(), "is missing"),
        ("partitions/0/zarr.json", lambda path: flip(path, 100), "has the checksum"),
        ("partitions/0/zarr.json", lambda path: path.write_bytes(bytes(17 << 20)), "more than"),
        ("zarr.json", lambda path: flip(path, 300), "zarr.json"),
        ("vocabulary/slots/c/0", lambda path: path.unlink(), "is missing"),
    ],
)
def test_damage_is_found_by_opening(tmp_path, name, change, message):
    make_store(tmp_path / "s", table(40, 4), [f"w{i}" for i in range(40)]).close()
    change(tmp_path / "s" / name)
    with pytest.raises(StoreCorruptError, match=message) as error:
        embstore.open(url_of(tmp_path / "s"))
    assert url_of(tmp_path / "s") in str(error.value)


def test_damaged_rows_are_found_by_the_fingerprint(tmp_path):
    make_store(tmp_path / "s", table(40, 4)).close()
    flip(tmp_path / "s/partitions/0/c/0/0", 3)
    with embstore.open(url_of(tmp_path / "s")) as store:
        store.fingerprint()
        with pytest.raises(StoreCorruptError, match="it is damaged"):
            store.fingerprint(full=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reader": "mapped"}, 'reader="mapped" needs files on a local disk'),
        ({"preload": True}, "preload=True needs files on a local disk"),
        ({"row_cache": "1MiB"}, "row_cache keeps copies of rows in front of a mapping"),
        ({"verify": "full"}, 'verify="full" reads all files'),
        ({"version": ""}, "version must be a name"),
    ],
)
def test_options_that_need_a_disk(tmp_path, options, message):
    make_store(tmp_path / "s", table(40, 4)).close()
    with pytest.raises(ValueError, match=message):
        embstore.open(url_of(tmp_path / "s"), **options)


def test_version_of_a_path(tmp_path):
    make_store(tmp_path / "s", table(4, 4)).close()
    for call in (embstore.open, embstore.tables):
        with pytest.raises(ValueError, match="version chooses a store that was published"):
            call(tmp_path / "s", version="0" * 32)


def test_nothing_there(tmp_path):
    for name in ("missing", "missing.npy"):
        with pytest.raises(StoreNotFoundError, match=f"no store at {url_of(tmp_path)}/{name}"):
            embstore.open(f"{url_of(tmp_path)}/{name}")


def test_wrong_levels_of_published_stores_are_told(tmp_path):
    make_store(tmp_path / "s", table(4, 4)).close()
    (tmp_path / "all").mkdir()
    url = url_of(tmp_path / "all" / "one")
    embstore.publish(tmp_path / "s", url)
    with pytest.raises(
        StoreNotFoundError, match=r"no zarr\.json or current\.json is directly below"
    ):
        embstore.open(url_of(tmp_path / "all"))
    with pytest.raises(StoreNotFoundError, match=f"published there, so open it by its URL, {url}"):
        embstore.open(tmp_path / "all" / "one")


def test_closed_store_tells_its_url(tmp_path):
    make_store(tmp_path / "s", table(4, 4)).close()
    store = embstore.open(url_of(tmp_path / "s"))
    store.close()
    with pytest.raises(embstore.StoreClosedError, match=url_of(tmp_path / "s")):
        store.lookup([1])
    assert "closed" in repr(store)


def test_exported_programs_find_the_version_that_they_were_made_with(tmp_path):
    pytest.importorskip("torch")
    from embstore.interop import reference

    rows = table(40, 4)
    make_store(tmp_path / "1", rows).close()
    make_store(tmp_path / "2", table(40, 4)).close()
    url = url_of(tmp_path / "published")
    embstore.publish(tmp_path / "1", url)
    with embstore.open(url) as store:
        text = reference.as_text(reference.reference_to(store, store.fingerprint()))
    embstore.publish(tmp_path / "2", url)
    assert np.array_equal(reference.find_store(text)[:], rows)
    embstore.prune(url, keep=1)
    with pytest.raises(ValueError, match="the table there is now"):
        reference.find_store(text.replace('"dtype"', '  "dtype"'))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_prefetched_rows_are_kept(tmp_path, made, dtype):
    rows = table(4000, 64)
    encoding = {} if dtype == "float32" else {"encoding": dtype}
    make_store(tmp_path / "s", rows, partitions=3, **encoding).close()
    with embstore.open(tmp_path / "s") as local, embstore.open(url_of(tmp_path / "s")) as store:
        ids = RANDOM.integers(0, 4000, 50)
        assert store.prefetch(ids).wait(timeout=600)
        made[0].clear()
        assert store.explain(ids).request_count == 0
        assert store.lookup(ids).tobytes() == local.lookup(ids).tobytes()
        assert store.prefetch(ids).wait(timeout=600)
        assert made[0].ranges == []
        wide = np.concatenate([ids, np.arange(0, 4000, 40), ids])
        assert store.explain(wide).request_count > 0
        assert store.lookup(wide).tobytes() == local.lookup(wide).tobytes()
        for start in range(0, 4000, 200):  # More than are kept.
            assert store.prefetch(np.arange(start, start + 100)).wait(timeout=600)
            assert store.lookup(wide).tobytes() == local.lookup(wide).tobytes()
        made[0].clear()
        assert store.lookup(ids).tobytes() == local.lookup(ids).tobytes()
        assert made[0].ranges
        assert store.prefetch([]).wait(timeout=600)
