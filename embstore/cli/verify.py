"""`embstore verify`: is a store whole?"""

import json

import typer

import embstore
from embstore.cli.arguments import JsonOption, StoreArgument
from embstore.cli.console import progress_bar


def verify(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Read a whole store and check it; exit status 1 if anything is wrong.

    \b
    Example:
      embstore verify glove.embstore
    """
    with progress_bar("verify") as progress:
        report = embstore.verify(store, progress=progress)
    if as_json:
        named = {"ok": report.ok, "files": report.file_count, "bytes": report.byte_count}
        typer.echo(json.dumps(named | {"problems": report.problems}))
    elif report.ok:
        typer.echo(f"ok: {report.file_count} chunk files, {report.byte_count:,} bytes")
    else:
        for problem in report.problems:
            typer.echo(problem)
        count = len(report.problems)
        typer.echo(f"{count} problem{'s' * (count > 1)}; restore the store or build it again")
    if not report.ok:
        raise typer.Exit(1)
