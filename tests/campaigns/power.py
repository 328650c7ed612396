"""Power cuts at each step of a work: the disk may hold anything that was not flushed, or not."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.campaigns.disks import Disk, write_tree
from tests.campaigns.faults import Recorder, Step
from tests.campaigns.tables import STORE
from tests.campaigns.works import Snapshot, without_waiting

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.campaigns.cases import Case
    from tests.campaigns.disks import Tree


@dataclass(frozen=True, slots=True)
class Size:
    """Random disks to try for each step, and the share of them to go on with.

    ``again`` is the number of steps at which a work is killed whose successor loses power, besides
    those that rename; -1 for none at all.
    """

    cuts: int
    builds: float
    again: int


SMALL = Size(cuts=1, builds=0.02, again=0)
SMALL_CHANGES = Size(cuts=1, builds=0.02, again=-1)
FULL = Size(cuts=6, builds=0.3, again=5)


def cut_power(
    folder: Path,
    random_numbers: random.Random,
    size: Size,
    cases: Iterable[Case],
    change: Callable[[list[Step]], list[Step]] = list,
) -> tuple[int, int]:
    """Cut the power at each step of works.

    Parameters
    ----------
    folder : Path
        Where to work.
    random_numbers : random.Random
        The source of all random choices.
    size : Size
        How much to try.
    cases : iterable of Case
        The works.
    change : callable, optional
        Changes the steps of each work, as a faulty one would do them.

    Returns
    -------
    tuple of int
        The number of disks checked, and the number of steps.
    """
    cuts = step_count = 0
    for case in cases:
        trial = _Trial(folder / "cut", case, random_numbers, size)
        try:
            with case.system():
                step_count += _cut(folder / "recorded", trial, random_numbers, size, change)
        except Exception as error:
            raise AssertionError(f"{case}: {error}") from error
        cuts += trial.count
    return cuts, step_count


def _cut(
    work: Path,
    trial: _Trial,
    random_numbers: random.Random,
    size: Size,
    change: Callable[[list[Step]], list[Step]],
) -> int:
    """Cut the power at each step of a case; return the number of steps."""
    case = trial.case
    work.mkdir()
    with without_waiting():
        if case.old:
            case.work.start(work / STORE, 0)
        elif isinstance(case.work, Snapshot):
            case.work.prepare(work / STORE, 0)
    disk = Disk(work)
    log = change(_record(case, work, 1))
    trial.follow(copy.deepcopy(disk), log, {0} if case.old else {None}, 1)
    shutil.rmtree(work)
    step_count = len(log)
    for number in _points(log, random_numbers, size.again):
        killed = copy.deepcopy(disk)
        for step in log[:number]:
            killed.do(step)
        write_tree(killed.root.most(), work)
        again = change(_record(case, work, 2))
        trial.follow(killed, again, {0 if case.old else None, 1}, 2)
        shutil.rmtree(work)
        step_count += len(again)
    return step_count


def _points(log: list[Step], random_numbers: random.Random, count: int) -> list[int]:
    """Return after which steps to kill a work: some, and each that renames; none if -1."""
    if count < 0:
        return []
    renamed = [n for n, step in enumerate(log, 1) if step.kind in ("rename", "exchange")]
    return sorted({*renamed, *random_numbers.sample(range(len(log)), count)})


def _record(case: Case, work: Path, number: int) -> list[Step]:
    recorder = Recorder(work)
    with case.steps(recorder):
        case.work.do(work / STORE, number)
    return recorder.log


class _Trial:
    """Checks of disks as a power cut may leave them; equal disks are checked once."""

    def __init__(self, folder: Path, case: Case, random_numbers: random.Random, size: Size) -> None:
        self.count = 0
        self.case = case
        self._seen: set[int] = set()
        self._folder = folder
        self._random = random_numbers
        self._size = size

    def follow(self, disk: Disk, log: list[Step], before: set[int | None], after: int) -> None:
        """Cut the power before each step of a log, and after the last one."""
        for number in range(len(log) + 1):
            if number:
                disk.do(log[number - 1])
            allowed = (before if number < len(log) else set()) | {after}
            trees = [disk.root.least(), disk.root.most()]
            trees += [disk.root.cut(self._random) for _ in range(self._size.cuts)]
            for tree in trees:
                try:
                    self._check(tree, allowed, after + 1)
                except Exception as error:
                    where = f"power cut at step {number} of {len(log)}"
                    raise AssertionError(f"{where}: {error!r}: {log[:number][-3:]}") from error

    def _check(self, tree: Tree, allowed: set[int | None], following: int) -> None:
        build_on = self._random.random() < self._size.builds
        # Files beside a store matter to the next work only, not to a reader.
        matters = {STORE: tree[STORE]} if STORE in tree and not build_on else tree
        key = hash((frozenset(allowed), build_on, _frozen(matters)))
        if key in self._seen:
            return
        self._seen.add(key)
        self.count += 1
        write_tree(tree, self._folder)
        path = self._folder / STORE
        self.case.work.expect(path, allowed)
        if build_on:
            self.case.work.do_next(path, following)
        shutil.rmtree(self._folder)


def _frozen(tree: Tree) -> frozenset[Any]:
    """Return a tree in a form that can be hashed."""
    return frozenset(
        (name, part if isinstance(part, bytes) else _frozen(part)) for name, part in tree.items()
    )
