"""Fixtures and settings of all tests; a plugin, so that examples in docstrings get them, too."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import embstore
from embstore import row_blocks

if TYPE_CHECKING:
    from _typeshed import HasFileno

pytest_plugins = ["tests.servers"]

# A test must not fail because a machine is slow or by chance: the examples are the same in every
# run. `--hypothesis-profile search` tries others.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", _PATIENT)
settings.register_profile("same", _PATIENT, derandomize=True, database=None)
settings.load_profile("same")

# The output of the command line must not depend on the terminal that runs the tests; some of these
# are read when typer is imported.
for _name in (
    *("COLUMNS", "LINES", "TERMINAL_WIDTH", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
    *("FORCE_COLOR", "NO_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TYPER_USE_RICH"),
):
    os.environ.pop(_name, None)

# POT imports all of these that are installed, which takes many seconds; only arrays go there.
for _name in ("TENSORFLOW", "PYTORCH", "JAX"):
    os.environ[f"POT_BACKEND_DISABLE_{_name}"] = "1"

WORDS = Path(__file__).parent / "data" / "words.txt"
INTEROP = Path(embstore.__file__).parent / "interop"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Skip the examples of modules whose optional package is not installed.

    Those of the Keras layer are run by `tests.helpers.keras_checks`.
    """
    if collection_path == INTEROP / "torch" and find_spec("torch") is None:
        return True
    return collection_path == INTEROP / "keras" or None


def _check_open(file: int | HasFileno) -> None:
    os.fstat(file if isinstance(file, int) else file.fileno())


@pytest.fixture(scope="session", autouse=True)
def _flushes_do_not_wait() -> Iterator[None]:
    """Let a flush of this process only check its descriptor.

    Tests write thousands of small files, and waiting for the disk would take most of their time.
    The programs that tests start do wait, and `tests.campaigns` has a model of the disk. What must
    be on disk for a test is flushed by `os.fdatasync`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", _check_open)
        yield


@pytest.fixture
def words_path() -> Path:
    """The text file with the eleven-word, 8-dimensional table."""
    return WORDS


@pytest.fixture
def words_store(tmp_path: Path) -> Path:
    """A store of the eleven words, over two partitions."""
    path = tmp_path / "words.embstore"
    embstore.build(WORDS, path, partitions=2).close()
    return path


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split even a small table into many blocks."""
    monkeypatch.setattr(row_blocks, "MAX_BLOCK_ROWS", 3)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or shutil.which("mount") is None
        or subprocess.run(mount, check=False).returncode
    ):
        pytest.skip("needs the right to mount a file system")
    yield path
    gc.collect()  # A traceback may hold files open, and the mount is busy then.
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(autouse=True)
def _names_for_examples(
    request: pytest.FixtureRequest, doctest_namespace: dict[str, object]
) -> Iterator[None]:
    """Give the examples in docstrings a store, and a directory; they leave nothing elsewhere."""
    if type(request.node).__name__ != "DoctestItem":
        yield
        return
    path = request.getfixturevalue("words_store")
    shutil.copy(WORDS, path.parent)
    patch = request.getfixturevalue("monkeypatch")
    patch.chdir(path.parent)
    temporary = path.parent / "temporary"
    temporary.mkdir()
    patch.setattr(tempfile, "tempdir", str(temporary))
    doctest_namespace.update(embstore=embstore, np=np, store=embstore.open(path))
    yield
    assert not list(temporary.iterdir()), "write to the working directory, or clean up"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return where a store will be."""
    return tmp_path / "t.embstore"


@pytest.fixture(params=["exchange", "two renames"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Replace a store in each of the two ways."""
    # Imported here because most tests need neither.
    from tests.campaigns.faults import in_one_step, in_two_steps

    with in_two_steps() if request.param == "two renames" else in_one_step():
        yield request.param
