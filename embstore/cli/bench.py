"""The command ``embstore bench``: a store on its own disk against RAM."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embstore.bench.settings import ROUNDS, SECONDS
from embstore.bench.state import STATES
from embstore.bench.work import BATCHES, WORKS
from embstore.cli.arguments import JsonOption, TableArgument
from embstore.cli.console import print_json, printable, warn
from embstore.cli.standard import DASH, PATH, PathOrDash, name_of, target_of
from embstore.export import check_new_file, new_file

if TYPE_CHECKING:
    from embstore.bench.report import Report


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
        PathOrDash | None,
        typer.Option(
            help="Write a page with plots and tables to this file; - for standard output.",
            show_default=False,
            **PATH,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files of --output and --report.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare lookups in a store, or in a file opened in place, with an array in RAM.

    It takes 1 to 3 minutes, less with fewer --work, --state, --batch or --rounds; Ctrl-C prints
    what was measured. The files are dropped from the page cache before lookups that are measured
    on the disk.
    --work, --batch and --state may be given several times. The page of --report is one file that
    any browser shows, without a network: the answer, plots, tables that sort, the machine, and the
    command that repeats it. Its plots need matplotlib.

    \b
    Examples:
      embstore bench glove.embstore
      embstore bench glove.embstore --report glove.html
      embstore bench model.safetensors --tensor embed.weight
      embstore bench glove.embstore --batch 4096 --state cold --output results
    """
    from embstore.bench import suite  # noqa: PLC0415  # Only this command needs it.

    _check_targets(output, report, overwrite=overwrite)
    interrupted = False
    try:
        measured = suite.bench_store(
            store,
            tensor=tensor,
            works=work,
            batches=batch,
            states=state,
            rounds=rounds,
            seconds=seconds,
            progress=_show,
            started=warn,
        )
    except suite.Interrupted as stopped:
        measured, interrupted = stopped.report, True
    _show("")
    beside = report == DASH
    if as_json:
        print_json(measured.to_json(), beside=beside)
    else:
        typer.echo(measured.text(), err=beside)
    if interrupted:  # What was asked for is not whole, so no file is written.
        raise KeyboardInterrupt
    _write(measured, output, report, overwrite=overwrite)


def _check_targets(output: Path | None, report: PathOrDash | None, *, overwrite: bool) -> None:
    """Raise if the results cannot be written, before minutes of measuring."""
    from embstore.bench import plots  # noqa: PLC0415
    from embstore.bench.report import RESULTS  # noqa: PLC0415

    if output is not None:
        if str(output) == DASH:
            raise typer.BadParameter(
                "--output is a directory, for several files; --report - writes a page to standard "
                "output"
            )
        output.mkdir(parents=True, exist_ok=True)
        for name in (RESULTS, *plots.FILES):
            check_new_file(output.absolute() / name, overwrite=overwrite)
    if report is not None:
        target = target_of(report, "a page")
        if isinstance(target, Path):
            check_new_file(target.absolute(), overwrite=overwrite)
        if package := plots.missing():
            raise ValueError(
                f"the plots of --report need {package}; install it (pip install {package}), or "
                "leave --report out"
            )


def _write(
    measured: "Report", output: Path | None, report: PathOrDash | None, *, overwrite: bool
) -> None:
    """Write what was measured to a directory and to a page, if they are given."""
    from embstore.bench import plots  # noqa: PLC0415
    from embstore.bench.page import page  # noqa: PLC0415

    if output is not None:
        measured.save(output)
        if package := plots.missing():
            warn(f"no plots: {package} is not installed (pip install {package})")
        else:
            plots.draw(measured.to_json(), output)
    if report is not None:
        target = target_of(report, "a page")
        found = page(measured.to_json()).encode()
        if isinstance(target, Path):
            with new_file(target.absolute(), overwrite=overwrite) as file:
                file.write(found)
        else:
            target.write(found)
        where = name_of(report, "standard output")
        typer.echo(f"report written to {printable(where)}", err=True)


def _show(text: str) -> None:
    """Show the current measurement on a terminal, without a thread that would disturb it."""
    if sys.stderr.isatty():
        typer.echo(f"\r\x1b[K{text}", nl=False, err=True)
