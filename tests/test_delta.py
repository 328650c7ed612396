"""Delta tables: the files that the log leaves, in order, or a refusal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from embstore.sources.folders.delta import delta_files
from tests.test_folders import ONE, TWO, numbers_read, put, refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

Action = dict[str, Any]


def add(number: int, name: str = "part-00000-{}.parquet", **more: Any) -> Action:
    return {"add": {"path": name.format(number), "partitionValues": {}, "dataChange": True} | more}


def remove(number: int) -> Action:
    return {"remove": {"path": f"part-00000-{number}.parquet", "dataChange": True}}


def log(folder: Path, *versions: Sequence[Any], first: int = 0) -> Path:
    """Write a log, and each file that it adds; a file holds the number in its name."""
    (folder / "_delta_log").mkdir(parents=True, exist_ok=True)
    for version, actions in enumerate(versions, first):
        lines = [json.dumps(action) for action in actions]
        path = folder / "_delta_log" / f"{version:020}.json"
        path.write_text("".join(f"{line}\n" for line in lines))
        for action in actions:
            write_file(folder, action)
    return folder


def write_file(folder: Path, action: Action) -> None:
    added = action.get("add")
    name = added.get("path") if isinstance(added, dict) else None
    if isinstance(name, str) and (match := re.fullmatch(r"[^:]*-(\d+)\.parquet", name)):
        put(folder / name.replace("%20", " ").lstrip("/.%2e"), int(match[1]))


START = [{"protocol": {"minReaderVersion": 1}}, {"metaData": {"partitionColumns": []}}]


@pytest.mark.parametrize(
    ("versions", "numbers"),
    [
        ([[*START, add(1)]], [1]),
        ([[add(1)], [remove(1), add(2)]], [2]),
        ([[add(1), add(2)], [remove(2)], [add(3)]], [1, 3]),
        ([[add(3)], [add(2)], [add(1)]], [3, 2, 1]),
        ([[add(10), add(9)]], [9, 10]),
        ([[add(1)], [remove(1)], [add(1)]], [1]),
        ([[add(1)], [add(0)], [add(1)]], [0, 1]),
        ([[add(1)], [remove(7)], [{"commitInfo": {}}, {"txn": {"appId": "x"}}]], [1]),
        ([[add(4, "a%20b-{}.parquet")]], [4]),
        ([[add(4, "sub/x-{}.parquet")]], [4]),
        ([[{"metaData": {"configuration": {"delta.columnMapping.mode": "none"}}}, add(1)]], [1]),
        (
            [
                [
                    {"protocol": {"minReaderVersion": 3, "readerFeatures": ["deletionVectors"]}},
                    add(1),
                ]
            ],
            [1],
        ),
        ([[add(1, deletionVector=None, size=None, stats="{}")]], [1]),
    ],
)
def test_log_is_replayed(tmp_path, versions, numbers):
    log(tmp_path / "t", *versions)
    put(tmp_path / "t" / "part-00000-99.parquet", 99)  # Never added, or removed and kept.
    assert numbers_read(tmp_path / "t") == numbers
    assert numbers_read(tmp_path / "t", format="parquet") == numbers


def test_parts_of_a_version_are_in_the_order_of_their_numbers(tmp_path):
    names = [f"part-0000{part}-{run}-c000-{{}}.parquet" for run in (TWO, ONE) for part in (1, 0)]
    actions = [add(number, name) for number, name in enumerate(names)]
    log(tmp_path / "t", actions[:2], actions[2:])
    assert numbers_read(tmp_path / "t") == [1, 0, 3, 2]


VECTOR = {"storageType": "u", "pathOrInlineDv": "x"}


@pytest.mark.parametrize(
    ("versions", "says"),
    [
        ([[add(1, deletionVector=VECTOR)]], "deletion vector"),
        ([[add(1, partitionValues={"lang": "de"})]], "partition columns"),
        ([[{"metaData": {"partitionColumns": ["lang"]}}, add(1)]], "partition columns"),
        (
            [[{"metaData": {"configuration": {"delta.columnMapping.mode": "name"}}}]],
            "column mapping",
        ),
        ([[{"protocol": {"minReaderVersion": 4}}]], "a reader of version 4"),
        ([[{"protocol": {"minReaderVersion": 3, "readerFeatures": ["typeWidening"]}}]], "typeWid"),
        ([[add(1, "s3://bucket/x-{}.parquet")]], "a file elsewhere, s3://bucket"),
        ([[add(1, "/elsewhere/x-{}.parquet")]], "a file elsewhere, /elsewhere"),
        ([[add(1, "../x-{}.parquet")]], r"a file elsewhere, ../x"),
        ([[add(1, "%2e%2e/x-{}.parquet")]], r"a file elsewhere, ../x"),
        ([[add(1, size=7)]], "but the log of the Delta table says 7"),
        ([[{"add": {"path": "gone.parquet"}}]], "lists gone.parquet, which is missing"),
        ([[{"add": {"path": "x\0.parquet"}}]], "which is missing"),
        ([[add(1)], [remove(1)]], "without files"),
        ([[{"add": {}}]], "is not a readable log"),
        ([[{"add": 3}]], "is not a readable log"),
        ([[{"add": {"path": 3}}]], "is not a readable log"),
        ([[{"metaData": {"configuration": [1]}}]], "is not a readable log"),
        ([[{"protocol": {"readerFeatures": 3}}]], "is not a readable log"),
    ],
)
def test_tables_that_need_more(tmp_path, versions, says):
    log(tmp_path / "t", *versions)
    assert says in refusal(tmp_path / "t")


@pytest.mark.parametrize("text", ["[1]", "3", "null", '"add"'])
def test_line_that_is_not_an_action(tmp_path, text):
    folder = log(tmp_path / "t", [add(1)])
    (folder / "_delta_log" / f"{1:020}.json").write_text(text)
    assert "is not a readable log" in refusal(folder)


@pytest.mark.parametrize(
    ("line", "text"), [(2, b"{"), (2, b"\xff\xfe"), (2, b"[" * 100_000), (2, b"9" * 5000 + b"x")]
)
def test_line_that_is_not_json(tmp_path, line, text):
    folder = log(tmp_path / "t", [add(1)])
    path = folder / "_delta_log" / f"{0:020}.json"
    path.write_bytes(path.read_bytes() + text + b"\n")
    assert f"{path}:{line}: expected JSON" in refusal(folder)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_missing_version(tmp_path, missing):
    folder = log(tmp_path / "t", [add(1)], [remove(1), add(2)], [add(3)], [add(4)])
    (folder / "_delta_log" / f"{missing:020}.json").unlink()
    message = refusal(folder)
    assert f"version {missing} of its log is missing" in message or "starts after" in message


def checkpoint(folder: Path, version: int, actions: list[Action], parts: int = 1) -> None:
    """Write a checkpoint as Delta's writers do: a column for each kind of action."""
    file = pa.struct(
        [
            ("path", pa.string()),
            ("partitionValues", pa.map_(pa.string(), pa.string())),
            ("modificationTime", pa.int64()),
            ("deletionVector", pa.struct([("storageType", pa.string())])),
        ]
    )
    data = pa.struct([("configuration", pa.map_(pa.string(), pa.string()))])
    removed = pa.struct([("path", pa.string())])
    schema = pa.schema([("add", file), ("remove", removed), ("metaData", data)])
    for part in range(parts):
        end = f".{part + 1:010}.{parts:010}" if parts > 1 else ""
        path = folder / "_delta_log" / f"{version:020}.checkpoint{end}.parquet"
        some = [
            {"add": None, "remove": None, "metaData": None} | one for one in actions[part::parts]
        ]
        for action in some:
            write_file(folder, {key: value for key, value in action.items() if value})
        parquet.write_table(pa.Table.from_pylist(some, schema), path)


def timed(number: int, time: int) -> Action:
    return {"add": {"path": f"part-00000-{number}.parquet", "modificationTime": time}}


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_checkpoint_stands_for_the_versions_before_it(tmp_path, parts):
    folder = log(tmp_path / "t", [add(7)], [remove(2)], first=11)
    mapping = {"metaData": {"configuration": [("delta.columnMapping.mode", "none")]}}
    tombstone = {"remove": {"path": "part-00000-5.parquet"}}
    actions = [timed(1, 30), timed(2, 10), timed(3, 20), timed(4, 20), tombstone, mapping]
    checkpoint(folder, 10, actions, parts)
    (folder / "_delta_log" / "_last_checkpoint").write_text('{"version": 10}')
    assert numbers_read(folder) == [3, 4, 1, 7]


def test_newest_complete_checkpoint_is_read(tmp_path):
    folder = log(tmp_path / "t", [remove(1), add(3)], [add(4)], first=6)
    checkpoint(folder, 5, [timed(1, 1), timed(2, 2)])
    checkpoint(folder, 7, [timed(2, 2), timed(3, 3), timed(4, 4)], parts=2)
    assert numbers_read(folder) == [2, 3, 4]
    next((folder / "_delta_log").glob("*7.checkpoint*2.0*")).unlink()
    assert numbers_read(folder) == [2, 3, 4]
    next((folder / "_delta_log").glob("*5.checkpoint*")).unlink()
    assert "has no checkpoint that embstore reads" in refusal(folder)


@pytest.mark.parametrize(
    ("actions", "says"),
    [
        ([{"add": {"path": "a", "deletionVector": {"storageType": "u"}}}], "deletion vector"),
        ([{"add": {"path": "a", "partitionValues": [("lang", "de")]}}], "partition columns"),
        ([{"metaData": {"configuration": [("delta.columnMapping.mode", "id")]}}], "column mapping"),
        ([{"add": {"path": None}}], "is not a readable log"),
    ],
)
def test_checkpoint_that_needs_more(tmp_path, actions, says):
    folder = log(tmp_path / "t", [add(1)], first=11)
    checkpoint(folder, 10, actions)
    assert says in refusal(folder)


def test_damaged_checkpoint(tmp_path):
    folder = log(tmp_path / "t", [add(1)], first=11)
    for content in (b"", b"PAR1", b"x" * 1000):
        (folder / "_delta_log" / f"{10:020}.checkpoint.parquet").write_bytes(content)
        assert "cannot be read as a checkpoint" in refusal(folder)


def test_all_versions_make_checkpoints_unneeded(tmp_path):
    folder = log(tmp_path / "t", [add(1)], [add(2)])
    (folder / "_delta_log" / f"{1:020}.checkpoint.parquet").write_bytes(b"damaged")
    (folder / "_delta_log" / f"{0:020}.{1:020}.compacted.json").write_text("x")
    assert [path.name for path in delta_files(folder)] == [
        "part-00000-1.parquet",
        "part-00000-2.parquet",
    ]


def test_empty_log(tmp_path):
    (tmp_path / "t" / "_delta_log").mkdir(parents=True)
    put(tmp_path / "t" / "part-0.parquet")
    assert "starts after version 0 and has no checkpoint" in refusal(tmp_path / "t")


def test_partition_folder_of_a_delta_table_is_refused(tmp_path):
    folder = log(tmp_path / "t", [add(1, "lang=de/x-{}.parquet")])
    assert f"give {folder}" in refusal(folder / "lang=de")


def test_delta_table_in_a_folder(tmp_path):
    log(tmp_path / "t" / "inner", [add(1)])
    assert "tables of their own: inner" in refusal(tmp_path / "t")
    put(tmp_path / "t" / "part-0.parquet")
    assert "inner is a table of its own" in refusal(tmp_path / "t")
