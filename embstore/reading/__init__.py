"""Readers: records out of the extents of a column, mapped or by ranges of bytes."""
