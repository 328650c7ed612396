"""The command line: thin, it reads arguments and prints what the library returns."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

import embstore
from embstore.errors import EmbstoreError
from embstore.partitions import Strategy
from embstore.sources import EncodingErrors, TextFormat
from embstore.store import Missing
from embstore.writer import OnDuplicate

app = typer.Typer(
    name="embstore",
    help="Embedding tables that do not fit in RAM: build a store, look rows up, check it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

VALUES_SHOWN = 5


StoreArgument = Annotated[Path, typer.Argument(help="The store's directory.", show_default=False)]
WordsArgument = Annotated[
    list[str] | None, typer.Argument(help="Words to look up.", show_default=False)
]
IdsOption = Annotated[
    str | None, typer.Option("--ids", help="Ids instead of words, as in 0,5,17 or 2:10.")
]
MissingOption = Annotated[Missing, typer.Option(help="What a word that is not there gives.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@app.command()
def build(
    source: Annotated[
        Path,
        typer.Argument(
            help="GloVe, word2vec or fastText text; may be .gz, .bz2, .xz, .zip.",
            show_default=False,
        ),
    ],
    store: Annotated[Path, typer.Argument(help="Where the store will be.", show_default=False)],
    partitions: Annotated[int, typer.Option(min=1, help="Number of partitions.")] = 1,
    strategy: Annotated[Strategy, typer.Option(help="How ids are dealt out.")] = "mod",
    dtype: Annotated[str, typer.Option(help="What to store.")] = "float32",
    format: Annotated[
        TextFormat, typer.Option(help="Without (glove) or with (word2vec) a header line.")
    ] = "auto",
    member: Annotated[
        str | None, typer.Option(help="The member of a .zip that has several.")
    ] = None,
    encoding_errors: Annotated[
        EncodingErrors, typer.Option(help="What to do with words that are not UTF-8.")
    ] = "strict",
    on_duplicate: Annotated[
        OnDuplicate, typer.Option(help="Keep a word's first row, or stop.")
    ] = "first",
    unk: Annotated[
        str | None,
        typer.Option(
            help="The word that stands for unknown ones; if not given, the first that is there of "
            "<unk>, [UNK], <UNK>, UNK."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a store.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Build a store from a text file of vectors.

    \b
    Example:
      embstore build glove.6B.300d.txt glove.embstore --partitions 4
    """
    try:
        stored = np.dtype(dtype)
    except TypeError as error:
        raise typer.BadParameter(f"{dtype!r} is not a dtype", param_hint="--dtype") from error
    begin = time.perf_counter()
    with _progress("build") as progress:
        built = embstore.build(
            source,
            store,
            partitions=partitions,
            strategy=strategy,
            dtype=stored,
            format=format,
            member=member,
            encoding_errors=encoding_errors,
            on_duplicate=on_duplicate,
            unk=unk,
            overwrite=overwrite,
            progress=progress,
        )
    seconds = time.perf_counter() - begin
    facts = _facts(built, store)
    read_bytes = built.source["bytes"]
    facts |= {
        "seconds": round(seconds, 2),
        "input_mb_per_second": round(read_bytes / seconds / 1e6),
    }
    _print_facts(facts, as_json=as_json)
    if built.source["unterminated"]:
        _warn(f"the last line of {source} has no newline: make sure that the file was not cut")
    if count := built.source["duplicate_count"]:
        _warn(f"rows dropped because their word came before: {count}")
    if count := built.source["non_finite_row_count"]:
        _warn(f"rows with values that are nan or inf, which were kept: {count}")


@app.command()
def get(
    store: StoreArgument,
    words: WordsArgument = None,
    ids: IdsOption = None,
    missing: MissingOption = "error",
    as_json: JsonOption = False,
    npy: Annotated[
        Path | None, typer.Option(help="Write the rows to this .npy file.", show_default=False)
    ] = None,
) -> None:
    """Look rows up, by word or by id.

    \b
    Examples:
      embstore get glove.embstore like the country
      embstore get glove.embstore --ids 0,5,17 --npy rows.npy
    """
    with embstore.open(store) as table:
        if words and ids is None:
            rows = table.lookup_words(words, missing=missing)
            found = _ids_of_words(table, words, missing)
        else:
            found = _parse_ids(words, ids, table.rows)
            rows = table.lookup(found)
            words = table.words(found) if table.has_words else None
    if npy is not None:
        with npy.open("wb") as file:
            np.save(file, rows)
        Console(stderr=True).print(f"{rows.shape} {rows.dtype} written to {npy}", highlight=False)
    labels: list[str | None] = [None] * len(found) if words is None else list(words)
    if as_json:
        entries = [
            {"id": number if number >= 0 else None, "word": word, "row": _json_values(row)}
            for number, word, row in zip(found.tolist(), labels, rows, strict=True)
        ]
        typer.echo(json.dumps(entries, ensure_ascii=False))
    elif npy is None:
        _print_rows(found, labels, rows)


@app.command()
def info(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Say what a store holds.

    \b
    Example:
      embstore info glove.embstore
    """
    with embstore.open(store) as table:
        _print_facts(_facts(table, store), as_json=as_json)


@app.command()
def explain(
    store: StoreArgument,
    words: WordsArgument = None,
    ids: IdsOption = None,
    missing: MissingOption = "error",
    as_json: JsonOption = False,
) -> None:
    """Say what a lookup would touch and read, without reading.

    \b
    Examples:
      embstore explain glove.embstore like the country
      embstore explain glove.embstore --ids 0:100000
    """
    with embstore.open(store) as table:
        if words and ids is None:
            found = _ids_of_words(table, words, missing)
            found = found[found >= 0]
        else:
            found = _parse_ids(words, ids, table.rows)
        plan = table.explain(found)
    if as_json:
        named = {name.replace(" ", "_"): value for name, value in plan.summary().items()}
        typer.echo(json.dumps(named))
    else:
        typer.echo(str(plan))


@app.command()
def verify(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Read a whole store and check it; exit status 1 if anything is wrong.

    \b
    Example:
      embstore verify glove.embstore
    """
    with _progress("verify") as progress:
        report = embstore.verify(store, progress=progress)
    if as_json:
        named = {"ok": report.ok, "files": report.file_count, "bytes": report.byte_count}
        typer.echo(json.dumps(named | {"problems": report.problems}))
    elif report.ok:
        typer.echo(f"ok: {report.file_count} chunk files, {report.byte_count:,} bytes")
    else:
        for problem in report.problems:
            typer.echo(problem)
        typer.echo(f"{len(report.problems)} problems; restore the store or build it again")
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def bench(
    store: StoreArgument,
    work: Annotated[
        list[str] | None,
        typer.Option(help="open, read_random, read_hot, read_one or read_words; by default all."),
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
    with _status() as show:
        report = suite.bench_store(store, plan, show)
    typer.echo(json.dumps(report.to_json()) if as_json else report.text())
    if output is not None:
        report.save(output)
        if missing := plots.missing():
            _warn(f"no plots: {missing} is not installed (pip install embstore[bench])")
        else:
            plots.draw(report.to_json(), output)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"embstore {embstore.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; a user's mistake is one line and exit status 1."""
    try:
        app()
    except (EmbstoreError, OSError, ValueError, TypeError) as error:
        if isinstance(error, BrokenPipeError):
            # Whoever read the output has seen enough; let Python not complain at its exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        _warn(str(error), kind="error")
        raise SystemExit(1) from None


def _warn(text: str, kind: str = "note") -> None:
    typer.echo(f"embstore: {kind}: {text}", err=True)


def _ids_of_words(
    table: embstore.EmbeddingStore, words: list[str], missing: Missing
) -> NDArray[np.int64]:
    """Return the ids of words, -1 for those that give zeros."""
    if missing != "zeros":
        return table.ids(words, missing=missing)
    return np.array([table.ids(word) if word in table else -1 for word in words], np.int64)


def _parse_ids(words: list[str] | None, ids: str | None, rows: int) -> NDArray[np.int64]:
    if words or ids is None:
        raise typer.BadParameter("give either words or --ids")
    try:
        if ids.count(":") == 1:
            start, stop = (int(part) if part.strip() else None for part in ids.split(":"))
            return np.arange(start or 0, rows if stop is None else stop, dtype=np.int64)
        return np.array([int(part) for part in ids.split(",")], np.int64)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{ids!r} is not a list of ids; write them as in 0,5,17 or 2:10", param_hint="--ids"
        ) from error


def _facts(table: embstore.EmbeddingStore, path: Path) -> dict[str, Any]:
    files = [file for file in table.path.rglob("*") if file.is_file()]
    unk_id = None if table.unk is None else int(table.ids(table.unk))
    return {
        "store": str(path),
        "rows": table.rows,
        "row_shape": list(table.row_shape),
        "dtype": str(table.dtype),
        "partitions": table.partition_count,
        "strategy": table.strategy,
        "chunk_rows": table.chunk_rows,
        "words": table.rows if table.has_words else 0,
        "unk": table.unk,
        "unk_id": unk_id,
        "row_bytes": math.prod(table.shape) * table.dtype.itemsize,
        "disk_bytes": sum(file.stat().st_size for file in files),
        "source": table.source,
    }


def _print_facts(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    facts = dict(facts)
    source = facts.pop("source", {})
    facts |= {f"source {name}": value for name, value in source.items()}
    width = max(map(len, facts))
    for name, value in facts.items():
        shown = f"{value:,}" if type(value) is int else "-" if value is None else value
        typer.echo(f"{name.replace('_', ' '):<{width}}  {shown}")


def _print_rows(ids: NDArray[np.int64], words: list[str | None], rows: NDArray[Any]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("id", justify="right")
    if any(word is not None for word in words):
        table.add_column("word", overflow="fold")
    table.add_column(f"row, {rows.shape[1:]} {rows.dtype}", overflow="fold")
    for number, word, row in zip(ids.tolist(), words, rows, strict=True):
        flat = row.ravel()
        values = " ".join(f"{value:>10.4g}" for value in flat[:VALUES_SHOWN])
        more = " ..." if flat.size > VALUES_SHOWN else ""
        cells = [str(number) if number >= 0 else "-", *([] if word is None else [word])]
        table.add_row(*cells, values + more)
    # No markup: a word may look like it ("[UNK]" does).
    Console(markup=False, highlight=False, emoji=False).print(table)


def _json_values(row: NDArray[Any]) -> Any:
    """Return a row as lists of the shortest digits that give it back; nan and inf as null."""
    if row.ndim:
        return [_json_values(part) for part in row]
    if row.dtype.kind != "f":
        return int(row)
    return float(str(row[()])) if np.isfinite(row) else None


@contextmanager
def _progress(task: str) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a callback that draws a progress bar in bytes, where there is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        number = bar.add_task(task, total=None)
        yield lambda done, total: bar.update(number, completed=done, total=total)


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """Yield a callback that shows what is going on, where there is a terminal."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield status.update


if __name__ == "__main__":
    main()
