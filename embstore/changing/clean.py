"""Removal of what killed builds left beside a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embstore.errors import StoreExistsError
from embstore.paths import as_local_path
from embstore.wording import function
from embstore.writing.disk.leftovers import leftovers
from embstore.writing.disk.staging import Staging, why_no_store

if TYPE_CHECKING:
    import os
    from pathlib import Path


def _of_a_url() -> str:
    return f"what is left of a publication goes with {function('prune')}"


def clean(path: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Remove what builds and changes that were killed left beside a store.

    A new build of the same store does so too. The store itself does not change, and need not exist.
    If a replacement was cut off in its middle, the old store is put back in its place first.

    Parameters
    ----------
    path : str or path-like
        The store; symbolic links are followed.

    Returns
    -------
    tuple of Path
        The directories that were removed, or renamed to the store.

    Raises
    ------
    StoreBusyError
        If a build of this store is running.
    StoreExistsError
        If something else than a store is at ``path``.
    OSError
        If the files may not be removed.

    Examples
    --------
    >>> embstore.clean("words.embstore")
    ()
    """
    target = as_local_path(path, "path", _of_a_url()).resolve()
    found = leftovers(target)
    if not found:
        return ()
    if target.exists() and (problem := why_no_store(target)):
        raise StoreExistsError(
            f"{target} {problem}, so nothing beside it was removed; if builds are not running, "
            f"remove {', '.join(map(str, found))} yourself"
        )
    # A claim clears what is left, and gives back what is not published.
    Staging(target, overwrite=True).discard()
    return tuple(one for one in found if not one.exists())
