"""Tables behind Ray actors: placed and restarted by Ray, looked up over Arrow Flight.

1. `deploy` starts an actor for each group of partitions, or several as replicas, and returns a
   `Handle`. Each actor runs a server of `embstore.serve` inside.
2. A handle is pickled into tasks, actors and Ray Data as the names of the actors. A process that
   looks rows up with it connects to the servers, and again after an actor was restarted.
3. `Lookup` adds a column of rows to the batches of a Ray Data dataset.

``docs/ray.md`` has examples.
"""

from embstore.interop.ray.deploying import deploy
from embstore.interop.ray.handle import Handle
from embstore.interop.ray.lookup import Lookup

__all__ = ["Handle", "Lookup", "deploy"]
