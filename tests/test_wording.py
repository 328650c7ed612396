"""No Python in what the command line prints.

1. Every text in the package that a command may print is found by walking the syntax trees, and must
   have no Python in it: what differs goes through `embstore.wording`.
2. `tests.helpers.programs.run_command` checks what every command of every test prints on standard
   error; here, commands get many wrong inputs.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

import embstore
from embstore import wording
from embstore.cli import app
from embstore.cli.options import COLUMNS, names_of
from embstore.wording import either, option, parameter
from tests.helpers.shell_messages import python_in
from tests.test_bad_input import BAD
from tests.test_kinds import CASES as REFUSED

ROOT = Path(embstore.__file__).parent
# What no command reaches, and why.
PYTHON_ONLY = {
    "interop/": "modules of PyTorch, gensim and Ray",
    "functional/": "functions for arrays and stores",
    "notebook.py": "HTML for notebooks",
    "array_mixin.py": "a store as an array",
    "attribute_mixin.py": "methods of a store",
    "bench/figures.py": "HTML, whose attributes look like options",
    "bench/markup.py": "as above",
    "bench/page.py": "as above",
    "bench/series.py": "names of competitors, some of them calls",
    "attributes/given.py": "values of attributes as arrays",
    "columns.py": "attributes as arrays",
    "many.py": "lookups in several stores",
    "view.py": "views of a store",
    "word_mixin.py": "words of a store as a mapping",
    "sinks/gensim.py": "a gensim object of a store",
    "sources/arrays/by_id.py": "a mapping of ids to vectors",
    "sources/arrays/containers.py": "objects that hold arrays",
    "sources/arrays/objects.py": "array objects",
    "sources/arrays/partitioned.py": "a list of partitions",
    "sources/arrow/frames.py": "frames",
    "sources/arrow/pandas_frames.py": "frames",
    "sources/iterables.py": "iterables",
    "sources/objects.py": "objects",
    "table/given.py": "ids as objects",
    "table/ids.py": "ids as objects",
    "changing/blocks.py": "rows as arrays",
    "reading/results.py": "out=, which no command has",
    "serving/addresses.py": "clients of a server, which are programs",
    "serving/answers.py": "as above",
    "serving/connect.py": "as above",
    "serving/connected_store.py": "as above",
    "serving/facts.py": "as above",
    "serving/flight.py": "as above",
    "serving/forks.py": "as above",
    "serving/link.py": "as above",
    "serving/protocol.py": "as above",
    "serving/remote_words.py": "as above",
    "sources/words/word_objects.py": "words as objects",
}
# Texts that look like Python, and are none or are not printed.
ALLOWED = {
    "--attribute □=FILE": "what is typed",
    "<name or name=file>": "what is typed after --attribute",
    'verify="full" ': "no option of a command; embstore verify reads all",
    "make source= shorter": "StoreWriter's, which no command takes a source for",
    "full=True reads all rows": "fingerprint's",
    "give token= or token_file=, not both": "the command has --token-file only",
    "give rows=": "StoreWriter's; a build counts the rows",
    "write.table(m, 'm.txt', quote=FALSE": "R, not Python",
    "the {word: vector} dict": "passed in Python only; see wording.and_pass",
    "<EmbeddingStore": "a repr",
}
# Functions whose results stand in errors of wrong types, or go to clients of a server.
ALLOWED_FUNCTIONS = {
    ("settle.py", "shown_with_type"),
    ("remote/location.py", "_kind_of"),
    ("serving/failures.py", "of"),
    ("sources/choose.py", "_open_given"),
}
# What a manifest may not say; options are checked before one is made.
OF_MANIFESTS = {
    "compression must be one of ",
    "dtype must be one of ",
    'strategy must be "mod" or "div", not ',
    "unk is ",
}
# Errors of arguments of a wrong type; typer gives each argument its type.
TYPE_ERRORS = {"TypeError", "IdTypeError", "AttributeError", "NotImplementedError", "ImportError"}


@dataclass(frozen=True)
class Text:
    """A text of a module, as it is printed; what is filled in is left out.

    Attributes
    ----------
    where : str
        The file and the line.
    text : str
        The text.
    filled : tuple of ast.FormattedValue
        What is filled in.
    """

    where: str
    text: str
    filled: tuple[ast.FormattedValue, ...] = ()


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Return the syntax trees of the modules that commands may reach, by their paths."""
    return {
        name: ast.parse(path.read_text())
        for path in sorted(ROOT.rglob("*.py"))
        if not (name := str(path.relative_to(ROOT))).startswith(tuple(PYTHON_ONLY))
    }


def texts(name: str, tree: ast.Module) -> Iterator[Text]:
    """Yield what a module may print: strings of several words, besides docstrings."""
    left_out: set[ast.AST] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant() as docstring):
                left_out.add(docstring)
            case ast.Call(func=ast.Name(id="either"), args=[python, _]):
                left_out |= set(ast.walk(python))
            case ast.Raise(exc=ast.Call(func=ast.Name(id=kind)) as made) if kind in TYPE_ERRORS:
                left_out |= set(ast.walk(made))
            case ast.FunctionDef(name=function) if (name, function) in ALLOWED_FUNCTIONS:
                left_out |= set(ast.walk(node))
            case ast.JoinedStr(values=parts):
                left_out |= set(parts)
    for node in ast.walk(tree):
        if node in left_out:
            continue
        match node:
            case ast.Constant(value=str(text), lineno=line) if " " in text.strip():
                yield Text(f"{name}:{line}", text)
            case ast.JoinedStr(values=parts, lineno=line):
                pieces = [str(part.value) for part in parts if isinstance(part, ast.Constant)]
                filled = tuple(part for part in parts if isinstance(part, ast.FormattedValue))
                if " " in (text := "\N{WHITE SQUARE}".join(pieces)):
                    yield Text(f"{name}:{line}", text, filled)


def python_filled_in(value: ast.FormattedValue) -> str:
    """Return what makes a filled-in value look like Python; empty if nothing does."""
    source = ast.unparse(value.value)
    if "__name__" in source:
        return "the name of a class or a function"
    if value.conversion == ord("r") and source.endswith("error"):
        return "the repr of an error"
    if source.endswith("shape") or source.startswith("tuple("):
        return "a tuple: use wording.shape_text"
    return ""


def test_no_python_in_texts():
    names = names_of(app)
    found = []
    allowed = set()
    for name, tree in modules().items():
        for text in texts(name, tree):
            problems = [
                *python_in(text.text, names),
                *filter(None, map(python_filled_in, text.filled)),
            ]
            if not problems:
                continue
            excuse = next((part for part in ALLOWED if part in text.text), None)
            if excuse is None:
                found.append(f"{text.where}: {text.text!r}: {', '.join(problems)}")
            else:
                allowed.add(excuse)
    assert not found, "\n".join(found)
    assert allowed == set(ALLOWED), "remove what is not met any more"


def test_what_no_command_reaches_is_there():
    assert not [name for name in PYTHON_ONLY if not (ROOT / name).exists()]


@pytest.mark.parametrize("called", ["option", "parameter"])
def test_options_in_messages_are_options_of_commands(called):
    names = names_of(app)
    found = [
        (name, node.lineno, given)
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == called
        for given in node.args[:1]
        if isinstance(given, ast.Constant) and given.value not in names
    ]
    assert not found


def test_messages_name_options_as_they_are_typed():
    names = [one for one, flag in names_of(app).items() if flag.startswith("--")]
    bare = re.compile(rf"({'|'.join(names)}) (must|has|is|chooses)\b")
    found = {
        text.text.partition("\N{WHITE SQUARE}")[0]
        for name, tree in modules().items()
        for text in texts(name, tree)
        if bare.match(text.text)
    }
    assert found == OF_MANIFESTS


COMMANDS: Any = get_command(app)
MOST_COLUMNS = 80


@pytest.mark.parametrize("name", COMMANDS.commands)
def test_no_python_in_help(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(MOST_COLUMNS))
    command = COMMANDS.commands[name]
    text = command.get_help(typer.Context(command, info_name=f"embstore {name}"))
    assert max(map(len, text.splitlines())) <= MOST_COLUMNS
    assert not python_in(" ".join(text.split()).replace(COLUMNS, ""), names_of(app))


def shell_errors(sources: Iterable[tuple[bytes, dict[str, Any]]], folder: Path) -> list[str]:
    """Return what the command line says of files that a build refuses."""
    path = folder / "file"
    errors = []
    with wording.for_shell(lambda: names_of(app)):
        for data, options in sources:
            path.write_bytes(data)
            with pytest.raises(embstore.SourceError) as error:
                embstore.build(path, folder / "s", **options)
            errors.append(str(error.value))
    return errors


def test_no_python_about_bad_files(tmp_path):
    sources = [(data, own) for data, own, _, _ in BAD.values()] + [
        (data, {}) for _, data in REFUSED
    ]
    names = names_of(app)
    found = [one for one in shell_errors(sources, tmp_path) if python_in(one, names)]
    assert [one for one in found if "is a file of R;" not in one] == []


def test_a_message_has_the_words_of_its_reader():
    def message() -> str:
        return f"{parameter('memory_limit')}; {option('unk')}; {option('scale', None)}"

    assert message() == "memory_limit; unk=; scale=None"
    with wording.for_shell(lambda: names_of(app)):
        assert message() == "--memory-limit; --unk; --scale none"
        assert option("missing", "two words") == "--missing 'two words'"
        with wording.for_python():
            assert either("a", "b") == "a"
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(message).result() == "--memory-limit; --unk; --scale none"
    assert message() == "memory_limit; unk=; scale=None"


@pytest.mark.parametrize(
    "text",
    [
        *("pass overwrite=True", "use embstore.upsert", "None is given", "call store.words()"),
        *("np.load reads it", "expected (3,)", "found b'x'", "{word: id}", "a ValueError"),
        *("memory_limit is low", "Traceback (most recent call last)", "type __init__"),
    ],
)
def test_python_is_found(text):
    assert python_in(text, names_of(app))


@pytest.mark.parametrize(
    "text",
    ["pass --overwrite", "embstore upsert", "none", "(2 of 3)", "a.embstore", "/x/memory_limit/a"],
)
def test_other_text_is_not_python(text):
    assert not python_in(text, names_of(app))
