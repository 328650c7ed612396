"""`embstore explain`: what a lookup would read."""

import json

import typer

import embstore
from embstore.cli.arguments import (
    IdsOption,
    JsonOption,
    MissingOption,
    StoreArgument,
    WordsArgument,
    ids_of_words,
    parse_ids,
)


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
            found = ids_of_words(table, words, missing)
            found = found[found >= 0]
        else:
            found = parse_ids(words, ids, table.rows)
        plan = table.explain(found)
    if as_json:
        named = {name.replace(" ", "_"): value for name, value in plan.summary().items()}
        typer.echo(json.dumps(named))
    else:
        typer.echo(str(plan))
