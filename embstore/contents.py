"""The contents of a store on disk, read and checked without its rows: the first step of an open.

A build reads what it has written in the same way before it publishes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embstore.attributes.stored import open_attributes
from embstore.formats.own.checks import check_store
from embstore.formats.own.describe import table_of
from embstore.formats.own.manifest import manifest_of
from embstore.formats.own.spec import ATTRIBUTES, METADATA, VOCABULARY
from embstore.vocabulary import open_vocabulary

if TYPE_CHECKING:
    from embstore.attributes.stored import StoredColumn
    from embstore.formats.own.manifest import Manifest
    from embstore.formats.own.sharded import ListedChunks
    from embstore.formats.own.spec import RawArray
    from embstore.table.protocols import StoredFiles
    from embstore.table.tables import Table
    from embstore.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store has besides its rows."""

    manifest: Manifest
    table: Table
    files: StoredFiles
    vocabulary: Vocabulary | None
    attributes: dict[str, StoredColumn]
    listed: tuple[tuple[RawArray, ListedChunks], ...]  # What the metadata of each array lists.


def read_contents(
    files: StoredFiles, partitions: tuple[int, ...] | None = None, *, at_once: bool = True
) -> Contents:
    """Check the metadata of a store, and the sizes and last bytes of its files; map its columns.

    Parameters
    ----------
    files : StoredFiles
        The files of the store.
    partitions : tuple of int, optional
        Those to open, ascending; others are not looked at, and the vocabulary and the
        attributes may be missing.
    at_once : bool
        Whether to check all chunk files now. Otherwise each is checked when it is first opened, and
        the caller calls ``files.check_rest()`` of what is returned.

    Raises
    ------
    StoreNotFoundError, StoreVersionError
        If there is no store, or it needs a newer embstore.
    ValueError
        If the store does not have one of the partitions.
    StoreCorruptError
        For the first problem found.
    """
    manifest = manifest_of(files)
    if partitions is not None:
        # An object store has no directories, only what is in them.
        has_words, has_attributes = (
            files.exists(group) or files.exists(f"{group}/{METADATA}")
            for group in (VOCABULARY, ATTRIBUTES)
        )
        manifest = manifest.part(partitions, words=has_words, attributes=has_attributes)
    listed = check_store(files, manifest)
    files = files.with_manifest(manifest)
    if at_once:
        files.check_rest()
    vocabulary = None
    if manifest.vocabulary is not None:
        vocabulary = open_vocabulary(files, manifest.vocabulary)
    attributes = open_attributes(files, manifest.attributes)
    return Contents(manifest, table_of(manifest), files, vocabulary, attributes, listed)
