"""Encoding of rows: codes against ml_dtypes, scales by exact arithmetic, and the account."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from embstore.encodings.codes import CODES, numbers
from embstore.encodings.encoder import PIECE_VALUES, Encoder
from embstore.encodings.groups import Groups
from embstore.encodings.named import CHOICES, parse_encoding
from embstore.encodings.rounding import choose_scales, holds, largest, to_codes
from embstore.encodings.scaled import Scaled
from embstore.errors import RowError

FLOATS = [name for name in CHOICES if "float" in name]
NAMES = [*CHOICES, *(f"{name}:{size}" for name in CHOICES for size in (1, 3, 32))]


def decoded(encoding, records):
    out = np.empty((len(records), *encoding.row_shape), np.float32)
    encoding.decode((records,), out)
    return out


def there_and_back(name, rows):
    encoding = parse_encoding(name, rows.shape[1:])
    records = encoding.encode(rows)
    assert records.shape == (len(rows), encoding.record_bytes)
    return decoded(encoding, records)


def unpacked(name, codes, width):
    if CODES[name].bits == 4:
        codes = np.stack([codes & 15, codes >> 4], -1).reshape(len(codes), -1)[:, :width]
    return codes


def peaks_of(name, rows):
    size = int(name.partition(":")[2] or rows.shape[1])
    return np.stack(
        [
            np.abs(rows[:, place // size * size : (place // size + 1) * size]).max(axis=1)
            for place in range(rows.shape[1])
        ],
        axis=1,
    )


@pytest.mark.parametrize("name", FLOATS)
def test_numbers_are_rounded_as_by_ml_dtypes(name):
    dtype = getattr(pytest.importorskip("ml_dtypes"), name)
    rng = np.random.default_rng(1)
    finite = numbers(name)[np.isfinite(numbers(name))].astype(np.float64)
    finite.sort()
    middles = ((finite[1:] + finite[:-1]) / 2).astype(np.float32)
    every = np.concatenate(
        [
            rng.integers(0, 1 << 32, 100_000, dtype=np.uint32).view(np.float32),
            (rng.normal(size=50_000) * 10.0 ** rng.integers(-9, 5, 50_000)).astype(np.float32),
            finite.astype(np.float32),
            middles,
            np.nextafter(middles, np.float32(np.inf)),
            np.nextafter(middles, np.float32(-np.inf)),
        ]
    )
    fits = np.abs(every) <= largest(name)
    if holds(name)[0]:
        fits |= np.isnan(every)
    every = every[fits]
    with np.errstate(all="ignore"):
        wanted = every.astype(dtype).view(np.uint8)
    found = unpacked(name, to_codes(name, every[None].copy()), len(every))[0]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", CHOICES)
def test_every_code_stays_itself(name):
    every = numbers(name).copy()
    every = every[np.abs(every) <= largest(name)]
    found = unpacked(name, to_codes(name, every[None].copy()), len(every))[0]
    wanted = np.flatnonzero(np.abs(numbers(name)) <= largest(name))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@given(
    peak=st.floats(0, float(np.finfo(np.float32).max), width=32),
    top=st.sampled_from([448.0, 57344.0, 127.0, 6.0]),
)
def test_scales_are_the_smallest_that_hold_the_peak(dtype, peak, top):
    stored, scales = choose_scales(dtype, np.array([[peak]], np.float32), top)
    scale = float(scales[0, 0])
    if peak == 0:
        assert scale == 1
        return
    groups = Groups(dtype, 1, 1)
    assert groups.read(stored.view(np.uint8).reshape(1, -1)).tolist() == scales.tolist()
    assert np.isfinite(np.float32(scale) * np.float32(top))
    step = {"float32": 1, "bfloat16": 1 << 16}[dtype]
    smaller, larger = (
        float((scales.view(np.uint32) + np.uint32(change & 0xFFFFFFFF)).view(np.float32)[0, 0])
        for change in (-step, step)
    )
    assert smaller < peak / top
    assert peak / top <= scale or larger * top > float(np.finfo(np.float32).max)


def test_scales_without_the_range_of_float32_are_not_chosen():
    with pytest.raises(ValueError, match="scales of float16 cannot be chosen"):
        choose_scales("float16", np.ones((1, 1), np.float32), 448.0)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_decoded_numbers_are_near(name, data):
    rows = data.draw(
        npst.arrays(
            np.float32,
            st.tuples(st.integers(0, 4), st.integers(1, 70)),
            elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
        )
    )
    found = there_and_back(name, rows)
    assert np.isfinite(found).all()
    # Half a step of the codes next to the largest one; scales that are rounded up cost range, and
    # those that are subnormal are coarse.
    step = {"int8": 1 / 127, "int4": 1 / 7, "float4_e2m1fn": 2 / 6}.get(name.partition(":")[0])
    step = step or {"e4m3": 1 / 14, "e5m2": 1 / 7}[name[7:11]]
    limit = peaks_of(name, rows).astype(np.float64) * step * 0.505 + 1e-38
    assert (np.abs(found.astype(np.float64) - rows) <= limit).all()


@pytest.mark.parametrize("name", NAMES)
def test_zeros_stay_zeros(name):
    rows = np.zeros((2, 40), np.float32)
    rows[1, 39] = 1
    found = there_and_back(name, rows)
    np.testing.assert_array_equal(found[:, :39], 0)
    assert found[1, 39] == pytest.approx(1, rel=0.01)
    tiny = np.full((1, 40), 1e-45, np.float32)
    assert np.isfinite(there_and_back(name, tiny)).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_numbers_are_kept_or_refused(name, value):
    rows = np.linspace(-1, 1, 160, dtype=np.float32).reshape(4, 40)
    clean = there_and_back(name, rows)
    rows[2, 37] = value
    codes = name.partition(":")[0]
    kept = codes == "float8_e5m2" or (codes.startswith("float8") and math.isnan(value))
    if not kept:
        with pytest.raises(RowError, match=f"the value {value} has no code in {codes}") as caught:
            there_and_back(name, rows)
        assert caught.value.position == 2
        return
    found = there_and_back(name, rows)
    np.testing.assert_array_equal(found[2, 37], value)
    np.testing.assert_array_equal(np.delete(found, 2, axis=0), np.delete(clean, 2, axis=0))
    assert np.isfinite(np.delete(found[2], 37)).all()


def test_multiples_of_a_scale_are_exact():
    rows = np.array([[-127, 5, 0, 127], [0.25, -0.5, 0.75, 63.5 / 2]], np.float32)
    np.testing.assert_array_equal(there_and_back("int8", rows), rows)


def test_account_agrees_with_exact_arithmetic():
    rows = np.random.default_rng(2).normal(size=(3 + 2 * PIECE_VALUES // 24, 4, 6))
    rows[5] = 0
    encoder = Encoder(parse_encoding("float8_e4m3fn:8", (4, 6)))
    records = encoder.encode(rows)
    again = encoder.encode(rows[:7])
    np.testing.assert_array_equal(again, records[:7])
    single = np.concatenate([rows, rows[:7]]).astype(np.float32).astype(np.float64)
    back = decoded(encoder.encoding, np.concatenate([records, again])).astype(np.float64)
    errors = np.abs(single - back)
    dots = (single * back).sum(axis=(1, 2))
    norms = np.sqrt((single**2).sum(axis=(1, 2)) * (back**2).sum(axis=(1, 2)))
    cosines = dots[norms > 0] / norms[norms > 0]
    assert encoder.facts() == {
        "largest_encoding_error": errors.max(),
        "mean_encoding_error": pytest.approx(errors.mean()),
        "mean_cosine": pytest.approx(cosines.mean()),
        "smallest_cosine": pytest.approx(cosines.min()),
    }


def test_account_leaves_special_numbers_out():
    encoder = Encoder(parse_encoding("float8_e5m2", (3,)))
    assert encoder.facts() == {}
    encoder.encode(np.array([[np.nan, 1, np.inf]]))
    assert encoder.facts()["largest_encoding_error"] == 0
    encoder.encode(np.zeros((1, 3)))
    assert encoder.facts()["mean_cosine"] == 1


@pytest.mark.parametrize("bad", [1e300, -np.inf])
def test_encoder_names_the_row_in_the_whole_batch(bad):
    rows = np.ones((PIECE_VALUES // 8 + 9, 8))
    rows[-2, 3] = bad
    with pytest.raises(RowError) as caught:
        Encoder(parse_encoding("int8", (8,))).encode(rows)
    assert caught.value.position == len(rows) - 2
    assert "on_overflow" not in str(caught.value)  # Codes do not become infinite.


@pytest.mark.parametrize(
    "encoding",
    [
        Scaled("int8", (4,)),
        Scaled("int8", (4,), scales=Groups("float32", 1, 4)),
        Scaled("int8", (4,), factor=2.0, scales=Groups("float32", 1, 4), joined=True),
        Scaled("int8", (4,), zero=2.0, scales=Groups("float32", 1, 4), joined=True),
    ],
)
def test_encodings_without_scales_of_their_own_are_not_encoded(encoding):
    with pytest.raises(ValueError, match="rows cannot be encoded as this kind of int8"):
        encoding.encode(np.ones((1, 4), np.float32))


@pytest.mark.parametrize(
    "name",
    ["", "plain", "float8", "FLOAT8_E4M3FN", "uint8", "float8_e8m0fnu", "int8:", "int8:0",
     "int8:-1", "int8:1.5", "int8:٣٢", "int8:32 ", " int8", "int8:99999999999", "int8:8:8"],
)  # fmt: skip
def test_unknown_names_are_refused_with_the_choices(name):
    with pytest.raises(ValueError, match=r"expected one of float8_e4m3fn, .* int4, with a scale"):
        parse_encoding(name, (160,))


def test_rows_without_numbers_are_refused():
    with pytest.raises(ValueError, match="have no numbers to encode"):
        parse_encoding("int8", (3, 0))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_gives_an_encoding_of_that_name(name):
    assert parse_encoding(name, (5, 8)).name == name


@pytest.mark.parametrize("size", [160, 161, 999999999])
def test_groups_as_long_as_a_row_are_a_scale_a_row(size):
    assert parse_encoding(f"int8:{size}", (160,)) == parse_encoding("int8", (160,))
