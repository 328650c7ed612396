"""Verification of a store: all of its metadata, rows and words are read and checked.

1. The manifest and the other metadata have the right checksums and agree with each other.
2. Every chunk file exists and has the expected size. The checksum of its rows must equal that at
   the end of the file, or the chunk is damaged; and that must equal the one in the array's list, or
   the chunk was swapped with another. A few threads read the files, each from start to end.
3. Each word, looked up, gives its own id.

A store that was forged passes too: checksums are not signatures.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from embstore.errors import EmbstoreError, StoreCorruptError
from embstore.formats.own import spec
from embstore.formats.own.checked_files import check_directories, open_checked
from embstore.formats.own.checks import (
    check_array,
    read_metadata,
    wrong_chunk,
    wrong_target,
)
from embstore.formats.own.manifest import read_manifest
from embstore.progress import Progress
from embstore.reading.files import StoreFiles
from embstore.reading.pipeline import in_order
from embstore.settle import as_path
from embstore.vocabulary import open_vocabulary
from embstore.writing.replacement import finish_replacement

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embstore.formats.own.manifest import Manifest, VocabularyManifest
    from embstore.formats.own.spec import RawArray
    from embstore.progress import OnProgress

# Small enough to be still in the processor's cache when its checksum is computed.
PIECE_BYTES = 1 << 20
WORDS_AT_ONCE = 1 << 16


@dataclass(slots=True)
class VerifyReport:
    """The result of `verify`.

    Attributes
    ----------
    problems : list of str
        A message for each, with the file; empty if the store is undamaged.
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


def verify(path: str | os.PathLike[str], *, progress: OnProgress | None = None) -> VerifyReport:
    """Read a whole store and check all of it.

    Parameters
    ----------
    path : str or path-like
        The store.
    progress : callable, optional
        Called with an `embstore.Progress` on the calling thread: the bytes read, and their total.

    Returns
    -------
    VerifyReport
        With ``ok``, and the list of ``problems``. Damage of the manifest is the only problem
        listed, because the manifest says what else the store should have.

    Raises
    ------
    StoreNotFoundError, StoreVersionError
        If there is no store, or it needs a newer embstore.
    TypeError, ValueError
        If ``path`` is not a path.

    Examples
    --------
    >>> embstore.verify("words.embstore").ok
    True
    """
    where = as_path(path, "path").absolute()
    report = VerifyReport()
    finish_replacement(where)
    try:
        manifest = read_manifest(where)
    except StoreCorruptError as error:
        report.problems.append(str(error))
        return report
    chunks = _verify_metadata(where, manifest, report)
    _verify_chunks(where, chunks, report, progress)
    if manifest.vocabulary is not None and report.ok:
        _verify_words(where, manifest, manifest.vocabulary, report)
    return report


def _verify_metadata(
    path: Path, manifest: Manifest, report: VerifyReport
) -> list[tuple[RawArray, list[int]]]:
    """Check all metadata; return the undamaged arrays, with the checksums of their chunks."""
    arrays = []
    for name in manifest.group_names():
        try:
            check_directories(path, [name])
            read_metadata(path, f"{name}/{spec.METADATA}", manifest)
        except EmbstoreError as error:
            report.problems.append(str(error))
    for array in manifest.arrays():
        try:
            listed = check_array(path, array, manifest)
            check_directories(path, array.directory_names())
        except EmbstoreError as error:
            report.problems.append(str(error))
        else:
            arrays.append((array, listed))
    return arrays


def _verify_chunks(
    path: Path,
    arrays: list[tuple[RawArray, list[int]]],
    report: VerifyReport,
    progress: OnProgress | None,
) -> None:
    """Read all chunk files, in the order in which they are stored."""
    done = 0
    total = sum(array.file_bytes * len(listed) for array, listed in arrays)

    def check(chunk: tuple[RawArray, int, int]) -> tuple[int, str | None]:
        return chunk[0].file_bytes, _check_chunk(path, *chunk)

    chunks = ((array, *chunk) for array, listed in arrays for chunk in enumerate(listed))
    with closing(in_order(check, chunks, thread_name="embstore-verify")) as found:
        for size_bytes, problem in found:
            done += size_bytes
            if problem is not None:
                report.problems.append(problem)
            else:
                report.file_count += 1
                report.byte_count += size_bytes
            if progress is not None:
                progress(Progress(done, total))


def _check_chunk(path: Path, array: RawArray, chunk: int, listed: int) -> str | None:
    """Read a chunk file; return a message if it is damaged, or None."""
    where = path / array.chunk_name(chunk)
    try:
        stated, computed = _checksums(where, array)
    except (EmbstoreError, OSError) as error:
        return str(error)
    if stated != computed:
        if where.is_symlink():  # Its bytes may be anyone's.
            return wrong_target(where)
        return (
            f"{where}: its rows have the checksum {computed:08x}, the file says {stated:08x}: it "
            "is damaged"
        )
    return wrong_chunk(where, array, stated, listed) if stated != listed else None


def _checksums(path: Path, array: RawArray) -> tuple[int, int]:
    """Return the checksum that a chunk file states, and the one that its rows have."""
    computed = 0
    with os.fdopen(open_checked(path, array.file_bytes), "rb", buffering=0) as file:
        for size_bytes in _pieces(array.chunk_bytes):
            piece = file.read(size_bytes)
            if len(piece) < size_bytes:
                raise StoreCorruptError(f"{path} became shorter while it was read")
            computed = google_crc32c.extend(computed, piece)
        stated = int.from_bytes(file.read(spec.CHECKSUM_BYTES), "little")
    return stated, computed


def _pieces(size_bytes: int) -> Iterator[int]:
    for begin in range(0, size_bytes, PIECE_BYTES):
        yield min(PIECE_BYTES, size_bytes - begin)


def _verify_words(
    path: Path, manifest: Manifest, sizes: VocabularyManifest, report: VerifyReport
) -> None:
    try:
        vocabulary = open_vocabulary(StoreFiles(path, manifest), sizes)
        for start in range(0, manifest.rows, WORDS_AT_ONCE):
            ids = np.arange(start, min(start + WORDS_AT_ONCE, manifest.rows))
            found = vocabulary.ids(vocabulary.words(ids))
            wrong = np.flatnonzero(found != ids)
            if wrong.size:
                first = int(ids[wrong[0]])
                report.problems.append(
                    f"{path / spec.VOCABULARY}: {wrong.size} words do not give their own id, "
                    f"the first is that of id {first}"
                )
        if manifest.unk is not None and vocabulary.ids([manifest.unk])[0] < 0:
            report.problems.append(
                f"{path}: the unk word {manifest.unk!r} is not in the vocabulary"
            )
    except EmbstoreError as error:
        report.problems.append(f"{path / spec.VOCABULARY}: {error}")
