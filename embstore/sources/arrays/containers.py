"""Containers of arrays, which are not one table: HDF5 files, ``.npz``, checkpoints.

Such an object is a mapping of names to arrays, as ``{word: vector}`` is. What tells it apart is the
library that it comes from, or values that are not vectors: matrices, or mappings. The error lists
the arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np

from embstore.errors import SourceError
from embstore.formats.npy import read_header

_LIBRARIES = ("h5py", "zarr", "xarray", "netCDF4", "tables", "safetensors", "tensordict")
_LOOKED_AT = 100
_LISTED = 10


def refuse_container(source: Any) -> None:
    """Raise SourceError for a container of arrays.

    Parameters
    ----------
    source : object
        An object that is not an array itself.

    Raises
    ------
    SourceError
        If it is a container; the error lists the names and shapes of its arrays.
    """
    if _is_of_library(source):
        remedy = "; if each name is a word, and each array its vector, pass dict(source)"
        if not isinstance(source, Mapping):
            remedy = ""
    elif isinstance(source, Mapping) and any(
        _is_table(value) for value in islice(source.values(), _LOOKED_AT)
    ):
        remedy = "; if each name is a word, and each array its row, pass .items()"
    else:
        return
    names = _names(source)
    listing = ", ".join(f"{name!r}: {_inside(source, name)}" for name in names[:_LISTED])
    if len(names) > _LISTED:
        listing += f", and {len(names) - _LISTED} more"
    raise SourceError(
        f"{type(source).__name__} holds several arrays by name, not {{word: vector}}: "
        f"{listing or 'none that can be read'}; pass one of them, such as "
        f"source[{names[0] if names else 'name'!r}], and words= if its rows have words{remedy}"
    )


def _is_of_library(source: Any) -> bool:
    if isinstance(source, np.lib.npyio.NpzFile) or hasattr(source, "get_tensor"):
        return True
    roots = {kind.__module__.partition(".")[0] for kind in type(source).__mro__}
    return not roots.isdisjoint(_LIBRARIES)


def _is_table(value: Any) -> bool:
    """Say whether a value cannot be a word's vector: a matrix, a mapping, a frame, a module."""
    if isinstance(value, Mapping) or hasattr(value, "state_dict"):
        return True
    if isinstance(value, list | tuple):
        return bool(value) and isinstance(value[0], list | tuple)
    shape = getattr(value, "shape", ())
    return isinstance(shape, tuple) and len(shape) > 1


def _names(source: Any) -> list[Any]:
    with suppress(Exception):  # Closed, for example.
        return list(source.keys())
    return []


def _inside(source: Any, name: Any) -> str:
    """Return the kind, shape and dtype of an array in a container, without reading it."""
    with suppress(Exception):
        if isinstance(source, np.lib.npyio.NpzFile) and source.zip is not None:
            with source.zip.open(f"{name}.npy") as file:
                header, _ = read_header(file, name)
            return f"{header.shape} {header.dtype}"
        if hasattr(source, "get_slice"):
            found = source.get_slice(name)
            return f"{tuple(found.get_shape())} {found.get_dtype()}"
        value = source[name]
        if hasattr(value, "shape"):
            return f"{tuple(value.shape)} {getattr(value, 'dtype', type(value).__name__)}"
        if isinstance(value, Mapping):
            return f"{type(value).__name__} of {len(value)}"
        return type(value).__name__
    return "unreadable"
