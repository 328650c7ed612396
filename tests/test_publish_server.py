"""Publishing to an object store with authentication, by parallel uploads and conditional writes."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import embstore
from embstore.errors import RemoteError, StoreBusyError
from embstore.remote import local_store
from embstore.remote.pointer import find_pointer, move_pointer, read_pointer, resolve
from embstore.remote.urls import objects_at
from tests.helpers.objects import WatchedObjects
from tests.helpers.published import build, changed, check_current, download, publish
from tests.helpers.stores import make_store
from tests.servers import SECRET_KEY

OTHER = 32 * "e" + "-00000001"


@pytest.fixture
def objects(object_url):
    pytest.importorskip("obstore")
    return objects_at(object_url)


@pytest.mark.parametrize("held", [0, 4 << 20])
def test_versions_are_published_and_removed(tmp_path, object_url, objects, monkeypatch, held):
    monkeypatch.setattr(local_store, "HELD_BYTES", held)
    store = build(tmp_path / "s")
    first = embstore.publish(store, object_url)
    assert first.uploaded_bytes == first.byte_count
    check_current(objects, tmp_path / "d", store)
    other = build(tmp_path / "o", changed())
    second = embstore.publish(other, object_url)
    assert second.copied_bytes > second.uploaded_bytes / 2
    check_current(objects, tmp_path / "d2", other)
    names = [first.version, second.version]
    for number in range(3):  # Within a second, which is as exact as the server's times are.
        path = build(tmp_path / "n", changed(number))
        names.append(embstore.publish(path, object_url).version)
    found = embstore.versions(object_url)
    assert sorted(one.version for one in found) == sorted(names)
    assert found[0].is_current
    report = embstore.prune(object_url, keep=2)
    assert set(report.removed) | set(report.kept) == set(names)
    assert names[-1] in report.kept
    assert len(report.kept) == 2
    assert {one.version for one in embstore.versions(object_url)} == set(report.kept)
    check_current(objects, tmp_path / "d3", path)


def test_large_files_are_uploaded_in_parts(tmp_path, object_url, objects):
    rows = np.random.default_rng(0).standard_normal((40_000, 128), np.float32)
    path = tmp_path / "large"
    make_store(path, rows, chunk_rows=1 << 15).close()
    assert max(one.stat().st_size for one in path.rglob("*") if one.is_file()) > 16 << 20
    report = embstore.publish(path, object_url)
    assert report.uploaded_bytes == report.byte_count > 20 << 20
    check_current(objects, tmp_path / "d", path)


def test_an_interrupted_publish_goes_on(tmp_path, objects):
    store = build(tmp_path / "s")

    def fail(number, name, arguments):
        if name == "put" and number > 9:
            raise RemoteError("the network is down")

    with pytest.raises(RemoteError, match="the network is down"):
        publish(store, WatchedObjects(objects, fail))
    assert read_pointer(objects) is None
    there = sum(info.size for info in objects.find() if "/c/" in info.name)
    assert publish(store, objects).kept_bytes == there > 0
    check_current(objects, tmp_path / "d", store)


def test_a_pointer_that_moves_meanwhile_names_the_winner(tmp_path, objects):
    publish(build(tmp_path / "first"), objects)

    def move(number, name, arguments):
        if number == 0:
            move_pointer(objects, find_pointer(objects), OTHER)

    with pytest.raises(StoreBusyError, match=f"another publisher made {OTHER} the current"):
        publish(build(tmp_path / "s", changed()), WatchedObjects(objects, move))
    assert read_pointer(objects) == OTHER


def test_publishers_at_the_same_time(tmp_path, object_url, objects):
    """One of each pair of versions wins; publishers of the same version all succeed."""
    stores = [build(tmp_path / f"s{number}", changed(number)) for number in range(3)]
    reports, errors = [], []

    def work(path):
        try:
            reports.append(embstore.publish(path, object_url))
        except StoreBusyError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=work, args=(path,)) for path in 2 * stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reports) + len(errors) == 6
    assert reports
    current = resolve(objects)
    assert current in {report.version for report in reports}
    names = {one.version for one in embstore.versions(object_url)}
    assert all(any(name in error for name in names) for error in errors)
    for number, name in enumerate(sorted(names)):
        path = download(objects, tmp_path / f"d{number}", name)
        assert embstore.verify(path).ok


def test_credentials_are_never_shown(tmp_path, object_url, no_credentials):
    store = build(tmp_path / "s")
    report = embstore.publish(store, object_url)
    shown = [str(report), repr(report), repr(embstore.versions(object_url))]
    no_credentials.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY[::-1])
    for call in (
        lambda: embstore.publish(store, object_url),
        lambda: embstore.versions(object_url),
        lambda: embstore.prune(object_url),
    ):
        with pytest.raises(RemoteError) as error:
            call()
        shown += [str(error.value), repr(error.value)]
    assert not any(SECRET_KEY in text or SECRET_KEY[::-1] in text for text in shown)
