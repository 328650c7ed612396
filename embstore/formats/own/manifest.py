"""The manifest of a store: its facts, each checked for type and bounds when it is read.

It is kept in the attributes of the store's root group; `embstore.formats.own.spec` specifies it.
A reader trusts no field: if one is missing, has another type or is out of its bounds, the store is
refused before any row is read.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from xxhash import xxh3_128_hexdigest

from embstore.dtypes import as_dtype, is_extension
from embstore.encodings.manifest import encoding_to_json
from embstore.errors import StoreCorruptError, StoreError, StoreNotFoundError, StoreVersionError
from embstore.formats.own import spec
from embstore.formats.own.attribute_manifest import (
    AttributeManifest,
    attributes_line,
    parse_attributes,
)
from embstore.formats.own.checked_files import REBUILD, UPGRADE, LocalDirectory
from embstore.formats.own.compression import BLOSC, LEVELS, Compression
from embstore.formats.own.encoded import dtype_line, parse_encoding_field
from embstore.formats.own.fields import Fields, parse_json
from embstore.formats.own.heading import Heading
from embstore.formats.own.seals import check_seal
from embstore.formats.own.sharded import ShardedArray
from embstore.formats.own.spec import RawArray, shown
from embstore.formats.own.vocabulary_manifest import VocabularyManifest, parse_vocabulary
from embstore.settle import as_numbers
from embstore.table.numbering import STRATEGIES, Numbering, Strategy
from embstore.wording import function, parameter, shape_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from embstore.table.protocols import CheckedFiles, Encoding


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of a store; its fields are those of the format.

    ``encoding`` is None for plain rows; of others, ``row_shape`` and ``dtype`` are what a lookup
    gives.

    Raises
    ------
    ValueError
        If a field is out of its bounds, or fields contradict each other.
    """

    rows: int
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    partition_count: int
    strategy: Strategy
    chunk_rows: int
    unk: str | None = None
    vocabulary: VocabularyManifest | None = None
    source: dict[str, Any] = field(default_factory=dict)
    created_by: str = ""
    metadata_checksums: dict[str, int] = field(default_factory=dict)
    fingerprint: str | None = None
    compression: Compression | None = None  # The layout is then "sharded".
    inner_rows: int | None = None
    encoding: Encoding | None = None
    # How many chunks the partitions had when all were last written; None if they never grew.
    chunks_at_rewrite: int | None = None
    attributes: dict[str, AttributeManifest] = field(default_factory=dict)
    # The partitions that were opened, ascending; None for all. The format does not have this.
    present: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rows <= spec.MAX_ROWS:
            raise ValueError(f"rows must be 0 to {spec.MAX_ROWS}, not {self.rows}")
        if not 1 <= self.partition_count <= spec.MAX_PARTITIONS:
            raise ValueError(
                f"partition count must be 1 to {spec.MAX_PARTITIONS}, not {self.partition_count}"
            )
        if self.dtype.name not in spec.DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(spec.DTYPES)}, not {self.dtype}")
        if len(self.row_shape) > spec.MAX_AXES or any(axis < 0 for axis in self.row_shape):
            raise ValueError(
                f"row shape must have up to {spec.MAX_AXES} axes, each 0 or more: "
                f"{shape_text(self.row_shape)}"
            )
        if self.chunk_rows < 1 or self.chunk_rows & (self.chunk_rows - 1):
            raise ValueError(f"chunk_rows must be a power of two, not {self.chunk_rows}")
        self._check_row()
        chunk_count = self.partition(0).chunk_count * self.partition_count
        if max(chunk_count, 1) * self.chunk_rows * self.row_bytes > spec.MAX_BYTES:
            raise ValueError(
                f"{self.rows} rows of {self.row_bytes} bytes, in chunks of {self.chunk_rows}, take "
                f"more than {spec.MAX_BYTES} bytes"
            )
        self._check_compression()
        origins = self.source.get("origins", [])
        if not isinstance(origins, list) or not all(isinstance(one, dict) for one in origins):
            raise ValueError(f"origins of source must be a list of objects, not {shown(origins)}")
        self._check_columns()

    def _check_columns(self) -> None:
        for attribute in self.attributes.values():
            if attribute.rows != self.rows:
                raise ValueError(
                    f"attribute {attribute.name!r} has {attribute.rows} values, expected "
                    f"{self.rows}, one for each row"
                )
        if self.vocabulary is None:
            if self.unk is not None:
                raise ValueError(f"unk is {self.unk!r}, but the store has no words")
            return
        offsets = self.vocabulary.sizes[spec.WORD_OFFSETS].length
        slots = self.vocabulary.sizes[spec.WORD_SLOTS].length
        if offsets != self.rows + 1:
            raise ValueError(f"{offsets} word offsets, expected {self.rows + 1}")
        if slots & (slots - 1) or slots <= self.rows:
            raise ValueError(
                f"{slots} hash slots for {self.rows} words, expected a power of two above that"
            )

    def _check_row(self) -> None:
        most = max(self.row_bytes, self._decoded_bytes)
        if most > spec.MAX_ROW_BYTES:
            raise ValueError(f"a row has {most} bytes, more than the {spec.MAX_ROW_BYTES} allowed")
        if self.encoding is not None and self.encoding.dtype != self.dtype:
            raise ValueError(
                f"rows of {self.encoding.name} are {self.encoding.dtype}, but the dtype is "
                f"{self.dtype.name}"
            )
        if 0 in self.row_shape and (self.encoding is not None or self.compression is not None):
            what = "encode" if self.encoding is not None else "compress"
            raise ValueError(
                f"rows of shape {shape_text(self.row_shape)} have no numbers to {what}"
            )

    def _check_compression(self) -> None:
        rows = self.inner_rows
        if self.compression is None or rows is None:
            return
        if rows & (rows - 1) or not 1 <= rows <= self.chunk_rows:
            raise ValueError(
                f"{spec.INNER_ROWS} must be a power of two up to chunk_rows, {self.chunk_rows}, "
                f"not {rows}"
            )
        if self.compression.codec == BLOSC and self.row_bytes > spec.MAX_BLOSC_BYTES:
            raise ValueError(
                f"blosc takes rows of at most {spec.MAX_BLOSC_BYTES} bytes, not {self.row_bytes}; "
                "use zstd"
            )
        if rows > 1 and rows * self.row_bytes > spec.MAX_INNER_BYTES:
            raise ValueError(
                f"an inner chunk of {rows} rows has {rows * self.row_bytes} bytes, more than the "
                f"{spec.MAX_INNER_BYTES} allowed"
            )
        if self.chunk_rows // rows > spec.MAX_INNER_CHUNKS:
            raise ValueError(
                f"{self.chunk_rows // rows} inner chunks in a shard, more than the "
                f"{spec.MAX_INNER_CHUNKS} allowed"
            )

    @property
    def numbering(self) -> Numbering:
        """The numbering of the ids, without gaps between partitions."""
        return Numbering(self.rows, self.partition_count, self.strategy)

    @property
    def row_bytes(self) -> int:
        """Size of one row as it is stored."""
        return self._decoded_bytes if self.encoding is None else self.encoding.record_bytes

    @property
    def _decoded_bytes(self) -> int:
        return math.prod(self.row_shape) * self.dtype.itemsize

    @property
    def stored(self) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """The dtype and the row shape of the partitions' arrays: bytes, if rows are encoded."""
        if self.encoding is None:
            return self.dtype, self.row_shape
        return np.dtype(np.uint8), (self.encoding.record_bytes,)

    @property
    def heading(self) -> Heading:
        """The heading of the fingerprint."""
        return Heading(
            self.rows,
            self.row_shape,
            dtype_line(self.dtype, self.encoding),
            words=self.vocabulary is not None,
            unk=self.unk,
            attributes=attributes_line(self.attribute_dtypes) if self.attributes else None,
        )

    @property
    def attribute_dtypes(self) -> dict[str, str]:
        """The dtype of each attribute, by its name."""
        return {name: attribute.dtype for name, attribute in self.attributes.items()}

    @property
    def identity(self) -> str:
        """The identity of the table: the fingerprint, else a hash of all checksums."""
        if self.fingerprint is not None:
            return self.fingerprint
        fields = self.to_json() | {spec.METADATA_CHECKSUMS: self.metadata_checksums}
        return xxh3_128_hexdigest(json.dumps(fields, sort_keys=True).encode())

    def partition(self, partition: int) -> RawArray:
        """Return the array of one partition."""
        return next(self.partitions([partition]))

    def partitions(self, numbers: Iterable[int]) -> Iterator[RawArray]:
        """Yield the arrays of some partitions."""
        dtype, row_shape = self.stored
        row_count, chunk_rows = self.numbering.row_count, self.chunk_rows
        for number in numbers:
            shape = (row_count(number), *row_shape)
            name = spec.partition_name(number)
            if self.compression is None or self.inner_rows is None:
                yield RawArray(name, shape, dtype, chunk_rows)
            else:
                yield ShardedArray(
                    name, shape, dtype, chunk_rows, self.inner_rows, self.compression
                )

    def arrays(self) -> Iterator[RawArray]:
        """Yield every array of the store that is here: partitions, vocabulary, attributes."""
        present = range(self.partition_count) if self.present is None else self.present
        yield from self.partitions(present)
        if self.vocabulary is not None:
            yield from map(self.vocabulary.array, spec.VOCABULARY_DTYPES)
        for attribute in self.attributes.values():
            yield from attribute.arrays()

    def part(self, partitions: tuple[int, ...], *, words: bool, attributes: bool) -> Manifest:
        """Return the manifest of a part of the store.

        Parameters
        ----------
        partitions : tuple of int
            The partitions that are here, ascending.
        words : bool
            Whether the vocabulary is here, too.
        attributes : bool
            Whether the attributes are here, too.

        Raises
        ------
        ValueError
            If the store does not have one of the partitions.
        """
        if partitions[-1] >= self.partition_count:
            raise ValueError(
                f"{parameter('partitions')} must be from 0 to {self.partition_count - 1}, "
                f"those of the store, not {partitions[-1]}"
            )
        part = self
        if len(partitions) < self.partition_count:
            part = replace(part, present=partitions)
        if not words:
            part = replace(part, vocabulary=None, unk=None)
        return part if attributes or not part.attributes else replace(part, attributes={})

    def find_chunk(self, name: str) -> tuple[RawArray, int]:
        """Return the array of a chunk file, given its path inside the store, and the chunk."""
        group, part, *rest = name.split("/")
        if group == spec.ATTRIBUTES:
            return self.attributes[part].find_chunk(rest)
        chunk = rest[1]
        if group == spec.PARTITIONS:
            return self.partition(int(part)), int(chunk)
        assert self.vocabulary is not None
        return self.vocabulary.array(part), int(chunk)

    def group_names(self) -> Iterator[str]:
        """Yield the path of each group of arrays."""
        yield spec.PARTITIONS
        if self.vocabulary is not None:
            yield spec.VOCABULARY
        if self.attributes:
            yield spec.ATTRIBUTES
            yield from (one.group for one in self.attributes.values() if one.is_string)

    def metadata_names(self) -> Iterator[str]:
        """Yield the path of each metadata file inside the store, except the manifest's own."""
        yield from (f"{group}/{spec.METADATA}" for group in self.group_names())
        yield from (array.metadata_name for array in self.arrays())

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as it is written to the root group's attributes."""
        fields = {
            "format_version": spec.FORMAT_VERSION,
            "requires": self._requires(),
            "rows": self.rows,
            "row_shape": list(self.row_shape),
            "dtype": self.dtype.name,
            "partition_count": self.partition_count,
            "strategy": self.strategy,
            "layout": spec.RAW if self.compression is None else spec.SHARDED,
            "chunk_rows": self.chunk_rows,
            "unk": self.unk,
            "vocabulary": None if self.vocabulary is None else self.vocabulary.to_json(),
            "source": self.source,
            "created_by": self.created_by,
        }
        if self.encoding is not None:
            fields |= {
                spec.ENCODING: encoding_to_json(self.encoding),
                spec.RECORD_BYTES: self.encoding.record_bytes,
            }
        if self.compression is not None:
            codec = {"codec": self.compression.codec, "level": self.compression.level}
            fields |= {spec.COMPRESSION: codec, spec.INNER_ROWS: self.inner_rows}
        if self.attributes:
            fields[spec.ATTRIBUTES] = {
                name: attribute.to_json() for name, attribute in self.attributes.items()
            }
        if self.fingerprint is not None:
            # A reader that ignores attributes would find that the other field is wrong.
            key = spec.FULL_FINGERPRINT if self.attributes else spec.FINGERPRINT
            fields[key] = self.fingerprint
        if self.chunks_at_rewrite is not None:
            fields[spec.CHUNKS_AT_REWRITE] = self.chunks_at_rewrite
        return fields

    def _requires(self) -> list[str]:
        found = [self.dtype.name] if is_extension(self.dtype) else []
        found += [spec.ENCODING] if self.encoding is not None else []
        return found + ([spec.EMPTY_ROWS] if 0 in self.row_shape else [])


def as_partitions(value: Any) -> tuple[int, ...] | None:
    """Return the partitions that a caller wants, ascending; None for all.

    Raises
    ------
    TypeError, ValueError
        If they are not a list of ascending numbers that a store can have.
    """
    if value is None:
        return None
    return as_numbers(value, "partitions", high=spec.MAX_PARTITIONS - 1)


def parse_manifest(document: Any, where: Path | str) -> Manifest:
    """Return the manifest that the metadata of a root group holds.

    Raises
    ------
    StoreNotFoundError
        If this is a Zarr group but not a store.
    StoreVersionError
        If the store needs a newer embstore.
    StoreCorruptError
        If a field is missing, of another type or out of its bounds.
    """
    attributes = document.get("attributes") if isinstance(document, dict) else None
    fields = attributes.get(spec.ATTRIBUTE) if isinstance(attributes, dict) else None
    if fields is None:
        raise StoreNotFoundError(
            f"{where} has no embstore manifest: it is a Zarr group but not a store, or its build "
            "did not finish"
        )
    if (document.get("zarr_format"), document.get("node_type")) != (3, "group"):
        raise StoreCorruptError(f"{where} is not the metadata of a Zarr v3 group; {REBUILD}")
    reader = Fields(fields, where, "manifest")
    metadata_checksums = check_seal(fields, reader)
    version = reader.integer("format_version", low=1)
    required = [name for name in reader.get("requires", list) if name not in spec.FEATURES]
    if version > spec.FORMAT_VERSION or required:
        newer = version > spec.FORMAT_VERSION
        need = f"format version {version}" if newer else shown(required)
        raise StoreVersionError(
            f"{where} needs {need}; this embstore reads format version {spec.FORMAT_VERSION} "
            f"and knows {', '.join(spec.FEATURES)}: {UPGRADE}"
        )
    if (layout := reader.get("layout", str)) not in spec.LAYOUTS:
        known = " and ".join(map(repr, spec.LAYOUTS))
        raise StoreVersionError(
            f"{where} has the layout {shown(layout)}; this embstore reads {known}: {UPGRADE}"
        )
    is_sharded = layout == spec.SHARDED
    if (strategy := reader.get("strategy", str)) not in STRATEGIES:
        raise reader.error("strategy", f"is {shown(strategy)}, expected 'mod' or 'div'")
    if (dtype := reader.get("dtype", str)) not in spec.DTYPES:
        expected = ", ".join(spec.DTYPES)
        raise reader.error("dtype", f"is {shown(dtype)}, expected one of {expected}")
    row_shape = tuple(reader.integers("row_shape"))
    try:
        return Manifest(
            rows=reader.integer("rows"),
            row_shape=row_shape,
            dtype=as_dtype(dtype).newbyteorder("<"),
            partition_count=reader.integer("partition_count", low=1),
            strategy=strategy,
            chunk_rows=reader.integer("chunk_rows", low=1),
            unk=reader.get("unk", str, type(None)),
            vocabulary=parse_vocabulary(reader.get("vocabulary", dict, type(None)), where),
            source=reader.get("source", dict),
            created_by=reader.get("created_by", str),
            metadata_checksums=metadata_checksums,
            fingerprint=_parse_fingerprint(fields, reader),
            compression=_parse_compression(reader, where) if is_sharded else None,
            inner_rows=reader.integer(spec.INNER_ROWS, low=1) if is_sharded else None,
            encoding=_parse_encoding(fields, row_shape, reader, where),
            chunks_at_rewrite=(
                reader.integer(spec.CHUNKS_AT_REWRITE) if spec.CHUNKS_AT_REWRITE in fields else None
            ),
            attributes=_parse_attributes(fields, where),
        )
    except StoreError:  # Its message is complete; some are ValueErrors too.
        raise
    except ValueError as error:
        raise StoreCorruptError(
            f"{where}: the manifest contradicts itself: {error}; {REBUILD}"
        ) from error


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the store at ``path``; errors as `parse_manifest`."""
    if not path.is_dir():
        raise StoreNotFoundError(f"no store at {path}: {_kind(path)}")
    if not (path / spec.METADATA).is_file():
        raise StoreNotFoundError(f"{path} is not a store: it has no {spec.METADATA}")
    return manifest_of(LocalDirectory(path))


def manifest_of(files: CheckedFiles) -> Manifest:
    """Read the manifest of a store from its files; errors as `parse_manifest`."""
    where = files.where(spec.METADATA)
    if not files.exists(spec.METADATA):
        raise StoreNotFoundError(f"{files.where('')} is not a store: it has no {spec.METADATA}")
    data = files.read_small(spec.METADATA, spec.MAX_METADATA_BYTES)
    return parse_manifest(parse_json(where, data), where)


def _parse_fingerprint(fields: dict[str, Any], reader: Fields) -> str | None:
    key = spec.FULL_FINGERPRINT if spec.ATTRIBUTES in fields else spec.FINGERPRINT
    if key not in fields:
        return None
    text: str = reader.get(key, str)
    if len(text) != spec.FINGERPRINT_DIGITS or set(text) - set("0123456789abcdef"):
        problem = f"is {shown(text)}, expected {spec.FINGERPRINT_DIGITS} hexadecimal digits"
        raise reader.error(key, problem)
    return text


def _parse_attributes(fields: dict[str, Any], where: Path | str) -> dict[str, AttributeManifest]:
    # The caller converts a ValueError of this, as it does one of the manifest's own.
    return parse_attributes(fields[spec.ATTRIBUTES], where) if spec.ATTRIBUTES in fields else {}


def _parse_encoding(
    fields: dict[str, Any], row_shape: tuple[int, ...], reader: Fields, where: Path | str
) -> Encoding | None:
    is_required = spec.ENCODING in reader.get("requires", list)
    if is_required != (spec.ENCODING in fields):
        problem = "is missing, but required" if is_required else "is given, but not required"
        raise reader.error(spec.ENCODING, problem)
    if not is_required:
        return None
    if len(row_shape) > spec.MAX_AXES or not 1 <= math.prod(row_shape) <= spec.MAX_ROW_BYTES:
        raise ValueError(f"row shape {shown(row_shape)} is out of bounds")
    # The caller converts a ValueError of this, as it does one of the manifest's own.
    encoding = parse_encoding_field(reader.get(spec.ENCODING, dict), row_shape, where)
    stated = reader.integer(spec.RECORD_BYTES, low=1)
    if stated != encoding.record_bytes:
        problem = f"is {stated}, but a record of {encoding.name} has {encoding.record_bytes}"
        raise reader.error(spec.RECORD_BYTES, problem)
    return encoding


def _parse_compression(reader: Fields, where: Path | str) -> Compression:
    found = Fields(reader.get(spec.COMPRESSION, dict), where, spec.COMPRESSION)
    if (codec := found.get("codec", str)) not in LEVELS:
        raise StoreVersionError(
            f"{where} is compressed by {shown(codec)}; this embstore reads {', '.join(LEVELS)}: "
            f"{UPGRADE}"
        )
    # The caller converts a ValueError of this, as it does one of the manifest's own.
    return Compression(codec, found.integer("level"))


def _kind(path: Path) -> str:
    if path.exists():
        return f"it is a file; to make a store from it, use {function('build')}"
    return "no such directory"
