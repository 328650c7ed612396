"""Arrow IPC files and streams: their end, dictionaries, compression, damage, memory."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

import embstore
from embstore.errors import EmbstoreError, SourceError
from embstore.sources.arrow import files as arrow_files
from embstore.sources.arrow.ipc_messages import largest_batch, walk_stream
from tests.helpers.programs import run_python
from tests.helpers.sources import assert_same, read

ROWS = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
WORDS = [f"w{i}" for i in range(50)]
TABLE = pa.table({"word": WORDS, "v": pa.FixedSizeListArray.from_arrays(ROWS.ravel(), 4)})


def stream(table: Any = TABLE, rows: int = 20, **options: Any) -> bytes:
    """Return the bytes of a stream."""
    out = io.BytesIO()
    with ipc.new_stream(out, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, rows)
    return out.getvalue()


def file(table: Any = TABLE, rows: int = 20, **options: Any) -> bytes:
    """Return the bytes of a file."""
    out = io.BytesIO()
    with ipc.new_file(out, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, rows)
    return out.getvalue()


END = b"\xff\xff\xff\xff\0\0\0\0"


@pytest.mark.parametrize("options", [{}, {"compression": "lz4"}, {"compression": "zstd"}])
@pytest.mark.parametrize("make", [stream, file])
@pytest.mark.parametrize("is_mapped", [False, True])
def test_files_and_streams(tmp_path, monkeypatch, make, options, is_mapped):
    monkeypatch.setattr(arrow_files, "MAX_BATCH_BYTES", 0 if is_mapped else 1 << 30)
    (tmp_path / "t.arrow").write_bytes(make(**options))
    words, rows = read(tmp_path / "t.arrow")
    assert words == WORDS
    assert_same(rows, ROWS)


def test_old_streams(tmp_path):
    data = stream(use_legacy_format=True)
    assert data.endswith(b"\0\0\0\0")
    (tmp_path / "t.arrows").write_bytes(data)
    assert_same(read(tmp_path / "t.arrows", format="arrow")[1], ROWS)
    (tmp_path / "t.arrows").write_bytes(data[:-4])
    with pytest.raises(SourceError, match="without its end mark"):
        read(tmp_path / "t.arrows", format="arrow")


# Whose last bytes look like an end mark.
LOOKALIKE = pa.table({"v": pa.array([[-1, 0]] * 16, pa.list_(pa.int32(), 2))})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (stream()[: -len(END)], "without its end mark, so rows may be missing"),
        (stream()[: -len(END) - 1], "cannot be read as|without its end mark"),
        (stream()[: len(stream()) // 2], "without its end mark"),
        (stream(LOOKALIKE)[: -len(END)], "without its end mark"),
        (stream() + stream(), "bytes behind the end of its Arrow stream"),
        (stream() + b"\0", "has 1 bytes behind the end"),
        (stream(pa.table({"a": [1]})) + stream(), "behind the end|lists of numbers"),
        (stream()[:200], "without its end mark|cannot be read as"),
        (file()[:-6], "cannot be read as"),
        (file()[: len(file()) // 2], "cannot be read as"),
        (file() + b"more", "cannot be read as"),
        (file()[:8], "cannot be read as"),
    ],
)
def test_unfinished_files_are_refused(tmp_path, data, says):
    (tmp_path / "t.arrow").write_bytes(data)
    with pytest.raises(SourceError, match=says):
        embstore.build(tmp_path / "t.arrow", tmp_path / "s")
    assert [path.name for path in tmp_path.iterdir()] == ["t.arrow"]


def test_sizes_of_messages(tmp_path):
    path = tmp_path / "t"
    for data in (stream(), stream(use_legacy_format=True)):
        path.write_bytes(data)
        with path.open("rb") as opened:
            facts = walk_stream(opened)
            assert facts is not None
            assert facts.end == len(data)
            assert 20 * 16 < facts.largest_body < 20 * 16 + 500
            assert facts.batch_count == 3
    path.write_bytes(file())
    with path.open("rb") as opened:
        assert 20 * 16 < largest_batch(opened) < 20 * 16 + 500
    for data in (b"", b"x" * 5, b"x" * 100, b"\0" * 64, b"\xff" * 64, file()[:-6]):
        path.write_bytes(data)
        with path.open("rb") as opened:
            assert largest_batch(opened) == 0


@pytest.mark.parametrize("is_delta", [False, True])
def test_dictionaries_that_change(tmp_path, is_delta):
    first = pa.array(WORDS[:25]).dictionary_encode()
    words = WORDS if is_delta else WORDS[25:]
    second = pa.DictionaryArray.from_arrays(
        pa.array([words.index(word) for word in WORDS[25:]], pa.int32()), pa.array(words)
    )
    batches = [
        pa.record_batch({"word": part, "v": TABLE["v"].chunk(0)[start : start + 25]})
        for start, part in ((0, first), (25, second))
    ]
    options = ipc.IpcWriteOptions(emit_dictionary_deltas=is_delta)
    with ipc.new_stream(tmp_path / "t.arrows", batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    found, rows = read(tmp_path / "t.arrows")
    assert found == WORDS
    assert_same(rows, ROWS)


PROGRAM = """
import os, sys
import numpy as np
import embstore
from embstore.errors import EmbstoreError

path, format = sys.argv[1:]
from embstore.sources.choose import open_source
source = open_source(path)
batches = source.batches()
first = next(batches)
os.truncate(path, 5000)
try:
    for batch in batches:
        pass
except EmbstoreError as error:
    print("refused", type(error).__name__)
"""


@pytest.mark.parametrize("kind", ["stream", "file", "parquet"])
def test_files_that_are_cut_while_they_are_read(tmp_path, kind):
    rows = np.random.default_rng(0).random((40_000, 100))
    table = pa.table({"v": pa.FixedSizeListArray.from_arrays(rows.ravel(), 100)})
    path = tmp_path / f"t.{kind}"
    if kind == "parquet":
        parquet.write_table(table, path, row_group_size=5000)
    else:
        path.write_bytes({"stream": stream, "file": file}[kind](table, 5000))
    done = run_python("-c", PROGRAM, path, kind)
    assert done.stdout == "refused SourceError\n"


def test_only_the_wanted_columns_of_a_file_are_read(tmp_path):
    other = pa.array(np.zeros((200_000, 100)).ravel())
    columns = {"v": np.ones((200_000, 2)).ravel(), "other": other}
    table = pa.table(
        {
            name: pa.FixedSizeListArray.from_arrays(values, len(values) // 200_000)
            for name, values in columns.items()
        }
    )
    (tmp_path / "t.arrow").write_bytes(file(table, 200_000))
    program = (
        "import sys; from embstore.sources.choose import open_source\n"
        "from tests.helpers.memory import peak_bytes\n"
        "source = open_source(sys.argv[1], column='v'); before = peak_bytes()\n"
        "assert sum(len(batch.rows) for batch in source.batches()) == 200_000\n"
        "assert peak_bytes() - before < 60 << 20, peak_bytes() - before"
    )
    run_python("-c", program, tmp_path / "t.arrow")


@pytest.mark.parametrize("make", [stream, file])
def test_any_flipped_byte_is_refused_or_harmless(tmp_path, make):
    """Arrow has no checksums; a flip in a number is not noticed, but nothing crashes."""
    data = make()
    path = tmp_path / "t.arrow"
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])
        try:
            words, rows = read(path, format="arrow")
        except EmbstoreError:
            continue
        assert words is None or len(words) == len(rows)


def test_page_checksums(tmp_path):
    path = tmp_path / "t.parquet"
    parquet.write_table(TABLE, path, compression="none", write_page_checksum=True)
    data = bytearray(path.read_bytes())
    place = data.index(ROWS[10:12].tobytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"t\.parquet cannot be read as .*checksum"):
        embstore.build(path, tmp_path / "s")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: data[:-4], "cannot be read as"),
        (lambda data: data[: len(data) // 2], "cannot be read as"),
        (lambda data: data[:4] + b"\0" * (len(data) - 8) + data[-4:], "cannot be read as"),
        (lambda data: b"PARE" + data[4:-4] + b"PARE", "an encrypted Parquet file; decrypt it"),
        (lambda data: data + data[:20], "cannot be read as"),
    ],
)
def test_unfinished_parquet_files_are_refused(tmp_path, change, says):
    path = tmp_path / "t.parquet"
    parquet.write_table(TABLE, path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(SourceError, match=says):
        embstore.build(path, tmp_path / "s", format="parquet")
