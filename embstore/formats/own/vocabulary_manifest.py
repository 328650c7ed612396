"""The vocabulary's part of a manifest: the sizes of its arrays, and the longest probe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import StoreVersionError
from embstore.formats.own import spec
from embstore.formats.own.array_size import ArraySize, check_pages, parse_size, size_to_json
from embstore.formats.own.checked_files import UPGRADE
from embstore.formats.own.fields import Fields
from embstore.formats.own.spec import RawArray, shown

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class VocabularyManifest:
    """The vocabulary of a store.

    Parameters
    ----------
    probe_count : int
        The most slots to read for one word.
    sizes : dict of str to ArraySize
        The sizes of its arrays: ``bytes``, ``offsets`` and ``slots``.

    Raises
    ------
    ValueError
        If there are too many probes, or chunks that cannot be mapped next to each other.
    """

    probe_count: int
    sizes: dict[str, ArraySize]

    def __post_init__(self) -> None:
        if self.probe_count > spec.MAX_PROBE_COUNT:
            raise ValueError(
                f"a word takes {self.probe_count} probes, more than the {spec.MAX_PROBE_COUNT} "
                "allowed: the words' hashes collide"
            )
        for array in map(self.array, self.sizes):
            check_pages(array)

    def array(self, part: str) -> RawArray:
        """Return the array ``part``: ``bytes``, ``offsets`` or ``slots``."""
        size = self.sizes[part]
        dtype = np.dtype(spec.VOCABULARY_DTYPES[part])
        return RawArray(spec.vocabulary_name(part), (size.length,), dtype, size.chunk_rows)

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's field."""
        sizes = {part: size_to_json(size) for part, size in self.sizes.items()}
        return {"hash": spec.WORD_HASH, "probe_count": self.probe_count, **sizes}


def parse_vocabulary(fields: Any, where: Path | str) -> VocabularyManifest | None:
    """Return the vocabulary that a field describes; None for no words.

    Raises
    ------
    StoreVersionError
        If the words are hashed by a function that this embstore does not know.
    StoreCorruptError, ValueError
        If something is missing, of another type or out of its bounds.
    """
    if fields is None:
        return None
    reader = Fields(fields, where, "vocabulary")
    if (name := reader.get("hash", str)) != spec.WORD_HASH:
        raise StoreVersionError(
            f"{where} has words hashed by {shown(name)}; this embstore reads "
            f"{spec.WORD_HASH!r}: {UPGRADE}"
        )
    sizes = {
        part: parse_size(Fields(reader.get(part, dict), where, f"vocabulary.{part}"))
        for part in spec.VOCABULARY_DTYPES
    }
    return VocabularyManifest(reader.integer("probe_count", high=spec.MAX_ROWS), sizes)
