"""Stores to publish, and what is read back of published ones without embstore's own readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from embstore.formats.own import spec
from embstore.remote.local_store import open_local
from embstore.remote.pointer import Pointer, find_pointer, read_pointer
from embstore.remote.publishing import PublishReport, publish_store

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ROWS = np.arange(400, dtype=np.float32).reshape(100, 4)
WORDS = [f"word {number}" for number in range(100)]


def build(path: Path, rows: NDArray[Any] = ROWS, **options: Any) -> Path:
    """Write a store of several partitions and chunks, with words."""
    settings: dict[str, Any] = {"partitions": 3, "chunk_rows": 8, "rows": len(rows)} | options
    with embstore.StoreWriter(
        path, row_shape=rows.shape[1:], dtype=rows.dtype, overwrite=True, **settings
    ) as writer:
        writer.write(rows, WORDS[: len(rows)])
    return path


def publish(path: Path, objects: Any, **options: Any) -> PublishReport:
    """Publish a store on objects."""
    return publish_store(open_local(path), objects, **options)


def pointer_of(objects: Any) -> Pointer:
    """Return the pointer, which must be there."""
    pointer = find_pointer(objects)
    assert pointer is not None
    return pointer


def changed(value: float = -1.0, row: int = 99) -> NDArray[np.float32]:
    """Return the rows with another row."""
    rows = ROWS.copy()
    rows[row] = value
    return rows


def download(objects: Any, path: Path, version: str | None = None) -> Path:
    """Write the objects of a version, by default the current one, to a directory."""
    name = version or read_pointer(objects)
    assert name is not None
    for info in objects.find(f"{name}/"):
        file = path / info.name.partition("/")[2]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(objects.read(info.name))
    return path


def check_current(objects: Any, path: Path, store: Path) -> None:
    """Check that the current version is a store, file by file, and an undamaged one."""
    download(objects, path)
    assert embstore.verify(path).ok
    expected, found = files_of(store), files_of(path)
    expected.pop(spec.METADATA)
    found.pop(spec.METADATA)  # It says where the rows came from.
    assert found == expected
    with embstore.open(path) as ours, embstore.open(store) as theirs:
        assert ours[:].tobytes() == theirs[:].tobytes()
        assert ours.fingerprint() == theirs.fingerprint()


def files_of(path: Path) -> dict[str, bytes]:
    """Return the content of each file below a directory."""
    found = (one for one in path.rglob("*") if one.is_file())
    return {one.relative_to(path).as_posix(): one.read_bytes() for one in found}


def current_rows(objects: Any, path: Path) -> NDArray[Any] | None:
    """Return the rows of the current version; None if nothing is published."""
    if find_pointer(objects) is None:
        return None
    with embstore.open(download(objects, path)) as store:
        return store[:]
