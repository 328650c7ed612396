"""Rows as tensors of Keras's backend.

* TensorFlow: rows are looked up into an array. In a graph, of ``tf.function``, ``fit`` or
  ``tf.data``, an operator calls back into Python (``tf.numpy_function``).
* PyTorch: as in `embstore.interop.torch`, on the device of the ids.

Neither is imported before it is the backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embstore.dtypes import as_dtype
from embstore.errors import IdRangeError
from embstore.interop.keras.ids import as_whole
from embstore.reading.forms import FLOATS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embstore.store import EmbeddingStore

    # Called with a store, the reference to it, ids and the name of a dtype; returns the rows.
    FindRows = Callable[[EmbeddingStore, str, Any, str], Any]


def find_rows(backend: str) -> FindRows:
    """Return the function that finds rows for a backend of Keras.

    Raises
    ------
    ImportError
        If rows cannot be found for this backend.
    """
    found = {"tensorflow": _by_tensorflow, "torch": _by_torch}.get(backend)
    if found is None:
        raise ImportError(
            f"a layer over a store needs Keras on tensorflow or torch, not on {backend}; set the "
            "environment variable KERAS_BACKEND before keras is imported"
        )
    return found


def _by_tensorflow(store: EmbeddingStore, reference_text: str, ids: Any, dtype: str) -> Any:
    import tensorflow as tf  # noqa: PLC0415  # It is imported already.

    if isinstance(ids, tf.RaggedTensor):
        flat = _by_tensorflow(store, reference_text, ids.flat_values, dtype)
        return ids.with_flat_values(flat)
    if isinstance(ids, tf.SparseTensor):
        raise TypeError("ids must be dense or ragged, not a SparseTensor; use tf.sparse.to_dense")
    if tf.executing_eagerly():
        return tf.convert_to_tensor(_look_up(store, ids.numpy(), dtype))

    def find(given: NDArray[Any]) -> NDArray[Any]:
        try:
            return _look_up(store, given, dtype)
        except IdRangeError as error:
            raise ValueError(str(error)) from error  # An InvalidArgumentError outside.

    rows = tf.numpy_function(find, [ids], tf.as_dtype(dtype), stateful=False)
    rows.set_shape(ids.shape.concatenate(store.row_shape))
    return rows


def _by_torch(store: EmbeddingStore, reference_text: str, ids: Any, dtype: str) -> Any:
    import torch  # noqa: PLC0415  # It is imported already.

    from embstore.interop.torch.module import is_recorded, rows_of  # noqa: PLC0415  # As above.

    number_type, device = getattr(torch, dtype), ids.device
    if ids.is_meta:  # Keras wants to know the shape.
        return torch.empty(*ids.shape, *store.row_shape, dtype=number_type, device="meta")
    if ids.is_floating_point():
        if not is_recorded():
            as_whole(ids.double().cpu().numpy())
        ids = ids.long()
    return rows_of(store, reference_text, ids, device).to(number_type)


def _look_up(store: EmbeddingStore, ids: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return rows as an array of a dtype."""
    whole = as_whole(ids)
    if dtype in FLOATS and dtype != store.dtype.name:
        return store.lookup(whole, dtype=dtype)
    return store.lookup(whole).astype(as_dtype(dtype), copy=False)
