"""A person's own benchmark: a store on their disk against the same rows in RAM.

`suite` measures, with the kinds of lookups of `work`, the states of `state` and the clock of
`timing`; `report` and `plots` show the results. ``benchmarks/`` compares embstore with other
libraries and uses these parts. ``import embstore`` imports nothing from here.
"""
