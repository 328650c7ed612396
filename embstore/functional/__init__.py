"""Bags of ids and tables of rows: what `embstore.functional.lookup` is made of."""
