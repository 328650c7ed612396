"""The command line: commands read arguments, call the library and print what it returns."""

import os
import sys
from typing import Annotated

import typer

import embstore
from embstore.cli.bench import bench
from embstore.cli.changes import append, snapshot, update, upsert
from embstore.cli.console import warn
from embstore.cli.published import prune, publish, versions
from embstore.cli.rows import explain, export, get
from embstore.cli.serving import serve
from embstore.cli.similar import similar
from embstore.cli.stores import build, clean, info, repartition, verify
from embstore.cli.terminal import prepare_streams
from embstore.errors import EmbstoreError

app = typer.Typer(
    name="embstore",
    help="Embedding tables that do not fit in RAM: build a store, look rows up, check it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (
    *(build, get, similar, info, explain, verify, export, repartition, bench),
    *(append, update, upsert, snapshot, clean),
    *(publish, versions, prune, serve),
):
    app.command()(_command)

# The status after Ctrl-C, as shells have it.
INTERRUPTED = 130


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
    try:
        app()
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            warn("interrupted", kind="error")
        raise
    except (EmbstoreError, OSError, ValueError, TypeError) as error:
        if isinstance(error, BrokenPipeError):
            # The reader has closed the pipe; keep Python from complaining about it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        warn(str(error), kind="error")
        raise SystemExit(1) from None
