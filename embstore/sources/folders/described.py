"""Folders that say themselves what is in them: data sets, Delta tables, tables of other libraries.

1. Hugging Face's datasets writes ``state.json``, which lists the files in order; a folder of
   several splits has a ``dataset_dict.json``.
2. A Delta table has a log: see `embstore.sources.folders.delta`.
3. Iceberg, Hudi, Lance, Zarr, models that gensim saved and stacks of dask need their own library.
"""

from __future__ import annotations

import json
import os
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from embstore.errors import SourceError
from embstore.formats.own import spec
from embstore.sources.folders.delta import LOG, delta_files
from embstore.sources.folders.parts import listing
from embstore.wording import and_pass, either

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

_GENSIM = re.compile(
    r"(.+?)\.(?:(?:wv|dv|docvecs|trainables|syn1neg)\.)*"
    r"(?:vectors(?:_\w+)?|syn0\w*|syn1\w*|doctag_syn0\w*|vectors_docs\w*)\.npy"
)
_ICEBERG = "metadata/[v0-9]*.metadata.json"
ZARR = (spec.METADATA, ".zarray", ".zgroup")
# The names by which a subfolder is a table of its own.
MARKERS = (
    *((name,) for name in (*ZARR, LOG, ".hoodie", "_versions", "dataset_dict.json")),
    ("state.json", "dataset_info.json"),
)


def described_files(folder: Path) -> tuple[str, Callable[[], list[Path]]] | None:
    """Return the format of a folder that says itself what is in it, and a function for the files.

    Raises
    ------
    SourceError
        If it needs another reader.
    """
    if (folder / LOG).is_dir():
        return "parquet", partial(delta_files, folder)
    for pattern, what in _other_tables().items():
        if next(folder.glob(pattern), None) is not None:
            raise SourceError(f"{folder} is {what}")
    group = _read_json(folder / spec.METADATA)
    if isinstance(group, dict) and "zarr_format" in group:
        attributes = group.get("attributes")
        if not isinstance(attributes, dict) or spec.ATTRIBUTE not in attributes:
            raise SourceError(
                f"{folder} is a Zarr {group.get('node_type', 'group')}, not a store; open it with "
                f"zarr, {and_pass('the array')}"
            )
    splits = _read_json(folder / "dataset_dict.json")
    if isinstance(splits, dict) and isinstance(splits.get("splits"), list):
        names = list(map(str, splits["splits"]))
        if len(names) != 1 or "/" in names[0] or not (folder / names[0]).is_dir():
            raise SourceError(
                f"{folder} is a data set with the splits {', '.join(names)}; give the folder of "
                f"one, as in {folder / names[0] if names else folder}"
            )
        return described_files(folder / names[0])
    state = _read_json(folder / "state.json")
    if isinstance(state, dict) and "_data_files" in state:
        return "arrow", partial(_dataset_files, folder, state)
    if group is None:
        _refuse_inside(folder)
    return None


def _other_tables() -> dict[str, str]:
    """Return what a folder is and what to do with it, by a file that is in it."""
    pyiceberg = either("pyiceberg, as in table.scan().to_arrow()", "pyiceberg")
    iceberg = f"an Iceberg table; read it with {pyiceberg}, {and_pass('the table')}"
    lance = either("lance, as in lance.dataset(path).to_table()", "lance")
    return {
        ".hoodie": f"a Hudi table; read it with Spark or hudi, {and_pass('the frame')}",
        "_versions": f"a Lance table; read it with {lance}, {and_pass('the table')}",
        ".zarray": f"a Zarr array; open it with zarr, {and_pass('the array')}",
        ".zgroup": f"a Zarr group; open it with zarr, {and_pass('one of its arrays')}",
        "metadata/version-hint.text": iceberg,
        _ICEBERG: iceberg,
    }


def _refuse_inside(folder: Path) -> None:
    """Refuse a folder whose files are listed by a log in a folder above it."""
    whole = folder.absolute()
    for parent in whole.parents[:2]:
        is_iceberg = (
            whole.is_relative_to(parent / "data") and next(parent.glob(_ICEBERG), None) is not None
        )
        if (parent / LOG).is_dir() or is_iceberg:
            raise SourceError(
                f"{folder} is part of the table in {parent}, whose log tells which files are in "
                f"the table; give {parent}"
            )


def _dataset_files(folder: Path, state: dict[str, Any]) -> list[Path]:
    """Return the files of a data set, as its state lists them."""
    where = folder / "state.json"
    if state.get("_indices_data_files"):
        raise SourceError(
            f"{folder} is a data set whose rows are chosen or reordered by other files (select, "
            "shuffle, filter); save it after flatten_indices"
        )
    try:
        names = [entry["filename"] for entry in state["_data_files"]]
        if not all(isinstance(name, str) and "/" not in name for name in names):
            raise ValueError(f"a file is named {names}")
    except (TypeError, KeyError, ValueError) as error:
        raise SourceError(
            f"{where} is not readable: it does not list the files of a data set; save the data set "
            "again"
        ) from error
    if not names:
        raise SourceError(f"{where} lists no files, so the data set has no rows")
    if len(set(names)) < len(names):
        raise SourceError(f"{where} lists a file twice: {listing(names)}; save the data set again")
    for name in names:
        if not os.path.lexists(folder / name):
            raise SourceError(f"{where} lists {name}, which is missing; is the download complete?")
    return [folder / name for name in names]


def refuse_gensim(folder: Path, names: Sequence[str], others: Collection[str]) -> None:
    """Refuse the arrays that gensim saves beside a model.

    Parameters
    ----------
    folder : Path
        The folder.
    names : sequence of str
        The ``.npy`` files in it.
    others : collection of str
        All files in it.
    """
    models: dict[str, list[str]] = {}
    for name in names:
        if match := _GENSIM.fullmatch(name):
            models.setdefault(match[1], []).append(name)
    for model, arrays in models.items():
        if model in others or len(arrays) > 1:
            likely = [name for name in arrays if name.endswith(("vectors.npy", "syn0.npy"))]
            raise SourceError(
                f"{folder} is a model that gensim saved: {model}, with {listing(arrays)}; load "
                f"{model} in gensim, "
                + either("and pass its vectors (model.wv)", "and save its vectors with it as text")
                + ", which have their words; for "
                f"the numbers alone, give {folder / (likely or arrays)[0]}"
            )


def refuse_stack(folder: Path, names: Sequence[str], others: Collection[str]) -> None:
    """Refuse a stack of dask, as `refuse_gensim` does: its axis is in a pickle."""
    if "info" in others and "0.npy" in names and len(names) > 1:
        raise SourceError(
            f"{folder} is a stack of dask, which may be split along any axis; load it with "
            f"{either('dask.array.from_npy_stack', 'dask')}, {and_pass('the array')}"
        )


def _read_json(path: Path) -> Any:
    """Return the value in a small JSON file; None if it is missing or not JSON."""
    try:
        if path.is_file() and path.stat().st_size <= spec.MAX_METADATA_BYTES:
            return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        pass
    return None
