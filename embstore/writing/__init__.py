"""From rows to files on disk: what `embstore.writing.writer` is made of."""
