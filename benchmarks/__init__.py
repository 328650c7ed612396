"""Benchmarks of embstore against other libraries."""
