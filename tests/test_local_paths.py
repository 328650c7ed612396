"""Functions that need a local path: a URL is refused, with what to do, and without credentials."""

from __future__ import annotations

import traceback
from typing import Any

import numpy as np
import pytest

import embstore
from embstore.bench.suite import bench_store
from tests.helpers.programs import run_command

ROWS = np.arange(12.0, dtype=np.float32).reshape(4, 3)
MARK = "s3cretMARKs3cret"
URLS = (
    "s3://bucket/glove",
    "gs://bucket/glove.txt",
    "az://container/glove.npy",
    "https://example.org/glove.vec",
    "file:///tables/glove",
    "unknown://somewhere/glove",
)
SECRET_URLS = (
    f"https://user:{MARK}@example.org/glove.txt",
    f"s3://AKID:{MARK}@bucket/glove",
    f"https://example.org/glove.txt?X-Amz-Signature={MARK}",
    f"https://user:{MARK}@example.org/{'x' * 300}",
    f"https://user:{MARK}@example.org/{'x/' * 3000}",
)
CALLS: dict[str, Any] = {
    "build from": (lambda url: embstore.build(url, "new"), "embstore.open.*embstore.publish"),
    "build words from": (
        lambda url: embstore.build(ROWS, "new", words=url),
        "download the file",
    ),
    "build at": (lambda url: embstore.build(ROWS, url), "embstore.publish"),
    "write at": (
        lambda url: embstore.StoreWriter(url, row_shape=(3,), dtype="float32"),
        "embstore.publish",
    ),
    "export to": (lambda url: embstore.export("here", url, format="npy"), "upload"),
    "export words to": (
        lambda url: embstore.export("here", "t.npy", words=url),
        "upload",
    ),
    "verify": (embstore.verify, r"embstore\.open\(url\)\.fingerprint"),
    "bench": (bench_store, "measure the copy"),
    "publish": (lambda url: embstore.publish(url, "file:///nowhere"), "URL comes second"),
}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    embstore.build(ROWS, "here", words=list("abcd")).close()
    yield
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("name", CALLS)
def test_urls_are_refused_with_a_remedy(name, url):
    call, remedy = CALLS[name]
    with pytest.raises((ValueError, embstore.SourceError), match=remedy) as caught:
        call(url)
    assert url in str(caught.value) or name == "publish"


@pytest.mark.parametrize("url", SECRET_URLS)
@pytest.mark.parametrize("name", [*CALLS, "open", "tables"])
def test_credentials_in_them_are_not_shown(name, url):
    others: dict[str, Any] = {"open": embstore.open, "tables": embstore.tables}
    call = others.get(name) or CALLS[name][0]
    with pytest.raises((ValueError, embstore.EmbstoreError)) as caught:
        call(url)
    assert MARK not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "arguments",
    [
        ("build", SECRET_URLS[0], "new"),
        ("build", "here", SECRET_URLS[1]),
        ("info", SECRET_URLS[2]),
        ("verify", SECRET_URLS[0]),
    ],
)
def test_the_command_line_does_not_show_them(arguments):
    done = run_command(*arguments, status=None)
    assert done.returncode
    assert MARK not in done.stdout + done.stderr


def test_directories_that_look_like_urls_are_paths(tmp_path):
    (tmp_path / "s3:" / "bucket").mkdir(parents=True)
    with embstore.build(ROWS, "s3:/bucket/glove") as store:
        assert store.shape == (4, 3)
    assert embstore.verify("s3:/bucket/glove").ok
    assert embstore.export("s3:/bucket/glove", "s3:/bucket/t.npy").rows == 4
    for path in sorted(tmp_path.glob("s3:/**/*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tmp_path / "s3:").rmdir()
