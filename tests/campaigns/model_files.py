"""Models of several GGUF or safetensors files that do not fit each other."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.campaigns import readings
from tests.campaigns.comparing import compare
from tests.campaigns.mutations import mutated_bytes, mutated_json
from tests.campaigns.small_files import some_gguf
from tests.helpers.gguf_files import Entry, GgufFile, split_keys
from tests.helpers.safetensors_files import safetensors_file

if TYPE_CHECKING:
    import random

    from tests.campaigns.watched import Case


def _write_parts(model: Path, numbers: random.Random) -> None:
    """Write a GGUF model in three parts."""
    tensors = [file.tensors[0] for file in some_gguf()[:3]]
    for number, (entry, name) in enumerate(zip(tensors, "abc", strict=True)):
        part, count, total = number, 3, 3
        if numbers.random() < 0.1:
            part, count, total = (numbers.choice((0, 1, 2, 3, 9)) for _ in range(3))
        renamed = Entry(name, entry.kind, entry.shape, entry.data)
        file = GgufFile([renamed], split_keys(part, count, total))
        (model / f"m-{number + 1:05}-of-00003.gguf").write_bytes(bytes(file))


def _write_index(model: Path, numbers: random.Random) -> None:
    """Write a safetensors model in two files with an index."""
    table = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    weights = {}
    for number, name in enumerate("ab"):
        file = f"model-{number + 1:05}-of-00002.safetensors"
        (model / file).write_bytes(safetensors_file({name: ("F32", table + number)}, number))
        weights[name] = file
    index = readings.index_bytes(weights)
    if numbers.random() < 0.4:
        index = mutated_json(index, numbers)
    elif numbers.random() < 0.2:
        index = mutated_bytes(index, numbers)
    (model / "model.safetensors.index.json").write_bytes(index)


def models(folder: Path) -> Case:
    """Return a function that tries a model of several files that do not fit each other."""
    model, outside = folder / "model", folder / "outside"
    outside.mkdir()
    (outside / "directory").mkdir()
    os.mkfifo(outside / "fifo")
    (outside / "loop").symlink_to("loop")
    (outside / "secret").write_bytes(b"a secret of another user")
    others = [outside / name for name in ("directory", "fifo", "loop", "nothing", "secret")]
    others += [Path("/dev/zero"), Path("/proc/self/environ")]

    def case(numbers: random.Random) -> bool:
        shutil.rmtree(model, ignore_errors=True)
        model.mkdir()
        is_gguf = numbers.random() < 0.5
        (_write_parts if is_gguf else _write_index)(model, numbers)
        names = sorted(file.name for file in model.iterdir())
        for _ in range(numbers.choice((0, 1, 1, 2))):
            _change_folder(model, numbers.choice(names), numbers.choice(names), others, numbers)
        read = readings.gguf_model if is_gguf else readings.safetensors_model
        path = model / numbers.choice(["", *names])
        return compare(path, numbers.choice(("a", "b", None)), [partial(read, path)], numbers)

    return case


def _change_folder(
    model: Path, name: str, other: str, outside: list[Path], numbers: random.Random
) -> None:
    """Remove, replace, swap or damage a file of a model."""
    file = model / name
    if file.is_symlink() or not file.is_file():
        return
    match numbers.randrange(6):
        case 0:
            file.unlink()
        case 1:
            file.unlink()
            file.symlink_to(numbers.choice(outside))
        case 2:
            file.unlink()
            numbers.choice((os.mkfifo, os.mkdir))(file)
        case 3 if (model / other).is_file():
            file.write_bytes((model / other).read_bytes())
        case 4:
            data = mutated_bytes(file.read_bytes(), numbers)
            file.unlink()
            file.write_bytes(data)
        case _:
            target = outside[0].with_name(f"right-{name}")
            file.replace(target)
            file.symlink_to(target)
