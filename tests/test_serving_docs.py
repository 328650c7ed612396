"""The examples of docs/serving.md run as shown."""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
import signal
from pathlib import Path

import pytest

import embstore
from tests.fixtures import WORDS
from tests.helpers.programs import ROOT
from tests.test_serve_command import running

PAGE = ROOT / "docs" / "serving.md"
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
TLS = Path(__file__).parent / "data" / "tls"


def blocks(language: str) -> list[str]:
    """Return the blocks of code of a language in the page."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def stores(tmp_path, monkeypatch) -> None:
    """The stores of the page: one whole, one with the files of two partitions."""
    pytest.importorskip("pyarrow.flight")
    monkeypatch.chdir(tmp_path)
    embstore.build(WORDS, "glove.embstore", partitions=4).close()
    shutil.copytree("glove.embstore", "part.embstore")
    for number in (1, 2):
        shutil.rmtree(f"part.embstore/partitions/{number}")
    Path("token.txt").write_text("a-token\n")
    Path("token.txt").chmod(0o600)
    shutil.copy(TLS / "cert.pem", "cert.pem")
    shutil.copy(TLS / "key-for-tests-only.pem", "key.pem")


def test_python_examples(stores):
    text = "\n".join(blocks("pycon"))
    assert text.count(">>> ") > 15
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    failures: list[str] = []
    found = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=failures.append)
    assert not found.failed, "".join(failures)


def test_commands(stores, tmp_path):
    text = "\n".join(blocks("console")).replace("\\\n", " ")
    served = re.findall(r"^\$ embstore serve (.*)\n(serving .*)$", text, re.MULTILINE)
    assert len(served) == 3
    for arguments, line in served:
        # The page's address is another machine's.
        given = [one.replace("10.0.0.5", "127.0.0.1") for one in shlex.split(arguments)]
        given = [str(tmp_path / one) if (tmp_path / one).exists() else one for one in given]
        if "--port" in given:
            given[given.index("--port") + 1] = "0"
        with running(*given) as server:
            printed = server.line.replace(f"{tmp_path}/", "").replace("127.0.0.1", "HOST")
            expected = line.replace("10.0.0.5", "HOST").replace("127.0.0.1", "HOST")
            hidden = re.compile(r":\d+$")
            assert hidden.sub("", printed.strip()) == hidden.sub("", expected)
            assert server.end(signal.SIGTERM) == (0, "", "")


def test_every_option_is_described():
    page = PAGE.read_text()
    for option in ("partitions", "port", "token-file", "tls-cert", "grace", "busy-wait"):
        assert f"--{option}" in page
