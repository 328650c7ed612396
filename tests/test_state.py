"""A state machine of builds, opens, lookups, replacements and closes, against tables in RAM."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

import embstore

if TYPE_CHECKING:
    from embstore.table.numbering import Strategy

NAMES = st.sampled_from(["a.embstore", "b.embstore"])


class Table(NamedTuple):
    """The table that a store should hold."""

    rows: np.ndarray[Any, Any]
    words: list[str] | None
    partitions: int
    strategy: Strategy
    chunk_rows: int | None
    generation: int = 0


@st.composite
def tables(draw):
    count = draw(st.integers(0, 20))
    dtype = draw(st.sampled_from(["float32", "float16", "int8"]))
    return Table(
        rows=(np.arange(count * 3).reshape(count, 3) % 50).astype(dtype),
        words=[""] * count if count and draw(st.booleans()) else None,
        partitions=draw(st.integers(1, 4)),
        strategy=draw(st.sampled_from(["mod", "div"])),
        chunk_rows=draw(st.sampled_from([None, 1, 4])),
    )


class Opened(NamedTuple):
    """An open store, and the table that it was opened on."""

    store: embstore.EmbeddingStore
    reader: str
    name: str
    table: Table


class Stores(RuleBasedStateMachine):
    opened = Bundle("opened")
    closed = Bundle("closed")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.published: dict[str, Table] = {}
        self.generation = 0

    def teardown(self):
        shutil.rmtree(self.folder)

    def write(self, name: str, table: Table, **settings: Any) -> None:
        with embstore.StoreWriter(
            self.folder / name,
            row_shape=table.rows.shape[1:],
            dtype=table.rows.dtype,
            partitions=table.partitions,
            strategy=table.strategy,
            rows=len(table.rows),
            chunk_rows=table.chunk_rows,
            **settings,
        ) as writer:
            half = len(table.rows) // 2
            for part in (slice(half), slice(half, None)):
                writer.write(table.rows[part], table.words and table.words[part])

    def numbered(self, table: Table) -> Table:
        """Make a table's numbers and words different from those of every other."""
        self.generation += 1
        rows = ((table.rows + self.generation) % 100).astype(table.rows.dtype)
        words = table.words and [f"{self.generation}-{i}" for i in range(len(rows))]
        return table._replace(rows=rows, words=words, generation=self.generation)

    @initialize(target=opened, reader=st.sampled_from(["mapped", "chunked"]))
    def start(self, reader):
        self.build("a.embstore", False, Table(np.arange(27.0).reshape(9, 3), [""] * 9, 2, "mod", 2))
        return self.open("a.embstore", reader)

    @rule(name=NAMES, overwrite=st.booleans(), table=tables())
    def build(self, name, overwrite, table):
        table = self.numbered(table)
        if name in self.published and not overwrite:
            with pytest.raises(embstore.StoreExistsError):
                self.write(name, table)
            return
        self.write(name, table, overwrite=overwrite)
        self.published[name] = table

    @rule(name=NAMES)
    def fail_to_build(self, name):
        table = Table(np.zeros((6, 3)), ["same"] * 6, 2, "mod", None)
        with pytest.raises(embstore.DuplicateWordError):
            self.write(name, table, overwrite=True)

    @rule(name=NAMES)
    def remove(self, name):
        if self.published.pop(name, None):
            shutil.rmtree(self.folder / name)

    @rule(target=opened, name=NAMES, reader=st.sampled_from(["mapped", "chunked"]))
    def open(self, name, reader):
        if name not in self.published:
            with pytest.raises(embstore.StoreNotFoundError):
                embstore.open(self.folder / name, reader=reader)
            return multiple()
        table = self.published[name]
        store = embstore.open(self.folder / name, reader=reader)
        assert store.shape == table.rows.shape
        assert store.dtype == table.rows.dtype
        assert (store.partition_count, store.strategy) == (table.partitions, table.strategy)
        assert store.has_words == (table.words is not None)
        return Opened(store, reader, name, table)

    def lost(self, opened: Opened) -> bool:
        """Say whether the files of a chunked store were replaced or removed."""
        return opened.reader == "chunked" and self.published.get(opened.name) is not opened.table

    @rule(opened=opened, data=st.data())
    def look_up(self, opened, data):
        table = opened.table
        count = len(table.rows)
        ids = data.draw(st.lists(st.integers(0, max(count - 1, 0)), max_size=12 if count else 0))
        if self.lost(opened) and ids:
            with pytest.raises(embstore.StoreNotFoundError):
                opened.store.lookup(ids)
            return
        rows = opened.store.lookup(ids)
        assert rows.dtype == table.rows.dtype
        assert np.array_equal(rows, table.rows[np.array(ids, int)])

    @rule(opened=opened)
    def look_up_missing_id(self, opened):
        with pytest.raises(embstore.IdRangeError):
            opened.store.lookup([len(opened.table.rows)])

    @rule(opened=opened, data=st.data())
    def look_up_words(self, opened, data):
        words = opened.table.words
        if words is None:
            with pytest.raises(embstore.MissingWordError):
                opened.store.ids(["1-0"])
            return
        # The words are mapped by either reader, so they remain readable after the rows are lost.
        asked = data.draw(st.lists(st.sampled_from(words), max_size=8))
        ids = [words.index(word) for word in asked]
        assert opened.store.ids(asked).tolist() == ids
        assert opened.store.words(ids) == asked
        assert f"{opened.table.generation + 1}-0" not in opened.store
        if not self.lost(opened):
            assert np.array_equal(opened.store[asked], opened.table.rows[np.array(ids, int)])

    @rule(target=closed, opened=consumes(opened))
    def close(self, opened):
        opened.store.close()
        return opened

    @rule(closed=closed)
    def use_a_closed_store(self, closed):
        with pytest.raises(embstore.StoreClosedError):
            closed.store.lookup([0])
        with pytest.raises(embstore.StoreClosedError):
            closed.store.ids(["1-0"])

    @invariant()
    def only_published_stores_are_on_disk(self):
        assert {path.name for path in self.folder.iterdir()} == set(self.published)


Stores.TestCase.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
TestStores = Stores.TestCase
