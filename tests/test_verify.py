"""Verification: an undamaged store is ok, and each damage is found and named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import embstore
from embstore.errors import StoreNotFoundError
from tests.campaigns.stores import edit, reseal, rewrite_chunk
from tests.helpers.stores import flip

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROWS = 23


@pytest.fixture(scope="module")
def whole_store(tmp_path_factory):
    """A store of 23 rows over 3 partitions, in chunks of 4 rows, and words."""
    path = tmp_path_factory.mktemp("whole") / "t.embstore"
    with embstore.StoreWriter(
        path, row_shape=(3,), dtype="float32", partitions=3, chunk_rows=4, unk="w3"
    ) as writer:
        writer.write(np.arange(ROWS * 3).reshape(ROWS, 3), [f"w{i}" for i in range(ROWS)])
    return path


@pytest.fixture
def store(whole_store, tmp_path):
    """A copy of the store, to damage."""
    return shutil.copytree(whole_store, tmp_path / "t.embstore")


def chunk_files(store: Path) -> list[Path]:
    return sorted(path for path in store.rglob("c/**/*") if path.is_file())


def problem(store: Path) -> str:
    """Verify; return the one problem."""
    report = embstore.verify(store)
    assert not report.ok
    (found,) = report.problems
    assert str(store) in found
    return found


def test_whole_store_is_ok(store):
    seen: list[embstore.Progress] = []
    report = embstore.verify(str(store), progress=seen.append)
    assert report.ok
    assert report.problems == []
    assert report.file_count == len(chunk_files(store)) == 9
    assert report.byte_count == sum(path.stat().st_size for path in chunk_files(store))
    assert seen[-1] == embstore.Progress(report.byte_count, report.byte_count)
    done = [at.done_bytes for at in seen]
    assert done == sorted(done)


@pytest.mark.parametrize("number", range(9))
@pytest.mark.parametrize("place", [0, -5, -1], ids=["first byte", "last byte", "checksum"])
@pytest.mark.parametrize("bit", [1, 0x80])
def test_flipped_bit(store, number, place, bit):
    path = chunk_files(store)[number]
    flip(path, place, bit)
    found = problem(store)
    assert found.startswith(f"{path}: ")
    assert "it is damaged" in found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("partitions/0/c/0/0", "partitions/0/c/1/0"),
        ("partitions/0/c/1/0", "partitions/2/c/1/0"),
    ],
)
def test_swapped_chunks(store, one, other):
    """Each chunk is undamaged; only the list of checksums shows the exchange."""
    one, other = store / one, store / other
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    report = embstore.verify(store)
    assert [text.partition(": ")[0] for text in report.problems] == [str(one), str(other)]
    assert all("the file belongs to another chunk" in text for text in report.problems)


@pytest.mark.parametrize("name", ["partitions/1", "vocabulary/offsets"])
@pytest.mark.parametrize("sealed", [False, True])
def test_changed_list_of_checksums(store, name, sealed):
    def change(own):
        own["chunk_crc32c"][-1] ^= 1

    edit(store / name / "zarr.json", change)
    if sealed:
        reseal(store)
        assert f"{name}/zarr.json lists" in problem(store)
    else:
        assert f"{name}/zarr.json has the checksum" in problem(store)


@pytest.mark.parametrize("name", ["partitions/1", "vocabulary/slots"])
def test_metadata_that_differs_from_the_manifest(store, name):
    (store / name / "zarr.json").write_text("{}")
    assert f"{name}/zarr.json" in problem(store)


@pytest.mark.parametrize("damage", ["missing", "short", "under a file"])
def test_missing_or_short_chunk(store, damage):
    path = store / "partitions" / "1" / "c" / "1" / "0"
    match damage:
        case "missing":
            path.unlink()
        case "short":
            path.write_bytes(path.read_bytes()[:-1])
        case "under a file":
            shutil.rmtree(path.parent)
            path.parent.touch()
    assert problem(store).startswith(str(path))


def test_all_damages_are_named(store):
    for path in chunk_files(store):
        path.write_bytes(bytes(path.stat().st_size - 1) + b"x")
    report = embstore.verify(store)
    assert [Path(text.partition(": ")[0]) for text in report.problems] == chunk_files(store)


def slots_of(data: bytearray) -> NDArray[np.uint64]:
    return np.frombuffer(data, np.uint64)


def swap_two_words(data: bytearray) -> None:
    slots = slots_of(data)
    one, other = np.flatnonzero(slots)[:2]
    slots[[one, other]] = slots[[other, one]]


def empty_a_slot(data: bytearray) -> None:
    slots = slots_of(data)
    slots[np.flatnonzero(slots)[5]] = 0


def name_a_far_id(data: bytearray) -> None:
    slots = slots_of(data)
    slots[np.flatnonzero(slots)[5]] |= np.uint64((1 << 40) - 1)


def name_no_id(data: bytearray) -> None:
    slots = slots_of(data)
    slots[np.flatnonzero(slots)[5]] &= ~np.uint64((1 << 40) - 1)


@pytest.mark.parametrize("change", [swap_two_words, empty_a_slot, name_a_far_id, name_no_id])
def test_wrong_slots(store, change):
    """A faulty writer could leave this, with all checksums right."""
    rewrite_chunk(store / "vocabulary" / "slots" / "c" / "0", change)
    assert str(store / "vocabulary") in problem(store)


def test_offsets_out_of_range(store):
    def change(data):
        np.frombuffer(data, np.int64)[5] = 1 << 40

    rewrite_chunk(store / "vocabulary" / "offsets" / "c" / "0", change)
    assert "offsets" in problem(store)


def test_words_that_are_not_utf_8(store):
    def change(data):
        data[7] = 0xFF

    rewrite_chunk(store / "vocabulary" / "bytes" / "c" / "0", change)
    assert "UTF-8" in problem(store)


@pytest.mark.parametrize("change", [{"unk": "none of them"}, {"probe_count": 0}])
def test_misleading_manifest(store, change):
    def mislead(own):
        (own["vocabulary"] if "probe_count" in change else own).update(change)

    edit(store / "zarr.json", mislead)
    reseal(store)
    report = embstore.verify(store)
    assert report.problems
    assert all(str(store) in text for text in report.problems)


def test_verify_of_something_else_raises(store, tmp_path):
    with pytest.raises(StoreNotFoundError):
        embstore.verify(tmp_path)


def test_damaged_manifest_is_the_only_problem(store):
    edit(store / "zarr.json", lambda own: own.update(rows="many"))
    assert "'manifest_crc32c' of manifest is " in problem(store)
    reseal(store)
    assert "'rows' of manifest is a string, expected an integer" in problem(store)
