"""Publishes and removals that are killed at each step, and others that run at each step of one."""

from __future__ import annotations

import random
import signal
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.errors import StoreBusyError
from embstore.formats.own import spec
from embstore.remote import publishing
from embstore.remote.local_store import open_local
from embstore.remote.pointer import (
    REMOVAL_AGE,
    put_pointer,
    read_pointer,
    resolve,
    root_name,
)
from embstore.remote.publishing import publish_store
from embstore.remote.versions import prune_objects
from tests.helpers.objects import CHANGES, MemoryObjects, Turns, WatchedObjects
from tests.helpers.programs import run_python
from tests.helpers.published import check_current, current_rows, download, pointer_of, publish
from tests.helpers.stores import make_store

# Every call: others may also act between those that change something.
CALLS = (*CHANGES, "find", "head", "read", "read_many", "directories")
ROWS = np.arange(24, dtype=np.float32).reshape(6, 4)


class Killed(BaseException):
    """What ends a publisher."""


@pytest.fixture
def stores(tmp_path):
    """Two stores that share chunks, opened for publishing."""
    paths = []
    for number in range(2):
        rows = ROWS.copy()
        rows[5] -= number
        path = tmp_path / f"s{number}"
        make_store(
            path, rows, [f"w{word}" for word in range(6)], partitions=2, chunk_rows=2
        ).close()
        paths.append(path)
    return paths


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch):
    """Upload one file after the other, so that steps have an order."""
    monkeypatch.setattr(publishing, "IN_FLIGHT", 0)


def rows_of(store):
    with embstore.open(store) as opened:
        return opened[:]


def kill_at(step, *, after):
    """Return a function that ends a publisher before a call, or after it."""

    def kill(number, name, arguments):
        if number == step + after:
            raise Killed

    return kill


def count_calls(work, objects, only=CALLS):
    watched = WatchedObjects(objects, only=only)
    work(watched)
    return len(watched.calls)


@pytest.mark.parametrize("only", [CHANGES, CALLS], ids=["changes", "calls"])
@pytest.mark.parametrize("old", [False, True], ids=["first", "second"])
def test_a_publish_killed_at_each_step(tmp_path, stores, only, old):
    new = open_local(stores[1])

    def start():
        objects = MemoryObjects()
        if old:
            publish(stores[0], objects)
        return objects

    steps = count_calls(lambda objects: publish_store(new, objects), start(), only)
    assert steps > 8
    finished = 0
    for step in range(steps + 1):
        objects = start()
        try:
            publish_store(new, WatchedObjects(objects, kill_at(step, after=0), only))
        except Killed:
            pass
        else:
            finished += 1
        rows = current_rows(objects, tmp_path / f"now-{step}")
        if rows is None:
            assert not old
        else:
            is_new = read_pointer(objects) == new.version
            assert rows.tobytes() == rows_of(stores[is_new]).tobytes()
        publish_store(new, objects)
        check_current(objects, tmp_path / f"then-{step}", stores[1])
        if old:
            before = resolve(objects, open_local(stores[0]).version)
            found = embstore.open(download(objects, tmp_path / f"old-{step}", before))
            assert found[:].tobytes() == rows_of(stores[0]).tobytes()
    assert finished == 1


def acting(step, work):
    """Return a function that does something else before a call."""

    def act(number, name, arguments):
        if number == step:
            work()

    return act


@pytest.mark.parametrize("same", [False, True], ids=["other version", "same version"])
@pytest.mark.parametrize("old", [False, True], ids=["first", "second"])
def test_two_publishers_at_each_step(tmp_path, stores, same, old):
    """While one publishes, another one does at a step; the first is told, or both have the same."""
    slow, fast = open_local(stores[1]), open_local(stores[1 if same else 0])

    def start():
        objects = MemoryObjects()
        if old:
            other = tmp_path / "old"
            embstore.build(ROWS + 100, other, overwrite=True).close()
            publish(other, objects)
        return objects

    steps = count_calls(lambda objects: publish_store(slow, objects), start())
    told = []
    for step in range(steps):
        objects = start()
        act = acting(step, lambda objects=objects: publish_store(fast, objects))
        try:
            publish_store(slow, WatchedObjects(objects, act, CALLS))
        except StoreBusyError as error:
            told.append(str(error))
            assert read_pointer(objects) == fast.version
        current = stores[read_pointer(objects) == slow.version]
        check_current(objects, tmp_path / f"d-{step}", current)
        for store in (slow, fast):
            path = download(objects, tmp_path / f"{store.path.name}-{step}", store.version)
            assert embstore.verify(path).ok
    if same:
        assert told == []
    else:
        # Before the pointer is read, or once it has moved, the other one is just first or second.
        assert len(told) > steps - 8
        (message,) = set(told)
        assert f"another publisher made {fast.version} the current version" in message


def two_published(stores):
    objects = MemoryObjects()
    for store in stores:
        publish(store, objects)
    return objects


def later(objects):
    """Let an hour pass for removals that have begun."""
    pointer = pointer_of(objects)
    removing = tuple((name, since - REMOVAL_AGE) for name, since in pointer.removing)
    assert put_pointer(objects, pointer, replace(pointer, removing=removing))


def test_a_removal_killed_at_each_step(tmp_path, stores):
    gone = open_local(stores[0])
    objects = two_published(stores)
    steps = count_calls(lambda watched: prune_objects(watched, 1), objects)
    assert steps > 5
    refused = 0
    for step in range(steps):
        objects = two_published(stores)
        with pytest.raises(Killed):
            prune_objects(WatchedObjects(objects, kill_at(step, after=0), CALLS), 1)
        check_current(objects, tmp_path / f"now-{step}", stores[1])
        if objects.head(root_name(gone.version)) is not None:  # Whole, or not there.
            path = download(objects, tmp_path / f"old-{step}", gone.version)
            assert embstore.verify(path).ok
        if pointer_of(objects).removing:
            refused += 1
            with pytest.raises(StoreBusyError, match="is being removed from memory:"):
                publish_store(gone, objects)
            assert prune_objects(objects, 1).removed == ()
            later(objects)
        if step % 2:
            there = objects.find(gone.version)
            assert prune_objects(objects, 1).removed == ((gone.version,) if there else ())
            assert objects.find(gone.version) == []
            # Nothing was left to be removed, and the name stays in the pointer.
            assert bool(pointer_of(objects).removing) == (not there)
        publish_store(gone, objects)
        check_current(objects, tmp_path / f"then-{step}", stores[0])
        assert pointer_of(objects).removing == ()
    assert refused > 3


@pytest.mark.parametrize("keep", [0, 1])
def test_a_removal_at_each_step_of_a_publish(tmp_path, stores, keep):
    """An old version is published again while it is removed."""
    again = open_local(stores[0])
    objects = two_published(stores)
    for step in range(count_calls(lambda watched: publish_store(again, watched), objects)):
        objects = two_published(stores)
        act = acting(step, lambda objects=objects: prune_objects(objects, keep))
        with suppress(StoreBusyError):
            publish_store(again, WatchedObjects(objects, act, CALLS))
        current = stores[read_pointer(objects) != again.version]
        check_current(objects, tmp_path / f"{step}", current)


def test_a_publish_at_each_step_of_a_removal(tmp_path, stores):
    """An old version is published again while it is removed."""
    again = open_local(stores[0])
    objects = two_published(stores)
    for step in range(count_calls(lambda watched: prune_objects(watched, 1), objects)):
        objects = two_published(stores)

        def try_again(objects=objects):
            with suppress(StoreBusyError):
                publish_store(again, objects)

        report = prune_objects(WatchedObjects(objects, acting(step, try_again), CALLS), 1)
        current = stores[read_pointer(objects) != again.version]
        check_current(objects, tmp_path / f"d-{step}", current)
        assert (again.version in report.removed) == (current == stores[1])


KILLED = """
import os, signal, sys
import embstore
from embstore.remote import publishing
from embstore.remote.directory import Directory

publishing.IN_FLIGHT = 0
path, url, step, count = *sys.argv[1:3], int(sys.argv[3]), 0
put = Directory.put

def put_or_die(self, name, data, **options):
    global count
    count += 1
    if count == step + 1 and step % 2:  # While the object is written, or before.
        write = os.fsync
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
    elif count == step + 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return put(self, name, data, **options)

Directory.put = put_or_die
embstore.publish(path, url)
"""


@pytest.mark.parametrize("step", [0, 1, 6, 7, 11])
def test_a_process_that_is_killed(tmp_path, stores, step):
    url = (tmp_path / "published").as_uri()
    embstore.build(ROWS + 100, tmp_path / "old").close()
    embstore.publish(tmp_path / "old", url)
    done = run_python("-c", KILLED, stores[0], url, step, status=None)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with embstore.open(url) as store:
        assert store[:].tobytes() == (ROWS + 100).tobytes()
    report = embstore.publish(stores[0], url)
    assert (report.kept_bytes > 0) == (step > 7)
    with embstore.open(url) as store:
        assert store[:].tobytes() == ROWS.tobytes()
    assert embstore.verify(tmp_path / "published" / report.version).ok


@pytest.mark.parametrize("seed", range(60))
def test_publishers_and_removals_in_any_order(tmp_path, stores, seed):
    """Their calls take turns at random, and some end; what is current is always whole."""
    objects = two_published(stores)
    held = [open_local(store) for store in stores]
    chosen = random.Random(seed)
    works: list[Any] = [partial(publish_store, chosen.choice(held)) for _ in range(2)]
    works += [partial(prune_objects, keep=chosen.choice([0, 1])) for _ in range(2)]
    turns = Turns(chosen, Killed if seed % 2 else None)
    errors = turns.run([partial(work, objects=turns.watch(objects)) for work in works])
    assert all(isinstance(error, StoreBusyError | Killed) for error in errors), errors
    name = resolve(objects)
    check_current(objects, tmp_path / "d", stores[name == held[1].version])
    for version in (store.version for store in held):
        if version == name:
            continue
        # Another one may have lost objects if it was published while it was removed; that is told.
        found = {info.name.partition("/")[2] for info in objects.find(f"{version}/")}
        if not errors and spec.METADATA in found:
            assert embstore.verify(download(objects, tmp_path / version, version)).ok
