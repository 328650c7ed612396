"""The next version of a store: what changes is written, all other files are taken over.

1. The target is locked by its staging directory, and only then the old version is read. A second
   writer is refused.
2. An array that changes gets an `ArrayWriter`, which takes over whole chunks of the old array and
   writes the others. Chunks whose rows are rewritten are compared with their checksums before
   the first file is written.
3. At the end, all other chunk files and all metadata that stay the same are linked
   (`embstore.writing.disk.linking`), the new metadata is written, the manifest last, and the
   version is published like a build.

A dry version does all this but write: it tells what a change would cost.
"""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embstore.contents import read_contents
from embstore.dtypes import storage_dtype
from embstore.errors import StoreExistsError
from embstore.formats.own import spec
from embstore.formats.own.checked_files import LocalDirectory
from embstore.formats.own.checks import check_known
from embstore.formats.own.fields import parse_json
from embstore.formats.own.manifest import read_manifest
from embstore.formats.own.seals import checksum, seal_with
from embstore.reading.files import StoreFiles
from embstore.writing.arrays import ArrayWriter, PiecePool
from embstore.writing.disk.background import Background
from embstore.writing.disk.linking import Linker
from embstore.writing.disk.replacement import finish_replacement
from embstore.writing.disk.staging import Staging, check_target
from embstore.writing.memory import plan_memory
from embstore.writing.metadata import array_metadata, group_metadata
from embstore.writing.shards import ShardWriter, shard_piece_bytes
from embstore.writing.versions.old_rows import Identity, check_chunk, read_chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from embstore.formats.own.manifest import Manifest
    from embstore.formats.own.sharded import ListedChunks
    from embstore.formats.own.spec import RawArray
    from embstore.writing.words.new_words import MakeArray


class NextVersion:
    """The next version of a store.

    `close` removes what was written, unless `publish` came before.

    Parameters
    ----------
    target : Path
        The path of the store.
    memory_bytes : int
        The most memory to use.
    dry : bool
        Whether to write nothing.

    Attributes
    ----------
    manifest : Manifest
        That of the old version.
    files : StoreFiles
        The files of the old version.
    memory : MemoryPlan
        The shares of the memory.
    directory : Path
        Where to create scratch files.
    background : Background
        The threads that write.
    chunks_rewritten, chunks_linked, bytes_written : int
        What the change has cost, after `publish`.

    Raises
    ------
    StoreNotFoundError, StoreExistsError
        If there is no store, or a symbolic link to one.
    StoreVersionError
        If it needs a newer embstore, or has files that only a newer one knows.
    StoreBusyError
        If it is being written.
    StoreCorruptError
        If the old version is damaged.
    ValueError
        If ``memory_bytes`` are too few.
    """

    def __init__(self, target: Path, *, memory_bytes: int, dry: bool = False) -> None:
        target = target.absolute()
        finish_replacement(target)
        read_manifest(target)
        if target.is_symlink():
            raise StoreExistsError(
                f"{target} is a symbolic link; change the store that it leads to: "
                f"{os.path.realpath(target)}"
            )
        check_target(target, overwrite=True)
        self._target = target
        self._staging = None if dry else Staging(target, overwrite=True)
        self._background: Background | None = None
        try:
            self._open(memory_bytes, dry)
        except BaseException:
            self.close()
            raise

    @property
    def background(self) -> Background:
        """The threads that write."""
        assert self._background is not None
        return self._background

    def close(self) -> None:
        """Remove what was written, unless it is published; the store does not change."""
        if self._staging is not None and not self._staging.is_own:
            return  # In a forked child; the change goes on in its parent.
        if self._background is not None:
            self._background.close()
        if self._staging is not None:
            self._staging.discard()
            self._staging = None

    def array(self, name: str) -> tuple[RawArray, ListedChunks]:
        """Return an array of the old version, and what it lists of its chunks."""
        return self._old[name]

    def check_chunk(self, array: RawArray, chunk: int) -> None:
        """Read a chunk file of the old version once, and compare it with the listed checksum.

        Raises
        ------
        StoreCorruptError
            If it differs.
        """
        if (array.name, chunk) not in self._checked:
            _, listed = self._old[array.name]
            identity = check_chunk(self._target, array, listed, chunk)
            self._checked[array.name, chunk] = identity

    def read_chunk(self, array: RawArray, chunk: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the rows of an old chunk as bytes, shape (n, row_bytes), piece by piece."""
        self.check_chunk(array, chunk)
        checked = self._checked[array.name, chunk]
        return read_chunk(self._target, array, self._old[array.name][1], chunk, checked)

    def new_array(
        self, name: str, item_shape: tuple[int, ...], dtype: np.dtype[Any], chunk_rows: int
    ) -> ArrayWriter:
        """Return the writer of an array, which is empty."""
        self.background.make_directory((self._path / name).parent)  # Its group may be new.
        writer = self._make_array(name, item_shape, dtype, chunk_rows)
        self._add(name, writer)
        return writer

    def new_partition(self, partition: int, chunk_rows: int) -> ArrayWriter:
        """Return the writer of a partition, which is empty."""
        manifest = self.manifest
        make_array: MakeArray = self._make_array
        if manifest.compression is not None:
            make_array = partial(
                ShardWriter,
                self._path,
                pool=self._shard_pool,
                background=self.background,
                compression=manifest.compression,
                inner_rows=manifest.inner_rows,
            )
        dtype, row_shape = manifest.stored
        name = spec.partition_name(partition)
        writer = make_array(name, row_shape, storage_dtype(dtype), chunk_rows)
        self._add(name, writer)
        return writer

    def _add(self, name: str, writer: ArrayWriter) -> None:
        self._writers[name], self._taken[name] = writer, set()
        self._unfinished.append(writer)

    def take_over(self, writer: ArrayWriter, array: RawArray, chunks: range) -> None:
        """Take over chunks of an old array as the next ones of its writer."""
        if chunks:
            writer.take_over(*self._old[array.name], chunks)
            self._taken[array.name].update(chunks)

    def link_chunk(self, writer: ArrayWriter, array: RawArray, chunk: int) -> None:
        """Take over a whole chunk of an old array as the next one of its writer."""
        self.take_over(writer, array, range(chunk, chunk + 1))

    def grow_array(self, array: RawArray) -> ArrayWriter:
        """Return the writer of an array that goes on where one of the old version ends."""
        writer = self.new_array(array.name, array.shape[1:], array.dtype, array.chunk_rows)
        whole = array.shape[0] // array.chunk_rows
        self.take_over(writer, array, range(whole))
        if whole < array.chunk_count:
            for piece in self.read_chunk(array, whole):
                writer.append(piece)
        return writer

    def finish_arrays(self) -> None:
        """Queue the rest of the arrays so far, and their flush; errors as `publish`."""
        for writer in self._unfinished:
            writer.finish()
        self._unfinished.clear()
        self.background.flush_soon()

    def publish(self, manifest: Manifest) -> None:
        """Finish the version, and put it in the place of the old one; a dry one does not.

        Parameters
        ----------
        manifest : Manifest
            Its manifest, with the fingerprint.

        Raises
        ------
        StoreCorruptError
            If what was written cannot be opened again, or an old file cannot be taken over.
        OSError
            If the disk fails; see `embstore.StoreWriter.publish`.
        """
        # The flushes of chunks, links and metadata wait for the same commits of the journal.
        self.finish_arrays()
        self.background.wait_until_written()
        self.chunks_rewritten = self.background.file_count
        documents = dict(self._documents(manifest))
        checksums = {
            name: checksum(documents[name]) if name in documents else self._checksums[name]
            for name in manifest.metadata_names()
        }
        sealed = seal_with(manifest.to_json(), checksums)
        root = group_metadata(self._root_attributes() | {spec.ATTRIBUTE: sealed})
        for name, data in [*documents.items(), (spec.METADATA, root)]:
            self.background.write_file(self._path / name, data)
        kept = {array.name: self._kept_chunks(array) for array in manifest.arrays()}
        self.chunks_linked = sum(map(len, kept.values()))
        bytes_copied = 0
        if self._staging is not None:
            with Linker(self._target, self._path) as linker:
                for name, chunks in kept.items():
                    if chunks:
                        linker.take_chunks(*self._old[name], chunks)
                for name, listed in checksums.items():
                    if name not in documents:
                        linker.take_metadata(name, listed)
                bytes_copied = linker.taken.bytes_copied
        self.background.wait_until_written()
        self.bytes_written = self.background.byte_count + bytes_copied
        if self._staging is None:
            return
        self._staging.check_contents()
        self.background.finish()
        self.background.close()
        self._staging.publish()
        self._staging = None

    def _open(self, memory_bytes: int, dry: bool) -> None:
        contents = read_contents(StoreFiles(self._target))
        self.manifest = manifest = contents.manifest
        check_known(manifest, self._target)
        self.files = StoreFiles(self._target, manifest)
        self.vocabulary = contents.vocabulary
        self.attributes = contents.attributes
        self._old = {array.name: (array, listed) for array, listed in contents.listed}
        self._checksums = manifest.metadata_checksums
        self._checked: dict[tuple[str, int], Identity] = {}
        inner_bytes = (manifest.inner_rows or 0) * manifest.row_bytes
        self.memory = plan_memory(memory_bytes, manifest.partition_count, inner_bytes)
        self._background = Background(self.memory.queue_bytes, dry=dry)
        self._path = self._target if self._staging is None else self._staging.path
        self.directory = Path(tempfile.gettempdir()) if dry else self._path
        self._make_array = partial(
            ArrayWriter,
            self._path,
            pool=PiecePool(self.memory.piece_bytes),
            background=self._background,
        )
        self._shard_pool = PiecePool(shard_piece_bytes(self.memory.piece_bytes, manifest.row_bytes))
        # By the names of arrays: their writers, and the chunks that these have taken over.
        self._writers: dict[str, ArrayWriter] = {}
        self._unfinished: list[ArrayWriter] = []
        self._taken: dict[str, set[int]] = {}
        for group in manifest.group_names():
            self._background.make_directory(self._path / group)

    def _documents(self, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the content of each metadata file that is new, but the manifest's."""
        for group in manifest.group_names():
            name = f"{group}/{spec.METADATA}"
            if name not in self._checksums:
                yield name, group_metadata()
        for writer in self._writers.values():
            array = writer.array
            yield array.metadata_name, array_metadata(array, writer.listed)

    def _kept_chunks(self, array: RawArray) -> list[int]:
        """Return the chunks of an array whose files are those of the old version."""
        if array.name in self._writers:
            return sorted(self._taken[array.name])
        return list(range(array.chunk_count))

    def _root_attributes(self) -> dict[str, Any]:
        """Return the attributes of the old root group, which may have some of other programs."""
        old = LocalDirectory(self._target)
        data = old.read_small(spec.METADATA, spec.MAX_METADATA_BYTES)
        found: dict[str, Any] = parse_json(old.where(spec.METADATA), data)["attributes"]
        return found
