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

from harness import registry, report
from harness.replay.stats import Interval
from harness.report import Group, figures
from harness.report.page import COLUMNS, page, write_page
from harness.report.rows import Row, rows
from harness.report.tables import BRIEF, cells, columns
from harness.runners.bench import bench
from harness.runners.run import Run

Make = Callable[..., Run]
NAMES = ("first", "logprob", "jaccard", "deepconf", "longest", "deepconf-offline")
HOSTILE = "<img src=x onerror=alert(1)>|\"'&amp;"
KEYS = [key for key, _ in COLUMNS]
KEEP = 2


@pytest.fixture
def groups(toy_run: Make) -> list[Group]:
    """Two tables of the toy task, and one of another task and model with a hostile and a stale row."""
    for prefix in (5, 9):
        bench(toy_run(prefix=prefix), [registry.pruner(n) for n in NAMES], lambda done, note: None)
    made = list(report.groups(toy_run().results))
    spec = made[0].spec
    renamed = {"first": HOSTILE, "logprob": "old"}
    judged = [replace(j, name=renamed.get(j.name, j.name), stale=j.name == "logprob") for j in made[0].judged]
    other = {**spec, "task": "other", "engine": {**spec["engine"], "model": "other-model"}}
    return [*made, replace(made[0], spec=other, judged=judged)]


def written(groups: list[Group], file: Path) -> str:
    curves = {g.slug: figures.scaling_data(g) for g in groups}
    write_page([(g, rows(g, KEEP)) for g in groups], curves, KEEP, file)
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
    outline, table = Outline(html), block(html)["tables"][0]
    assert outline.tags == SKELETON and "<" not in outline.data
    shown = dict(zip(KEYS, table["rows"][0]["values"], strict=True))
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
        assert got == pytest.approx(want, rel=1e-6, abs=0)


def test_the_block_holds_the_tables_and_curves(groups: list[Group], tmp_path: Path) -> None:
    data = block(written(groups, tmp_path / "page.html"))
    assert data["keep"] == KEEP
    for group, table in zip(groups, data["tables"], strict=True):
        assert table["slug"] == group.slug and table["prefix"] == group.prefix
        assert [c["label"] for c in table["columns"]] == columns(8, KEEP)
        assert [row["texts"] for row in table["rows"]] == [cells(row) for row in rows(group, KEEP)]
        frame = figures.scaling_data(group)
        assert sum(len(p) for line in table["lines"] for p in line["points"].values()) == len(frame)
        assert {line["name"]: line["quadrant"] for line in table["lines"]} == dict(
            zip(frame.pruner, frame.quadrant, strict=True)
        )
        assert any("few" in text for text in table["warnings"])
        drawn = {row["texts"][0]: row["line"] for row in table["rows"]}
        assert (
            drawn["all (no pruning)"] == "no pruning"
            and drawn["random (expected)"] == "random"
            and drawn["jaccard"] == "jaccard"
        )
        assert drawn["shortest in full (leaky)"] is None
    stale = [row["texts"][0] for row in data["tables"][2]["rows"] if row["stale"]]
    assert stale == ["old"]
    muted = {row["texts"][0] for row in data["tables"][2]["rows"] if row["muted"]}
    assert muted == {
        "all (no pruning)",
        "random (expected)",
        HOSTILE,
        "longest",
        "shortest in full (leaky)",
    }


def test_the_same_records_give_the_same_bytes(groups: list[Group], toy_run: Make, tmp_path: Path) -> None:
    first = written(groups, tmp_path / "one.html")
    again = list(report.groups(toy_run().results))
    assert first == written([*again, groups[2]], tmp_path / "two" / "page.html")


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
    lines = [row["line"] for row in block(html)["tables"][0]["rows"] if row["texts"][0] == row["line"]]
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
        self.tab.wait_for_selector("section:not([hidden]) .chart .line")

    def section(self, i: int) -> Any:
        return self.tab.locator("section").nth(i)

    def header(self, i: int, key: str) -> Any:
        return self.section(i).locator(f'thead th[data-key="{key}"]')

    def names(self, i: int) -> list[str]:
        return self.section(i).locator("tbody .name").all_inner_texts()

    def line(self, i: int, name: str) -> Any:
        lines = self.section(i).locator(".line")
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
    for i, group in enumerate(one.groups):
        table = one.section(i).locator("tbody tr")
        for j, row in enumerate(rows(group, KEEP)):
            numbers = [value is not None for _, value in COLUMNS]
            want = [
                "–" if text == "-" or (number and not text) else text
                for text, number in zip(cells(row), numbers, strict=True)
            ]
            got = table.nth(j).locator("td").all_inner_texts()
            assert table.nth(j).locator(".name").inner_text() == want[0] and got == want[1:]
    assert one.tab.locator("tbody img").count() == 0 and HOSTILE in one.names(2)
    assert one.tab.locator("tr.old .name").all_inner_texts() == ["old"]
    assert one.tab.locator("tr.old mark").inner_text() == "stale"
    assert one.section(0).locator(".warning").inner_text().startswith("6 problems are few")


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
    assert one.names(0) == [r.name for r in rows(one.groups[0], KEEP)]
    for down, state in ((True, "descending"), (False, "ascending")):
        one.header(0, key).locator("button").click()
        assert one.names(0) == expected_order(one.groups[0], value, down)
        assert one.header(0, key).get_attribute("aria-sort") == state
    assert one.section(0).locator("thead th[aria-sort]").count() == 1
    assert one.names(1) == [r.name for r in rows(one.groups[1], KEEP)]


@pytest.mark.browser
def test_the_keyboard_sorts_and_draws(shown: Callable[..., Shown]) -> None:
    one = shown()
    one.header(0, "pruner").locator("button").focus()
    one.tab.keyboard.press("Enter")
    assert one.names(0) == sorted(one.names(0), key=str.lower)
    one.tab.keyboard.press("Space")
    assert one.names(0) == sorted(one.names(0), key=str.lower, reverse=True)
    assert one.line(0, "longest") is None
    button = one.section(0).get_by_role("button", name="longest").first
    button.focus()
    one.tab.keyboard.press("Enter")
    assert one.line(0, "longest") is not None and button.get_attribute("aria-pressed") == "true"
    one.section(0).locator(".chart").focus()
    one.tab.keyboard.press("ArrowRight")
    first = one.section(0).locator(".tip").inner_text()
    one.tab.keyboard.press("ArrowRight")
    second = one.section(0).locator(".tip").inner_text()
    assert re.findall(r"N\s+(\d+)", first + second) == ["2", "4"]
    one.tab.keyboard.press("Escape")
    assert one.section(0).locator(".tip").is_hidden()


@pytest.mark.browser
def test_filters_hide_rows_and_tables(shown: Callable[..., Shown]) -> None:
    one = shown()
    visible = lambda: [one.section(i).is_visible() for i in range(3)]  # noqa: E731
    one.tab.select_option("[name=task]", "other v2")
    assert visible() == [False, False, True]
    assert [one.tab.locator(".card").nth(i).is_visible() for i in range(3)] == [False, False, True]
    one.tab.select_option("[name=task]", "")
    one.tab.select_option("[name=L]", "9")
    assert visible() == [False, True, False]
    one.tab.click("#reset")
    one.tab.select_option("[name=model]", "other-model (toy-0.5-)")
    assert visible() == [False, False, True]
    one.tab.click("#reset")
    one.tab.click('[data-type="internal-fixed"]')
    assert set(one.names(0)) == {"deepconf", "deepconf-offline", "logprob"}
    one.tab.click('[data-type="external-fixed"]')
    assert set(one.names(0)) == {"deepconf", "deepconf-offline", "logprob", "jaccard"}
    one.tab.fill("[name=q]", "LOG")
    assert one.names(0) == ["logprob"] and visible() == [True, True, False]
    assert one.tab.locator("#count").inner_text() == "2 rows in 2 of 3 tables"
    one.tab.fill("[name=q]", "<img")
    one.tab.click('[data-type="external-fixed"]')
    one.tab.click('[data-type="internal-fixed"]')
    assert visible() == [False, False, True] and one.names(2) == [HOSTILE]


@pytest.mark.browser
def test_a_link_restores_the_view(shown: Callable[..., Shown]) -> None:
    one = shown()
    one.section(2).locator("tbody tr", has_text="onerror").click()
    one.tab.select_option("[name=task]", "other v2")
    one.tab.click('[data-type="control"]')
    one.tab.fill("[name=q]", "e")
    one.tab.click("#columns")
    one.header(2, "tokens").locator("button").click()
    one.section(2).locator('[data-gamma="0.5"]').click()
    picture = "section => section.outerHTML"
    before = one.section(2).evaluate(picture)
    fragment = "#" + one.tab.url.partition("#")[2]
    one.go()
    assert one.section(0).is_visible() and one.section(2).evaluate(picture) != before
    one.go(fragment)
    assert not one.section(0).is_visible() and one.section(2).evaluate(picture) == before
    assert one.line(2, HOSTILE) is not None
    assert one.tab.input_value("[name=task]") == "other v2" and one.tab.input_value("[name=q]") == "e"
    one.tab.click("#reset")
    assert one.tab.url.endswith("#") and one.section(0).is_visible()


@pytest.mark.browser
@pytest.mark.parametrize("gamma", [0.125, 0.5])
def test_a_point_shows_its_numbers(gamma: float, shown: Callable[..., Shown]) -> None:
    one = shown()
    one.section(0).locator(f'[data-gamma="{gamma}"]').click()
    data = figures.scaling_data(one.groups[0])
    for n in (2, 8):
        want = data[(data.pruner == "jaccard") & (data.gamma == gamma) & (n == data.N)].iloc[0]
        one.line(0, "jaccard").locator(f'[data-n="{n}"]').hover(force=True)
        tip = one.section(0).locator(".tip")
        assert tip.locator("b").inner_text() == "jaccard"
        facts = dict(zip(tip.locator("dt").all_inner_texts(), tip.locator("dd").all_inner_texts(), strict=True))
        assert facts == {
            "N": str(n),
            "tokens": f"{want.tokens:,.0f}",
            "cons": f"{want.cons:.3f} [{want.low:.3f}, {want.high:.3f}]",
        }
        assert "on" in str(one.line(0, "jaccard").get_attribute("class"))
    one.tab.mouse.move(2, 2)
    assert tip.is_hidden()


@pytest.mark.browser
def test_the_chart_starts_with_the_best_of_each_quadrant(shown: Callable[..., Shown]) -> None:
    one = shown()
    data = figures.scaling_data(one.groups[0])
    ends = data[(data.gamma == 0.125) & (data.N == 8) & (data.quadrant != "control")]
    best = ends.sort_values("cons", ascending=False, kind="stable").drop_duplicates("quadrant").pruner
    lines = one.section(0).locator(".line")
    assert {lines.nth(i).get_attribute("data-line") for i in range(lines.count())} == {"no pruning", "random", *best}
    # A method with a rule of its own is one point; a second click takes it away.
    row = one.section(0).locator("tbody tr", has_text="deepconf-offline")
    row.locator("td").first.click()
    assert one.line(0, "deepconf-offline").locator(".cross").count() == 1
    row.locator("td").first.click()
    assert one.line(0, "deepconf-offline") is None


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_tables_and_not_the_page(scheme: str, shown: Callable[..., Shown]) -> None:
    one = shown(viewport={"width": 380, "height": 800}, color_scheme=scheme, has_touch=True)
    one.tab.click("summary")
    one.tab.click("#columns")
    assert one.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = one.section(2).locator(".scroll")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth + 500")
    box.evaluate("box => box.scrollBy(400, 0)")
    edge = box.bounding_box()["x"]
    assert one.section(2).locator("tbody th").first.bounding_box()["x"] == pytest.approx(edge + 1, abs=1)
    one.line(0, "jaccard").locator('[data-n="8"]').scroll_into_view_if_needed()
    spot = one.line(0, "jaccard").locator('[data-n="8"]').bounding_box()
    one.tab.touchscreen.tap(spot["x"] + spot["width"] / 2, spot["y"] + spot["height"] / 2)
    tip = one.section(0).locator(".tip").bounding_box()
    assert tip["x"] >= 0 and tip["x"] + tip["width"] <= 380
    assert one.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ground = [int(v) for v in re.findall(r"\d+", one.tab.evaluate("getComputedStyle(document.body).backgroundColor"))]
    assert (np.mean(ground) < 60) == (scheme == "dark")


@pytest.mark.browser
def test_the_download_is_the_visible_table(shown: Callable[..., Shown], tmp_path: Path) -> None:
    one = shown()
    one.tab.fill("[name=q]", "o")
    one.header(2, "cons").locator("button").click()
    with one.tab.expect_download() as waiting:
        one.section(2).locator(".csv").click()
    assert waiting.value.suggested_filename == f"{one.groups[2].slug}.csv"
    waiting.value.save_as(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as stream:
        got = list(csv.DictReader(stream))
    assert [line["pruner"] for line in got] == one.names(2) and HOSTILE in one.names(2)
    table = {r.name: r for r in rows(one.groups[2], KEEP)}
    labels = [columns(8, KEEP)[i] for i in sorted(BRIEF)]
    assert [head for head in got[0] if not head.endswith((" low", " high", " rule"))] == labels
    for line in got:
        row = table[line["pruner"]]
        assert float(line["cons@2"]) == pytest.approx(row.voted.mean, rel=1e-6)
        assert float(line["cons@2 low"]) == pytest.approx(row.voted.low, rel=1e-6)
        assert line["note"] == row.note and (line["gain over random"] == "") == (row.gain is None)
        if row.gain is not None:
            assert float(line["gain over random"]) == pytest.approx(row.gain.mean, rel=1e-6)


@pytest.mark.browser
def test_on_paper_the_whole_table_is_there(shown: Callable[..., Shown]) -> None:
    one = shown(color_scheme="dark")
    one.tab.emulate_media(media="print")
    assert one.tab.locator("#filters").is_hidden() and one.section(0).locator(".csv").is_hidden()
    assert one.section(0).locator(".scroll").evaluate("box => getComputedStyle(box).overflow") == "visible"
    assert one.tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
