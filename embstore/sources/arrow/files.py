"""Parquet files, and Arrow IPC files and streams: their schema, and their columns in batches.

Files are read, not mapped: a file that is cut while it is read ends in an error. Only the wanted
columns are read. A record batch of an IPC file is read as a whole, so a file of very large ones is
mapped after all.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Protocol

import pyarrow as pa
from pyarrow import ipc, parquet

from embstore.errors import EmbstoreError, SourceError
from embstore.sources.arrow.ipc_messages import StreamFacts, largest_batch, walk_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PARQUET_MAGIC = b"PAR1"
ENCRYPTED_MAGIC = b"PARE"
IPC_MAGIC = b"ARROW1"
IN_MEMORY = "Arrow data"  # The format of parts that are not files.
# Larger record batches are mapped.
MAX_BATCH_BYTES = 256 << 20
_PARQUET_BUFFER_BYTES = 1 << 20


class Part(Protocol):
    """A part of a table: record batches of one schema.

    Attributes
    ----------
    name : str
        Its name in messages.
    format : str
        Its format, for the manifest.
    schema : pyarrow.Schema
        Its columns.
    row_count : int or None
        Its rows, if known.
    byte_count : int
        Its size; 0 if it is not a file.
    """

    name: str
    format: str
    schema: pa.Schema
    row_count: int | None
    byte_count: int

    def batches(self, size: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield some columns of all rows; ``size`` rows at a time where that is possible."""
        ...

    def first(self, columns: Sequence[str]) -> pa.RecordBatch | None:
        """Return a batch that starts with the first row; None if there are no rows."""
        return next((batch for batch in self.batches(1, columns) if batch.num_rows), None)


class ArrowFile(Part):
    """A Parquet file, or an Arrow IPC file or stream, as its first bytes tell.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    SourceError
        If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self.byte_count = path.stat().st_size
        with self._open() as opened:
            self.format = opened.format
            self.schema = opened.schema
            self.row_count = opened.row_count

    def batches(self, size: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield some columns of all rows.

        Raises
        ------
        SourceError
            If the file is damaged, or has changed since it was opened.
        """
        done = 0
        with self._open() as opened:
            if not opened.schema.equals(self.schema):
                raise SourceError(f"{self.name} was changed while it was read; build again")
            for batch in opened.batches(size, columns):
                done += batch.num_rows
                yield batch
        if self.row_count is not None and done != self.row_count:
            raise SourceError(
                f"{self.name} has {done} rows, but its metadata says {self.row_count}; is the "
                "download complete?"
            )

    @contextmanager
    def _open(self) -> Iterator[_Parquet | _Ipc]:
        with self._path.open("rb") as file, read_errors(self.name, "Parquet or Arrow"):
            magic = file.read(len(IPC_MAGIC))
            if magic.startswith(ENCRYPTED_MAGIC):
                raise SourceError(f"{self.name} is an encrypted Parquet file; decrypt it first")
            if magic.startswith(PARQUET_MAGIC):
                opened: _Parquet | _Ipc = _Parquet(file)
            else:
                opened = _Ipc(file, self.name, is_stream=magic != IPC_MAGIC)
            yield opened


class _Parquet:
    """An open Parquet file."""

    format = "parquet"

    def __init__(self, file: IO[bytes]) -> None:
        # pre_buffer would read a whole row group at once.
        self._file = parquet.ParquetFile(
            pa.OSFile(file.name),
            pre_buffer=False,
            buffer_size=_PARQUET_BUFFER_BYTES,
            page_checksum_verification=True,
        )
        self.schema = self._file.schema_arrow
        self.row_count: int | None = self._file.metadata.num_rows

    def batches(self, size: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        # "a" names the column "a.b" as well, so columns are selected again.
        for batch in self._file.iter_batches(size, columns=list(columns), use_threads=False):
            yield batch.select(list(columns))


class _Ipc:
    """An open Arrow IPC file or stream."""

    def __init__(self, file: IO[bytes], name: str, *, is_stream: bool) -> None:
        self.row_count: int | None = None
        self.format = "arrow-stream" if is_stream else "arrow"
        self._open = ipc.open_stream if is_stream else ipc.open_file
        self._path = file.name
        self.schema = self._open(pa.OSFile(self._path)).schema
        self._name = name
        self._facts = _check_end(file, name) if is_stream else None
        largest = self._facts.largest_body if self._facts else largest_batch(file)
        self._source = pa.memory_map if largest > MAX_BATCH_BYTES else pa.OSFile
        if not largest:  # Without bytes there are rows of nulls, or none.
            self.row_count = sum(batch.num_rows for batch in self.batches(1 << 30, []))

    def batches(self, size: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        names = self.schema.names
        options = ipc.IpcReadOptions(included_fields=[names.index(one) for one in columns])
        reader = self._open(self._source(self._path), options=options)
        is_stream = self._facts is not None
        numbers = range(0 if is_stream else reader.num_record_batches)
        done = 0
        for batch in reader if is_stream else map(reader.get_batch, numbers):
            done += 1
            selected = batch.select(list(columns))
            selected.validate(full=True)  # For example, offsets may lead out of the file.
            for start in range(0, selected.num_rows, size):
                yield selected.slice(start, size)
        # Without its end mark, a stream ends where its file was cut.
        if self._facts is not None and done != self._facts.batch_count:
            raise SourceError(
                f"{self._name} was changed while it was read: it had {self._facts.batch_count} "
                f"record batches, and now {done}; build again"
            )


def _check_end(file: IO[bytes], name: str) -> StreamFacts:
    """Check that a stream ends where its file does; return facts about it."""
    facts = walk_stream(file)
    if facts is None:
        raise SourceError(
            f"{name} is an Arrow stream without its end mark, so rows may be missing; is the "
            "download complete? If its writer was not closed, write it again"
        )
    if facts.end != file.seek(0, os.SEEK_END):
        raise SourceError(
            f"{name} has {file.tell() - facts.end} bytes behind the end of its Arrow stream; keep "
            "one stream in a file"
        )
    return facts


@contextmanager
def read_errors(name: str, format: str) -> Iterator[None]:
    """Turn Arrow's errors about contents into a SourceError that names the file."""
    try:
        yield
    except EmbstoreError:
        raise
    except (pa.ArrowException, OSError, ValueError, LookupError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # The disk failed; the contents may be fine.
        hint = "" if format == IN_MEMORY else "; is the download complete?"
        raise SourceError(f"{name} cannot be read as {format}: {error}{hint}") from error
