"""Commands that change a store: append, update, upsert, snapshot."""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

import embstore
from embstore.changing.source_update import update_from
from embstore.cli.arguments import JsonOption, StoreArgument, parse_ids
from embstore.cli.console import print_json, printable, progress_bar, warn
from embstore.cli.notes import warn_of_cut, warn_of_rows
from embstore.cli.options import options_of
from embstore.cli.standard import PATH, PathOrDash, name_of, source_and_words
from embstore.errors import StoreError
from embstore.formats.own.manifest import Manifest, read_manifest
from embstore.sources.options import SourceOptions

SourceArgument = Annotated[
    PathOrDash,
    typer.Argument(
        help="A file or a directory of rows, as for embstore build; - for standard input.",
        show_default=False,
        **PATH,
    ),
]
_NOT_TYPED = ("partition_strategy", "progress")


@options_of(embstore.append, without=_NOT_TYPED)
def append(
    store: StoreArgument, source: SourceArgument, *, as_json: JsonOption = False, **options: Any
) -> None:
    """Append rows to a store; they get the next ids. Words that it has are refused.

    Programs that have the store open keep the version that they opened.

    \b
    Examples:
      embstore append glove.embstore today.txt
      embstore append items.embstore today.parquet --column embedding --dry-run
    """
    before = _manifest(store)
    read = source_and_words(source, options)
    with progress_bar("append") as progress:
        report = embstore.append(store, read, progress=progress, **options)
    _print(report, store, source, before, dry=options["dry_run"], as_json=as_json)


@options_of(embstore.append, without=(*_NOT_TYPED, "on_duplicate"))
def update(
    store: StoreArgument,
    changes: Annotated[
        PathOrDash,
        typer.Argument(
            help="A file or a directory of rows, as for embstore build; - for standard input. "
            "Their words say which rows they replace.",
            show_default=False,
            **PATH,
        ),
    ],
    *,
    ids: Annotated[
        str | None,
        typer.Option(
            "--ids",
            help="The ids of rows without words, as in 0,5,17 or 2:10, or a file of them: .npy, or "
            "one a line.",
        ),
    ] = None,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Replace rows of a store. Words that it does not have are refused.

    \b
    Examples:
      embstore update glove.embstore better.txt
      embstore update items.embstore rows.npy --ids ids.npy
      embstore update items.embstore rows.npy --ids 2:10 --dry-run
    """
    before = _manifest(store)
    change = {name: options.pop(name) for name in ("on_overflow", "memory_limit", "dry_run")}
    given = None if ids is None else read_ids(ids, store)
    read = source_and_words(changes, options)
    with progress_bar("update") as progress:
        source = SourceOptions(source=read, **options)
        report = update_from(store, source, given, progress=progress, **change)
    _print(report, store, changes, before, dry=change["dry_run"], as_json=as_json)


@options_of(embstore.upsert, without=_NOT_TYPED)
def upsert(
    store: StoreArgument, source: SourceArgument, *, as_json: JsonOption = False, **options: Any
) -> None:
    """Replace the rows of words that a store has, and append those of new words.

    \b
    Examples:
      embstore upsert glove.embstore today.txt
      embstore upsert items.embstore today.parquet --word-column item --dry-run
    """
    before = _manifest(store)
    read = source_and_words(source, options)
    with progress_bar("upsert") as progress:
        report = embstore.upsert(store, read, progress=progress, **options)
    _print(report, store, source, before, dry=options["dry_run"], as_json=as_json)


@options_of(embstore.snapshot, without=("progress",))
def snapshot(
    store: StoreArgument,
    target: Annotated[Path, typer.Argument(help="Where the snapshot will be.", show_default=False)],
    *,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Put the current version of a store under another path, too, in milliseconds.

    The two share their files. Changing or removing one leaves the other as it is.

    \b
    Example:
      embstore snapshot glove.embstore glove-before.embstore
    """
    with progress_bar("snapshot") as progress:
        report = embstore.snapshot(store, target, progress=progress, **options)
    if as_json:
        print_json(asdict(report))
        return
    # Of a snapshot, what was shared is what counts.
    typer.echo(
        f"{report.chunks_linked:,} chunks shared, {report.bytes_written:,} bytes written; "
        f"fingerprint {report.fingerprint}"
    )


def read_ids(text: str, store: Path) -> NDArray[Any]:
    """Return the ids of a list, of a range, or of a file that has one a line or is a .npy.

    Parameters
    ----------
    text : str
        What was typed.
    store : Path
        The store, whose number of rows ends an open range.
    """
    path = Path(text)
    with suppress(typer.BadParameter):
        return parse_ids(text, read_manifest(store).rows if ":" in text else 0)
    try:
        if path.suffix == ".npy":
            found: NDArray[Any] = np.load(path, allow_pickle=False)
            return found
        lines = path.read_text(encoding="utf-8").split()
        return np.array([int(line) for line in lines], np.int64)
    except (FileNotFoundError, IsADirectoryError):
        problem = f"{text!r} is not a list of ids as in 0,5,17 or 2:10, nor a file"
    except OSError:
        raise
    except (ValueError, OverflowError, EOFError):
        problem = f"{text!r} is not a file of ids: one a line, or a .npy"
    raise typer.BadParameter(problem, param_hint="--ids")


def _manifest(store: Path) -> Manifest | None:
    """Return the manifest of a store; None where the change will say what is wrong."""
    with suppress(StoreError, OSError):
        return read_manifest(store)
    return None


def _print(
    report: embstore.ChangeReport,
    store: Path,
    source: PathOrDash,
    before: Manifest | None,
    *,
    dry: bool,
    as_json: bool,
) -> None:
    """Print what a change did, or would do, and notes about rows that were dropped or changed."""
    if as_json:
        print_json(asdict(report))
    else:
        typer.echo(f"{'dry run, nothing is changed: ' if dry else ''}{printable(report)}")
    if before is not None and report.chunk_rows > before.chunk_rows:
        will = "would have" if dry else "have"
        warn(
            f"chunks {will} {report.chunk_rows:,} rows instead of {before.chunk_rows:,}, because "
            "the table has grown; that writes all of it, once"
        )
    after = None if dry else _manifest(store)
    # Another change may have come since.
    if after is None or after.fingerprint != report.fingerprint or not report.rows:
        return
    facts = after.source.get("last_change")
    if isinstance(facts, dict):
        encoding = "plain" if after.encoding is None else after.encoding.name
        warn_of_rows(facts, after.dtype, encoding)
        warn_of_cut(facts, name_of(source, "standard input"))
