"""``nn.EmbeddingBag`` with its table on disk.

PyTorch's own ``embedding_bag`` combines the rows, so results equal those of ``nn.EmbeddingBag`` to
the bit.

1. Ids, offsets and weights are brought into one form: flat ids, and the bounds of each bag.
2. If possible, PyTorch reads rows from the mapping and adds them up as it reads; see `in_place`.
3. Otherwise, for example if rows are cold, the bags are cut into slices of a bounded number of
   rows, so that memory stays bounded. The rows of a slice are looked up and then combined.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch.nn.functional import embedding_bag

from embstore.dtypes import is_float
from embstore.interop.torch.arrays import as_array, check_ids, torch_dtype
from embstore.interop.torch.in_place import bags_in_place
from embstore.interop.torch.module import StoreModule, is_recorded
from embstore.settle import as_choice
from embstore.table.ids import as_ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from embstore.store import EmbeddingStore

Mode = Literal["sum", "mean", "max"]

# Rows that are looked up before they are combined. Smaller slices are slower.
SLICE_BYTES = 32 << 20


class StoreEmbeddingBag(StoreModule):
    """Sums, means or maxima of bags of rows, equal to those of a frozen ``nn.EmbeddingBag``.

    Parameters
    ----------
    store : EmbeddingStore
        The table; its rows are vectors of floats.
    mode : {"mean", "sum", "max"}
        How the rows of a bag are combined. An empty bag gives zeros.
    padding_idx : int, optional
        An id that is ignored: its row is left out of every bag.
    max_norm : float, optional
        Rows whose L2 norm exceeds it are scaled down to it first; see `StoreEmbedding`.
    include_last_offset : bool
        Whether ``offsets`` has one more element, the end of the last bag.
    device : torch.device, str or int, optional
        Device that rows are sent to and combined on, the CPU by default; ``.to(device)`` changes
        it.

    Notes
    -----
    Rows that are in memory are added up without a copy if the store is mapped without a
    ``resident_limit`` or ``row_cache``, and the module has its dtype and no ``max_norm``.
    Otherwise, memory holds the rows of one slice: 32 MiB, or a single bag if that is larger. It
    holds all rows of a batch in a compiled model, and where they are needed for the gradient of
    ``per_sample_weights``. Never write to the ``_saved_weight`` of such a gradient: it may be the
    mapping, which is read-only.

    Examples
    --------
    >>> import torch
    >>> bag = StoreEmbeddingBag(store, mode="sum")
    >>> bag(torch.tensor([1, 0, 7, 1, 5]), offsets=torch.tensor([0, 2])).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        store: EmbeddingStore,
        mode: Mode = "mean",
        *,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        include_last_offset: bool = False,
        device: torch.device | str | int | None = None,
    ) -> None:
        super().__init__(store, padding_idx, max_norm, device)
        mode = as_choice(mode, "mode", get_args(Mode))
        if len(store.row_shape) != 1:
            raise ValueError(f"rows of bags must be vectors; the store's are {store.row_shape}")
        if not is_float(store.dtype):
            raise TypeError(f"rows of bags must be floats; the store's are {store.dtype}")
        self.embedding_dim = store.row_shape[0]
        self.mode = mode
        self.include_last_offset = include_last_offset

    def forward(
        self,
        input: torch.Tensor,
        offsets: torch.Tensor | None = None,
        per_sample_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return one vector for each bag.

        Parameters
        ----------
        input : tensor of int32 or int64, shape (bags, ids in a bag) or (n,)
            The ids.
        offsets : tensor of int32 or int64, shape (bags,) or (bags + 1,), optional
            Start of each bag in ``input`` of shape (n,).
        per_sample_weights : tensor of the module's dtype, the shape of ``input``, optional
            Factors of the rows, for the mode ``"sum"``; they receive gradients.

        Returns
        -------
        tensor, shape (bags, embedding_dim)

        Raises
        ------
        TypeError, ValueError
            If shapes or dtypes do not match, the module's dtype is float8, or offsets do not ascend
            from 0 within ``input``.
        IdRangeError
            If an id is negative, or not below the row count; it names the first one.
        """
        ids = input
        check_ids(ids, "input")
        self._check_arithmetic()
        self._check_weights(per_sample_weights, ids)
        bounds = self._bounds(ids, offsets)
        weights = None if per_sample_weights is None else per_sample_weights.reshape(-1)
        if is_recorded():
            return self._record(ids, bounds, weights)
        end = _check_bounds(bounds, ids.numel())
        ids, bounds = ids.cpu(), bounds.to("cpu", torch.int64)
        store = self.store  # Of all slices, also if the module is reloaded meanwhile.
        # Checked as a whole, because a slice has positions of its own.
        checked = as_ids(as_array(ids)[:end], store.rows).reshape(-1)
        weights = None if weights is None else weights[:end]
        found = self._combine_in_place(store, checked, bounds, weights)
        if found is not None:
            return found
        return self._combine_slices(store, ids.reshape(-1), bounds, weights)

    def extra_repr(self) -> str:
        """Return the text between the parentheses of the module's repr."""
        return f"{super().extra_repr()}, mode={self.mode!r}"

    def _combine_in_place(
        self,
        store: EmbeddingStore,
        ids: NDArray[np.int64],
        bounds: torch.Tensor,
        weights: torch.Tensor | None,
    ) -> torch.Tensor | None:
        """Return one vector for each bag, without a copy of the rows; None where impossible."""
        # The norm would be changed in the table, which is read-only.
        if self.max_norm is not None or self.device.type != "cpu" or len(bounds) == 1:
            return None
        if self.dtype != torch_dtype(store.dtype):
            return None
        return bags_in_place(
            store, ids, bounds, weights, mode=self.mode, padding_idx=self.padding_idx
        )

    def _combine_slices(
        self,
        store: EmbeddingStore,
        ids: torch.Tensor,
        bounds: torch.Tensor,
        weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return one vector for each bag, from rows that are looked up, slice by slice."""
        positions = bounds.tolist()
        row_bytes = self.embedding_dim * self.dtype.itemsize
        limit = max(SLICE_BYTES // max(row_bytes, 1), 1)
        results = []
        for first, last in _slices(positions, limit):
            start, stop = positions[first], positions[last]
            part = None if weights is None else weights[start:stop]
            some = bounds[first : last + 1] - start
            results.append(self._combine(store, ids[start:stop], some, part))
        return results[0] if len(results) == 1 else torch.cat(results)

    def _combine(
        self,
        store: EmbeddingStore,
        ids: torch.Tensor,
        bounds: torch.Tensor,
        weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return one vector for each bag; ids have shape (n,)."""
        rows = torch.arange(len(ids), device=self.device)
        padding = None
        if self.padding_idx is not None:
            # One row behind the others stands for all ids that are padding.
            padding = len(ids)
            rows[(ids == self.padding_idx).to(self.device)] = padding
            ids = torch.cat([ids, ids.new_tensor([self.padding_idx])])
        return self._sum(rows, self._rows(ids, store), bounds, weights, padding)

    def _record(
        self, ids: torch.Tensor, bounds: torch.Tensor, weights: torch.Tensor | None
    ) -> torch.Tensor:
        """Return one vector for each bag, by steps that depend on shapes and not on values."""
        if torch.jit.is_tracing():
            raise TypeError(
                "torch.jit.trace would record the number of ids of this call; use torch.export"
            )
        count = ids.numel()
        table = self._rows(ids).reshape(count, self.embedding_dim)
        rows = torch.arange(count, device=self.device)
        padding = None
        if self.padding_idx is not None:
            # A row before the others stands for all ids that are padding: the number of a row must
            # not depend on the number of ids.
            padding = 0
            is_padding = (ids == self.padding_idx).reshape(-1).to(self.device)
            rows = torch.where(is_padding, padding, rows + 1)
            table = torch.cat([table.new_zeros(1, self.embedding_dim), table])
        return self._sum(rows, table, bounds, weights, padding)

    def _sum(
        self,
        rows: torch.Tensor,
        table: torch.Tensor,
        bounds: torch.Tensor,
        weights: torch.Tensor | None,
        padding: int | None,
    ) -> torch.Tensor:
        if not self.embedding_dim:  # PyTorch's function refuses some of these.
            return table.new_empty(len(bounds) - 1, 0)
        return embedding_bag(
            rows,
            table,
            bounds.to(self.device, torch.int64),
            max_norm=self.max_norm,
            mode=self.mode,
            per_sample_weights=weights,
            include_last_offset=True,
            padding_idx=padding,
        )

    def _check_weights(self, weights: torch.Tensor | None, ids: torch.Tensor) -> None:
        if weights is None:
            return
        if self.mode != "sum":
            raise ValueError(f'per_sample_weights need the mode "sum", not {self.mode!r}')
        if not isinstance(weights, torch.Tensor):
            kind = type(weights).__name__
            raise TypeError(f"per_sample_weights must be a torch.Tensor, not {kind}")
        if weights.shape != ids.shape:
            raise ValueError(
                f"per_sample_weights have shape {tuple(weights.shape)}, expected that of the ids, "
                f"{tuple(ids.shape)}"
            )
        if weights.dtype != self.dtype:
            raise TypeError(f"per_sample_weights are {weights.dtype}, expected {self.dtype}")
        if weights.device != self.device:
            raise ValueError(f"per_sample_weights are on {weights.device}, expected {self.device}")

    def _bounds(self, ids: torch.Tensor, offsets: torch.Tensor | None) -> torch.Tensor:
        """Return the start of each bag, and the end of the last one."""
        if ids.ndim not in (1, 2):
            raise ValueError(f"ids must have shape (bags, n) or (n,), not {tuple(ids.shape)}")
        if ids.ndim == 2:
            if offsets is not None:
                raise ValueError("ids of shape (bags, n) are bags already; omit offsets")
            return torch.arange(ids.shape[0] + 1, device="cpu") * ids.shape[1]
        if offsets is None:
            raise ValueError("ids of shape (n,) need offsets: the start of each bag")
        check_ids(offsets, "offsets")
        if offsets.ndim != 1:
            raise ValueError(f"offsets must have shape (bags,), not {tuple(offsets.shape)}")
        if not self.include_last_offset:
            return torch.cat([offsets, offsets.new_full((1,), ids.shape[0])])
        if len(offsets) == 0:
            raise ValueError("offsets is empty; include_last_offset needs the end of the last bag")
        return offsets


def _check_bounds(bounds: torch.Tensor, id_count: int) -> int:
    """Return the end of the last bag; raise unless bounds ascend from 0 to ``id_count`` or less."""
    positions = as_array(bounds)
    # A batch without bags has only an end.
    if len(positions) > 1 and positions[0] != 0:
        raise ValueError(f"offsets must start with 0, not {positions[0]}")
    starts, stops = positions[:-1], positions[1:]
    wrong = (starts > stops) | (stops > id_count)
    if wrong.any():
        bag = int(wrong.argmax())
        raise ValueError(
            f"offsets must ascend and not exceed {id_count}, the number of ids; bag {bag} runs "
            f"from {starts[bag]} to {stops[bag]}"
        )
    return int(positions[-1])


def _slices(bounds: list[int], limit: int) -> Iterator[tuple[int, int]]:
    """Yield the first and last bag, exclusive, of slices of at most ``limit`` ids or one bag.

    Examples
    --------
    >>> list(_slices([0, 2, 2, 5, 9], limit=5))
    [(0, 3), (3, 4)]
    >>> list(_slices([0], limit=5))  # Without bags, one empty slice, so that there is a result.
    [(0, 0)]
    """
    first, end = 0, len(bounds) - 1
    while True:
        last = bisect_right(bounds, bounds[first] + limit, first) - 1
        last = min(max(last, first + 1), end)
        yield first, last
        first = last
        if first == end:
            return
