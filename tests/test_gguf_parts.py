"""GGUF models in several files: opened by any part, refused if the parts do not fit."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

import embstore
from tests.helpers.gguf_files import U16, Entry, GgufFile, Key, split_keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS = np.arange(40, dtype=np.float32).reshape(4, 10)
Parts = dict[str, GgufFile]


def name_of(number: int, count: int = 3, stem: str = "model") -> str:
    return f"{stem}-{number:05}-of-{count:05}.gguf"


def make_parts() -> Parts:
    """Three parts with different alignments; the first one has no tensors."""
    tensors: list[list[Entry]] = [
        [],
        [Entry("norm", "F32", (3,), bytes(12)), Entry("b", "F32", (4, 10), ROWS.tobytes())],
        [Entry("c", "F32", (4, 10), (ROWS + 100).tobytes())],
    ]
    return {
        name_of(number + 1): GgufFile(some, split_keys(number, 3, 3), alignment=32 << number)
        for number, some in enumerate(tensors)
    }


def write(folder: Path, parts: Parts) -> None:
    for name, file in parts.items():
        (folder / name).write_bytes(bytes(file))


@pytest.mark.parametrize("reader", ["mapped", "chunked"])
@pytest.mark.parametrize("name", ["", *map(name_of, (1, 2, 3))])
def test_any_part_leads_to_all_tensors(tmp_path, name, reader):
    write(tmp_path, make_parts())
    (tmp_path / "._model-00001-of-00003.gguf").write_bytes(b"of a Mac")
    for tensor, rows in (("b", ROWS), ("c", ROWS + 100)):
        with embstore.open(tmp_path / name, tensor=tensor, reader=reader) as store:
            assert np.array_equal(store.to_numpy(), rows)
    with pytest.raises(embstore.FormatError, match="has 2 tensors that could be a table: b, c"):
        embstore.open(tmp_path / name)


def test_parts_that_gguf_py_wrote(tmp_path):
    library = pytest.importorskip("gguf")
    writer = library.GGUFWriter(tmp_path / "m.gguf", "llama", split_max_tensors=1)
    for number in range(3):
        writer.add_tensor(f"t{number}.weight", ROWS + number)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert len(list(tmp_path.iterdir())) == 3
    for file in (tmp_path, *tmp_path.iterdir()):
        for number in range(3):
            with embstore.open(file, tensor=f"t{number}.weight") as store:
                assert np.array_equal(store.to_numpy(), ROWS + number)


def test_only_the_parts_of_one_model_are_opened_as_a_directory(tmp_path):
    write(tmp_path, make_parts())
    (tmp_path / "other.gguf").write_bytes(bytes(GgufFile([])))
    with pytest.raises(
        embstore.FormatError, match=r"expected one .gguf file or the parts of one model, found"
    ):
        embstore.open(tmp_path, tensor="b")
    (tmp_path / "other.gguf").unlink()
    (tmp_path / "other.gguf").mkdir()
    with embstore.open(tmp_path, tensor="b") as store:
        assert np.array_equal(store.to_numpy(), ROWS)


def test_directory_with_models_of_two_formats_is_refused(tmp_path):
    write(tmp_path, make_parts())
    header = b'{"b":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}'
    data = struct.pack("<Q", len(header)) + header + bytes(4)
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(embstore.FormatError, match="files of safetensors and of gguf; name one"):
        embstore.open(tmp_path, tensor="b")
    with embstore.open(tmp_path / name_of(1), tensor="b") as store:
        assert np.array_equal(store.to_numpy(), ROWS)


def without(number: int) -> Callable[[Parts], None]:
    return lambda parts: parts.__delitem__(name_of(number)) if name_of(number) in parts else None


def keys(number: int, *values: int) -> Callable[[Parts], None]:
    return lambda parts: setattr(parts[name_of(number)], "keys", split_keys(*values))


def rename(number: int, name: str) -> Callable[[Parts], None]:
    return lambda parts: parts.update({name: parts.pop(name_of(number))})


def no_keys(parts: Parts) -> None:
    parts[name_of(1)].keys = []


def only_a_count(parts: Parts) -> None:
    parts[name_of(1)].keys = [Key("split.count", U16, struct.pack("<H", 3))]


def same_tensor(parts: Parts) -> None:
    parts[name_of(3)].tensors[0].name = "b"


CORRUPT, FORMAT = embstore.StoreCorruptError, embstore.FormatError
# What is changed, the part that is opened, the error, and what it says.
WRONG = [
    (without(3), 1, CORRUPT, r"one of 3 parts, and model-00003-of-00003.gguf is missing; is the"),
    (without(1), 3, CORRUPT, r"one of 3 parts, and model-00001-of-00003.gguf is missing"),
    (keys(1, 0, 4, 3), 1, CORRUPT, "is part 1 of 4 by its header .*not what its name says"),
    (keys(1, 1, 3, 3), 1, CORRUPT, "is part 2 of 3 by its header .*not what its name says"),
    (keys(2, 0, 3, 3), 1, CORRUPT, "00002-of-00003.gguf is part 1 of 3 by .*expected part 2 of 3"),
    (keys(2, 1, 9, 3), 1, CORRUPT, "00002-of-00003.gguf is part 2 of 9 by .*expected part 2 of 3"),
    (keys(2, 1, 3, 4), 1, CORRUPT, "says that all parts have 4 tensors .* says 3"),
    (keys(2, 0, 1, 3), 1, CORRUPT, "is no part by its header .*expected part 2 of 3"),
    (keys(1, 3, 3, 3), 1, CORRUPT, r"it is part 3 \(split.no, from 0 on\) of 3"),
    (rename(1, "model.gguf"), "model.gguf", FORMAT, "must end in -00001-of-00003.gguf, .*rename"),
    (no_keys, 1, CORRUPT, "named as part 1 of 3, but its header does not say so"),
    (only_a_count, 1, CORRUPT, "it is part None"),
    (same_tensor, 1, CORRUPT, "the tensor 'b' is in .*00002-of-00003.gguf and in .*00003-of"),
]


@pytest.mark.parametrize(("change", "opened", "error", "says"), WRONG)
def test_parts_that_do_not_fit(tmp_path, change, opened, error, says):
    parts = make_parts()
    change(parts)
    write(tmp_path, parts)
    name = opened if isinstance(opened, str) else name_of(opened)
    with pytest.raises(error, match=says):
        embstore.open(tmp_path / name, tensor="b")


def test_other_number_of_tensors_than_stated(tmp_path):
    parts = make_parts()
    for number, file in enumerate(parts.values()):
        file.keys = split_keys(number, 3, 7)
    write(tmp_path, parts)
    with pytest.raises(CORRUPT, match=r"all parts have 7 tensors .*but 3 were found"):
        embstore.open(tmp_path, tensor="b")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_part_that_is_not_a_file(tmp_path, number):
    write(tmp_path, make_parts())
    (tmp_path / name_of(number)).unlink()
    os.mkfifo(tmp_path / name_of(number))
    opened = tmp_path / name_of(1 if number > 1 else 2)
    with pytest.raises(CORRUPT, match="is not a regular file"):
        embstore.open(opened, tensor="b")
    with pytest.raises(embstore.StoreNotFoundError):
        embstore.open(tmp_path / name_of(number), tensor="b")


def test_parts_may_be_links(tmp_path):
    (tmp_path / "blobs").mkdir()
    write(tmp_path / "blobs", make_parts())
    (tmp_path / "snapshot").mkdir()
    for number, file in enumerate(sorted((tmp_path / "blobs").iterdir())):
        blob = file.rename(file.with_name(f"blob{number}"))
        (tmp_path / "snapshot" / name_of(number + 1)).symlink_to(f"../blobs/{blob.name}")
    with embstore.open(tmp_path / "snapshot", tensor="c") as store:
        assert np.array_equal(store.to_numpy(), ROWS + 100)
