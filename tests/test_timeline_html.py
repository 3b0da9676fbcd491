"""What `timeline.html.render` writes. How it looks, and works, is in `test_waterfall`."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import typing

import pytest

import waterfall_rows
from http3_parallel.timeline.html import render
from waterfall_rows import HOSTILE, STARTED, Row, hostile_rows

TITLE = "Nightly import"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return waterfall_rows.block(60)


def test_the_text_is_ascii_and_the_same_each_time(rows: list[Row]) -> None:
    text = render(rows, title="Übersicht \ud800", started=STARTED)
    assert text.isascii()
    assert "<h1>&#220;bersicht &#55296;</h1>" in text
    assert text == render(json.loads(json.dumps(rows)), title="Übersicht \ud800", started=STARTED)


def test_rows_may_be_tuples_within(rows: list[Row]) -> None:
    given = [{**row, "phases": tuple(tuple(phase) for phase in row["phases"])} for row in rows]
    assert render(given, title=TITLE, started=STARTED) == render(rows, title=TITLE, started=STARTED)


def test_the_policy_allows_this_script_and_this_style_only(rows: list[Row]) -> None:
    text = render(rows, title=TITLE, started=STARTED)
    found = re.search('<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert found is not None
    policy = dict(part.strip().split(" ", 1) for part in found[1].split(";"))
    assert policy.pop("default-src") == "'none'"
    assert policy.pop("img-src") == "data:"
    for directive, element in (("script-src", "script"), ("style-src", "style")):
        (content,) = re.findall(f"(?s)<{element}>(.*?)</{element}>", text)
        digest = hashlib.sha256(content.encode()).digest()
        assert policy.pop(directive) == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert policy == {
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def tiles(text: str) -> dict[str, str]:
    found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text)
    return {name: " ".join(re.sub("<[^>]*>", "", value).split()) for name, value in found}


def test_the_summary_counts_and_adds_up() -> None:
    def row(number: int, state: str, *phases: list[typing.Any], **more: typing.Any) -> Row:
        return waterfall_rows.no_response(number, state, 0.0, phases=list(phases), **more)

    rows = [
        row(1, "done", ["queued", 0, 10], ["waiting", 10, 110], end=110.0, size=1_500),
        row(2, "failed", ["queued", 0, 10], ["blocked", 10, 50], ["waiting", 50, 200], end=200.0),
        row(3, "done", ["queued", 0, 110], ["waiting", 110, 210], end=210.0, size=1_000_000),
        row(4, "cancelled", ["queued", 0, 250], end=250.0),
    ]
    assert tiles(render(rows, title="", started=STARTED)) == {
        "Requests": "4 2 done, 1 failed, 1 cancelled",
        "Total time": "250 ms",
        "One after the other": "350 ms 1.4 times as long",
        # The third began when the first had ended.
        "At most at once": "2 under way",
        "Received": "1.0 MB of bodies",
    }
    rows.append(row(5, "running", ["queued", 0, 200], ["waiting", 200, None]))
    rows.append(row(6, "running", ["queued", 0, 200], ["waiting", 200, 300]))
    summary = tiles(render(rows, title="", started=STARTED))
    assert summary["Total time"] == "300 ms so far"
    assert summary["Requests"] == "6 2 done, 1 failed, 1 cancelled, 2 running"
    assert summary["One after the other"] == "550 ms 1.8 times as long"


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0.0 ms"),
        (9.94, "9.9 ms"),
        (9.96, "10 ms"),
        (999.4, "999 ms"),
        (999.6, "1.00 s"),
        (9_996, "10.0 s"),
        (59_960, "1 min 0 s"),
        (3_599_700, "1 h 0 min"),
        (7_199_999, "2 h 0 min"),
        (7_290_000, "2 h 2 min"),
    ],
)
def test_durations_in_words(ms: float, text: str) -> None:
    row = waterfall_rows.no_response(1, "cancelled", 0.0, end=ms)
    assert tiles(render([row], title="", started=STARTED))["Total time"] == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1.0 kB"),
        (99_960, "100 kB"),
        (999_600, "1.0 MB"),
        (5_400_000_000, "5.4 GB"),
        (2 * 10**12, "2.0 TB"),
    ],
)
def test_sizes_in_words(size: int, text: str) -> None:
    row = waterfall_rows.no_response(1, "done", 0.0, end=1.0, size=size)
    assert tiles(render([row], title="", started=STARTED))["Received"] == f"{text} of bodies"


@pytest.mark.parametrize(
    ("started", "text"),
    [
        ("2026-11-30T14:03:12.250000+00:00", "2026-11-30, 14:03:12 UTC"),
        ("2026-11-30T14:03:12Z", "2026-11-30, 14:03:12 UTC"),
        ("2026-11-30T14:03:12-03:30", "2026-11-30, 14:03:12 UTC-03:30"),
        ("2026-11-30T14:03:12", "2026-11-30, 14:03:12"),
        ("<yesterday>", "&lt;yesterday&gt;"),
    ],
)
def test_when_it_began(started: str, text: str) -> None:
    assert f">{text}</time>" in render([], title="", started=started)


def test_what_has_been_let_go_is_told() -> None:
    assert "1 older request is not here" in render([], title="", started=STARTED, dropped=1)
    assert "1,234 older requests are" in render([], title="", started=STARTED, dropped=1_234)
    assert "older request" not in render([], title="", started=STARTED)


def test_data_that_holds_what_ends_its_element_does_not_end_it() -> None:
    text = render(hostile_rows(), title=HOSTILE[0], started=HOSTILE[0])
    assert text.count("</script") == text.count("<script") == 2
    assert "<!--" not in text
    (data,) = re.findall('(?s)<script type="application/json" id="data">(.*?)</script>', text)
    assert set(HOSTILE) <= set(json.loads(data)["strings"])
    assert not re.search("[<>&]", data)


def test_the_table_for_browsers_without_scripts_has_the_first_rows() -> None:
    rows = waterfall_rows.block(120)
    rows[0]["url"] = HOSTILE[0]
    (table,) = re.findall("(?s)<noscript>(.*?)</noscript>", render(rows, title="", started=STARTED))
    assert table.count("<tr>") == 101
    assert "The first 100 of 120." in table
    assert "<td>&lt;/script&gt;&lt;script&gt;" in table
    assert re.findall("<td>(failed[^<]*)</td>", table) == [
        f"failed: {row['error']['type']}" for row in rows[:100] if row["state"] == "failed"
    ]
    few = render(rows[:99], title="", started=STARTED)
    assert "The first 9" not in few


def test_ten_thousand_rows_are_a_file_of_a_few_megabytes() -> None:
    text = render(waterfall_rows.block(2_000, workers=32), title=TITLE, started=STARTED)
    assert len(text) / 2_000 < 800
