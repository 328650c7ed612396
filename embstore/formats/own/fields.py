"""Untrusted JSON: bounded in size, with the type and bounds of each field checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from embstore.errors import StoreCorruptError
from embstore.formats.own import spec
from embstore.formats.own.checked_files import REBUILD, read_small
from embstore.formats.own.spec import shown

if TYPE_CHECKING:
    from pathlib import Path

# The types of JSON, as messages call them.
_KINDS = {
    str: "a string",
    int: "an integer",
    float: "a number with a fraction",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def read_json(path: Path) -> Any:
    """Return the value in a JSON file of the store."""
    return parse_json(path, read_small(path, spec.MAX_METADATA_BYTES))


def parse_json(path: Path | str, data: bytes) -> Any:
    """Return the value in the text of a JSON file."""
    try:
        return json.loads(data)
    except UnicodeDecodeError as error:
        raise StoreCorruptError(f"{path} is not readable JSON: not UTF-8; {REBUILD}") from error
    except (ValueError, RecursionError) as error:
        raise StoreCorruptError(f"{path} is not readable JSON: {error}; {REBUILD}") from error


class Fields:
    """Typed access to an untrusted JSON object.

    Parameters
    ----------
    fields : anything
        The value, which must be an object.
    where : Path or str
        Its file, for messages.
    name : str
        Its name, for messages.
    """

    def __init__(self, fields: Any, where: Path | str, name: str) -> None:
        self._fields, self._where, self._name = fields, where, name
        if not isinstance(fields, dict):
            raise StoreCorruptError(f"{where}: {name} is not an object; {REBUILD}")

    def error(self, key: str, problem: str) -> StoreCorruptError:
        """Return the error to raise for a field."""
        return StoreCorruptError(f"{self._where}: {key!r} of {self._name} {problem}; {REBUILD}")

    def get(self, key: str, *kinds: type) -> Any:
        """Return a field of one of some types."""
        if key not in self._fields:
            raise self.error(key, "is missing")
        value = self._fields[key]
        if type(value) not in kinds:
            names = " or ".join(map(_KINDS.__getitem__, kinds))
            raise self.error(key, f"is {_KINDS[type(value)]}, expected {names}")
        return value

    def integer(self, key: str, *, low: int = 0, high: int = spec.MAX_BYTES) -> int:
        """Return a field that is a number within bounds."""
        value = self.get(key, int)
        if not low <= value <= high:
            raise self.error(key, f"is {shown(value)}, expected {low} to {high}")
        return int(value)

    def integers(self, key: str) -> list[int]:
        """Return a field that is a list of counts."""
        values = self.get(key, list)
        if any(type(value) is not int or not 0 <= value <= spec.MAX_BYTES for value in values):
            raise self.error(key, "is not a list of counts")
        return list(values)
