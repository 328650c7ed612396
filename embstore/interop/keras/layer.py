"""``keras.layers.Embedding`` with its table on disk.

1. The layer has no weights: the table stays on disk and is never trained.
2. Its config names the table by a reference, so a saved model holds no rows. Loading one uses a
   store that is open in this process, or opens the path; another table is an error.
3. A file of weights holds the reference, too, so weights that were trained with another table are
   refused.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, Self

import keras
import numpy as np

from embstore.interop import reference
from embstore.interop.keras.ids import check_dtype
from embstore.interop.keras.rows import find_rows
from embstore.interop.stores import check_store
from embstore.opening import open as open_store
from embstore.settle import as_flag

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from numpy.typing import NDArray

    from embstore.store import EmbeddingStore

# Of a file of weights, the entry of this layer that holds the reference.
_TABLE = "table"


@keras.saving.register_keras_serializable(package="embstore")
class StoreEmbedding(keras.layers.Layer):
    """Rows of a store, equal to those of a frozen ``keras.layers.Embedding``.

    Parameters
    ----------
    store : EmbeddingStore, str or path-like
        The table, or where to open it. Its rows may have any shape, not only that of a vector.
    mask_zero : bool
        Whether id 0 is padding, which later layers ignore.
    **options
        Those of every layer: ``name``, ``dtype``, ``trainable``.

    Attributes
    ----------
    store : EmbeddingStore
        The table.
    input_dim, output_dim : int
        Number of rows, and of numbers in a row.

    Notes
    -----
    Rows have the layer's compute dtype, float32 by default, whatever that of the store is. A layer
    that was loaded opens its table with default options; for others, open the table and make a
    layer over it before, and keep that.

    Examples
    --------
    >>> from embstore.interop.keras import StoreEmbedding
    >>> layer = StoreEmbedding("words.embstore", mask_zero=True)
    >>> tuple(layer(np.array([[1, 0], [7, 1]])).shape)
    (2, 2, 8)
    """

    def __init__(
        self,
        store: EmbeddingStore | str | os.PathLike[str],
        mask_zero: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if isinstance(store, str | os.PathLike):
            store = open_store(store)
        check_store(store, expected="an EmbeddingStore or a path")
        self._find_rows = find_rows(keras.backend.backend())
        self.mask_zero = self.supports_masking = as_flag(mask_zero, "mask_zero")
        self.autocast = False  # Floats that stand for ids must not be rounded.
        self.supports_jit = False  # XLA cannot read the disk.
        self.store, self.fingerprint = store, store.fingerprint()
        reference.register(store, self.fingerprint)
        self._reference = reference.as_text(reference.reference_to(store, self.fingerprint))
        self.input_dim, self.output_dim = store.rows, math.prod(store.row_shape)
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return the rows of ids.

        Parameters
        ----------
        inputs : tensor of integers, any shape; under TensorFlow, also a RaggedTensor
            Ids in ``0 .. rows - 1``. Whole numbers of a float dtype are fine if it can tell all ids
            of the table apart, such as float32 up to 2**24 rows: Keras makes them of ids where an
            ``Input`` has no ``dtype``.

        Returns
        -------
        rows : tensor of the compute dtype, shape ``inputs.shape + row_shape``

        Raises
        ------
        TypeError
            If ids are not integers, nor floats that stand for all of them.
        ValueError
            If such a float is not whole.
        IdRangeError
            If an id is negative, or not below the row count; it names the first one. In a graph of
            TensorFlow, this is an ``InvalidArgumentError``.
        """
        check_dtype(keras.backend.standardize_dtype(inputs.dtype), self.store.rows)
        return self._find_rows(self.store, self._reference, inputs, self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return which ids are not 0, under ``mask_zero``; else None."""
        return keras.ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the rows of ids of a shape."""
        return (*input_shape, *self.store.row_shape)

    def compute_output_spec(self, inputs: Any) -> Any:
        """Return the shape and dtype of the rows of a symbolic tensor of ids."""
        check_dtype(keras.backend.standardize_dtype(inputs.dtype), self.store.rows)
        shape, ragged = self.compute_output_shape(inputs.shape), getattr(inputs, "ragged", False)
        options = {"ragged": True} if ragged else {}
        return keras.KerasTensor(shape, dtype=self.compute_dtype, **options)

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` takes: the reference to the table, and the options."""
        table = dict(reference.parse(self._reference))
        return {**super().get_config(), _TABLE: table, "mask_zero": self.mask_zero}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return a layer over the table that a config names.

        Raises
        ------
        StoreError
            If the table is not where it was, and no layer or module of this process is over it.
        ValueError
            If another table is there.
        """
        options = dict(config)
        table = reference.as_reference(options.pop(_TABLE, None))
        return cls(reference.find_store(reference.as_text(table), reopen=True), **options)

    def save_own_variables(self, store: MutableMapping[str, NDArray[Any]]) -> None:
        """Put the reference to the table into a file of weights."""
        store[_TABLE] = reference.as_bytes(reference.parse(self._reference))

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Check that a file of weights belongs to this layer's table.

        Raises
        ------
        ValueError
            If it belongs to another table; the message names both.
        """
        if _TABLE not in store.keys():  # noqa: SIM118  # Keras's stores cannot do it otherwise.
            raise ValueError(
                f"the file names no table for {self.name!r}: it is of another model, such as one "
                "with a keras.layers.Embedding; build a store of the rows of that, and load the "
                "other weights with skip_mismatch=True"
            )
        expected = reference.as_reference(np.asarray(store[_TABLE]))
        remedy = "load the weights of the other layers with skip_mismatch=True"
        reference.check_same(expected, self.store, self.fingerprint, remedy)
