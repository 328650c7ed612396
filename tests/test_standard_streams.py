"""Standard input and output, and other pipes, in place of files."""

from __future__ import annotations

import gzip
import io
import json
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import embstore
from embstore.errors import ExportError, SourceError
from embstore.sources.files import piped
from tests.helpers.programs import TIMEOUT_SECONDS, environment
from tests.helpers.programs import run_command as run

TEXT = b"the 1 2\nlike 3 4\nday 5 6\n"
ROWS = np.arange(1, 7, dtype=np.float32).reshape(3, 2)
BINARY = b"3 2\n" + b"".join(
    word + b" " + row.tobytes() for word, row in zip((b"the", b"like", b"day"), ROWS, strict=True)
)


class Piped(io.RawIOBase):
    """Bytes that come a few at a time, and cannot be sought."""

    def __init__(self, data: bytes, step: int = 1000) -> None:
        self._data, self._step = io.BytesIO(data), step

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any, /) -> int:
        some = self._data.read(min(len(room), self._step))
        room[: len(some)] = some
        return len(some)


def npy(array: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (TEXT, {}),
        (b"3 2\n" + TEXT, {}),
        (gzip.compress(TEXT), {}),
        (BINARY, {}),
        (npy(ROWS), {"words": ["the", "like", "day"]}),
        (TEXT, {"strategy": "div", "partitions": 2}),
    ],
    ids=["text", "header", "gzip", "binary", "npy", "div"],
)
def test_a_pipe_is_built_like_a_file(tmp_path, data, options):
    with embstore.build(Piped(data), tmp_path / "s", **options) as store:
        assert np.array_equal(store.lookup([0, 1, 2]), ROWS)
        assert store.ids(["the", "like", "day"]).tolist() == [0, 1, 2]
        assert store.source["file"] == "standard input"


def test_a_large_pipe_is_read_once(tmp_path, monkeypatch):
    monkeypatch.setattr(piped, "KEPT_BYTES", 300_000)
    text = b"".join(b"w%d 0.5 %d\n" % (number, number) for number in range(60_000))
    with embstore.build(Piped(text, 65536), tmp_path / "s") as store:
        assert store["w59999"].tolist() == [0.5, 59999]
        assert store.source["bytes"] == len(text)
    for options in ({"strategy": "div"}, {"attributes": ["count"], "dimension": 1}):
        with pytest.raises(SourceError, match=r"read only once.* write it to a file first"):
            embstore.build(Piped(text, 65536), tmp_path / "t", **options)
    assert not (tmp_path / "t").exists()


def test_formats_that_are_read_from_all_over_are_refused(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("t.txt", TEXT)
    table = io.BytesIO()
    parquet.write_table(pa.table({"v": [1.0, 2.0]}), table)
    for data in (out.getvalue(), table.getvalue(), npy(np.asfortranarray(ROWS))):
        with pytest.raises(SourceError, match=r"standard input .*file"):
            embstore.build(Piped(data), tmp_path / "s")
    with pytest.raises(TypeError, match="opened as text"):
        embstore.build(io.StringIO("a 1"), tmp_path / "s")


def test_open_pipes_are_read_by_their_path(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, TEXT)
    os.close(writer)
    with embstore.build(f"/dev/fd/{reader}", tmp_path / "s") as store:
        assert np.array_equal(store.lookup([0, 1, 2]), ROWS)
    os.close(reader)


def test_words_come_by_a_pipe(tmp_path):
    words = Piped(b"the\nlike\nday\n")
    with embstore.build(ROWS, tmp_path / "s", words=words) as store:  # type: ignore[arg-type]
        assert store["day"].tolist() == [5, 6]


@pytest.mark.parametrize("format", ["glove", "word2vec", "word2vec-binary", "npy", "parquet"])
def test_an_open_file_gets_what_a_path_gets(tmp_path, format):
    store = embstore.build({"the": ROWS[0], "like": ROWS[1]}, tmp_path / "s")
    out = io.BytesIO()
    report = embstore.export(store, out, format=format)
    embstore.export(store, tmp_path / "file", format=format)
    assert out.getvalue() == (tmp_path / "file").read_bytes()
    assert report.byte_count == len(out.getvalue())
    store.close()


def test_what_a_stream_cannot_hold_is_refused_before_it_is_written(tmp_path):
    store = embstore.build({"2": [2.0], "like": [3.0]}, tmp_path / "s")
    out = io.BytesIO()
    with pytest.raises(ExportError, match="export as"):
        embstore.export(store, out, format="glove")
    with pytest.raises(ValueError, match="give format= for what has no name"):
        embstore.export(store, out)
    assert out.getvalue() == b""
    store.close()


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which ``embstore`` is this one."""
    command = f'embstore() {{ {shlex.quote(sys.executable)} -m embstore.cli "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def test_from_pipe_to_pipe(tmp_path):
    (tmp_path / "t.gz").write_bytes(gzip.compress(TEXT))
    done = shell(
        "zcat t.gz | embstore build - s --json >facts && embstore export s - --format glove --json",
        tmp_path,
    )
    assert done.stdout == TEXT
    assert json.loads(done.stderr)["file"] == "standard output"
    assert json.loads((tmp_path / "facts").read_text())["source"]["file"] == "standard input"


def test_a_closed_pipe_says_nothing(tmp_path):
    embstore.build(np.ones((200_000, 2), np.float32), tmp_path / "s").close()
    line = "embstore get s --ids : --json | head -c 9; echo ${PIPESTATUS[0]}"
    done = shell(line, tmp_path)
    assert (done.stdout, done.stderr) == (b'[{"id": 0141\n', b"")


def test_redirected_files_and_dashes(tmp_path):
    (tmp_path / "t.txt").write_bytes(TEXT)
    (tmp_path / "-").write_bytes(TEXT)
    done = shell("embstore build - s --json <t.txt; embstore build ./- d --json <t.txt", tmp_path)
    files = [json.loads(line)["source"]["file"] for line in done.stdout.splitlines()]
    assert files == ["t.txt", "-"]


def test_usage_of_dashes(tmp_path):
    embstore.build({"the": ROWS[0]}, tmp_path / "s").close()
    both = run("build", "-", tmp_path / "t", "--words", "-", status=2)
    assert "rows and words cannot both be read from standard input" in both.stderr
    assert "give --format" in run("export", tmp_path / "s", "-", status=1).stderr
    assert "--words" in run("export", tmp_path / "s", "-", "--words", "-", status=2).stderr
    assert "standard input is empty" in run("build", "-", tmp_path / "t", status=1).stderr
