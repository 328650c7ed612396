"""The heading of a fingerprint: what a table is, besides its rows, words and attributes.

`embstore.formats.own.spec` specifies it.
"""

from __future__ import annotations

from dataclasses import dataclass

from xxhash import xxh3_128_hexdigest, xxh3_128_intdigest

from embstore.formats.own import spec


@dataclass(frozen=True, slots=True)
class Heading:
    """The heading of a table's fingerprint.

    Parameters
    ----------
    rows : int
        Number of rows.
    row_shape : tuple of int
        Shape of one row.
    dtype : str
        What stands for their dtype: `embstore.formats.own.encoded.dtype_line`.
    words : bool
        Whether rows have words.
    unk : str or None
        The unk word.
    attributes : str, optional
        What stands for the attributes, if there are any: see
        `embstore.formats.own.attribute_manifest.attributes_line`.
    """

    rows: int
    row_shape: tuple[int, ...]
    dtype: str
    words: bool = False
    unk: str | None = None
    attributes: str | None = None

    def halves(self) -> tuple[int, int]:
        """Return the upper and the lower 64 bits of its hash."""
        unk = self.unk
        lines = (
            spec.FINGERPRINT_HEADING,
            self.dtype,
            ",".join(map(str, self.row_shape)),
            str(self.rows),
            "words" if self.words else "no words",
            "no unk" if unk is None else xxh3_128_hexdigest(unk.encode("utf-8", "surrogatepass")),
            *(() if self.attributes is None else (self.attributes,)),
        )
        text = "".join(f"{line}\n" for line in lines)
        return divmod(xxh3_128_intdigest(text.encode("ascii")), 1 << 64)
