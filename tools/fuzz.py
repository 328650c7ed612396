"""Fuzzing of embstore's parsers, guided by coverage: ``python -m tools.fuzz manifest``.

The campaign `tests.campaigns.hostile` changes whole stores at random. Fuzzing takes more time, and
needs atheris (``pip install atheris``), which is not in the test environment because it lacks
wheels for some systems. An error that is not of `embstore.errors` ends the run, with the input in a
file ``crash-...`` in the current directory.

    python -m tools.fuzz manifest -max_total_time=600
    python -m tools.fuzz vocabulary -max_total_time=600
    python -m tools.fuzz text -max_total_time=600

atheris itself keeps about 30 KB of memory for each case on vocabularies; ``-rss_limit_mb=0`` allows
that. With a folder of cases as an argument, a run continues where the last one ended.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import atheris
import numpy as np

with atheris.instrument_imports(include=["embstore"]):
    import embstore.sources.text.source
    from embstore.errors import EmbstoreError
    from embstore.formats.own.fields import parse_json
    from embstore.formats.own.manifest import parse_manifest
    from embstore.formats.own.seals import manifest_checksum
    from embstore.vocabulary import Vocabulary
    from embstore.vocabulary.words import PackedWords

from tests.campaigns import hostile, stores

if TYPE_CHECKING:
    from collections.abc import Callable

SLOTS = 64
OFFSETS = 24
FOLDER = Path(tempfile.mkdtemp(prefix="embstore-fuzz-"))


def manifest(data: bytes) -> None:
    """Parse a root ``zarr.json``, sealed as a hostile author would."""
    with contextlib.suppress(EmbstoreError):
        document = parse_json("zarr.json", data)
        with contextlib.suppress(AttributeError, KeyError, RecursionError, TypeError, ValueError):
            own = document["attributes"]["embstore"]
            own["manifest_crc32c"] = manifest_checksum(own)
        parse_manifest(document, Path("zarr.json"))


def vocabulary(data: bytes) -> None:
    """Look words up in offsets, slots and bytes of any content."""
    data = data.ljust(8 * (OFFSETS + SLOTS), b"\0")
    offsets = np.frombuffer(data, np.int64, OFFSETS)
    slots = np.frombuffer(data, np.uint64, SLOTS, 8 * OFFSETS)
    words = np.frombuffer(data, np.uint8, offset=8 * (OFFSETS + SLOTS))
    found = Vocabulary(PackedWords(words, offsets), slots, SLOTS)
    for word in stores.WORDS:
        with contextlib.suppress(EmbstoreError):
            number = int(found.ids([word])[0])
            if number >= 0 and found.words(np.array([number])) != [word]:
                raise AssertionError(f"{word!r} leads to {number}, the id of another word")
    with contextlib.suppress(EmbstoreError):
        found.words(np.arange(len(found)))


def text(data: bytes) -> None:
    """Parse a text of vectors."""
    path = FOLDER / "case.txt"
    path.write_bytes(data)
    with contextlib.suppress(EmbstoreError):
        for batch in embstore.sources.text.source.TextSource(path).batches():
            if batch.words is None or len(batch.words) != len(batch.rows):
                raise AssertionError("rows without words")


def _seeds(folder: Path) -> dict[str, list[bytes]]:
    """Return valid inputs of each kind."""
    store = stores.make_store(folder / "whole.embstore")
    document = json.loads((store / stores.METADATA).read_bytes())
    parts = [
        (store / "vocabulary" / part / "c" / "0").read_bytes()[: 8 * count]
        for part, count in (("offsets", OFFSETS), ("slots", SLOTS), ("bytes", 100))
    ]
    return {
        "manifest": [json.dumps(document).encode()],
        "vocabulary": [b"".join(parts)],
        "text": hostile.TEXTS,
    }


def main() -> None:
    """Fuzz one kind of input, with libFuzzer's options."""
    kinds: dict[str, Callable[[bytes], None]] = {
        "manifest": manifest,
        "vocabulary": vocabulary,
        "text": text,
    }
    if len(sys.argv) < 2 or sys.argv[1] not in kinds:
        sys.exit(__doc__)
    kind = sys.argv.pop(1)
    corpus = FOLDER / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(_seeds(FOLDER)[kind]):
        (corpus / str(number)).write_bytes(seed)
    atheris.Setup([*sys.argv, "-timeout=10", str(corpus)], kinds[kind])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
