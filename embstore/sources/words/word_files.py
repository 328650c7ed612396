r"""Files of words that are not one word a line: vocabularies in JSON, and lines with ids.

1. JSON is a ``vocab.json`` (``{word: id}``), a ``tokenizer.json``, or a list of words.
2. Lines of two fields are words with ids (``word<TAB>id``, as in ``entity2id.txt``, also with the
   number of lines first, with a header, with the id first, or with a comma or blanks between), or
   the pieces and scores of SentencePiece. The ids must be 0 to n - 1, each once. Other tables, such
   as words with counts, are refused: their order may or may not be that of rows.
3. Every other file has one word a line; only its first 64 KiB are looked at here.

A file of the first two kinds is read into memory as a whole.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from embstore.errors import SourceError
from embstore.sources.words.word_objects import in_order_of_ids
from embstore.wording import either

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embstore.sources.text.blocks import TextFile

_LOOKED_AT_BYTES = 64 << 10
MAX_BYTES = 1 << 30
_NUMBER = re.compile(rb"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_JSON_FORMS = "words with their ids, a tokenizer.json or a list of words"
_ID = re.compile(rb"[0-9]{1,15}")
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_SEPARATORS = (b"\t", b",", b";", b"|", b" ")


class _FormError(ValueError):
    """A vocabulary that contradicts itself; the message says how."""


def read_vocabulary(file: TextFile) -> list[str] | None:
    """Return the words of a JSON file or of lines with ids, in the order of their ids.

    Parameters
    ----------
    file : TextFile
        The file, compressed or not.

    Returns
    -------
    list of str, or None
        None if the file has one word a line.

    Raises
    ------
    SourceError
        If it is JSON of another form, a table whose order is unclear, or no text.
    """
    if file.kind.name not in ("text", "json"):
        raise SourceError(
            f"{file.name} is {file.kind.what}; expected a text file or JSON: load it, "
            + either("and pass its words", "and write its words, one a line")
        )
    named = ".json" in PurePath(file.short_name.rstrip("]")).suffixes
    if named or file.kind.name == "json":
        return _words_of_json(_read_json(file), file.name)
    blocks = (block.data for block in file.blocks(_LOOKED_AT_BYTES, empty_lines="keep"))
    separator = _separator(_lines(next(blocks, b"")))
    if separator is None:
        return None
    blocks = (block.data for block in file.blocks(empty_lines="keep"))
    return _words_of_table(_lines(_joined(blocks, file.name)), separator, file.name)


def _joined(pieces: Iterable[bytes], name: str) -> bytes:
    """Return a whole file, unless it is too large for memory."""
    found = []
    size = 0
    for piece in pieces:
        found.append(piece)
        size += len(piece)
        if size > MAX_BYTES:
            raise SourceError(
                f"{name} has more than {MAX_BYTES} bytes, too much for a vocabulary with ids; "
                "give one word per line"
            )
    return b"".join(found)


# ------------------------------------------------------------------------------------------- JSON


def _read_json(file: TextFile) -> Any:
    with file.open() as stream:
        data = _joined(iter(lambda: stream.read(1 << 20), b""), file.name)
    try:
        return json.loads(data, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise SourceError(
            f"{file.name} cannot be read as JSON: {error}; if it has one word per line, "
            + either("pass them as a list", "call it .txt")
        ) from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; Python alone would keep the last of a name's values."""
    found = dict(pairs)
    if len(found) < len(pairs):
        (repeated, count), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {repeated!r} is there {count} times")
    return found


def _words_of_json(found: Any, name: str) -> list[str]:
    try:
        words, ids = _words_and_ids(found)
    except _FormError as error:
        raise SourceError(f"{name}: expected {_JSON_FORMS}; {error}") from error
    except (TypeError, ValueError, KeyError) as error:
        raise SourceError(f"{name}: expected {_JSON_FORMS}, found something else") from error
    if ids is None:
        return words
    try:
        return in_order_of_ids(words, ids, name)
    except (TypeError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{error}; expected {_JSON_FORMS}") from error


def _words_and_ids(found: Any) -> tuple[list[str], list[Any] | None]:
    """Return the words of JSON and their ids; None for the ids of a list of words."""
    if isinstance(found, dict):
        if isinstance(found.get("model"), dict):
            found = _ids_of_tokenizer(found)
        words, ids = list(found), list(found.values())
        if ids and all(isinstance(word, str) for word in ids):
            return ids, list(map(int, words))  # {"0": word}: JSON has no other keys.
        return words, ids
    if all(isinstance(word, str) for word in found):
        return list(found), None
    if all(isinstance(word, str) for word, _ in found):
        return [word for word, _ in found], [one for _, one in found]
    raise _FormError("found other items")


def _ids_of_tokenizer(found: dict[str, Any]) -> dict[str, int]:
    """Return the ids of the tokens of a ``tokenizer.json``, added ones included."""
    vocabulary = found["model"]["vocab"]
    if isinstance(vocabulary, dict):
        ids = dict(vocabulary)
    else:  # Pieces and scores of a Unigram model, in the order of ids.
        ids = {piece: number for number, (piece, _) in enumerate(vocabulary)}
        if len(ids) < len(vocabulary):
            raise _FormError("a piece of model.vocab is there twice")
    for token in found.get("added_tokens") or ():
        word, number = token["content"], token["id"]
        if ids.setdefault(word, number) != number:
            raise _FormError(
                f"{word!r} has id {ids[word]} in model.vocab, but {number} in added_tokens"
            )
    return ids


# ------------------------------------------------------------------------------------------ Lines


def _lines(data: bytes) -> list[bytes]:
    """Return lines without their ends, nor empty ones at the end."""
    data = data.rstrip(b"\r\n")
    return [line.removesuffix(b"\r") for line in data.split(b"\n")] if data else []


def _separator(lines: list[bytes]) -> bytes | None:
    """Return what separates the fields of all lines, or None for one word a line.

    A word may contain any of the separators. With a tab in every line, the file is a table; with
    others, only if every line begins or ends with a number.
    """
    for separator in _SEPARATORS:
        if all(_has_fields(line, separator) for line in lines[1:]) and (
            lines
            and (_has_fields(lines[0], separator) or _is_heading(lines[0], separator))
            and (len(lines) > 1 or _has_fields(lines[0], separator))
        ):
            return separator
    return None


def _has_fields(line: bytes, separator: bytes) -> bool:
    fields = _split(line, separator)
    if separator == b"\t" or len(fields) < 2:
        return len(fields) > 1
    return any(_NUMBER.fullmatch(fields[end].strip()) for end in (0, -1))


def _is_heading(line: bytes, separator: bytes) -> bool:
    """Say whether a line may be the number of the lines below it, or their header."""
    return bool(_ID.fullmatch(line.strip())) or (separator != b" " and separator in line)


def _split(line: bytes, separator: bytes) -> list[bytes]:
    return line.split(None if separator == b" " else separator)


def _words_of_table(lines: list[bytes], separator: bytes, name: str) -> list[str]:
    """Return the words of lines of two fields, in the order of their ids."""
    skipped = _heading_count(lines, separator, name)
    rows = lines[skipped:]
    words, ids = _columns(rows, separator, is_last=True)
    others, firsts = _columns(rows, separator, is_last=False)
    by_last, by_first = _is_numbering(ids), _is_numbering(firsts)
    if (
        by_last
        and separator == b" "
        and all(map(_BASE64.fullmatch, words))
        and any(word.endswith(b"=") for word in words)
    ):
        raise SourceError(
            f"{name} has tokens in Base64, as tiktoken writes them; decode them, "
            + either("and pass a list", "and write one a line")
        )
    if by_last and (not by_first or ids == firsts):
        return in_order_of_ids(_decoded(words, skipped, name), list(map(int, ids)), name)
    if by_first and not by_last:
        return in_order_of_ids(_decoded(others, skipped, name), list(map(int, firsts)), name)
    if separator == b"\t" and not skipped and _are_scores(ids):
        return _decoded(words, 0, name)
    reason = "both fields could be the ids" if by_first else "the other fields are not such ids"
    raise SourceError(
        f"{name}:{skipped + 1}: {rows[0][:60].decode(errors='replace')!r} is not one word alone; "
        f"in a table, expected word and id, each id from 0 to {len(rows) - 1} once, but {reason}. "
        f"{either('Pass the words as a list', 'Write the words alone')}, in the order of rows"
    )


def _heading_count(lines: list[bytes], separator: bytes, name: str) -> int:
    """Return how many lines stand before the words: 1 for their number or a header, else 0."""
    if _ID.fullmatch(lines[0].strip()):
        if int(lines[0]) != len(lines) - 1:
            raise SourceError(
                f"{name}:1: expected {len(lines) - 1}, the number of lines that follow, found "
                f"{int(lines[0])}; is the file complete?"
            )
        return 1
    fields = map(bytes.strip, _split(lines[0], separator))
    has_number = any(map(_NUMBER.fullmatch, fields))
    return int(len(lines) > 1 and separator != b" " and not has_number)


def _columns(
    rows: list[bytes], separator: bytes, *, is_last: bool
) -> tuple[list[bytes], list[bytes]]:
    """Return the words, and the last or the first fields beside them; none if rows do not fit."""
    words, fields = [], []
    for row in rows:
        if separator == b" ":
            pair = row.rsplit(None, 1) if is_last else row.split(None, 1)
        else:
            pair = _split(row, separator)
        if len(pair) != 2 or (separator != b"\t" and pair[not is_last].startswith(b'"')):
            return [], []
        word = pair[not is_last]
        words.append(word if separator == b"\t" else word.strip())
        fields.append(pair[is_last].strip())
    return words, fields


def _is_numbering(fields: list[bytes]) -> bool:
    """Say whether fields are the numbers 0 to n - 1, in any order."""
    if not fields or not all(map(_ID.fullmatch, fields)):
        return False
    return sorted(map(int, fields)) == list(range(len(fields)))


def _are_scores(fields: list[bytes]) -> bool:
    """Say whether fields are logarithms of probabilities, as SentencePiece writes them."""
    return (
        all(map(_NUMBER.fullmatch, fields))
        and all(float(field) <= 0 for field in fields)
        and any(field.startswith(b"-") for field in fields)
    )


def _decoded(words: list[bytes], skipped: int, name: str) -> list[str]:
    try:
        return [word.decode() for word in words]
    except UnicodeDecodeError as error:
        line = next(at for at, word in enumerate(words) if word == error.object)
        raise SourceError(
            f"{name}:{skipped + line + 1}: the word is not UTF-8 ({error.reason}); convert the file"
        ) from error
