"""The handle of a deployed table: lookups from any process of the Ray cluster."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from embstore.errors import RemoteError
from embstore.interop.ray.actors import ActorName, Deployment
from embstore.interop.ray.cluster import need_ray
from embstore.interop.ray.connecting import forget, store_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from embstore.serving.connected_store import ConnectedStore
    from embstore.vocabulary.missing import Missing, MissingId

_VERSION = 1  # Of a pickled handle; persistent.


class Handle:
    """A deployed table, made by `deploy`. A context manager that shuts it down.

    It is pickled as the names of the actors; address and token are asked from the actors, through
    Ray, by each process that looks rows up. So a task, an actor or Ray Data may take it along.

    The actors live until `close`, or until Ray ends the job that deployed them. If they are not
    detached, Ray also ends them once the handle that `deploy` returned is freed, so keep it.

    Lookups may come from many threads. They end within the ``timeout`` of `deploy`. An actor that
    is restarted meanwhile costs time and no answer.
    """

    def __init__(self, deployment: Deployment, actors: Sequence[Any] = ()) -> None:
        self._deployment = deployment
        self._actors = tuple(actors)  # Ray ends actors that are not referred to.
        self._store: ConnectedStore | None = None

    @property
    def store(self) -> ConnectedStore:
        """The store over the actors, in this process: connected when it is first asked for.

        It can do all that `embstore.connect` returns can: bags, torch modules, `submit`, views.

        Raises
        ------
        RemoteError
            If no actor answers in time, or this process is not connected to Ray.
        """
        store = self._store
        if store is None or store._records is None:  # Closed by another handle.
            self._store = store = store_of(self._deployment)
        return store

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the actors, for Ray's tools."""
        return tuple(actor.name for actor in self._deployment.actors)

    @property
    def partitions(self) -> tuple[tuple[int, ...], ...]:
        """The partitions of each actor, in the order of `names`."""
        return tuple(actor.partitions for actor in self._deployment.actors)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the table."""
        return self._deployment.fingerprint

    def lookup(
        self,
        ids: ArrayLike,
        *,
        out: Any | None = None,
        max_norm: float | None = None,
        dtype: DTypeLike | None = None,
        raw: bool = False,
    ) -> NDArray[Any]:
        """Return the rows of ``ids``, in request order; see `embstore.EmbeddingStore.lookup`.

        Raises
        ------
        IdTypeError, IdRangeError, ValueError, TypeError
            As there.
        RemoteError
            If actors do not answer within the ``timeout`` of `deploy`.
        """
        rows: NDArray[Any] = self.store.lookup(
            ids, out=out, max_norm=max_norm, dtype=dtype, raw=raw
        )
        return rows

    def lookup_words(self, words: Any, *, missing: Missing = "error") -> NDArray[Any]:
        """Return the rows of ``words``; see `embstore.EmbeddingStore.lookup_words`.

        Raises
        ------
        MissingWordError, TypeError
            As there.
        RemoteError
            As `lookup`.
        """
        return self.store.lookup_words(words, missing=missing)

    def ids(self, words: Any, *, missing: MissingId = "error") -> NDArray[np.int64]:
        """Return the ids of ``words``; see `embstore.EmbeddingStore.ids`.

        Raises
        ------
        MissingWordError, TypeError, RemoteError
            As `lookup_words`.
        """
        return self.store.ids(words, missing=missing)

    def submit(self, ids: ArrayLike) -> Future[NDArray[Any]]:
        """Start a lookup, and return a future of its rows; see `embstore.EmbeddingStore.submit`.

        Raises
        ------
        IdTypeError, IdRangeError, RemoteError
            As `lookup`; errors of the lookup are raised by the future.
        """
        return self.store.submit(ids)

    def close(self) -> None:
        """End the actors. Lookups by other handles of them then raise an error."""
        forget(self._deployment)
        ray = need_ray()
        for actor in self._deployment.actors:
            with suppress(ValueError):  # It has ended.
                ray.kill(ray.get_actor(actor.name, namespace=actor.namespace), no_restart=True)
        self._actors = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        actors = [
            (actor.namespace, actor.name, list(actor.partitions))
            for actor in self._deployment.actors
        ]
        return _handle, (_VERSION, actors, self._deployment.fingerprint, self._deployment.timeout)

    def __repr__(self) -> str:
        names = self.names
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return f"<Handle of {len(self._deployment.by_partition)} partitions at {names[0]}{more}>"


def _handle(version: int, *state: Any) -> Handle:
    """Return an unpickled handle."""
    if version != _VERSION:
        raise RemoteError(
            f"this handle was pickled by another embstore (version {version!r} of handles, this "
            f"one has {_VERSION}); use the same embstore on all nodes"
        )
    actors, fingerprint, timeout = state
    names = tuple(ActorName(space, name, tuple(parts)) for space, name, parts in actors)
    return Handle(Deployment(names, fingerprint, timeout))
