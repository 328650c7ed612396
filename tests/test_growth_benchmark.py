"""The benchmark of growth runs small: each curve has finite figures and an exponent."""

from __future__ import annotations

import math

import pytest

from benchmarks.growth.curves import Curve, exponent
from benchmarks.growth.model import TB, Costs, breaking, needs
from tests.helpers.programs import run_python

# Of each work, its curves, and what they measure.
CURVES = {
    "preload": {
        "preload, by size": ["in small pages, s", "cold, s"],
        "preload, by chunks": ["in small pages, s", "cold, s"],
    },
    "words": {
        "words, built beyond the memory share": ["million words/s", "million words/s, 8GiB"],
        "words, cold, to ids": ["embstore, words/s"],
        "words, cold, message for missing ones": ["message, ms"],
    },
    "ranges": {"ranges, cold": ["store[a:b], MB/s", "sorted ids, MB/s", "scan, MB/s"]},
    "mappings": {
        "mappings, sparse files": ["open, s", "chunks", "mappings"],
        "open, by chunks": ["warm, us a chunk", "cold, us a chunk"],
        "open, by partitions": ["warm, us a chunk", "cold, us a chunk"],
    },
    "partitions": {
        "build, many partitions": ["mod, ms a file", "div, ms a file"],
        "export, many partitions": ["one partition, s", "mod, s", "div, s"],
        "repartition, many partitions": ["one partition, s", "mod, s", "div, s"],
    },
    "threads": {"threads, 512 rows a call": ["embstore, calls/s", "np.take, calls/s"]},
    "limited": {
        "resident limit, huge pages": ["limited, ms", "no limit, ms"],
        "resident limit, small pages": ["limited, ms", "no limit and the faults, ms"],
    },
    "calls": {
        "many tables, 16 rows of each": ["lookup_many, us", "np.take, table after table, us"],
        "div, 16 rows a call": ["div, us", "mod, us"],
        "rows in a call": ["embstore, us", "np.take, us"],
    },
}
# The disk's rate is not measured on files as small as these.
WITHOUT_GOAL = ("open, by partitions", "words, cold, to ids")


@pytest.mark.parametrize("work", CURVES)
def test_each_curve_has_three_sizes_and_an_exponent(tmp_path, work):
    done = run_python(
        *("-m", "benchmarks.growth", "--small", "--work", work, "--directory", tmp_path)
    )
    _, *blocks = done.stdout.split("\n\n")
    curves = {lines[0]: lines[1:] for lines in (block.splitlines() for block in blocks)}
    assert list(curves) == list(CURVES[work])
    for name, ways in CURVES[work].items():
        for way in ways:
            (line,) = (line for line in curves[name] if line.startswith(f"  {way}  "))
            *values, slope = (float(cell.replace(",", "")) for cell in line[len(way) + 2 :].split())
            assert len(values) >= 3
            assert all(math.isfinite(value) and value > 0 for value in values)
            assert math.isfinite(slope)
        if name not in WITHOUT_GOAL:
            assert any(line.endswith(("  yes", "NO")) for line in curves[name])
    assert not list(tmp_path.iterdir())


def test_exponents():
    assert exponent({10: 5, 100: 50, 1000: 500}) == 1
    assert exponent({1: 7, 2: 7, 4: 7}) == 0
    assert exponent({1: 4, 2: 2, 4: 1}) == -1


def test_a_missing_size_is_shown():
    curve = Curve("open", "TB", {"s": {1: 2, 10: 20}, "peer, s": {1: 1}}, ["a goal"])
    assert [line.split() for line in curve.lines()] == [
        ["open"],
        ["TB", "1", "10", "exponent"],
        ["s", "2", "20", "1.00"],
        ["peer,", "s", "1", "-", "-"],
        ["a", "goal"],
    ]


def test_costs_come_from_the_largest_sizes():
    curves = [
        Curve("open, by chunks", "chunks", {"warm, us a chunk": {10: 90, 1000: 12.3456}}),
        Curve("preload, by size", "MiB", {"cold, s": {1000: 0.5, 2000: 1.048576}}),
        Curve("words, built beyond the memory share", "words", {"million words/s": {5: 2.5}}),
    ]
    usual, costs = Costs(), Costs.of(curves)
    assert (costs.open_us, costs.preload_gb_per_second, costs.words_per_second) == (12.3, 2, 2.5e6)
    assert costs.open_cold_us == usual.open_cold_us


def test_needs_grow_with_the_table_and_are_divided():
    def amounts(size, machines=1):
        return {need.what: need.amount for need in needs(size, 1200, machines)}

    small, large, divided = amounts(10 * TB), amounts(80 * TB), amounts(80 * TB, 8)
    assert all(large[what] >= amount for what, amount in small.items())
    for what in ("rows, built", "partitions", "page tables, at most"):
        assert divided[what] == large[what] / 8
    assert divided["words, their files"] == large["words, their files"]
    assert not any(need.share > 1 for need in needs(10 * TB, 1200))
    assert next(iter(breaking(1200))) == "address space"
