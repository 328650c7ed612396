"""What a notebook shows for stores, foreign files and views."""

from __future__ import annotations

import html.parser
import shutil

import numpy as np
import pytest

import embstore
from tests.helpers.counted_objects import count_requests


class Cells(html.parser.HTMLParser):
    """The texts of the cells of a table, as a browser shows them; other markup is refused."""

    def __init__(self, text):
        super().__init__()
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        assert tag in {"table", "thead", "tbody", "tr", "th", "td"}
        self._open.append(tag)
        if tag in {"th", "td"}:
            self.texts.append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] in {"th", "td"}:
            self.texts[-1] += data


def shown(thing):
    """Return the title of what a notebook shows, and its facts by name."""
    title, *rest = Cells(thing._repr_html_()).texts
    return title, dict(zip(rest[::2], rest[1::2], strict=True))


def test_store(words_store, monkeypatch):
    with embstore.open(words_store) as store:
        title, facts = shown(store)
        assert title == "EmbeddingStore"
        assert facts == {
            "rows": "11",
            "row shape": "(8,)",
            "dtype": "float32",
            "partitions": "2, mod",
            "words": f"11, unk {store.unk}" if store.unk else "11",
            "bytes": "352, 32 a row",
            "at": str(words_store),
        }
        monkeypatch.chdir(words_store.parent)
        assert shown(store)[1]["at"] == words_store.name
    assert shown(store) == ("EmbeddingStore, closed", facts | {"at": words_store.name})


def test_markup_in_names_is_escaped(tmp_path):
    path = tmp_path / "<b>&amp;\"'.embstore"
    words = ["<unk>", "<script>alert(1)</script>"]
    with embstore.build(
        np.eye(2), path, words=words, unk="<unk>", attributes={"<i>": [1, 2]}
    ) as store:
        text, facts = store._repr_html_(), shown(store)[1]
    assert facts["at"] == str(path)
    assert facts["words"] == "2, unk <unk>"
    assert facts["attributes"] == "<i>: int64"
    assert "<i>" not in text
    assert "<unk>" not in text


def test_partitions_encodings_and_compression(tmp_path):
    rows = np.random.default_rng(0).standard_normal((40, 64), np.float32)
    with embstore.build(rows, tmp_path / "s", partitions=4, encoding="int8") as store:
        facts = shown(store)[1]
        assert (facts["encoding"], facts["words"]) == (store.encoding, "none")
        assert facts["bytes"] == f"{40 * store.record_bytes:,}, {store.record_bytes} a row"
    with embstore.open(tmp_path / "s", partitions=[1, 3]) as store:
        assert shown(store)[1]["partitions"] == "2 of 4, mod"
    with embstore.build(rows, tmp_path / "c", compression="zstd") as store:
        facts = shown(store)[1]
        assert facts["compression"] == store.compression
        assert facts["partitions"] == "1"


def test_foreign_file(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1500, 2, 3), np.float16))
    with embstore.open(tmp_path / "x.npy") as store:
        title, facts = shown(store)
    assert title == "EmbeddingStore"
    assert (facts["rows"], facts["row shape"], facts["dtype"]) == ("1,500", "(2, 3)", "float16")
    assert (facts["words"], facts["bytes"]) == ("none", "18,000, 12 a row")


def test_tensor_and_its_scale(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from examples import made_up_models, ngram_embedding

    made_up_models.make_shards(tmp_path / "m")
    with ngram_embedding.open_shards(tmp_path / "m") as store:
        facts = shown(store)[1]
    assert facts["encoding"] == "float8_e4m3fn"
    assert facts["scale"] == made_up_models.SHARD_SCALE
    assert facts["tensor"] == made_up_models.SHARD_NAME


def test_view(words_store):
    with embstore.open(words_store) as store:
        title, facts = shown(store.view(2, 7))
        assert title == "StoreView of ids 2 to 6, in EmbeddingStore"
        assert facts == shown(store)[1]
        assert shown(store.view(3, 3))[0] == "StoreView of no ids, in EmbeddingStore"


def test_nothing_is_read(words_store, monkeypatch):
    """A removed store, and a current directory that is gone, do no harm either."""
    with embstore.open(words_store) as store:
        before = shown(store)
        monkeypatch.chdir(words_store.parent)
        shutil.rmtree(words_store.parent)
        assert shown(store) == before
        assert store.stats().lookups == 0


def test_store_at_a_url(words_store, monkeypatch):
    pytest.importorskip("obstore")
    made = count_requests(monkeypatch)
    with embstore.open(words_store.as_uri()) as store:
        before = [objects.request_count for objects in made]
        title, facts = shown(store)
        assert (title, facts["rows"], facts["at"]) == ("EmbeddingStore", "11", store.url)
        assert [objects.request_count for objects in made] == before


def test_connected_store(words_store):
    pytest.importorskip("pyarrow.flight")
    with embstore.serve(words_store) as server:
        store = embstore.connect([server.address])
        with store:
            title, facts = shown(store)
            assert title == "ConnectedStore"
            assert (facts["rows"], facts["partitions"]) == ("11", "2, mod")
            assert facts["at"] == store.location
    assert shown(store)[0] == "ConnectedStore, closed"
