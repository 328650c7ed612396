r"""Rows between the nodes of a Ray cluster, by several ways.

Run as ``python -m benchmarks.ray_rows``, in a network namespace of its own, because Ray listens on
all addresses::

    unshare --net --pid --fork --mount-proc \
        bash -c "ip link set lo up; python -m benchmarks.ray_rows"

The cluster has two nodes on this machine, each with an object store of its own: one for actors that
have the table, one for clients. So results of Ray travel from one object store to the other, as
they do between machines.

=================== ============================================================================
embstore            `embstore.interop.ray.deploy`, and `Handle.lookup` in the clients
Ray results         as many actors with the same store open, which return arrays of rows; a call
                    asks all of them at once, each for its share of the ids
RandomAccessDataset ``multiget`` of Ray Data's class for this, which is deprecated, with as many
                    workers. Ray places these, so some may be at the clients' node
=================== ============================================================================

Each turn is a few seconds of all clients at the same time, and ways take turns. Rows a second are
the sum over the clients. The last rows of each turn are compared with the table.
"""

from __future__ import annotations

import importlib
import logging
import os
import statistics
import tempfile
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from benchmarks.orders import BenchError
from benchmarks.program import parser_of, progress, scratch
from embstore.interop.ray import deploy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

OWN, RESULTS, DATASET = WAYS = ("embstore", "Ray results", "RandomAccessDataset")
GOALS = {RESULTS: 2.0, DATASET: 10.0}
ADDRESS = "127.0.0.1"  # TLS is for other addresses.
FAR, NEAR = {"far": 0.001}, {"near": 0.001}
ROW_SHAPE = (300,)
PATIENCE_SECONDS = 600.0
CLIENT_CPUS = 0.01


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: counts of servers, ids in a call, clients, and the length of turns."""

    servers: Sequence[int] = (1, 2, 4)
    batches: Sequence[int] = (256, 4096)
    rows: int = 100_000
    clients: int = 2
    rounds: int = 5
    seconds: float = 2.0


def rows_of(ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return rows of the generated table."""
    base = np.arange(np.prod(ROW_SHAPE), dtype=np.float32)
    return (ids[:, np.newaxis] + base).reshape(len(ids), *ROW_SHAPE).astype(np.float32)


class RowActor:
    """An actor that returns rows through Ray."""

    def __init__(self, path: str) -> None:
        self._store = embstore.open(path)

    def lookup(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows of ids."""
        return self._store.lookup(ids)


class Client:
    """An actor that looks rows up, and times it."""

    def turn(
        self, way: str, source: Any, batch: int, plan: Plan, seed: int
    ) -> tuple[int, float, str]:
        """Look up rows for some seconds; return the rows, the seconds, and what is wrong."""
        lookup = _lookup(way, source)
        random = np.random.default_rng(seed)
        lookup(random.integers(0, plan.rows, batch))
        count, start = 0, time.perf_counter()
        while not count or time.perf_counter() < start + plan.seconds:
            ids = random.integers(0, plan.rows, batch)
            rows = lookup(ids)
            count += batch
        seconds = time.perf_counter() - start
        good = np.array_equal(np.asarray(rows).reshape(batch, *ROW_SHAPE), rows_of(ids))
        return count, seconds, "" if good else f"{way} gave wrong rows"


def _lookup(way: str, source: Any) -> Callable[[NDArray[np.int64]], Any]:
    ray: Any = importlib.import_module("ray")  # Where it runs, it is there.

    if way == OWN:
        return source.lookup  # type: ignore[no-any-return]
    if way == DATASET:
        return lambda ids: np.stack([one["row"] for one in source.multiget(ids.tolist())])

    def by_results(ids: NDArray[np.int64]) -> NDArray[Any]:
        shares = np.array_split(ids, len(source))
        asked = [actor.lookup.remote(share) for actor, share in zip(source, shares, strict=True)]
        found = ray.get(asked)
        return found[0] if len(found) == 1 else np.concatenate(found)

    return by_results


def measure(ray: Any, path: Path, plan: Plan) -> dict[tuple[int, int, str], list[float]]:
    """Return rows a second of each turn, by (batch, servers, way)."""
    found: dict[tuple[int, int, str], list[float]] = {}
    client = ray.remote(num_cpus=CLIENT_CPUS, resources=NEAR)(Client)
    clients = [client.remote() for _ in range(plan.clients)]
    row_actor = ray.remote(num_cpus=CLIENT_CPUS, resources=FAR)(RowActor)
    for count in plan.servers:
        handle = deploy(
            path, partitions_per_actor=max(plan.servers) // count, num_cpus=0.01, resources=FAR
        )
        assert len(handle.names) == count
        sources: dict[str, Any] = {OWN: handle}
        sources[RESULTS] = [row_actor.remote(str(path)) for _ in range(count)]
        if (dataset := _dataset(ray, plan, count)) is not None:
            sources[DATASET] = dataset
        for turn in range(plan.rounds):
            for batch in plan.batches:
                for way, source in sources.items():
                    progress(f"turn {turn + 1} of {plan.rounds}: {way}, {count}, batch {batch}")
                    asked = [
                        one.turn.remote(way, source, batch, plan, turn * 100 + number)
                        for number, one in enumerate(clients)
                    ]
                    done = ray.get(asked, timeout=PATIENCE_SECONDS)
                    for problem in filter(None, (one[2] for one in done)):
                        raise BenchError(problem)
                    rate = sum(rows / seconds for rows, seconds, _ in done)
                    found.setdefault((batch, count, way), []).append(rate)
        handle.close()
        for actor in sources[RESULTS]:
            ray.kill(actor)
    return found


def _dataset(ray: Any, plan: Plan, count: int) -> Any:
    """Return Ray's random access over the same rows; None where Ray does not have it any more."""
    ids = np.arange(plan.rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = ray.data.from_blocks(
            [_block(part) for part in np.array_split(ids, 4 * max(plan.servers))]
        )
        with suppress(AttributeError):
            return data.to_random_access_dataset("id", num_workers=count)
    return None


def _block(ids: NDArray[np.int64]) -> Any:
    import pyarrow as pa  # noqa: PLC0415  # As above.

    rows = pa.FixedSizeListArray.from_arrays(pa.array(rows_of(ids).reshape(-1)), ROW_SHAPE[0])
    return pa.table({"id": ids, "row": rows})


def report_lines(found: dict[tuple[int, int, str], list[float]], plan: Plan) -> Iterator[str]:
    """Yield a table: medians, how many times as many as each peer, growth, and the goals."""
    yield f"{'rows a second':<14}{'servers':>8}{'batch':>8}  " + "".join(f"{w:>22}" for w in WAYS)
    ratios: dict[str, list[float]] = {}
    for batch in plan.batches:
        for count in plan.servers:
            cells = []
            for way in WAYS:
                turns = found.get((batch, count, way))
                if turns is None:
                    cells.append(f"{'-':>22}")
                    continue
                cell = f"{statistics.median(turns):,.0f}"
                if way != OWN:
                    own = found[batch, count, OWN]
                    times = statistics.median(a / b for a, b in zip(own, turns, strict=True))
                    ratios.setdefault(way, []).append(times)
                    cell += f" ({times:.1f}x)"
                cells.append(f"{cell:>22}")
            yield f"{'':<14}{count:>8}{batch:>8}  {''.join(cells)}"
    for batch in plan.batches:
        first, last = plan.servers[0], plan.servers[-1]
        growth = statistics.median(
            b / a for a, b in zip(found[batch, first, OWN], found[batch, last, OWN], strict=True)
        )
        yield f"embstore, batch {batch}: {last} servers give {growth:.2f} times the rows of {first}"
    for way, goal in GOALS.items():
        if way not in ratios:
            yield f"{way}: this Ray does not have it"
            continue
        least, most = min(ratios[way]), max(ratios[way])
        met = "met" if least >= goal else "missed"
        yield f"goal: {goal:g} times the rows of {way}: {met}, {least:.1f} to {most:.1f}"


def run(folder: Path, plan: Plan) -> Iterator[str]:
    """Start a cluster, measure, and yield the lines of the report."""
    ray: Any = importlib.import_module("ray")  # Not always installed.
    cluster_utils: Any = importlib.import_module("ray.cluster_utils")

    ids = np.arange(plan.rows)
    path = folder / "table.embstore"
    embstore.build(rows_of(ids), path, partitions=max(plan.servers)).close()
    options: dict[str, Any] = {
        "num_cpus": 2,
        "object_store_memory": 600 << 20,
        "include_dashboard": False,
        "node_ip_address": ADDRESS,
    }
    with tempfile.TemporaryDirectory(prefix="er-", dir="/tmp", ignore_cleanup_errors=True) as short:
        os.environ["RAY_TMPDIR"] = short  # Ray keeps the address of the cluster in ray/ there.
        logs = f"{short}/ray"
        Path(logs).mkdir()
        cluster = cluster_utils.Cluster(
            initialize_head=True,
            head_node_args={**options, "resources": {"near": 1}, "temp_dir": logs},
        )
        cluster.add_node(**options, resources={"far": 1}, temp_dir=logs)
        ray.init(
            address=cluster.address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address=ADDRESS,
        )
        try:
            yield from report_lines(measure(ray, path, plan), plan)
        finally:
            ray.shutdown()
            cluster.shutdown()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the report."""
    plan = Plan()
    parser = parser_of("ray_rows", __doc__, rounds=plan.rounds)
    parser.add_argument("--servers", type=int, nargs="+", default=plan.servers)
    parser.add_argument("--batches", type=int, nargs="+", default=plan.batches)
    parser.add_argument("--rows", type=int, default=plan.rows)
    parser.add_argument("--clients", type=int, default=plan.clients)
    parser.add_argument("--seconds", type=float, default=plan.seconds)
    given = parser.parse_args(arguments)
    plan = Plan(
        tuple(given.servers),
        tuple(given.batches),
        given.rows,
        given.clients,
        given.rounds,
        given.seconds,
    )
    with scratch(given.directory, "ray-rows") as folder:
        for line in run(folder, plan):
            print(line)


if __name__ == "__main__":
    main()
