"""Foreign files at a URL: safetensors with scales and shards, GGUF in parts, .npy."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import embstore
from embstore.errors import (
    FormatError,
    RemoteError,
    StoreChangedError,
    StoreCorruptError,
    StoreNotFoundError,
)
from tests.helpers.counted_objects import count_requests
from tests.helpers.gguf_files import Entry, GgufFile, split_keys
from tests.helpers.programs import run_command
from tests.helpers.safetensors_files import safetensors_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RANDOM = np.random.default_rng(5)
ROWS = RANDOM.normal(size=(300, 24)).astype(np.float32)
CODES = RANDOM.integers(-127, 128, (300, 24)).astype(np.int8)
SCALES = RANDOM.uniform(0.5, 2, (300, 1)).astype(np.float32)


def npy(folder: Path) -> str:
    np.save(folder / "rows.npy", ROWS)
    return "rows.npy"


def one_file(folder: Path) -> str:
    data = safetensors_file({"x.bias": ("F32", ROWS[0]), "x.weight": ("F32", ROWS)}, pad=70_000)
    (folder / "model.safetensors").write_bytes(data)
    return "model.safetensors"


def scaled(folder: Path) -> str:
    data = safetensors_file({"e.weight": ("I8", CODES), "e.weight_scale": ("F32", SCALES)})
    (folder / "model.safetensors").write_bytes(data)
    return ""


def scaled_parts(folder: Path) -> str:
    """Two shards of codes and a file of scales, listed in an index."""
    weights = {}
    for number, part in enumerate(np.array_split(CODES, 2)):
        file = f"model-0000{number + 1}-of-00003.safetensors"
        (folder / file).write_bytes(safetensors_file({f"e.shard_{number}.weight": ("I8", part)}))
        weights[f"e.shard_{number}.weight"] = file
        scale = np.array_split(SCALES, 2)[number]
        weights[f"e.shard_{number}.weight_scale"] = "model-00003-of-00003.safetensors"
        SHARD_SCALES[f"e.shard_{number}.weight_scale"] = ("F32", scale)
    (folder / "model-00003-of-00003.safetensors").write_bytes(safetensors_file(SHARD_SCALES))
    index = {"metadata": {}, "weight_map": weights}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return ""


SHARD_SCALES: dict[str, Any] = {}


def listed_shards(folder: Path) -> str:
    """Shards without an index."""
    for number, part in enumerate(np.array_split(ROWS, 3)):
        file = f"model-0000{number + 1}-of-00003.safetensors"
        (folder / file).write_bytes(safetensors_file({f"e.shard_{number}.weight": ("F32", part)}))
    return ""


def gguf(folder: Path) -> str:
    for number, name in enumerate(("a.weight", "b.weight")):
        rows = ROWS if number else ROWS[:5]
        entry = Entry(name, "F32", rows.shape, rows.tobytes())
        file = GgufFile([entry], split_keys(number, 2, 2))
        (folder / f"m-0000{number + 1}-of-00002.gguf").write_bytes(bytes(file))
    return "m-00001-of-00002.gguf"


MODELS: list[tuple[Callable[[Path], str], dict[str, Any]]] = [
    (npy, {}),
    (one_file, {}),
    (one_file, {"tensor": "x.weight"}),
    (one_file, {"tensor": "x.weight", "encoding": "opaque"}),
    (scaled, {}),
    (scaled, {"scale": None}),
    (scaled_parts, {"tensor": "e.shard_{}.weight"}),
    (listed_shards, {}),
    (gguf, {"tensor": "b.weight"}),
]


def url_of(path: Path) -> str:
    return path.absolute().as_uri()


@pytest.mark.parametrize(("write", "options"), MODELS)
def test_models_at_a_url(tmp_path, write, options, monkeypatch):
    name = write(tmp_path)
    made = count_requests(monkeypatch)
    with (
        embstore.open(tmp_path / name, **options) as local,
        embstore.open(url_of(tmp_path / name), **options) as store,
    ):
        opening = sum(objects.request_count for objects in made)
        assert opening <= 16
        ids = RANDOM.integers(0, 300, (4, 9))
        for found in made:
            found.clear()
        plan = store.explain(ids)
        assert store.lookup(ids).tobytes() == local.lookup(ids).tobytes()
        ranges = [one for objects in made for one in objects.ranges]
        assert (len(ranges), sum(one.count for one in ranges)) == (
            plan.request_count,
            plan.bytes_read,
        )
        assert store.lookup(ids, raw=True).tobytes() == local.lookup(ids, raw=True).tobytes()
        assert store[:].tobytes() == local[:].tobytes() == store.to_numpy().tobytes()
        assert store.fingerprint() == local.fingerprint()
        if store.encoding != "opaque":
            assert store.fingerprint(full=True) == local.fingerprint(full=True)
        shown = "" if name else tmp_path.name
        assert store.source == local.source | ({"file": shown} if shown else {})
        assert repr(store) == repr(local)
        with pickle.loads(pickle.dumps(store)) as other:
            assert other[7].tobytes() == local[7].tobytes()
    assert embstore.tables(url_of(tmp_path / name)) == embstore.tables(tmp_path / name)


def test_columns_are_read_together(tmp_path, monkeypatch):
    scaled(tmp_path)
    made = count_requests(monkeypatch)
    with embstore.open(url_of(tmp_path)) as store:
        calls: list[Any] = []
        objects = made[-1]
        read_many = objects.read_many

        def note(some: Any) -> Any:
            calls.append(some)
            return read_many(some)

        monkeypatch.setattr(objects, "read_many", note)
        store.lookup([3, 200])
        assert len(calls) == 1
        assert len(calls[0]) == 2  # A request for codes, one for scales.


@pytest.mark.parametrize(("write", "options"), MODELS[:1] + MODELS[4:5])
def test_replaced_files_are_an_error(tmp_path, write, options):
    name = write(tmp_path)
    store = embstore.open(url_of(tmp_path / name), **options)
    pickled = pickle.dumps(store)
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[-5] ^= 3
    path.write_bytes(data)
    with pytest.raises(RemoteError, match="another version"):
        store.lookup([1, 200])
    with pytest.raises(StoreChangedError):
        pickle.loads(pickled)


def test_wrong_files_are_refused(tmp_path):
    one_file(tmp_path)
    url = url_of(tmp_path / "model.safetensors")
    with pytest.raises(FormatError, match="has no tensor 'y'"):
        embstore.open(url, tensor="y")
    with pytest.raises(ValueError, match="reads all files"):
        embstore.open(url, verify="full")
    data = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[:-1])
    with pytest.raises(StoreCorruptError, match="is the download complete"):
        embstore.open(url)
    with pytest.raises(StoreNotFoundError, match="no store at"):
        embstore.open(url_of(tmp_path / "other.safetensors"))
    (tmp_path / "text.npy").write_bytes(b"no array")
    with pytest.raises(StoreNotFoundError, match="not a file of a format"):
        embstore.open(url_of(tmp_path / "text.npy"))


def test_index_cannot_name_other_directories(tmp_path):
    (tmp_path / "m").mkdir()
    for name in ("../x.safetensors", "a\\b.safetensors", "a\nb.safetensors", ".."):
        weights = {"weight_map": {"e.weight": name}}
        (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps(weights))
        with pytest.raises((StoreCorruptError, FormatError)):
            embstore.open(url_of(tmp_path / "m"), tensor="e.weight")


def test_info_of_a_url(tmp_path):
    one_file(tmp_path)
    url = url_of(tmp_path / "model.safetensors")
    facts = json.loads(run_command("info", url, "--json").stdout)
    assert (facts["file"], facts["rows"], facts["tensor"]) == (url, 300, "x.weight")
    listed = json.loads(run_command("info", url_of(tmp_path), "--json").stdout)
    assert listed["rows"] == 300
    assert "0.5" not in run_command("get", url, "--ids", "3").stderr
