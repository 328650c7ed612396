"""Compressed stores: equal to their ndarray whatever the codec, and readable by Zarr."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import embstore
from embstore.dtypes import as_dtype
from embstore.formats.own import spec
from embstore.formats.own.compression import Compression, as_compression, decode
from embstore.table.numbering import Numbering
from tests.helpers.programs import run_command as run
from tests.helpers.stores import make_store

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

READERS: dict[str, dict[str, Any]] = {
    "mapped": {},
    "chunked": {"reader": "chunked"},
    "limited": {"resident_limit": "64MiB"},
    "small cache": {"row_cache": "1MiB"},
}
CODECS = ["zstd", "blosc"]


def table_of(rows: int, row_shape: tuple[int, ...], dtype: str = "float32") -> NDArray[Any]:
    """Return rows that compress a little: every number has few digits."""
    numbers = np.random.default_rng(rows).integers(-99, 99, (rows, *row_shape))
    return numbers.astype(as_dtype(dtype))


def same(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    return found.shape == expected.shape and found.tobytes() == expected.tobytes()


def check(store: embstore.EmbeddingStore, table: NDArray[Any]) -> None:
    """Compare all that gives rows with the table."""
    assert same(store.to_numpy(), table)
    shape = (7, 2 if table[:1].nbytes > 1000 else 30) if len(table) else 0
    ids = np.random.default_rng(1).integers(0, max(len(table), 1), shape)
    assert same(store.lookup(ids), table[ids])
    assert same(store.submit(ids).result(), table[ids])
    assert store.prefetch(ids).wait()
    assert same(store.lookup(ids.ravel()), table[ids.ravel()])
    for number in ids.ravel()[:5].tolist():
        assert same(store[number], table[number])
    found = np.zeros_like(table)

    def put(some: range, rows: NDArray[Any]) -> None:
        found[some.start : some.stop : some.step] = rows

    store.scan(put)
    assert same(found, table)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("rows", "row_shape", "dtype", "partitions", "strategy", "chunk_rows"),
    [
        (0, (3,), "float32", 1, "mod", None),
        (0, (3,), "float32", 3, "div", None),
        (1, (), "uint64", 1, "mod", None),
        (2, (5,), "int8", 5, "mod", None),  # Partitions without rows.
        (4097, (3, 2), "float16", 1, "mod", 4096),  # One row in the last shard.
        (20000, (7,), "float32", 3, "mod", 4096),
        (20000, (7,), "float32", 3, "div", 4096),
        (20000, (16,), "bfloat16", 2, "mod", None),
        (9000, (), "float64", 2, "mod", 1024),  # A shard is smaller than 16 KiB.
        (20, (10_000,), "float32", 2, "mod", 2),  # A row is wider than an inner chunk.
        (3, (300_000,), "int16", 1, "mod", None),
    ],
)
def test_any_table(tmp_path, codec, rows, row_shape, dtype, partitions, strategy, chunk_rows):
    table = table_of(rows, row_shape, dtype)
    layout = {"partitions": partitions, "strategy": strategy, "chunk_rows": chunk_rows}
    make_store(tmp_path / "s", table, compression=codec, **layout).close()
    with make_store(tmp_path / "raw", table, **layout) as raw:
        fingerprint = raw.fingerprint()
    assert embstore.verify(tmp_path / "s").ok
    for options in READERS.values():
        with embstore.open(tmp_path / "s", **options) as store:
            assert store.compression == str(as_compression(codec, "compression"))
            assert store.fingerprint() == fingerprint
            check(store, table)
    if dtype != "bfloat16":
        numbering = Numbering(rows, partitions, strategy)
        for partition in range(partitions):
            ids = numbering.ids_of(partition)
            part = zarr.open_array(tmp_path / f"s/partitions/{partition}", mode="r")
            assert same(np.asarray(part[...]), table[ids.start : ids.stop : ids.step])


@settings(max_examples=10)
@given(
    st.integers(0, 3000),
    st.integers(1, 6),
    st.sampled_from(["mod", "div"]),
    st.sampled_from([(), (3,), (40, 2)]),
    st.sampled_from([None, 32, 1024]),
    st.sampled_from(["zstd:1", "blosc:1"]),
)
def test_any_layout(tmp_path_factory, rows, partitions, strategy, row_shape, chunk_rows, codec):
    path = tmp_path_factory.mktemp("any") / "s"
    table = table_of(rows, row_shape, "int16")
    layout = {"partitions": partitions, "strategy": strategy, "chunk_rows": chunk_rows}
    with make_store(path, table, compression=codec, **layout) as store:
        check(store, table)
    assert embstore.verify(path).ok


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", ["float32", "int8", "float64"])
def test_files_are_those_of_zarr(tmp_path, codec, dtype):
    table = table_of(5000, (9,), dtype)
    make_store(tmp_path / "s", table, compression=codec, chunk_rows=2048).close()
    ours = zarr.open_array(tmp_path / "s/partitions/0", mode="r")
    theirs = zarr.create_array(
        tmp_path / "z",
        shape=ours.shape,
        dtype=ours.dtype,
        chunks=ours.chunks,
        shards=ours.shards,
        filters=None,
        compressors=ours.compressors,
        fill_value=0,
        attributes=dict(ours.attrs),
        config={"write_empty_chunks": True},
    )
    theirs[:] = table
    names = ["c/0/0", "c/1/0", "c/2/0", "zarr.json"]
    for name in names:
        assert (tmp_path / f"s/partitions/0/{name}").read_bytes() == (
            tmp_path / f"z/{name}"
        ).read_bytes()


@pytest.mark.parametrize("codec", CODECS)
def test_tensorstore_reads_it(tmp_path, codec):
    tensorstore = pytest.importorskip("tensorstore")
    table = table_of(5000, (9,))
    make_store(tmp_path / "s", table, compression=codec, chunk_rows=1024).close()
    where = {"driver": "file", "path": str(tmp_path / "s/partitions/0")}
    found = tensorstore.open({"driver": "zarr3", "kvstore": where}).result()
    assert same(np.asarray(found.read().result()), table)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("encoding", ["float8_e4m3fn", "int8", "float8_e4m3fn:32"])
def test_encoded_rows(tmp_path, codec, encoding):
    """A compressed store keeps records as they are; a lookup decodes both."""
    table = np.random.default_rng(2).standard_normal((5000, 64)).astype(np.float32)
    options = {"encoding": encoding, "partitions": 2}
    ids = np.random.default_rng(3).integers(0, 5000, 700)
    with (
        embstore.build(table, tmp_path / "raw", **options) as raw,
        embstore.build(table, tmp_path / "s", compression=codec, **options) as store,
        embstore.build(store, tmp_path / "again", compression=codec) as again,
        embstore.open(tmp_path / "s", reader="chunked") as ranged,
    ):
        for other in (store, again, ranged):
            assert (other.encoding, other.fingerprint()) == (encoding, raw.fingerprint())
            assert same(other.lookup(ids), raw.lookup(ids))
            assert same(other.lookup(ids, raw=True), raw.lookup(ids, raw=True))
            assert same(other.lookup(ids, dtype="float16"), raw.lookup(ids, dtype="float16"))
            assert same(other.submit(ids).result(), raw.lookup(ids))
            assert same(other[77], raw[77])
            assert same(other.to_numpy(), raw.to_numpy())
        assert store.prefetch(ids).wait()
        assert store.residency().row_cache_rows
    assert embstore.verify(tmp_path / "s").ok


def test_zeros_are_not_absent(tmp_path):
    table = np.zeros((5000, 9), np.float32)
    with make_store(tmp_path / "s", table, compression="zstd", chunk_rows=4096) as store:
        check(store, table)
    assert embstore.verify(tmp_path / "s").ok


def test_words(tmp_path):
    table, words = table_of(3000, (4,)), [f"w{i}" for i in range(3000)]
    with make_store(tmp_path / "s", table, words, compression="zstd") as store:
        assert same(store["w77"], table[77])
        assert same(store[["w5", "w2999"]], table[[5, 2999]])


def test_memory_limit_counts_inner_chunks(tmp_path):
    with pytest.raises(ValueError, match="64 partitions need a memory_limit of at least"):
        make_store(
            tmp_path / "s",
            table_of(9, (300,)),
            compression="zstd",
            partitions=64,
            memory_limit="8MiB",
        )
    assert not (tmp_path / "s").exists()
    table = table_of(9000, (300,))
    with make_store(
        tmp_path / "s", table, compression="zstd", partitions=8, memory_limit="2MiB"
    ) as store:
        check(store, table)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        *[(bad, TypeError) for bad in (3, True, b"zstd", ["zstd"], 1.5)],
        *[(bad, ValueError) for bad in ("", "lz4", "zstd:", "zstd:0", "zstd:23", "blosc:10")],
        *[(bad, ValueError) for bad in ("zstd:-1", "zstd:3:4", "ZSTD", "zstd:" + "9" * 5000)],
    ],
)
def test_other_compressions_are_refused(tmp_path, given, error):
    with pytest.raises(error, match=r"compression|level"):
        embstore.build(table_of(3, (2,)), tmp_path / "s", compression=given)
    with pytest.raises(error, match=r"compression|level"):
        embstore.StoreWriter(tmp_path / "s", row_shape=(2,), dtype="int8", compression=given)
    assert not (tmp_path / "s").exists()


def test_levels():
    assert as_compression("zstd", "c") == Compression("zstd", 3)
    assert as_compression("blosc:9", "c") == Compression("blosc", 9)
    assert as_compression("none", "c") is as_compression(None, "c") is None


def test_build_and_repartition(tmp_path):
    table = table_of(4000, (5,))
    np.save(tmp_path / "t.npy", table)
    packed, plain = tmp_path / "p.embstore", tmp_path / "q.embstore"
    built = run("build", str(tmp_path / "t.npy"), str(packed), "--compression", "zstd:5", "--json")
    facts = json.loads(built.stdout)
    assert facts["compression"] == "zstd:5"
    assert facts["compression_ratio"] > 1.5
    run("repartition", str(packed), str(tmp_path / "r.embstore"), "--partitions", "3")
    run("repartition", str(packed), str(plain), "--compression", "blosc", "--dtype", "float64")
    for path, expected in ((packed, "zstd:5"), (tmp_path / "r.embstore", "zstd:5")):
        with embstore.open(path) as store:
            assert store.compression == expected
            check(store, table)
    with embstore.open(plain) as store:
        assert (store.compression, store.dtype) == ("blosc:5", np.dtype(np.float64))
        assert same(store[:], table.astype(np.float64))
    with embstore.build(embstore.open(plain), plain, overwrite=True) as store:
        assert store.compression is None
        assert same(store[:], table.astype(np.float64))


def test_replaced_stores(tmp_path):
    """A mapping keeps its rows; what is read range by range says that it was replaced."""
    table = table_of(3000, (8,))
    make_store(tmp_path / "s", table, compression="zstd").close()
    with (
        embstore.open(tmp_path / "s") as kept,
        embstore.open(tmp_path / "s", reader="chunked") as lost,
        embstore.open(tmp_path / "s", reader="chunked") as decoded,
    ):
        assert same(decoded.lookup([5, 2999]), table[[5, 2999]])
        other = make_store(tmp_path / "s", table[::-1], compression="zstd", overwrite=True)
        other.close()
        assert same(kept.lookup([5, 2999]), table[[5, 2999]])
        for store in (lost, decoded):
            for ids in ([5, 2999], [5], 5, [5, 2999]):
                with pytest.raises(embstore.StoreNotFoundError, match="replaced"):
                    store.lookup(ids)


def test_explain_counts_inner_chunks(tmp_path):
    table = table_of(8192, (64,))  # 128 rows in an inner chunk of 32 KiB.
    with make_store(tmp_path / "s", table, compression="zstd", chunk_rows=2048) as store:
        plan = store.explain([0, 1, 127, 128, 8191, 8191])
        assert (plan.row_count, plan.distinct_row_count, plan.chunk_count) == (6, 5, 2)
        assert plan.run_count == 3
        assert plan.bytes_needed == 5 * 256
        assert plan.bytes_decoded == 3 * (32 << 10)
        assert plan.decode_amplification == pytest.approx(3 * 128 / 5)
        before = store.stats().bytes_read
        store.lookup([0, 1, 127, 128, 8191, 8191])
        assert store.stats().bytes_read - before == plan.bytes_read
        assert "decode amplification" in str(plan)
        empty = store.explain([])
        assert (empty.run_count, empty.bytes_read, empty.decode_amplification) == (0, 0, 0.0)


def test_each_inner_chunk_is_decoded_once(tmp_path, monkeypatch):
    """A lookup and a scan decode what they need once; a second lookup finds it decoded."""
    from embstore.reading import compressed

    table, decoded = table_of(8192, (64,)), []
    make_store(tmp_path / "s", table, compression="zstd", partitions=2, chunk_rows=1024).close()

    def counted(codec: str, data: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
        decoded.append(bytes(data))
        decode(codec, data, out)

    monkeypatch.setattr(compressed, "decode", counted)
    with embstore.open(tmp_path / "s") as store:
        store.scan(lambda ids, rows: None)
        assert len(decoded) == len(set(decoded)) == 64
        decoded.clear()
        ids = np.random.default_rng(0).permutation(8192)
        store.lookup(ids)
        assert len(decoded) == 64
        store.lookup(ids[:50])
        store[5]
        assert len(decoded) == 64
        stats = store.stats()
        assert stats.row_cache_hits == 51
        assert stats.row_cache_rows == 8192 + 51


def test_cache_is_bounded(tmp_path):
    table = table_of(16384, (64,))
    make_store(tmp_path / "s", table, compression="zstd").close()
    with embstore.open(tmp_path / "s", row_cache="1MiB") as store:
        assert store.warm(np.arange(16384)) == 32 * 128
        held = store.residency()
        assert (held.row_cache_rows, held.row_cache_bytes) == (32 * 128, 1 << 20)
        check(store, table)
        assert store.residency().row_cache_bytes <= 1 << 20
        assert store.warm([9000, 3], counts=[1, 2]) == 2
        hits = store.stats().row_cache_hits
        store.lookup([9000, 3])
        assert store.stats().row_cache_hits == hits + 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preload": True}, "preload=True .* compressed"),
        ({"row_cache": 100}, "row_cache keeps decoded inner chunks"),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, message):
    make_store(tmp_path / "s", table_of(3000, (64,)), compression="zstd").close()
    with pytest.raises(ValueError, match=message):
        embstore.open(tmp_path / "s", **options)


def test_threads_children_and_copies(tmp_path):
    table = table_of(30000, (64,))
    with make_store(tmp_path / "s", table, compression="blosc", chunk_rows=4096) as store:
        ids = np.random.default_rng(3).integers(0, 30000, (8, 4000))
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(store.lookup, ids))
        assert all(same(some, table[these]) for some, these in zip(found, ids, strict=True))
        assert same(pickle.loads(pickle.dumps(store))[77], table[77])
        child = os.fork()
        if not child:
            os._exit(0 if same(store.lookup(ids[0]), table[ids[0]]) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_opening_does_not_import_codecs(tmp_path):
    path: Path = tmp_path / "s"
    make_store(path, table_of(3000, (4,)), compression="zstd").close()
    program = (
        "import sys, embstore\n"
        f"store = embstore.open({str(path)!r})\n"
        "assert not {'zarr', 'numcodecs'} & set(sys.modules)\n"
        "store.lookup([1])\n"
        "assert 'zarr' not in sys.modules and 'numcodecs' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_inner_rows():
    for row_bytes in (1, 2, 4, 12, 1200, 16384, 16385, 32768, 32769, 1 << 30):
        rows = spec.choose_inner_rows(row_bytes)
        assert rows & (rows - 1) == 0
        assert rows == 1 or 16 << 10 < rows * row_bytes <= 32 << 10
