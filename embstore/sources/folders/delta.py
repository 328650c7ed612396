"""Delta tables: the Parquet files that are in the table now, according to its log.

1. ``_delta_log/`` has a file for each version, ``00000000000000000007.json``: a JSON object a line,
   of which ``add`` and ``remove`` tell which files the table has from that version on.
2. Where the first versions were cleaned up, the newest checkpoint stands for them: a Parquet file,
   or several, with the same actions as columns. The versions after it are replayed.
3. The files are in the order of the versions that added them, and of a version by the numbers in
   their names; those of a checkpoint, which tells no version, by the time of their writing first.

What needs more than the files is refused: deletion vectors, mapped columns, partition values, and
features that this module does not know. The log is specified in the protocol of Delta Lake.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import parquet

from embstore.errors import SourceError
from embstore.sources.folders.parts import listing, natural_key
from embstore.wording import and_pass, either

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

LOG = "_delta_log"
_VERSION = re.compile(r"([0-9]{20})\.json")
_CHECKPOINT = re.compile(r"([0-9]{20})\.checkpoint(?:\.([0-9]{10})\.([0-9]{10}))?\.parquet")
_READER_VERSION = 3
_FEATURES = {
    *("columnMapping", "deletionVectors", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"),
}
_MAPPING = "delta.columnMapping.mode"


def _remedy() -> str:
    how = either("deltalake, as in DeltaTable(path).to_pyarrow_table()", "deltalake")
    return f"read it with {how}, {and_pass('the table')}"


def delta_files(folder: Path) -> list[Path]:
    """Return the files of a Delta table in the order of their rows.

    Raises
    ------
    SourceError
        If the log is damaged or incomplete, a file is missing, or the files are not all there is to
        know.
    """
    names = [path.name for path in (folder / LOG).iterdir()]
    versions = {int(found[1]): found[0] for found in map(_VERSION.fullmatch, names) if found}
    table = _Table(folder)
    first = 0
    if 0 not in versions:
        first, checkpoint = _newest_checkpoint(folder, names)
        for name in checkpoint:
            for action in _checkpoint_actions(folder / LOG / name):
                table.apply(action, -1, folder / LOG / name)
        first += 1
    for version in range(first, max(versions, default=-1) + 1):
        if version not in versions:
            raise SourceError(
                f"{folder} is a Delta table, but version {version} of its log is missing: found "
                f"{listing(versions.values())}; is the download complete?"
            )
        path = folder / LOG / versions[version]
        for action in _json_actions(path):
            table.apply(action, version, path)
    return table.files()


@dataclass(slots=True)
class _Table:
    """The state of a table while its log is replayed.

    Attributes
    ----------
    folder : Path
        The table.
    added : dict
        For each file that is in the table: the version that added it, and the action.
    """

    folder: Path
    added: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)

    def apply(self, action: Any, version: int, where: Path) -> None:
        """Apply an action of the log."""
        try:
            self._apply(action, version)
        except (TypeError, ValueError, AttributeError, LookupError) as error:
            if isinstance(error, SourceError):
                raise
            raise SourceError(
                f"{where} is not a readable log of a Delta table; {_remedy()}"
            ) from error

    def _apply(self, action: dict[str, Any], version: int) -> None:
        for kind, value in action.items():
            if value is None:
                continue  # A checkpoint has a column for each kind.
            if kind in ("add", "remove"):
                if not isinstance(value["path"], str):
                    raise TypeError(f"the path of a file is {value['path']!r}")
                self.added.pop(value["path"], None)
                if kind == "add":
                    self._check_file(value)
                    self.added[value["path"]] = version, value
            elif kind in ("metaData", "protocol", "sidecar"):
                self._check_features(kind, value)

    def files(self) -> list[Path]:
        """Return the files in order; each exists and has the size that the log states."""

        def order(name: str) -> Any:
            version, action = self.added[name]
            time = action.get("modificationTime") if version < 0 else 0
            return version, time if isinstance(time, int) else 0, natural_key(name)

        found = []
        for name in sorted(self.added, key=order):
            path = self.folder / unquote(name)
            size = self.added[name][1].get("size")
            if not os.path.isfile(path):  # noqa: PTH113  # Also for a name that no file can have.
                raise SourceError(
                    f"{self.folder} is a Delta table, and its log lists {unquote(name)}, which is "
                    "missing; is the download complete?"
                )
            if isinstance(size, int) and path.stat().st_size != size:
                raise SourceError(
                    f"{path} has {path.stat().st_size} bytes, but the log of the Delta table says "
                    f"{size}; is the download complete?"
                )
            found.append(path)
        if not found:
            raise SourceError(f"{self.folder} is a Delta table without files, so it has no rows")
        return found

    def _check_file(self, action: dict[str, Any]) -> None:
        name = unquote(action["path"])
        if action.get("deletionVector"):
            raise self._refusal(f"rows of {name} are deleted by a deletion vector")
        if action.get("partitionValues"):
            raise self._refusal(f"it has partition columns ({name}), and no order of its files")
        if ":" in name or name.startswith("/") or ".." in name.split("/"):
            raise self._refusal(f"its log names a file elsewhere, {name}")

    def _check_features(self, kind: str, value: Any) -> None:
        if kind == "sidecar":
            raise self._refusal("its checkpoint has sidecar files")
        settings = value.get("configuration") or {}
        # A checkpoint has pairs.
        pairs = settings.items() if isinstance(settings, dict) else settings
        if any(key == _MAPPING and mode != "none" for key, mode in pairs):
            raise self._refusal("its columns have other names in the files (column mapping)")
        if value.get("partitionColumns"):
            raise self._refusal(f"it has partition columns: {value['partitionColumns']}")
        unknown = sorted({*map(str, value.get("readerFeatures") or ())} - _FEATURES)
        version = value.get("minReaderVersion") or 0
        if unknown or not isinstance(version, int) or version > _READER_VERSION:
            raise self._refusal(f"it needs a reader of version {version}, with {unknown}")

    def _refusal(self, why: str) -> SourceError:
        return SourceError(f"{self.folder} is a Delta table that is not read: {why}; {_remedy()}")


def _newest_checkpoint(folder: Path, names: Iterable[str]) -> tuple[int, list[str]]:
    """Return the version of the newest complete checkpoint, and its files."""
    found: dict[tuple[int, int], list[str]] = {}
    for match in filter(None, map(_CHECKPOINT.fullmatch, sorted(names))):
        found.setdefault((int(match[1]), int(match[3] or 1)), []).append(match[0])
    complete = [key for key, files in found.items() if len(files) == key[1]]
    if not complete:
        raise SourceError(
            f"{folder} is a Delta table, but its log starts after version 0 and has no checkpoint "
            f"that embstore reads; {_remedy()}"
        )
    version, count = max(complete)
    return version, found[version, count]


def _json_actions(path: Path) -> Iterator[Any]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                if line.strip():
                    yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise SourceError(
                    f"{path}:{number}: expected JSON, as in the log of a Delta table ({error}); is "
                    "the download complete?"
                ) from error


def _checkpoint_actions(path: Path) -> Iterator[Any]:
    try:
        file = parquet.ParquetFile(path)
        kinds = {"add", "remove", "metaData", "protocol", "sidecar"}
        columns = sorted(kinds & set(file.schema_arrow.names))
        for batch in file.iter_batches(1024, columns=columns, use_threads=False):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(
            f"{path} cannot be read as a checkpoint of a Delta table: {error}; is the download "
            "complete?"
        ) from error
