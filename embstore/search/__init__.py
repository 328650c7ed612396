"""Exact search for the rows that are nearest to vectors, block by block."""
