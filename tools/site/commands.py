"""The reference of the command line, written from the commands themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from embstore.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator


class Commands(SphinxDirective):
    """The directive `embstore-commands`: a section for each command."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        group: Any = typer.main.get_command(app)
        sections: list[nodes.Node] = []
        for name, command in group.commands.items():
            section = nodes.section(ids=[f"embstore-{name}"], names=[name])
            section += nodes.title("", "", nodes.literal("", f"embstore {name}"))
            with group.make_context("embstore", [name], resilient_parsing=True) as parent:
                context = command.context_class(command, info_name=name, parent=parent)
                lines = list(command_lines(name, command, context))
            self.state.nested_parse(StringList(lines, "embstore/cli"), 0, section)
            sections.append(section)
        return sections


def command_lines(name: str, command: Any, context: Any) -> Iterator[str]:
    """Yield the reStructuredText of a command: its help, its usage and its parameters."""
    for paragraph in command.help.split("\n\n"):
        if paragraph.startswith("\b\n"):
            heading, *examples = paragraph.removeprefix("\b\n").splitlines()
            yield from (f"{heading}", "", ".. code-block:: sh", "")
            yield from (f"   {line.strip()}" for line in examples)
        else:
            yield from plain(paragraph).splitlines()
        yield ""
    yield from (".. code-block:: text", "")
    yield f"   embstore {name} {' '.join(command.collect_usage_pieces(context))}"
    yield ""
    yield from (f".. program:: embstore {name}", "")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None:
            continue
        names, text = record
        yield from (f".. option:: {names.strip()}", "")
        yield from (f"   {line}" for line in plain(text).splitlines())
        yield ""


def plain(text: str) -> str:
    r"""Return a text without marks of reStructuredText.

    >>> plain("*.npy and `x_`")
    '\\*.npy and \\`x\\_\\`'
    """
    for mark in "\\*`|_":
        text = text.replace(mark, "\\" + mark)
    return text
