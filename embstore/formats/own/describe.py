"""The table of a store: its manifest as columns, an encoding and a numbering."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embstore.dtypes import native
from embstore.encodings.plain import Plain
from embstore.formats.own import spec
from embstore.formats.own.manifest import manifest_of
from embstore.table.addresses import ALIGNMENTS, address_limit, aligned_rows
from embstore.table.extents import Column, Extent, InnerChunks
from embstore.table.numbering import Numbering
from embstore.table.partial import PartialNumbering
from embstore.table.tables import Table

if TYPE_CHECKING:
    from embstore.formats.own.manifest import Manifest
    from embstore.table.protocols import CheckedFiles, Files

PATTERNS = (spec.METADATA,)


def matches(start: bytes, name: str) -> bool:  # Every format has this signature.
    """Return False: a store is a directory."""
    return False


def main_file(files: Files) -> str:
    """Return ``""``, the directory itself."""
    return ""


def describe(files: CheckedFiles, name: str) -> Table:
    """Return the table of the store in a directory; errors as `manifest_of`."""
    return table_of(manifest_of(files))


def table_of(manifest: Manifest) -> Table:
    """Return the table that a manifest describes.

    Each chunk is an extent; its last rows may be padding, which no id has. Partitions of a single
    chunk are a power of two of rows apart, so that each can start on a huge page; a gap fills the
    rows between them. Of partitions that are elsewhere, each chunk is a gap.
    """
    distance = _distance(manifest)
    encoding = manifest.encoding or Plain(native(manifest.dtype), manifest.row_shape)
    if not manifest.row_bytes:
        return Table((), encoding, _numbered(manifest, distance))
    present = None if manifest.present is None else frozenset(manifest.present)
    extents: list[Extent] = []
    for partition, array in enumerate(manifest.partitions(range(manifest.partition_count))):
        is_here = present is None or partition in present
        names = array.chunk_names() if is_here else [""] * array.chunk_count
        extents += [Extent(name, 0, manifest.chunk_rows) for name in names]
        if gap := distance - array.chunk_count * manifest.chunk_rows:
            extents.append(Extent("", 0, gap))
    inner = None
    if manifest.compression is not None and manifest.inner_rows is not None:
        inner = InnerChunks(manifest.inner_rows, manifest.compression.codec)
    return Table(
        columns=(Column(tuple(extents), manifest.row_bytes, inner_chunks=inner),),
        encoding=encoding,
        numbering=_numbered(manifest, distance),
    )


def _numbered(manifest: Manifest, distance: int) -> Numbering:
    """Return the numbering of a store whose partitions are ``distance`` rows apart."""
    facts = manifest.rows, manifest.partition_count, manifest.strategy, distance
    if manifest.present is None:
        return Numbering(*facts)
    return PartialNumbering(*facts, present=manifest.present)


def _distance(manifest: Manifest) -> int:
    """Return the number of rows from the start of a partition to that of the next."""
    longest = manifest.partition(0)
    rows = longest.chunk_count * manifest.chunk_rows
    if not manifest.row_bytes:
        return longest.shape[0]  # There are no chunks.
    count = manifest.partition_count
    if count == 1 or longest.chunk_count != 1 or manifest.compression is not None:
        return rows  # The reader aligns several chunks one by one, and shards not at all.
    limit = address_limit(rows * count * manifest.row_bytes)
    for alignment in ALIGNMENTS:
        distance = aligned_rows(rows, manifest.row_bytes, alignment)
        if distance * count * manifest.row_bytes <= limit:
            return distance
    return rows
