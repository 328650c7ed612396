"""Folders: which files are one table, in which order, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

import embstore
from embstore.errors import FormatError, SourceError
from embstore.sources.folders import folder as folders
from embstore.sources.folders.folder import format_of_folder, table_files
from tests.helpers.sources import read
from tests.test_open_in_place import safetensors_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

ONE = "11111111-aaaa-4bbb-8ccc-000000000001"
TWO = "22222222-aaaa-4bbb-8ccc-000000000002"
HEX = "0a1b2c3d4e5f6789"


def rows_of(number: int) -> NDArray[np.float32]:
    return np.full((2, 3), number, np.float32)


def put(path: Path, number: int = 0) -> Path:
    """Write a file of two rows of ``number``; what it is follows from its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = rows_of(number)
    table = pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 3)})
    match path.suffix.lower():
        case ".npy":
            with path.open("wb") as file:
                np.save(file, rows)
        case ".parquet" | ".parq" | ".pq":
            parquet.write_table(table, path)
        case ".arrow" | ".arrows" | ".feather" | ".ipc":
            with ipc.new_stream(str(path), table.schema) as writer:
                writer.write_table(table)
        case _:
            path.write_bytes(b"anything")
    return path


def numbers_read(folder: Path, **options: Any) -> list[int]:
    """Return the number of each part, as the rows tell it."""
    found = read(folder, **options)[1]
    assert len(found) % 2 == 0
    assert np.array_equal(found[::2], found[1::2])
    return [int(row[0]) for row in found[::2]]


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as error:
        read(folder, **options)
    return str(error.value)


PARTS = [
    ["emb.npy"],
    ["emb-300.npy"],
    ["part-1.npy"],
    ["glove.6B.50d.npy"],
    ["a-00000-of-00001.parquet"],
    [f"part-{number}.npy" for number in range(12)],
    [f"part.{number}.parquet" for number in range(3)],
    ["1.npy", "2.npy", "03.npy"],
    ["rows1.NPY", "rows2.NPY"],
    ["img_emb_0000.npy", "img_emb_0001.npy"],
    ["000000_0.parquet", "000001_0.parquet"],
    [f"train-0000{number}-of-00003.parquet" for number in range(3)],
    [f"train-0000{number}-of-00002-{HEX[:-1]}{number}.parquet" for number in range(2)],
    [f"data-{number}-of-3.arrow" for number in (1, 2, 3)],
    [f"data-{number}.feather" for number in (1, 2)],
    [f"part-0000{number}-{ONE}-c000.snappy.parquet" for number in range(3)],
    [f"part-0000{task}-{ONE}.c00{file}.parquet" for task in (0, 1) for file in (0, 1)],
    [f"{ONE.replace('-', '')}-{number}.parquet" for number in range(2)],
    ["part-0.parquet", "lang=de/part-1.parquet"],
    ["part-0.npy", "more/part-1.npy", "more/part-2.npy"],
    ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
    ["shard-0/rows.npy", "shard-1/rows.npy", "shard-02/rows.npy"],
    ["lang=de/part-0.parquet", "lang=en/part-0.parquet", "lang=en/part-1.parquet"],
    ["year=9/data.parquet", "year=10/data.parquet"],
    ["a=1/b=9/x-0.parquet", "a=1/b=10/x-0.parquet", "a=2/b=9/x-0.parquet"],
    ["t/lang=de/part-0.parquet", "t/lang=en/part-0.parquet"],
    [f"lang=de/{ONE}.parquet", f"lang=en/{TWO}.parquet"],
    [f"lang=de/part-00000-{ONE}.c000.parquet", f"lang=en/part-00000-{ONE}.c000.parquet"],
    ["a.pq"],
]


@pytest.mark.parametrize("names", PARTS, ids="+".join)
def test_parts_are_read_in_order(tmp_path, names):
    """The junk of `JUNK` beside them changes nothing."""
    for number, name in reversed(list(enumerate(names))):
        put(tmp_path / "t" / name, number)
    assert numbers_read(tmp_path / "t") == list(range(len(names)))
    put_junk(tmp_path / "t" / names[-1])
    assert numbers_read(tmp_path / "t") == list(range(len(names)))


DOUBTFUL = [
    (["part-0.npy", "part-2.npy"], "number 1 is missing"),
    (["part-3.parquet"], "number 1 is missing"),
    (["part-5.npy", "part-6.npy"], "number 1 is missing"),
    (["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"], "number 1 is missing"),
    (["train-00000-of-00003.parquet", "train-00001-of-00003.parquet"], "number 2 is missing"),
    (["train-00000-of-00003.parquet"], "number 1 is missing"),
    (["train-00002-of-00003.parquet", "train-00003-of-00003.parquet"], "number 1 is missing"),
    ([f"x-{number}-of-2.npy" for number in range(3)], "3 parts, but their names say 2"),
    ([f"part-0000{number}-{ONE}-c000.parquet" for number in (0, 2)], "number 1 is missing"),
    ([f"part-00003-{ONE}-c000.parquet"], "number 0 is missing"),
    (["x-0-of-2.npy", "x-1-of-3.npy"], "several runs"),
    ([f"part-00000-{run}-c000.parquet" for run in (ONE, TWO)], "several runs"),
    ([f"part-0000{number}-{run}.parquet" for number, run in enumerate((ONE, TWO))], "several runs"),
    ([f"{run}.parquet" for run in (ONE, TWO)], "several runs"),
    ([f"lang=de/{run}.parquet" for run in (ONE, TWO)], "several runs"),
    ([f"x-00000-of-00001-{HEX[::step]}.parquet" for step in (1, -1)], "the same number"),
    (["part-1.npy", "part-01.npy"], "the same number"),
    (["part-0.npy", "sub/part-0.npy"], "the same number"),
    (["train/emb.npy", "test/emb.npy"], "of several tables"),
    (["lang=de/part-0.parquet", "lang=de/part-00.parquet"], "the same number"),
    (["lang=de/a.parquet", "lang=de/x=1/a.parquet", "lang=en/b.parquet"], "several tables"),
    (["a.npy", "b.npy"], "several tables"),
    (["emb.npy", "emb-1.npy"], "several tables"),
    (["emb.npy", "emb (1).npy"], "several tables"),
    (["emb (1).npy", "emb (2).npy"], "versions"),
    (["emb_v1.npy", "emb_v2.npy"], "versions"),
    (["epoch-0.npy", "epoch-1.npy"], "versions"),
    (["v1/emb.npy", "v2/emb.npy"], "versions"),
    (["layer0-part0.npy", "layer0-part1.npy", "layer1-part0.npy"], "versions"),
    ([f"x{one}-{two}.npy" for one in (0, 1) for two in (0, 1)], "several numbers"),
    (["rows_0_10.npy", "rows_10_20.npy"], "several numbers"),
    (["X_train.npy", "y_train.npy"], "several tables"),
    (["data/train-0-of-1.parquet", "data/test-0-of-1.parquet"], "several tables"),
    (["emb.npy", "backup/emb.npy"], "several tables"),
    (["part-0.arrow", "part-1.feather"], "several tables"),
    (["part-0.parquet", "part-1.pq"], "several tables"),
    (["lang=en/part-0.parquet", "lang=de/part-1.parquet"], "order of its parts is in doubt"),
    (["b/part-0.npy", "a/part-1.npy"], "order of its parts is in doubt"),
    (["glove.50d.npy", "glove.100d.npy", "glove.200d.npy"], "number 1 is missing"),
    (["2023.npy", "2024.npy"], "number 1 is missing"),
    (["shard-0/rows.npy", "shard-2/rows.npy"], "number 1 is missing"),
]


@pytest.mark.parametrize(("names", "says"), DOUBTFUL, ids=lambda value: str(value)[:60])
def test_doubtful_folders_are_refused(tmp_path, names, says):
    for number, name in enumerate(names):
        put(tmp_path / "t" / name, number)
    message = refusal(tmp_path / "t")
    assert says in message
    assert str(tmp_path / "t") in message
    assert names[0].rpartition("/")[2] in message


JUNK = [
    *(
        "README.md",
        "dataset_infos.json",
        "Thumbs.db",
        "desktop.ini",
        "words.txt",
        "~${stem}{suffix}",
    ),
    *("_SUCCESS", "_metadata", "_common_metadata", "_committed_1", ".DS_Store", ".gitattributes"),
    *("__MACOSX/._{stem}{suffix}", "._{stem}{suffix}", ".{stem}.tmp{suffix}", ".x{suffix}.crc"),
    *(
        "{stem}{suffix}.tmp",
        "{stem}{suffix}.crc",
        "{stem}{suffix}.md5",
        "{stem}{suffix}.crdownload",
    ),
    *("{stem}{suffix}.part", "{stem}{suffix}~", ".{stem}{suffix}.Xa3f9Q", "{stem}{suffix}.gz"),
    *("other{suffix}.tmp", "{stem}.tmp{suffix}", "_temporary/0/part-77{suffix}"),
    *(".cache/x/part-77{suffix}", ".ipynb_checkpoints/{stem}{suffix}", "store.embstore/zarr.json"),
]


def put_junk(path: Path) -> None:
    """Put all of `JUNK` beside a part."""
    for name in JUNK:
        put(path.parent / name.format(stem=path.stem, suffix=path.suffix), 99)


@pytest.mark.parametrize(
    ("there", "unfinished"),
    [
        (["part-0.parquet"], "part-1.parquet.crdownload"),
        (["part-0.npy"], "part-1.npy.tmp"),
        (["part-0.npy"], ".part-1.npy.Xa3f9Q"),
        (["part-0.npy", "part-1.npy"], "part-2.tmp.npy"),
        (["part-0.npy"], ".part-1.tmp.npy"),
        (["part-0.parquet", "part-1.parquet"], "part-2.parquet.part"),
        (["part-0.parquet"], "part-1.parquet.gz"),
        (["part-0.npy"], "part-1.npy.zip"),
        (["part-0.npy"], "part-1.npy~"),
        (["data/part-0.npy"], "data/part-1.npy.incomplete"),
        (["part-0.npy"], "part-1.npy.6eF4c2a1"),
        (["part-0.npy"], "part-1.npy.abcd1234.partial"),
        (["part-0.npy"], ".part-1.npy.icloud"),
        (["part-0.npy"], "part-1.npy.dvc"),
        (["part-0.npy"], "part-1.npy.!qB"),
        (["part-0.parquet"], ".part-1.parquet.crc"),
    ],
)
def test_half_written_part_is_told(tmp_path, there, unfinished):
    for number, name in enumerate(there):
        put(tmp_path / "t" / name, number)
    assert numbers_read(tmp_path / "t") == list(range(len(there)))
    (tmp_path / "t" / unfinished).write_bytes(b"half")
    message = refusal(tmp_path / "t")
    assert f"{unfinished} stands for " in message
    assert "which is missing" in message


def test_preallocated_download_is_told(tmp_path):
    for number in range(2):
        put(tmp_path / "t" / f"part-{number}.npy", number)
    put(tmp_path / "t" / "part-1.npy.aria2")
    assert "part-1.npy is still being downloaded" in refusal(tmp_path / "t")


def test_unfinished_job_is_told(tmp_path):
    put(tmp_path / "t" / "part-0.parquet")
    put(tmp_path / "t" / "_temporary" / "0" / "part-1.parquet")
    assert "has not finished" in refusal(tmp_path / "t")
    (tmp_path / "t" / "_SUCCESS").touch()
    assert numbers_read(tmp_path / "t") == [0]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([".emb.npy", "_emb.npy"], ".emb.npy, _emb.npy"),
        (["emb.npy.crdownload"], "emb.npy.crdownload"),
        (["a.txt", "b.bin"], "a.txt, b.bin"),
        (["cache-0123456789abcdef.arrow"], "cache-0123456789abcdef.arrow"),
        (["emb.tmp.npy"], "emb.tmp.npy"),
        (["x.embstore/zarr.json"], "tables of their own: x.embstore"),
        ([], "it is empty"),
    ],
)
def test_folder_without_a_table_tells_what_it_holds(tmp_path, names, found):
    (tmp_path / "t").mkdir()
    for name in names:
        put(tmp_path / "t" / name)
    for options in ({}, {"format": "npy"}, {"format": "arrow"}):
        assert found in refusal(tmp_path / "t", **options)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["part-0.npy", "part-0.parquet"], "several formats: npy, parquet"),
        (["a.arrow", "a.parquet"], "several formats: parquet, arrow"),
        (["x/a.npy", "y/a.feather"], "several formats: npy, arrow"),
    ],
)
def test_several_formats(tmp_path, names, says):
    for number, name in enumerate(names):
        put(tmp_path / "t" / name, number)
    assert says in refusal(tmp_path / "t")
    for number, name in enumerate(names):
        format = next(key for key, ends in folders.SUFFIXES.items() if name.endswith(ends))
        assert numbers_read(tmp_path / "t", format=format) == [number]


GENSIM = [
    ["w2v.model", "w2v.model.wv.vectors.npy", "w2v.model.syn1neg.npy"],
    ["w2v.model.wv.vectors.npy", "w2v.model.syn1neg.npy"],
    ["kv", "kv.vectors.npy"],
    ["ft.model", "ft.model.wv.vectors_ngrams.npy", "ft.model.wv.vectors_vocab.npy"],
    ["d2v", "d2v.dv.vectors.npy"],
    ["old", "old.wv.syn0.npy", "old.syn1.npy", "old.wv.syn0norm.npy"],
    ["old", "old.trainables.syn1neg.npy"],
    ["sub/kv", "sub/kv.vectors.npy"],
]


@pytest.mark.parametrize("names", GENSIM, ids="+".join)
def test_models_of_gensim_are_refused(tmp_path, names):
    for name in names:
        put(tmp_path / "t" / name)
    message = refusal(tmp_path / "t")
    assert "is a model that gensim saved" in message
    likely = next((name for name in names if name.endswith(("vectors.npy", "syn0.npy"))), None)
    assert f"give {tmp_path / 't' / (likely or names[-1])}" in message or not likely
    assert len(read(tmp_path / "t" / names[-1])[1]) == 2


def test_stack_of_dask_is_refused(tmp_path):
    for name in ("0.npy", "1.npy", "info"):
        put(tmp_path / "t" / name)
    assert "from_npy_stack" in refusal(tmp_path / "t")


def save_dataset(folder: Path, numbers: list[int], **state: Any) -> Path:
    names = [f"data-{place:05}-of-{len(numbers):05}.arrow" for place in range(len(numbers))]
    for name, number in zip(names, numbers, strict=True):
        put(folder / name, number)
    put(folder / "cache-0123456789abcdef.arrow", 99)
    put(folder / "cache-0123456789abcdef_00000_of_00002.arrow", 99)
    put(folder / "indices-0123456789abcdef.arrow", 99)
    listed = {"_data_files": [{"filename": name} for name in names], "_fingerprint": HEX}
    (folder / "state.json").write_text(json.dumps(listed | state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_data_set(tmp_path):
    folder = save_dataset(tmp_path / "t", [5, 3, 4])
    assert numbers_read(folder) == [5, 3, 4]
    assert numbers_read(folder, format="arrow") == [5, 3, 4]
    files = [{"filename": f"data-0000{place}-of-00003.arrow"} for place in (2, 0)]
    (folder / "state.json").write_text(json.dumps({"_data_files": files}))
    assert numbers_read(folder) == [4, 5]
    (folder / "state.json").unlink()
    assert numbers_read(folder) == [5, 3, 4]  # The caches are still none of its parts.


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"_indices_data_files": [{"filename": "indices.arrow"}]}, "chosen or reordered"),
        ({"_data_files": [{"filename": "gone.arrow"}]}, "lists gone.arrow, which is missing"),
        ({"_data_files": [{"filename": "../x.arrow"}]}, "is not readable"),
        ({"_data_files": [{"name": "x"}]}, "is not readable"),
        ({"_data_files": 3}, "is not readable"),
        ({"_data_files": []}, "lists no files"),
        ({"_data_files": [{"filename": "data-00000-of-00001.arrow"}] * 2}, "lists a file twice"),
    ],
)
def test_data_set_that_is_not_whole(tmp_path, state, says):
    assert says in refusal(save_dataset(tmp_path / "t", [0], **state))


def test_data_set_of_several_splits(tmp_path):
    for name in ("train", "test"):
        save_dataset(tmp_path / "t" / name, [0])
    assert "tables of their own: test, train" in refusal(tmp_path / "t")
    (tmp_path / "t" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    message = refusal(tmp_path / "t")
    assert "splits train, test" in message
    assert str(tmp_path / "t" / "train") in message
    (tmp_path / "t" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert numbers_read(tmp_path / "t") == [0]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([".hoodie/hoodie.properties", "a.parquet"], "a Hudi table"),
        (["metadata/v1.metadata.json", "data/a.parquet"], "an Iceberg table"),
        (["metadata/version-hint.text", "data/a.parquet"], "an Iceberg table"),
        (["_versions/1.manifest", "data/a.lance"], "a Lance table"),
        ([".zarray", "0.0"], "a Zarr array; open it with zarr"),
        ([".zgroup", "x/.zarray"], "a Zarr group"),
        (["more.lance/_versions/1.manifest", "a.parquet"], "more.lance is a table of its own"),
    ],
)
def test_tables_of_other_libraries(tmp_path, names, says):
    for name in names:
        put(tmp_path / "t" / name)
    assert says in refusal(tmp_path / "t")


@pytest.mark.parametrize("kind", ["array", "group"])
def test_zarr(tmp_path, kind):
    import zarr

    if kind == "array":
        zarr.create_array(tmp_path / "t", shape=(3, 2), dtype="float32")
    else:
        zarr.create_group(tmp_path / "t", attributes={"embstores": 1})
    assert f"is a Zarr {kind}, not a store; open it with zarr" in refusal(tmp_path / "t")


def test_data_folder_of_a_table_is_refused(tmp_path):
    for name in ("metadata/v1.metadata.json", "data/a.parquet", "data/x=1/a.parquet"):
        put(tmp_path / "t" / name)
    assert f"give {tmp_path / 't'}" in refusal(tmp_path / "t" / "data")
    assert f"give {tmp_path / 't'}" in refusal(tmp_path / "t" / "data" / "x=1")


def test_metadata_beside_a_folder_is_no_table(tmp_path):
    put(tmp_path / "metadata" / "notes.metadata.json")
    put(tmp_path / "metadata" / "v1.metadata.json")
    put(tmp_path / "rows" / "a.parquet", 3)
    assert numbers_read(tmp_path / "rows") == [3]


def test_store_in_the_folder_of_a_table(tmp_path):
    (tmp_path / "t" / "_delta_log").mkdir(parents=True)
    embstore.build(rows_of(4), tmp_path / "t" / "emb.embstore").close()
    assert numbers_read(tmp_path / "t" / "emb.embstore") == [4]


def test_store_beside_its_source(tmp_path):
    put(tmp_path / "t" / "emb.npy", 4)
    embstore.build(tmp_path / "t" / "emb.npy", tmp_path / "t" / "emb.embstore").close()
    assert numbers_read(tmp_path / "t") == [4]
    assert numbers_read(tmp_path / "t" / "emb.embstore") == [4]
    (tmp_path / "t" / "emb.npy").unlink()
    assert "tables of their own: emb.embstore; give the path of one" in refusal(tmp_path / "t")


@pytest.mark.parametrize("name", ["t.npy", "t.parquet", "t.tmp", "_t", ".t"])
def test_name_of_the_folder_does_not_matter(tmp_path, name):
    for number in range(2):
        put(tmp_path / name / f"part-{number}.npy", number)
    assert numbers_read(tmp_path / name) == [0, 1]


@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".arrow"])
def test_subfolder_with_the_suffix_of_a_file(tmp_path, suffix):
    """Spark writes a folder with this name."""
    put(tmp_path / "t" / f"x{suffix}" / f"part-0{suffix}", 3)
    assert numbers_read(tmp_path / "t") == [3]
    put(tmp_path / "t" / f"y{suffix}" / f"part-0{suffix}", 3)
    assert "several tables" in refusal(tmp_path / "t")


def test_links_of_a_model_cache(tmp_path):
    folder = tmp_path / "snapshots" / "5"
    folder.mkdir(parents=True)
    for number in range(3):
        put(tmp_path / "blobs" / f"{number}.parquet", number).rename(
            tmp_path / "blobs" / f"{number}"
        )
        (folder / f"part-{number}.parquet").symlink_to(f"../../blobs/{number}")
    assert numbers_read(folder) == [0, 1, 2]
    (tmp_path / "latest").symlink_to(folder)
    assert numbers_read(tmp_path / "latest") == [0, 1, 2]
    (tmp_path / "blobs" / "1").unlink()
    assert "part-1.parquet is a symbolic link that leads nowhere" in refusal(folder)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("dangling", "is a symbolic link that leads nowhere"),
        ("loop", "is a symbolic link that leads nowhere"),
        ("fifo", "is not a regular file"),
        ("folder link", "subfolder part-1.npy is a symbolic link"),
    ],
)
def test_part_that_is_no_file(tmp_path, kind, says):
    put(tmp_path / "t" / "part-0.npy")
    path = tmp_path / "t" / "part-1.npy"
    match kind:
        case "dangling":
            path.symlink_to("nowhere")
        case "loop":
            path.symlink_to(path.name)
        case "fifo":
            os.mkfifo(path)
        case "folder link":
            (tmp_path / "elsewhere").mkdir()
            path.symlink_to(tmp_path / "elsewhere")
    message = refusal(tmp_path / "t")
    assert "part-1.npy" in message
    assert says in message


def test_part_that_may_not_be_read(tmp_path, monkeypatch):
    put(tmp_path / "t" / "part-0.npy")
    put(tmp_path / "t" / "part-1.npy")
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("-1.npy"))
    assert "part-1.npy may not be read by this user" in refusal(tmp_path / "t")


def test_folder_that_may_not_be_listed(tmp_path, monkeypatch):
    put(tmp_path / "t" / "a" / "part-0.npy")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match="t cannot be listed: Permission denied"):
        format_of_folder(tmp_path / "t")


def test_too_many_files(tmp_path, monkeypatch):
    for number in range(4):
        put(tmp_path / "t" / f"part-{number}.npy")
    monkeypatch.setattr(folders, "MAX_ENTRIES", 3)
    with pytest.raises(SourceError, match="has more than 3 files"):
        table_files(tmp_path / "t", "npy")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["model-00002-of-00003.safetensors"], "is one of 3 files, and .* is missing"),
        (["model-1-of-2.safetensors", "model-2-of-2.safetensors"], "name the file"),
        (["a.safetensors", "b.safetensors"], "name the file"),
    ],
)
def test_several_safetensors_without_an_index(tmp_path, names, says):
    for name in names:
        (tmp_path / name).write_bytes(safetensors_bytes({"e": rows_of(1)}))
    with pytest.raises(FormatError, match=says):
        embstore.open(tmp_path)
    with pytest.raises(SourceError, match=says):
        read(tmp_path)
    assert len(read(tmp_path / names[0])[1]) == 2


@pytest.mark.parametrize(
    "name", ["model.safetensors", "model-00001-of-00001.safetensors", "x.safetensors"]
)
def test_hidden_files_beside_safetensors(tmp_path, name):
    (tmp_path / name).write_bytes(safetensors_bytes({"e": rows_of(3)}))
    for junk in (f"._{name}", f".{name}.tmp", f"{name}.incomplete", f"_{name}"):
        (tmp_path / junk).write_bytes(b"\0\5\x16\7")
    assert numbers_read(tmp_path) == [3]
    with embstore.open(tmp_path) as store:
        assert store[1].tolist() == [3, 3, 3]
