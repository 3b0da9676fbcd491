"""
One ``Set-Cookie`` field, by RFC 6265, section 5: read, judged, matched. Nothing is stored here.

What RFC 6265bis (draft-ietf-httpbis-rfc6265bis-20) has added since counts too: limits of size
and age, name prefixes, no control characters. Servers are not trusted: whatever they send gives
a cookie or none, in time that grows with its length, and nothing raises.

Bytes that are not UTF-8 are kept as lone surrogates (PEP 383), so that a value goes back as it
came: ``value.encode("utf-8", "surrogateescape")``.
"""

from __future__ import annotations

import datetime
import math
import os
import re
import threading
import typing
from http.cookiejar import Cookie

import publicsuffixlist

if typing.TYPE_CHECKING:
    from .urls import URL

__all__ = [
    "MAX_AGE",
    "MAX_ATTRIBUTE",
    "MAX_PAIR",
    "ReceivedCookie",
    "TimedCookie",
    "cookie_host",
    "domain_matches",
    "is_address",
    "is_public_suffix",
    "may_set",
    "parse_date",
    "parse_set_cookie",
    "path_matches",
]

#: Bytes of name and value together; a cookie with more is ignored (RFC 6265bis, section 5.6).
MAX_PAIR = 4096

#: Bytes of an attribute's value; one with more is ignored, not the cookie (the same section).
MAX_ATTRIBUTE = 1024

#: Seconds until a cookie expires at the latest: 400 days (RFC 6265bis, section 5.5). It also
#: keeps dates within what the files of `http.cookiejar` can express.
MAX_AGE = 400 * 24 * 3600

# A tab is white space around names and values, and may not be within them: it separates the
# columns of a cookies.txt, which could not be loaded again.
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BLANK = b" \t"
_AGE = re.compile(rb"-?[0-9]+")

# RFC 6265, section 5.1.1.
_DATE_DELIMITER = re.compile(r"[\x09\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+")
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?![0-9])")
_DAY = re.compile(r"([0-9]{1,2})(?![0-9])")
_YEAR = re.compile(r"([0-9]{2,4})(?![0-9])")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

# An IPv6 literal, or what resolvers take for an IPv4 address: no top level domain is a number.
_ADDRESS = re.compile(r"\[|(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?\Z")


class TimedCookie(Cookie):
    """A cookie that knows when it was first set and when it was set last (seconds since 1970)."""

    created: float
    stored: float


class ReceivedCookie(TimedCookie):
    """One that a server has set."""


def parse_set_cookie(field: bytes, url: URL, now: float) -> ReceivedCookie | None:
    """
    The cookie that the value of a ``Set-Cookie`` field in a response from `url` describes, or
    None if it is to be ignored; RFC 6265, sections 5.2 and 5.3. One that is expired deletes
    what is stored in its place. `may_set` tells whether `url` is entitled to it.
    """
    if _CONTROL.search(field):
        return None
    pair, *attributes = field.split(b";")
    raw_name, equals, raw_value = pair.partition(b"=")
    raw_name, raw_value = raw_name.strip(_BLANK), raw_value.strip(_BLANK)
    if not equals or not raw_name or len(raw_name) + len(raw_value) > MAX_PAIR:
        return None
    given = _known_attributes(attributes)
    path = _text(given[b"path"][-1]) if b"path" in given else ""
    if b"\t" in raw_name or b"\t" in raw_value or "\t" in path:
        return None

    host = cookie_host(url)
    try:
        domain = given[b"domain"][-1].decode("ascii") if b"domain" in given else ""
    except UnicodeDecodeError:
        return None
    domain = domain.lower().removeprefix(".")
    host_only = not domain
    if domain == host:
        # The owner of a public suffix may have cookies of its own, its customers do not get them.
        host_only = is_address(host) or is_public_suffix(host)

    expires = _expiry(given, now)
    path_specified = path.startswith("/")
    flags = {}
    if b"httponly" in given:
        # The one spelling is the usual one, the other what `MozillaCookieJar.save` looks for.
        flags = {"HttpOnly": "", "HTTPOnly": ""}
    cookie = ReceivedCookie(
        version=0,
        name=_text(raw_name),
        value=_text(raw_value),
        port=None,
        port_specified=False,
        domain=host if host_only else "." + domain,
        domain_specified=not host_only,
        domain_initial_dot=not host_only,
        path=path if path_specified else _default_path(url.path),
        path_specified=path_specified,
        secure=b"secure" in given,
        expires=expires,
        discard=expires is None,
        comment=None,
        comment_url=None,
        rest=flags,
    )
    cookie.created = cookie.stored = now
    return cookie


def may_set(cookie: Cookie, host: str, is_ssl: bool) -> bool:
    """Whether a response from `host` may set this cookie."""
    if cookie.domain_specified:
        domain = cookie.domain.removeprefix(".")
        if not domain_matches(host, domain) or is_public_suffix(domain):
            return False
    if cookie.secure and not is_ssl:
        return False
    # RFC 6265bis, section 5.4, by which case does not matter here.
    prefix = cookie.name[:9].lower()
    if prefix == "__secure-":
        return cookie.secure
    if prefix.startswith("__host-"):
        at_root = cookie.path_specified and cookie.path == "/"
        return cookie.secure and at_root and not cookie.domain_specified
    return True


def cookie_host(url: URL) -> str:
    """The host by which cookies go: without the zone of a link-local address."""
    host = url.host
    return host.partition("%")[0] + "]" if "%" in host else host


def is_address(host: str) -> bool:
    """Whether it is an IP address and no name."""
    return _ADDRESS.match(host) is not None


def domain_matches(host: str, domain: str) -> bool:
    """Whether `host` is `domain` or below it (RFC 6265, section 5.1.3), both in lower case."""
    return host == domain or (host.endswith("." + domain) and not is_address(host))


def path_matches(request_path: str, cookie_path: str) -> bool:
    """Whether the one is the other or below it (RFC 6265, section 5.1.4)."""
    if not request_path.startswith(cookie_path):
        return False
    length = len(cookie_path)
    return (
        len(request_path) == length
        or cookie_path.endswith("/")
        or request_path.startswith("/", length)
    )


def is_public_suffix(domain: str) -> bool:
    """
    Whether anyone may register names below it: those of registries, as ``co.uk``, and those
    where sites of strangers are hosted, as ``github.io``.
    """
    if "." not in domain:
        return True
    if not _lists:
        _load_list()
    return _lists[0].is_public(domain)


_lists: list[publicsuffixlist.PublicSuffixList] = []
_loading: dict[int, threading.Lock] = {}


def _load_list() -> None:
    """Once per process, since that takes 50 ms and 1 MB, and only for those who need it."""
    # A lock by process: one that another thread holds in `fork()` is held for ever in the child.
    with _loading.setdefault(os.getpid(), threading.Lock()):
        if not _lists:
            _lists.append(publicsuffixlist.PublicSuffixList())


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


_ATTRIBUTES = frozenset({b"domain", b"expires", b"httponly", b"max-age", b"path", b"secure"})


def _known_attributes(attributes: list[bytes]) -> dict[bytes, list[bytes]]:
    """By name in lower case. Of several values the last counts, of times the last that is one."""
    known: dict[bytes, list[bytes]] = {}
    for attribute in attributes:
        name, _, value = attribute.partition(b"=")
        name, value = name.strip(_BLANK).lower(), value.strip(_BLANK)
        if name in _ATTRIBUTES and len(value) <= MAX_ATTRIBUTE:
            known.setdefault(name, []).append(value)
    return known


def _default_path(path: str) -> str:
    """RFC 6265, section 5.1.4: that of the URL up to its last slash."""
    return path[: path.rfind("/")] or "/"


def _expiry(given: dict[bytes, list[bytes]], now: float) -> int | None:
    """In whole seconds since the epoch; None for a cookie that ends with the session."""
    for age in reversed(given.get(b"max-age", ())):
        if _AGE.fullmatch(age):
            seconds = int(age)
            return math.ceil(now + min(seconds, MAX_AGE)) if seconds > 0 else 0
    for text in reversed(given.get(b"expires", ())):
        date = parse_date(text.decode("latin-1"))
        if date is not None:
            return min(date, math.ceil(now + MAX_AGE))
    return None


def parse_date(text: str) -> int | None:
    """
    Seconds since the epoch of a cookie's date, None if it is none. RFC 6265, section 5.1.1:
    time, day, month and year are looked for each by its form, in whatever order they come.
    """
    time = day = month = year = None
    for token in _DATE_DELIMITER.split(text):
        if time is None and (match := _TIME.match(token)):
            time = match.groups()
        elif day is None and (match := _DAY.match(token)):
            day = int(match[1])
        elif month is None and token[:3].lower() in _MONTHS:
            month = _MONTHS.index(token[:3].lower()) + 1
        elif year is None and (match := _YEAR.match(token)):
            year = int(match[1])
    if time is None or day is None or month is None or year is None:
        return None
    if year < 100:
        year += 1900 if year >= 70 else 2000
    if year < 1601:
        return None
    try:
        hour, minute, second = map(int, time)
        date = datetime.datetime(
            year, month, day, hour, minute, second, tzinfo=datetime.timezone.utc
        )
    except ValueError:  # no such day, or no such time of the day
        return None
    return int(date.timestamp())
