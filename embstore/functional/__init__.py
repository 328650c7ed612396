"""TensorFlow's family of embedding lookups, over stores and arrays.

Results equal those of ``tf.compat.v1.nn``, with these differences:

================================  ===========================  =====================================
case                              TensorFlow                   embstore
================================  ===========================  =====================================
an id out of range                an error on a CPU, another   `IdRangeError`, which names the id
                                  row on a GPU
ids of other integers than int32  an error, of most            works
and int64
partitions whose sizes differ     rows of other ids, or an     `PartitionSizeError`
from the strategy's               error
more partitions than rows         division by zero under       works; some partitions are empty
                                  ``div``
a ``partition_strategy`` for a    has no stores                a store knows its own; another one
store                                                          raises ValueError
empty bags at the end             missing from the result of   rows of zeros, like other empty bags
                                  `embedding_lookup_sparse`
`SparseIds` of rank 3 or more in  all but the first axis are   ValueError; the safe variant has one
`embedding_lookup_sparse`         one bag                      bag for each index of the other axes
ragged ids of rank 3 or more in   an error, or bags of other   ValueError
the sparse functions              ids
weights with other indices than   not noticed                  ValueError
the ids
weights of another dtype than     an error in the safe         works; they are cast to the dtype in
the table                         variant                      which rows are summed
weights of booleans               0 and 1                      TypeError
rows that are not vectors in the  an error                     works
safe variant
combined rows of integers         accepted                     TypeError
``max_norm`` of 0 or less, or     rows of zeros or NaN         ValueError
NaN
``max_norm`` of infinity          rows of NaN                  rows as they are
``max_norm`` of rows whose        rows of zeros or NaN         scaled down like others
squares overflow
``max_norm`` for 16-bit floats    computed in 16 bits          computed in 32 bits or more
================================  ===========================  =====================================

Under ``max_norm``, a row with a NaN becomes NaN in all its numbers, as in TensorFlow; in a row with
an infinity, this becomes NaN, and the other numbers 0.
"""
