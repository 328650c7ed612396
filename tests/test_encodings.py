"""Codes as numbers, and the decoding of scaled rows, against ml_dtypes, torch and plain NumPy."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embstore.dtypes import as_dtype
from embstore.encodings.codes import CODES, numbers
from embstore.encodings.decoder import PIECE_VALUES
from embstore.encodings.groups import SCALE_DTYPES, ZERO_DTYPES, Groups
from embstore.encodings.scaled import Scaled

DTYPES = ["float32", "bfloat16", "float16", "float64"]
FLOAT_CODES = [name for name in CODES if "float" in name]
BYTES = [name for name, codes in CODES.items() if codes.bits == 8]
# As bits, so that no nan loses its payload on the way.
SPECIAL_SCALES = np.array(
    [
        *(0x00000000, 0x80000000, 0x00000001, 0x00400000, 0x3F800000, 0xBF800000, 0x7F7FFFFF),
        *(0x7F800000, 0xFF800000, 0x7FC00000, 0xFFFFFFFF, 0x7FFFFFFF, 0x7F800001, 0x3E124925),
    ],
    np.uint32,
).view(np.float32)


def by_ml_dtypes(name, codes):
    """Return the float32 of unpacked codes."""
    if name in {"int8", "uint8"}:
        return codes.view(name).astype(np.float32)
    return codes.view(getattr(pytest.importorskip("ml_dtypes"), name)).astype(np.float32)


def packed(name, codes):
    """Return rows of codes as bytes."""
    if CODES[name].bits == 8:
        return codes
    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
    return codes[:, ::2] | codes[:, 1::2] << 4


def decoded(encoding, records, dtype="float32"):
    out = np.empty((len(records[0]), *encoding.row_shape), as_dtype(dtype))
    encoding.decode(records, out)
    return out


def cast(rows, dtype):
    with np.errstate(all="ignore"):
        return rows.astype(as_dtype(dtype))


def assert_same(found, wanted):
    """Check that numbers are equal, nan and the signs of zeros included."""
    assert found.dtype == wanted.dtype
    found, wanted = cast(found, "float64"), cast(wanted, "float64")
    np.testing.assert_array_equal(found, wanted)
    nan = np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(found)[~nan], np.signbit(wanted)[~nan])


@pytest.mark.parametrize("name", CODES)
def test_codes_stand_for_the_numbers_of_ml_dtypes(name):
    every = np.arange(1 << CODES[name].bits, dtype=np.uint8)
    np.testing.assert_array_equal(
        numbers(name).view(np.uint32), by_ml_dtypes(name, every).view(np.uint32)
    )


@pytest.mark.parametrize("name", BYTES)
def test_codes_stand_for_the_numbers_of_torch(name):
    torch = pytest.importorskip("torch")
    every = torch.from_numpy(np.arange(256, dtype=np.uint8)).view(getattr(torch, name))
    assert_same(numbers(name), every.to(torch.float32).numpy())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
def test_every_code_decodes_to_its_number(name, dtype):
    # All pairs of codes, so that each one is the first and the second.
    count = 1 << CODES[name].bits
    codes = np.stack(np.meshgrid(np.arange(count), np.arange(count)), -1).astype(np.uint8)
    encoding = Scaled(name, (count, 2))
    records = packed(name, codes.reshape(count, -1))
    wanted = cast(by_ml_dtypes(name, codes.reshape(-1)), dtype).reshape(codes.shape)
    assert_same(decoded(encoding, (records,), dtype), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("factor", SPECIAL_SCALES.tolist())
def test_every_code_is_multiplied_by_the_scale_of_the_table(name, dtype, factor):
    every = np.arange(1 << CODES[name].bits, dtype=np.uint8)[None]
    encoding = Scaled(name, (every.size,), factor=factor)
    with np.errstate(all="ignore"):
        wanted = by_ml_dtypes(name, every) * np.float32(factor)
    assert_same(decoded(encoding, (packed(name, every),), dtype), cast(wanted, dtype))


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
def test_every_code_is_multiplied_by_the_scale_of_its_row(name, dtype, joined):
    count = 1 << CODES[name].bits
    codes = np.tile(np.arange(count, dtype=np.uint8), (len(SPECIAL_SCALES), 1))
    encoding = Scaled(name, (count,), scales=Groups("float32", 1, count), joined=joined)
    records = packed(name, codes), SPECIAL_SCALES.view(np.uint8).reshape(-1, 4)
    with np.errstate(all="ignore"):
        wanted = by_ml_dtypes(name, codes) * SPECIAL_SCALES[:, None]
    found = decoded(encoding, (np.hstack(records),) if joined else records, dtype)
    assert_same(found, cast(wanted, dtype))


@pytest.mark.parametrize("name", [name for name in BYTES if name != "float8_e8m0fnu"])
def test_scaled_rows_are_those_of_torch(name):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 256, (500, 160), dtype=np.uint8)
    scales = rng.random((500, 1), np.float32)
    encoding = Scaled(name, (160,), scales=Groups("float32", 1, 160))
    records = codes, scales.view(np.uint8)
    exact = torch.from_numpy(codes).view(getattr(torch, name)).to(torch.float32)
    exact *= torch.from_numpy(scales)
    assert_same(decoded(encoding, records), exact.numpy())
    for dtype in ("float16", "bfloat16"):
        wanted = exact.to(getattr(torch, dtype)).to(torch.float32).numpy()
        assert_same(decoded(encoding, records, dtype).astype(np.float32), wanted)


@pytest.mark.parametrize("dtype", SCALE_DTYPES)
def test_every_scale_of_up_to_16_bits_is_read(dtype):
    size = SCALE_DTYPES[dtype]
    every = np.arange(1 << min(8 * size, 16), dtype=f"u{min(size, 2)}")
    if dtype == "float32":
        scales = (every.astype(np.uint32) << 16 | every).view(np.float32)
    elif dtype in CODES:
        scales = by_ml_dtypes(dtype, every)
    else:
        scales = every.view(as_dtype(dtype)).astype(np.float32)
    field = (scales if dtype == "float32" else every).view(np.uint8).reshape(-1, size)
    encoding = Scaled("int8", (1,), scales=Groups(dtype, 1, 1))
    found = decoded(encoding, (np.full((len(field), 1), 3, np.uint8), field))
    with np.errstate(all="ignore"):
        assert_same(found, scales[:, None] * np.float32(3))


def model(encoding, codes, scales, points):
    """Return decoded float32 rows by plain NumPy, given unpacked codes and float32 groups."""
    rows = by_ml_dtypes(encoding.codes, codes)
    of_scale, of_point = (
        np.minimum(np.arange(rows.shape[1]) // (groups.values if groups else 1), 1 << 30)
        for groups in (encoding.scales, encoding.zero_points)
    )
    if points is not None:
        rows = rows - points[:, of_point]
    elif encoding.zero:
        rows = rows - np.float32(encoding.zero)
    factor = np.float32(encoding.factor)
    rows = rows * (factor if scales is None else scales[:, of_scale] * factor)
    return rows.reshape(-1, *encoding.row_shape)


def groups_of(draw, dtypes, values):
    size = draw(st.integers(1, values + 2))
    return Groups(draw(st.sampled_from(sorted(dtypes))), -(-values // size), size)


@st.composite
def encodings(draw):
    row_shape = draw(st.sampled_from([(1,), (2,), (7,), (32,), (33,), (5, 3), (161,), ()]))
    values = int(np.prod(row_shape))
    points = groups_of(draw, ZERO_DTYPES, values) if draw(st.booleans()) else None
    return Scaled(
        draw(st.sampled_from(sorted(CODES))),
        row_shape,
        factor=draw(st.sampled_from([1.0, 0.5, -3.0])),
        scales=groups_of(draw, SCALE_DTYPES, values) if draw(st.booleans()) else None,
        zero=draw(st.sampled_from([0.0, 8.0, 128.0])) if points is None else 0.0,
        zero_points=points,
        joined=draw(st.booleans()),
    )


@given(encodings(), st.integers(0, 40), st.sampled_from(DTYPES), st.integers(0, 3), st.data())
def test_decoded_rows_agree_with_a_model(encoding, count, dtype, gap, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    bits = CODES[encoding.codes].bits
    codes = rng.integers(0, 1 << bits, (count, encoding.values), dtype=np.uint8)
    records: list[np.ndarray] = [packed(encoding.codes, codes)]
    few: list[np.ndarray | None] = []
    for groups in (encoding.scales, encoding.zero_points):
        few.append(None)
        if groups is not None:
            field = rng.integers(0, 256, (count, groups.record_bytes), dtype=np.uint8)
            records.append(field)
            if groups.dtype in CODES:
                few[-1] = by_ml_dtypes(groups.dtype, field.copy())
            else:
                with np.errstate(invalid="ignore"):
                    few[-1] = field.view(as_dtype(groups.dtype)).astype(np.float32)
    if encoding.joined:
        records = [np.hstack(records)]
    # Records with any distance between rows, and any alignment.
    apart = []
    for field in records:
        width = field.shape[1]
        wide = np.zeros((count, width + gap), np.uint8)
        wide[:, gap // 2 : gap // 2 + width] = field
        apart.append(wide[:, gap // 2 : gap // 2 + width])
    with np.errstate(all="ignore"):
        wanted = cast(model(encoding, codes, *few), dtype)
    assert_same(decoded(encoding, tuple(apart), dtype), wanted)


@pytest.mark.parametrize("width", [160, 161, PIECE_VALUES + 1])
@pytest.mark.parametrize("name", ["float8_e5m2", "int8", "float4_e2m1fn", "uint4"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scaled", [False, True])
def test_large_batches_are_whole(width, name, dtype, scaled):
    count = 2 * PIECE_VALUES // width + 3
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 1 << CODES[name].bits, (count, width), dtype=np.uint8)
    scales = rng.random((count, 1), np.float32) if scaled else np.ones((count, 1), np.float32)
    records = [packed(name, codes)]
    if scaled:
        records.append(scales.view(np.uint8))
    encoding = Scaled(name, (width,), scales=Groups("float32", 1, width) if scaled else None)
    wanted = cast(by_ml_dtypes(name, codes) * scales, dtype)
    assert_same(decoded(encoding, tuple(records), dtype), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["float8_e4m3fn", "uint4", "int8"])
def test_results_may_lie_at_any_item(name, dtype):
    itemsize = as_dtype(dtype).itemsize
    memory = np.zeros(6 * itemsize * 4 + itemsize, np.uint8)
    out = memory[itemsize:].view(as_dtype(dtype)).reshape(6, 4)
    records = (np.arange(6 * 4, dtype=np.uint8).reshape(6, 4)[:, : 4 * CODES[name].bits // 8],)
    Scaled(name, (4,)).decode(records, out)
    assert_same(out, decoded(Scaled(name, (4,)), records, dtype))
    assert not memory[:itemsize].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scaled", [False, True])
def test_threads_may_share_an_encoding(dtype, scaled):
    rng = np.random.default_rng(4)
    groups = Groups("float32", 1, 161) if scaled else None
    encoding = Scaled("float8_e4m3fn", (161,), scales=groups)
    batches = []
    for count in (1, 48, 500, 500):
        codes = rng.integers(0, 256, (count, 161), dtype=np.uint8)
        scales = rng.random((count, 1), np.float32).view(np.uint8)
        batches.append((codes, scales) if scaled else (codes,))
    wanted = [decoded(copy.copy(encoding), batch, dtype) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda batch: decoded(encoding, batch, dtype), batches * 20))
    for rows, expected in zip(found, wanted * 20, strict=True):
        assert_same(rows, expected)


def test_encodings_are_values():
    encoding = Scaled("float8_e4m3fn", (4,), factor=2.0, joined=True)
    decoded(encoding, (np.zeros((1, 4), np.uint8),))
    other = Scaled("float8_e4m3fn", (4,), factor=2.0, joined=True)
    assert encoding == other
    assert hash(encoding) == hash(other)
    assert repr(encoding) == repr(other)
    assert len(pickle.dumps(encoding)) < 1000
    for again in (pickle.loads(pickle.dumps(encoding)), copy.deepcopy(encoding)):
        assert again == encoding
        assert decoded(again, (np.full((1, 4), 0x38, np.uint8),)).tolist() == [[2, 2, 2, 2]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scaled("int9", (4,)), "the codes are 'int9'; expected one of float8_e4m3fn"),
        (lambda: Groups("float64", 1, 4), "the dtype is 'float64'; expected one of float32"),
        (lambda: Groups("float32", 1, 0), "1 groups of 0 values are not possible"),
        (lambda: Groups("float32", -1, 4), "-1 groups of 4 values are not possible"),
        (lambda: Scaled("int8", (4,), scales=Groups("int8", 1, 4)), "the dtype is 'int8'"),
        (
            lambda: Scaled("int8", (4,), zero_points=Groups("float8_e8m0fnu", 1, 4)),
            "the dtype is 'float8_e8m0fnu'; expected float32",
        ),
        (
            lambda: Scaled("int8", (4,), scales=Groups("float32", 2, 4)),
            "2 groups of 4 values do not fit a row of 4",
        ),
        (
            lambda: Scaled("int8", (5,), zero_points=Groups("int8", 1, 4)),
            "1 groups of 4 values do not fit a row of 5",
        ),
        (
            lambda: Scaled("int8", (4,), zero=3.0, zero_points=Groups("int8", 1, 4)),
            "a zero point of the table, 3.0, and one of groups",
        ),
        (lambda: Scaled("int8", (4,), factor=1e39), "factor of the table is 1e.39; no float32"),
        (lambda: Scaled("int8", (4,), zero=-1e39), "zero point of the table is -1e.39; no float32"),
    ],
)
def test_unfit_parts_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
