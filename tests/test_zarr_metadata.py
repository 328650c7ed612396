"""The metadata that a build writes is what zarr itself writes, byte for byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from embstore.formats.own.sharded import ListedChunks
from embstore.formats.own.spec import ATTRIBUTE, METADATA, RawArray
from embstore.writing.metadata import array_metadata, group_metadata

DTYPES = ["float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int64", "uint64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (5,), (1, 300), (7, 2, 4)])
def test_arrays(dtype: str, shape: tuple[int, ...]):
    array = RawArray("partitions/0", shape, np.dtype(dtype), 2)
    store: dict[str, Any] = {}
    zarr.create_array(
        store,
        shape=shape,
        chunks=(2, *shape[1:]),
        dtype=dtype,
        filters=None,
        serializer=BytesCodec(endian=None if array.dtype.itemsize == 1 else "little"),
        compressors=[Crc32cCodec()],
        fill_value=0,
        attributes={ATTRIBUTE: {"chunk_crc32c": [7, 2**32 - 1]}},
        zarr_format=3,
    )
    listed = [7, 2**32 - 1]
    assert (
        array_metadata(array, ListedChunks(listed, listed, [28, 28])) == store[METADATA].to_bytes()
    )


@pytest.mark.parametrize("attributes", [None, {}, {ATTRIBUTE: {"source": {"file": "\u00e9.txt"}}}])
def test_groups(attributes: dict[str, Any] | None):
    store: dict[str, Any] = {}
    zarr.create_group(store, zarr_format=3, attributes=attributes)
    assert group_metadata(attributes) == store[METADATA].to_bytes()
