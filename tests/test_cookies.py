from __future__ import annotations

import concurrent.futures
import copy
import functools
import gc
import http.cookiejar
import itertools
import os
import pathlib
import pickle
import random
import signal
import sys
import threading
import time
import types
import typing
import urllib.request
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy, LWPCookieJar, MozillaCookieJar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from http3_parallel import CookieConflict
from http3_parallel.models import URL, Cookies, Headers, Request, Response, jars
from http3_parallel.models.jars import MAX_IN_ALL, MAX_PER_DOMAIN
from scripted import PATIENCE

SHOP = "https://shop.example.com/cart/items"


def fields(*values: str | bytes) -> Headers:
    raw = [value.encode() if isinstance(value, str) else value for value in values]
    return Headers._from_raw([(b"set-cookie", value) for value in raw])


def receive(cookies: Cookies, url: str, *values: str | bytes) -> None:
    cookies._store(URL(url), fields(*values))


def received(url: str, *values: str | bytes) -> Cookies:
    cookies = Cookies()
    receive(cookies, url, *values)
    return cookies


def sent(cookies: Cookies, url: str, extra: Cookies | None = None, foreign: bool = False) -> str:
    return cookies._header(URL(url), extra, foreign=foreign) or ""


def make_cookie(
    name: str = "a",
    value: str | None = "1",
    domain: str = "shop.example.com",
    domain_specified: bool = False,
    **others: typing.Any,
) -> Cookie:
    """One as other programs put it into a jar."""
    arguments: dict[str, typing.Any] = {
        "version": 0,
        "port": None,
        "port_specified": False,
        "domain_initial_dot": domain.startswith("."),
        "path": "/",
        "path_specified": True,
        "secure": False,
        "expires": None,
        "discard": True,
        "comment": None,
        "comment_url": None,
        "rest": {},
    }
    return Cookie(
        name=name,
        value=value,
        domain=domain,
        domain_specified=domain_specified,
        **{**arguments, **others},
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> typing.Callable[[float], None]:
    """Lets time pass, by seconds."""
    now = [time.time()]
    monkeypatch.setattr(time, "time", lambda: now[0])

    def let_pass(seconds: float) -> None:
        now[0] += seconds

    return let_pass


# As a mapping.


def test_cookies_are_a_mapping_of_names_to_values() -> None:
    cookies = Cookies()
    cookies["a"] = "1"
    cookies.set("b", "2")
    assert cookies["a"] == cookies.get("a") == "1"
    assert dict(cookies) == {"a": "1", "b": "2"}
    assert (list(cookies), len(cookies), bool(cookies)) == (["a", "b"], 2, True)
    assert (list(cookies.items()), list(cookies.values())) == (
        [("a", "1"), ("b", "2")],
        ["1", "2"],
    )
    assert list(cookies.keys()) == ["a", "b"]
    assert ("a", "1") in cookies.items()
    assert "1" in cookies.values()
    assert "a" in cookies
    assert "c" not in cookies
    assert 1 not in cookies  # type: ignore[comparison-overlap]  # that is the test
    cookies["a"] = "3"
    assert cookies.pop("a") == "3"
    assert cookies.setdefault("b", "9") == "2"
    del cookies["b"]
    del cookies["b"]
    assert not cookies
    assert cookies._is_empty


def test_an_absent_cookie() -> None:
    cookies = Cookies({"a": ""})
    assert cookies["a"] == ""
    with pytest.raises(KeyError):
        cookies["b"]
    assert cookies.get("b") is None
    assert cookies.get("b", "x") == "x"
    assert cookies.get("a", "x", domain="example.com") == "x"
    assert cookies.get("a", "x", path="/other") == "x"


@pytest.mark.parametrize(
    "given_as",
    [
        {"a": "1", "b": "2"},
        [("a", "1"), ("b", "2")],
        iter([["a", "0"], ["b", "2"], ["a", "1"]]),
        Cookies({"a": "1", "b": "2"}),
        types.MappingProxyType({"a": "1", "b": "2"}),
    ],
)
def test_all_forms_make_the_same_cookies(given_as: typing.Any) -> None:
    cookies = Cookies(given_as)
    assert cookies == {"a": "1", "b": "2"}
    updated = Cookies({"a": "0"})
    updated.update(cookies)
    assert updated == cookies


def test_without_anything_there_are_none() -> None:
    for cookies in (Cookies(), Cookies(None), Cookies({}), Cookies(CookieJar())):
        assert not cookies
        assert cookies._is_empty
        cookies.update(None)
        assert len(cookies) == 0


@pytest.mark.parametrize("given_as", ["a=1", b"a=1", ["ab"], [("a", "1", "2")], {"a": 1}, {1: "a"}])
def test_what_is_no_cookies_is_a_type_error(given_as: typing.Any) -> None:
    with pytest.raises(TypeError):
        Cookies(given_as)


def test_copies_are_copies() -> None:
    cookies = received(SHOP, "a=1; Domain=example.com; Path=/", "b=2")
    for copied in (Cookies(cookies), copy.copy(cookies), copy.deepcopy(cookies)):
        assert copied == cookies
        copied["c"] = "3"
        assert copied != cookies
        assert sent(copied, "https://example.com/") == "a=1; c=3"
    assert len(cookies) == 2


def test_equal_are_those_with_the_same_cookies() -> None:
    assert Cookies({"a": "1"}) == Cookies({"a": "1"}) == {"a": "1"}
    assert Cookies({"a": "1"}) != Cookies({"a": "2"})
    assert Cookies({"a": "1"}) != received(SHOP, "a=1")
    assert received(SHOP, "a=1; Path=/x", "a=1; Path=/y") != {"a": "1"}
    assert Cookies() != "a=1"
    with pytest.raises(TypeError):
        hash(Cookies())


def test_a_name_may_be_there_several_times() -> None:
    cookies = Cookies()
    cookies.set("a", "secret", domain="example.com")
    cookies.set("a", "2", domain="example.org", path="/x")
    cookies.set("b", "3")
    assert list(cookies) == ["b", "a", "a"] or sorted(cookies) == ["a", "a", "b"]
    assert len(cookies) == 3
    assert "a" in cookies
    asked: list[typing.Callable[[], object]] = [
        lambda: cookies["a"],
        lambda: cookies.get("a"),
        lambda: cookies.pop("a", None),
        lambda: list(cookies.items()),
        lambda: list(cookies.values()),
        lambda: dict(cookies),
    ]
    for ask in asked:
        with pytest.raises(CookieConflict, match="2 cookies are named 'a'") as caught:
            ask()
        assert "secret" not in str(caught.value)
        assert "'.example.com/', '.example.org/x'" in str(caught.value)
    assert cookies["b"] == "3"
    assert cookies.get("a", domain="example.com") == "secret"
    assert cookies.get("a", domain=".EXAMPLE.org") == "2"
    assert cookies.get("a", path="/x") == "2"
    assert cookies.get("a", domain="") is None


def test_deleting() -> None:
    cookies = received(SHOP, "a=1", "a=2; Path=/x", "a=3; Domain=example.com", "b=4")
    cookies.delete("a", path="/x")
    cookies.delete("a", domain="nowhere.example")
    assert len(cookies) == 3
    cookies.delete("a", domain="example.com", path="/cart")
    assert cookies["a"] == "1"
    with pytest.raises(KeyError):
        cookies.delete("a", domain="example.com", path="/cart")
    cookies.delete("a")
    assert cookies == {"b": "4"} or list(cookies) == ["b"]


def test_clearing() -> None:
    cookies = received(SHOP, "a=1", "b=2; Path=/x", "c=3; Path=/x", "d=4; Domain=example.com")
    cookies["e"] = "5"
    with pytest.raises(ValueError, match="together with its domain"):
        cookies.clear(path="/x")
    cookies.clear("shop.example.com", "/x")
    assert sorted(cookies) == ["a", "d", "e"]
    with pytest.raises(KeyError):
        cookies.clear("shop.example.com", "/x")
    cookies.clear(domain="example.com")
    cookies.clear(domain="")
    assert list(cookies) == ["a"]
    with pytest.raises(KeyError):
        cookies.clear("example.com")
    cookies.clear()
    cookies.clear()
    assert cookies._is_empty


def test_domains_are_found_in_every_spelling() -> None:
    cookies = Cookies()
    for domain in ("bücher.example", "::1", "10.0.0.1", ".EXAMPLE.com", "localhost"):
        cookies.set("a", "1", domain=domain)
        assert cookies.get("a", domain=domain) == "1"
    assert {cookie.domain for cookie in cookies.jar} == {
        ".xn--bcher-kva.example",
        "[::1]",
        "10.0.0.1",
        ".example.com",
        ".localhost",
    }
    cookies.jar.set_cookie(make_cookie(domain="no domain:1"))
    assert cookies.get("a", domain="no domain:1") == "1"


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": ""},
        {"name": "a=b"},
        {"name": "a;b"},
        {"name": " a"},
        {"name": "a\n"},
        {"name": "a\x00"},
        {"name": "\ud800"},
        {"value": "secret;"},
        {"value": "secret\r\nX: y"},
        {"value": "secret\n"},
        {"value": "secret\x00"},
        {"value": "secret\t"},
        {"value": "secret\x7f"},
        {"value": "secret\ud800"},
        {"path": ""},
        {"path": "a"},
        {"path": "/a;"},
        {"path": "/a\n"},
        {"domain": "."},
        {"domain": "a..b"},
        {"domain": "*.example.com"},
        {"domain": "localhost:8000"},
        {"domain": "http://example.com"},
        {"domain": "example.com/path"},
        {"domain": "example.com?q"},
        {"domain": "example.com#f"},
        {"domain": "me@example.com"},
        {"domain": "exa mple.com"},
        {"domain": "1::2::3"},
    ],
)
def test_what_cannot_be_sent_is_a_value_error(arguments: dict[str, str]) -> None:
    cookies = Cookies()
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the messages differ
        cookies.set(**{"name": "a", "value": "secret", **arguments})
    assert "secret" not in str(caught.value)
    assert not cookies


@pytest.mark.parametrize("argument", ["name", "value", "domain", "path"])
def test_what_is_no_text_is_a_type_error(argument: str) -> None:
    arguments: dict[str, typing.Any] = {"name": "a", "value": "1", argument: 1}
    with pytest.raises(TypeError, match=f"a cookie's {argument} is a str, not int"):
        Cookies().set(**arguments)


def test_the_repr_has_names_and_places_but_no_values() -> None:
    cookies = received(SHOP, "a=secret; Domain=example.com; Path=/x", "b=secret")
    cookies["c\N{SNOWMAN}"] = "secret"
    shown = repr(cookies)
    for part in ("'a' for '.example.com/x'", "'b' for 'shop.example.com/cart'", "'c☃'"):
        assert part in shown
    assert "secret" not in shown
    cookies.update({f"n{number}": "secret" for number in range(100)})
    assert repr(cookies).endswith(", 83 more]>")
    assert repr(Cookies()) == "<Cookies []>"


# What is sent where.


def test_a_cookie_without_a_domain_goes_to_every_host() -> None:
    cookies = Cookies({"a": "1"})
    for url in (SHOP, "http://localhost/", "http://127.0.0.1:80/", "http://[::1]/", "http://com./"):
        assert sent(cookies, url) == "a=1"
        assert sent(cookies, url, foreign=True) == ""


def test_a_cookie_with_a_domain_goes_to_it_and_below() -> None:
    cookies = Cookies()
    cookies.set("a", "1", domain="example.com", path="/x")
    for host in ("example.com", "www.example.com", "a.b.example.com:8000"):
        assert sent(cookies, f"http://{host}/x/y") == "a=1"
        assert sent(cookies, f"http://{host}/x", foreign=True) == "a=1"
        assert sent(cookies, f"http://{host}/xy") == ""
    for host in ("com", "notexample.com", "example.com.org", "example.org", "example.com."):
        assert sent(cookies, f"http://{host}/x") == ""


def test_a_cookie_of_a_host_stays_there() -> None:
    cookies = received("http://example.com/", "a=1")
    assert sent(cookies, "http://example.com:8080/") == "a=1"
    assert sent(cookies, "http://www.example.com/") == ""
    assert sent(cookies, "http://com/") == ""


@pytest.mark.parametrize(
    "host", ["localhost", "intranet", "127.0.0.1", "[::1]", "[fe80::1%25eth0]", "example.com."]
)
def test_hosts_of_every_kind_get_their_cookies_back(host: str) -> None:
    cookies = received(f"http://{host}:8000/", "a=1")
    assert sent(cookies, f"http://{host}/") == "a=1"
    assert sent(cookies, "http://other/") == ""
    bare = host.partition("%")[0] + "]" if "%" in host else host
    assert cookies.get("a", domain=bare) == "1"
    assert sent(cookies, f"http://{host}.local/" if host.isalpha() else "http://x.1/") == ""


def test_addresses_have_nothing_below_them() -> None:
    cookies = Cookies()
    cookies.set("a", "1", domain="0.0.1")
    cookies.set("b", "2", domain="127.0.0.1")
    assert sent(cookies, "http://127.0.0.1/") == "b=2"


def test_secure_cookies_go_over_https_only() -> None:
    cookies = received(SHOP, "a=1; Secure; Path=/", "b=2; Path=/")
    assert sent(cookies, SHOP) == "a=1; b=2"
    assert sent(cookies, "http://shop.example.com/") == "b=2"


def test_longer_paths_go_first_then_older_cookies(clock: typing.Callable[[float], None]) -> None:
    cookies = Cookies()
    for field in ("a=1; Path=/", "b=2; Path=/cart/items", "c=3; Path=/", "d=4; Path=/cart"):
        receive(cookies, SHOP, field)
        clock(1)
    cookies.set("e", "5", domain="example.com")
    clock(1)
    receive(cookies, SHOP, "a=6; Path=/")
    assert sent(cookies, SHOP) == "b=2; d=4; a=6; c=3; e=5"


def test_the_same_name_for_several_paths_is_sent_several_times() -> None:
    cookies = received(SHOP, "a=1; Path=/", "a=2; Path=/cart", "a=3; Domain=example.com; Path=/")
    assert sent(cookies, SHOP) == "a=2; a=1; a=3"
    assert sent(cookies, "https://shop.example.com/") == "a=1; a=3"


def test_values_are_sent_as_they_came() -> None:
    cookies = received(SHOP, 'a="1, 2"', "b=x=y=", "c=", "d=жук".encode(), b"e=\xe9")
    header = sent(cookies, SHOP)
    expected = 'a="1, 2"; b=x=y=; c=; d=жук; e='.encode() + b"\xe9"
    assert header.encode("utf-8", "surrogateescape") == expected
    request = Request("GET", SHOP)
    cookies.set_cookie_header(request)
    assert (b"cookie", expected) in request.headers.raw


def test_the_requests_own_cookies_win() -> None:
    cookies = received(SHOP, "a=1", "b=2", "c=3; Path=/")
    cookies["d"] = "4"
    extra = Cookies({"a": "5", "d": "6"})
    extra.set("b", "7", domain="elsewhere.example")
    assert sent(cookies, SHOP, extra) == "b=2; c=3; a=5; d=6"
    assert sent(cookies, SHOP, extra, foreign=True) == "a=1; b=2; c=3"
    assert sent(Cookies(), SHOP, extra) == "a=5; d=6"
    assert sent(cookies, SHOP, Cookies()) == sent(cookies, SHOP)
    assert cookies._header(URL("http://example.org/"), Cookies(), foreign=True) is None


def test_of_a_cookie_for_all_hosts_and_one_of_the_host_the_later_is_sent(
    clock: typing.Callable[[float], None],
) -> None:
    cookies = Cookies({"session": "mine", "other": "1"})
    clock(1)
    receive(cookies, SHOP, "session=theirs; Path=/", "session=below; Path=/cart")
    assert sent(cookies, SHOP) == "session=below; other=1; session=theirs"
    assert sent(cookies, "http://example.org/") == "session=mine; other=1"
    clock(1)
    cookies["session"] = "mine again"
    assert sent(cookies, SHOP) == "other=1; session=mine again"
    clock(1)
    receive(cookies, SHOP, "session=theirs again; Path=/")
    assert sent(cookies, "https://shop.example.com/") == "other=1; session=theirs again"


def test_what_a_jar_has_from_elsewhere_cannot_inject() -> None:
    cookies = Cookies()
    for number, text in enumerate(["x\r\nX: y", "x\ny", "x; admin=1", "x\x00", "x\x1b", "\ud800"]):
        cookies.jar.set_cookie(make_cookie(f"v{number}", text))
        cookies.jar.set_cookie(make_cookie(text, "1"))
    assert cookies._header(URL(SHOP)) is None
    cookies.jar.set_cookie(make_cookie("good", "1"))
    cookies.jar.set_cookie(make_cookie("flag", None))
    assert sent(cookies, SHOP) == "good=1; flag"
    assert cookies["flag"] == ""


def test_a_port_that_a_jar_has_for_a_cookie_counts() -> None:
    cookies = Cookies()
    cookies.jar.set_cookie(make_cookie(port="443,8000", port_specified=True))
    assert sent(cookies, SHOP) == "a=1"
    assert sent(cookies, "http://shop.example.com:8000/") == "a=1"
    assert sent(cookies, "http://shop.example.com/") == ""


# What is stored.


def test_set_cookie_fields_are_taken_one_by_one() -> None:
    response = Response(
        200,
        headers=[
            ("Set-Cookie", "a=1, b=2; Path=/"),
            ("set-cookie", "junk"),
            ("SET-COOKIE", "c=3; Expires=Wed, 21 Oct 2099 07:28:00 GMT"),
            ("Set-Cookie2", "d=4"),
        ],
        request=Request("GET", "http://user:password@example.com:8080/?q=1"),
    )
    cookies = Cookies()
    cookies.extract_cookies(response)
    assert cookies == received("http://example.com/", "a=1, b=2", "c=3")
    request = Request("GET", "http://example.com/")
    cookies.set_cookie_header(request)
    cookies.set_cookie_header(request)
    assert request.headers.getlist("cookie") == ["a=1, b=2; c=3"]


def test_without_cookies_a_request_stays_as_it_is() -> None:
    request = Request("GET", "http://example.com/", headers={"Cookie": "mine=1"})
    before = list(request.headers.raw)
    Cookies().set_cookie_header(request)
    assert request.headers.raw == before


def test_a_response_without_a_request_has_nobodys_cookies() -> None:
    with pytest.raises(RuntimeError, match="the response has no request"):
        Cookies().extract_cookies(Response(200, headers={"set-cookie": "a=1"}))


def test_what_is_not_its_own_is_not_stored() -> None:
    cookies = received(
        "http://me.github.io/",
        "a=1; Domain=example.com",
        "b=2; Domain=github.io",
        "c=3; Secure",
        "__Host-d=4; Path=/",
        "e=5; Domain=you.github.io",
        "f=6; Domain=me.github.io",
    )
    assert list(cookies) == ["f"]


def test_a_cookie_replaces_that_of_its_name_domain_and_path() -> None:
    cookies = received(SHOP, "a=1", "a=2", "a=3; Path=/", "a=4; Domain=example.com")
    receive(cookies, SHOP, "a=5", "a=6; Domain=.example.com")
    values = sorted(str(cookie.value) for cookie in cookies.jar)
    assert values == ["3", "5", "6"]


def test_the_users_cookie_for_a_domain_is_replaced_too() -> None:
    cookies = Cookies()
    cookies.set("a", "1", domain="example.com")
    cookies.jar.set_cookie(make_cookie("b", "2", "example.com", domain_specified=True))
    assert sent(cookies, SHOP) == "b=2; a=1"
    receive(cookies, SHOP, "a=3; Domain=example.com; Path=/", "b=4; Domain=example.com; Path=/")
    assert sorted(sent(cookies, SHOP).split("; ")) == ["a=3", "b=4"]
    assert len(cookies) == 2


def test_an_expired_cookie_removes_what_was_there() -> None:
    cookies = received(SHOP, "a=1", "a=2; Path=/", "b=3; Path=/", "c=4; Domain=example.com")
    receive(
        cookies,
        SHOP,
        "a=; Max-Age=0",
        "b=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        "c=; Domain=example.com; Max-Age=-1",
        "d=; Max-Age=0",
    )
    assert sent(cookies, SHOP) == "a=2"
    receive(cookies, SHOP, "a=; Max-Age=0; Path=/", "e=5", "e=; Max-Age=0")
    assert cookies._is_empty


def test_an_expired_cookie_is_neither_seen_nor_sent(
    clock: typing.Callable[[float], None],
) -> None:
    cookies = received(SHOP, "a=1; Max-Age=60", "b=2; Max-Age=60; Path=/x")
    clock(59)
    assert (len(cookies), sent(cookies, SHOP)) == (2, "a=1")
    clock(2)
    assert not cookies
    assert cookies.get("a") is None
    assert sent(cookies, SHOP) == ""
    assert cookies._is_empty


def test_over_http_nothing_secure_is_overwritten_or_deleted() -> None:
    cookies = received(
        SHOP,
        "a=secure; Secure; Path=/cart",
        "b=secure; Secure; Path=/; Domain=example.com",
        "c=open; Path=/",
    )
    insecure = "http://shop.example.com/"
    receive(
        cookies,
        insecure,
        "a=x; Path=/cart",
        "a=x; Path=/cart/items",
        "a=; Path=/cart; Max-Age=0",
        "a=x; Domain=example.com; Path=/cart/items",
        "b=x; Path=/cart",
        "c=changed; Path=/",
        "a=elsewhere; Path=/other",
    )
    assert sent(cookies, SHOP) == "a=secure; b=secure; c=changed"
    receive(cookies, "http://example.com/", "a=x; Domain=example.com; Path=/cart")
    assert sent(cookies, SHOP) == "a=secure; b=secure; c=changed"
    receive(cookies, "https://shop.example.com/", "a=new; Secure; Path=/cart")
    assert sent(cookies, SHOP).startswith("a=new; ")


def test_nothing_without_a_set_cookie_field(monkeypatch: pytest.MonkeyPatch) -> None:
    cookies = Cookies()
    monkeypatch.setattr(Cookies, "_do", None)
    cookies._store(URL(SHOP), Headers({"Content-Type": "text/plain", "Cookie": "a=1"}))
    assert cookies._header(URL(SHOP)) is None


# Limits.


def test_a_domain_has_so_many_cookies_the_oldest_go_first(
    clock: typing.Callable[[float], None],
) -> None:
    cookies = Cookies()
    cookies.set("users", "1", domain="shop.example.com")
    for number in range(MAX_PER_DOMAIN):
        receive(cookies, SHOP, f"n{number}=1; Path=/")
        clock(1)
    receive(cookies, SHOP, "n0=again; Path=/", "secure=1; Secure; Path=/")
    clock(1)
    receive(cookies, SHOP, *[f"m{number}=1" for number in range(9)])
    names = set(cookies)
    assert len(names) == MAX_PER_DOMAIN + 1
    assert {"users", "n0", "secure", "n11", "m8"} <= names
    assert names.isdisjoint({"n1", "n10"})


def test_over_http_secure_cookies_are_not_pushed_out() -> None:
    cookies = received(SHOP, *[f"s{number}=1; Secure" for number in range(MAX_PER_DOMAIN)])
    receive(cookies, "http://shop.example.com/", *[f"n{number}=1" for number in range(50)])
    assert all(name.startswith("s") for name in cookies)
    assert len(cookies) == MAX_PER_DOMAIN


def test_expired_cookies_go_before_others(clock: typing.Callable[[float], None]) -> None:
    cookies = received(SHOP, "old=1")
    clock(1)
    receive(cookies, SHOP, *[f"e{number}=1; Max-Age=5" for number in range(MAX_PER_DOMAIN - 1)])
    clock(10)
    receive(cookies, SHOP, "new=1")
    assert set(cookies) == {"old", "new"}
    assert len(cookies.jar) == MAX_PER_DOMAIN


@pytest.mark.parametrize("make_jar", [lambda: None, MozillaCookieJar])
def test_there_are_so_many_cookies_in_all(
    make_jar: typing.Callable[[], CookieJar | None], clock: typing.Callable[[float], None]
) -> None:
    cookies = Cookies(make_jar())
    cookies["users"] = "1"
    for number in range(MAX_IN_ALL // 100 + 1):
        receive(cookies, f"https://h{number}.example/", *[f"n{each}=1" for each in range(100)])
        clock(1)
        assert len(cookies) <= MAX_IN_ALL + 1
    left = len(cookies)
    assert MAX_IN_ALL * 0.85 < left < MAX_IN_ALL
    assert "users" in cookies
    assert sent(cookies, "https://h0.example/") == "users=1"
    receive(cookies, "https://new.example/", "a=1")
    assert len(cookies) == left + 1


@pytest.mark.parametrize("make_jar", [lambda: None, CookieJar])
def test_nothing_is_left_of_what_went(
    make_jar: typing.Callable[[], CookieJar | None], clock: typing.Callable[[float], None]
) -> None:
    cookies = Cookies(make_jar())
    for number in range(5):
        receive(cookies, SHOP, f"a=1; Path=/{number}", f"a=; Path=/{number}; Max-Age=0")
        receive(cookies, SHOP, f"b=1; Path=/cart/items/{number}; Max-Age=5")
        receive(cookies, SHOP, f"c=1; Max-Age=5; Path=/cart/items/x/{number}")
        clock(10)
        sent(cookies, f"{SHOP}/{number}")
        receive(cookies, SHOP, f"c=1; Max-Age=0; Path=/cart/items/x/{number}")
        cookies.set("d", "1", path=f"/{number}")
        cookies.delete("d")
    assert cookies._is_empty


def test_what_the_user_has_put_in_is_not_counted() -> None:
    cookies = Cookies()
    for number in range(MAX_PER_DOMAIN + 20):
        cookies.set(f"n{number}", "1", domain="shop.example.com")
    receive(cookies, SHOP, "a=1")
    assert len(cookies) == MAX_PER_DOMAIN + 21


# Jars of the user's.


def test_a_jar_is_used_as_it_is() -> None:
    jar = CookieJar()
    jar.set_cookie(make_cookie("a", "1", domain=".example.com", domain_specified=True))
    cookies = Cookies(jar)
    assert cookies.jar is jar
    assert cookies["a"] == "1"
    receive(cookies, SHOP, "b=2")
    cookies["c"] = "3"
    assert sorted(cookie.name for cookie in jar) == ["a", "b", "c"]
    jar.clear()
    assert cookies._is_empty
    jar.set_cookie(make_cookie("d", "4"))
    assert sent(cookies, SHOP) == "d=4"
    copied = Cookies(cookies)
    assert copied.jar is not jar
    assert copied == cookies
    other = Cookies()
    other.update(jar)
    assert other == cookies


@pytest.mark.parametrize("kind", [MozillaCookieJar, LWPCookieJar])
def test_cookies_survive_a_file(
    kind: type[MozillaCookieJar] | type[LWPCookieJar], tmp_path: pathlib.Path
) -> None:
    path = str(tmp_path / "cookies.txt")
    jar = kind(path)
    cookies = Cookies(jar)
    receive(
        cookies,
        SHOP,
        "host=1; Max-Age=999999999999; HttpOnly; Path=/",
        "domain=2; Domain=example.com; Max-Age=99; Secure; Path=/",
        b"odd=\xe9; Max-Age=99; Path=/",
        b"tab=1\t2; Max-Age=99; Path=/",
        "session=3; Path=/",
        'quoted="4 жук"; Max-Age=99; Path=/',
    )
    jar.save(ignore_discard=True)
    again = kind(path)
    again.load(ignore_discard=True)
    loaded = Cookies(again)
    assert "odd" not in cookies
    assert sorted(sent(loaded, SHOP).split("; ")) == sorted(sent(cookies, SHOP).split("; "))
    assert sent(loaded, "https://www.example.com/") == "domain=2"
    assert sent(loaded, "http://shop.example.com/").count("domain") == 0
    assert loaded.get("host", domain="shop.example.com") == "1"


class Log(CookieJar):
    """A jar with a storage of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Cookie] = []

    def set_cookie(self, cookie: Cookie) -> None:
        self.log = [old for old in self.log if self.key(old) != self.key(cookie)] + [cookie]

    def clear(
        self, domain: str | None = None, path: str | None = None, name: str | None = None
    ) -> None:
        wanted = (domain, path, name)
        left = [
            cookie
            for cookie in self.log
            if any(w not in (None, k) for w, k in zip(wanted, self.key(cookie), strict=True))
        ]
        if domain is not None and len(left) == len(self.log):
            raise KeyError(domain)
        self.log = left

    def __iter__(self) -> typing.Iterator[Cookie]:
        return iter(self.log)

    def __len__(self) -> int:
        return len(self.log)

    @staticmethod
    def key(cookie: Cookie) -> tuple[str, str, str]:
        return cookie.domain, cookie.path, cookie.name


def test_a_jar_may_have_a_storage_of_its_own() -> None:
    jar = Log()
    cookies = Cookies(jar)
    assert cookies._is_empty
    receive(cookies, SHOP, "a=1; Path=/", "b=2; Domain=example.com; Path=/", "c=3; Path=/cart")
    receive(cookies, SHOP, "a=4; Path=/", "c=; Max-Age=0; Path=/cart")
    assert not cookies._is_empty
    assert [cookie.value for cookie in jar.log] == ["2", "4"]
    assert sorted(sent(cookies, SHOP).split("; ")) == ["a=4", "b=2"]
    assert sent(cookies, "https://www.example.com/") == "b=2"
    receive(cookies, SHOP, *[f"n{number}=1" for number in range(MAX_PER_DOMAIN)])
    assert len(jar.log) == MAX_PER_DOMAIN + 1
    cookies.delete("b")
    with pytest.raises(KeyError):
        cookies.clear("nowhere.example")
    cookies.clear()
    assert jar.log == []


def test_a_policy_with_nothing_set_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "_permitted", None)
    monkeypatch.setattr(CookieJar, "set_cookie_if_ok", None)
    for jar in (CookieJar(), CookieJar(DefaultCookiePolicy())):
        cookies = Cookies(jar)
        receive(cookies, "http://localhost/", "a=1")
        cookies.set("b", "2", domain="localhost")
        assert sorted(sent(cookies, "http://localhost/").split("; ")) == ["a=1", "b=2"]
        jar.add_cookie_header(urllib.request.Request("http://localhost/"))  # sets its clock
        assert "a=1" in sent(cookies, "http://localhost/")


def test_a_policy_knows_the_time(clock: typing.Callable[[float], None]) -> None:
    cookies = Cookies(CookieJar(DefaultCookiePolicy(blocked_domains=["ads.example"])))
    cookies["a"] = "1"
    cookies.jar.set_cookie(make_cookie("b", expires=int(time.time()) + 60))
    assert sorted(sent(cookies, SHOP).split("; ")) == ["a=1", "b=1"]


def test_a_policy_of_the_users_is_asked_what_to_store_and_send() -> None:
    policy = DefaultCookiePolicy(blocked_domains=["ads.example", ".ads.example", ".x.example"])
    for jar in (CookieJar(policy), MozillaCookieJar(policy=policy)):
        cookies = Cookies(jar)
        for host in ("ads.example", "track.x.example", "shop.example", "localhost", "[::1]"):
            receive(cookies, f"http://{host}/", "a=1")
            cookies.set("b", "2", domain=host)
        cookies["c"] = "3"
        assert len(cookies) == 3 + 5 + 1
        for host in ("ads.example", "track.x.example"):
            assert sent(cookies, f"http://{host}/") == "c=3"
        for host in ("shop.example", "localhost", "[::1]"):
            pairs = sorted(sent(cookies, f"http://me:pw@{host}:80/?q").split("; "))
            assert pairs[-1] == "c=3"
            assert pairs[0] in ("a=1", "b=2")
            assert "b=2" in pairs


def test_our_own_jar_takes_another_policy() -> None:
    class Nothing(http.cookiejar.CookiePolicy):
        netscape = True
        rfc2965 = hide_cookie2 = False

        def set_ok(self, cookie: Cookie, request: urllib.request.Request) -> bool:
            return False

        return_ok = set_ok

        def domain_return_ok(self, domain: str, request: urllib.request.Request) -> bool:
            return True

    cookies = Cookies({"a": "1"})
    cookies.jar.set_policy(Nothing())
    receive(cookies, SHOP, "b=2")
    assert list(cookies) == ["a"]
    assert sent(cookies, SHOP) == ""


def test_what_a_policy_raises_comes_out_and_leaves_nothing_locked() -> None:
    class Broken(DefaultCookiePolicy):
        def set_ok(self, cookie: Cookie, request: urllib.request.Request) -> bool:
            raise ZeroDivisionError

        return_ok = set_ok

    cookies = Cookies(CookieJar(Broken()))
    cookies["a"] = "1"
    with pytest.raises(ZeroDivisionError):
        receive(cookies, SHOP, "b=2")
    with pytest.raises(ZeroDivisionError):
        sent(cookies, SHOP)
    assert in_another_thread(lambda: cookies["a"]) == "1"


def test_our_jar_keeps_to_its_rules_with_urllib() -> None:
    cookies = Cookies()
    jar = cookies.jar
    for domain in ("www.example.co.uk", "localhost"):
        request = urllib.request.Request(f"http://{domain}/")
        for each in ("co.uk", "example.co.uk", domain):
            jar.set_cookie_if_ok(
                make_cookie(each, domain="." + each, domain_specified=True), request
            )
        jar.set_cookie_if_ok(make_cookie("host", domain=domain), request)
        jar.set_cookie_if_ok(make_cookie("secure", domain=domain, secure=True), request)
    names = {cookie.name for cookie in jar if cookie.domain.endswith("uk")}
    assert names == {"example.co.uk", "www.example.co.uk", "host"}
    request = urllib.request.Request("http://www.example.co.uk/")
    jar.add_cookie_header(request)
    header = request.get_header("Cookie") or ""
    assert sorted(header.split("; ")) == ["example.co.uk=1", "host=1", "www.example.co.uk=1"]
    request = urllib.request.Request("http://below.www.example.co.uk/")
    jar.add_cookie_header(request)
    assert "host" not in str(request.get_header("Cookie"))
    odd = urllib.request.Request("http://exa$mple/")
    jar.set_cookie_if_ok(make_cookie("odd", domain="exa$mple"), odd)
    cookies["everywhere"] = "1"
    jar.add_cookie_header(odd)
    assert "odd" not in cookies
    assert not odd.has_header("Cookie")


# Threads, interrupts, forks, pickles.

_Result = typing.TypeVar("_Result")


def in_another_thread(work: typing.Callable[[], _Result]) -> _Result:
    results: list[_Result] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "something is locked"
    return results[0]


class LogWithoutLock(Log):
    def __init__(self) -> None:
        super().__init__()
        del self._cookies_lock  # type: ignore[attr-defined]  # it is private


@pytest.mark.usefixtures("switch_interval")
@pytest.mark.parametrize("kind", [CookieJar, LogWithoutLock])
def test_what_a_thread_has_set_is_there(kind: type[CookieJar]) -> None:
    jar = kind()
    cookies = Cookies(jar)
    # Two may share a jar, unless it has no lock.
    other = Cookies(jar) if kind is CookieJar else cookies
    problems: list[object] = []
    start = threading.Barrier(4)

    def work(cookies: Cookies, name: str) -> None:
        start.wait(PATIENCE)
        try:
            for turn in range(300):
                receive(cookies, SHOP, f"{name}={turn}; Path=/{name}")
                if cookies.get(name) != str(turn):
                    problems.append((name, turn))
                cookies.delete(name)
        except BaseException as error:
            problems.append(error)

    threads = [
        threading.Thread(target=work, args=[each, f"{name}{number}"])
        for number in range(2)
        for name, each in (("a", cookies), ("b", other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 3)
    assert problems == []
    assert list(cookies) == []


@pytest.mark.usefixtures("switch_interval")
@pytest.mark.parametrize("make_jar", [lambda: None, MozillaCookieJar])
def test_many_threads(make_jar: typing.Callable[[], CookieJar | None]) -> None:
    jar = make_jar()
    # Two that share a jar have two locks, and that of the jar.
    shared = [Cookies(jar), Cookies(jar)] if jar is not None else [Cookies()] * 2
    errors: list[BaseException] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        cookies, seed = shared[number % 2], random.Random(number)
        try:
            start.wait(PATIENCE)
            for turn in range(40):
                url = f"https://h{seed.randrange(3)}.example.com/x/y"
                name = f"n{seed.randrange(5)}"
                receive(
                    cookies,
                    url,
                    f"{name}=1; Path=/{seed.randrange(3)}",
                    f"{name}=2; Domain=example.com",
                    f"{name}=; Path=/; Max-Age=0",
                    f"mine{number}={turn}",
                )
                assert f"mine{number}={turn}" in sent(cookies, url, Cookies({"extra": "1"}))
                cookies.set(name, "3", domain="example.com", path=f"/{seed.randrange(3)}")
                for _ in range(2):
                    list(cookies), len(cookies), repr(cookies), Cookies(cookies), name in cookies
                try:
                    list(cookies.items())
                    cookies.get(name)
                except CookieConflict:
                    pass
                cookies.delete(name)
                if turn % 10 == 9:
                    pickle.loads(pickle.dumps(cookies))
                    cookies.update(Cookies({f"u{number}": "1"}))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 3)
    assert errors == []
    assert {f"u{number}" for number in range(8)} <= set(shared[0])
    for cookies in shared:
        cookies.clear()
        assert in_another_thread(functools.partial(list, cookies)) == []


class InterruptedLock:
    """Acquires, and then is interrupted before its caller gets to its ``try``."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.is_armed = False

    def acquire(self) -> bool:
        acquired = self.lock.acquire()
        if self.is_armed:
            self.is_armed = False
            raise KeyboardInterrupt
        return acquired

    def release(self) -> None:
        self.lock.release()

    def __enter__(self) -> bool:
        return self.lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self.lock.release()


def test_an_interrupt_in_the_library_leaves_its_lock_free() -> None:
    cookies = Cookies()
    cookies.jar._cookies_lock = lock = InterruptedLock()  # type: ignore[attr-defined]  # private
    uses: list[typing.Callable[[], None]] = [
        lambda: cookies.set("a", "1"),
        lambda: receive(cookies, SHOP, "a=1"),
    ]
    for use in uses:
        lock.is_armed = True
        with pytest.raises(KeyboardInterrupt):
            use()
        assert not lock.is_armed
        assert in_another_thread(lambda: sent(cookies, SHOP)) == ""
    cookies["a"] = "1"
    assert in_another_thread(lambda: sent(cookies, SHOP)) == "a=1"


class Interrupt:
    """A profiling function: called where signal handlers run, it strikes at the n-th place."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.struck = False

    def __call__(self, frame: types.FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_return") and frame.f_code.co_filename != __file__:
            self.left -= 1
            if self.left < 0:
                sys.setprofile(None)
                self.struck = True
                raise KeyboardInterrupt


@pytest.fixture
def no_finalizers() -> typing.Iterator[None]:
    """None run in between, in which an interrupt would be swallowed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.slow
@pytest.mark.usefixtures("no_finalizers")
@pytest.mark.parametrize("make_jar", [lambda: None, MozillaCookieJar])
def test_interrupted_at_every_instant(make_jar: typing.Callable[[], CookieJar | None]) -> None:
    for number in itertools.count():
        cookies = Cookies(make_jar())
        receive(cookies, SHOP, "a=1; Path=/", "b=2; Domain=example.com; Path=/")
        cookies.jar.set_cookie(make_cookie("expired", expires=1))
        strike = Interrupt(number)
        try:
            sys.setprofile(strike)
            receive(cookies, SHOP, "a=3; Path=/", "b=; Domain=example.com; Path=/; Max-Age=0")
            cookies.set("c", "4")
            sent(cookies, SHOP, Cookies({"d": "5"}))
            cookies.delete("c")
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        if not strike.struck:
            assert number > 100
            return
        header = in_another_thread(functools.partial(sent, cookies, SHOP))
        assert set(header.split("; ")) <= {"a=1", "a=3", "b=2", "c=4"}
        assert header.count("a=") == 1
        in_another_thread(functools.partial(receive, cookies, SHOP, "a=9; Path=/"))
        assert cookies.get("a", path="/") == "9"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
# Python 3.12 warns of any fork in a process with threads. That is what is tested.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_after_a_fork_nothing_is_locked_by_those_who_stayed_behind() -> None:
    for jar in (None, MozillaCookieJar()):
        cookies = Cookies(jar)
        receive(cookies, SHOP, "a=1")
        held, done = threading.Event(), threading.Event()

        def hold(cookies: Cookies = cookies) -> None:
            with cookies._lock, jars.lock_of(cookies.jar):
                held.set()  # noqa: B023  # the thread ends within the turn
                done.wait()  # noqa: B023

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        assert held.wait(PATIENCE)
        child = os.fork()
        if child == 0:
            signal.alarm(int(PATIENCE))  # rather than to hang
            code = 1
            try:
                # Several at once: the first one must not be alone in what it makes anew.
                with concurrent.futures.ThreadPoolExecutor(8) as executor:
                    headers = set(executor.map(sent, [cookies] * 64, [SHOP] * 64))
                cookies["b"] = "2"
                code = 0 if headers == {"a=1"} and cookies["b"] == "2" else 2
            finally:
                os._exit(code)
        done.set()
        thread.join(PATIENCE)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("make_jar", [lambda: None, LWPCookieJar])
def test_cookies_pickle(make_jar: typing.Callable[[], CookieJar | None]) -> None:
    cookies = Cookies(make_jar())
    assert pickle.loads(pickle.dumps(cookies)) == cookies
    receive(cookies, SHOP, "a=1; Secure", "b=2; Domain=example.com; Max-Age=60", b"c=\xe9")
    cookies["d"] = "4"
    again = pickle.loads(pickle.dumps(cookies))
    assert again == cookies
    assert type(again.jar) is CookieJar
    assert sent(again, SHOP) == sent(cookies, SHOP)
    receive(again, SHOP, "a=5; Secure")
    assert again["a"] == "5"
    assert cookies["a"] == "1"


# Whatever comes.

ANY_FIELD = st.binary(max_size=60) | st.builds(
    lambda name, value, attributes: b"; ".join([name + b"=" + value, *attributes]),
    st.sampled_from([b"a", b"b", b"__Host-c"]),
    st.binary(max_size=8),
    st.lists(
        st.sampled_from(
            [
                b"Path=/",
                b"Path=/x/y",
                b"Domain=example.com",
                b"Domain=a.example.com",
                b"Domain=com",
                b"Secure",
                b"Max-Age=0",
                b"Max-Age=1000",
                b"Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            ]
        ),
        max_size=4,
    ),
)
ANY_URL = st.sampled_from(
    [
        f"{scheme}://{host}{path}"
        for scheme in ("http", "https")
        for host in ("a.example.com", "example.com", "localhost", "127.0.0.1")
        for path in ("/", "/x/y/z")
    ]
)


@settings(deadline=None)
@given(responses=st.lists(st.tuples(ANY_URL, st.lists(ANY_FIELD, max_size=5)), max_size=8))
def test_whatever_servers_send_each_gets_back_its_own(
    responses: list[tuple[str, list[bytes]]],
) -> None:
    cookies, wrapped = Cookies(), Cookies(CookieJar(DefaultCookiePolicy(blocked_domains=["x.y"])))
    for url, values in responses:
        receive(cookies, url, *values)
        receive(wrapped, url, *values)
    for cookie in cookies.jar:
        assert cookie.domain in (
            "a.example.com",
            "example.com",
            ".a.example.com",
            ".example.com",
            "localhost",
            "127.0.0.1",
        )
    for url in ("http://example.org/x/y/z", "https://com/x/y/z", "https://x.localhost/x/y/z"):
        assert cookies._header(URL(url)) is None
    for url, _ in responses:
        header = cookies._header(URL(url)) or ""
        encoded = header.encode("utf-8", "surrogateescape")
        assert not any(byte < 0x20 or byte == 0x7F for byte in encoded)
        allowed = [cookie for cookie in cookies.jar if URL(url).is_ssl or not cookie.secure]
        due = [
            cookie
            for cookie in allowed
            if cookie.domain.removeprefix(".") == URL(url).host and cookie.path == "/"
        ]
        pairs = set(header.split("; ")) if header else set()
        assert {f"{cookie.name}={cookie.value}" for cookie in due} <= pairs
        assert {f"{cookie.name}={cookie.value}" for cookie in allowed} >= pairs
        assert len(wrapped._header(URL(url)) or "") <= len(header)
    assert pickle.loads(pickle.dumps(cookies)) == cookies
    repr(cookies)
