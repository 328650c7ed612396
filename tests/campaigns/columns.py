"""Random Parquet and Arrow tables against a model: exact rows and words, or an error of embstore.

1. A table is drawn at random: types of numbers, words and other columns, names, nulls, lengths,
   order, parts with other types. The model knows which rows and words it holds.
2. It is written with random encodings, compression, row groups and page sizes, as Parquet files,
   Arrow files or Arrow streams, or stays in memory.
3. What embstore reads is compared with pyarrow's own lists of Python objects (``to_pylist``).
   A table without a flaw must be read; one with a flaw must be refused.
4. Some files are damaged. Then an error is right, and so is any table, but nothing else.
"""

from __future__ import annotations

import math
import random
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import ipc, parquet

from embstore.dtypes import common_dtype
from embstore.encodings.casting import Caster
from embstore.errors import EmbstoreError
from embstore.sources.choose import open_source
from tests.campaigns.mutations import mutated_bytes

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = [
    *(pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
]
LETTERS = "ab \t\n\"',;#\0\r\u00e9\u65e5\U0001f600\u00a0"


@dataclass(frozen=True, slots=True)
class Size:
    """How long to try tables, and how many at most."""

    seconds: float
    cases: float


SMALL = Size(seconds=30, cases=80)
FULL = Size(seconds=600, cases=math.inf)


def run(folder: Path, seed: int, size: Size) -> str:
    """Read random Parquet and Arrow tables, whole and damaged; compare with pyarrow's objects."""
    end = time.monotonic() + size.seconds
    count = dict.fromkeys(("read", "refused", "damaged"), 0)
    case = 0
    while case < size.cases and time.monotonic() < end:
        numbers = random.Random(f"{seed}-{case}")
        try:
            count[_try_case(folder / "case", numbers)] += 1
        except AssertionError as failure:
            raise AssertionError(f"case {case}: {failure}") from failure
        except EmbstoreError as error:
            raise AssertionError(f"case {case}: a good table is refused: {error}") from error
        except Exception as error:
            raise AssertionError(f"case {case}: {type(error).__name__}: {error}") from error
        shutil.rmtree(folder / "case", ignore_errors=True)
        case += 1
    return (
        f"{count['read']:,} tables read exactly, {count['refused']:,} with a flaw refused, "
        f"{count['damaged']:,} damaged files read or refused"
    )


@dataclass(slots=True)
class Plan:
    """What all parts of a table have in common."""

    shape: tuple[int, ...]
    is_wide: bool
    column: str
    word_column: str | None
    has_ids: bool


def _try_case(folder: Path, numbers: random.Random) -> str:
    is_wide = numbers.random() < 0.25
    shape = tuple(numbers.randint(1, 4) for _ in range(1 if is_wide else numbers.choice((1, 1, 2))))
    plan = Plan(
        shape,
        is_wide,
        numbers.choice(("v", "vector", "a b", "x.y", "\u00e9")),
        numbers.choice((None, "word", "token", "the.word")),
        has_ids=numbers.random() < 0.5,
    )
    kind = numbers.choice(NUMBERS)
    tables: list[pa.Table] = []
    for _ in range(numbers.choice((1, 1, 2, 3))):
        tables.append(_table(plan, kind, sum(table.num_rows for table in tables), numbers))
        if numbers.random() < 0.3:
            kind = numbers.choice(NUMBERS)
    flaw = numbers.choice(FLAWS) if numbers.random() < 0.3 else None
    if flaw is not None:
        place = numbers.randrange(len(tables))
        changed = flaw(tables[place], plan, numbers)
        flaw = None if changed is None else flaw
        tables[place] = tables[place] if changed is None else changed
    source, is_damaged = _write(folder, tables, numbers)
    expected = None if flaw else _model(tables, plan)
    try:
        rows, words = _read(source)
    except EmbstoreError:
        if expected is not None and not is_damaged:
            raise
        return "damaged" if is_damaged else "refused"
    if is_damaged:
        assert words is None or len(words) == len(rows)
        return "damaged"
    assert expected is not None, f"a table with a flaw ({flaw.__name__}) is read"  # type: ignore[union-attr]
    assert words == expected[1], f"other words: {words} instead of {expected[1]}"
    assert rows.dtype == expected[0].dtype, f"{rows.dtype} instead of {expected[0].dtype}"
    assert rows.shape == expected[0].shape, f"{rows.shape} instead of {expected[0].shape}"
    assert rows.tobytes() == expected[0].tobytes(), "other rows"
    return "read"


def _table(plan: Plan, kind: pa.DataType, first: int, numbers: random.Random) -> pa.Table:
    """Return a random part without a flaw, whose rows come after ``first`` others."""
    count = numbers.choice((1, 2, 5, 30, 200))
    columns: list[tuple[str, Any]] = []
    if plan.is_wide:
        for axis in range(plan.shape[0]):
            values = [_number(kind, numbers) for _ in range(count)]
            columns.append((f"d{axis}", pa.array(values, kind)))
    else:
        columns.append((plan.column, _lists(plan.shape, kind, count, numbers)))
    if plan.word_column is not None:
        words = [_word(numbers) for _ in range(count)]
        columns.append((plan.word_column, _words(words, numbers)))
    if not plan.is_wide:
        if plan.has_ids:
            columns.append(("id", pa.array(range(first, first + count))))
        if numbers.random() < 0.3:
            columns.append(("day", pa.array([None] * count, pa.date32())))
        numbers.shuffle(columns)
    return pa.table([array for _, array in columns], names=[name for name, _ in columns])


def _number(kind: pa.DataType, numbers: random.Random) -> Any:
    if pa.types.is_integer(kind):
        limits = np.iinfo(kind.to_pandas_dtype())
        return numbers.choice((0, 1, int(limits.min), int(limits.max), numbers.randint(0, 100)))
    value = numbers.choice((0.0, -0.0, 0.1, 1e-7, -3.5, math.inf, 6e4, numbers.random()))
    return kind.to_pandas_dtype()(value)


def _lists(shape: tuple[int, ...], kind: pa.DataType, count: int, numbers: random.Random) -> Any:
    size = count * math.prod(shape)
    values = pa.array([_number(kind, numbers) for _ in range(size)], kind)
    for length in reversed(shape):
        size //= length
        style = numbers.choice(("fixed", "list", "large"))
        if style == "fixed":
            values = pa.FixedSizeListArray.from_arrays(values, length)
        else:
            offsets = np.arange(size + 1) * length
            make, width = (
                (pa.ListArray, pa.int32()) if style == "list" else (pa.LargeListArray, pa.int64())
            )
            values = make.from_arrays(pa.array(offsets, width), values)
    return values


def _word(numbers: random.Random) -> str:
    length = numbers.choice((0, 1, 3, 10, 300))
    return "".join(numbers.choices(LETTERS, k=length))


def _words(words: list[str], numbers: random.Random) -> Any:
    kind = numbers.choice(
        (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary())
    )
    is_text = kind not in (pa.binary(), pa.large_binary())
    array = pa.array(words if is_text else [word.encode() for word in words], kind)
    if numbers.random() < 0.3 and kind != pa.string_view():
        array = array.dictionary_encode()
    return array


def _null_row(table: pa.Table, plan: Plan, numbers: random.Random) -> pa.Table | None:
    """Replace a row, or a number of a wide table, by a null."""
    name = f"d{numbers.randrange(plan.shape[0])}" if plan.is_wide else plan.column
    return _replace(table, name, numbers, None)


def _null_word(table: pa.Table, plan: Plan, numbers: random.Random) -> pa.Table | None:
    if plan.word_column is None:
        return None
    return _replace(table, plan.word_column, numbers, None)


def _bad_word(table: pa.Table, plan: Plan, numbers: random.Random) -> pa.Table | None:
    """Replace a word by bytes that are not UTF-8."""
    if plan.word_column is None:
        return None
    words = [str(word).encode() for word in table[plan.word_column].to_pylist()]
    words[numbers.randrange(len(words))] = numbers.choice((b"\xff", b"\xed\xa0\x80", b"a\xc3"))
    return _set(table, plan.word_column, pa.array(words, pa.binary()))


def _other_length(table: pa.Table, plan: Plan, numbers: random.Random) -> pa.Table | None:
    """Make one row longer."""
    if plan.is_wide or table.num_rows < 2:
        return None
    rows = table[plan.column].to_pylist()
    place = numbers.randrange(len(rows))
    rows[place] = [*rows[place], rows[place][-1]]
    kind = table.schema.field(plan.column).type.value_type
    return _set(table, plan.column, pa.array(rows, pa.list_(kind)))


def _other_name(table: pa.Table, plan: Plan, numbers: random.Random) -> pa.Table | None:
    """Name two columns alike."""
    name = plan.word_column or ("d0" if plan.is_wide else plan.column)
    return table.append_column(name, table[name])


def _strings(table: pa.Table, plan: Plan, numbers: random.Random) -> pa.Table | None:
    """Make the numbers strings."""
    if plan.is_wide or plan.word_column is None:
        return None
    return _set(table, plan.column, pa.array([["1"] * 2] * table.num_rows))


def _another_list(table: pa.Table, plan: Plan, numbers: random.Random) -> pa.Table | None:
    """Add a second column of strings, or of lists."""
    if plan.word_column in (None, "word") or "binary" in str(table[plan.word_column].type):
        return None  # Text is preferred to bytes.
    return table.append_column("text", pa.array(["x"] * table.num_rows))


def _other_id(table: pa.Table, plan: Plan, numbers: random.Random) -> pa.Table | None:
    """Change the id of a row that has no word."""
    if plan.is_wide or not plan.has_ids or plan.word_column is not None:
        return None
    ids = table["id"].to_pylist()
    ids[numbers.randrange(len(ids))] += numbers.choice((-1, 1, 7))
    return _set(table, "id", pa.array(ids))


FLAWS = [
    _other_id,
    _null_row,
    _null_word,
    _bad_word,
    _other_length,
    _other_name,
    _strings,
    _another_list,
]


def _replace(table: pa.Table, name: str, numbers: random.Random, value: Any) -> pa.Table:
    column = table[name].combine_chunks()
    values = column.to_pylist()
    values[numbers.randrange(len(values))] = value
    return _set(table, name, pa.array(values, column.type))


def _set(table: pa.Table, name: str, array: Any) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, array)


def _write(folder: Path, tables: list[pa.Table], numbers: random.Random) -> tuple[Any, bool]:
    """Write the parts, or keep the one table in memory; return the source."""
    if len(tables) == 1 and numbers.random() < 0.2:
        return tables[0], False
    folder.mkdir()
    suffix = numbers.choice((".parquet", ".parquet", ".parquet", ".arrow", ".arrows"))
    for number, table in enumerate(tables):
        path = folder / f"part-{number}{suffix}"
        rows = numbers.choice((1, 7, 1000))
        if suffix == ".parquet":
            options = {
                "compression": numbers.choice(("none", "snappy", "gzip", "zstd", "lz4", "brotli")),
                "use_dictionary": numbers.random() < 0.5,
                "data_page_version": numbers.choice(("1.0", "2.0")),
                "data_page_size": numbers.choice((10, 1 << 20)),
                "write_page_checksum": numbers.random() < 0.5,
                "store_schema": numbers.random() < 0.7,
                "version": numbers.choice(("2.4", "2.6")),
            }
            parquet.write_table(table, path, row_group_size=rows, **options)
            continue
        codec = ipc.IpcWriteOptions(compression=numbers.choice((None, "lz4", "zstd")))
        make = ipc.new_file if suffix == ".arrow" else ipc.new_stream
        with make(path, table.unify_dictionaries().schema, options=codec) as writer:
            writer.write_table(table.unify_dictionaries(), rows)
    if numbers.random() > 0.2:
        return folder, False
    data = path.read_bytes()
    cut = numbers.random() < 0.3
    data = data[: numbers.randrange(len(data))] if cut else mutated_bytes(data, numbers)
    path.write_bytes(data)
    return folder, True


def _read(source: Any) -> tuple[Any, list[str] | None]:
    """Return rows and words as a build gets them."""
    opened = open_source(source)
    caster = Caster(opened.dtype)
    rows = [np.empty((0, *opened.row_shape), opened.dtype)]
    words: list[str] | None = None
    for batch in opened.batches():
        rows.append(np.array(caster.cast(batch.rows)))
        if batch.words is not None:
            words = (words or []) + [word.decode() for word in batch.words.encoded()]
    return np.concatenate(rows), words


def _model(tables: list[pa.Table], plan: Plan) -> tuple[Any, list[str] | None] | None:
    """Return the rows and words that a table holds; None if it has to be refused."""
    dtypes = []
    parts = []
    words: list[str] = []
    for table in tables:
        if plan.is_wide:
            kinds = [table.schema.field(f"d{axis}").type for axis in range(plan.shape[0])]
            dtypes += [np.dtype(kind.to_pandas_dtype()) for kind in kinds]
            lists = [
                list(row)
                for row in zip(
                    *(table[f"d{i}"].to_pylist() for i in range(plan.shape[0])), strict=True
                )
            ]
        else:
            kind = table.schema.field(plan.column).type
            while not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                kind = kind.value_type
            dtypes.append(np.dtype(kind.to_pandas_dtype()))
            lists = table[plan.column].to_pylist()
        parts.append(np.array(lists, dtypes[-1]).reshape(-1, *plan.shape))
        if plan.word_column is not None:
            found = table[plan.word_column].to_pylist()
            words += [word.decode() if isinstance(word, bytes) else word for word in found]
    names = {dtype.name for dtype in dtypes}
    try:
        common = common_dtype(dtypes)
    except ValueError:
        return None
    if plan.is_wide and common.kind == "f" and {"int64", "uint64"} & names:
        # A wide table is refused if one of its integers is changed.
        for part in parts:
            if any(int(cast) != one for one, cast in _integers(part, common)):
                return None
    rows = np.concatenate([part.astype(common) for part in parts])
    return rows, (words if plan.word_column is not None else None)


def _integers(part: Any, common: np.dtype[Any]) -> Any:
    """Return the integers of a part, each with what the common dtype makes of it."""
    if part.dtype.kind == "f":
        return ()
    return zip(part.ravel().tolist(), part.astype(common).ravel().tolist(), strict=True)
