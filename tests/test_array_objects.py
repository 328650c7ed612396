"""Objects that are arrays, and objects that only look like one."""

from __future__ import annotations

import array
import ctypes
import datetime
import fractions
import io
import mmap
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

import embstore
from embstore.errors import SourceError
from tests.helpers.sources import assert_same, read

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS: Any = np.arange(40, dtype=np.float32).reshape(8, 5)
WORDS = [f"w{i}" for i in range(8)]
MASKED = np.ma.masked_array(ROWS, ROWS == 7)


class Only:
    """An object with some of an array's methods."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class ByArray:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return ROWS


class ByInterface:
    __array_interface__ = ROWS.__array_interface__


class ByDlpack:
    def __dlpack__(self, **options: Any) -> Any:
        return ROWS.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return ROWS.__dlpack_device__()


class Sliceable:
    """An array of a library with dtypes of its own, such as TensorFlow."""

    def __init__(self, dtype: Any = ROWS.dtype) -> None:
        self.shape, self.dtype = [8, 5], dtype

    def __getitem__(self, rows: slice) -> Any:
        return ROWS[rows]

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return ROWS


def read_only() -> Any:
    rows = ROWS.copy()
    rows.flags.writeable = False
    return rows


ARRAYS: dict[str, Callable[[], Any]] = {
    "__array__": ByArray,
    "__array_interface__": ByInterface,
    "DLPack": ByDlpack,
    "memoryview": lambda: memoryview(ROWS),
    "ctypes": lambda: (ctypes.c_float * 5 * 8).from_buffer_copy(ROWS),
    "slices": Sliceable,
    "slices of named dtype": lambda: Sliceable("float32"),
    "slices like TensorFlow": lambda: Sliceable(Only(as_numpy_dtype=np.float32)),
    "slices like tensorstore": lambda: Sliceable(Only(numpy_dtype=np.dtype("f4"))),
    "slices of unknown dtype": lambda: Sliceable(object()),
    "negative strides": lambda: ROWS[::-1, ::-1].copy()[::-1, ::-1],
    "every other column": lambda: np.repeat(ROWS, 2, axis=1)[:, ::2],
    "Fortran order": lambda: np.asfortranarray(ROWS),
    "big-endian": lambda: ROWS.astype(">f4"),
    "read-only": read_only,
    "matrix": lambda: np.asmatrix(ROWS),
    "nothing masked": lambda: np.ma.masked_array(ROWS, mask=False),
    "nested lists": lambda: [[np.float32(x) for x in row] for row in ROWS.tolist()],
    "lists of arrays": lambda: [[np.array(x) for x in row] for row in ROWS],
    "arrays in a list": lambda: [ROWS[:3], ROWS[3:3], ROWS[3:]],
    "arrays in a tuple": lambda: (ROWS[:3].astype(">f4"), ByArray().__array__()[3:]),
    "generator of objects": lambda: iter([ByArray()]),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_arrays_of_any_library(kind):
    assert_same(read(ARRAYS[kind]())[1], ROWS)
    assert_same(read(ARRAYS[kind](), limit=2)[1], ROWS[:2])
    if "generator" not in kind:
        assert read(ARRAYS[kind](), words=WORDS)[0] == WORDS


def test_rows_of_one_number():
    rows: Any = np.array([1, 2], np.float32)
    for source in (array.array("f", [1, 2]), memoryview(rows), rows):
        assert_same(read(source)[1], rows)


def test_torch_modules_and_parameters():
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(ROWS.copy())
    embedding = torch.nn.Embedding.from_pretrained(tensor, freeze=False, padding_idx=0)
    bag = torch.nn.EmbeddingBag.from_pretrained(tensor, freeze=False)
    parts = [torch.nn.Embedding.from_pretrained(part) for part in (tensor[:3], tensor[3:])]
    for source in (
        embedding,
        bag,
        embedding.weight,
        torch.nn.Parameter(tensor),
        tensor * embedding.weight / tensor.clamp(min=1) + tensor[:1, :1] * 0,
        parts,
        [embedding.weight[:3], tensor[3:]],
        (part for part in (embedding.weight[:3], tensor[3:])),
        [list(row) for row in embedding.weight],
    ):
        words, rows = read(source)
        assert words is None
        np.testing.assert_allclose(rows, ROWS)
    assert read(embedding, words=WORDS)[0] == WORDS
    weights = embedding.weight
    for with_words in (
        dict(zip(WORDS, weights, strict=True)),
        list(zip(WORDS, weights, strict=True)),
        zip(WORDS, weights, strict=True),
        [(WORDS, weights)],
        iter([(WORDS, weights)]),
        dict(zip(WORDS, map(list, weights), strict=True)),
    ):
        words, rows = read(with_words)
        assert words == WORDS
        assert_same(rows, ROWS)
    bits = {word: row.bfloat16() for word, row in zip(WORDS, tensor, strict=True)}
    assert_same(read(bits)[1], ROWS.astype(ml_dtypes.bfloat16))
    negative = torch.complex(tensor, tensor).conj().imag  # Its sign is a bit, not in memory.
    assert negative.is_neg()
    assert_same(read(negative)[1], -ROWS)


@pytest.mark.filterwarnings(
    "ignore:Sparse CSR",
    "ignore:torch.quantize_per_tensor",
    "ignore:The PyTorch API of nested tensors",
)
def test_tensors_without_rows_of_numbers(tmp_path):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(ROWS.copy())
    packed = torch.zeros((8, 5), dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    for source, says in (
        (tensor.to_sparse(), "Tensor is sparse or nested; pass .to_dense()"),
        (tensor.to_sparse_csr(), "Tensor is sparse or nested"),
        (torch.nested.nested_tensor([tensor, tensor[:3]]), "Tensor is sparse or nested"),
        (torch.nn.Embedding(8, 5, sparse=True).weight.to_sparse(), "is sparse or nested"),
        (torch.quantize_per_tensor(tensor, 0.5, 0, torch.qint8), "is quantized; pass .dequantize"),
        (torch.empty(8, 5, device="meta"), "on the device meta, so it has no numbers"),
        (torch.nn.Embedding(8, 5, device="meta"), "on the device meta"),
        (packed, r"a tensor of torch.float4_e2m1fn_x2; a store can hold .* with .float\(\)"),
        (tensor > 1, "has dtype bool"),
        (tensor.cfloat(), "has dtype complex64"),
        (torch.tensor(1.0), r"has shape \(\)"),
        ({"a": tensor[0].to_sparse()}, "dict: row 0 is sparse or nested"),
        ({"a": tensor[0], "b": packed[0]}, "dict: row 1 is a tensor of torch.float4"),
        ([tensor.to_sparse()], "is sparse or nested"),
        (iter([tensor, tensor.to_sparse()]), "list_iterator: row 8 is sparse or nested"),
        ([(WORDS, tensor.to_sparse())], "list: row 0 is sparse or nested"),
    ):
        with pytest.raises(SourceError, match=says):
            embstore.build(source, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_sparse_matrices_of_scipy(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    for kind in ("csr_matrix", "csr_array", "coo_matrix", "coo_array", "dok_array", "lil_matrix"):
        matrix = getattr(sparse, kind)(ROWS)
        row = sparse.csr_matrix(ROWS[:1])
        for source in (matrix, [matrix], [("a", row)], iter([matrix])):
            with pytest.raises(
                SourceError, match=r"is sparse, a store holds dense rows; pass .toar"
            ):
                embstore.build(source, tmp_path / "s")
    assert_same(read(matrix.toarray())[1], ROWS)


class Hides(Only):
    """A variable of netCDF4: its slices are masked, and their dtype is not its own."""

    shape = (8, 5)
    dtype = np.dtype("f4")
    array: Any

    def __getitem__(self, rows: slice) -> Any:
        return self.array[rows]


@pytest.mark.parametrize(
    "source",
    [
        MASKED,
        [MASKED],
        [ROWS, MASKED],
        (part for part in (ROWS, MASKED)),
        {"a": ROWS[0], "b": MASKED[1]},
        [("a", ROWS[0]), ("b", MASKED[1])],
        [(WORDS, MASKED)],
        iter([list(MASKED)]),
        [list(row) for row in MASKED],
        [[1.0, np.ma.masked]],
        {"a": [1.0, np.ma.masked]},
        {0: MASKED[1]},
        Hides(array=MASKED),
    ],
    ids=range(13),
)
def test_masked_numbers_are_refused(tmp_path, source):
    with pytest.raises(SourceError, match=r"masked numbers; fill them with .filled\(\)"):
        embstore.build(source, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


RECORDS = np.zeros(8, [("word", "U3"), ("vector", "f4", 5)])
RAGGED = np.array([np.ones(2), np.ones(3)], object)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (ROWS + 1j, r"has dtype complex64; .* pass real and imaginary parts"),
        ({"a": ROWS[0] + 1j}, "has dtype complex64; .* pass real and imaginary parts"),
        (ROWS > 1, r"has dtype bool; .* \.astype\('uint8'\)"),
        (ROWS.astype(object), "has dtype object; .*Python objects"),
        (RAGGED, "has dtype object"),
        ({"a": RAGGED}, "has dtype object"),
        (RECORDS, "choose one of its fields: word, vector"),
        (RECORDS.view(np.recarray), "choose one of its fields: word, vector"),
        (ROWS.astype("M8[s]"), r"has dtype datetime64\[s\]; .* \.astype\('int64'\)"),
        (ROWS.astype("m8[s]"), r"has dtype timedelta64\[s\]"),
        (ROWS.astype("U"), "has dtype <U32; .*words of rows go with words="),
        (ROWS.astype("S"), r"has dtype \|S32; .*words of rows go with words="),
        (ROWS.astype(np.dtypes.StringDType()), r"has dtype StringDType\(\)"),
        (ROWS.astype(np.longdouble), r"has dtype .*128; .* \.astype\('float32'\)"),
        (ROWS.astype(ml_dtypes.float8_e3m4), r"has dtype float8_e3m4; .* \.astype\('float32'\)"),
        (np.float32(3), r"has shape \(\)"),
        (np.array(3), r"has shape \(\)"),
        ([[1, 2], [3]], "the rows of the list differ"),
        ([[1, 2], 3], "the rows of the list differ"),
        ([[1.0, None]], "None among its numbers"),
        ([1.0, None], "None among its numbers"),
        ([[True, False]], "booleans, dtype bool"),
        ([[1.0, True]], "booleans, dtype bool"),
        ([[1.0, np.True_]], "booleans, dtype bool"),
        ([True, False], "booleans, dtype bool"),
        ([[1.0, "2"]], "found list of float, str"),
        ([[1.0, b"2"]], "found list of float, bytes"),
        ([[1.0, 2j]], "has dtype complex128"),
        ([[fractions.Fraction(1, 3)]], "has dtype object"),
        ([[datetime.date(2026, 1, 1)]], "has dtype object"),
        ([[2**63, -1]], "integers that no dtype holds together"),
        ([[2**53 + 1, 2], [3, 4.5]], "integers that no dtype holds together"),
        ([[0.5, float("nan")], [1, -(2**53) - 1]], "integers that no dtype holds together"),
        ([(2**60 + 1, np.float32(2))], "integers that no dtype holds together"),
        ([[2**64]], "has dtype object"),
        ({"a": [1.0, 2.0], "b": [True, False]}, "dict: row 1 has booleans"),
        ({"a": [1.0, 2.0], "b": [1.0, None]}, "dict: row 1 has None"),
        ({"a": [1.0, 2.0], "b": None}, "dict: row 1 has dtype object"),
        ({"a": ROWS[0], "b": ROWS[0] > 1}, "dict: row 1 has dtype bool"),
        ({"a": [[1.0], [2.0, 3.0]][1], "b": [1.0, [2.0]]}, "dict: row 1 cannot be read as numbers"),
        (iter([ROWS, ROWS > 1]), "row 8 has dtype bool"),
        (
            iter([(ROWS, ROWS)]),
            r"found tuple of ndarray of shape \(8, 5\)$",
        ),
        (
            iter([(ROWS, np.arange(8))]),
            r"found tuple of ndarray of .*, ndarray of shape \(8,\)",
        ),
        (
            iter([(np.arange(8), ROWS)]),
            r"found tuple of ndarray of shape \(8,\), ndarray",
        ),
        (iter([(set(WORDS), ROWS)]), r"found tuple of set, ndarray of shape \(8, 5\)"),
        (iter([[ROWS]]), r"found list of ndarray of shape \(8, 5\)"),
        ([[ROWS], [ROWS]], r"found list of ndarray of shape \(8, 5\)"),
        ([[ROWS[0], ROWS[1]]], "the list holds lists of arrays, which could be blocks"),
        ([(ROWS[0], ROWS[1])], "the list holds lists of arrays, which could be blocks"),
        (list(zip(ROWS, WORDS, strict=True)), r"found tuple of ndarray of shape \(5,\), str"),
        (zip(ROWS, WORDS, strict=True), r"found tuple of ndarray of shape \(5,\), str"),
        ([(b"the", ROWS[0])], r"found tuple of bytes, ndarray of shape \(5,\)"),
        ([("the", ROWS[0], 1)], r"found tuple of str, ndarray of shape \(5,\), int"),
        ([["the", 0.5, 1.5]], "found list of str, float"),
        ((WORDS, ROWS), "found list of str"),
        ({"the": 0, "of": 1}, "the dict is {word: id}, without vectors; .* as words="),
        ({"the": np.int64(1), "of": np.int64(0)}, "the dict is {word: id}"),
        ([[]], "list has no numbers, and a list has no dtype; give an array"),
        ({"a": []}, "dict: row 0 has no numbers, and a list has no dtype; give an array"),
        ([(WORDS[:7], ROWS)], "a block has 7 words but 8 rows"),
        ([(np.array(WORDS[:7]), ROWS)], "a block has 7 words but 8 rows"),
        (Hides(array=ROWS[:, :3]), r"expected a slice of shape \(8, 5\), found \(8, 3\)"),
        (Hides(array=ROWS[:2]), r"expected a slice of shape \(8, 5\), found \(2, 5\)"),
        (Hides(array={}), "Hides cannot be read as numbers: TypeError|KeyError"),
    ],
)
def test_what_only_looks_like_rows_is_refused(tmp_path, source, says):
    with pytest.raises(SourceError, match=says):
        embstore.build(source, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_slices_of_another_dtype_than_said_are_not_cast_silently(tmp_path):
    """As those of a netCDF4 variable with a scale factor."""
    scaled = Hides(array=ROWS / 3.0)
    scaled.array = ROWS.astype(np.float64) / 3
    with embstore.build(scaled, tmp_path / "s") as store:
        assert store.source["cast_from"] == "float64"
        assert store.source["largest_cast_error"] > 0
    packed = Hides(dtype=np.dtype("i2"), array=ROWS / 3)
    with pytest.raises(TypeError, match="rows are float32; a table of int16 cannot hold them"):
        embstore.build(packed, tmp_path / "t")
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({("a", (1.0,)), ("b", (2.0,))}, "a set, which has no order; expected a path, an array"),
        (frozenset([1.0]), "a frozenset, which has no order"),
        ({"a": [1.0]}.keys(), "a dict_keys, which has no order"),
        (io.StringIO("the 1 2\n"), "opened as text; open it in binary mode, or pass its path"),
        (mmap.mmap(-1, 40), "an open file|cannot be read|expected"),
        (b"bytes", "cannot build from bytes; expected a path, an array"),
        (np.ndarray, "cannot build from type; expected"),
        (lambda: ROWS, "cannot build from function; expected"),
        (bytearray(b"bytes"), "cannot build from bytearray; expected"),
        (3, "cannot build from int; expected"),
        (None, "cannot build from NoneType; expected"),
        (range(3), r"the first item of the range is int.*expected items \(word, vector\)"),
        (iter([1.0, 2.0]), "the first item of the list_iterator is float"),
        ([np.ones(3)], r"expected items \(word, vector\).* yield row\[None\]"),
    ],
)
def test_what_is_no_source_is_a_type_error(source, says):
    with pytest.raises(TypeError, match=says):
        read(source)


@pytest.mark.parametrize("kind", ["list", "tuple", "partitions", "dict", "pairs", "blocks", "npy"])
@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        ("f2", "f4", "f4"),
        ("f4", "f8", "f8"),
        ("i4", "f4", "f8"),
        ("i2", "i8", "i8"),
        ("u1", "i1", "i2"),
        (">f4", "<f4", "f4"),
        ("bfloat16", "f2", "f4"),
    ],
)
def test_parts_of_two_dtypes(tmp_path, kind, first, second, common):
    parts = [
        np.full((3, 2), 7).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        for dtype in (first, second)
    ]
    wide = parts[1] / 3 if np.dtype(common).kind == "f" else parts[1]
    parts[1] = wide.astype(parts[1].dtype)
    expected = np.vstack([part.astype(common) for part in parts])
    names = [f"w{i}" for i in range(6)]
    options: dict[str, Any] = {}
    if kind == "partitions":
        source: Any = parts
        options["partition_strategy"] = "div"
    elif kind == "npy":
        if first == "bfloat16":
            return  # NumPy's files have no name for it.
        source = tmp_path / "parts"
        source.mkdir()
        for number, part in enumerate(parts):
            np.save(source / f"{number}.npy", part)
    elif kind == "blocks":
        source = [(names[:3], parts[0]), (names[3:], parts[1])]
    elif kind in ("dict", "pairs"):
        source = dict(zip(names, [*parts[0], *parts[1]], strict=True))
        source = list(source.items()) if kind == "pairs" else source
    else:
        source = {"list": list, "tuple": tuple}[kind](parts)
    for strategy in ("mod", "div"):
        with embstore.build(
            source, tmp_path / "s", strategy=strategy, overwrite=True, **options
        ) as store:
            assert store.dtype == np.dtype(common)
            np.testing.assert_array_equal(store[:], expected)
            assert "largest_cast_error" not in store.source


def test_an_iterator_keeps_its_first_dtype_and_counts_what_that_changes(tmp_path):
    third = np.full((2, 2), 1 / 3)
    blocks = [np.ones((2, 2), np.float32), third]
    pairs = [("a", np.ones(2, np.float32)), ("b", third[0])]
    for source in (blocks, pairs):
        with embstore.build(iter(source), tmp_path / "s", overwrite=True) as store:
            assert store.dtype == np.float32
            assert store.source["cast_from"] == "float64"
            assert 0 < store.source["largest_cast_error"] < 1e-7
        with embstore.build(source, tmp_path / "s", overwrite=True) as store:
            assert store.dtype == np.float64
            assert store[store.rows - 1].tolist() == [1 / 3] * 2
    for first, second, error in (
        (np.float16, np.full((1, 2), 1e6, np.float32), SourceError),
        (np.int64, third, TypeError),
        (np.int8, np.full((1, 2), 300), SourceError),
    ):
        with pytest.raises(error, match=r"row 2: the value 1e\+06|rows are float64|row 2: the val"):
            embstore.build(iter([np.ones((2, 2), first), second]), tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_integers_that_a_common_dtype_does_not_hold(tmp_path):
    large = np.full((3, 2), 2**53 + 1)
    small = np.full((3, 2), 0.5, np.float32)
    with pytest.raises(SourceError, match="partition 0 has int64 numbers that float64"):
        embstore.build([large, small], tmp_path / "s", partition_strategy="mod")
    for source in ([large, small], {"a": large[0], "b": small[0]}):
        with embstore.build(source, tmp_path / "s", overwrite=True) as store:
            assert store.source["largest_cast_error"] == 1
            assert store.source["cast_from"] == "int64"
    for source in ([np.ones((1, 2), np.uint64), -np.ones((1, 2), np.int64)], [large[:0]] * 0):
        with pytest.raises((SourceError, TypeError), match=r"no dtype holds|empty"):
            embstore.build(source, tmp_path / "t")


def test_words_of_blocks_may_be_any_list_of_words():
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    for kind in (tuple, np.array, pandas.Series, pandas.Index, pyarrow.array):
        words, rows = read([(kind(WORDS[:3]), ROWS[:3]), (kind(WORDS[3:]), ROWS[3:])])
        assert words == WORDS
        assert_same(rows, ROWS)


def test_frames_in_an_iterable_are_refused():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, index=WORDS)
    for source in (iter([frame]), [("a", frame)]):
        with pytest.raises(SourceError, match="row 0 is a DataFrame; pass one frame as a whole"):
            read(source)


@pytest.mark.parametrize("rows", [[[2**53, 4.5]], [[2**60, float("nan")]], [[1e300, 3]]])
def test_large_integers_that_floats_hold(rows):
    np.testing.assert_array_equal(read(rows)[1], np.array(rows))
