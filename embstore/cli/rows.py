"""Commands that take rows out of a store: get, explain, export."""

import time
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

import embstore
from embstore import EmbeddingStore
from embstore.cli.arguments import (
    OPEN_WITHOUT,
    IdsOption,
    JsonOption,
    TableArgument,
    WordsArgument,
    hint_of_ids,
    parse_ids,
    pop_open_options,
)
from embstore.cli.console import print_facts, print_json, printable, progress_bar, warn
from embstore.cli.options import options_of
from embstore.cli.shown_rows import blocks_of, print_json_rows, print_table, write_npy
from embstore.cli.standard import DASH, PATH, PathOrDash, name_of, target_of
from embstore.cli.terminal import typed
from embstore.sinks import SINKS


@options_of(
    embstore.open,
    EmbeddingStore.lookup,
    EmbeddingStore.lookup_words,
    without=("out", *OPEN_WITHOUT),
)
def get(
    store: TableArgument,
    words: WordsArgument = None,
    *,
    ids: IdsOption = None,
    npy: Annotated[
        PathOrDash | None,
        typer.Option(
            help="Write the rows to this .npy file; - for standard output.",
            show_default=False,
            **PATH,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file of --npy, if there is one.")
    ] = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Look rows up, by word or by id.

    \b
    Examples:
      embstore get glove.embstore like the country
      embstore get glove.embstore --ids 0,5,17 --npy rows.npy
      embstore get model.safetensors --tensor embed.weight --ids 0,5,17
    """
    words = None if words is None else [typed(word) for word in words]
    missing = options.pop("missing")
    with embstore.open(store, **pop_open_options(options)) as table:
        found = _ids_asked_for(table, words, ids, missing)
        blocks = blocks_of(table, found, words, **options)
        if npy is not None:
            target = target_of(npy, "npy")
            what = write_npy(blocks, target, len(found), table, overwrite=overwrite)
            where = name_of(npy, "standard output")
            typer.echo(f"{what} written to {printable(where)}", err=True)
            if not as_json or npy == DASH:
                return
            blocks = blocks_of(table, found, words, **options)
        if as_json:
            print_json_rows(blocks)
        else:
            print_table(blocks, table.rows)


@options_of(
    embstore.open, EmbeddingStore.explain, EmbeddingStore.lookup_words, without=OPEN_WITHOUT
)
def explain(
    store: TableArgument,
    words: WordsArgument = None,
    *,
    ids: IdsOption = None,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Print what a lookup would touch and read, without reading.

    \b
    Examples:
      embstore explain glove.embstore like the country
      embstore explain glove.embstore --ids 0:100000
    """
    words = None if words is None else [typed(word) for word in words]
    missing = options.pop("missing")
    with embstore.open(store, **pop_open_options(options)) as table:
        found = _ids_asked_for(table, words, ids, missing)
        plan = table.explain(found[found >= 0] if words else found, **options)
    if as_json:
        named = {name.replace(" ", "_"): value for name, value in plan.summary().items()}
        print_json(named)
    else:
        typer.echo(str(plan))


@options_of(embstore.export, without=("progress",))
def export(
    store: TableArgument,
    file: Annotated[
        PathOrDash,
        typer.Argument(
            help="Where the file will be. - writes to standard output, in the format of --format.",
            show_default=False,
            **PATH,
        ),
    ],
    *,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Write a store to a file that other programs read.

    Text has the shortest digits that give the same numbers back.

    \b
    Examples:
      embstore export glove.embstore glove.txt --format glove
      embstore export glove.embstore glove.npy --words words.txt
      embstore export glove.embstore - --format glove | gzip > glove.txt.gz
    """
    if options["words"] == DASH:
        raise typer.BadParameter("give a file for the words", param_hint="--words")
    target = target_of(file, options["format"])
    started = time.perf_counter()
    with progress_bar("export") as progress:
        report = embstore.export(store, target, progress=progress, **options)
    seconds = time.perf_counter() - started
    facts: dict[str, Any] = {
        "file": name_of(file, "standard output"),
        "format": report.format,
        "rows": report.rows,
        "bytes": report.byte_count,
        "seconds": round(seconds, 2),
        "rows_per_second": round(report.rows / seconds),
        "mb_per_second": round(report.byte_count / seconds / 1e6),
    }
    if report.largest_cast_error:
        facts["largest_cast_error"] = report.largest_cast_error
    print_facts(facts, as_json=as_json, beside=file == DASH)
    if report.attributes_left_out:
        left_out = ", ".join(report.attributes_left_out)
        warn(f"{report.format} has no attributes; left out: {left_out} (parquet has them)")
    if not SINKS[report.format].has_words and options["words"] is None:
        with embstore.open(store, **pop_open_options(options)) as table:
            if table.has_words:
                warn(
                    f"{report.format} has no words; write them to a file of their own with "
                    "--words FILE"
                )


def _ids_asked_for(
    table: EmbeddingStore, words: list[str] | None, ids: str | None, missing: Any
) -> NDArray[np.int64]:
    """Return the ids of words, -1 for those that give zeros; or the ids that were given."""
    if words and ids is None:
        with hint_of_ids(words):
            return table.ids(words, missing="none" if missing == "zeros" else missing)
    if words or ids is None:
        raise typer.BadParameter("give either words or --ids")
    return parse_ids(ids, table.rows)
