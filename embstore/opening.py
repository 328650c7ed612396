"""How does a path become a store? Everything that can be seen without reading rows is checked.

1. The manifest is read, and `embstore.formats.own.checks` looks at all but the rows: metadata,
   and the chunk files' sizes and last four bytes.
2. Where it is asked for, `embstore.verify` reads the rows and words, too.
3. The reader maps the chunk files, or gets ready to fetch chunks.
4. If the store was replaced meanwhile, this could be a mix of two: then it begins again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from embstore.errors import StoreCorruptError, StoreError
from embstore.formats.own.checks import check_store
from embstore.formats.own.manifest import read_manifest
from embstore.reading.chunked import ChunkReader, identity
from embstore.reading.mapping import can_map
from embstore.store import EmbeddingStore
from embstore.verify import verify as verify_store
from embstore.vocabulary import open_vocabulary
from embstore.writing.staging import finish_replacement

if TYPE_CHECKING:
    import os

    from embstore.formats.own.manifest import Manifest
    from embstore.progress import OnProgress
    from embstore.reading import Reader

ReaderName = Literal["auto", "mapped", "chunked"]
Verify = Literal["sizes", "full"]


def open(
    path: str | os.PathLike[str],
    *,
    reader: ReaderName = "auto",
    verify: Verify = "sizes",
    resident_limit: int | str | None = None,
    preload: bool = False,
    progress: OnProgress | None = None,
) -> EmbeddingStore:
    """Open a store.

    Parameters
    ----------
    path : str or path-like
        The directory of the store.
    reader : {"auto", "mapped", "chunked"}
        ``"mapped"`` takes rows out of memory-mapped files, ``"chunked"`` reads whole chunks
        through zarr; ``"auto"`` is mapped where the system can.
    verify : {"sizes", "full"}
        How much to check first. ``"sizes"``: all metadata by its checksums, and of each chunk file
        that it is there, has its size, and is the one that belongs there. ``"full"`` also reads
        everything and computes the checksums of rows and words, as `embstore.verify` does; a copy
        that is unpickled is not verified again.
    resident_limit : int or str, optional
        How much of the mapping may count as this process's memory, in bytes or as in ``"2GiB"``;
        at least 64 MiB. What is unmapped stays in the page cache.
    preload : bool
        Read everything into RAM first, and map it by huge pages where the system can.
    progress : callable, optional
        Called with a `embstore.Progress`: the bytes verified, then the bytes preloaded, and all of
        them.

    Raises
    ------
    StoreNotFoundError
        If there is no store.
    StoreVersionError
        If it needs a newer embstore.
    StoreCorruptError
        If a file is missing, of another size, another build's, or contradicts the manifest; under
        ``"full"``, if anything at all is damaged.
    StoreMappingError
        If the system will not map so many files.

    Examples
    --------
    >>> with embstore.open("words.embstore") as store:
    ...     store.shape
    (11, 8)
    """
    if reader not in ("auto", "mapped", "chunked"):
        raise ValueError(f"reader must be auto, mapped or chunked, not {reader!r}")
    if verify not in ("sizes", "full"):
        raise ValueError(f"verify must be sizes or full, not {verify!r}")
    options = {"reader": reader, "resident_limit": resident_limit, "preload": preload}
    where = Path(path).absolute()
    while True:
        finish_replacement(where)
        before = identity(where)
        try:
            if verify == "full":
                _verify(where, progress)
            store = _open_once(where, options, progress)
        except (StoreError, FileNotFoundError):
            if identity(where) == before:
                raise
        else:
            if identity(where) == before:
                return store


def _reopen(path: str, options: dict[str, Any]) -> EmbeddingStore:
    """Open a store again, as unpickling does."""
    return open(path, **options)


def _verify(path: Path, progress: OnProgress | None) -> None:
    problems = verify_store(path, progress=progress).problems
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise StoreCorruptError(f"{problems[0]}{more}")


def _open_once(path: Path, options: dict[str, Any], progress: OnProgress | None) -> EmbeddingStore:
    manifest = read_manifest(path)
    check_store(path, manifest)
    vocabulary = None
    if manifest.vocabulary is not None:
        vocabulary = open_vocabulary(path, manifest.vocabulary)
    reader = _make_reader(path, manifest, options, progress)
    return EmbeddingStore(path, manifest, reader, vocabulary, (_reopen, (str(path), options)))


def _make_reader(
    path: Path,
    manifest: Manifest,
    options: dict[str, Any],
    progress: OnProgress | None,
) -> Reader:
    if options["reader"] == "chunked" or (options["reader"] == "auto" and not can_map()):
        return ChunkReader(path, manifest)
    # Imported here because they need modules that not every system has.
    from embstore.reading.mapped import MappedReader  # noqa: PLC0415
    from embstore.reading.residence import parse_bytes  # noqa: PLC0415

    limit = options["resident_limit"]
    reader = MappedReader(
        path, manifest, resident_limit=None if limit is None else parse_bytes(limit)
    )
    if options["preload"]:
        reader.preload(progress)
    return reader
