"""Growth: how the cost of an operation grows with its work; ``python -m benchmarks.growth``.

Each curve has at least three sizes of its work, what was measured at each, a peer or a yardstick of
the same run where there is one, and the exponent: the slope of the logarithm of what was measured
over that of the size. 1 is linear, 0 is flat.

============ ===================================================================================
preload      opening with ``preload=True`` when the page cache holds the table in small pages
words        building words, cold words to ids, the message for missing words
ranges       cold neighbouring rows, ``store[a:b]`` and sorted ids, against ``store.scan``
mappings     opening stores of terabytes, made of sparse files; opening by the number of chunks
partitions   builds, exports and repartitions with many partitions
threads      lookups on the caller's threads, against ``np.take``
limited      lookups under a ``resident_limit``
calls        many tables at once, ``div``, and 64 or 65 rows in a call
============ ===================================================================================

The model of `benchmarks.growth.model` computes from such figures what a table of 100 TB needs.
"""
