"""Objects below a URL: the same calls on a directory, an object store and a web server."""

from __future__ import annotations

import random

import pytest

from embstore.errors import RemoteError, StoreNotFoundError
from embstore.remote.objects import Request
from embstore.remote.urls import objects_at

DATA = random.Random(1).randbytes(300_000)


@pytest.fixture(params=["directory", "object store"])
def objects(request, tmp_path):
    """Objects that can be written, without any."""
    if request.param == "directory":
        return objects_at(f"file://{tmp_path}/made/later")
    return objects_at(request.getfixturevalue("object_url"))


def names(found):
    return [one.name for one in found]


def facts(one):
    """What an object's writer knows of it, too."""
    return one.name, one.size, one.etag


def test_objects_are_written_found_and_read(objects):
    assert objects.find() == []
    assert objects.directories() == []
    made = {name: objects.put(name, DATA) for name in ("a/x/0", "a/y", "ab/z", "top.json")}
    found = objects.find()
    assert names(found) == sorted(made)
    assert [facts(one) for one in found] == [facts(made[name]) for name in sorted(made)]
    assert {one.size for one in found} == {len(DATA)}
    assert names(objects.find("a")) == ["a/x/0", "a/y", "ab/z"]
    assert names(objects.find("a/")) == ["a/x/0", "a/y"]
    assert names(objects.find("a/x/")) == ["a/x/0"]
    assert names(objects.find("b")) == []
    assert objects.directories() == ["a", "ab"]
    assert facts(objects.head("a/y")) == facts(made["a/y"])
    assert objects.head("a") is None
    assert objects.head("missing") is None
    assert objects.read("a/y") == DATA
    assert objects.read("a/y", 10) == DATA[10:]
    assert objects.read("a/y", 10, 5, etag=made["a/y"].etag) == DATA[10:15]
    assert objects.read("a/y", 10, 0) == b""
    with pytest.raises(StoreNotFoundError, match="a/missing"):
        objects.read("a/missing")
    with pytest.raises(RemoteError, match="a/y"):
        objects.read("a/y", 299_999, 2)


def test_many_reads_arrive_once_each(objects):
    etags = [objects.put(f"n{number}", DATA[number:]).etag for number in range(4)]
    rng = random.Random(2)
    requests = []
    for _ in range(200):
        number, first, count = rng.randrange(4), rng.randrange(100_000), rng.choice([0, 1, 5000])
        requests.append(Request(f"n{number}", first, count, etags[number]))
    seen = dict(objects.read_many(requests))
    assert len(seen) == len(requests)
    for position, one in enumerate(requests):
        start = int(one.name[1:]) + one.first
        assert seen[position] == DATA[start : start + one.count]
