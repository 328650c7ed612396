"""Made-up tables of language models: safetensors and GGUF files whose records are generated.

A record is the bytes of one row in all columns: its codes, then its scales. Every byte is a hash of
its id and place, so any row can be decoded again by `ml_dtypes` or gguf-py, and compared.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from embstore.table.addresses import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

# Bytes of records that are generated at a time; they stay in the processor's cache.
GENERATED_BYTES = 1 << 18
# The tensors' names follow those of public models.
PARTS_NAME = "model.layers.1.ngram_embedding.shard_{}.weight"
PARTS_SCALE_NAME = "model.layers.1.ngram_embedding.weight_scale"
NAME, SCALE_NAME = "layers.1.engram.embed.weight", "layers.1.engram.embed.scale"
ONE_SCALE_NAME = "layers.1.engram.embed.weight_scale"
GGUF_NAME = "per_layer_token_embd.weight"
Q4_K_BYTES = 144  # Of a block of 256 values.
ONE_SCALE = 0.0078125
SCALE_DTYPES: dict[str, Any] = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype(np.float32),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of table.

    Parameters
    ----------
    name : str
        Its name on the command line.
    about : str
        What a row consists of.
    values : int
        Numbers in a row.
    scale : {"BF16", "F32", "F8_E8M0"}, optional
        The dtype of scales; without one, a row is a block of GGUF's Q4_K.
    scales : int
        Scales in a row; 0 is one scale for the whole table.
    parts : int
        Tensors, in an eighth as many files.
    """

    name: str
    about: str
    values: int
    scale: str | None = None
    scales: int = 0
    parts: int = 1

    @property
    def code_bytes(self) -> int:
        """Bytes of a row's codes."""
        return self.values if self.scale else self.values // 256 * Q4_K_BYTES

    @property
    def scale_bytes(self) -> int:
        """Bytes of a row's own scales."""
        return self.scales * SCALE_DTYPES[self.scale].itemsize if self.scale else 0

    @property
    def record_bytes(self) -> int:
        """Bytes of a row in all columns."""
        return self.code_bytes + self.scale_bytes

    @property
    def dtype(self) -> str:
        """Dtype of the rows that are looked up: float32 of GGUF's blocks, else bfloat16."""
        return "bfloat16" if self.scale else "float32"

    def records(self, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the generated records of ids, uint8, shape (n, record_bytes); all are finite."""
        words = -(-self.record_bytes // 8)
        numbers = ids.astype(np.uint64)[:, np.newaxis] * np.uint64(words)
        state = np.add(numbers, np.arange(words, dtype=np.uint64), dtype=np.uint64)
        # The generator is splitmix64 (Steele, Lea, Flood 2014).
        state *= np.uint64(0x9E3779B97F4A7C15)
        state ^= state >> np.uint64(30)
        state *= np.uint64(0xBF58476D1CE4E5B9)
        state ^= state >> np.uint64(27)
        found: NDArray[np.uint8] = state.view(np.uint8)[:, : self.record_bytes]
        if self.scale is None:
            # Float16 numbers at the start of a block: exponents of small numbers.
            found[:, 1::Q4_K_BYTES] = found[:, 1::Q4_K_BYTES] & 0x83 | 0x18
            found[:, 3::Q4_K_BYTES] = found[:, 3::Q4_K_BYTES] & 0x83 | 0x18
            return found
        codes, scales = found[:, : self.code_bytes], found[:, self.code_bytes :]
        codes[codes & 0x7F == 0x7F] = 0  # The NaNs of e4m3.
        if self.scale == "F8_E8M0":
            scales[:] = 117 + scales % 11  # 2 ** -10 to 1.
        else:
            width = SCALE_DTYPES[self.scale].itemsize
            scales[:, width - 1 :: width] = 0x3C  # 0.0078 to 0.031.
        return found

    def decode(self, records: NDArray[np.uint8], dtype: str | None = None) -> NDArray[Any]:
        """Return the rows of records, decoded without embstore, in ``dtype`` or that of lookups."""
        if self.scale is None:
            import gguf  # noqa: PLC0415

            block = np.ascontiguousarray(records)
            rows = np.asarray(gguf.dequantize(block, gguf.GGMLQuantizationType.Q4_K))
            return np.asarray(rows, dtype or self.dtype)
        codes = np.ascontiguousarray(records[:, : self.code_bytes])
        rows = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
        if self.scales:
            scales = np.ascontiguousarray(records[:, self.code_bytes :])
            few = scales.view(SCALE_DTYPES[self.scale]).astype(np.float32)
            rows *= np.repeat(few, self.values // self.scales, axis=1)
        else:
            rows *= np.float32(ONE_SCALE)
        return np.asarray(rows, dtype or self.dtype)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("160", "float8, one scale for all", 160, "BF16"),
        Kind("160-parts", "float8, one scale for all, 128 parts in 16 files", 160, "BF16", 0, 128),
        Kind("162", "float8, a bfloat16 scale a row, two columns", 160, "BF16", 1),
        Kind("164", "float8, a float32 scale a row, two columns", 160, "F32", 1),
        Kind("264", "float8, 8 e8m0 scales a row, two columns", 256, "F8_E8M0", 8),
        Kind("144", "GGUF, a Q4_K block a row", 256),
    )
}


@dataclass(frozen=True, slots=True)
class Place:
    """Consecutive records of one column in a file: the first row, their count, the first byte."""

    file: Path
    offset: int
    first: int
    rows: int
    record_bytes: int


@dataclass(frozen=True, slots=True)
class ModelTable:
    """The files of a made-up table; has what `benchmarks.peers.base.Peer` reads of a table.

    Parameters
    ----------
    path : Path
        The directory of the files.
    kind : Kind
        What a row consists of.
    rows : int
        Number of rows.
    codes, scales : tuple of Place
        Where the columns stand; ``scales`` is empty if no row has its own.
    """

    path: Path
    kind: Kind
    rows: int
    codes: tuple[Place, ...]
    scales: tuple[Place, ...]

    @classmethod
    def make(cls, path: Path, kind: Kind, rows: int) -> ModelTable:
        """Write the files into a new directory."""
        path.mkdir(parents=True)
        codes: tuple[Place, ...]
        scales: tuple[Place, ...] = ()
        if kind.scale is None:
            codes = (write_gguf(path / "model.gguf", kind, rows),)
        elif kind.parts > 1:
            codes = write_parts(path, kind, rows)
        else:
            codes, scales = _write_columns(path / "model.safetensors", kind, rows)
        table = cls(path, kind, rows, codes, scales)
        table.write(codes, slice(0, kind.code_bytes))
        if scales:
            table.write(scales, slice(kind.code_bytes, None))
        return table

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return (self.kind.values,)

    @property
    def dtype(self) -> str:
        """Name of the dtype of the rows that are looked up."""
        return self.kind.dtype

    @property
    def row_bytes(self) -> int:
        """Size of a record."""
        return self.kind.record_bytes

    @property
    def total_bytes(self) -> int:
        """Size of all records."""
        return self.rows * self.row_bytes

    @property
    def opening(self) -> dict[str, Any]:
        """The arguments of `embstore.open`."""
        if self.kind.scale is None:
            return {"path": self.path / "model.gguf", "tensor": GGUF_NAME}
        if self.kind.parts > 1:
            return {"path": self.path, "tensor": PARTS_NAME, "scale": PARTS_SCALE_NAME}
        scale = SCALE_NAME if self.kind.scales else ONE_SCALE_NAME
        return {"path": self.path, "tensor": NAME, "scale": scale}

    def expected(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows that a lookup of ``ids``, shape (n,), must give."""
        out = np.empty((len(ids), *self.row_shape), self.dtype)
        step = self._together
        for start in range(0, len(ids), step):
            some = ids[start : start + step]
            out[start : start + step] = self.kind.decode(self.kind.records(some))
        return out

    def words(self, ids: NDArray[np.int64]) -> list[str]:
        """Raise TypeError: these tables have no words."""
        raise TypeError("tables of models have no words")

    def blocks(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield (first id, records) in the order of the ids."""
        for start in range(0, self.rows, self._together):
            ids = np.arange(start, min(start + self._together, self.rows))
            yield start, self.kind.records(ids)

    def write(self, places: Iterable[Place], columns: slice) -> None:
        """Fill places with their part of the records."""
        for place in places:
            with place.file.open("r+b") as file:
                file.seek(place.offset)
                for start in range(0, place.rows, self._together):
                    stop = min(start + self._together, place.rows)
                    ids = np.arange(place.first + start, place.first + stop)
                    file.write(self.kind.records(ids)[:, columns].tobytes())

    def pages(self, ids: NDArray[np.int64]) -> int:
        """Return how many pages hold the records of ids: the fewest that can be read."""
        total = 0
        for column in filter(None, (self.codes, self.scales)):
            for place in column:
                rows = ids[(ids >= place.first) & (ids < place.first + place.rows)] - place.first
                first = place.offset + rows * place.record_bytes
                last = (first + place.record_bytes - 1) // PAGE_BYTES
                total += len(np.union1d(first // PAGE_BYTES, last))
        return total

    @property
    def _together(self) -> int:
        return max(GENERATED_BYTES // self.row_bytes, 1)


def write_header(
    file: Path, tensors: dict[str, tuple[str, tuple[int, ...], int]], metadata: str = ""
) -> dict[str, int]:
    """Write the header of a safetensors file, and zeros; return the first byte of each tensor.

    ``tensors`` are (dtype, shape, bytes) by name.
    """
    header: dict[str, Any] = {"__metadata__": {"made_by": metadata}} if metadata else {}
    stop = 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [stop, stop + size]}
        stop += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        opened.truncate(8 + len(text) + stop)
    return {name: 8 + len(text) + header[name]["data_offsets"][0] for name in tensors}


def _write_columns(
    file: Path, kind: Kind, rows: int
) -> tuple[tuple[Place, ...], tuple[Place, ...]]:
    """Write a file of one tensor of codes, and one of scales."""
    codes = "F8_E4M3", (rows, kind.values), rows * kind.code_bytes
    if not kind.scales:
        begin = write_header(file, {NAME: codes, ONE_SCALE_NAME: ("BF16", (1,), 2)})
        _write_at(file, begin[ONE_SCALE_NAME], _one_scale())
        return (Place(file, begin[NAME], 0, rows, kind.code_bytes),), ()
    scales = str(kind.scale), (rows, kind.scales), rows * kind.scale_bytes
    begin = write_header(file, {NAME: codes, SCALE_NAME: scales})
    return (
        (Place(file, begin[NAME], 0, rows, kind.code_bytes),),
        (Place(file, begin[SCALE_NAME], 0, rows, kind.scale_bytes),),
    )


def write_parts(
    path: Path, kind: Kind, rows: int, *, files: int | None = None, others: int = 0
) -> tuple[Place, ...]:
    """Write the parts of a table into files with an index, and the scale into the last file.

    Parameters
    ----------
    path : Path
        The directory.
    kind : Kind
        Its ``parts`` are spread over the files.
    rows : int
        Rows of all parts, a multiple of them or more.
    files : int, optional
        Number of files; an eighth of the parts by default.
    others : int
        Other small tensors in each file.
    """
    count_of = files or max(kind.parts // 8, 1)
    each = -(-rows // kind.parts)
    index: dict[str, str] = {}
    places: dict[int, Place] = {}
    for number in range(count_of):
        file = path / f"model-{number + 1:05d}-of-{count_of:05d}.safetensors"
        parts = [part for part in range(kind.parts) if part * count_of // kind.parts == number]
        held = {part: max(min(each, rows - part * each), 0) for part in parts}
        tensors: dict[str, tuple[str, tuple[int, ...], int]] = {
            f"model.layers.{number}.other.{other}.weight": ("BF16", (4, 8), 64)
            for other in range(others)
        }
        tensors |= {
            PARTS_NAME.format(part): ("F8_E4M3", (some, kind.values), some * kind.code_bytes)
            for part, some in held.items()
        }
        if number == count_of - 1:
            tensors[PARTS_SCALE_NAME] = ("BF16", (1,), 2)
        begin = write_header(file, tensors)
        index |= dict.fromkeys(tensors, file.name)
        for part, some in held.items():
            offset = begin[PARTS_NAME.format(part)]
            places[part] = Place(file, offset, part * each, some, kind.code_bytes)
        if PARTS_SCALE_NAME in begin:
            _write_at(file, begin[PARTS_SCALE_NAME], _one_scale())
    text = json.dumps({"metadata": {}, "weight_map": index})
    (path / "model.safetensors.index.json").write_text(text)
    return tuple(places[part] for part in sorted(places))


def write_gguf(file: Path, kind: Kind, rows: int) -> Place:
    """Write a GGUF file of one tensor of zeros."""
    import gguf  # noqa: PLC0415

    writer = gguf.GGUFWriter(file, "made-up")
    size = rows * kind.record_bytes
    shape, q4_k = (rows, kind.record_bytes), gguf.GGMLQuantizationType.Q4_K
    writer.add_tensor_info(GGUF_NAME, shape, np.dtype(np.uint8), size, raw_dtype=q4_k)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    begin = -(-file.stat().st_size // 32) * 32  # The default alignment of a GGUF file.
    with file.open("r+b") as opened:
        opened.truncate(begin + math.ceil(size / 32) * 32)
    return Place(file, begin, 0, rows, kind.record_bytes)


def _one_scale() -> bytes:
    return np.array([ONE_SCALE], ml_dtypes.bfloat16).tobytes()


def _write_at(file: Path, offset: int, data: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(data)
