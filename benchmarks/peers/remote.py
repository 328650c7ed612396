"""Peers that read rows from an object store: embstore by range or cached, fsspec, zarr and others.

Each peer's files are what the peer of the same format writes to a disk, uploaded as they are. All
of them reach the same server with the credentials of the environment.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

import embstore
from benchmarks.peers.arrays import Memmap, TensorStore, ZarrOindex
from benchmarks.peers.base import Peer
from benchmarks.peers.databases import Lance
from benchmarks.peers.own import Embstore
from embstore.bench.state import files_under

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# What a reader of ranges may read in vain between two rows, to save a request.
GAP_BYTES = 64 << 10
REQUESTS_AT_ONCE = 64
CACHE_POOL_BYTES = 256 << 20


@dataclass
class Remote(Peer):
    """A peer whose files are on an object store.

    Parameters
    ----------
    endpoint : str
        The ``http://HOST:PORT`` of the object store, or of a proxy in front of it.
    bucket : str
        The bucket; the peer's files are below its ``folder``.

    Attributes
    ----------
    folder : str
        The first part of the names of its objects.
    cached : bool
        Whether it keeps rows on this machine, once they were read.
    """

    endpoint: str = ""
    bucket: str = ""

    folder: ClassVar[str] = ""
    cached: ClassVar[bool] = False

    def files(self) -> list[Path]:
        """Return no files: what the server reads stays in its memory."""
        return []

    def use_endpoint(self) -> None:
        """Let libraries find the object store in this process's environment."""
        os.environ["AWS_ENDPOINT_URL"] = self.endpoint

    def upload(self) -> None:
        """Upload what was written to the peer's directory, and remove it there."""
        import obstore  # noqa: PLC0415

        store = self.objects()
        for file in files_under(self.own_directory):
            name = f"{self.folder}/{file.relative_to(self.own_directory).as_posix()}"
            obstore.put(store, name, file)
        shutil.rmtree(self.own_directory)
        self.own_directory.mkdir()

    def objects(self, prefix: str | None = None) -> Any:
        """Return obstore's client of the bucket, or of a prefix in it."""
        from obstore.store import S3Store  # noqa: PLC0415

        return S3Store(
            self.bucket,
            prefix=prefix,
            endpoint=self.endpoint,
            access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
            secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
            region=os.environ["AWS_REGION"],
            client_options={"allow_http": True},
        )

    @property
    def url(self) -> str:
        """The URL of its objects."""
        return f"s3://{self.bucket}/{self.folder}"


@dataclass
class Published(Remote, Embstore):
    """embstore, a published store that is opened by its URL."""

    name: ClassVar[str] = "embstore"
    packages: ClassVar[tuple[tuple[str, str], ...]] = (("obstore", "obstore"),)
    folder: ClassVar[str] = "embstore"

    def prepare(self) -> None:
        """Publish the table."""
        self.use_endpoint()
        embstore.publish(self.table.path, self.url)

    def open(self) -> None:
        """Open the store by its URL."""
        self.use_endpoint()
        self._store = embstore.open(self.url)


@dataclass
class PublishedCached(Published):
    """embstore, a published store with a cache directory."""

    name: ClassVar[str] = "embstore, cached"
    cached: ClassVar[bool] = True

    def open(self) -> None:
        """Open the store by its URL, with a cache, and have all files brought into it."""
        self.use_endpoint()
        self._store = embstore.open(self.url, cache_dir=self.own_directory)
        self._store.warm(np.arange(self.table.rows))


@dataclass
class Local(Embstore):
    """embstore, the same store on the local disk."""

    name: ClassVar[str] = "embstore, local disk"


@dataclass
class FsspecRanges(Remote, Memmap):
    """A ``.npy`` file by fsspec's ``cat_ranges``: each row is one range."""

    name: ClassVar[str] = "fsspec cat_ranges"
    packages: ClassVar[tuple[tuple[str, str], ...]] = (("s3fs", "s3fs"),)
    folder: ClassVar[str] = "npy"

    gap_bytes: ClassVar[int | None] = None

    def prepare(self) -> None:
        """Write one file, and upload it."""
        Memmap.prepare(self)
        self.upload()

    def open(self) -> None:
        """Read the file's header."""
        self.use_endpoint()
        import s3fs  # noqa: PLC0415

        self._files: Any = s3fs.S3FileSystem(endpoint_url=self.endpoint)
        self._path = f"{self.bucket}/{self.folder}/rows.npy"
        with self._files.open(self._path, "rb", cache_type="none") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"expected a file of version 1.0, found {version}")
            np.lib.format.read_array_header_1_0(file)
            self._start = file.tell()

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        size = self.table.row_bytes
        unique, inverse = np.unique(ids, return_inverse=True)
        # The positions in `unique` where runs start and stop.
        gaps = np.diff(unique) * size - size
        cuts = np.flatnonzero(gaps > (-1 if self.gap_bytes is None else self.gap_bytes)) + 1
        firsts, lasts = np.r_[0, cuts], np.r_[cuts, len(unique)] - 1
        starts = self._start + unique[firsts] * size
        stops = self._start + (unique[lasts] + 1) * size
        paths = [self._path] * len(firsts)
        pieces = self._files.cat_ranges(
            paths,
            starts.tolist(),
            stops.tolist(),
            batch_size=REQUESTS_AT_ONCE,
            on_error="raise",
        )
        rows = np.empty((len(unique), *self.table.row_shape), self.table.dtype)
        for first, last, piece in zip(firsts.tolist(), lasts.tolist(), pieces, strict=True):
            found = np.frombuffer(piece, self.table.dtype).reshape(-1, *self.table.row_shape)
            rows[first : last + 1] = found[unique[first : last + 1] - unique[first]]
        return np.asarray(rows[inverse])

    one = Peer.one


@dataclass
class FsspecRuns(FsspecRanges):
    """As `FsspecRanges`, with rows that are close to each other read by one request."""

    name: ClassVar[str] = "fsspec, joined ranges"
    gap_bytes: ClassVar[int | None] = GAP_BYTES


@dataclass
class FsspecBlocks(FsspecRanges):
    """A ``.npy`` file by fsspec's ``blockcache``, which keeps blocks on the local disk."""

    name: ClassVar[str] = "fsspec blockcache"
    cached: ClassVar[bool] = True
    slow: ClassVar[bool] = True

    def open(self) -> None:
        """Open the file through the cache."""
        super().open()
        import fsspec  # noqa: PLC0415

        self._file = fsspec.open(
            f"blockcache::s3://{self._path}",
            s3={"endpoint_url": self.endpoint},
            blockcache={"cache_storage": str(self.own_directory), "check_files": False},
        ).open()

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        out = np.empty((len(ids), *self.table.row_shape), self.table.dtype)
        flat = out.reshape(len(ids), -1).view(np.uint8)
        for row, number in zip(flat, ids.tolist(), strict=True):
            self._file.seek(self._start + number * self.table.row_bytes)
            row[:] = np.frombuffer(self._file.read(self.table.row_bytes), np.uint8)
        return out


@dataclass
class FsspecFile(FsspecRanges):
    """A ``.npy`` file by fsspec's ``filecache``, whole on the local disk, and ``np.memmap``."""

    name: ClassVar[str] = "fsspec filecache, memmap"
    cached: ClassVar[bool] = True

    def open(self) -> None:
        """Fetch the file, and map it."""
        self.use_endpoint()
        import fsspec  # noqa: PLC0415

        path = fsspec.open_local(
            f"filecache::{self.url}/rows.npy",
            s3={"endpoint_url": self.endpoint},
            filecache={"cache_storage": str(self.own_directory)},
        )
        self._rows = np.load(path, mmap_mode="r")

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        return np.asarray(self._rows[ids])


@dataclass
class RemoteZarr(Remote, ZarrOindex):
    """zarr's ``oindex`` on a sharded array, through `zarr.storage.ObjectStore` and obstore."""

    name: ClassVar[str] = "zarr, obstore"
    packages: ClassVar[tuple[tuple[str, str], ...]] = (("zarr", "zarr"), ("obstore", "obstore"))
    folder: ClassVar[str] = "zarr"

    def prepare(self) -> None:
        """Write the array, and upload it."""
        ZarrOindex.prepare(self)
        self.upload()

    def open(self) -> None:
        """Open the array."""
        import zarr  # noqa: PLC0415
        from zarr.storage import ObjectStore  # noqa: PLC0415

        zarr.config.set({"async.concurrency": REQUESTS_AT_ONCE})
        store: Any = ObjectStore(self.objects(f"{self.folder}/rows.zarr"), read_only=True)
        self._array = zarr.open_array(store, mode="r")


@dataclass
class RemoteTensorStore(Remote, TensorStore):
    """TensorStore on a sharded array, with a pool that keeps the shards' indexes."""

    name: ClassVar[str] = "tensorstore"
    folder: ClassVar[str] = "tensorstore"

    pool_bytes: ClassVar[int] = CACHE_POOL_BYTES

    def prepare(self) -> None:
        """Write the array, and upload it."""
        TensorStore.prepare(self)
        self.upload()

    def open(self) -> None:
        """Open the array."""
        import tensorstore  # noqa: PLC0415

        self._tensorstore = tensorstore
        self._store: Any = tensorstore.open(
            {
                "driver": "zarr3",
                "kvstore": {
                    "driver": "s3",
                    "bucket": self.bucket,
                    "path": f"{self.folder}/rows.zarr/",
                    "endpoint": self.endpoint,
                    "aws_region": os.environ["AWS_REGION"],
                    "aws_credentials": {"type": "environment"},
                },
                "context": {
                    "cache_pool": {"total_bytes_limit": self.pool_bytes},
                    "s3_request_concurrency": {"limit": REQUESTS_AT_ONCE},
                },
                "recheck_cached_metadata": "open",
                "recheck_cached_data": "open",
            },
            read=True,
        ).result()


@dataclass
class RemoteTensorStorePool(RemoteTensorStore):
    """TensorStore with a pool that holds the whole table in memory."""

    name: ClassVar[str] = "tensorstore cache_pool"
    cached: ClassVar[bool] = True
    slow: ClassVar[bool] = True  # To fill its pool.
    pool_bytes: ClassVar[int] = 64 << 30


@dataclass
class RemoteLance(Remote, Lance):
    """Lance's ``take`` by row numbers on a dataset on S3."""

    folder: ClassVar[str] = "lance"

    def prepare(self) -> None:
        """Write one dataset, and upload it."""
        Lance.prepare(self)
        self.upload()

    def open(self) -> None:
        """Open the dataset."""
        os.environ |= {"LANCE_IO_THREADS": str(REQUESTS_AT_ONCE), "LANCE_LOG": "error"}
        import lance  # noqa: PLC0415  # Importing it reads the environment.

        self._dataset = lance.dataset(
            f"{self.url}/rows.lance",
            storage_options={
                "endpoint": self.endpoint,
                "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
                "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
                "aws_region": os.environ["AWS_REGION"],
                "allow_http": "true",
            },
        )


PEERS: tuple[type[Remote], ...] = (
    FsspecRanges,
    FsspecRuns,
    RemoteZarr,
    RemoteTensorStore,
    RemoteLance,
    FsspecBlocks,
    FsspecFile,
    RemoteTensorStorePool,
)
