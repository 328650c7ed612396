"""TensorFlow's family of embedding lookups, over stores and arrays.

Results equal those of ``tf.compat.v1.nn``, with these differences:

+---------------------------------+-----------------------------+--------------------------------+
| case                            | TensorFlow                  | embstore                       |
+=================================+=============================+================================+
| an id out of range              | an error on a CPU, another  | `IdRangeError`, which names    |
|                                 | row on a GPU                | the id                         |
+---------------------------------+-----------------------------+--------------------------------+
| ids of other integers than      | an error, of most           | works                          |
| int32 and int64                 |                             |                                |
+---------------------------------+-----------------------------+--------------------------------+
| partitions whose sizes differ   | rows of other ids, or an    | `PartitionSizeError`           |
| from the strategy's             | error                       |                                |
+---------------------------------+-----------------------------+--------------------------------+
| more partitions than rows       | division by zero under      | works; some partitions are     |
|                                 | ``div``                     | empty                          |
+---------------------------------+-----------------------------+--------------------------------+
| a ``partition_strategy`` for a  | has no stores               | a store knows its own; another |
| store                           |                             | one raises ValueError          |
+---------------------------------+-----------------------------+--------------------------------+
| empty bags at the end           | missing from the result of  | rows of zeros, like other      |
|                                 | `embedding_lookup_sparse`   | empty bags                     |
+---------------------------------+-----------------------------+--------------------------------+
| `SparseIds` of rank 3 or more   | all but the first axis are  | ValueError; the safe variant   |
| in `embedding_lookup_sparse`    | one bag                     | has one bag for each index of  |
|                                 |                             | the other axes                 |
+---------------------------------+-----------------------------+--------------------------------+
| ragged ids of rank 3 or more in | an error, or bags of other  | ValueError                     |
| the sparse functions            | ids                         |                                |
+---------------------------------+-----------------------------+--------------------------------+
| weights with other indices than | not noticed                 | ValueError                     |
| the ids                         |                             |                                |
+---------------------------------+-----------------------------+--------------------------------+
| weights of another dtype than   | an error in the safe        | works; they are cast to the    |
| the table                       | variant                     | dtype in which rows are summed |
+---------------------------------+-----------------------------+--------------------------------+
| weights of booleans             | 0 and 1                     | TypeError                      |
+---------------------------------+-----------------------------+--------------------------------+
| rows that are not vectors in    | an error                    | works                          |
| the safe variant                |                             |                                |
+---------------------------------+-----------------------------+--------------------------------+
| combined rows of integers       | accepted                    | TypeError                      |
+---------------------------------+-----------------------------+--------------------------------+
| ``max_norm`` of 0 or less, or   | rows of zeros or NaN        | ValueError                     |
| NaN                             |                             |                                |
+---------------------------------+-----------------------------+--------------------------------+
| ``max_norm`` of infinity        | rows of NaN                 | rows as they are               |
+---------------------------------+-----------------------------+--------------------------------+
| ``max_norm`` of rows whose      | rows of zeros or NaN        | scaled down like others        |
| squares overflow                |                             |                                |
+---------------------------------+-----------------------------+--------------------------------+
| ``max_norm`` for 16-bit floats  | computed in 16 bits         | computed in 32 bits or more    |
+---------------------------------+-----------------------------+--------------------------------+

Under ``max_norm``, a row with a NaN becomes NaN in all its numbers, as in TensorFlow; in a row with
an infinity, this becomes NaN, and the other numbers 0.
"""
