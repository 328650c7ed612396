"""Parquet, Arrow and frames: rows and words in columns."""
