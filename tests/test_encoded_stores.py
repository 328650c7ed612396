"""Stores of encoded rows: built, kept, decoded, encoded again, verified, and refused if damaged."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

import embstore
from embstore.cli import app
from embstore.dtypes import as_dtype
from embstore.encodings.gguf_blocks import GgufBlocks
from embstore.encodings.groups import Groups
from embstore.encodings.opaque import Opaque
from embstore.encodings.scaled import Scaled
from embstore.formats.own import spec
from embstore.formats.own.manifest import read_manifest
from embstore.formats.own.seals import manifest_checksum
from tests.helpers.fingerprints import fingerprint

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

WIDTH = 50
ROWS: NDArray[np.float32] = (
    np.random.default_rng(0).standard_normal((101, WIDTH)) * np.logspace(-6, 6, 101)[:, None]
).astype(np.float32)
ROWS[7] = 0
WORDS = [f"w{number}" for number in range(len(ROWS))]
# Name, codes, scale's dtype, values in a group.
NAMES = {
    "float8_e4m3fn": ("float8_e4m3fn", "float32", WIDTH),
    "float8_e4m3fnuz": ("float8_e4m3fnuz", "float32", WIDTH),
    "float8_e5m2": ("float8_e5m2", "float32", WIDTH),
    "float8_e5m2fnuz": ("float8_e5m2fnuz", "float32", WIDTH),
    "int8": ("int8", "float32", WIDTH),
    "float4_e2m1fn": ("float4_e2m1fn", "float32", WIDTH),
    "int4": ("int4", "float32", WIDTH),
    "float8_e4m3fn:32": ("float8_e4m3fn", "bfloat16", 32),
    "int8:10": ("int8", "bfloat16", 10),
    "int4:16": ("int4", "bfloat16", 16),
    "float4_e2m1fn:1000": ("float4_e2m1fn", "float32", WIDTH),
}
names = pytest.mark.parametrize("name", NAMES)


def manifest_of(path: Path) -> Any:
    return json.loads((path / "zarr.json").read_bytes())["attributes"]["embstore"]


def decoded(records: NDArray[np.uint8], name: str, width: int = WIDTH) -> NDArray[np.float32]:
    """Return the rows of records, from the format's specification and ml_dtypes alone."""
    codes, scale_dtype, values = NAMES[name]
    size = -(-width // 2) if codes in {"int4", "float4_e2m1fn"} else width
    first, scales = records[:, :size], records[:, size:].copy().view(as_dtype(scale_dtype))
    if size != width:
        first = np.stack([first & 15, first >> 4], -1).reshape(len(records), -1)[:, :width]
    if codes == "int4":
        numbers = (first.astype(np.int8) ^ np.int8(8)) - np.int8(8)
    elif codes == "float4_e2m1fn":
        halves = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
        numbers = np.concatenate([halves, -halves])[first]
    else:
        numbers = np.ascontiguousarray(first).view(as_dtype(codes))
    wide = np.repeat(scales.astype(np.float32), values, axis=1)[:, :width]
    return numbers.astype(np.float32) * wide


@names
@pytest.mark.parametrize("strategy", ["mod", "div"])
def test_rows_are_those_of_the_specification(tmp_path, name, strategy):
    built = embstore.build(
        ROWS, tmp_path / "s", encoding=name, words=WORDS, partitions=3, strategy=strategy
    )
    records = np.empty((len(ROWS), built.record_bytes), np.uint8)
    ids = read_manifest(tmp_path / "s").numbering
    for partition in range(3):
        array = zarr.open_array(tmp_path / f"s/partitions/{partition}", mode="r")
        assert array.dtype == np.uint8
        records[np.array(ids.ids_of(partition))] = array[:]
    expected = decoded(records, name)
    for reader in ("mapped", "chunked"):
        with embstore.open(tmp_path / "s", reader=reader) as store:
            assert store.dtype == np.float32
            assert store.shape == ROWS.shape
            assert store.encoding == name.removesuffix(":1000")
            assert name.removesuffix(":1000") in repr(store)
            some = np.array([[5, 100, 7], [7, 0, 50]])
            assert store.lookup(some).tobytes() == expected[some].tobytes()
            assert store.lookup(some, raw=True).tobytes() == records[some].tobytes()
            assert store["w9"].tobytes() == store[9].tobytes() == expected[9].tobytes()
            assert np.asarray(store).tobytes() == expected.tobytes()
    again = pickle.loads(pickle.dumps(built))
    assert again[3].tobytes() == expected[3].tobytes()
    assert embstore.verify(tmp_path / "s").ok


@names
def test_the_cost_of_rounding_is_told(tmp_path, name):
    store = embstore.build(ROWS, tmp_path / "s", encoding=name)
    rows, found = ROWS.astype(np.float64), np.asarray(store).astype(np.float64)
    errors = np.abs(rows - found)
    some = (np.linalg.norm(rows, axis=1) > 0) & (np.linalg.norm(found, axis=1) > 0)
    cosines = (rows * found).sum(1)[some] / (
        np.linalg.norm(rows, axis=1)[some] * np.linalg.norm(found, axis=1)[some]
    )
    facts = store.source
    assert facts["encoded_as"] == store.encoding
    assert facts["largest_encoding_error"] == errors.max()
    assert facts["mean_encoding_error"] == pytest.approx(errors.mean())
    assert facts["mean_cosine"] == pytest.approx(cosines.mean())
    assert facts["smallest_cosine"] == pytest.approx(cosines.min())
    # Half of the distance of neighbouring codes, of those of the largest number.
    peaks = np.abs(rows).max(axis=1, keepdims=True)
    shares = {"float8_e4m3fn": 16, "float8_e4m3fnuz": 16, "float8_e5m2": 8, "float8_e5m2fnuz": 8}
    codes = NAMES[name][0]
    share = shares.get(codes) or {"int8": 254, "int4": 14, "float4_e2m1fn": 6}[codes]
    assert (errors <= peaks / share * 1.01).all()


@names
def test_manifests_say_how_rows_are_encoded(tmp_path, name):
    store = embstore.build(ROWS, tmp_path / "s", encoding=name)
    codes, dtype, values = NAMES[name]
    fields = manifest_of(tmp_path / "s")
    assert fields["requires"] == ["encoding"]
    assert (fields["dtype"], fields["row_shape"]) == ("float32", [WIDTH])
    assert fields["encoding"] == {
        "name": "scaled",
        "codes": codes,
        "scales": {"dtype": dtype, "values": values},
    }
    assert fields["record_bytes"] == store.record_bytes
    metadata = json.loads((tmp_path / "s/partitions/0/zarr.json").read_bytes())
    assert metadata["shape"] == [len(ROWS), store.record_bytes]
    assert metadata["data_type"] == "uint8"


def test_readers_without_encodings_refuse_the_store(tmp_path, monkeypatch):
    embstore.build(ROWS, tmp_path / "s", encoding="int8")
    monkeypatch.setattr(spec, "FEATURES", ("bfloat16",))
    with pytest.raises(embstore.StoreVersionError, match="'encoding'"):
        embstore.open(tmp_path / "s")


SHAPES = [(), (1,), (3,), (2, 3), (4, 1, 5)]


@pytest.mark.parametrize("row_shape", SHAPES)
@pytest.mark.parametrize("name", ["float8_e4m3fn", "int4", "int8:2"])
def test_rows_of_any_shape(tmp_path, row_shape, name):
    rows = np.random.default_rng(1).standard_normal((17, *row_shape)).astype(np.float32)
    store = embstore.build(rows, tmp_path / "s", encoding=name, partitions=2)
    assert store.shape == rows.shape
    flat = embstore.build(rows.reshape(17, -1), tmp_path / "flat", encoding=name)
    assert np.asarray(store).tobytes() == np.asarray(flat).tobytes()


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int32"])
def test_sources_of_any_dtype(tmp_path, dtype):
    rows = (np.random.default_rng(2).standard_normal((20, 8)) * 50).astype(as_dtype(dtype))
    store = embstore.build(rows, tmp_path / "s", encoding="float8_e4m3fn")
    same = embstore.build(rows.astype(np.float32), tmp_path / "same", encoding="float8_e4m3fn")
    assert np.asarray(store).tobytes() == np.asarray(same).tobytes()


def test_text_is_encoded(tmp_path):
    text = "\n".join(
        f"{word} {' '.join(map(str, row))}" for word, row in zip(WORDS, ROWS, strict=True)
    )
    (tmp_path / "t.txt").write_text(text)
    store = embstore.build(tmp_path / "t.txt", tmp_path / "s", encoding="int8:16")
    same = embstore.build(ROWS, tmp_path / "same", encoding="int8:16", words=WORDS)
    assert store.fingerprint() == same.fingerprint()
    assert store.ids("w7") == 7


@names
def test_encoded_rows_are_kept_without_decoding(tmp_path, name):
    first = embstore.build(ROWS, tmp_path / "first", encoding=name, words=WORDS, unk="w3")
    kept = embstore.build(
        first, tmp_path / "kept", partitions=4, strategy="div", on_duplicate="error"
    )
    assert (
        kept.lookup(np.arange(101), raw=True).tobytes()
        == first[:0].tobytes() + first.lookup(np.arange(101), raw=True).tobytes()
    )
    assert (kept.encoding, kept.unk) == (first.encoding, "w3")
    assert kept.fingerprint() == first.fingerprint()
    assert kept.source["non_finite_row_count"] is None
    assert kept.source["origins"][0]["encoded_as"] == first.encoding
    assert "largest_encoding_error" not in kept.source
    by_path = embstore.build(tmp_path / "kept", tmp_path / "by_path", limit=40)
    assert np.asarray(by_path).tobytes() == first[:40].tobytes()
    assert by_path.words(39) == "w39"


@names
def test_encoded_rows_are_decoded_on_demand(tmp_path, name):
    first = embstore.build(ROWS, tmp_path / "first", encoding=name)
    plain = embstore.build(first, tmp_path / "plain", encoding="plain")
    assert plain.encoding == "plain"
    assert plain.dtype == np.float32
    assert np.asarray(plain).tobytes() == np.asarray(first).tobytes()
    assert manifest_of(tmp_path / "plain")["requires"] == []
    narrow = embstore.build(first, tmp_path / "narrow", encoding="plain", dtype="bfloat16")
    assert np.asarray(narrow).tobytes() == np.asarray(first).astype(narrow.dtype).tobytes()


def test_encoded_rows_are_encoded_again_from_decoded_ones(tmp_path):
    first = embstore.build(ROWS, tmp_path / "first", encoding="int8")
    again = embstore.build(first, tmp_path / "again", encoding="float8_e5m2:16")
    expected = embstore.build(np.asarray(first), tmp_path / "e", encoding="float8_e5m2:16")
    assert again.fingerprint() == expected.fingerprint()
    assert again.source["largest_encoding_error"] == expected.source["largest_encoding_error"]


KEPT: dict[str, tuple[Any, int]] = {
    "gguf": (GgufBlocks("Q8_0", (64,)), 68),
    "opaque": (Opaque("IQ2_XS", 9), 9),
    "factor": (Scaled("float8_e4m3fn", (6,), factor=0.25), 6),
    "e8m0": (Scaled("float8_e4m3fn", (64,), scales=Groups("float8_e8m0fnu", 2, 32)), 66),
    "zero points": (
        Scaled(
            "uint4",
            (6,),
            factor=2.0,
            scales=Groups("float16", 2, 4),
            zero_points=Groups("uint8", 2, 4),
        ),
        9,
    ),
    "zero": (Scaled("uint8", (2, 3), zero=128.0, scales=Groups("float32", 1, 6)), 10),
}


@pytest.mark.parametrize("kind", KEPT)
def test_records_can_be_written_as_they_are(tmp_path, kind):
    encoding, size = KEPT[kind]
    records = np.random.default_rng(3).integers(0, 256, (30, size)).astype(np.uint8)
    records[:, -4:] &= 0x3F  # No scale is nan.
    with embstore.StoreWriter(
        tmp_path / "s", row_shape=encoding.row_shape, encoding=encoding, partitions=2
    ) as writer:
        writer.write(records[:10])
        writer.write(records[10:])
    store = embstore.open(tmp_path / "s")
    assert store.lookup(np.arange(30), raw=True).tobytes() == records.tobytes()
    joined: Any = read_manifest(tmp_path / "s").encoding
    expected = np.empty((30, *encoding.row_shape), encoding.dtype)
    joined.decode((records,), expected)
    assert np.asarray(store).tobytes() == expected.tobytes()
    assert (store.dtype, store.record_bytes) == (encoding.dtype, size)
    assert embstore.verify(tmp_path / "s").ok
    again = embstore.build(store, tmp_path / "again", partitions=1)
    assert again.fingerprint() == store.fingerprint()
    assert manifest_of(tmp_path / "again")["encoding"] == manifest_of(tmp_path / "s")["encoding"]
    if kind == "opaque":
        for encoding_name in ("plain", "int8"):
            with pytest.raises(embstore.SourceError, match=r"rows of IQ2_XS, .* cannot be decoded"):
                embstore.build(store, tmp_path / "no", encoding=encoding_name)


def test_fingerprints_are_those_of_the_specification(tmp_path):
    store = embstore.build(ROWS, tmp_path / "s", encoding="float8_e4m3fn:32", words=WORDS, unk="w1")
    records = store.lookup(np.arange(101), raw=True)
    line = (
        'float32 {"codes":"float8_e4m3fn","name":"scaled",'
        '"scales":{"dtype":"bfloat16","values":32}}'
    )
    expected = fingerprint(records, WORDS, "w1", dtype=line, row_shape=(WIDTH,))
    assert store.fingerprint() == store.fingerprint(full=True) == expected
    assert store.matches(expected)


def test_equal_numbers_of_other_encodings_are_other_tables(tmp_path):
    rows = np.zeros((3, 8), np.float32)
    found = {
        embstore.build(rows, tmp_path / f"s{number}", encoding=name).fingerprint()
        for number, name in enumerate(["plain", "int8", "int4", "float8_e5m2", "int8:4"])
    }
    assert len(found) == 5


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"encoding": "float9"},
        ValueError,
        "unknown encoding 'float9'; expected one of float8_e4m3fn",
    ),
    ({"encoding": "int8:0"}, ValueError, "unknown encoding 'int8:0'"),
    ({"encoding": "uint8"}, ValueError, "unknown encoding 'uint8'"),
    ({"encoding": "Q4_K"}, ValueError, "unknown encoding 'Q4_K'"),
    ({"encoding": ""}, ValueError, "unknown encoding ''"),
    ({"encoding": 8}, TypeError, "encoding must be a str, not int"),
    ({"encoding": "int8", "dtype": "bfloat16"}, ValueError, "decoded to float32, so dtype= cannot"),
    ({"encoding": "int8", "on_overflow": "inf"}, ValueError, 'on_overflow="inf" is for the dtype'),
]


@pytest.mark.parametrize(("options", "error", "says"), REFUSED)
def test_options_that_do_not_fit(tmp_path, options, error, says):
    with pytest.raises(error, match=says):
        embstore.build(ROWS, tmp_path / "s", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_dtype_alone_does_not_decode(tmp_path):
    embstore.build(ROWS, tmp_path / "s", encoding="int8")
    for source in (tmp_path / "s", embstore.open(tmp_path / "s")):
        with pytest.raises(embstore.SourceError, match=r'stored as int8, .* pass encoding="plain"'):
            embstore.build(source, tmp_path / "t", dtype="float32")


@pytest.mark.parametrize("name", ["int8", "float8_e4m3fn", "float8_e4m3fnuz:16", "int4"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_numbers_that_codes_lack_are_refused(tmp_path, name, value):
    rows = ROWS.copy()
    rows[57, 3] = value
    if np.isnan(value) and name.startswith("float8"):
        store = embstore.build(rows, tmp_path / "s", encoding=name)
        assert np.isnan(store[57]).nonzero()[0].tolist() == [3]
        assert store.source["non_finite_row_count"] == 1
        return
    with pytest.raises(embstore.SourceError, match="row 57: "):
        embstore.build(rows, tmp_path / "s", encoding=name)
    assert list(tmp_path.iterdir()) == []


def test_writers_of_records_take_records(tmp_path):
    encoding = Scaled("int8", (4,), scales=Groups("float32", 1, 4))
    for rows, error, says in (
        (np.zeros((2, 8), np.int8), TypeError, "records must be uint8, not int8"),
        (np.zeros((2, 4), np.uint8), ValueError, r"rows have shape \(2, 4\), expected \(n, 8\)"),
    ):
        writer = embstore.StoreWriter(tmp_path / "s", row_shape=(4,), encoding=encoding)
        with pytest.raises(error, match=says):
            writer.write(rows)
    with pytest.raises(TypeError, match="dtype is missing; plain rows need one"):
        embstore.StoreWriter(tmp_path / "s", row_shape=(4,))
    with pytest.raises(TypeError, match="encoding must be the name of one, not int"):
        embstore.StoreWriter(tmp_path / "s", row_shape=(4,), encoding=8)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("encoding", "says"),
    [
        (Scaled("int8", (4,), factor=float("nan")), "the factor of the table is nan"),
        (Scaled("int8", (4,), zero=float("inf")), "the zero of the table is inf"),
        (Scaled("int8", (2, 2)), r"row_shape is \(4,\), but int8 encodes rows of shape \(2, 2\)"),
        (Opaque("x" * 100, 4), "type is 'xxx"),
        (Opaque("", 4), "type is ''"),
    ],
)
def test_encodings_that_do_not_fit_are_refused_first(tmp_path, encoding, says):
    with pytest.raises(ValueError, match=says):
        embstore.StoreWriter(tmp_path / "s", row_shape=(4,), encoding=encoding)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("compression", ["zstd", "blosc"])
def test_encoded_rows_can_be_compressed(tmp_path, compression):
    raw = embstore.build(ROWS, tmp_path / "raw", encoding="float8_e4m3fn:32", words=WORDS)
    store = embstore.build(
        ROWS,
        tmp_path / "s",
        encoding="float8_e4m3fn:32",
        words=WORDS,
        partitions=2,
        compression=compression,
    )
    assert np.asarray(store).tobytes() == np.asarray(raw).tobytes()
    assert store[[3, 99]].tobytes() == raw[[3, 99]].tobytes()
    assert store.fingerprint() == raw.fingerprint()
    assert embstore.verify(tmp_path / "s").ok
    kept = embstore.build(store, tmp_path / "kept")
    assert kept.fingerprint() == raw.fingerprint()
    assert (kept.encoding, kept.lookup(5, raw=True).tobytes()) == (
        "float8_e4m3fn:32",
        raw.lookup(5, raw=True).tobytes(),
    )


def forge(path: Path, **fields: Any) -> None:
    """Change fields of a manifest; None removes one. Its own checksum fits."""
    document = json.loads((path / "zarr.json").read_bytes())
    manifest = document["attributes"]["embstore"] | fields
    for key in [key for key, value in fields.items() if value is None]:
        del manifest[key]
    manifest["manifest_crc32c"] = manifest_checksum(manifest)
    document["attributes"]["embstore"] = manifest
    (path / "zarr.json").write_text(json.dumps(document))


SCALES = {"dtype": "float32", "values": WIDTH}
GOOD = {"name": "scaled", "codes": "int8", "scales": SCALES}
CORRUPT, VERSION = embstore.StoreCorruptError, embstore.StoreVersionError
FORGED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"encoding": None}, CORRUPT, "is missing, but required"),
    ({"requires": []}, CORRUPT, "is given, but not required"),
    ({"encoding": []}, CORRUPT, "is a list, expected an object"),
    ({"encoding": {}}, CORRUPT, "expected an object whose name is"),
    ({"encoding": {"name": 3}}, CORRUPT, "expected an object whose name is"),
    ({"encoding": GOOD | {"name": "vq"}}, VERSION, "the encoding 'vq'"),
    ({"encoding": GOOD | {"codes": "float6_e2m3fn"}}, VERSION, "codes of 'float6_e2m3fn'"),
    ({"encoding": GOOD | {"codes": ["int8"]}}, CORRUPT, "codes is"),
    ({"encoding": GOOD | {"rotation": 1}}, VERSION, "'rotation' in their encoding"),
    ({"encoding": GOOD | {"scales": 1}}, CORRUPT, "scales is 1; expected an object"),
    ({"encoding": GOOD | {"scales": {"dtype": "float32"}}}, CORRUPT, "lacks values"),
    ({"encoding": GOOD | {"scales": SCALES | {"values": 0}}}, CORRUPT, "values of scales is 0"),
    ({"encoding": GOOD | {"scales": SCALES | {"values": 2**70}}}, CORRUPT, "values of scales"),
    ({"encoding": GOOD | {"scales": SCALES | {"values": True}}}, CORRUPT, "values of scales"),
    ({"encoding": GOOD | {"scales": SCALES | {"values": 25}}}, CORRUPT, "'record_bytes' .* is 54"),
    ({"encoding": GOOD | {"scales": SCALES | {"dtype": "int64"}}}, VERSION, "scales of 'int64'"),
    ({"encoding": GOOD | {"factor": 1e300}}, CORRUPT, "factor is 1e.300"),
    ({"encoding": GOOD | {"factor": "2"}}, CORRUPT, "factor is '2'"),
    ({"encoding": GOOD | {"zero": 10**400}}, CORRUPT, "zero is"),
    ({"encoding": {"name": "gguf", "type": "Q9_9"}}, VERSION, "type of 'Q9_9'"),
    ({"encoding": {"name": "gguf", "type": "Q8_0"}}, CORRUPT, "not whole blocks"),
    ({"encoding": {"name": "opaque", "type": "x"}}, CORRUPT, "opaque|x|record_bytes"),
    ({"record_bytes": None}, CORRUPT, "'record_bytes' of manifest is missing"),
    ({"record_bytes": 0}, CORRUPT, "'record_bytes'"),
    ({"record_bytes": 55}, CORRUPT, "is 55, but a record of int8 has 54"),
    ({"record_bytes": 2**62}, CORRUPT, "'record_bytes'"),
    ({"row_shape": [2**40]}, CORRUPT, "row shape"),
    ({"row_shape": [1] * 40}, CORRUPT, "row shape"),
    ({"row_shape": [2**20, 2**20, 2**20]}, CORRUPT, "row shape"),
    ({"row_shape": [0]}, CORRUPT, "row shape"),
    ({"row_shape": [25]}, CORRUPT, "values of scales is 50"),
    ({"dtype": "bfloat16"}, CORRUPT, "rows of int8 are float32, but the dtype is bfloat16"),
]


@pytest.mark.parametrize(("fields", "error", "says"), FORGED)
def test_forged_encodings_are_refused(tmp_path, fields, error, says):
    embstore.build(ROWS, tmp_path / "s", encoding="int8", partitions=2)
    forge(tmp_path / "s", **fields)
    with pytest.raises(error, match=says) as caught:
        embstore.open(tmp_path / "s")
    assert type(caught.value) is error
    assert len(str(caught.value)) < 1000


def test_damaged_records_are_found(tmp_path):
    embstore.build(ROWS, tmp_path / "s", encoding="int8")
    file = tmp_path / "s/partitions/0/c/0/0"
    data = bytearray(file.read_bytes())
    data[60] ^= 1
    file.write_bytes(data)
    assert "is damaged" in embstore.verify(tmp_path / "s").problems[0]


def test_other_encodings_of_the_same_bytes_are_found(tmp_path):
    embstore.build(ROWS, tmp_path / "s", encoding="int8")
    forge(tmp_path / "s", encoding=GOOD | {"codes": "float8_e4m3fn"})
    (problem,) = embstore.verify(tmp_path / "s").problems
    assert "but the manifest says" in problem


def test_the_command_line_tells_what_encoding_cost(tmp_path):
    np.save(tmp_path / "t.npy", ROWS)
    runner = CliRunner()
    built = runner.invoke(
        app, ["build", str(tmp_path / "t.npy"), str(tmp_path / "s"), "--encoding", "int8:16"]
    )
    assert built.exit_code == 0
    assert "numbers were encoded as int8:16; the largest difference is" in built.output
    assert "mean cosine of rows is 0.99" in built.output
    again = ["repartition", str(tmp_path / "s"), str(tmp_path / "t"), "--partitions", "3", "--json"]
    facts = json.loads(runner.invoke(app, again).stdout)
    assert (facts["encoding"], facts["record_bytes"]) == ("int8:16", 58)
    assert facts["fingerprint"] == embstore.open(tmp_path / "s").fingerprint()
    plain = [*again[:-1], "--encoding", "plain", "--overwrite", "--json"]
    facts = json.loads(runner.invoke(app, plain).stdout)
    assert "encoding" not in facts
