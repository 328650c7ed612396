"""Keras layers over stores; each backend in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.helpers import keras_checks
from tests.helpers.programs import TIMEOUT_SECONDS, environment

BACKENDS = ["tensorflow", "torch"]


@pytest.fixture(scope="module", params=BACKENDS)
def outcomes(request, tmp_path_factory) -> dict[str, str]:
    """How each check of `tests.helpers.keras_checks` has ended; "" is well."""
    for package in ("keras", request.param):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")
    folder = tmp_path_factory.mktemp(request.param)
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.keras_checks", folder],
        env=environment() | {"KERAS_BACKEND": request.param, "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith('["')]
    return dict(json.loads(line) for line in lines)


@pytest.mark.parametrize("name", [function.__name__ for function in keras_checks.CHECKS])
def test_layers(outcomes, name):
    assert not outcomes[name], outcomes[name]
