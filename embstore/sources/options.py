"""Options of a source, as `embstore.build`, `embstore.append` and `embstore.upsert` take them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, get_args

from embstore.formats.options import AUTO, as_block
from embstore.formats.own import spec
from embstore.paths import as_path
from embstore.settle import as_choice, as_count, as_text
from embstore.sources import EncodingErrors, Format
from embstore.sources.given_attributes import as_attributes, with_attributes
from embstore.table.numbering import Strategy

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from embstore.sources import Source


@dataclass(slots=True, kw_only=True)
class SourceOptions:
    """The options, settled; for what each means, see `embstore.build`.

    Raises
    ------
    TypeError, ValueError
        If one has a wrong type or value.
    """

    source: Any
    format: Format = "auto"
    limit: int | None = None
    words: str | os.PathLike[str] | Iterable[str] | None = None
    member: str | None = None
    tensor: str | None = None
    scale: str | None = AUTO
    scale_block: tuple[int, int] | None = None
    zero_point: str | None = None
    column: str | None = None
    word_column: str | None = None
    dimension: int | None = None
    encoding_errors: EncodingErrors | None = None
    partition_strategy: Strategy | None = None
    attributes: Mapping[str, Any] | Iterable[str] | None = None

    def __post_init__(self) -> None:
        self.source = _as_path_if_any(self.source, "source")
        self.format = as_choice(self.format, "format", get_args(Format))
        self.limit = as_count_if_any(self.limit, "limit")
        self.words = _as_path_if_any(self.words, "words")
        self.tensor = _as_text_if_any(self.tensor, "tensor")
        self.scale = _as_text_if_any(self.scale, "scale")
        self.scale_block = as_block(self.scale_block)
        self.zero_point = _as_text_if_any(self.zero_point, "zero_point")
        self.dimension = as_count_if_any(self.dimension, "dimension", high=spec.MAX_ROW_BYTES)
        self.encoding_errors = as_choice_if_any(
            self.encoding_errors, "encoding_errors", EncodingErrors
        )
        self.partition_strategy = as_choice_if_any(
            self.partition_strategy, "partition_strategy", Strategy
        )
        self.attributes = as_attributes(self.attributes)

    def open(
        self,
        dtype: np.dtype[Any] | None,
        encoding: str | None,
        attribute_dtypes: Mapping[str, str] | None = None,
    ) -> Source:
        """Return the source; see `embstore.sources.choose.open_source`.

        Parameters
        ----------
        dtype : numpy.dtype or None
            The dtype of the store's plain rows, if it is known.
        encoding : str or None
            The name of the encoding of the store, if it is known.
        attribute_dtypes : mapping of str to str, optional
            The dtypes of the store's attributes, if they are known.
        """
        # Imported here because looking rows up must not wait for pyarrow.
        from embstore.sources.choose import open_source  # noqa: PLC0415

        options = {field.name: getattr(self, field.name) for field in fields(self)}
        values = None
        if isinstance(self.attributes, Mapping):
            values, options["attributes"] = self.attributes, None
        source = open_source(options.pop("source"), dtype=dtype, encoding=encoding, **options)
        if values is None:
            return source
        return with_attributes(
            source, values, attribute_dtypes or {}, limited=self.limit is not None
        )

    def facts(self) -> dict[str, Any]:
        """Return the options that decide which rows and words of a source a store has."""
        options = {"limit": self.limit, "encoding_errors": self.encoding_errors}
        return {name: value for name, value in options.items() if value is not None}


def as_count_if_any(value: Any, name: str, *, high: int | None = None) -> int | None:
    """Return a count from 1 on; None for None."""
    return None if value is None else as_count(value, name, low=1, high=high)


def as_choice_if_any(value: Any, name: str, choices: Any) -> Any:
    """Return one of the values of a literal type; None for None."""
    return None if value is None else as_choice(value, name, get_args(choices))


def _as_path_if_any(value: Any, name: str) -> Any:
    """Return the path, if it is one; objects pass through."""
    return as_path(value, name) if isinstance(value, str | os.PathLike) else value


def _as_text_if_any(value: Any, name: str) -> str | None:
    return None if value is None else as_text(value, name)
