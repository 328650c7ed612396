"""Hostile or truncated text: it is refused, or read in bounded memory and time."""

from __future__ import annotations

import subprocess
import sys
import zlib

import numpy as np
import pytest

from embstore.errors import SourceError
from embstore.sources.text.fields import find_irregular
from embstore.sources.text.source import TextSource
from tests.helpers.sources import read


@pytest.fixture
def file(tmp_path):
    def file(data, name="t.txt"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return file


def bomb(start: bytes, filling: bytes, mebibytes: int) -> bytes:
    """Return gzip data of a short start and many mebibytes of one repeated filling."""
    compressor = zlib.compressobj(level=1, wbits=31)
    filling *= (1 << 20) // len(filling)
    parts = [compressor.compress(start)]
    parts += [compressor.compress(filling) for _ in range(mebibytes)]
    return b"".join([*parts, compressor.flush()])


START = b"the 1 2\nlike 3 4\n"


@pytest.mark.parametrize(
    ("filling", "says"),
    [
        (b"x", "t.txt.gz:3: no newline within 64 MiB"),
        (b"\0", "t.txt.gz:3: no newline within 64 MiB"),
        (b"\n", "more than 64 MiB of empty lines"),
    ],
)
def test_decompression_bomb(file, filling, says):
    path = file(bomb(START, filling, 100), "t.txt.gz")
    program = (
        "import sys; from embstore.sources.choose import open_source\n"
        "from tests.helpers.memory import peak_bytes\n"
        "before = peak_bytes()\n"
        "try: list(open_source(sys.argv[1]).batches())\n"
        "except ValueError as error: print(error)\n"
        "print(peak_bytes() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    message, grown = done.stdout.splitlines()
    assert says in message
    assert int(grown) < 350 << 20  # A growing line is held two or three times.


@pytest.mark.parametrize("filling", [b"x", b"\n", b"y 1 2\n"])
def test_limit_reads_little_of_a_decompression_bomb(file, filling):
    data = bomb(START, filling, 100)
    path = file(data[: len(data) // 4], "t.txt.gz")
    words, _ = read(path, limit=2)  # Reading all of the file would be an error: it is truncated.
    assert words == ["the", "like"]
    with pytest.raises(SourceError):
        read(path)


def test_limit_reads_no_further(file):
    good = b"".join(b"w%d 1 2\n" % i for i in range(10))
    path = file(good + b"bad\n")
    assert read(path, limit=10)[0] == [f"w{i}" for i in range(10)]
    assert TextSource(path, limit=10).count_rows() == 10
    assert TextSource(path, limit=3).row_estimate == 3
    with pytest.raises(SourceError, match=r":11: "):
        read(path, limit=11)
    path = file(b"11 2\n" + good + b"bad\n")
    assert read(path, limit=10)[0] == [f"w{i}" for i in range(10)]
    assert TextSource(path, limit=10).row_count == 10
    with pytest.raises(SourceError, match="promises 11 rows, but the file ends after 10"):
        read(file(b"11 2\n" + good), limit=11)
    assert len(read(file(good), limit=99)[1]) == 10


@pytest.mark.parametrize("header", [b"99999999999 300", b"1 99999999999", b"9" * 18 + b" 2"])
def test_header_that_promises_too_much(file, header):
    with pytest.raises(SourceError, match=r"t\.txt:[123]: "):
        read(file(header + b"\n" + START))


def test_numbers_of_ten_thousand_digits(file):
    digits = "123456789" * 1111
    path = file(f"a 0.{digits} {digits}e-9998\nb 1e-400 -0.{'0' * 9999}1\n".encode())
    rows = read(path)[1]
    expected = [[f"0.{digits}", f"{digits}e-9998"], ["0", "-0.0"]]
    np.testing.assert_array_equal(rows, np.array(expected).astype(np.float32))
    with pytest.raises(SourceError, match=r"t\.txt:1: value 1 is '1234.*out of the range"):
        read(file(f"a {digits} 2\n".encode()))


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1e39", "0x10", "1_0", "1,0", "\0", "1\0"])
def test_invalid_numbers_are_refused(file, number):
    with pytest.raises(SourceError, match=r"t\.txt:2: value 1 is '"):
        read(file(f"a 1 2\nb {number} 2\n".encode()))


def test_only_irregular_lines_are_split(file):
    lines = [b"w%d 0.5 1" % i for i in range(1000)]
    lines[10], lines[500], lines[999] = b"a b 3 4", b"trail 5 6 ", b"tab 7 8\t"
    data = b"\n".join(lines) + b"\n"
    assert find_irregular(data, 2)[1].tolist() == [10, 500, 999]
    words, rows = read(file(data))
    assert words is not None
    assert [words[i] for i in (9, 10, 11, 500, 999)] == ["w9", "a b", "w11", "trail", "tab"]
    assert rows[[9, 10, 500, 999]].tolist() == [[0.5, 1], [3, 4], [5, 6], [7, 8]]


@pytest.mark.parametrize("end", [b"\r\n", b" \n"])
def test_line_ends_of_windows_and_word2vec_are_regular(file, end):
    data = end.join(b"w%d 0.5 1" % i for i in range(10)) + b"\n"
    assert not find_irregular(data, 2)[1].size
    assert read(file(data))[0] == [f"w{i}" for i in range(10)]


@pytest.mark.parametrize("header", [b"", b"2 2\n"])
def test_words_that_end_in_a_number(file, header):
    path = file(header + b"the 1 2\nroute 66 3 4\n")
    with pytest.raises(SourceError, match=r"the dimension changes.*pass dimension=2"):
        read(path)
    words, rows = read(path, dimension=2)
    assert words == ["the", "route 66"]
    assert rows.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(SourceError, match=r"expected a word and 3 values|header says 2"):
        read(path, dimension=3)
