"""Files that two versions of a store share: no change of either writes into one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from tests.campaigns import stores
from tests.campaigns.faults import Step, by_clones, by_copies, by_links, steps
from tests.helpers.stores import make_store

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = np.random.default_rng(3).integers(-40, 40, (50, 4)).astype(np.float32)
NEW = -ROWS[:7]
WORDS = [f"w{number}" for number in range(50)]
LAYOUTS: dict[str, dict[str, Any]] = {
    "raw": {"words": WORDS, "partitions": 3, "chunk_rows": 4},
    "one chunk": {"partitions": 1, "chunk_rows": 128},
    "full chunks": {"partitions": 1, "chunk_rows": 2},
    "compressed": {"words": WORDS, "partitions": 2, "chunk_rows": 4, "compression": "zstd"},
    "encoded": {"partitions": 2, "chunk_rows": 4, "encoding": "int8"},
}
WAYS = [(layout, by_links) for layout in LAYOUTS]
WAYS += [("raw", by_clones), ("raw", by_copies), ("compressed", by_copies)]


def append(path: Path, *, words: bool) -> object:
    return embstore.append(path, NEW, words=[f"n{i}" for i in range(7)] if words else None)


def update(path: Path, *, words: bool) -> object:
    ids: Any = [WORDS[3], WORDS[49], WORDS[0]] if words else [3, 49, 0]
    return embstore.update(path, ids, NEW[:3])


def update_all(path: Path, *, words: bool) -> object:
    return embstore.update(path, range(50), -ROWS)


def upsert(path: Path, *, words: bool) -> object:
    if not words:
        return update(path, words=False)
    return embstore.upsert(path, NEW, words=[*WORDS[4:8], "n0", "n1", "n2"])


def many_appends(path: Path, *, words: bool) -> object:
    for number in range(6):
        new = [f"{number}-{i}" for i in range(7)]
        embstore.append(path, NEW, words=new if words else None)
    return None


def rebuild(path: Path, *, words: bool) -> object:
    make_store(path, NEW, overwrite=True).close()
    return None


def replace_by_snapshot(path: Path, *, words: bool) -> object:
    make_store(path.with_name("other"), NEW, overwrite=True).close()
    return embstore.snapshot(path.with_name("other"), path, overwrite=True)


CHANGES = [append, update, update_all, upsert, many_appends, rebuild, replace_by_snapshot]


def state(path: Path) -> dict[str, tuple[Any, ...]]:
    """Return what tells whether a file was written to."""
    found = {}
    for file in stores.files_of(path):
        status = file.stat()
        facts = status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode
        found[str(file.relative_to(path))] = (*facts, file.read_bytes())
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("change", CHANGES)
def test_changes_leave_a_snapshot_as_it_is(tmp_path, layout, change):
    """The snapshot has the very files of the store."""
    path, kept = tmp_path / "s", tmp_path / "kept"
    with make_store(path, ROWS, **LAYOUTS[layout]) as store:
        words, rows = store.has_words, store[:]
    embstore.snapshot(path, kept)
    before, linked = state(kept), {file.stat().st_ino for file in stores.files_of(path)}
    assert any(facts[0] in linked for facts in before.values())
    change(path, words=words)
    assert state(kept) == before
    for one in (path, kept):
        assert embstore.verify(one).ok
    with embstore.open(kept) as store:
        assert np.array_equal(store[:], rows)
    # The other way round: what is written over the snapshot leaves the store.
    before = state(path)
    change(kept, words=words)
    assert state(path) == before
    assert embstore.verify(kept).ok


@pytest.mark.parametrize(("layout", "take"), WAYS)
@pytest.mark.parametrize("change", CHANGES)
def test_no_step_writes_into_a_file_of_the_old_version(tmp_path, layout, take, change):
    """Every file that is written to was created by the change, and is not a link."""
    path = tmp_path / "s"
    with make_store(path, ROWS, **LAYOUTS[layout]) as store:
        words = store.has_words
    created: set[Path] = set()
    taken: set[str] = set()

    def check(step: Step, do: Callable[[], Any]) -> Any:
        written = step.to if step.kind in ("clone", "copy") else step.path
        if step.kind in ("write", "reopen", "clone", "copy"):
            assert written in created, step
        if step.kind == "write":
            there = os.fstat(step.descriptor)
            assert there.st_nlink == 1, step
            assert os.path.samestat(there, step.path.stat()), step
        if step.kind == "create":
            created.add(step.path)
        result = do()
        if step.kind in ("link", "clone", "copy"):
            taken.add(step.kind)
            assert step.path.stat().st_nlink <= 2
        return result

    with take(), steps(check, syncs=True):
        change(path, words=words)
    expected = {by_links: "link", by_clones: "clone", by_copies: "copy"}[take]
    assert taken <= {expected}
    if change is not rebuild and (change is not update_all or words):
        assert taken == {expected}
    assert embstore.verify(path).ok
