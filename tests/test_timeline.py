"""The timeline of a block: what is noted, and its HAR and text forms. The page: test_waterfall."""

from __future__ import annotations

import gc
import json
import pathlib
import re
import threading
import time
import typing
import weakref

import jsonschema
import pytest

import http3_parallel as http3
from har_schema import HAR
from http3_parallel.timeline import Entry, Phase, Timeline
from http3_parallel.timeline.entries import make_entry
from http3_parallel.timeline.records import Record
from http3_parallel.timeline.redacting import shown_headers
from scripted import InstantDispatch, ScriptedDispatch
from servers import PATIENCE, Peer, RawServer, Site

ORIGIN = "http://example.com"

Har = dict[str, typing.Any]


def har_of(timeline: Timeline, **options: typing.Any) -> list[Har]:
    """Its entries, once it is known to be one, and to be what `json` takes."""
    har = timeline.to_har(**options)
    jsonschema.validate(json.loads(json.dumps(har)), HAR)
    entries: list[Har] = har["log"]["entries"]
    for entry in entries:
        parts = [value for key, value in entry["timings"].items() if key != "ssl" and value > 0]
        assert entry["time"] == pytest.approx(sum(parts), abs=0.01)
    return entries


def check_phases(entry: Entry) -> list[str]:
    """Their names, once they are known to be in order, within the entry, and not to overlap."""
    at = entry.start
    for phase in entry.phases:
        assert at <= phase.start < phase.end
        at = phase.end
    assert entry.end is None or at <= entry.end
    return [phase.name for phase in entry.phases]


# What is noted.


def test_it_is_off_unless_asked_for() -> None:
    for timeline in (None, False):
        with http3.parallel(dispatch=InstantDispatch(), timeline=timeline) as parallel:
            pending = parallel.get(ORIGIN)
            pending.get_response()
            assert pending._record is None
            with pytest.raises(RuntimeError, match=r"parallel\(timeline=True\)"):
                parallel.timeline  # noqa: B018


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), ("x", TypeError)])
def test_its_size_is_a_number_from_1_on(value: typing.Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="timeline"):
        http3.parallel(timeline=value)
    with http3.Client() as client, pytest.raises(error, match="timeline"):
        client.parallel(timeline=value)


def test_the_last_ones_are_kept() -> None:
    with http3.parallel(dispatch=InstantDispatch(), timeline=3) as parallel:
        assert len(parallel.timeline) == parallel.timeline.dropped == 0
        for _ in parallel.map(f"{ORIGIN}/{n}" for n in range(10)):
            assert len(parallel.timeline) <= 3
    timeline = parallel.timeline
    assert [entry.id for entry in timeline] == [8, 9, 10]
    assert [str(entry.url) for entry in timeline] == [f"{ORIGIN}/{n}" for n in (7, 8, 9)]
    assert timeline.dropped == 7


def test_an_exchange_over_a_new_connection_and_one_over_the_same(
    tls_server: Site, ca_path: str
) -> None:
    url = tls_server.answer("/page", b"x" * 1000)
    with http3.parallel(verify=ca_path, max_workers=1, timeline=True) as parallel:
        for tag in ("first", 2):
            parallel.get(url, tag=tag).get_response()
    first, second = parallel.timeline
    names = check_phases(first)
    assert [name for name in names if name not in ("blocked", "resolving")] == [
        "queued",
        "connecting",
        "tls",
        "sending",
        "waiting",
        "receiving",
    ]
    assert {"connecting", "tls", "resolving"}.isdisjoint(check_phases(second))
    assert (first.tag, second.tag) == ("first", "2")
    for entry in (first, second):
        assert (entry.state, entry.status_code, entry.size) == ("done", 200, 1000)
        assert entry.end is not None
        assert 0 <= entry.start < entry.end
        assert entry.worker is not None
        assert entry.failure is None
        (message,) = entry.messages
        assert message.protocol == "HTTP/1.1"
        assert message.request_headers["host"] == tls_server.url.partition("//")[2]
        assert message.response_headers is not None
        assert message.response_headers["content-length"] == "1000"
    assert first.messages[0].connection == second.messages[0].connection
    assert str(first.messages[0].connection).endswith(f"-> {tls_server.url.partition('//')[2]}")
    assert (first.messages[0].reused, second.messages[0].reused) == (False, True)


def test_it_can_be_looked_at_while_requests_run() -> None:
    dispatch = ScriptedDispatch()
    with http3.parallel(dispatch=dispatch, max_workers=1, timeline=True) as parallel:
        parallel.get(f"{ORIGIN}/1")
        parallel.get(f"{ORIGIN}/2")
        exchange = dispatch.exchange("/1")
        running, queued = parallel.timeline
        assert (running.state, running.end, queued.state, queued.end) == (
            "running",
            None,
            "queued",
            None,
        )
        assert check_phases(queued) == ["queued"]
        assert check_phases(running)[0] == "queued"
        assert "queued" in parallel.timeline.to_text(width=80)
        assert [entry["response"]["status"] for entry in har_of(parallel.timeline)] == [0, 0]
        exchange.respond()
        parallel.next_response()
        assert next(iter(parallel.timeline)).state == "done"
    assert [entry.state for entry in parallel.timeline] == ["done", "cancelled"]


def test_a_stream_runs_until_it_is_read(server: Site) -> None:
    url = server.answer("/", b"x" * 300_000)
    with http3.parallel(timeline=True) as parallel:
        response = parallel.get(url, stream=True).get_response()
        (entry,) = parallel.timeline
        assert (entry.state, entry.end, entry.status_code) == ("running", None, 200)
        response.read()
        (entry,) = parallel.timeline
        assert (entry.state, entry.size) == ("done", 300_000)
        assert check_phases(entry)[-1] == "receiving"


@pytest.mark.parametrize("credentials", [False, True])
def test_redirects_challenges_and_retries_are_messages(server: Site, credentials: bool) -> None:
    server.answer("/from", b"12", status=302, headers={"Location": "/down"})
    server.answer("/down", b"345", status=503)
    retry = http3.Retry(1, statuses={503}, backoff=0.05, jitter=False)
    with http3.parallel(timeline=True, retries=retry) as parallel:
        parallel.get(server.url + "/from").get_response()
    (entry,) = parallel.timeline
    assert [(m.status_code, m.why, m.size) for m in entry.messages] == [
        (302, None, 2),
        (503, "redirect", 3),
        (503, "retry", 3),
    ]
    assert "pausing" in check_phases(entry)
    assert entry.status_code == 503
    har = har_of(parallel.timeline, credentials=credentials)
    assert [made["response"]["status"] for made in har] == [302, 503, 503]
    assert har[0]["response"]["redirectURL"] == "/down"
    assert har[2]["timings"]["blocked"] >= 1000 * 0.01


def test_a_challenge_is_told_as_one(server: Site) -> None:
    challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'
    server.answer("/", b"", status=401, headers={"WWW-Authenticate": challenge})
    with http3.parallel(timeline=True) as parallel:
        parallel.get(server.url + "/", auth=http3.DigestAuth("user", "pass")).get_response()
    (entry,) = parallel.timeline
    assert [message.why for message in entry.messages] == [None, "auth"]


def test_failures_tell_what_failed_and_where(refused_url: str) -> None:
    with http3.parallel(timeline=True) as parallel:
        parallel.get(refused_url)
        parallel.get("no url?password=secret")
        for pending in parallel:
            with pytest.raises(http3.HTTPError):
                pending.get_response()
    refused, invalid = parallel.timeline
    assert refused.failure is not None
    assert refused.failure.type == "ConnectError"
    assert "refused" in refused.failure.message
    assert refused.messages[0].failure == refused.failure
    assert check_phases(refused)[-1] == "connecting"
    assert invalid.failure is not None
    assert invalid.failure.type == "InvalidURL"
    assert (invalid.messages, invalid.worker) == ([], None)
    assert "secret" not in str(invalid.url)
    errors = [made["response"]["_error"] for made in har_of(parallel.timeline)]
    assert sorted(error.partition(":")[0] for error in errors) == ["ConnectError", "InvalidURL"]


def test_a_read_that_times_out_has_failed_while_waiting(server: Site) -> None:
    with http3.parallel(timeline=True, timeout=0.05) as parallel:
        with pytest.raises(http3.ReadTimeout):
            parallel.get(server.url + "/wait/never").get_response()
    (entry,) = parallel.timeline
    assert check_phases(entry)[-1] == "waiting"
    assert entry.state == "failed"


def test_a_cancelled_one_is_told_as_one() -> None:
    dispatch = ScriptedDispatch()
    with http3.parallel(dispatch=dispatch, max_workers=1, timeline=True) as parallel:
        parallel.get(f"{ORIGIN}/1")
        parallel.get(f"{ORIGIN}/2")
        dispatch.exchange("/1")
    first, second = parallel.timeline
    assert (first.state, second.state) == ("cancelled", "cancelled")
    assert first.end is not None
    assert second.worker is None
    assert check_phases(second) == ["queued"]
    assert [made["_state"] for made in har_of(parallel.timeline)] == ["cancelled", "cancelled"]


def test_a_user_exception_is_named_and_not_quoted() -> None:
    class Fails(http3.Dispatcher):
        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            raise LookupError("password is secret")

    with http3.parallel(dispatch=Fails(), timeline=True) as parallel:
        with pytest.raises(LookupError):
            parallel.get(ORIGIN).get_response()
    (entry,) = parallel.timeline
    assert entry.failure == ("LookupError", "")


def test_tags_become_short_text() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ValueError("no")

    tags = ["t" * 1000, 5, None, Odd(), list(range(10_000)), ("a", 1)]
    with http3.parallel(dispatch=InstantDispatch(), timeline=True) as parallel:
        for tag in tags:
            parallel.get(ORIGIN, tag=tag).get_response()
    shown = [entry.tag for entry in parallel.timeline]
    assert shown[1:3] == ["5", None]
    assert str(shown[3]).startswith("<Odd instance at")
    assert shown[5] == "('a', 1)"
    assert all(tag is None or len(tag) <= 200 for tag in shown)


def test_nothing_lives_longer_for_it() -> None:
    class Tag:
        pass

    def app(environ: typing.Any, start_response: typing.Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"x"]

    gc.collect()
    gc.disable()
    try:
        tag = Tag()
        with http3.parallel(app=app, timeline=True) as parallel:
            pending = parallel.get(ORIGIN, tag=tag)
            response = pending.get_response()
            failing = parallel.get("no url", tag=tag)
            with pytest.raises(http3.InvalidURL) as caught:
                failing.get_response()
            objects = [pending, response, failing, caught.value, tag]
            references = [weakref.ref(thing) for thing in objects]
            del pending, response, failing, caught, tag, objects
            gc.collect()
            assert [reference() for reference in references] == [None] * 5
            assert len(parallel.timeline) == 2
    finally:
        gc.enable()


def test_threads_may_look_while_others_work(switch_interval: None) -> None:
    failures: list[BaseException] = []
    over = threading.Event()

    def look(timeline: Timeline) -> None:
        try:
            while not over.is_set():
                for entry in timeline:
                    check_phases(entry)
                timeline.rows()
        except BaseException as error:
            failures.append(error)

    with http3.parallel(dispatch=InstantDispatch(), max_workers=4, timeline=50) as parallel:
        looker = threading.Thread(target=look, args=(parallel.timeline,))
        looker.start()
        try:
            for _ in parallel.map([ORIGIN] * 500):
                pass
        finally:
            over.set()
            looker.join(PATIENCE)
    assert failures == []
    assert len(parallel.timeline) == 50


async def test_the_same_awaited(loop_kind: str) -> None:
    async with http3.AsyncClient(dispatch=InstantDispatch()) as client:
        async with client.parallel() as parallel:
            with pytest.raises(RuntimeError, match="timeline=True"):
                parallel.timeline  # noqa: B018
        async with client.parallel(timeline=2) as parallel:
            parallel.get("no url")
            for n in range(2):
                await parallel.get(f"{ORIGIN}/{n}").get_response()
    assert [entry.state for entry in parallel.timeline] == ["done", "done"]
    assert parallel.timeline.dropped == 1


# Credentials.

SECRETS = ("hunter2", "s3cr3t", "sess10n", "t0ken")


@pytest.mark.parametrize("credentials", [False, True])
def test_credentials_are_left_out_unless_asked_for(server: Site, credentials: bool) -> None:
    server.answer(
        "/",
        b"",
        status=302,
        headers={
            "Set-Cookie": "sid=sess10n; Path=/",
            "Location": "/next?token=t0ken",
            "X-Api-Key": "s3cr3t",
            "Link": '</more?token=t0ken>; rel="next"',
        },
    )
    server.answer("/next", b"")
    url = server.url.replace("://", "://user:hunter2@") + "/?token=t0ken&flag-s3cr3t"
    with http3.parallel(timeline=True) as parallel:
        parallel.get(url, headers={"X-Auth-Token": "t0ken"}, cookies={"a": "s3cr3t"}).get_response()
    timeline = parallel.timeline
    entries = har_of(timeline, credentials=credentials)
    texts = [
        json.dumps(timeline.to_har(credentials=credentials)),
        json.dumps(timeline.rows(credentials=credentials)),
        timeline.to_text(width=300, credentials=credentials),
    ]
    for text in texts[:2]:
        found = [secret for secret in SECRETS if secret in text]
        assert found == (list(SECRETS) if credentials else [])
    assert ("t0ken" in texts[2]) == credentials
    request = entries[0]["request"]
    if credentials:
        assert {"name": "a", "value": "s3cr3t"} in request["cookies"]
        assert {"name": "token", "value": "t0ken"} in request["queryString"]
    else:
        assert {"name": "a", "value": "…"} in request["cookies"]
        assert {"name": "token", "value": "…"} in request["queryString"]
        assert {"name": "authorization", "value": "Basic …"} in request["headers"]


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("Authorization", "Bearer abc", "Bearer …"),
        ("Authorization", "abc", "…"),
        ("Proxy-Authorization", "Basic abc", "Basic …"),
        ("WWW-Authenticate", 'Basic realm="here"', 'Basic realm="here"'),
        ("Cookie", "a=b", "…"),
        ("X-API-Key", "abc", "…"),
        ("X-Amz-Security-Token", "abc", "…"),
        ("X-Session-Id", "abc", "…"),
        ("Authorization", "abc def", "…"),
        ("Authorization", "DIGEST username=x", "DIGEST …"),
        ("WWW-Authenticate", "Negotiate YWJj==", "Negotiate …"),
        ("WWW-Authenticate", 'NTLM YWJj, Basic realm="r"', 'NTLM …, Basic realm="r"'),
        ("X-JWT", "abc", "…"),
        ("X-CSRF", "abc", "…"),
        ("X-Hub-HMAC", "abc", "…"),
        ("pwd", "abc", "…"),
        ("Location", "https://u:p@h.test/a?b=c#d", "https://…@h.test/a?…"),
        ("Location", "//u:p/x@h.test/a", "//…@h.test/a"),
        ("Location", "/b#access_token=abc", "/b#…"),
        ("Operation-Location", "https://h.test/x?abc", "https://h.test/x?…"),
        ("X-MS-Copy-Source", "https://h.test/x?abc", "https://h.test/x?…"),
        ("X-Original-URL", "/x?abc", "/x?…"),
        ("Destination", "https://u:p@h.test/", "https://…@h.test/"),
        ("Link", '<https://h.test/2?abc>; rel="next"', '<https://h.test/2?…>; rel="next"'),
        ("Referer", "https://h.test/a", "https://h.test/a"),
        ("Content-Type", "text/html", "text/html"),
        ("AccessKey", "abc", "…"),
        ("X-License-Plate", "abc", "abc"),
        ("Location", "https://h.test/?n=O'Brien&c=abc#a=b'c", "https://h.test/?…"),
        ("Location", "https://u:p'a@h.test/", "https://…@h.test/"),
        ("X-Next", "https://u:p'a@h.test/?a=b'c", "https://…@h.test/?…"),
        ("ETag", '"abc"', '"abc"'),
    ],
)
def test_what_is_shown_of_a_field(name: str, value: str, shown: str) -> None:
    headers = http3.Headers({name: value})
    assert [field[1] for field in shown_headers(headers, False)] == [shown]
    assert [field[1] for field in shown_headers(headers, True)] == [value]


@pytest.mark.parametrize(
    "tag",
    [
        "https://user:hunter2@example.com/a?token=t0ken#s3cr3t",
        http3.URL("https://user:hunter2@example.com/a?token=t0ken#s3cr3t"),
        {"next": "https://user:hunter2@example.com/a?token=t0ken"},
        http3.Request("GET", "https://example.com/a?token=t0ken"),
    ],
)
def test_tags_that_are_urls_are_shown_like_urls(tag: typing.Any) -> None:
    with http3.parallel(dispatch=InstantDispatch(), timeline=True) as parallel:
        parallel.get(ORIGIN, tag=tag).get_response()
    timeline = parallel.timeline
    for text in (json.dumps(timeline.rows()), json.dumps(timeline.to_har()), timeline.to_html()):
        assert [secret for secret in SECRETS if secret in text] == []
    (row,) = timeline.rows()
    assert "example.com/a" in row["tag"]
    assert "t0ken" in timeline.rows(credentials=True)[0]["tag"]


@pytest.mark.parametrize("query", ["s3cr3t", "s3cr3t=", "s3cr3t==", "a=b&s3cr3t=="])
def test_a_query_without_names_is_no_name(query: str) -> None:
    assert "s3cr3t" not in http3.URL(f"https://example.com/?{query}").redacted


def test_a_field_of_a_servers_takes_no_time_to_show() -> None:
    """It may be as long as 64 KiB. What is quadratic takes half a minute for that."""
    for value in ("/" * 60_000, "//a@" * 15_000, "https://a" * 7000, "?" * 60_000, "<//" * 20_000):
        started = time.process_time()
        shown_headers(http3.Headers({"X-Long": value}), False)
        assert time.process_time() - started < 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("answered", "error"),
    [
        (b"Content-Length: 30\r\n\r\nabc", "IncompleteRead"),
        (b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "DecodingError"),
    ],
)
def test_a_body_that_breaks_is_a_failure(stream: bool, answered: bytes, error: str) -> None:
    def answer(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n" + answered)

    with RawServer(answer) as server:
        with http3.parallel(timeline=True) as parallel:
            pending = parallel.get(server.url, stream=stream)
            with pytest.raises(getattr(http3, error)):
                pending.get_response().read()
    (entry,) = parallel.timeline
    assert entry.state == "failed"
    assert entry.failure is not None
    assert entry.failure.type == error
    (made,) = har_of(parallel.timeline)
    assert made["response"]["_error"].startswith(f"{error}: ")
    assert made["response"]["status"] == 200


def test_what_was_cancelled_as_it_began_is_cancelled() -> None:
    """A worker may take it up just as it is ended."""
    record = Record(1, "GET", "", None)
    record.end("cancelled", None)
    record.begin()
    assert make_entry(record, record.submitted).state == "cancelled"


# HAR.


def test_a_har_has_what_a_browser_shows(server: Site) -> None:
    url = server.answer("/a", b"{}", headers={"Content-Type": "application/json"})
    with http3.parallel(timeline=True) as parallel:
        parallel.post(url, data=b"12345", tag="mine").get_response()
    (entry,) = har_of(parallel.timeline)
    assert entry["request"]["method"] == "POST"
    assert entry["request"]["bodySize"] == 5
    assert entry["response"]["content"] == {"size": 2, "mimeType": "application/json"}
    assert entry["response"]["statusText"] == "OK"
    assert entry["serverIPAddress"] == "127.0.0.1"
    assert entry["connection"].isdigit()
    assert entry["_tag"] == "mine"
    assert entry["timings"]["ssl"] == -1
    har = parallel.timeline.to_har()
    assert har["log"]["creator"] == {"name": "http3_parallel", "version": http3.__version__}


def test_tls_is_within_connecting(tls_server: Site, ca_path: str) -> None:
    url = tls_server.answer("/", b"")
    with http3.parallel(verify=ca_path, timeline=True) as parallel:
        parallel.get(url).get_response()
    ((entry,),) = [har_of(parallel.timeline)]
    assert entry["timings"]["connect"] > entry["timings"]["ssl"] > 0


def test_a_har_of_nothing_is_one() -> None:
    assert har_of(Timeline()) == []


def test_the_schema_refuses_what_is_none() -> None:
    with http3.parallel(dispatch=InstantDispatch(), timeline=True) as parallel:
        parallel.get(ORIGIN).get_response()
    for spoil in (
        lambda entry: entry.pop("cache"),
        lambda entry: entry.update(unknown=1),
        lambda entry: entry["request"].update(headersSize=None),
        lambda entry: entry.update(startedDateTime="yesterday"),
        lambda entry: entry["timings"].update(send=-1),
    ):
        har = parallel.timeline.to_har()
        spoil(har["log"]["entries"][0])
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(har, HAR)


# Text.


def entry(
    path: str, *phases: tuple[str, float, float], state: str = "done", status: int = 200
) -> Entry:
    """One that is made up."""
    with http3.parallel(dispatch=InstantDispatch(), timeline=True) as parallel:
        parallel.get(ORIGIN + path).get_response()
    (made,) = parallel.timeline
    message = made.messages[0]._replace(status_code=status)
    return made._replace(
        state=state,
        start=phases[0][1],
        end=phases[-1][2],
        phases=[Phase(*phase) for phase in phases],
        messages=[message],
    )


def draw(*entries: Entry, width: int = 80, **options: typing.Any) -> str:
    from http3_parallel.timeline.text import draw

    options = {"rows": None, "colour": False, "credentials": False, **options}
    return draw(list(entries), width, **options)


def test_bars_are_where_things_happened() -> None:
    text = draw(
        entry("/fast", ("queued", 0, 0.25), ("waiting", 0.25, 0.5)),
        entry("/slow", ("queued", 0, 0.5), ("waiting", 0.5, 0.75), ("receiving", 0.75, 1)),
        width=60,
    )
    head, fast, slow, legend = text.splitlines()
    assert re.fullmatch(r" +time 0 +500 ms +1\.00 s", head)
    bar = 60 - 12 - 9 - 8 - 3
    assert fast.startswith("/fast        200         500 ms ")
    assert fast[32:] == "·" * (bar // 4) + "░" * (bar // 4)
    assert slow[32:] == "·" * (bar // 2) + "░" * (bar // 4) + "█" * (bar // 4)
    assert legend == "· queued   ░ sent, waits   █ receives"


def test_what_failed_can_be_told_without_colours() -> None:
    text = draw(
        entry("/1", ("waiting", 0, 1), state="failed"),
        entry("/2", ("waiting", 0, 1), state="cancelled"),
        entry("/3", ("waiting", 0, 1), status=404),
    )
    _, failed, cancelled, not_found, legend = text.splitlines()
    assert "failed " in failed
    assert failed.endswith("░✗")
    assert "cancelled " in cancelled
    assert cancelled.endswith("░/")
    assert "404 " in not_found
    assert "✗ failed   / cancelled" in legend


@pytest.mark.parametrize("width", [1, 40, 79, 80, 200])
@pytest.mark.parametrize("path", ["/", "/" + "x" * 300])
def test_lines_have_the_width_asked_for(width: int, path: str) -> None:
    text = draw(entry(path, ("queued", 0, 1), ("receiving", 1, 2)), width=width)
    longest = max(len(line) for line in text.splitlines())
    assert longest <= max(width, 12 + 9 + 8 + 3 + 16)


def test_colours_change_nothing_else() -> None:
    entries = [entry("/1", ("queued", 0, 1), ("tls", 1, 2)), entry("/2", ("pausing", 0, 3))]
    coloured = draw(*entries, colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == draw(*entries)


def test_more_than_the_rows_asked_for_are_counted() -> None:
    entries = [entry(f"/{n}", ("waiting", 0, n + 1)) for n in range(5)]
    lines = draw(*entries, rows=2).splitlines()
    assert len(lines) == 5
    assert lines[3] == "… and 3 more"
    assert lines[0].endswith("2.00 s")


def test_nothing_is_drawn_as_nothing() -> None:
    assert Timeline().to_text() == "no requests"


def test_words_of_others_do_not_command_the_terminal() -> None:
    with http3.parallel(timeline=True) as parallel:
        parallel.get("no url \x1b[31m\n")
    text = parallel.timeline.to_text(width=80)
    assert "\x1b" not in text
    assert len(text.splitlines()) == 3


# Files.


def test_saving_goes_by_the_ending(tmp_path: pathlib.Path) -> None:
    with http3.parallel(dispatch=InstantDispatch(), timeline=True) as parallel:
        parallel.get(f"{ORIGIN}/page").get_response()
    timeline = parallel.timeline
    assert timeline.save(tmp_path / "a.har") == tmp_path / "a.har"
    jsonschema.validate(json.loads((tmp_path / "a.har").read_text("utf-8")), HAR)
    timeline.save(str(tmp_path / "a.txt"))
    assert "/page" in (tmp_path / "a.txt").read_text("utf-8")
    timeline.save(tmp_path / "a.HTML", title="A page")
    assert "<title>A page</title>" in (tmp_path / "a.HTML").read_text("utf-8")
    with pytest.raises(ValueError, match=r"\.html, \.har or \.txt"):
        timeline.save(tmp_path / "a.pdf")
    with pytest.raises(OSError, match="nowhere"):
        timeline.save(tmp_path / "nowhere" / "a.har")
