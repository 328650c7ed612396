"""Command-line options, derived from the functions that commands call.

1. Each keyword-only parameter of a function is an option of the same name, type and default.
2. Its help is the parameter's text in the function's docstring (numpydoc).
3. Types that cannot be typed have a text form: a dtype is given by name, a size in bytes as in
   2GiB, numbers as in 0,3, words by the file that holds them, None as none where it is not the
   default.
4. A parameter of several columns is an option in the singular, which may be given several times: a
   name, or the file of its values as in count=FILE.
"""

import functools
import inspect
import os
import re
import types
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np
import typer
from typer.main import get_command

from embstore.cli.standard import PATH, PathOrDash
from embstore.dtypes import as_dtype
from embstore.encodings.casting import OnOverflow
from embstore.settle import size_text
from embstore.sources import EncodingErrors, Format
from embstore.table.numbering import Strategy
from embstore.writing.words.new_words import OnDuplicate

COLUMNS = "<name or name=file>"
# The commands for functions of another name.
_COMMANDS = {"open": "get", "tables": "info"}
_SENTENCE = re.compile(r"(?<=[.])\s+(?=[A-Z])")
_CODE = re.compile("`+([^`]+)`+")
_MOST_CHOICES = 5  # That help shows beside the option.

_Command = TypeVar("_Command", bound=Callable[..., None])

# Names in annotations that the functions' modules import for type checkers only.
_NAMES: dict[str, Any] = {
    "DTypeLike": np.dtype,
    "EncodingErrors": EncodingErrors,
    "Format": Format,
    "Iterable": Iterable,
    "Mapping": Mapping,
    "OnDuplicate": OnDuplicate,
    "OnOverflow": OnOverflow,
    "Path": Path,
    "Strategy": Strategy,
    "os": os,
}


def options_of(
    *functions: Callable[..., Any], without: tuple[str, ...] = ()
) -> Callable[[_Command], _Command]:
    """Return a decorator that gives a command the options of the functions that it calls.

    The command takes them as ``**options``. A parameter that the command itself has takes
    precedence over one of the same name.

    Parameters
    ----------
    functions : callables
        What the command calls.
    without : tuple of str
        Parameters that have no place on the command line.
    """

    def decorate(command: _Command) -> _Command:
        own = dict(inspect.signature(command).parameters)
        options = own.popitem()[1]
        if options.kind is not options.VAR_KEYWORD:
            raise TypeError(f"{command.__name__} needs **options as its last parameter")
        derived = {
            parameter.name: _option(function, parameter)
            for function in functions
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in (*own, *without)
        }
        # Arguments first, then options, the command's own ones at the end.
        ordered = sorted(
            [*own.values(), *derived.values()],
            key=lambda one: (one.kind, one.name in own),
        )
        # typer reads both.
        signature = inspect.Signature(ordered)
        annotations = {one.name: one.annotation for one in ordered}
        columns = [one.name for one in ordered if _is_columns(one)]
        vars(command)["__signature__"] = signature
        command.__annotations__ = annotations
        return _with_columns(command, columns) if columns else command

    return decorate


def parameter_texts(function: Callable[..., Any]) -> dict[str, str]:
    """Return the text of each parameter in a numpydoc docstring, as plain text on one line.

    Sentences that start with "In Python" are left out, and what is marked as code is spelled as it
    is typed: `spelled`.

    Examples
    --------
    >>> parameter_texts(parameter_texts)
    {}
    >>> parameter_texts(parse_dtype)["name"]
    'Name of the dtype, such as float16 or bfloat16.'
    """
    lines = inspect.cleandoc(function.__doc__ or "").splitlines()
    texts: dict[str, list[str]] = {}
    names: list[str] = []
    section = ""
    for line, below in pairwise([*lines, ""]):
        if below.startswith("---"):
            section = line
        elif section == "Parameters" and not line.startswith("---"):
            if line and not line.startswith(" "):
                names = line.partition(" : ")[0].split(", ")
            elif line:
                for name in names:
                    texts.setdefault(name, []).append(line.strip())
    return {name: _for_shell(" ".join(parts)) for name, parts in texts.items()}


def spelled(code: str) -> str:
    """Return what a docstring marks as code, as it is typed at a shell.

    Examples
    --------
    >>> spelled("embstore.open"), spelled('scale="x.scale"'), spelled('"auto"'), spelled("None")
    ('embstore get', '--scale x.scale', 'auto', 'none')
    """
    if code == "None":
        return "none"
    if code.startswith("embstore.") and code.removeprefix("embstore.").isidentifier():
        name = code.removeprefix("embstore.")
        return f"embstore {_COMMANDS.get(name, name)}"
    name, found, value = code.partition("=")
    if found and name.isidentifier() and name.islower():
        code = f"--{name.replace('_', '-')} {value}"
    return code.replace('"', "").strip()


def _for_shell(text: str) -> str:
    sentences = [one for one in _SENTENCE.split(text) if not one.startswith("In Python")]
    return _CODE.sub(lambda found: spelled(found[1]), " ".join(sentences))


def names_of(app: typer.Typer) -> dict[str, str]:
    """Return the names of options and arguments by those of the parameters that they give."""
    names = {"path": "the path"}  # Commands call theirs by what is there.
    group: Any = get_command(app)
    for command in group.commands.values():
        for one in command.params:
            if one.param_type_name == "argument":
                names[one.name] = one.name.upper()
            else:
                flag = one.opts[0]
                names[flag.removeprefix("--").replace("-", "_") + "s" * one.multiple] = flag
    return names


def parse_dtype(name: str) -> np.dtype[Any]:
    """Return a dtype.

    Parameters
    ----------
    name : str
        Name of the dtype, such as ``float16`` or ``bfloat16``.
    """
    try:
        return as_dtype(name)
    except TypeError as error:
        raise typer.BadParameter(f"{name!r} is not a dtype") from error


def parse_optional(text: str) -> str | None:
    """Return a text, or None for ``none``.

    Parameters
    ----------
    text : str
        What was typed.
    """
    return None if text == "none" else text


def parse_numbers(text: str) -> list[int]:
    """Return a list of integers.

    Parameters
    ----------
    text : str
        What was typed, as in ``0,3``.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a list of numbers as in 0,3") from error


def _with_columns(command: _Command, names: list[str]) -> _Command:
    """Return a command whose options of these names are settled by `parse_columns`."""

    @functools.wraps(command)
    def settled(*arguments: Any, **options: Any) -> None:
        for name in names:
            options[name] = parse_columns(options[name])
        command(*arguments, **options)

    return settled  # type: ignore[return-value]


def _is_columns(option: inspect.Parameter) -> bool:
    return get_args(option.annotation)[:1] == (list[str] | None,) and any(
        getattr(one, "metavar", None) == COLUMNS for one in get_args(option.annotation)
    )


def parse_columns(texts: list[str] | None) -> list[str] | dict[str, Path] | None:
    """Return names, or the files of values by name.

    Parameters
    ----------
    texts : list of str
        What was typed: names, an empty one for no columns, or as in ``count=FILE``.
    """
    if not texts:
        return None
    if texts == [""]:
        return []
    files = dict(text.split("=", 1) for text in texts if "=" in text)
    if not files:
        return texts
    if len(files) < len(texts) or not all(files.values()):
        raise typer.BadParameter(
            "give either names of columns in the source, or NAME=FILE for each, once"
        )
    return {name: Path(file) for name, file in files.items()}


def _option(function: Callable[..., Any], parameter: inspect.Parameter) -> inspect.Parameter:
    """Return a parameter of a function as typer wants it."""
    annotation = _evaluated(parameter.annotation, function)
    kinds = _kinds(annotation)
    default = parameter.default
    flag = f"--{parameter.name.replace('_', '-')}"
    settings: dict[str, Any] = {"help": parameter_texts(function).get(parameter.name)}
    kind: Any
    if np.dtype in kinds:
        kind = np.dtype
        settings |= {"parser": parse_dtype, "metavar": "<dtype>"}
    elif Path in kinds or any(get_origin(one) is os.PathLike for one in kinds):
        kind = Path
        if parameter.name == "words":
            kind = PathOrDash
            settings |= PATH
    elif any(get_origin(one) is Mapping for one in kinds):
        kind = list[str]
        settings |= {"metavar": COLUMNS}
        flag = flag.removesuffix("s")
    elif any(get_origin(one) is Iterable for one in kinds):
        kind = str
        settings |= {"parser": parse_numbers, "metavar": "<numbers>"}
    elif str in kinds:
        kind = str
        default = size_text(default) if isinstance(default, int) else default
        if isinstance(default, str) and types.NoneType in get_args(annotation):
            settings |= {"parser": parse_optional, "metavar": "<text>"}
    else:
        (kind,) = kinds
        if get_origin(kind) is Literal and len(get_args(kind)) > _MOST_CHOICES:
            settings |= {"metavar": f"<{parameter.name}>"}
    option = typer.Option(flag, **settings)
    shown = kind if default is not None else kind | None
    return parameter.replace(annotation=Annotated[shown, option], default=default)


def _evaluated(annotation: Any, function: Callable[..., Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    return eval(annotation, inspect.unwrap(function).__globals__, _NAMES)


def _kinds(annotation: Any) -> list[Any]:
    """Return the members of a union, without None; other types alone."""
    is_union = get_origin(annotation) in (Union, types.UnionType)
    members = get_args(annotation) if is_union else (annotation,)
    return [member for member in members if member is not types.NoneType]
