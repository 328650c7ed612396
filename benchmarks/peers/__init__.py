"""Who else looks up rows? One small class each, set up as its own documentation advises.

Each writes its own files from the rows of the same store, is opened in a process of its own, and
must return the same rows. One whose package is not installed is skipped.
"""

from __future__ import annotations

from benchmarks.peers.arrays import Hdf5, Memmap, TensorStore, ZarrOindex
from benchmarks.peers.databases import Lance, Lmdb
from benchmarks.peers.ram import Take, TorchEmbedding
from benchmarks.peers.words import Gensim, GensimMapped
from embstore.bench.peers import Matrix, Peer

# Those that hold the rows in RAM first; then the others, the usual loader before all.
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
)
BY_WORD: tuple[type[Peer], ...] = (Matrix, Gensim, GensimMapped)
ALL = tuple(dict.fromkeys(BY_ID + BY_WORD))

__all__ = ["ALL", "BY_ID", "BY_WORD"]
