"""Foreign files that are replaced, changed or cut while a table in them is opened, or open."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore import formats
from embstore.errors import StoreCorruptError, StoreNotFoundError
from embstore.reading import readers
from tests.helpers.gguf_files import Entry, GgufFile, split_keys
from tests.helpers.safetensors_files import safetensors_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OLD = np.arange(40, dtype=np.float32).reshape(10, 4)
NEW = OLD + 1000


def npy(folder: Path, rows: np.ndarray) -> tuple[Path, Path]:
    np.save(folder / "t.npy", rows)
    return folder / "t.npy", folder / "t.npy"


def safetensors(folder: Path, rows: np.ndarray) -> tuple[Path, Path]:
    path = folder / "t.safetensors"
    path.write_bytes(safetensors_file({"a": ("F32", rows)}, 3))
    return path, path


def gguf(folder: Path, rows: np.ndarray) -> tuple[Path, Path]:
    path = folder / "t.gguf"
    path.write_bytes(bytes(GgufFile([Entry("a", "F32", rows.shape, rows.tobytes())])))
    return path, path


def gguf_parts(folder: Path, rows: np.ndarray) -> tuple[Path, Path]:
    """The table is in another file than the one that is opened."""
    tensors = [[], [Entry("a", "F32", rows.shape, rows.tobytes())]]
    paths = [folder / f"t-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, (path, some) in enumerate(zip(paths, tensors, strict=True)):
        path.write_bytes(bytes(GgufFile(some, split_keys(number, 2, 1))))
    return paths[0], paths[1]


Write = Any
WRITES = [npy, safetensors, gguf, gguf_parts]


def replace(path: Path, new: bytes) -> None:
    """Give the name to another file, of the same size and time."""
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(new)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def overwrite(path: Path, new: bytes) -> None:
    """Write other bytes into the file, at another time."""
    status = path.stat()
    path.write_bytes(new)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def cut(path: Path, new: bytes) -> None:
    os.truncate(path, path.stat().st_size - 4)


def lengthen(path: Path, new: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def remove(path: Path, new: bytes) -> None:
    path.unlink()


CHANGES = [replace, overwrite, cut, lengthen, remove]


@pytest.fixture(params=WRITES)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, bytes]:
    """The path of a table, the file that its rows are in, and other bytes for that file."""
    (tmp_path / "new").mkdir()
    _, other = request.param(tmp_path / "new", NEW)
    new = other.read_bytes()
    return (*request.param(tmp_path, OLD), new)


@pytest.mark.parametrize("change", CHANGES)
def test_chunked_reader_notices(table, change):
    path, file, new = table
    with embstore.open(path, reader="chunked") as store:
        assert np.array_equal(store.lookup([3]), OLD[[3]])
        change(file, new)
        with pytest.raises((StoreNotFoundError, StoreCorruptError)):
            store.lookup([3])
        with pytest.raises((StoreNotFoundError, StoreCorruptError)):
            store.scan(lambda ids, rows: None)


@pytest.mark.parametrize("change", [overwrite, cut, lengthen, remove])
def test_copies_notice(table, change):
    path, file, new = table
    with embstore.open(path) as store:
        pickled = pickle.dumps(store)
    change(file, new)
    with pytest.raises((StoreNotFoundError, StoreCorruptError)):
        pickle.loads(pickled)


@pytest.mark.parametrize("change", [replace, remove])
def test_mapped_reader_keeps_the_file_that_it_opened(table, change):
    path, file, new = table
    with embstore.open(path, reader="mapped") as store:
        change(file, new)
        assert np.array_equal(store.to_numpy(), OLD)


@pytest.mark.parametrize("reader", ["mapped", "chunked"])
@pytest.mark.parametrize("change", CHANGES)
def test_opening_notices(table, change, reader, monkeypatch):
    """The header is read before the rows are mapped; both must be of one file."""
    path, file, new = table
    whole = readers.read_records

    def read(*given: Any, **options: Any) -> Any:
        change(file, new)
        return whole(*given, **options)

    monkeypatch.setattr("embstore.opener.read_records", read)
    # What is read range by range is opened again when rows are needed.
    with pytest.raises((StoreNotFoundError, StoreCorruptError)):
        embstore.open(path, reader=reader).lookup([0])


@pytest.mark.parametrize("change", CHANGES)
def test_change_between_the_header_and_the_table(table, change, monkeypatch):
    path, file, new = table
    whole: Callable[..., Any] = formats.Format.__getattribute__

    def get(self: formats.Format, name: str) -> Any:
        found = whole(self, name)
        if name != "describe":
            return found

        def describe(*given: Any, **options: Any) -> Any:
            described = found(*given, **options)
            change(file, new)
            return described

        return describe

    monkeypatch.setattr(formats.Format, "__getattribute__", get)
    with pytest.raises((StoreNotFoundError, StoreCorruptError)):
        embstore.open(path)


def test_message_names_the_file_that_changed(tmp_path):
    path, file = gguf_parts(tmp_path, OLD)
    with embstore.open(path, reader="chunked") as store:
        overwrite(file, file.read_bytes())
        with pytest.raises(StoreNotFoundError, match=r"/t-00002-of-00002.gguf changed since"):
            store.lookup([0])
