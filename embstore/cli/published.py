"""Commands about published stores: publish, versions, prune."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

import embstore
from embstore.cli.arguments import JsonOption, StoreArgument
from embstore.cli.console import print_json, print_rows, printable, progress_bar
from embstore.cli.options import options_of

UrlArgument = Annotated[
    str,
    typer.Argument(
        help="Where stores are published: s3://bucket/prefix, gs://, az://, file:///directory.",
        show_default=False,
    ),
]


@options_of(embstore.publish, without=("progress",))
def publish(
    store: StoreArgument, url: UrlArgument, *, as_json: JsonOption = False, **options: Any
) -> None:
    """Publish a store on an object store, and make it the current version there.

    What is there already is not uploaded again. Credentials come from the environment.

    \b
    Examples:
      embstore publish glove.embstore s3://bucket/tables/glove
      embstore publish glove.embstore file:///srv/tables/glove
    """
    with progress_bar("publish") as progress:
        report = embstore.publish(store, url, progress=progress, **options)
    if as_json:
        print_json(asdict(report))
    else:
        typer.echo(printable(report))


@options_of(embstore.versions)
def versions(url: UrlArgument, *, as_json: JsonOption = False, **options: Any) -> None:
    """List the versions that are published at a URL, the newest first.

    \b
    Example:
      embstore versions s3://bucket/tables/glove
    """
    found = embstore.versions(url, **options)
    if as_json:
        print_json(
            [asdict(one) | {"published": one.published and str(one.published)} for one in found]
        )
        return
    if not found:
        typer.echo(f"no version is published at {printable(url)}")
        return
    rows = [
        {
            "version": one.version,
            "published": one.published and f"{one.published:%Y-%m-%d %H:%M:%S} UTC",
            "objects": one.object_count,
            "bytes": one.byte_count,
            "state": ", ".join(
                ["current"] * one.is_current + ["unfinished"] * (not one.is_complete)
            ),
        }
        for one in found
    ]
    print_rows(rows)


@options_of(embstore.prune, without=("progress",))
def prune(url: UrlArgument, *, as_json: JsonOption = False, **options: Any) -> None:
    """Remove old versions at a URL; never the current one.

    \b
    Example:
      embstore prune s3://bucket/tables/glove --keep 3
    """
    with progress_bar("prune") as progress:
        report = embstore.prune(url, progress=progress, **options)
    if as_json:
        print_json(asdict(report))
    else:
        for name in report.removed:
            typer.echo(f"removed {name}")
        typer.echo(printable(report))
