"""Tables behind Ray actors: the same rows as from the local store, whatever happens to actors."""

from __future__ import annotations

import json

import pytest

from embstore.interop.ray import Handle
from embstore.interop.ray.actors import ActorName, Deployment
from tests.helpers import ray_checks
from tests.helpers.namespaces import need_namespaces, run_alone

ACTOR = ActorName("space", "embstore-words-0", (0,))
HANDLE = Handle(Deployment((ACTOR,), 32 * "a", 30.0))


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    pytest.importorskip("ray")
    pytest.importorskip("pyarrow.flight")
    need_namespaces()
    done = run_alone("-m", "tests.helpers.ray_checks", RAY_USAGE_STATS_ENABLED="0")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: problem for name, problem, _ in lines}


@pytest.mark.parametrize("name", [function.__name__ for function in ray_checks.CHECKS])
def test_on_a_cluster(outcomes, name):
    assert not outcomes[name], outcomes[name]
