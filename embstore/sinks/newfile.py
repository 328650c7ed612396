"""How does a file appear whole or not at all? It is written under another name, then renamed.

The other name is a hidden sibling's, ``.NAME.exporting-...``. An error removes it; what was at the
target stays until the new file is on disk, and is replaced in one step.
"""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from embstore.writing import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[IO[bytes]]:
    """Open a file that is at ``path`` when the block has ended, and nowhere if it raised.

    Parameters
    ----------
    path : Path
        Where the file will be.
    overwrite : bool
        Whether a file at ``path`` may be replaced.

    Raises
    ------
    FileExistsError
        If something is at ``path`` that must not be replaced.
    FileNotFoundError
        If its directory does not exist.
    """
    check_target(path, overwrite=overwrite)
    hidden = path.with_name(f".{path.name}.exporting-{secrets.token_hex(4)}")
    try:
        with files.naming(path), hidden.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        check_target(path, overwrite=overwrite)
        hidden.replace(path)
    except BaseException:
        hidden.unlink(missing_ok=True)
        raise
    files.flush_directory(path.parent)


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raise unless a file may be put at ``path``."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the directory {path.parent} does not exist; make it first")
    if not os.path.lexists(path):
        return
    if not path.is_file():
        raise FileExistsError(f"{path} exists and is not a file; choose another path")
    if not overwrite:
        raise FileExistsError(
            f"{path} exists; choose another path, or replace it with overwrite=True (--overwrite "
            "on the command line)"
        )
