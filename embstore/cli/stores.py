"""Commands about whole stores: build, repartition, info, verify, clean."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

import embstore
from embstore.cli.arguments import OPEN_WITHOUT, JsonOption, StoreArgument, TableArgument
from embstore.cli.console import (
    print_facts,
    print_json,
    print_tables,
    printable,
    progress_bar,
    warn,
)
from embstore.cli.notes import warn_of_cut, warn_of_leftovers, warn_of_rows
from embstore.cli.options import options_of
from embstore.cli.standard import PATH, PathOrDash, name_of, source_and_words
from embstore.errors import StoreCorruptError, StoreVersionError
from embstore.export import RESIDENT_LIMIT
from embstore.formats.names import listing
from embstore.formats.own.manifest import manifest_of, read_manifest
from embstore.formats.own.spec import ATTRIBUTES, PARTITIONS
from embstore.listing import missing_files
from embstore.opener import folders_below
from embstore.table.numbering import Strategy


@options_of(embstore.build, without=("partition_strategy", "progress"))
def build(
    source: Annotated[
        PathOrDash,
        typer.Argument(
            help="GloVe, word2vec or fastText text, or word2vec binary, also compressed or in an "
            "archive; .npy, .npz, .safetensors, GGUF, Parquet, Arrow; or a directory of parts. - "
            "reads standard input.",
            show_default=False,
            **PATH,
        ),
    ],
    store: Annotated[Path, typer.Argument(help="Where the store will be.", show_default=False)],
    *,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Build a store from a file of vectors.

    \b
    Examples:
      embstore build glove.6B.300d.txt glove.embstore --partitions 4
      embstore build m.safetensors m.embstore --tensor embed.weight --words v.txt
      embstore build films.parquet f.embstore --column vector --word-column title
      embstore build model.safetensors small.embstore --encoding float8_e4m3fn
      zcat vectors.txt.gz | embstore build - vectors.embstore
    """
    read = source_and_words(source, options)
    started = time.perf_counter()
    with progress_bar("build") as progress:
        built = embstore.build(read, store, progress=progress, **options)
    _print_summary(built, store, time.perf_counter() - started, as_json=as_json)
    warn_of_cut(built.source, name_of(source, "standard input"))


@options_of(
    embstore.build,
    without=(
        *("format", "words", "member", "tensor", "column", "word_column", "dimension"),
        *("scale", "scale_block", "zero_point"),
        *("encoding_errors", "partition_strategy", "on_duplicate", "progress"),
    ),
)
def repartition(
    store: StoreArgument,
    new: Annotated[
        Path,
        typer.Argument(
            help="Where the new store will be; may be the same one.", show_default=False
        ),
    ],
    *,
    partitions: Annotated[
        int | None, typer.Option(help="Number of partitions; by default that of the old store.")
    ] = None,
    strategy: Annotated[
        Strategy | None,
        typer.Option(
            help="How ids are distributed over partitions; by default as in the old store."
        ),
    ] = None,
    compression: Annotated[
        str | None,
        typer.Option(
            help="zstd or blosc, also with a level, or none; by default as in the old store."
        ),
    ] = None,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Write a store again with other partitions, another dtype, or compressed.

    Ids and words stay the same. Encoded rows stay encoded, unless --encoding says otherwise.

    \b
    Examples:
      embstore repartition old.embstore new.embstore --partitions 8 --strategy div
      embstore repartition glove.embstore half.embstore --dtype float16
      embstore repartition glove.embstore archive.embstore --compression blosc
    """
    started = time.perf_counter()
    with (
        embstore.open(store, resident_limit=RESIDENT_LIMIT) as table,
        progress_bar("repartition") as progress,
    ):
        built = embstore.build(
            table,
            new,
            partitions=table.partition_count if partitions is None else partitions,
            strategy=table.strategy if strategy is None else strategy,
            compression=table.compression if compression is None else compression,
            progress=progress,
            **options,
        )
    _print_summary(built, new, time.perf_counter() - started, as_json=as_json)


@options_of(embstore.open, without=OPEN_WITHOUT)
def info(store: TableArgument, *, as_json: JsonOption = False, **options: Any) -> None:
    """Print what a store or a foreign file contains; of a model, the tables in it.

    \b
    Examples:
      embstore info glove.embstore
      embstore info Model/
      embstore info model.safetensors --tensor embed.weight
      embstore info s3://bucket/glove
    """
    warn_of_leftovers(store)
    where = {name: options[name] for name in ("version", "allow_http")}
    if options["tensor"] is None and len(found := embstore.tables(store, **where)) > 1:
        print_tables(found, as_json=as_json)
        if missing := missing_files(store, **where):
            warn(f"files are missing, and the tables in them: {listing(missing)}")
        _warn_of_folders(store)
        return
    with embstore.open(store, **options) as table:
        name = table.url or str(store)
        facts = _store_facts(table, name) if table.is_store else _file_facts(table, name)
        print_facts(facts, as_json=as_json)
    if not table.is_store:
        _warn_of_folders(store)


@options_of(embstore.verify, without=("progress",))
def verify(store: StoreArgument, *, as_json: JsonOption = False, **options: Any) -> None:
    """Read a whole store and check it; exit status 1 if anything is wrong.

    \b
    Example:
      embstore verify glove.embstore
    """
    warn_of_leftovers(store)
    with progress_bar("verify") as progress:
        report = embstore.verify(store, progress=progress, **options)
    if as_json:
        named = {"ok": report.ok, "files": report.file_count, "bytes": report.byte_count}
        print_json(named | {"problems": report.problems})
    elif report.ok:
        typer.echo(f"ok: {report.file_count} chunk files, {report.byte_count:,} bytes")
    else:
        for problem in report.problems:
            typer.echo(problem)
        count = len(report.problems)
        typer.echo(f"{count} problem{'s' * (count > 1)}; restore the store or build it again")
    if not report.ok:
        raise typer.Exit(1)


def clean(store: StoreArgument, *, as_json: JsonOption = False) -> None:
    """Remove what builds that were killed left beside a store; the store stays as it is.

    \b
    Example:
      embstore clean glove.embstore
    """
    was_there = store.exists()
    removed = embstore.clean(store)
    if not removed:
        # Nothing is beside a misspelt path, either; a store that is damaged is still one.
        with suppress(StoreCorruptError, StoreVersionError):
            read_manifest(store)
    if as_json:
        print_json([str(path) for path in removed])
    elif not removed:
        typer.echo("nothing to remove")
    elif store.exists() and not was_there:
        typer.echo(f"put the old store back as {printable(store)}, from {printable(removed[0])}")
    else:
        for path in removed:
            typer.echo(f"removed {printable(path)}")


def _warn_of_folders(path: Path) -> None:
    """Print a note about folders in a model's directory that hold tables of their own."""
    if path.is_dir() and (below := folders_below(path)):
        warn(f"folders in it hold tables, too: {listing(below)}")


def _file_facts(table: embstore.EmbeddingStore, name: str) -> dict[str, Any]:
    """Return what a foreign file contains, by name."""
    beside = {name: fact for name, fact in table.source.items() if name not in {"file", "format"}}
    if table.encoding != "plain":
        beside["encoding"] = table.encoding
    return {
        "file": name,
        "format": table.source["format"],
        "rows": table.rows,
        "row_shape": list(table.row_shape),
        "dtype": str(table.dtype),
        "row_bytes": table.rows * table.record_bytes,
        **beside,
        "fingerprint": table.fingerprint(),
    }


def _encoding_facts(table: embstore.EmbeddingStore) -> dict[str, Any]:
    """Return how rows are encoded; nothing of plain ones."""
    if table.encoding == "plain":
        return {}
    return {"encoding": table.encoding, "record_bytes": table.record_bytes}


def _attribute_facts(table: embstore.EmbeddingStore, sizes: dict[str, int]) -> dict[str, Any]:
    """Return the dtypes of attributes, and their bytes on disk; nothing without attributes."""
    facts = {
        name: {
            "dtype": column.dtype_name,
            "disk_bytes": sum(
                size for file, size in sizes.items() if file.startswith(f"{ATTRIBUTES}/{name}/")
            ),
        }
        for name, column in table.attributes.items()
    }
    return {"attributes": facts} if facts else {}


def _store_facts(table: embstore.EmbeddingStore, name: str) -> dict[str, Any]:
    """Return what a store contains, by name."""
    sizes = table.files.sizes()
    row_bytes = table.rows * table.record_bytes
    facts = {
        "store": name,
        "rows": table.rows,
        "row_shape": list(table.row_shape),
        "dtype": str(table.dtype),
        **_encoding_facts(table),
        "partitions": table.partition_count,
        "strategy": table.strategy,
        "chunk_rows": table.chunk_rows,
        "words": table.rows if table.has_words else 0,
        **_attribute_facts(table, sizes),
        "unk": table.unk,
        "fingerprint": _manifest_fingerprint(table),
        "unk_id": None if table.unk is None else int(table.ids(table.unk)),
        "row_bytes": row_bytes,
        "disk_bytes": sum(sizes.values()),
        "source": table.source,
    }
    if table.compression is not None:
        packed_bytes = sum(sizes[file] for file in sizes if file.startswith(f"{PARTITIONS}/"))
        facts["compression"] = table.compression
        facts["compression_ratio"] = round(row_bytes / packed_bytes, 2)
    return facts


def _manifest_fingerprint(table: embstore.EmbeddingStore) -> str | None:
    """Return the fingerprint that the manifest of a store states, if it does."""
    files: Any = table.files  # Those of a store.
    return manifest_of(files).fingerprint


def _print_summary(
    built: embstore.EmbeddingStore, path: Path, seconds: float, *, as_json: bool
) -> None:
    """Print what a build made and how fast, and notes about rows that were dropped or changed."""
    source = built.source
    facts = _store_facts(built, str(path))
    facts |= {
        "seconds": round(seconds, 2),
        "input_mb_per_second": round(source["bytes"] / seconds / 1e6),
    }
    print_facts(facts, as_json=as_json)
    warn_of_rows(source, built.dtype, built.encoding)
