"""Damage that `open` and full verification refuse, and changes that are not damage."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.errors import StoreCorruptError
from tests.campaigns import stores
from tests.helpers.stores import flip


@pytest.fixture
def store(tmp_path):
    return stores.make_store(tmp_path / "t.embstore")


@pytest.mark.parametrize("reader", ["mapped", "chunked"])
@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("partitions/0/c/0/0", "partitions/0/c/1/0"),
        ("partitions/1/c/0/0", "partitions/2/c/0/0"),
        ("partitions/0/zarr.json", "partitions/1/zarr.json"),
    ],
)
def test_swapped_files_are_refused_by_open(store, one, two, reader):
    """Both files are undamaged and of equal size; a lookup would give rows of other words."""
    first, second = (store / one).read_bytes(), (store / two).read_bytes()
    (store / one).write_bytes(second)
    (store / two).write_bytes(first)
    with pytest.raises(StoreCorruptError, match=r"another (chunk|build)"):
        embstore.open(store, reader=reader)


def test_partition_of_another_build_is_refused_by_open(store, tmp_path):
    other = stores.make_store(tmp_path / "other.embstore", scale=2)
    shutil.rmtree(store / "partitions/1")
    shutil.copytree(other / "partitions/1", store / "partitions/1")
    with pytest.raises(StoreCorruptError, match=r"partitions/1/zarr.json has the checksum"):
        embstore.open(store)


def test_open_with_full_verification(store):
    told: list[embstore.Progress] = []
    with embstore.open(store, verify="full", progress=told.append) as whole:
        assert np.array_equal(whole[:], stores.table())
    assert told
    assert told[-1].done_bytes == told[-1].total_bytes
    for number in (0, 2):
        chunk = store / f"partitions/{number}/c/1/0"
        flip(chunk, 5, 4)
    # Only reading all rows shows a flipped bit among them.
    embstore.open(store).close()
    with pytest.raises(StoreCorruptError, match=r"partitions/0/c/1/0: .* \(and 1 more problems\)"):
        embstore.open(store, verify="full")
    with pytest.raises(ValueError, match=r"verify must be .sizes. or .full., not 'all'"):
        embstore.open(store, verify="all")  # type: ignore[arg-type]


def test_added_attributes_are_not_damage(store):
    import zarr

    zarr.open_group(store).attrs["license"] = "PDDL-1.0"
    assert embstore.verify(store).ok
    assert embstore.open(store)["w7"].tolist() == stores.table()[7].tolist()


def test_store_without_checksums_of_metadata_is_damaged(store):
    def forget(own):
        del own["metadata_crc32c"], own["manifest_crc32c"]

    stores.edit(store / "zarr.json", forget)
    assert "'manifest_crc32c' of manifest is missing" in embstore.verify(store).problems[0]
    with pytest.raises(StoreCorruptError, match="'manifest_crc32c' of manifest is missing"):
        embstore.open(store)


@pytest.mark.parametrize("one", ["metadata_crc32c", "manifest_crc32c"])
def test_missing_kind_of_checksum_is_refused(store, one):
    stores.edit(store / "zarr.json", lambda own: own.pop(one))
    with pytest.raises(StoreCorruptError, match="_crc32c"):
        embstore.open(store)


def test_source_facts_survive_the_checksum(tmp_path):
    """Floats, non-ASCII text and keys that are not strings are compared as JSON writes them."""
    path = tmp_path / "t.embstore"
    source: dict[Any, Any] = {
        "ratio": 0.1,
        "tiny": 1e-300,
        "name": 'käse \u2028 \x7f "',
        "b": (1, 2),
        3: None,
    }
    with embstore.StoreWriter(path, row_shape=(1,), dtype="int8", source=source) as writer:
        writer.write([[1]])
    assert embstore.verify(path).ok
    with embstore.open(path) as store:
        assert store.source["b"] == [1, 2]
        assert store.source["3"] is None
    with (
        pytest.raises(ValueError, match="not JSON compliant"),
        embstore.StoreWriter(
            tmp_path / "u", row_shape=(1,), dtype="int8", source={"nan": np.nan}
        ) as writer,
    ):
        writer.write([[1]])
