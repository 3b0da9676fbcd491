"""The comparison of clients measures what it says, and tells it."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time
import typing
import xml.etree.ElementTree

import pytest

import http3_parallel as http3
import nginx_server

# At the end: an installed http3_parallel stays the one that is tested.
sys.path.append(str(pathlib.Path(__file__).parent.parent))

from benchmarks.__main__ import MARKER, put_tables
from benchmarks._peers import goals, picture
from benchmarks._peers.clients import CLIENTS, FEATURES, FLOOR, OURS, OURS_MAP
from benchmarks._peers.report import PeerResults
from benchmarks._peers.scenarios import SCENARIOS
from benchmarks._shared import processes, servers
from benchmarks._shared.results import Job
from benchmarks._shared.work import LargeWork, Work, large_page, page

ROOT = pathlib.Path(__file__).parent.parent
PEER = "pyreqwest, threads"


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> typing.Iterator[servers.Sites]:
    nginx_server.find_or_install()
    with servers.nginx_sites(tmp_path_factory.mktemp("nginx")) as started:
        yield started


# What the clients do.


@pytest.mark.parametrize("name", [FLOOR, OURS, OURS_MAP])
@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "features"])
def test_each_request_of_a_scenario_is_made_and_checked(sites, scenario, name):
    little = SCENARIOS[scenario]
    little = little._replace(requests=24, outstanding=min(little.outstanding, 10))
    work = little.work(site_of(sites, little.site), sites.authority)
    CLIENTS[name].way(work)
    wall, cpu = work.end()
    work.check_all()
    assert work.answered == 24
    assert wall > 0
    assert cpu > 0


@pytest.mark.parametrize("name", FEATURES)
def test_each_feature_is_measured(sites, name):
    client = FEATURES[name]
    little = SCENARIOS["features"]._replace(requests=10)
    work = little.work(site_of(sites, client.site or little.site), sites.authority)
    client.way(work)
    work.check_all()
    assert work.answered == 10


def test_the_cold_site_keeps_no_connection(sites):
    response = http3.get(site_of(sites, "cold") + "/pages/1", verify=sites.authority)
    assert response.headers["connection"] == "close"


def test_what_the_gzip_site_sends_is_compressed(sites):
    response = http3.get(site_of(sites, "gzip") + "/pages/1")
    assert response.headers["content-encoding"] == "gzip"
    assert response.content == page(1)


def test_the_site_with_latency_has_it(sites):
    begun = time.perf_counter()
    assert http3.get(site_of(sites, "latency") + "/pages/1").content == page(1)
    assert time.perf_counter() - begun >= servers.LATENCY / 1000


def site_of(sites: servers.Sites, name: str) -> str:
    if name not in sites.urls:
        pytest.skip(f"needs what the site {name!r} needs: nginx's echo module, or openssl")
    return sites.urls[name]


def test_the_server_in_python_stands_in_for_the_site_with_latency():
    scenario = SCENARIOS["latency"]._replace(requests=20)
    with servers.latency_server(pathlib.Path(sys.executable)) as url:
        work = scenario.work(f"{url}/20", None)
        CLIENTS[OURS].way(work)
        wall, _ = work.end()
    work.check_all()
    assert wall >= 0.02


# How it is checked.


def test_a_wrong_status_is_found():
    work = Work("http://example.com", 1, 1)
    with pytest.raises(AssertionError, match="a wrong response: 404 b'not found'"):
        work.check(404, b"not found")


def test_a_wrong_body_is_found():
    work = Work("http://example.com", 2, 1)
    assert list(work.urls()) == ["http://example.com/0", "http://example.com/1"]
    work.check(200, page(0))
    work.check(200, page(2))
    with pytest.raises(AssertionError, match="other responses than were asked for"):
        work.check_all()


def test_a_body_that_is_missing_is_found():
    work = Work("http://example.com", 2, 1)
    list(work.urls())
    work.check(200, page(0))
    with pytest.raises(AssertionError, match="other responses than were asked for"):
        work.check_all()


def test_a_wrong_byte_in_a_large_body_is_found():
    work = LargeWork("http://example.com", 1, 1)
    list(work.urls())
    body = bytearray(large_page(0))
    work.check(200, bytes(body))
    work.check_all()
    body[500_000] ^= 1
    with pytest.raises(AssertionError, match="a wrong body that begins with"):
        work.check(200, bytes(body))


def test_a_client_that_takes_too_long_is_asked_for_no_more():
    work = Work("http://example.com", 10, 1, most_seconds=0)
    assert list(work.urls()) == []


# What comes of it.


def job(client: str, python: str = sys.executable, module: str = "benchmarks") -> Job:
    return Job("small", client, None, pathlib.Path(python), module, [])


def run(
    cpu: float, wall: float, answered: int = 4_000, **more: typing.Any
) -> dict[str, typing.Any]:
    rate = answered / wall
    return {
        "cpu": cpu,
        "wall": wall,
        "rate": rate,
        "answered": answered,
        "memory": 30e6,
        "version": "",
        **more,
    }


@pytest.fixture
def results() -> PeerResults:
    found = PeerResults({name: SCENARIOS[name] for name in ("small", "features")}, 3)
    for number in (0, 1, -1):
        found.record(job(FLOOR), run(50e-6 + number * 1e-6, 0.3))
        found.record(job(OURS), run(60e-6, 0.4))
        found.record(job(PEER), run(120e-6, 0.2))
        found.record(job("httpx, asyncio"), run(3000e-6, 3.0, answered=1_000))
    return found


def test_the_table_is_sorted_and_has_the_ratios(results):
    table = results.markdown().split("### ")[1].splitlines()
    assert table[0] == "small: small pages, kept alive"
    assert table[2] == "4,000 requests, 32 at a time."
    assert table[6:10] == [
        f"| {FLOOR} | 50 | 1.00 | 0.83 | 0.300 | 13,333 | 30 |",
        f"| **{OURS}** | 60 | 1.20 | 1.00 | 0.400 | 10,000 | 30 |",
        f"| {PEER} | 120 | 2.40 | 2.00 | 0.200 | 20,000 | 30 |",
        "| httpx, asyncio | 3,000 | 60.00 | 50.00 | ~12.000 | 333 | 30 |",
    ]


def test_where_others_are_ahead_is_told(results):
    ahead = results.markdown().split("### ")[3]
    assert ahead.startswith("Where others are ahead")
    wall = f"{PEER} (0.50); {FLOOR} (0.75)"
    assert f"| small | {FLOOR} (0.83) | {wall} | nobody |" in ahead


def test_goals_are_met_missed_or_not_measured(results):
    found = {goal.text: goal for goal in goals.goals(results.rows())}
    floor = found["small: CPU at most 1.5 times the floor's"]
    assert (floor.measured, floor.met) == ("1.20 times (60 us and 50 us)", True)
    assert found["small: CPU below that of pyreqwest's threads"].met is True
    assert found["small: CPU at most half of aiohttp with uvloop"].met is None
    assert found["latency: the least wall time, pycurl's apart"].measured == "not measured"


def test_being_level_takes_both_figures():
    def level(cpu: float, wall: float) -> tuple[str, bool | None]:
        rows = {
            "tls": {
                OURS: run(cpu, wall),
                PEER: run(100e-6, 1),
                "aiohttp": run(200e-6, 0.5),
                "pycurl, multi": run(1e-6, 0.1),
                FLOOR: run(1e-6, 0.1),
            }
        }
        by_text = {goal.text: goal for goal in goals.goals(rows)}
        goal = by_text["tls: level with the best, pycurl apart"]
        return goal.measured, goal.met

    told = f"CPU 1.04 times that of {PEER}; wall time 1.00 times that of aiohttp"
    assert level(104e-6, 0.5) == (told, True)
    assert level(104e-6, 0.6)[1] is False
    assert level(110e-6, 0.5)[1] is False


def test_what_a_feature_adds_is_told():
    found = PeerResults({"features": SCENARIOS["features"]}, 1)
    for name, cpu in ((OURS, 60e-6), (next(iter(FEATURES)), 75e-6)):
        found.record(job(name)._replace(scenario="features"), run(cpu, 0.4))
    assert f"| {OURS}, with auth | 75 | +15 | 1.25 | 10,000 |" in found.markdown()


def test_a_client_that_fails_has_that_in_its_row(results):
    tried = []
    failing = job(PEER, module="benchmarks._peers.run")._replace(
        arguments=[PEER, "small", "http://127.0.0.1:1", ""]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "run_once", lambda *_, **__: tried.append(1) or "failed: no luck")
        results.measure([failing], rounds=3)
    assert len(tried) == 1
    assert f"| {PEER} | failed: no luck |  |" in results.markdown()
    assert PEER not in results.medians("small")


def test_the_process_of_a_client_reports(sites):
    python = pathlib.Path(sys.executable)
    arguments = ["small", site_of(sites, "plain"), "", "quick"]
    found = processes.run_once(python, "benchmarks._peers.run", OURS, *arguments)
    assert isinstance(found, dict), found
    assert found["answered"] == 400
    assert found["cpu"] > 0
    assert found["memory"] > 1e6
    # The server does not have these pages.
    arguments[1] += "/elsewhere"
    found = processes.run_once(python, "benchmarks._peers.run", OURS, *arguments)
    assert isinstance(found, str)
    assert found.startswith("failed: AssertionError: a wrong response: 404")


def test_a_client_that_takes_too_long_is_measured_once(monkeypatch):
    found = PeerResults({"small": SCENARIOS["small"]}, 3)
    walls = iter([5, 9, 5, 5])
    monkeypatch.setattr(processes, "run_once", lambda *_, **__: run(1e-3, next(walls)))
    found.measure([job(OURS), job(PEER)], 3, long=8)
    assert [len(runs) for runs in found.runs["small"].values()] == [3, 1]
    assert f"| {PEER} (1 of 3 rounds) | 1,000 |" in found.markdown()


def test_the_json_has_every_run_and_how_far_they_are_apart(results):
    told = json.loads(results.as_json({"small": SCENARIOS["small"]._asdict()}, rounds=3))
    small = told["scenarios"]["small"]
    assert small["spread"][FLOOR] == pytest.approx([49e-6, 51e-6])
    assert len(small["runs"][OURS]) == 3
    assert told["rounds"] == 3


def test_the_picture_has_a_bar_for_each(results):
    drawn = picture.draw(results.rows(), SCENARIOS)
    root = xml.etree.ElementTree.fromstring(drawn)
    svg = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in root.iter(f"{svg}text")]
    assert texts[2::2] == [FLOOR, OURS, PEER, "httpx, asyncio"]
    assert texts[3::2] == ["50", "60", "120", "3,000"]
    bars = [bar for bar in root.iter(f"{svg}rect") if bar.get("class") != "ground"]
    widths = [float(bar.get("width", "")) for bar in bars]
    assert widths[1] / widths[0] == pytest.approx(60 / 50, rel=0.01)
    # The last is cut, at five times ours.
    assert widths[3] / widths[1] == pytest.approx(5, rel=0.01)
    assert len(list(root.iter(f"{svg}path"))) == 2


def test_nothing_measured_is_still_a_picture():
    xml.etree.ElementTree.fromstring(picture.draw({}, SCENARIOS))


def test_help_tells_the_options():
    command = [sys.executable, "-m", "benchmarks", "--help"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for option in ("--rounds", "--only", "--scenario", "--quick", "--json", "--picture"):
        assert option in told


def test_the_tables_go_into_their_place_in_a_page(tmp_path):
    page = tmp_path / "page.md"
    put_tables(page, "all of it\n")
    assert page.read_text() == "all of it\n"
    page.write_text(f"before {MARKER} old {MARKER} after")
    for tables in ("first\n", "second\n"):
        put_tables(page, tables)
        assert page.read_text() == f"before {MARKER}\n\n{tables}\n{MARKER} after"


def test_the_documentation_has_a_place_for_the_tables():
    page = pathlib.Path(__file__).parent.parent / "docs" / "benchmarks.md"
    assert page.read_text(encoding="utf-8").count(MARKER) == 2
