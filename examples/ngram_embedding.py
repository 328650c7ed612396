"""A reader of n-gram tables for a language model: tokens in, embeddings out.

    python -m examples.ngram_embedding

1. `NgramHash` turns the last tokens at each position into ids of rows. This hash is an example: a
   real model documents its own (orders, multipliers, rows of a head), and its ids must be those
   that the table was trained with. That is why the package has no n-gram hashing.
2. `NgramEmbedding` is a module that a model may use for its ``ngram_embedding``. What is announced
   to it is read, decoded and written into a pinned buffer while the model computes.

Run as a program, it makes small models with the structure of two public ones (`made_up_models`),
and reads a prompt in chunks from each: while one chunk is computed, the rows of the next are read.
On a GPU, it was not run yet.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

import embstore
from examples import made_up_models

if TYPE_CHECKING:
    from concurrent.futures import Future

    from numpy.typing import NDArray

CHUNK_TOKENS = 32


@dataclass(frozen=True)
class NgramHash:
    """Ids of the n-grams that end at each token.

    The n-gram of order n at position t is the tokens t - n + 1 to t; tokens before the first one
    are ``pad``. A head of an order multiplies each token by an odd number of its own, combines the
    products by exclusive or, mixes the high bits into the low ones, and takes the remainder by the
    head's number of rows. Heads own consecutive parts of the table.

    Parameters
    ----------
    rows : int
        Rows of the table.
    orders : tuple of int
        Lengths of the n-grams.
    heads : int
        Hashes of each n-gram.
    pad : int
        The token before the first one.
    seed : int
        Seed of the multipliers.

    Examples
    --------
    >>> hashing = NgramHash(rows=4000)
    >>> ids = hashing.ids(np.array([[5, 6, 7, 5, 6, 7]]))
    >>> ids.shape  # 2 orders of 8 heads for each token
    (1, 6, 16)
    >>> np.array_equal(ids[0, 2], ids[0, 5])  # The same last three tokens: the same rows.
    True
    """

    rows: int
    orders: tuple[int, ...] = (2, 3)
    heads: int = 8
    pad: int = 0
    seed: int = 17

    @property
    def count(self) -> int:
        """Ids of each token."""
        return len(self.orders) * self.heads

    def ids(
        self, tokens: NDArray[np.int64], before: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """Return the ids of tokens.

        Parameters
        ----------
        tokens : ndarray of int64, shape (..., length)
            Some tokens of each sequence.
        before : ndarray of int64, shape (..., any), optional
            The tokens before them, such as those of the chunks before.

        Returns
        -------
        ndarray of int64, shape (..., length, count)
        """
        longest, length = max(self.orders), tokens.shape[-1]
        pads = np.full((*tokens.shape[:-1], longest - 1), self.pad)
        known = [pads, tokens] if before is None else [pads, before, tokens]
        padded = np.concatenate(known, -1)[..., -(length + longest - 1) :].astype(np.uint64)
        # The last token of every n-gram first, then the one before it.
        shifted = [padded[..., longest - 1 - k : longest - 1 - k + length] for k in range(longest)]
        random = np.random.default_rng(self.seed)
        odd = random.integers(0, 1 << 63, (self.count, longest), dtype=np.uint64) * 2 + 1
        out = np.empty((*tokens.shape, self.count), np.int64)
        each = self.rows // self.count
        for number in range(self.count):
            mixed = shifted[0] * odd[number, 0]
            for k in range(1, self.orders[number // self.heads]):
                mixed = mixed ^ shifted[k] * odd[number, k]
            mixed ^= mixed >> np.uint64(32)
            out[..., number] = (mixed % np.uint64(each)).astype(np.int64) + number * each
        return out


class Buffer:
    """Memory for the rows of one call, and what must end before it is filled again."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._memory = torch.empty(0, dtype=dtype)
        self._filling: Future[torch.Tensor] | None = None
        self._copied: torch.cuda.Event | None = None

    def fill(self, store: embstore.EmbeddingStore, ids: NDArray[np.int64]) -> Future[torch.Tensor]:
        """Submit ids; the future gives their rows, shape ``ids.shape + store.row_shape``."""
        if self._filling is not None:
            wait([self._filling])
        if self._copied is not None:
            self._copied.synchronize()
        shape = *ids.shape, *store.row_shape
        size = int(np.prod(shape))
        if self._memory.numel() < size:
            # From pinned memory, a copy to a GPU is asynchronous.
            self._memory = torch.empty(
                size, dtype=self._memory.dtype, pin_memory=torch.cuda.is_available()
            )
        self._filling = store.submit(ids, out=self._memory[:size].view(shape))
        return self._filling

    def copy(self, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Return a copy of the rows on a device."""
        if device.type != "cuda":
            return rows.to(device, copy=True)
        copied = rows.to(device, non_blocking=True)
        self._copied = torch.cuda.Event()
        self._copied.record()
        return copied


class NgramEmbedding(nn.Module):
    """Embeddings of n-grams, from a table that stays on disk.

    There is nothing to train or to save: the table belongs to its file.

    Parameters
    ----------
    store : EmbeddingStore
        The table.
    hashing : NgramHash
        The ids of tokens.
    device : torch.device, optional
        Where the embeddings are wanted; the CPU by default.
    dtype : torch.dtype
        Dtype of the embeddings.
    """

    def __init__(
        self,
        store: embstore.EmbeddingStore,
        hashing: NgramHash,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__()
        self.store = store
        self.hashing = hashing
        self.device = torch.device(device)
        # One is read by the model while the other is filled.
        self._two = Buffer(dtype), Buffer(dtype)
        self._turn = 0
        self._announced: tuple[NDArray[np.int64], Future[torch.Tensor]] | None = None

    def announce(self, tokens: torch.Tensor, before: torch.Tensor | None = None) -> None:
        """Start to read the rows of the next call of `forward`, and return at once."""
        ids = self._ids(tokens, before)
        self._announced = ids, self._submit(ids)

    def forward(self, tokens: torch.Tensor, before: torch.Tensor | None = None) -> torch.Tensor:
        """Return the embeddings of tokens.

        Parameters
        ----------
        tokens : Tensor of int64, shape (..., length)
            Some tokens of each sequence.
        before : Tensor of int64, shape (..., any), optional
            The tokens before them.

        Returns
        -------
        Tensor, shape ``tokens.shape + (hashing.count * width,)``
            The rows of each token, one after the other.
        """
        ids = self._ids(tokens, before)
        announced, self._announced = self._announced, None
        if announced is None or not np.array_equal(announced[0], ids):
            announced = ids, self._submit(ids)
        rows = announced[1].result().view(*tokens.shape, -1)
        return self._two[self._turn].copy(rows, self.device)

    def _ids(self, tokens: torch.Tensor, before: torch.Tensor | None) -> NDArray[np.int64]:
        return self.hashing.ids(
            tokens.cpu().numpy(), None if before is None else before.cpu().numpy()
        )

    def _submit(self, ids: NDArray[np.int64]) -> Future[torch.Tensor]:
        self._turn ^= 1
        return self._two[self._turn].fill(self.store, ids)


def prefill(model: nn.Module, layer: NgramEmbedding, prompt: torch.Tensor) -> torch.Tensor:
    """Return a model's answer to a prompt of shape (length,), read in chunks.

    Each chunk announces the next. While a model generates, the next token is known only when the
    step ends; announce it as soon as it is drawn, and the rows are read while the layers below the
    table compute.
    """
    starts = range(0, len(prompt), CHUNK_TOKENS)
    layer.announce(prompt[:CHUNK_TOKENS], prompt[:0])
    answers = []
    for start in starts:
        stop = start + CHUNK_TOKENS
        embeddings = layer(prompt[start:stop], prompt[:start])
        if stop < len(prompt):
            layer.announce(prompt[stop : stop + CHUNK_TOKENS], prompt[:stop])
        answers.append(model(embeddings))
    return torch.cat(answers)


def open_shards(directory: Path) -> embstore.EmbeddingStore:
    """Open the table whose shards the index lists, with one scale for all."""
    tensor, scale = made_up_models.SHARD_NAME, made_up_models.SHARD_SCALE
    return embstore.open(directory, tensor=tensor, scale=scale)


def open_engram(directory: Path, layer: int) -> embstore.EmbeddingStore:
    """Open the table of one layer, with a scale for every 32 values."""
    tensor = made_up_models.ENGRAM_NAME.format(layer=layer)
    scale = made_up_models.ENGRAM_SCALE.format(layer=layer)
    return embstore.open(directory, tensor=tensor, scale=scale)


def show(name: str, store: embstore.EmbeddingStore, hashing: NgramHash) -> None:
    """Read a prompt from a table, and print what came."""
    prompt = torch.randint(0, 50_000, (100,), generator=torch.Generator().manual_seed(0))
    layer = NgramEmbedding(store, hashing)
    width = hashing.count * store.row_shape[0]
    model = nn.Linear(width, 64, bias=False, dtype=torch.bfloat16)
    with torch.inference_mode():
        answer = prefill(model, layer, prompt)
    print(f"{name}: {store.encoding}, {hashing.count} rows of {store.row_shape[0]} a token")
    print(f"  {len(prompt)} tokens -> {tuple(answer.shape)}, {store.stats().rows:,} rows read")


def main() -> None:
    """Make both models, and read a prompt from each of their tables."""
    with tempfile.TemporaryDirectory() as folder:
        shards, engram = Path(folder, "shards"), Path(folder, "engram")
        made_up_models.make_shards(shards)
        made_up_models.make_engram(engram)
        with open_shards(shards) as store:
            show("shards", store, NgramHash(store.rows))
        for layer in made_up_models.ENGRAM_LAYERS:
            with open_engram(engram, layer) as store:
                # Two layers of 24 rows are 48 rows a token.
                show(f"layer {layer}", store, NgramHash(store.rows, orders=(2, 3, 4), seed=layer))


if __name__ == "__main__":
    main()
