"""Embedding tables that do not fit in RAM: stored on disk, looked up as if in memory.

>>> import embstore
>>> store = embstore.build("words.txt", "new.embstore")
>>> store[["like", "the", "country"]].shape
(3, 8)
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

if sys.platform == "win32":
    raise ImportError(
        "embstore does not support Windows; it runs on Linux and other POSIX systems, WSL included"
    )

from embstore.build import build
from embstore.errors import (
    DuplicateWordError,
    EmbstoreError,
    ExportError,
    FormatError,
    IdRangeError,
    IdTypeError,
    MissingWordError,
    PartitionSizeError,
    RemoteError,
    RowError,
    SourceError,
    StoreBusyError,
    StoreChangedError,
    StoreClosedError,
    StoreCorruptError,
    StoreError,
    StoreExistsError,
    StoreMappingError,
    StoreNotFoundError,
    StoreVersionError,
)
from embstore.export import ExportReport, export
from embstore.functional.bags import RaggedIds, RaggedRows, SparseIds
from embstore.functional.lookup import (
    embedding_lookup,
    embedding_lookup_sparse,
    safe_embedding_lookup_sparse,
)
from embstore.listing import tables
from embstore.many import lookup_many
from embstore.opening import open
from embstore.progress import Progress
from embstore.reading.incore import Residency
from embstore.reading.stats import LookupStats
from embstore.reading.submitted import Prefetch
from embstore.store import EmbeddingStore
from embstore.table.listed import ListedTable
from embstore.table.plan import LookupPlan
from embstore.verify import verify
from embstore.version import __version__
from embstore.view import StoreView
from embstore.writing.writer import StoreWriter

if TYPE_CHECKING:
    from embstore.changing.append import append
    from embstore.changing.clean import clean
    from embstore.changing.report import ChangeReport
    from embstore.changing.snapshot import snapshot
    from embstore.changing.update import update
    from embstore.changing.upsert import upsert
    from embstore.remote.publishing import PublishReport, publish
    from embstore.remote.versions import PruneReport, PublishedVersion, prune, versions
    from embstore.serving.connect import connect
    from embstore.serving.connected_store import ConnectedStore
    from embstore.serving.remote_plan import RemotePlan
    from embstore.serving.running import Server
    from embstore.serving.server import serve

__all__ = [
    "ChangeReport",
    "ConnectedStore",
    "DuplicateWordError",
    "EmbeddingStore",
    "EmbstoreError",
    "ExportError",
    "ExportReport",
    "FormatError",
    "IdRangeError",
    "IdTypeError",
    "ListedTable",
    "LookupPlan",
    "LookupStats",
    "MissingWordError",
    "PartitionSizeError",
    "Prefetch",
    "Progress",
    "PruneReport",
    "PublishReport",
    "PublishedVersion",
    "RaggedIds",
    "RaggedRows",
    "RemoteError",
    "RemotePlan",
    "Residency",
    "RowError",
    "Server",
    "SourceError",
    "SparseIds",
    "StoreBusyError",
    "StoreChangedError",
    "StoreClosedError",
    "StoreCorruptError",
    "StoreError",
    "StoreExistsError",
    "StoreMappingError",
    "StoreNotFoundError",
    "StoreVersionError",
    "StoreView",
    "StoreWriter",
    "__version__",
    "append",
    "build",
    "clean",
    "connect",
    "embedding_lookup",
    "embedding_lookup_sparse",
    "export",
    "lookup_many",
    "open",
    "prune",
    "publish",
    "safe_embedding_lookup_sparse",
    "serve",
    "snapshot",
    "tables",
    "update",
    "upsert",
    "verify",
    "versions",
]


# What is not used every day is imported when it is used: this takes a fifth off the import.
_LATER = {
    "ChangeReport": "embstore.changing.report",
    "ConnectedStore": "embstore.serving.connected_store",
    "PruneReport": "embstore.remote.versions",
    "PublishReport": "embstore.remote.publishing",
    "PublishedVersion": "embstore.remote.versions",
    "RemotePlan": "embstore.serving.remote_plan",
    "Server": "embstore.serving.running",
    "append": "embstore.changing.append",
    "clean": "embstore.changing.clean",
    "connect": "embstore.serving.connect",
    "prune": "embstore.remote.versions",
    "publish": "embstore.remote.publishing",
    "serve": "embstore.serving.server",
    "snapshot": "embstore.changing.snapshot",
    "update": "embstore.changing.update",
    "upsert": "embstore.changing.upsert",
    "versions": "embstore.remote.versions",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(_LATER[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names only, not the modules that happen to be imported."""
    return __all__
