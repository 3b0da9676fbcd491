"""Cookies in the client: what is sent where, through redirects too, and what is kept."""

from __future__ import annotations

import http.cookiejar
import os
import signal
import threading
import typing

import pytest

import http3_parallel as http3
from flow_steps import Answers, drive, redirect
from scripted import PATIENCE

A = "http://a.test/"
B = "http://b.test/"


class Sites(http3.Dispatcher):
    """Answers by URL; keeps the Cookie header of each request."""

    abortable = True

    def __init__(self, pages: dict[str, typing.Any] | None = None) -> None:
        self._pages = pages or {}
        self.sent: list[tuple[str, str | None]] = []

    def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
        url = str(request.url)
        self.sent.append((url, request.headers.get("cookie")))
        status, headers = self._pages.get(url, (200, []))
        return http3.Response(status, headers=headers, request=request)

    @property
    def cookies(self) -> list[str | None]:
        return [cookie for _, cookie in self.sent]


def sets(*cookies: str) -> tuple[int, list[tuple[str, str]]]:
    return 200, [("set-cookie", cookie) for cookie in cookies]


def leads_to(url: str, *cookies: str, status: int = 302) -> tuple[int, list[tuple[str, str]]]:
    return status, [("location", url), *sets(*cookies)[1]]


def test_what_a_response_sets_goes_into_the_next_request() -> None:
    sites = Sites({A: sets("session=1; Path=/")})
    with http3.Client(dispatch=sites) as client:
        client.get(A)
        client.get(A + "next")
        client.get(B)

        assert client.cookies["session"] == "1"
    assert sites.cookies == [None, "session=1", None]


def test_a_block_shares_the_clients_cookies_both_ways() -> None:
    sites = Sites({A + "login": sets("session=1; Path=/")})
    with http3.Client(dispatch=sites, cookies={"own": "0"}) as client:
        with client.parallel() as parallel:
            parallel.get(A + "login").get_response()
            parallel.get(A + "page").get_response()
        client.get(A + "after")

    assert sites.cookies[0] == "own=0"
    for cookie in sites.cookies[1:]:
        assert cookie is not None
        assert sorted(cookie.split("; ")) == ["own=0", "session=1"]


def test_one_shot_calls_share_no_cookies(server: typing.Any) -> None:
    http3.get(server.url, cookies={"mine": "1"})
    http3.get(server.url)

    first, second = (dict(request.headers) for request in server.requests)
    assert first["cookie"] == "mine=1"
    assert "cookie" not in second


def test_a_requests_own_cookies_are_for_it_alone_and_win() -> None:
    sites = Sites()
    with http3.Client(dispatch=sites, cookies={"a": "client's", "b": "client's"}) as client:
        client.get(A, cookies={"a": "own"})
        client.get(A)
        assert client.cookies["a"] == "client's"

    assert sorted((sites.cookies[0] or "").split("; ")) == ["a=own", "b=client's"]
    assert sorted((sites.cookies[1] or "").split("; ")) == ["a=client's", "b=client's"]


def test_a_cookie_header_of_the_users_stands_in_place_of_the_store() -> None:
    sites = Sites()
    with http3.Client(dispatch=sites, cookies={"a": "store"}) as client:
        client.get(A, headers={"Cookie": "b=header"})
        client.get(A, headers={"Cookie": "b=header"}, cookies={"c": "own"})

    assert sites.cookies == ["b=header", "b=header"]


def test_cookies_given_by_header_are_not_kept() -> None:
    sites = Sites()
    with http3.Client(dispatch=sites) as client:
        client.get(A, headers={"Cookie": "b=header"}, cookies={"c": "own"})
        client.get(A)

    assert sites.cookies[1] is None


def test_a_cookie_that_a_redirect_sets_is_sent_on_the_next_hop() -> None:
    sites = Sites({A: leads_to("/page", "session=new; Path=/")})
    with http3.Client(dispatch=sites) as client:
        client.get(A)

    assert sites.cookies == [None, "session=new"]


@pytest.mark.parametrize(
    "given",
    [{"headers": {"Cookie": "session=old; kept=1"}}, {"cookies": {"session": "old", "kept": "1"}}],
    ids=["header", "cookies"],
)
def test_a_cookie_that_a_redirect_sets_is_newer_than_the_requests_own(
    given: dict[str, typing.Any],
) -> None:
    sites = Sites({A: leads_to("/page", "session=new; Path=/")})
    with http3.Client(dispatch=sites) as client:
        client.get(A, **given)

    assert sites.cookies[0] == "session=old; kept=1"
    assert sorted((sites.cookies[1] or "").split("; ")) == ["kept=1", "session=new"]


@pytest.mark.parametrize(
    "given", [{"headers": {"Cookie": "session=old"}}, {"cookies": {"session": "old"}}]
)
def test_a_cookie_that_a_redirect_deletes_is_not_sent_again(given: dict[str, typing.Any]) -> None:
    sites = Sites({A: leads_to("/page", "session=; Max-Age=0; Path=/")})
    with http3.Client(dispatch=sites) as client:
        client.get(A, **given)

    assert sites.cookies == ["session=old", None]


@pytest.mark.parametrize(
    "given",
    [
        {"headers": {"Cookie": "secret=1"}},
        {"cookies": {"secret": "1"}},
    ],
    ids=["header", "cookies"],
)
@pytest.mark.parametrize(
    "elsewhere", [B, "http://a.test:8080/", "https://a.test/"], ids=["host", "port", "scheme"]
)
def test_a_requests_cookies_never_cross_an_origin(
    given: dict[str, typing.Any], elsewhere: str
) -> None:
    sites = Sites({A: leads_to(elsewhere), elsewhere: leads_to(A + "back")})
    with http3.Client(dispatch=sites) as client:
        client.get(A, **given)

    assert sites.cookies == ["secret=1", None, None]


def test_a_clients_cookies_without_a_domain_do_not_follow_a_redirect_elsewhere() -> None:
    sites = Sites({A: leads_to(B)})
    with http3.Client(dispatch=sites, cookies={"secret": "1"}) as client:
        client.cookies.set("own", "b", domain="b.test")
        client.get(A)
        client.get(B)

    assert sites.cookies[0] == "secret=1"
    assert sites.cookies[1] == "own=b"
    assert sorted((sites.cookies[2] or "").split("; ")) == ["own=b", "secret=1"]


def test_next_treats_cookies_as_following_does() -> None:
    sites = Sites({A: leads_to("/2", "new=1; Path=/"), A + "2": leads_to(B), B: leads_to(B + "2")})
    with http3.Client(dispatch=sites, cookies={"own": "c"}) as client:
        response = client.get(A, cookies={"new": "0"}, allow_redirects=False)
        while response.is_redirect:
            response = response.next()

    assert [sorted((cookie or "").split("; ")) for cookie in sites.cookies] == [
        ["new=0", "own=c"],
        ["new=1", "own=c"],
        [""],
        [""],
    ]
    assert [earlier.status_code for earlier in response.history] == [302, 302, 302]


def test_a_secure_cookie_does_not_go_from_https_to_http() -> None:
    secure = "https://a.test/"
    sites = Sites({secure: leads_to(A, "session=1; Secure; Path=/")})
    with http3.Client(dispatch=sites) as client:
        client.get(secure)
        client.get(secure + "again")

    assert sites.cookies == [None, None, "session=1"]


def test_the_same_url_with_another_cookie_is_no_loop() -> None:
    pages = {A + "page": leads_to("/login"), A + "login": leads_to("/page", "session=1; Path=/")}
    sites = Sites(pages)

    def answer(request: http3.Request, context: http3.Context) -> http3.Response:
        if request.headers.get("cookie") == "session=1":
            sites.sent.append((str(request.url), "session=1"))
            return http3.Response(200, request=request)
        return Sites.send(sites, request, context)

    sites.send = answer  # type: ignore[method-assign]  # a page that knows who is logged in
    with http3.Client(dispatch=sites) as client:
        assert client.get(A + "page").status_code == 200

    assert [url for url, _ in sites.sent] == [A + "page", A + "login", A + "page"]


def test_a_loop_that_sets_cookies_ends_at_the_limit() -> None:
    sites = Sites({A: leads_to("/", "seen=1; Path=/")})
    with http3.Client(dispatch=sites, max_redirects=3) as client:
        with pytest.raises(http3.TooManyRedirects):
            client.get(A)

    assert len(sites.sent) == 4


def test_a_loop_without_cookies_is_one() -> None:
    answers = Answers(redirect("/2"), redirect("/"))
    with pytest.raises(http3.RedirectLoop):
        drive(http3.Request("GET", A), answers)


@pytest.mark.parametrize(
    "refused",
    [
        "session=x; Secure; Path=/",
        "session=x; Domain=other.test; Path=/",
        "session=x; Path=/login",
        "session=" + "x" * 5000,
    ],
)
def test_what_a_redirect_sets_for_elsewhere_leaves_the_requests_own_cookie(refused: str) -> None:
    sites = Sites({A: leads_to("/page", refused)})
    with http3.Client(dispatch=sites) as client:
        client.get(A, cookies={"session": "mine"})
        client.get(A, cookies={"session": "mine"}, allow_redirects=False).next()

    assert sites.cookies == ["session=mine"] * 4


def test_a_client_that_keeps_none_takes_no_jar() -> None:
    with pytest.raises(ValueError, match="CookieJar"):
        http3.Client(cookies=http.cookiejar.CookieJar(), keep_cookies=False)


def test_a_retry_sends_what_the_failed_attempt_set() -> None:
    class Busy(Sites):
        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            response = super().send(request, context)
            if len(self.sent) == 1:
                return http3.Response(503, headers=sets("shard=2; Path=/")[1], request=request)
            return response

    sites = Busy()
    with http3.Client(dispatch=sites, retries=http3.Retry(1, backoff=0)) as client:
        client.get(A)

    assert sites.cookies == [None, "shard=2"]


def test_a_request_that_is_sent_as_it_is_takes_nothing_from_the_store_but_redirects_do() -> None:
    sites = Sites({A: leads_to("/2", "new=1; Path=/")})
    with http3.Client(dispatch=sites, cookies={"own": "c"}) as client:
        client.send(http3.Request("GET", A, cookies={"with": "it"}))
        client.send(http3.Request("GET", A + "3"))
        assert client.cookies["new"] == "1", "what it is answered is kept all the same"

    assert sites.cookies[0] == "with=it"
    assert sorted((sites.cookies[1] or "").split("; ")) == ["new=1", "own=c", "with=it"]
    assert sites.cookies[2] is None


def test_cookies_are_taken_when_a_request_is_sent_not_when_it_is_submitted() -> None:
    holding, release = threading.Event(), threading.Event()

    class Holding(Sites):
        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            if request.url.path == "/hold":
                holding.set()
                assert release.wait(PATIENCE)
            return super().send(request, context)

    sites = Holding()
    with http3.Client(dispatch=sites) as client, client.parallel(max_workers=1) as parallel:
        parallel.get(A + "hold")
        assert holding.wait(PATIENCE)
        queued = parallel.get(A + "queued")
        client.cookies.set("late", "1")
        release.set()
        queued.get_response(PATIENCE)

    assert sites.sent[-1] == (A + "queued", "late=1")


def test_a_cookie_jar_is_filled_itself() -> None:
    jar = http.cookiejar.CookieJar()
    sites = Sites({A: sets("session=1; Path=/")})
    with http3.Client(dispatch=sites, cookies=jar) as client:
        client.get(A)

    assert [cookie.name for cookie in jar] == ["session"]


def test_other_cookies_are_copied() -> None:
    cookies = http3.Cookies({"own": "1"})
    sites = Sites({A: sets("session=1; Path=/")})
    with http3.Client(dispatch=sites, cookies=cookies) as client:
        client.get(A)

    assert list(cookies) == ["own"]


def test_a_response_has_its_own_cookies_only() -> None:
    sites = Sites({A: sets("one=1"), A + "2": sets("two=2")})
    with http3.Client(dispatch=sites) as client:
        client.get(A)
        response = client.get(A + "2")

    assert dict(response.cookies) == {"two": "2"}


def test_a_request_has_its_own_cookies_only() -> None:
    sites = Sites()
    with http3.Client(dispatch=sites, cookies={"a": "1"}) as client:
        response = client.get(A, cookies={"b": "2"})

    assert response.request is not None
    assert dict(response.request.cookies) == {"b": "2"}
    assert dict(http3.Request("GET", A).cookies) == {}


def test_a_client_for_several_people_keeps_nothing_but_for_the_redirects_of_a_request() -> None:
    pages = {A: leads_to("/2", "session=ada; Path=/"), A + "2": leads_to("/3", "step=2; Path=/")}
    sites = Sites(pages)
    with http3.Client(dispatch=sites, cookies={"app": "1"}, keep_cookies=False) as client:
        client.get(A)
        response = client.get(A, allow_redirects=False)
        while response.is_redirect:
            response = response.next()
        client.get(A + "3")
        with client.parallel() as parallel:
            parallel.get(A + "3").get_response(PATIENCE)

        assert dict(client.cookies) == {"app": "1"}
    hops = [["app=1"], ["app=1", "session=ada"], ["app=1", "session=ada", "step=2"]]
    assert [sorted((cookie or "").split("; ")) for cookie in sites.cookies] == [
        *hops,
        *hops,
        ["app=1"],
        ["app=1"],
    ]


@pytest.mark.parametrize("value", ["Zoë".encode(), b"Zo\xeb"], ids=["UTF-8", "none"])
def test_bytes_that_are_no_ascii_come_back_as_they_were_set(value: bytes) -> None:
    class Bytes(http3.Dispatcher):
        def __init__(self) -> None:
            self.sent: list[bytes] = []

        def send(self, request: http3.Request, context: http3.Context) -> http3.Response:
            self.sent += [sent for name, sent in request.headers.raw if name == b"cookie"]
            headers = http3.Headers([(b"Set-Cookie", b"name=" + value + b"; Path=/")])
            if request.url.path == "/redirect":
                headers["location"] = "/page"
            status = 302 if request.url.path == "/redirect" else 200
            return http3.Response(status, headers=headers, request=request)

    dispatch = Bytes()
    with http3.Client(dispatch=dispatch) as client:
        client.get(A)
        client.get(A)
        client.get(A + "redirect", headers={"Cookie": b"own=" + value + b"; name=old"})

    assert dispatch.sent == [
        b"name=" + value,
        b"own=" + value + b"; name=old",
        b"name=" + value + b"; own=" + value,
    ]


def test_junk_in_set_cookie_harms_nothing() -> None:
    sites = Sites({A: sets("", "=", ";", ";=;", "a=" + "x" * 10_000, "fine=1; Path=/")})
    with http3.Client(dispatch=sites) as client:
        client.get(A)
        client.get(A)

    assert sites.cookies[1] == "fine=1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
# Python 3.12 warns of any fork in a process with threads. That is what is tested.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("keep_cookies", [True, False])
def test_a_forked_child_is_not_held_up_by_a_lock_of_the_parents(keep_cookies: bool) -> None:
    sites = Sites()
    with http3.Client(dispatch=sites, cookies={"a": "1"}, keep_cookies=keep_cookies) as client:
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            with client.cookies._lock:
                held.set()
                assert release.wait(PATIENCE)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(PATIENCE)
        child = os.fork()
        if child == 0:
            signal.alarm(int(PATIENCE))  # its end, whatever happens here
            code = 1
            try:
                client.get(A)
                client.cookies.set("b", "2")
                client.get(A)
                code = 0 if sites.cookies == ["a=1", "a=1; b=2"] else 2
            finally:
                os._exit(code)
        release.set()
        thread.join(PATIENCE)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
