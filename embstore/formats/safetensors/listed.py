"""The tables among the tensors of a model.

A tensor of two axes or more can be a table, if it holds numbers and is not the scale of another.
Tensors whose names differ in one number, of one dtype and row shape, are listed as a pattern: they
may be the parts of one table, or the tables of several layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from embstore.errors import FormatError
from embstore.formats.names import listing, shown
from embstore.formats.safetensors.names import is_part, known_names, may_be_beside
from embstore.formats.safetensors.numbers import is_numeric, may_have_scale, name_of
from embstore.formats.safetensors.parts import NUMBER, Parts, grouped, groups_of
from embstore.formats.safetensors.scales import find_known
from embstore.table.listed import ListedTable
from embstore.wording import option

if TYPE_CHECKING:
    from embstore.formats.safetensors.catalog import Catalog
    from embstore.formats.safetensors.header import Tensor


def listed_tables(catalog: Catalog) -> list[ListedTable]:
    """Return the tensors that can be tables, in the order of the files.

    Files that an index lists and that are missing are left out.
    """
    groups = _groups(_tensors(catalog))
    may_have_scales = any(map(may_be_beside, catalog.names))
    return [_listed(catalog, name, some, may_have_scales) for name, some in groups.items()]


def choose_table(catalog: Catalog) -> str:
    """Return the name of the only table.

    Raises
    ------
    FormatError
        If there are several, or none.
    """
    remedy = f"name the one to read ({option('tensor')})"
    if len(catalog.names) > 1 and (missing := catalog.missing_files()):
        raise FormatError(
            f"{catalog.where} lists files that are missing: {listing(missing)}; is the download "
            f"complete? It has tensors of these names: {listing(grouped(catalog.names))}; {remedy}"
        )
    tensors = _tensors(catalog)
    if len(tensors) == 1:
        return next(iter(tensors))
    groups = _groups(tensors)
    if len(groups) == 1:
        ((name, parts),) = groups.items()
        rows = sum(tensor.shape[0] for tensor in parts)
        groups |= _as_long(tensors, rows)
        # Tensors of several layers have names that differ in a number, too.
        if len(groups) == 1 and (NUMBER not in name or is_part(name)):
            return name
    names = [_with_parts(name, some) for name, some in groups.items()] or grouped(tensors)
    if len(names) == 1 and NUMBER in names[0]:
        raise FormatError(
            f"{catalog.where} has tensors that are the parts of one table, or several tables: "
            f"{names[0]}; {remedy}"
        )
    raise FormatError(f"{catalog.where} has {len(names)} tensors: {listing(names)}; {remedy}")


def _groups(tensors: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    """Return the names and patterns of what can be a table, with its tensors."""
    beside = _beside(tensors)
    kinds: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, tensor in tensors.items():
        if len(tensor.shape) > 1 and is_numeric(tensor.dtype) and name not in beside:
            kinds.setdefault((tensor.dtype, tensor.shape[1:]), []).append(name)
    groups: dict[str, str] = {}
    for names in kinds.values():
        groups |= groups_of(names)
    found: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        if name in groups:
            found.setdefault(groups[name], []).append(tensor)
    # In the order of their numbers, because shorter names have smaller ones.
    return {
        name: sorted(some, key=lambda tensor: (len(tensor.name), tensor.name))
        for name, some in found.items()
    }


def _as_long(tensors: dict[str, Tensor], rows: int) -> dict[str, list[Tensor]]:
    """Return tensors with a number for each row, which may be another field of a table."""
    beside = _beside(tensors)
    return {
        name: [tensor]
        for name, tensor in tensors.items()
        if tensor.shape == (rows,) and is_numeric(tensor.dtype) and name not in beside
    }


def _tensors(catalog: Catalog) -> dict[str, Tensor]:
    """Return all tensors whose files are there; of a name in several files, the first."""
    return {
        name: found
        for name, (file, *_) in catalog.names.items()
        if catalog.has_file(file) and (found := catalog.header(file).get(name)) is not None
    }


def _beside(tensors: dict[str, Tensor]) -> set[str]:
    """Return the tensors that are the scales or zero points of others."""
    found: set[str] = set()
    # Known names take long to make, and most models have none.
    if not any(map(may_be_beside, tensors)):
        return found
    for name, tensor in tensors.items():
        if may_have_scale(tensor.dtype):
            known = known_names(name)
            every = (*known.scales, *known.others, *(f"{scale}_2" for scale in known.scales))
            found.update(one for one in every if one in tensors)
    return found


def _listed(
    catalog: Catalog, name: str, tensors: list[Tensor], may_have_scales: bool
) -> ListedTable:
    first = tensors[0]
    scales: list[str] = []
    if may_have_scales and may_have_scale(first.dtype):
        scales = find_known(catalog, Parts(name, {0: first}), known_names(name).scales)
    return ListedTable(
        name,
        (sum(tensor.shape[0] for tensor in tensors), *first.shape[1:]),
        name_of(first.dtype),
        len(tensors),
        sum(tensor.size_bytes for tensor in tensors),
        scales[0] if len(scales) == 1 else None,
    )


def _with_parts(name: str, tensors: list[Tensor]) -> str:
    if len(tensors) == 1:
        return name
    return f"{name} ({shown(tensors[0].name)} to {shown(tensors[-1].name)})"
