"""Values of attributes, checked and collected until all of a build or a change are known."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.attributes.given import as_values, check_count
from embstore.attributes.values import empty_values, part_of
from embstore.dtypes import as_dtype, storage_dtype
from embstore.errors import SourceError
from embstore.formats.own import spec
from embstore.formats.own.attribute_manifest import check_name
from embstore.vocabulary.words import PackedWords
from embstore.wording import option
from embstore.writing.disk.scratch import ScratchArray

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.attributes.values import Values

PIECE_LENGTH = 1 << 18


class CollectedColumn:
    """The values of one attribute so far.

    Parameters
    ----------
    dtype : str
        Its dtype, as the format names it.
    memory_bytes : int
        The most memory for them.
    directory : Path
        Where to create files for the rest.

    Attributes
    ----------
    parts : dict of str to ScratchArray
        The arrays to store: ``bytes`` and ``offsets`` of strings; of numbers the only one, under
        the empty name.
    stored_dtypes : dict of str to numpy.dtype
        Their dtypes.
    """

    def __init__(self, dtype: str, memory_bytes: int, directory: Path) -> None:
        self.dtype = dtype
        if dtype == spec.STRING:
            self.stored_dtypes = {part: np.dtype(name) for part, name in spec.STRING_DTYPES.items()}
        else:
            self.stored_dtypes = {"": storage_dtype(as_dtype(dtype).newbyteorder("<"))}
        share = memory_bytes // len(self.stored_dtypes)
        self.parts = {
            part: ScratchArray(stored, share, directory)
            for part, stored in self.stored_dtypes.items()
        }
        if dtype == spec.STRING:
            self.parts[spec.WORD_OFFSETS].resize(1)
        self.append(empty_values(dtype))

    def append(self, values: Values) -> None:
        """Add values of the column's dtype."""
        if not isinstance(values, PackedWords):
            self.parts[""].append(values.view(self.stored_dtypes[""]))
            return
        data, offsets = self.parts[spec.WORD_BYTES], self.parts[spec.WORD_OFFSETS]
        first, last = int(values.offsets[0]), int(values.offsets[-1])
        offsets.append(values.offsets[1:] + (len(data) - first))
        data.append(values.data[first:last])
        data.release()
        offsets.release()

    def pieces(self, part: str, start: int = 0) -> Iterator[NDArray[Any]]:
        """Yield an array to store from some element on, piece by piece."""
        scratch = self.parts[part]
        for first in range(start, len(scratch), PIECE_LENGTH):
            yield scratch.array[first : first + PIECE_LENGTH]
            scratch.release()

    def close(self) -> None:
        """Free the memory and the disk space."""
        for scratch in self.parts.values():
            scratch.close()


class GivenColumns:
    """The values of attributes as a caller gives them, taken some at a time.

    Parameters
    ----------
    attributes : mapping of str to array-like or iterator
        The values of each; those of an iterator are taken as they are needed.
    dtypes : mapping of str to str, optional
        The attributes of the table, and their dtypes, if these are known.
    """

    def __init__(
        self, attributes: Mapping[str, Any], dtypes: Mapping[str, str] | None = None
    ) -> None:
        dtypes = dtypes or {}
        self._given = {
            name: values
            if isinstance(values, Iterator)
            else as_values(name, values, empty_dtype=dtypes.get(name))
            for name, values in attributes.items()
        }
        self._done = 0

    def take(self, count: int) -> dict[str, Any]:
        """Return the next values of each attribute."""
        start, self._done = self._done, self._done + count
        return {
            name: list(islice(values, count))
            if isinstance(values, Iterator)
            else part_of(values, start, self._done)
            for name, values in self._given.items()
        }

    def check_end(self) -> None:
        """Raise ValueError if there are more values.

        An attribute with too few is noticed when its values are settled.
        """
        for name, values in self._given.items():
            if isinstance(values, Iterator):
                more = any(True for _ in values)
            else:
                more = len(values) > self._done
            if more:
                raise ValueError(f"attribute {name!r} has more values than there are rows")


def settled(
    given: Mapping[str, Any] | None, dtypes: Mapping[str, str] | None, row_count: int
) -> dict[str, Values]:
    """Return the attributes of a batch of rows, checked.

    Parameters
    ----------
    given : mapping of str to array-like, or None
        The values of each attribute, one for each row.
    dtypes : mapping of str to str, or None
        The attributes of the table, and their dtypes; None if they are not known yet.
    row_count : int
        Rows in the batch.

    Raises
    ------
    SourceError
        If these are not the attributes of the table, or not one value for each row.
    TypeError, RowError
        As `embstore.attributes.given.as_values`.
    """
    given = {} if given is None else given
    if dtypes is not None and not given and not row_count:
        return {name: empty_values(dtype) for name, dtype in dtypes.items()}
    if dtypes is not None and set(given) != set(dtypes):
        raise SourceError(_difference(set(given), set(dtypes)))
    found = {}
    for name in given if dtypes is None else dtypes:
        check_name(name)
        found[name] = as_values(name, given[name], None if dtypes is None else dtypes[name])
        check_count(name, found[name], row_count)
    return found


def _difference(given: set[str], known: set[str]) -> str:
    """Return the message for rows whose attributes are not those of the table."""
    if not given:
        return (
            f"the rows have no attributes, and the table has {_listed(known)}; give "
            f"{option('attributes')}, values for every row or the names of columns of the source"
        )
    if not known:
        return f"the rows have the attributes {_listed(given)}, and the table has none; omit them"
    missing, unknown = known - given, given - known
    problems = [f"lack the attributes {_listed(missing)}"] if missing else []
    problems += [f"have {_listed(unknown)}, which the table lacks"] if unknown else []
    return f"the rows {' and '.join(problems)}; give {_listed(known)}"


def _listed(names: set[str]) -> str:
    return ", ".join(map(repr, sorted(names)))
