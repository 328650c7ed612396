"""Tables as values: partitions, numbering, ids and plans. Pure: nothing here does I/O."""
