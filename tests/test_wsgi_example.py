"""The example of docs/wsgi-apps.md, called in this process; `test_gunicorn` has it served."""

from __future__ import annotations

import contextlib
import json
import pathlib
import runpy
import typing

import pytest

from servers import PATIENCE, Peer, RawServer, ReceivedRequest, response_bytes
from test_documentation import blocks_of

DOCS = pathlib.Path(__file__).parent.parent / "docs"
EXAMPLE = DOCS / "examples" / "page.py"

ALL_WELL = {"user": {"name": "Ada"}, "basket": {"items": [1]}, "offers": ["tea"]}


class Upstreams(RawServer):
    """
    Each answers with what `ALL_WELL` has for it, and sets a cookie, unless `answers` has bytes
    to send in place of that: none, to hang.
    """

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.answers: dict[str, bytes] = {}

    def _answer(self, peer: Peer) -> None:
        while (request := peer.read_request()) is not None:
            name = request.target.strip("/")
            data = self.answers.get(name)
            if data is None:
                fields = {"Content-Type": "application/json", "Set-Cookie": f"session=of-{name}"}
                data = response_bytes(body=json.dumps(ALL_WELL[name]).encode(), headers=fields)
            if not data:
                peer.wait_closed()
                return
            peer.send(data)

    def asked(self, name: str) -> ReceivedRequest:
        """The last request of that upstream."""
        return [request for request in self.requests if request.target == f"/{name}"][-1]


@pytest.fixture
def upstreams() -> typing.Iterator[Upstreams]:
    with Upstreams() as server:
        yield server


@pytest.fixture
def app(upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch) -> typing.Iterator[typing.Any]:
    for name in ALL_WELL:
        monkeypatch.setenv(f"{name.upper()}_URL", f"{upstreams.url}/{name}")
    monkeypatch.setenv("PAGE_DEADLINE", str(PATIENCE))
    example = runpy.run_path(str(EXAMPLE), run_name="page")
    with contextlib.closing(example["client"]):
        yield example["app"]


def test_the_documentation_shows_the_file() -> None:
    page = (DOCS / "wsgi-apps.md").read_text("utf-8")
    shown = next(block for block in blocks_of(page) if block.language == "python")
    assert shown.text == EXAMPLE.read_text("utf-8")


def test_a_page_has_all_its_parts(app):
    assert app.test_client().get("/").json == ALL_WELL


@pytest.mark.parametrize(
    "answer",
    [
        response_bytes(500, b"{}"),
        response_bytes(200, b"<html>"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}",
        b"SSH-2.0\r\n",
    ],
    ids=["fails", "no JSON", "half an answer", "no HTTP"],
)
@pytest.mark.parametrize("name", ["user", "offers"])
def test_a_part_that_fails_is_replaced(name, answer, upstreams, app):
    upstreams.answers[name] = answer
    fallback = {"user": {"name": "guest"}, "offers": []}[name]
    assert app.test_client().get("/").json == {**ALL_WELL, name: fallback}


def test_a_part_that_is_late_is_replaced_and_its_upstream_let_go(upstreams, app, monkeypatch):
    upstreams.answers["offers"] = b""
    # Enough for the others, on a machine that is busy.
    monkeypatch.setitem(app.view_functions["page"].__globals__, "DEADLINE", 2.0)
    assert app.test_client().get("/").json == {**ALL_WELL, "offers": []}
    (hung,) = (peer for peer in upstreams.connections if peer.requests[-1].target == "/offers")
    assert hung.closed.wait(PATIENCE)


def test_the_session_goes_to_personal_upstreams_and_nothing_else_goes_anywhere(upstreams, app):
    browser = app.test_client(use_cookies=False)
    headers = {
        "Cookie": "session=ada; tracking=1",
        "Accept-Language": "de",
        "Authorization": "Basic c2VjcmV0",
        "X-Forwarded-For": "192.0.2.1",
    }
    assert browser.get("/", headers=headers).json == ALL_WELL
    for name in ALL_WELL:
        received = upstreams.asked(name).headers
        assert received["accept-language"] == "de"
        assert received.get("cookie") == (None if name == "offers" else "session=ada")
        assert not {"authorization", "x-forwarded-for"} & received.keys()


def test_a_user_has_nothing_of_another(upstreams, app):
    ada = app.test_client()
    ada.set_cookie("session", "ada")
    assert ada.get("/").json == ALL_WELL
    assert "cookie" in upstreams.asked("user").headers
    assert app.test_client().get("/").json == ALL_WELL
    assert all("cookie" not in upstreams.asked(name).headers for name in ALL_WELL)


@pytest.mark.parametrize("octal", ["073", "012", "000"], ids=["semicolon", "line break", "NUL"])
def test_a_session_that_is_no_cookie_gets_nowhere_and_the_page_has_the_rest(octal, upstreams, app):
    browser = app.test_client(use_cookies=False)
    # What Flask reads from this has that character.
    page = browser.get("/", headers={"Cookie": f'session="a\\{octal} admin=1"'})
    assert page.json == {**ALL_WELL, "user": {"name": "guest"}, "basket": {"items": []}}
    assert [request.target for request in upstreams.requests] == ["/offers"]


def test_a_session_of_any_letters_gets_to_its_upstreams(upstreams, app):
    browser = app.test_client(use_cookies=False)
    for session in ('"', "Ä", "\xff", "a b", "\x7f", "%00", "a" * 3000):
        page = browser.get("/", headers={"Cookie": f"session={session}"})
        assert page.status_code == 200


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (None, "en"),
        ("de-CH;q=0.5, de, fr", "de"),
        ("fr", "en"),
        ("", "en"),
        ("*", "en"),
        ("dé", "en"),
        ("\x00\x7f,;=", "en"),
        ("d" * 5000, "en"),
    ],
)
def test_the_language_is_one_that_the_upstreams_have(asked, sent, upstreams, app):
    headers = {} if asked is None else {"Accept-Language": asked}
    assert app.test_client().get("/", headers=headers).json == ALL_WELL
    assert {upstreams.asked(name).headers["accept-language"] for name in ALL_WELL} == {sent}
