"""Long campaigns that try to make embstore lose or misread a vector, one a file.

``python -m tests.campaigns crash`` runs one at a small size, as the tests do; ``--full`` runs it at
full size, and ``tools/torture`` runs them all.

1. A campaign is a module with `run(folder, seed, size)`, which raises an AssertionError at the
   first broken promise and otherwise returns a sentence about what was tried; and with two sizes,
   `SMALL` and `FULL`. `runs` lists them.
2. The other modules are parts of campaigns: small stores to damage (`stores`), tables that
   replace each other (`tables`), faults of the disk (`faults`), a model of a disk (`disks`),
   processes that are watched (`watched`), other readings of foreign files (`readings`).
"""
