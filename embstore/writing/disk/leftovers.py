"""Directories that a build leaves beside its target when it is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embstore.writing.disk import owner
from embstore.writing.disk.replacement import aside_path, copied_path
from embstore.writing.disk.staging import staging_path

if TYPE_CHECKING:
    from pathlib import Path


def leftovers(target: Path) -> list[Path]:
    """Return what builds that have died left beside a store.

    A build that has just begun, and has not written its note yet, may be among them.
    """
    target = target.resolve()
    if not target.name:  # The root of all directories.
        return []
    staged = staging_path(target)
    found = [path for path in (aside_path(target), copied_path(target)) if path.is_dir()]
    if staged.is_dir() and owner.read_note(staged) is None:
        found.append(staged)
    return found
