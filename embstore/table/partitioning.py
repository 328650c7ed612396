"""The old name of `embstore.table.numbering.Numbering`; deleted when its last user is."""

from embstore.table.numbering import STRATEGIES, Strategy
from embstore.table.numbering import Numbering as Partitioning

__all__ = ["STRATEGIES", "Partitioning", "Strategy"]
