"""Peers: other ways to look up rows, each set up as its own documentation advises.

A peer writes its own files from the rows of the same store, is opened in a process of its own, and
must return the same rows. A peer whose package is not installed is skipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.peers.arrays import Hdf5, Memmap, TensorStore, ZarrOindex
from benchmarks.peers.databases import Lance, Lmdb
from benchmarks.peers.engram import EngramFetch, EngramPages
from benchmarks.peers.ram import Matrix, Take, TorchEmbedding
from benchmarks.peers.words import Gensim, GensimMapped

if TYPE_CHECKING:
    from benchmarks.peers.base import Peer

# Peers with the rows in RAM first; of the others, NumPy's memmap, the most common, first.
BY_ID: tuple[type[Peer], ...] = (
    Matrix,
    Take,
    TorchEmbedding,
    Memmap,
    Lance,
    Lmdb,
    Hdf5,
    ZarrOindex,
    TensorStore,
    EngramFetch,
    EngramPages,
)
BY_WORD: tuple[type[Peer], ...] = (Matrix, Gensim, GensimMapped)
ALL = tuple(dict.fromkeys(BY_ID + BY_WORD))

__all__ = ["ALL", "BY_ID", "BY_WORD"]
