"""PyTorch modules and datasets over stores, whose rows stay on disk.

>>> import torch
>>> from embstore.interop.torch import StoreEmbedding
>>> model = torch.nn.Sequential(StoreEmbedding(store), torch.nn.Linear(8, 2))
>>> model(torch.tensor([[1, 0], [7, 1]])).shape
torch.Size([2, 2, 2])

`StoreEmbedding` and `StoreEmbeddingBag` replace ``nn.Embedding`` and ``nn.EmbeddingBag`` with
frozen weights, and `swap` puts one in the place of a model's own; `StoreDataset` provides rows to a
``DataLoader``. ``docs/pytorch.md`` lists the differences.
"""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        'embstore.interop.torch needs PyTorch: pip install "embstore[torch]"'
    ) from error

from embstore.interop.torch.bag import StoreEmbeddingBag
from embstore.interop.torch.dataset import StoreDataset
from embstore.interop.torch.embedding import StoreEmbedding
from embstore.interop.torch.swap import swap

__all__ = ["StoreDataset", "StoreEmbedding", "StoreEmbeddingBag", "swap"]
