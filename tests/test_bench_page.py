"""The page of ``embstore bench --report``: what is in it, and how a browser shows it."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
from contextlib import suppress
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import embstore
from embstore.bench import plots, series, state, suite, work
from embstore.bench.drawing import spread
from embstore.bench.figures import Figures
from embstore.bench.markup import text
from embstore.bench.page import page
from embstore.bench.report import Comparison, Entry, Report
from embstore.bench.settings import Settings, quoted
from embstore.bench.timing import Turn
from embstore.bench.work import Case
from embstore.cli import app
from tests.helpers.browser import Browser, BrowserError, installed

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("matplotlib")

WIDTHS = (390, 1280)
HOSTILE = '<img src=x onerror=alert(1)> & "it\'s"\x1b[2J\n\udcff'
QUICK = ["--rounds", "2", "--seconds", "0.001"]


def turns(batch: int, rate: float, read: int = 0, spread: float = 0.05) -> list[Turn]:
    """Return three turns of some calls, about as fast as that, each slower than the one before."""
    return [
        Turn(
            [int(batch / rate * 1e9 * (1 + spread * k) * (1 + 0.02 * n * n)) for n in range(9)],
            batch * 9,
            batch * 9,
            read,
        )
        for k in range(3)
    ]


def a_report(path: str, batches: tuple[int, ...] = (1, 32, 256, 4096, 65536)) -> Report:
    """Return a report of everything, with made-up times."""
    report = Report.of(Path("/"), (4_000_000, 300), np.dtype("float32"))
    report.settings = Settings(path)
    for name, factor in ((state.PRELOADED, 900.0), (state.WARM, 800.0), (state.COLD, 30.0)):
        for kind in (work.RANDOM, work.HOT):
            for batch in batches:
                rate = factor * batch**0.8 + 5000
                read = batch * 9 * 5000 if name == state.COLD else 0
                own = Entry("embstore", 4_000_000, turns=turns(batch, rate, read))
                ram = Entry("matrix[ids]", 4_000_000, turns=turns(batch, 1.9e6, spread=2))
                report.comparisons.append(Comparison(Case(kind, batch), name, [own, ram]))
    own = Entry("embstore", 4_000_000, turns=turns(4096, 350_000, 9000))
    ram = Entry(
        "matrix[ids]", 4_000_000, "has its rows in RAM, outside of the limit", turns(4096, 2e6, 0)
    )
    report.comparisons.append(
        Comparison(Case(work.HOT, 4096), state.LIMITED, [own, ram], 600 << 20)
    )
    for name in (state.WARM, state.COLD):
        opening = Entry("embstore", 4_000_000, turns=[Turn([11_000_000])] * 3)
        report.comparisons.append(Comparison(Case(work.OPEN, 0), name, [opening]))
    return report


class Elements(HTMLParser):
    """The elements of a page, checked to be closed in order, and its text."""

    VOID = ("meta", "img", "br", "use", "path")

    def __init__(self, found: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.all: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(found)
        assert self.opened == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))
        if tag != "meta":
            self.opened.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.all.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_needs_nothing_else() -> None:
    found = Elements(page(a_report("/data/glove.embstore").to_json()))
    tags = [tag for tag, _ in found.all]
    assert tags.count("h1") == tags.count("main") == tags.count("script") == 1
    assert tags.count("table") == 3
    assert tags.count("figure") == 4
    assert not {"link", "img", "iframe", "object", "image"} & set(tags)
    ids = [attributes["id"] for _, attributes in found.all if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in found.all:
        assert "src" not in attributes
        for name in ("href", "xlink:href"):
            target = attributes.get(name) or ""
            assert target[:1] in ("", "#"), (tag, target)
            assert target[1:] in ["", *ids]
        assert not re.search(r"url\((?!#)", attributes.get("style") or "")
    assert {attributes.get("lang") for tag, attributes in found.all if tag == "html"} == {"en"}


def test_page_says_the_answer_and_how_to_repeat_it() -> None:
    report = a_report("/data/glove.embstore")
    found = Elements(page(report.to_json())).text
    rates = {
        c.state: c.entries[0].rate for c in report.comparisons if c.case == Case(work.RANDOM, 4096)
    }
    assert f"{float(f'{rates[state.COLD]:.3g}'):,.0f} rows a second from disk, 1/" in found
    assert "embstore bench /data/glove.embstore --report again.html" in found
    assert "limited: 600 MiB of memory" in found
    assert "has its rows in RAM, outside of the limit" in found
    assert report.machine["system"] in found


def test_array_is_shown_in_the_same_rounds() -> None:
    report = Report.of(Path("/"), (9000, 300), np.dtype("float32"))
    # The machine was twice as fast while rows were preloaded.
    for name, own_rate, rate in ((state.PRELOADED, 27.5e6, 27.1e6), (state.WARM, 13e6, 13.5e6)):
        for case in (Case(work.RANDOM, 4096), Case(work.HOT, 4096), Case(work.ONE, 1)):
            entries = [
                Entry("embstore", 9000, turns=[Turn([int(case.batch / own_rate * 1e12)], 4096000)]),
                Entry("matrix[ids]", 9000, turns=[Turn([int(case.batch / rate * 1e12)], 4096000)]),
            ]
            report.comparisons.append(Comparison(case, name, entries))
    found = report.to_json()
    for name in (work.RANDOM, work.HOT, work.ONE):
        chosen = [one for one in found["comparisons"] if one["work"] == name]
        shown = [points.values() for points in series.pairs(found, name).values()]
        measured = [entry["rows_per_second"] for one in chosen for entry in one["entries"]]
        assert [point.rate for points in shown for point in points] == measured
    figures = Figures(found)
    assert figures.answer().startswith("27.5 million rows a second preloaded, 1.01 times an array")
    assert "; 13 million from the page cache, 0.963 times the array." in figures.answer()
    assert figures.tiles().count("<dt>") == 2
    assert "1.01 times matrix[ids]: 27.1 M in the same rounds" in figures.tiles()
    assert "0.963 times matrix[ids]: 13.5 M in the same rounds" in figures.tiles()
    for plot in (plots.plots(found, plots.WIDE)[name] for name in ("rates", "hot", "single")):
        labels = [one.get_text() for one in plot.figure.axes[0].get_yticklabels()]
        assert [label.endswith("same rounds") for label in labels] == [False, True] * 2


def test_text_of_others_is_escaped() -> None:
    report = a_report(f"/data/{HOSTILE}")
    report.skipped.append(HOSTILE)
    report.comparisons[0].entries[1].note = HOSTILE
    found = page(report.to_json())
    assert found.encode().decode() == found
    assert "<img" not in found
    assert not set(map(chr, [*range(9), *range(11, 32), 127])) & set(found)
    assert Elements(found).text.count("alert(1)") >= 5
    assert text(HOSTILE) in found


@pytest.mark.parametrize(
    "path", ["/data/a b", f"/data/{HOSTILE}", "/data/ü'\\", "-x", "/data/$HOME`"]
)
def test_command_means_the_same_to_a_shell(path: str) -> None:
    settings = Settings(path, tensor=path, works=(work.ONE,), batches=(7,), rounds=2, seconds=0.25)
    command = settings.command
    assert command.isprintable()
    script = f"shift_all() {{ printf '%s\\0' \"$@\"; }}; shift_all {command}"
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, check=True)
    words = [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]
    options = ["--tensor", path, "--work", "read_one", "--batch", "7", "--rounds", "2"]
    start = ["embstore", "bench", *(["--"] if path == "-x" else []), path]
    assert words == [*start, *options, "--seconds", "0.25"]
    assert quoted("plain") == "plain"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "a <b> & 'c'.embstore"
    rows = np.random.default_rng(0).standard_normal((3000, 20)).astype(np.float32)
    embstore.build(rows, path, partitions=3).close()
    return path


def bench(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["bench", *map(str, arguments), *QUICK])
    return done.exit_code, done.stdout, done.stderr + str(done.exception or "")


def test_report_of_a_store(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.html"
    status, printed, told = bench(store, "--report", target, "--json", "--output", tmp_path / "all")
    assert status == 0, told
    assert json.loads(printed)["settings"]["path"] == str(store)
    assert "report written to" in told
    found = Elements(target.read_text())
    assert "a <b> & 'c'.embstore" in found.text
    assert "limited: 1/8 of this table is 0 MiB of memory" in found.text
    assert {file.name for file in (tmp_path / "all").iterdir()} == {"results.json"} | {
        f"{name}.{ending}"
        for name in ("rates", "times", "hot", "single")
        for ending in ("png", "svg")
    }


def test_report_replaces_nothing_unasked(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.html"
    target.write_text("precious")
    part = ("--work", "read_one", "--state", "warm")
    assert bench(store, "--report", target, "--overwrite", *part)[0] == 0
    assert "1 id a call" in target.read_text()

    def measure(*arguments: object, **options: object) -> Report:
        raise AssertionError("nothing may be measured before the options are checked")

    monkeypatch.setattr(suite, "bench_store", measure)
    for path, why in (
        (target, "exists"),
        (tmp_path / "no/out.html", "make it first"),
        (tmp_path, "is not a file"),
    ):
        status, _, told = bench(store, "--report", path)
        assert status == 1
        assert why in told
    monkeypatch.setattr(plots, "missing", lambda: "matplotlib")
    status, _, told = bench(store, "--report", tmp_path / "new.html")
    assert status == 1
    assert "pip install matplotlib" in told
    assert not (tmp_path / "new.html").exists()


def test_reports_of_all_kinds_of_tables(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((500, 64)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    embstore.build(rows, tmp_path / "encoded", encoding="float8_e4m3fn:32").close()
    embstore.build(rows, tmp_path / "compressed", compression="zstd").close()
    embstore.build(rows[:1], tmp_path / "tiny").close()
    for name, said in (
        ("rows.npy", "500 × 64 float32"),
        ("encoded", "float8_e4m3fn:32"),
        ("compressed", "zstd"),
        ("tiny", "1 × 64 float32"),
    ):
        target = tmp_path / f"{name}.html"
        status, _, told = bench(tmp_path / name, "--report", target, "--batch", "16")
        assert status == 0, told
        found = Elements(target.read_text())
        assert said in found.text
        assert "rows a second" in found.text
        assert ("preloaded: rows of a compressed store" in found.text) == (name == "compressed")


def test_reports_of_a_part(store: Path) -> None:
    for works, said in (
        ([work.OPEN], "Opening takes "),
        ([work.HOT], "Zipf-distributed ids"),
        ([work.SAME], "32 ids a call"),
    ):
        report = suite.bench_store(store, works=works, states=["warm"], rounds=1, seconds=0.001)
        assert said in Elements(page(report.to_json())).text


def test_report_of_nothing(store: Path) -> None:
    report = suite.bench_store(store, works=[work.HOT], states=["limited"], rounds=1, seconds=0)
    found = Elements(page(report.to_json()))
    assert "Nothing was measured." in found.text
    assert "limited: 1/8 of this table is 0 MiB of memory" in found.text
    assert "table" not in [tag for tag, _ in found.all]


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20), st.floats(0, 10))
def test_labels_are_apart_and_in_order(places: list[float], gap: float) -> None:
    high = 100 + gap * len(places)
    found = spread(places, gap, -100, high)
    order = sorted(range(len(places)), key=places.__getitem__)
    for one, other in pairwise(order):
        assert found[other] - found[one] >= gap - 1e-9
    assert -100 <= min(found) <= max(found) <= high + 1e-9
    if all(places[k] - places[n] >= gap for n, k in pairwise(order)):
        assert found == pytest.approx(places)


def in_browser(use: Callable[[Browser], None]) -> None:
    """Use a browser; one that crashes is started once more."""
    if (installer := os.environ.get("BROWSER_INSTALLER")) and not installed():
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(int(installer))
            select.select([descriptor], [], [], 1200)
            os.close(descriptor)
    if not installed():
        if "CI" in os.environ:
            pytest.fail("continuous integration needs chromium; see .ci/run")
        pytest.skip("chromium is not installed")
    try:
        with Browser() as browser:
            use(browser)
    except BrowserError:
        with Browser() as browser:
            use(browser)


# Elements beyond the right edge of the page, but in parts that scroll; words of plots beyond their
# plot's edge, or over each other.
WIDER = """[...document.querySelectorAll("body *")].filter(one => one.getClientRects().length
  && !one.parentElement.closest(".scroll, svg")
  && one.getBoundingClientRect().right > document.documentElement.clientWidth + 1
  ).map(one => one.outerHTML.slice(0, 100))"""
COLLIDING = """[...document.querySelectorAll("svg")].flatMap(plot => {
  const edge = plot.getBoundingClientRect();
  const words = [...plot.querySelectorAll("text")].filter(one => one.textContent.trim());
  const boxes = words.map(one => one.getBoundingClientRect());
  return words.filter((_, n) => edge.width && (
    boxes[n].left < edge.left - 1 || boxes[n].right > edge.right + 1
    || boxes[n].top < edge.top - 1 || boxes[n].bottom > edge.bottom + 1
    || boxes.some((other, k) => k < n && other.left < boxes[n].right - 1
      && boxes[n].left < other.right - 1 && other.top < boxes[n].bottom - 3
      && boxes[n].top < other.bottom - 3))).map(one => one.textContent);
})"""
COLUMN = """[...document.querySelectorAll("table")[0].tBodies[0].rows].map(
  row => Number(row.cells[3].dataset.value))"""


@pytest.mark.parametrize("batches", [(1, 32, 256, 4096, 65536), (4096,)], ids=["all", "one"])
def test_page_in_a_browser(batches: tuple[int, ...], tmp_path: Path) -> None:
    file = tmp_path / "out.html"
    file.write_text(page(a_report("/data/" + "long-name-" * 20 + HOSTILE, batches).to_json()))

    def look(browser: Browser) -> None:
        grounds = set()
        for width in WIDTHS:
            for dark in (False, True):
                browser.show(file.as_uri(), width=width, dark=dark)
                assert browser.run("document.documentElement.scrollWidth") <= width
                assert browser.run(WIDER) == []
                assert browser.run(COLLIDING) == []
                grounds.add(browser.run("getComputedStyle(document.body).backgroundColor"))
                shot = browser.screenshot()
                assert shot.startswith(b"\x89PNG")
                assert int.from_bytes(shot[16:20], "big") == width
                (tmp_path / f"{width}-{'dark' if dark else 'light'}.png").write_bytes(shot)
        assert len(grounds) == 2
        assert browser.pdf().startswith(b"%PDF")

    in_browser(look)


def test_tables_sort_by_clicks_and_keys(tmp_path: Path) -> None:
    file = tmp_path / "out.html"
    file.write_text(page(a_report("/data/glove.embstore").to_json()))

    def sort(browser: Browser) -> None:
        browser.show(file.as_uri(), width=1280)
        rates = browser.run(COLUMN)
        browser.run("document.querySelectorAll('thead button')[3].click()")
        assert browser.run(COLUMN) == sorted(rates, reverse=True) != rates
        sorting = "document.querySelectorAll('thead th')[3].getAttribute('aria-sort')"
        assert browser.run(sorting) == "descending"
        # Tab goes to the first table, then along its headings.
        for _ in range(5):
            browser.press("Tab")
        assert browser.run("document.activeElement.textContent") == "Rows/s"
        browser.press("Enter")
        assert browser.run(COLUMN) == sorted(rates)
        assert browser.run(sorting) == "ascending"
        browser.run("document.querySelectorAll('thead button')[0].click()")
        rows = "[...document.querySelectorAll('table')[0].tBodies[0].rows]"
        states = f"{rows}.map(row => row.cells[0].textContent)"
        assert list(dict.fromkeys(browser.run(states))) == ["preloaded", "warm", "cold"]
        assert browser.run(sorting) is None

    in_browser(sort)
