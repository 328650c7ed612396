"""Compression by pyarrow's codecs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable


def by_arrow(codec: str) -> Callable[[bytes], bytes]:
    """Return a function that compresses bytes."""

    def compress(data: bytes) -> bytes:
        out = pa.BufferOutputStream()
        with pa.CompressedOutputStream(out, codec) as stream:
            stream.write(data)
        return bytes(out.getvalue().to_pybytes())

    return compress
