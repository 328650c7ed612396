"""Options: checked when a build starts, the same in Python and on the command line."""

from __future__ import annotations

import numpy as np
import pytest

import embstore

TEXT = b"the 1 2\nlike 3 4\n"


@pytest.fixture
def table(tmp_path):
    """A text file of two words."""
    path = tmp_path / "t.txt"
    path.write_bytes(TEXT)
    return path


WRONG_VALUES = [
    ({"partitions": 0}, "partitions must be from 1 to 65536, not 0"),
    ({"partitions": 1 << 17}, "partitions must be from 1 to 65536, not 131072"),
    ({"strategy": "hash"}, 'strategy must be "mod" or "div", not \'hash\''),
    ({"format": "csv"}, 'format must be "auto", "glove", "word2vec", "word2vec-binary", "npy", '),
    ({"limit": 0}, "limit must be 1 or more, not 0"),
    ({"limit": -1}, "limit must be 1 or more, not -1"),
    ({"words": ""}, "words must be a path, not an empty text"),
    ({"dimension": 0}, "dimension must be 1 or more, not 0"),
    ({"encoding_errors": "lax"}, 'encoding_errors must be "strict", "replace" or "ignore", not'),
    ({"partition_strategy": "x"}, 'partition_strategy must be "mod" or "div", not \'x\''),
    ({"on_duplicate": "last"}, 'on_duplicate must be "error" or "first", not \'last\''),
    ({"on_overflow": "clip"}, 'on_overflow must be "error" or "inf", not \'clip\''),
    ({"memory_limit": "much"}, "memory_limit must be a size such as 2GiB, 500MB or 4096, not"),
    ({"memory_limit": -1}, "memory_limit must be 0 or more, not -1"),
]
WRONG_TYPES = [
    ({"partitions": 2.0}, "partitions must be an integer, not 2.0 (float)"),
    ({"partitions": True}, "partitions must be an integer, not True (bool)"),
    ({"strategy": None}, 'strategy must be "mod" or "div", not None'),
    ({"limit": "5"}, "limit must be an integer, not '5' (str)"),
    ({"dimension": 2.5}, "dimension must be an integer, not 2.5 (float)"),
    ({"memory_limit": 1e9}, "memory_limit must be a size such as 2GiB, 500MB or 4096, not 100"),
    ({"path": b"s"}, "path must be a str or a pathlib.Path, not b's' (bytes)"),
]


@pytest.mark.parametrize(
    ("options", "says", "kind"),
    [(*case, ValueError) for case in WRONG_VALUES] + [(*case, TypeError) for case in WRONG_TYPES],
)
def test_build_refuses_wrong_options_before_it_reads(tmp_path, options, says, kind):
    def rows():
        raise AssertionError("the source was read")
        yield

    arguments = {"source": rows(), "path": tmp_path / "s"} | options
    with pytest.raises(kind) as error:
        embstore.build(**arguments)
    assert says in str(error.value)
    assert type(error.value) is kind
    assert list(tmp_path.iterdir()) == []


def test_build_takes_sizes_numpy_integers_and_path_likes(tmp_path, table):
    class PathLike:
        def __fspath__(self):
            return str(table)

    store = embstore.build(
        PathLike(), str(tmp_path / "s"), memory_limit="64MiB", partitions=np.int64(2)
    )
    assert store.partition_count == 2
    assert store[["the", "like"]].tolist() == [[1, 2], [3, 4]]


def test_a_memory_limit_that_is_too_low_is_refused(tmp_path, table):
    with pytest.raises(ValueError, match="needs a memory_limit of at least 65536 bytes"):
        embstore.build(table, tmp_path / "s", memory_limit="1KiB")
    assert list(tmp_path.iterdir()) == [table]
