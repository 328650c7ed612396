"""Options: checked when a build starts, the same in Python and on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pytest
from typer.main import get_command

import embstore
from embstore import EmbeddingStore
from embstore.cli import app
from embstore.cli.arguments import OPEN_WITHOUT
from embstore.cli.options import options_of, parameter_texts
from embstore.cli.rows import get
from embstore.cli.standard import PathOrDash
from embstore.cli.stores import build
from embstore.encodings.casting import OnOverflow
from embstore.settle import as_size
from embstore.sources import EncodingErrors, Format
from embstore.table.numbering import Strategy
from embstore.writing.words.new_words import OnDuplicate

TEXT = b"the 1 2\nlike 3 4\n"


@pytest.fixture
def table(tmp_path):
    """A text file of two words."""
    path = tmp_path / "t.txt"
    path.write_bytes(TEXT)
    return path


WRONG_VALUES = [
    ({"partitions": 0}, "partitions must be from 1 to 65536, not 0"),
    ({"partitions": 1 << 17}, "partitions must be from 1 to 65536, not 131072"),
    ({"strategy": "hash"}, 'strategy must be "mod" or "div", not \'hash\''),
    ({"format": "csv"}, 'format must be "auto", "glove", "word2vec", "word2vec-binary", "npy", '),
    ({"limit": 0}, "limit must be 1 or more, not 0"),
    ({"limit": -1}, "limit must be 1 or more, not -1"),
    ({"words": ""}, "words must be a path, not an empty text"),
    ({"dimension": 0}, "dimension must be from 1 to 1073741824, not 0"),
    ({"encoding_errors": "lax"}, 'encoding_errors must be "strict", "replace" or "ignore", not'),
    ({"partition_strategy": "x"}, 'partition_strategy must be "mod" or "div", not \'x\''),
    ({"on_duplicate": "last"}, 'on_duplicate must be "error" or "first", not \'last\''),
    ({"on_overflow": "clip"}, 'on_overflow must be "error" or "inf", not \'clip\''),
    ({"memory_limit": "much"}, "memory_limit must be a size such as 2GiB, 500MB or 4096, not"),
    ({"memory_limit": -1}, "memory_limit must be 0 or more, not -1"),
]
WRONG_TYPES = [
    ({"partitions": 2.0}, "partitions must be an integer, not 2.0 (float)"),
    ({"partitions": True}, "partitions must be an integer, not True (bool)"),
    ({"strategy": None}, 'strategy must be "mod" or "div", not None'),
    ({"limit": "5"}, "limit must be an integer, not '5' (str)"),
    ({"dimension": 2.5}, "dimension must be an integer, not 2.5 (float)"),
    ({"memory_limit": 1e9}, "memory_limit must be a size such as 2GiB, 500MB or 4096, not 100"),
    ({"path": b"s"}, "path must be a str or a pathlib.Path, not b's' (bytes)"),
]


@pytest.mark.parametrize(
    ("options", "says", "kind"),
    [(*case, ValueError) for case in WRONG_VALUES] + [(*case, TypeError) for case in WRONG_TYPES],
)
def test_build_refuses_wrong_options_before_it_reads(tmp_path, options, says, kind):
    def rows() -> Iterator[object]:
        raise AssertionError("the source was read")
        yield

    arguments: dict[str, Any] = {"source": rows(), "path": tmp_path / "s"} | options
    with pytest.raises(kind) as error:
        embstore.build(**arguments)
    assert says in str(error.value)
    assert type(error.value) is kind
    assert list(tmp_path.iterdir()) == []


def test_build_takes_sizes_numpy_integers_and_path_likes(tmp_path, table):
    class PathLike:
        def __fspath__(self):
            return str(table)

    partitions: Any = np.int64(2)
    store = embstore.build(
        PathLike(), str(tmp_path / "s"), memory_limit="64MiB", partitions=partitions
    )
    assert store.partition_count == 2
    assert store[["the", "like"]].tolist() == [[1, 2], [3, 4]]


def test_a_memory_limit_that_is_too_low_is_refused(tmp_path, table):
    with pytest.raises(ValueError, match="needs a memory_limit of at least 64KiB"):
        embstore.build(table, tmp_path / "s", memory_limit="1KiB")
    assert list(tmp_path.iterdir()) == [table]


@dataclass(frozen=True)
class Case:
    """A command: the functions that it calls, and how its options differ from theirs."""

    functions: tuple[Callable[..., Any], ...] = ()
    without: tuple[str, ...] = ()  # Objects, or what makes no sense for a file or a store.
    own: tuple[str, ...] = ()  # Options of the command line alone.
    changed: tuple[str, ...] = ()  # Options with another default.


CASES = {
    "build": Case((embstore.build,), without=("progress", "partition_strategy"), own=("json",)),
    "repartition": Case(
        (embstore.build,),
        without=(
            *("progress", "partition_strategy", "format", "words", "member", "tensor", "column"),
            *("scale", "scale_block", "zero_point"),
            *("word_column", "dimension", "encoding_errors", "on_duplicate"),
        ),
        own=("json",),
        changed=("partitions", "strategy", "compression"),
    ),
    "export": Case((embstore.export,), without=("progress",), own=("json",)),
    "verify": Case((embstore.verify,), without=("progress",), own=("json",)),
    "get": Case(
        (embstore.open, EmbeddingStore.lookup, EmbeddingStore.lookup_words),
        without=("out", *OPEN_WITHOUT),
        own=("ids", "npy", "overwrite", "json"),
    ),
    "similar": Case(
        (embstore.open,),
        without=OPEN_WITHOUT,
        own=("ids", "topn", "metric", "restrict", "excludes", "json"),
    ),
    "clean": Case(own=("json",)),
    "explain": Case(
        (embstore.open, EmbeddingStore.explain, EmbeddingStore.lookup_words),
        without=OPEN_WITHOUT,
        own=("ids", "json"),
    ),
    "serve": Case((embstore.serve,), without=("token",)),
    "info": Case((embstore.open,), without=OPEN_WITHOUT, own=("json",)),
    "append": Case((embstore.append,), without=("progress", "partition_strategy"), own=("json",)),
    "update": Case(
        (embstore.append,),  # What it takes of a source; `embstore.update` takes arrays.
        without=("progress", "partition_strategy", "on_duplicate"),
        own=("ids", "json"),
    ),
    "upsert": Case((embstore.upsert,), without=("progress", "partition_strategy"), own=("json",)),
    "snapshot": Case((embstore.snapshot,), without=("progress",), own=("json",)),
    "publish": Case((embstore.publish,), without=("progress",), own=("json",)),
    "versions": Case((embstore.versions,), own=("json",)),
    "prune": Case((embstore.prune,), without=("progress",), own=("json",)),
}
# `bench` calls a class of its own; tests/test_bench.py has its options.
ALL_COMMANDS = sorted([*CASES, "bench"])


def keywords(case: Case) -> dict[str, tuple[Callable[..., Any], inspect.Parameter]]:
    """Return the keyword-only parameters of a command's functions."""
    return {
        parameter.name: (function, parameter)
        for function in case.functions
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def options(name: str) -> dict[str, Any]:
    """Return the options of a command by their names in Python, as typer made them."""
    group: Any = get_command(app)
    found = [one for one in group.commands[name].params if one.param_type_name == "option"]
    assert all(len(one.opts) == 1 and not one.secondary_opts for one in found)
    names = {one: one.opts[0].removeprefix("--").replace("-", "_") for one in found}
    # An option that may be given several times is in the singular.
    return {name + "s" * one.multiple: one for one, name in names.items()}


def test_every_command_has_a_case():
    group: Any = get_command(app)
    assert sorted(group.commands) == ALL_COMMANDS


@pytest.mark.parametrize("name", CASES)
def test_options_are_the_parameters_of_the_functions(name):
    case = CASES[name]
    parameters = set(keywords(case))
    assert parameters >= {*case.without, *case.changed}
    assert set(options(name)) == (parameters - {*case.without}) | {*case.own}


@pytest.mark.parametrize("name", CASES)
def test_options_have_the_defaults_of_the_parameters(name):
    case = CASES[name]
    for option, (_, parameter) in keywords(case).items():
        if option in case.without:
            continue
        found = options(name)[option].default
        if option in case.changed:
            assert found is None
        elif "limit" in option and found is not None:
            assert as_size(found, option) == as_size(parameter.default, option)
        else:
            # The default of a flag may be None instead of False.
            assert (found or None) == (parameter.default or None)
        assert not options(name)[option].required


@pytest.mark.parametrize("name", CASES)
def test_options_have_the_texts_of_the_parameters(name):
    case = CASES[name]
    for option, (function, _) in keywords(case).items():
        if option not in {*case.without, *case.changed}:
            assert options(name)[option].help == parameter_texts(function)[option]
    for option in options(name).values():
        assert option.help
        assert "`" not in option.help


@pytest.mark.parametrize("name", CASES)
def test_options_have_texts_of_their_own(name):
    texts = [option.help for option in options(name).values()]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", ["build", "append", "update", "upsert"])
def test_help_names_every_format(name):
    text = options(name)["format"].help
    assert [one for one in get_args(Format) if one not in text] == []
    assert "GGUF" in options(name)["tensor"].help


def test_options_have_the_types_of_the_parameters():
    """What cannot be typed has a text form."""
    found = inspect.signature(build).parameters
    types = {
        name: get_args(found["as_json" if name == "json" else name].annotation)[0]
        for name in options("build")
    }
    assert types == {
        **dict.fromkeys(("partitions", "limit", "dimension"), int | None),
        "scale": str,  # None is typed as none.
        "zero_point": str | None,
        "scale_block": tuple[int, int] | None,
        **dict.fromkeys(("member", "tensor", "column", "word_column", "unk"), str | None),
        **dict.fromkeys(("encoding", "compression"), str | None),
        "strategy": Strategy,
        "format": Format,
        "encoding_errors": EncodingErrors | None,
        "on_duplicate": OnDuplicate | None,
        "on_overflow": OnOverflow,
        "dtype": np.dtype | None,
        "words": PathOrDash | None,
        "attributes": list[str] | None,
        "memory_limit": str,
        **dict.fromkeys(("overwrite", "json"), bool),
    }
    assert get_args(inspect.signature(get).parameters["max_norm"].annotation)[0] == float | None


def test_flags_have_no_opposite():
    assert options("build")["overwrite"].is_flag
    assert options("build")["overwrite"].opts == ["--overwrite"]


def test_a_command_needs_a_place_for_the_options():
    with pytest.raises(TypeError, match=r"needs \*\*options as its last parameter"):

        @options_of(embstore.build)
        def command(source: str) -> None:
            pass


def test_parameter_texts_are_read_from_a_docstring():
    def function():
        """Do.

        Not a parameter : here

        Parameters
        ----------
        one, two : int
            First ``line``,
            second line.

            After a gap.
        three
            Text.

        Returns
        -------
        four : int
            Not this one.
        """

    text = "First line, second line. After a gap."
    assert parameter_texts(function) == {"one": text, "two": text, "three": "Text."}
