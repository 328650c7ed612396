"""GGUF files opened in place: rows, types, parts, and the names of tensors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.encodings.ggml_codes import UNPACK
from embstore.encodings.ggml_types import BLOCKS
from embstore.encodings.gguf_blocks import GgufBlocks
from embstore.encodings.opaque import Opaque
from embstore.formats import gguf as gguf_format
from embstore.reading.files import ForeignFiles
from tests.helpers.gguf_files import (
    Entry,
    GgufFile,
    tensor_bytes,
)

if TYPE_CHECKING:
    from pathlib import Path

    from embstore.table.tables import Table

ROWS, WIDTH = 20, 256
PLAIN = {
    "F32": np.float32,
    "F16": np.float16,
    "F64": np.float64,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
}
READERS: Any = ["mapped", "chunked"]


def random_bytes(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def describe(path: Path, tensor: str | None = None) -> Table:
    return gguf_format.describe(ForeignFiles(path.parent), path.name, tensor=tensor)


def record_bytes(table: Table, root: Path) -> bytes:
    """Return the bytes of all records of a table."""
    (column,) = table.columns
    return b"".join(
        ForeignFiles(root).read(extent.file, extent.offset, extent.rows * column.record_bytes)
        for extent in column.extents
    )


def some_tensors() -> list[Entry]:
    """A tensor of every type, of shape (ROWS, WIDTH), and some that no table is."""
    found = [Entry("norm", "F32", (WIDTH,), random_bytes(4 * WIDTH))]
    for seed, kind in enumerate(BLOCKS):
        data = random_bytes(tensor_bytes(kind, (ROWS, WIDTH)), seed)
        found.append(Entry(f"embed.{kind}", kind, (ROWS, WIDTH), data))
    return [*found, Entry("scalar", "I32", (), bytes(4))]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [None, 1, 8, 24, 4096, 1 << 16])
def test_rows_of_every_type(tmp_path, version, alignment):
    tensors = some_tensors()
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(GgufFile(tensors, [], version, alignment)))
    for entry in tensors[1:-1]:
        table = describe(path, str(entry.name))
        assert record_bytes(table, tmp_path) == entry.data
        assert table.numbering.rows == ROWS
        if entry.kind in UNPACK:
            assert table.encoding == GgufBlocks(str(entry.kind), (WIDTH,))
        elif entry.kind in PLAIN or entry.kind == "BF16":
            assert (table.encoding.name, table.encoding.row_shape) == ("plain", (WIDTH,))
        else:
            size = len(entry.data) // ROWS
            assert table.encoding == Opaque(str(entry.kind), size)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", [*PLAIN, "BF16", "IQ2_XS", "TQ1_0"])
def test_rows_that_are_stored_as_they_are_looked_up(tmp_path, kind, reader):
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(GgufFile(some_tensors())))
    data = random_bytes(tensor_bytes(kind, (ROWS, WIDTH)), list(BLOCKS).index(kind))
    expected = np.frombuffer(data, np.uint8).reshape(ROWS, -1)
    ids = np.random.default_rng(0).integers(0, ROWS, (3, 40))
    with embstore.open(path, tensor=f"embed.{kind}", reader=reader) as store:
        assert store.rows == ROWS
        assert store.lookup(ids).tobytes() == expected[ids].tobytes()
        assert store.to_numpy().tobytes() == data


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", UNPACK)
def test_decoded_rows_are_those_of_gguf_py(tmp_path, kind, reader):
    library = pytest.importorskip("gguf")
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(GgufFile(some_tensors())))
    data = random_bytes(tensor_bytes(kind, (ROWS, WIDTH)), list(BLOCKS).index(kind))
    blocks = np.frombuffer(data, np.uint8).reshape(ROWS, -1)
    with np.errstate(all="ignore"):
        expected = library.quants.dequantize(blocks, library.GGMLQuantizationType[kind])
    ids = np.random.default_rng(0).integers(0, ROWS, (3, 40))
    with embstore.open(path, tensor=f"embed.{kind}", reader=reader) as store:
        assert store.shape == (ROWS, WIDTH)
        assert store.dtype == np.float32
        assert store.encoding == kind
        found = store.lookup(ids)
        assert np.array_equal(found, expected[ids], equal_nan=True)
        assert np.array_equal(np.signbit(found), np.signbit(expected[ids]))
        assert store.lookup(ids, raw=True).tobytes() == blocks[ids].tobytes()


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q8_0", "Q4_K", "Q6_K", "IQ4_XS"])
def test_file_that_gguf_py_wrote(tmp_path, kind):
    """Both read the same bytes; gguf-py's reader is independent of ours."""
    library = pytest.importorskip("gguf")
    path = tmp_path / "model.gguf"
    writer = library.GGUFWriter(path, "llama")
    writer.add_custom_alignment(64)
    writer.add_string("general.name", "käse")
    writer.add_array("tokenizer.ggml.tokens", [f"token {number}" for number in range(3000)])
    writer.add_array("tokenizer.ggml.scores", [0.5] * 3000)
    writer.add_array("tokenizer.ggml.token_type", [1] * 3000)
    writer.add_array("empty", [""] * 5)
    writer.add_bool("general.flag", True)
    writer.add_float64("general.number", 0.5)
    size = tensor_bytes(kind, (ROWS, WIDTH))
    data = np.frombuffer(random_bytes(size), np.uint8).reshape(ROWS, -1)
    raw = library.GGMLQuantizationType[kind]
    writer.add_tensor("embed.weight", data, raw_dtype=raw)
    writer.add_tensor("norm.weight", np.ones(7, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = next(t for t in library.GGUFReader(path).tensors if t.name == "embed.weight")
    table = describe(path)
    assert table.columns[0].extents[0].offset == found.data_offset
    assert record_bytes(table, tmp_path) == found.data.tobytes() == data.tobytes()


SHAPES = [
    ("F32", (5,), ()),
    ("F32", (5, 2, 3), (2, 3)),
    ("F32", (5, 2, 3, 4), (2, 3, 4)),
    ("F32", (0, 3), (3,)),
    ("I8", (7, 1), (1,)),
    ("Q8_0", (3, 2, 64), (2, 64)),
    ("Q8_0", (0, 64), (64,)),
    ("IQ2_XS", (3, 2, 256), (148,)),
]


@pytest.mark.parametrize(("kind", "shape", "row_shape"), SHAPES)
def test_rows_follow_the_first_axis(tmp_path, kind, shape, row_shape):
    data = random_bytes(tensor_bytes(kind, shape))
    (tmp_path / "m.gguf").write_bytes(bytes(GgufFile([Entry("a", kind, shape, data)])))
    table = describe(tmp_path / "m.gguf", "a")
    assert (table.numbering.rows, table.encoding.row_shape) == (shape[0], row_shape)
    assert record_bytes(table, tmp_path) == data


def test_axes_are_in_the_order_of_gguf_py(tmp_path):
    library = pytest.importorskip("gguf")
    rows = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    writer = library.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tensor("a", rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with embstore.open(tmp_path / "m.gguf", tensor="a") as store:
        assert np.array_equal(store.to_numpy(), rows)


REFUSED_TENSORS = [
    (Entry("a", "F32", ()), r"'a' has shape \(\); a table needs rows"),
    (Entry("a", "F32", (5, 0)), r"rows of shape \(0,\), without numbers"),
    (Entry("a", "Q8_0", (64,)), r"shape \(64,\) and type Q8_0, .* blocks of 32; .*\(rows, width\)"),
    (Entry("a", "IQ2_XS", (256,)), r"type IQ2_XS, whose numbers stand in blocks of 256"),
    (Entry("a", 9, (2, 32)), "has the type 9, whose rows have an unknown size"),
    (Entry("a", 1000, (2, 32)), "has the type 1000, whose rows have an unknown size"),
]


@pytest.mark.parametrize(("entry", "says"), REFUSED_TENSORS)
def test_tensors_that_are_no_tables(tmp_path, entry, says):
    if isinstance(entry.kind, str):
        entry = Entry(entry.name, entry.kind, entry.shape)
        entry.data = bytes(tensor_bytes(str(entry.kind), entry.shape))
    other = Entry("b", "F32", (2, 2), bytes(16), 0 if entry.kind == 9 else None)
    file = GgufFile([entry, other] if isinstance(entry.kind, str) else [other, entry])
    (tmp_path / "m.gguf").write_bytes(bytes(file))
    with pytest.raises(embstore.FormatError, match=says):
        embstore.open(tmp_path / "m.gguf", tensor="a")
    with embstore.open(tmp_path / "m.gguf", tensor="b") as store:
        assert store.shape == (2, 2)


def test_choice_of_the_tensor(tmp_path):
    file = GgufFile(
        [
            Entry("norm.weight", "F32", (4,), bytes(16)),
            Entry("experts.weight", "F32", (2, 2, 2), bytes(32)),
            Entry("token_embd.weight", "F32", (3, 2), random_bytes(24)),
        ]
    )
    path = tmp_path / "m.gguf"
    path.write_bytes(bytes(file))
    for given in (path, tmp_path):
        with embstore.open(given) as store:
            assert store.to_numpy().tobytes() == file.tensors[2].data
    file.tensors.append(Entry("per_layer_token_embd.weight", "F32", (5, 2), random_bytes(40)))
    path.write_bytes(bytes(file))
    with pytest.raises(
        embstore.FormatError,
        match=r"m.gguf has 2 tensors that could be a table: per_layer_token_embd.weight, "
        r"token_embd.weight; name the one to read \(tensor=",
    ):
        embstore.open(path)
    with pytest.raises(
        embstore.FormatError,
        match=r"no tensor 'token_embed.weight'; it has: .*The nearest names: token_embd.weight",
    ):
        embstore.open(path, tensor="token_embed.weight")
    with pytest.raises(embstore.FormatError, match="no tensor 'x'; it has: per_layer_token_embd"):
        embstore.open(path, tensor="x")
    path.write_bytes(bytes(GgufFile([])))
    with pytest.raises(embstore.FormatError, match="has 0 tensors that could be a table; name"):
        embstore.open(path)
    with pytest.raises(embstore.FormatError, match="it has: none that could be a table"):
        embstore.open(path, tensor="x")


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "I8", "IQ2_XS"])
def test_rows_of_bytes_on_request(tmp_path, kind):
    path = tmp_path / "m.gguf"
    data = random_bytes(tensor_bytes(kind, (ROWS, WIDTH)))
    path.write_bytes(bytes(GgufFile([Entry("a", kind, (ROWS, WIDTH), data)])))
    with embstore.open(path, encoding="opaque") as store:
        assert store.dtype == np.uint8
        assert store.to_numpy().tobytes() == data
    for encoding in ("int4", "float8_e4m3fn"):
        with pytest.raises(embstore.FormatError, match=f'leave out encoding="{encoding}"'):
            embstore.open(path, encoding=encoding)
    with pytest.raises(embstore.FormatError, match=r"is a GGUF file or model, .* take scale="):
        embstore.open(path, scale="a.scale")


@pytest.mark.parametrize("format", ["auto", "gguf"])
def test_build(tmp_path, format):
    data = random_bytes(tensor_bytes("I16", (ROWS, WIDTH)))
    tensors = [Entry("a", "I16", (ROWS, WIDTH), data), Entry("b", "I16", (1, 1), bytes(2))]
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "m.gguf"
    path.write_bytes(bytes(GgufFile(tensors)))
    for source in (path, path.parent):
        built = embstore.build(source, tmp_path / "s", tensor="a", format=format, overwrite=True)
        with built:
            assert built.to_numpy().tobytes() == data
            assert built.source["format"] == "gguf"
    with pytest.raises(embstore.SourceError, match="has 2 tensors that could be a table: a, b"):
        embstore.build(path, tmp_path / "s2", format=format)
    path.write_bytes(b"GGUF\3\0\0\0 cut")
    with pytest.raises(embstore.SourceError, match="is not a readable GGUF file"):
        embstore.build(path, tmp_path / "s2", format=format)
    path.write_bytes(b"GGUF\1\0\0\0" + bytes(60))
    with pytest.raises(embstore.SourceError, match="is a GGUF file of version 1"):
        embstore.build(path, tmp_path / "s2", format=format)


def test_word_that_looks_like_a_header(tmp_path):
    (tmp_path / "t.txt").write_text("GGUF 1.0 2.0\nlike 3.0 4.0\n")
    with pytest.raises(embstore.StoreNotFoundError):
        embstore.open(tmp_path / "t.txt")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_not_a_file(tmp_path, make):
    make(tmp_path / "m.gguf")
    for path in (tmp_path / "m.gguf", tmp_path):
        with pytest.raises((embstore.StoreNotFoundError, embstore.FormatError)):
            embstore.open(path)
    (tmp_path / "n.gguf").symlink_to("n.gguf")
    with pytest.raises(embstore.StoreNotFoundError):
        embstore.open(tmp_path / "n.gguf")


def test_list_of_tables(tmp_path):
    data = bytes(GgufFile(some_tensors()))
    (tmp_path / "m.gguf").write_bytes(data)
    found = {table.name: table for table in embstore.tables(tmp_path)}
    assert embstore.tables(tmp_path / "m.gguf") == list(found.values())
    assert list(found) == [entry.name for entry in some_tensors()[1:-1]]
    assert {table.shape for table in found.values()} == {(ROWS, WIDTH)}
    assert {table.byte_count for table in found.values() if table.dtype == "Q4_K"} == {144 * ROWS}
    for kind, dtype in (("F32", "float32"), ("BF16", "bfloat16"), ("I8", "int8"), ("Q4_K", "Q4_K")):
        assert found[f"embed.{kind}"].dtype == dtype
