"""Damaged and hostile compressed stores: errors that name the file, in bounded memory."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import google_crc32c
import numpy as np
import pytest
from numcodecs import blosc, zstd

import embstore
from embstore import StoreCorruptError
from embstore.formats.own.compression import decode
from embstore.formats.own.seals import checksum, manifest_checksum
from tests.helpers.stores import flip, make_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

READERS: list[Literal["mapped", "chunked"]] = ["mapped", "chunked"]
SHARD = "partitions/0/c/0/0"
ARRAY = "partitions/0/zarr.json"
# 8 inner chunks of 128 rows of 256 bytes in each of two shards; the last two are absent.
TABLE = np.random.default_rng(0).integers(-9, 9, (1700, 64)).astype(np.float32)
INNER_BYTES, COUNT = 32 << 10, 8
INDEX_BYTES = 16 * COUNT


@pytest.fixture(params=["zstd", "blosc"])
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path, codec: str) -> Path:
    make_store(tmp_path / "s", TABLE, compression=codec, chunk_rows=1024).close()
    return tmp_path / "s"


def parts_of(path: Path) -> tuple[list[bytes], NDArray[np.uint64]]:
    """Return the encoded inner chunks of the first shard, and its index."""
    data = (path / SHARD).read_bytes()
    index = np.frombuffer(data[-INDEX_BYTES - 4 : -4], np.uint64).reshape(-1, 2).copy()
    starts, sizes = index[:, 0].astype(int), index[:, 1].astype(int)
    return [data[a : a + n] for a, n in zip(starts, sizes, strict=True)], index


def forge(path: Path, encoded: list[bytes], index: NDArray[np.uint64] | None = None) -> None:
    """Write the first shard with these inner chunks, and make all checksums fit."""
    if index is None:
        sizes = np.array([len(one) for one in encoded], np.uint64)
        index = np.stack([np.cumsum(sizes) - sizes, sizes], axis=1).astype(np.uint64)
    data = b"".join(encoded) + index.tobytes()
    tail = google_crc32c.value(index.tobytes())
    data += tail.to_bytes(4, "little")
    (path / SHARD).write_bytes(data)

    def change(listed: dict[str, Any]) -> None:
        listed["chunk_crc32c"][0] = google_crc32c.value(data)
        listed["index_crc32c"][0] = tail
        listed["chunk_bytes"][0] = len(data)

    relist(path, change)


def relist(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what the array lists, and make the checksums above fit."""
    document = json.loads((path / ARRAY).read_text())
    change(document["attributes"]["embstore"])
    (path / ARRAY).write_text(json.dumps(document))
    root = json.loads((path / "zarr.json").read_text())
    fields = root["attributes"]["embstore"]
    fields["metadata_crc32c"][ARRAY] = checksum((path / ARRAY).read_bytes())
    fields["manifest_crc32c"] = manifest_checksum(fields)
    (path / "zarr.json").write_text(json.dumps(root))


def sealed(packed: bytes) -> bytes:
    return packed + checksum(packed).to_bytes(4, "little")


def packed_rows(codec: str, rows: NDArray[Any]) -> bytes:
    if codec == "zstd":
        return bytes(zstd.compress(rows, 3))
    return bytes(blosc.compress(rows, b"zstd", 5, 1, max(rows.nbytes, 1)))


def fails(path: Path, row: int, match: str, *, opens: bool = True) -> None:
    """Check that a row cannot be read, that others can, and that verify tells it."""
    for reader in READERS:
        if not opens:
            with pytest.raises(StoreCorruptError, match=match):
                embstore.open(path, reader=reader)
            continue
        with embstore.open(path, reader=reader) as store:
            for call in (
                lambda: store[row],
                lambda: store.lookup([row, 1500]),
                lambda: store.scan(lambda ids, rows: None),
                store.to_numpy,
                lambda: store.prefetch([row]).wait(),
                lambda: store.submit([row]).result(),
                lambda: store.warm([row]),
            ):
                with pytest.raises(StoreCorruptError, match=match) as caught:
                    call()
                assert SHARD in str(caught.value)
            assert (store.lookup([1024, 1699]) == TABLE[[1024, 1699]]).all()
    report = embstore.verify(path)
    assert any(SHARD in problem for problem in report.problems)


def test_every_byte_is_covered(path):
    """Verify notices each flipped byte of a shard; an open those of the checksum at its end."""
    size = (path / SHARD).stat().st_size
    places = {*range(0, size, 1 + size // 60), *range(size - INDEX_BYTES - 4, size)}
    for place in sorted(places):
        flip(path / SHARD, place)
        assert not embstore.verify(path).ok, place
        if place < size - 4:
            with embstore.open(path) as store, pytest.raises(StoreCorruptError):
                store.to_numpy()
        else:
            with pytest.raises(StoreCorruptError, match="another chunk or another build"):
                embstore.open(path)
        flip(path / SHARD, place)
    assert embstore.verify(path).ok


def test_damaged_inner_chunk(path):
    _, index = parts_of(path)
    flip(path / SHARD, int(index[3, 0]) + 40)
    fails(path, 3 * 128, "the inner chunk at byte .* has the checksum")
    with embstore.open(path) as store:  # The others are read.
        assert (store.lookup([0, 200, 1023]) == TABLE[[0, 200, 1023]]).all()


def test_swapped_files(path):
    one, other = path / SHARD, path / "partitions/0/c/1/0"
    one.rename(path / "x")
    other.rename(one)
    (path / "x").rename(other)
    fails(path, 0, "expected|another chunk", opens=False)


def test_swapped_inner_chunks_are_noticed_by_verify(path):
    """Two inner chunks of one size could be swapped without a change of the index."""
    encoded, _ = parts_of(path)
    swapped = [encoded[1], encoded[0], *encoded[2:]]
    data = (path / SHARD).read_bytes()
    (path / SHARD).write_bytes(b"".join(swapped) + data[sum(map(len, encoded)) :])
    assert not embstore.verify(path).ok


@pytest.mark.parametrize("size", [0, 1, 100, 132, -1, -133])
def test_cut_files(path, size):
    data = (path / SHARD).read_bytes()
    (path / SHARD).write_bytes(data[:size])
    fails(path, 0, "bytes, expected", opens=False)


def test_missing_files(path):
    (path / SHARD).unlink()
    fails(path, 0, "is missing", opens=False)


ABSENT = np.uint64(2**64 - 1)
INDEXES: dict[str, tuple[int, int, int]] = {  # The inner chunk, the column, and what is added.
    "a gap": (2, 0, 1),
    "an overlap": (2, 0, -1),
    "beyond the file": (7, 1, 1 << 40),
    "longer than the file by one": (7, 1, 1),
    "an offset that overflows": (2, 0, 2**63),
    "a size that overflows": (2, 1, 2**63),
    "an empty one": (7, 1, 0),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_hostile_indexes(path, kind):
    encoded, index = parts_of(path)
    inner, column, more = INDEXES[kind]
    changed = int(index[inner, column]) + more if more else 0
    index[inner, column] = np.uint64(changed % 2**64)
    forge(path, encoded, index)
    fails(path, inner * 128, "its index is wrong")


@pytest.mark.parametrize("inner", [0, 3, 7])
def test_absent_inner_chunks(path, inner):
    """Zarr reads an absent one as zeros; a build writes none, so it is damage."""
    encoded, _ = parts_of(path)
    encoded[inner] = b""
    sizes = np.array([len(one) for one in encoded], np.uint64)
    index = np.stack([np.cumsum(sizes) - sizes, sizes], axis=1).astype(np.uint64)
    index[inner] = ABSENT
    forge(path, encoded, index)
    fails(path, inner * 128, "is wrong: an absent|is missing")


@pytest.mark.parametrize("size", [0, 1, INNER_BYTES - 1, INNER_BYTES + 1, 256 << 20])
def test_inner_chunks_of_another_size(path, codec, size):
    """One that holds more or fewer bytes than the rows, up to a bomb."""
    encoded, _ = parts_of(path)
    if codec == "blosc" and not size:
        encoded[2] = sealed(b"\x02\x01\x03\x04" + bytes(8) + b"\x10\0\0\0")
    else:
        encoded[2] = sealed(packed_rows(codec, np.zeros(size, np.uint8)))
    forge(path, encoded)
    before = reset_peak()
    fails(path, 256, "holds|cannot be decoded")
    assert peak_kib() - before < 100 << 10


def reset_peak() -> int:
    """Reset the highest resident size of this process, and return it in KiB; 0 if unknown."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("the peak of memory cannot be reset")
    return peak_kib()


def peak_kib() -> int:
    (line,) = re.findall(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    return int(line)


@pytest.mark.parametrize(
    "change",
    [
        lambda packed: b"",
        lambda packed: b"\0",
        lambda packed: packed[:-1],
        lambda packed: packed[:10],
        lambda packed: packed + b"\0",
        lambda packed: packed[:5] + bytes([packed[5] ^ 255]) + packed[6:],
        lambda packed: packed[:20] + bytes(len(packed) - 20),
        lambda packed: packed[:20] + b"\xff" * (len(packed) - 20),
        lambda packed: bytes(len(packed)),
    ],
)
def test_forged_inner_chunks(path, change):
    encoded, _ = parts_of(path)
    encoded[2] = sealed(change(encoded[2][:-4]))
    forge(path, encoded)
    report = embstore.verify(path)
    if report.problems == [] or "fingerprint" in report.problems[0]:
        pytest.skip("the change is another encoding of as many bytes")
    fails(path, 256, "inner chunk|index is wrong")


def test_frames_behind_a_frame(path):
    """Of zstd, a second frame must not add rows; Blosc has one block only."""
    encoded, _ = parts_of(path)
    encoded[2] = sealed(encoded[2][:-4] + encoded[3][:-4])
    forge(path, encoded)
    fails(path, 256, "cannot be decoded|it says that")


def test_blosc_never_starts_threads():
    rows = np.arange(1 << 20, dtype=np.uint8)
    packed = bytes(blosc.compress(rows, b"zstd", 5, 1, 1 << 12))
    with pytest.raises(ValueError, match="blocks of 4096 bytes, expected one of"):
        decode("blosc", np.frombuffer(sealed(packed), np.uint8), np.empty(1 << 20, np.uint8))


def test_random_bytes_never_decode(codec):
    """Whatever stands in an inner chunk is an error, or as many bytes as expected."""
    random = np.random.default_rng(5)
    rows = random.integers(0, 3, 4096).astype(np.uint8)
    good = packed_rows(codec, rows)
    out = np.empty(4096, np.uint8)
    for _ in range(3000):
        bad = bytearray(good)
        for place in random.integers(0, len(bad), random.integers(1, 4)):
            bad[place] = random.integers(256)
        cut = len(bad) if random.random() < 0.8 else random.integers(len(bad) + 1)
        with suppress(ValueError):
            decode(codec, np.frombuffer(sealed(bytes(bad[:cut])), np.uint8), out)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"compression": None}, "'compression' of manifest"),
        ({"compression": {"codec": "zstd"}}, "'level' of compression is missing"),
        ({"compression": {"codec": "zstd", "level": 23}}, "the level of zstd must be"),
        ({"compression": {"codec": 1, "level": 3}}, "'codec' of compression"),
        ({"inner_chunk_rows": 0}, "'inner_chunk_rows' of manifest is 0"),
        ({"inner_chunk_rows": 3}, "inner_chunk_rows must be a power of two"),
        ({"inner_chunk_rows": 2048}, "inner_chunk_rows must be a power of two up to"),
        ({"inner_chunk_rows": "128"}, "'inner_chunk_rows' of manifest is a string"),
        ({"inner_chunk_rows": 64}, "does not match the manifest"),
        ({"chunk_rows": 1 << 40, "inner_chunk_rows": 1}, "inner chunks in a shard|take more"),
        ({"chunk_rows": 1 << 13, "inner_chunk_rows": 1 << 13}, "an inner chunk of 8192 rows has"),
        ({"layout": "raw"}, "does not match the manifest"),
    ],
)
def test_hostile_manifests(path, fields, message):
    root = json.loads((path / "zarr.json").read_text())
    found = root["attributes"]["embstore"]
    found |= fields
    found["manifest_crc32c"] = manifest_checksum(found)
    (path / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(StoreCorruptError, match=message):
        embstore.open(path)


@pytest.mark.parametrize("key", ["chunk_crc32c", "index_crc32c", "chunk_bytes"])
@pytest.mark.parametrize("value", [None, [], [1], [1, 2, 3], ["1", 2], [-1, 5]])
def test_hostile_lists(path, key, value):
    def change(listed: dict[str, Any]) -> None:
        listed[key] = value
        if value is None:
            del listed[key]

    relist(path, change)
    with pytest.raises(StoreCorruptError, match=key):
        embstore.open(path)


def test_sizes_too_small_for_an_index(path):
    relist(path, lambda listed: listed.update(chunk_bytes=[INDEX_BYTES, 10**6]))
    with pytest.raises(StoreCorruptError, match=r"'chunk_bytes' .* has 128, expected more than"):
        embstore.open(path)


def test_links(path, tmp_path):
    """A link is read whole when it is opened, as in the raw layout."""
    (path / SHARD).rename(tmp_path / "blob")
    (path / SHARD).symlink_to(tmp_path / "blob")
    for reader in READERS:
        with embstore.open(path, reader=reader) as store:
            assert (store[:] == TABLE).all()
    assert embstore.verify(path).ok
    flip(tmp_path / "blob", 30)
    for reader in READERS:
        with pytest.raises(StoreCorruptError, match="is a symbolic link to a file that does not"):
            embstore.open(path, reader=reader)
    (problem,) = embstore.verify(path).problems
    assert "symbolic link" in problem
