"""Encodings: how the records of a row become numbers."""
