"""Progress of long work, as ``progress`` callbacks receive it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a long piece of work.

    Attributes
    ----------
    done_bytes, total_bytes : int
        Bytes of input done, and all of them; 0 if unknown.
    rows : int or None
        Rows done, if the work counts rows.

    Examples
    --------
    >>> seen = []
    >>> _ = embstore.build("words.txt", "again.embstore", progress=seen.append)
    >>> seen[-1]
    Progress(done_bytes=813, total_bytes=813, rows=11)
    """

    done_bytes: int
    total_bytes: int
    rows: int | None = None


OnProgress: TypeAlias = Callable[[Progress], None]
