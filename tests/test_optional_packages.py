"""Optional packages: mypy says the same without them, so `tools/test` passes on a fresh machine."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What `tools/test` installs, and mypy finds the types of.
INSTALLED = {"_typeshed", "hypothesis", "numpy", "pytest", "rich", "typer", "xxhash", "zarr"}


def imported(path: Path) -> set[str]:
    """Return the top names of the modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def test_mypy_knows_which_packages_may_be_missing():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]
    folders = settings["files"]
    known = {
        name.partition(".")[0]
        for override in settings["overrides"]
        if override.get("ignore_missing_imports")
        for name in override["module"]
    }
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    names = set().union(*map(imported, files))
    assert names - set(sys.stdlib_module_names) - set(folders) - INSTALLED <= known
