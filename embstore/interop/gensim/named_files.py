"""Files that are compressed where their names say so, as with smart_open, which gensim uses."""

from __future__ import annotations

import bz2
import gzip
import lzma
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_OTHERS = ".zst", ".lz4"


def open_text(path: Path, encoding: str = "utf-8", errors: str = "strict") -> IO[str]:
    """Open a file of text, which may be compressed.

    Raises
    ------
    ValueError
        If its name is that of a compression which is not read here.
    """
    opened: IO[str] = _opener(path)(path, "rt", encoding=encoding, errors=errors)
    return opened


@contextmanager
def packing(path: Path, file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Yield what writes to an open file, compressed if ``path``, its name, says so.

    Raises
    ------
    ValueError
        As `open_text`.
    """
    opener = _opener(path)
    if opener is open:
        yield file
        return
    with opener(file, "wb") as packed:
        yield packed


def _opener(path: Path) -> Callable[..., Any]:
    if path.suffix in _OTHERS:
        raise ValueError(f"{path}: expected {', '.join(_OPENERS)} or no compression")
    return _OPENERS.get(path.suffix, open)
