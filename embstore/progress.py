"""How far is a long piece of work? What its ``progress`` callback is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long piece of work is.

    Attributes
    ----------
    done_bytes, total_bytes : int
        Bytes of input done, and all of them; 0 where nobody knows.
    rows : int or None
        Rows done, where the work counts rows.

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
