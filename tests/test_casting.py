"""Casting of batches to a store's dtype, and the account of changed numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import embstore
from embstore.dtypes import as_dtype
from embstore.encodings.casting import CAST_BYTES, Caster

BFLOAT16 = as_dtype("bfloat16")
# The finite bfloat16s from 0 on, as float32, in the order of their bits.
FINITE = (np.arange(0x7F80, dtype=np.uint32) << np.uint32(16)).view(np.float32)


def nearest_bfloat16(value: float | np.integer) -> int:
    """Return the bits of the nearest bfloat16, ties to even, by exact arithmetic."""
    exact = abs(Fraction(value if isinstance(value, float) else int(value)))
    place = int(np.searchsorted(FINITE, float(exact)))
    candidates = [bits for bits in (place - 1, place, place + 1) if 0 <= bits < len(FINITE)]

    def distance(bits: int) -> tuple[Fraction, int]:
        return abs(Fraction(float(FINITE[bits])) - exact), bits & 1

    return min(candidates, key=distance) | (0x8000 if np.signbit(value) else 0)


# Numbers near the middle between two bfloat16s, where rounding twice gives a wrong result.
MIDDLES = st.builds(
    lambda bits, nudge: float(np.array((bits << 16) | 0x8000, np.uint32).view(np.float32)) + nudge,
    st.integers(0x3000, 0x4FFF),
    st.sampled_from([0.0, 1e-15, -1e-15, 1e-12, -1e-12]),
)


@given(st.lists(MIDDLES | st.floats(-3e38, 3e38), min_size=1, max_size=20))
def test_bfloat16_is_the_nearest_number(values):
    cast = Caster(BFLOAT16).cast(np.array(values))
    assert cast.view(np.uint16).tolist() == [nearest_bfloat16(value) for value in values]


def integers_of(dtype: type[np.integer]) -> st.SearchStrategy[int]:
    """Return a strategy for integers next to the middle between two bfloat16s, and for any."""
    limits = np.iinfo(dtype)
    # A bfloat16 has 8 significant bits; the middle between two has 9, the last of which is 1.
    middles = st.builds(
        lambda bits, shift, nudge, sign: sign * ((2 * bits + 1 << shift) + nudge),
        st.integers(128, 255),
        st.integers(1, limits.bits - 9),
        st.integers(-1, 1),
        st.sampled_from([-1, 1]),
    ).filter(lambda value: limits.min <= value <= limits.max)
    return middles | st.integers(int(limits.min), int(limits.max))


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64])
def test_integers_become_the_nearest_bfloat16(dtype):
    @given(st.lists(integers_of(dtype), min_size=1, max_size=20))
    def check(values):
        rows = np.array(values, dtype)
        cast = Caster(BFLOAT16).cast(rows)
        assert cast.view(np.uint16).tolist() == [nearest_bfloat16(value) for value in rows]

    check()


LONGDOUBLE_IS_WIDER = np.finfo(np.longdouble).nmant > 52
ROUNDED = [
    *(("float64", target) for target in ("float16", "bfloat16", "float32")),
    *(("longdouble", target) for target in ("float16", "bfloat16", "float32", "float64")),
    *(("float32", target) for target in ("float16", "bfloat16")),
    *(("int64", target) for target in ("float16", "bfloat16", "float32", "float64")),
    *(("uint64", target) for target in ("float16", "bfloat16", "float32", "float64")),
    *(("int32", target) for target in ("float16", "bfloat16", "float32")),
    *(("uint32", target) for target in ("float16", "bfloat16", "float32")),
]


def neighbours(target: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return finite numbers of a dtype, and for each the next larger one.

    All positive ones of 16 bits, subnormal ones included; else a sample.
    """
    bits = np.dtype(f"u{target.itemsize}")
    infinity = int(np.array(np.inf, target).view(bits))
    if target.itemsize == 2:
        lower = np.arange(infinity - 1, dtype=bits)
    else:
        lower = np.random.default_rng(0).integers(0, infinity - 1, 50_000, bits)
    return lower.view(target), (lower + bits.type(1)).view(target)


@pytest.mark.parametrize(("origin", "target"), ROUNDED)
def test_numbers_near_a_middle_are_rounded_once(origin, target):
    """The middle goes to the even neighbour, and what is next to the middle to the nearer one."""
    if origin == "longdouble" and not LONGDOUBLE_IS_WIDER:
        pytest.skip("long doubles are float64 here")
    origin, target = np.dtype(origin), as_dtype(target)
    lower, upper = neighbours(target)
    low, high = lower.astype(np.longdouble), upper.astype(np.longdouble)
    middle = low + (high - low) / 2
    even = np.where(lower.view(f"u{target.itemsize}") % 2 == 0, low, high)
    if origin.kind in "iu":
        # Integers next to the middle that lie between both.
        fits = (middle == np.floor(middle)) & (high - low > 2) & (middle < np.iinfo(origin).max)
        low, high, middle, even = low[fits], high[fits], middle[fits], even[fits]
        exact = middle.astype(origin)
        cases = [(exact, even), (exact - origin.type(1), low), (exact + origin.type(1), high)]
    else:
        exact = middle.astype(origin)
        fits = (exact == middle) & (middle > np.finfo(origin).smallest_normal)
        low, high, exact, even = low[fits], high[fits], exact[fits], even[fits]
        up, down = np.array(np.inf, origin), np.array(0, origin)
        cases = [
            *((exact, even), (np.nextafter(exact, down), low), (np.nextafter(exact, up), high)),
        ]
    for numbers, expected in cases:
        for sign in (1, -1) if origin.kind != "u" else (1,):
            cast = Caster(target).cast(numbers * origin.type(sign))
            np.testing.assert_array_equal(cast.astype(np.longdouble), sign * expected)


def test_integers_are_not_rounded_to_float64_first():
    value = 2**60 + 2**52 + 1  # Float64 holds 2**60 + 2**52, the middle between two bfloat16s.
    assert float(Caster(BFLOAT16).cast(np.array([value]))[0]) == 2**60 + 2**53


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_largest_error_over_all_batches(dtype):
    rows = np.random.default_rng(0).standard_normal((1000, 300))
    caster = Caster(as_dtype(dtype))
    cast = np.concatenate([caster.cast(rows[:300]), caster.cast(rows[300:])])
    assert caster.largest_error == np.abs(cast.astype(np.float64) - rows).max() > 0
    assert caster.facts() == {
        "cast_from": "float64",
        "largest_cast_error": caster.largest_error,
        "overflow_count": 0,
    }


@pytest.mark.parametrize(
    ("origin", "dtype"),
    [("float16", "float32"), ("bfloat16", "float32"), ("int16", "float32"), ("uint8", "int16")],
)
def test_exact_casts_are_not_reported(origin, dtype):
    rows = np.arange(12).reshape(3, 4).astype(as_dtype(origin))
    caster = Caster(np.dtype(dtype))
    np.testing.assert_array_equal(caster.cast(rows), np.arange(12).reshape(3, 4))
    assert caster.facts() == {}


def test_rows_of_the_dtype_are_not_copied():
    rows = np.ones((2, 3), np.float16)
    assert Caster(np.dtype(np.float16)).cast(rows) is rows


@pytest.mark.parametrize(
    ("origin", "dtype"), [("int64", "int8"), ("uint64", "int64"), ("int32", "uint16")]
)
def test_integers_that_fit_are_cast(origin, dtype):
    rows = np.array([[0, 1], [126, 127]], origin)
    caster = Caster(np.dtype(dtype))
    cast = caster.cast(rows)
    assert cast.dtype == dtype
    assert cast.tolist() == rows.tolist()
    assert caster.facts() == {}


def test_the_dtype_of_the_last_changed_batch_is_reported():
    caster = Caster(np.dtype(np.float16))
    caster.cast(np.array([[0.1]]))
    caster.cast(np.array([[0.5]], np.float32))
    assert caster.facts()["cast_from"] == "float64"


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (3, CAST_BYTES // 8 + 1)])
def test_batches_of_any_size(shape):
    rows = np.full(shape, 0.1)
    caster = Caster(np.dtype(np.float32))
    np.testing.assert_array_equal(caster.cast(rows), rows.astype(np.float32))
    assert bool(caster.facts()) == bool(rows.size)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_signalling_nans_do_not_warn(dtype):
    rows = np.array([[0x7FA00000, 0x3F800000]], np.uint32).view(np.float32)
    cast = Caster(as_dtype(dtype)).cast(rows)
    assert np.isnan(cast[0, 0])
    assert cast[0, 1] == 1


def test_overflow_alone_is_reported():
    caster = Caster(np.dtype(np.float16), "inf")
    caster.cast(np.array([[7e4, 1.0]]))
    assert caster.facts() == {
        "cast_from": "float64",
        "largest_cast_error": 0.0,
        "overflow_count": 1,
    }


@pytest.mark.skipif(np.finfo(np.longdouble).nmant <= 52, reason="long doubles are float64 here")
def test_long_doubles_are_rounded_once():
    # Just above the middle between two bfloat16s, which float64 hits.
    rows = np.array([[1]], np.longdouble) + 2.0**-8 + 2.0**-62
    assert float(Caster(BFLOAT16).cast(rows)[0, 0]) == 1 + 2.0**-7
    cast = Caster(np.dtype(np.float64)).cast(rows)
    assert cast.tolist() == [[1 + 2.0**-8]]


def test_only_floats_can_become_infinite():
    with pytest.raises(
        embstore.RowError, match=r"the value 300 is .* of int8; choose a wider dtype"
    ) as got:
        Caster(np.dtype(np.int8)).cast(np.array([[1, 2], [3, 300], [400, 1]]))
    assert got.value.position == 1
    assert "on_overflow" not in str(got.value)


def test_exact_numbers_are_not_reported():
    caster = Caster(np.dtype(np.float16))
    caster.cast(np.array([[0.5, np.nan, np.inf, -np.inf]]))
    assert caster.facts() == {}


def test_rounded_integers_are_reported():
    caster = Caster(np.dtype(np.float64))
    caster.cast(np.array([[2**53 + 1]]))
    assert caster.facts()["largest_cast_error"] == 1.0
    assert caster.facts()["cast_from"] == "int64"


@pytest.mark.parametrize(("dtype", "value"), [("float16", 7e4), ("bfloat16", 3.4e38)])
def test_overflow(dtype, value):
    rows = np.zeros((CAST_BYTES // 8 + 1, 2), np.float32)  # Cast in two pieces.
    rows[-1] = [np.inf, value]
    rows[0] = [np.nan, 1.0001]
    with pytest.raises(embstore.RowError, match=r"out of the range.*on_overflow") as caught:
        Caster(as_dtype(dtype)).cast(rows)
    assert caught.value.position == len(rows) - 1
    caster = Caster(as_dtype(dtype), "inf")
    cast = caster.cast(rows)
    assert np.isinf(cast[-1]).all()
    assert np.isnan(cast[0, 0])
    assert caster.overflow_count == 1
    assert 0 < caster.largest_error < 0.01


@pytest.mark.parametrize(
    ("rows", "dtype", "error"),
    [
        ([[300]], "int8", embstore.RowError),
        ([[-1]], "uint64", embstore.RowError),
        (np.array([[2**63]], np.uint64), "int64", embstore.RowError),
        (np.array([[2**64 - 1]], np.uint64), "int64", embstore.RowError),
        (np.array([[2**64 - 1]], np.uint64), "int8", embstore.RowError),
        (np.array([[-(2**63)]]), "uint64", embstore.RowError),
        ([[1.0]], "int8", TypeError),
        ([[True]], "float32", TypeError),
        ([[1j]], "float32", TypeError),
    ],
)
def test_numbers_that_do_not_fit_are_refused(rows, dtype, error):
    with pytest.raises(error):
        Caster(np.dtype(dtype), "inf").cast(np.array(rows))


def test_bfloat16_is_not_cast_to_integers():
    with pytest.raises(TypeError, match="bfloat16"):
        Caster(np.dtype(np.int32)).cast(np.ones((1, 1), BFLOAT16))


def test_build_reports_casts(tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("a 0.1 1\nb 2 70000\n")
    with pytest.raises(embstore.SourceError, match=r"t\.txt:2: the value 70000"):
        embstore.build(text, tmp_path / "s", dtype="float16")
    store = embstore.build(text, tmp_path / "s", dtype="float16", on_overflow="inf")
    assert store.source["overflow_count"] == 1
    error = abs(float(np.float32(0.1)) - float(np.float16(0.1)))
    assert store.source["largest_cast_error"] == pytest.approx(error)
    assert store.source["cast_from"] == "float32"
    assert store.source["non_finite_row_count"] == 0
    assert np.isinf(store[1][1])


def test_writer_reports_casts(tmp_path):
    with embstore.StoreWriter(tmp_path / "s", row_shape=(1,), dtype="bfloat16") as writer:
        writer.write([[1.001]])
    assert embstore.open(tmp_path / "s").source["largest_cast_error"] == pytest.approx(0.001)
