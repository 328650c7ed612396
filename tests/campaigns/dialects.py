"""Text in every dialect: each file is read exactly, or refused.

1. A table of random words and numbers is written in a random dialect: separators, padding, quotes,
   decimal marks, brackets, headers, row numbers, comments, line ends, encodings.
2. The numbers are Python's `float` of what was written, rounded to float32. Whatever the dialect,
   the source gives exactly these rows and words, or an error of `embstore.errors`.
3. In some files a line is damaged: it loses or repeats a number, has another separator, or a number
   in a notation that is not read. Such a file is refused.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embstore.errors import EmbstoreError
from embstore.sources.text.source import TextSource

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Size:
    """How long to try, and how many files at most."""

    seconds: float
    files: float


SMALL = Size(seconds=60, files=80)
FULL = Size(seconds=600, files=math.inf)

SYLLABLES = ["a", "an", "be", "co", "du", "4", "e", "ß", "é", "日", "本", ".", "-", "'", ":", ";"]
SYLLABLES += [",", "|", '"', "#", "(", "]", "_", "/", "0", ".5", "%", "=", "\u00a0", "\U0001f468"]
SEPARATORS = [" ", "\t", ",", ";", "|", ", ", "; ", " | ", "  ", "\t ", "\u00a0", "\u3000"]
OUTER = [" ", "\t", ",", ";", "|", ":", ": ", " : ", "  ", " = ", "\u00a0"]
BRACKETS = [("[", "]"), ("(", ")"), ("[ ", " ]"), ("{", "}")]
SIMPLE = ["the", "of", "king", "re-do", "naïve", "日本", "Paris", "x", "café", "queen", "ab", "c3d"]
FORMS = ["{!r}", "{:.4f}", "{:g}", "{:.3e}", "{:.0f}", "{:+.2f}", "{:#.0f}", "{:.1E}", "{:.17g}"]
UNREAD = ["1_000", "0x1p3", "NULL", "\u22120.5", "1e", "--", "½", "1.5f", "N/A", "12%", "1.2.3"]
NUMBER = re.compile(r" *[-+]?[0-9]*\.?[0-9]* *")
QUOTED = re.compile(r'"([^"]|"")+"')
COMMENTS = ["# made by hand", "// 3 4", "% x", "#"]
ENCODINGS = ["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-32"]


@dataclass(slots=True)
class File:
    """A file, and what it must give; None if it must be refused."""

    data: bytes
    words: list[str] | None
    rows: Any
    options: dict[str, Any]
    kind: str


def run(folder: Path, seed: int, size: Size) -> str:
    """Write random files, and read them back; return how many were read, and how many refused."""
    numbers = random.Random(seed)
    path = folder / "case.txt"
    counts = Counter[str]()
    end = time.monotonic() + size.seconds
    while counts.total() < size.files and time.monotonic() < end:
        file = random_file(numbers)
        path.write_bytes(file.data)
        found = outcome(path, file)
        if found == "WRONG":
            raise AssertionError(f"{file.kind}: misread {file.data!r} with {file.options}")
        counts[found] += 1
    return (
        f"{counts['read']:,} texts read exactly, {counts['refused']:,} refused, in random dialects"
    )


def outcome(path: Path, file: File) -> str:
    """Return "read", "refused" or "WRONG"."""
    try:
        source = TextSource(path, **file.options)
        batches = list(source.batches())
    except EmbstoreError:
        return "refused"
    if file.words is None:
        return "WRONG"
    words = [word.decode() for batch in batches if batch.words for word in batch.words.encoded()]
    rows = np.concatenate([batch.rows for batch in batches])
    same = rows.shape == file.rows.shape and rows.tobytes() == file.rows.tobytes()
    return "read" if same and words == file.words else "WRONG"


def random_word(numbers: random.Random) -> str:
    """Return a random word, sometimes with spaces or without anything."""
    word = "".join(numbers.choices(SYLLABLES, k=numbers.choice((1, 1, 2, 2, 3, 4, 6))))
    what = numbers.random()
    if what < 0.04:
        word += " " + random_word(numbers)
    elif what < 0.05:
        word = ""
    return word


def random_file(numbers: random.Random) -> File:
    """Return a table in a random dialect."""
    count = numbers.choice((2, 3, 5, 8, 8, 12, 150))
    dimension = numbers.choice((1, 2, 3, 4, 5, 8))
    odd = numbers.random() < 0.5
    words = [
        random_word(numbers) if odd else SIMPLE[i % len(SIMPLE)] + "z" * (i // len(SIMPLE))
        for i in range(count)
    ]
    if odd and count > 2 and numbers.random() < 0.2:
        # Only one: if most words have blanks at their ends, these are padding.
        place = numbers.randrange(count)
        words[place] = numbers.choice((" {}", "  {}", "{} ", " {} ")).format(words[place])
    form = numbers.choice(FORMS)
    scale = numbers.choice((1, 1, 0.01, 100))
    texts = [
        [form.format(round(numbers.gauss(0, scale), 5)) for _ in range(dimension)]
        for _ in range(count)
    ]
    rows = np.array([[float(text) for text in row] for row in texts]).astype(np.float32)
    lines, kind, options = written(numbers, words, texts)
    file_words: list[str] | None = words
    if options.pop("damaged", False):
        file_words = None
    end = numbers.choice(("\n", "\n", "\n", "\r\n", "\r"))
    text = end.join(lines) + (end if numbers.random() < 0.9 else "")
    encoding = numbers.choice(ENCODINGS)
    return File(text.encode(encoding), file_words, rows, options, f"{kind}, {encoding}, {end!r}")


def written(
    numbers: random.Random, words: list[str], texts: list[list[str]]
) -> tuple[list[str], str, dict[str, Any]]:
    """Return the lines of a table in a random dialect, its name, and options to read it."""
    between = numbers.choice(SEPARATORS)
    mixed = numbers.random() < 0.3
    outer = numbers.choice(OUTER) if mixed else between
    brackets = numbers.choice(BRACKETS) if numbers.random() < 0.15 else ("", "")
    comma = numbers.random() < 0.15 and "," not in between + outer
    if any(text.endswith(".") for row in texts for text in row):
        comma = False  # "1," is a number and a separator.
    index = numbers.choice((0, 1)) if numbers.random() < 0.1 else None
    if all(NUMBER.fullmatch(word.strip(" \u00a0")) for word in words):
        index = None  # Which of two columns of numbers has the words?
    quoting = numbers.choice(("none", "none", "minimal", "all words", "all"))
    alone = numbers.random() < 0.1
    tail = numbers.choice(("", "", "", "", " ", between))
    options: dict[str, Any] = {"words": words} if alone else {}
    what = numbers.random()
    damage = numbers.randrange(len(texts)) if what < 0.2 else None
    words[:] = told_apart(words, outer + between, quoting, damage, len(texts[0]))
    if what > 0.95:
        options["dimension"] = len(texts[0])
    lines = []
    for i, (name, row) in enumerate(zip(words, texts, strict=True)):
        word = name
        values = [text.replace(".", ",") for text in row] if comma else list(row)
        if i == damage:
            options["damaged"] = True
            word, values = damaged(numbers, word, values, between)
        if quoting == "all":
            values = [f'"{value}"' for value in values]
        line = brackets[0] + between.join(values) + brackets[1] + tail
        if not alone:
            line = quoted(word, outer, quoting) + outer + line
            if index is not None:
                line = f"{index + i}{outer}{line}"
        lines.append(line)
    before, header = preamble(numbers, len(words), len(texts[0]), outer, between)
    kind = f"{outer!r} {between!r} {brackets} {quoting} comma={comma} index={index} {header}"
    return before + lines, kind + f" alone={alone} tail={tail!r} damage={damage}", options


def told_apart(
    words: list[str], separators: str, quoting: str, damage: int | None, dimension: int
) -> list[str]:
    """Return the words, changed where nothing tells them from something else."""
    if any(blank in separators for blank in " \u00a0\u3000"):
        # Blanks are padding, or separate words.
        words = [word.strip(" \u00a0") for word in words]
    if quoting == "none":
        # A CSV writer may have quoted them.
        words = [word + "q" if QUOTED.fullmatch(word) else word for word in words]
    first = words[0]
    if first and first[-1] in ":=,;|" and len({word[-1:] for word in words}) == 1:
        first += "q"  # A mark after every word may be a separator.
    if first.isdigit() and dimension == 1:
        first += "q"  # "4 1" may be a header.
    words = [first, *words[1:]]
    if damage is not None and len(words) == 2:
        # One line alone must show the dialect: "a,4" is "a" if the other has a number too many.
        words = [word + "q" for word in words]
    return words


def damaged(
    numbers: random.Random, word: str, values: list[str], between: str
) -> tuple[str, list[str]]:
    """Return a word and its numbers with one too few, one too many, or one that is not read."""
    place = numbers.randrange(len(values))
    what = numbers.randrange(4)
    if what == 0:
        # "a,4" before one number too few is "a" before all numbers.
        word += "q" * word.endswith(("0", "4", "5", "."))
        return word, values[:place] + values[place + 1 :]
    if what == 1:
        # "1,2" instead of one number is one with a decimal comma.
        count = 3 if between == "," and len(values) == 1 else 2
        return word, values[:place] + values[place : place + 1] * count + values[place + 1 :]
    return word, [*values[:place], numbers.choice(UNREAD), *values[place + (what == 2) :]]


def quoted(word: str, separator: str, quoting: str) -> str:
    """Return a word as a CSV writer would quote it."""
    marks = (separator.strip() or separator, '"')
    if quoting == "none" or (quoting == "minimal" and not any(mark in word for mark in marks)):
        return word
    return '"' + word.replace('"', '""') + '"'


def preamble(
    numbers: random.Random, count: int, dimension: int, outer: str, between: str
) -> tuple[list[str], str]:
    """Return the lines before the first row, and their kind."""
    lines = [numbers.choice(COMMENTS)] if numbers.random() < 0.1 else []
    kind = numbers.choice(("none", "none", "none", "counts", "names", "numbers", "any"))
    match kind:
        case "counts":
            lines.append(numbers.choice((f"{count} {dimension}", f"{count}{outer}{dimension}")))
        case "names":
            lines.append("word" + outer + between.join(f"d{i}" for i in range(dimension)))
        case "numbers":
            lines.append(outer + between.join(map(str, range(dimension))))
        case "any":
            lines.append("word" + outer + between.join("uvwxyzst"[:dimension]))
    return lines, kind
