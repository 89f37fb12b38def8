"""The leaderboard page: what goes into the file, and what a browser makes of it."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from harness import registry, report
from harness.replay.stats import Interval
from harness.report import Group, figures
from harness.report.examples import examples
from harness.report.figures import style
from harness.report.order import foremost
from harness.report.page import COLUMNS, page, write_page, write_problem
from harness.report.page import written as as_written
from harness.report.page.prose import parts
from harness.report.problem import Shown as ShownPaths
from harness.report.rows import Row, rows
from harness.report.table import Table
from harness.report.tables import BRIEF, cells, columns
from harness.runners.bench import bench
from harness.runners.run import Run

Make = Callable[..., Run]
NAMES = ("first", "logprob", "jaccard", "deepconf", "longest", "deepconf-offline")
HOSTILE = "<img src=x onerror=alert(1)>|\"'&amp;"
NUMERIC = [key for key, value, _ in COLUMNS if value is not None]
WORDS = [key for key, value, _ in COLUMNS if value is None]
VARIANT = "jaccard:keep=central"
FINDINGS = "# Findings\n\n| finding | verdict |\n|---|---|\n| A \\[b\\] \\| c | confirmed on toy |\n| A | not confirmed |\n\nAll of it.\n"
KEEP = 2
ROOT = Path(__file__).parents[1]


@pytest.fixture
def groups(toy_run: Make) -> list[Group]:
    """Two tables of the toy task, and one of another task and model with a hostile row, a stale one and a variant."""
    for prefix in (5, 9):
        bench(toy_run(prefix=prefix), [registry.pruner(n) for n in NAMES], lambda done, note: None)
    made = list(report.groups(toy_run().results))
    spec = made[0].spec
    renamed = {"first": HOSTILE, "logprob": "old"}
    judged = [replace(j, name=renamed.get(j.name, j.name), stale=j.name == "logprob") for j in made[0].judged]
    jaccard = next(j for j in judged if j.name == "jaccard")
    judged.append(replace(jaccard, name=VARIANT, values=-jaccard.values))
    other = {**spec, "task": "other", "engine": {**spec["engine"], "model": "other-model"}}
    return [*made, replace(made[0], spec=other, judged=judged)]


def written(groups: list[Group], file: Path) -> str:
    curves = {g.slug: figures.scaling_data(g) for g in groups}
    findings = file.with_name("findings.md")
    findings.parent.mkdir(parents=True, exist_ok=True)
    findings.write_text(FINDINGS)
    first = foremost(groups)[0]
    shown = examples(first, KEEP, Table(first, (), KEEP, file.parent / "bank").show)
    write_page([(g, rows(g, KEEP)) for g in groups], curves, KEEP, file, findings, shown)
    return file.read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Every start tag with its attributes, and the text of the data block."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[Any, ...]]] = []
        self.data = ""
        self.inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, tuple(attrs)))
        self.inside = ("id", "data") in attrs

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        self.data += data * self.inside


def block(html: str) -> Any:
    return json.loads(Outline(html).data, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


SKELETON = Outline(page({"tables": []})).tags
TRICKS = st.sampled_from(
    ["</script>", "<!--", "<script>", "]]>", "{{data}}", "{{script}}", "\\u003c", "\u2028", '"', HOSTILE]
)
TEXTS = st.lists(
    st.one_of(TRICKS, st.text(st.characters(codec="utf-8", exclude_characters="="), max_size=6)), max_size=6
).map("".join)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=32)
INTERVALS = st.builds(Interval, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
ROWS = st.builds(
    Row, TEXTS, TEXTS, TEXTS, problems=st.integers(0, 999), accuracy=INTERVALS, gain=st.none() | INTERVALS,
    adjusted_p=st.none() | NUMBERS, own_vote=st.none() | st.tuples(TEXTS, INTERVALS), tokens=INTERVALS, saved=NUMBERS,
    flops=NUMBERS, pooled=st.none() | NUMBERS, label_tokens=st.none() | st.integers(0, 10**9), note=TEXTS,
)  # fmt: skip
CURVE = ["gamma", "pruner", "quadrant", "N", "tokens", "cons", "low", "high", "problems"]
once = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def curve(row: Row) -> pd.DataFrame:
    value = row.accuracy
    points = [(0.5, row.name, row.quadrant, n, row.tokens.mean, value.mean, value.low, value.high, 6) for n in (2, 4)]
    return pd.DataFrame(points, columns=CURVE)


def texts_of(data: Any, row: Any) -> list[str]:
    """A row's texts, as the page writes them."""
    words, values, out = iter(row["words"]), iter(row["values"]), []
    for i, (_, numeric, _, form) in enumerate(data["columns"]):
        value = next(values) if numeric else None
        said = row.get("said", {}).get(str(i))
        out.append(said or (next(words) if not numeric else "–" if value is None else as_written(value, form)))
    return out


def page_cells(row: Row) -> list[str]:
    """The cells of a row in the Markdown tables, with the page's sign for what is not there."""

    def missing(value: Any) -> bool:
        value = value[1] if isinstance(value, tuple) else value
        value = value.mean if isinstance(value, Interval) else value
        return value is None or not math.isfinite(value)

    values = [value and value(row) for _, value, _ in COLUMNS]
    absent = [how is not None and missing(value) for value, (_, how, _) in zip(values, COLUMNS, strict=True)]
    return ["–" if no else text for text, no in zip(cells(row), absent, strict=True)]


def numbers(value: Any) -> list[float]:
    """All numbers inside a JSON value."""
    if isinstance(value, list | dict):
        return [n for v in (value.values() if isinstance(value, dict) else value) for n in numbers(v)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


@once
@given(row=ROWS)
def test_any_row_comes_back_and_adds_no_markup(groups: list[Group], tmp_path: Path, row: Row) -> None:
    write_page([(groups[0], [row])], {groups[0].slug: curve(row)}, KEEP, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    outline, data = Outline(html), block(html)
    table = data["tables"][0]
    assert outline.tags == SKELETON and "<" not in outline.data
    assert texts_of(data, table["rows"][0]) == page_cells(row)
    shown = dict(zip(NUMERIC, table["rows"][0]["values"], strict=True))
    shown |= dict(zip(WORDS, table["rows"][0]["words"], strict=True))
    assert (shown["pruner"], shown["type"], shown["fidelity"], shown["note"]) == (
        row.name,
        row.quadrant,
        row.fidelity,
        row.note,
    )
    assert table["lines"][0]["name"] == row.name and table["rows"][0]["line"] == row.name
    assert all(map(math.isfinite, numbers(table)))
    for key, given_value in (
        ("saved", row.saved),
        ("p", row.adjusted_p),
        ("pooled", row.pooled),
        ("labels", row.label_tokens),
    ):
        same_number(shown[key], given_value)
    for key, interval in (
        ("avg", row.accuracy),
        ("gain", row.gain),
        ("tokens", row.tokens),
        ("vote", row.own_vote and row.own_vote[1]),
    ):
        if interval is None or not math.isfinite(interval.mean):
            assert shown[key] is None
        else:
            for got, want in zip(shown[key], (interval.mean, interval.low, interval.high), strict=False):
                same_number(got, want)
    for n, point in zip((2, 4), table["lines"][0]["points"]["0.5"], strict=True):
        assert point[0] == n
        for got, want in zip(
            point[1:], (row.tokens.mean, row.accuracy.mean, row.accuracy.low, row.accuracy.high), strict=True
        ):
            same_number(got, want)


def same_number(got: float | None, want: float | None) -> None:
    if want is None or not math.isfinite(want):
        assert got is None
    else:
        assert got == pytest.approx(want, rel=1e-4, abs=0)


def test_the_block_holds_the_tables_and_curves(groups: list[Group], tmp_path: Path) -> None:
    data = block(written(groups, tmp_path / "page.html"))
    assert data["keep"] == KEEP
    for group, table in zip(groups, data["tables"], strict=True):
        assert table["slug"] == group.slug and table["prefix"] == group.prefix
        assert data["heads"][table["heads"]] == columns(8, KEEP)
        assert [texts_of(data, row) for row in table["rows"]] == [page_cells(row) for row in rows(group, KEEP)]
        frame = figures.scaling_data(group)
        assert sum(len(p) for line in table["lines"] for p in line["points"].values()) == len(frame)
        assert {line["name"]: line["quadrant"] for line in table["lines"]} == dict(
            zip(frame.pruner, frame.quadrant, strict=True)
        )
        assert any("few" in text for text in table["warnings"])
        drawn = {row["words"][0]: row.get("line") for row in table["rows"]}
        assert (
            drawn["all (no pruning)"] == "no pruning"
            and drawn["random (expected)"] == "random"
            and drawn["jaccard"] == "jaccard"
        )
        assert drawn["shortest in full (leaky)"] is None
    stale = [row["words"][0] for row in data["tables"][2]["rows"] if "stale" in row]
    assert stale == ["old"]
    muted = {row["words"][0] for row in data["tables"][2]["rows"] if "muted" in row}
    assert muted == {
        "all (no pruning)",
        "random (expected)",
        HOSTILE,
        "longest",
        "shortest in full (leaky)",
    }
    assert {row["words"][0]: row["family"] for row in data["tables"][2]["rows"] if "family" in row}[
        VARIANT
    ] == "jaccard"


def test_the_page_opens_on_the_largest_table_of_present_code(groups: list[Group]) -> None:
    first, longer, stale = groups
    assert foremost([stale, longer, first]) == [first, longer, stale]
    fewer = replace(first, judged=first.judged[:3])
    assert foremost([fewer, longer]) == [longer, fewer]
    newer = replace(fewer, spec={**fewer.spec, "task_version": "10"})
    assert foremost([longer, newer]) == [newer, longer]  # a newer version of the same task, though smaller


def test_findings_are_read_as_they_are_written() -> None:
    assert parts(FINDINGS) == [
        {"head": ["finding", "verdict"], "rows": [["A [b] | c", "confirmed on toy"], ["A", "not confirmed"]]},
        {"text": "All of it."},
    ]
    assert parts("# Title\n\n## Part of `x`\n\nA [link](a.md).\n") == [{"heading": "Part of x"}, {"text": "A link."}]


def test_the_published_page_is_small_and_has_every_section() -> None:
    html = (ROOT / "results" / "leaderboard.html").read_text(encoding="utf-8")
    data = block(html)
    assert len(html.encode()) < 400_000
    assert data["findings"] and data["tables"] and not any("stale" in row for row in data["tables"][0]["rows"])


def test_colours_of_the_page_are_those_of_the_figures() -> None:
    css = (ROOT / "harness" / "report" / "page" / "page.css").read_text()
    light = css[: css.index("@media")]
    names = {
        "internal-learned": "learned-in",
        "internal-fixed": "fixed-in",
        "external-learned": "learned-ex",
        "external-fixed": "fixed-ex",
        "control": "control",
    }
    for quadrant, name in names.items():
        assert f"--{name}: {to_hex(style.QUADRANTS[quadrant].colour)}" in light


def test_the_same_records_give_the_same_bytes(groups: list[Group], toy_run: Make, tmp_path: Path) -> None:
    first = written(groups, tmp_path / "one.html")
    again = list(report.groups(toy_run().results))
    assert first == written([*again, groups[2]], tmp_path / "two.html")


def test_no_folder_of_the_machine_is_published(toy_run: Make, tmp_path: Path) -> None:
    place = tmp_path / "plugins" / "mine.py"
    place.parent.mkdir()
    place.write_text(
        "class Mine:\n    quadrant = 'external-fixed'\n    needs = frozenset({'text'})\n    fidelity = 'exact'\n"
        "    def __init__(self, file=''):\n        pass\n"
        "    def score(self, prefixes, check):\n        return [-float(len(p.text)) for p in prefixes]\n"
    )
    bench(toy_run(), [registry.pruner(f"{place}@Mine:file={place}")], lambda done, note: None)
    html = written(list(report.groups(toy_run().results)), tmp_path / "page.html")
    assert str(tmp_path) not in html and "plugins" not in Outline(html).data
    lines = [row["line"] for row in block(html)["tables"][0]["rows"] if row["words"][0] == row.get("line")]
    assert any(re.fullmatch(r"mine@Mine:file=mine\.py\+[0-9a-f]{6}", line) for line in lines)


def test_the_page_loads_nothing_and_runs_only_its_own_script() -> None:
    html = page({"tables": []})
    addresses = [v for tag, attrs in Outline(html).tags for k, v in attrs if k in ("src", "href")]
    assert addresses == ["data:,"] and "url(" not in html and "@import" not in html
    policy = next(
        dict(attrs)["content"] for _, attrs in Outline(html).tags if ("http-equiv", "Content-Security-Policy") in attrs
    )
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy


# ---- in a browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.fail("no Chromium on the PATH: install your system's chromium package")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found)
        yield browser
        browser.close()


class Shown:
    """A page in a tab, with everything it asked for and complained about."""

    def __init__(self, browser: Any, file: Path, groups: list[Group], **context: Any) -> None:
        self.address, self.groups = file.as_uri(), groups
        self.tab = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | context)).new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.go()

    def go(self, fragment: str = "") -> None:
        self.tab.goto("about:blank")
        self.tab.goto(self.address + fragment)
        self.tab.wait_for_selector("#tables .curves .line")

    def open(self, i: int) -> None:
        """Show a table of ``groups``."""
        self.tab.get_by_role("tab").nth(int(i == 2)).click()
        self.tab.locator("#lengths .card").nth(i % 2).click()
        assert self.section.get_attribute("data-slug") == self.groups[i].slug

    @property
    def section(self) -> Any:
        """The table that is shown."""
        return self.tab.locator("#tables > section")

    def header(self, key: str) -> Any:
        return self.section.locator(f'thead th[data-key="{key}"]')

    def names(self) -> list[str]:
        return self.section.locator("tbody .name").all_inner_texts()

    def line(self, name: str) -> Any:
        lines = self.section.locator(".curves .line")
        names = [lines.nth(j).get_attribute("data-line") for j in range(lines.count())]
        return lines.nth(names.index(name)) if name in names else None


@pytest.fixture
def shown(chromium: Any, groups: list[Group], tmp_path: Path) -> Iterator[Callable[..., Shown]]:
    opened: list[Shown] = []

    def show(**context: Any) -> Shown:
        written(groups, tmp_path / "page.html")
        opened.append(Shown(chromium, tmp_path / "page.html", groups, **context))
        return opened[-1]

    yield show
    for one in opened:
        # Whatever a test did: nothing but the file was asked for, and nothing went wrong.
        assert {url.partition("#")[0] for url in one.requests} <= {one.address, "data:,"}
        assert one.complaints == []
        one.tab.context.close()


@pytest.mark.browser
def test_cells_read_as_in_the_markdown_tables(shown: Callable[..., Shown]) -> None:
    one = shown()
    one.tab.click("#columns")
    one.tab.click("#variants")
    for i, group in enumerate(one.groups):
        one.open(i)
        wanted = {row.name: page_cells(row)[1:] for row in rows(group, KEEP)}
        got = one.section.locator("tbody tr")
        shown_rows = {name: got.nth(j).locator("td").all_inner_texts() for j, name in enumerate(one.names())}
        assert shown_rows == wanted
    assert one.tab.locator("tbody img").count() == 0 and HOSTILE in one.names()
    assert one.tab.locator("tr.old .name").all_inner_texts() == ["old"]
    assert one.tab.locator("tr.old mark").inner_text() == "stale"
    one.open(0)
    assert one.section.locator(".warning").inner_text().startswith("6 problems are few")


@pytest.mark.browser
def test_tabs_and_cards_choose_the_table(shown: Callable[..., Shown]) -> None:
    one = shown()
    assert one.section.get_attribute("data-slug") == one.groups[0].slug
    tabs, cards = one.tab.get_by_role("tab"), one.tab.locator("#lengths .card")
    assert tabs.count() == 2 and cards.count() == 2
    tabs.first.focus()
    one.tab.keyboard.press("ArrowRight")
    assert one.section.get_attribute("data-slug") == one.groups[2].slug and cards.count() == 1
    selected = [tabs.nth(i).get_attribute("aria-selected") for i in range(2)]
    assert selected == ["false", "true"] and [tabs.nth(i).get_attribute("tabindex") for i in range(2)] == ["-1", "0"]
    one.tab.keyboard.press("Home")
    cards.nth(1).focus()
    one.tab.keyboard.press("Enter")
    assert one.section.get_attribute("data-slug") == one.groups[1].slug
    assert cards.nth(1).get_attribute("aria-pressed") == "true" and cards.nth(1).evaluate(
        "e => e === document.activeElement"
    )
    one.tab.locator("#real .link").click()
    assert one.section.get_attribute("data-slug") == one.groups[2].slug


@pytest.mark.browser
def test_variants_are_folded_behind_their_method(shown: Callable[..., Shown]) -> None:
    one = shown()
    one.open(2)
    assert VARIANT not in one.names() and "jaccard" in one.names()
    more = one.section.locator("tbody tr", has_text="jaccard").locator(".more").first
    assert (
        more.get_attribute("aria-label") == "1 variants of jaccard" and more.get_attribute("aria-expanded") == "false"
    )
    more.focus()
    one.tab.keyboard.press("Enter")
    names = one.names()
    assert names[names.index("jaccard") + 1] == VARIANT and "open=jaccard" in one.tab.url
    assert more.evaluate("e => e === document.activeElement")
    one.tab.keyboard.press("Enter")
    assert VARIANT not in one.names()
    one.tab.fill("[name=q]", "central")  # a search finds what is folded
    assert one.names() == [VARIANT]


def expected_order(group: Group, value: Callable[[Row], float | None], down: bool) -> list[str]:
    """Rows by a number, those without one last; the given order where equal."""
    table = rows(group, KEEP)
    known = [r for r in table if value(r) is not None and not math.isnan(value(r) or 0)]
    known.sort(key=lambda r: value(r) or 0, reverse=down)
    if down:  # a stable descending sort keeps equal rows in the given order, which reverse= does as well
        assert known == sorted(known, key=lambda r: -(value(r) or 0))
    return [r.name for r in known] + [r.name for r in table if r not in known]


@pytest.mark.browser
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gain", lambda r: r.gain and r.gain.mean),
        ("behind", lambda r: r.behind and r.behind.mean),
        ("tokens", lambda r: r.tokens.mean),
        ("within", lambda r: r.within and r.within.mean),
    ],
)
def test_a_header_sorts_by_mean_and_again_the_other_way(
    key: str, value: Callable[[Row], float | None], shown: Callable[..., Shown]
) -> None:
    one = shown()
    one.tab.click("#columns")
    assert one.names() == [r.name for r in rows(one.groups[0], KEEP)]
    for down, state in ((True, "descending"), (False, "ascending")):
        one.header(key).locator("button").click()
        assert one.names() == expected_order(one.groups[0], value, down)
        assert one.header(key).get_attribute("aria-sort") == state
    assert one.section.locator("thead th[aria-sort]").count() == 1
    one.open(1)
    assert one.names() == [r.name for r in rows(one.groups[1], KEEP)]


@pytest.mark.browser
def test_the_keyboard_sorts_and_draws(shown: Callable[..., Shown]) -> None:
    one = shown()
    one.header("pruner").locator("button").focus()
    one.tab.keyboard.press("Enter")
    assert one.names() == sorted(one.names(), key=str.lower)
    one.tab.keyboard.press("Space")
    assert one.names() == sorted(one.names(), key=str.lower, reverse=True)
    assert one.line("longest") is None
    button = one.section.get_by_role("button", name="longest").first
    button.focus()
    one.tab.keyboard.press("Enter")
    assert one.line("longest") is not None and button.get_attribute("aria-pressed") == "true"
    one.section.locator(".curves .chart").focus()
    one.tab.keyboard.press("ArrowRight")
    first = one.section.locator(".curves .tip").inner_text()
    one.tab.keyboard.press("ArrowRight")
    second = one.section.locator(".curves .tip").inner_text()
    assert re.findall(r"N\s+(\d+)", first + second) == ["2", "4"]
    one.tab.keyboard.press("Escape")
    assert one.section.locator(".curves .tip").is_hidden()


@pytest.mark.browser
def test_filters_hide_rows(shown: Callable[..., Shown]) -> None:
    one = shown()
    one.tab.click('[data-type="internal-fixed"]')
    assert set(one.names()) == {"deepconf", "deepconf-offline", "logprob"}
    one.tab.click('[data-type="external-fixed"]')
    assert set(one.names()) == {"deepconf", "deepconf-offline", "logprob", "jaccard"}
    one.tab.fill("[name=q]", "LOG")
    assert one.names() == ["logprob"]
    assert one.tab.locator("#count").inner_text() == f"1 of {len(rows(one.groups[0], KEEP))} rows"
    one.tab.fill("[name=q]", "<img")
    one.tab.click('[data-type="external-fixed"]')
    one.tab.click('[data-type="internal-fixed"]')
    assert one.names() == []
    one.open(2)  # filters hold for every table
    assert one.names() == [HOSTILE]


@pytest.mark.browser
def test_a_link_restores_the_view(shown: Callable[..., Shown]) -> None:
    one = shown()
    one.open(2)
    one.section.locator("tbody tr", has_text="onerror").click()
    one.tab.click('[data-type="control"]')
    one.tab.fill("[name=q]", "e")
    one.tab.click("#columns")
    one.header("tokens").locator("button").click()
    one.section.locator('[data-gamma="0.5"]').click()
    one.section.locator('.frontier [data-option="serial"]').click()
    one.tab.locator('#example [data-option="dropped"]').click()
    one.tab.mouse.move(1, 1)
    picture = "() => document.getElementById('tables').innerHTML + document.getElementById('example').innerHTML"
    before = one.tab.evaluate(picture)
    fragment = "#" + one.tab.url.partition("#")[2]
    one.go()
    assert one.tab.evaluate(picture) != before
    one.go(fragment)
    assert one.tab.evaluate(picture) == before
    assert one.line(HOSTILE) is not None and one.tab.input_value("[name=q]") == "e"
    one.tab.click("#reset")
    assert one.tab.url.endswith("#") and one.section.get_attribute("data-slug") == one.groups[0].slug


@pytest.mark.browser
@pytest.mark.parametrize("gamma", [0.125, 0.5])
def test_a_point_shows_its_numbers(gamma: float, shown: Callable[..., Shown]) -> None:
    one = shown()
    one.section.locator(f'[data-gamma="{gamma}"]').click()
    data = figures.scaling_data(one.groups[0])
    for n in (2, 8):
        want = data[(data.pruner == "jaccard") & (data.gamma == gamma) & (n == data.N)].iloc[0]
        one.line("jaccard").locator(f'[data-n="{n}"]').hover(force=True)
        tip = one.section.locator(".curves .tip")
        assert tip.locator("b").inner_text() == "jaccard"
        facts = dict(zip(tip.locator("dt").all_inner_texts(), tip.locator("dd").all_inner_texts(), strict=True))
        assert facts == {
            "N": str(n),
            "tokens": f"{want.tokens:,.0f}",
            "cons": f"{want.cons:.3f} [{want.low:.3f}, {want.high:.3f}]",
        }
        assert "on" in str(one.line("jaccard").get_attribute("class"))
    one.tab.mouse.move(2, 2)
    assert tip.is_hidden()


@pytest.mark.browser
@pytest.mark.parametrize(("cost", "value"), [("tokens", lambda r: r.tokens), ("serial", lambda r: r.serial)])
def test_the_frontier_joins_what_no_row_beats_at_less_cost(
    cost: str, value: Callable[[Row], Interval | None], shown: Callable[..., Shown]
) -> None:
    one = shown()
    if cost == "serial":
        one.section.locator('.frontier [data-option="serial"]').click()
    table = {r.name: (value(r).mean, r.voted.mean) for r in rows(one.groups[0], KEEP) if value(r) is not None}  # type: ignore[union-attr]
    dots = one.section.locator(".dot")
    assert {dots.nth(i).get_attribute("data-name") for i in range(dots.count())} == set(table)
    known = {n: at for n, at in table.items() if n != "shortest in full (leaky)"}
    want = {
        (x, y)
        for x, y in known.values()
        if not any((u <= x and v > y) or (u < x and v >= y) for u, v in known.values())
    }
    on = one.section.locator(".dot.on")
    assert {table[str(on.nth(i).get_attribute("data-name"))] for i in range(on.count())} == want
    one.section.locator(".front").focus()
    one.tab.keyboard.press("ArrowRight")
    cheapest = min(x for x, _ in table.values())
    assert f"{cheapest:,.0f} [" in one.section.locator(".frontier .tip").inner_text()


@pytest.mark.browser
def test_the_chart_starts_with_the_best_of_each_quadrant(shown: Callable[..., Shown]) -> None:
    one = shown()
    data = figures.scaling_data(one.groups[0])
    ends = data[(data.gamma == 0.125) & (data.N == 8) & (data.quadrant != "control")]
    best = ends.sort_values("cons", ascending=False, kind="stable").drop_duplicates("quadrant").pruner
    lines = one.section.locator(".curves .line")
    assert {lines.nth(i).get_attribute("data-line") for i in range(lines.count())} == {"no pruning", "random", *best}
    # A method with a rule of its own is one point; a second click takes it away.
    row = one.section.locator("tbody tr", has_text="deepconf-offline")
    row.locator("td").first.click()
    assert one.line("deepconf-offline").locator(".cross").count() == 1
    row.locator("td").first.click()
    assert one.line("deepconf-offline") is None


@pytest.mark.browser
def test_paths_are_shown_with_what_became_of_them(shown: Callable[..., Shown], tmp_path: Path) -> None:
    one, box = shown(), None
    box = one.tab.locator("#example")
    table = Table(one.groups[0], (), KEEP, tmp_path / "bank")
    name = box.get_by_role("group", name="problem").locator("[aria-pressed=true]").inner_text()
    method = box.get_by_role("group", name="method").locator("[aria-pressed=true]").inner_text()
    for which in ("all", "kept", "dropped", "right", "wrong"):
        box.locator(f'[data-option="{which}"]').click()
        want = table.show(name, method).only(which).frame()
        assert box.locator("tbody th").all_inner_texts() == [str(i) for i in want["index"]]
        verdicts = box.locator("td[data-verdict]").all_inner_texts()
        assert verdicts == ["right" if right else "wrong" for right in want.correct]
        assert box.locator(".prefix").all_inner_texts() == [" ".join(text.split()) for text in want.prefix]
    assert box.locator('[data-option="wrong"]').evaluate("e => e === document.activeElement")


@pytest.mark.browser
def test_one_problem_has_a_page_of_its_own(chromium: Any, groups: list[Group], tmp_path: Path) -> None:
    found: ShownPaths = Table(groups[2], (), KEEP, tmp_path / "none").show(0, [HOSTILE, "jaccard"])
    write_problem(found, tmp_path / "one.html")
    tab = chromium.new_page()
    complaints: list[str] = []
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto((tmp_path / "one.html").as_uri())
    assert tab.title() == "pathprune paths" and tab.locator("tbody tr").count() == 8 and not complaints
    assert tab.locator("img").count() == 0 and "to sample them again" in tab.locator(".warning").last.inner_text()
    tab.close()


@pytest.mark.browser
def test_everything_that_can_be_used_has_a_name(shown: Callable[..., Shown]) -> None:
    one = shown()
    one.open(2)
    tree = one.tab.locator("body").aria_snapshot()
    nameless = re.findall(
        r"^\s*- (button|tab|link|searchbox|region|tablist|tabpanel|table)(?:\s*\[.*\])?:?$", tree, re.M
    )
    assert not nameless, tree
    for role, name in (("tablist", "Tasks and models"), ("search", "Filter the rows"), ("navigation", "Sections")):
        assert one.tab.get_by_role(role, name=name).count() == 1
    assert one.tab.get_by_role("tabpanel").get_attribute("aria-labelledby") == "tab-1"
    for title in ("Findings", "What was dropped, and was it right?", "All tables of real models"):
        assert one.tab.get_by_role("heading", name=title).count() == 1
    assert one.tab.locator("#findings [data-verdict=better]").inner_text() == "confirmed on toy"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_tables_and_not_the_page(scheme: str, shown: Callable[..., Shown]) -> None:
    one = shown(viewport={"width": 380, "height": 800}, color_scheme=scheme, has_touch=True)
    one.tab.click("summary")
    one.tab.click("#columns")
    one.open(2)
    assert one.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = one.section.locator(".scroll")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth + 500")
    box.evaluate("box => box.scrollBy(400, 0)")
    edge = box.bounding_box()["x"]
    assert one.section.locator("tbody th").first.bounding_box()["x"] == pytest.approx(edge + 1, abs=1)
    one.open(0)
    one.line("jaccard").locator('[data-n="8"]').scroll_into_view_if_needed()
    spot = one.line("jaccard").locator('[data-n="8"]').bounding_box()
    one.tab.touchscreen.tap(spot["x"] + spot["width"] / 2, spot["y"] + spot["height"] / 2)
    tip = one.section.locator(".curves .tip").bounding_box()
    assert tip["x"] >= 0 and tip["x"] + tip["width"] <= 380
    assert one.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ground = [int(v) for v in re.findall(r"\d+", one.tab.evaluate("getComputedStyle(document.body).backgroundColor"))]
    assert (np.mean(ground) < 60) == (scheme == "dark")


@pytest.mark.browser
def test_the_download_is_the_visible_table(shown: Callable[..., Shown], tmp_path: Path) -> None:
    one = shown()
    one.open(2)
    one.tab.fill("[name=q]", "o")
    one.header("cons").locator("button").click()
    with one.tab.expect_download() as waiting:
        one.section.locator(".csv").click()
    assert waiting.value.suggested_filename == f"{one.groups[2].slug}.csv"
    waiting.value.save_as(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as stream:
        got = list(csv.DictReader(stream))
    assert [line["pruner"] for line in got] == one.names() and HOSTILE in one.names()
    table = {r.name: r for r in rows(one.groups[2], KEEP)}
    labels = [columns(8, KEEP)[i] for i in sorted(BRIEF)]
    assert [head for head in got[0] if not head.endswith((" low", " high", " rule"))] == labels
    for line in got:
        row = table[line["pruner"]]
        assert float(line["cons@2"]) == pytest.approx(row.voted.mean, rel=1e-4)
        assert float(line["cons@2 low"]) == pytest.approx(row.voted.low, rel=1e-4)
        assert line["note"] == row.note and (line["gain over random"] == "") == (row.gain is None)
        if row.gain is not None:
            assert float(line["gain over random"]) == pytest.approx(row.gain.mean, rel=1e-4)


@pytest.mark.browser
def test_on_paper_the_whole_table_is_there(shown: Callable[..., Shown]) -> None:
    one = shown(color_scheme="dark")
    one.tab.emulate_media(media="print")
    assert one.tab.locator("#filters").is_hidden() and one.section.locator(".csv").is_hidden()
    assert one.section.locator(".scroll").evaluate("box => getComputedStyle(box).overflow") == "visible"
    assert one.tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
