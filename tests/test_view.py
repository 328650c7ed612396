"""Views of a range of ids, against slices of an ndarray."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from embstore.errors import IdRangeError, IdTypeError, StoreClosedError
from tests.helpers.encoded import KINDS, opened

COUNT = 200


@pytest.fixture(
    scope="module",
    params=[
        *((kind, reader) for kind in KINDS for reader in ("mapped", "chunked")),
        *(("plain", reader) for reader in ("mapped", "chunked")),
    ],
    ids="-".join,
)
def place(request, tmp_path_factory):
    kind, reader = request.param
    folder = tmp_path_factory.mktemp("t")
    if kind == "plain":
        rows = np.random.default_rng(0).standard_normal((COUNT, 6), np.float32)
        embstore.build(rows, folder / "s", partitions=3, words=map(str, range(COUNT))).close()
        with embstore.open(folder / "s", reader=reader) as store:
            yield rows, rows.view(np.uint8), store
        return
    table = KINDS[kind](COUNT)
    with pytest.MonkeyPatch.context() as patch, opened(folder, table, patch, reader=reader) as some:
        yield table.rows, table.raw, some


def model(rows, ids, start, stop):
    """Return the rows of ids, and zeros for those outside."""
    found = rows[ids].copy()
    found[(ids < start) | (ids >= stop)] = 0
    return found


@pytest.mark.parametrize("shape", [(), (1,), (40,), (3, 5), (0,), (700,)])
def test_ids_elsewhere_give_zeros(place, shape):
    rows, raw, store = place
    ids = np.asarray(np.random.default_rng(1).integers(0, COUNT, shape))
    for start, stop in ((0, COUNT), (50, 120), (120, 120), (0, 1), (199, 200)):
        view = store.view(start, stop)
        for asked in (ids, ids.tolist(), ids.astype(np.int16)):
            found = view.lookup(asked, outside="zeros")
            assert np.array_equal(found, model(rows, ids, start, stop))
        assert np.array_equal(
            view.lookup(ids, raw=True, outside="zeros"), model(raw, ids, start, stop)
        )
        found = view.lookup(ids, dtype="float64", outside="zeros")
        assert found.dtype == np.float64
        assert np.array_equal(found, model(rows, ids, start, stop).astype(np.float64))
        out = np.full(found.shape, 7, np.float32)
        assert view.lookup(ids, out=out, outside="zeros") is out
        assert np.array_equal(out, model(rows, ids, start, stop))
        assert np.array_equal(
            view.submit(ids, outside="zeros").result(), model(rows, ids, start, stop)
        )
        out[...] = 7
        assert view.submit(ids, out, outside="zeros").result() is out
        assert np.array_equal(out, model(rows, ids, start, stop))
        assert view.prefetch(ids, outside="zeros").wait(60)
        inside = ids[(ids >= start) & (ids < stop)]
        assert view.explain(ids, outside="zeros").row_count == inside.size
        assert np.array_equal(view[inside], rows[inside])
        assert np.array_equal(view.submit(inside).result(), rows[inside])


@settings(max_examples=50)
@given(st.lists(st.integers(0, COUNT), max_size=5), st.integers(0, 2**32 - 1))
def test_parts_add_up_to_the_whole(place, cuts, seed):
    rows, raw, store = place
    bounds = [0, *sorted(cuts), COUNT]
    views = [store.view(*pair) for pair in pairwise(bounds)]
    assert sum(map(len, views)) == COUNT
    ids = np.random.default_rng(seed).integers(0, COUNT, 30)
    whole = sum(view.lookup(ids, outside="zeros") for view in views)
    assert np.array_equal(whole, rows[ids])
    whole = sum(view.lookup(ids, raw=True, outside="zeros") for view in views)
    assert np.array_equal(whole, raw[ids])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (7, "id 7 is outside of this view, which has ids 50 to 119 of a table of 200 rows;"),
        ([60, 7], "id 7 at position 1 is outside"),
        ([[60, 120], [3, 61]], r"id 120 at position \(0, 1\) is outside .*2 of the 4 ids"),
        (np.array([60, 7]), "id 7 at position 1 is outside"),
        (slice(40, 60), "id 40 at position 0 is outside"),
    ],
)
def test_ids_elsewhere_are_an_error(place, ids, message):
    view = place[2].view(50, 120)
    calls = [lambda ids: view[ids]]
    if not isinstance(ids, slice):
        calls += [view.lookup, view.submit, view.prefetch, view.explain]
        calls += [lambda ids: view.lookup(ids, raw=True, outside="error")]
    for call in calls:
        with pytest.raises(IdRangeError, match=message):
            call(ids)


def test_ids_that_no_view_has_are_always_an_error(place):
    view = place[2].view(50, 120)
    for call in (view.lookup, view.submit, view.prefetch, view.explain):
        for outside in ("zeros", "error"):
            for ids in ([60, COUNT], np.array([-1]), COUNT):
                with pytest.raises(IdRangeError, match="is out of range: the table has 200 rows"):
                    call(ids, outside=outside)
            for bad in ([0.5], [True]):
                with pytest.raises(IdTypeError):
                    call(bad, outside=outside)
        for wrong in ("zero", None, True, ["zeros"]):
            with pytest.raises((TypeError, ValueError), match="outside must be"):
                call([60], outside=wrong)


def test_rows_of_a_view_are_clipped(place):
    rows, _, store = place
    ids = np.array([10, 60])
    norm = float(np.linalg.norm(rows[60].astype(np.float64)))
    found = store.view(50, 120).lookup(ids, max_norm=norm / 2, outside="zeros")
    assert not found[0].any()
    assert np.allclose(found[1], rows[60] / 2, rtol=1e-6)
    with pytest.raises(ValueError, match="raw=True returns bytes"):
        store.view(50, 120).lookup(ids, max_norm=1.0, raw=True, outside="zeros")


def test_tensors_are_filled(place):
    torch = pytest.importorskip("torch")
    rows, _, store = place
    ids = np.array([10, 60])
    out = torch.full((2, *store.row_shape), 7.0)
    assert store.view(50, 120).lookup(torch.from_numpy(ids), out=out, outside="zeros") is out
    assert np.array_equal(out.numpy(), model(rows, ids, 50, 120))


def test_views_are_narrowed(place):
    view = place[2].view(50, 120).view(np.int64(60), 120)
    assert (view.start, view.stop, len(view)) == (60, 120, 60)
    assert (view.dtype, view.row_shape) == (place[2].dtype, place[2].row_shape)
    assert view.store is place[2]
    for start, stop in ((59, 70), (60, 121), (70, 69), (-1, 70)):
        with pytest.raises(IdRangeError, match="this view has ids 60 to 119"):
            view.view(start, stop)
    for start, stop in ((-1, 3), (0, COUNT + 1), (5, 4)):
        with pytest.raises(IdRangeError, match="ids out of range for 200 rows"):
            place[2].view(start, stop)


def test_a_view_shows_its_range(place):
    assert repr(place[2].view(50, 120)) == f"<StoreView of ids 50 to 119 of {place[2]!r}>"
    assert repr(place[2].view(5, 5)) == f"<StoreView of no ids of {place[2]!r}>"
    with pytest.raises(IdRangeError, match="which has no ids of a table"):
        place[2].view(5, 5)[5]


def test_all_rows_of_a_view(place):
    rows, _, store = place
    for start, stop in ((50, 60), (0, 3), (7, 7)):
        view = store.view(start, stop)
        expected = rows[start:stop]
        assert np.array_equal(np.asarray(view), expected)
        assert np.asarray(view).dtype == rows.dtype
        assert np.array_equal(np.asarray(view, np.float64), expected.astype(np.float64))
        assert len(list(view)) == len(list(reversed(view))) == stop - start
        for found, row in zip(view, expected, strict=True):
            assert np.array_equal(found, row)
        for found, row in zip(reversed(view), expected[::-1], strict=True):
            assert np.array_equal(found, row)
    with pytest.raises(ValueError, match="always a copy"):
        np.asarray(view, copy=False)
    with pytest.raises(TypeError):
        5 in view  # noqa: B015


def test_what_a_view_lacks_is_named(place):
    view = place[2].view(50, 120)
    for name in ("rows", "shape"):
        with pytest.raises(AttributeError, match=rf"has no {name}: its ids are .*len\(view\)"):
            getattr(view, name)
    for name in ("fingerprint", "to_numpy", "attributes"):
        with pytest.raises(AttributeError, match=f"a view has no {name}; use view.store.{name}"):
            getattr(view, name)
    with pytest.raises(AttributeError, match="'StoreView' object has no attribute 'rowz'"):
        _ = view.rowz


def test_words_are_refused(place):
    view = place[2].view(50, 120)
    for words in ("60", ["60", "61"], np.array(["60"])):
        for call in (view.lookup, view.__getitem__):
            with pytest.raises(TypeError, match="a view has no words"):
                call(words)
    with pytest.raises(TypeError, match="indexed by ids alone"):
        view[60, 1]


def test_copies_and_closed_stores(place, tmp_path):
    rows, _, store = place
    view = store.view(50, 120)
    for other in (pickle.loads(pickle.dumps(view)), copy.deepcopy(view)):
        with other.store:
            assert (other.start, other.stop) == (50, 120)
            assert np.array_equal(other[[60, 61]], rows[[60, 61]])
        with pytest.raises(StoreClosedError):
            other.lookup([60])
        with pytest.raises(StoreClosedError):
            other.lookup([6], outside="zeros")
        with pytest.raises(StoreClosedError):
            other.store.view(0, 1)
