"""Readers of a column's records: through a mapping of its files, or by reads of byte ranges."""
