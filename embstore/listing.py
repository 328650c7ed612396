"""Lists of the tables that a path holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embstore.errors import StoreNotFoundError
from embstore.formats import SAFETENSORS, find_format
from embstore.formats.safetensors.catalog import Catalog
from embstore.opener import check_no_version, missing
from embstore.paths import as_path, as_url
from embstore.reading.files import files_at
from embstore.settle import as_flag
from embstore.table.listed import ListedTable

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from embstore.table.protocols import Files


def tables(
    path: str | os.PathLike[str], *, version: str | None = None, allow_http: bool = False
) -> list[ListedTable]:
    """Return the tables that a path holds, without opening them: only headers are read.

    Of a model, these are the tensors of two axes or more that hold numbers and are not the scales
    of others. Tensors whose names differ in one number, of one dtype and row shape, are listed as a
    pattern; they may be the parts of one table, or the tables of several layers.

    Parameters
    ----------
    path : str or path-like
        What `embstore.open` takes.
    version : str, optional
        As for `embstore.open`.
    allow_http : bool
        As for `embstore.open`.

    Returns
    -------
    list of ListedTable
        Their names, shapes, dtypes and sizes, and the scales that belong to them. A store or a
        ``.npy`` file has one table, without a name.

    Raises
    ------
    StoreNotFoundError, StoreVersionError, StoreCorruptError, FormatError
        As `embstore.open`.

    Examples
    --------
    >>> (table,) = embstore.tables("words.embstore")
    >>> table.shape, table.dtype, table.byte_count
    ((11, 8), 'float32', 352)
    """
    where, files, name = _find(path, version, allow_http=as_flag(allow_http, "allow_http"))
    found = find_format(files, name)
    if found is None:
        raise StoreNotFoundError(missing(where))
    format, name = found
    if format.tables is not None:
        return format.tables(files, name)
    table = format.describe(files, name)
    encoding, rows = table.encoding, table.numbering.rows
    dtype = str(encoding.dtype) if encoding.name == "plain" else encoding.name
    shape = (rows, *encoding.row_shape)
    return [ListedTable("", shape, dtype, 1, rows * encoding.record_bytes)]


def missing_files(
    path: str | os.PathLike[str], *, version: str | None = None, allow_http: bool = False
) -> list[str]:
    """Return the files that the index of a model names and that are missing.

    The parameters and errors are those of `tables`, which leaves out what is in them.

    Examples
    --------
    >>> missing_files("words.embstore")
    []
    """
    _, files, name = _find(path, version, allow_http=as_flag(allow_http, "allow_http"))
    found = find_format(files, name)
    if found is None or found[0] is not SAFETENSORS:
        return []
    return Catalog(files, found[1]).missing_files()


def _find(
    path: str | os.PathLike[str], version: str | None, *, allow_http: bool
) -> tuple[Path | str, Files, str]:
    """Return what was given, settled; the files of a directory; and the name of one, or ``""``."""
    if (url := as_url(path)) is not None:
        # Imported here because only URLs need it.
        from embstore.remote.place import place_at  # noqa: PLC0415

        place = place_at(url, version, allow_http=allow_http)
        return place.url, place.files, place.name
    where = as_path(path, "path").absolute()
    check_no_version(version, where)
    if not where.exists():
        raise StoreNotFoundError(missing(where))
    return (where, *files_at(where))
