"""The build of the documentation site: `python -m tools.site FOLDER`, as `tools/docs` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.cmd.build import build_main

DOCS = Path(__file__).parents[2] / "docs"
OPTIONS = ["--builder", "html", "--fail-on-warning", "--keep-going", "--quiet", "--jobs", "auto"]


def main(folder: str) -> int:
    """Build the site into a folder; return the exit status, 1 if there was a warning."""
    doctrees = str(Path(folder) / ".doctrees")
    status: int = build_main([*OPTIONS, "--doctree-dir", doctrees, str(DOCS), folder])
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
