"""Exports to safetensors: read back by the safetensors library, and opened again in place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.dtypes import DTYPES, as_dtype
from embstore.encodings.gguf_blocks import GgufBlocks
from embstore.encodings.groups import Groups
from embstore.encodings.opaque import Opaque
from embstore.encodings.scaled import Scaled
from embstore.formats import SAFETENSORS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# The scales beside codes are found by `embstore.open`, where the format has that option.
finds_scales = pytest.mark.skipif("scale" not in SAFETENSORS.options, reason="no scale=")
WIDTH = 64
ROWS: NDArray[np.float32] = (
    np.random.default_rng(0).standard_normal((101, WIDTH)).astype(np.float32)
)


def header_of(file: Path) -> dict[str, Any]:
    """Return the header of a file; its size is a multiple of 8."""
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    assert size % 8 == 0
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    return header


def tensors_of(file: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file, as the safetensors library finds them."""
    safetensors = pytest.importorskip("safetensors")
    found = {}
    header = header_of(file)
    for name, tensor in safetensors.deserialize(file.read_bytes()):
        entry = header[name]
        assert (tensor["dtype"], list(tensor["shape"])) == (entry["dtype"], entry["shape"])
        dtype = next(row.numpy for row in DTYPES.values() if row.safetensors == tensor["dtype"])
        found[name] = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
        # Aligned in the file, as some readers map it.
        assert entry["data_offsets"][0] % dtype.itemsize == 0
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row_shape", [(), (3,), (2, 3)])
def test_plain_rows_of_every_dtype(tmp_path, dtype, row_shape):
    bits = np.random.default_rng(1).integers(0, 256, (37, *row_shape, 8), np.uint8)
    rows = bits.view(as_dtype(dtype))[..., 0]
    store = embstore.build(rows, tmp_path / "s", partitions=2)
    report = embstore.export(store, tmp_path / "t.safetensors")
    assert (report.format, report.rows) == ("safetensors", 37)
    assert report.byte_count == (tmp_path / "t.safetensors").stat().st_size
    found = tensors_of(tmp_path / "t.safetensors")
    assert list(found) == ["weight"]
    assert found["weight"].shape == rows.shape
    assert found["weight"].tobytes() == rows.tobytes()
    with embstore.open(tmp_path / "t.safetensors") as again:
        assert again.dtype == rows.dtype
        assert np.asarray(again).tobytes() == rows.tobytes()


def test_torch_reads_it(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    store = embstore.build(ROWS, tmp_path / "s", dtype="bfloat16")
    embstore.export(store, tmp_path / "t.safetensors")
    tensor = safetensors.load_file(tmp_path / "t.safetensors")["weight"]
    assert tensor.float().numpy().tobytes() == np.asarray(store).astype(np.float32).tobytes()


@finds_scales
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2:32", "int8", "int8:16"])
def test_encoded_rows_are_found_again_with_their_scales(tmp_path, name):
    store = embstore.build(ROWS, tmp_path / "s", encoding=name, partitions=2)
    embstore.export(store, tmp_path / "t.safetensors")
    found = tensors_of(tmp_path / "t.safetensors")
    assert list(found) == ["weight_scale", "weight"] or set(found) == {"weight_scale", "weight"}
    assert found["weight"].shape == ROWS.shape
    assert found["weight"].dtype.name == name.split(":")[0]
    groups = int(name.split(":")[1]) if ":" in name else WIDTH
    scales = np.repeat(found["weight_scale"].astype(np.float32), groups, axis=1)
    expected = np.asarray(store).tobytes()
    assert (found["weight"].astype(np.float32) * scales).tobytes() == expected
    with embstore.open(tmp_path / "t.safetensors", tensor="weight") as again:
        assert np.asarray(again).tobytes() == expected
        assert again.encoding == store.encoding
        kept = embstore.build(again, tmp_path / "kept")
    assert kept.fingerprint() == store.fingerprint()


@finds_scales
@pytest.mark.parametrize("name", ["float4_e2m1fn", "int4:16"])
def test_packed_codes_are_bytes(tmp_path, name):
    store = embstore.build(ROWS, tmp_path / "s", encoding=name)
    embstore.export(store, tmp_path / "t.safetensors")
    found = tensors_of(tmp_path / "t.safetensors")
    assert found["weight"].dtype == np.uint8
    assert found["weight"].shape == (101, WIDTH // 2)
    codes = name.split(":")[0]
    with embstore.open(tmp_path / "t.safetensors", tensor="weight", encoding=codes) as again:
        assert np.asarray(again).tobytes() == np.asarray(store).tobytes()


@finds_scales
@pytest.mark.parametrize("row_shape", [(4, 16), (1, 64), (64, 1), (2, 4, 8)])
@pytest.mark.parametrize("size", [1, 4, 8, 64])
def test_groups_of_rows_of_several_axes(tmp_path, row_shape, size):
    rows = ROWS.reshape(-1, *row_shape)
    store = embstore.build(rows, tmp_path / "s", encoding=f"float8_e4m3fn:{size}")
    file = tmp_path / "t.safetensors"
    if size < WIDTH and row_shape[-1] % size:
        with pytest.raises(embstore.ExportError, match=r'do not divide .* dtype="float32"'):
            embstore.export(store, file)
        return
    embstore.export(store, file)
    with embstore.open(file, tensor="weight") as again:
        assert again.row_shape == row_shape
        assert np.asarray(again).tobytes() == np.asarray(store).tobytes()
        assert again.fingerprint(full=True) == store.fingerprint()


def test_packed_codes_of_odd_rows_name_the_remedy(tmp_path):
    store = embstore.build(ROWS[:, :7], tmp_path / "s", encoding="int4")
    with pytest.raises(embstore.ExportError, match=r'odd number of int4, .* dtype="float32"'):
        embstore.export(store, tmp_path / "t.safetensors")
    embstore.export(store, tmp_path / "t.safetensors", dtype="float32")
    found = tensors_of(tmp_path / "t.safetensors")
    assert found["weight"].tobytes() == np.asarray(store).tobytes()


FIELDS = {
    "factor": Scaled("float8_e4m3fn", (6,), factor=0.1),
    "factor and scales": Scaled("int8", (6,), factor=0.1, scales=Groups("float16", 1, 6)),
    "zero points": Scaled(
        "uint8", (6,), scales=Groups("float32", 3, 2), zero_points=Groups("uint8", 3, 2)
    ),
    "zero": Scaled("uint8", (6,), scales=Groups("float32", 1, 6), zero=127.0),
    "powers": Scaled("float8_e4m3fn", (6,), scales=Groups("float8_e8m0fnu", 3, 2)),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_scales_and_zero_points_stand_beside(tmp_path, kind):
    encoding = FIELDS[kind]
    records = np.random.default_rng(2).integers(0, 64, (20, encoding.record_bytes)).astype(np.uint8)
    with embstore.StoreWriter(tmp_path / "s", row_shape=(6,), encoding=encoding) as writer:
        writer.write(records)
    store = embstore.open(tmp_path / "s")
    embstore.export(store, tmp_path / "t.safetensors")
    found = tensors_of(tmp_path / "t.safetensors")
    wide = {name: tensor.astype(np.float32) for name, tensor in found.items()}

    def spread(name: str, usual: float) -> Any:
        if name not in wide:
            return np.float32(usual)
        if wide[name].ndim == 1:
            return wide[name]
        return np.repeat(wide[name], 6 // wide[name].shape[1], axis=1)

    with np.errstate(over="ignore"):
        rows = wide["weight"] - spread("weight_zero_point", 0)
        rows *= spread("weight_scale", 1)
    assert rows.tobytes() == np.asarray(store).tobytes()


def test_rows_of_bytes(tmp_path):
    records = np.random.default_rng(2).integers(0, 256, (20, 9)).astype(np.uint8)
    with embstore.StoreWriter(
        tmp_path / "s", row_shape=(9,), encoding=Opaque("IQ1_S", 9)
    ) as writer:
        writer.write(records)
    embstore.export(tmp_path / "s", tmp_path / "t.safetensors")
    assert tensors_of(tmp_path / "t.safetensors")["weight"].tobytes() == records.tobytes()


def test_blocks_without_a_dtype_name_the_remedy(tmp_path):
    encoding = GgufBlocks("Q8_0", (32,))
    with embstore.StoreWriter(tmp_path / "s", row_shape=(32,), encoding=encoding) as writer:
        writer.write(np.ones((3, 34), np.uint8))
    store = embstore.open(tmp_path / "s")
    with pytest.raises(embstore.ExportError, match=r'Q8_0, .* pass dtype="float32"'):
        embstore.export(store, tmp_path / "t.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    embstore.export(store, tmp_path / "t.safetensors", dtype="bfloat16")
    assert tensors_of(tmp_path / "t.safetensors")["weight"].dtype.name == "bfloat16"


@pytest.mark.parametrize("format", ["glove", "word2vec", "word2vec-binary", "npy", "parquet"])
def test_other_formats_decode(tmp_path, format):
    words = [f"w{number}" for number in range(len(ROWS))]
    store = embstore.build(ROWS, tmp_path / "s", encoding="int8", words=words)
    embstore.export(store, tmp_path / "t", format=format)
    again = embstore.build(tmp_path / "t", tmp_path / "again", format=format)
    assert np.asarray(again).tobytes() == np.asarray(store).tobytes()


@finds_scales
@pytest.mark.parametrize("encoding", ["plain", "int8"])
def test_words_go_to_a_file_of_their_own(tmp_path, encoding):
    words = [f"w{number} é" for number in range(len(ROWS))]
    store = embstore.build(ROWS, tmp_path / "s", words=words, encoding=encoding)
    file = tmp_path / "t.safetensors"
    embstore.export(store, file, words=tmp_path / "words.txt")
    again = embstore.build(embstore.open(file, tensor="weight"), tmp_path / "again")
    assert np.asarray(again).tobytes() == np.asarray(store).tobytes()
    assert (tmp_path / "words.txt").read_text(encoding="utf-8").splitlines() == words


def test_tables_without_rows(tmp_path):
    store = embstore.build(np.empty((0, 4), np.float32), tmp_path / "s", encoding="int8")
    embstore.export(store, tmp_path / "t.safetensors")
    assert tensors_of(tmp_path / "t.safetensors")["weight"].shape == (0, 4)
