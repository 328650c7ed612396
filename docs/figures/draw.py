"""The figures of the documentation, drawn as SVG.

    python docs/figures/draw.py

A figure is made of boxes, arrows and texts, in the units of a text of 14. Its colours are CSS
variables: beside a page they follow the system's light or dark theme, and inside a page of the site
those of the page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent
STYLE = """
  .figure-svg { --ink: #1f2933; --faint: #66788a; --line: #8795a1; --box: #f5f7fa; --new: #d9f0e3;
    --key: #dcebfb; font: 14px system-ui, sans-serif; }
  @media (prefers-color-scheme: dark) {
    .figure-svg { --ink: #e4e7eb; --faint: #9aa5b1; --line: #7b8794; --box: #1f2933; --new: #1d4634;
      --key: #1e3d5f; }
  }
  .figure-svg text { fill: var(--ink); }
  .figure-svg .faint { fill: var(--faint); }
  .figure-svg .code { font-family: ui-monospace, monospace; font-size: 13px; }
  .figure-svg .strong { font-weight: 600; }
  .figure-svg .box { fill: var(--box); stroke: var(--line); }
  .figure-svg .new { fill: var(--new); stroke: var(--line); }
  .figure-svg .key { fill: var(--key); stroke: var(--line); }
  .figure-svg .arrow { stroke: var(--line); stroke-width: 1.5; fill: none; }
  .figure-svg .dashed { stroke-dasharray: 4 3; }
  .figure-svg .head { fill: var(--line); }
"""
HEAD = 7


@dataclass
class Figure:
    """An SVG of a width and a height that grows as things are drawn."""

    title: str
    width: int
    height: int
    parts: list[str] = field(default_factory=list)

    def box(self, x: float, y: float, width: float, height: float, kind: str = "box") -> None:
        """Draw a box with its upper left corner at a point."""
        size = f'width="{width:g}" height="{height:g}"'
        self.parts.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" {size} rx="4"/>')

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """Draw a line of text, whose baseline starts, is centred or ends at a point."""
        self.parts.append(
            f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def cell(
        self, x: float, y: float, width: float, height: float, text: str, kind: str = "box"
    ) -> None:
        """Draw a box with a line of code in its middle."""
        self.box(x, y, width, height, kind)
        self.text(x + width / 2, y + height / 2 + 4.5, text, "code", "middle")

    def arrow(self, *points: tuple[float, float], kind: str = "") -> None:
        """Draw an arrow along points; the last part is horizontal or vertical."""
        (x, y), (end_x, end_y) = points[-2:]
        along_x = (end_x > x) - (end_x < x)
        along_y = (end_y > y) - (end_y < y) if not along_x else 0
        line = [*points[:-1], (end_x - along_x * HEAD, end_y - along_y * HEAD)]
        path = "M" + " L".join(f"{px:g} {py:g}" for px, py in line)
        self.parts.append(f'<path class="arrow {kind}" d="{path}"/>')
        back_x, back_y = end_x - along_x * HEAD, end_y - along_y * HEAD
        side_x, side_y = along_y * HEAD / 2, along_x * HEAD / 2
        corners = [
            (end_x, end_y),
            (back_x + side_x, back_y + side_y),
            (back_x - side_x, back_y - side_y),
        ]
        text = " ".join(f"{px:g},{py:g}" for px, py in corners)
        self.parts.append(f'<polygon class="head" points="{text}"/>')

    def svg(self) -> str:
        """Return the text of the SVG."""
        size = (
            f'viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}"'
        )
        body = "\n  ".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="figure-svg" {size}>\n'
            f"  <title>{escape(self.title)}</title>\n  <style>{STYLE}  </style>\n  {body}\n</svg>\n"
        )


def lookup() -> Figure:
    """Return the steps of a lookup: words, ids, rows of partitions, addresses, the result."""
    figure = Figure("A lookup, step by step", 720, 392)
    words, ids = ["apple", "like", "the"], [6207, 2066, 1996]
    columns = (16, 152, 270, 420, 576)
    for x, title in zip(columns, ("words", "ids", "rows", "addresses", "result"), strict=True):
        figure.text(x, 22, title, "strong")
    for x, note in zip(
        columns[1:], ("a hash table", "arithmetic", "arithmetic", "one gather"), strict=True
    ):
        figure.text(x, 40, note, "faint")
    for place, (word, number) in enumerate(zip(words, ids, strict=True)):
        y = 56 + 42 * place
        partition, row = number % 4, number // 4
        figure.cell(columns[0], y, 92, 28, word)
        figure.arrow((columns[0] + 92, y + 14), (columns[1], y + 14))
        figure.cell(columns[1], y, 66, 28, str(number), "key")
        figure.arrow((columns[1] + 66, y + 14), (columns[2], y + 14))
        figure.cell(columns[2], y, 104, 28, f"p{partition}, row {row}")
        figure.arrow((columns[2] + 104, y + 14), (columns[3], y + 14))
        address = partition * 12_582_912 + row * 1536
        figure.cell(columns[3], y, 108, 28, f"{address:,}", "key")
        figure.arrow((columns[3] + 108, y + 14), (columns[4], y + 14), kind="dashed")
        figure.cell(columns[4], y, 128, 28, f"row {number}", "new")
    draw_address_space(figure, ids)
    return figure


def draw_address_space(figure: Figure, ids: list[int]) -> None:
    """Draw the mapping below a lookup: four partitions side by side, with the rows of ids."""
    top, width = 252, 172
    figure.text(16, top - 42, "one address space", "strong")
    figure.text(166, top - 42, "all chunk files, mapped side by side; a row is one number", "faint")
    for partition in range(4):
        x = 16 + partition * width
        figure.box(x, top, width - 4, 44)
        figure.text(x + (width - 4) / 2, top + 64, f"partition {partition}", "code", "middle")
    for number in ids:
        partition, row = number % 4, number // 4
        x = 16 + partition * width + row / 7631 * (width - 4)
        figure.box(x, top, 5, 44, "new")
        figure.text(x + 9, top - 8, str(number), "code")
    cold = "Cold rows: all pages are announced to the kernel at once, and read together."
    warm = "Warm rows: the announcement is left out; what remains is one take."
    figure.text(16, top + 104, cold)
    figure.text(16, top + 126, warm)


def store() -> Figure:
    """Return the files of a store."""
    figure = Figure("The files of a store", 720, 356)
    files = [
        ("glove.embstore/", "", 0),
        ("zarr.json", "the manifest, written last; checksums of all other metadata", 1),
        ("partitions/0/zarr.json", "an array; the checksum of each chunk", 1),
        ("partitions/0/c/0/0", "chunk 0 of partition 0", 1),
        ("partitions/0/c/1/0", "chunk 1 of it", 1),
        ("partitions/1/...", "", 1),
        ("vocabulary/bytes/...", "the words, one after the other", 1),
        ("vocabulary/offsets/...", "where each word starts", 1),
        ("vocabulary/slots/...", "a hash table: from a word's hash to its id", 1),
        ("attributes/count/...", "a value for each id", 1),
    ]
    for place, (name, note, depth) in enumerate(files):
        y = 24 + 23 * place
        figure.text(16 + 20 * depth, y, name, "code" + ("" if depth else " strong"))
        figure.text(240, y, note, "faint")
    y = 290
    figure.text(16, y - 16, "a chunk file", "strong")
    cells = [("row 0", 112), ("row 1", 112), ("row 2", 112), ("...", 64), ("row n - 1", 112)]
    x = 16.0
    for text, width in cells:
        figure.cell(x, y, width, 34, text)
        x += width
    figure.cell(x, y, 130, 34, "CRC-32C", "key")
    figure.text(16, y + 54, "byte 0", "faint")
    figure.text(128, y + 54, "1 x record bytes", "faint")
    figure.text(x + 130, y + 54, "4 bytes", "faint", "end")
    return figure


def change() -> Figure:
    """Return two versions of a store, which share what stays the same."""
    figure = Figure("A change that links", 720, 268)
    for x, title, note in ((16, "version 1", "open readers keep it"), (452, "version 2", "")):
        figure.text(x, 22, title, "strong")
        figure.text(x + 80, 22, note, "faint")
    names = ["partitions/0/c/0/0", "partitions/0/c/1/0", "partitions/0/c/2/0", "zarr.json"]
    how = [
        "linked: the same file",
        "linked: the same file",
        "read, changed, rewritten",
        "written last",
    ]
    for place, (name, text) in enumerate(zip(names, how, strict=True)):
        y = 40 + 44 * place
        linked = text.startswith("linked")
        figure.cell(16, y, 190, 30, name)
        figure.arrow((206, y + 15), (452, y + 15), kind="dashed" if linked else "")
        figure.text(326, y + 10, text, "faint", "middle")
        figure.cell(452, y, 190, 30, name, "box" if linked else "new")
    figure.text(
        16, 238, "One step exchanges the two directories. A crash leaves version 1 or version 2,"
    )
    figure.text(16, 258, "never a part of one.")
    return figure


def versions() -> Figure:
    """Return the versions of a store on an object store."""
    figure = Figure("Versions on an object store", 720, 288)
    figure.text(16, 22, "s3://bucket/tables/glove/", "code strong")
    figure.cell(16, 40, 170, 32, "current.json", "key")
    figure.text(16, 94, "the pointer: replaced", "faint")
    figure.text(16, 112, "only if unchanged (ETag)", "faint")
    figure.arrow((186, 56), (240, 56))
    for y, name, kind, note in (
        (34, "4d0e...-77aa01c2/", "new", "the current version"),
        (164, "9b51...-2f60d3e8/", "box", "an older version"),
    ):
        figure.box(240, y, 250, 112, kind)
        figure.text(256, y + 24, name, "code strong")
        for place, line in enumerate(("partitions/...", "vocabulary/...", "zarr.json")):
            figure.text(272, y + 48 + 20 * place, line, "code")
        figure.text(372, y + 88, "written last", "faint")
        figure.text(506, y + 24, note, "strong")
    figure.text(506, 82, "embstore.open(url)", "code")
    figure.text(506, 212, "embstore.open(url,", "code")
    figure.text(506, 232, '  version="9b51...")', "code")
    figure.text(506, 256, "its objects never change", "faint")
    return figure


def servers() -> Figure:
    """Return two servers with some partitions each, and a client."""
    figure = Figure("Servers with some partitions each, and a client", 720, 262)
    for x, title, partitions, more in (
        (16, "machine A", "partitions/0/ and 3/", "vocabulary/"),
        (256, "machine B", "partitions/1/ and 2/", ""),
    ):
        figure.text(x, 22, title, "strong")
        figure.box(x, 36, 208, 132)
        for place, line in enumerate(("glove.embstore/", "  zarr.json", f"  {partitions}")):
            figure.text(x + 12 + 16 * bool(place), 60 + 22 * place, line.strip(), "code")
        figure.text(x + 28, 126, more, "code")
        figure.text(x + 12, 154, "embstore serve", "code strong")
    figure.text(496, 22, "a client", "strong")
    figure.box(496, 36, 208, 132, "new")
    for place, line in enumerate(("groups ids by partition,", "asks all servers at once,")):
        figure.text(508, 60 + 22 * place, line)
    figure.text(508, 104, "rows in request order")
    figure.text(508, 154, "embstore.connect", "code strong")
    figure.arrow((660, 168), (660, 246), (120, 246), (120, 168))
    figure.arrow((560, 168), (560, 216), (360, 216), (360, 168))
    figure.text(460, 209, "Arrow Flight", "faint", "middle")
    figure.text(240, 239, "Arrow Flight", "faint", "middle")
    return figure


def actors() -> Figure:
    """Return actors on the nodes of a cluster of Ray, and a task that asks them."""
    figure = Figure("Servers in Ray actors, and a task", 720, 260)
    for x, title, actor, partitions in (
        (16, "node 1", "actor NAME-0.0", "partitions 0, 1"),
        (256, "node 2", "actor NAME-1.0", "partitions 2, 3"),
    ):
        figure.text(x, 22, title, "strong")
        figure.box(x, 36, 208, 92)
        figure.text(x + 12, 60, actor, "code strong")
        figure.text(x + 12, 84, partitions)
        figure.text(x + 12, 108, "a Flight server")
    figure.text(496, 22, "node 3", "strong")
    figure.box(496, 36, 208, 92, "new")
    figure.text(508, 60, "handle.lookup(ids)", "code strong")
    figure.text(508, 84, "groups ids by partition,")
    figure.text(508, 108, "asks all servers at once")
    figure.arrow((660, 128), (660, 206), (120, 206), (120, 128))
    figure.arrow((560, 128), (560, 176), (360, 176), (360, 128))
    figure.text(460, 169, "Arrow Flight", "faint", "middle")
    figure.text(240, 199, "Arrow Flight", "faint", "middle")
    note = "Where the servers are, the task learns from Ray, again after an actor was restarted."
    figure.text(16, 242, note, "faint")
    return figure


FIGURES = {
    "lookup": lookup,
    "store": store,
    "change": change,
    "versions": versions,
    "servers": servers,
    "actors": actors,
}


def main() -> None:
    """Write all figures beside this file."""
    for name, draw in FIGURES.items():
        (FOLDER / f"{name}.svg").write_text(draw().svg())


if __name__ == "__main__":
    main()
