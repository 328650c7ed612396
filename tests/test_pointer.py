"""The pointer to the current version of a published store, and names of versions."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from embstore.errors import (
    RemoteError,
    StoreCorruptError,
    StoreNotFoundError,
    StoreVersionError,
)
from embstore.remote.pointer import (
    Pointer,
    move_pointer,
    put_pointer,
    read_pointer,
    resolve,
)
from tests.helpers.objects import MemoryObjects, WatchedObjects
from tests.helpers.published import pointer_of

TABLES = [32 * digit for digit in "abc"]
NAMES = [f"{TABLES[0]}-00000001", f"{TABLES[0]}-00000002", f"{TABLES[1]}-00000001"]


@pytest.fixture
def objects():
    """Three versions, published in order, and objects that are not versions."""
    made = MemoryObjects()
    pointer = None
    for name in NAMES:
        made.put(f"{name}/zarr.json", b"{}")
        pointer = move_pointer(made, pointer, name)
    made.put(f"{TABLES[2]}-00000001/partitions/0/c/0/0", b"unfinished")
    for name in ("notes/zarr.json", f"{TABLES[2]}/zarr.json", f"{NAMES[0].upper()}/zarr.json"):
        made.put(name, b"{}")
    return made


def write(objects, **fields):
    objects.put("current.json", json.dumps(fields).encode())


def test_the_pointer_moves_and_remembers():
    objects = MemoryObjects()
    assert read_pointer(objects) is None
    pointer: Pointer | None = None
    for name in (NAMES[0], NAMES[1], NAMES[0]):
        pointer = move_pointer(objects, pointer, name)
        assert pointer_of(objects) == pointer
        assert read_pointer(objects) == name
    assert pointer_of(objects).previous == (NAMES[1],)
    assert json.loads(objects.data["current.json"]) == {
        "embstore_pointer": 1,
        "version": NAMES[0],
        "previous": [NAMES[1]],
    }


def test_a_pointer_that_has_moved_is_left():
    objects = MemoryObjects()
    move_pointer(objects, None, NAMES[0])
    first = pointer_of(objects)
    assert move_pointer(objects, None, NAMES[1]) is None
    assert move_pointer(objects, first, NAMES[1])
    assert move_pointer(objects, first, NAMES[2]) is None
    assert read_pointer(objects) == NAMES[1]
    with pytest.raises(RemoteError, match=r"current\.json has no ETag"):
        move_pointer(objects, replace(first, etag=None), NAMES[2])


def test_the_history_is_bounded():
    objects = MemoryObjects()
    pointer = None
    for number in range(120):
        pointer = move_pointer(objects, pointer, f"{TABLES[0]}-{number:08x}")
    assert len(pointer_of(objects).previous) == 100


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, NAMES[2]),
        *((name, name) for name in NAMES),
        (TABLES[0], NAMES[1]),  # Its newest layout.
        (TABLES[1], NAMES[2]),
    ],
)
def test_versions_are_resolved(objects, asked, expected):
    assert resolve(objects, asked) == expected


@pytest.mark.parametrize(
    "asked",
    [TABLES[2], f"{TABLES[2]}-00000001", NAMES[0].upper(), "", "notes", "../x", NAMES[0][:-1]],
)
def test_missing_versions_are_listed(objects, asked):
    with pytest.raises(StoreNotFoundError) as error:
        resolve(objects, asked)
    assert f"no version '{asked}' is published at memory://bucket/tables" in str(error.value)
    newest_first = ", ".join(reversed(NAMES))
    assert str(error.value).endswith(f"the newest first: {newest_first}")


def test_layouts_of_the_same_time_are_ordered_by_the_pointer(objects):
    for name, info in objects.infos.items():
        objects.infos[name] = replace(info, modified=objects.now)
    assert resolve(objects, TABLES[0]) == NAMES[1]
    move_pointer(objects, pointer_of(objects), NAMES[0])
    assert resolve(objects, TABLES[0]) == NAMES[0]
    for name, info in objects.infos.items():
        objects.infos[name] = replace(info, modified=None)
    assert resolve(objects, TABLES[0]) == NAMES[0]


@pytest.mark.parametrize("version", [3, b"x", True])
def test_a_version_is_a_text(objects, version):
    with pytest.raises(TypeError, match="version must be a str"):
        resolve(objects, version)


def test_nothing_published():
    with pytest.raises(StoreNotFoundError, match=r"no store is published at memory://bucket/t"):
        resolve(MemoryObjects())
    with pytest.raises(StoreNotFoundError, match="no version is published there"):
        resolve(MemoryObjects(), NAMES[0])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not readable JSON"),
        (b"{", "is not readable JSON"),
        (b"\xff\xfe", "is not readable JSON"),
        (b"[" * 60_000, "is not readable JSON"),
        (b"[]", "is not a pointer"),
        (b"{}", "is not a pointer"),
        (b'"embstore_pointer"', "is not a pointer"),
        (b'{"embstore_pointer": true, "version": "x"}', "is not a pointer"),
        (b'{"embstore_pointer": 0, "version": "x"}', "is not a pointer"),
        (b'{"embstore_pointer": 1}', "names the version None, expected 32"),
        (b'{"embstore_pointer": 1, "version": ["x"]}', r"names the version \['x'\], expected"),
        (b'{"embstore_pointer": 1, "version": "../../etc"}', "names the version '../../etc'"),
        (b" " * (64 << 10) + b"{}", "has 65538 bytes, more than the 65536"),
    ],
)
def test_damaged_pointers(objects, data, says):
    objects.put("current.json", data)
    with pytest.raises(StoreCorruptError, match=says) as error:
        resolve(objects)
    assert "memory://bucket/tables/current.json" in str(error.value)
    assert "delete it and publish a store again" in str(error.value)
    # Other versions can still be opened, by name.
    assert resolve(objects, NAMES[0]) == NAMES[0]
    assert resolve(objects, TABLES[0]) == NAMES[1]


def test_unknown_fields_of_a_pointer_are_ignored(objects):
    write(objects, embstore_pointer=1, version=NAMES[1], previous=[3, "x", NAMES[0]], more=[])
    assert pointer_of(objects).history == (NAMES[1], NAMES[0])
    write(objects, embstore_pointer=1, version=NAMES[1], previous=7)
    assert resolve(objects) == NAMES[1]


def test_removals_are_noted(objects):
    now = datetime.now(UTC)
    before = pointer_of(objects)
    removing = ((NAMES[0], now), (NAMES[1], now - timedelta(hours=2)))
    assert put_pointer(objects, before, replace(before, removing=removing))
    pointer = pointer_of(objects)
    assert pointer.removing == removing
    assert [pointer.is_removing(name) for name in NAMES] == [True, False, False]
    # A version that is made current stays.
    move_pointer(objects, pointer, NAMES[1])
    assert pointer_of(objects).removing == removing[:1]


@pytest.mark.parametrize("removing", [3, [], {"x": "2026-01-01T00:00:00+00:00"}, {NAMES[0]: 3}])
def test_removals_that_make_no_sense_are_ignored(objects, removing):
    write(objects, embstore_pointer=1, version=NAMES[1], removing=removing)
    assert pointer_of(objects).removing == ()
    write(objects, embstore_pointer=1, version=NAMES[1], removing={NAMES[0]: "2026-01-01T00:00"})
    assert pointer_of(objects).removing == ()


def test_a_newer_pointer_is_refused(objects):
    write(objects, embstore_pointer=2, version=NAMES[1])
    with pytest.raises(StoreVersionError, match=r"pointer of version 2.*pip install -U embstore"):
        resolve(objects)


def test_a_pointer_to_a_missing_version(objects):
    objects.delete([f"{NAMES[2]}/zarr.json"])
    with pytest.raises(StoreCorruptError) as error:
        resolve(objects)
    assert f"names the version {NAMES[2]}, which is missing; publish a store" in str(error.value)
    assert NAMES[1] in str(error.value)


def test_a_pointer_that_moves_while_it_is_read(objects):
    def move(number, name, arguments):
        if name == "read" and number < 4:
            move_pointer(objects, pointer_of(objects), NAMES[number % 2])

    assert resolve(WatchedObjects(objects, move, only=("read",))) == NAMES[1]


def test_a_version_that_is_removed_while_it_is_resolved(objects):
    def remove(number, name, arguments):
        if arguments == (f"{NAMES[2]}/zarr.json",):
            move_pointer(objects, pointer_of(objects), NAMES[0])
            objects.delete(arguments)

    assert resolve(WatchedObjects(objects, remove, only=("head",))) == NAMES[0]


def test_errors_of_the_server_are_raised(objects):
    def fail(number, name, arguments):
        raise RemoteError("the server is down")

    for method in ("head", "read"):
        with pytest.raises(RemoteError, match="the server is down"):
            resolve(WatchedObjects(objects, fail, only=(method,)))


def test_servers_that_cannot_list(objects):
    def fail(number, name, arguments):
        raise RemoteError("no lists")

    watched = WatchedObjects(objects, fail, only=("directories", "find"))
    assert resolve(watched) == NAMES[2]
    assert resolve(watched, NAMES[0]) == NAMES[0]
    with pytest.raises(StoreNotFoundError, match="its versions cannot be listed"):
        resolve(watched, f"{TABLES[2]}-00000001")
    with pytest.raises(RemoteError, match="no lists"):
        resolve(watched, TABLES[0])
