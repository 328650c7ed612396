"""Fingerprints: short hashes that identify a table, wherever it is stored.

The fingerprint of a store depends on what the table is: its dtype, row shape, rows, words, unk word
and attributes. Partitions, chunks, the place, and when and by which program it was built make no
difference. A build computes it and keeps it in the manifest; `embstore.formats.own.spec` specifies
it. That of a store without it, made by embstore 0.1, is computed from the rows when it is asked
for.

A foreign file has no manifest. Its fingerprint starts with ``f``, and covers its size, its start,
dtype and shape, and sampled rows. If all rows are read, the result is the fingerprint of the store
that a build would make of the file.

Fingerprints of embstore 0.1 were hashes of the checksums of all chunks, so they depended on
partitions, chunk sizes and the order of hash slots. `EmbeddingStore.matches` still
knows them.

Checkpoints of models hold fingerprints, so they are persistent: what is hashed must not change.
"""

from __future__ import annotations

import json
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from xxhash import xxh3_128_hexdigest

from embstore.attributes.stored import add_attributes
from embstore.encodings.manifest import encoding_to_json
from embstore.errors import FormatError
from embstore.formats.own.attribute_manifest import attributes_line
from embstore.formats.own.checks import check_array
from embstore.formats.own.encoded import as_stored, dtype_line
from embstore.formats.own.heading import Heading
from embstore.formats.own.row_sums import RowSums
from embstore.vocabulary.words import hash_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from embstore.attributes.stored import StoredColumn
    from embstore.formats.own.manifest import Manifest
    from embstore.table.protocols import CheckedFiles, Files, Visit
    from embstore.table.tables import Table
    from embstore.vocabulary.words import PackedWords

    Packed = Callable[[int, int], PackedWords]
    Lookup = Callable[[NDArray[np.int64]], NDArray[Any]]

# The kind of a store's fingerprint, to be saved beside it, because kinds look alike.
KIND = "table-1"
OLD_KIND_NOTE = (
    "a fingerprint saved by embstore 0.1 depended on how the store was built; if the store was "
    "built again since, compare some rows and save the state again"
)

SAMPLED_ROWS = 4096
START_BYTES = 64 << 10
WORDS_AT_ONCE = 1 << 16


def of_rows(
    table: Table,
    scan: Callable[[Visit], None],
    packed_words: Packed | None,
    unk: str | None,
    attributes: Mapping[str, StoredColumn] | None = None,
) -> str:
    """Return the fingerprint that a build would compute, from all that it covers.

    Parameters
    ----------
    table : Table
        The table.
    scan : callable
        Passes all rows, or the records of encoded ones, to a function; see `EmbeddingStore.scan`.
    packed_words : callable, optional
        Returns the words of consecutive ids, if rows have words.
    unk : str or None
        The unk word.
    attributes : mapping of str to StoredColumn, optional
        The attributes.

    Raises
    ------
    FormatError
        If no manifest can describe the encoding of a foreign file, as where its scale is nan.
    """
    sums, lock = RowSums(), Lock()

    def visit(ids: range, block: NDArray[Any]) -> None:
        some = RowSums()
        some.add(block, ids)
        with lock:
            sums.merge(some)

    scan(visit)
    rows, encoding = table.numbering.rows, table.encoding
    if packed_words is not None:
        for start in range(0, rows, WORDS_AT_ONCE):
            words = packed_words(start, min(start + WORDS_AT_ONCE, rows))
            sums.add_words(hash_words(words.encoded()), start)
    attributes = attributes or {}
    add_attributes(sums, attributes, rows)
    dtypes = {name: column.dtype_name for name, column in attributes.items()}
    words_too = packed_words is not None
    try:
        line = dtype_line(encoding.dtype, as_stored(encoding))
    except ValueError as error:
        raise FormatError(
            f"no store can keep the rows as {encoding.name}, so they have no fingerprint of one: "
            f"{error}"
        ) from error
    attribute_line = attributes_line(dtypes) if dtypes else None
    heading = Heading(rows, encoding.row_shape, line, words_too, unk, attribute_line)
    return sums.fingerprint(heading)


def of_file(table: Table, files: Files, lookup: Lookup) -> str:
    """Return the fingerprint of a foreign file: ``"f"`` and 32 hexadecimal digits.

    ``lookup`` returns rows, or the records of encoded ones.
    """
    rows = table.numbering.rows
    ids = np.linspace(0, max(rows - 1, 0), min(SAMPLED_ROWS, rows)).astype(np.int64)
    facts: dict[str, Any] = {
        "row_shape": list(table.encoding.row_shape),
        "dtype": table.encoding.dtype.name,
        "extents": [
            [
                extent.offset,
                extent.rows,
                files.size(extent.file),
                xxh3_128_hexdigest(files.read(extent.file, 0, START_BYTES)),
            ]
            for column in table.columns
            for extent in column.extents
            if extent.file
        ],
        "rows": xxh3_128_hexdigest(lookup(ids).tobytes()),
    }
    if (encoding := as_stored(table.encoding)) is not None:
        try:
            facts["encoding"] = encoding_to_json(encoding)
        except ValueError:  # As where its scale is nan.
            facts["encoding"] = repr(encoding)
    return "f" + xxh3_128_hexdigest(json.dumps(facts, sort_keys=True).encode())


def legacy_of_store(files: CheckedFiles, manifest: Manifest) -> str:
    """Return the fingerprint that embstore 0.1 gave the store in some files.

    Raises
    ------
    StoreCorruptError
        If the metadata of an array is missing or contradicts the manifest.
    """
    table = {
        "rows": manifest.rows,
        "row_shape": list(manifest.row_shape),
        "dtype": manifest.dtype.name,
        "partition_count": manifest.partition_count,
        "strategy": manifest.strategy,
        "unk": manifest.unk,
        "checksums": {
            array.name: check_array(files, array, manifest).checksums for array in manifest.arrays()
        },
    }
    return xxh3_128_hexdigest(json.dumps(table, sort_keys=True).encode())
