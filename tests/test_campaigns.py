"""Campaigns at a small size, and their own parts: the model of a disk, the record of results."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns import cases, power, works
from tests.campaigns.cases import BUILDS
from tests.campaigns.disks import Disk
from tests.campaigns.faults import Step, by_clones, by_copies, by_links
from tests.campaigns.runs import CAMPAIGNS
from tests.campaigns.tables import STORE
from tests.helpers.programs import run_python
from tools import torture

OUTCOMES = {
    "crash": ["disks after a power cut", "2 at random times", "each with its error"],
    "concurrency": ["every row is from the table of its store"],
    "headers": ["GGUF files", "safetensors files", "right rows, or an error of embstore.errors"],
    "hostile": ["each named by verify", "or harmless"],
    "folders": ["refused as planned", "no row lost or doubled"],
    "dialects": ["texts read exactly", "in random dialects"],
    "resources": ["60 cycles without a leak", "64 descriptors for 400 chunk files"],
    "serving": ["3 servers, killed", "0 wrong rows, every call ended"],
    "columns": ["tables read exactly", "with a flaw refused", "damaged files read or refused"],
}


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``python -m tests.campaigns``."""
    return run_python("-W", "ignore", "-m", "tests.campaigns", *arguments)


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_small_campaign(tmp_path, name):
    done = command(name, "--seed", 1, "--folder", tmp_path)
    for part in OUTCOMES[name]:
        assert part in done.stdout


def test_help_lists_all_campaigns():
    done = command("--help")
    for name in CAMPAIGNS:
        assert f"\n    {name}" in done.stdout


def test_failed_campaign_exits_with_1_and_its_seed(tmp_path):
    program = (
        "import sys; from tests.campaigns import __main__, resources\n"
        "def run(folder, seed, size): raise AssertionError('lost a row')\n"
        "resources.run = run\n"
        "sys.argv[1:] = ['resources', '--seed', '7']\n"
        "__main__.main()"
    )
    done = run_python("-c", program, status=1)
    assert done.stderr == "resources: seed 7: FAILED: lost a row\n"


# Changes of a build's steps: each leaves out or moves one that durability needs.


def without_file_flushes(log: list[Step]) -> list[Step]:
    files = {step.path for step in log if step.kind == "create"}
    return [step for step in log if step.kind != "flush" or step.path not in files]


def without_directory_flushes(log: list[Step]) -> list[Step]:
    """Leave out the flushes of directories within the store."""
    made = {step.path for step in log if step.kind == "mkdir"}
    return [step for step in log if step.kind != "flush" or step.path not in made]


def removal_before_flush(log: list[Step]) -> list[Step]:
    """Remove the old store before the new name is on disk."""
    named = max(n for n, step in enumerate(log) if STORE in (step.path.name, str(step.to)))
    flush = next((n for n in range(named, len(log)) if log[n].kind == "flush"), None)
    return [step for n, step in enumerate(log) if n != flush or n > len(log) - 2]


def clearing_before_flush(log: list[Step]) -> list[Step]:
    """Remove the files of a dead build before the names are on disk."""
    first = next((n for n, step in enumerate(log) if step.kind in ("flush", "create")), 0)
    return [step for n, step in enumerate(log) if n != first or step.kind != "flush"]


def without_removal_of_the_note(log: list[Step]) -> list[Step]:
    return [step for step in log if step.kind != "unlink" or step.path.name != "owner.json"]


def without_syncfs(log: list[Step]) -> list[Step]:
    return [step for step in log if step.kind != "syncfs"]


@pytest.mark.parametrize(
    "change",
    [
        without_file_flushes,
        without_directory_flushes,
        removal_before_flush,
        clearing_before_flush,
        without_removal_of_the_note,
    ],
)
def test_power_cuts_reveal_a_missing_step(tmp_path, change):
    size = power.Size(cuts=1, builds=0.01, again=0)
    with pytest.raises(AssertionError, match="power cut at step"):
        power.cut_power(tmp_path, random.Random(0), size, BUILDS, change)


@pytest.mark.parametrize("old", [False, True])
def test_power_cuts_reveal_a_missing_flush_of_many_files(tmp_path, old):
    """Files are flushed together, directories one by one."""
    seen: list[int] = []

    def changed(log: list[Step]) -> list[Step]:
        left = without_syncfs(log)
        seen.append(len(log) - len(left))
        return left

    size = power.Size(cuts=1, builds=0, again=0)
    case = cases.Case(works.Build(), old=old, syncs="files")
    with pytest.raises(AssertionError, match="power cut at step"):
        power.cut_power(tmp_path, random.Random(0), size, [case], changed)
    assert min(seen) > 0


TAKEN = [
    ("link", by_links, False, without_directory_flushes),
    ("link", by_links, True, without_syncfs),
    ("clone", by_clones, False, without_file_flushes),
    ("clone", by_clones, False, without_directory_flushes),
    ("copy", by_copies, False, without_file_flushes),
    ("copy", by_copies, True, without_syncfs),
]


@pytest.mark.parametrize("work", cases.NOT_BUILDS, ids=lambda work: work.name)
@pytest.mark.parametrize(("kind", "take", "syncs", "change"), TAKEN)
def test_power_cuts_reveal_a_missing_flush_of_what_is_taken_over(
    tmp_path, work, kind, take, syncs, change
):
    """Only the flushes of what a link, clone or copy made are left out."""
    seen: set[str] = set()

    def changed(log: list[Step]) -> list[Step]:
        seen.update(step.kind for step in log)
        taken = {step.to for step in log if step.kind == kind}
        above = {parent for path in taken if path is not None for parent in path.parents}
        left = change(log)
        others = [step for step in log if step not in left]
        kept = [step for step in others if step.path not in taken | above]
        return [step for step in log if step in left or step in kept]

    size = power.Size(cuts=3, builds=0, again=-1)
    case = cases.Case(work, take=take, syncs=syncs)
    with pytest.raises(AssertionError, match="power cut at step"):
        power.cut_power(tmp_path, random.Random(0), size, [case], changed)
    assert kind in seen
    assert ("syncfs" in seen) == syncs


def test_record_replaces_the_last_outcome(tmp_path):
    results = tmp_path / "results.md"
    results.write_text("| hostile (damage) | 2026-11-22 | 1 | 2.0 | then | old |\n")
    torture.record("hostile", 7, 1.5, "first", results)
    torture.record("crash", 8, 2, "other", results)
    torture.record("hostile", 9, 3, "second", results)
    lines = results.read_text().splitlines()[-2:]
    assert [line.split(" | ")[0] for line in lines] == ["| crash", "| hostile"]
    assert "second" in lines[1]
    assert "first" not in results.read_text()
    assert "old" not in results.read_text()


def disk_after(folder: Path, *log: Step) -> Disk:
    disk = Disk(folder)
    for step in log:
        disk.do(step)
    return disk


def test_disk_keeps_what_was_flushed(tmp_path):
    """Everything flushed is on disk, and anything else may be lost."""
    (tmp_path / "old").write_bytes(b"old")
    file = Path("a/file")
    log = Step("mkdir", Path("a")), Step("create", file), Step("write", file, data=b"12345678")
    disk = disk_after(tmp_path, *log)
    assert disk.root.least() == {"old": b"old"}
    assert disk.root.most() == {"old": b"old", "a": {"file": b"12345678"}}
    disk.do(Step("flush", file))
    assert disk.root.least() == {"old": b"old"}
    disk.do(Step("flush", Path()))
    assert disk.root.least() == {"old": b"old", "a": {}}
    disk.do(Step("flush", Path("a")))
    assert disk.root.least() == {"old": b"old", "a": {"file": b"12345678"}}


def test_disk_keeps_any_first_part_of_a_write(tmp_path):
    written = Step("write", Path("f"), data=b"1234", offset=2)
    disk = disk_after(tmp_path, Step("create", Path("f")), Step("flush", Path()), written)
    numbers = random.Random(0)
    found = {disk.root.cut(numbers)["f"] for _ in range(200)}
    assert found >= {b"", b"\0\0", b"\0\0" + b"12", b"\0\0" + b"1234", bytes(6)}


def test_disk_exchanges_both_names_or_neither(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    exchange = Step("exchange", Path("a"), Path("b"))
    disk = disk_after(tmp_path, exchange, Step("unlink", Path("a")), Step("create", Path("c")))
    numbers = random.Random(0)
    trees = {frozenset(disk.root.cut(numbers).items()) for _ in range(200)}
    both, exchanged, removed = {("a", b"a"), ("b", b"b")}, {("a", b"b"), ("b", b"a")}, {("b", b"a")}
    expected = [*(both, exchanged, removed), *(tree | {("c", b"")} for tree in (both, removed))]
    assert trees >= {frozenset(tree) for tree in expected}
    assert all({frozenset(tree - {("c", b"")})} <= {*map(frozenset, expected)} for tree in trees)


def test_disk_has_one_file_under_both_of_its_names(tmp_path):
    """A link is an entry, which may be lost; a flush under either name flushes the file."""
    one, other = Path("old/file"), Path("new/file")
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    (tmp_path / "old" / "file").write_bytes(b"12")
    disk = disk_after(tmp_path, Step("link", one, other))
    assert disk.root.least() == {"old": {"file": b"12"}, "new": {}}
    assert disk.root.most()["new"] == {"file": b"12"}
    disk.do(Step("flush", Path("new")))
    disk.do(Step("unlink", one))
    disk.do(Step("write", other, data=b"34"))
    numbers = random.Random(0)
    for _ in range(50):
        tree: Any = disk.root.cut(numbers)
        assert tree["old"] in ({}, {"file": tree["new"]["file"]})
    disk.do(Step("write", other, data=b"56"))
    disk.do(Step("flush", other))
    assert disk.root.least() == {"old": {"file": b"56"}, "new": {"file": b"56"}}


def test_disk_finds_links_that_are_there_before(tmp_path):
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "other").hardlink_to(tmp_path / "one")
    disk = disk_after(tmp_path, Step("write", Path("one"), data=b"2"), Step("flush", Path("other")))
    assert disk.root.least() == {"one": b"2", "other": b"2"}


@pytest.mark.parametrize("kind", ["clone", "copy"])
def test_disk_may_lose_what_was_not_flushed_of_a_copy(tmp_path, kind):
    (tmp_path / "one").write_bytes(b"1234")
    step = Step(kind, Path("one"), Path("other"), data=b"1234")
    disk = disk_after(tmp_path, Step("create", Path("other")), Step("flush", Path()), step)
    numbers = random.Random(0)
    found = {disk.root.cut(numbers)["other"] for _ in range(200)}
    assert {b"", b"12", bytes(4), b"1234"} <= found
    disk.do(Step("flush", Path("other")))
    assert disk.root.least() == {"one": b"1234", "other": b"1234"}


def test_disk_keeps_everything_after_a_flush_of_the_file_system(tmp_path):
    log = (
        Step("mkdir", Path("a")),
        Step("create", Path("a/f")),
        Step("write", Path("a/f"), data=b"1"),
    )
    disk = disk_after(tmp_path, *log, Step("syncfs", Path("a")))
    assert disk.root.least() == {"a": {"f": b"1"}}
