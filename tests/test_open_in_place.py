"""Foreign files opened in place: .npy and .safetensors serve rows as a store does."""

from __future__ import annotations

import json
import os
import pickle
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

import embstore
from embstore.dtypes import DTYPES
from embstore.opener import ReaderName
from tests.helpers.programs import run_python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

ROWS = 3000


def table_of(dtype: Any = np.float32, row_shape: tuple[int, ...] = (7,)) -> NDArray[Any]:
    numbers = np.random.default_rng(3).integers(0, 100, (ROWS, *row_shape))
    return numbers.astype(dtype)


def save_npy(path: Path, table: NDArray[Any]) -> Path:
    np.save(path / "t.npy", table)
    return path / "t.npy"


def safetensors_bytes(tensors: dict[str, NDArray[Any]], pad: int = 0) -> bytes:
    """Return a file as the safetensors library writes it; ``pad`` shifts the data."""
    names = {np.dtype(row.numpy): row.safetensors for row in DTYPES.values()}
    header, done = {}, 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [done, done + tensor.nbytes],
        }
        done += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * pad
    data = b"".join(tensor.tobytes() for tensor in tensors.values())
    return len(text).to_bytes(8, "little") + text + data


def save_safetensors(path: Path, table: NDArray[Any], pad: int = 0) -> Path:
    (path / "t.safetensors").write_bytes(safetensors_bytes({"embed": table}, pad))
    return path / "t.safetensors"


SAVES: list[Callable[[Path, NDArray[Any]], Path]] = [save_npy, save_safetensors]
READERS: list[ReaderName] = ["mapped", "chunked"]


@pytest.mark.parametrize("row", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("pad", range(9))
def test_safetensors_rows_at_every_misalignment(tmp_path, row, pad):
    library = pytest.importorskip("safetensors.numpy")
    table = table_of(row.numpy)
    path = save_safetensors(tmp_path, table, pad)
    expected = table if row.is_extension else library.load_file(path)["embed"]
    ids = np.random.default_rng(0).integers(0, ROWS, 500)
    for reader in READERS:
        with embstore.open(path, reader=reader) as store:
            assert store.dtype == expected.dtype
            assert store.lookup(ids).tobytes() == expected[ids].tobytes()
            assert store[17].tobytes() == expected[17].tobytes()
            assert store.to_numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [d for d in DTYPES if not DTYPES[d].is_extension])
@pytest.mark.parametrize("row_shape", [(), (1,), (2, 3)])
@pytest.mark.parametrize("reader", READERS)
def test_npy_rows_equal_those_of_numpy(tmp_path, dtype, row_shape, reader):
    path = save_npy(tmp_path, table_of(dtype, row_shape))
    expected = np.load(path)
    with embstore.open(path, reader=reader) as store:
        assert (store.shape, store.dtype) == (expected.shape, expected.dtype)
        for ids in (5, [3, 1, 3], [[0, ROWS - 1]], [], np.arange(ROWS)[::-1]):
            found = store.lookup(ids)
            assert found.tobytes() == expected[np.asarray(ids, np.int64)].tobytes()
            assert found.shape == (*np.shape(ids), *row_shape)


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("reader", READERS)
def test_everything_that_a_store_does_with_rows(tmp_path, save, reader):
    table = table_of()
    path = save(tmp_path, table)
    before = sorted(file.name for file in tmp_path.iterdir())
    ids = np.array([[2999, 0], [5, 5]])
    is_mapped = reader == "mapped"
    with embstore.open(path, reader=reader, resident_limit="64MiB", preload=is_mapped) as store:
        assert store.mapped == (reader == "mapped")
        store.prefetch(ids)
        out = np.empty((2, 2, 7), np.float32)
        assert store.lookup(ids, out=out) is out
        assert np.array_equal(out, table[ids])
        limited = store.lookup(ids, max_norm=1.0)
        assert np.allclose(np.linalg.norm(limited, axis=-1), 1)
        plan = store.explain(ids)
        assert (plan.row_count, plan.distinct_row_count) == (4, 3)
        assert (plan.partition_count, plan.chunk_count) == (1, 1)
        assert plan.bytes_needed == 3 * 28
        assert plan.bytes_read >= plan.bytes_needed
        assert store.stats().rows == 8
        seen = np.zeros(ROWS, int)

        def visit(some: range, rows: NDArray[Any]) -> None:
            assert rows.flags.aligned
            assert not rows.flags.writeable
            assert np.array_equal(rows, table[some.start : some.stop])
            seen[some.start : some.stop] += 1

        store.scan(visit, 3, 2000)
        assert seen[3:2000].all()
        assert seen.sum() == 1997
        assert np.array_equal(store[[1, 2]], table[[1, 2]])
        assert np.array_equal(store[-3:], table[-3:])
        bags = embstore.RaggedIds([5, 7, 9], [0, 2, 3])
        summed = embstore.embedding_lookup_sparse(store, bags, None, combiner="sum")
        assert np.array_equal(summed, [table[5] + table[7], table[9]])
        assert np.array_equal(embstore.embedding_lookup(store, ids), table[ids])
        with pytest.raises(embstore.IdRangeError, match="id 3000 at position 1"):
            store.lookup([0, 3000])
    with pytest.raises(embstore.StoreClosedError):
        store.lookup([0])
    assert sorted(file.name for file in tmp_path.iterdir()) == before  # Nothing was written.


@pytest.mark.parametrize("save", SAVES)
def test_foreign_file_lacks_the_facts_of_a_store(tmp_path, save):
    path = save(tmp_path, table_of())
    with embstore.open(path) as store:
        assert (store.partition_count, store.strategy, store.rows) == (1, "mod", ROWS)
        assert (store.has_words, store.unk) == (False, None)
        assert store.path == path
        assert store.source == {"file": path.name, "format": path.suffix[1:]}
        assert repr(store) == f"<EmbeddingStore 3000 rows of (7,) float32, in {path.name}>"
        with pytest.raises(embstore.FormatError, match=r"is not a store, so it has no chunks"):
            store.chunk_rows  # noqa: B018
        with pytest.raises(embstore.FormatError, match="no partitions that are Zarr arrays"):
            store.partition(0)
        with pytest.raises(IndexError, match="partition must be from 0 to 0, not 1"):
            store.partition(1)
        for call in (lambda: store["a"], lambda: store.ids(["a"]), lambda: store.words([0])):
            with pytest.raises(embstore.MissingWordError, match="has no words"):
                call()
        assert "a" not in store
    with pytest.raises(ValueError, match='verify="full" needs the checksums of a store'):
        embstore.open(path, verify="full")


@pytest.mark.parametrize("save", SAVES)
def test_fingerprints_of_files(tmp_path, save):
    table = table_of()
    path = save(tmp_path, table)
    with embstore.open(path) as store:
        quick, full = store.fingerprint(), store.fingerprint(full=True)
    assert quick.startswith("f")
    assert len(quick) == 33
    built = embstore.build(path, tmp_path / "t.embstore")
    assert full == built.fingerprint() == built.fingerprint(full=True)
    (tmp_path / "copy").mkdir()
    with embstore.open(save(tmp_path / "copy", table)) as copy:
        assert copy.fingerprint() == quick  # Wherever it lies.
    table[1234] += 1
    with embstore.open(save(tmp_path / "copy", table)) as other:
        assert other.fingerprint() != quick
        assert other.fingerprint(full=True) != full


def test_full_fingerprint_of_many_chunks_and_of_no_rows(tmp_path, monkeypatch):
    from embstore.formats.own import spec

    monkeypatch.setattr(spec, "MAX_PARTITION_BYTES", 50_000)
    for rows in (0, 1, ROWS):
        path = save_npy(tmp_path, table_of()[:rows])
        built = embstore.build(path, tmp_path / "t", overwrite=True)
        assert built.partition_count == (2 if rows == ROWS else 1)
        with embstore.open(path) as store:
            assert store.fingerprint(full=True) == built.fingerprint()


def test_full_fingerprint_finds_damage(words_store):
    with embstore.open(words_store) as store:
        assert store.fingerprint(full=True) == store.fingerprint()
        chunk = words_store / "partitions/0/c/0/0"
        data = bytearray(chunk.read_bytes())
        data[3] ^= 1
        chunk.write_bytes(data)
        assert len(store.fingerprint()) == 32
        with pytest.raises(embstore.StoreCorruptError, match="partitions/0/c/0/0"):
            store.fingerprint(full=True)


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("reader", READERS)
def test_pickle_refuses_another_file(tmp_path, save, reader):
    table = table_of()
    path = save(tmp_path, table)
    with embstore.open(path, reader=reader) as store:
        pickled = pickle.dumps(store)
        with pickle.loads(pickled) as copy:
            assert np.array_equal(copy[[5]], table[[5]])
            assert copy.mapped == store.mapped
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
    with pytest.raises(embstore.StoreNotFoundError, match="size or modification time"):
        pickle.loads(pickled)
    path.unlink()
    with pytest.raises(embstore.StoreNotFoundError):
        pickle.loads(pickled)


@pytest.mark.parametrize("save", SAVES)
def test_forked_child_reads_the_same_rows(tmp_path, save):
    path = save(tmp_path, table_of())
    program = """
import os, sys
import numpy as np
import embstore
store = embstore.open(sys.argv[1])
expected = store.lookup(np.arange(3000)).tobytes()
child = os.fork()
if not child:
    os._exit(store.lookup(np.arange(3000)).tobytes() != expected)
print(os.waitpid(child, 0)[1])
"""
    assert run_python("-W", "ignore", "-c", program, path).stdout == "0\n"


def test_changed_file_is_noticed_when_it_is_read(tmp_path):
    path = save_npy(tmp_path, table_of())
    with embstore.open(path, reader="chunked") as store:
        np.save(path, table_of()[:100])
        with pytest.raises(embstore.StoreNotFoundError, match="changed since the table was opened"):
            store.lookup([5])
        with pytest.raises(embstore.StoreNotFoundError, match="changed since the table was opened"):
            store.fingerprint()


def test_torch_modules(tmp_path):
    torch = pytest.importorskip("torch")
    from embstore.interop.torch import StoreDataset, StoreEmbedding, StoreEmbeddingBag

    table = table_of()
    for path in (save_npy(tmp_path, table), save_safetensors(tmp_path, table, pad=3)):
        with embstore.open(path) as store:
            ids = torch.tensor([[5, 7], [0, 2999]])
            expected = torch.tensor(table)
            assert torch.equal(StoreEmbedding(store)(ids), expected[ids])
            bag = StoreEmbeddingBag(store, mode="sum")
            assert torch.equal(bag(ids), expected[ids].sum(1))
            assert torch.equal(StoreDataset(store)[9], expected[9])


def test_tensors_of_a_model_in_several_files(tmp_path):
    tables = {1: table_of(), 2: table_of(ml_dtypes.bfloat16, (2, 4))}
    for number, table in tables.items():
        data = safetensors_bytes({"bias": np.zeros(3, np.int8), f"layer.{number}": table}, number)
        (tmp_path / f"model-{number}.safetensors").write_bytes(data)
    weights = {f"layer.{number}": f"model-{number}.safetensors" for number in tables}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weights}))
    for path in (tmp_path, index):
        for number, table in tables.items():
            with embstore.open(path, tensor=f"layer.{number}") as store:
                assert store.to_numpy().tobytes() == table.tobytes()
    with pytest.raises(embstore.FormatError, match=r"has 2 tensors: layer.1, layer.2; name the"):
        embstore.open(tmp_path)
    with pytest.raises(embstore.FormatError, match=r"has no tensor 'layer.3'; it has: layer.1"):
        embstore.open(tmp_path, tensor="layer.3")
    with pytest.raises(embstore.FormatError, match=r"is a \.npy file, which does not take tensor="):
        embstore.open(save_npy(tmp_path, table_of()), tensor="x")
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(
        embstore.StoreCorruptError, match=r"model-2\.safetensors, which .* is missing"
    ):
        embstore.open(tmp_path, tensor="layer.2")


def test_links_of_a_download_cache_are_followed(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    data = safetensors_bytes({"embed": table_of()})
    (tmp_path / "blobs" / "abc").write_bytes(data)
    link = tmp_path / "snapshot" / "model.safetensors"
    link.symlink_to("../blobs/abc")
    for path in (link, tmp_path / "snapshot"):
        with embstore.open(path) as store:
            assert np.array_equal(store[[9]], table_of()[[9]])


def test_files_that_only_a_build_takes(tmp_path):
    table = np.asfortranarray(table_of())
    np.save(tmp_path / "f.npy", table)
    np.save(tmp_path / "b.npy", table_of(">f4"))
    for name, says in (
        ("f.npy", "is in Fortran order, so a row is not contiguous; .*embstore.build"),
        ("b.npy", r"has big-endian numbers \(>f4\); .*embstore.build"),
        ("", r"is a directory of .npy files; .*embstore.build"),
    ):
        with pytest.raises(embstore.FormatError, match=says):
            embstore.open(tmp_path / name)
    for name in ("f.npy", "b.npy"):
        with embstore.build(tmp_path / name, tmp_path / "t", overwrite=True) as store:
            assert np.array_equal(store.to_numpy(), table)
    column = np.asfortranarray(np.arange(5.0)[:, np.newaxis])
    np.save(tmp_path / "one.npy", column)  # In both orders.
    with embstore.open(tmp_path / "one.npy") as store:
        assert np.array_equal(store.to_numpy(), column)


def npy(shape: tuple[int, ...], descr: str = "<f4", data: bytes = b"") -> bytes:
    header = str({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (
            b"\x93NUMPY\x09\x00",
            embstore.StoreCorruptError,
            "version .* which embstore does not know",
        ),
        (b"\x93NUMPY\x01\x00\xff\xff{", embstore.StoreCorruptError, "not a readable .npy"),
        (npy((9, -1)), embstore.StoreCorruptError, r"its shape is \(9, -1\)"),
        (
            npy((2, 2), data=bytes(15)),
            embstore.StoreCorruptError,
            "takes 16 bytes, but only 15 are",
        ),
        (npy((10**15, 9)), embstore.StoreCorruptError, "but only 0 are in the file"),
        (npy((1,), "|O"), embstore.FormatError, "Python objects"),
        (npy((0,), "<c8"), embstore.FormatError, "dtype complex64"),
        (npy((0,), "<U3"), embstore.FormatError, "dtype <U3"),
        (npy(()), embstore.FormatError, r"has shape \(\)"),
        (npy((1 << 40, 0)), embstore.FormatError, "1099511627776 rows are more than"),
        (npy((0, 1 << 40)), embstore.FormatError, "a row takes 4398046511104 bytes"),
        (b"the 0.1 0.2\n", embstore.StoreNotFoundError, "it is a file, .*embstore.build"),
        (b"", embstore.StoreNotFoundError, "the file is empty"),
    ],
)
def test_wrong_npy_files_are_refused(tmp_path, data, error, says):
    (tmp_path / "t.npy").write_bytes(data)
    for reader in READERS:
        with pytest.raises(error, match=says):
            embstore.open(tmp_path / "t.npy", reader=reader)


def with_header(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


GOOD = {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}
TWICE = b'{"a": {"dtype": "F32"}, "a": {"dtype": "F32"}}'


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (with_header(b"{"), embstore.StoreCorruptError, "not a readable"),
        (with_header(b"{" * 100_000), embstore.StoreCorruptError, "not a readable"),
        (with_header(TWICE), embstore.StoreCorruptError, "the name 'a' is repeated"),
        (with_header({}), embstore.FormatError, "has 0 tensors"),
        (with_header({"a": GOOD | {"shape": [2, 2]}}), embstore.StoreCorruptError, "does not take"),
        (with_header({"a": GOOD | {"shape": [-2]}}), embstore.StoreCorruptError, "not whole"),
        (
            with_header({"a": GOOD}, bytes(7)),
            embstore.StoreCorruptError,
            "but the file has 79 bytes",
        ),
        (
            with_header({"a": GOOD | {"dtype": "X9"}}, bytes(8)),
            embstore.FormatError,
            "has dtype X9",
        ),
        (with_header({"a": {"dtype": "F32"}}), embstore.StoreCorruptError, "not a readable"),
        (
            with_header({"a": GOOD | {"shape": [], "data_offsets": [0, 4]}}, bytes(4)),
            embstore.FormatError,
            r"has shape \(\)",
        ),
    ],
)
def test_wrong_safetensors_files_are_refused(tmp_path, data, error, says):
    (tmp_path / "t.safetensors").write_bytes(data)
    with pytest.raises(error, match=says):
        embstore.open(tmp_path / "t.safetensors")


def test_directories_with_several_safetensors_files(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.safetensors").write_bytes(safetensors_bytes({"x": table_of()}))
    with pytest.raises(embstore.FormatError, match=r"found a.safetensors, b.safetensors; name the"):
        embstore.open(tmp_path)


@pytest.mark.parametrize("save", SAVES)
def test_empty_table(tmp_path, save):
    path = save(tmp_path, table_of()[:0])
    for reader in READERS:
        with embstore.open(path, reader=reader, preload=reader == "mapped") as store:
            assert store.lookup([]).shape == (0, 7)
            assert store.to_numpy().shape == (0, 7)
            store.scan(lambda ids, rows: pytest.fail("there are no rows"))
            assert store.fingerprint().startswith("f")


def test_build_from_the_path_of_a_store(words_store, tmp_path):
    with embstore.build(words_store, tmp_path / "t", partitions=3) as built:
        assert built.words([1]) == ["like"]
        assert built.source["format"] == "store"
        with embstore.open(words_store) as store:
            assert np.array_equal(built.to_numpy(), store.to_numpy())
    with pytest.raises(embstore.SourceError, match="does not take words="):
        embstore.build(words_store, tmp_path / "u", words=["a"])


def test_export_of_a_tensor(tmp_path):
    tables = {"a": table_of(), "b": table_of(np.int16, ())}
    (tmp_path / "t.safetensors").write_bytes(safetensors_bytes(tables))
    embstore.export(tmp_path / "t.safetensors", tmp_path / "b.npy", tensor="b")
    assert np.array_equal(np.load(tmp_path / "b.npy"), tables["b"])
    with pytest.raises(embstore.FormatError, match="has 2 tensors: a, b"):
        embstore.export(tmp_path / "t.safetensors", tmp_path / "c.npy")


def test_build_of_a_store_s_path_keeps_its_unk_word(tmp_path):
    table = {"a": [1.0], "other": [2.0]}
    embstore.build(table, tmp_path / "s", unk="other").close()
    with embstore.build(tmp_path / "s", tmp_path / "t") as built:
        assert built.unk == "other"
