"""A small store to damage, and changes of it whose checksums are corrected."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

import embstore
from embstore.formats.own.seals import manifest_checksum

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

ROWS = 23
COLUMNS = 3
WORDS = [f"w{number}" for number in range(ROWS)]
METADATA = "zarr.json"


def table(scale: int = 1) -> NDArray[np.float32]:
    """Return the rows of the small store, shape (23, 3), all numbers different."""
    return (np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS) + 1) * scale


def make_store(path: Path, scale: int = 1) -> Path:
    """Write 23 rows over 3 partitions, in 6 chunks of 4 rows, with words; return ``path``."""
    with embstore.StoreWriter(
        path, row_shape=(COLUMNS,), dtype="float32", partitions=3, chunk_rows=4, unk="w3"
    ) as writer:
        writer.write(table(scale), WORDS)
    return path


def files_of(store: Path) -> list[Path]:
    """Return all files of a store."""
    return sorted(path for path in store.rglob("*") if path.is_file())


def chunk_files(store: Path) -> list[Path]:
    """Return the chunk files of a store."""
    return [path for path in files_of(store) if path.name != METADATA]


def array_of(chunk: Path) -> Path:
    """Return the directory of the array that a chunk file belongs to."""
    return next(parent for parent in chunk.parents if (parent / METADATA).is_file())


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change the embstore attributes in a metadata file, but not the checksums of the file."""
    document = json.loads(path.read_bytes())
    change(document["attributes"]["embstore"])
    path.write_text(json.dumps(document))


def rewrite_chunk(path: Path, change: Callable[[bytearray], object]) -> None:
    """Change the numbers in a chunk file and all checksums of them, as a hostile author would."""
    data = bytearray(path.read_bytes()[:-4])
    change(data)
    checksum = google_crc32c.value(bytes(data))
    path.write_bytes(bytes(data) + checksum.to_bytes(4, "little"))
    array = array_of(path)
    chunk = int(path.relative_to(array).parts[1])

    def note(own: dict[str, Any]) -> None:
        own["chunk_crc32c"][chunk] = checksum

    edit(array / METADATA, note)
    reseal(next(parent for parent in array.parents if (parent / "partitions").is_dir()))


def reseal(store: Path) -> None:
    """Correct the manifest's checksums, as far as the manifest can be read."""
    where = store / METADATA
    try:
        document = json.loads(where.read_bytes())
        own = document["attributes"]["embstore"]
        for name in own["metadata_crc32c"]:
            if (store / name).is_file():
                data = (store / name).read_bytes()
                own["metadata_crc32c"][name] = google_crc32c.value(data)
        own["manifest_crc32c"] = manifest_checksum(own)
        where.write_text(json.dumps(document))
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, OSError):
        return  # Too broken to be sealed.
