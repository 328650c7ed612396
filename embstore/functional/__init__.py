"""Bags of ids and tables of rows: what `embstore.ops` is made of."""
