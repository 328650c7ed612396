"""Ids: integers of every kind within the range of the table are accepted, all else is refused."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.table.ids import as_ids

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


class Subclass(np.ndarray):
    pass


class OnlyArray:
    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


class OnlyDLPack:
    def __init__(self, values: Any) -> None:
        self.values = np.array(values)

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


@pytest.mark.parametrize(
    "ids",
    [
        [[0, 5, 17], [17, 17, 3]],
        ([0, 5, 17], (17, 17, 3)),
        OnlyArray([[0, 5, 17], [17, 17, 3]]),
        OnlyDLPack([[0, 5, 17], [17, 17, 3]]),
        [np.array([0, 5, 17]), np.array([17, 17, 3], np.uint8)],
        [[np.uint64(0), 5, np.int8(17)], [np.uint64(17), 17, 3]],
        np.array([[0, 5, 17], [17, 17, 3]], object),
        *(np.array([[0, 5, 17], [17, 17, 3]], dtype) for dtype in [*INTEGERS, ">i8", ">u2"]),
        np.array([[0, 17], [5, 17], [17, 3]]).T,
        np.repeat([[0, 5, 17], [17, 17, 3]], 2, axis=1)[:, ::2],
        np.array([[0, 5, 17], [17, 17, 3]]).view(Subclass),
    ],
    ids=lambda ids: f"{type(ids).__name__}-{getattr(ids, 'dtype', '')}",
)
def test_arrays_of_every_integer_type(ids):
    wide = as_ids(ids, 18)
    assert type(wide) is np.ndarray
    assert wide.dtype == np.int64
    assert wide.dtype.isnative
    assert wide.tolist() == [[0, 5, 17], [17, 17, 3]]


@pytest.mark.parametrize(
    "ids", [7, np.int16(7), np.uint64(7), np.array(7), OnlyArray(7), OnlyDLPack(7)]
)
def test_single_integer(ids):
    assert as_ids(ids, 8).shape == ()
    assert as_ids(ids, 8) == 7


@pytest.mark.parametrize("ids", [range(1, 4), array.array("q", [1, 2, 3]), memoryview(b"\1\2\3")])
def test_other_sequences(ids):
    assert as_ids(ids, 4).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("ids", "shape"),
    [
        ([], (0,)),
        ((), (0,)),
        ([[], []], (2, 0)),
        (range(0), (0,)),
        (np.array([], np.int32), (0,)),
        (np.empty((3, 0), np.uint64), (3, 0)),
        (np.array([], object), (0,)),
    ],
)
def test_empty_ids(ids, shape):
    assert as_ids(ids, 0).shape == shape
    assert as_ids(ids, 0).dtype == np.int64


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (True, "not bool; turn a mask into ids with np.flatnonzero"),
        ([True, False], "not bool .* np.flatnonzero"),
        (np.array([True]), "not bool .of type ndarray.; .* np.flatnonzero"),
        ([1, True], "one of them is a bool"),
        ([[1, 2], (3, np.True_)], "one of them is a bool"),
        (1.0, "not float; if these numbers are meant as ids, convert them with .astype"),
        ([1, 2.0], "not float64 .of type list.; .* .astype"),
        (np.array([1.0], np.float16), "not float16"),
        (np.array([]), "not float64"),
        (1j, "not complex"),
        ("like", "not str; look up rows by word with lookup_words"),
        (["like", "the"], "not <U4 .of type list.; .* lookup_words"),
        (b"like", "not bytes$"),
        (None, "not NoneType$"),
        ([1, None], "not object .of type list.$"),
        ([[1], [2, 3]], "inhomogeneous"),
        ({1, 2}, "not set$"),
        ({1: 2}, "not dict$"),
        (slice(3), "not slice$"),
        (np.array(["2020-01-01"], "M8[D]"), "not datetime64"),
        (np.array([(1, 2)], "i4,i4"), "of type ndarray"),
        (np.array([1, 2.5], object), "not object"),
        (np.array([1, True], object), "not object"),
        (OnlyDLPack([1.0]), "not float64 .of type OnlyDLPack.; "),
    ],
)
def test_values_that_are_not_integers_are_refused(ids, message):
    with pytest.raises(embstore.IdTypeError, match=message) as raised:
        as_ids(ids, 100)
    assert isinstance(raised.value, TypeError)
    assert str(raised.value).startswith("ids must be ")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (10, "id 10 is out of range: the table has 10 rows, ids 0 to 9"),
        (-1, "id -1 is out of range: the table has 10 rows, ids 0 to 9"),
        ([3, -1], "id -1 at position 1 is out of range: the table has 10 rows, ids 0 to 9"),
        (
            [[0, 1], [2, 11], [-4, 10]],
            "id 11 at position (1, 1) is out of range: the table has 10 rows, ids 0 to 9 "
            "(3 of the 6 ids are out of range)",
        ),
        (np.array([-1], np.int8), "id -1 at position 0 is"),
        (np.array([1, 200], np.uint8), "id 200 at position 1 is"),
        (np.array([1, 2**64 - 1, 2**63], np.uint64), "id 18446744073709551615 at position 1 is"),
        ([0, 2**63], "id 9223372036854775808 at position 1 is"),
        ([-1, 2**63], "id -1 at position 0 is"),
        ([0, 2**70, 5], f"id {2**70} at position 1 is"),
        (-(2**70), f"id {-(2**70)} is"),
        (-(2**63), f"id {-(2**63)} is"),
        (OnlyDLPack([0, 10]), "id 10 at position 1 is"),
    ],
)
def test_error_names_the_first_bad_id(ids, message):
    with pytest.raises(embstore.IdRangeError) as raised:
        as_ids(ids, 10)
    assert isinstance(raised.value, IndexError)
    assert str(raised.value).startswith(message)
    if not message.endswith("is"):
        assert str(raised.value) == message


def test_every_id_of_an_empty_table_is_an_error():
    with pytest.raises(embstore.IdRangeError, match=r"the table has no rows$"):
        as_ids([0], 0)


@pytest.mark.parametrize("reader", ["mapped", "chunked"])
def test_store_checks_ids(words_store, reader):
    with embstore.open(words_store, reader=reader) as store:
        for call in (store.lookup, store.explain, store.words, store.__getitem__):
            with pytest.raises(embstore.IdRangeError, match="id 11 at position 1"):
                call([10, 11])
            with pytest.raises(embstore.IdTypeError):
                call(2.5)
            call([10, 0])
        for key in (-1, 11, True, None, 1.0, b"like"):
            with pytest.raises((embstore.IdRangeError, embstore.IdTypeError)):
                store[key]


@pytest.mark.parametrize("shape", [(3,), (0,), (2, 2), ()])
def test_int64_arrays_are_not_copied(shape):
    ids = np.ones(shape, np.int64)
    assert as_ids(ids, 2) is ids


@pytest.mark.parametrize(
    "ids", [[[1, True]], [(1, True)], ([1, 2], [3, False]), ((1,), (np.True_,))]
)
def test_booleans_in_nested_sequences_are_refused(ids):
    with pytest.raises(embstore.IdTypeError) as error:
        as_ids(ids, 10)
    assert str(error.value) == "ids must be integers, but one of them is a bool"


def test_an_array_without_axes_is_named_by_its_dtype():
    with pytest.raises(embstore.IdTypeError, match=r"not float64 \(of type ndarray\); if"):
        as_ids(np.array(1.5), 10)


def test_masked_ids_are_refused():
    with pytest.raises(embstore.IdTypeError) as error:
        as_ids(np.ma.masked_array([1, 2], [False, True]), 10)
    assert str(error.value) == (
        "ids must be integers, but some are masked; give ids.compressed(), or ids.filled(id)"
    )


class TooLarge:
    def __array__(self, dtype=None, copy=None):
        raise OverflowError("too large")


@pytest.mark.parametrize(
    ("ids", "cause"), [([[1], [2, 3]], ValueError), (TooLarge(), OverflowError)]
)
def test_what_numpy_refuses_is_refused_with_its_reason(ids, cause):
    with pytest.raises(embstore.IdTypeError, match=r"^ids must be an array of integers: ") as error:
        as_ids(ids, 10)
    assert type(error.value.__cause__) is cause
    assert str(error.value.__cause__) in str(error.value)
