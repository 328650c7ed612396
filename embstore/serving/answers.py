"""Answers: the rows, ids or words of a request, as Arrow record batches.

1. What can be checked without a lookup is checked first: the sizes, and all ids.
2. Rows are looked up in slabs of a few MiB, so a large request takes no more memory than a slab.
3. A slab is sent as batches of 1 MiB, which are views of it.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import check_zero
from embstore.serving.failures import FingerprintError, LimitError
from embstore.serving.protocol import (
    PIECE_BYTES,
    PROTOCOL,
    SCHEMA_KEY,
    Header,
    RequestError,
    split_words,
)
from embstore.table.ids import as_ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

    from embstore.serving.facts import Facts
    from embstore.serving.gate import Gate
    from embstore.store import EmbeddingStore

SLAB_BYTES = 8 << 20
_WORDS_AT_ONCE = 256
_ID_BYTES = 8
_COLUMNS = {"rows": "rows", "word_rows": "rows", "ids": "ids", "words": "words", "prefetch": "ids"}


class Answers:
    """The answers to requests with one header.

    Parameters
    ----------
    store : EmbeddingStore
        The rows and words.
    header : Header
        What is asked.
    facts : Facts
        Of the server.
    gate : Gate
        Its memory.

    Attributes
    ----------
    schema : pyarrow.Schema
        That of all batches.

    Raises
    ------
    TypeError, ValueError, MissingWordError, FingerprintError
        If this table cannot answer such requests.
    """

    def __init__(self, store: EmbeddingStore, header: Header, facts: Facts, gate: Gate) -> None:
        # Imported here because only servers and clients need it.
        import pyarrow as pa  # noqa: PLC0415

        if header.fingerprint not in (None, facts.fingerprint):
            raise FingerprintError(
                f"this server has the table {facts.fingerprint}, not {header.fingerprint[:100]}",
                facts.fingerprint,
            )
        self._pa, self._store, self._header = pa, store, header
        self._limits, self._gate = facts.limits, gate
        about: dict[str, Any] = {"protocol": PROTOCOL, "fingerprint": facts.fingerprint}
        if header.gives_rows:
            rows = store.lookup(np.empty(0, np.int64), dtype=header.dtype, raw=header.raw)
            self._dtype, self._row_shape = rows.dtype, rows.shape[1:]
            self._numbers = math.prod(self._row_shape)
            self._row_bytes = self._numbers * rows.dtype.itemsize
            about |= {"dtype": rows.dtype.name, "row_shape": list(self._row_shape)}
        if header.takes_words or header.operation == "words":
            _ = store.vocabulary  # Raises if there is none.
        self.column = _COLUMNS[header.operation]
        self._type = self._arrow_type()
        self.schema = pa.schema(
            [(self.column, self._type)], metadata={SCHEMA_KEY: json.dumps(about).encode()}
        )

    def empty(self) -> pa.RecordBatch:
        """Return a batch without rows."""
        return self._batch(self._pa.array([], self._type))

    def pieces(self, payload: memoryview) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Yield the batches of the answer to one request, and the position of their first row.

        Raises
        ------
        RequestError, LimitError
            If the payload is wrong, or too large.
        IdRangeError, MissingWordError, StoreError, OSError, BusyError
            If the rows or words cannot be had.
        """
        if len(payload) > self._limits.request_bytes:
            raise self._too_large(f"{len(payload)} bytes")
        if self._header.takes_words:
            words = split_words(payload, most=self._limits.rows)
            missing = self._header.missing
            wanted: Any = "none" if missing == "zeros" else missing
            ids = self._store.ids(words, missing=wanted) if words else np.empty(0, np.int64)
        else:
            ids = self._ids(payload)
        if self._header.gives_rows:
            return self._row_pieces(ids)
        if self._header.takes_words:
            return self._id_pieces(ids)
        if self._header.operation == "prefetch":
            self._store.prefetch(ids)
            return iter(())
        return self._word_pieces(ids)

    def _ids(self, payload: memoryview) -> NDArray[np.int64]:
        """Return the ids of a payload, which are in the table."""
        count, rest = divmod(len(payload), _ID_BYTES)
        if rest:
            raise RequestError(f"ids have 8 bytes each, but the payload has {len(payload)}")
        if count > self._limits.rows:
            raise self._too_large(f"{count} rows")
        # A copy: the bytes may start at any address.
        ids = np.frombuffer(payload, "<i8").astype(np.int64)
        return as_ids(ids, self._store.rows)

    def _too_large(self, found: str) -> LimitError:
        limits = {"rows": self._limits.rows, "request_bytes": self._limits.request_bytes}
        return LimitError(
            f"the request has {found}; this server takes {limits['rows']} rows and "
            f"{limits['request_bytes']} bytes: send several requests",
            **limits,
        )

    def _row_pieces(self, ids: NDArray[np.int64]) -> Iterator[tuple[pa.RecordBatch, int]]:
        slab_bytes = min(SLAB_BYTES, max(self._limits.memory_bytes // 4, self._row_bytes))
        slab, step = (max(size // self._row_bytes, 1) for size in (slab_bytes, PIECE_BYTES))
        for start in range(0, len(ids), slab):
            some = ids[start : start + slab]
            with self._gate.memory(len(some) * self._row_bytes):
                rows = self._rows(some)
                for first in range(0, len(some), step):
                    part = rows[first : first + step]
                    yield self._batch(self._array(part)), start + first
                del rows, part

    def _rows(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows, shape (n, *row_shape); of zeros for the id -1."""
        header = self._header
        if header.missing != "zeros" or (present := ids >= 0).all():
            return self._store.lookup(ids, dtype=header.dtype, raw=header.raw)
        check_zero(self._dtype, 'missing="zeros"')
        rows = np.zeros((len(ids), *self._row_shape), self._dtype)
        rows[present] = self._store.lookup(ids[present], dtype=header.dtype, raw=header.raw)
        return rows

    def _id_pieces(self, ids: NDArray[np.int64]) -> Iterator[tuple[pa.RecordBatch, int]]:
        step = PIECE_BYTES // _ID_BYTES
        for start in range(0, len(ids), step):
            yield self._batch(self._pa.array(ids[start : start + step])), start

    def _word_pieces(self, ids: NDArray[np.int64]) -> Iterator[tuple[pa.RecordBatch, int]]:
        for start in range(0, len(ids), _WORDS_AT_ONCE):
            words = self._store.words(ids[start : start + _WORDS_AT_ONCE])
            for first, stop in _cut(words, PIECE_BYTES):
                array = self._pa.array(words[first:stop], self._type)
                with self._gate.memory(min(array.nbytes, self._limits.memory_bytes)):
                    yield self._batch(array), start + first

    def _arrow_type(self) -> pa.DataType:
        pa, header = self._pa, self._header
        if not header.gives_rows:
            return pa.large_utf8() if self.column == "words" else pa.int64()
        if header.form == "binary":
            return pa.binary(self._row_bytes)
        try:
            number = pa.from_numpy_dtype(self._dtype)
        except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise TypeError(
                f"Arrow has no lists of {self._dtype}; ask for dtype=float32, or for the binary "
                "form"
            ) from error
        return pa.list_(number, self._numbers) if self._row_shape else number

    def _array(self, rows: NDArray[Any]) -> pa.Array:
        """Return the column of some rows, which keeps their memory."""
        pa, count = self._pa, len(rows)
        buffer = pa.py_buffer(rows.reshape(-1).view(np.uint8))
        if self._header.form == "binary":
            return pa.Array.from_buffers(self._type, count, [None, buffer])
        if not self._row_shape:
            return pa.Array.from_buffers(self._type, count, [None, buffer])
        values = pa.Array.from_buffers(self._type.value_type, count * self._numbers, [None, buffer])
        return pa.FixedSizeListArray.from_arrays(values, type=self._type)

    def _batch(self, array: pa.Array) -> pa.RecordBatch:
        return self._pa.RecordBatch.from_arrays([array], schema=self.schema)


def _cut(words: list[str], most_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield where to cut words into pieces of ``most_bytes`` or less, or of one word."""
    first = size = 0
    for place, word in enumerate(words):
        length = len(word.encode())
        if place > first and size + length > most_bytes:
            yield first, place
            first, size = place, 0
        size += length
    if len(words) > first:
        yield first, len(words)
