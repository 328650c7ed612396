"""A person's own benchmark: a store on their disk against the same rows in RAM.

`suite` measures, as `settings` say, with the kinds of lookups of `work`, the states of `state` and
the clock of `timing`. `report` shows the results as text and as JSON, `plots` draws them, and
`page` is both in one file. ``benchmarks/`` compares embstore with other libraries and uses these
parts. ``import embstore`` imports nothing from here.
"""
