"""Redirects, by the policy alone: no network, the test answers each request."""

from __future__ import annotations

import typing

import pytest

import http3_parallel as http3
from flow_steps import Answers, drive, redirect, respond

START = "http://example.com/start"


def follow_one(
    method: str,
    status: int,
    location: str | bytes = "/next",
    *,
    url: str = START,
    **options: typing.Any,
) -> http3.Request:
    """The request that follows from one redirect."""
    answers = Answers(redirect(location, status), respond(200))
    drive(http3.Request(method, url, **options), answers)
    assert len(answers.requests) == 2
    return answers.requests[1]


@pytest.mark.parametrize(
    ("status", "method", "expected"),
    [
        (301, "GET", "GET"),
        (301, "HEAD", "HEAD"),
        (301, "POST", "GET"),
        (301, "PUT", "PUT"),
        (301, "DELETE", "DELETE"),
        (302, "GET", "GET"),
        (302, "HEAD", "HEAD"),
        (302, "POST", "GET"),
        (302, "PUT", "GET"),
        (302, "DELETE", "GET"),
        (302, "PURGE", "GET"),
        (303, "GET", "GET"),
        (303, "HEAD", "HEAD"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "DELETE", "GET"),
        (307, "GET", "GET"),
        (307, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (307, "DELETE", "DELETE"),
        (308, "GET", "GET"),
        (308, "POST", "POST"),
        (308, "PATCH", "PATCH"),
    ],
)
def test_the_method_that_follows_from_a_status(status: int, method: str, expected: str) -> None:
    assert follow_one(method, status).method == expected


@pytest.mark.parametrize("status", [200, 201, 300, 304, 305, 306, 399, 404, 503])
def test_other_statuses_with_a_location_are_not_followed(status: int) -> None:
    answers = Answers(redirect("/next", status))
    assert drive(http3.Request("GET", START), answers).status_code == status


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_without_a_location_is_an_ordinary_response(status: int) -> None:
    answers = Answers(respond(status, content=b"here"))
    response = drive(http3.Request("GET", START), answers)
    assert (response.status_code, response.content, response.history) == (status, b"here", [])


@pytest.mark.parametrize("status", [301, 302, 303])
def test_with_the_method_the_body_and_what_describes_it_are_dropped(status: int) -> None:
    about_content = {
        "Content-Type": "text/csv",
        "Content-Encoding": "identity",
        "Content-Language": "en",
        "Content-Location": "/x",
        "Expect": "100-continue",
    }
    following = follow_one(
        "POST", status, data=b"a,b", headers={**about_content, "X-Mine": "stays"}
    )
    assert following.content == b""
    names = {name.lower() for name in [*about_content, "Content-Length", "Transfer-Encoding"]}
    assert not names & set(following.headers.keys())
    assert following.headers["x-mine"] == "stays"


def test_a_streamed_body_that_is_dropped_does_not_hinder_the_redirect() -> None:
    following = follow_one("POST", 303, data=iter([b"once"]))
    assert (following.method, following.content) == ("GET", b"")
    assert "transfer-encoding" not in following.headers


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("data", [b"body", {"a": "b"}, [b"bo", b"dy"]], ids=type)
def test_a_body_that_is_there_is_sent_again(status: int, data: typing.Any) -> None:
    first = http3.Request("POST", START, data=data)
    expected = b"".join(first.stream())
    following = follow_one("POST", status, data=data)
    assert b"".join(following.stream()) == expected
    for name in ("content-type", "content-length", "transfer-encoding"):
        assert following.headers.get(name) == first.headers.get(name)


@pytest.mark.parametrize("status", [307, 308])
def test_a_body_that_is_used_up_cannot_be_sent_again(status: int) -> None:
    request = http3.Request("POST", START, data=iter([b"once"]))
    answers = Answers(redirect("/next", status), consume_bodies=True)
    with pytest.raises(http3.RedirectBodyUnavailable, match=str(status)) as caught:
        drive(request, answers)
    assert caught.value.request is request
    assert len(answers.requests) == 1


def test_an_iterator_of_which_nothing_was_taken_can_still_be_sent() -> None:
    answers = Answers(redirect("/next", 307), respond(200), consume_bodies=False)
    drive(http3.Request("POST", START, data=iter([b"once"])), answers)
    assert b"".join(answers.requests[1].stream()) == b"once"


# Where to.


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("next", "http://example.com/a/next"),
        ("../next", "http://example.com/next"),
        ("/next", "http://example.com/next"),
        ("?q=2", "http://example.com/a/b?q=2"),
        ("//other.example/x", "http://other.example/x"),
        ("https://example.com/x", "https://example.com/x"),
        ("HTTP://EXAMPLE.ORG/X", "http://example.org/X"),
        ("/a b", "http://example.com/a%20b"),
        (" /padded\t", "http://example.com/padded"),
        ("http://example.org", "http://example.org"),
        ("/x?redirect=http://y/", "http://example.com/x?redirect=http://y/"),
    ],
)
def test_the_location_is_relative_to_the_url_of_the_request(location: str, expected: str) -> None:
    assert follow_one("GET", 302, location, url="http://example.com/a/b?q=1").url == expected


def test_an_empty_location_is_the_same_url() -> None:
    assert follow_one("POST", 303, "").url == START


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/caf\u00e9".encode(), "http://example.com/caf%C3%A9"),
        ("/caf\u00e9".encode("latin-1"), "http://example.com/caf%E9"),
        ("http://b\u00fccher.example/".encode(), "http://xn--bcher-kva.example/"),
    ],
    ids=["UTF-8", "ISO 8859-1", "host name"],
)
def test_a_location_outside_ascii_leads_to_the_bytes_that_the_server_sent(
    location: bytes, expected: str
) -> None:
    assert follow_one("GET", 302, location).url == expected


def test_how_a_location_is_read_does_not_depend_on_other_headers() -> None:
    headers = http3.Headers([(b"location", "/\u00e9".encode()), (b"x-latin", b"\xe9")])
    answers = Answers(respond(302, headers=headers), respond(200))
    drive(http3.Request("GET", START), answers)
    assert answers.requests[1].url == "http://example.com/%C3%A9"


def test_a_repeated_location_is_one() -> None:
    answers = Answers(respond(302, headers=[("location", "/x"), ("location", "/x")]), respond(200))
    drive(http3.Request("GET", START), answers)
    assert answers.requests[1].url.path == "/x"


def test_locations_that_differ_are_not_followed() -> None:
    answers = Answers(respond(302, headers=[("location", "/x"), ("location", "/y")]))
    with pytest.raises(http3.RedirectError, match="several Locations"):
        drive(http3.Request("GET", START), answers)


@pytest.mark.parametrize(
    ("location", "expected"),
    [("/x", "old"), ("/x#new", "new"), ("/x#", ""), ("//other.example/", "old")],
)
def test_the_fragment_is_carried_unless_the_location_has_one(location: str, expected: str) -> None:
    assert follow_one("GET", 302, location, url=START + "#old").url.fragment == expected


def test_the_fragment_is_carried_over_several_redirects() -> None:
    answers = Answers(redirect("/2"), redirect("/3"), respond(200))
    response = drive(http3.Request("GET", START + "#part"), answers)
    assert str(response.url) == "http://example.com/3#part"


@pytest.mark.parametrize(
    "location", ["ftp://example.com/x", "mailto:me@example.com", "javascript:alert(1)", "file:///x"]
)
def test_other_schemes_are_not_followed(location: str) -> None:
    request = http3.Request("GET", START)
    with pytest.raises(http3.UnsupportedScheme, match="scheme") as caught:
        drive(request, Answers(redirect(location)))
    assert caught.value.request is request


@pytest.mark.parametrize(
    "location", ["http://[::1/", "http:///x", "http://example.com:port/", "https://", "//"]
)
def test_a_location_that_is_no_url_is_an_error_of_the_request_that_was_redirected(
    location: str,
) -> None:
    request = http3.Request("GET", START)
    with pytest.raises(http3.InvalidURL, match="cannot follow the redirect: ") as caught:
        drive(request, Answers(redirect(location)))
    assert caught.value.request is request
    assert caught.value.url == START
    assert str(caught.value).endswith(f"[GET {START}]")


def test_credentials_in_the_location_are_ignored() -> None:
    following = follow_one("GET", 302, "http://user:secret@example.com/x")
    assert following.url == "http://example.com/x"
    assert "authorization" not in following.headers


def test_the_host_header_is_that_of_the_new_url() -> None:
    following = follow_one("GET", 302, "http://example.org:81/", headers={"Host": "virtual"})
    assert following.headers.getlist("host") == ["example.org:81"]


# Credentials.

SECRETS = {"Authorization": "Bearer x", "Cookie": "a=b", "Proxy-Authorization": "Basic x"}


@pytest.mark.parametrize(
    ("start", "location"),
    [
        ("http://example.com/", "http://example.org/"),
        ("http://example.com/", "http://www.example.com/"),
        ("http://example.com/", "http://example.com:8080/"),
        ("https://example.com/", "http://example.com/"),
        ("https://example.com/", "//example.org/"),
        ("http://example.com/", "https://example.com/"),
    ],
)
@pytest.mark.parametrize("status", [302, 307])
def test_credentials_do_not_go_to_another_origin(start: str, location: str, status: int) -> None:
    following = follow_one("GET", status, location, url=start, headers={**SECRETS, "X-A": "b"})
    assert not {name.lower() for name in SECRETS} & set(following.headers.keys())
    assert following.headers["x-a"] == "b"


@pytest.mark.parametrize("location", ["/x", "http://EXAMPLE.com:80/x", "//example.com/x"])
def test_credentials_stay_with_their_origin(location: str) -> None:
    following = follow_one("GET", 302, location, headers=SECRETS)
    assert {name: following.headers[name] for name in SECRETS} == SECRETS


@pytest.mark.parametrize(
    "how", [{"auth": ("user", "secret")}, {"url": "http://user:secret@example.com/start"}]
)
def test_what_auth_added_does_not_go_to_another_origin_nor_come_back(
    how: dict[str, typing.Any],
) -> None:
    url, auth = how.get("url", START), how.get("auth")
    answers = Answers(
        redirect("/2"),
        redirect("http://example.org/"),
        redirect("http://example.com/4"),
        respond(200),
    )
    drive(http3.Request("GET", url), answers, auth=auth)
    with_auth = ["authorization" in request.headers for request in answers.requests]
    assert with_auth == [True, True, False, False]


# How many.


@pytest.mark.parametrize("most", [0, 1, 3, 20])
def test_exactly_max_redirects_are_followed(most: int) -> None:
    enough = Answers(*[redirect(f"/{n}") for n in range(most)], respond(200))
    response = drive(http3.Request("GET", START), enough, max_redirects=most)
    assert len(response.history) == most

    more = Answers(*[redirect(f"/{n}") for n in range(most + 1)])
    with pytest.raises(http3.TooManyRedirects, match=f"more than {most} redirects"):
        drive(http3.Request("GET", START), more, max_redirects=most)


def test_a_loop_is_seen_before_it_is_entered() -> None:
    answers = Answers(redirect("/2"), redirect("/3"), redirect("/2"))
    with pytest.raises(http3.RedirectLoop, match=r"http://example\.com/2") as caught:
        drive(http3.Request("GET", START), answers)
    assert caught.value.url == "http://example.com/3"
    assert [request.url.path for request in answers.requests] == ["/start", "/2", "/3"]


def test_a_redirect_to_itself_is_a_loop() -> None:
    with pytest.raises(http3.RedirectLoop):
        drive(http3.Request("GET", START), Answers(redirect(START)))


def test_the_same_url_with_another_method_is_no_loop() -> None:
    answers = Answers(redirect(START, 303), respond(200))
    response = drive(http3.Request("POST", START, data=b"x"), answers)
    assert response.request is not None
    assert response.request.method == "GET"
    assert [earlier.status_code for earlier in response.history] == [303]


def test_a_post_that_is_kept_is_a_loop() -> None:
    with pytest.raises(http3.RedirectLoop):
        drive(http3.Request("POST", START, data=b"x"), Answers(redirect(START, 307)))


def test_an_error_of_a_redirect_shows_no_query_value() -> None:
    answers = Answers(redirect("/2?token=secret"), redirect("/2?token=secret"))
    with pytest.raises(http3.RedirectLoop) as caught:
        drive(http3.Request("GET", START), answers)
    assert "secret" not in str(caught.value)
    assert "token=" in str(caught.value)


def test_history_is_oldest_first_and_each_has_its_own() -> None:
    answers = Answers(redirect("/2", 301), redirect("/3", 302), respond(200))
    response = drive(http3.Request("GET", START), answers)
    assert [earlier.status_code for earlier in response.history] == [301, 302]
    assert response.history[0].history == []
    assert response.history[1].history == [response.history[0]]


def test_every_redirect_is_discarded_whether_or_not_it_can_be_followed() -> None:
    answers = Answers(redirect("/2"), redirect("/start"))
    with pytest.raises(http3.RedirectLoop):
        drive(http3.Request("GET", START), answers)
    assert answers.discarded == answers.responses
    assert answers.read == []


@pytest.mark.parametrize("stream", [False, True])
def test_without_allow_redirects_the_redirect_is_the_response(stream: bool) -> None:
    answers = Answers(redirect("/2"))
    response = drive(http3.Request("GET", START), answers, allow_redirects=False, stream=stream)
    assert response.is_redirect
    assert response.history == []
    assert answers.discarded == []
    assert answers.read == ([] if stream else [response])
