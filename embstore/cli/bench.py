"""The command ``embstore bench``: a store on its own disk against RAM."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from embstore.bench.state import STATES
from embstore.bench.work import BATCHES, WORKS
from embstore.cli.arguments import JsonOption, TableArgument
from embstore.cli.console import print_json, warn


def bench(
    store: TableArgument,
    tensor: Annotated[
        str | None, typer.Option(help="The tensor of a safetensors file that has several.")
    ] = None,
    work: Annotated[list[str], typer.Option(help="Kind of lookup.")] = list(WORKS),  # noqa: B006
    batch: Annotated[list[int], typer.Option(min=1, help="Ids in a call.")] = list(BATCHES),  # noqa: B006
    state: Annotated[list[str], typer.Option(help="State of the rows.")] = list(STATES),  # noqa: B006
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each in each case.")] = 5,
    seconds: Annotated[float, typer.Option(min=0, help="Length of a turn.")] = 0.3,
    output: Annotated[
        Path | None,
        typer.Option(help="Write results.json and plots to this directory.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare lookups in a store, or in a file opened in place, with an array in RAM.

    The files are dropped from the page cache before lookups that are measured on the disk.
    --work, --batch and --state may be given several times.

    \b
    Examples:
      embstore bench glove.embstore
      embstore bench model.safetensors --tensor embed.weight
      embstore bench glove.embstore --batch 4096 --state cold --output results
    """
    # Imported here because only this command needs it.
    from embstore.bench import plots, suite  # noqa: PLC0415

    report = suite.bench_store(
        store,
        tensor=tensor,
        works=work,
        batches=batch,
        states=state,
        rounds=rounds,
        seconds=seconds,
        progress=_show,
    )
    _show("")
    if as_json:
        print_json(report.to_json())
    else:
        typer.echo(report.text())
    if output is not None:
        report.save(output)
        if missing := plots.missing():
            warn(f"no plots: {missing} is not installed (pip install embstore[bench])")
        else:
            plots.draw(report.to_json(), output)


def _show(text: str) -> None:
    """Show the current measurement on a terminal, without a thread that would disturb it."""
    if sys.stderr.isatty():
        typer.echo(f"\r\x1b[K{text}", nl=False, err=True)
