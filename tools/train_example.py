"""A small classifier, trained on embeddings that stay on disk: the kind of a token by its vector.

The store of ``tools/quickstart`` holds BERT's 30,522 tokens. The spelling of a token tells its
kind: a whole word, a suffix ("##ing"), a number, reserved ("[MASK]") or none of these. Here it is
learned from the vector alone, on four fifths of the tokens, and tested on the others.
Needs PyTorch::

    tools/quickstart
    .venv/bin/python tools/train_example.py [STORE]
"""

from __future__ import annotations

import io
import re
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

import embstore
from embstore.interop.torch import StoreEmbedding

STORE = Path(__file__).parent.parent / "data" / "minilm.embstore"
KINDS = {"word": "[a-z]+", "suffix": "##.+", "number": "[0-9]+", "reserved": r"\[.+\]"}
EPOCHS = 5
BATCH = 256


def main() -> None:
    """Run the example."""
    try:
        store = embstore.open(sys.argv[1] if len(sys.argv) > 1 else STORE)
    except (embstore.EmbstoreError, OSError, ValueError) as error:
        hint = "" if len(sys.argv) > 1 else "; run tools/quickstart first, which makes it"
        sys.exit(f"train_example: {error}{hint}")
    torch.manual_seed(0)
    kinds = torch.tensor([kind_of(word) for word in store.words(np.arange(len(store)))])
    shuffled = torch.randperm(len(store))
    test, train = shuffled.tensor_split([len(store) // 5])

    embedding = StoreEmbedding(store)
    hidden = nn.Linear(embedding.embedding_dim, 64)
    model = nn.Sequential(embedding, hidden, nn.ReLU(), nn.Linear(64, len(KINDS) + 1))
    print(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(EPOCHS):
        loss = train_once(model, optimizer, train[torch.randperm(len(train))], kinds)
        right = model(test).argmax(1) == kinds[test]
        accuracy = right.float().mean().item()
        print(f"epoch {epoch + 1}: loss {loss:.3f}, test accuracy {accuracy:.1%}")

    for number, name in enumerate([*KINDS, "other"]):
        mine = kinds[test] == number
        print(f"{name:10} {right[mine].float().mean().item():6.1%} of {mine.sum().item()}")
    commonest = (kinds[test] == kinds[train].mode().values).float().mean().item()
    print(f"always the commonest kind: {commonest:.1%}")
    print(f"checkpoint: {checkpoint_bytes(model):,} bytes")


def train_once(
    model: nn.Module, optimizer: torch.optim.Optimizer, ids: torch.Tensor, kinds: torch.Tensor
) -> float:
    """Train on each id once; return the mean loss."""
    losses = []
    for batch, following in pairwise([*ids.split(BATCH), ids[:0]]):
        model[0].prefetch(following)
        loss = nn.functional.cross_entropy(model(batch), kinds[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def kind_of(word: str) -> int:
    """Return the number of a token's kind, by its spelling."""
    patterns = enumerate(KINDS.values())
    return next((n for n, pattern in patterns if re.fullmatch(pattern, word)), len(KINDS))


def checkpoint_bytes(model: nn.Module) -> int:
    """Return the size of the model's checkpoint, which names the store and holds no rows."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    return len(file.getvalue())


if __name__ == "__main__":
    main()
