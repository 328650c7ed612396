"""Verification of a store: all of its metadata, rows, words and attributes are checked.

1. The manifest and the other metadata have the right checksums and agree with each other.
2. Every chunk file exists and has the expected size. The checksum of its rows must equal that at
   the end of the file, or the chunk is damaged; and that must equal the one in the array's list, or
   the chunk was swapped with another. A few threads read the files, each from start to end. Of a
   shard, the checksum of the whole file must equal the listed one; its index is checked, and every
   inner chunk is decoded.
3. Each word, looked up, gives its own id.
4. The strings of attributes are UTF-8, one after the other.
5. Rows, words and attributes have the fingerprint that the manifest states, if it states one.

A store that was forged passes too: checksums are not signatures.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from embstore.attributes.stored import StoredStrings, check_utf8, open_attributes
from embstore.attributes.values import first_id, hashed
from embstore.errors import EmbstoreError, StoreCorruptError
from embstore.formats.own import spec
from embstore.formats.own.checked_files import LocalDirectory, open_checked
from embstore.formats.own.checks import check_array, read_metadata, wrong_chunk, wrong_target
from embstore.formats.own.listed_files import PIECE_BYTES
from embstore.formats.own.manifest import as_partitions, read_manifest
from embstore.formats.own.row_sums import RowSums
from embstore.formats.own.shard_check import check_shard
from embstore.formats.own.sharded import ListedChunks, ShardedArray
from embstore.paths import as_local_path
from embstore.progress import Progress
from embstore.reading.files import StoreFiles
from embstore.reading.pipeline import in_order
from embstore.vocabulary import open_vocabulary
from embstore.vocabulary.words import encode, hash_words
from embstore.wording import either
from embstore.writing.disk.replacement import finish_replacement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from embstore.formats.own.manifest import Manifest
    from embstore.formats.own.spec import RawArray
    from embstore.formats.own.vocabulary_manifest import VocabularyManifest
    from embstore.progress import OnProgress

# The most bytes of pieces held by all threads.
MAX_PIECES_BYTES = 64 << 20
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


def verify(
    path: str | os.PathLike[str],
    *,
    partitions: Iterable[int] | None = None,
    progress: OnProgress | None = None,
) -> VerifyReport:
    """Read a whole store and check all of it.

    Parameters
    ----------
    path : str or path-like
        The store.
    partitions : iterable of int, optional
        The partitions to check, as in 0,3, where only their files are here; by default all. The
        vocabulary is checked if it is here. The fingerprint, which is of all rows, is not.
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
        If ``path`` is not a path, or the store does not have one of ``partitions``.

    Examples
    --------
    >>> embstore.verify("words.embstore").ok
    True
    """
    where = as_local_path(path, "path", _of_a_url()).absolute()
    numbers = as_partitions(partitions)
    report = VerifyReport()
    finish_replacement(where)
    try:
        manifest = read_manifest(where)
    except StoreCorruptError as error:
        report.problems.append(str(error))
        return report
    stated = manifest.fingerprint
    if numbers is not None:
        part = manifest.part(
            numbers,
            words=(where / spec.VOCABULARY).exists(),
            attributes=(where / spec.ATTRIBUTES).exists(),
        )
        if part is not manifest:
            manifest, stated = replace(part, fingerprint=None), None
    chunks = _verify_metadata(where, manifest, report)
    sums = RowSums()
    _verify_chunks(where, manifest, chunks, report, sums, progress)
    if manifest.vocabulary is not None and report.ok:
        _verify_words(where, manifest, manifest.vocabulary, report, sums)
    if report.ok:
        _verify_strings(where, manifest, report, sums)
    if stated is not None and report.ok:
        _verify_fingerprint(where, manifest, stated, report, sums)
    return report


def _verify_metadata(
    path: Path, manifest: Manifest, report: VerifyReport
) -> list[tuple[RawArray, ListedChunks]]:
    """Check all metadata; return the undamaged arrays, with the checksums of their chunks."""
    arrays, files = [], LocalDirectory(path)
    for name in manifest.group_names():
        try:
            files.check_directories([name])
            read_metadata(files, f"{name}/{spec.METADATA}", manifest)
        except EmbstoreError as error:
            report.problems.append(str(error))
    for array in manifest.arrays():
        try:
            listed = check_array(files, array, manifest)
            files.check_chunk_directories(array)
        except EmbstoreError as error:
            report.problems.append(str(error))
        else:
            arrays.append((array, listed))
    return arrays


def _verify_chunks(
    path: Path,
    manifest: Manifest,
    arrays: list[tuple[RawArray, ListedChunks]],
    report: VerifyReport,
    sums: RowSums,
    progress: OnProgress | None,
) -> None:
    """Read all chunk files, in the order in which they are stored; add up rows and numbers."""
    done = 0
    total = sum(sum(listed.sizes) for _, listed in arrays)
    # Each thread holds a piece, which has at least one row.
    most = max(MAX_PIECES_BYTES // max(PIECE_BYTES, manifest.row_bytes), 1)

    def check(one: tuple[RawArray, ListedChunks, int, range]) -> tuple[int, str | None, RowSums]:
        array, listed, chunk, ids = one
        if isinstance(array, ShardedArray):
            return listed.sizes[chunk], *check_shard(path, array, listed, chunk, ids)
        return array.file_bytes, *_check_chunk(path, array, chunk, listed.checksums[chunk], ids)

    chunks = (
        (array, listed, chunk, ids)
        for array, listed in arrays
        for chunk, ids in enumerate(_chunk_ids(manifest, array))
    )
    with closing(in_order(check, chunks, thread_name="embstore-verify", most=most)) as found:
        for size_bytes, problem, some in found:
            done += size_bytes
            if problem is not None:
                report.problems.append(problem)
            else:
                report.file_count += 1
                report.byte_count += size_bytes
                sums.merge(some)
            if progress is not None:
                progress(Progress(done, total))


def _chunk_ids(manifest: Manifest, array: RawArray) -> Iterator[range]:
    """Yield the ids of the rows or numbers in each chunk; none where they are not added up."""
    room, _, name = array.name.partition("/")
    ids = range(0)
    if manifest.fingerprint is not None and room == spec.PARTITIONS:
        ids = manifest.numbering.ids_of(int(name))
    elif manifest.fingerprint is not None and room == spec.ATTRIBUTES and "/" not in name:
        first = first_id(name)
        ids = range(first, first + manifest.rows)
    for chunk in range(array.chunk_count):
        yield ids[chunk * array.chunk_rows : (chunk + 1) * array.chunk_rows]


def _check_chunk(
    path: Path, array: RawArray, chunk: int, listed: int, ids: range
) -> tuple[str | None, RowSums]:
    """Read a chunk file; return a message if it is damaged, or None, and the sums of its rows."""
    where = path / array.chunk_name(chunk)
    sums = RowSums()
    try:
        stated, computed = _checksums(where, array, ids, sums)
    except (EmbstoreError, OSError) as error:
        return str(error), sums
    problem = None
    if stated != computed and where.is_symlink():  # Its bytes may be anyone's.
        problem = wrong_target(where)
    elif stated != computed:
        problem = (
            f"{where}: its rows have the checksum {computed:08x}, the file says {stated:08x}: it "
            "is damaged"
        )
    elif stated != listed:
        problem = wrong_chunk(str(where), array, stated, listed)
    return problem, sums


def _checksums(path: Path, array: RawArray, ids: range, sums: RowSums) -> tuple[int, int]:
    """Return the checksum that a chunk file states, and the one that its rows have.

    The rows of the ids are added to the sums.
    """
    computed = 0
    row_bytes = array.chunk_bytes // array.chunk_rows
    piece_rows = max(PIECE_BYTES // row_bytes, 1)
    with os.fdopen(open_checked(path, array.file_bytes), "rb", buffering=0) as file:
        for first in range(0, array.chunk_rows, piece_rows):
            size_bytes = min(piece_rows, array.chunk_rows - first) * row_bytes
            piece = file.read(size_bytes)
            if len(piece) < size_bytes:
                raise StoreCorruptError(f"{path} became shorter while it was read")
            computed = google_crc32c.extend(computed, piece)
            if some := ids[first : first + piece_rows]:
                rows = np.frombuffer(piece, np.uint8).reshape(-1, row_bytes)
                sums.add(rows[: len(some)], some)
        stated = int.from_bytes(file.read(spec.CHECKSUM_BYTES), "little")
    return stated, computed


def _verify_words(
    path: Path,
    manifest: Manifest,
    sizes: VocabularyManifest,
    report: VerifyReport,
    sums: RowSums,
) -> None:
    """Look up all words; add them up."""
    try:
        vocabulary = open_vocabulary(StoreFiles(path, manifest), sizes)
        for start in range(0, manifest.rows, WORDS_AT_ONCE):
            ids = np.arange(start, min(start + WORDS_AT_ONCE, manifest.rows))
            words = vocabulary.words(ids)
            found = vocabulary.ids(words)
            wrong = np.flatnonzero(found != ids)
            if wrong.size:
                first = int(ids[wrong[0]])
                report.problems.append(
                    f"{path / spec.VOCABULARY}: {wrong.size} words do not give their own id, "
                    f"the first is that of id {first}"
                )
            if manifest.fingerprint is not None:
                sums.add_words(hash_words(encode(words)), start)
        if manifest.unk is not None and vocabulary.ids([manifest.unk])[0] < 0:
            report.problems.append(
                f"{path}: the unk word {manifest.unk!r} is not in the vocabulary"
            )
    except EmbstoreError as error:
        report.problems.append(f"{path / spec.VOCABULARY}: {error}")


def _verify_strings(path: Path, manifest: Manifest, report: VerifyReport, sums: RowSums) -> None:
    """Decode the strings of all attributes; add them up."""
    strings = {name: one for name, one in manifest.attributes.items() if one.is_string}
    try:
        columns = open_attributes(StoreFiles(path, manifest), strings)
        for name, column in columns.items():
            assert isinstance(column, StoredStrings)
            column.check_ends()
            for start in range(0, manifest.rows, WORDS_AT_ONCE):
                values = column.part(start, min(start + WORDS_AT_ONCE, manifest.rows))
                check_utf8(name, values)
                sums.add_values(hashed(values), first_id(name) + start)
    except EmbstoreError as error:
        report.problems.append(f"{path / spec.ATTRIBUTES}: {error}")


def _verify_fingerprint(
    path: Path, manifest: Manifest, stated: str, report: VerifyReport, sums: RowSums
) -> None:
    what = "rows, words and attributes" if manifest.attributes else "rows and words"
    computed = sums.fingerprint(manifest.heading)
    if computed != stated:
        report.problems.append(
            f"{path / spec.METADATA}: the {what} have the fingerprint {computed}, but the "
            f"manifest says {stated}: it is from another table, or was changed"
        )


def _of_a_url() -> str:
    """Return what to do instead of verifying a published store."""
    return either(
        "embstore.open(url).fingerprint(full=True) reads and checks all of a published store",
        "copy a published store to a disk to check it",
    )
