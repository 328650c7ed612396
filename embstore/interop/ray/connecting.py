"""Connecting to actors: one that answers tells what all of them serve.

The stores of this process are kept, so that the next task in it does not connect again.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from embstore.errors import StoreChangedError
from embstore.interop.ray.cluster import need_ray
from embstore.interop.ray.links import ActorLink
from embstore.serving.calls import Call
from embstore.serving.connect import check_flight, store_at
from embstore.serving.link import LinkError
from embstore.serving.replicas import FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS, lost

if TYPE_CHECKING:
    from embstore.interop.ray.actors import ActorName, Deployment
    from embstore.serving.connected_store import ConnectedStore
    from embstore.serving.facts import Facts

_KEPT_STORES = 16
_stores: dict[Deployment, ConnectedStore] = {}
_lock = Lock()


def store_of(deployment: Deployment) -> ConnectedStore:
    """Return the store at the actors that this process keeps; connect first if need be."""
    store = _stores.get(deployment)
    if store is not None:
        return store
    made = connect(deployment)
    with _lock:
        store = _stores.setdefault(deployment, made)
        while len(_stores) > _KEPT_STORES:
            del _stores[next(iter(_stores))]  # Its users keep it.
    if store is not made:
        made.close()
    return store


def forget(deployment: Deployment) -> None:
    """Close the store that this process keeps."""
    with _lock:
        store = _stores.pop(deployment, None)
    if store is not None:
        store.close()


def connect(deployment: Deployment) -> ConnectedStore:
    """Return a new store at the actors.

    Raises
    ------
    RemoteError
        If none of them answers in time, or this process is not connected to Ray.
    StoreChangedError
        If they have another table.
    """
    check_flight()
    need_ray()
    links = {actor: ActorLink(actor, deployment.timeout) for actor in deployment.actors}
    found = _first_facts(links, deployment.timeout)
    if found.fingerprint != deployment.fingerprint:
        raise StoreChangedError(
            f"the actors have another table, {found.fingerprint}, than the one that was deployed, "
            f"{deployment.fingerprint}; deploy again"
        )
    facts = {actor: replace(found, partitions=actor.partitions) for actor in links}
    return store_at(
        links,
        facts,
        deployment.by_partition,
        deployment.timeout,
        (_reconnect, (deployment,)),
        partial(connect, deployment),
    )


def _reconnect(deployment: Deployment, fingerprint: str) -> ConnectedStore:
    """Connect again, for an unpickled store; that it is the same table is checked there."""
    del fingerprint
    return connect(deployment)


def _first_facts(links: dict[ActorName, ActorLink], timeout: float) -> Facts:
    """Return the facts that the first actor to answer tells; ask the others if one fails."""
    call = Call(timeout)
    problems: dict[str, str] = {}
    pause = FIRST_PAUSE_SECONDS
    # Not all processes ask the same one first.
    turn = os.getpid() % len(links)
    actors = [*links][turn:] + [*links][:turn]
    while True:
        again = False
        for place, actor in enumerate(actors):
            try:
                return links[actor].facts(max(call.left / (len(actors) - place), 0))
            except LinkError as error:
                problems[str(actor)] = str(error)
                again |= error.again
            if call.left <= 0:
                raise lost(problems, call)
        if not again:
            raise lost(problems, call)
        time.sleep(max(min(pause, call.left), 0))
        pause = min(2 * pause, LAST_PAUSE_SECONDS)
