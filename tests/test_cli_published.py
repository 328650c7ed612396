"""The commands publish, versions and prune, run as a user runs them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from datetime import datetime

import numpy as np
import pytest

import embstore
from tests.helpers.programs import environment
from tests.helpers.programs import run_command as run
from tests.helpers.stores import flip


@pytest.fixture
def url(tmp_path):
    return (tmp_path / "published").as_uri()


@pytest.fixture
def stores(tmp_path):
    paths = [tmp_path / f"s{number}" for number in range(3)]
    for number, path in enumerate(paths):
        embstore.build(np.full((4, 2), number), path).close()
    return paths


def test_a_store_is_published_listed_and_removed(stores, url):
    assert run("versions", url).stdout == f"no version is published at {url}\n"
    names = []
    for path in stores:
        done = run("publish", path, url)
        assert done.stderr == ""
        found = re.match(r"published (\S+) at (\S+): \d+ objects, [\d,]+ bytes \(", done.stdout)
        assert found
        assert found[2] == url
        names.append(found[1])
    lines = run("versions", url).stdout.splitlines()
    assert lines[0].split() == ["version", "published", "objects", "bytes", "state"]
    assert [line.split()[0] for line in lines[1:]] == names[::-1]
    assert [line.endswith(" current") for line in lines[1:]] == [True, False, False]
    facts = json.loads(run("versions", url, "--json").stdout)
    assert [one["version"] for one in facts] == names[::-1]
    assert datetime.fromisoformat(facts[0]["published"]).tzinfo is not None
    assert facts[0]["is_current"]
    lines = run("prune", url, "--keep", 1).stdout.splitlines()
    assert sorted(lines[:2]) == sorted(f"removed {name}" for name in names[:2])
    assert lines[2].startswith(f"removed 2 of 3 versions at {url}: ")
    facts = json.loads(run("publish", stores[2], url, "--json").stdout)
    assert (facts["version"], facts["uploaded_bytes"]) == (names[2], 0)


def test_unfinished_versions_are_shown(stores, url, tmp_path):
    name = embstore.publish(stores[0], url).version
    (tmp_path / "published" / name / "zarr.json").unlink()
    embstore.publish(stores[1], url)
    assert run("versions", url).stdout.splitlines()[2].endswith("unfinished")
    facts = json.loads(run("prune", url, "--json").stdout)
    assert (facts["removed"], len(facts["kept"])) == ([], 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("publish", "glove.txt", "URL"), "embstore build"),
        (("publish", "STORE", "plain/path"), "not a path"),
        (("publish", "STORE", "https://user:SECRET@example.org/x"), "can only be read"),
        (("versions", "s3://user:SECRET@bucket/x"), "must not have a user name or password"),
        (("prune", "URL", "--keep", "-1"), "keep must be from 0"),
    ],
)
def test_errors_are_one_line(stores, url, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "glove.txt").write_text("a 1\n")
    names = {"STORE": str(stores[0]), "URL": url}
    done = run(*(names.get(one, one) for one in arguments), status=1)
    assert done.stdout == ""
    assert done.stderr.startswith("embstore: error: ")
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr
    assert "SECRET" not in done.stderr


def test_a_damaged_store_is_named(stores, url):
    flip(stores[0] / "partitions/0/c/0/0", 3)
    done = run("publish", stores[0], url, status=1)
    assert f"{stores[0]}/partitions/0/c/0/0 has the checksum" in done.stderr
    assert json.loads(run("versions", url, "--json").stdout)[0]["is_complete"] is False


def test_progress_on_a_terminal(stores, url):
    ours, theirs = pty.openpty()
    env = environment() | {"PYTHONIOENCODING": "ascii", "TERM": "xterm"}
    seen: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(ours, 4096):
                seen.append(part)
        except OSError:
            pass  # The other end was closed.

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, "-m", "embstore.cli"]
    outputs = []
    for arguments in (["publish", stores[0], url], ["publish", stores[1], url], ["prune", url]):
        done = subprocess.run(
            [*command, *map(str, arguments)],
            env=env,
            stdout=subprocess.PIPE,
            stderr=theirs,
            check=False,
        )
        assert done.returncode == 0
        outputs.append(done.stdout)
    os.close(theirs)
    reader.join()
    os.close(ours)
    output = b"".join(seen).decode("ascii")
    assert "Traceback" not in output
    assert "publish" in output
    assert [one.split()[0] for one in outputs] == [b"published", b"published", b"removed"]
