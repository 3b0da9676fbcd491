"""
A jar of `http.cookiejar`, ours or the user's, kept by RFC 6265.

The library stores the cookies. Which of them go where is decided here: its own rules follow
older specifications, send a host's cookies to its subdomains and those for ``co.uk`` to every
site below it, and look at the whole jar for each request. A policy that the user has given a
jar is asked in addition, and may raise what it likes.

The guarantees:

1. *A server gets what is its own.* Nothing of a foreign domain or for a public suffix is stored
   or sent, and over ``http`` nothing that is secure is stored, sent, overwritten or evicted.
2. *A server can exhaust nothing.* Its cookies are limited in size and number, nothing is left of
   those that went, and no field costs more than one look at each cookie there is. What the
   user has put in is neither counted nor evicted.

What is used of a jar that is not documented as public, all of it only where it is there:
`_cookies`, by domain, path and name (a look-up, where a scan of 200 cookies takes 200 us),
`_cookies_lock` and `_policy`.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import re
import threading
import time
import typing
import urllib.request
from collections.abc import Iterable
from http.cookiejar import Cookie, CookieJar, CookiePolicy, DefaultCookiePolicy, FileCookieJar

from ..exceptions import InvalidURL
from .setcookie import (
    ReceivedCookie,
    TimedCookie,
    cookie_host,
    domain_matches,
    is_address,
    may_set,
    path_matches,
)
from .urls import URL

__all__ = [
    "MAX_IN_ALL",
    "MAX_PER_DOMAIN",
    "all_cookies",
    "bare_domain",
    "header_order",
    "is_expired",
    "is_safe",
    "is_surely_empty",
    "lock_of",
    "matching",
    "new_jar",
    "new_lock",
    "put",
    "receive",
    "release",
    "remove",
    "safe_pair",
]

#: Received cookies of one domain, as many as Chromium keeps; RFC 6265, section 6.1, asks for 50.
MAX_PER_DOMAIN = 180

#: Received cookies in all, which the same section asks for. Above it a tenth goes at once, so
#: that a full jar is not sorted for each response.
MAX_IN_ALL = 3000

# What could end a cookie, the header or the line.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f;]")

_Storage = dict[str, dict[str, dict[str, Cookie]]]


class _Policy(DefaultCookiePolicy):
    """Of our jars, for those who use one with `urllib.request`: our rules beside its own."""

    def set_ok(self, cookie: Cookie, request: urllib.request.Request) -> bool:
        url = _url_of(request)
        if url is None or not super().set_ok(cookie, request):
            return False
        return may_set(cookie, cookie_host(url), url.is_ssl)

    def return_ok(self, cookie: Cookie, request: urllib.request.Request) -> bool:
        url = _url_of(request)
        if url is None or not super().return_ok(cookie, request):
            return False
        # The library appends ".local" to a host without a dot.
        return not _is_host_only(cookie) or cookie.domain.removesuffix(".local") == url.host


_POLICY = _Policy()


def _url_of(request: urllib.request.Request) -> URL | None:
    try:
        return URL(request.get_full_url())
    except InvalidURL:
        return None


def new_jar() -> CookieJar:
    return CookieJar(_POLICY)


# The jar's lock.


def lock_of(jar: CookieJar) -> typing.ContextManager[object]:
    return getattr(jar, "_cookies_lock", None) or contextlib.nullcontext()


def release(jar: CookieJar) -> None:
    """
    Give the jar's lock back, as often as this thread holds it. The library acquires it before
    its ``try``: an interrupt in between would leave it locked for all others, for ever.
    """
    lock = getattr(jar, "_cookies_lock", None)
    if lock is not None:
        with contextlib.suppress(RuntimeError):  # it is not held any more
            _release_all(lock)


def _release_all(lock: threading.RLock) -> None:
    while True:
        lock.release()


def new_lock(jar: CookieJar) -> None:
    """In a forked child, where whoever held it is not."""
    if hasattr(jar, "_cookies_lock"):
        jar._cookies_lock = threading.RLock()


# What is in it.


def _storage(jar: CookieJar) -> _Storage | None:
    """By domain, path and name; None for a jar that keeps its cookies in some way of its own."""
    if type(jar).__iter__ is CookieJar.__iter__:
        return getattr(jar, "_cookies", None)
    return None


def is_surely_empty(jar: CookieJar) -> bool:
    """Whether there is nothing in it. Costs nothing, in return it may miss that."""
    storage = _storage(jar)
    return not storage if storage is not None else next(iter(jar), None) is None


def all_cookies(jar: CookieJar) -> list[Cookie]:
    storage = _storage(jar)
    return list(jar) if storage is None else _in_domains(jar, list(storage))


def _in_domains(jar: CookieJar, domains: Iterable[str]) -> list[Cookie]:
    storage = _storage(jar)
    if storage is None:
        wanted = frozenset(domains)
        return [cookie for cookie in jar if cookie.domain in wanted]
    return [
        cookie
        for domain in domains
        for by_name in list(storage.get(domain, {}).values())
        for cookie in list(by_name.values())
    ]


def _count(jar: CookieJar) -> int:
    storage = _storage(jar)
    if storage is None:
        return len(jar)
    return sum([len(by_name) for by_path in storage.values() for by_name in by_path.values()])


@functools.lru_cache(maxsize=256)
def _domains(host: str) -> tuple[str, ...]:
    """Those under which a jar may have cookies for `host`."""
    names = [host]
    if not is_address(host):
        labels = host.split(".")
        # The last label is empty in a name that ends with the dot of the root.
        names += [".".join(labels[place:]) for place in range(1, len(labels)) if labels[place]]
    return ("", *names, *["." + name for name in names])


def put(jar: CookieJar, cookies: Iterable[Cookie]) -> None:
    for cookie in cookies:
        jar.set_cookie(cookie)


def remove(jar: CookieJar, cookies: Iterable[Cookie]) -> None:
    """
    And with them the dictionaries that the library would leave, empty, by domain and path: a
    server could have it keep any number of them.
    """
    for cookie in cookies:
        domain, path = cookie.domain, cookie.path
        with contextlib.suppress(KeyError):
            jar.clear(domain, path, cookie.name)
            by_path = (_storage(jar) or {})[domain]
            if not by_path[path]:
                jar.clear(domain, path)
            if not by_path:
                jar.clear(domain)


# What goes out.


def matching(jar: CookieJar, url: URL, foreign: bool) -> list[Cookie]:
    """
    The cookies for a request to `url`, those without a domain only if it is not `foreign`.
    Expired ones are removed on the way.
    """
    host, path, is_ssl, now = cookie_host(url), url.path, url.is_ssl, time.time()
    found, expired = [], []
    for cookie in _in_domains(jar, _domains(host)):
        if is_expired(cookie, now):
            expired.append(cookie)
        elif (
            path_matches(path, cookie.path)
            and (is_ssl or not cookie.secure)
            and (cookie.domain == host or not _is_host_only(cookie))
            and not (foreign and not cookie.domain)
            and (not cookie.port or str(url.port) in cookie.port.split(","))
        ):
            found.append(cookie)
    if expired:
        remove(jar, expired)
    policy = _users_policy(jar)
    if found and policy is not None:
        found = _permitted(policy, found, url)
    return _without_rivals(found)


def _without_rivals(cookies: list[Cookie]) -> list[Cookie]:
    """
    Where the user has set a cookie for all hosts, and there is one of that name for this host,
    the one set later is meant. Sent both, servers would take one or the other.
    """
    if len({bool(cookie.domain) for cookie in cookies}) < 2:
        return cookies
    latest: dict[tuple[str, bool], float] = {}
    for cookie in cookies:
        key = cookie.name, bool(cookie.domain)
        latest[key] = max(latest.get(key, 0.0), _stored(cookie))
    return [
        cookie
        for cookie in cookies
        if latest[cookie.name, bool(cookie.domain)]
        >= latest.get((cookie.name, not cookie.domain), 0.0)
    ]


def header_order(cookie: Cookie) -> tuple[int, float]:
    """RFC 6265, section 5.4: longer paths first, then what was there first."""
    return -len(cookie.path), _created(cookie)


def safe_pair(cookie: Cookie) -> str:
    """As it is sent; empty for what cannot be, as a jar may have it from a file."""
    text = cookie.name if cookie.value is None else f"{cookie.name}={cookie.value}"
    return text if is_safe(text) else ""


def is_safe(text: str) -> bool:
    """Whether it can be sent in a cookie and stays one."""
    if _UNSAFE.search(text):
        return False
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


# What comes in.


def receive(jar: CookieJar, cookies: list[ReceivedCookie], url: URL) -> None:
    """
    Store those of a response from `url` which may set them (RFC 6265, section 5.3, from step
    11 on). One that is expired removes what is there in its place.
    """
    request = None if _users_policy(jar) is None else _urllib_request(url)
    stored = {_identity(cookie): cookie for cookie in _in_domains(jar, _domains(cookie_host(url)))}
    secure: dict[str, list[Cookie]] = {}
    if not url.is_ssl:
        for other in all_cookies(jar):
            if other.secure:
                secure.setdefault(other.name, []).append(other)
    for cookie in cookies:
        if any(_overlays(cookie, other) for other in secure.get(cookie.name, ())):
            continue
        if isinstance(jar, FileCookieJar) and not _is_text(cookie):
            continue
        key = _identity(cookie)
        old = stored.get(key)
        if is_expired(cookie, cookie.stored):
            if old is not None:
                remove(jar, [stored.pop(key)])
            continue
        if old is not None:
            cookie.created = _created(old)
            if old.domain != cookie.domain:
                remove(jar, [old])
        if request is None:
            jar.set_cookie(cookie)
        else:
            jar.set_cookie_if_ok(cookie, request)
        stored[key] = cookie
    _evict(jar, {cookie.domain for cookie in cookies})


def _overlays(cookie: Cookie, secure: Cookie) -> bool:
    """Whether one set over ``http`` would pass for a secure one (RFC 6265bis, section 5.7)."""
    ours, theirs = bare_domain(cookie), bare_domain(secure)
    return path_matches(cookie.path, secure.path) and (
        domain_matches(ours, theirs) or domain_matches(theirs, ours)
    )


def _is_text(cookie: Cookie) -> bool:
    """Whether it can be written to a file: else the user's `jar.save()` would fail on it."""
    try:
        f"{cookie.name}{cookie.value}{cookie.path}".encode()
    except UnicodeEncodeError:
        return False
    return True


def _evict(jar: CookieJar, domains: Iterable[str]) -> None:
    """Remove what is too much in each of `domains`, and in all."""
    for domain in domains:
        received = _received(_in_domains(jar, [domain]))
        if len(received) > MAX_PER_DOMAIN:
            remove(jar, _first_to_go(received)[:-MAX_PER_DOMAIN])
    if _count(jar) > MAX_IN_ALL:
        received = _received(all_cookies(jar))
        if len(received) > MAX_IN_ALL:
            remove(jar, _first_to_go(received)[: -(MAX_IN_ALL * 9 // 10)])


def _received(cookies: Iterable[Cookie]) -> list[ReceivedCookie]:
    return [cookie for cookie in cookies if isinstance(cookie, ReceivedCookie)]


def _first_to_go(cookies: Iterable[ReceivedCookie]) -> list[ReceivedCookie]:
    """
    Expired ones, then those that are not secure, so that nobody in the middle of ``http`` can
    push the others out, then the rest; each from the oldest on (RFC 6265bis, section 5.7).
    """
    now = time.time()
    return sorted(cookies, key=lambda each: (not is_expired(each, now), each.secure, each.stored))


# What holds for one cookie.


def is_expired(cookie: Cookie, now: float) -> bool:
    return cookie.expires is not None and cookie.expires <= now


def bare_domain(cookie: Cookie) -> str:
    return cookie.domain.removeprefix(".")


def _is_host_only(cookie: Cookie) -> bool:
    """Whether it stays with its host, and does not go to those below it."""
    return bool(cookie.domain) and not (cookie.domain_specified or cookie.domain[0] == ".")


def _identity(cookie: Cookie) -> tuple[str, bool, str, str]:
    """What a cookie shares with those it replaces. Some have a domain without the dot."""
    return bare_domain(cookie), _is_host_only(cookie), cookie.path, cookie.name


def _created(cookie: Cookie) -> float:
    return cookie.created if isinstance(cookie, TimedCookie) else 0.0


def _stored(cookie: Cookie) -> float:
    return cookie.stored if isinstance(cookie, TimedCookie) else 0.0


# The policy of a user's jar.

_DEFAULTS = {**vars(DefaultCookiePolicy()), "_now": 0}


def _users_policy(jar: CookieJar) -> CookiePolicy | None:
    """None if it is ours, or the library's with nothing set, which has nothing to add."""
    policy: CookiePolicy | None = getattr(jar, "_policy", None)
    if policy is _POLICY:
        return None
    if type(policy) is DefaultCookiePolicy and {**vars(policy), "_now": 0} == _DEFAULTS:
        return None
    return policy


def _permitted(policy: CookiePolicy, cookies: Iterable[Cookie], url: URL) -> list[Cookie]:
    """Those that the policy lets go to `url`."""
    request = _urllib_request(url)
    CookieJar(policy).add_cookie_header(request)  # tells the policy what time it is
    permitted = []
    for cookie in cookies:
        shown = cookie
        if cookie.domain and "." not in bare_domain(cookie):
            # As the library's policies expect it of a host without a dot.
            shown = copy.copy(cookie)
            shown.domain += ".local"
        if (
            policy.domain_return_ok(shown.domain, request)
            and policy.path_return_ok(shown.path, request)
            and policy.return_ok(shown, request)
        ):
            permitted.append(cookie)
    return permitted


def _urllib_request(url: URL) -> urllib.request.Request:
    """As policies know it. Without credentials, which they would take for a part of the host."""
    return urllib.request.Request(f"{url.scheme}://{url.host_header}{url.full_path}")
