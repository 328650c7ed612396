"""Folders of parts, junk, gaps and subfolders: exactly the rows that are in them, or a refusal.

1. A folder is made from a plan: the parts of one table in their order, each with rows of its own,
   under names as writers choose them. Junk that changes nothing is put beside them.
2. To every other folder something is done that leaves in doubt what the table is: a part is lost,
   is there twice or is half-written, another table joins, a run is repeated. So the plan tells what
   is right: the rows in order, or an error. No code of embstore is asked.
3. Of folders with any names no plan knows the order. If one is read, every file must be in the rows
   exactly once, none in part.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pyarrow import ipc, parquet

import embstore
from embstore.errors import SourceError
from tests.helpers.sources import read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SPARK = re.compile(r"part-\d{5}-[0-9a-f-]{36}[-.]c\d{3}\.snappy\.parquet")
SUFFIXES = [".npy", ".npy", ".parquet", ".parquet", ".snappy.parquet", ".arrow", ".feather", ".pq"]
STEMS = ["part", "emb", "img_emb", "rows.f32", "glove.6B.50d", "mot-clé", "data set", "e5-large-v2"]
JUNK = [
    *("README.md", "config.json", "words.txt", "Thumbs.db", "_SUCCESS", "_metadata", ".DS_Store"),
    *("._{last}", ".{last}.crc", "{last}.crc", "{last}.tmp", "{last}.crdownload", "{last}~"),
    *("{last}.part", ".{last}.Ab3d5F", "{last}.gz", "__MACOSX/._{last}", ".cache/{last}"),
    *(
        "_delta_index/{last}",
        "other.embstore/zarr.json",
        "unrelated.npy.tmp",
        "noch-was.parquet.tmp",
    ),
]


@dataclass(frozen=True, slots=True)
class Size:
    """How long to try folders, how many at most, and how many of them are built into a store."""

    seconds: float
    cases: float
    built: float


SMALL = Size(seconds=60, cases=160, built=0.02)
FULL = Size(seconds=600, cases=math.inf, built=0.01)


@dataclass(slots=True)
class Plan:
    """A folder to be.

    Attributes
    ----------
    parts : list of str
        The names of its parts, in the order of their rows.
    lists : callable, optional
        Writes what lists the parts, given the folder and the plan.
    refused : str
        Why the folder must be refused; empty if its rows are certain.
    """

    parts: list[str]
    lists: Callable[[Path, Plan], None] | None = None
    extra: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    refused: str = ""


def run(folder: Path, seed: int, size: Size) -> str:
    """Make and read folders up to the limits; return how many."""
    random_numbers = random.Random(seed)
    end = time.monotonic() + size.seconds
    counts = dict.fromkeys(("read", "refused", "free"), 0)
    case = folder / "case"
    while sum(counts.values()) < size.cases and time.monotonic() < end:
        if random_numbers.random() < 0.2:
            _try_any_names(case, random_numbers)
            counts["free"] += 1
        else:
            plan = _plan(random_numbers)
            _make(case, plan, random_numbers)
            built = random_numbers.random() < size.built
            _try_plan(case, plan, folder / "case.embstore" if built else None)
            counts["refused" if plan.refused else "read"] += 1
        shutil.rmtree(case)
    return (
        f"{counts['read']:,} folders read and {counts['refused']:,} refused as planned, "
        f"{counts['free']:,} of any names, no row lost or doubled"
    )


def _try_plan(case: Path, plan: Plan, store: Path | None) -> None:
    try:
        found = read(case)[1][:, 0].tolist()
    except SourceError as error:
        if not plan.refused:
            raise AssertionError(f"refused {plan} in {_tree(case)}: {error}") from error
        return
    expected = [number for number in range(len(plan.parts)) for _ in range(_length(number))]
    if plan.refused or found != expected:
        raise AssertionError(f"read {found} from {plan} in {_tree(case)}")
    if store is not None:
        with embstore.build(case, store, overwrite=True) as built:
            if built.to_numpy()[:, 0].tolist() != expected:
                raise AssertionError(f"built other rows from {plan} in {_tree(case)}")


def _try_any_names(case: Path, random_numbers: random.Random) -> None:
    """Try files of any names; if they are read, then all of them."""
    tokens = [*"01239", "10", "-", "_", ".", "part", "of", "-of-", "a", "b", "c0", "x=", "/", "(1)"]
    suffix = random_numbers.choice(SUFFIXES)
    numbers = {}
    for number in range(random_numbers.choice((1, 2, 2, 3, 5))):
        pieces = random_numbers.choices(tokens, k=random_numbers.choice((1, 2, 3, 6)))
        name = "/".join(piece.lstrip("._") or "0" for piece in "".join(pieces).split("/"))
        numbers[f"{name}{suffix}"] = number
    if random_numbers.random() < 0.5:  # Some that do count.
        base = random_numbers.choice(list(numbers))
        for number in range(random_numbers.choice((2, 3))):
            numbers[f"{base.rpartition('/')[0]}/z{number}{suffix}".lstrip("/")] = len(numbers)
    for name, number in numbers.items():
        _write(case / name, number)
    try:
        found = read(case)[1][:, 0].tolist()
    except SourceError:
        return
    expected = [number for number in numbers.values() for _ in range(_length(number))]
    if sorted(found) != sorted(expected):
        raise AssertionError(f"read {found} from {_tree(case)}")


def _make(case: Path, plan: Plan, random_numbers: random.Random) -> None:
    """Make the folder of a plan, its files in any order."""
    case.mkdir()
    numbered = list(enumerate(plan.parts))
    random_numbers.shuffle(numbered)
    for number, name in numbered:
        if name not in plan.gone:
            _write(case / name, number)
            if random_numbers.random() < 0.1:  # As in a model cache.
                blob = case.with_name("blobs") / f"{number}"
                blob.parent.mkdir(exist_ok=True)
                (case / name).rename(blob)
                (case / name).symlink_to(os.path.relpath(blob, (case / name).parent))
    for name in plan.extra:
        _write(case / name, 77)
    last = plan.parts[-1]
    for pattern in random_numbers.sample(JUNK, random_numbers.choice((0, 0, 1, 3, 9))):
        path = (case / last).with_name("x").parent / pattern.format(last=last.rpartition("/")[2])
        if last in plan.gone or path.exists() or (plan.lists and pattern[0] != "{"):
            continue  # There, a half-written part would not be harmless.
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"junk")
    if plan.lists is not None:
        plan.lists(case, plan)


def _plan(random_numbers: random.Random) -> Plan:
    plan = random_numbers.choice(LAYOUTS)(random_numbers)
    if random_numbers.random() < 0.5:
        random_numbers.choice(DEFECTS)(plan, random_numbers)
    return plan


# Layouts: parts in the order of their rows.


def _flat(numbers: random.Random) -> Plan:
    """Return numbered parts in one folder, or one file of any name."""
    stem, suffix = numbers.choice(STEMS), numbers.choice(SUFFIXES)
    count = numbers.choice((1, 2, 3, 11, 12))
    folder = numbers.choice(("", "", "data/", "a/b.c/", "lang=de/"))
    if count == 1:
        return Plan([f"{folder}{stem}{suffix}"])
    start, width, between = (
        numbers.choice((0, 1)),
        numbers.choice((0, 1, 5)),
        numbers.choice("-_. "),
    )
    return Plan(
        [f"{folder}{stem}{between}{n:0{width}}{suffix}" for n in range(start, start + count)]
    )


def _counted(numbers: random.Random) -> Plan:
    """Return parts whose names tell their count, perhaps with a hash each."""
    stem, suffix = numbers.choice(STEMS), numbers.choice(SUFFIXES)
    count, start = numbers.choice((1, 2, 3, 11)), numbers.choice((0, 1))
    hashed = numbers.random() < 0.3
    names = []
    for n in range(start, start + count):
        end = f"-{_uuid(numbers).replace('-', '')[:15]}a" if hashed else ""
        names.append(f"{stem}-{n:05}-of-{count:05}{end}{suffix}")
    return Plan(names)


def _spark(numbers: random.Random) -> Plan:
    tag, between = _uuid(numbers), numbers.choice("-.")
    files = numbers.choice((1, 1, 2, 3))
    tasks = numbers.choice((1, 2, 11))
    return Plan(
        [
            f"part-{task:05}-{tag}{between}c{file:03}.snappy.parquet"
            for task in range(tasks)
            for file in range(files)
        ]
    )


def _across_folders(numbers: random.Random) -> Plan:
    """Return one numbering that goes on in subfolders."""
    suffix, start = numbers.choice(SUFFIXES), numbers.choice((0, 1))
    names, number = [], start
    for folder in (
        "",
        *numbers.choice((["a/", "b/"], ["lang=de/", "lang=en/"], ["x/2/", "x/10/"])),
    ):
        for _ in range(numbers.choice((1, 2))):
            names.append(f"{folder}part-{number}{suffix}")
            number += 1
    return Plan(names)


def _numbered_folders(numbers: random.Random) -> Plan:
    suffix, start, count = numbers.choice(SUFFIXES), numbers.choice((0, 1)), numbers.choice((2, 11))
    return Plan([f"shard-{n}/rows{suffix}" for n in range(start, start + count)])


def _hive(numbers: random.Random) -> Plan:
    """Return Hive's folders, whose parts are numbered in each."""
    suffix = numbers.choice(SUFFIXES)
    values = numbers.choice((["2", "9", "10"], ["de", "en"], ["a b", "b"]))
    longest = numbers.randrange(len(values))
    return Plan(
        [
            f"k={value}/part-{n}{suffix}"
            for place, value in enumerate(values)
            for n in range(3 if place == longest else numbers.choice((1, 2, 3)))
        ]
    )


def _data_set(numbers: random.Random) -> Plan:
    """Return a data set that Hugging Face's library saved, its files in any order."""
    count = numbers.choice((1, 2, 5))
    names = [f"data-{n:05}-of-{count:05}.arrow" for n in range(count)]
    numbers.shuffle(names)
    hidden = ["cache-0123456789abcdef.arrow", "indices-0123456789abcdef.arrow", "old.arrow"]
    return Plan(names, _list_state, extra=numbers.sample(hidden, numbers.randrange(3)))


def _list_state(case: Path, plan: Plan) -> None:
    state = {"_data_files": [{"filename": name} for name in plan.parts], "_split": None}
    (case / "state.json").write_text(json.dumps(state))
    (case / "dataset_info.json").write_text("{}")


def _delta(numbers: random.Random) -> Plan:
    """Return a Delta table of some versions, which added and removed files."""
    names = [f"part-00000-{_uuid(numbers)}-c000.snappy.parquet" for _ in range(6)]
    kept = numbers.sample(range(6), numbers.choice((1, 3, 6)))
    plan = Plan([name for n, name in enumerate(names) if n in kept])
    plan.extra = [name for n, name in enumerate(names) if n not in kept]
    seed = numbers.random()

    def write(case: Path, plan: Plan) -> None:
        shuffled = random.Random(seed)
        log = case / "_delta_log"
        log.mkdir()
        left: list[str] = []
        version = 0
        for name in names:
            actions = [{"add": {"path": name, "partitionValues": {}}}]
            if left and shuffled.random() < 0.5:
                actions.append({"remove": {"path": left.pop()}})
            if name in plan.extra:
                left.append(name)
            text = "".join(json.dumps(action) + "\n" for action in actions)
            (log / f"{version:020}.json").write_text(text)
            version += 1
        removes = [json.dumps({"remove": {"path": name}}) for name in left]
        (log / f"{version:020}.json").write_text("\n".join(removes))

    plan.lists = write
    return plan


LAYOUTS = [
    *(_flat, _flat, _counted, _spark, _across_folders, _numbered_folders, _hive, _data_set, _delta),
]

# Defects: each leaves in doubt what the table is.


def _lose_a_part(plan: Plan, numbers: random.Random) -> None:
    """Lose a part whose number shows it; of uncounted parts, the last may be lost unseen."""
    if plan.lists is None and len(plan.parts) == 1:
        return
    counted = plan.lists is not None or "-of-" in plan.parts[0]
    if not counted and plan.parts[0].startswith("k="):
        return  # In Hive's folders, another one may have its number.
    candidates = plan.parts if counted else plan.parts[1:-1]
    if _SPARK.fullmatch(plan.parts[0]) and len(plan.parts) > 1:
        # A task loses its first file, which may be its only one; the very last is not missed.
        candidates = [name for name in plan.parts[:-1] if "c000" in name]
    if candidates:
        plan.gone.append(numbers.choice(candidates))
        plan.refused = "a part is missing"


def _double_a_part(plan: Plan, numbers: random.Random) -> None:
    """Add a copy under a name as people and browsers give it."""
    if plan.lists is None:
        folder, slash, base = numbers.choice(plan.parts).rpartition("/")
        stem, _, suffix = base.partition(".")
        copy = numbers.choice((f"{stem} (1).{suffix}", f"copy of {base}", f"{stem}-copy.{suffix}"))
        plan.extra.append(folder + slash + copy)
        plan.refused = "a part is there twice"


def _join_a_table(plan: Plan, numbers: random.Random) -> None:
    if plan.lists is None:
        suffix = "." + plan.parts[0].rpartition("/")[2].rpartition(".")[2]
        plan.extra.append(numbers.choice(("", "sub/")) + f"labels{suffix}")
        plan.refused = "another table is there"


def _repeat_a_run(plan: Plan, numbers: random.Random) -> None:
    """Add a part of another run: another UUID, or another count."""
    last = plan.parts[-1]
    head, _, tail = last.partition("-of-")
    if tail and plan.lists is None:
        plan.extra.append(f"{head}-of-{int(tail[:5]) + 1:05}{tail[5:]}")
        plan.refused = "two runs are there"
    elif plan.lists is None and _SPARK.fullmatch(last):
        place = numbers.choice((last[:10], f"part-{int(last[5:10]) + 1:05}"))
        plan.extra.append(f"{place}-{_uuid(numbers)}{last[47:]}")
        plan.refused = "two runs are there"


def _leave_a_part_unfinished(plan: Plan, numbers: random.Random) -> None:
    """Leave the last part half-written."""
    if plan.lists is None and len(plan.parts) > 1 and not plan.parts[0].startswith("k="):
        last = plan.parts[-1]
        folder, slash, base = last.rpartition("/")
        if any(name.rpartition("/")[0] == folder for name in plan.parts[:-1]):
            name = numbers.choice((f"{base}.tmp", f".{base}.Qw3rT9", f"{base}.crdownload"))
            plan.gone.append(last)
            plan.extra.append(folder + slash + name)
            plan.refused = "a part is half-written"


def _mix_formats(plan: Plan, numbers: random.Random) -> None:
    if plan.lists is None:
        folder = plan.parts[0].rpartition("/")[0]
        suffix = ".npy" if not plan.parts[0].endswith(".npy") else ".parquet"
        plan.extra.append(f"{folder}/other{suffix}".lstrip("/"))
        plan.refused = "files of two formats are there"


DEFECTS = [
    *(_lose_a_part, _double_a_part, _join_a_table, _repeat_a_run, _leave_a_part_unfinished),
    _mix_formats,
]


def _length(number: int) -> int:
    """Return the rows of a part."""
    return number % 3 + 1


def _write(path: Path, number: int) -> None:
    """Write a part, all of whose numbers are ``number``; anything else is junk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.full((_length(number), 2), number, np.float32)
    table = pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 2)})
    match path.suffix:
        case ".npy":
            np.save(path, rows)
        case ".parquet" | ".pq":
            parquet.write_table(table, path)
        case ".arrow" | ".feather":
            with ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table)
        case _:
            path.write_bytes(b"half")


def _uuid(numbers: random.Random) -> str:
    return str(uuid.UUID(int=numbers.getrandbits(128), version=4))


def _tree(case: Path) -> list[str]:
    return sorted(str(path.relative_to(case)) for path in case.rglob("*"))
