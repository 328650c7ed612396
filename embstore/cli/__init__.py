"""The command line: commands read arguments, call the library and print what it returns."""

import functools
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import embstore
from embstore import wording
from embstore.cli.bench import bench
from embstore.cli.changes import append, snapshot, update, upsert
from embstore.cli.console import warn
from embstore.cli.options import names_of
from embstore.cli.published import prune, publish, versions
from embstore.cli.rows import explain, export, get
from embstore.cli.serving import serve
from embstore.cli.similar import similar
from embstore.cli.stores import build, clean, info, repartition, verify
from embstore.cli.terminal import prepare_streams
from embstore.errors import EmbstoreError

# Statuses after Ctrl-C and of a program that writes to a closed pipe, as shells have them.
INTERRUPTED = 130
PIPE_CLOSED = 141


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        """Run a command; one whose reader has closed the pipe ends without a word."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Python flushes at exit, and would complain about it.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(PIPE_CLOSED) from None


app = typer.Typer(
    name="embstore",
    cls=_Commands,
    help="Embedding tables that do not fit in RAM: build a store, look rows up, check it.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (
    *(build, get, similar, info, explain, verify, export, repartition, bench),
    *(append, update, upsert, snapshot, clean),
    *(publish, versions, prune, serve),
):
    app.command()(_command)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"embstore {embstore.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; a user's mistake is one line and exit status 1."""
    prepare_streams()
    with wording.for_shell(functools.cache(lambda: names_of(app))):
        try:
            app()
        except SystemExit as ended:
            if ended.code == INTERRUPTED:
                warn("interrupted", kind="error")
            raise
        except (EmbstoreError, OSError, ValueError, TypeError) as error:
            warn(str(error), kind="error")
            raise SystemExit(1) from None
