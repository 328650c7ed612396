"""Headers of GGUF files: what is skipped, and what is refused."""

from __future__ import annotations

import os
import struct
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import embstore
from embstore.formats.gguf import cursor
from embstore.formats.gguf.cursor import Cursor
from tests.helpers.gguf_files import (
    ARRAY,
    I32,
    TEXT,
    U16,
    U32,
    U64,
    Entry,
    GgufFile,
    Key,
    array,
    text,
    texts,
)

if TYPE_CHECKING:
    from pathlib import Path

ROWS = np.arange(30, dtype=np.float32).reshape(3, 10)


def table(**changes: object) -> GgufFile:
    """Return a file with one tensor."""
    file = GgufFile([Entry("a", "F32", (3, 10), ROWS.tobytes())])
    for name, value in changes.items():
        setattr(file, name, value)
    return file


def rows_of(path: Path, data: bytes) -> np.ndarray:
    path.write_bytes(data)
    with embstore.open(path, tensor="a") as store:
        return store.to_numpy()


LONG = b"l" * 70_000
# The type and the bytes of a value that a header may have.
VALUES = {
    "u8": (0, b"\1"),
    "bool": (7, b"\1"),
    "f64": (12, bytes(8)),
    "text": (TEXT, text("a" * 300)),
    "long text": (TEXT, text(LONG * 30)),
    "not UTF-8": (TEXT, text(b"\xff\xfe")),
    "numbers": (ARRAY, array(6, 250_000, bytes(1_000_000))),
    "no texts": (ARRAY, texts()),
    "no numbers": (ARRAY, array(6, 0, b"")),
    "short texts": (ARRAY, texts(*(b"t" * (1 + n % 40) for n in range(100_000)))),
    "empty texts": (ARRAY, texts(*[b""] * 5000)),
    "texts of zeros": (ARRAY, texts(*(bytes(n % 40) for n in range(5000)))),
    "texts of all lengths": (ARRAY, texts(*(b"x" * n for n in range(600)), *[LONG] * 40)),
    "arrays": (ARRAY, array(ARRAY, 2, texts("a", "bc") + array(4, 1, bytes(4)))),
    "nested arrays": (ARRAY, array(ARRAY, 1, array(ARRAY, 1, array(ARRAY, 1, texts("a"))))),
}


@pytest.mark.parametrize("value", VALUES)
def test_values_are_skipped(tmp_path, value):
    keys = [Key("some.key", *VALUES[value]), Key("other.key", *VALUES[value])]
    found = rows_of(tmp_path / "m.gguf", bytes(table(keys=keys)))
    assert np.array_equal(found, ROWS)


@pytest.mark.parametrize("kind", [(0, "B"), (2, "H"), (4, "I"), (5, "i"), (10, "Q"), (11, "q")])
def test_alignment_of_any_integer_type(tmp_path, kind):
    number, form = kind
    file = table(alignment=64)
    name = text("general.alignment")
    right = name + struct.pack("<II", U32, 64)
    other = name + struct.pack(f"<I{form}", number, 64)
    data = file.header().replace(right, other)
    data += bytes(-len(data) % 64) + ROWS.tobytes()
    assert np.array_equal(rows_of(tmp_path / "m.gguf", data), ROWS)


def entry(**changes: object) -> list[Entry]:
    file = table()
    for name, value in changes.items():
        setattr(file.tensors[0], name, value)
    return file.tensors


def two(second_offset: int, tail: int = 0) -> dict[str, object]:
    second = Entry("b", "F32", (3, 10), ROWS.tobytes(), second_offset)
    return {"tensors": [*table().tensors, second], "tail": bytes(tail)}


def key(name: str, kind: int, value: bytes) -> dict[str, object]:
    return {"keys": [Key(name, kind, value)]}


def nested(depth: int) -> bytes:
    value = array(0, 0, b"")
    for _ in range(depth):
        value = array(ARRAY, 1, value)
    return value


HUGE = (1 << 64) - 1
WRONG = [
    ({"tensor_count": HUGE}, "claims 18446744073709551615 tensors, more than 131072"),
    ({"tensor_count": 100_000}, "claims 100000 tensors, more than fit into its"),
    ({"key_count": HUGE}, "claims 18446744073709551615 keys, more than 65536"),
    ({"key_count": 60_000}, "claims 60000 keys, more than fit into its"),
    (key("a", TEXT, struct.pack("<Q", HUGE)), "claims 18446744073709551615 bytes from byte"),
    (key("a", TEXT, struct.pack("<Q", 10_000)), "claims 10000 bytes from byte"),
    (key("a", ARRAY, array(6, HUGE, b"")), "claims an array of 18446744073709551615 items"),
    (key("a", ARRAY, array(TEXT, 1 << 61, b"")), "claims an array of 2305843009213693952 items"),
    (key("a", ARRAY, array(TEXT, 2, text("a") + struct.pack("<Q", 1 << 63))), "claims 92233720"),
    (key("a", ARRAY, array(ARRAY, HUGE, b"")), "claims an array of"),
    (key("a", ARRAY, nested(4)), "arrays are nested too deeply or too often"),
    (key("a", ARRAY, nested(5000)), "arrays are nested too deeply or too often"),
    (key("a", ARRAY, array(ARRAY, 70_000, array(0, 0, b"") * 70_000)), "too deeply or too often"),
    (key("a", ARRAY, array(13, 1, bytes(8))), "a value has the unknown type 13"),
    (key("a", 13, bytes(8)), "a value has the unknown type 13"),
    ({"keys": [Key("a", 0, b"1"), Key("a", 0, b"1")]}, "the key 'a' is repeated"),
    ({"keys": [Key("a" * 70_000, 0, b"1")]}, "a key has 70000 bytes, more than 65535"),
    ({"keys": [Key(b"\xff", 0, b"1")]}, "a key is not UTF-8"),
    (key("general.alignment", TEXT, text("32")), "general.alignment has a value of type 8"),
    (key("general.alignment", U32, bytes(4)), "general.alignment is 0"),
    (key("general.alignment", I32, b"\xff" * 4), "general.alignment is -1"),
    (key("general.alignment", U64, b"\xff" * 8), "general.alignment is 18446744073709551615"),
    (key("split.count", TEXT, text("3")), "split.count has a value of type 8"),
    ({"tensors": [*table().tensors, *table().tensors]}, "the tensor 'a' is repeated"),
    ({"tensors": entry(name=b"\xff")}, "a tensor's name is not UTF-8"),
    ({"tensors": entry(name="a" * 1025)}, "a tensor's name has 1025 bytes, more than 1024"),
    ({"tensors": entry(shape=(1, 1, 1, 3, 10))}, "'a' has 5 dimensions, more than 4"),
    ({"tensors": entry(shape=(1 << 32, 1 << 32))}, r"has the shape \(4294967296, 4294967296\)"),
    ({"tensors": entry(shape=(0, HUGE))}, r"has the shape \(0, 18446744073709551615\)"),
    ({"tensors": entry(shape=(1 << 31, 1 << 20))}, "ends at byte .*, but the file has"),
    ({"tensors": entry(shape=(4, 10))}, "ends at byte .*, but the file has"),
    ({"tensors": entry(shape=(2, 10))}, "bytes after the tensor 'a' belong to no tensor"),
    ({"tensors": entry(kind="Q8_0", shape=(3, 33))}, "rows of 33 numbers, expected a multiple of"),
    ({"tensors": entry(kind="Q4_K", shape=(8, 32))}, "rows of 32 numbers, .* of 256"),
    ({"tensors": entry(offset=32)}, "the header ends at byte .*: they leave a gap"),
    ({"tensors": entry(offset=4)}, "starts at byte 4 of the data, not at a multiple of 32"),
    ({"tensors": entry(offset=HUGE - 31)}, "they leave a gap"),
    (two(96), "'b' starts at byte .*, but the tensor 'a' ends at byte .*: they overlap"),
    (two(0), "they overlap"),
    (two(256), "they leave a gap"),
    ({"tail": bytes(1)}, "bytes after the tensor 'a' belong to no tensor"),
]


@pytest.mark.parametrize(("changes", "says"), WRONG)
def test_wrong_headers(tmp_path, changes, says):
    with pytest.raises(embstore.StoreCorruptError, match=says) as caught:
        rows_of(tmp_path / "m.gguf", bytes(table(**changes)))
    assert "m.gguf is not a readable GGUF file: " in str(caught.value)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (struct.pack("<I", 1), "of version 1, expected 2 or 3; convert the model again"),
        (struct.pack("<I", 4), "of version 4, expected 2 or 3; embstore does not know it"),
        (struct.pack("<I", 0), "of version 0, expected 2 or 3; embstore does not know it"),
        (struct.pack(">I", 3), "is a big-endian GGUF file; convert it with gguf_convert_endian"),
    ],
)
def test_versions_that_are_refused(tmp_path, start, says):
    data = bytearray(bytes(table()))
    data[4:8] = start
    with pytest.raises(embstore.FormatError, match=says):
        rows_of(tmp_path / "m.gguf", bytes(data))


def test_big_endian_file_of_gguf_py(tmp_path):
    library = pytest.importorskip("gguf")
    writer = library.GGUFWriter(tmp_path / "m.gguf", "llama", endianess=library.GGUFEndian.BIG)
    writer.add_tensor("a", ROWS.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(embstore.FormatError, match="is a big-endian GGUF file"):
        embstore.open(tmp_path / "m.gguf")


def test_every_cut_is_noticed(tmp_path):
    data = bytes(table(keys=[Key("a", ARRAY, texts("a", "bb")), Key("b", U16, bytes(2))]))
    path = tmp_path / "m.gguf"
    end = len(data) - data[::-1].index(ROWS.tobytes()[::-1])
    for size in range(end):
        path.write_bytes(data[:size])
        with pytest.raises((embstore.StoreCorruptError, embstore.StoreNotFoundError)):
            embstore.open(path)
    for size in range(end, len(data) + 1):  # Only the padding is cut.
        assert np.array_equal(rows_of(path, data[:size]), ROWS)


def test_tensors_in_any_order_and_without_bytes(tmp_path):
    tensors = [
        Entry("b", "F32", (3, 10), ROWS.tobytes(), 128),
        Entry("none", "F32", (0, 10), b"", 128),
        Entry("unknown", 999, (3, 10), bytes(1000), 256),
        Entry("a", "F32", (3, 10), ROWS.tobytes(), 0),
    ]
    assert np.array_equal(rows_of(tmp_path / "m.gguf", bytes(GgufFile(tensors))), ROWS)


@pytest.mark.parametrize("shape", [(1 << 40, 10), (3, 1 << 40)])
def test_sparse_file_of_terabytes_takes_no_memory(tmp_path, shape):
    """The header, the skipped values and the rows are large, and nothing is read of them."""
    size = 1 << 42
    path = tmp_path / "m.gguf"
    file = table(
        keys=[Key("t", TEXT, struct.pack("<Q", size))], tensors=entry(shape=shape), tensor_count=1
    )
    path.write_bytes(file.header())
    try:
        os.truncate(path, size * 3)
    except OSError:
        pytest.skip("this file system has no files of this size")
    tracemalloc.start()
    try:
        with pytest.raises(embstore.StoreCorruptError):
            embstore.open(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


LENGTHS = st.lists(
    st.one_of(
        st.integers(0, 3), st.integers(0, 300), st.sampled_from([0, 1, 255, 256, 4095, 70_000])
    ),
    max_size=60,
)


@given(
    lengths=LENGTHS,
    repeat=st.integers(1, 40),
    count=st.integers(0, 60),
    fill=st.sampled_from([b"\0", b"a", b"\1\0\0\0\0\0\0\0"]),
    window=st.sampled_from([8, 9, 64, 1000, 1 << 20]),
)
def test_texts_are_skipped_as_one_by_one(lengths, repeat, count, fill, window):
    lengths = lengths * repeat
    count = min(count * repeat, len(lengths))
    data = b"".join(text((fill * length)[:length]) for length in lengths)
    expected = sum(8 + length for length in lengths[:count])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cursor, "FIRST_BYTES", window)
        patch.setattr(cursor, "WINDOW_BYTES", window)
        found = Cursor(lambda first, size: data[first : first + size], len(data))
        found.skip_texts(count)
    assert found.place == expected


def test_reading_is_bounded():
    data = bytes(8 * 20_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cursor, "MAX_READ_BYTES", 100_000)
        found = Cursor(lambda first, size: data[first : first + size], len(data))
        with pytest.raises(ValueError, match="its header has more than 100000 bytes"):
            found.skip_texts(20_000)


def test_file_that_is_cut_while_it_is_read():
    found = Cursor(lambda first, size: b"abc", 100)
    with pytest.raises(ValueError, match="ends at byte 3, but was longer before"):
        found.number(cursor.U64)
