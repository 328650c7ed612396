"""`embstore info`: what a store holds."""

import math
from pathlib import Path
from typing import Any

import embstore
from embstore.cli.arguments import JsonOption, StoreArgument
from embstore.cli.console import print_facts


def info(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Say what a store holds.

    \b
    Example:
      embstore info glove.embstore
    """
    with embstore.open(store) as table:
        print_facts(store_facts(table, store), as_json=as_json)


def store_facts(table: embstore.EmbeddingStore, path: Path) -> dict[str, Any]:
    """Return what a store holds, by name."""
    files = [file for file in table.path.rglob("*") if file.is_file()]
    unk_id = None if table.unk is None else int(table.ids(table.unk))
    return {
        "store": str(path),
        "rows": table.rows,
        "row_shape": list(table.row_shape),
        "dtype": str(table.dtype),
        "partitions": table.partition_count,
        "strategy": table.strategy,
        "chunk_rows": table.chunk_rows,
        "words": table.rows if table.has_words else 0,
        "unk": table.unk,
        "unk_id": unk_id,
        "row_bytes": math.prod(table.shape) * table.dtype.itemsize,
        "disk_bytes": sum(file.stat().st_size for file in files),
        "source": table.source,
    }
