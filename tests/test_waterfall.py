"""The waterfall: what `timeline.html.render` makes of rows, looked at in a real browser."""

from __future__ import annotations

import json
import pathlib
import re
import time
import typing

import pytest
from playwright import sync_api
from playwright.sync_api import expect

import chromium_browser
import waterfall_rows
from http3_parallel.timeline.html import render
from waterfall_rows import HOSTILE, STARTED, Row, hostile_rows

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 380, "height": 800}

TITLE = "Nightly import"

#: What is seen does not depend on the version of Python.
pytestmark = [pytest.mark.slow, pytest.mark.once]

expect.set_options(timeout=chromium_browser.PATIENCE * 1000)


@pytest.fixture(scope="module")
def chromium() -> typing.Iterator[chromium_browser.Chromium]:
    with chromium_browser.running(chromium_browser.find_or_install()) as chromium:
        yield chromium


class Show(typing.Protocol):
    def __call__(
        self,
        rows: typing.Sequence[Row],
        *,
        title: str = TITLE,
        started: str = STARTED,
        dropped: int = 0,
        **context_options: typing.Any,
    ) -> sync_api.Page: ...


@pytest.fixture
def show(chromium: chromium_browser.Chromium, tmp_path: pathlib.Path) -> typing.Iterator[Show]:
    """
    Opens a page of rows. In the end it has asked for nothing but itself, and has said nothing on
    its console.
    """
    watched = chromium_browser.Watched(chromium)
    files: list[str] = []

    def show(
        rows: typing.Sequence[Row],
        *,
        title: str = TITLE,
        started: str = STARTED,
        dropped: int = 0,
        **context_options: typing.Any,
    ) -> sync_api.Page:
        file = tmp_path / f"{len(files)}.html"
        file.write_text(render(rows, title=title, started=started, dropped=dropped), "ascii")
        files.append(file.as_uri())
        return watched.open(file, **{"viewport": DESKTOP, **context_options})

    try:
        yield show
    finally:
        watched.close()
    assert watched.troubles == []
    # An icon that is empty is no request; some versions tell of it.
    assert [url for url in watched.wanted if url != "data:,"] == files


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return waterfall_rows.block(60)


def grid(page: sync_api.Page) -> sync_api.Locator:
    return page.get_by_role("grid")


def column(page: sync_api.Page, kind: str) -> list[str]:
    return page.locator(f"#body .{kind}").all_inner_texts()


def drawn(page: sync_api.Page) -> list[int]:
    """The numbers of the requests that are drawn, from the top."""
    return [int(text) for text in column(page, "number")]


def current(page: sync_api.Page) -> str:
    """What a screen reader is told to read: the row with the focus."""
    name = grid(page).get_attribute("aria-activedescendant")
    assert name is not None
    row = page.locator(f"#{name}")
    expect(row).to_be_in_viewport()
    expect(row).to_have_attribute("aria-selected", "true")
    return row.locator(".number").inner_text()


def walk(page: sync_api.Page) -> list[int]:
    """Every request's number, met by paging through the grid."""
    met: dict[int, None] = {}
    grid(page).focus()
    page.keyboard.press("Home")
    while True:
        met.update(dict.fromkeys(drawn(page)))
        before = current(page)
        page.keyboard.press("PageDown")
        if current(page) == before:
            return list(met)


def say(page: sync_api.Page, text: str) -> None:
    """Wait until the line above the grid says so."""
    expect(page.locator("#count")).to_have_text(text)


def find(rows: typing.Iterable[Row], why: str) -> Row:
    """The first request of which something was sent for that reason."""
    return next(row for row in rows if any(sent["why"] == why for sent in row["exchanges"]))


def turn(row: Row) -> float | None:
    """When it left the line."""
    for name, start, _ in row["phases"]:
        if name != "queued":
            return float(start)
    return None


def test_every_row_is_shown(show: Show, rows: list[Row]) -> None:
    page = show(rows)
    expect(page).to_have_title(TITLE)
    say(page, "60 requests by order, ascending")
    expect(grid(page)).to_have_attribute("aria-rowcount", "61")
    assert walk(page) == [row["id"] for row in rows]
    row = rows[9]
    element = page.get_by_role("row").filter(has=page.get_by_title(row["url"], exact=True))
    grid(page).focus()
    page.keyboard.press("Home")
    assert element.get_attribute("aria-rowindex") == "11"
    cells = element.get_by_role("gridcell").all_text_contents()
    host, path = re.findall(r"https://([^/]*)(/.*)", row["url"])[0]
    assert cells[:6] == [
        "10",
        row["method"],
        f"{row['status']} {row['reason']}",
        host + path,
        row["type"].partition("/")[2],
        "42.0 kB",
    ]


def test_bars_are_where_the_times_are(show: Show, rows: list[Row]) -> None:
    page = show(rows)
    last = max(row["end"] for row in rows)
    for row in rows[:12]:
        element = page.locator("#body .row").nth(row["id"] - 1)
        track = element.locator(".track").bounding_box()
        bar = element.locator(".bar").bounding_box()
        begin = turn(row)
        assert track is not None
        assert bar is not None
        assert begin is not None
        assert bar["x"] - track["x"] == pytest.approx(track["width"] * begin / last, abs=1.5)
        assert bar["width"] == pytest.approx(track["width"] * (row["end"] - begin) / last, abs=2.5)
        parts = [name for name, _, _ in row["phases"] if name != "queued"]
        shown = element.locator(".bar > i").evaluate_all("all => all.map(i => i.className)")
        assert shown == [f"p-{name}" for name in parts]
        assert element.locator(".track").get_attribute("aria-label") is not None


def test_how_a_request_ended_shows_in_more_than_its_colour(show: Show) -> None:
    phases = [["queued", 0, 1], ["waiting", 1, 50]]
    states = ("done", "failed", "cancelled")
    rows = [
        waterfall_rows.no_response(number, state, 0.0, end=50.0, phases=phases)
        for number, state in enumerate(states)
    ]
    rows[0].update(status=500, reason="Internal Server Error")
    rows[1]["error"] = {"type": "ReadTimeout", "message": "no bytes for 2 seconds"}
    page = show(rows)
    assert column(page, "status") == ["500 Internal Server Error", "ReadTimeout", "Cancelled"]
    look = page.locator("#body .bar").evaluate_all(
        "bars => bars.map(bar => { const over = getComputedStyle(bar, '::after'); return ["
        "over.content !== 'none' && over.backgroundImage !== 'none',"
        " getComputedStyle(bar).borderLeftStyle]; })"
    )
    assert [pattern for pattern, _ in look] == [False, True, False]
    assert [border for _, border in look] == ["none", "none", "dashed"]
    shapes = page.locator("#body .status .mark").evaluate_all(
        "marks => marks.map(mark => getComputedStyle(mark).clipPath)"
    )
    assert len(set(shapes)) == 3


def expected_order(rows: list[Row], key: typing.Callable[[Row], typing.Any]) -> list[int]:
    """What has no such value comes last."""
    known = [row for row in rows if key(row) is not None]
    unknown = [row for row in rows if key(row) is None]
    return [row["id"] for row in sorted(known, key=key) + unknown]


def lasted(row: Row) -> float | None:
    begin = turn(row)
    return None if begin is None else row["end"] - begin


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Time", lasted),
        ("Size", lambda row: row["size"]),
        ("Waterfall", turn),
        ("Method", lambda row: row["method"]),
        ("Type", lambda row: row["type"]),
    ],
)
def test_a_header_sorts_both_ways(
    show: Show, rows: list[Row], name: str, key: typing.Callable[[Row], typing.Any]
) -> None:
    page = show(rows)
    header = page.get_by_role("columnheader", name=name)
    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    expect(page.locator("[aria-sort]")).to_have_count(1)
    assert walk(page) == expected_order(rows, key)
    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "descending")
    known = [row for row in rows if key(row) is not None]
    backwards = sorted(known, key=key, reverse=True)
    assert walk(page)[: len(known)] == [row["id"] for row in backwards]


def test_the_list_sorts_by_what_has_no_column(show: Show, rows: list[Row]) -> None:
    page = show(rows)
    page.get_by_label("Sort", exact=True).select_option("End")
    say(page, "60 requests by end, ascending")
    assert walk(page) == expected_order(rows, lambda row: row["end"])
    page.get_by_role("button", name="Sorted ascending").click()
    say(page, "60 requests by end, descending")
    assert drawn(page)[0] != walk(page)[-1]
    page.get_by_label("Sort", exact=True).select_option("Worker")
    workers = [rows[number - 1]["worker"] for number in walk(page)]
    assert workers == [*sorted(filter(None, workers)), None, None]


def test_hosts_and_outcomes_sort_by_name(show: Show, rows: list[Row]) -> None:
    page = show(rows)
    page.get_by_role("columnheader", name="URL").get_by_role("button").click()
    urls = column(page, "host")
    assert len(set(urls)) > 1
    assert urls == sorted(urls)
    page.get_by_role("columnheader", name="Status").get_by_role("button").click()
    order = ["done", "failed", "cancelled"]
    states = [order.index(rows[number - 1]["state"]) for number in walk(page)]
    assert states == sorted(states)


def test_the_chosen_row_stays_chosen_when_the_order_changes(show: Show, rows: list[Row]) -> None:
    page = show(rows)
    page.locator("#body .row").nth(3).locator(".number").click()
    assert current(page) == "4"
    page.get_by_role("columnheader", name="Size").get_by_role("button").click()
    assert current(page) == "4"


def matching(rows: list[Row], test: typing.Callable[[Row], typing.Any]) -> list[int]:
    return [row["id"] for row in rows if test(row)]


@pytest.mark.parametrize(
    ("words", "test"),
    [
        ("PHOTOS", lambda row: "photos" in row["url"]),
        ("host:static", lambda row: "static.example.org" in row["url"]),
        ("photos -images", lambda row: "photos" in row["url"] and "images" not in row["url"]),
        ("status:404", lambda row: row["status"] == 404),
        ("-status:404", lambda row: row["status"] != 404),
        ("method:delete", lambda row: row["method"] == "DELETE"),
        ("worker:parallel-3", lambda row: (row["worker"] or "").endswith("-3")),
        ("tag:page", lambda row: row["tag"] is not None),
        ("error:timeout", lambda row: row["error"] and "Timeout" in row["error"]["type"]),
        ("https://api", lambda row: row["url"].startswith("https://api")),
    ],
)
def test_the_filter_finds(
    show: Show, rows: list[Row], words: str, test: typing.Callable[[Row], typing.Any]
) -> None:
    found = matching(rows, test)
    assert 0 < len(found) < len(rows)
    page = show(rows)
    page.get_by_role("searchbox").fill(words)
    say(page, f"{len(found)} of 60 requests by order, ascending")
    assert walk(page) == found
    page.get_by_role("button", name="Clear filter").click()
    say(page, "60 requests by order, ascending")
    expect(page.get_by_role("searchbox")).to_have_value("")


def test_chips_show_only_their_kinds(show: Show, rows: list[Row]) -> None:
    page = show(rows)
    chips = page.get_by_role("group", name="Show only").get_by_role("button")
    failed = matching(rows, lambda row: row["state"] == "failed")
    wrong = matching(rows, lambda row: row["status"] == 404)
    chips.filter(has_text="Failed").click()
    say(page, f"{len(failed)} of 60 requests by order, ascending")
    assert walk(page) == failed
    chips.filter(has_text="4xx").click()
    assert walk(page) == sorted(failed + wrong)
    expect(chips.filter(has_text="Failed")).to_have_attribute("aria-pressed", "true")
    expect(chips.filter(has_text="2xx")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("searchbox").fill("nowhere to be found")
    expect(page.get_by_text("No request matches the filter.")).to_be_visible()
    say(page, "0 of 60 requests by order, ascending")
    page.keyboard.press("Escape")
    say(page, "60 requests by order, ascending")
    expect(chips.filter(has_text="Failed")).to_have_attribute("aria-pressed", "false")


def test_everything_can_be_done_with_keys(show: Show, rows: list[Row]) -> None:
    page = show(rows)
    grid(page).focus()
    for key, number in [
        ("ArrowDown", "1"),
        ("ArrowDown", "2"),
        ("ArrowUp", "1"),
        ("ArrowUp", "1"),
        ("End", "60"),
        ("ArrowDown", "60"),
        ("Home", "1"),
    ]:
        page.keyboard.press(key)
        assert current(page) == number
    page.keyboard.press("PageDown")
    below = int(current(page))
    assert below > 5
    page.keyboard.press("PageDown")
    assert int(current(page)) == 2 * below - 1
    page.keyboard.press("PageUp")
    assert int(current(page)) == below
    expect(page.get_by_role("tooltip")).to_contain_text(f"#{below}")
    page.keyboard.press("Enter")
    expect(page.get_by_role("tooltip")).to_be_hidden()
    expect(page.get_by_role("heading", name=f"Request {below}")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("complementary")).to_be_hidden()
    expect(grid(page)).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("+/-0")
    expect(page.get_by_role("searchbox")).to_have_value("+/-0")


#: What has the focus, and how wide the line is that shows it.
FOCUS = """() => {
    const at = document.activeElement;
    const name = at.id || at.value || at.textContent;
    if (at === document.body) return [name, "2px"];
    if (at.id === "grid")
        return [name, getComputedStyle(at.parentElement, "::after").borderTopWidth];
    return [name, getComputedStyle(at.type === "radio" ? at.nextSibling : at).outlineWidth];
}"""


def test_tab_reaches_all_and_shows_where_it_is(show: Show, rows: list[Row]) -> None:
    page = show(rows)
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(FOCUS)
        reached.add(name)
        assert outline == "2px", name
    assert {"theme", "in", "filter", "sort", "direction", "grid", "requests", "Size"} <= reached


def test_the_details_tell_all_of_a_request(show: Show, rows: list[Row]) -> None:
    row = find(rows, "retry")
    page = show(rows)
    page.get_by_title(row["url"], exact=True).click()
    details = page.get_by_role("complementary")
    expect(details.get_by_role("heading", name=f"Request {row['id']}")).to_be_visible()
    expect(details).to_contain_text(row["worker"])
    expect(details).to_contain_text(row["connection"])
    expect(details).to_contain_text("2026-11-30 14:03:12.250 UTC")
    table = details.locator("table.phases tbody tr")
    names = table.locator("th").all_inner_texts()
    assert names == [name.replace("tls", "TLS") for name, _, _ in row["phases"]]
    took = [float(text) for text in table.locator("td:nth-of-type(2)").all_inner_texts()]
    assert took == pytest.approx([end - start for _, start, end in row["phases"]], abs=0.02)
    exchanges = details.locator("details.exchange")
    expect(exchanges).to_have_count(2)
    expect(exchanges.nth(0).locator("summary")).to_contain_text("503 Service Unavailable")
    expect(exchanges.nth(1).locator("summary")).to_contain_text("retry")
    for number, sent in enumerate(row["exchanges"]):
        for name in ("request_headers", "response_headers"):
            headers = (
                exchanges.nth(number).locator("table.headers").nth(int(name == "response_headers"))
            )
            pairs = headers.locator("tr").evaluate_all(
                "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
            )
            assert pairs == sent[name]
    # What is open follows the keys.
    grid(page).focus()
    page.keyboard.press("ArrowDown")
    expect(details.get_by_role("heading", name=f"Request {row['id'] + 1}")).to_be_visible()
    details.get_by_role("button", name="Next request").click()
    expect(details.get_by_role("heading", name=f"Request {row['id'] + 2}")).to_be_visible()
    expect(details.get_by_role("button", name="Next request")).to_be_focused()
    details.get_by_role("button", name="Close details").click()
    expect(details).to_be_hidden()
    expect(grid(page)).to_be_focused()


def test_the_details_tell_why_it_failed(show: Show, rows: list[Row]) -> None:
    row = next(row for row in rows if row["state"] == "failed")
    page = show(rows)
    page.get_by_title(row["url"], exact=True).click()
    problems = page.get_by_role("complementary").locator(".problem").all_inner_texts()
    assert problems == [f"{row['error']['type']}: {row['error']['message']}"] * 2


def test_a_pointer_on_a_bar_shows_its_phases(show: Show, rows: list[Row]) -> None:
    page = show(rows)
    page.locator("#body .row").nth(2).locator(".bar").hover()
    tip = page.get_by_role("tooltip")
    expect(tip).to_be_visible()
    lines = tip.locator("tr").all_inner_texts()
    names = [line.split()[0] for line in lines]
    phases = dict.fromkeys(name.replace("tls", "TLS") for name, _, _ in rows[2]["phases"])
    assert names == list(phases)
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()


def ticks(page: sync_api.Page) -> list[str]:
    return page.locator(".axis span").all_inner_texts()


def drag(
    page: sync_api.Page, target: sync_api.Locator, begin: float, end: float, over: float = 0.3
) -> None:
    """From one part of its width over another to a third."""
    box = target.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + begin * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + over * box["width"], y)
    page.mouse.move(box["x"] + end * box["width"], y)
    expect(page.locator("#selection")).to_be_visible()
    page.mouse.up()
    expect(page.locator("#selection")).to_be_hidden()


def test_a_range_of_time_fills_the_waterfall(show: Show, rows: list[Row]) -> None:
    page = show(rows)
    whole = ticks(page)
    chart = page.locator("#chart")
    expect(chart).to_have_attribute("aria-label", re.compile("at most 8 at once"))
    drag(page, chart, 0.25, 0.5)
    expect(page.locator("#brush")).to_be_visible()
    last = max(row["end"] for row in rows)
    said = re.search(r", ([\d.]+) (m?s) to ", page.locator("#count").inner_text())
    assert said is not None
    begin = float(said[1]) * (1000 if said[2] == "s" else 1)
    assert begin == pytest.approx(last / 4, rel=0.02)
    assert ticks(page) != whole
    # No row has been opened by it.
    expect(page.get_by_role("complementary")).to_be_hidden()
    page.get_by_role("button", name="All", exact=True).click()
    assert ticks(page) == whole
    drag(page, page.locator("#body .row").nth(4).locator(".track"), 0.1, 0.2)
    expect(page.get_by_role("complementary")).to_be_hidden()
    assert ticks(page) != whole
    page.keyboard.press("0")
    assert ticks(page) == whole
    # There and back: nothing is selected, and that was no click.
    drag(page, page.locator("#body .row").nth(4).locator(".track"), 0.2, 0.2, over=0.4)
    expect(page.get_by_role("complementary")).to_be_hidden()
    assert ticks(page) == whole
    page.keyboard.press("+")
    closer = ticks(page)
    assert closer != whole
    grid(page).focus()
    page.keyboard.press("ArrowLeft")
    moved = ticks(page)
    assert moved != closer
    page.get_by_role("button", name="Later").click()
    assert ticks(page) != moved
    page.keyboard.press("-")
    page.keyboard.press("-")
    assert ticks(page) == whole
    expect(page.get_by_role("button", name="Zoom out")).to_be_disabled()


def test_lanes_show_which_worker_did_what(show: Show, rows: list[Row]) -> None:
    page = show(rows)
    page.get_by_role("radio", name="Workers").check()
    say(page, "60 requests on 8 workers")
    lanes = column(page, "lane")
    assert lanes == [f"http3-parallel-{number}" for number in range(1, 9)] + ["No worker"]
    counts = [int(text) for text in column(page, "many")]
    assert counts == [
        sum(row["worker"] == (lane if lane != "No worker" else None) for row in rows)
        for lane in lanes
    ]
    painted = page.locator("#body canvas").evaluate_all(
        "all => all.map(canvas => canvas.getContext('2d')"
        ".getImageData(0, 0, canvas.width, canvas.height).data.some(value => value))"
    )
    assert painted == [True] * 9
    mine = [row for row in rows if row["worker"] == "http3-parallel-3"]
    mine.sort(key=lambda row: turn(row) or 0)
    grid(page).focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    track = page.locator("#body [aria-selected=true] .track")
    expect(track).to_have_attribute("aria-label", re.compile(f"^Request {mine[0]['id']}, 1 of"))
    page.keyboard.press("ArrowRight")
    expect(track).to_have_attribute("aria-label", re.compile(f"^Request {mine[1]['id']}, 2 of"))
    page.keyboard.press("Enter")
    heading = page.get_by_role("complementary").get_by_role("heading").first
    expect(heading).to_have_text(f"Request {mine[1]['id']}")
    expect(heading).to_be_focused()
    page.get_by_role("radio", name="Connections").check()
    connections = {sent["connection"] for row in rows for sent in row["exchanges"]}
    say(page, f"60 requests on {len(connections)} connections")
    page.get_by_role("radio", name="Requests").check()
    say(page, "60 requests by order, ascending")


def test_a_click_in_a_lane_opens_what_is_there(show: Show, rows: list[Row]) -> None:
    page = show(rows)
    page.get_by_role("radio", name="Workers").check()
    row = max((row for row in rows if row["worker"]), key=lambda row: lasted(row) or 0)
    last = max(row["end"] for row in rows)
    track = page.locator("#body .row").filter(has_text=row["worker"]).locator("canvas")
    box = track.bounding_box()
    assert box is not None
    middle = (row["end"] + (turn(row) or 0)) / 2
    x = box["x"] + box["width"] * middle / last
    page.mouse.move(x, box["y"] + box["height"] / 2)
    expect(page.get_by_role("tooltip")).to_contain_text(f"#{row['id']} ")
    page.mouse.click(x, box["y"] + box["height"] / 2)
    heading = page.get_by_role("complementary").get_by_role("heading").first
    expect(heading).to_have_text(f"Request {row['id']}")


#: For each text that can be seen: its contrast with what is behind it (WCAG 2, 1.4.3), as far as
#: it is below 4.5. What is disabled need have none.
CONTRAST = """() => {
    const parse = (text) => {
        const numbers = text.match(/[\\d.]+/g).map(Number);
        const scale = text.startsWith("color(") ? 255 : 1;
        const [r, g, b, a = 1] = numbers;
        return [r * scale, g * scale, b * scale, a];
    };
    const light = ([r, g, b]) => {
        const part = (v) => (v /= 255, v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const behind = (element) => {
        const layers = [];
        for (let at = element; at; at = at.parentElement) {
            const colour = parse(getComputedStyle(at).backgroundColor);
            layers.push(colour);
            if (colour[3] === 1) break;
        }
        return layers.reverse().reduce((under, over) => under.map((v, i) =>
            i === 3 ? 1 : over[i] * over[3] + v * (1 - over[3])), [255, 255, 255, 1]);
    };
    const found = [];
    let seen = 0;
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue;
        if (!element.checkVisibility({visibilityProperty: true})) continue;
        if (element.closest(":disabled, script, style, noscript")) continue;
        const one = light(parse(getComputedStyle(element).color));
        const other = light(behind(element));
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        seen += 1;
        if (contrast < 4.5) found.push(`${walker.currentNode.data}: ${contrast.toFixed(2)}`);
    }
    return [seen, found];
}"""

#: The contrast of each phase's colour with the background (WCAG 2, 1.4.11 asks for 3).
PHASE_CONTRAST = """() => {
    const light = (text) => {
        const part = (v) => (v /= 255, v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = text.match(/[\\d.]+/g).map(Number);
        return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const probe = document.body.appendChild(document.createElement("i"));
    const paper = light(getComputedStyle(document.body).backgroundColor);
    const found = ["queued", "blocked", "resolving", "connecting", "tls", "sending", "waiting",
            "receiving", "pausing", "other", "failed", "edge"].map((name) => {
        probe.style.color = `var(--${name})`;
        const ink = light(getComputedStyle(probe).color);
        return [name, (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)];
    });
    probe.remove();
    return Object.fromEntries(found);
}"""


def background(page: sync_api.Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read(show: Show, rows: list[Row], scheme: str) -> None:
    page = show(rows, color_scheme=scheme, dropped=3, reduced_motion="reduce")
    assert background(page) == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}[scheme]
    failed = next(row for row in rows if row["state"] == "failed")
    cancelled = next(row for row in rows if row["state"] == "cancelled")
    page.get_by_role("group", name="Show only").get_by_role("button").first.click()
    seen, found = page.evaluate(CONTRAST)
    assert (seen > 100, found) == (True, [])
    page.get_by_role("button", name="Clear filter").click()
    wrong = next(row for row in rows if row["status"] == 404)
    for row in sorted((rows[0], failed, wrong, cancelled), key=lambda row: row["id"]):
        page.get_by_title(row["url"], exact=True).click()
        seen, found = page.evaluate(CONTRAST)
        assert (seen > 100, found) == (True, [])
    weakest = min(page.evaluate(PHASE_CONTRAST).items(), key=lambda item: item[1])
    assert weakest[1] >= 3, weakest


def test_the_scheme_can_be_chosen(show: Show, rows: list[Row]) -> None:
    page = show(rows, color_scheme="light")
    light = background(page)
    page.emulate_media(color_scheme="dark")
    dark = background(page)
    assert dark != light
    button = page.get_by_role("button", name="Theme")
    button.click()
    expect(button).to_have_text("Theme: light")
    assert background(page) == light
    page.emulate_media(color_scheme="light")
    button.click()
    assert background(page) == dark
    button.click()
    assert background(page) == light


def test_nothing_moves_by_itself_unless_it_may(show: Show, rows: list[Row]) -> None:
    page = show(rows, reduced_motion="reduce")
    longest = "() => [...document.querySelectorAll('*')].map(e => getComputedStyle(e)).filter(s =>"
    longest += " parseFloat(s.transitionDuration) || parseFloat(s.animationDuration)).length"
    assert page.evaluate(longest) == 0
    assert page.evaluate("() => matchMedia('(prefers-reduced-motion: reduce)').matches")


@pytest.mark.parametrize("view", ["Requests", "Workers", "Connections"])
def test_a_phone_shows_it_without_scrolling_sideways(
    show: Show, rows: list[Row], view: str
) -> None:
    long = {**rows[0], "url": "https://example.com/" + "very-long" * 200, "tag": "t" * 500}
    page = show(
        [long, *rows[1:]],
        title="W" * 200,
        viewport=PHONE,
        is_mobile=True,
        has_touch=True,
        color_scheme="dark",
    )
    page.get_by_role("radio", name=view).check()
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) == PHONE["width"]
    track = page.locator("#body .track").first.bounding_box()
    assert track is not None
    assert track["width"] > 300
    # What has no room has its name nevertheless.
    expect(page.get_by_role("combobox", name="Sort", exact=True)).to_be_visible()
    expect(page.get_by_role("columnheader", name="Waterfall")).to_be_visible()
    if view == "Requests":
        page.locator("#body .row").first.tap()
        details = page.get_by_role("complementary")
        box = details.bounding_box()
        assert box is not None
        assert (box["x"], box["width"]) == (0, PHONE["width"])
        assert page.evaluate(width) == PHONE["width"]
        assert details.evaluate("e => e.scrollWidth") <= PHONE["width"]
        # It covers the rest, which nobody gets to meanwhile.
        expect(page.locator("#holder")).to_have_attribute("inert", "")
        page.get_by_role("button", name="Close details").tap()
        expect(details).to_be_hidden()
        assert page.locator("[inert]").count() == 0


@pytest.mark.parametrize("scripts", [True, False])
def test_what_others_wrote_is_only_text(show: Show, scripts: bool) -> None:
    rows = hostile_rows()
    title = "".join(HOSTILE[:6])
    page = show(rows, title=title, started=HOSTILE[3], scripts=scripts)
    expect(page).to_have_title(" ".join(title.split()))
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    expect(page.locator("script")).to_have_count(2)
    expect(page.locator("img, b[onclick], svg[onload]")).to_have_count(0)
    if not scripts:
        cells = page.locator("noscript tbody tr td:nth-child(4)").all_text_contents()
        assert cells[0] == HOSTILE[0]
        assert len(cells) == len(HOSTILE)
        return
    details = page.get_by_role("complementary")
    for number, row in enumerate(rows):
        page.locator("#body .row").nth(number).locator(".number").click()
        shown = details.locator(".what .url").first
        text = row["url"]
        assert (shown.text_content() or "").replace("\ufffd", "\ud800") == text
        problem = details.locator(".problem").first.text_content() or ""
        assert problem.replace("\ufffd", "\ud800") == f"{text}: {text}"
        assert "[object" not in page.locator("main").inner_text()
        name = details.locator(".headers th").first.text_content() or ""
        assert name.replace("\ufffd", "\ud800") == text
    for mode in ("Workers", "Connections"):
        page.get_by_role("radio", name=mode).check()
        assert len(column(page, "lane")) == len(HOSTILE)
        page.locator("#body canvas").first.hover()
    page.get_by_role("radio", name="Requests").check()
    for word in ("__proto__:x", "constructor:x", "</script>", ":", "-", "--", "host:"):
        page.get_by_role("searchbox").fill(word)
        page.keyboard.press("Escape")
    expect(page).to_have_title(" ".join(title.split()))


def test_only_the_web_is_linked(show: Show) -> None:
    page = show(hostile_rows())
    details = page.get_by_role("complementary")
    links = []
    for number in range(len(HOSTILE)):
        page.locator("#body .row").nth(number).locator(".number").click()
        links += details.locator("a").evaluate_all("all => all.map(a => [a.protocol, a.rel])")
    # The row and its exchange; the last address has no such port.
    assert links == [["https:", "noopener noreferrer nofollow"]] * 2


def test_without_scripts_the_first_rows_are_a_table(show: Show) -> None:
    rows = waterfall_rows.block(120)
    page = show(rows, scripts=False)
    # What playwright takes for text is never in this element.
    notes = page.locator("noscript p")
    expect(notes.first).to_be_visible()
    assert "need JavaScript" in notes.all_text_contents()[0]
    assert notes.all_text_contents()[1:] == ["The first 100 of 120."]
    expect(page.locator("noscript tbody tr")).to_have_count(100)
    cells = page.locator("noscript tbody tr").nth(9).locator("td").all_text_contents()
    assert cells[:4] == ["10", rows[9]["method"], "200 OK", rows[9]["url"]]
    expect(page.get_by_role("grid")).to_have_count(0)
    expect(page.locator("#tiles")).to_contain_text("120")


def test_an_empty_timeline_says_so(show: Show) -> None:
    page = show([])
    expect(page.get_by_text("No requests were recorded.")).to_be_visible()
    say(page, "0 requests by order, ascending")
    grid(page).focus()
    for key in ("ArrowDown", "End", "Enter", "+", "ArrowLeft", "0", "Escape"):
        page.keyboard.press(key)
    page.get_by_role("radio", name="Workers").check()
    grid(page).focus()
    for key in ("ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    say(page, "0 requests on 0 workers")


def test_what_has_been_let_go_is_told(show: Show, rows: list[Row]) -> None:
    page = show(rows, dropped=1_234)
    expect(page.get_by_text("1,234 older requests are not here")).to_be_visible()


def test_what_has_not_ended_is_shown_up_to_now(show: Show) -> None:
    rows = [
        waterfall_rows.no_response(
            1, "running", 0.0, phases=[["queued", 0.0, 5.0], ["waiting", 5.0, None]], worker="w"
        ),
        waterfall_rows.no_response(2, "queued", 1.0, phases=[["queued", 1.0, None]]),
        waterfall_rows.no_response(3, "queued", 1.0),
        waterfall_rows.no_response(4, "done", 0.0, end=80.0, phases=[["waiting", 0.0, 80.0]]),
    ]
    page = show(rows)
    assert column(page, "status")[:3] == ["Running", "Queued", "Queued"]
    assert column(page, "time") == ["75 ms", "", "", "80 ms"]
    bar = page.locator("#body .row").nth(0).locator(".bar").bounding_box()
    track = page.locator("#body .row").nth(0).locator(".track").bounding_box()
    assert bar is not None
    assert track is not None
    assert bar["x"] + bar["width"] == pytest.approx(track["x"] + track["width"], abs=1)
    page.locator("#body .row").nth(0).locator(".number").click()
    details = page.get_by_role("complementary")
    expect(details).to_contain_text("not yet")
    expect(details).to_contain_text("Nothing was sent.")


def scaled(rows: list[Row], factor: float) -> list[Row]:
    """The same block, as much slower."""
    slower = json.loads(json.dumps(rows))
    for row in slower:
        row["start"] *= factor
        row["end"] *= factor
        row["phases"] = [[name, start * factor, end * factor] for name, start, end in row["phases"]]
    return list(slower)


@pytest.mark.parametrize(
    ("last", "labels"),
    [
        (10, ["0", "2 ms", "4 ms", "6 ms", "8 ms", "10 ms"]),
        (1, ["0", "0.2 ms", "0.4 ms", "0.6 ms", "0.8 ms", "1.0 ms"]),
        (90_000, ["0", "30 s", "1 min", "1:30 min"]),
        (7_200_000, ["0", "30 min", "1:00 h", "1:30 h", "2:00 h"]),
    ],
)
def test_the_axis_fits_the_length(
    show: Show, rows: list[Row], last: float, labels: list[str]
) -> None:
    page = show(scaled(rows, last / max(row["end"] for row in rows)))
    assert ticks(page) == labels
    page.get_by_role("button", name="Zoom in").click()
    assert 2 < len(ticks(page)) < 12
    assert len(set(ticks(page))) == len(ticks(page))


def test_one_row_that_took_no_time(show: Show) -> None:
    page = show([waterfall_rows.no_response(7, "failed", 0.0, end=0.0)])
    assert drawn(page) == [7]
    assert column(page, "status") == ["Failed"]
    page.get_by_role("radio", name="Workers").check()
    assert column(page, "lane") == ["No worker"]


def test_paper_shows_more_than_the_window(show: Show, rows: list[Row]) -> None:
    page = show(rows, color_scheme="dark")
    before = len(drawn(page))
    assert before < 60
    page.emulate_media(media="print")
    page.evaluate("() => void dispatchEvent(new Event('beforeprint'))")
    assert len(drawn(page)) == 60
    assert background(page) == "rgb(255, 255, 255)"
    expect(page.get_by_role("searchbox")).to_be_hidden()
    page.evaluate("() => void dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    expect(page.locator("#body .row")).to_have_count(before)


def test_ten_thousand_rows(show: Show) -> None:
    rows = waterfall_rows.block(10_000, workers=32)
    begin = time.monotonic()
    page = show(rows)
    say(page, "10,000 requests by order, ascending")
    page.wait_for_function("() => document.querySelectorAll('#body .row').length > 10")
    # Well below one second where it was written; for this to be reached, it has to be broken.
    assert time.monotonic() - begin < 15
    assert page.locator("#body .row").count() < 100
    grid(page).focus()
    page.keyboard.press("End")
    assert current(page) == "10000"
    assert page.locator("#body .row").count() < 100
    page.get_by_role("searchbox").fill("status:404 host:slow")
    found = matching(rows, lambda row: row["status"] == 404 and "//slow" in row["url"])
    say(page, f"{len(found)} of 10,000 requests by order, ascending")
    assert drawn(page) == found[: len(drawn(page))]
    page.get_by_role("columnheader", name="Time").get_by_role("button").click()
    chosen = expected_order([rows[number - 1] for number in found], lasted)
    assert drawn(page) == chosen[: len(drawn(page))]
    page.get_by_role("button", name="Clear filter").click()
    page.get_by_role("radio", name="Workers").check()
    say(page, "10,000 requests on 32 workers")
    page.evaluate("() => void dispatchEvent(new Event('beforeprint'))")
    page.get_by_role("radio", name="Requests").check()
    expect(page.get_by_text("The first 1,000 of 10,000 are printed.")).to_have_count(0)
