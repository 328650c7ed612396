"""Rows of a store as samples for a ``DataLoader``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from embstore.errors import IdRangeError
from embstore.interop.stores import check_store
from embstore.interop.torch.tensors import gather
from embstore.table.ids import as_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from embstore.reading.submitted import Prefetch
    from embstore.store import EmbeddingStore

_CPU = torch.device("cpu")


class StoreDataset(Dataset):
    """A map-style dataset whose item ``i`` is a row, or several rows, as a tensor.

    A ``DataLoader`` gets each batch by one lookup. Workers may be forked or spawned; spawned ones
    open the store again.

    Parameters
    ----------
    store : EmbeddingStore
        The table.
    ids : array-like of integers, shape (items, ...), optional
        The ids of each item; by default, item ``i`` is row ``i``. An item with several ids is a
        tensor of as many rows.
    targets : array-like or tensor, shape (items, ...), optional
        The target of each item, which then is a pair ``(rows, target)``.

    Notes
    -----
    For large batches of small rows, the loader takes longer to stack the samples than the lookup
    takes. Items that are whole batches avoid it::

        batches = BatchSampler(RandomSampler(dataset), batch_size=4096, drop_last=False)
        DataLoader(dataset, sampler=batches, batch_size=None)

    Examples
    --------
    >>> from torch.utils.data import DataLoader
    >>> dataset = StoreDataset(store, store.ids(["like", "the", "country"]), targets=[0, 0, 1])
    >>> len(dataset), dataset[0][0].shape
    (3, torch.Size([8]))
    >>> [rows.shape for rows, targets in DataLoader(dataset, batch_size=2)]
    [torch.Size([2, 8]), torch.Size([1, 8])]
    """

    def __init__(
        self,
        store: EmbeddingStore,
        ids: ArrayLike | None = None,
        targets: Any | None = None,
    ) -> None:
        check_store(store)
        self.store = store
        # Copies: the caller may change its arrays.
        self.ids = None if ids is None else np.array(as_ids(ids, store.rows))
        if self.ids is not None and self.ids.ndim == 0:
            raise ValueError("ids is a single number; expected an array with the ids of each item")
        self.targets = None if targets is None else torch.as_tensor(targets).clone()
        if self.targets is not None and len(self.targets) != len(self):
            raise ValueError(f"{len(self.targets)} targets for {len(self)} items")

    def __len__(self) -> int:
        return self.store.rows if self.ids is None else len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        """Return an item, or a batch of items for a sequence of indices."""
        indices = self._indices(index)
        rows = gather(self.store, self._ids(indices), _CPU)
        return rows if self.targets is None else (rows, self.targets[torch.from_numpy(indices)])

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return a list of items by one lookup; a ``DataLoader`` calls this."""
        batch = self[indices]
        return list(batch) if self.targets is None else list(zip(*batch, strict=True))

    def prefetch(self, indices: ArrayLike) -> Prefetch:
        """Start reading items from disk, without waiting for them."""
        return self.store.prefetch(self._ids(self._indices(indices)))

    def _indices(self, indices: Any) -> NDArray[np.int64]:
        """Return a checked copy of the indices of items."""
        try:
            return np.array(as_ids(indices, len(self)))
        except IdRangeError:
            flat = np.ravel(np.asarray(indices, object)).tolist()
            first = next(item for item in flat if not 0 <= item < len(self))
            message = f"item {first} is out of range: the dataset has {len(self)} items"
            raise IndexError(message) from None

    def _ids(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return indices if self.ids is None else np.asarray(self.ids[indices])
