"""The words of a store: words to ids, ids to words, and spellings near a missing word."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from embstore.errors import StoreMappingError
from embstore.reading.files import LocalFiles
from embstore.vocabulary.mapped import map_vocabulary
from embstore.vocabulary.ranged import RangedVocabulary
from embstore.vocabulary.vocabulary import Vocabulary

if TYPE_CHECKING:
    from embstore.formats.own.vocabulary_manifest import VocabularyManifest
    from embstore.table.protocols import StoredFiles

__all__ = ["Vocabulary", "open_vocabulary"]


def open_vocabulary(files: StoredFiles, manifest: VocabularyManifest) -> Vocabulary:
    """Map the vocabulary of a store, or prepare to read it block by block."""
    if isinstance(files, LocalFiles):
        with suppress(StoreMappingError):  # No mappings are left.
            return map_vocabulary(files, manifest)
    return RangedVocabulary(files, manifest)
