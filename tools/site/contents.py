"""The contents of the site's sidebar, from the table of all pages in `docs/index.md`.

A code host shows the table, and Sphinx wants toctrees, which a code host would show as code. So
they are made from the table. Sphinx reports a page that is in no row.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

HEADING = "\n## All pages\n"
ROW = re.compile(r"^\| (\w[^|]*) \| (\[.*) \|$", re.M)
PAGE = re.compile(r"\]\(([^)#]+)\)")


def with_toctrees(index: str) -> str:
    r"""Return the text of the index page with a hidden toctree for each row of its last table.

    >>> print(with_toctrees("\n## All pages\n| Guides | [Files](files.md), [Ray](ray.md) |\n"))
    <BLANKLINE>
    ## All pages
    | Guides | [Files](files.md), [Ray](ray.md) |
    <BLANKLINE>
    ```{toctree}
    :hidden:
    :caption: Guides
    <BLANKLINE>
    files
    ray
    ```
    <BLANKLINE>
    """
    rows = ROW.findall(index.partition(HEADING)[2])
    return index + "".join(toctree(caption, PAGE.findall(links)) for caption, links in rows)


def toctree(caption: str, files: list[str]) -> str:
    """Return a hidden toctree of the pages that are made of files."""
    pages = "\n".join(str(PurePosixPath(file).with_suffix("")) for file in files)
    return f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n"
