"""Objects that are arrays: NumPy's, tensors, and what can be sliced or viewed like an array.

torch, zarr, h5py, scipy and the like are not imported here. Objects that look like arrays but are
not rows of numbers (sparse, masked, quantized, without data) are refused by name.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import contextmanager
from mmap import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.dtypes import DTYPES, has_masked, is_tensor, tensor_array
from embstore.errors import EmbstoreError, SourceError
from embstore.sources.arrays.chunks import in_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embstore.sources.arrays.source import ArrayLike

# What sparse arrays have: those of scipy and sparse, of JAX, of TensorFlow.
_SPARSE = ("nnz", "nse", "dense_shape")
_EMBEDDINGS = ("Embedding", "EmbeddingBag")
_PLAIN = frozenset((int, float))
_FIRST_INEXACT = 2.0**53  # float64 rounds some integers from here on.


def as_array(source: Any) -> ArrayLike | None:
    """Return an object as something that slices like an array; None if it does not.

    Parameters
    ----------
    source : object
        Any object.

    Raises
    ------
    SourceError
        If it is an array of some kind, but no rows of numbers can be read from it.
    """
    name = type(source).__name__
    source = _embedding_weight(source)
    if is_tensor(source):
        return _TensorRows(source, name)
    if isinstance(source, list | tuple):
        return _nested(source) if _holds_numbers(source) else None
    _refuse_sparse(source, name)
    if isinstance(source, str | bytes | bytearray | mmap | Mapping | type):
        return None
    return source if isinstance(source, np.ndarray) else _foreign(source, name)


def _foreign(source: Any, name: str) -> ArrayLike | None:
    """Return an array of another library, or a buffer, as an array."""
    with _errors_named(name):  # An array of HDF5 has no shape once its file is closed.
        slices = all(hasattr(source, one) for one in ("shape", "dtype", "__getitem__"))
    if slices:
        return in_chunks(_Slices(source, name), source)
    if hasattr(source, "columns") or hasattr(source, "column_names"):
        return None  # A frame.
    if hasattr(source, "__array__") or hasattr(source, "__array_interface__"):
        return as_rows(source, name)
    if hasattr(source, "__dlpack__"):
        with _errors_named(name):
            return np.from_dlpack(source)
    try:
        return np.asarray(memoryview(source))  # array.array, ctypes.
    except (TypeError, ValueError):
        return None


def as_rows(item: Any, place: str) -> NDArray[Any]:
    """Return a vector, or a block of rows, as an array in memory.

    Parameters
    ----------
    item : array-like
        An array, a tensor, or nested lists of numbers.
    place : str
        Where it stands, for messages.

    Raises
    ------
    SourceError
        If it is not an array of numbers, or hides some.
    """
    if type(item) is np.ndarray:
        return item
    item = _embedding_weight(item)
    if is_tensor(item):
        return _TensorRows(item, place).whole()
    if isinstance(item, list | tuple):
        kinds: set[type] = set()
        item = _plain(item, place, kinds)
        with _errors_named(place):
            found = np.asarray(item)
        if not found.size:
            raise SourceError(f"{place} has no numbers, and a list has no dtype; give an array")
        if found.dtype.kind == "f" and int in kinds and _has_rounded(found, item, kinds):
            raise SourceError(f"{place} has integers that no dtype holds together; scale them")
        return found
    _refuse_sparse(item, place)
    if has_masked(item):
        raise SourceError(f"{place} has masked numbers; fill them with .filled()")
    if hasattr(item, "columns") or hasattr(item, "column_names"):
        raise SourceError(
            f"{place} is a {type(item).__name__}; pass one frame as a whole, or yield (words, rows)"
        )
    with _errors_named(place):
        return np.asarray(item)


class _TensorRows:
    """A dense torch tensor, as an array."""

    def __init__(self, tensor: Any, name: str) -> None:
        problem = None
        if tensor.is_nested or str(tensor.layout) != "torch.strided":
            problem = "sparse or nested; pass .to_dense(), if it fits into memory"
        elif tensor.is_quantized:
            problem = "quantized; pass .dequantize()"
        elif tensor.device.type == "meta":
            problem = "on the device meta, so it has no numbers; load them first"
        if problem is not None:
            raise SourceError(f"{name} is {problem}")
        self._name = name
        self._tensor = tensor.detach()
        self.shape = tuple(tensor.shape)
        self.dtype = self[slice(0, 0)].dtype if self.shape else self.whole().dtype

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        return self._array(self._tensor[rows])

    def whole(self) -> NDArray[Any]:
        """Return all rows."""
        return self._array(self._tensor)

    def _array(self, tensor: Any) -> NDArray[Any]:
        try:
            return tensor_array(tensor.cpu().resolve_conj().resolve_neg())
        except (TypeError, RuntimeError) as error:
            raise SourceError(
                f"{self._name} is a tensor of {tensor.dtype}; a store can hold "
                f"{', '.join(DTYPES)}: convert it, such as with .float() ({error})"
            ) from error


class _Slices:
    """An array of another library, whose slices are arrays."""

    def __init__(self, source: Any, name: str) -> None:
        self._source = source
        self._name = name
        if source.shape is None:  # An empty data set of HDF5.
            raise SourceError(f"{name} has no shape, so it is empty; expected (rows, ...)")
        try:
            self.shape = tuple(map(int, source.shape))
        except ValueError as error:  # dask says nan.
            raise SourceError(
                f"{name} has shape {source.shape}; its number of rows must be known (in dask, call "
                ".compute_chunk_sizes())"
            ) from error
        dtype = source.dtype
        for attribute in ("numpy_dtype", "as_numpy_dtype"):  # Of tensorstore and TensorFlow.
            dtype = getattr(dtype, attribute, dtype)
        try:
            self.dtype = np.dtype(dtype)
        except TypeError:  # A dtype of the library's own.
            self._source = as_rows(source, name)
            self.dtype = self._source.dtype

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        with _errors_named(self._name):
            return np.asanyarray(self._source[rows])


def _embedding_weight(source: Any) -> Any:
    """Return the weight of a torch module with embeddings, or the object itself."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.nn.Module):
        kinds = tuple(getattr(torch.nn, name) for name in _EMBEDDINGS)
        if isinstance(source, kinds):
            return source.weight
    return source


def _refuse_sparse(source: Any, name: str) -> None:
    # Of its type: a frame may have a column of this name.
    if any(hasattr(type(source), attribute) for attribute in _SPARSE):
        raise SourceError(
            f"{name} is sparse, a store holds dense rows; pass .toarray(), if it fits into memory, "
            "or yield dense blocks of its rows"
        )


def _holds_numbers(items: Any) -> bool:
    """Say whether a list holds numbers or lists of numbers, but no words or arrays of rows."""
    first = items[0] if items else None
    if not isinstance(first, list | tuple):
        return np.isscalar(first) and not isinstance(first, str | bytes)
    if any(isinstance(item, str | bytes) for item in first):
        return False
    while isinstance(first, list | tuple) and first:
        first = first[0]
    if isinstance(first, str) or hasattr(first, "to_pylist"):
        return False
    is_text = getattr(getattr(first, "dtype", None), "kind", "") in ("O", "S", "T", "U")
    return not is_text and len(getattr(first, "shape", ())) < 2


def _nested(items: Any) -> NDArray[Any]:
    kind = type(items).__name__
    first = items[0]
    while isinstance(first, list | tuple) and first:
        first = first[0]
    if getattr(first, "shape", ()):
        raise SourceError(
            f"the {kind} holds lists of arrays, which could be blocks of rows or rows of more than "
            "one axis; pass one array, or an array for each block"
        )
    try:
        return as_rows(items, kind)
    except SourceError as error:
        if isinstance(error.__cause__, ValueError):
            raise SourceError(f"the rows of the {kind} differ: {error.__cause__}") from error
        raise


def _plain(items: Any, place: str, kinds: set[type]) -> Any:
    """Return nested lists of numbers and arrays; refuse what NumPy would take for numbers.

    ``kinds`` collects the types of all items.
    """
    found = set(map(type, items))
    kinds |= found
    if found <= _PLAIN:
        return items
    return [
        _plain(item, place, kinds)
        if isinstance(item, list | tuple)
        else item
        if type(item) in _PLAIN or isinstance(item, str | bytes)
        else _leaf(item, place)
        for item in items
    ]


def _has_rounded(found: NDArray[Any], items: Any, kinds: set[type]) -> bool:
    """Say whether floats may not be the integers of these types that they were made of."""
    if kinds <= {int, list, tuple}:
        return True
    if not (np.abs(found) >= _FIRST_INEXACT).any():
        return False
    return bool(((found != np.asarray(items, object)) & ~np.isnan(found)).any())


def _leaf(item: Any, place: str) -> NDArray[Any]:
    if item is None:
        raise SourceError(f"{place} has None among its numbers; fill it in, or leave out the row")
    found = as_rows(item, place)
    if found.dtype.kind == "b":
        raise SourceError(f"{place} has booleans, dtype bool, among its numbers; pass 0 and 1")
    return found


@contextmanager
def _errors_named(name: str) -> Iterator[None]:
    """Turn an error of another library into a SourceError that names the object."""
    try:
        yield
    except (EmbstoreError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # The disk failed.
        raise SourceError(
            f"{name} cannot be read as numbers: {type(error).__name__}: {error}"
        ) from error
