from __future__ import annotations

import datetime
import os
import threading
import time

import publicsuffixlist
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from http3_parallel.models import URL, setcookie
from http3_parallel.models.setcookie import (
    MAX_AGE,
    MAX_ATTRIBUTE,
    MAX_PAIR,
    ReceivedCookie,
    cookie_host,
    domain_matches,
    is_address,
    is_public_suffix,
    may_set,
    parse_date,
    parse_set_cookie,
    path_matches,
)
from scripted import PATIENCE

NOW = 1_800_000_000.25
PAGE = URL("https://www.example.com/shop/cart?item=1")


def parse(field: str | bytes, url: URL = PAGE) -> ReceivedCookie | None:
    encoded = field.encode() if isinstance(field, str) else field
    return parse_set_cookie(encoded, url, NOW)


def parsed(field: str | bytes, url: URL = PAGE) -> ReceivedCookie:
    cookie = parse(field, url)
    assert cookie is not None
    return cookie


def accepted(field: str, url: str) -> bool:
    """Whether a response from there may set it."""
    page = URL(url)
    cookie = parse(field, page)
    return cookie is not None and may_set(cookie, cookie_host(page), page.is_ssl)


# Name and value.


@pytest.mark.parametrize(
    ("field", "name", "value"),
    [
        ("a=1", "a", "1"),
        ("a=", "a", ""),
        (" \ta \t=\t 1 \t; Path=/", "a", "1"),
        ("a=b=c==", "a", "b=c=="),
        ('a="quoted, value"', "a", '"quoted, value"'),
        ('a="half', "a", '"half'),
        ('a="one; two"', "a", '"one'),
        ("a=1, b=2", "a", "1, b=2"),
        ("a[b]:c@d/e=(1)", "a[b]:c@d/e", "(1)"),
        ("$Version=1", "$Version", "1"),
        ("a=жук", "a", "жук"),
    ],
)
def test_name_and_value_are_taken_as_they_are(field: str, name: str, value: str) -> None:
    cookie = parsed(field)
    assert (cookie.name, cookie.value) == (name, value)


def test_bytes_that_are_not_utf_8_come_back_as_they_came() -> None:
    value = parsed(b"a=caf\xe9").value
    assert value is not None
    assert value.encode("utf-8", "surrogateescape") == b"caf\xe9"


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b";",
        b"a",
        b"=1",
        b" =1",
        b"; a=1",
        b"a=1\x00",
        b"a=1\r\nX: y",
        b"a=1; Path=/\x7f",
        b"a=1\t2",
        b"a\tb=1",
        b"a=1; Path=/x\ty",
        b"a=1; Domain=b\xc3\xbccher.example",
    ],
)
def test_what_is_no_cookie_is_ignored(field: bytes) -> None:
    assert parse(field) is None


def test_a_pair_may_have_so_many_bytes() -> None:
    assert parse("a=" + "x" * (MAX_PAIR - 1)) is not None
    assert parse("a=" + "x" * MAX_PAIR) is None
    assert parse("a=" + "é" * (MAX_PAIR // 2)) is None


# Attributes.


def test_an_attribute_that_is_too_long_is_ignored() -> None:
    assert parsed("a=1; Path=/" + "x" * (MAX_ATTRIBUTE - 1)).path != "/shop"
    assert parsed("a=1; Path=/" + "x" * MAX_ATTRIBUTE).path == "/shop"


@pytest.mark.parametrize(
    ("attributes", "path"),
    [
        ("", "/shop"),
        ("; Path=/", "/"),
        ("; PATH = /a/b ", "/a/b"),
        ("; Path=/a; Path=/b", "/b"),
        ("; Path=/a; Path", "/shop"),
        ("; Path=", "/shop"),
        ("; Path=relative", "/shop"),
        ('; Path="/"', "/shop"),
    ],
)
def test_the_path_is_the_last_given_or_the_directory_of_the_url(attributes: str, path: str) -> None:
    assert parsed("a=1" + attributes).path == path


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://x", "/"),
        ("http://x/", "/"),
        ("http://x/a", "/"),
        ("http://x/a/", "/a"),
        ("http://x/a/b?c=/d/e", "/a"),
    ],
)
def test_the_default_path(url: str, path: str) -> None:
    assert parsed("a=1", URL(url)).path == path


def test_secure_and_httponly_are_flags_whatever_their_value() -> None:
    cookie = parsed("a=1; sEcUrE=no; HTTPONLY")
    assert cookie.secure
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.has_nonstandard_attr("HTTPOnly")
    cookie = parsed("a=1; SameSite=None; Partitioned; Version=1; Port=80; Comment=x; ;;=")
    assert not cookie.secure
    assert not cookie.has_nonstandard_attr("HttpOnly")
    assert (cookie.version, cookie.port, cookie.comment) == (0, None, None)


@pytest.mark.parametrize(
    ("attributes", "expires"),
    [
        ("", None),
        ("; Max-Age=60", 1_800_000_061),
        ("; max-age = 60 ", 1_800_000_061),
        ("; Max-Age=0", 0),
        ("; Max-Age=-5", 0),
        ("; Max-Age=60; Max-Age=120", 1_800_000_121),
        ("; Max-Age=60; Max-Age=soon", 1_800_000_061),
        ("; Max-Age=soon", None),
        ("; Max-Age=6e1", None),
        ("; Max-Age=+60", None),
        ("; Max-Age=٦٠", None),
        ("; Max-Age", None),
        ("; Max-Age=" + "9" * 1000, 1_800_000_001 + MAX_AGE),
        ("; Max-Age=" + "9" * 2000, None),
        ("; Expires=Fri, 15 Jan 2027 08:01:40 GMT", 1_800_000_100),
        ("; Expires=Fri, 15 Jan 2027 08:01:40 GMT; Max-Age=1", 1_800_000_002),
        ("; Max-Age=1; Expires=Fri, 15 Jan 2027 08:01:40 GMT", 1_800_000_002),
        ("; Max-Age=soon; Expires=Fri, 15 Jan 2027 08:01:40 GMT", 1_800_000_100),
        ("; Expires=Fri, 15 Jan 2027 08:01:40 GMT; Expires=never", 1_800_000_100),
        ("; Expires=Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("; Expires=Fri, 31 Dec 9999 23:59:59 GMT", 1_800_000_001 + MAX_AGE),
        ("; Expires=0", None),
    ],
)
def test_when_it_expires(attributes: str, expires: int | None) -> None:
    cookie = parsed("a=1" + attributes)
    assert cookie.expires == expires
    assert cookie.discard == (expires is None)


MORNING = int(datetime.datetime(2026, 10, 21, 7, 28, 9, tzinfo=datetime.timezone.utc).timestamp())


@pytest.mark.parametrize(
    "text",
    [
        "Wed, 21 Oct 2026 07:28:09 GMT",
        "Wednesday, 21-Oct-26 07:28:09 GMT",
        "Wed Oct 21 07:28:09 2026",
        "Wed, 21-Oct-2026 7:28:9 UTC",
        "07:28:09 2026 October the 21st",
        "21 oct 26 07:28:09",
        "21 OCTOBER 2026,07:28:09+0200",
        '"Wed, 21 Oct 2026 07:28:09 GMT"',
        "Wed,21/Oct/2026(07:28:09)",
        "Wed, 21 Oct 2026 07:28:09GMT 33 Nov 1999 11:11:11",
    ],
)
def test_dates_as_servers_write_them(text: str) -> None:
    assert parse_date(text) == MORNING


@pytest.mark.parametrize(
    ("year", "meant"), [("69", 2069), ("70", 1970), ("99", 1999), ("00", 2000), ("1601", 1601)]
)
def test_years(year: str, meant: int) -> None:
    date = datetime.datetime(meant, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    assert parse_date(f"02 Jan {year} 03:04:05") == int(date.timestamp())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "tomorrow",
        "Wed, 21 Oct 2026",
        "Wed, 21 Oct 2026 07:28",
        "Wed, 21 Oct 2026 24:00:00",
        "Wed, 21 Oct 2026 07:60:00",
        "Wed, 21 Oct 2026 07:28:60",
        "Wed, 30 Feb 2026 07:28:09",
        "Wed, 0 Oct 2026 07:28:09",
        "Wed, 32 Oct 2026 07:28:09",
        "Wed, 21 Okt 2026 07:28:09",
        "Wed, 21 Oct 1600 07:28:09",
        "Wed, 21 Oct 20260 07:28:09",
        "Wed, 21 Oct 2026 107:28:09",
        "Wed, ٢١ Oct 2026 07:28:09",
        "1792567689",
    ],
)
def test_what_is_no_date(text: str) -> None:
    assert parse_date(text) is None


# Domains.


@pytest.mark.parametrize(
    ("field", "url", "domain"),
    [
        ("a=1", "http://www.example.com", "www.example.com"),
        ("a=1; Domain=", "http://www.example.com", "www.example.com"),
        ("a=1; Domain=example.com; Domain", "http://www.example.com", "www.example.com"),
        ("a=1; Domain=www.example.com", "http://www.example.com", ".www.example.com"),
        ("a=1; Domain=.EXAMPLE.com", "http://www.example.com", ".example.com"),
        ("a=1; Domain=x.org; Domain=example.com", "http://www.example.com", ".example.com"),
        ("a=1; Domain=xn--bcher-kva.example", "http://bücher.example", ".xn--bcher-kva.example"),
        ("a=1", "http://localhost:8000", "localhost"),
        ("a=1; Domain=localhost", "http://localhost:8000", "localhost"),
        ("a=1; Domain=.localhost", "http://localhost:8000", "localhost"),
        ("a=1; Domain=127.0.0.1", "http://127.0.0.1", "127.0.0.1"),
        ("a=1; Domain=[::1]", "http://[::1]:80", "[::1]"),
        ("a=1", "http://[fe80::1%25eth0]", "[fe80::1]"),
        ("a=1; Domain=github.io", "http://github.io", "github.io"),
        ("a=1; Domain=me.github.io", "http://me.github.io", ".me.github.io"),
        ("a=1; Domain=example.co.uk", "http://www.example.co.uk", ".example.co.uk"),
        ("a=1; Domain=com", "http://com", "com"),
        ("a=1; Domain=intern.corp", "http://wiki.intern.corp", ".intern.corp"),
        ("a=1; Domain=www.ck", "http://x.www.ck", ".www.ck"),
    ],
)
def test_whose_it_is(field: str, url: str, domain: str) -> None:
    cookie = parsed(field, URL(url))
    assert may_set(cookie, cookie_host(URL(url)), is_ssl=False)
    assert cookie.domain == domain
    assert cookie.domain_specified == domain.startswith(".")


@pytest.mark.parametrize(
    ("domain", "host"),
    [
        ("example.org", "www.example.com"),
        ("sub.www.example.com", "www.example.com"),
        ("ample.com", "www.example.com"),
        ("com", "www.example.com"),
        (".com", "www.example.com"),
        ("..example.com", "www.example.com"),
        ("example.com.", "www.example.com"),
        ("co.uk", "www.example.co.uk"),
        ("uk", "www.example.co.uk"),
        ("github.io", "me.github.io"),
        ("blogspot.com", "me.blogspot.com"),
        ("ck", "www.ck"),
        ("other.ck", "www.other.ck"),
        ("xn--p1ai", "xn--80aswg.xn--p1ai"),
        ("xn--fiqs8s", "www.xn--fiqs8s"),
        ("localhost", "app.localhost"),
        ("local", "printer.local"),
        ("0.0.1", "127.0.0.1"),
        ("1", "127.1"),
        ("0.1", "0x7f.0.1"),
        ("com.", "www.example.com."),
        ("www.example.com:80", "www.example.com"),
        ("*", "www.example.com"),
        ("/", "www.example.com"),
    ],
)
def test_foreign_domains_and_public_suffixes_are_refused(domain: str, host: str) -> None:
    assert not accepted(f"a=1; Domain={domain}", f"https://{host}/")


@pytest.mark.parametrize(
    ("field", "url", "is_accepted"),
    [
        ("a=1; Secure", "https://x.example", True),
        ("a=1; Secure", "http://x.example", False),
        ("__Secure-a=1; Secure", "https://x.example", True),
        ("__Secure-a=1", "https://x.example", False),
        ("__secure-a=1", "https://x.example", False),
        ("__Secure-a=1; Secure; Domain=x.example", "https://x.example", True),
        ("__Host-a=1; Secure; Path=/", "https://x.example", True),
        ("__Host-a=1; Secure; Path=/", "http://x.example", False),
        ("__Host-a=1; Path=/", "https://x.example", False),
        ("__Host-a=1; Secure", "https://x.example", False),
        ("__Host-a=1; Secure; Path=/a", "https://x.example", False),
        ("__Host-a=1; Secure; Path=/; Domain=x.example", "https://x.example", False),
        ("__hOST-a=1; Secure; Path=/; Domain=x.example", "https://x.example", False),
        ("__Hosts=1", "http://x.example", True),
    ],
)
def test_secure_and_the_prefixes_of_names(field: str, url: str, is_accepted: bool) -> None:
    assert accepted(field, url) == is_accepted


@pytest.mark.parametrize(
    ("host", "domain", "matches"),
    [
        ("example.com", "example.com", True),
        ("www.example.com", "example.com", True),
        ("example.com", "www.example.com", False),
        ("notexample.com", "example.com", False),
        ("1.2.3.4", "1.2.3.4", True),
        ("1.2.3.4", "3.4", False),
        ("[::1]", "[::1]", True),
    ],
)
def test_domain_matching(host: str, domain: str, matches: bool) -> None:
    assert domain_matches(host, domain) is matches


@pytest.mark.parametrize(
    ("path", "cookie_path", "matches"),
    [
        ("/", "/", True),
        ("/a", "/", True),
        ("/a", "/a", True),
        ("/a/", "/a", True),
        ("/a/b", "/a", True),
        ("/a/b", "/a/", True),
        ("/a", "/a/", False),
        ("/ab", "/a", False),
        ("/A", "/a", False),
        ("/", "/a", False),
    ],
)
def test_path_matching(path: str, cookie_path: str, matches: bool) -> None:
    assert path_matches(path, cookie_path) is matches


@pytest.mark.parametrize("host", ["1.2.3.4", "1.2.3.4.", "127.1", "2130706433", "0x7f.1", "[::1]"])
def test_addresses(host: str) -> None:
    assert is_address(host)


@pytest.mark.parametrize("host", ["a", "1.com", "1.2.3.x", "0xg.a", "1.2.3.4.in-addr.arpa", ""])
def test_names(host: str) -> None:
    assert not is_address(host)


# The list of public suffixes.


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setcookie, "_lists", [])
    monkeypatch.setattr(setcookie, "_loading", {})


@pytest.mark.usefixtures("unloaded")
def test_without_a_domain_the_list_is_not_loaded() -> None:
    for url in ("https://www.example.com/", "http://localhost/", "http://127.0.0.1/"):
        assert accepted("a=1; Path=/", url)
    assert accepted("a=1; Domain=localhost", "http://localhost/")
    assert not accepted("a=1; Domain=com", "http://example.com/")
    assert not accepted("a=1; Domain=example.org", "http://example.com/")
    assert not setcookie._lists
    assert accepted("a=1; Domain=example.com", "http://www.example.com/")
    assert len(setcookie._lists) == 1


@pytest.mark.usefixtures("unloaded")
def test_the_list_is_loaded_once_however_many_threads_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    many = threading.Barrier(8)

    class Counting(publicsuffixlist.PublicSuffixList):
        def __init__(self) -> None:
            made.append(self)
            time.sleep(0.05)  # in which the others come
            super().__init__(["com", "co.uk"])

    monkeypatch.setattr(publicsuffixlist, "PublicSuffixList", Counting)
    answers = []

    def ask() -> None:
        many.wait(PATIENCE)
        answers.append((is_public_suffix("co.uk"), is_public_suffix("example.com")))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert answers == [(True, False)] * 8
    assert len(made) == 1


@pytest.mark.usefixtures("unloaded")
def test_a_fork_while_it_is_loaded_does_not_lock_the_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    parent = os.getpid()

    class Slow(publicsuffixlist.PublicSuffixList):
        def __init__(self) -> None:
            if os.getpid() == parent:
                begun.set()
                go_on.wait(PATIENCE * 2)
            super().__init__(["com", "co.uk"])

    monkeypatch.setattr(publicsuffixlist, "PublicSuffixList", Slow)
    threads = [threading.Thread(target=is_public_suffix, args=["co.uk"]) for _ in range(2)]
    threads[0].start()
    try:
        assert begun.wait(PATIENCE)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        threads[1].start()
        threads[1].join(PATIENCE)
        assert not threads[1].is_alive()
    finally:
        go_on.set()
        threads[0].join(PATIENCE)


# Whatever a server sends.

HOSTS = st.sampled_from(
    ["http://a.example.co.uk/x/y", "https://localhost/", "https://1.2.3.4/", "http://[::1]/a"]
)
FIELDS = st.binary(max_size=200) | st.builds(
    b"; ".join,
    st.lists(
        st.sampled_from(
            [b"a=1", b"__Host-b=2", b"Secure", b"Path=/", b"Path", b"Domain=.", b"Domain=[", b"="]
        )
        | st.builds(
            b"=".join,
            st.tuples(
                st.sampled_from([b"Domain", b"expires", b"MAX-AGE", b"path", b"a"]),
                st.binary(max_size=30),
            ),
        )
        | st.binary(max_size=20),
        max_size=6,
    ),
)


@settings(deadline=None)  # the first loads the list of suffixes
@given(field=FIELDS, url=HOSTS)
@example(field=b"a=1; Max-Age=" + b"9" * 5000, url="http://a.example.co.uk/")
@example(field=b"a=1" + b"; Expires=x" * 5000, url="http://a.example.co.uk/")
@example(field=b"a=1" + b";" * 50000, url="http://a.example.co.uk/")
@example(field=b"a=1; Domain=" + b"a." * 500 + b"co.uk", url="http://a.example.co.uk/")
def test_nothing_raises_and_nothing_foreign_is_accepted(field: bytes, url: str) -> None:
    page = URL(url)
    cookie = parse(field, page)
    if cookie is None or not may_set(cookie, cookie_host(page), page.is_ssl):
        return
    bare = cookie.domain.removeprefix(".")
    assert page.host == bare or page.host.endswith("." + bare)
    assert cookie.domain_specified == cookie.domain.startswith(".")
    assert not (cookie.domain_specified and is_public_suffix(bare))
    assert page.is_ssl or not cookie.secure
    assert cookie.path.startswith("/")
    pair = f"{cookie.name}={cookie.value}".encode("utf-8", "surrogateescape")
    assert len(pair) <= MAX_PAIR + 1
    assert not any(byte < 0x20 or byte in b";\x7f" for byte in pair)
    assert cookie.expires is None or isinstance(cookie.expires, int)
