"""Data frames and stores: rows from a frame, rows joined to a frame, Parquet there and back.

    python examples/data_frames.py

1. A frame becomes a store: a column of vectors, one of words, others as attributes.
2. Rows join a frame by its own column of words: one lookup, in the order of the frame.
3. A store becomes a Parquet file, which frames read; a store built of it is the same table.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

import embstore


def build_store(path: Path) -> embstore.EmbeddingStore:
    """Build a store of a frame with a vector in each row."""
    random = np.random.default_rng(0)
    products = pl.DataFrame(
        {
            "product": ["tea", "coffee", "cup", "spoon"],
            "price": [4.5, 7.25, 3.0, 1.5],
            "vector": random.standard_normal((4, 3), np.float32),
        }
    )
    return embstore.build(
        products, path, column="vector", word_column="product", attributes=["price"]
    )


def join_polars(store: embstore.EmbeddingStore, orders: pl.DataFrame) -> pl.DataFrame:
    """Return orders with the price and the row of their product."""
    ids = store.ids(orders["product"])
    return orders.with_columns(
        price=store.attributes["price"][ids], vector=pl.Series(store.lookup(ids))
    )


def join_pandas(store: embstore.EmbeddingStore, orders: pd.DataFrame) -> pd.DataFrame:
    """Return orders with a column for each number of the row of their product."""
    rows = store.lookup_words(orders["product"], missing="zeros")
    return orders.join(pd.DataFrame(rows, orders.index).add_prefix("x"))


def main() -> None:
    """Build, join and export."""
    with tempfile.TemporaryDirectory() as folder, build_store(Path(folder, "store")) as store:
        orders = pl.DataFrame({"order": [1, 2, 3], "product": ["cup", "tea", "cup"]})
        joined = join_polars(store, orders)
        print("polars:", joined.columns, joined.schema["vector"])
        print(joined.select("order", "product", "price").rows())

        carts = pd.DataFrame({"cart": [7, 8], "product": ["coffee", "sugar"]}, index=["a", "b"])
        features = join_pandas(store, carts)
        print("pandas:", features.columns.tolist())
        print("sugar is not in the store:", features.loc["b", ["x0", "x1", "x2"]].tolist())

        file = Path(folder, "products.parquet")
        embstore.export(store, file)
        print("Parquet:", pl.read_parquet(file).columns)
        again = embstore.build(pd.read_parquet(file), Path(folder, "again"), attributes=["price"])
        print("the same table:", again.fingerprint() == store.fingerprint())


if __name__ == "__main__":
    main()
