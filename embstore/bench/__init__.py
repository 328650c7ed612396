"""A person's own benchmark: a store on their disk against the same rows in RAM.

1. `suite` runs the comparison for ``embstore bench STORE``; `limited` is its part in little memory.
2. `work` draws the ids of each kind of lookup.
3. `state` puts the rows into RAM or on disk, or limits the memory.
4. `timing` times calls and compares the rows that they return.
5. `machine`, `report` and `plots` show the results.

The comparison with other libraries is in ``benchmarks/``, which uses these parts. A plain
``import embstore`` imports nothing from here.
"""
