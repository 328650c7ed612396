"""A Keras layer over a store, whose rows stay on disk: Keras 3, on TensorFlow or PyTorch.

>>> import keras
>>> from embstore.interop.keras import StoreEmbedding
>>> model = keras.Sequential([StoreEmbedding(store), keras.layers.Dense(2)])
>>> model.predict(np.array([[1, 0], [7, 1]]), verbose=0).shape
(2, 2, 2)

`StoreEmbedding` replaces ``keras.layers.Embedding`` with frozen weights; ``docs/keras.md`` lists
the differences.
"""

try:
    import keras as _keras  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        f"embstore.interop.keras needs Keras 3 and a backend ({error}): "
        'pip install "embstore[keras]", and TensorFlow or PyTorch'
    ) from error

from embstore.interop.keras.layer import StoreEmbedding

__all__ = ["StoreEmbedding"]
