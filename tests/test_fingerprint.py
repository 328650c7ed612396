"""Fingerprints: equal for equal tables in any layout, and different otherwise."""

from __future__ import annotations

import itertools
import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.formats.own import row_sums
from embstore.formats.own.heading import Heading
from embstore.formats.own.row_sums import RowSums
from tests.campaigns.stores import edit, reseal
from tests.helpers.fingerprints import fingerprint as model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TABLE = np.arange(44, dtype=np.float32).reshape(11, 4)
WORDS = [f"w{number}" for number in range(11)]
GOLDEN = "5e8b55fa8fb329a9c9655ee6838037d6"
PAIRED = 96


def write_store(
    path: Path, table: NDArray[Any] = TABLE, words: list[str] | None = WORDS, **settings: Any
) -> str:
    options: dict[str, Any] = {
        "rows": len(table),
        "row_shape": table.shape[1:],
        "dtype": table.dtype,
    }
    options |= {"partitions": 2, "unk": "w3"} | settings
    with embstore.StoreWriter(path, **options) as writer:
        writer.write(table, words)
    assert embstore.verify(path).ok
    with embstore.open(path) as store:
        return store.fingerprint()


def of_rows(table: NDArray[Any]) -> str:
    """Return the fingerprint of a table without words."""
    sums = RowSums()
    sums.add(table, range(len(table)))
    return sums.fingerprint(Heading(len(table), table.shape[1:], table.dtype.name))


def test_fingerprint_is_stable(tmp_path):
    # Checkpoints of models hold the fingerprint: another value would make them refuse their store.
    assert write_store(tmp_path / "t") == GOLDEN == model(TABLE, WORDS, "w3")


def test_copies_have_the_same_fingerprint(tmp_path):
    found = write_store(tmp_path / "a")
    assert write_store(tmp_path / "b") == found
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    (tmp_path / "a").rename(tmp_path / "moved")
    for name in ("copy", "moved"):
        for reader in ("mapped", "chunked"):
            with embstore.open(tmp_path / name, reader=reader) as store:
                assert store.fingerprint() == found


# --- any layout ---


@pytest.mark.parametrize("rows", [0, 1, 2, 11])
@pytest.mark.parametrize("partitions", [1, 3, 8])
@pytest.mark.parametrize("strategy", ["mod", "div"])
@pytest.mark.parametrize("chunk_rows", [None, 1, 4])
def test_layout_makes_no_difference(tmp_path, rows, partitions, strategy, chunk_rows):
    layout = {"partitions": partitions, "strategy": strategy, "chunk_rows": chunk_rows, "unk": None}
    table = TABLE[:rows]
    assert write_store(tmp_path / "t", table, WORDS[:rows] or None, **layout) == model(
        table, WORDS[:rows] or None
    )


@pytest.mark.parametrize("batch", [1, 3, 7, 200])
@pytest.mark.parametrize("copy", [True, False])
def test_batches_make_no_difference(tmp_path, batch, copy):
    words = [f"w{number}" for number in range(500)]
    table = np.random.default_rng(0).standard_normal((500, 3, 3)).astype(np.float16)
    with embstore.StoreWriter(
        tmp_path / "t", row_shape=(3, 3), dtype="float16", on_duplicate="first"
    ) as writer:
        for start in range(0, 500, batch):
            some = table[start : start + batch].copy()
            writer.write(some, words[start : start + batch], copy=copy)
            if copy:
                some[:] = 7
            writer.write(table[:1], ["w0"])  # A repeated word adds no row.
    assert embstore.open(tmp_path / "t").fingerprint() == model(table, words)


@pytest.mark.parametrize("kind", ["npy", "safetensors", "txt", "mapping", "store", "fortran"])
def test_sources_make_no_difference(tmp_path, kind):
    rows = (np.arange(60, dtype=np.float32) / 8).reshape(20, 3)
    words = [f"w{number}" for number in range(20)]
    source: Any = tmp_path / f"t.{kind}"
    options: dict[str, Any] = {}
    if kind == "npy":
        np.save(source, rows)
        options = {"words": words}
    elif kind == "safetensors":
        pytest.importorskip("safetensors.numpy").save_file({"t": rows}, source)
        options = {"words": words}
    elif kind == "txt":
        pairs = zip(words, rows, strict=True)
        source.write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in pairs))
    elif kind == "mapping":
        source = dict(zip(words, rows, strict=True))
    elif kind == "store":
        write_store(tmp_path / "old", rows, words, partitions=5, strategy="div", unk=None)
        source = embstore.open(tmp_path / "old")
    else:
        source, options = np.asfortranarray(rows), {"words": words}
    for partitions in (1, 3):
        built = embstore.build(
            source, tmp_path / f"s{partitions}", partitions=partitions, **options
        )
        assert built.fingerprint() == model(rows, words)


def test_busy_background_makes_no_difference(tmp_path, monkeypatch):
    for busy in (True, False):
        monkeypatch.setattr("embstore.writing.disk.background.Background.is_busy", busy)
        assert embstore.build(TABLE, tmp_path / f"{busy}").fingerprint() == model(TABLE)


@pytest.mark.parametrize("block_words", [1, 3, 1 << 15])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *(((5,), "uint8"), ((7, 3), "uint8"), ((9, 5), "float16"), ((4, 7), "int32")),
        *(((6, 8), "float64"), ((3, 9), "uint64"), ((2, 5, 5), "float64"), ((2, 40_001), "uint8")),
    ],
)
def test_sums_equal_the_model(monkeypatch, block_words, shape, dtype):
    monkeypatch.setattr(row_sums, "BLOCK_WORDS", block_words)
    row_sums._first_keys.cache_clear()
    random_numbers = np.random.default_rng(0)
    size = np.prod(shape) * np.dtype(dtype).itemsize
    table = random_numbers.integers(0, 256, size, np.uint8).view(dtype).reshape(shape)
    expected = model(table)
    assert of_rows(table) == expected
    sums = RowSums()
    for start in range(3):  # In any order, and any part of them.
        sums.add(table[start::3], range(start, len(table), 3))
    assert sums.fingerprint(Heading(len(table), shape[1:], dtype)) == expected
    row_sums._first_keys.cache_clear()


# --- other tables ---


def changed(row: int) -> NDArray[np.float32]:
    table = TABLE.copy()
    table[row, 0] += 1
    return table


def swapped(items: Any, one: int, other: int) -> Any:
    order = list(range(len(items)))
    order[one], order[other] = order[other], order[one]
    return items[order] if isinstance(items, np.ndarray) else [items[at] for at in order]


@pytest.mark.parametrize(
    "difference",
    [
        *({"table": changed(0)}, {"table": changed(10)}, {"table": TABLE.view(np.int32)}),
        *({"table": TABLE.reshape(11, 2, 2)}, {"words": [*WORDS[:10], "W10"]}, {"unk": "w4"}),
        *({"unk": None, "words": None}, {"unk": None}, {"table": swapped(TABLE, 3, 8)}),
        *({"words": swapped(WORDS, 0, 10)}, {"words": [*WORDS[1:], WORDS[0]]}),
        {"table": swapped(TABLE, 3, 8), "words": swapped(WORDS, 3, 8)},
        {"table": TABLE[:10], "words": WORDS[:10]},
        {"table": np.concatenate([TABLE, TABLE[:1] * 0]), "words": [*WORDS, "zero"]},
    ],
)
def test_other_tables_have_other_fingerprints(tmp_path, difference):
    assert write_store(tmp_path / "a", **difference) != GOLDEN


def distinct(tables: Any) -> None:
    found = [of_rows(table) for table in tables]
    assert len(set(found)) == len(found)
    for half in (slice(16), slice(16, 32)):  # Each of the two sums tells them apart.
        assert len({text[half] for text in found}) == len(found)


def test_shapes_and_dtypes_and_zeros():
    zeros = [np.zeros((rows, 6), np.float32) for rows in (0, 1, 2, 3, 255, 256)]
    shapes = [zeros[2].reshape(2, *shape) for shape in ((2, 3), (3, 2), (1, 6), (6, 1), (1, 2, 3))]
    views = [zeros[2].view(dtype) for dtype in ("int32", "float16", "uint8", "float64")]
    empty = [np.zeros((0, 2, 3), np.float32), np.zeros((0, 3, 2), np.float32), np.zeros(0, "u1")]
    widths = [np.zeros((2, width), np.uint8) for width in range(1, 24)]
    distinct([*zeros, *shapes, *views, *empty, *widths])


@pytest.mark.parametrize("fill", ["zeros", "ones", "random"])
@pytest.mark.parametrize(("shape", "dtype"), [((9,), "uint8"), ((4, 5), "float16"), ((3, 9), "f4")])
def test_every_bit_counts(fill, shape, dtype):
    table = np.zeros(shape, dtype) if fill == "zeros" else np.ones(shape, dtype)
    if fill == "random":
        table[:] = np.random.default_rng(0).integers(0, 100, shape)
    distinct([table, *flipped(table, ((bit,) for bit in range(8 * table.nbytes)))])


def flipped(table: NDArray[Any], bits: Any) -> Any:
    for places in bits:
        other = table.copy()
        for place in places:
            other.reshape(-1).view(np.uint8)[place // 8] ^= np.uint8(1 << place % 8)
        yield other


@pytest.mark.parametrize(
    ("shape", "spread"),
    [((1, 3), 1), ((4, 24), 32), ((PAIRED, 1), 32), ((2, 48), 32)],
    ids=["all bits of a row", "signs in four rows", "signs of scalars", "signs in two rows"],
)
@pytest.mark.parametrize("fill", [0, 1])
def test_every_pair_of_bits_counts(shape, spread, fill):
    # Two changes may cancel each other out in a weak sum, most easily if all numbers are equal.
    table = np.full(shape, fill, np.float32)
    places = [spread - 1 + spread * number for number in range(PAIRED)]
    assert places[-1] < 8 * table.nbytes
    distinct([table, *flipped(table, itertools.combinations(places, 2))])


def test_every_swap_of_rows_counts():
    table = (np.arange(60) % 4 // 2).astype(np.float32).reshape(30, 2)  # Many rows are equal.
    pairs = [
        (one, other)
        for one, other in itertools.combinations(range(30), 2)
        if not np.array_equal(table[one], table[other])
    ]
    distinct([table, *(swapped(table, *pair) for pair in pairs)])
    # Two swaps that are each other's opposite elsewhere.
    twice = [swapped(swapped(table, 0, 1), at, at + 1) for at in range(2, 29)]
    distinct([table, *twice])


# --- stored, checked, and of embstore 0.1 ---


def without_fingerprint(path: Path) -> None:
    edit(path / "zarr.json", lambda own: own.pop("fingerprint"))
    reseal(path)


def test_manifest_holds_the_fingerprint(tmp_path):
    write_store(tmp_path / "t")
    document = json.loads((tmp_path / "t/zarr.json").read_text())
    assert document["attributes"]["embstore"]["fingerprint"] == GOLDEN
    without_fingerprint(tmp_path / "t")
    assert embstore.verify(tmp_path / "t").ok
    for reader in ("mapped", "chunked"):
        with embstore.open(tmp_path / "t", reader=reader) as store:
            assert store.fingerprint() == store.fingerprint(full=True) == GOLDEN
            assert store.matches(GOLDEN)


@pytest.mark.parametrize("row_bytes", [1, 1200, (1 << 20) + 4])
def test_verify_checks_the_fingerprint(tmp_path, row_bytes):
    table = np.random.default_rng(0).integers(0, 255, (5, row_bytes), np.uint8)
    write_store(tmp_path / "t", table, None, unk=None, chunk_rows=2)
    edit(tmp_path / "t/zarr.json", lambda own: own.update(fingerprint=32 * "a"))
    reseal(tmp_path / "t")
    (problem,) = embstore.verify(tmp_path / "t").problems
    assert f"have the fingerprint {of_rows(table)}, but the manifest says {32 * 'a'}" in problem
    with embstore.open(tmp_path / "t") as store:
        assert store.fingerprint() == 32 * "a"
        with pytest.raises(embstore.StoreCorruptError, match="have the fingerprint"):
            store.fingerprint(full=True)


@pytest.mark.parametrize(
    "value", ["", 31 * "a", 33 * "a", 32 * "A", 32 * "g", 31 * "a" + "\n", 32 * "٣", None, 7, ["a"]]
)
def test_forged_fingerprint_is_refused(tmp_path, value):
    write_store(tmp_path / "t")
    edit(tmp_path / "t/zarr.json", lambda own: own.update(fingerprint=value))
    reseal(tmp_path / "t")
    with pytest.raises(embstore.StoreCorruptError, match="'fingerprint' of manifest is"):
        embstore.open(tmp_path / "t")


@pytest.mark.parametrize("origins", [5, "x", [5], [[]], {"a": 1}, None])
def test_forged_origins_are_refused(tmp_path, origins):
    write_store(tmp_path / "t")
    edit(tmp_path / "t/zarr.json", lambda own: own.update(source={"origins": origins}))
    reseal(tmp_path / "t")
    with pytest.raises(embstore.StoreCorruptError, match="origins of source must be a list of"):
        embstore.open(tmp_path / "t")
    with pytest.raises(ValueError, match="origins of source must be a list of"):
        write_store(tmp_path / "u", source={"origins": origins})
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


OLD = "926480e7f96d8a15b510fa7543aca34b"  # What embstore 0.1 said of this store.


def test_old_fingerprint_matches_the_same_store(tmp_path):
    write_store(tmp_path / "t")
    write_store(tmp_path / "u", changed(4))
    write_store(tmp_path / "v", partitions=3)
    for name, same in {"t": True, "u": False, "v": False}.items():
        with embstore.open(tmp_path / name) as store:
            assert store.matches(OLD) == same
            assert store.matches(GOLDEN) == (name != "u")
            assert not store.matches("f" + GOLDEN)
    np.save(tmp_path / "t.npy", TABLE)
    with embstore.open(tmp_path / "t.npy") as store:
        assert store.matches(store.fingerprint())
        assert not store.matches(GOLDEN)


@pytest.mark.parametrize("removed", [False, True])
def test_fingerprint_of_a_replaced_store(tmp_path, removed):
    write_store(tmp_path / "t")
    with embstore.open(tmp_path / "t") as store:
        write_store(tmp_path / "t", changed(0), overwrite=True)
        if removed:
            shutil.rmtree(tmp_path / "t")
        assert store.fingerprint() == store.fingerprint(full=True) == GOLDEN
        found = {name: store.matches(name) for name in (GOLDEN, OLD, 32 * "0")}
        # Only a store of embstore 0.1 was known by such a fingerprint.
        assert found == {GOLDEN: True, OLD: False, 32 * "0": False}
    with pytest.raises(embstore.StoreClosedError):
        store.fingerprint()
