"""Deploying a table on a Ray cluster.

1. Options are checked, and the store is opened here once, for its partitions and fingerprint.
2. An actor is started for each group of partitions, times the replicas, spread over the nodes. The
   replicas of a group come one after the other, so that they land on different nodes.
3. All actors must tell their place. If one cannot, all are ended and its error is raised.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embstore.errors import RemoteError
from embstore.interop.ray.actors import ActorName, Deployment, ServerActor
from embstore.interop.ray.cluster import need_ray, node_count
from embstore.interop.ray.handle import Handle
from embstore.interop.ray.links import cause_of
from embstore.opening import open
from embstore.paths import as_path, as_url
from embstore.remote.place import place_at
from embstore.serving.addresses import as_timeout
from embstore.serving.connect import check_flight
from embstore.settle import as_count, as_flag, as_positive, as_size, as_text

if TYPE_CHECKING:
    import os

MAX_REPLICAS = 1 << 10
_TASK_RETRIES = 3
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


def deploy(
    path: str | os.PathLike[str],
    *,
    replicas: int = 1,
    partitions_per_actor: int | None = None,
    max_restarts: int = -1,
    num_cpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    detached: bool = False,
    timeout: float = 30.0,
    start_timeout: float = 300.0,
    memory_limit: int | str = 256 << 20,
    resident_limit: int | str | None = None,
    preload: bool = False,
    row_cache: int | str | None = None,
    version: str | None = None,
    allow_http: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_limit: int | str | None = None,
) -> Handle:
    """Serve a store from actors of a Ray cluster, and return a handle for lookups.

    Each actor runs a server of `embstore.serve` for some partitions. Ray spreads the actors over
    the nodes and restarts those that end. Every node must be able to open ``path``: a URL, a path
    on a file system that all share, or a copy at the same path. So must this process. Of a URL, all
    actors serve the version that was current now; each takes credentials from its own environment.

    A server listens on the address by which Ray reaches its node. If that is a loopback address, it
    asks for a token. Otherwise it also has a certificate of its own, which needs the command
    ``openssl`` on the node, and rows are encrypted. Tokens and certificates are made in the actors
    and handed out through Ray, so they are as safe as Ray's own connections.

    Parameters
    ----------
    path : str or path-like
        What `embstore.open` opens: a path or a URL.
    replicas : int
        How many actors have each partition.
    partitions_per_actor : int, optional
        How many partitions an actor has; the last one may have fewer. By default they are divided
        among as many actors as there are nodes.
    max_restarts : int
        How often Ray restarts an actor; -1 for any number of times.
    num_cpus : float, optional
        The CPUs that Ray reserves for an actor; by default Ray's own default for actors.
    resources : mapping of str to float, optional
        Other resources of Ray that an actor needs, which choose its nodes.
    detached : bool
        Whether the actors live on when the job that deployed them ends, until `Handle.close`.
    timeout : float
        Seconds that a lookup may take, restarts of actors included.
    start_timeout : float
        Seconds that all actors may take to start.
    memory_limit : int or str
        As for `embstore.serve`: the most memory of an actor for rows that are being sent.
    resident_limit, preload, row_cache
        As for `embstore.open`, for each actor.
    version, allow_http, cache_dir, cache_limit
        As for `embstore.open`, of a URL. Actors of one node share the cache.

    Returns
    -------
    Handle
        To look rows up, and to be closed or used as a context manager.

    Raises
    ------
    ImportError
        If Ray, or pyarrow with Flight, is not installed.
    RemoteError
        If this process is not connected to Ray; if actors do not start in time; if a node lacks
        the command ``openssl``.
    TypeError, ValueError
        If an option has a wrong type or value.
    StoreNotFoundError, StoreCorruptError, StoreVersionError, FormatError, OSError
        As `embstore.open`, here or at a node.
    StoreChangedError
        If a node has another table at the path.
    """
    copies = as_count(replicas, "replicas", low=1, high=MAX_REPLICAS)
    each = partitions_per_actor
    if each is not None:
        each = as_count(each, "partitions_per_actor", low=1)
    options = _actor_options(max_restarts, num_cpus, resources, as_flag(detached, "detached"))
    seconds = as_timeout(timeout)
    start_seconds = min(as_positive(start_timeout, "start_timeout"), 1e9)
    serving = {"memory_limit": as_size(memory_limit, "memory_limit", low=1)}
    opening = {"resident_limit": resident_limit, "preload": preload, "row_cache": row_cache}
    check_flight()
    ray = need_ray()
    where, version = _where(path, version, allow_http)
    opening |= {"version": version, "allow_http": allow_http}
    if cache_dir is not None:
        cache_dir = str(as_path(cache_dir, "cache_dir").absolute())
    opening |= {"cache_dir": cache_dir, "cache_limit": cache_limit}
    with open(where, version=version, allow_http=allow_http) as store:
        count, fingerprint = store.partition_count, store.fingerprint()
    each = -(-count // node_count(ray)) if each is None else min(each, count)
    groups = [tuple(range(first, min(first + each, count))) for first in range(0, count, each)]
    prefix = f"embstore-{_NOT_IN_NAMES.sub('-', Path(where).name)[:40]}-{secrets.token_hex(4)}"
    space = ray.get_runtime_context().namespace
    names = tuple(
        ActorName(space, f"{prefix}-{group}.{copy}", partitions)
        for group, partitions in enumerate(groups)
        for copy in range(copies)
    )
    remote = ray.remote(ServerActor)
    actors: list[Any] = []
    try:
        for name in names:
            started = remote.options(name=name.name, namespace=space, **options)
            some = name.partitions if len(groups) > 1 else None
            actors.append(started.remote(where, some, fingerprint, opening, serving))
        _wait(ray, actors, names, start_seconds)
    except BaseException:
        for actor in actors:
            ray.kill(actor, no_restart=True)
        raise
    return Handle(Deployment(names, fingerprint, seconds), actors)


def _where(path: Any, version: str | None, allow_http: bool) -> tuple[str, str | None]:
    """Return the absolute path or the URL, and the version that is there now."""
    url = as_url(path)
    if url is None:
        return str(as_path(path, "path").absolute()), version
    place = place_at(url, version, allow_http=as_flag(allow_http, "allow_http"))
    return place.url, place.version


def _actor_options(
    max_restarts: Any, num_cpus: Any, resources: Any, detached: bool
) -> dict[str, Any]:
    """Return the options of Ray for an actor."""
    options: dict[str, Any] = {
        "max_restarts": as_count(max_restarts, "max_restarts", low=-1, high=1 << 30),
        "max_task_retries": _TASK_RETRIES,
        "scheduling_strategy": "SPREAD",
    }
    if num_cpus is not None:
        options["num_cpus"] = as_positive(num_cpus, "num_cpus", or_zero=True)
    if resources is not None:
        if not isinstance(resources, Mapping):
            raise TypeError(f"resources must be a mapping, not {type(resources).__name__}")
        options["resources"] = {
            as_text(name, "a key of resources"): as_positive(number, f"resources[{name!r}]")
            for name, number in resources.items()
        }
    if detached:
        options["lifetime"] = "detached"
    return options


def _wait(ray: Any, actors: list[Any], names: tuple[ActorName, ...], seconds: float) -> None:
    """Wait until all actors have told their place; raise the error of the first that cannot."""
    asked = {actor.place.remote(): name for actor, name in zip(actors, names, strict=True)}
    waiting, stop = list(asked), time.monotonic() + seconds
    while waiting:
        done, waiting = ray.wait(waiting, timeout=max(stop - time.monotonic(), 0))
        if not done:
            first = asked[waiting[0]]
            free = {
                key: value for key, value in ray.available_resources().items() if ":" not in key
            }
            raise RemoteError(
                f"{len(waiting)} of {len(actors)} actors have not started within {seconds:g} s, "
                f"such as {first.name}; the cluster has free: {free}"
            )
        for one in done:
            try:
                ray.get(one)
            except Exception as error:
                cause = cause_of(ray, error)
                if cause is error:
                    raise RemoteError(f"{asked[one]} ended while it started: {error}") from error
                cause.add_note(f"raised by {asked[one]}, for partitions {asked[one].partitions}")
                raise cause from None
