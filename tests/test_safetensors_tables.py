"""Tables of safetensors files: parts, scales, codes, compared with ml_dtypes and torch."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

import embstore
from embstore.encodings.opaque import Opaque
from embstore.encodings.plain import Plain
from embstore.encodings.scaled import Scaled
from embstore.errors import FormatError
from embstore.formats.safetensors.describe import describe, tables
from embstore.formats.safetensors.listed import listed_tables
from embstore.formats.safetensors.names import known_names, may_be_beside
from embstore.reading.files import ForeignFiles
from tests.helpers.tensors import Packed, rows_of, save, save_model, unpacked

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embstore.opener import ReaderName
    from embstore.table.tables import Table

ROWS, WIDTH = 48, 160
E4M3 = np.dtype(ml_dtypes.float8_e4m3fn)
E8M0 = np.dtype(ml_dtypes.float8_e8m0fnu)
BF16 = np.dtype(ml_dtypes.bfloat16)
F32 = np.dtype(np.float32)
FLOAT8 = [
    np.dtype(getattr(ml_dtypes, name))
    for name in (
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
        "float8_e8m0fnu",
    )
]


def codes_of(dtype: Any = E4M3, shape: tuple[int, ...] = (ROWS, WIDTH), seed: int = 0) -> Any:
    """Return every code, and then random ones."""
    data = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    data.reshape(-1)[: min(256, data.size)] = np.arange(min(256, data.size))
    return data.view(dtype)


def scales_of(shape: tuple[int, ...], dtype: Any = F32, seed: int = 1) -> Any:
    """Return powers of two and others, all of them exact in the dtype."""
    powers = np.random.default_rng(seed).integers(-8, 8, shape)
    numbers = 2.0**powers if dtype == E8M0 else 1.25 * 2.0**powers
    return np.asarray(numbers).astype(dtype)


def spread(scale: NDArray[Any], rows: int, width: int, block: tuple[int, int]) -> NDArray[Any]:
    """Return the scale of each number."""
    wide = np.repeat(np.repeat(scale.astype(np.float32), block[0], 0), block[1], 1)
    return wide[:rows, :width]


def table_in(path: Path, **options: Any) -> Table:
    root, name = (path, "") if path.is_dir() else (path.parent, path.name)
    return describe(ForeignFiles(root), name, **options)


def equal(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    return found.dtype == expected.dtype and np.array_equal(found, expected, equal_nan=True)


def opens(path: Path, expected: NDArray[Any], **options: Any) -> None:
    """Check that the store has these rows, however it is read."""
    readers: tuple[ReaderName, ...] = ("mapped", "chunked")
    ids = np.random.default_rng(3).integers(0, len(expected), (5, 20))
    for reader in readers:
        with embstore.open(path, reader=reader, **options) as store:
            assert equal(store.lookup(ids), expected[ids])
            assert equal(store[len(expected) - 1], expected[-1])
            assert equal(store[:], expected)


def refusal(path: Path, error: type[Exception] = FormatError, **options: Any) -> str:
    with pytest.raises(error) as found:
        table_in(path, **options)
    assert len(str(found.value)) < 4000
    return str(found.value)


@dataclass(frozen=True)
class Layout:
    """A scale's shape, and the block of rows and values that shares a number of it."""

    shape: tuple[int, ...]
    block: tuple[int, int]
    rows: int = ROWS
    width: int = WIDTH
    given: bool = False  # Whether only ``scale_block`` decides.


LAYOUTS = {
    "one number": Layout((), (ROWS, WIDTH)),
    "a number in a list": Layout((1,), (ROWS, WIDTH)),
    "a number in two": Layout((1, 1), (ROWS, WIDTH)),
    "rows": Layout((ROWS,), (1, WIDTH)),
    "rows in a column": Layout((ROWS, 1), (1, WIDTH)),
    "groups of 32": Layout((ROWS, 5), (1, 32)),
    "groups of 16": Layout((ROWS, 10), (1, 16)),
    "values": Layout((ROWS, WIDTH), (1, 1)),
    "blocks of 16 rows": Layout((3, 5), (16, 32)),
    "blocks of rows alone": Layout((3, 1), (16, WIDTH)),
    "blocks of rows in a list": Layout((6,), (8, WIDTH), width=5),
    "short blocks": Layout((25, 5), (4, 32), rows=97),
    "groups for all rows": Layout((1, 5), (ROWS, 32)),
    "columns in a row": Layout((1, WIDTH), (ROWS, 1)),
    "two of 80": Layout((ROWS, 2), (1, 80), given=True),
    "128 and 32": Layout((ROWS, 2), (1, 128), given=True),
    "blocks of 40 and 8 rows": Layout((2, 1), (40, WIDTH), given=True),
    "blocks of 24 rows": Layout((2, 1), (24, WIDTH), given=True),
    "square by rows": Layout((64,), (1, 64), 64, 64, given=True),
    "square by columns": Layout((64,), (64, 1), 64, 64, given=True),
    "columns": Layout((WIDTH,), (ROWS, 1), given=True),
    "rows, transposed": Layout((1, 32), (1, 64), 32, 64, given=True),
    "128 by 128": Layout((2, 3), (128, 128), 200, 300, given=True),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("dtype", [F32, np.dtype(np.float16), BF16, E8M0], ids=str)
def test_layouts_of_scales(tmp_path, name, dtype):
    layout = LAYOUTS[name]
    rows, width = layout.rows, layout.width
    codes = codes_of(shape=(rows, width))
    scale = scales_of(layout.shape, dtype)
    path = save(tmp_path / "t.safetensors", {"x.weight": codes, "x.weight_scale": scale}, 3)
    counts = -(-rows // layout.block[0]), -(-width // layout.block[1])
    expected = codes.astype(np.float32) * spread(scale.reshape(counts), rows, width, layout.block)
    if layout.given:
        says = refusal(path)
        assert "scale_block=" in says
    else:
        table = table_in(path)
        assert equal(rows_of(table, tmp_path), expected)
        assert table.source == (("tensor", "x.weight"), ("scale", "x.weight_scale"))
    block = table_in(path, scale_block=layout.block)
    assert equal(rows_of(block, tmp_path), expected)
    opens(path, expected, scale_block=layout.block, tensor="x.weight")
    assert isinstance(block.encoding, Scaled)


@pytest.mark.parametrize(
    ("shape", "rows", "width", "says"),
    [
        ((47,), ROWS, WIDTH, "it fits neither"),
        ((4,), ROWS, WIDTH, "rows 12 by values 160; or rows 48 by values 40"),
        ((49, 1), ROWS, WIDTH, "it fits neither"),
        ((ROWS, 161), ROWS, WIDTH, "it fits neither"),
        ((2, ROWS, 1, 2), ROWS, WIDTH, "it fits neither"),
        ((0,), ROWS, WIDTH, "it fits neither"),
        ((WIDTH,), ROWS, WIDTH, "rows 48 by values 1"),
        ((64,), 64, 64, "rows 1 by values 64; or rows 64 by values 1"),
        ((1, 64), 64, 64, "rows 64 by values 1; or rows 1 by values 64"),
        ((ROWS, 2), ROWS, WIDTH, r"rows 1 by values 80, 96, 112, 128, 144 .any from 80 to 159"),
        ((WIDTH, 1), 1000, WIDTH, "in doubt"),
        ((8, 128), 128, 256, "rows 16 by values 2; or rows 1 by values 32"),
    ],
)
def test_scales_in_doubt(tmp_path, shape, rows, width, says):
    tensors = {"x.weight": codes_of(shape=(rows, width)), "x.scale": scales_of(shape)}
    path = save(tmp_path / "t.safetensors", tensors)
    with pytest.raises(FormatError, match=says):
        table_in(path)


def test_transposed_scales_are_not_read(tmp_path):
    scale = scales_of((8, 128))
    codes = codes_of(shape=(128, 256))
    path = save(tmp_path / "t.safetensors", {"x.weight": codes, "x.scale": scale})
    assert "its shape would be [128, 8]" in refusal(path, scale_block=(1, 32))
    table = table_in(path, scale_block=(16, 2))
    assert equal(
        rows_of(table, tmp_path), codes.astype(np.float32) * spread(scale, 128, 256, (16, 2))
    )


def test_a_table_is_not_its_own_scale(tmp_path):
    tensors = {"x.weight": codes_of(shape=(8, 4)), "x.scale": scales_of(())}
    path = save(tmp_path / "t.safetensors", tensors)
    assert "is the table itself" in refusal(path, tensor="x.weight", scale="x.weight")
    assert "is the table itself" in refusal(path, tensor="x.weight", zero_point="x.weight")


def test_scale_block_that_does_not_fit(tmp_path):
    tensors = {"x.weight": codes_of(), "x.scale": scales_of((ROWS, 5))}
    path = save(tmp_path / "t.safetensors", tensors)
    assert "with scale_block=(1, 16), its shape would be [48, 10]" in refusal(
        path, scale_block=(1, 16)
    )
    tensors["x.scale"] = scales_of(())
    path = save(tmp_path / "t.safetensors", tensors)
    assert "its shape would be [3, 5]" in refusal(path, scale_block=(16, 32))


@pytest.mark.parametrize("dtype", FLOAT8, ids=str)
def test_float8_without_a_scale_is_plain(tmp_path, dtype):
    codes = codes_of(dtype)
    path = save(tmp_path / "t.safetensors", {"x.weight": codes, "x.weight_scale": scales_of(())})
    for options in ({"scale": None}, {"scale": None, "encoding": str(dtype)}):
        table = table_in(path, **options)
        assert table.encoding == Plain(dtype, (WIDTH,))
        assert rows_of(table, tmp_path).tobytes() == codes.tobytes()


@pytest.mark.parametrize("dtype", [*FLOAT8, np.dtype(np.int8)], ids=str)
def test_codes_of_8_bits(tmp_path, dtype):
    codes, scale = codes_of(dtype), scales_of((ROWS, 1), BF16)
    path = save(tmp_path / "t.safetensors", {"x.weight": codes, "x.weight_scale_inv": scale})
    table = table_in(path)
    assert table.encoding.name == str(dtype)
    with np.errstate(over="ignore"):
        expected = codes.astype(np.float32) * scale.astype(np.float32)
    assert equal(rows_of(table, tmp_path), expected)


@pytest.mark.parametrize("kind", ["float4_e2m1fn", "int4", "uint4"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32], ids=str)
def test_codes_of_4_bits_in_bytes(tmp_path, kind, dtype):
    codes = codes_of(np.uint8, (ROWS, 32))
    scale = scales_of((ROWS, 2), E8M0)
    tensors = {"x.weight": codes.view(dtype), "x.weight_scale": scale}
    path = save(tmp_path / "t.safetensors", tensors)
    table = table_in(path, encoding=kind)
    assert table.encoding.row_shape == (64,)
    assert table.encoding.name == f"{kind}:32"
    expected = unpacked(codes, kind) * np.repeat(scale.astype(np.float32), 32, 1)
    assert equal(rows_of(table, tmp_path), expected)
    bare = table_in(path, encoding=kind, scale=None)
    assert equal(rows_of(bare, tmp_path), unpacked(codes, kind))
    assert table.source[1:] == (("encoding", kind), ("scale", "x.weight_scale"))


def test_float4_of_the_format(tmp_path):
    codes = codes_of(np.uint8, (ROWS, 32))
    tensors = {
        "x.weight": Packed("F4", (ROWS, 64), codes.tobytes()),
        "x.weight_scale": scales_of((ROWS, 4), E4M3),
        "x.weight_scale_2": np.array(0.125, np.float32),
    }
    path = save(tmp_path / "t.safetensors", tensors)
    scale = np.repeat(tensors["x.weight_scale"].astype(np.float32), 16, 1)
    numbers = unpacked(codes, "float4_e2m1fn")
    assert equal(rows_of(table_in(path), tmp_path), numbers * (scale * np.float32(0.125)))
    assert equal(rows_of(table_in(path, scale="x.weight_scale"), tmp_path), numbers * scale)
    assert equal(rows_of(table_in(path, scale=None), tmp_path), numbers)
    tensors = {"x": Packed("F4", (2, 3), bytes(3))}
    assert "start inside a byte" in refusal(save(tmp_path / "t.safetensors", tensors))


def test_second_scale_that_is_not_one_number(tmp_path):
    tensors = {"x": codes_of(), "x_scale": scales_of((ROWS, 1)), "x_scale_2": scales_of((ROWS, 1))}
    path = save(tmp_path / "t.safetensors", tensors)
    assert "'x_scale_2' scales 'x_scale', but is not one number" in refusal(path)


def test_uint8_with_a_scale_needs_an_encoding(tmp_path):
    codes, scale = codes_of(np.uint8), scales_of((ROWS, 1))
    path = save(tmp_path / "t.safetensors", {"x.weight": codes, "x.scale": scale})
    says = refusal(path)
    for reading in ("uint8", "float4_e2m1fn", "int4", "uint4"):
        assert f'"{reading}"' in says
    table = table_in(path, encoding="uint8")
    assert equal(rows_of(table, tmp_path), codes.astype(np.float32) * scale)
    table = table_in(path, encoding="float8_e5m2")
    expected = codes.view(ml_dtypes.float8_e5m2).astype(np.float32) * scale
    assert equal(rows_of(table, tmp_path), expected)
    assert table_in(path, scale=None).encoding == Plain(np.dtype(np.uint8), (WIDTH,))
    table = table_in(path, encoding="opaque")
    assert table.encoding == Opaque("U8", WIDTH)
    assert len(table.columns) == 1


def test_int8_with_powers_of_two_needs_an_encoding(tmp_path):
    codes, scale = codes_of(np.int8), scales_of((ROWS, 10), E8M0)
    path = save(tmp_path / "t.safetensors", {"x.weight": codes, "x.scale": scale})
    says = refusal(path)
    for reading in ("int8", "float4_e2m1fn", "int4", "uint4"):
        assert f'"{reading}"' in says
    wide = spread(scale, ROWS, WIDTH, (1, 16))
    assert equal(
        rows_of(table_in(path, encoding="int8"), tmp_path), codes.astype(np.float32) * wide
    )
    numbers = unpacked(codes.view(np.uint8), np.dtype(ml_dtypes.float4_e2m1fn))
    wide = spread(scale, ROWS, 2 * WIDTH, (1, 32))
    assert equal(rows_of(table_in(path, encoding="float4_e2m1fn"), tmp_path), numbers * wide)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.float32, BF16], ids=str)
@pytest.mark.parametrize("shape", [(), (ROWS,), (ROWS, 1), (ROWS, 5)], ids=str)
def test_zero_points(tmp_path, dtype, shape):
    codes = codes_of(np.uint8)
    scale = scales_of(shape)
    zero = np.random.default_rng(5).integers(0, 100, shape).astype(dtype)
    tensors = {"x.weight": codes, "x.weight_scale": scale, "x.weight_zero_point": zero}
    path = save(tmp_path / "t.safetensors", tensors)
    table = table_in(path, encoding="uint8", zero_point="x.weight_zero_point")
    groups = shape[1] if len(shape) > 1 else 1
    rows = shape[0] if shape else 1
    wide = [
        np.repeat(some.astype(np.float32).reshape(rows, groups), WIDTH // groups, 1)
        for some in (zero, scale)
    ]
    expected = (codes.astype(np.float32) - wide[0]) * wide[1]
    assert equal(rows_of(table, tmp_path), expected)
    opens(path, expected, encoding="uint8", zero_point="x.weight_zero_point")
    assert table.source[-1] == ("zero_point", "x.weight_zero_point")
    # Without it, nothing is guessed; the name of the scale says that it is left out.
    assert "lies x.weight_zero_point, which may be needed" in refusal(path, encoding="uint8")
    bare = table_in(path, encoding="uint8", scale="x.weight_scale")
    assert equal(rows_of(bare, tmp_path), codes.astype(np.float32) * wide[1])


@pytest.mark.parametrize("name", ["x.weight.absmax", "x.qzeros", "x.biases", "x.weight_zero_point"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.int8], ids=str)
def test_what_else_may_be_needed_is_not_left_out(tmp_path, name, dtype):
    codes = codes_of(np.uint8).view(dtype)
    path = save(tmp_path / "t.safetensors", {"x.weight": codes, name: scales_of((ROWS, 2))})
    assert f"beside 'x.weight' lies {name}, which may be needed" in refusal(path)
    assert table_in(path, scale=None).encoding == Plain(np.dtype(dtype), codes.shape[1:])


def test_one_zero_point_beside_groups_of_scales(tmp_path):
    codes, scale = codes_of(np.int8), scales_of((ROWS, 5))
    tensors = {"x": codes, "s": scale, "z": np.array([3], np.int8)}
    table = table_in(
        save(tmp_path / "t.safetensors", tensors), tensor="x", scale="s", zero_point="z"
    )
    expected = (codes.astype(np.float32) - 3) * np.repeat(scale, 32, 1)
    assert equal(rows_of(table, tmp_path), expected)


def test_packed_zero_points_are_refused(tmp_path):
    tensors = {
        "x.weight": codes_of(np.uint8, (ROWS, 64)),
        "x.scale": scales_of((ROWS, 8)),
        "x.zeros": np.zeros((ROWS, 4), np.uint8),
    }
    path = save(tmp_path / "t.safetensors", tensors)
    says = refusal(path, encoding="uint4", zero_point="x.zeros")
    assert "its shape would be [48, 8]" in says


def test_rows_of_several_axes(tmp_path):
    codes = codes_of(shape=(ROWS, 4, 32))
    shapes: tuple[tuple[tuple[int, ...], tuple[int, int, int]], ...] = (
        ((), (1, 1, 1)),
        ((ROWS,), (ROWS, 1, 1)),
        ((ROWS, 1, 1), (ROWS, 1, 1)),
        ((ROWS, 4, 1), (ROWS, 4, 1)),
        ((ROWS, 4, 2), (ROWS, 4, 2)),
    )
    shape: tuple[int, ...]
    for shape, wide in shapes:
        scale = scales_of(shape)
        path = save(tmp_path / "t.safetensors", {"x.weight": codes, "x.scale": scale})
        expanded = scale.reshape(wide)
        expanded = np.repeat(expanded, 32 // wide[2], 2)
        assert equal(rows_of(table_in(path), tmp_path), codes.astype(np.float32) * expanded)
    for shape in ((ROWS, 2, 2), (ROWS, 4, 3), (ROWS, 4)):
        tensors = {"x.weight": codes, "x.scale": scales_of(shape)}
        assert "expected one scale" in refusal(save(tmp_path / "t.safetensors", tensors))


def test_scalars_with_a_scale(tmp_path):
    codes, scale = codes_of(shape=(ROWS,)), scales_of((ROWS,))
    path = save(tmp_path / "t.safetensors", {"x.weight": codes, "x.scale": scale})
    table = table_in(path, tensor="x.weight")
    assert equal(rows_of(table, tmp_path), codes.astype(np.float32) * scale)


# Plain floats are numbers already: a scale of a known name beside them is another's.


@pytest.mark.parametrize("dtype", [F32, BF16, np.dtype(np.float16), np.dtype(np.float64)], ids=str)
def test_scale_beside_plain_floats(tmp_path, dtype):
    numbers = scales_of((ROWS, 8), dtype)
    path = save(tmp_path / "t.safetensors", {"x.weight": numbers, "x.scale": scales_of((8,))})
    table = table_in(path)
    assert table.encoding == Plain(dtype, (8,))
    assert rows_of(table, tmp_path).tobytes() == numbers.tobytes()
    assert 'and not codes, so leave out scale="x.scale"' in refusal(path, scale="x.scale")
    assert 'leave out zero_point="x.scale"' in refusal(path, zero_point="x.scale")
    assert "leave out scale_block=(1, 2)" in refusal(path, scale_block=(1, 2))
    assert 'leave out encoding="int4"' in refusal(path, encoding="int4")


def test_two_scales_are_refused(tmp_path):
    tensors = {"x.weight": codes_of(), "x.scale": scales_of(()), "x.weight_scale": scales_of(())}
    path = save(tmp_path / "t.safetensors", tensors)
    assert "one of several scales: x.weight_scale, x.scale" in refusal(path)
    for name in ("x.scale", "x.weight_scale"):
        table = table_in(path, scale=name)
        assert dict(table.source)["scale"] == name


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_, np.complex64], ids=str)
def test_scales_of_other_dtypes_are_refused(tmp_path, dtype):
    tensors = {"x.weight": codes_of(), "x.scale": np.ones((ROWS, 1), dtype)}
    path = save(tmp_path / "t.safetensors", tensors)
    assert "expected F32, F16, BF16, F8_E8M0, F8_E4M3" in refusal(path)


@pytest.mark.parametrize("number", [1e39, -1e300])
@pytest.mark.parametrize("option", ["scale", "zero_point"])
def test_numbers_of_the_whole_table_fit_into_float32(tmp_path, option, number):
    tensors = {"x.weight": codes_of(np.int8), "x.s": np.ones(1), "x.z": np.zeros(1)}
    tensors["x.s" if option == "scale" else "x.z"][:] = number
    path = save(tmp_path / "t.safetensors", tensors)
    says = refusal(path, tensor="x.weight", scale="x.s", zero_point="x.z")
    assert f"is {number}; no float32 is as large" in says


def test_one_number_of_float64(tmp_path):
    tensors = {"x.weight": codes_of(), "x.scale": np.array(0.1)}
    table = table_in(save(tmp_path / "t.safetensors", tensors))
    assert isinstance(table.encoding, Scaled)
    assert table.encoding.factor == 0.1
    assert table.files == ("t.safetensors",)
    save(tmp_path / "t.safetensors", tensors | {"x.scale": np.array(-1e39)})
    assert "'x.weight': the factor of the table is -1e+39" in refusal(tmp_path / "t.safetensors")


def test_opaque_rows(tmp_path):
    data = np.random.default_rng(0).bytes(ROWS * 6)
    for dtype, shape in (("F6_E2M3", (ROWS, 8)), ("BOOL", (ROWS, 6)), ("C64", (6, 6))):
        path = save(tmp_path / "t.safetensors", {"x": Packed(dtype, shape, data)})
        table = table_in(path)
        assert table.encoding == Opaque(dtype, len(data) // shape[0])
        assert rows_of(table, tmp_path).tobytes() == data
    path = save(tmp_path / "t.safetensors", {"x": Packed("X9", (ROWS, 3), data)})
    assert "has dtype X9; expected one of" in refusal(path)
    table = table_in(path, encoding="opaque")
    assert table.encoding == Opaque("X9", 6)
    assert 'leave out scale="x"' in refusal(path, encoding="opaque", scale="x")
    path = save(tmp_path / "t.safetensors", {"x": Packed("X9", (7, 3), data)})
    assert "the size of a row is unknown" in refusal(path, encoding="opaque")


# Parts: tensors whose names differ in a number.

NGRAM = "model.layers.1.ngram_embedding"


@dataclass(frozen=True)
class Shards:
    """A model of several parts in several files."""

    numbers: list[int]
    rows: list[int]
    files: int = 2
    name: str = f"{NGRAM}.shard_{{}}.weight"
    extra: dict[str, Any] = field(default_factory=dict)

    def tensors(self, dtype: Any = E4M3, width: int = WIDTH) -> dict[str, Any]:
        return {
            self.name.replace("{}", str(number)): codes_of(dtype, (rows, width), number)
            for number, rows in zip(self.numbers, self.rows, strict=True)
        }

    def save(self, folder: Path, index: str | None, **beside: Any) -> NDArray[Any]:
        """Write the files, and return the codes of all rows."""
        tensors = self.tensors()
        files: dict[str, dict[str, Any]] = {}
        # Out of order: files hold tensors in any.
        for place, name in enumerate(sorted(tensors)):
            files.setdefault(f"part{place % self.files}.safetensors", {})[name] = tensors[name]
        files["part0.safetensors"] = {"a": np.zeros(3, F32)} | files["part0.safetensors"] | beside
        save_model(folder, files, index)
        return np.concatenate(list(tensors.values()))


INDEXES = ["model.safetensors.index.json", "weights.index.json", None]


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("count", [1, 2, 12])
def test_parts_in_the_order_of_their_numbers(tmp_path, index, first, count):
    shards = Shards([*range(first, first + count)], [7 + number for number in range(count)])
    scale = np.array(0.5, BF16)
    codes = shards.save(tmp_path, index, **{f"{NGRAM}.weight_scale": scale})
    path = tmp_path if index is None else tmp_path / index
    for where in {path, tmp_path}:
        table = table_in(where, tensor=shards.name)
        assert isinstance(table.encoding, Scaled)
        assert table.encoding.factor == 0.5
        assert table.source == (
            ("tensor", shards.name),
            ("scale", f"{NGRAM}.weight_scale"),
        )
        assert equal(rows_of(table, tmp_path), codes.astype(np.float32) * np.float32(0.5))
        same = table_in(where, tensor=shards.name, scale=f"{NGRAM}.weight_scale")
        assert same == table
        plain = table_in(where, tensor=shards.name, scale=None)
        assert rows_of(plain, tmp_path).tobytes() == codes.tobytes()
        if count > 1:
            assert table_in(where) == table  # It is called one of parts.


def test_neighbours_in_a_file_are_one_extent(tmp_path):
    shards = Shards([0, 1, 2, 3], [5, 6, 0, 7], files=1)
    codes = shards.save(tmp_path, None)
    table = table_in(tmp_path, tensor=shards.name)
    assert [extent.rows for extent in table.columns[0].extents] == [18]
    assert rows_of(table, tmp_path).tobytes() == codes.tobytes()


def test_parts_without_rows(tmp_path):
    shards = Shards([0, 1, 2], [0, 6, 0])
    codes = shards.save(tmp_path, None)
    assert equal(rows_of(table_in(tmp_path, tensor=shards.name), tmp_path), codes)
    (tmp_path / "b").mkdir()
    Shards([0, 1], [0, 0]).save(tmp_path / "b", None)
    assert table_in(tmp_path / "b", tensor=shards.name).numbering.rows == 0


SCALED_PARTS: dict[str, tuple[list[int], list[tuple[int, ...]], tuple[int, int] | None]] = {
    "one for all": ([8, 8, 8], [()], None),
    "a number each": ([8, 8, 5], [(), (), ()], (8, WIDTH)),
    "a number in a list each": ([8, 8, 8], [(1,), (1,), (1,)], (8, WIDTH)),
    "rows": ([8, 9, 5], [(8,), (9,), (5,)], (1, WIDTH)),
    "rows in a column": ([8, 9, 5], [(8, 1), (9, 1), (5, 1)], (1, WIDTH)),
    "groups": ([8, 9, 5], [(8, 5), (9, 5), (5, 5)], (1, 32)),
    "blocks of rows": ([8, 16, 6], [(2, 5), (4, 5), (2, 5)], (4, 32)),
    "groups of a part": ([8, 8, 5], [(1, 5), (1, 5), (1, 5)], (8, 32)),
}


@pytest.mark.parametrize("name", SCALED_PARTS)
@pytest.mark.parametrize("named", [False, True])
def test_scales_of_parts(tmp_path, name, named):
    counts, shapes, block = SCALED_PARTS[name]
    shards = Shards([0, 1, 2], counts, files=3)
    single = len(shapes) == 1
    pattern = f"{NGRAM}.weight_scale" if single else f"{NGRAM}.shard_{{}}.weight_scale"
    scales = {
        pattern.replace("{}", str(number)): scales_of(shape, seed=number + 7)
        for number, shape in enumerate(shapes)
    }
    codes = shards.save(tmp_path, "model.safetensors.index.json", **scales)
    options = {"scale": pattern} if named else {}
    table = table_in(tmp_path, tensor=shards.name, **options)
    if block is None:
        wide: Any = next(iter(scales.values()))
    else:
        wide = np.concatenate(
            [
                spread(
                    scale.reshape(-(-count // block[0]), -(-WIDTH // block[1])),
                    *(count, WIDTH, block),
                )
                for count, scale in zip(counts, scales.values(), strict=True)
            ]
        )
    assert equal(rows_of(table, tmp_path), codes.astype(np.float32) * wide)
    assert dict(table.source)["scale"] == pattern
    opens(tmp_path, codes.astype(np.float32) * wide, tensor=shards.name, **options)


def test_equal_numbers_of_parts_are_one(tmp_path):
    shards = Shards([0, 1, 2], [8, 3, 9])  # A record each would need parts of one size.
    scales = {f"{NGRAM}.shard_{number}.weight_scale": np.array([3], F32) for number in range(3)}
    codes = shards.save(tmp_path, None, **scales)
    table = table_in(tmp_path, tensor=shards.name)
    assert len(table.columns) == 1
    assert equal(rows_of(table, tmp_path), codes.astype(np.float32) * np.float32(3))


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ([(), (), ()], "different numbers of rows: 8, 3, 9"),
        ([(8, 1), (3, 1)], "missing: .*shard_2.weight_scale"),
        ([(8, 1), (3, 1), (8, 1)], "it fits neither"),
        ([(8, 5), (3, 5), (9, 1)], "differ, so they are not one table"),
        ([(2, 5), (1, 5), (3, 5)], "do not fill this part"),
    ],
)
def test_scales_of_parts_that_do_not_fit(tmp_path, shapes, says):
    shards = Shards([0, 1, 2], [8, 3, 9])
    scales = {
        f"{NGRAM}.shard_{number}.weight_scale": scales_of(shape, seed=number + 2)
        for number, shape in enumerate(shapes)
    }
    shards.save(tmp_path, None, **scales)
    with pytest.raises(FormatError, match=says):
        table_in(tmp_path, tensor=shards.name, scale_block=(4, 32) if "fill" in says else None)


@pytest.mark.parametrize("shape", [(1, 5), (1, 1), (3,)])
def test_scales_of_a_part_without_rows(tmp_path, shape):
    shards = Shards([0, 1, 2], [8, 0, 9])
    shapes = [(8, *shape[1:]), shape, (9, *shape[1:])]
    scales = {
        f"{NGRAM}.shard_{number}.weight_scale": scales_of(one, seed=number + 2)
        for number, one in enumerate(shapes)
    }
    shards.save(tmp_path, None, **scales)
    assert "has no rows; expected a tensor without numbers" in refusal(tmp_path, tensor=shards.name)


@pytest.mark.parametrize("rows", [[5, 3, 4], [4, 0, 8], [4, 4, 5], [3, 4, 4]])
@pytest.mark.parametrize("tail", [(), (1,), (5,)])
def test_as_many_scales_as_parts(tmp_path, rows, tail):
    shards = Shards([0, 1, 2], rows)
    scale = scales_of((3, *tail))
    codes = shards.save(tmp_path, None, **{f"{NGRAM}.scale": scale})
    block = (-(-sum(rows) // 3), 32 if tail == (5,) else WIDTH)
    message = refusal(tmp_path, tensor=shards.name)
    assert "in doubt" in message
    table = table_in(tmp_path, tensor=shards.name, scale_block=block)
    wide = spread(scale.reshape(3, -1), sum(rows), WIDTH, block)
    assert equal(rows_of(table, tmp_path), codes.astype(np.float32) * wide)
    if tail:
        codes = Shards([0, 1, 2], [4, 4, 4]).save(tmp_path, None, **{f"{NGRAM}.scale": scale})
        wide = spread(scale.reshape(3, -1), 12, WIDTH, (4, block[1]))
        table = table_in(tmp_path, tensor=shards.name)
        assert equal(rows_of(table, tmp_path), codes.astype(np.float32) * wide)


def test_scale_of_all_rows_for_parts(tmp_path):
    shards = Shards([0, 1, 2], [8, 3, 9])
    for shape, block in (((20, 1), (1, WIDTH)), ((20, 5), (1, 32)), ((5, 5), (4, 32))):
        scale = scales_of(shape)
        codes = shards.save(tmp_path, None, **{f"{NGRAM}.scale": scale})
        table = table_in(tmp_path, tensor=shards.name)
        assert equal(
            rows_of(table, tmp_path), codes.astype(np.float32) * spread(scale, 20, WIDTH, block)
        )


def test_one_part_alone_takes_the_number_of_all(tmp_path):
    shards = Shards([0, 1], [4, 4])
    codes = shards.save(tmp_path, None, **{f"{NGRAM}.weight_scale": np.array(0.5, F32)})
    table = table_in(tmp_path, tensor=f"{NGRAM}.shard_1.weight")
    assert equal(rows_of(table, tmp_path), codes[4:].astype(np.float32) / 2)
    shards.save(tmp_path, None, **{f"{NGRAM}.weight_scale": scales_of((8, 1))})
    assert "it fits neither" in refusal(tmp_path, tensor=f"{NGRAM}.shard_1.weight")
    assert "has {}, but the tensor" in refusal(
        tmp_path, tensor=f"{NGRAM}.shard_1.weight", scale="x.{}"
    )


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ([0, 2], r"2 parts of .* up to number 2, but not model.layers.1.*shard_1.weight;"),
        ([2, 3], "shard_1.weight"),
        ([5], r"shard_1.weight, .*shard_4.weight; is the download complete"),
        ([0, 10**15], "shard_10.weight and 999999999999989 more"),
    ],
)
def test_missing_parts(tmp_path, numbers, says):
    shards = Shards(numbers, [3] * len(numbers))
    shards.save(tmp_path, None)
    with pytest.raises(FormatError, match=says):
        table_in(tmp_path, tensor=shards.name)


def test_parts_with_leading_zeros(tmp_path):
    tensors = {f"s.{number:05}.w": codes_of(shape=(3, 4), seed=number) for number in range(12)}
    path = save(tmp_path / "t.safetensors", tensors)
    table = table_in(path, tensor="s.{}.w")
    assert rows_of(table, tmp_path).tobytes() == b"".join(map(np.ndarray.tobytes, tensors.values()))
    save(path, tensors | {"s.1.w": codes_of(shape=(3, 4))})
    assert "has part 1 of 's.{}.w' twice: 's.00001.w' and 's.1.w'" in refusal(path, tensor="s.{}.w")


def test_parts_that_differ(tmp_path):
    tensors = {"s.0": codes_of(shape=(3, 4)), "s.1": codes_of(shape=(3, 5))}
    path = save(tmp_path / "t.safetensors", tensors)
    says = refusal(path, tensor="s.{}")
    assert "F8_E4M3 ['rows', 4]: s.0; F8_E4M3 ['rows', 5]: s.1" in says
    tensors["s.1"] = codes_of(np.int8, (3, 4))
    assert "F8_E4M3 ['rows', 4]: s.0; I8 ['rows', 4]: s.1" in refusal(
        save(path, tensors), tensor="s.{}"
    )
    tensors["s.1"] = codes_of(shape=(3, 4))
    tensors["s.2"] = np.array(1, np.int8)
    assert "I8 []: s.2" in refusal(save(path, tensors), tensor="s.{}")


@pytest.mark.parametrize(
    "name", ["a.*.w", "a[0].w", "a.{0}.w", "a.{}{", "}{", "a+(b)|c", "a b/c\\d", "ü", "a.{x}.w"]
)
def test_names_are_whole_names(tmp_path, name):
    others = {"a.1.w": codes_of(seed=1), "a0.w": codes_of(seed=2), "axw": codes_of(seed=3)}
    codes = codes_of(seed=4)
    path = save(tmp_path / "t.safetensors", others | {name: codes})
    assert rows_of(table_in(path, tensor=name), tmp_path).tobytes() == codes.tobytes()
    save(path, others)
    assert f"has no tensor {name!r}" in refusal(path, tensor=name)


def test_a_name_with_braces_of_its_own(tmp_path):
    codes = codes_of()
    path = save(tmp_path / "t.safetensors", {"x.{}": codes, "y": codes_of(seed=2)})
    assert rows_of(table_in(path, tensor="x.{}"), tmp_path).tobytes() == codes.tobytes()
    save(path, {"x.{}": codes, "x.0": codes})
    assert "others whose names fit it as a pattern: x.0" in refusal(path, tensor="x.{}")
    assert "'a.{}.b.{}' has 2 {}" in refusal(path, tensor="a.{}.b.{}")


def test_a_tensor_in_two_files(tmp_path):
    files: dict[str, dict[str, Any]] = {
        "a.safetensors": {"s.0": codes_of(), "s.1": codes_of()},
        "b.safetensors": {"s.1": codes_of(), "s.2": codes_of()},
    }
    save_model(tmp_path, files)
    for name in ("s.1", "s.{}"):
        says = refusal(tmp_path, tensor=name)
        assert "expected the tensor 's.1' in one file, found a.safetensors, b.safetensors" in says
    table_in(tmp_path, tensor="s.0")
    table_in(tmp_path / "a.safetensors", tensor="s.{}")


def test_a_file_of_several_is_not_all_parts(tmp_path):
    for number in (1, 2):
        name = f"m-0000{number}-of-00002.safetensors"
        save_model(tmp_path, {name: {f"s.{number - 1}": codes_of(seed=number)}})
    table = table_in(tmp_path, tensor="s.{}")
    assert table.numbering.rows == 2 * ROWS
    path = tmp_path / "m-00001-of-00002.safetensors"
    assert "is one of 2 files" in refusal(path, tensor="s.{}")
    assert table_in(path, tensor="s.0").numbering.rows == ROWS


# The two public layouts, small.


@pytest.mark.parametrize("row_scale", [False, True])
def test_ngram_tables_of_qwen(tmp_path, row_scale):
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("safetensors.torch")
    prefix = "model.language_model.layers.1.ngram_embedding"
    parts = {
        f"{prefix}.shard_{number}.weight": torch.randn(25, 160).to(torch.float8_e4m3fn)
        for number in range(16)
    }
    scale = torch.rand(400, 1).to(torch.bfloat16) if row_scale else torch.tensor(0.0137)
    scale = scale.to(torch.bfloat16)
    names = sorted(parts)
    weights: dict[str, str] = {}
    for number in range(3):
        file = f"model-{number + 1:05}-of-00003.safetensors"
        some = {name: parts[name] for name in names[number::3]}
        if number == 2:
            some[f"{prefix}.weight_scale"] = scale
            some["model.norm.weight"] = torch.ones(160, dtype=torch.bfloat16)
        library.save_file(some, tmp_path / file)
        weights |= dict.fromkeys(some, file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    main = tmp_path / "model.safetensors.index.json"
    expected = torch.cat(list(parts.values())).float() * scale.float()
    for options in ({}, {"scale": f"{prefix}.weight_scale"}):
        table = table_in(main, tensor=f"{prefix}.shard_{{}}.weight", **options)
        assert equal(rows_of(table, tmp_path), expected.numpy())
    assert table_in(main).source[0] == ("tensor", f"{prefix}.shard_{{}}.weight")


@pytest.mark.parametrize("packed", [False, True])
def test_engram_tables_of_deepseek(tmp_path, packed):
    names = [f"layers.{layer}.engram.embed" for layer in (1, 14)]
    expected = {}
    for place, name in enumerate(names):
        codes = codes_of(np.uint8 if packed else E4M3, (300, 128 if packed else 256), place)
        scale = scales_of((300, 8), E8M0, place)
        tensors = {f"{name}.weight": codes, f"{name}.scale": scale}
        save_model(tmp_path, {f"engram{place}.safetensors": tensors})
        numbers = unpacked(codes, "float4_e2m1fn") if packed else codes.astype(np.float32)
        expected[name] = numbers * np.repeat(scale.astype(np.float32), 32, 1)
    options = {"encoding": "float4_e2m1fn"} if packed else {}
    for name in names:
        table = table_in(tmp_path, tensor=f"{name}.weight", **options)
        assert equal(rows_of(table, tmp_path), expected[name])
        assert table.columns[1].record_bytes == 8
        if packed:
            assert '"float4_e2m1fn"' in refusal(tmp_path, tensor=f"{name}.weight")
    assert "layers.1.engram.embed.weight, layers.14.engram.embed.weight" in refusal(tmp_path)


# What a directory holds.


def listed(path: Path) -> dict[str, tuple[Any, ...]]:
    root, name = (path, "") if path.is_dir() else (path.parent, path.name)
    return {
        one.name: (one.shape, one.dtype, one.part_count, one.byte_count, one.scale)
        for one in tables(ForeignFiles(root), name)
    }


def test_tables_are_listed(tmp_path):
    shards = Shards([*range(12)], [5] * 12)
    others = {
        f"{NGRAM}.weight_scale": np.array(0.5, F32),
        "embed.weight": np.zeros((10, 4), BF16),
        "norm.weight": np.zeros(4, BF16),
        "mask": np.zeros((4, 4), np.bool_),
        "q.weight": codes_of(np.uint8, (6, 8)),
        "q.weight_scale": scales_of((6, 2)),
        "two.weight": codes_of(np.int8, (6, 8)),
        "two.scale": scales_of((6, 2)),
        "two.weight_scale": scales_of((6, 2)),
    }
    shards.save(tmp_path, "model.safetensors.index.json", **others)
    expected = {
        shards.name: ((60, WIDTH), "float8_e4m3fn", 12, 9600, f"{NGRAM}.weight_scale"),
        "embed.weight": ((10, 4), "bfloat16", 1, 80, None),
        "q.weight": ((6, 8), "uint8", 1, 48, "q.weight_scale"),
        "two.weight": ((6, 8), "int8", 1, 48, None),
    }
    assert listed(tmp_path / "model.safetensors.index.json") == expected
    says = refusal(tmp_path / "model.safetensors.index.json")
    assert "has 4 tensors: " in says
    assert f"{shards.name} ({NGRAM}.shard_0.weight to {NGRAM}.shard_11.weight)" in says
    for name in expected:
        assert name in says
    # Files that are missing are not listed; then the only table may not be the only one.
    (tmp_path / "part1.safetensors").unlink()
    assert "lists files that are missing: part1.safetensors" in refusal(
        tmp_path / "model.safetensors.index.json"
    )
    assert "embed.weight" in listed(tmp_path / "model.safetensors.index.json")


@pytest.mark.parametrize("name", ["x.weight", "x", "a.shard_{}.weight", "x.weight_blocks"])
def test_names_of_scales_are_known_by_their_ends(name):
    known = known_names(name)
    seconds = [f"{scale}_2" for scale in known.scales]
    assert all(map(may_be_beside, (*known.scales, *known.others, *seconds)))


def test_names_of_scales_are_not_made_in_vain(tmp_path, monkeypatch):
    save(tmp_path / "t.safetensors", {f"x{i}.{i + 3}": codes_of(shape=(2, 2)) for i in range(5)})
    monkeypatch.setattr(sys.modules[listed_tables.__module__], "known_names", None)
    assert len(embstore.tables(tmp_path)) == 5


def test_the_only_table_is_opened(tmp_path):
    tensors = {"embed.weight": codes_of(), "embed.weight_scale": scales_of((ROWS, 1))}
    tensors |= {"norm.weight": np.zeros(WIDTH, BF16), "step": np.array(3)}
    path = save(tmp_path / "t.safetensors", tensors)
    assert table_in(path).source[0] == ("tensor", "embed.weight")
    # A number for each row may be a field of the table.
    save(path, tensors | {"my_scales": scales_of((ROWS,))})
    assert "has 2 tensors: embed.weight, my_scales; name the one" in refusal(path)
    # Layers are not parts.
    save(path, {f"layers.{number}.w": codes_of() for number in range(3)})
    says = refusal(path)
    assert "parts of one table, or several tables: layers.{}.w (layers.0.w to layers.2.w)" in says
    assert table_in(path, tensor="layers.{}.w").numbering.rows == 3 * ROWS


def test_wrong_names_say_the_nearest(tmp_path):
    tensors = {f"layers.{n}.mlp.up_proj.weight": np.zeros((2, n + 1), F32) for n in range(300)}
    tensors["model.embed_tokens.weight"] = np.zeros((4, 4), F32)
    path = save(tmp_path / "t.safetensors", tensors)
    says = refusal(path, tensor="model.embed_token.weight")
    assert "The nearest names: model.embed_tokens.weight" in says
    assert "layers.7.mlp.up_proj.weight" in refusal(path, tensor="layers.7.mlp.up_prj.weight")
    assert "layers.{}.mlp.up_proj.weight" in refusal(path, tensor="layers.{}.mlp.up_prj.weight")
    tensors = {"x.weight": codes_of(), "x.my_scale": scales_of(())}
    says = refusal(save(path, tensors), tensor="x.weight", scale="x.my_scal")
    assert "has no tensor 'x.my_scal'; it has: x.weight, x.my_scale" in says
