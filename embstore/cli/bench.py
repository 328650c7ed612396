"""The command ``embstore bench``: a store on its own disk against RAM."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from embstore.bench.settings import ROUNDS, SECONDS
from embstore.bench.state import STATES
from embstore.bench.work import BATCHES, WORKS
from embstore.cli.arguments import JsonOption, TableArgument
from embstore.cli.console import print_json, printable, warn
from embstore.export import check_new_file, new_file


def bench(
    store: TableArgument,
    tensor: Annotated[
        str | None, typer.Option(help="The tensor of a safetensors file that has several.")
    ] = None,
    work: Annotated[list[str], typer.Option(help="Kind of lookup.")] = list(WORKS),  # noqa: B006
    batch: Annotated[list[int], typer.Option(min=1, help="Ids in a call.")] = list(BATCHES),  # noqa: B006
    state: Annotated[list[str], typer.Option(help="State of the rows.")] = list(STATES),  # noqa: B006
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each in each case.")] = ROUNDS,
    seconds: Annotated[float, typer.Option(min=0, help="Length of a turn.")] = SECONDS,
    output: Annotated[
        Path | None,
        typer.Option(help="Write results.json and plots to this directory.", show_default=False),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a page with plots and tables to this file.", show_default=False),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file of --report, if there is one.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare lookups in a store, or in a file opened in place, with an array in RAM.

    The files are dropped from the page cache before lookups that are measured on the disk.
    --work, --batch and --state may be given several times. The page of --report is one file that
    any browser shows, without a network: the answer, plots, tables that sort, the machine, and the
    command that repeats it. Its plots need matplotlib.

    \b
    Examples:
      embstore bench glove.embstore
      embstore bench glove.embstore --report glove.html
      embstore bench model.safetensors --tensor embed.weight
      embstore bench glove.embstore --work read_random --batch 4096 --state cold --output results
    """
    # Imported here because only this command needs it.
    from embstore.bench import plots, suite  # noqa: PLC0415
    from embstore.bench.page import page  # noqa: PLC0415

    # A mistake is told before minutes of measuring.
    no_plots = plots.missing()
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    if report is not None:
        report = report.absolute()
        check_new_file(report, overwrite=overwrite)
        if no_plots:
            raise ValueError(
                f"the plots of --report need {no_plots}; install it (pip install {no_plots}), or "
                "leave --report out"
            )
    measured = suite.bench_store(
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
        print_json(measured.to_json())
    else:
        typer.echo(measured.text())
    if output is not None:
        measured.save(output)
        if no_plots:
            warn(f"no plots: {no_plots} is not installed (pip install {no_plots})")
        else:
            plots.draw(measured.to_json(), output)
    if report is not None:
        with new_file(report, overwrite=overwrite) as file:
            file.write(page(measured.to_json()).encode())
        typer.echo(f"report written to {printable(report)}", err=True)


def _show(text: str) -> None:
    """Show the current measurement on a terminal, without a thread that would disturb it."""
    if sys.stderr.isatty():
        typer.echo(f"\r\x1b[K{text}", nl=False, err=True)
