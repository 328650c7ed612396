"""Peers that look up rows of language models' tables, and decode them.

All but EngramDB read the files of the table; EngramDB wants the records in files of its own.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

import embstore
from benchmarks.model_tables import GGUF_NAME, NAME, ONE_SCALE, SCALE_NAME
from benchmarks.peers.base import Peer
from benchmarks.peers.engram import EngramFetch, EngramPages
from embstore.bench.state import files_under
from embstore.table.addresses import PAGE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.model_tables import Kind, ModelTable, Place

TORCH = ("torch", "torch")
GGUF = ("gguf", "gguf")
SAFETENSORS = ("safetensors", "safetensors")
ENGRAMDB = ("engramdb", "engramdb-python")
# torch's names of the dtypes of scales.
TORCH_SCALES = {"BF16": "bfloat16", "F32": "float32", "F8_E8M0": "float8_e8m0fnu"}


class Decoder:
    """Decodes records as programs do: float8 with torch, GGUF's blocks with gguf-py."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        if kind.scale is None:
            import gguf  # noqa: PLC0415

            self._gguf = gguf
        else:
            import torch  # noqa: PLC0415

            self._torch = torch

    def rows(self, codes: NDArray[np.uint8], scales: NDArray[np.uint8] | None) -> NDArray[Any]:
        """Return the rows of codes and scales, each (n, bytes), in the dtype of the table."""
        kind = self._kind
        if kind.scale is None:
            q4_k = self._gguf.GGMLQuantizationType.Q4_K
            return np.asarray(self._gguf.dequantize(codes, q4_k))
        torch = self._torch
        rows = torch.from_numpy(codes).view(torch.float8_e4m3fn)
        if scales is None:
            return self.numpy(rows.to(torch.float32) * ONE_SCALE)
        few = torch.from_numpy(scales).view(getattr(torch, TORCH_SCALES[kind.scale]))
        return self.numpy(self.scaled(rows, few))

    def scaled(self, codes: Any, scales: Any) -> Any:
        """Return the float32 rows of tensors of codes, and of scales of groups of a row."""
        torch = self._torch
        groups = codes.to(torch.float32).view(len(codes), scales.shape[1], -1)
        return (groups * scales.to(torch.float32)[:, :, None]).view(len(codes), -1)

    def numpy(self, rows: Any) -> NDArray[Any]:
        """Return float32 rows as an array of bfloat16."""
        torch = self._torch
        found: NDArray[Any] = rows.to(torch.bfloat16).view(torch.int16).numpy()
        return found.view(self._kind.dtype)


@dataclass
class ModelPeer(Peer):
    """What peers of these tables share."""

    table: ModelTable  # type: ignore[assignment]  # It has what is read of a `GeneratedTable`.

    # The directory of its own files, beside others'; empty if it reads the files of the table.
    folder: ClassVar[str] = ""

    @classmethod
    def fits(cls, kind: Kind) -> bool:
        """Say whether it reads a kind of table."""
        return True

    def load(self) -> None:
        """Import its packages, so that a memory cgroup holds rows and not libraries."""
        for module, _ in self.packages:
            importlib.import_module(module)

    def files(self) -> list[Path]:
        """Return the files of the table, or its own."""
        return files_under(self.table.path if self.directory is None else self.directory)


@dataclass
class InPlace(ModelPeer):
    """embstore on the model's files."""

    name: ClassVar[str] = "embstore"
    packages: ClassVar[tuple[tuple[str, str], ...]] = (("ml_dtypes", "ml_dtypes"),)

    def open(self) -> None:
        """Open the table."""
        self._store = embstore.open(**self.table.opening)

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        rows: NDArray[Any] = self._store.lookup(ids, dtype=self.table.dtype)
        return rows

    def pages(self, ids: NDArray[np.int64]) -> int:
        """Return how many pages hold the records of ids."""
        return self.table.pages(ids)

    def close(self) -> None:
        """Close the table."""
        self._store.close()


@dataclass
class OneRecord(InPlace):
    """embstore on a store that `build` made of the table: a row's scales stand in its record."""

    name: ClassVar[str] = "embstore, one record"
    folder: ClassVar[str] = "embstore"

    def prepare(self) -> None:
        """Build the store, without decoding rows."""
        with embstore.open(**self.table.opening) as source:
            embstore.build(source, self._path).close()

    def open(self) -> None:
        """Open the store."""
        self._store = embstore.open(self._path)
        self._chunk_rows = self._store.chunk_rows

    @classmethod
    def fits(cls, kind: Kind) -> bool:
        """Say whether there are two columns to join."""
        return kind.scales > 0

    def pages(self, ids: NDArray[np.int64]) -> int:
        """Return how many pages hold the records of ids; each chunk is a file."""
        chunks, rows = np.divmod(ids, self._chunk_rows)
        first = rows * self.table.row_bytes
        last = first + self.table.row_bytes - 1
        file = chunks << 32  # Pages of a chunk are fewer.
        return len(np.union1d(file + first // PAGE_BYTES, file + last // PAGE_BYTES))

    @property
    def _path(self) -> Path:
        return self.own_directory / "table.embstore"


@dataclass
class MemmapDecode(ModelPeer):
    """``np.memmap`` of each tensor, and a decode by torch or gguf-py."""

    name: ClassVar[str] = "np.memmap + torch"
    packages: ClassVar[tuple[tuple[str, str], ...]] = (TORCH,)

    @classmethod
    def fits(cls, kind: Kind) -> bool:
        """Say whether torch knows the codes."""
        return kind.scale is not None

    def open(self) -> None:
        """Map the tensors."""
        self._decoder = Decoder(self.table.kind)
        self._codes = [_mapped(place) for place in self.table.codes]
        self._scales = [_mapped(place) for place in self.table.scales]

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        scales = self._take(self._scales, ids) if self._scales else None
        return self._decoder.rows(self._take(self._codes, ids), scales)

    @staticmethod
    def _take(parts: list[Any], ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        if len(parts) == 1:
            return np.asarray(parts[0][ids])
        numbers, rows = np.divmod(ids, len(parts[0]))
        out = np.empty((len(ids), parts[0].shape[1]), np.uint8)
        for number in np.unique(numbers).tolist():
            chosen = numbers == number
            out[chosen] = parts[number][rows[chosen]]
        return out


@dataclass
class GetSlice(ModelPeer):
    """safetensors' ``get_slice(name)[ids]``, and a decode by torch."""

    name: ClassVar[str] = "safetensors get_slice"
    packages: ClassVar[tuple[tuple[str, str], ...]] = (SAFETENSORS, TORCH)
    slow: ClassVar[bool] = True

    @classmethod
    def fits(cls, kind: Kind) -> bool:
        """Say whether the table is one safetensors file."""
        return kind.scale is not None and kind.parts == 1

    def open(self) -> None:
        """Open the file."""
        from safetensors import safe_open  # noqa: PLC0415

        self._decoder = Decoder(self.table.kind)
        self._file = cast("Any", safe_open(str(self.table.codes[0].file), "pt"))
        self._codes = self._file.get_slice(NAME)
        self._scales = self._file.get_slice(SCALE_NAME) if self.table.scales else None

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        rows = ids.tolist()
        codes = self._codes[rows]
        if self._scales is None:
            return self._decoder.numpy(codes.float() * ONE_SCALE)
        return self._decoder.numpy(self._decoder.scaled(codes, self._scales[rows]))


@dataclass
class GgufPy(ModelPeer):
    """gguf-py's reader, which maps the file, and its ``dequantize``."""

    name: ClassVar[str] = "gguf-py"
    packages: ClassVar[tuple[tuple[str, str], ...]] = (GGUF,)

    @classmethod
    def fits(cls, kind: Kind) -> bool:
        """Say whether the table is a GGUF file."""
        return kind.scale is None

    def open(self) -> None:
        """Open the file."""
        import gguf  # noqa: PLC0415

        self._decoder = Decoder(self.table.kind)
        reader = gguf.GGUFReader(self.table.codes[0].file)
        (self._data,) = (each.data for each in reader.tensors if each.name == GGUF_NAME)

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        return self._decoder.rows(np.asarray(self._data[ids]), None)


@dataclass
class EngramDecode(EngramFetch, ModelPeer):
    """EngramDB's ``Store.fetch`` on records in its own files, and a decode as above."""

    packages: ClassVar[tuple[tuple[str, str], ...]] = (ENGRAMDB, TORCH, GGUF)
    folder: ClassVar[str] = "engramdb"

    def open(self) -> None:
        """Open the store."""
        self._decoder = Decoder(self.table.kind)
        super().open()

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        found = np.array(self.records(ids))
        if not self.table.scales:
            return self._decoder.rows(found, None)
        width = self.table.kind.code_bytes
        codes, scales = (np.ascontiguousarray(found[:, part]) for part in _fields(width))
        return self._decoder.rows(codes, scales)


@dataclass
class EngramPagesDecode(EngramDecode, EngramPages):
    """EngramDB's io_uring reader on the same files, and a decode as above."""

    name: ClassVar[str] = EngramPages.name


@dataclass
class FirstLookup(InPlace):
    """embstore, whose opening includes a lookup of the rows that a token needs."""

    name: ClassVar[str] = "embstore, open and first lookup"

    first_ids: tuple[int, ...] = ()

    def open(self) -> None:
        """Open the table and look up the first rows."""
        super().open()
        super().lookup(np.array(self.first_ids))


PEERS: tuple[type[ModelPeer], ...] = (
    OneRecord,
    MemmapDecode,
    GetSlice,
    GgufPy,
    EngramDecode,
    EngramPagesDecode,
)


def _mapped(place: Place) -> Any:
    shape = place.rows, place.record_bytes
    return np.memmap(place.file, np.uint8, "r", place.offset, shape)


def _fields(width: int) -> tuple[slice, slice]:
    return slice(0, width), slice(width, None)
