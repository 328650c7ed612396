"""Tables that are encoded elsewhere, built into stores without decoding them."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.dtypes import as_dtype
from tests.helpers.safetensors_files import safetensors_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ROWS, WIDTH = 70, 64
RANDOM = np.random.default_rng(0)
CODES = RANDOM.integers(0, 256, (ROWS, WIDTH), np.uint8)
CODES[(CODES & 0x7F) == 0x7F] = 0  # No code is nan.
FLOAT8 = as_dtype("float8_e4m3fn")


def scales(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    return (RANDOM.random(shape) + 0.5).astype(as_dtype(dtype))


# The tensors beside the codes, options of `embstore.open`, and the scale of each number.
KINDS: dict[str, tuple[str, NDArray[Any], dict[str, Any], tuple[int, int]]] = {
    "one for the table": ("BF16", scales((1,), "bfloat16"), {}, (ROWS, WIDTH)),
    "one for a row": ("F32", scales((ROWS, 1), "float32"), {}, (1, WIDTH)),
    "groups of a row": ("BF16", scales((ROWS, 2), "bfloat16"), {}, (1, 32)),
    "powers of two": ("F8_E8M0", scales((ROWS, 2), "float8_e8m0fnu"), {}, (1, 32)),
    "blocks of rows": ("F32", scales((5, 2), "float32"), {"scale_block": (16, 32)}, (16, 32)),
}


def decoded(kind: str) -> NDArray[np.float32]:
    _, scale, _, block = KINDS[kind]
    wide = scale.astype(np.float32).reshape(scale.shape if scale.ndim == 2 else (1, 1))
    wide = np.repeat(np.repeat(wide, block[0], axis=0), block[1], axis=1)[:ROWS, :WIDTH]
    return CODES.view(FLOAT8).astype(np.float32) * wide


def write(path: Path, kind: str) -> Path:
    dtype, scale, _, _ = KINDS[kind]
    tensors = {"a.weight": ("F8_E4M3", CODES), "a.weight_scale": (dtype, scale)}
    path.write_bytes(safetensors_file(tensors))
    return path


@pytest.mark.parametrize("reader", ["mapped", "chunked"])
@pytest.mark.parametrize("kind", KINDS)
def test_codes_and_scales_become_one_record(tmp_path, kind, reader):
    file = write(tmp_path / "m.safetensors", kind)
    options = KINDS[kind][2]
    with embstore.open(file, tensor="a.weight", reader=reader, **options) as table:
        store = embstore.build(table, tmp_path / "s", partitions=3)
        assert store.lookup([5, 0, 69], raw=True).tobytes() == (
            table.lookup([5, 0, 69], raw=True).tobytes()
        )
        assert store.fingerprint() == table.fingerprint(full=True)
        assert store.encoding == table.encoding
        assert store.dtype == np.float32
        plain = embstore.build(table, tmp_path / "plain", encoding="plain", dtype="bfloat16")
    assert np.asarray(store).tobytes() == decoded(kind).tobytes()
    assert np.asarray(plain).tobytes() == decoded(kind).astype(plain.dtype).tobytes()
    assert embstore.verify(tmp_path / "s").ok
    size = np.dtype(KINDS[kind][1].dtype).itemsize
    per_row = 0 if kind == "one for the table" else -(-WIDTH // KINDS[kind][3][1])
    assert store.record_bytes == WIDTH + size * per_row
    assert len(store._table.columns) == 1


@pytest.mark.parametrize("kind", [kind for kind, of in KINDS.items() if not of[2]])
def test_a_path_is_kept_too(tmp_path, kind):
    file = write(tmp_path / "m.safetensors", kind)
    for tensor in (None, "a.weight"):
        store = embstore.build(file, tmp_path / "s", overwrite=True, limit=50, tensor=tensor)
        assert np.asarray(store).tobytes() == decoded(kind)[:50].tobytes()
        assert store.source["format"] == "safetensors"
    with pytest.raises(embstore.SourceError, match=r'a build keeps; .* pass encoding="plain"'):
        embstore.build(file, tmp_path / "no", dtype="float16")
    again = embstore.build(file, tmp_path / "again", encoding="int8")
    expected = embstore.build(decoded(kind), tmp_path / "expected", encoding="int8")
    assert again.fingerprint() == expected.fingerprint()


def test_a_table_that_has_the_wanted_encoding_is_kept(tmp_path):
    rows = np.random.default_rng(3).standard_normal((50, 64)).astype(np.float32)
    for name in ("int8", "int8:32"):
        first = embstore.build(rows, tmp_path / "a", encoding=name, overwrite=True)
        for source in (first, tmp_path / "a"):
            with embstore.build(source, tmp_path / "b", encoding=name, overwrite=True) as again:
                assert again.fingerprint() == first.fingerprint()
        with embstore.build(first, tmp_path / "c", encoding="int4", overwrite=True) as other:
            assert other.encoding == "int4"
        first.close()


@pytest.mark.parametrize("encoding", [None, "plain", "int8", "float8_e4m3fn:32"])
def test_bytes_of_the_source_are_those_that_are_read(tmp_path, encoding):
    file = write(tmp_path / "m.safetensors", "one for a row")
    options: dict[str, Any] = {} if encoding is None else {"encoding": encoding}
    record_bytes = WIDTH + 4  # The codes and the scale.
    seen: list[embstore.Progress] = []
    with embstore.open(file) as table, embstore.build(table, tmp_path / "of a store") as encoded:
        for source in (file, table, encoded.path):
            with embstore.build(
                source, tmp_path / "s", overwrite=True, progress=seen.append, **options
            ) as store:
                assert store.source["bytes"] == ROWS * record_bytes
            assert (seen[-1].done_bytes, seen[-1].total_bytes) == (ROWS * record_bytes,) * 2


def test_words_go_with_kept_rows(tmp_path):
    file = write(tmp_path / "m.safetensors", "one for a row")
    words = [f"w{number}" for number in range(ROWS)]
    store = embstore.build(file, tmp_path / "s", words=words)
    assert store["w8"].tobytes() == decoded("one for a row")[8].tobytes()


def test_float8_without_a_scale_stays_float8(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(safetensors_file({"t": ("F8_E4M3", CODES)}))
    store = embstore.build(tmp_path / "m.safetensors", tmp_path / "s")
    assert (store.encoding, store.dtype) == ("plain", FLOAT8)
    assert np.asarray(store).tobytes() == CODES.tobytes()


def test_parts_of_a_table_are_joined(tmp_path):
    tensors: dict[str, Any] = {
        f"a.shard_{number}.weight": ("F8_E4M3", CODES[start : start + 10])
        for number, start in enumerate(range(0, ROWS, 10))
    }
    tensors["a.weight_scale"] = ("F32", scales((1,), "float32"))
    (tmp_path / "m.safetensors").write_bytes(safetensors_file(tensors))
    with embstore.open(tmp_path / "m.safetensors", tensor="a.shard_{}.weight") as table:
        expected = np.asarray(table)
        store = embstore.build(table, tmp_path / "s")
    assert np.asarray(store).tobytes() == expected.tobytes()
    by_path = embstore.build(
        tmp_path / "m.safetensors", tmp_path / "by_path", tensor="a.shard_{}.weight"
    )
    assert by_path.fingerprint() == store.fingerprint()


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_K", "Q6_K", "IQ2_XS", "BF16"])
def test_blocks_of_gguf_are_kept(tmp_path, kind):
    gguf = pytest.importorskip("gguf")
    type = gguf.GGMLQuantizationType[kind]
    _, size = gguf.GGML_QUANT_SIZES[type]
    shape = (20, 512 // gguf.GGML_QUANT_SIZES[type][0] * size)
    data = RANDOM.integers(0, 128, shape, np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("t", data, raw_dtype=type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with embstore.open(tmp_path / "m.gguf", tensor="t") as table:
        store = embstore.build(table, tmp_path / "s", partitions=2)
        assert np.asarray(store).tobytes() == np.asarray(table).tobytes()
        assert (store.encoding, store.dtype) == (table.encoding, table.dtype)
        assert store.fingerprint() == table.fingerprint(full=True)
    assert store.lookup(np.arange(20), raw=True).tobytes() == data.tobytes()
    by_path = embstore.build(tmp_path / "m.gguf", tmp_path / "by_path")
    assert by_path.fingerprint() == store.fingerprint()
    fields = json.loads((tmp_path / "s/zarr.json").read_bytes())["attributes"]["embstore"]
    if kind == "BF16":
        assert "encoding" not in fields
    else:
        name = "opaque" if kind == "IQ2_XS" else "gguf"
        assert fields["encoding"] == {"name": name, "type": kind}


def test_fingerprints_of_files_depend_on_the_scale(tmp_path):
    found = set()
    for number, kind in enumerate(("one for the table", "one for a row")):
        file = write(tmp_path / f"m{number}.safetensors", kind)
        for scale in ("auto", None):
            with embstore.open(file, tensor="a.weight", scale=scale) as table:
                found |= {table.fingerprint(), table.fingerprint(full=True)}
    assert len(found) == 7  # All rows without a scale are the same table.


def test_a_scale_that_a_store_cannot_keep_names_the_remedy(tmp_path):
    scale = np.array([np.inf], np.float32)
    tensors = {"a.weight": ("F8_E4M3", CODES), "a.weight_scale": ("F32", scale)}
    (tmp_path / "m.safetensors").write_bytes(safetensors_file(tensors))
    with pytest.raises(embstore.SourceError, match=r'factor .* inf; .* pass encoding="plain"'):
        embstore.build(tmp_path / "m.safetensors", tmp_path / "s")
    store = embstore.build(tmp_path / "m.safetensors", tmp_path / "s", encoding="plain")
    assert np.isinf(store[0]).any()
    with embstore.open(tmp_path / "m.safetensors") as table:
        assert np.isinf(pickle.loads(pickle.dumps(table))[0]).any()  # It has a fingerprint.
        with pytest.raises(embstore.FormatError, match="no store can keep the rows as float8"):
            table.fingerprint(full=True)
