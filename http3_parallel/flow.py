"""
The policy of one request: cookies, auth, redirects, retries, as a generator without I/O.

It yields steps, and receives what came of them; failures are thrown in. Whoever drives it needs
to know no policy, and the tests of the policy need no network.

A request is carried from redirect to redirect as its caller made it. Credentials and the store's
cookies are added to copies of it, anew for each URL: what was added for one origin cannot reach
another.
"""

from __future__ import annotations

import dataclasses
import functools
import typing

from .auth import Auth, Share, find_auth
from .config import Retry
from .exceptions import (
    CertificateError,
    ConnectError,
    ConnectTimeout,
    HTTPError,
    IncompleteRead,
    InvalidURL,
    ReadError,
    ReadTimeout,
    RedirectBodyUnavailable,
    RedirectError,
    RedirectLoop,
    TooManyRedirects,
    UnsupportedScheme,
    WriteError,
    WriteTimeout,
)
from .models import URL, Cookies, Request, Response

__all__ = [
    "Begin",
    "Discard",
    "Flow",
    "Next",
    "Policy",
    "Read",
    "Send",
    "Sleep",
    "Step",
    "follow",
    "is_final",
    "is_plain",
    "run",
]


class _Step:
    """Equal to another of its class with the same in it. Not dataclasses, which slow a start."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        names: tuple[str, ...] = type(self).__slots__
        return type(self) is type(other) and all(
            getattr(self, name) == getattr(other, name) for name in names
        )

    def __hash__(self) -> int:
        raise TypeError("a step is not hashable")


class Send(_Step):
    """Make this exchange; the response is sent back when its head is there."""

    __slots__ = ("request",)

    def __init__(self, request: Request) -> None:
        self.request: Request = request


class Read(_Step):
    """Read this body to its end."""

    __slots__ = ("response",)

    def __init__(self, response: Response) -> None:
        self.response: Response = response


class Discard(_Step):
    """This body is of no interest; the connection may be."""

    __slots__ = ("response",)

    def __init__(self, response: Response) -> None:
        self.response: Response = response


class Sleep(_Step):
    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds: float = seconds


class Begin(_Step):
    """Have the auth, which may be code of the user's, make its generator; that is sent back."""

    __slots__ = ("auth", "request")

    def __init__(self, auth: Auth, request: Request) -> None:
        self.auth: Auth = auth
        self.request: Request = request


class Next(_Step):
    """Advance a generator that may run code of the user's; what it yields is sent back."""

    __slots__ = ("steps", "value")

    def __init__(
        self, steps: typing.Generator[Request | Share, typing.Any, None], value: typing.Any
    ) -> None:
        self.steps: typing.Generator[Request | Share, typing.Any, None] = steps
        self.value: typing.Any = value


Step = typing.Union[Send, Read, Discard, Sleep, Begin, Next, Share]
Flow = typing.Generator[Step, typing.Any, Response]


@dataclasses.dataclass(frozen=True)
class Policy:
    """
    * `cookies`: the store, which gets those of every response; None for none.
    * `keep_cookies`: whether the store is that of the client, and not a copy for the request.
    * `merge_cookies`: whether the request takes from the store.
    * `fresh`, `gone`: names of the cookies that responses have set, or deleted, on the way.
    * `foreign`: whether a redirect has led to another origin.
    """

    auth: Auth | None
    retries: Retry
    allow_redirects: bool
    max_redirects: int
    stream: bool
    cookies: Cookies | None = None
    keep_cookies: bool = True
    merge_cookies: bool = True
    fresh: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    foreign: bool = False

    @functools.cached_property
    def adds_nothing(self) -> bool:
        """Whether nothing but cookies of a store can be added to a request."""
        return self.auth is None and not (self.fresh or self.gone)

    def without_merging(self) -> Policy:
        return dataclasses.replace(self, merge_cookies=False)

    def with_own_cookies(self) -> Policy:
        return dataclasses.replace(self, cookies=Cookies(self.cookies))

    def after(self, request: Request, following: Request) -> Policy:
        """For `following`, which a redirect made of `request`."""
        crossed = following.url.origin != request.url.origin
        return dataclasses.replace(
            self,
            auth=None if crossed else find_auth(self.auth, request),
            merge_cookies=True,
            foreign=self.foreign or crossed,
        )

    def after_cookies(self, response: Response, store: Cookies | None) -> Policy:
        """When `store` has got those of `response`."""
        if store is None or response.request is None or "set-cookie" not in response.headers:
            return self
        fresh, gone = store._store(response.request.url, response.headers)
        return dataclasses.replace(
            self, fresh=(self.fresh - gone) | fresh, gone=(self.gone - fresh) | gone
        )


def is_plain(request: Request, policy: Policy) -> bool:
    """Whether the first step of `run` is to send `request` as it is."""
    own, store = request._cookies, policy.cookies
    return (
        policy.adds_nothing
        and request.url._parts[1] is None
        and (own is None or own._is_empty)
        and (store is None or store._is_empty or not policy.merge_cookies)
    )


def is_final(response: Response, policy: Policy) -> bool:
    """Whether nothing follows from the response to the first step, except that it may be read."""
    status = response.status_code
    retries = policy.retries
    return (
        not (retries.total and status in retries.statuses)
        and not (300 <= status < 400 and policy.allow_redirects)
        and (
            response._is_bare or policy.cookies is None or not response.headers._has(b"set-cookie")
        )
    )


def run(request: Request, policy: Policy) -> Flow:
    """One request with everything that follows from it."""
    attempts = _Attempts(policy)
    history: list[Response] = []
    while True:
        response = yield from attempts.make(request)
        response.history = list(history)
        if not (policy.allow_redirects and response.is_redirect):
            return response
        yield Discard(response)  # also if it turns out that it cannot be followed
        following = follow(request, response, history, policy.max_redirects)
        history.append(response)
        attempts.policy = attempts.policy.after(request, following)
        request = following


class _Attempts:
    """A request made until it succeeds, or must not be made again. Counts over redirects too."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._made = {"connect": 0, "read": 0, "status": 0}

    def make(self, request: Request) -> Flow:
        policy = self.policy
        while True:
            try:
                response = yield from self._authenticate(request)
                delay = self._after_status(request, response)
                if delay is None:
                    if not (policy.stream or (policy.allow_redirects and response.is_redirect)):
                        yield Read(response)
                    return response
                yield Discard(response)
            except HTTPError as error:
                kind = _kind_of(error)
                if kind is None or not self._allowed(request, kind):
                    raise
                delay = policy.retries.backoff_delay(self._count(kind))
            yield Sleep(delay)

    def _authenticate(self, request: Request) -> Flow:
        """The response to the last of what the auth sends, its body unread."""
        auth = find_auth(self.policy.auth, request)
        if auth is None:
            return (yield from self._exchange(request))
        steps = yield Begin(auth, request)
        value: typing.Any = None
        response: Response | None = None
        while (following := (yield Next(steps, value))) is not None:
            if response is not None:
                yield Discard(response)
            if isinstance(following, Share):
                response = None
                value = yield following
            else:
                value = response = yield from self._exchange(following)
        if response is None:
            raise TypeError("the steps() of an Auth ended without a request")
        return response

    def _exchange(self, request: Request) -> Flow:
        response = yield Send(self._with_cookies(request))
        self.policy = self.policy.after_cookies(response, self.policy.cookies)
        return response  # type: ignore[no-any-return]  # what a Send sends back

    def _with_cookies(self, request: Request) -> Request:
        """
        With those of the store and its own. Its own win; those that came in a response on the
        way are newer than either.
        """
        policy = self.policy
        store = policy.cookies if policy.merge_cookies else None
        own = request._cookies
        changed = bool(policy.fresh or policy.gone)
        nothing_stored = store is None or store._is_empty
        if nothing_stored and not changed and (own is None or own._is_empty):
            return request
        given = request._cookie_header
        explicit = given is not None
        if explicit:
            # The user's stands in place of what the store had when it was given.
            if store is None or not changed:
                return request
        else:
            if store is None:
                store, own = own or Cookies(), None
            if own is None or not changed:
                header = store._header(request.url, own, foreign=policy.foreign)
                return request if header is None else _with_cookie_header(request, header)
            given = own._header(request.url, foreign=policy.foreign)
        stored = _pairs(store._header(request.url, foreign=policy.foreign))
        newer = policy.gone.union([_name(pair) for pair in stored if _name(pair) in policy.fresh])
        kept = [pair for pair in _pairs(given) if _name(pair) not in newer]
        names = {_name(pair) for pair in kept}
        pairs = [
            pair
            for pair in stored
            if _name(pair) not in names and (not explicit or _name(pair) in policy.fresh)
        ]
        return _with_cookie_header(request, "; ".join(pairs + kept))

    def _after_status(self, request: Request, response: Response) -> float | None:
        """Seconds until the request is made again, because of this response; None if it stands."""
        retries = self.policy.retries
        if response.status_code not in retries.statuses or not self._allowed(request, "status"):
            return None
        delay = retries.retry_after_delay(response.headers.get("retry-after"))
        if delay is not None and delay > retries.retry_after_max:
            return None
        made = self._count("status")
        return retries.backoff_delay(made) if delay is None else delay

    def _allowed(self, request: Request, kind: Kind) -> bool:
        retries = self.policy.retries
        return (
            sum(self._made.values()) < retries.total
            and retries.allows(kind, self._made[kind])
            and request._is_whole
            and (kind == "connect" or request.method in retries.methods)
        )

    def _count(self, kind: Kind) -> int:
        """Counts one more; returns how many there were before."""
        made = sum(self._made.values())
        self._made[kind] += 1
        return made


#: What is meant for one origin only; https to http is another origin too.
_CREDENTIALS = ("authorization", "cookie", "proxy-authorization")

Kind = typing.Literal["connect", "read", "status"]


def _kind_of(error: HTTPError) -> Kind | None:
    if isinstance(error, CertificateError):
        return None  # it will not be better in a second
    if isinstance(error, (ConnectError, ConnectTimeout)):
        return "connect"
    if isinstance(error, (ReadError, ReadTimeout, WriteError, WriteTimeout, IncompleteRead)):
        return "read"
    return None


def _with_cookie_header(request: Request, header: str) -> Request:
    new = request._replace()
    if header:
        new._set_cookie_header(header)
    else:
        del new.headers["cookie"]
    return new


def _pairs(header: str | None) -> list[str]:
    return [pair.strip() for pair in header.split(";")] if header else []


def _name(pair: str) -> str:
    return pair.partition("=")[0].strip()


def follow(
    request: Request, response: Response, history: list[Response], max_redirects: int
) -> Request:
    """
    What a redirect makes of `request` (RFC 9110, section 15.4), which may have been sent with
    credentials and cookies added. Raises a `RedirectError`, or `InvalidURL`.
    """
    sent = request if response.request is None else response.request
    if len(history) >= max_redirects:
        raise TooManyRedirects(
            f"more than {max_redirects} redirects; raise max_redirects if that is right",
            request=sent,
        )
    url = _redirect_url(request, response)
    method = _redirect_method(request.method, response.status_code)
    for earlier in (response, *reversed(history)):
        if "set-cookie" in earlier.headers:
            break  # with another cookie, the same request may be answered otherwise
        was = earlier.request
        if was is not None and (was.method, was.url) == (method, url):
            raise RedirectLoop(
                f"redirected to {url.redacted}, where it has been before", request=sent
            )
    if method == request.method and not request._is_whole:
        raise RedirectBodyUnavailable(
            f"the redirect ({response.status_code}) asks for the body again, and it was an "
            "iterator that is used up; give bytes or a file, or allow_redirects=False",
            request=sent,
        )
    if request._cookies_in_header:
        request = request._replace()
        del request.headers["cookie"]  # it is made anew for each URL
    following = request._replace(method=method, url=url, drop_body=method != request.method)
    if url.origin != request.url.origin:
        for name in _CREDENTIALS:
            del following.headers[name]
    return following


def _redirect_method(method: str, status_code: int) -> str:
    """RFC 9110, sections 15.4.2 to 15.4.4, as user agents do it."""
    if method != "HEAD" and (
        status_code == 303 or status_code == 302 or (status_code == 301 and method == "POST")
    ):
        return "GET"
    return method


def _redirect_url(request: Request, response: Response) -> URL:
    try:
        reference = URL(_location(request, response), allow_relative=True)
        supported = reference.scheme in ("", "http", "https")
        url = request.url.join(reference) if supported else reference
    except InvalidURL as error:
        raise InvalidURL(f"cannot follow the redirect: {error.message}", request=request) from error
    if not supported:
        raise UnsupportedScheme(
            f"redirected to a URL with the scheme {url.scheme!r}; only http and https are followed",
            request=request,
        )
    changes: dict[str, typing.Any] = {}
    if request.url.fragment and "#" not in str(reference):
        changes["fragment"] = request.url.fragment
    if url.username or url.password:
        changes["username"] = changes["password"] = None
    return url.copy_with(**changes) if changes else url


def _location(request: Request, response: Response) -> str:
    """
    The Location, which should be ASCII (RFC 9110, section 10.2.2). Other bytes are UTF-8, or
    are percent-encoded as they are.
    """
    values = {value for name, value in response.headers.raw if name == b"location"}
    if len(values) > 1:
        raise RedirectError("the redirect has several Locations that differ", request=request)
    value = values.pop().strip()
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return "".join([chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in value])
