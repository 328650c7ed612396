"""Rows of a source that are appended to a store, or replace rows of it: `append` and `upsert`."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, get_args

from embstore.changing.report import ChangeReport
from embstore.encodings.casting import OnOverflow
from embstore.errors import SourceError
from embstore.paths import as_local_path
from embstore.settle import as_choice, as_flag, as_size
from embstore.sources.copying import copy_batches
from embstore.sources.options import as_choice_if_any
from embstore.wording import function, shape_text
from embstore.writing.versions.table_change import TableChange
from embstore.writing.words.new_words import OnDuplicate

if TYPE_CHECKING:
    from embstore.progress import OnProgress
    from embstore.sources import Batch, Source
    from embstore.sources.options import SourceOptions
    from embstore.writing.versions.table_change import Cost


def local() -> str:
    """Return what to do instead of changing a store at a URL."""
    return f"change a local store, and {function('publish')} it there"


def change_rows(
    path: Any,
    options: SourceOptions,
    kind: Literal["append", "upsert"],
    *,
    on_duplicate: OnDuplicate | None,
    on_overflow: OnOverflow,
    memory_limit: int | str,
    dry_run: bool,
    progress: OnProgress | None,
) -> ChangeReport:
    """Append the rows of a source to a store, or in an upsert replace those of known words.

    The parameters are those of `embstore.append`.
    """
    target = as_local_path(path, "path", local())
    on_duplicate = as_choice_if_any(on_duplicate, "on_duplicate", OnDuplicate)
    on_overflow = as_choice(on_overflow, "on_overflow", get_args(OnOverflow))
    memory_bytes = as_size(memory_limit, "memory_limit")
    dry = as_flag(dry_run, "dry_run")
    with closing(TableChange(target, kind, memory_bytes=memory_bytes, dry=dry)) as change:
        manifest = change.manifest
        plain = manifest.dtype if manifest.encoding is None else None
        source = options.open(plain, change.wanted_encoding, manifest.attribute_dtypes)
        change.start(
            encoding=source.encoding,
            on_overflow=on_overflow,
            on_duplicate=on_duplicate or ("error" if source.ids_matter else "first"),
            estimated_rows=source.row_estimate,
        )
        check_shape(source, change)

        def write(batch: Batch) -> int:
            change.write(batch.rows, batch.words, batch.attributes)
            return change.rows_appended + change.rows_replaced

        non_finite = copy_batches(source, write, progress)
        counts = {"duplicate_count": change.duplicate_count, "non_finite_row_count": non_finite}
        return report_of(change.publish(source.describe() | counts))


def report_of(cost: Cost) -> ChangeReport:
    """Return the report of a change."""
    return ChangeReport(
        rows=cost.rows_appended + cost.rows_replaced,
        chunks_rewritten=cost.chunks_rewritten,
        chunks_linked=cost.chunks_linked,
        bytes_written=cost.bytes_written,
        fingerprint=cost.fingerprint,
        rows_appended=cost.rows_appended,
        rows_replaced=cost.rows_replaced,
        chunk_rows=cost.chunk_rows,
    )


def check_shape(source: Source, change: TableChange) -> None:
    """Refuse rows of another shape before the first one is read."""
    # One of an empty list is not known.
    if tuple(source.row_shape) != change.row_shape and source.row_count != 0:
        raise SourceError(
            f"{source.name} has rows of shape {shape_text(source.row_shape)}; give "
            f"{change.rows_text}"
        )
