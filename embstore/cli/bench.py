"""`embstore bench`: a store against RAM, on its own disk."""

import json
from pathlib import Path
from typing import Annotated

import typer

from embstore.cli.arguments import JsonOption, StoreArgument
from embstore.cli.console import status, warn


def bench(
    store: StoreArgument,
    work: Annotated[
        list[str] | None,
        typer.Option(
            help="open, read_random, read_hot, read_one, read_same or read_words; by default all."
        ),
    ] = None,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Ids in a call; by default 1, 32, 256, 4096 and 65536."),
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(help="preloaded, warm, cold or limited; by default all."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each peer in each case.")] = 5,
    seconds: Annotated[float, typer.Option(min=0, help="Length of a turn.")] = 0.3,
    output: Annotated[
        Path | None,
        typer.Option(help="Write results.json and plots to this directory.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare looking rows up in a store with RAM, and with np.memmap.

    The page cache is asked to drop the store's files, before what is measured from the disk.
    Options that choose may be given several times.

    \b
    Examples:
      embstore bench glove.embstore
      embstore bench glove.embstore --work read_random --batch 4096 --state cold --output results
    """
    # Imported here because only this command needs it.
    from embstore.bench import plots, suite  # noqa: PLC0415

    plan = suite.Plan.of(works=work, batches=batch, states=state, rounds=rounds, seconds=seconds)
    with status() as show:
        report = suite.bench_store(store, plan, show)
    typer.echo(json.dumps(report.to_json()) if as_json else report.text())
    if output is not None:
        report.save(output)
        if missing := plots.missing():
            warn(f"no plots: {missing} is not installed (pip install embstore[bench])")
        else:
            plots.draw(report.to_json(), output)
