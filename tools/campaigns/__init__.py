"""Campaigns that try to make embstore lose or misread a vector: one a file.

Each module has a `run(folder, seed, size)`, which raises at the first thing that is not as promised
and returns what it did, as a sentence; and two sizes, `SMALL` for the tests and `FULL` for
``tools/torture``.
"""
