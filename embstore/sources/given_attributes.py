"""Attributes that a caller gives beside a source: a column of values for each name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from embstore.attributes.given import as_values
from embstore.attributes.values import dtype_name, part_of
from embstore.errors import SourceError
from embstore.formats.own.attribute_manifest import check_name
from embstore.paths import as_path
from embstore.settle import shown_with_type
from embstore.sources import Batch, Source
from embstore.wording import parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embstore.attributes.values import Values


class WithAttributes(Source):
    """The rows of a source, with attributes beside those that it has.

    Parameters
    ----------
    source : Source
        The source of the rows.
    columns : mapping of str to (ndarray of shape (n,), or PackedWords)
        The values of each attribute, one for each row of the source. An attribute that the source
        has, too, is replaced.
    limited : bool
        Whether the source has only the first rows of its input, so that values may be left over.

    Raises
    ------
    SourceError
        If there are more or fewer values than rows.
    """

    def __init__(self, source: Source, columns: Mapping[str, Values], *, limited: bool) -> None:
        self._source, self._columns, self._limited = source, columns, limited
        self.name = source.name
        self.row_shape = source.row_shape
        self.dtype = source.dtype
        self.byte_count = source.byte_count
        self.row_count = source.row_count
        self.unk = source.unk
        self.ids_matter = source.ids_matter
        self.encoding = source.encoding
        own = {name: dtype_name(values) for name, values in columns.items()}
        self.attribute_dtypes = {**source.attribute_dtypes, **own}
        if self.row_count is not None:
            self._check_counts(self.row_count, ended=True)

    @property
    def row_estimate(self) -> int:
        """An estimate of the number of rows."""
        return self._source.row_estimate

    def batches(self) -> Iterator[Batch]:
        """Yield all rows in order."""
        done = 0
        for batch in self._source.batches():
            start, done = done, done + len(batch.rows)
            self._check_counts(done, ended=False)
            own = {name: part_of(values, start, done) for name, values in self._columns.items()}
            yield replace(batch, attributes={**(batch.attributes or {}), **own})
        self._check_counts(done, ended=True)

    def count_rows(self) -> int:
        """Return the number of rows."""
        return self._source.count_rows()

    def describe(self) -> dict[str, Any]:
        """Return facts about the origin of the source's rows."""
        return self._source.describe()

    def place(self, number: int) -> str:
        """Return the name of a row of the source in messages."""
        return self._source.place(number)

    def _check_counts(self, rows: int, *, ended: bool) -> None:
        for name, values in self._columns.items():
            if len(values) < rows or (ended and not self._limited and len(values) > rows):
                least = "" if ended else "at least "
                raise SourceError(
                    f"attribute {name!r} has {len(values)} values, but {self.name} has {least}"
                    f"{rows} rows; give one value for each row"
                )


def as_attributes(value: Any) -> Mapping[str, Any] | tuple[str, ...] | None:
    """Return the attributes that a caller wants, checked as far as names go.

    Parameters
    ----------
    value : mapping of str to array-like, iterable of str, or None
        The values of each attribute; or the names of those to take from the source.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If a name cannot be that of an attribute, or comes twice.
    """
    if value is None:
        return None
    if isinstance(value, str | bytes | Set) or not isinstance(value, Iterable):
        raise TypeError(
            'attributes must be a mapping such as {"count": values}, or a list of names such as '
            f'["count"], not {shown_with_type(value)}'
        )
    if isinstance(value, Mapping):
        for name in value:
            check_name(name)
        return value
    names = tuple(value)
    for place, name in enumerate(names):
        check_name(name)
        if name in names[:place]:
            raise ValueError(f"{parameter('attributes')} has {name!r} twice; name each once")
    return names


def _read(name: str, values: Any) -> Any:
    """Return the values in a file; others as they are."""
    if not isinstance(values, str | os.PathLike):
        return values
    # Imported here because it needs pyarrow.
    from embstore.sources.attribute_files import read_values  # noqa: PLC0415

    return read_values(as_path(values, f"attributes[{name!r}]"), name)


def with_attributes(
    source: Source, given: Mapping[str, Any], dtypes: Mapping[str, str], *, limited: bool
) -> Source:
    """Return a source with attributes as a caller gives them; errors as `WithAttributes`.

    ``dtypes`` are those of the table's attributes, as far as they are known.
    """
    if not given:
        return source
    columns = {
        name: as_values(name, _read(name, values), empty_dtype=dtypes.get(name))
        for name, values in given.items()
    }
    return WithAttributes(source, columns, limited=limited)
