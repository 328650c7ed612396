"""References to tables, which checkpoints and programs hold in place of rows.

A reference names a table by its fingerprint, and says where it was. It is JSON: a state dict or a
file of weights holds it as an array of bytes, because many tools handle only arrays; the graph of a
compiled or exported model holds it as text.

A saved model finds its store by the reference: first among the stores of this process's modules and
layers, then at the path, or at the addresses of its servers. A table with another fingerprint is
refused.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from embstore.errors import StoreClosedError, StoreError, StoreNotFoundError
from embstore.fingerprint import KIND, OLD_KIND_NOTE
from embstore.opening import open as open_store
from embstore.serving.addresses import is_served
from embstore.serving.connect import connect

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embstore.store import EmbeddingStore

    # Path, fingerprint, shape and dtype; the tensor's name for some foreign files.
    Reference = dict[str, Any]

# Only the user can know that, because tables are compared by their fingerprints.
_CHANGED = "if rows were only appended or updated since then"
_MAKE_AGAIN = (
    "make the model over the table as it is now, and load its weights, or export the program again"
)
_NAMES = frozenset(("path", "fingerprint", "shape", "dtype"))

# The stores of the modules and layers that are alive, by fingerprint.
_known: defaultdict[str, WeakSet[EmbeddingStore]] = defaultdict(WeakSet)
# Those that saved models opened; nothing else keeps these.
_opened: dict[str, EmbeddingStore] = {}


def reference_to(store: EmbeddingStore, fingerprint: str) -> Reference:
    """Return the reference to a store's table, whose fingerprint was computed before."""
    reference = {
        "path": store.location,
        "fingerprint": fingerprint,
        "fingerprint_kind": KIND,
        "shape": list(store.shape),
        "dtype": store.dtype.name,
    }
    if not store.is_store and "tensor" in store.source:
        reference["tensor"] = store.source["tensor"]
    return reference


def as_text(reference: Reference) -> str:
    """Return a reference as JSON."""
    return json.dumps(reference)


def as_bytes(reference: Reference) -> NDArray[np.uint8]:
    """Return a reference as an array of uint8: its JSON in ASCII."""
    return np.frombuffer(as_text(reference).encode("ascii"), np.uint8)


def as_reference(state: Any) -> Reference:
    """Return the reference that a checkpoint or a file of weights holds.

    Parameters
    ----------
    state : array-like of whole numbers, str, or mapping
        What `as_bytes` or `as_text` returned; the bytes in any dtype. Checkpoints of embstore 0.1
        hold a mapping.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    found = state
    if isinstance(state, np.ndarray):
        try:
            with np.errstate(invalid="ignore"):
                found = bytes(state.astype(np.int64).reshape(-1).tolist()).decode("ascii")
        except ValueError:
            found = None
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except ValueError:
            found = None
    if not isinstance(found, Mapping) or not found.keys() >= _NAMES:
        raise ValueError(
            "the state does not name the table of a store; a module over a store loads only the "
            "state of such a module"
        )
    return dict(found)


def check_same(
    expected: Reference, store: EmbeddingStore, fingerprint: str, remedy: str = ""
) -> None:
    """Raise ValueError if a reference is to another table than the store's; it names both.

    References saved by embstore 0.1 have no kind, and another fingerprint of the same store.

    Parameters
    ----------
    expected : Reference
        What a state holds.
    store : EmbeddingStore
        The store of the module that the state is loaded into.
    fingerprint : str
        Its fingerprint.
    remedy : str
        How to load the state nevertheless; told where the store may be a later version of the
        table.
    """
    if expected["fingerprint"] == fingerprint:
        return
    is_old = "fingerprint_kind" not in expected and store.is_store
    if is_old and store.matches(expected["fingerprint"]):
        return
    found = reference_to(store, fingerprint)
    raise ValueError(
        f"the state is of {_shown(expected)}, but the module's store is {_shown(found)}: "
        "another table; open the table that the model was trained with"
        + (f" ({OLD_KIND_NOTE})" if is_old else "")
        + (f"; {_CHANGED}, {remedy}" if remedy and _may_follow(expected, found) else "")
    )


def register(store: EmbeddingStore, fingerprint: str) -> None:
    """Let saved models use a store as long as it is alive."""
    _known[fingerprint].add(store)


def find_store(text: str, *, reopen: bool = False) -> EmbeddingStore:
    """Return the store that a reference in JSON is to.

    Parameters
    ----------
    text : str
        The reference.
    reopen : bool
        Whether to open the table again if its stores in this process are closed. Otherwise one of
        these is returned, and a lookup in it says so.

    Raises
    ------
    StoreError
        If the table is not where it was, and no module or layer of this process is over it.
    ValueError
        If another table is there.
    """
    reference = parse(text)
    known = tuple(_known.get(reference["fingerprint"], ()))
    here = [store for store in known if store.location == reference["path"]]
    found = next(filter(_is_open, here), None)
    if found is not None or (here and not reopen):
        return here[0] if found is None else found
    if text in _opened and _is_open(_opened[text]):
        return _opened[text]
    try:
        store = _open(reference)
    except (StoreError, ValueError, OSError):
        # The same table may be open at another path.
        for store in filter(_is_open, known):
            return store
        raise
    _opened[text] = store
    return store


@lru_cache(maxsize=256)
def parse(text: str) -> Reference:
    """Return the reference in JSON; it must not be changed."""
    return as_reference(text)


def _open(reference: Reference) -> EmbeddingStore:
    path = reference["path"]
    if is_served(path):
        store: EmbeddingStore = connect(path.split(","))
    else:
        store = open_store(path, tensor=reference.get("tensor"))
    fingerprint = store.fingerprint()
    if reference["fingerprint"] != fingerprint and store.url is not None:
        # Another version is current by now, but that one may still be there.
        with contextlib.suppress(StoreNotFoundError):
            older = open_store(path, version=reference["fingerprint"])
            store.close()
            store, fingerprint = older, older.fingerprint()
    if reference["fingerprint"] != fingerprint:
        found = reference_to(store, fingerprint)
        store.close()
        raise ValueError(
            f"the model is over {_shown(reference)}, but the table there is now {_shown(found)}; "
            "restore the table, or open it elsewhere and keep a StoreEmbedding over it"
            + (f"; {_CHANGED}, {_MAKE_AGAIN}" if _may_follow(reference, found) else "")
        )
    return store


def _is_open(store: EmbeddingStore) -> bool:
    try:
        store.stats()
    except StoreClosedError:
        return False
    return True


def _may_follow(older: Reference, newer: Reference) -> bool:
    """Say whether a table may be another one after rows were appended or updated."""
    before, now = older["shape"], newer["shape"]
    same_rows: bool = before[1:] == now[1:] and older["dtype"] == newer["dtype"]
    return same_rows and int(before[0]) <= int(now[0])


def _shown(table: Reference) -> str:
    return f"{table['path']} ({table['shape']} {table['dtype']}, {table['fingerprint'][:8]})"
