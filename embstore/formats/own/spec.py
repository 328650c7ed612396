r"""The format of a store on disk, version 1.

A store is a directory that any Zarr v3 reader can open. Everything here is persistent: changing a
name or a number below changes the format. ::

    glove.embstore/
      zarr.json                    group; attributes["embstore"] is the manifest, written last
      partitions/zarr.json         group
      partitions/0/zarr.json       array, shape (rows of partition 0, *row_shape)
      partitions/0/c/0/0           its chunk 0
      partitions/0/c/1/0           its chunk 1
      partitions/1/...
      vocabulary/zarr.json         group; only where rows have words
      vocabulary/bytes/...         array of uint8: the words, UTF-8, one after the other
      vocabulary/offsets/...       array of int64, rows + 1 of them
      vocabulary/slots/...         array of uint64: an open-addressing hash table
      attributes/zarr.json         group; only where rows have attributes
      attributes/NAME/...          array of numbers, one for each id; or, of strings,
      attributes/NAME/zarr.json    group
      attributes/NAME/bytes/...    array of uint8: the strings, UTF-8, one after the other
      attributes/NAME/offsets/...  array of int64, rows + 1 of them

Goals: one row is one short read; any Zarr reader can read the rows without embstore; damage is
noticed. Not a goal: changing a row in place.

**Arrays.** Every array is Zarr v3, regular chunks that span all axes but the first, chunk keys
``default`` with separator ``/``, fill value 0, codecs ``[bytes (little endian), crc32c]``. So a
chunk file has ``chunk_rows`` rows in C order from byte 0 on, then 4 bytes: their CRC-32C, little
endian. The last chunk of an array has full size too, padded with zeros. Every chunk is present,
even one of zeros only. Each array's ``attributes["embstore"]["chunk_crc32c"]`` lists these
checksums as integers, in the order of the chunks, so that swapped chunk files are noticed.

**Layout "sharded".** It compresses the partitions, for archives; the vocabulary and the attributes
stay as above. A chunk is then a shard of Zarr's ``sharding_indexed`` codec: inner chunks of
``inner_chunk_rows`` rows, a power of two that divides ``chunk_rows``, each encoded by ``[bytes
(little endian), zstd or blosc, crc32c]``, and behind them an index with ``[bytes (little endian),
crc32c]``, at the end.

* ``zstd`` has its ``level``, and no checksum of its own. Its one frame states its content size.
* ``blosc`` has ``cname`` ``zstd``, ``clevel`` the level, ``typesize`` the bytes of a number,
  ``shuffle`` ``shuffle`` (``bitshuffle`` if a number is one byte), and ``blocksize`` the bytes of
  an inner chunk: the encoded form is a single block.
* An encoded inner chunk ends with 4 bytes, the CRC-32C of those before, little endian.
* With ``n = chunk_rows / inner_chunk_rows``, the last ``16 * n + 4`` bytes of a file are the index:
  ``n`` pairs of uint64, the offset in the file and the size of each encoded inner chunk, and the
  CRC-32C of these ``16 * n`` bytes.
* Inner chunks stand in the order of their rows, without a gap, from byte 0 to the index: so an
  offset is the sum of the sizes before it. The last one that has rows is padded with zeros. Those
  without rows, which only the last shard of a partition has, are absent: both numbers are
  ``2**64 - 1``. No other one is absent, not even one of zeros only.

Each array's ``attributes["embstore"]`` has three lists, in the order of the shards:
``chunk_crc32c``, the CRC-32C of the whole file, first byte to last; ``index_crc32c``, that of its
index, which are its last four bytes; ``chunk_bytes``, its size. An open compares the size and the
last four bytes of each file with them. A lookup checks the index of a shard against these four
bytes when it first reads from it, and each inner chunk against the checksum at its end. The
manifest has two more fields: ``compression``, ``{"codec": "zstd" or "blosc", "level": ...}``, and
``inner_chunk_rows``. An inner chunk has at most 1 MiB unless it is one row, and a shard at most
2**20 of them.

**Partitions.** Id ``i`` of a table of ``rows`` ids in ``partition_count`` partitions ``P`` is

* ``mod``: row ``i // P`` of partition ``i % P``;
* ``div``: with ``base, extra = divmod(rows, P)``, row ``i - (p * base + min(p, extra))`` of
  partition ``p = max(i // (base + 1), (i - extra) // base)``.

Row ``r`` of a partition is row ``r % chunk_rows`` of its chunk ``r // chunk_rows``. All partitions
share one ``chunk_rows``, a power of two. An empty partition has no chunk.

**bfloat16 and float8.** Neither Zarr's core nor zarr-python has these data types. The partitions of
a bfloat16 table are therefore Zarr arrays of ``uint16``: the bits of each number, which are the
upper half of the bits of the equal float32. Those of the dtypes ``float8_e4m3fn``,
``float8_e4m3fnuz``, ``float8_e5m2``, ``float8_e5m2fnuz`` (as the papers "FP8 Formats for Deep
Learning" and "8-bit Numerical Formats for Deep Neural Networks" define them) and
``float8_e8m0fnu`` (a power of two, as "OCP Microscaling Formats" defines it) are Zarr arrays of
``uint8``. ``requires`` in the manifest names the dtype.

**Encoded rows.** A row can be stored as a record of codes. ``requires`` then has ``"encoding"``,
and the manifest has two more fields, ``encoding`` and ``record_bytes``. Each partition is a Zarr
array of ``uint8``, shape (its rows, ``record_bytes``); chunks, checksums and layouts are as for any
array of bytes. ``dtype`` and ``row_shape`` are those of decoded rows. The object ``encoding`` tells
what a record holds. Its ``name`` is one of

* ``"scaled"``: ``dtype`` is ``"float32"``. A record has the codes of a row's numbers in C order,
  then its scales, then its zero points, without gaps; all are little endian. ``codes`` is
  ``"float8_e4m3fn"``, ``"float8_e4m3fnuz"``, ``"float8_e5m2"``, ``"float8_e5m2fnuz"``,
  ``"float8_e8m0fnu"``, ``"int8"`` or ``"uint8"``, a byte each; or ``"float4_e2m1fn"`` (of "OCP
  Microscaling Formats"), ``"int4"`` (two's complement) or ``"uint4"``, two in a byte, the first one
  in its lower half; of an odd number, the last upper half is 0. ``scales`` and ``zero_points`` are
  objects of ``dtype`` and ``values``: each has one number for every ``values`` consecutive numbers
  of the row, the last of which may be fewer. The ``dtype`` of scales is ``"float32"``,
  ``"float16"``, ``"bfloat16"``, ``"float8_e8m0fnu"`` or ``"float8_e4m3fn"``; of zero points,
  ``"float32"``, ``"float16"``, ``"bfloat16"``, ``"int8"``, ``"uint8"``, ``"int16"`` or
  ``"int32"``. ``factor`` and ``zero`` are numbers for the whole table. All four may be missing:
  ``factor`` is then 1, the others 0 or no field at all. A number is ``(code - zero point) *
  (scale * factor)``, where each operation is rounded to float32.
* ``"gguf"``: ``dtype`` is ``"float32"``, and a record has the blocks of the row, as the file format
  GGUF defines those of the ``type``, such as ``"Q4_K"``.
* ``"opaque"``: ``dtype`` is ``"uint8"``, and a record is the row; ``type`` tells people what it is.

A reader refuses an ``encoding`` with a name or a key that it does not know. For example,
``{"name": "scaled", "codes": "float8_e4m3fn", "scales": {"dtype": "float32", "values": 160}}`` has
records of 164 bytes for rows of shape ``[160]``: 160 codes, then the scale of the row.

**Rows without numbers.** A row may have an axis of length 0, and then has no bytes: its table is
only words and attributes. A chunk has length 1 along such an axis, because Zarr has no chunks of
length 0. The array has no chunks, so there are no chunk files, and no checksums are listed.
``requires`` has ``"empty_rows"``; the layout is ``"raw"``, without ``encoding``.

**Manifest.** A JSON object; a reader refuses a ``format_version`` above its own, and any name in
``requires`` that it does not know. ::

    format_version    1
    requires          the features that a reader must know: the dtype, where Zarr has none;
                      "encoding", if rows are encoded; "empty_rows", if they have no numbers
    rows              number of ids
    row_shape         shape of one row, for example [300]; [] where a row is a scalar
    dtype             "float16", "bfloat16", "float32", "float64", "float8_e4m3fn" ...,
                      "int8" ... "int64", "uint8" ... "uint64"
    partition_count   P
    strategy          "mod" or "div"
    layout            "raw" or "sharded"
    chunk_rows        rows in a chunk of a partition
    encoding          how rows are encoded, and
    record_bytes      the bytes of a row; both only where rows are encoded
    unk               the word whose row stands for unknown words, or null
    vocabulary        null, or {"hash": "xxh3_64", "probe_count": ..., "bytes": A, "offsets": A,
                      "slots": A}, each A being {"length": elements, "chunk_rows": elements}
    attributes        the attributes by their names, {NAME: {"dtype": "int64", "length": elements,
                      "chunk_rows": elements}} of numbers, {NAME: {"dtype": "string", "bytes": A,
                      "offsets": A}} of strings; missing where there are none
    source            an object that tells people where the rows came from
    created_by        the program that wrote the store, for example "embstore 0.1.0"
    fingerprint       32 hexadecimal digits that identify the table; may be missing
    full_fingerprint  the same of a table with attributes, instead of fingerprint; may be missing
    chunks_at_rewrite how many chunks the partitions had when all were last written; only where
                      rows were appended since; a reader may ignore it
    metadata_crc32c   the CRC-32C of each other zarr.json of the store, by its path inside it:
                      {"partitions/zarr.json": ..., "partitions/0/zarr.json": ..., ...}
    manifest_crc32c   the CRC-32C of the manifest itself, without this field

**Checksums.** Every byte is covered by a checksum in another place: rows and words by their
chunk's, the lists of these by ``metadata_crc32c``, and that by ``manifest_crc32c``. The manifest's
own checksum is over its canonical text: keys sorted by code point, no white space, control
characters and all characters beyond ASCII escaped as ``\uxxxx`` (except ``\b \f \n \r \t``), a
number that is not whole as the shortest decimal that reads back as the same number. Attributes
added beside ``embstore`` in the root group are not damage; any other change is. A store without one
of the two fields is damaged.

**Fingerprint.** It depends on the dtype, the row shape, the encoding, the rows, the words and the
unk word, and on nothing else: not on partitions, chunks, the order of slots, or the program. All
arithmetic is modulo 2**64. With ``STEP = 0x9e3779b97f4a7c15``, ``mix(x)`` is: ``x ^= x >> 30``,
``x *= 0xbf58476d1ce4e5b9``, ``x ^= x >> 27``, ``x *= 0x94d049bb133111eb``, ``x ^= x >> 31``. The
bytes of a row, as a chunk file holds them, are padded with zeros to whole little endian words of
eight bytes, ``w[0] .. w[n - 1]``; ``w[n]`` is 0. With ``x[j] = w[j] + mix((j + 1) * STEP)`` and
``high[j] = x[j] >> 32``, a row of the id ``i`` gives two numbers::

    first  = mix(i * STEP + x[0] * high[0] + ... + x[n - 1] * high[n - 1])
    second = mix(first + x[0] * high[1] + ... + x[n - 1] * high[n] + x[n] * high[0])

A row without bytes gives none.

The word of the id ``i`` counts as a row of eight bytes, its XXH3 hash (64 bits, seed 0), of the id
``2**63 + i``. The heading is the XXH3 hash of 128 bits (seed 0) of an ASCII text, in which each
line ends in a line feed: ``embstore table 1``; the dtype, and if rows are encoded, a space and the
canonical text of ``encoding``; the row shape, such as ``2,3``; the number of rows; ``words`` or
``no words``; and the 32 digits of the same hash of the unk word, or ``no unk``. The fingerprint is
32 lower case digits: 16 of the sum of all ``first`` and of the upper half of the heading, then 16
of the sum of all ``second`` and of the lower half. A change of some rows is subtracted and added.
It is not a signature: two tables can be made to have the same one.

**Attributes.** A table may have named columns beside its words, each with one value for each id,
whatever the partitions are. A number column is a one-dimensional array of ``rows`` numbers, value
``i`` that of id ``i``. Its ``dtype`` is one of those of the manifest, or ``"bool"``, which is
Zarr's ``bool``; those that Zarr lacks are stored as above, but ``requires`` does not name them. A
string column, of the ``dtype`` ``"string"``, is a group of two arrays: string ``i`` is
``bytes[offsets[i] : offsets[i + 1]]``, UTF-8; the first offset is 0, the last the length of
``bytes``. No value is missing. Chunks of an array that has several are a multiple of 64 KiB. A name
has 1 to 100 characters, at most 240 bytes as UTF-8; all are printable and none is ``/`` or ``\``.
It is not ``.``, ``..`` or ``zarr.json``, and does not start with ``__``.

A reader that does not know attributes may ignore them: the rest is a whole store. The fingerprint
of a table with attributes stands in ``full_fingerprint``, so that such a reader does not take it
for that of rows and words alone. Its heading has one more line, the canonical text of the list of
``[NAME, dtype]``, sorted by NAME. The value of the id ``i`` counts as a row, of the id that is the
XXH3 hash (64 bits, seed 0) of NAME plus ``i``, modulo 2**64: a number as its bytes, little endian;
a string as the 8 bytes of its XXH3 hash.

**Limits.** At most 65,536 partitions, 2**30 bytes a row (stored or decoded), 2**40 - 1 rows, 2**56
bytes of chunks, 16 MiB a ``zarr.json``, and a ``probe_count`` of 1,024.

**Links.** A file of a store may be a symbolic link to a regular file, as a model cache makes them;
a directory inside it may not. A link may lead to any file, so a reader gives no byte of a linked
chunk file before it has compared the size and checksum of the whole file with those listed.

**Vocabulary.** Word ``i`` is ``bytes[offsets[i] : offsets[i + 1]]``. The length of ``slots`` is a
power of two. A slot is 0 if empty, else ``(hash & ~(2**40 - 1)) | (id + 1)``: the upper 24 bits of
the word's hash above its id plus one. The hash is XXH3, 64 bits, seed 0, of the word's bytes. A
search starts at slot ``hash % len(slots)`` and goes on slot by slot, wrapping around at the end,
until it finds the word or an empty slot, or has seen ``probe_count`` slots. A slot matches only if
the word's bytes are equal too, because different words may have equal hashes.

**Published stores.** Below a URL of an object store, each published store, a version, has a prefix
of its own, ``FINGERPRINT-LAYOUT``, and its files have the names below it that they have in the
directory. Objects below such a prefix never change; a version whose root ``zarr.json`` is missing
is not complete, because that is written last. ::

    current.json                                            the pointer
    cbb5711eff6383e77253c3dcfe38b748-6f3dd9a0/zarr.json     the manifest of a version
    cbb5711eff6383e77253c3dcfe38b748-6f3dd9a0/partitions/0/c/0/0
    ...

FINGERPRINT is the fingerprint of the table, computed where the manifest does not state it. LAYOUT
is the first 8 digits of the XXH3 hash (128 bits, seed 0, lower case digits) of the canonical text,
as for checksums, of an object with these fields of the manifest, those that it has: ``requires``,
``rows``, ``row_shape``, ``dtype``, ``partition_count``, ``strategy``, ``layout``, ``chunk_rows``,
``encoding``, ``record_bytes``, ``compression``, ``inner_chunk_rows``, ``unk``, ``vocabulary``,
``attributes`` and ``metadata_crc32c``. These decide all bytes but those of the root ``zarr.json``,
whose ``source``, ``created_by`` and fingerprint may differ: the first one to be published stays.

The pointer is a JSON object of at most 64 KiB: ``embstore_pointer`` is 1, a reader refuses a larger
number; ``version`` is the name of the current version; ``previous``, which may be missing, lists up
to 100 names that the pointer had before, the latest first; ``removing``, which may be missing, has
the names of versions that are being removed, and the time at which that began, as in
``2026-11-27T04:05:06+00:00``. A reader ignores other fields. The pointer is only replaced on the
condition that it has not changed since it was read (its ETag), and

* a version is removed only after ``removing`` has its name, which is taken out at the end. The
  current one is never put in. Whoever removes it stops within an hour; then another may go on.
* ``version`` is set only to a version that was found whole after the pointer was read, and that
  ``removing`` does not have, or has had for an hour; its name is taken out of it.

Worked example: 10 float32 rows of 3, ``mod`` over 4 partitions, ``chunk_rows`` 2. Id 9 is row 2 of
partition 1 (9 % 4, 9 // 4), so row 0 of its chunk 1: bytes 0 to 11 of ``partitions/1/c/1/0``, a
file of 2 * 3 * 4 + 4 = 28 bytes. The table of the float32 rows ``[[1, 2], [3, 4]]`` without words
has the fingerprint ``cbb5711eff6383e77253c3dcfe38b748``. With the attributes ``count``, the int64
numbers ``[5, 6]``, and ``tag``, the strings ``["a", "b"]``, it is
``162b689963b4da3cb3574eb33d8daade``; its heading then ends in the line
``[["count","int64"],["tag","string"]]``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from embstore import dtypes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

FORMAT_VERSION: Final = 1
METADATA: Final = "zarr.json"
ATTRIBUTE: Final = "embstore"
CHECKSUMS: Final = "chunk_crc32c"
METADATA_CHECKSUMS: Final = "metadata_crc32c"
MANIFEST_CHECKSUM: Final = "manifest_crc32c"
CHECKSUM_BYTES: Final = 4
RAW: Final = "raw"
SHARDED: Final = "sharded"
LAYOUTS: Final = (RAW, SHARDED)

COMPRESSION: Final = "compression"
INNER_ROWS: Final = "inner_chunk_rows"
INDEX_CHECKSUMS: Final = "index_crc32c"
CHUNK_SIZES: Final = "chunk_bytes"
ENTRY_BYTES: Final = 16  # An inner chunk's offset and size in the index of its shard.
ABSENT: Final = (1 << 64) - 1
MAX_INNER_CHUNKS: Final = 1 << 20
MAX_INNER_BYTES: Final = 1 << 20
MAX_BLOSC_BYTES: Final = 512 << 20  # A little more fits into a single block.
# What a build makes of them, or half of it: a lookup decodes all of an inner chunk for one row.
INNER_BYTES: Final = 32 << 10

ENCODING: Final = "encoding"
EMPTY_ROWS: Final = "empty_rows"
RECORD_BYTES: Final = "record_bytes"

PARTITIONS: Final = "partitions"
VOCABULARY: Final = "vocabulary"
WORD_BYTES: Final = "bytes"
WORD_OFFSETS: Final = "offsets"
WORD_SLOTS: Final = "slots"
VOCABULARY_DTYPES: Final = {WORD_BYTES: "uint8", WORD_OFFSETS: "int64", WORD_SLOTS: "uint64"}

ATTRIBUTES: Final = "attributes"
STRING: Final = "string"
STRING_DTYPES: Final = {WORD_BYTES: "uint8", WORD_OFFSETS: "int64"}
ATTRIBUTE_DTYPES: Final = (*dtypes.DTYPES, "bool", STRING)
MAX_NAME_LENGTH: Final = 100
MAX_NAME_BYTES: Final = 240  # A file's name has at most 255.

WORD_HASH: Final = "xxh3_64"
SLOT_ID_BITS: Final = 40
MAX_ROWS: Final = (1 << SLOT_ID_BITS) - 1
# No array may be larger; a broken or hostile number is refused before it is multiplied further.
MAX_BYTES: Final = 1 << 56
MAX_ROW_BYTES: Final = 1 << 30
MAX_AXES: Final = 32  # Of a row.
MAX_PARTITIONS: Final = 1 << 16
MAX_METADATA_BYTES: Final = 16 << 20
# Words that were not chosen to collide need about 400 in a table of 2**40 words that is two thirds
# full: the longest cluster has about ln(words) / (load - 1 - ln(load)) slots.
MAX_PROBE_COUNT: Final = 1024
# What a store may require of a reader besides this version.
FEATURES: Final = (
    *(row.name for row in dtypes.DTYPES.values() if row.is_extension),
    ENCODING,
    EMPTY_ROWS,
)

FINGERPRINT: Final = "fingerprint"
FULL_FINGERPRINT: Final = "full_fingerprint"
FINGERPRINT_DIGITS: Final = 32
CHUNKS_AT_REWRITE: Final = "chunks_at_rewrite"
FINGERPRINT_HEADING: Final = "embstore table 1"
FINGERPRINT_STEP: Final = 0x9E3779B97F4A7C15
FINGERPRINT_ROUNDS: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
FINGERPRINT_LAST_SHIFT: Final = 31
FINGERPRINT_FIRST_WORD: Final = 1 << 63

POINTER: Final = "current.json"
POINTER_KEY: Final = "embstore_pointer"
POINTER_VERSION: Final = 1
MAX_POINTER_BYTES: Final = 64 << 10
MAX_PREVIOUS: Final = 100
LAYOUT_DIGITS: Final = 8

SHOWN_LENGTH: Final = 200  # Of a value, in a message.

DTYPES: Final = tuple(dtypes.DTYPES)

# Chunks of 45 to 90 MiB, or up to twice that where this fills huge pages: large enough that a table
# of terabytes is some ten thousand files, small enough to be read, checked or copied as one.
MAX_CHUNK_BYTES: Final = 90 << 20
HUGE_PAGE_BYTES: Final = 2 << 20
# A table of more chunks than that, some 700 GB, gets larger ones instead: each takes a mapping.
MANY_CHUNKS: Final = 8000
# What is chosen stays below this, about half of Linux's default limit of mappings.
MOST_CHUNKS: Final = 1 << 15
LARGEST_CHUNK_BYTES: Final = 8 << 30
# Below this size a chunk is not cut further to save the padding behind the last row.
SMALL_CHUNK_BYTES: Final = 64 << 10
# A partition is loaded, copied or checked as a whole, so it should fit into memory.
MAX_PARTITION_BYTES: Final = 16 << 30
# As many as the default memory limit of a build allows.
MOST_CHOSEN_PARTITIONS: Final = 1 << 14


def choose_partition_count(table_bytes: int) -> int:
    """Return the smallest power of two of partitions, up to 2**14, that keeps each below 16 GiB.

    Lookups are as fast with one partition as with many. A remainder by a power of two is a single
    bit operation.

    Examples
    --------
    >>> choose_partition_count(5 << 30), choose_partition_count(100 << 30)
    (1, 8)
    """
    count = 1 << max(-(-table_bytes // MAX_PARTITION_BYTES) - 1, 0).bit_length()
    return min(count, MOST_CHOSEN_PARTITIONS)


def choose_chunk_bytes(table_bytes: int) -> int:
    """Return the most bytes of a chunk: 90 MiB, doubled until a table has few chunks.

    Examples
    --------
    >>> [choose_chunk_bytes(size) >> 20 for size in (700 * 10**9, 10**12, 10**13)]
    [90, 180, 1440]
    """
    most = MAX_CHUNK_BYTES
    while table_bytes > MANY_CHUNKS * most and most < LARGEST_CHUNK_BYTES:
        most *= 2
    return min(most, LARGEST_CHUNK_BYTES)


def choose_shard_rows(rows: int, row_bytes: int, max_shard_bytes: int = MAX_CHUNK_BYTES) -> int:
    """Return the rows in a shard, a power of two, for an array of ``rows`` rows.

    It is the largest one whose rows have at most ``max_shard_bytes``: a shard has no padding.

    Examples
    --------
    >>> choose_shard_rows(4097, 1536), choose_shard_rows(1_000_000, 1200)
    (8192, 65536)
    """
    shard_rows = 1 << max(rows - 1, 0).bit_length()
    while shard_rows > 1 and shard_rows * row_bytes > max_shard_bytes:
        shard_rows //= 2
    return shard_rows


def choose_chunk_rows(
    rows: int, row_bytes: int, max_chunk_bytes: int = MAX_CHUNK_BYTES, partition_count: int = 1
) -> int:
    """Return the rows in a chunk, a power of two, for an array of ``rows`` rows.

    Of a table, that is the longest of ``partition_count`` partitions, which share the number.

    It is the largest one whose chunk has at most ``max_chunk_bytes``, and whose padding is at most
    an eighth of the rows. Only chunks over 64 KiB are made smaller to reduce padding, and only
    while the table has at most 2**15. Where twice the bytes fill whole huge pages, a chunk may have
    them: chunks can then be mapped without gaps, and finding a row takes less arithmetic.

    Examples
    --------
    >>> choose_chunk_rows(1_000_000, 1200)  # 150 MiB; 75 MiB would end in the middle of a huge page
    131072
    >>> choose_chunk_rows(1_000_000, 1024)  # 64 MiB
    65536
    >>> choose_chunk_rows(7631, 1536)  # one chunk of 8192 rows, 7 % of it padding
    8192
    >>> choose_chunk_rows(4097, 1536)  # 8192 or 4096 would store nearly twice the rows
    512
    """
    chunk_rows = 1 << max(rows - 1, 0).bit_length()
    while chunk_rows > 1 and chunk_rows * row_bytes > max_chunk_bytes:
        chunk_rows //= 2
    whole_rows = HUGE_PAGE_BYTES // math.gcd(HUGE_PAGE_BYTES, row_bytes)
    if chunk_rows < min(whole_rows, rows) and whole_rows * row_bytes <= 2 * max_chunk_bytes:
        chunk_rows = whole_rows
    while chunk_rows * row_bytes > SMALL_CHUNK_BYTES and -rows % chunk_rows > rows // 8:
        if partition_count * -(-rows // (chunk_rows // 2)) > MOST_CHUNKS:
            break
        chunk_rows //= 2
    return chunk_rows


def choose_inner_rows(row_bytes: int) -> int:
    """Return the rows in an inner chunk, a power of two: over 16 KiB and up to 32 KiB, or one row.

    Examples
    --------
    >>> choose_inner_rows(1200), choose_inner_rows(100_000)
    (16, 1)
    """
    return 1 << max(INNER_BYTES // max(row_bytes, 1), 1).bit_length() - 1


@dataclass(frozen=True, slots=True)
class RawArray:
    """One array of the store in the raw layout.

    Parameters
    ----------
    name : str
        Its path inside the store, for example ``"partitions/0"``.
    shape : tuple of int
        Rows first.
    dtype : numpy.dtype
        Dtype of the numbers, little endian. The Zarr array has its `storage_dtype`.
    chunk_rows : int
        Rows in a chunk.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_rows: int

    @property
    def chunk_count(self) -> int:
        """Number of chunk files; none of rows without numbers."""
        return 0 if 0 in self.shape[1:] else -(-self.shape[0] // self.chunk_rows)

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Shape of one chunk; Zarr has none of length 0."""
        return (self.chunk_rows, *(max(axis, 1) for axis in self.shape[1:]))

    @property
    def chunk_bytes(self) -> int:
        """Bytes of rows in a chunk file; the checksum follows them."""
        return math.prod(self.chunk_shape) * self.dtype.itemsize

    @property
    def file_bytes(self) -> int:
        """Size of a chunk file."""
        return self.chunk_bytes + CHECKSUM_BYTES

    @property
    def metadata_name(self) -> str:
        """Path of the array's metadata inside the store."""
        return f"{self.name}/{METADATA}"

    def chunk_name(self, chunk: int) -> str:
        """Return the path of a chunk file inside the store."""
        return "/".join([self.name, "c", str(chunk), *["0"] * (len(self.shape) - 1)])

    def chunk_names(self) -> list[str]:
        """Return the paths of all chunk files inside the store, in their order."""
        start, end = f"{self.name}/c/", "/0" * (len(self.shape) - 1)
        return [f"{start}{chunk}{end}" for chunk in range(self.chunk_count)]

    def directory_names(self) -> Iterator[str]:
        """Yield the paths of the chunk files' directories inside the store."""
        yield f"{self.name}/c"
        for chunk in range(self.chunk_count if len(self.shape) > 1 else 0):
            for axis in range(1, len(self.shape)):
                yield "/".join([self.name, "c", str(chunk), *["0"] * (axis - 1)])

    def codecs(self) -> list[dict[str, Any]]:
        """Return the codecs of a chunk, as Zarr metadata has them."""
        return [self.numbers_codec(), {"name": "crc32c"}]

    def numbers_codec(self) -> dict[str, Any]:
        """Return the codec that makes bytes of numbers."""
        codec: dict[str, Any] = {"name": "bytes"}
        if self.dtype.itemsize > 1:
            codec["configuration"] = {"endian": "little"}
        return codec

    def metadata(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Return the Zarr metadata of this array, in the order in which zarr writes it."""
        data_type, zero = _zarr_numbers(self.dtype)
        return {
            "shape": list(self.shape),
            "data_type": data_type,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": list(self.chunk_shape)},
            },
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": zero,
            "codecs": self.codecs(),
            "attributes": attributes,
            "zarr_format": 3,
            "node_type": "array",
            "storage_transformers": [],
        }

    def differences(self, metadata: dict[str, Any]) -> list[str]:
        """Return how Zarr metadata differs from that of this array.

        Returns
        -------
        list of str
            One clause for each difference; empty if ``metadata`` describes this array.
        """
        expected = self.metadata({})
        del expected["attributes"]
        return [
            f"{key} is {shown(metadata.get(key))}, expected {shown(value)}"
            for key, value in expected.items()
            if metadata.get(key, [] if key == "storage_transformers" else None) != value
        ]


@lru_cache(maxsize=64)
def _zarr_numbers(dtype: np.dtype[Any]) -> tuple[str, bool | int | float]:
    """Return Zarr's name for the type of stored numbers, and its zero."""
    stored = dtypes.storage_dtype(dtype)
    return stored.name, stored.type(0).item()


def shown(value: object) -> str:
    """Return ``repr(value)`` of a value from a file, truncated for messages."""
    try:
        text = repr(value)
    except RecursionError:
        return "something deeply nested"
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}..."


def partition_name(partition: int) -> str:
    """Return the path of a partition's array inside the store."""
    return f"{PARTITIONS}/{partition}"


def vocabulary_name(part: str) -> str:
    """Return the path of one of the vocabulary's arrays inside the store."""
    return f"{VOCABULARY}/{part}"
