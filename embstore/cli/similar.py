"""The command that searches a store: similar."""

from enum import StrEnum
from typing import Annotated, Any

import typer

import embstore
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
from embstore.cli.console import print_json, printable, progress_bar, warn
from embstore.cli.options import options_of
from embstore.cli.terminal import shown, typed


class MetricOption(StrEnum):
    """The metrics, as typer wants them."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLIDEAN = "euclidean"


@options_of(embstore.open, without=OPEN_WITHOUT)
def similar(
    store: TableArgument,
    words: WordsArgument = None,
    *,
    ids: IdsOption = None,
    topn: Annotated[int, typer.Option(min=1, help="Number of rows to find for each.")] = 10,
    metric: Annotated[MetricOption, typer.Option(help="The score.")] = MetricOption.COSINE,
    restrict: Annotated[
        str | None, typer.Option(help="Search only these ids, as in 0:50000.", show_default=False)
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="A word to leave out; may be given several times.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Find the rows most similar to words or ids; all rows are compared.

    \b
    Examples:
      embstore similar glove.embstore like --topn 5
      embstore similar glove.embstore like country --metric dot --json
      embstore similar model.safetensors --tensor embed.weight --ids 17
    """
    words = None if words is None else [typed(word) for word in words]
    if (words is None) is (ids is None):
        raise typer.BadParameter("give either words or --ids")
    with embstore.open(store, **pop_open_options(options)) as table:
        asked: Any = words if ids is None else parse_ids(ids, table.rows)
        with hint_of_ids(words), progress_bar("search") as progress:
            found = table.most_similar(
                asked,
                topn,
                metric.value,
                restrict=None
                if restrict is None
                else parse_ids(restrict, table.rows, "--restrict"),
                exclude=[typed(word) for word in exclude or ()],
                progress=progress,
            )
        names = words or (table.words(asked) if table.has_words else asked.tolist())
    if as_json:
        print_json(
            [{"query": name, "similar": near} for name, near in zip(names, found, strict=True)]
        )
        return
    for name, near in zip(names, found, strict=True):
        if len(found) > 1:
            typer.echo(f"{shown(printable(name))}:")
        if not near:
            warn(f"no row is left to compare {printable(name)} with")
        width = max((len(shown(printable(other))) for other, _ in near), default=0)
        for other, score in near:
            typer.echo(f"{shown(printable(other)):<{width}}  {score:.4f}")
