"""Calls of a few rows: in many tables at once, with ``div``, and of 64 or 65 rows."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from benchmarks.growth.curves import Curve, Values
from benchmarks.growth.tables import RepeatedTable
from benchmarks.growth.turns import time_calls
from benchmarks.times import at_most
from embstore.bench.timing import check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.growth.sizes import Sizes
    from embstore.table.numbering import Strategy

    Progress = Callable[[str], None]
    Ids = NDArray[np.int64]

ROW_BYTES = 160
TABLE_ROWS = 5_000
BATCH = 16

TOGETHER, ONE_BY_ONE = "lookup_many, us", "store after store, us"
TAKE, MERGED = "np.take, table after table, us", "one merged table, us"
MOST_OF_TAKE = 1.4
# What `div` may add to a call; with one partition, only what the times vary by.
PARTITIONS = (1, 4, 64)
STRATEGIES: tuple[Strategy, ...] = ("div", "mod")
MOST_DIV_US, MOST_DIV_ONE_US = 0.5, 0.1
CALL_ROWS = (32, 64, 65, 128)
MOST_STEP_US = 0.5


def curves(place: Path, sizes: Sizes, progress: Progress) -> list[Curve]:
    """Return the curves by the number of tables, of partitions, and of rows."""
    progress("calls: many tables")
    tables = many_tables(place, sizes.tables, sizes.calls)
    progress("calls: div")
    div = mod_and_div(place, sizes.call_rows, sizes.calls)
    progress("calls: 64 and 65 rows")
    return [tables, div, steps(place, sizes.call_rows, sizes.calls)]


def many_tables(place: Path, counts: tuple[int, ...], calls: int) -> Curve:
    """Return the curve of a few rows from each of many tables."""
    found: dict[str, Values] = {}
    most = max(counts)
    made = [RepeatedTable.make(place / f"{n}.embstore", TABLE_ROWS, ROW_BYTES) for n in range(most)]
    merged = RepeatedTable.make(place / "merged.embstore", TABLE_ROWS * most, ROW_BYTES)
    matrices = [table.matrix() for table in made]
    with ExitStack() as stack:
        whole, *stores = (
            stack.enter_context(embstore.open(table.path, preload=True))
            for table in [merged, *made]
        )
        for count in counts:
            ways = ways_to_ask(stores[:count], matrices[:count])
            ways[MERGED] = lambda ids: whole.lookup(ids.reshape(-1))
            for way, value in time_calls(
                ways, partial(_draw, TABLE_ROWS, (count, BATCH)), calls
            ).items():
                found.setdefault(way, {})[count] = value
    # The goal is that of a language model's tables, one for each layer.
    count = counts[len(counts) // 2]
    ratio = found[TOGETHER][count] / found[TAKE][count]
    goal = at_most(f"many tables, {count} of them, times np.take", ratio, MOST_OF_TAKE)
    return Curve(f"many tables, {BATCH} rows of each", "tables", found, [goal])


def ways_to_ask(
    stores: Sequence[Any], matrices: Sequence[NDArray[Any]]
) -> dict[str, Callable[[Ids], Any]]:
    """Return the ways to look up some ids in each store, a row of ids for each; checked once."""
    ways: dict[str, Callable[[Ids], Any]] = {
        TOGETHER: lambda ids: embstore.lookup_many(list(zip(stores, ids, strict=True))),
        ONE_BY_ONE: lambda ids: [
            store.lookup(some) for store, some in zip(stores, ids, strict=True)
        ],
        TAKE: lambda ids: [
            np.take(matrix, some, 0) for matrix, some in zip(matrices, ids, strict=True)
        ],
    }
    ids = _draw(TABLE_ROWS, (len(stores), BATCH), np.random.default_rng(2))
    for way in (TOGETHER, ONE_BY_ONE):
        for some, rows, expected in zip(ids, ways[way](ids), ways[TAKE](ids), strict=True):
            check_rows(way, some, rows, expected)
    return ways


def mod_and_div(place: Path, rows: int, calls: int) -> Curve:
    """Return the curve of calls with `mod` and with `div`, by the number of partitions."""
    ways: dict[str, Values] = {"div, us": {}, "mod, us": {}}
    added = {}
    for count in PARTITIONS:
        with ExitStack() as stack:
            lookups: dict[str, Callable[[Ids], Any]] = {}
            for strategy in STRATEGIES:
                path = place / f"{strategy}-{count}.embstore"
                RepeatedTable.make(path, rows, ROW_BYTES, partitions=count, strategy=strategy)
                store = stack.enter_context(embstore.open(path, preload=True))
                lookups[f"{strategy}, us"] = store.lookup
            found = time_calls(lookups, partial(_draw, rows, (BATCH,)), calls)
        for way, value in found.items():
            ways[way][count] = value
        added[count] = found["div, us"] - found["mod, us"]
    several = max(value for count, value in added.items() if count > 1)
    goals = [
        at_most("div, one partition, us more than mod", added[1], MOST_DIV_ONE_US),
        at_most("div, several partitions, us more than mod", several, MOST_DIV_US),
    ]
    return Curve(f"div, {BATCH} rows a call", "partitions", ways, goals)


def steps(place: Path, rows: int, calls: int) -> Curve:
    """Return the curve of calls by the number of rows, around the end of the short path."""
    path = place / "steps.embstore"
    table = RepeatedTable.make(path, rows, ROW_BYTES)
    matrix = table.matrix()
    ours: Values = {}
    take: Values = {}
    with embstore.open(path, preload=True) as store:
        ways = {
            (name, count): (lambda ids, count=count, lookup=lookup: lookup(ids[:count]))
            for count in CALL_ROWS
            for name, lookup in (("ours", store.lookup), ("take", lambda ids: matrix.take(ids, 0)))
        }
        found = time_calls(ways, partial(_draw, rows, (max(CALL_ROWS),)), calls)
    for (name, count), value in found.items():
        (ours if name == "ours" else take)[count] = value
    step = ours[65] - ours[64] - (take[65] - take[64])
    goal = at_most("65 rows, us more than 64", step, MOST_STEP_US)
    return Curve("rows in a call", "rows", {"embstore, us": ours, "np.take, us": take}, [goal])


def _draw(rows: int, shape: tuple[int, ...], random: np.random.Generator) -> Ids:
    return random.integers(0, rows, shape)
