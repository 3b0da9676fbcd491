"""
The policy of one request: auth, redirects, retries, as a generator without I/O.

It yields steps, and receives what came of them; failures are thrown in. Whoever drives it needs
to know no policy, and the tests of the policy need no network.
"""

from __future__ import annotations

import dataclasses
import typing

from .auth import Auth, find_auth
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
from .models import URL, Request, Response

__all__ = ["Discard", "Flow", "Next", "Policy", "Read", "Send", "Sleep", "Step", "follow", "run"]


@dataclasses.dataclass(frozen=True)
class Send:
    """Make this exchange; the response is sent back when its head is there."""

    request: Request


@dataclasses.dataclass(frozen=True)
class Read:
    """Read this body to its end."""

    response: Response


@dataclasses.dataclass(frozen=True)
class Discard:
    """This body is of no interest; the connection may be."""

    response: Response


@dataclasses.dataclass(frozen=True)
class Sleep:
    seconds: float


@dataclasses.dataclass(frozen=True)
class Next:
    """Advance a generator that may run code of the user's; what it yields is sent back."""

    steps: typing.Generator[Request, Response, None]
    response: Response | None


Step = typing.Union[Send, Read, Discard, Sleep, Next]
Flow = typing.Generator[Step, typing.Any, Response]


@dataclasses.dataclass(frozen=True)
class Policy:
    auth: Auth | None
    retries: Retry
    allow_redirects: bool
    max_redirects: int
    stream: bool


def run(request: Request, policy: Policy) -> Flow:
    """One request with everything that follows from it."""
    attempts = _Attempts(policy)
    auth = find_auth(policy.auth, request)
    if auth is None:
        response = yield from attempts.make(request)
    else:
        response = yield from _authenticated(request, auth, attempts)
    history: list[Response] = []
    while policy.allow_redirects and response.is_redirect:
        yield Discard(response)  # also if it turns out that it cannot be followed
        request = follow(response, history, policy.max_redirects)
        history.append(response)
        response = yield from attempts.make(request)
        response.history = list(history)
    return response


def _authenticated(request: Request, auth: Auth, attempts: _Attempts) -> Flow:
    steps = auth.steps(request)
    response: Response | None = None
    while True:
        following = yield Next(steps, response)
        if following is None:
            assert response is not None
            return response
        if response is not None:
            yield Discard(response)
        response = yield from attempts.make(following)


class _Attempts:
    """A request made until it succeeds, or must not be made again. Counts over redirects too."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._made = {"connect": 0, "read": 0, "status": 0}

    def make(self, request: Request) -> Flow:
        policy = self._policy
        while True:
            try:
                response = yield Send(request)
                delay = self._after_status(request, response)
                if delay is None:
                    if not (policy.stream or (policy.allow_redirects and response.is_redirect)):
                        yield Read(response)
                    return response  # type: ignore[no-any-return]  # what a Send sends back
                yield Discard(response)
            except HTTPError as error:
                kind = _kind_of(error)
                if kind is None or not self._allowed(request, kind):
                    raise
                delay = policy.retries.backoff_delay(self._count(kind))
            yield Sleep(delay)

    def _after_status(self, request: Request, response: Response) -> float | None:
        """Seconds until the request is made again, because of this response; None if it stands."""
        retries = self._policy.retries
        if response.status_code not in retries.statuses or not self._allowed(request, "status"):
            return None
        delay = retries.retry_after_delay(response.headers.get("retry-after"))
        if delay is not None and delay > retries.retry_after_max:
            return None
        made = self._count("status")
        return retries.backoff_delay(made) if delay is None else delay

    def _allowed(self, request: Request, kind: Kind) -> bool:
        retries = self._policy.retries
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


def follow(response: Response, history: list[Response], max_redirects: int) -> Request:
    """
    The request that a redirect asks for (RFC 9110, section 15.4). Raises a `RedirectError`, or
    `InvalidURL`.
    """
    request = response.request
    assert request is not None
    if len(history) >= max_redirects:
        raise TooManyRedirects(
            f"more than {max_redirects} redirects; raise max_redirects if that is right",
            request=request,
        )
    url = _redirect_url(request, response)
    method = _redirect_method(request.method, response.status_code)
    for earlier in (*history, response):
        was = earlier.request
        if was is not None and (was.method, was.url) == (method, url):
            raise RedirectLoop(
                f"redirected to {url.redacted}, where it has been before", request=request
            )
    if method == request.method and not request._is_whole:
        raise RedirectBodyUnavailable(
            f"the redirect ({response.status_code}) asks for the body again, and it was an "
            "iterator that is used up; give bytes or a file, or allow_redirects=False",
            request=request,
        )
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
