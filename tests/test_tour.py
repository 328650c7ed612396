"""The notebook in examples/: it runs, and its outputs are those that are committed.

After `tools/quickstart`, this writes new ones; remove that of the cell with the tag ``times``:

    jupyter nbconvert --to notebook --inplace --execute examples/tour.ipynb \\
        --ExecutePreprocessor.record_timing=False
"""

from __future__ import annotations

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

import embstore
from tests.helpers.programs import ROOT, environment
from tools.quickstart import PACKAGE, TENSOR

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
pytest.importorskip("torch")

TOUR = ROOT / "examples" / "tour.ipynb"
SECONDS = 600
# Its output is another one each time, so none is committed.
TIMES = "times"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A directory with the data that tools/quickstart makes, of the same package."""
    found = find_spec(PACKAGE.replace("-", "_"))
    if found is None or found.origin is None:
        pytest.skip(f"{PACKAGE} is not installed")
    model = Path(found.origin).parent / "model"
    root = tmp_path_factory.mktemp("checkout")
    (root / "examples").mkdir()
    (root / "data").mkdir()
    shutil.copy(model / "model.safetensors", root / "data")
    with embstore.build(
        model / "model.safetensors", root / "s", tensor=TENSOR, words=model / "vocab.txt"
    ) as store:
        embstore.export(store, root / "data" / "minilm.txt", format="glove")
    return root


def outputs(cell):
    """Return what a cell shows: the text or HTML of each output."""
    shown = []
    for output in cell.outputs:
        if output.output_type == "stream":
            shown.append(output.text)
        else:
            data = output.data
            shown.append(data.get("text/html", data["text/plain"]))
    return shown


def test_outputs_are_those_that_are_committed(checkout):
    committed = nbformat.read(TOUR, as_version=4)
    book = nbformat.read(TOUR, as_version=4)
    client = nbclient.NotebookClient(
        book, timeout=SECONDS, resources={"metadata": {"path": str(checkout / "examples")}}
    )
    client.execute(env=environment())
    for before, after in zip(committed.cells, book.cells, strict=True):
        if before.cell_type != "code":
            continue
        if TIMES in before.metadata.get("tags", ()):
            assert outputs(after)
            assert not before.outputs
        else:
            assert outputs(before) == outputs(after), before.source
    assert (checkout / "data" / "tour.embstore").exists()


def test_nothing_of_a_machine_is_committed():
    text = TOUR.read_text()
    book = nbformat.read(TOUR, as_version=4)
    nbformat.validate(book)
    assert book.metadata.keys() == {"kernelspec", "language_info"}
    assert book.metadata.kernelspec.name == "python3"
    for cell in book.cells:
        assert cell.metadata.keys() <= {"tags"}
    assert not re.search(r"/(home|root|tmp|Users)\b", text)
    assert len(text) < 40_000


def test_links():
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", TOUR.read_text()):
        assert target.startswith("https:") or (TOUR.parent / target).exists(), target
