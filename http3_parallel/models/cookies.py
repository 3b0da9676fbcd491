"""
Cookies: what servers set and the user gives, and what of it goes into the next request.

This is the mapping that users see, over a jar of which `jars` takes care, from fields that
`setcookie` reads. The guarantees:

1. *Any number of threads.* Every access holds our lock and the jar's; iteration and copies are
   of a snapshot, and no cookie is changed once it is stored. Another's lock is never awaited
   meanwhile, nor the network, nor the list of public suffixes.
2. *An interrupt leaves nothing locked*, although the library's own code would.
3. *What is sent is one header.* No value can end it, whoever has set it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import typing
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    ValuesView,
)
from http.cookiejar import Cookie, CookieJar

from ..exceptions import CookieConflict, InvalidURL
from . import jars
from .headers import Headers
from .setcookie import TimedCookie, cookie_host, is_address, may_set, parse_set_cookie
from .urls import URL

if typing.TYPE_CHECKING:
    from .requests import BaseRequest
    from .responses import BaseResponse

__all__ = ["CookieTypes", "Cookies"]

# How many cookies a `repr` shows, and how many places the message of a conflict.
_SHOWN = 20

_NO_NAMES: frozenset[str] = frozenset()

_Result = typing.TypeVar("_Result")


class Cookies(MutableMapping[str, str]):
    """
    Cookies by name, each with the domain and path it belongs to.

    * `cookies`: a mapping or pairs of names and values; other `Cookies`, which are copied; or
      a jar of `http.cookiejar`, as `MozillaCookieJar`, which is used as it is and changed.

    A cookie without a domain, as from a mapping, goes to every host. Those that servers set go
    where RFC 6265 says. A name may be there several times, for other domains or paths:
    ``cookies[name]``, `get`, `items` and `values` then raise `CookieConflict`, while iteration
    and ``len()`` count each of them. Expired ones are not seen. `jar` is the jar behind it. Where
    there is one without a domain and one of that name for the host, the one set later is sent.

    May be used from any number of threads. Pickles, and copies, without a lock and a policy,
    and with its cookies in a plain jar.
    """

    __slots__ = ("__weakref__", "_jar", "_locks", "_pid")

    _jar: CookieJar
    _locks: dict[int, threading.RLock]
    _pid: int

    def __init__(self, cookies: CookieTypes | None = None) -> None:
        self._locks = {}
        self._pid = os.getpid()
        if isinstance(cookies, CookieJar):
            self._jar = cookies
        else:
            self._jar = jars.new_jar()
            self.update(cookies)

    @property
    def jar(self) -> CookieJar:
        """The jar itself. Used directly, nothing but its own lock keeps threads apart."""
        return self._jar

    def set(self, name: str, value: str, domain: str = "", path: str = "/") -> None:
        """
        Add a cookie, in place of one with the same name, domain and path.

        It goes to `domain` and all below it, to every host if that is empty, and to URLs whose
        path is `path` or below it. A ValueError is raised for what cannot be sent as a cookie
        or is no domain or path, a TypeError for what is no text.
        """
        self._do(jars.put, [_users_cookie(name, value, domain, path)])

    def get(  # type: ignore[override]  # with domain and path, as http3 has it
        self,
        name: str,
        default: str | None = None,
        domain: str | None = None,
        path: str | None = None,
    ) -> str | None:
        """
        The value of the cookie `name`, or `default`. Give `domain` and `path` where there are
        several, else it is a `CookieConflict`.
        """
        found = self._find(name, domain, path)
        if len(found) > 1:
            raise _conflict(name, found)
        return (found[0].value or "") if found else default

    def delete(self, name: str, domain: str | None = None, path: str | None = None) -> None:
        """
        Remove all cookies `name`, or those of a `domain` and a `path`. Where both are given, a
        KeyError is raised if there is none.
        """
        found = self._find(name, domain, path)
        if not found and domain is not None and path is not None:
            raise KeyError(name)
        self._do(jars.remove, found)

    def clear(self, domain: str | None = None, path: str | None = None) -> None:
        """
        Remove all cookies, or those of a `domain`, or of a `path` there. A KeyError is raised
        if the domain or path has none, a ValueError for a path without a domain.
        """
        if domain is None:
            if path is not None:
                raise ValueError("clear() takes a path only together with its domain")
            self._do(lambda jar: jar.clear())
            return
        found = self._find(None, domain, path)
        if not found:
            raise KeyError(domain if path is None else path)
        self._do(jars.remove, found)

    def update(  # type: ignore[override]  # what the constructor takes, as http3 has it
        self, cookies: CookieTypes | None = None
    ) -> None:
        """Set all of `cookies`, with their domains and paths."""
        if cookies is None:
            return
        if isinstance(cookies, CookieJar):
            cookies = Cookies(cookies)
        if isinstance(cookies, Cookies):
            self._do(jars.put, cookies._snapshot())
            return
        self._do(jars.put, [_users_cookie(name, value, "", "/") for name, value in _pairs(cookies)])

    def extract_cookies(self, response: BaseResponse) -> None:
        """
        Store what `response` sets, as far as it may. A RuntimeError is raised if the response
        does not have the request that it answers.
        """
        if response.request is None:
            raise RuntimeError("whose cookies these are is unknown: the response has no request")
        self._store(response.request.url, response.headers)

    def set_cookie_header(self, request: BaseRequest) -> None:
        """Give `request` the Cookie header for its URL, unless there is nothing to send."""
        header = self._header(request.url)
        if header is not None:
            request._set_cookie_header(header)

    def _header(
        self, url: URL, extra: Cookies | None = None, *, foreign: bool = False
    ) -> str | None:
        """
        The Cookie field for a request to `url` (RFC 6265, section 5.4), None if it has none.
        ``encode("utf-8", "surrogateescape")`` makes the bytes to send of it.

        * `extra`: the request's own. Others of the same names are left out.
        * `foreign`: the user did not choose this host: cookies without a domain stay here.
        """
        found: list[Cookie] = []
        if extra is not None and not extra._is_empty:
            found = extra._do(jars.matching, url, foreign)
        if not self._is_empty:
            names = {cookie.name for cookie in found}
            mine = self._do(jars.matching, url, foreign)
            found += [cookie for cookie in mine if cookie.name not in names] if names else mine
        if len(found) > 1:
            found.sort(key=jars.header_order)
        return "; ".join([text for cookie in found if (text := jars.safe_pair(cookie))]) or None

    def _store(self, url: URL, headers: Headers) -> tuple[frozenset[str], frozenset[str]]:
        """
        Store what a response from `url` with these headers sets, as far as it may. Returns the
        names of what was set, and of what was deleted.
        """
        fields = [value for name, value in headers.raw if name == b"set-cookie"]
        if not fields:
            return _NO_NAMES, _NO_NAMES
        now, host, is_ssl = time.time(), cookie_host(url), url.is_ssl
        # A microsecond apart, since they are sorted by age.
        cookies = [
            parse_set_cookie(field, url, now + place * 1e-6) for place, field in enumerate(fields)
        ]
        allowed = [cookie for cookie in cookies if cookie and may_set(cookie, host, is_ssl)]
        if allowed:
            self._do(jars.receive, allowed, url)
        gone = frozenset([cookie.name for cookie in allowed if jars.is_expired(cookie, now)])
        return frozenset([cookie.name for cookie in allowed]) - gone, gone

    @property
    def _is_empty(self) -> bool:
        """Whether there is surely nothing to send. Costs nothing."""
        return jars.is_surely_empty(self._jar)

    @property
    def _lock(self) -> threading.RLock:
        """This process's: in a forked child, whoever held that of the parent is not there."""
        pid = os.getpid()
        return self._locks.get(pid) or self._locks.setdefault(pid, threading.RLock())

    def _do(self, work: Callable[..., _Result], *args: object) -> _Result:
        """``work(jar, *args)``, while no other thread is at it."""
        jar = self._jar
        with self._lock:
            if self._pid != os.getpid():
                jars.new_lock(jar)
                self._pid = os.getpid()
            try:
                with jars.lock_of(jar):
                    return work(jar, *args)
            except BaseException:
                jars.release(jar)
                raise

    def _snapshot(self) -> list[Cookie]:
        now = time.time()
        return [cookie for cookie in self._do(jars.all_cookies) if not jars.is_expired(cookie, now)]

    def _find(self, name: str | None, domain: str | None, path: str | None) -> list[Cookie]:
        if domain:
            # What is no domain may still be that of a cookie in a jar of the user's.
            with contextlib.suppress(ValueError):
                domain = _normal_domain(domain)
            domain = domain.lower().removeprefix(".")
        return [
            cookie
            for cookie in self._snapshot()
            if (name is None or cookie.name == name)
            and (domain is None or jars.bare_domain(cookie) == domain)
            and (path is None or cookie.path == path)
        ]

    def _pairs(self) -> list[tuple[str, str]]:
        """Names and values at one moment. `CookieConflict` if a name is there twice."""
        cookies = self._snapshot()
        pairs = {cookie.name: cookie.value or "" for cookie in cookies}
        if len(pairs) < len(cookies):
            by_name: dict[str, list[Cookie]] = {}
            for cookie in cookies:
                by_name.setdefault(cookie.name, []).append(cookie)
            raise _conflict(*next(item for item in by_name.items() if len(item[1]) > 1))
        return list(pairs.items())

    def items(self) -> ItemsView[str, str]:
        return _Items(self)

    def values(self) -> ValuesView[str]:
        return _Values(self)

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        self.delete(name)

    def __contains__(self, name: object) -> bool:
        return any(cookie.name == name for cookie in self._snapshot())

    def __iter__(self) -> Iterator[str]:
        return iter([cookie.name for cookie in self._snapshot()])

    def __len__(self) -> int:
        return len(self._snapshot())

    def __bool__(self) -> bool:
        return bool(self._snapshot())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Cookies):
            return _content(self._snapshot()) == _content(other._snapshot())
        if isinstance(other, Mapping):
            cookies = self._snapshot()
            pairs = {cookie.name: cookie.value or "" for cookie in cookies}
            return len(pairs) == len(cookies) and pairs == dict(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __getstate__(self) -> list[Cookie]:
        return self._snapshot()

    def __setstate__(self, state: list[Cookie]) -> None:
        Cookies.__init__(self)
        jars.put(self._jar, state)

    def __repr__(self) -> str:
        cookies = self._snapshot()
        shown = [
            f"{cookie.name!r} for {cookie.domain + cookie.path!r}"
            if cookie.domain
            else f"{cookie.name!r}"
            for cookie in cookies[:_SHOWN]
        ]
        if len(cookies) > _SHOWN:
            shown.append(f"{len(cookies) - _SHOWN} more")
        return f"<Cookies [{', '.join(shown)}]>"


class _Items(ItemsView[str, str]):
    """All of one moment, so that a cookie which goes meanwhile is no KeyError."""

    __slots__ = ()
    _mapping: Cookies

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._mapping._pairs())


class _Values(ValuesView[str]):
    """The same for values alone."""

    __slots__ = ()
    _mapping: Cookies

    def __iter__(self) -> Iterator[str]:
        return iter([value for _, value in self._mapping._pairs()])


# What the user gives.


def _pairs(cookies: typing.Any) -> Iterator[tuple[typing.Any, typing.Any]]:
    """Names and values of what `Cookies` takes."""
    if isinstance(cookies, (str, bytes)):
        raise TypeError("cookies are a mapping or pairs of name and value, not text")
    for item in cookies.items() if isinstance(cookies, Mapping) else cookies:
        if isinstance(item, (str, bytes)) or len(item) != 2:
            raise TypeError("cookies are a mapping or pairs of name and value")
        yield item


def _users_cookie(name: str, value: str, domain: str, path: str) -> TimedCookie:
    for what, text in (("name", name), ("value", value), ("domain", domain), ("path", path)):
        if not isinstance(text, str):
            raise TypeError(f"a cookie's {what} is a str, not {type(text).__name__}")
    if not name or "=" in name or name.strip() != name or not jars.is_safe(name):
        raise ValueError(f"{name!r} is not a cookie's name (RFC 6265, section 4.1.1)")
    if not jars.is_safe(value):
        raise ValueError(
            f"cookie {name!r}: a semicolon, a line break or another control character in the"
            " value, or a lone surrogate (RFC 6265, section 4.1.1)"
        )
    if not path.startswith("/") or not jars.is_safe(path):
        raise ValueError(f"{path!r} is not a cookie's path: it starts with a slash")
    domain = _normal_domain(domain) if domain else ""
    cookie = TimedCookie(
        version=0,
        name=name,
        value=value,
        port=None,
        port_specified=False,
        domain=domain,
        domain_specified=domain.startswith("."),
        domain_initial_dot=domain.startswith("."),
        path=path,
        path_specified=True,
        secure=False,
        expires=None,
        discard=True,
        comment=None,
        comment_url=None,
        rest={},
    )
    cookie.created = cookie.stored = time.time()
    return cookie


def _normal_domain(domain: str) -> str:
    """As jars have it: with a dot in front unless it is an IP address, internationalised."""
    host = domain.removeprefix(".")
    try:
        is_bare_ipv6 = host.count(":") > 1 and not host.startswith("[")
        url = URL(f"http://[{host}]/" if is_bare_ipv6 else f"http://{host}/")
    except InvalidURL as error:
        raise ValueError(f"{domain!r} is not a cookie's domain: {error.message}") from error
    if str(url) != f"http://{url.host}/":
        raise ValueError(f"{domain!r} is not a cookie's domain: that is a host's name alone")
    host = cookie_host(url)
    return host if is_address(host) else "." + host


def _content(cookies: Iterable[Cookie]) -> dict[tuple[str, str, str], str | None]:
    return {(cookie.domain, cookie.path, cookie.name): cookie.value for cookie in cookies}


def _conflict(name: str, cookies: list[Cookie]) -> CookieConflict:
    places = ", ".join([repr(cookie.domain + cookie.path) for cookie in cookies[:_SHOWN]])
    return CookieConflict(
        f"{len(cookies)} cookies are named {name!r}, of {places}: get() takes a domain and a path"
    )


CookieTypes = typing.Union[Cookies, CookieJar, Mapping[str, str], Iterable[tuple[str, str]]]
