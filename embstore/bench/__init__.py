"""How fast is disk against RAM, here? One harness for a user's own store and for the comparison.

1. `table`: the rows that are looked up, and what each of them must be.
2. `work`: which ids, in batches of which size.
3. `peers`: who looks them up: embstore, and what it is compared with.
4. `worker`: one peer in a process of its own, timed call by call, every row checked.
5. `state`: warm, cold, or in a memory cgroup smaller than the table.
6. `measure`: the peers of a comparison take turns, over several rounds.
7. `device`, `machine`: what the disk can do, and what all this ran on.
8. `report`, `plots`: a table for the terminal, JSON with every sample, pictures.

`suite` puts them together for ``embstore bench STORE``; ``benchmarks/`` adds peers that need other
packages. Nothing here is imported by a plain ``import embstore``.
"""
