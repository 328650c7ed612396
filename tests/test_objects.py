"""Objects below a URL: the same calls on a directory, an object store and a web server."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from embstore.errors import RemoteError, StoreNotFoundError
from embstore.remote import object_store, requests
from embstore.remote.location import as_location
from embstore.remote.objects import Request
from embstore.remote.urls import objects_at
from tests import misbehaving as bad

DATA = random.Random(1).randbytes(300_000)


@pytest.fixture(params=["directory", "object store", "small store"])
def objects(request, tmp_path):
    """Objects that can be written, without any."""
    if request.param == "directory":
        yield objects_at(f"file://{tmp_path}/made/later")
    elif request.param == "object store":
        yield objects_at(request.getfixturevalue("object_url"))
    else:
        with bad.misbehaving() as store:
            patch = request.getfixturevalue("no_credentials")
            patch.setenv("AWS_ENDPOINT_URL", store.url)
            yield objects_at("s3://bucket")


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
    assert all(one.modified.tzinfo for one in found)
    assert names(objects.find("a")) == ["a/x/0", "a/y", "ab/z"]
    assert names(objects.find("a/")) == ["a/x/0", "a/y"]
    assert names(objects.find("a/x/")) == ["a/x/0"]
    assert names(objects.find("b")) == []
    assert names(objects.find("missing/")) == []
    assert objects.directories() == ["a", "ab"]
    assert facts(objects.head("a/y")) == facts(made["a/y"])
    assert objects.head("a") is None
    assert objects.head("missing") is None
    assert objects.where("a/y") == f"{objects.url}/a/y"


def test_ranges_are_read_exactly_or_not_at_all(objects):
    etag = objects.put("a/y", DATA).etag
    assert objects.read("a/y") == DATA
    assert objects.read("a/y", 10) == DATA[10:]
    assert objects.read("a/y", 10, etag=etag) == DATA[10:]
    assert objects.read("a/y", 10, 5, etag=etag) == DATA[10:15]
    assert objects.read("a/y", 299_999, 1) == DATA[-1:]
    assert objects.read("a/y", 10, 0) == b""
    assert type(objects.read("a/y", 10, 5)) is bytes
    for first, count in ((299_999, 2), (300_000, 1), (10**12, 5), (0, 300_001), (2**62, 2**61)):
        with pytest.raises(RemoteError, match="a/y"):
            objects.read("a/y", first, count)
    for missing in ("a/missing", "a", "a/y/deeper"):
        with pytest.raises(StoreNotFoundError, match=missing):
            objects.read(missing)
        with pytest.raises(StoreNotFoundError, match=missing):
            objects.read(missing, 0, 5)


def test_empty_objects(objects):
    assert objects.put("empty", b"").size == 0
    assert objects.read("empty") == b""
    assert objects.head("empty").size == 0
    assert [one.size for one in objects.find()] == [0]
    with pytest.raises(RemoteError, match="empty"):
        objects.read("empty", 0, 1)


def test_many_reads_arrive_once_each(objects):
    etags = [objects.put(f"n{number}", DATA[number:]).etag for number in range(4)]
    rng = random.Random(2)
    wanted = []
    for _ in range(200):
        number, first, count = rng.randrange(4), rng.randrange(100_000), rng.choice([0, 1, 5000])
        wanted.append(Request(f"n{number}", first, count, etags[number]))
    found = list(objects.read_many(wanted))
    assert len(found) == len(wanted)
    seen = dict(found)
    for position, one in enumerate(wanted):
        start = int(one.name[1:]) + one.first
        assert seen[position] == DATA[start : start + one.count]
    assert list(objects.read_many([])) == []


def test_large_objects_are_read_in_parts_and_written_from_files(objects, tmp_path, monkeypatch):
    monkeypatch.setattr(object_store, "PART_BYTES", 1_000_000)
    path = tmp_path / "large"
    data = DATA * 60  # More than a part of an upload.
    path.write_bytes(data)
    made = objects.put("large", path)
    assert made.size == len(data)
    assert facts(objects.head("large")) == facts(made)
    assert objects.read("large") == data
    sizes = (5_600_000, 10, 1_000_000)
    seen = dict(objects.read_many([Request("large", 7, size) for size in sizes]))
    assert [seen[place] for place in range(3)] == [data[7 : 7 + size] for size in sizes]


def test_another_version_is_not_read(objects):
    old = objects.put("a", DATA).etag
    new = objects.put("a", DATA[::-1]).etag
    assert old != new
    assert objects.read("a", 5, 10, etag=new) == DATA[::-1][5:15]
    for call in (
        lambda: objects.read("a", 5, 10, etag=old),
        lambda: objects.read("a", etag=old),
        lambda: list(objects.read_many([Request("a", 0, 5, new), Request("a", 0, 5, old)])),
    ):
        with pytest.raises(RemoteError, match="open it again"):
            call()


def test_conditions_of_writes(objects):
    assert objects.put("a", b"other", if_match="0" * 32) is None
    first = objects.put("a", b"one", if_absent=True)
    assert objects.put("a", b"two", if_absent=True) is None
    assert objects.read("a") == b"one"
    second = objects.put("a", b"two", if_match=first.etag)
    assert facts(objects.head("a")) == facts(second)
    assert objects.put("a", b"three", if_match=first.etag) is None
    assert objects.read("a") == b"two"
    objects.put("a", b"four")
    assert objects.read("a") == b"four"


def test_copies_and_deletions(objects):
    objects.put("a/b/c", DATA)
    objects.put("a/d", b"d")
    objects.copy("a/b/c", "e/f")
    assert objects.read("e/f") == DATA
    with pytest.raises(StoreNotFoundError, match="missing"):
        objects.copy("missing", "g")
    objects.delete(["missing", "a/b/c", "a/b/c", "a/b/missing"])
    assert names(objects.find()) == ["a/d", "e/f"]
    objects.delete(iter(["a/d", "e/f"]))
    assert objects.find() == []
    objects.delete([])


def test_one_of_many_writers_wins(objects):
    start = objects.put("pointer", b"start").etag
    barrier = threading.Barrier(8)

    def write(number):
        barrier.wait()
        made = objects.put("new", b"%d" % number, if_absent=True) is not None
        return made, objects.put("pointer", b"%d" % number, if_match=start) is not None

    with ThreadPoolExecutor(8) as writers:
        won = list(writers.map(write, range(8)))
    for name, column in (("new", 0), ("pointer", 1)):
        (winner,) = [number for number, one in enumerate(won) if one[column]]
        assert objects.read(name) == b"%d" % winner


@pytest.mark.parametrize(
    "name",
    ["", "/a", "a/", "a//b", "..", "../a", "a/../../b", ".", "a/./b", "a\0b", "a\nb", "a\\b"],
)
def test_names_that_leave_the_prefix_are_refused(name, objects):
    for call in (
        lambda: objects.read(name),
        lambda: objects.read(name, 0, 1),
        lambda: list(objects.read_many([Request(name, 0, 1)])),
        lambda: objects.head(name),
        lambda: objects.put(name, b""),
        lambda: objects.copy(name, "a"),
        lambda: objects.copy("a", name),
        lambda: objects.delete([name]),
    ):
        with pytest.raises(ValueError, match="an object's name must be"):
            call()


@pytest.mark.parametrize("name", ["a b", "ä/ü", "100%", "a%20b", "+&=;,@", "c/0/0", "~x.json"])
def test_names_are_taken_literally(name, objects):
    objects.put(f"p/{name}", DATA[:100])
    assert objects.read(f"p/{name}") == DATA[:100]
    assert objects.read(f"p/{name}", 5, 10) == DATA[5:15]
    assert names(objects.find("p/")) == [f"p/{name}"]
    objects.copy(f"p/{name}", f"q/{name}")
    objects.delete([f"p/{name}"])
    assert names(objects.find()) == [f"q/{name}"]


def test_a_local_file_that_is_missing_is_not_a_missing_object(objects, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        objects.put("a", tmp_path / "missing")
    assert not isinstance(caught.value, StoreNotFoundError)
    assert objects.find() == []


def test_objects_are_pickled_by_their_url(objects):
    objects.put("a", DATA)
    again = pickle.loads(pickle.dumps(objects))
    assert (again.url, repr(again)) == (objects.url, repr(objects))
    assert again.read("a", 3, 4) == DATA[3:7]


def test_a_missing_bucket_is_an_error_of_its_own(object_url):
    objects = objects_at(object_url.replace("embstore-tests", "embstore-missing"))
    for call in (lambda: objects.read("a"), lambda: objects.read("a", 0, 1)):
        with pytest.raises(StoreNotFoundError, match="embstore-missing"):
            call()
    assert objects.head("a") is None


def test_wrong_keys_are_told_by_the_variables_that_hold_them(object_url, no_credentials):
    no_credentials.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    objects = objects_at(object_url)
    for call in (lambda: objects.read("a"), objects.find, lambda: objects.put("a", b"")):
        with pytest.raises(RemoteError, match="AWS_SECRET_ACCESS_KEY") as caught:
            call()
        assert "SignatureDoesNotMatch" in str(caught.value)
        assert not isinstance(caught.value, StoreNotFoundError)


def test_web_servers_can_only_be_read(file_server):
    (file_server.directory / "deep").mkdir()
    (file_server.directory / "deep" / "a b").write_bytes(DATA)
    objects: Any = objects_at(f"{file_server.url}/deep/")
    info = objects.head("a b")
    assert info.size == len(DATA)
    assert objects.read("a b") == DATA
    assert objects.read("a b", 5, 10, etag=info.etag) == DATA[5:15]
    many = dict(objects.read_many([Request("a b", 1, 2, info.etag)] * 40))
    assert many == dict.fromkeys(range(40), DATA[1:3])
    assert objects.head("missing") is None
    with pytest.raises(StoreNotFoundError, match="deep/missing"):
        objects.read("missing", 0, 1)
    (file_server.directory / "deep" / "a b").write_bytes(DATA[::-1] + b"!")
    with pytest.raises(RemoteError, match="open it again"):
        objects.read("a b", 5, 10, etag=info.etag)
    asked = len(file_server.paths)
    for call in (objects.find, objects.directories):
        with pytest.raises(RemoteError, match="cannot be listed"):
            call()
    for change in (
        lambda: objects.put("b", b""),
        lambda: objects.copy("a b", "b"),
        lambda: objects.delete(["a b"]),
    ):
        with pytest.raises(RemoteError, match="can only be read"):
            change()
    assert len(file_server.paths) == asked


@pytest.fixture
def lossy(no_credentials):
    """A store whose answers to writes may be lost, and objects on it."""
    no_credentials.setattr(requests, "_FIRST_PAUSE", 0.001)
    with bad.misbehaving({"old": b"old"}) as store:
        no_credentials.setenv("AWS_ENDPOINT_URL", store.url)
        yield store, objects_at("s3://bucket")


def test_a_write_whose_answer_was_lost_is_recognised(lossy):
    store, objects = lossy
    store.script = [bad.done_unheard]
    assert objects.put("new", b"mine", if_absent=True).size == 4
    store.script = [bad.done_unheard]
    etag = objects.head("old").etag
    store.script = [bad.done_unheard]
    made = objects.put("old", b"mine", if_match=etag)
    assert facts(made) == ("old", 4, bad.etag_of(b"mine").strip('"'))
    store.script = [bad.done_unheard, bad.done_unheard]
    objects.delete(["old", "new"])
    assert store.objects == {}


def test_a_write_that_another_beat_while_its_answer_was_lost_is_not_believed(lossy):
    store, objects = lossy

    def beaten(answer, line):
        store.objects[line.asked.key] = b"hers"
        return False

    etag = objects.head("old").etag
    store.script = [beaten]
    assert objects.put("new", b"mine", if_absent=True) is None
    store.script = [beaten]
    assert objects.put("old", b"mine", if_match=etag) is None
    assert store.objects == {"new": b"hers", "old": b"hers"}


def test_conflicts_of_writers_are_tried_again(lossy):
    store, objects = lossy
    store.script = [bad.status(409, "ConditionalRequestConflict")] * 2
    assert objects.put("new", b"mine", if_absent=True).size == 4
    assert store.objects["new"] == b"mine"


def test_copies_that_fail_behind_a_good_status_are_tried_again(lossy):
    store, objects = lossy

    def fail(answer, line):
        del store.objects[line.asked.key]
        line.send(bad.Answer(200, {}, b"<Error><Code>InternalError</Code></Error>").whole())
        return True

    store.script = [fail]
    objects.copy("old", "new")
    assert store.objects["new"] == b"old"


@pytest.mark.parametrize("damage", ["twice", "not XML", "outside"])
def test_listings_that_are_wrong_are_errors(damage, lossy):
    store, _ = lossy
    entry = (
        "<Contents><Key>{}</Key><Size>3</Size><ETag>x</ETag>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
    )
    body = {
        "twice": entry.format("p/a") * 2,
        "not XML": "<Contents",
        "outside": entry.format("q/a"),
    }[damage]
    answer = bad.Answer(200, {}, f"<ListBucketResult>{body}</ListBucketResult>".encode())

    def lie(_, line):
        line.send(answer.whole())
        return True

    store.always = lie
    with pytest.raises(RemoteError, match="list"):
        objects_at("s3://bucket/p").find()


def test_listings_that_never_end_are_errors(lossy, monkeypatch):
    store, objects = lossy
    monkeypatch.setattr(object_store, "_MAX_OBJECTS", 2500)
    numbers = iter(range(10**9))

    def page(_, line):
        entries = "".join(
            f"<Contents><Key>n{next(numbers)}</Key><Size>1</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for _ in range(1000)
        )
        more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
        body = f"<ListBucketResult>{more}{entries}</ListBucketResult>"
        line.send(bad.Answer(200, {}, body.encode()).whole())
        return True

    store.always = page
    with pytest.raises(RemoteError, match="list"):
        objects.find()


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    objects = objects_at(f"file://{tmp_path}/file/below")
    with pytest.raises(RemoteError, match="file/below/a"):
        objects.put("a", b"")
    assert objects.find() == []
    assert objects.head("a") is None


def test_unfinished_uploads_are_not_objects_and_old_ones_are_removed(tmp_path):
    objects = objects_at(f"file://{tmp_path}")
    objects.put("a", b"a")
    (uploads,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    old, new = uploads / "old", uploads / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    os.utime(old, (1, 1))
    objects.put("b", b"b")
    assert names(objects.find()) == ["a", "b"]
    assert objects.directories() == []
    assert (old.exists(), new.exists()) == (False, True)


def _race(url, number, barrier, results):
    objects: Any = objects_at(url)
    barrier.wait()
    won = 0
    for turn in range(8):
        won += objects.put(f"n{turn}", b"%d" % number, if_absent=True) is not None
        while True:  # Count up together.
            now = objects.head("count")
            try:
                value = int(objects.read("count", etag=now.etag))
            except RemoteError:  # Another was written meanwhile.
                continue
            if objects.put("count", b"%d" % (value + 1), if_match=now.etag) is not None:
                break
    results.put(won)


def test_processes_that_write_to_one_directory(tmp_path):
    url = f"file://{tmp_path}"
    objects_at(url).put("count", b"0")
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=_race, args=(url, number, barrier, results)) for number in range(3)
    ]
    for process in processes:
        process.start()
    assert sum(results.get(timeout=300) for _ in processes) == 8
    for process in processes:
        process.join()
    assert int(objects_at(url).read("count")) == 24


@pytest.mark.parametrize(
    ("url", "root", "prefix", "shown"),
    [
        ("s3://bucket", "bucket", "", "s3://bucket"),
        ("s3://bucket/", "bucket", "", "s3://bucket"),
        ("s3://bucket/a/b/", "bucket", "a/b", "s3://bucket/a/b"),
        ("s3://bucket/a%20b", "bucket", "a%20b", "s3://bucket/a%20b"),
        ("s3://bucket/a b", "bucket", "a b", "s3://bucket/a b"),
        ("S3A://my.bucket_1/a", "my.bucket_1", "a", "s3a://my.bucket_1/a"),
        ("gs://bucket/a", "bucket", "a", "gs://bucket/a"),
        ("az://$web/a", "$web", "a", "az://$web/a"),
        (
            "abfss://c-1@account.dfs.core.windows.net/a",
            "c-1",
            "a",
            "abfss://c-1@account.dfs.core.windows.net/a",
        ),
        ("https://h.org/a%20b/", "https://h.org", "a%20b", "https://h.org/a%20b"),
        ("https://h.org:8443", "https://h.org:8443", "", "https://h.org:8443"),
        ("https://[::1]:80/a", "https://[::1]:80", "a", "https://[::1]:80/a"),
        ("file:///a/b", "", "/a/b", "file:///a/b"),
        ("file:/a/b/", "", "/a/b", "file:///a/b"),
        ("file://localhost/a%20b", "", "/a b", "file:///a%20b"),
        ("file:///", "", "/", "file:///"),
    ],
)
def test_urls_are_taken_apart(url, root, prefix, shown):
    found = as_location(url)
    assert (found.root, found.prefix, found.url) == (root, prefix, shown)


@pytest.mark.parametrize(
    "url",
    [
        *("", "bucket/a", "/a/b", "s3:", "s3://", "s3:bucket", "s3:///a", "s3://b", "s3://bu cket"),
        *("s3://bucket//a", "s3://bucket/a//b", "s3://bucket/../a", "s3://bucket/./a"),
        *("s3://bucket\\a", "s3://bucket/a\nb", "s3://bucket:80/a", "gs://", "az://c@account/a"),
        *("abfss://c@example.org/a", "https://", "https:///a", "https://h.org:x/a", "https://[/a"),
        *("https://h.org/../a", "https://h.org/%2e%2e/a", "https://h.org/a%2f..%2f..", "ftp://h/a"),
        *("file://host/a", "file:a", "file://", "memory://a", "s3://" + "a" * 5000, "s3s://b/a"),
    ],
)
def test_urls_that_are_refused(url):
    with pytest.raises(ValueError, match=r"^url must "):
        as_location(url)


@pytest.mark.parametrize("url", [None, 3, b"s3://bucket", Path("/a"), ["s3://bucket"]])
def test_urls_of_other_types_are_refused(url):
    with pytest.raises(TypeError, match="url must be a str"):
        objects_at(url)


def test_missing_obstore_is_told(monkeypatch, no_credentials):
    no_credentials.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ImportError, match=r'pip install "embstore\[remote\]"'):
        objects_at("s3://bucket")


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(0, ValueError), (-1, ValueError), (float("inf"), ValueError), (float("nan"), ValueError),
     (1e9, ValueError), ("5", TypeError), (True, TypeError), (None, TypeError)],
)  # fmt: skip
def test_timeouts_are_bounded(timeout, error):
    with pytest.raises(error, match="timeout"):
        objects_at("file:///tables", timeout=timeout)


@pytest.mark.parametrize("allow_http", ["no", 2, None])
def test_flags_are_flags(allow_http):
    with pytest.raises(TypeError, match="allow_http"):
        objects_at("file:///tables", allow_http=allow_http)


def test_a_directory_that_is_closed_to_us_is_not_an_empty_one(tmp_path, monkeypatch):
    objects = objects_at(f"file://{tmp_path}")
    objects.put("a/b", b"")
    scan = os.scandir

    def closed(path):
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(RemoteError, match="Permission denied"):
        objects.find()


def test_pipes_are_not_objects(tmp_path):
    objects = objects_at(f"file://{tmp_path}")
    objects.put("a", b"a")
    (tmp_path / "v").mkdir()
    os.mkfifo(tmp_path / "v" / "pipe")
    assert names(objects.find()) == ["a"]
    assert objects.directories() == []
    assert objects.head("v/pipe") is None
