"""The command line, run as a user runs it, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import embstore
from embstore.cli import app
from embstore.cli.shown_rows import json_texts
from tests.helpers.programs import run_command as run
from tests.helpers.programs import run_python

COMMANDS = sorted(command.callback.__name__ for command in app.registered_commands)  # type: ignore[union-attr]
README = Path(__file__).parent.parent / "README.md"


def test_every_command_is_known() -> None:
    assert [
        *(
            "append",
            "bench",
            "build",
            "clean",
            "explain",
            "export",
            "get",
            "info",
            "prune",
            "publish",
        ),
        *("repartition", "serve", "similar", "snapshot", "update", "upsert", "verify", "versions"),
    ] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_in_their_help_and_in_the_docs(command: str) -> None:
    text = run(command, "--help").stdout
    assert "Example" in text
    assert f"  embstore {command} " in text
    pages = [README, *(README.parent / "docs").glob("*.md")]
    assert any(f"embstore {command}" in page.read_text() for page in pages)


@pytest.mark.parametrize("name", embstore.__all__)
def test_public_names_are_documented(name: str) -> None:
    if name != "__version__":
        assert getattr(embstore, name).__doc__


def test_build_prints_a_summary(words_path: Path, tmp_path: Path) -> None:
    done = run("build", words_path, tmp_path / "new.embstore", "--partitions", 3)
    assert "rows" in done.stdout
    assert "11" in done.stdout
    assert done.stderr == ""
    with embstore.open(tmp_path / "new.embstore") as store:
        assert (store.rows, store.partition_count) == (11, 3)


def test_build_keeps_to_a_memory_limit(tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_bytes(b"the 1 2\nlike 3 4\n")
    run("build", text, tmp_path / "s", "--memory-limit", "64MiB")
    refused = run("build", text, tmp_path / "t", "--memory-limit", "1KiB", status=1)
    assert "1 partition needs a --memory-limit of at least 64KiB, not 1KiB" in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "t.txt"]
    refused = run("build", text, tmp_path / "t", "--memory-limit", "much", status=1)
    assert "--memory-limit must be a size such as 2GiB, 500MB or 4096, not 'much'" in refused.stderr


def test_build_options_and_json(tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_bytes(b"2 2\n<unk> 1 2\nb\xff 3 nan")
    options = ["--format", "word2vec", "--strategy", "div", "--dtype", "float16"]
    options += ["--encoding-errors", "replace", "--unk", "<unk>", "--partitions", "2", "--json"]
    done = run("build", text, tmp_path / "s", *options)
    facts = json.loads(done.stdout)
    assert facts["rows"] == 2
    assert facts["strategy"] == "div"
    assert facts["dtype"] == "float16"
    assert (facts["unk"], facts["unk_id"]) == ("<unk>", 0)
    assert facts["source"]["non_finite_row_count"] == 1
    assert "nan or inf" in done.stderr
    assert "no newline" in done.stderr


def test_build_takes_arrays_and_tables(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", first=np.zeros((1, 2)), second=np.arange(8.0).reshape(4, 2))
    (tmp_path / "w.txt").write_text("a\nb\nc\nroute 66\n")
    options = ["--member", "second", "--words", tmp_path / "w.txt", "--limit", "3", "--json"]
    facts = json.loads(run("build", tmp_path / "t.npz", tmp_path / "s", *options).stdout)
    assert (facts["rows"], facts["dtype"], facts["words"]) == (3, "float64", 3)
    done = run("build", tmp_path / "t.npz", tmp_path / "s2", "--tensor", "x", status=1)
    assert "does not take --tensor;" in done.stderr
    (tmp_path / "t.txt").write_text("route 66 1 2\nb 3 4\n")
    done = run("build", tmp_path / "t.txt", tmp_path / "s3", "--dimension", 2)
    with embstore.open(tmp_path / "s3") as store:
        assert store["route 66"].tolist() == [1, 2]


def test_build_reports_duplicates(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a 1\nb 2\na 3\n")
    assert "word came before: 1" in run("build", tmp_path / "t.txt", tmp_path / "s").stderr
    done = run("build", tmp_path / "t.txt", tmp_path / "s2", "--on-duplicate", "error", status=1)
    assert done.stderr.startswith("embstore: error:")
    assert "t.txt:3" in done.stderr


def test_get_shows_a_table(words_store: Path) -> None:
    lines = run("get", words_store, "like", "the").stdout.splitlines()
    assert lines[0].split()[:2] == ["id", "word"]
    assert lines[1].split()[:3] == ["1", "like", "0.3681"]
    assert lines[2].split()[:2] == ["0", "the"]


def test_get_json_holds_the_rows(words_store: Path) -> None:
    with embstore.open(words_store) as store:
        expected = store[["like", "the"]]
    entries = json.loads(run("get", words_store, "like", "the", "--json").stdout)
    assert [(entry["id"], entry["word"]) for entry in entries] == [(1, "like"), (0, "the")]
    rows = np.array([entry["row"] for entry in entries], np.float32)
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize(
    ("ids", "expected"), [("0,5,7", [0, 5, 7]), ("2:5", [2, 3, 4]), (":", list(range(11)))]
)
def test_get_ids_to_a_file(
    words_store: Path, tmp_path: Path, ids: str, expected: list[int]
) -> None:
    run("get", words_store, "--ids", ids, "--npy", tmp_path / "rows.npy")
    with embstore.open(words_store) as store:
        np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), store.lookup(expected))


def test_get_does_not_overwrite(words_store: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.npy"
    file.write_bytes(b"mine")
    refused = run("get", words_store, "like", "--npy", file, status=1)
    assert f"{file} exists" in refused.stderr
    assert file.read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {"rows.npy", words_store.name}
    run("get", words_store, "like", "--npy", file, "--overwrite")
    assert np.load(file).shape == (1, 8)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "uint64", "bool"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 2), (0,), (2, 0)])
def test_json_of_rows(dtype: str, shape: tuple[int, ...]) -> None:
    rows = (np.random.default_rng(0).standard_normal((5, *shape)) * 100).astype(dtype)
    want = rows.tolist()
    if np.dtype(dtype).kind == "f" and rows.size:
        rows.reshape(-1)[[0, 3]] = np.nan, np.inf
        want = np.array(rows, object)
        want.reshape(-1)[[0, 3]] = None
        want = want.tolist()
    found = [json.loads(text) for text in json_texts(rows)]
    if np.dtype(dtype).kind != "f":
        assert found == want
        return
    same = np.array(found, float if rows.size else None).astype(dtype)
    hidden = ~np.isfinite(rows)
    assert np.array_equal(np.where(hidden, 0, same), np.where(hidden, 0, rows))
    assert np.array_equal(np.array(found, object) == None, hidden)  # noqa: E711


def test_rows_are_one_line_each(tmp_path: Path) -> None:
    word = "a very long word " * 20
    embstore.build({word: [1.0, 2.0], "b": [3.0, 4.0]}, tmp_path / "s").close()
    lines = run("get", tmp_path / "s", "--ids", ":").stdout.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith(f" 0  {word}")


def test_ctrl_c_says_so(words_store: Path) -> None:
    code = (
        "import embstore.cli.rows as rows, embstore.cli, signal, sys\n"
        "rows.print_table = lambda *_: signal.raise_signal(signal.SIGINT)\n"
        f"sys.argv = ['embstore', 'get', {str(words_store)!r}, 'like']\n"
        "embstore.cli.main()\n"
    )
    done = run_python("-c", code, status=130)
    assert done.stderr == "embstore: error: interrupted\n"


def test_get_missing_words(words_store: Path) -> None:
    assert "'zyzzyva'" in run("get", words_store, "zyzzyva", status=1).stderr
    entries = json.loads(run("get", words_store, "zyzzyva", "--missing", "zeros", "--json").stdout)
    assert entries == [{"id": None, "word": "zyzzyva", "row": [0.0] * 8}]


def test_get_with_a_max_norm(words_store: Path) -> None:
    arguments = ["get", words_store, "like", "zyzzyva", "--missing", "zeros", "--max-norm", "0.5"]
    entries = json.loads(run(*arguments, "--json").stdout)
    with embstore.open(words_store) as store:
        expected = store.lookup(store.ids(["like"]), max_norm=0.5)[0]
        assert np.linalg.norm(store["like"]) > 0.5
    np.testing.assert_array_equal(np.array(entries[0]["row"], np.float32), expected)
    assert entries[1] == {"id": None, "word": "zyzzyva", "row": [0.0] * 8}
    assert "--max-norm" in run(*arguments[:-1], "-1", status=1).stderr


def test_mistakes_name_their_option(words_store: Path) -> None:
    done = run("similar", words_store, "like", "--restrict", "king", status=2)
    assert "Invalid value for --restrict: 'king' is not a list of ids" in done.stderr
    done = run("similar", words_store, "--ids", "king", status=2)
    assert "Invalid value for --ids: 'king'" in done.stderr
    done = run("get", words_store, "like", "--dtype", "int8", status=1)
    assert "error: --dtype must be one of" in done.stderr
    done = run("get", words_store, "like", "--partitions", "9", status=1)
    assert "error: --partitions must be from 0 to 1" in done.stderr
    done = run("info", words_store, "--version", "1", status=1)
    assert "error: --version chooses" in done.stderr


@pytest.mark.parametrize("command", ["get", "explain", "similar"])
def test_words_that_look_like_ids(words_store: Path, command: str) -> None:
    assert run(command, words_store, "0", "17", status=1).stderr.endswith(
        "; give ids as --ids 0,17\n"
    )
    assert "--ids" not in run(command, words_store, "0", "zyzzyva", status=1).stderr


def test_a_search_that_finds_nothing_says_so(words_store: Path) -> None:
    refused = run("similar", words_store, "like", "--topn", 0, status=2)
    assert "Invalid value for '--topn'" in refused.stderr
    done = run("similar", words_store, "like", "--restrict", "5:5")
    assert done.stderr == "embstore: note: no row is left to compare like with\n"


@pytest.mark.parametrize("arguments", [[], ["get"]])
def test_help_is_short_too(arguments: list[str]) -> None:
    assert run(*arguments, "-h").stdout == run(*arguments, "--help").stdout


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("grpc://127.0.0.1:8815", "grpc://127.0.0.1:8815 is the address of a server; programs"),
        ("GRPC+TLS://a:b@rows:8815", "GRPC+TLS://rows:8815 is the address of a server; programs"),
        ("empty.txt", "empty.txt: the file is empty; is the download complete?"),
        ("empty.safetensors", "empty.safetensors: the file is empty; is the download complete?"),
        ("empty.gguf", "empty.gguf: the file is empty; is the download complete?"),
        ("text.txt", "if it holds vectors, make a store of it with embstore build"),
        ("missing.gguf", "missing.gguf: no such file or directory"),
        ("folder", "folder is not a store or model: it has no zarr.json, and no files of safe"),
    ],
)
def test_there_is_nothing_to_open(tmp_path: Path, path: str, says: str) -> None:
    for name in ("empty.txt", "empty.safetensors", "empty.gguf"):
        (tmp_path / name).touch()
    (tmp_path / "text.txt").write_text("the 1 2\n")
    (tmp_path / "folder").mkdir()
    where = path if "://" in path else tmp_path / path
    for command in (["info", where], ["get", where, "king"], ["similar", where, "king"]):
        assert says in run(*command, status=1).stderr
    if "://" in path:
        assert says in run("build", where, tmp_path / "s", status=1).stderr


@pytest.mark.parametrize("format", ["gguf", "safetensors", "npy", "npz", "parquet", "store"])
def test_a_wrong_format_is_named(tmp_path: Path, format: str) -> None:
    (tmp_path / "glove.txt").write_text("the 1 2\nlike 3 4\n")
    build = ["build", tmp_path / "glove.txt", tmp_path / "s", "--format", format]
    errors = run(*build, status=1).stderr
    assert "use embstore build" not in errors
    if format in ("gguf", "safetensors", "store"):
        assert "leave out --format" in errors


@pytest.mark.parametrize("command", ["get", "explain"])
def test_ids_out_of_range_are_refused(words_store: Path, command: str) -> None:
    for ids in ("-1,0", "11"):
        done = run(command, words_store, f"--ids={ids}", "--missing", "zeros", status=1)
        assert ids.partition(",")[0] in done.stderr


def test_repartition_keeps_what_is_not_given(words_store: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.embstore"
    run("repartition", words_store, new, "--strategy", "div")
    facts = json.loads(run("info", new, "--json").stdout)
    assert (facts["partitions"], facts["strategy"], facts["rows"]) == (2, "div", 11)
    options = ["--partitions", 3, "--limit", 5, "--unk", "the", "--memory-limit", "64MiB"]
    run("repartition", new, new, *options, "--overwrite")
    facts = json.loads(run("info", new, "--json").stdout)
    assert (facts["partitions"], facts["strategy"], facts["rows"]) == (3, "div", 5)
    assert (facts["unk"], facts["unk_id"]) == ("the", 0)
    done = run("repartition", new, tmp_path / "t", "--partitions", 0, status=1)
    assert "partitions must be from 1 to 65536, not 0" in done.stderr


def test_info_and_explain(words_store: Path) -> None:
    facts = json.loads(run("info", words_store, "--json").stdout)
    assert (facts["rows"], facts["row_shape"], facts["partitions"]) == (11, [8], 2)
    with embstore.open(words_store) as store:
        assert facts["fingerprint"] == store.fingerprint()
    old = Path(__file__).parent / "golden/v1-div.embstore"
    assert json.loads(run("info", old, "--json").stdout)["fingerprint"] is None
    plan = json.loads(run("explain", words_store, "--ids", "0,2,2", "--json").stdout)
    assert (plan["rows"], plan["distinct_rows"], plan["partitions"]) == (3, 2, 1)
    assert "read amplification" in run("explain", words_store, "like").stdout


def test_facts_have_names_that_people_read(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("the 1 2\nlike 3 4")
    run("build", tmp_path / "t.txt", tmp_path / "a", "--encoding", "int8")
    facts = run("build", tmp_path / "a", tmp_path / "b").stdout
    lines = dict(line.split("  ", 1) for line in facts.splitlines())
    found = {name: value.strip() for name, value in lines.items()}
    assert (found["bytes of all rows"], found["bytes of a row"]) == ("12", "6")
    assert found["source rows with nan or inf"] == "not counted"
    assert found["earlier source 1 file"] == "t.txt"
    assert found["earlier source 1 last newline missing"] == "yes"
    assert found["earlier source 1 rows with nan or inf"] == "0"
    as_json = json.loads(run("info", tmp_path / "b", "--json").stdout)
    assert (as_json["row_bytes"], as_json["record_bytes"]) == (12, 6)
    assert as_json["source"]["non_finite_row_count"] is None
    assert as_json["source"]["origins"][0]["unterminated"] is True


def test_verify_finds_damage(words_store: Path) -> None:
    assert run("verify", words_store).stdout.startswith("ok: ")
    chunk = words_store / "partitions" / "0" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[5] ^= 1
    chunk.write_bytes(data)
    done = run("verify", words_store, status=1)
    assert str(chunk) in done.stdout
    report = json.loads(run("verify", words_store, "--json", status=1).stdout)
    assert not report["ok"]
    assert len(report["problems"]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "nothing-here"],
        ["get", "nothing-here", "word"],
        ["build", "nothing-here", "target"],
        ["verify", "."],
    ],
)
def test_errors_are_one_line(arguments: list[str], tmp_path: Path) -> None:
    done = run(*arguments, status=1)
    assert done.stdout == ""
    assert done.stderr.startswith("embstore: error: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [["get", ".", "--ids", "x"], ["get", "."], ["build", "a", "b", "--dtype", "no"]]
)
def test_wrong_arguments_show_the_usage(arguments: list[str], words_store: Path) -> None:
    arguments = [str(words_store) if argument == "." else argument for argument in arguments]
    done = run(*arguments, status=2)
    assert "Usage: " in done.stderr
    assert "Traceback" not in done.stderr


def test_foreign_files(tmp_path):
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.save(tmp_path / "t.npy", table)
    facts = json.loads(run("info", tmp_path / "t.npy", "--json").stdout)
    with embstore.open(tmp_path / "t.npy") as store:
        assert facts.pop("fingerprint") == store.fingerprint()
    assert facts == {
        "file": str(tmp_path / "t.npy"),
        "format": "npy",
        "rows": 4,
        "row_shape": [3],
        "dtype": "float32",
        "row_bytes": 48,
    }
    found = json.loads(run("get", tmp_path / "t.npy", "--ids", "2,0", "--json").stdout)
    assert [entry["row"] for entry in found] == table[[2, 0]].tolist()
    assert "read amplification" in run("explain", tmp_path / "t.npy", "--ids", "0:4").stdout
