"""Tables as values: extents, numbering, ids and plans. Nothing here does I/O."""
