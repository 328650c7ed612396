"""The command line where output is not UTF-8, and where file names are not."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import embstore
from tests.helpers.forked import template
from tests.helpers.programs import TIMEOUT_SECONDS, environment

WORDS = ["the", "\u65e5\u672c", "caf\u00e9", "\U0001f600", "\u20ac", "[UNK]"]
ENCODINGS = ["ascii", "ascii:strict", "cp1252", "iso8859-15", "utf-8:strict"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "s.embstore"
    embstore.build(np.arange(12.0).reshape(6, 2), path, words=WORDS).close()
    return path


def run(encoding: str, *arguments: object, status: int = 0) -> tuple[str, str]:
    """Run a command; return its output and errors, which must be in the encoding."""
    env = environment() | {"PYTHONIOENCODING": encoding}
    done = template().run([*map(str, arguments)], env, TIMEOUT_SECONDS)
    assert "Traceback" not in done.stderr
    assert "codec can't" not in done.stderr
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def escaped(text: str, encoding: str) -> str:
    name = encoding.partition(":")[0]
    return text.encode(name, "backslashreplace").decode(name)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_words_are_shown_or_escaped(store: Path, encoding: str) -> None:
    output, _ = run(encoding, "get", store, *WORDS)
    lines = output.splitlines()[1:]
    assert [line.split()[1] for line in lines] == [escaped(word, encoding) for word in WORDS]
    if not encoding.startswith("utf"):
        assert len({line.index(".") if "." in line else 0 for line in lines} - {0}) <= 1
    output, _ = run(encoding, "get", store, "--json", *WORDS)
    assert [entry["word"] for entry in json.loads(output)] == WORDS
    assert output.isascii() or encoding.startswith("utf")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_errors_are_shown_or_escaped(store: Path, encoding: str, tmp_path: Path) -> None:
    _, errors = run(encoding, "get", store, "\u65e5\u672cx", status=1)
    assert errors.startswith(f"embstore: error: the word '{escaped(WORDS[1], encoding)}x' is not")
    _, errors = run(encoding, "info", tmp_path / "\u65e5", status=1)
    assert errors.strip().endswith(f"{escaped(chr(0x65E5), encoding)}: no such file or directory")
    _, errors = run(encoding, "info", store, "--\u65e5", status=2)
    assert f"No such option: --{escaped(chr(0x65E5), encoding)}" in errors
    (tmp_path / "v.txt").write_text("\u65e5 1 2\ncaf\u00e9 x 4\n", encoding="utf-8")
    _, errors = run(encoding, "build", tmp_path / "v.txt", tmp_path / "v", status=1)
    assert "embstore: error: " in errors


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_other_commands(store: Path, encoding: str, tmp_path: Path) -> None:
    (tmp_path / "\u65e5.txt").write_text("\u65e5 1 2\n\u672c 3 4\n", encoding="utf-8")
    built = tmp_path / "\u65e5.embstore"
    output, _ = run(encoding, "build", tmp_path / "\u65e5.txt", built, "--unk", "\u65e5")
    assert escaped(str(built), encoding) in output
    output, _ = run(encoding, "info", built, "--json")
    assert json.loads(output)["unk"] == "\u65e5"
    run(encoding, "explain", built, "\u65e5")
    run(encoding, "verify", built)
    target = tmp_path / "\u672c.txt"
    run(encoding, "export", built, target, "--format", "glove")
    assert target.read_text(encoding="utf-8").split() == ["\u65e5", "1", "2", "\u672c", "3", "4"]
    rows = tmp_path / "[red]\u65e5[bold].npy"
    _, errors = run(encoding, "get", built, "\u672c", "--npy", rows)
    assert errors.strip().endswith(escaped(str(rows), encoding))
    assert np.load(rows).tolist() == [[3.0, 4.0]]
    run(encoding, "build", "--help")


@pytest.mark.parametrize("more", [{"PYTHONUTF8": "0"}, {"PYTHONUTF8": "1"}, {}])
def test_words_in_the_locale_c(store: Path, more: dict[str, str]) -> None:
    more = {"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""} | more
    env = environment() | more
    command = [sys.executable, "-m", "embstore.cli", "get", str(store), "--json"]
    words = [word.encode() for word in WORDS]
    done = subprocess.run([*command, *words], env=env, capture_output=True, check=True)
    assert [entry["word"] for entry in json.loads(done.stdout.decode())] == WORDS


@pytest.mark.parametrize("encoding", ["ascii", "utf-8:strict"])
def test_file_names_that_are_not_unicode(tmp_path: Path, encoding: str) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.embstore"
    embstore.build(np.arange(6.0).reshape(3, 2), os.fsdecode(name)).close()
    output, _ = run(encoding, "info", os.fsdecode(name))
    assert r"caf\udce9.embstore" in output
    output, _ = run(encoding, "info", "--json", os.fsdecode(name))
    assert json.loads(output)["store"] == os.fsdecode(name)
    _, errors = run(encoding, "info", os.fsdecode(name) + "x", status=1)
    assert r"caf\udce9.embstorex" in errors


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_progress_on_a_terminal(tmp_path: Path, encoding: str) -> None:
    text = "".join(f"\u65e5{number} 1 2\n" for number in range(1000))
    (tmp_path / "\u65e5.txt").write_text(text, encoding="utf-8")
    ours, theirs = pty.openpty()
    env = environment() | {"PYTHONIOENCODING": encoding, "TERM": "xterm"}
    names = [str(tmp_path / name) for name in ("\u65e5.txt", "\u65e5.embstore")]
    seen: list[bytes] = []

    def read() -> None:
        try:
            while part := os.read(ours, 4096):
                seen.append(part)
        except OSError:
            pass  # The other end was closed.

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, "-m", "embstore.cli", "build", *names]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=theirs, check=False)
    os.close(theirs)
    reader.join()
    os.close(ours)
    output = b"".join(seen).decode(encoding)
    assert done.returncode == 0, output
    assert "Traceback" not in output
    assert b"rows" in done.stdout
