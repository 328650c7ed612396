"""From rows to files on disk: what `embstore.writer` is made of."""
