"""Rows to files: the parts of `embstore.writing.writer.StoreWriter`."""
