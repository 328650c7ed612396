"""Peers that look up words: gensim's KeyedVectors, in RAM and memory-mapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchmarks.peers.base import Peer

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class Gensim(Peer):
    """``KeyedVectors[words]`` with the vectors in RAM."""

    name: ClassVar[str] = "gensim"
    packages: ClassVar[tuple[tuple[str, str], ...]] = (("gensim", "gensim"),)
    in_ram: ClassVar[bool] = True

    def open(self) -> None:
        """Load the vectors."""
        self._vectors = self._load()

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the vectors of ids."""
        return np.asarray(self._vectors.vectors[ids])

    def lookup_words(self, words: list[str]) -> NDArray[Any]:
        """Return the vectors of words."""
        return np.asarray(self._vectors[words])

    def _load(self) -> Any:
        from gensim.models import KeyedVectors  # noqa: PLC0415

        vectors = KeyedVectors(self.table.row_shape[0], count=0, dtype=np.dtype(self.table.dtype))
        vectors.vectors = self.table.matrix()
        vectors.index_to_key = self.table.words(np.arange(self.table.rows))
        vectors.key_to_index = {word: row for row, word in enumerate(vectors.index_to_key)}
        return vectors


@dataclass
class GensimMapped(Gensim):
    """``KeyedVectors.load(mmap="r")[words]``: words in RAM, vectors in an np.memmap."""

    name: ClassVar[str] = 'gensim mmap="r"'
    in_ram: ClassVar[bool] = False

    def prepare(self) -> None:
        """Save the vectors."""
        self._load().save(str(self.own_directory / "vectors.kv"))

    def open(self) -> None:
        """Load the words, map the vectors."""
        from gensim.models import KeyedVectors  # noqa: PLC0415

        self._vectors = KeyedVectors.load(str(self.own_directory / "vectors.kv"), mmap="r")
