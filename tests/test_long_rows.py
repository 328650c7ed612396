"""A resident limit holds for rows of megabytes, of which few fit into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.reading import workers
from embstore.reading.resident_limit import ResidentLimit, resident_file_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT = 64 << 20
# The bytes of a row, and the number of rows: more than the limit in all cases.
SIZES = {"3 MiB": (3 << 20, 60), "4 MiB and a bit": ((4 << 20) + 12, 40), "90 MiB": (90 << 20, 2)}


@pytest.fixture(scope="module")
def table(request, tmp_path_factory) -> tuple[Path, int, int]:
    """A store whose row r has the number r everywhere, and r + 0.5 at its end."""
    size_bytes, rows = SIZES[request.param]
    path = tmp_path_factory.mktemp("long") / "t.embstore"
    with embstore.StoreWriter(path, row_shape=(size_bytes // 4,), dtype="float32") as writer:
        for number in range(rows):
            row = np.full((1, size_bytes // 4), number, np.float32)
            row[0, -1] += 0.5
            writer.write(row)
    return path, size_bytes, rows


def check(row: Any, number: int) -> None:
    assert row[0] == row[-2] == number
    assert row[-1] == number + 0.5


def look_up_all(store: embstore.EmbeddingStore) -> None:
    found = store.lookup(np.arange(len(store))[::-1])
    for number, row in enumerate(found[::-1]):
        check(row, int(number))


def look_up_one_by_one(store: embstore.EmbeddingStore) -> None:
    for number in range(len(store)):
        check(store[number], number)


def look_up_in_batches(store: embstore.EmbeddingStore) -> None:
    for number in range(0, len(store), 2):
        check(store[[number, number]][1], number)


def look_up_many(store: embstore.EmbeddingStore) -> None:
    """More rows than one slice has."""
    for number, row in zip(
        np.arange(70) % len(store), store[np.arange(70) % len(store)], strict=True
    ):
        check(row, int(number))


def scan(store: embstore.EmbeddingStore) -> None:
    seen = []

    def visit(ids: range, rows: Any) -> None:
        assert not rows.flags.writeable
        for number, row in zip(ids, rows, strict=True):
            check(row, int(number))
            seen.append(number)

    store.scan(visit)
    assert sorted(seen) == list(range(len(store)))


@pytest.mark.parametrize("processors", [1, 8])
@pytest.mark.parametrize(
    ("table", "use"),
    [
        (size, use)
        for size in SIZES
        for use in (look_up_all, look_up_one_by_one, look_up_in_batches, look_up_many, scan)
        if (size, use) != ("90 MiB", look_up_many)  # The result would have gigabytes.
    ],
    indirect=["table"],
)
def test_limit_holds(table, use: Callable[..., None], processors: int, monkeypatch):
    path, _, _ = table
    if not resident_file_bytes():
        pytest.skip("this system does not tell the resident size")
    monkeypatch.setattr(workers, "processor_count", lambda: processors)
    highest = [0]
    release = ResidentLimit._release

    def releasing(self: ResidentLimit, *given: Any) -> None:
        highest[0] = max(highest[0], resident_file_bytes())
        release(self, *given)

    monkeypatch.setattr(ResidentLimit, "_release", releasing)
    with embstore.open(path, resident_limit=LIMIT) as store:
        before = resident_file_bytes()
        use(store)
        highest[0] = max(highest[0], resident_file_bytes())
    assert highest[0] - before < LIMIT + (8 << 20)
