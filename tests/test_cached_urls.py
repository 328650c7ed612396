"""Stores at URLs that are opened with a cache: rows, words, options, and few requests."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.errors import FormatError, MissingWordError, RemoteError
from embstore.remote.cache import store_cache, words
from embstore.remote.cache.words import CachedVocabulary
from tests.helpers.cached import Inline, files_in, size_of
from tests.helpers.stores import make_store
from tests.servers import ACCESS_KEY, SECRET_KEY

ROWS = 1500
WORDS = [f"word {number}" for number in range(ROWS)]
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"chunk_rows": 128, "partitions": 3},
    "int8": {"chunk_rows": 256, "encoding": "int8"},
    "zstd": {"chunk_rows": 512, "compression": "zstd"},
}


@pytest.fixture
def inline(monkeypatch):
    """Have what a lookup makes due be brought before it returns."""
    monkeypatch.setattr(store_cache, "_background", Inline())


@pytest.fixture(params=KINDS)
def local(request, tmp_path):
    """A local store with words."""
    rows = np.random.default_rng(2).standard_normal((ROWS, 16)).astype(np.float32)
    with make_store(tmp_path / "local", rows, WORDS, **KINDS[request.param]) as store:
        yield store


@pytest.fixture
def url(local, tmp_path):
    """The URL of the same store, in a directory."""
    place = f"file://{tmp_path / 'published'}"
    embstore.publish(local.path, place)
    return place


def requests_of(store: embstore.EmbeddingStore) -> int:
    files: Any = store.files
    return int(files.request_count)


def check(store: embstore.EmbeddingStore, local: embstore.EmbeddingStore) -> None:
    rng = np.random.default_rng(7)
    for count in (1, 16, 700):
        ids = rng.integers(0, ROWS, count)
        np.testing.assert_array_equal(store.lookup(ids), local.lookup(ids))
        some = [WORDS[number] for number in ids]
        assert store.ids(some).tolist() == ids.tolist()
        assert store.words(ids) == some
        np.testing.assert_array_equal(store.lookup_words(some), local.lookup_words(some))
    np.testing.assert_array_equal(store["word 7"], local["word 7"])
    assert store.vocabulary.id_of("word 1499") == 1499
    assert store.vocabulary.id_of("no word") == -1
    assert store.vocabulary.word_of(3) == "word 3"
    assert "word 5" in store
    with pytest.raises(MissingWordError):
        store["no word"]


def test_rows_and_words_are_those_of_the_local_store(local, url, tmp_path, inline):
    cache = tmp_path / "cache"
    with embstore.open(url, cache_dir=cache) as store:
        for _ in range(3):
            check(store, local)
        store.warm(np.arange(ROWS))
        requests = requests_of(store)
        check(store, local)
        assert requests_of(store) == requests
        assert store.residency().file_cache_bytes == size_of(cache)
    with embstore.open(url, cache_dir=cache) as store:
        assert not isinstance(store.vocabulary, CachedVocabulary)
        requests = requests_of(store)
        store.warm(np.arange(ROWS))
        check(store, local)
        assert requests_of(store) == requests
        assert store.stats().fetched_files == 0


def test_words_become_those_of_mapped_files(local, url, tmp_path, inline):
    with embstore.open(url, cache_dir=tmp_path / "cache") as store:
        vocabulary = store.vocabulary
        assert isinstance(vocabulary, CachedVocabulary)
        assert not vocabulary.is_near
        assert vocabulary.id_of("word 9") == 9
        assert any("vocabulary" in str(path) for path in files_in(tmp_path / "cache"))
        requests = requests_of(store)
        assert vocabulary.ids(WORDS).tolist() == list(range(ROWS))
        assert vocabulary.is_near
        assert requests_of(store) == requests
        check(store, local)


def test_large_vocabularies_come_as_rows_do(local, url, tmp_path, inline, monkeypatch):
    monkeypatch.setattr(words, "FETCHED_AT_ONCE_BYTES", 0)
    monkeypatch.setattr(words, "REQUEST_BYTES", 1)
    with embstore.open(url, cache_dir=tmp_path / "cache") as store:
        check(store, local)


def test_damaged_words_are_fetched_again(local, url, tmp_path, inline):
    cache = tmp_path / "cache"
    with embstore.open(url, cache_dir=cache) as store:
        check(store, local)
    for path in files_in(cache):
        if "vocabulary" in str(path):
            path.write_bytes(bytes(path.stat().st_size))
    with embstore.open(url, cache_dir=cache) as store:
        check(store, local)
        assert store.stats().file_cache_errors == 3


def test_copies_share_the_cache(local, url, tmp_path, inline):
    cache = tmp_path / "cache"
    with embstore.open(url, cache_dir=cache, cache_limit="1GiB") as store:
        check(store, local)
        store.warm(np.arange(ROWS))
        for other in (pickle.loads(pickle.dumps(store)), copy.copy(store)):
            with other:
                other.warm(np.arange(ROWS))
                check(other, local)
                assert other.stats().fetched_files == 0


def test_store_published_anew_has_a_directory_of_its_own(local, url, tmp_path, inline):
    cache = tmp_path / "cache"
    with embstore.open(url, cache_dir=cache) as store:
        store.warm(np.arange(ROWS))
        rows = np.asarray(local) + 1
        with make_store(tmp_path / "next", rows, WORDS, chunk_rows=128) as newer:
            embstore.publish(newer.path, url)
            with embstore.open(url, cache_dir=cache) as second:
                check(second, newer)
        check(store, local)


def test_preload_goes_with_a_cache(tmp_path):
    rows = np.random.default_rng(2).standard_normal((ROWS, 16)).astype(np.float32)
    with make_store(tmp_path / "local", rows, WORDS, chunk_rows=128) as local:
        url = f"file://{tmp_path / 'published'}"
        embstore.publish(local.path, url)
        seen: list[embstore.Progress] = []
        options: dict[str, Any] = {"cache_dir": tmp_path / "cache", "preload": True}
        with embstore.open(url, progress=seen.append, **options) as store:
            requests = requests_of(store)
            np.testing.assert_array_equal(store.lookup(np.arange(ROWS)), rows)
            assert requests_of(store) == requests
        assert seen[-1].done_bytes == seen[-1].total_bytes
        with pytest.raises(ValueError, match="leave it out, or give cache_dir"):
            embstore.open(url, preload=True)
        with pytest.raises(RemoteError, match="preload=True keeps the whole table in the cache"):
            embstore.open(url, cache_limit=70_000, **options | {"cache_dir": tmp_path / "small"})


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "limit alone": ({"cache_limit": "1GiB"}, "cache_limit limits the files in cache_dir; give"),
    "no size": ({"cache_dir": "c", "cache_limit": "much"}, "cache_limit must be a size such as"),
    "nothing": ({"cache_dir": "c", "cache_limit": 0}, "cache_limit must be 1 or more, not 0"),
    "chunked": ({"cache_dir": "c", "reader": "chunked"}, 'but reader="chunked" maps nothing'),
    "mapped": ({"cache_dir": "c", "reader": "mapped"}, 'reader="mapped" needs files on a local'),
    "a URL": ({"cache_dir": "s3://bucket/c"}, "cache_dir must be a directory on a local disk, not"),
    "empty": ({"cache_dir": ""}, "cache_dir must be a path, not an empty text"),
    "a file": ({"cache_dir": __file__}, "cache_dir must be a directory; .* is a file"),
    "too small": ({"cache_dir": "c", "cache_limit": 100}, "cache_limit is 100, but files of this"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_options_that_make_no_sense_are_refused(url, tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    options, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        embstore.open(url, **options)
    assert not (tmp_path / "c").exists()


def test_row_cache_goes_with_compressed_stores_only(local, url, tmp_path):
    options: dict[str, Any] = {"cache_dir": tmp_path / "cache", "row_cache": "1MiB"}
    if local.compression is not None:
        with embstore.open(url, **options) as store:
            check(store, local)
    else:
        with pytest.raises(ValueError, match="row_cache keeps copies of rows of files that stay"):
            embstore.open(url, **options)


def test_local_paths_and_foreign_files_are_refused(local, tmp_path):
    with pytest.raises(ValueError, match="is on a local disk already; leave cache_dir out"):
        embstore.open(local.path, cache_dir=tmp_path / "cache")
    np.save(tmp_path / "rows.npy", np.zeros((3, 4)))
    with pytest.raises((ValueError, FormatError), match="whose checksums a store lists, and"):
        embstore.open(f"file://{tmp_path}/rows.npy", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_object_store(local, object_url, tmp_path):
    pytest.importorskip("obstore")
    cache = tmp_path / "cache"
    embstore.publish(local.path, object_url)
    with embstore.open(object_url, cache_dir=cache) as store:
        for _ in range(3):
            check(store, local)
        store.warm(np.arange(ROWS))
        requests = requests_of(store)
        check(store, local)
        assert requests_of(store) == requests
        child = os.fork()
        if not child:
            try:
                found = store.lookup(np.arange(ROWS))
                os._exit(int(not (found == np.asarray(local)).all()))
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert pickle.loads(pickle.dumps(store.stats())) == store.stats()
    for path in cache.rglob("*"):
        assert SECRET_KEY not in str(path)
        assert ACCESS_KEY not in str(path)
    assert Path(cache / "embstore-cache").stat().st_mode & 0o077 == 0
