"""A recommender over items with ids of their own: candidates of a user, and a model on top.

    python examples/recommender.py

1. Items have 64-bit ids. Written as words of the store, they find their rows.
2. A user's vector is the mean of the rows of the history; items that the store lacks are dropped.
3. Candidates are the rows nearest to that vector, except those of the history.
4. A small model ranks them. It is trained with PyTorch, and the table stays on disk.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

import embstore
from embstore.interop.torch import StoreEmbedding, StoreEmbeddingBag

if TYPE_CHECKING:
    from numpy.typing import NDArray

GENRES = ("western", "comedy", "thriller", "musical")
ITEMS, WIDTH, HISTORY = 4_000, 32, 8


def build_items(path: Path) -> embstore.EmbeddingStore:
    """Build a store of made-up items, whose words are their ids."""
    random = np.random.default_rng(0)
    item_ids = random.choice(1 << 62, ITEMS, replace=False)
    genres = np.arange(ITEMS) % len(GENRES)
    centres = random.standard_normal((len(GENRES), WIDTH))
    rows = (centres[genres] + random.standard_normal((ITEMS, WIDTH))).astype(np.float32)
    names = np.array(GENRES)[genres]
    return embstore.build(rows, path, words=item_ids.astype(str), attributes={"genre": names})


def user_vectors(
    store: embstore.EmbeddingStore, histories: list[NDArray[np.int64]]
) -> NDArray[np.float32]:
    """Return the mean of the rows of each user's items, shape (users, width)."""
    # Items newer than the store are missing: their id is -1, which bags leave out.
    ids = store.ids(np.concatenate(histories).astype(str), missing="none")
    bags = embstore.RaggedIds(ids, np.cumsum([0, *map(len, histories)]))
    return embstore.safe_embedding_lookup_sparse(store, bags, combiner="mean")


def candidates(
    store: embstore.EmbeddingStore, histories: list[NDArray[np.int64]], count: int
) -> list[list[str]]:
    """Return the items for each user: the nearest ones that the user does not know."""
    longest = max(map(len, histories))
    found = store.most_similar(user_vectors(store, histories), topn=count + longest)
    return [
        [item for item, _ in nearest if item not in set(history.astype(str))][:count]
        for nearest, history in zip(found, histories, strict=True)
    ]


class Ranker(nn.Module):
    """The score of an item for a user with a history; only the layer between them is trained."""

    def __init__(self, store: embstore.EmbeddingStore) -> None:
        super().__init__()
        self.history = StoreEmbeddingBag(store, mode="mean")
        self.item = StoreEmbedding(store)
        self.tower = nn.Linear(WIDTH, WIDTH)

    def forward(self, history: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """Return scores, shape (users,), of ids of shapes (users, items) and (users,)."""
        return (self.tower(self.history(history)) * self.item(item)).sum(1) / WIDTH


def train(model: Ranker, steps: int) -> list[float]:
    """Train to tell an item of the history's genre from any item; return the losses."""
    random = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(steps):
        genre = torch.randint(len(GENRES), (256, 1), generator=random)
        items = torch.randint(ITEMS // len(GENRES), (256, HISTORY + 1), generator=random)
        liked = items * len(GENRES) + genre  # Ids of rows: genres take turns.
        other = torch.randint(ITEMS, (256,), generator=random)
        difference = model(liked[:, 1:], liked[:, 0]) - model(liked[:, 1:], other)
        loss = nn.functional.softplus(-difference).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main() -> None:
    """Build the items, find candidates of three users, and train the ranker."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, build_items(Path(folder, "items")) as store:
        item_ids = np.array(store.words(np.arange(ITEMS)), np.int64)
        new_item = np.array([4_611_686_018_427_387_904])
        users = {
            "three westerns": item_ids[[0, 4, 8]],
            "two musicals": item_ids[[3, 7]],
            "a comedy and a new item": np.concatenate([item_ids[[1]], new_item]),
        }
        for name, found in zip(users, candidates(store, list(users.values()), 3), strict=True):
            genres = ", ".join(store.attributes["genre"][found])
            print(f"{name}: {genres} (first: item {found[0]})")
        losses = train(Ranker(store), steps=60)
        print(f"loss {np.mean(losses[:10]):.1f} -> {np.mean(losses[-10:]):.1f}")
        print(
            f"{sum(p.numel() for p in Ranker(store).parameters()):,} numbers are trained,", end=" "
        )
        print(f"{store.size:,} stay on disk")


if __name__ == "__main__":
    main()
