"""The examples of docs/ray.md run as shown, on a Ray of one node."""

from __future__ import annotations

import re
import tempfile

import pytest

from tests.helpers.namespaces import need_namespaces, run_alone
from tests.helpers.programs import ROOT

PAGE = ROOT / "docs" / "ray.md"
PROGRAM = """
import doctest, logging, os, re, sys
from pathlib import Path

import ray

page, words, folder = sys.argv[1:]
os.chdir(folder)
Path("glove.txt").write_bytes(Path(words).read_bytes())
ray.init(
    num_cpus=2,
    include_dashboard=False,
    object_store_memory=100 << 20,
    log_to_driver=False,
    logging_level=logging.ERROR,
    _node_ip_address="127.0.0.1",
    _temp_dir=folder + "/ray",
)
ray.data.DataContext.get_current().enable_progress_bars = False
text = Path(page).read_text()
text = "\\n".join(re.findall(r"^```pycon\\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
assert text.count(">>> ") > 30
test = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, "ray.md", page, 0)
failures = []
found = doctest.DocTestRunner().run(test, out=failures.append, clear_globs=False)
sys.exit("".join(failures) if found.failed else 0)
"""


def test_python_examples(words_path):
    for package in ("ray", "pyarrow.flight", "pandas"):
        pytest.importorskip(package)
    need_namespaces()
    # Ray makes sockets below it, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="er-", dir="/tmp", ignore_cleanup_errors=True) as place:
        done = run_alone("-c", PROGRAM, PAGE, words_path, place, TMPDIR=place)
    assert done.returncode == 0, done.stderr


def test_links():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text()):
        assert target.startswith("https://") or (PAGE.parent / target).exists()
