"""A program that checks Keras layers on one backend, and prints how each check ended.

Keras takes its backend when it is imported, so each backend needs a process. Each check is a
function; its name is the name of a test.
"""

from __future__ import annotations

import copy
import doctest
import importlib
import json
import os
import re
import sys
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import embstore
from tests.fixtures import WORDS
from tests.helpers.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

PAGE = ROOT / "docs" / "keras.md"
TABLE: NDArray[Any] = np.random.default_rng(1).standard_normal((300, 6)).astype(np.float32)
IDS = np.random.default_rng(2).integers(0, 300, (5, 7))
CHECKS: list[Callable[[Any], None]] = []


def check(function: Callable[[Any], None]) -> Callable[[Any], None]:
    CHECKS.append(function)
    return function


@dataclass
class Place:
    """What the checks use."""

    folder: Path
    keras: Any
    layer: Any  # The class.
    store: embstore.EmbeddingStore

    def other(self, name: str, rows: NDArray[Any] | None = None, **options: Any) -> Any:
        path = self.folder / f"{name}.embstore"
        return embstore.build(TABLE + 1 if rows is None else rows, path, overwrite=True, **options)

    def numpy(self, tensor: Any) -> NDArray[Any]:
        found: NDArray[Any] = self.keras.ops.convert_to_numpy(tensor)
        return found

    def model(self, store: Any, **options: Any) -> Any:
        keras = self.keras
        return keras.Sequential(
            [
                keras.Input((None,), dtype="int64"),
                self.layer(store, **options),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(1),
            ]
        )


def raised(kind: type[BaseException] | tuple[type[BaseException], ...], call: Any) -> str:
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError("no error")


@check
def rows_of_ids_of_any_shape_and_dtype(place):
    layer = place.layer(place.store)
    for shape in ((), (3,), (0,), (2, 0), (2, 3), (1, 2, 3, 2)):
        for dtype in ("int8", "uint8", "int16", "int32", "int64", "uint16"):
            ids = np.random.default_rng(3).integers(0, 100, shape).astype(dtype)
            rows = layer(place.keras.ops.convert_to_tensor(ids))
            assert tuple(rows.shape) == (*shape, 6)
            assert np.array_equal(place.numpy(rows), TABLE[ids])
    assert np.array_equal(place.numpy(layer(IDS)), TABLE[IDS])
    assert (layer.input_dim, layer.output_dim) == (300, 6)
    assert layer.weights == []
    assert layer.compute_output_shape((None, 3)) == (None, 3, 6)


@check
def rows_equal_those_of_keras_own_layer(place):
    own = place.keras.layers.Embedding(300, 6, weights=TABLE, mask_zero=True)
    layer = place.layer(place.store, mask_zero=True)
    ids = np.array([[1, 2, 0], [4, 0, 0]])
    assert np.array_equal(place.numpy(own(ids)), place.numpy(layer(ids)))
    masks = [place.numpy(one.compute_mask(place.keras.ops.array(ids))) for one in (own, layer)]
    assert np.array_equal(*masks)
    assert place.layer(place.store).compute_mask(ids) is None
    twins = [
        place.keras.Sequential([one, place.keras.layers.GlobalAveragePooling1D()])
        for one in (own, layer)
    ]
    assert np.array_equal(*(twin.predict(ids, verbose=0) for twin in twins))


@check
def tables_of_other_dtypes_and_shapes(place):
    for name in ("float16", "float64", "bfloat16", "float8_e4m3fn", "int32"):
        rows = (TABLE * 3).round() if name == "int32" else TABLE
        store = place.other(name, rows.astype(embstore_dtype(name)))
        for dtype in ("float32", "float16", "bfloat16", "float64", "mixed_bfloat16"):
            found = place.layer(store, dtype=dtype)(IDS)
            compute = dtype.removeprefix("mixed_")
            assert place.keras.backend.standardize_dtype(found.dtype) == compute
            expected = store.lookup(IDS).astype(embstore_dtype(compute)).astype(float)
            wide = place.numpy(place.keras.ops.cast(found, "float64"))
            assert np.array_equal(wide, expected), (name, dtype)
    for shape in ((), (2, 3), (0,), (2, 0)):
        store = place.other("shaped", np.ones((9, *shape), np.float32))
        layer = place.layer(store)
        assert place.numpy(layer(np.array([[1, 8]]))).shape == (1, 2, *shape)
        assert layer(place.keras.Input((4,), dtype="int32")).shape == (None, 4, *shape)
    encoded = embstore.build(TABLE, place.folder / "i8.embstore", encoding="int8", overwrite=True)
    assert np.array_equal(place.numpy(place.layer(encoded)(IDS)), encoded.lookup(IDS))


def embstore_dtype(name: str) -> Any:
    ml_dtypes: Any = importlib.import_module("ml_dtypes")
    return getattr(ml_dtypes, name) if hasattr(ml_dtypes, name) else np.dtype(name)


@check
def ids_as_floats(place):
    layer = place.layer(place.store)
    for dtype in ("float32", "float64", "float16"):
        assert np.array_equal(place.numpy(layer(IDS.astype(dtype))), TABLE[IDS])
    # A model without an Input casts ids to float32.
    model = place.keras.Sequential([layer, place.keras.layers.Dense(2)])
    assert model.predict(IDS, verbose=0).shape == (5, 7, 2)
    assert "ids must be whole numbers, not 1.5" in raised(
        ValueError, lambda: layer(np.array([0.0, 1.5]))
    )
    assert "whole numbers, not nan" in raised(ValueError, lambda: layer(np.array([np.nan])))
    large = place.layer(place.other("large", np.zeros((2049, 1), np.float16)))
    for ids in (np.zeros(3, np.float16), place.keras.Input((3,), dtype="float16")):
        error = raised(TypeError, lambda ids=ids: large(ids))
        assert "ids are float16, which cannot tell all 2049 ids of the table apart" in error
    assert "must be integers, not bool" in raised(TypeError, lambda: layer(np.array([True])))


@check
def bad_ids_are_named(place):
    layer = place.layer(place.store)
    model = place.model(place.store)
    for bad in (300, -1, 2**40):
        ids = np.array([[1, 2], [3, bad]])
        assert f"id {bad} at position (1, 1) is out of range" in raised(
            embstore.IdRangeError, lambda ids=ids: layer(ids)
        )
        error = raised(Exception, lambda ids=ids: model.predict(ids, verbose=0))
        assert f"id {bad} at position (1, 1) is out of range" in error
    assert "must be an EmbeddingStore or a path, not ndarray; embstore.build" in raised(
        TypeError, lambda: place.layer(TABLE)
    )
    assert "no store at" in raised(embstore.StoreNotFoundError, lambda: place.layer("/none"))
    assert "mask_zero must be True or False" in raised(
        TypeError, lambda: place.layer(place.store, mask_zero="no")
    )
    closed = place.layer(embstore.open(place.store.path))
    closed.store.close()
    assert "closed" in raised(embstore.StoreClosedError, lambda: closed(IDS))


@check
def fit_trains_what_is_behind(place):
    for options in ({"mask_zero": True}, {"dtype": "mixed_bfloat16"}):
        place.keras.utils.set_random_seed(1)
        model = place.model(place.store, **options)
        target = TABLE[IDS].mean(axis=(1, 2), keepdims=True)[:, 0]
        model.compile(optimizer=place.keras.optimizers.Adam(0.1), loss="mse")
        before = [weight.copy() for weight in model.get_weights()]
        losses = model.fit(IDS, target, epochs=12, batch_size=5, verbose=0).history["loss"]
        assert losses[-1] < losses[0] / 2
        assert len(model.trainable_weights) == 2
        assert not np.array_equal(before[0], model.get_weights()[0])
    assert np.array_equal(place.store.to_numpy(), TABLE)


@check
def functional_and_subclassed_models(place):
    keras = place.keras
    inputs = keras.Input((7,), dtype="int32")
    rows = place.layer(place.store)(inputs)
    model = keras.Model(inputs, keras.layers.Flatten()(rows))
    assert model.output_shape == (None, 42)
    assert np.array_equal(model.predict(IDS, verbose=0), TABLE[IDS].reshape(5, 42))

    class Scaled(keras.layers.Layer):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.rows = place.layer(place.store)

        def call(self, ids: Any) -> Any:
            return self.rows(ids) * 2

    scaled = Scaled()
    model = keras.Model(inputs, scaled(inputs))
    assert model.output_shape == (None, 7, 6)
    assert np.array_equal(model.predict(IDS, verbose=0), TABLE[IDS] * 2)


@check
def configs_name_the_table(place):
    layer = place.layer(place.store, mask_zero=True, name="rows", dtype="float16")
    config = json.loads(json.dumps(layer.get_config()))
    assert config["table"]["fingerprint"] == place.store.fingerprint()
    for twin in (
        place.layer.from_config(config),
        place.keras.models.clone_model(place.keras.Sequential([layer])).layers[0],
        copy.deepcopy(layer),
    ):
        assert twin.store is place.store
        assert (twin.name, twin.mask_zero, twin.compute_dtype) == ("rows", True, "float16")
    error = raised(ValueError, lambda: place.layer.from_config({"name": "x"}))
    assert "does not name the table of a store" in error


@check
def saved_models(place):
    store = place.other("saved", TABLE * 2)
    path = place.folder / "m.keras"
    model = place.model(store, mask_zero=True)
    expected = model.predict(IDS, verbose=0)
    model.save(path)
    assert path.stat().st_size < 40_000
    model.save_weights(place.folder / "m.weights.h5")
    again = place.keras.models.load_model(path)
    assert again.layers[0].store is store
    assert np.array_equal(again.predict(IDS, verbose=0), expected)
    # From here on, as in another process.
    location = store.path
    store.close()
    again = place.keras.models.load_model(path)
    assert again.layers[0].store is not store
    assert np.array_equal(again.predict(IDS, verbose=0), expected)
    again.layers[0].store.close()
    moved = location.rename(place.folder / "moved.embstore")
    error = raised(embstore.StoreNotFoundError, lambda: place.keras.models.load_model(path))
    assert f"no store at {location}" in error
    keeper = place.layer(moved)
    again = place.keras.models.load_model(path)
    assert again.layers[0].store is keeper.store
    assert np.array_equal(again.predict(IDS, verbose=0), expected)
    keeper.store.close()
    other = place.other("saved")
    error = raised(ValueError, lambda: place.keras.models.load_model(path))
    assert "restore the table, or open it elsewhere" in error
    assert other.fingerprint()[:8] in error


@check
def saved_weights(place):
    path = place.folder / "w.weights.h5"
    model = place.model(place.store)
    model.save_weights(path)
    place.model(place.store).load_weights(path)
    other = place.other("weights")
    error = raised(ValueError, lambda: place.model(other).load_weights(path))
    for one in (place.store, other):
        assert f"{one.path} ([300, 6] float32, {one.fingerprint()[:8]})" in error
    keras = place.keras
    own = keras.Sequential(
        [
            keras.Input((None,), dtype="int64"),
            keras.layers.Embedding(300, 6),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1),
        ]
    )
    own.save_weights(path)
    error = raised(ValueError, lambda: model.load_weights(path))
    assert "with a keras.layers.Embedding; build a store of the rows of that" in error
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.load_weights(path, skip_mismatch=True)
    assert "the file names no table for" in str(caught[0].message)
    assert np.array_equal(model.get_weights()[0], own.get_weights()[1])


@check
def files_over_a_table_that_has_grown(place):
    store = place.other("grown", TABLE * 3)
    model = place.model(store)
    files = [place.folder / "grown.keras", place.folder / "grown.weights.h5"]
    model.save(files[0])
    model.save_weights(files[1])
    expected = model.predict(IDS, verbose=0)
    store.close()
    embstore.append(store.path, TABLE[:3])
    error = raised(ValueError, lambda: place.keras.models.load_model(files[0]))
    assert "if rows were only appended or updated since then, make the model over" in error
    for file in files:
        again = place.model(store.path)
        error = raised(ValueError, lambda file=file, again=again: again.load_weights(file))
        assert "appended or updated since then, load the weights of the other layers with" in error
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            again.load_weights(file, skip_mismatch=True)
        assert "1 objects could not be loaded" in str(caught[0].message)
        assert np.array_equal(again.predict(IDS, verbose=0), expected)


@check
def the_backend_itself(place):
    if place.keras.backend.backend() == "torch":
        graphs_of_torch(place)
    else:
        graphs_of_tensorflow(place)


def graphs_of_torch(place: Place) -> None:
    torch: Any = importlib.import_module("torch")
    layer = place.layer(place.store)
    ids = torch.from_numpy(IDS)
    compiled = torch.compile(layer.call, backend="eager", fullgraph=True)
    assert torch.equal(compiled(ids), torch.from_numpy(TABLE[IDS]))
    assert layer(torch.from_numpy(IDS).to("meta")).shape == (5, 7, 6)
    assert not layer(ids).requires_grad
    layer.to("cpu").half()  # A layer of this backend is a module, too.


def graphs_of_tensorflow(place: Place) -> None:
    tf: Any = importlib.import_module("tensorflow")
    layer = place.layer(place.store)
    traced = tf.function(layer, input_signature=[tf.TensorSpec((None, 7), tf.int32)])
    found = traced(tf.constant(IDS.astype(np.int32)))
    assert np.array_equal(found, TABLE[IDS])
    assert traced.get_concrete_function().output_shapes.as_list() == [None, 7, 6]
    bad = tf.constant(np.full((1, 7), 300, np.int32))
    error = raised(tf.errors.InvalidArgumentError, lambda: traced(bad))
    assert "id 300 at position (0, 0) is out of range" in error
    batches = tf.data.Dataset.from_tensor_slices(IDS).map(layer, num_parallel_calls=2).batch(2)
    assert batches.element_spec.shape.as_list() == [None, 7, 6]
    assert np.array_equal(np.concatenate(list(batches)), TABLE[IDS])
    ragged = tf.RaggedTensor.from_row_lengths(IDS.reshape(-1), [0, 30, 5])
    rows = layer(ragged)
    assert rows.row_lengths().numpy().tolist() == [0, 30, 5]
    assert np.array_equal(rows.flat_values, TABLE[IDS.reshape(-1)])
    error = raised(TypeError, lambda: layer(tf.sparse.from_dense(IDS)))
    assert "ids must be dense or ragged" in error


@check
def other_backends_are_refused(place):
    rows = importlib.import_module("embstore.interop.keras.rows")
    for backend in ("jax", "numpy", "openvino"):
        error = raised(ImportError, lambda backend=backend: rows.find_rows(backend))
        assert f"on tensorflow or torch, not on {backend}; set the environment variable" in error


@check
def examples_of_the_docs(place):
    folder = place.folder / "docs"
    folder.mkdir()
    os.chdir(folder)
    for name in ("glove", "moved", "words"):
        embstore.build(WORDS, f"{name}.embstore", partitions=2).close()
    parser = doctest.DocTestParser()
    failures: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    text = "\n".join(re.findall(r"^```pycon\n(.*?)^```", PAGE.read_text(), re.M | re.S))
    page = parser.get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(page.examples) > 8
    assert not runner.run(page, out=failures.append).failed, "".join(failures)
    words = {"np": np, "embstore": embstore, "store": embstore.open("words.embstore")}
    for name in ("", ".layer", ".ids", ".rows"):
        module = importlib.import_module(f"embstore.interop.keras{name}")
        for one in doctest.DocTestFinder().find(module, globs=vars(module) | words):
            assert not runner.run(one, out=failures.append).failed, "".join(failures)


def main() -> None:
    warnings.simplefilter("error")
    # Of these libraries themselves.
    warnings.filterwarnings("ignore", module=r"(keras|tensorflow|torch|h5py|flatbuffers)\b")
    folder = Path(sys.argv[1])
    keras: Any = importlib.import_module("keras")
    layer = importlib.import_module("embstore.interop.keras").StoreEmbedding
    store = embstore.build(TABLE, folder / "t.embstore", partitions=2)
    place = Place(folder, keras, layer, store)
    for function in CHECKS:
        problem = ""
        try:
            function(place)
        except BaseException:
            problem = traceback.format_exc()
        print(json.dumps([function.__name__, problem]), flush=True)


if __name__ == "__main__":
    main()
