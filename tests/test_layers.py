"""Imports between the modules of embstore: downward by room, and without cycles.

1. Every module is parsed, not imported, so the optional ones are covered too.
2. A module may import from its own room and from those below it. This holds for imports under
   ``TYPE_CHECKING`` as well: they show on which room a module depends.
3. An import inside a function may point up only from a method of `EmbeddingStore`: what a store
   can do for convenience, such as `to_gensim`, may need the rooms above it.
4. Imports form no cycle, those under ``TYPE_CHECKING`` included; imports inside functions are left
   out.
"""

from __future__ import annotations

import ast
import functools
import graphlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import embstore

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

# From the top to the bottom. A room is one or more packages or modules directly under embstore;
# the empty name is embstore/__init__.py, which shows the public names.
ROOMS = (
    ("cli",),
    ("bench",),
    ("",),
    ("interop", "serving"),
    ("functional",),
    ("changing",),
    ("build", "export", "sources", "sinks"),
    (
        "store",
        "lookup_mixin",
        "view",
        "array_mixin",
        "word_mixin",
        "attribute_mixin",
        "columns",
        "identity_mixin",
        "follow_mixin",
        "following",
        "opening",
        "opener",
        "listing",
        "many",
        "verify",
        "search",
        "similar_mixin",
        "notebook",
        "row_blocks",
    ),
    ("remote",),
    ("writing",),
    ("contents", "fingerprint"),
    ("attributes", "vocabulary"),
    ("reading",),
    ("formats",),
    ("encodings",),
    ("table",),
    ("settle", "paths", "dtypes", "errors", "progress", "syscalls", "norms", "threads", "version"),
    ("wording",),
)
LEVELS = {name: level for level, room in enumerate(ROOMS) for name in room}
STORE_METHODS = ("embstore.store", "EmbeddingStore")


@dataclass(frozen=True)
class Import:
    """An import of one module of embstore by another.

    Attributes
    ----------
    origin, target : str
        The names of the modules.
    line : int
        Where it stands.
    scope : tuple of str
        The classes and functions around it, outermost first.
    outside : bool
        Whether it stands outside of functions.
    """

    origin: str
    target: str
    line: int
    scope: tuple[str, ...] = ()
    outside: bool = True

    def __str__(self) -> str:
        return f"{self.origin}:{self.line} imports {self.target}"

    @property
    def in_store_method(self) -> bool:
        """Whether it stands in a method of the store."""
        return (self.origin, *self.scope[:1]) == STORE_METHODS and len(self.scope) > 1


def read_modules() -> dict[str, str]:
    """Return the source of each module of embstore by its name."""
    root = Path(embstore.__file__).parent
    names = {
        path: path.relative_to(root.parent).with_suffix("").parts for path in root.rglob("*.py")
    }
    return {
        ".".join(parts).removesuffix(".__init__"): path.read_text() for path, parts in names.items()
    }


@functools.cache
def parsed(source: str) -> ast.Module:
    """Return the tree of a module's source, which several tests walk."""
    return ast.parse(source)


def imports(name: str, source: str, modules: Collection[str]) -> Iterator[Import]:
    """Yield the imports of embstore's modules in the source of one."""

    def walk(node: ast.AST, scope: tuple[str, ...], outside: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                for target in targets(child):
                    if target.split(".")[0] == "embstore":
                        yield Import(name, target, child.lineno, scope, outside)
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, (*scope, child.name), outside)
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from walk(child, (*scope, child.name), False)
            elif not isinstance(child, ast.expr):  # Expressions import nothing.
                yield from walk(child, scope, outside)

    def targets(node: ast.Import | ast.ImportFrom) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        assert node.module, f"{name}:{node.lineno} has a relative import"
        members = [f"{node.module}.{alias.name}" for alias in node.names]
        return [member if member in modules else node.module for member in members]

    return walk(parsed(source), (), True)


def room_of(module: str) -> str:
    """Return the name directly under embstore."""
    return (*module.split("."), "")[1]


def upward(found: Iterable[Import]) -> list[str]:
    """Return a message for each import that the order of the rooms does not allow."""
    messages = []
    for one in found:
        origin, target = room_of(one.origin), room_of(one.target)
        for name in (origin, target):
            assert name in LEVELS, f"{name} of {one} is in no room: add it to ROOMS"
        if LEVELS[target] < LEVELS[origin] and not one.in_store_method:
            messages.append(f"{one}, but {target or 'embstore'} is above {origin}")
    return messages


def cycle(found: Iterable[Import]) -> list[str]:
    """Return the modules of an import cycle, the first one repeated at the end; empty if none."""
    graph: dict[str, set[str]] = {}
    for one in found:
        if one.outside:
            graph.setdefault(one.origin, set()).add(one.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(reversed(error.args[1]))  # So that each imports the next.
    return []


def all_imports(modules: dict[str, str]) -> list[Import]:
    """Return the imports between modules, given the source of each."""
    return [one for name, source in modules.items() for one in imports(name, source, modules)]


def test_imports_point_down():
    modules = read_modules()
    found = all_imports(modules)
    assert len(found) > len(modules)
    assert upward(found) == []


def test_imports_have_no_cycle():
    assert cycle(all_imports(read_modules())) == []


def test_every_room_exists():
    assert {room_of(module) for module in read_modules()} == set(LEVELS)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("embstore.table.made_up", "import numpy\nfrom embstore.reading import files"),
        ("embstore.table.made_up", "if TYPE_CHECKING:\n  from embstore.reading.files import X"),
        ("embstore.table.made_up", "def helper():\n  import embstore.reading.files"),
        ("embstore.reading.made_up", "class A:\n  def f(self):\n    import embstore"),
        ("embstore.store", "def helper():\n  from embstore.sinks import npy"),
        ("embstore.store", "class EmbeddingStore:\n  from embstore.sinks import npy"),
    ],
)
def test_import_that_points_up_is_named(name, source):
    (message,) = upward(all_imports(read_modules() | {name: source}))
    assert message.startswith(f"{name}:")
    assert " is above " in message
    if "files" in source:
        assert message.endswith("imports embstore.reading.files, but reading is above table")


def test_methods_of_the_store_may_import_from_above():
    source = "class EmbeddingStore:\n  def f(self):\n    from embstore.sinks import npy"
    assert upward(imports("embstore.store", source, ["embstore.sinks.npy"])) == []


def test_cycle_is_found():
    modules = read_modules()
    modules["embstore.table.one"] = "from embstore.table import two"
    modules["embstore.table.two"] = "import embstore.table.one"
    assert set(cycle(all_imports(modules))) == {"embstore.table.one", "embstore.table.two"}


def test_unknown_room_is_refused():
    with pytest.raises(AssertionError, match="is in no room"):
        upward(imports("embstore.made_up", "import embstore.errors", []))
