"""Is everything in the store what its build wrote?

1. The manifest and the arrays' metadata agree, every chunk file is there and has its size.
2. Each chunk's checksum, computed from its rows, is the one at the end of its file, and the one in
   the list beside its array: a damaged chunk fails the first, one that was swapped with another
   the second.
3. Each word, looked up, leads to its own id.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from embstore import layout
from embstore.errors import EmbstoreError, StoreCorruptError
from embstore.manifest import check_array, read_manifest
from embstore.mapping import open_checked
from embstore.vocabulary import open_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

    from embstore.layout import RawArray
    from embstore.manifest import Manifest, VocabularyManifest

PIECE_BYTES = 8 << 20
WORDS_AT_ONCE = 1 << 16


@dataclass(slots=True)
class VerifyReport:
    """What `verify` found.

    Attributes
    ----------
    problems : list of str
        One sentence for each, with the file; empty if the store is whole.
    file_count, byte_count : int
        Chunk files read, and their bytes.
    """

    problems: list[str] = field(default_factory=list)
    file_count: int = 0
    byte_count: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(
    path: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
) -> VerifyReport:
    """Read a whole store and check all of it.

    Parameters
    ----------
    path : str or path-like
        The store.
    progress : callable, optional
        Told the bytes done, and all of them.

    Returns
    -------
    VerifyReport
        With ``ok``, and the list of ``problems``.

    Raises
    ------
    StoreNotFoundError, StoreVersionError
        If there is no store, or it needs a newer embstore.
    StoreCorruptError
        If the manifest itself is damaged, so that nothing more can be said.

    Examples
    --------
    >>> embstore.verify("words.embstore").ok
    True
    """
    where = Path(path).absolute()
    manifest = read_manifest(where)
    report = VerifyReport()
    total = sum(array.chunk_count * array.file_bytes for array in manifest.arrays())

    def advance(byte_count: int) -> None:
        report.byte_count += byte_count
        if progress is not None:
            progress(report.byte_count, total)

    for array in manifest.arrays():
        _verify_array(where, array, report, advance)
    if manifest.vocabulary is not None and report.ok:
        _verify_words(where, manifest, manifest.vocabulary, report)
    return report


def _verify_array(
    path: Path, array: RawArray, report: VerifyReport, advance: Callable[[int], None]
) -> None:
    try:
        listed = check_array(path, array)
    except EmbstoreError as error:
        report.problems.append(str(error))
        return
    for chunk, checksum in enumerate(listed):
        where = path / array.chunk_name(chunk)
        try:
            found, computed = _checksums(where, array, advance)
        except (EmbstoreError, OSError) as error:
            report.problems.append(str(error))
            continue
        report.file_count += 1
        if found != computed:
            report.problems.append(
                f"{where}: its rows have the checksum {computed:08x}, the file says {found:08x}: "
                "it is damaged"
            )
        elif found != checksum:
            report.problems.append(
                f"{where}: its checksum is {found:08x}, but {array.metadata_name} lists "
                f"{checksum:08x}: it is another chunk's, or another build's"
            )


def _checksums(path: Path, array: RawArray, advance: Callable[[int], None]) -> tuple[int, int]:
    """Return the checksum that a chunk file states, and the one that its rows have."""
    computed = 0
    remaining = array.chunk_bytes
    with os.fdopen(open_checked(path, array.file_bytes), "rb", buffering=0) as file:
        while remaining:
            piece = file.read(min(PIECE_BYTES, remaining))
            if not piece:
                raise StoreCorruptError(f"{path} became shorter while it was read")
            computed = google_crc32c.extend(computed, piece)
            remaining -= len(piece)
            advance(len(piece))
        stated = int.from_bytes(file.read(layout.CHECKSUM_BYTES), "little")
        advance(layout.CHECKSUM_BYTES)
    return stated, computed


def _verify_words(
    path: Path, manifest: Manifest, sizes: VocabularyManifest, report: VerifyReport
) -> None:
    try:
        vocabulary = open_vocabulary(path, sizes)
        for start in range(0, manifest.rows, WORDS_AT_ONCE):
            ids = np.arange(start, min(start + WORDS_AT_ONCE, manifest.rows))
            found = vocabulary.ids(vocabulary.words(ids))
            wrong = np.flatnonzero(found != ids)
            if wrong.size:
                first = int(ids[wrong[0]])
                report.problems.append(
                    f"{path / layout.VOCABULARY}: {wrong.size} words do not lead to their own id, "
                    f"the first is that of id {first}"
                )
        if manifest.unk is not None and vocabulary.ids([manifest.unk])[0] < 0:
            report.problems.append(f"{path}: the unk word {manifest.unk!r} is not a word of it")
    except EmbstoreError as error:
        report.problems.append(f"{path / layout.VOCABULARY}: {error}")
