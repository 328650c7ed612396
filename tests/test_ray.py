"""Tables behind Ray actors: the same rows as from the local store, whatever happens to actors."""

from __future__ import annotations

import json
import pickle
import ssl
import sys
import tempfile
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.interop.ray import Handle, Lookup, deploy
from embstore.interop.ray.actors import ActorName, Deployment
from embstore.interop.ray.certificates import certificate_for
from embstore.interop.ray.links import ActorLink
from embstore.serving.link import LinkError
from embstore.serving.protocol import PROTOCOL
from tests.helpers import ray_checks
from tests.helpers.namespaces import need_namespaces, run_alone
from tests.helpers.programs import run_python

ACTOR = ActorName("space", "embstore-words-0", (0,))
HANDLE = Handle(Deployment((ACTOR,), 32 * "a", 30.0))
GOOD = {"protocol": PROTOCOL, "embstore": "1", "token": "t", "tls_root": None}
GOOD |= {"address": "grpc://127.0.0.1:4000"}


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """How each check of `tests.helpers.ray_checks` has ended; "" is well."""
    for package in ("ray", "pyarrow.flight", "pandas"):
        pytest.importorskip(package)
    need_namespaces()
    # Ray makes sockets below it, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="er-", dir="/tmp", ignore_cleanup_errors=True) as place:
        done = run_alone("-m", "tests.helpers.ray_checks", TMPDIR=place)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: problem for name, problem, _ in lines}


@pytest.mark.parametrize("name", [function.__name__ for function in ray_checks.CHECKS])
def test_on_a_cluster(outcomes, name):
    assert not outcomes[name], outcomes[name]


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("replicas", [0, -1, True, 1.5, "2", None, 1 << 20]),
        ("partitions_per_actor", [0, -1, True, 2.0, "all", [1]]),
        ("max_restarts", [-2, True, 1.0, "1"]),
        ("num_cpus", [-1, "1", True, float("nan")]),
        ("resources", ["disk", ["disk"], {1: 1}, {"disk": "1"}, {"disk": 0}]),
        ("detached", ["yes", None, 2]),
        ("timeout", [0, -1, "30", True, float("inf")]),
        ("start_timeout", [0, -1, "30", True]),
        ("memory_limit", [0, -1, True, 1.5, "much"]),
    ],
)
def test_wrong_options_are_refused(words_store, option, values):
    for value in values:
        with pytest.raises((TypeError, ValueError), match=option):
            deploy(words_store, **{option: value})


def test_ray_is_not_started(words_store):
    pytest.importorskip("ray")
    for call in (lambda: deploy(words_store), lambda: HANDLE.lookup([1]), HANDLE.close):
        with pytest.raises(embstore.RemoteError, match=r"call ray\.init first"):
            call()


def test_missing_ray_is_told(words_store, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'pip install "embstore\[ray\]"'):
        deploy(words_store)
    with pytest.raises(ImportError, match=r'pip install "embstore\[ray\]"'):
        HANDLE.lookup([1])


def test_ray_is_imported_when_used():
    program = "import sys, embstore.interop.ray; print(*({'ray', 'pyarrow'} & set(sys.modules)))"
    assert run_python("-c", program).stdout == "\n"
    pytest.importorskip("ray")
    program = "import embstore.interop.ray.cluster, ray; print(ray.init.__name__)"
    assert run_python("-c", program).stdout == "init\n"


def test_handles_are_pickled_by_names():
    copied = pickle.loads(pickle.dumps(HANDLE))
    assert copied.names == HANDLE.names
    assert copied.partitions == ((0,),)
    assert copied.fingerprint == HANDLE.fingerprint
    assert repr(copied) == "<Handle of 1 partitions at embstore-words-0>"
    lookup = pickle.loads(pickle.dumps(Lookup(HANDLE, "ids", "rows", dtype="bfloat16")))
    assert "'ids' into 'rows' at <Handle" in repr(lookup)


def test_handles_of_another_version_are_refused():
    make, (_, *state) = HANDLE.__reduce__()
    with pytest.raises(embstore.RemoteError, match="use the same embstore on all nodes"):
        make(2, *state)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": PROTOCOL + 1}, "use the same embstore on all nodes"),
        ({"protocol": None}, "use the same embstore on all nodes"),
        ({"address": "10.1.1.1:3"}, "a wrong place"),
        ({"address": 7}, "a wrong place"),
        ({"address": "grpc://10.1.1.1:3"}, "a wrong place: token would be sent"),
        ({"token": ""}, "a wrong place"),
        ({"token": 3}, "a wrong place"),
        ({"address": "grpc+tls://10.1.1.1:3", "tls_root": b"x"}, "a wrong place|cannot be read"),
    ],
)
def test_wrong_places_are_refused(changes, message):
    link = ActorLink(ACTOR, 30.0)
    address, options = link._as_target(GOOD)
    assert (str(address), options.token) == ("grpc://127.0.0.1:4000", "t")
    for place in (GOOD | changes, None, [1]):
        with pytest.raises(LinkError) as error:
            link._as_target(place)
        assert not error.value.again
        if isinstance(place, dict):
            assert error.match(message)


def test_certificates_are_for_their_address(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with certificate_for("10.77.0.1") as (certificate, key):
        names = ssl._ssl._test_decode_cert(str(certificate))  # type: ignore[attr-defined]
        assert names["subjectAltName"] == (("IP Address", "10.77.0.1"),)
        assert b"PRIVATE KEY" in key.read_bytes()
        assert key.parent.stat().st_mode & 0o777 == 0o700
    assert not list(tmp_path.iterdir())


def test_missing_openssl_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(embstore.RemoteError, match="apt-get install openssl"),
        certificate_for("10.77.0.1"),
    ):
        pass
    (tmp_path / "openssl").write_text("#!/bin/sh\necho no entropy >&2\nexit 1\n")
    (tmp_path / "openssl").chmod(0o700)
    with (
        pytest.raises(embstore.RemoteError, match=": no entropy"),
        certificate_for("10.77.0.1"),
    ):
        pass


IDS = np.array([[1, 0], [7, 1], [10, 10]])
NAMES = [["like", "the"], ["country", "like"], ["second", "second"]]
RAGGED: list[list[int]] = [[1, 0, 4], [], [7]]


def _arrays(values: list[Any]) -> np.ndarray:
    found = np.empty(len(values), object)
    for place, value in enumerate(values):
        found[place] = np.array(value, np.int64 if not value or isinstance(value[0], int) else str)
    return found


def _columns() -> dict[str, tuple[Any, Any]]:
    """Return columns of all kinds, and the ids that they mean, as lists of lists."""
    pa = pytest.importorskip("pyarrow")
    pd = pytest.importorskip("pandas")
    flat, words = IDS[:, 0], [one[0] for one in NAMES]
    pairs = IDS.tolist()
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(IDS)
    chunks = pa.chunked_array([RAGGED[:1], RAGGED[1:]], pa.list_(pa.int32()))
    arrow: dict[str, tuple[Any, Any]] = {
        "arrow ids": (pa.array(flat), flat),
        "arrow uint8": (pa.array(flat.astype(np.uint8)), flat),
        "arrow words": (pa.array(words), flat),
        "arrow dictionary": (pa.array(words).dictionary_encode(), flat),
        "arrow large words": (pa.array(words, pa.large_string()), flat),
        "arrow lists": (pa.array(RAGGED), RAGGED),
        "arrow sliced lists": (pa.array([[9], *RAGGED, [9]])[1:4], RAGGED),
        "arrow chunks": (chunks, RAGGED),
        "arrow large lists": (pa.array(RAGGED, pa.large_list(pa.int64())), RAGGED),
        "arrow lists of words": (pa.array(NAMES), pairs),
        "arrow fixed lists": (pa.array(pairs, pa.list_(pa.int64(), 2)), IDS),
        "arrow sliced fixed lists": (pa.array([[9, 9], *pairs], pa.list_(pa.int64(), 2))[1:], IDS),
        "arrow fixed lists of words": (pa.array(NAMES, pa.list_(pa.string(), 2)), IDS),
        "arrow tensors": (tensor, IDS),
    }
    return {
        **{name: (pa.table({"x": value}), wanted) for name, (value, wanted) in arrow.items()},
        "ids": ({"x": flat}, flat),
        "no ids": ({"x": flat[:0]}, flat[:0]),
        "words": ({"x": np.array(words)}, flat),
        "objects": ({"x": np.array(words, object)}, flat),
        "object ids": ({"x": flat.astype(object)}, flat),
        "no objects": ({"x": np.empty(0, object)}, flat[:0]),
        "pairs": ({"x": IDS}, IDS),
        "pairs of words": ({"x": np.array(NAMES)}, IDS),
        "bags": ({"x": _arrays(RAGGED)}, RAGGED),
        "bags of words": ({"x": _arrays([["like", "the"], [], ["country"]])}, [[1, 0], [], [7]]),
        "empty bags": ({"x": _arrays([[], []])}, [[], []]),
        "pandas ids": (pd.DataFrame({"x": flat}), flat),
        "pandas words": (pd.DataFrame({"x": words}), flat),
        "pandas lists": (pd.DataFrame({"x": RAGGED}), RAGGED),
    }


def _values(batch: Any, name: str) -> list[np.ndarray]:
    """Return the values of a column, one array for each row."""
    if isinstance(batch, dict):
        return [np.asarray(one) for one in batch[name]]
    column = batch[name]
    if type(batch).__module__.startswith("pandas"):
        return [np.asarray(one) for one in column]
    tensors = getattr(column.combine_chunks(), "to_numpy_ndarray", None)
    return [np.asarray(one) for one in (tensors() if tensors else column.to_pylist())]


@pytest.mark.parametrize("shape", [(8,), (2, 4), ()], ids=str)
def test_lookup_adds_rows_to_batches_of_all_kinds(words_store, words_path, shape, tmp_path):
    local = embstore.open(words_store)
    words = local.words(np.arange(local.rows))
    table = local[:][:, 0] if not shape else local[:].reshape(-1, *shape)
    store = embstore.build(table.copy(), tmp_path / "s", words=words, partitions=2)
    for name, (batch, wanted) in _columns().items():
        found = Lookup(store, "x", "rows")(batch)
        assert type(found) is type(batch), name
        rows = _values(found, "rows")
        assert len(rows) == len(wanted), name
        for row, ids in zip(rows, wanted, strict=True):
            expected = table[np.asarray(ids, np.int64)]
            assert row.reshape(expected.shape).tolist() == expected.tolist(), name
        assert "rows" not in (batch if isinstance(batch, dict) else str(batch))
        again = Lookup(store, "x", "x")(batch)  # Replaces its own column.
        assert len(_values(again, "x")) == len(wanted), name
        is_flat = not len(wanted) or np.ndim(wanted[0]) == 0
        lookup = Lookup(store, "x", "mean", combiner="mean", dtype="float64")
        if is_flat:
            with pytest.raises(ValueError, match="a combiner needs a list of ids or words"):
                lookup(batch)
            continue
        bags = embstore.RaggedIds(
            np.concatenate([np.asarray(one, np.int64) for one in wanted]),
            np.cumsum([0, *map(len, wanted)]),
        )
        expected = embstore.embedding_lookup_sparse(store, bags, None, combiner="mean")
        means = np.array(_values(lookup(batch), "mean"))
        assert means.dtype == np.float64, name
        np.testing.assert_array_equal(means.reshape(expected.shape), expected, name)


def test_lookup_of_missing_words(words_store):
    store = embstore.open(words_store)
    batch = {"x": np.array(["like", "absent"])}
    with pytest.raises(embstore.MissingWordError, match="absent"):
        Lookup(store, "x", "rows")(batch)
    rows = Lookup(store, "x", "rows", missing="zeros", dtype="float16")(batch)["rows"]
    assert rows.dtype == np.float16
    np.testing.assert_array_equal(rows[0], store.lookup(1, dtype="float16"))
    assert not rows[1].any()
    with pytest.raises(embstore.MissingWordError, match="no unk word"):
        Lookup(store, "x", "rows", missing="unk")(batch)


def test_wrong_columns_are_refused(words_store):
    pa = pytest.importorskip("pyarrow")
    lookup = Lookup(embstore.open(words_store), "x", "rows")
    for batch, error, message in [
        ({"y": IDS}, KeyError, "no column 'x'; it has 'y'"),
        (pa.table({"y": [1]}), KeyError, "no column 'x'; it has 'y'"),
        ([1, 2], TypeError, "a batch must be a dict of arrays"),
        (pa.table({"x": [1, None]}), ValueError, "column 'x' has 1 nulls of 2"),
        (pa.table({"x": [[1], [None]]}), ValueError, "column 'x' has 1 nulls of 2"),
        (pa.table({"x": [{"a": 1}]}), ValueError, "must hold ids, words, or lists of them"),
        (pa.table({"x": [[[1]]]}), ValueError, "must hold ids, words, or lists of them"),
        (pa.table({"x": [1.5]}), TypeError, "ids"),
        ({"x": np.array([1.5])}, TypeError, "ids"),
        ({"x": _mixed()}, ValueError, "row 1 of column 'x'"),
        ({"x": np.array([1, 11])}, IndexError, "id 11 at position 1 is out of range"),
    ]:
        with pytest.raises(error, match=message):
            lookup(batch)


def _mixed() -> np.ndarray:
    found = np.empty(2, object)
    found[0], found[1] = [1], None
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": "path"}, "table must be a Handle or a store, not str"),
        ({"column": 3}, "column must be"),
        ({"output": b"rows"}, "output must be"),
        ({"combiner": "max"}, "combiner must be"),
        ({"missing": "none"}, "missing must be"),
        ({"dtype": "float7"}, "float7"),
        ({"combiner": "sum", "missing": "zeros"}, "is for rows that are not combined"),
    ],
)
def test_wrong_lookups_are_refused(changes, message):
    options = {"table": HANDLE, "column": "ids", "output": "rows"} | changes
    with pytest.raises((TypeError, ValueError), match=message):
        Lookup(options.pop("table"), options.pop("column"), options.pop("output"), **options)
