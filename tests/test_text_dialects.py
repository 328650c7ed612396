"""Dialects of text: separators, quotes, headers, encodings; read exactly, or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embstore.errors import SourceError
from embstore.sources.text.source import TextSource
from tests.helpers.text_files import blocks_of, read_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORDS = ["the", "New York", "naïve", "日本", "#", "re-do", "3.5", "nan"]
PLAIN_WORDS = ["the", "of", "naïve", "日本", "#", "re-do", "a.b", "x"]
ROWS = np.random.default_rng(5).normal(size=(8, 4)).round(4).astype(np.float32)


def texts(row: NDArray[Any]) -> list[str]:
    return [repr(float(value)) for value in row]


def table(
    words: list[str] = PLAIN_WORDS,
    outer: str = " ",
    between: str = " ",
    start: str = "",
    end: str = "\n",
    around: tuple[str, str] = ("", ""),
    mark: str = ".",
) -> str:
    lines = [
        start + word + outer + around[0] + between.join(texts(row)).replace(".", mark) + around[1]
        for word, row in zip(words, ROWS, strict=True)
    ]
    return "".join(line + end for line in lines)


def aligned(width: int) -> str:
    lines = [
        word.ljust(10) + "".join(f"{value:{width}.4f}" for value in row)
        for word, row in zip(PLAIN_WORDS, ROWS, strict=True)
    ]
    return "\n".join(lines) + "\n"


def with_numbers(first: int, separator: str, outer: str) -> str:
    lines = table(outer=outer, between=outer).splitlines()
    return "".join(f"{first + i}{separator}{line}\n" for i, line in enumerate(lines))


def csv_lines(quote_all: bool, separator: str = ",") -> str:
    words = ["the", 'say "hi"', '"', "a,b;c", " x", "", "3.5", "New York"]
    lines = []
    for word, row in zip(words, ROWS, strict=True):
        quoted = '"' + word.replace('"', '""') + '"'
        plain = not any(mark in word for mark in '",;') and not quote_all
        lines.append(separator.join([word if plain else quoted, *texts(row)]))
    return "\n".join(lines) + "\n"


CSV_WORDS = ["the", 'say "hi"', '"', "a,b;c", " x", "", "3.5", "New York"]
# For each kind: the text, and the words if they are not PLAIN_WORDS.
READ = {
    "tab": (table(WORDS, "\t", "\t"), WORDS),
    "comma": (table(WORDS, ",", ","), WORDS),
    "semicolon": (table(WORDS, ";", ";"), WORDS),
    "pipe": (table(WORDS, "|", "|"), WORDS),
    "comma and blank": (table(WORDS, ", ", ", "), WORDS),
    "blank pipe blank": (table(WORDS, " | ", " | "), WORDS),
    "comma and blanks": (table(WORDS, ",", ",  "), WORDS),
    "two blanks": (table(outer="  ", between="  "), None),
    "two blanks after the word": (table(outer="  "), None),
    "four blanks between numbers": (table(between="    "), None),
    "aligned": (aligned(9), None),
    "right-aligned words": (table(start="   "), None),
    "blank at the end": (table(end=" \n"), None),
    "tab, then blanks": (table(WORDS, "\t"), WORDS),
    "tab, then commas": (table(WORDS, "\t", ","), WORDS),
    "tab, then comma and blank": (table(WORDS, "\t", ", "), WORDS),
    "comma, then blanks": (table(WORDS, ","), WORDS),
    "blank, then tabs": (table(between="\t"), None),
    "pipe, then commas": (table(WORDS, "|", ","), WORDS),
    "blank, then commas": (table(between=","), None),
    "tab, then blanks, blank at the end": (table(WORDS, "\t", end=" \n"), WORDS),
    "tab at the end": (table(WORDS, "\t", "\t", end="\t\n"), WORDS),
    "comma at the end": (table(WORDS, ",", ",", end=",\n"), WORDS),
    "semicolon at the end": (table(WORDS, ";", ";", end=";\r\n"), WORDS),
    "colon and blank": (table(WORDS, ": "), WORDS),
    "colon": (table(outer=":"), None),
    "blank colon blank": (table(outer=" : "), None),
    "colon, then commas": (table(outer=": ", between=", "), None),
    "equals": (table(outer=" = "), None),
    "brackets": (table(around=("[", "]")), None),
    "brackets and commas": (table(between=", ", around=("[", "]")), None),
    "brackets and bare commas": (table(between=",", around=("[", "]")), None),
    "padded brackets": (table(between="  ", around=("[ ", " ]")), None),
    "parentheses": (table(between=", ", around=("(", ")")), None),
    "tab and brackets": (table(WORDS, "\t", ", ", around=("[", "]")), WORDS),
    "colon and brackets": (table(outer=": ", between=", ", around=("[", "]")), None),
    "quoted brackets": (table(WORDS, ",", ", ", around=('"[', ']"')), WORDS),
    "no-break blanks": (table(outer="\xa0", between="\xa0"), None),
    "no-break blank after the word": (table(WORDS, "\xa0"), WORDS),
    "narrow no-break blanks": (table(outer="\u202f", between="\u202f"), None),
    "ideographic blanks": (table(outer="\u3000", between="\u3000"), None),
    "decimal commas": (table(mark=","), None),
    "decimal commas and semicolons": (table(PLAIN_WORDS, ";", ";", mark=","), None),
    "decimal commas and tabs": (table(PLAIN_WORDS, "\t", "\t", mark=","), None),
    "decimal commas, two blanks": (table(between="  ", mark=","), None),
    "csv": (csv_lines(quote_all=False), CSV_WORDS),
    "csv, quoted": (csv_lines(quote_all=True), CSV_WORDS),
    "csv, semicolons": (csv_lines(quote_all=False, separator=";"), CSV_WORDS),
    "csv, quoted, tabs": (csv_lines(quote_all=True, separator="\t"), CSV_WORDS),
    "csv, quoted, blanks": (csv_lines(quote_all=True, separator=" "), CSV_WORDS),
    "csv, quoted, comma and blank": (csv_lines(quote_all=True, separator=", "), CSV_WORDS),
    "csv, quoted numbers": (
        table(outer='","', between='","', start='"', end='"\n', mark=","),
        None,
    ),
    "single quotes": (table(WORDS, "',", ",", start="'"), WORDS),
    "quoted words, blanks": (table(WORDS, '" ', start='"'), WORDS),
    "tabs, words with quotation marks": (
        table(['"', '"a"', "''", '5"', '""', "'s", '"x', "y"], "\t", "\t"),
        ['"', '"a"', "''", '5"', '""', "'s", '"x', "y"],
    ),
    "header of a data frame": (",0,1,2,3\n" + table(WORDS, ",", ","), WORDS),
    "header of a data frame, tabs": ("\t0\t1\t2\t3\n" + table(WORDS, "\t", "\t"), WORDS),
    "header of a data frame, blanks": (" 0 1 2 3\n" + table(), None),
    "header of names": ("word,d0,d1,d2,d3\n" + table(WORDS, ",", ","), WORDS),
    "header of names from 1": ("word;V1;V2;V3;V4\n" + table(WORDS, ";", ";"), WORDS),
    "header of quoted names": ('"","V1","V2","V3","V4"\n' + table(PLAIN_WORDS, ",", ","), None),
    "header without a name for words": ("V1 V2 V3 V4\n" + table(), None),
    "header of any names": ("token\tx\ty\tz\tw\n" + table(WORDS, "\t", "\t"), WORDS),
    "header with two names": ("word\tvector\n" + table(WORDS, "\t"), WORDS),
    "row numbers": (with_numbers(0, ",", ","), None),
    "row numbers from 1, tabs": (with_numbers(1, "\t", "\t"), None),
    "row numbers, blanks": (with_numbers(0, " ", " "), None),
    "row numbers and a header": (",word,0,1,2,3\n" + with_numbers(0, ",", ","), None),
    "row numbers and lists": (
        ",word,vector\n"
        + "".join(
            f'{i},{word},"[{", ".join(texts(row))}]"\n'
            for i, (word, row) in enumerate(zip(WORDS, ROWS, strict=True))
        ),
        WORDS,
    ),
    "header with another name for words": ("Wort;0;1;2;3\n" + table(WORDS, ";", ";"), WORDS),
    "lines of JSON": (table(outer='": ', between=", ", start='"', around=("[", "],")), None),
    "lines of JSON, no comma at the end": (
        table(outer='":', between=",", start='"', around=("[", "],"))[:-2] + "\n",
        None,
    ),
    "lines of Python": (table(outer="': ", between=", ", start="'", around=("[", "],")), None),
    "quoted braces": (table(WORDS, ",", ",", around=('"{', '}"')), WORDS),
    "tab after words that end in numbers": (
        table([f"route {i}" for i in range(8)], "\t"),
        [f"route {i}" for i in range(8)],
    ),
    "counts, aligned": ("   8   4\n" + aligned(9), None),
    "counts and words that are numbers": (
        "8 4\n" + table(["12", "0.5", "-1", "3e5", "7", "1990", "nan", "2"]),
        ["12", "0.5", "-1", "3e5", "7", "1990", "nan", "2"],
    ),
    "counts and tabs": ("8 4\n" + table(WORDS, "\t"), WORDS),
    "counts and commas": ("8,4\n" + table(WORDS, ",", ","), WORDS),
    "counts and pipes": ("8 | 4\n" + table(WORDS, " | ", " | "), WORDS),
    "counts and colons": ("8: 4\n" + table(outer=": "), None),
    "counts and decimal commas": ("8 4\n" + table(mark=","), None),
    "comment": ("# made by hand\n" + table(), None),
    "comment with numbers": ("# 8 4\n" + table(), None),
    "two comments and counts": ("// a\n// b\n8 4\n" + table(), None),
    "comment, commas": ("% d=4\n" + table(WORDS, ",", ","), WORDS),
    "comment and names": ("# x\nword,0,1,2,3\n" + table(WORDS, ",", ","), WORDS),
}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-be"]


def encoded(text: str, encoding: str) -> bytes:
    mark = "\ufeff" if encoding.endswith("-be") else ""
    return (mark + text).encode(encoding)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize(("text", "words"), READ.values(), ids=READ)
def test_dialect_is_read(tmp_path, text, words, end):
    found, rows = read_bytes(tmp_path, text.replace("\r\n", "\n").replace("\n", end).encode())
    assert found == (words or PLAIN_WORDS)
    np.testing.assert_array_equal(rows, ROWS, strict=True)


@pytest.mark.parametrize("certain", ["1,05", "0,25e-1", "3", "1,5e-3"])
@pytest.mark.parametrize(("start", "outer"), [('"', '"\t'), ('"', '";'), ('"', '",')])
def test_one_number_cannot_be_two_whole_ones(tmp_path, certain, start, outer):
    numbers = ["59,12", certain, "7,25"]
    if outer == '",':
        numbers = [f'"{number}"' for number in numbers]
    text = "".join(f"{start}{word}{outer}{n}\n" for word, n in zip("abc", numbers, strict=True))
    found, rows = read_bytes(tmp_path, text.encode())
    assert found == ["a", "b", "c"]
    assert rows[1] == np.float32(certain.replace(",", "."))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", ["tab", "comma", "header of a data frame", "counts and tabs"])
@pytest.mark.parametrize("block_bytes", [1, 7, 1000])
def test_encoding_is_told_by_its_mark(tmp_path, monkeypatch, encoding, kind, block_bytes):
    blocks_of(monkeypatch, block_bytes)
    text, words = READ[kind]
    for end in ("\n", "\r\n", "\r"):
        found, rows = read_bytes(tmp_path, encoded(text.replace("\n", end), encoding))
        assert found == words
        np.testing.assert_array_equal(rows, ROWS, strict=True)


@pytest.mark.parametrize("separator", [" ", "\t", ",", ";", "|", "  ", ", "])
@pytest.mark.parametrize("header", ["", "8 4\n", "# numbers\n"])
@pytest.mark.parametrize("form", ["list", "file"])
def test_numbers_only_take_words(tmp_path, separator, header, form):
    lines = [separator.join(texts(row)) + "\n" for row in ROWS]
    given = WORDS
    if form == "file":
        given = tmp_path / "words.txt"
        given.write_text("".join(word + "\n" for word in WORDS))
    found, rows = read_bytes(tmp_path, (header + "".join(lines)).encode(), words=given)
    assert found == WORDS
    np.testing.assert_array_equal(rows, ROWS, strict=True)
    with pytest.raises(SourceError, match=r"found only numbers.*words=|the header"):
        read_bytes(tmp_path, (header + "".join(lines)).encode())


@pytest.mark.parametrize("kind", ["tab", "comma", "brackets", "colon"])
def test_words_beside_a_file_with_words_are_refused(tmp_path, kind):
    with pytest.raises(SourceError):
        read_bytes(tmp_path, READ[kind][0].encode(), words=WORDS)


def test_too_few_words_for_numbers_only(tmp_path):
    data = "".join(" ".join(texts(row)) + "\n" for row in ROWS).encode()
    with pytest.raises(SourceError, match=r"has 7 words, but .* has 8 rows"):
        read_bytes(tmp_path, data, words=WORDS[:7])


UNREAD = ["1,000.5", "\u22120.5", "0x1p3", "1e", "1_000", "\u00bd", "NaN%", "1.5f", "--", "NULL"]
UNREAD += ["\u0661\u066b\u0665", "\uff11.\uff15", "1.#IND", "0.1.2", "1/2", "50%", "n/a", "#N/A"]
UNREAD += ["$5", "1'000", "\u221e", "None", "'0.5'", "1.5j", "0b1", "1.5D+00"]


@pytest.mark.parametrize("number", UNREAD)
@pytest.mark.parametrize("lines", ["one", "all"])
@pytest.mark.parametrize("separator", [" ", "\t", ";", "  "])
def test_numbers_that_are_not_read_are_no_words(tmp_path, number, lines, separator):
    text = [
        separator.join([word, number if lines == "all" or i == 5 else "0.25", *texts(row)])
        for i, (word, row) in enumerate(zip(PLAIN_WORDS, ROWS, strict=True))
    ]
    with pytest.raises(SourceError):
        read_bytes(tmp_path, "\n".join(text).encode())


# A line that differs from those before it.
OTHER_LINES = {
    "tab": [
        "a 1 2 3 4",
        "a,1,2,3,4",
        "a\t1\t2\t3\t4\t5",
        "a\t1\t2\t3",
        "a\t1\t\t3\t4",
    ],
    "comma": [
        '"a,1,2,3,4',
        "a 1 2 3 4",
        "a,b,1,2,3,4",
        "a,1,2,3",
        "a,1 2,3,4",
        ",a,1,2,3,4",
        "a;1;2;3;4",
    ],
    "two blanks": ["a\xa01 2 3 4", "a  1  2  3", "a 0,5 1 2 3", "a 1 1  2  3  4"],
    "brackets": ["a [1 2 3 4", "a 1 2 3 4", "a [1 2 3]", "a [1, 2, 3, 4]", "a (1 2 3 4)"],
    "decimal commas": ["a 0.5 1 2 3", "a 1,000.5 1 2 3", "a 1 2 3", "a 1;2;3;4"],
    "row numbers": ["9,a,1,2,3,4", "a,1,2,3,4", "8,a,b,1,2,3,4", "8.0,a,1,2,3,4"],
    "colon and blank": ["a 1 2 3 4", "a: 1 2 3", "a; 1 2 3 4", "a: 1,2,3,4"],
    "csv, quoted, tabs": ["a\t1\t2\t3\t4\t5", '"a\t1\t2\t3\t4', '"a"b\t1\t2\t3\t4'],
    "comma at the end": ["a,1,2,3,", "a,1,2,3,4", "a,1,2,3,4,,"],
    "aligned": ["the 0.1 0.2 0.3 0.4of 0.1 0.2 0.3 0.4", "a 0.1 0.2 0.3 0.4\rb 1 2 3 4"],
}
OTHERS = [(kind, line) for kind, lines in OTHER_LINES.items() for line in lines if line]


@pytest.mark.parametrize(("kind", "line"), OTHERS)
def test_line_unlike_the_first_is_refused(tmp_path, kind, line):
    text, _ = READ[kind]
    good = [line for line in text.splitlines() if line]
    end = [] if kind == "row numbers" else good
    if kind != "row numbers":
        good = (good * 30)[:150]
    with pytest.raises(SourceError) as error:
        read_bytes(tmp_path, "\n".join([*good, line, *end]).encode())
    assert f"table.txt:{len(good) + 1}: " in str(error.value)


# Files whose right reading cannot be told.
DOUBTFUL = {
    "numbers only": "".join(" ".join(texts(row)) + "\n" for row in ROWS),
    "numbers only, one line": "0.1 0.2 0.3\n",
    "numbers only, commas": "0.1,0.2,0.3\n-0.1,0.5,0.25\n",
    "numbers only, some whole": "0 0.2 0.3\n-0.1 0.5 0.25\n1 0 0.5\n",
    "glued numbers": table(outer=""),
    "numbers before the words": "".join(
        f"{i * 7} {line}\n" for i, line in enumerate(table().splitlines())
    ),
    "weights before the words": "".join(
        f"0.{i},{line}\n" for i, line in enumerate(table(WORDS, ",", ",").splitlines())
    ),
    "counts after the words": "".join(
        f"{w} {i * 7} " + " ".join(texts(r)) + "\n"
        for i, (w, r) in enumerate(zip(PLAIN_WORDS, ROWS, strict=True))
    ),
    "labels after the words": "".join(
        f"{w},DET," + ",".join(texts(r)) + "\n" for w, r in zip(WORDS, ROWS, strict=True)
    ),
    "labels at the end": "".join(
        f"{w} " + " ".join(texts(r)) + f" {i * 3}\n"
        for i, (w, r) in enumerate(zip(PLAIN_WORDS, ROWS, strict=True))
    ),
    "a header with another column": "word,count,d0,d1,d2\n" + table(WORDS, ",", ","),
    "a header with a gap": "word,d0,d1,d2,d4\n" + table(WORDS, ",", ","),
    "a header in another order": "word,d3,d2,d1,d0\n" + table(WORDS, ",", ","),
    "words last": "".join(
        ",".join(texts(row)) + f",{word}\n" for word, row in zip(WORDS, ROWS, strict=True)
    ),
    "libsvm": "1 1:0.5 2:0.25\n2 1:0.5 2:0.75\n",
    "json": '{"the": [0.1, 0.2],\n"of": [0.3, 0.4]}\n',
    "mixed line ends": "the 0.1 0.2\rof 0.3 0.4\nto 0.5 0.6\n",
    "a missing line end": "the 0.1 0.2of 0.3 0.4\nto 0.5 0.6\nin 0.7 0.8\n",
    "utf-16 without its mark": "the 0.1 0.2\nof 1 2\n".encode("utf-16-le").decode(),
    "counts that differ": "8 5\n" + table(WORDS, "\t"),
    "a title": "GloVe vectors of 8 words\n" + table(WORDS, ",", ","),
    "two pipes": table(outer="||", between="||"),
    "two commas": table(outer=",,", between=","),
    "no words": table([""] * 8),
    "numbers only, after a blank": " 0.1 0.2 0.3\n 0.4 0.5 0.6\n 0.7 0.8 0.9\n",
    "the same word in each line": table(["v"] * 8),
    "items of a list": table(["- " + word for word in PLAIN_WORDS]),
    "literals of Lua": table([f"['{word}']" for word in PLAIN_WORDS], " = ", ", "),
    "arrows": table(outer=" -> "),
    "a log": "2020-01-01 12:00 loss 0.5\n2020-01-02 12:00 loss 0.25\n",
    "only a header": "word,0,1,2,3\n",
    "a header of names twice": 2 * ("word,d0,d1,d2,d3\n" + table(WORDS, ",", ",")),
    "a header of numbers twice": 2 * ("word 0 1 2 3\n" + table()),
    "a header with counts": "word,count\nthe,1000\nof,900\n",
    "numbered rows, named columns": ",the,of\n0,0.5,0.25\n1,0.75,0.5\n",
    "glued minus": "the-0.5 0.25 0.5\nof-0.25 0.5 0.5\nto-0.1 0.2 0.5\n",
    "thousands": "the 1,000 29,870\nof -27,409 89,059\nto 12,345 100\n",
    "escapes of JSON": table(
        ["na\\u00efve", *PLAIN_WORDS[1:]], '": ', ", ", '"', "\n", ("[", "],")
    ),
    "zeros": table(["the", "of", "\0\0\0to", "in", "and", "a", "for", "is"]),
    "pairs like 1:2": "12:30 0.1 0.2\n12:45 0.3 0.4\n",
    "two whole numbers or a decimal comma": '"the"\t59,12\n"of"\t7,3\n"a"\t8,25\n',
    "whole numbers or decimal commas, in quotes": '"the","59,12"\n"of","-7,3"\n',
    "whole numbers or a decimal comma, one line": '"the"|1,5\n',
    "a comment or a row": "// 3 4\nthe 1 2\nof 3 4\n",
    "a comment or a row, two blanks": "# 3 4\nthe  1,5  2\nof  3  4\n",
    "a comment or a short row": "#x 0.25 0.5 2\n" + table(),
    "a comment or a row with a number not read": '"#x",0.25,0.5,1_0,2\n' + table(WORDS, ",", ","),
    "a comment or a short row, brackets": "; (0.5)\nthe (1, 2)\nof (3, 4)\n",
    "a header or a row of whole numbers": ",0,1,2\nthe,1,2,3\nof,4,5,6\n",
    "a header or a row of one number": "\t0\nthe\t1\nof\t2\n",
    "marks after glued numbers": "a,1; 0\nb,2; 1\nc,-3; 0\n",
    "numbers glued to quoted words, colons": ': 0, 1\n"a": -0., 1.\n"b": -1., 0.\n',
    "a header or a row of signed whole numbers": ",0,1\nthe,-1,2\nof,3,-4\n",
    "numbers glued to quoted words": '"a",0. | 1.\n"b",-1. | 2.\n"c",3. | 4.\n',
    "a header or a damaged row": "a  0.25\t0.5\t½\n  0.5\t1\t2\n",
    "an empty word and one number more, or a word that is a number": "1 a  1 2\n2   0 1 2\n",
    "an empty word after a row number, or a word": "1 a 1 2\n2  1 2\n",
    "whole numbers or decimal commas, with powers": "the [ -3,5E-01 ]\nof [ 8,7E-01 ]\n",
    "two whole numbers or a decimal comma, brackets": "the | (-63,7879)\nof | (-160,821)\n",
    "two whole numbers or a decimal comma, tabs": "the\t5,3\nof\t-7,12\n",
    "marks after two words": "the| 0.5\nof| 1.5\n",
    "marks after two words, tabs": "the|\t0.5; 1\nof|\t1.5; 2\n",
    "numbers behind words, whole and decimal": " 0,1\nthe 2.5e-03,6.5\nof NULL,9.5\n",
    "a first row with one number less": '" = 3.5e+01\xa04.5\xa05.5\nb = 1.5\xa02.5\xa03.5\xa04.5\n'
    "c = 1.5\xa02.5\xa03.5\xa04.5\n",
    "an empty word or two quotation marks": 'the;0.5;1\n"";1.5;2\nof;2.5;3\n',
    "a comment or a row without its number": '"#be4"; ; \n"0"; "-1.64"; \n"a"; "+1.5"; \n',
    "an empty word and one number more, or a number as the word": "a  0.5, 1.5\nb  2.5, 3.5\n"
    "  4.5, 5.5, 5.5\n",
    "a first row without its number": "the,, , \nof, 0, \nking, -0, \n",
    "quoted words or quotation marks": '"the ""a""" 0.5 1\nof 1 2\n',
    "quoted words or quotation marks, tabs": '""""\t0.5\t1\nof\t1\t2\n',
    "quoted words or quotation marks, one line": '"a""b" 0.5 1\n',
    "a mark without its blanks in a word": "a | -0.5 | -0.25\nb|4 | 0.75\n",
    "an empty word behind another margin": "a\t0.5\t1\n b\t1.5\t2\n\t1_000\t2.5\t3\n",
    "a comment or a row without its number, blanks": "#x  \na 0.5 \nb 1.5 \n",
    "a quotation mark before a number that is not read": '";[1.5f|7.5]\n#;[5.5]\na;[0.5]\n',
    "numbers glued to words, some with spaces": "a:1 2 3\nb c:2 3 4\nd e:4 5 6\n",
    "words that are numbers, or end in one": "0\t1\n.a \u00bd\t36.5\n,b -32.5\t52.5\n",
    "a header of pairs, and a pair without its second number": "3 2\nthe 1,1\nof -1\na 2,0\n",
    "a comment or a missing number": ";x,  NULL\ny  0.5\n",
    "a comment or a row with a number in hexadecimal": "#\t[ 0x1p3 ]\na\t[ 0 ]\nb\t[ 1 ]\n",
}


@pytest.mark.parametrize("text", DOUBTFUL.values(), ids=DOUBTFUL)
def test_doubtful_file_is_refused(tmp_path, text):
    with pytest.raises(SourceError) as error:
        read_bytes(tmp_path, text.encode())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "the,-0,7858\t -1,6966 \nof,0,3331\t 1,0309 \nking,-0,3936\t -0,1899 \n",
        "the\xa0-0,00923\t 0,01213\nof\xa00,01853\t 0,01196\n",
        "the:0,5\t1,25\n",
        "the = 1,5e+02\t -1,2e+01\nof = -3,4e+01\t 1,7e+01\n",
    ],
)
def test_given_dimension_does_not_split_decimal_commas(tmp_path, text):
    with pytest.raises(SourceError):
        read_bytes(tmp_path, text.encode(), dimension=2)


@pytest.mark.parametrize("separator", [" ", "\t", ",", "  "])
@pytest.mark.parametrize("numbers", ["0.1 0.2 0.3", "0.0 0.1 0.2", "-1 -2 -3", "-.0 -.1 -.2"])
def test_first_numbers_that_count_up_are_a_row(tmp_path, separator, numbers):
    text = f"the {numbers}\nof -0.5 0.25 1.5\nto 1.5 2.5 3.5\n".replace(" ", separator)
    found, rows = read_bytes(tmp_path, text.encode())
    assert found == ["the", "of", "to"]
    assert rows[0].tolist() == np.array(numbers.split(), np.float32).tolist()


@pytest.mark.parametrize("word", [",", "|", ";", ":"])
def test_word_that_is_a_separator_of_others(tmp_path, word):
    text = f"{word}\t 1.25\nan\t 0.5\n"
    assert read_bytes(tmp_path, text.encode())[0] == [word, "an"]


@pytest.mark.parametrize("outer", ["\t", ":", " = "])
def test_empty_word_before_commas(tmp_path, outer):
    text = f"{outer}0., -1., 0.\n/{outer}2., -2., 2.\n"
    found, rows = read_bytes(tmp_path, text.encode())
    assert found == ["", "/"]
    assert rows.tolist() == [[0, -1, 0], [2, -2, 2]]


@pytest.mark.parametrize("outer", [":", "|", ";"])
def test_whole_numbers_after_quoted_words(tmp_path, outer):
    text = f'"a-b"{outer}-0 -0 0\n"c d=0"{outer}0 1 2\n"e"{outer}3 4 5\n'
    found, rows = read_bytes(tmp_path, text.encode())
    assert found == ["a-b", "c d=0", "e"]
    assert rows.tolist() == [[0, 0, 0], [0, 1, 2], [3, 4, 5]]


def test_numbers_only_start_in_the_same_column(tmp_path):
    with pytest.raises(SourceError, match=r"table\.txt:1: .*before the first number"):
        read_bytes(tmp_path, b"\t0\n0.5\n-0.25\n1.5\n\n", words=["a", "b", "c", "d"])


NUMBERS = [(1.5, 100.5, 0.25), (-10.25, 2, 3), (3, -3.25, 1), (4, 7, -0.5)]


@pytest.mark.parametrize(
    "form",
    [
        "{:8}{:9.4f}{:9.4f}{:9.4f}",
        "{:>8}{:9.4f}{:9.4f}{:9.4f}",
        "{:8}{:<9.4f}{:<9.4f}{:<9.4f}",
        "{} {: .4f} {: .4f} {: .4f}",
        "{} [{: .4f} {: .4f} {: .4f}]",
        "{} [{:9.4f} {:.4f}  {:.4f}]",
        "{},{:9.4f},{:9.4f},{:9.4f}",
        "{:6}, {:9.4f}, {:9.4f}, {:9.4f}",
        "{:6}|{: .4f}|{: .4f}|{: .4f}",
    ],
)
def test_columns_may_be_aligned(tmp_path, form):
    words = ["a", "naïve", "日本", "of"]
    lines = [form.format(word, *row) for word, row in zip(words, NUMBERS, strict=True)]
    found, rows = read_bytes(tmp_path, "\n".join(lines).encode())
    assert found == words
    np.testing.assert_array_equal(rows, np.array(NUMBERS, np.float32))


def test_any_blanks_between_words_and_numbers(tmp_path):
    text = "the  0.5 1.5\nof 1.5   2.5\na    1.25  2\n"
    found, rows = read_bytes(tmp_path, text.encode())
    assert found == ["the", "of", "a"]
    assert rows.tolist() == [[0.5, 1.5], [1.5, 2.5], [1.25, 2]]


@pytest.mark.parametrize("line", ["b,0.5, 1.5", " b, 0.5, 1.5", "b, 0.5,1.5"])
def test_blanks_unlike_those_of_other_lines_are_refused(tmp_path, line):
    lines = [f"{word}, 0.25, 1.5" for word in ("the", "of", "to", "a", "king")]
    with pytest.raises(SourceError, match=r"table\.txt:3: .*(other blanks|before the first)"):
        read_bytes(tmp_path, "\n".join([*lines[:2], line, *lines[2:]]).encode())


def test_given_dimension_does_not_leave_blanks_at_words(tmp_path):
    with pytest.raises(SourceError, match="end in a blank"):
        read_bytes(tmp_path, b"word  d0\na.50|.5  -183.5\nb  11.25\n", dimension=1)


@pytest.mark.parametrize("outer", [" ", "  ", "\xa0"])
def test_given_dimension_leaves_decimal_commas_in_doubt(tmp_path, outer):
    text = f"the{outer}-1,29\nof{outer}0,26\n"
    with pytest.raises(SourceError):
        read_bytes(tmp_path, text.encode(), dimension=1)


@pytest.mark.parametrize("between", [", ", ";", " "])
def test_two_whole_numbers_between_other_marks(tmp_path, between):
    text = f"the (-63{between}7879)\nof (-160{between}821)\n"
    found, rows = read_bytes(tmp_path, text.encode())
    assert found == ["the", "of"]
    assert rows.tolist() == [[-63, 7879], [-160, 821]]


def test_numbers_in_brackets_are_no_header(tmp_path):
    found, rows = read_bytes(tmp_path, b"\t[0\t1]\na\t[-1\t2]\nb\t[0.5\t1]\n")
    assert found == ["", "a", "b"]
    assert rows.tolist() == [[0, 1], [-1, 2], [0.5, 1]]


@pytest.mark.parametrize("options", [{}, {"dimension": 2}])
@pytest.mark.parametrize("others", ["of 0.5 1\n", "of  0,5  1,5\n", ""])
def test_one_quoted_word_with_a_blank_is_refused(tmp_path, others, options):
    text = others + '"New York" 0.5 1\n' + others
    with pytest.raises(SourceError):
        read_bytes(tmp_path, text.encode(), **options)


@pytest.mark.parametrize("mark", [":", ",", "|"])
@pytest.mark.parametrize("header", ["", "{} 0 1\n", "word{} d0 d1\n", "4 2\n"])
def test_mark_after_an_empty_word(tmp_path, mark, header):
    words = ["the", "", "a-b", "of"]
    text = header.format(mark) + "".join(f"{word}{mark} 0.5 -1\n" for word in words)
    found, rows = read_bytes(tmp_path, text.encode())
    assert found == words
    assert rows.tolist() == [[0.5, -1]] * 4


@pytest.mark.parametrize("word", [" the", "the ", " "])
@pytest.mark.parametrize("outer", [",", "|", "\xa0", "\t"])
def test_blanks_around_one_word_of_two_are_kept(tmp_path, outer, word):
    text = f"{word}{outer}0.5{outer}1\nof{outer}1.5{outer}2\n"
    assert read_bytes(tmp_path, text.encode())[0] == [word, "of"]
    brackets = f"{word}{outer}[0.5{outer}1]\nof{outer}[1.5{outer}2]\n"
    assert read_bytes(tmp_path, brackets.encode())[0] == [word, "of"]


@pytest.mark.parametrize("first", [0, 1])
def test_row_numbers_beside_a_given_dimension(tmp_path, first):
    text = with_numbers(first, " ", " ")
    assert read_bytes(tmp_path, text.encode(), dimension=4)[0] == PLAIN_WORDS


def test_empty_word_before_rows_with_other_separators(tmp_path):
    with pytest.raises(SourceError, match=r":3: .*found '' before the numbers"):
        read_bytes(tmp_path, b"a  0.5, 1\nb  -1.5, 2\n  3.5, 4\n")


def test_given_dimension_settles_doubts(tmp_path):
    found, rows = read_bytes(tmp_path, b"0.5 0.25 1\n0.75 0.5 2\n", dimension=2)
    assert found == ["0.5", "0.75"]
    assert rows.tolist() == [[0.25, 1], [0.5, 2]]
    found, rows = read_bytes(tmp_path, b"route 66 1 2\nUS 1,5 3 4\n", dimension=2)
    assert found == ["route 66", "US 1,5"]


@pytest.mark.parametrize("text", [table(), table(WORDS[:1] * 8), "8 4\n" + table()])
def test_dimension_that_leaves_numbers_is_refused(tmp_path, text):
    with pytest.raises(SourceError, match="dimension=3"):
        read_bytes(tmp_path, text.encode(), dimension=3)


@pytest.mark.parametrize("header", ["0,1,2,3\n", "d1,d2,d3,d4\n", "V1,V2,V3,V4\n"])
def test_header_of_numbers_only(tmp_path, header):
    text = header + "".join(",".join(texts(row)) + "\n" for row in ROWS)
    found, rows = read_bytes(tmp_path, text.encode(), words=PLAIN_WORDS)
    assert found == PLAIN_WORDS
    np.testing.assert_array_equal(rows, ROWS)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (b"\xff\xfet\0h\0e\0 \x001\0", None),
        (b"\xff\xfet\0h\0e\0 \x001", "was it cut"),
        (b"\xfe\xff\xd8\x00\0 \x001", "was it cut"),
        (b"\xff\xfe\0\0t\0\0\0 \0\0\0\xff\xff\xff\xff", "mark of UTF-32"),
    ],
)
def test_damaged_utf_16(tmp_path, text, remedy):
    if remedy is None:
        assert read_bytes(tmp_path, text)[0] == ["the"]
        return
    with pytest.raises(SourceError, match=remedy):
        read_bytes(tmp_path, text)


def test_lines_are_counted_without_the_header(tmp_path):
    (tmp_path / "t.csv").write_text(",0,1,2,3\n" + table(WORDS, ",", ","))
    source = TextSource(tmp_path / "t.csv", limit=3)
    assert source.count_rows() == 3
    assert [len(batch.rows) for batch in source.batches()] == [3]
    assert TextSource(tmp_path / "t.csv").count_rows() == 8
