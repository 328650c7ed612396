"""Versions at a URL: which there are, and which are removed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

import embstore
from embstore.errors import RemoteError, StoreBusyError, StoreCorruptError
from embstore.remote import versions as module
from embstore.remote.pointer import move_pointer, read_pointer, root_name
from embstore.remote.versions import UNFINISHED_AGE, prune_objects
from tests.helpers.objects import MemoryObjects, WatchedObjects
from tests.helpers.published import check_current, pointer_of, publish

NEVER = 32 * "c" + "-00000001"


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Objects with four versions, and the names of these, the oldest first."""
    objects = MemoryObjects()
    monkeypatch.setattr(module, "objects_to_write", lambda url, allow_http: objects)
    names = []
    for number in range(4):
        path = tmp_path / f"s{number}"
        embstore.build(np.full((8, 4), number, np.float32), path, partitions=2).close()
        names.append(publish(path, objects).version)
    return objects, names


def listed():
    return [one.version for one in embstore.versions("memory:")]


def add_unfinished(objects, *, age):
    """Add what a publish has left, its latest object ``age`` ago."""
    for number, name in enumerate((f"{NEVER}/partitions/zarr.json", f"{NEVER}/partitions/0/c/0/0")):
        objects.put(name, b"12345678")
        modified = datetime.now(UTC) - age - timedelta(days=number)
        objects.infos[name] = replace(objects.infos[name], modified=modified)


def test_versions_are_listed_with_the_newest_first(made):
    objects, names = made
    add_unfinished(objects, age=timedelta(0))
    objects.put("notes/zarr.json", b"{}")
    objects.put(f"{NEVER.upper()}/zarr.json", b"{}")
    found = embstore.versions("memory:")
    assert [one.version for one in found] == [*reversed(names), NEVER]
    for one in found[:-1]:
        infos = objects.find(f"{one.version}/")
        assert f"{one.fingerprint}-{one.layout}" == one.version
        assert one.object_count == len(infos)
        assert one.byte_count == sum(info.size for info in infos)
        assert one.published == objects.head(root_name(one.version)).modified
        assert one.is_complete
        assert one.is_current == (one.version == names[-1])
    last = found[-1]
    assert (last.is_complete, last.is_current, last.published) == (False, False, None)
    assert (last.object_count, last.byte_count) == (2, 16)


def test_a_version_that_is_made_current_again_is_not_newer(made, tmp_path):
    objects, names = made
    publish(tmp_path / "s1", objects)
    assert listed() == names[::-1]
    assert [one.version for one in embstore.versions("memory:") if one.is_current] == [names[1]]


def test_versions_of_the_same_second_are_in_the_order_of_the_pointer(made):
    """Object stores tell times by the second."""
    objects, names = made
    for name, info in objects.infos.items():
        objects.infos[name] = replace(info, modified=objects.now)
    assert listed() == names[::-1]
    assert prune_objects(objects, 2).kept == (names[3], names[2])


def test_versions_are_listed_where_the_pointer_is_damaged(made):
    objects, names = made
    objects.put("current.json", b"{")
    assert listed() == names[::-1]
    with pytest.raises(StoreCorruptError, match=r"current\.json is not readable JSON"):
        embstore.prune("memory:", keep=1)
    assert listed() == names[::-1]


def test_nothing_published(monkeypatch):
    objects = MemoryObjects()
    monkeypatch.setattr(module, "objects_to_write", lambda url, allow_http: objects)
    assert embstore.versions("memory:") == []
    assert embstore.prune("memory:").removed == ()


@pytest.mark.parametrize("keep", range(6))
@pytest.mark.parametrize("current", range(4))
def test_old_versions_are_removed(made, tmp_path, keep, current):
    objects, names = made
    publish(tmp_path / f"s{current}", objects)
    before = {name: len(data) for name, data in objects.data.items()}
    stays = {names[current], *names[::-1][:keep]}
    report = embstore.prune("memory:", keep=keep)
    assert set(report.kept) == stays
    assert set(report.removed) == set(names) - stays
    gone = {name: size for name, size in before.items() if name not in objects.data}
    assert {name.partition("/")[0] for name in gone} == set(report.removed)
    assert (report.object_count, report.byte_count) == (len(gone), sum(gone.values()))
    assert set(listed()) == stays
    check_current(objects, tmp_path / "d", tmp_path / f"s{current}")
    assert pointer_of(objects).removing == ()
    # Nothing is left to do.
    watched = WatchedObjects(objects)
    assert prune_objects(watched, keep).removed == ()
    assert watched.calls == []


def test_three_are_kept_by_default(made):
    _, names = made
    assert embstore.prune("memory:").removed == (names[0],)


def test_the_root_is_removed_first(made):
    objects, names = made
    watched = WatchedObjects(objects)
    prune_objects(watched, 1)
    deleted = [list(arguments[0]) for name, arguments in watched.calls if name == "delete"]
    for name in names[:3]:
        of_it = [one for some in deleted for one in some if one.startswith(name)]
        assert of_it[0] == root_name(name)
        assert [root_name(name)] in deleted


@pytest.mark.parametrize(
    ("age", "is_removed"),
    [
        (timedelta(0), False),
        (UNFINISHED_AGE - timedelta(minutes=1), False),
        (UNFINISHED_AGE + timedelta(minutes=1), True),
    ],
)
def test_unfinished_objects_are_removed_when_they_are_old(made, age, is_removed):
    objects, names = made
    add_unfinished(objects, age=age)
    report = prune_objects(objects, 4)
    assert report.removed == ((NEVER,) if is_removed else ())
    assert bool(objects.find(NEVER)) != is_removed
    assert set(names) <= set(report.kept)


def test_unfinished_objects_without_a_time_stay(made):
    objects, _ = made
    add_unfinished(objects, age=2 * UNFINISHED_AGE)
    name = f"{NEVER}/partitions/zarr.json"
    objects.infos[name] = replace(objects.infos[name], modified=None)
    assert prune_objects(objects, 4).removed == ()


def test_what_the_pointer_names_stays_although_it_is_unfinished(made):
    objects, names = made
    add_unfinished(objects, age=2 * UNFINISHED_AGE)
    move_pointer(objects, pointer_of(objects), NEVER)
    assert set(prune_objects(objects, 0).removed) == set(names)
    assert objects.find(NEVER)
    assert read_pointer(objects) == NEVER


def test_nothing_is_removed_without_a_pointer(made):
    objects, names = made
    objects.delete(["current.json"])
    report = embstore.prune("memory:", keep=0)
    assert (report.removed, report.kept) == ((), tuple(names[::-1]))
    assert listed() == names[::-1]


def test_foreign_objects_stay(made):
    objects, _ = made
    for name in ("a.txt", "notes/zarr.json", f"x-{NEVER}/zarr.json", f"{NEVER.upper()}/zarr.json"):
        objects.put(name, b"{}")
        prune_objects(objects, 0)
        assert name in objects.data


def test_a_removal_that_is_too_slow_stops(made, monkeypatch):
    objects, names = made
    times = iter([0.0, *(3600.0 for _ in range(9))])
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(times)))
    with pytest.raises(StoreBusyError, match="takes too long, and was stopped; an hour after"):
        prune_objects(objects, 1)
    assert [name for name, _ in pointer_of(objects).removing] == names[2::-1]


def test_errors_of_the_server_are_raised(made):
    objects, _ = made

    def fail(number, name, arguments):
        raise RemoteError("the server is down")

    for method in ("find", "directories", "head", "delete"):
        with pytest.raises(RemoteError, match="the server is down"):
            prune_objects(WatchedObjects(objects, fail, only=(method,)), 1)
        pointer = pointer_of(objects)
        assert bool(pointer.removing) == (method == "delete")


def test_progress_counts_bytes(made):
    seen: list[embstore.Progress] = []
    report = embstore.prune("memory:", keep=1, progress=seen.append)
    assert {one.total_bytes for one in seen} == {report.byte_count}
    done = [one.done_bytes for one in seen]
    assert done == sorted(done)
    assert done[-1] == report.byte_count


def test_many_objects_are_removed_in_turns(made, monkeypatch):
    objects, names = made
    monkeypatch.setattr(module, "_DELETED_AT_ONCE", 2)
    assert set(prune_objects(objects, 1).removed) == set(names[:3])
    assert {info.name.partition("/")[0] for info in objects.find()} == {names[3], "current.json"}


@pytest.mark.parametrize(("keep", "says"), [(-1, "from 0 to 16777216"), (1.5, "an integer")])
def test_wrong_counts(made, keep, says):
    with pytest.raises((ValueError, TypeError), match=f"keep must be {says}"):
        embstore.prune("memory:", keep=keep)


def test_the_report_reads_well(made):
    report = embstore.prune("memory:", keep=1)
    assert str(report) == (
        f"removed 3 of 4 versions at memory://bucket/tables: {report.object_count} objects, "
        f"{report.byte_count:,} bytes"
    )
